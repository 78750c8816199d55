/*
 * packed.h - postings as they lie in files: blocks of up to 128, with numbers in few bits.
 *
 * The rows of a full block are gaps (row - row before - 1, the first from the end of the block
 * before) of `width` bits each: number i is in lane i % 4, the lanes' words lie side by side, so that
 * four are had by one shift (the layout of Lemire & Boytsov, "Decoding billions of integers per
 * second through vectorization", 2015).  Those of a shorter block are LEB128.
 */
#ifndef VEX_RANK_PACKED_H
#define VEX_RANK_PACKED_H

#include "base/mem.h"

#define VEX_BLOCK_ROWS 128u

/* Bits that the largest of n numbers takes. */
uint32_t vex_pack_width(const uint32_t *numbers, uint32_t n);
static inline size_t vex_packed_bytes(uint32_t width) {
    return (size_t)width * (VEX_BLOCK_ROWS / 8);
}
/* 128 numbers of `width` bits (0 to 32) to and from vex_packed_bytes(width). */
void vex_pack(const uint32_t *numbers, uint32_t width, uint8_t *out);
void vex_unpack(const uint8_t *in, uint32_t width, uint32_t *numbers);
/* Number i of them alone. */
uint32_t vex_unpack_one(const uint8_t *in, uint32_t width, uint32_t i);

/* A block, unpacked. */
typedef struct vex_block {
    uint32_t n;
    uint32_t rows[VEX_BLOCK_ROWS];
    uint32_t values[VEX_BLOCK_ROWS]; /* undefined while `packed` is not NULL                      */
    const uint8_t *packed;           /* values - 1, of `width` bits                               */
    uint32_t width;
} vex_block;

static inline uint32_t vex_block_value(const vex_block *block, uint32_t i) {
    return block->packed ? vex_unpack_one(block->packed, block->width, i) + 1 : block->values[i];
}
void vex_block_unpack_values(vex_block *block);

/* LEB128, at most 5 bytes. */
uint32_t vex_leb_put(uint8_t *out, uint32_t number);
vex_status vex_leb_append(vex_buf *out, uint32_t number);
/* False when it does not end before `end`, or is no 32-bit number. */
static inline bool vex_leb_get(const uint8_t **at, const uint8_t *end, uint32_t *number) {
    const uint8_t *p = *at;
    uint64_t value = 0;
    for (unsigned shift = 0; p < end && shift < 35; shift += 7) {
        const uint8_t byte = *p++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *at = p;
            *number = (uint32_t)value;
            return value <= UINT32_MAX;
        }
    }
    return false;
}

/* Gaps to rows in place, the first counted from `first`: false when they do not stay below `end`. */
bool vex_gaps_to_rows(uint32_t *numbers, uint32_t n, uint32_t first, uint32_t end);

#endif
