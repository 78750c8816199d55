/*
 * code_test.h - a filter leaf reduced to a test of codes (the unsigned numbers that stand for
 * values in metadata columns), 64 rows at a time.
 */
#ifndef VEX_FILTER_CODE_TEST_H
#define VEX_FILTER_CODE_TEST_H

#include "base/mem.h"

typedef enum vex_code_test_kind {
    VEX_CODES_NONE,      /* no code passes                                                        */
    VEX_CODES_RANGE,     /* code - low <= span                                                    */
    VEX_CODES_FEW,       /* one of the first n_bits of `table`                                    */
    VEX_CODES_BITMAP,    /* bit `code` of `table`; codes from n_bits on do not pass               */
    VEX_CODES_SET        /* open addressing in `table`                                            */
} vex_code_test_kind;

typedef struct vex_code_test {
    vex_code_test_kind kind;
    bool negated;                /* what passes does not, and the other way round                 */
    uint64_t low, span;          /* RANGE                                                         */
    uint64_t *table;             /* FEW, BITMAP, SET: owned                                       */
    uint64_t n_bits;             /* BITMAP; FEW: how many                                         */
    unsigned shift;              /* SET: 64 - log2(slots)                                         */
    bool has_empty;              /* SET: the code that marks empty slots is in it                 */
} vex_code_test;

static inline vex_code_test vex_code_test_all(bool pass) {
    return (vex_code_test){.kind = VEX_CODES_NONE, .negated = pass};
}
static inline vex_code_test vex_code_test_range(uint64_t low, uint64_t high) {
    return (vex_code_test){.kind = VEX_CODES_RANGE, .low = low, .span = high - low};
}
/* No bit set yet: set them in test->table. */
vex_status vex_code_test_bitmap(uint64_t n_bits, vex_code_test *test);
/* Exactly the n given codes: one after the other when they are few, a bitmap when they are small,
 * else a hash set. */
vex_status vex_code_test_set(const uint64_t *codes, size_t n, vex_code_test *test);
/* Make a bitmap of few codes a test of each. */
vex_status vex_code_test_simplify(vex_code_test *test);
void vex_code_test_clear(vex_code_test *test); /* a zeroed one is fine */

/* Which of the `candidates` pass?  `codes`: 64 codes of `width` (0, 1, 2, 4, 8) bytes each,
 * little-endian, at any address. */
uint64_t vex_code_test_block(const vex_code_test *test, const uint8_t *codes, uint8_t width,
                             uint64_t candidates);

/* What a range is tested by, on 64 codes of 1, 2, 4 or 8 bytes: bit i of the result: code i - low
 * <= span, both of which fit the width. */
uint64_t vex_code_range_plain(const uint8_t *codes, uint8_t width, uint64_t low, uint64_t span);
#if defined(__x86_64__)
uint64_t vex_code_range_avx512(const uint8_t *codes, uint8_t width, uint64_t low, uint64_t span);
#endif

#endif
