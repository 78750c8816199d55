/*
 * bits.h - plain bitmaps of 64-bit words, bit i in word i/64.
 */
#ifndef VEX_BASE_BITS_H
#define VEX_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t vex_bit_words(size_t bits) {
    return (bits + 63) / 64;
}
static inline bool vex_bit_get(const uint64_t *words, size_t i) {
    return (words[i >> 6] >> (i & 63)) & 1u;
}
static inline void vex_bit_set(uint64_t *words, size_t i) {
    words[i >> 6] |= 1ULL << (i & 63);
}
static inline void vex_bit_clear(uint64_t *words, size_t i) {
    words[i >> 6] &= ~(1ULL << (i & 63));
}
/* Set bits [0, n), clear the rest of the last word. */
static inline void vex_bits_fill(uint64_t *words, size_t n) {
    size_t whole = n / 64;
    for (size_t i = 0; i < whole; i++) {
        words[i] = ~0ULL;
    }
    if (n % 64) {
        words[whole] = (1ULL << (n % 64)) - 1;
    }
}
/* Is a bit of [from, end) set? */
static inline bool vex_bits_any(const uint64_t *words, size_t from, size_t end) {
    if (from >= end) {
        return false;
    }
    size_t first = from / 64, last = (end - 1) / 64;
    uint64_t head = ~0ULL << (from % 64), tail = ~0ULL >> (63 - (end - 1) % 64);
    if (first == last) {
        return (words[first] & head & tail) != 0;
    }
    uint64_t any = (words[first] & head) | (words[last] & tail);
    for (size_t i = first + 1; i < last; i++) {
        any |= words[i];
    }
    return any != 0;
}
static inline uint64_t vex_bits_count(const uint64_t *words, size_t n_words) {
    uint64_t total = 0;
    for (size_t i = 0; i < n_words; i++) {
        total += (uint64_t)__builtin_popcountll(words[i]);
    }
    return total;
}

#endif
