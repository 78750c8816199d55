/*
 * t_filter_code_test.c - tests of codes, 64 at a time, against the codes themselves.
 */
#include "base/bits.h"
#include "base/bytes.h"
#include "base/cpu.h"
#include "filter/code_test.h"
#include "tests/harness.h"

TEST(columns_code_sets) {
    static const uint64_t special[] = {0, 1, UINT64_MAX, UINT64_MAX - 1, 1 << 20, (1 << 20) - 1};
    for (int round = 0; round < 2000; round++) {
        uint64_t codes[40], block[64];
        size_t n = test_random_below(40);
        unsigned bits = 1 + test_random_below(64);
        for (size_t i = 0; i < n; i++) {
            codes[i] =
                test_random_below(4) ? test_random() >> (64 - bits) : special[test_random_below(6)];
        }
        for (size_t i = 0; i < 64; i++) {
            block[i] = n && test_random_below(2) ? codes[test_random_below((uint32_t)n)]
                       : test_random_below(2)    ? special[test_random_below(6)]
                                                 : test_random() >> (64 - bits);
        }
        vex_code_test test;
        CHECK_OK(vex_code_test_set(codes, n, &test));
        test.negated = test_random_below(2);
        uint64_t candidates = test_random(), expected = 0;
        for (size_t i = 0; i < 64; i++) {
            bool member = false;
            for (size_t c = 0; c < n; c++) {
                member = member || codes[c] == block[i];
            }
            expected |= (uint64_t)(member != test.negated) << i;
        }
        CHECK(vex_code_test_block(&test, (const uint8_t *)block, 8, candidates) ==
              (candidates & expected));
        vex_code_test_clear(&test);
    }
}

/* Few codes are tested one by one, also when some do not fit the width. */
TEST(columns_code_few) {
    for (int round = 0; round < 2000; round++) {
        static const uint8_t widths[] = {0, 1, 2, 4, 8};
        uint8_t width = widths[test_random_below(5)], bytes[64 * 8];
        size_t n = 1 + test_random_below(12);
        uint64_t codes[12], expected = 0, candidates = test_random();
        vex_code_test set, bitmap;
        for (size_t i = 0; i < n; i++) {
            codes[i] = test_random_below(4) + ((uint64_t)test_random_below(3) << (4 * width));
            codes[i] &= 0xFFFFF;
        }
        CHECK_OK(vex_code_test_set(codes, n, &set));
        CHECK_EQ(set.kind, n <= 8 ? VEX_CODES_FEW : VEX_CODES_BITMAP);
        CHECK_OK(vex_code_test_bitmap((1 << 20) + test_random_below(100), &bitmap));
        for (size_t i = 0; i < n; i++) {
            vex_bit_set(bitmap.table, codes[i]);
        }
        set.negated = bitmap.negated = test_random_below(2);
        uint64_t distinct = vex_bits_count(bitmap.table, vex_bit_words((size_t)bitmap.n_bits));
        CHECK_OK(vex_code_test_simplify(&bitmap));
        CHECK_EQ(bitmap.kind, distinct <= 8 ? VEX_CODES_FEW : VEX_CODES_BITMAP);
        for (size_t i = 0; i < 64; i++) {
            uint8_t raw[8];
            bool member = false;
            uint64_t code = width ? test_random_below(5) : 0;
            for (size_t c = 0; c < n; c++) {
                member = member || codes[c] == code;
            }
            vex_put64(raw, code);
            memcpy(bytes + i * width, raw, width);
            expected |= (uint64_t)(member != set.negated) << i;
        }
        CHECK(vex_code_test_block(&set, bytes, width, candidates) == (candidates & expected));
        CHECK(vex_code_test_block(&bitmap, bytes, width, candidates) == (candidates & expected));
        vex_code_test_clear(&set);
        vex_code_test_clear(&bitmap);
    }
    vex_code_test none;
    CHECK_OK(vex_code_test_bitmap(1000, &none));
    none.negated = true;
    CHECK_OK(vex_code_test_simplify(&none));
    CHECK(none.kind == VEX_CODES_NONE && none.negated);
    vex_code_test_clear(&none);
}

TEST(columns_code_ranges) {
    for (int round = 0; round < 4000; round++) {
        static const uint8_t widths[] = {0, 1, 2, 4, 8};
        uint8_t width = widths[test_random_below(5)], bytes[64 * 8 + 1];
        uint64_t most = width == 0 ? 0 : UINT64_MAX >> (64 - 8 * width), expected = 0;
        uint64_t a = test_random() & most, b = test_random() & most;
        const vex_code_test test = vex_code_test_range(a < b ? a : b, a < b ? b : a);
        for (size_t i = 0; i < 64; i++) {
            uint64_t code = test_random_below(3)   ? test_random() & most
                            : test_random_below(2) ? a
                                                   : b;
            uint8_t raw[8];
            vex_put64(raw, code);
            memcpy(bytes + 1 + i * width, raw, width); /* any address will do */
            expected |= (uint64_t)((code >= a && code <= b) || (code >= b && code <= a)) << i;
        }
        uint64_t candidates = test_random();
        CHECK(vex_code_test_block(&test, bytes + 1, width, candidates) == (candidates & expected));
        if (width > 0) {
            CHECK(vex_code_range_plain(bytes + 1, width, test.low, test.span) == expected);
        }
#if defined(__x86_64__)
        if (width > 0 && vex_cpu()->avx512) {
            CHECK(vex_code_range_avx512(bytes + 1, width, test.low, test.span) == expected);
        }
#endif
    }
}
