/*
 * hash.h - the 64-bit hash of record ids.  Part of the file format: FNV-1a 64 over the bytes,
 * finished with MurmurHash3's 64-bit finaliser (fmix64), so that all 64 bits are uniform.
 */
#ifndef VEX_BASE_HASH_H
#define VEX_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t vex_mix64(uint64_t h) {
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    h ^= h >> 33;
    return h;
}
static inline uint64_t vex_hash64(const void *data, size_t len) {
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ p[i]) * 0x100000001b3ULL;
    }
    return vex_mix64(h);
}

#endif
