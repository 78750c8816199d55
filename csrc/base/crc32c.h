/*
 * crc32c.h - CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4).
 * "123456789" -> 0xE3069283.  SSE4.2 or ARMv8 CRC instructions where present, else slice-by-8.
 */
#ifndef VEX_BASE_CRC32C_H
#define VEX_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of `seed` continued over the bytes; start with seed 0.
 * vex_crc32c(vex_crc32c(0, a), b) == vex_crc32c(0, ab). */
uint32_t vex_crc32c(uint32_t seed, const void *data, size_t len);

/* Which single bit of `len` bytes makes their CRC differ by `difference` (one CRC xor the other)?
 * Bit i is bit i % 8 of byte i / 8.  VEX_CRC32C_ITSELF: a bit of the stored CRC, the bytes are fine;
 * VEX_CRC32C_NONE: more than one bit changed, so far as can be told: other damage passes for one
 * bit with a chance of len / 2^29, so the answer needs a second witness. */
#define VEX_CRC32C_NONE UINT64_MAX
#define VEX_CRC32C_ITSELF (UINT64_MAX - 1)
uint64_t vex_crc32c_flipped_bit(size_t len, uint32_t difference);

/* The portable implementation, whatever the CPU offers (for tests). */
uint32_t vex_crc32c_portable(uint32_t seed, const void *data, size_t len);

#endif
