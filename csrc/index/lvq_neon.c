/*
 * lvq_neon.c - the integer kernels for AArch64: plain NEON, and with the dot product extension.
 *
 * The extension multiplies numbers of one signedness, so rows become signed by taking 128 off,
 * and 128 times the sum of the query is added again.
 */
#include "index/lvq_kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#include "base/poison.h"

static inline int32x4_t fold_half(int32x4_t sum, int16x8_t row, int16x8_t query) {
    return vmlal_high_s16(vmlal_s16(sum, vget_low_s16(row), vget_low_s16(query)), row, query);
}

static inline int16x8_t wide(uint8x8_t row) {
    return vreinterpretq_s16_u16(vmovl_u8(row));
}

void vex_lvq_sums_neon(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                       int32_t *out) {
    for (uint32_t i = 0; i < n; i++) {
        int32x4_t low = vdupq_n_s32(0), high = low;
        for (size_t k = 0; k < bytes; k += 16) {
            const uint8x16_t row = vld1q_u8(rows[i] + k);
            const int8x16_t q = vld1q_s8(query + k);
            low = fold_half(low, wide(vget_low_u8(row)), vmovl_s8(vget_low_s8(q)));
            high = fold_half(high, wide(vget_high_u8(row)), vmovl_high_s8(q));
        }
        out[i] = vaddvq_s32(vaddq_s32(low, high));
    }
}

void vex_short_sums_neon(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                         int32_t *out) {
    for (uint32_t i = 0; i < n; i++) {
        int32x4_t sum = vdupq_n_s32(0);
        for (size_t k = 0; k < bytes; k += 16) {
            const int8_t *q = query + k / 64 * 128 + k % 64;
            const uint8x16_t codes = vld1q_u8(rows[i] + k);
            const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));
            const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(codes, 4));
            const int8x16_t ql = vld1q_s8(q), qh = vld1q_s8(q + 64);
            int16x8_t words =
                vmull_s8(vget_low_s8(low), vget_low_s8(ql)); /* 4 * 15 * 128 at most */
            words = vmlal_high_s8(words, low, ql);
            words = vmlal_s8(words, vget_low_s8(high), vget_low_s8(qh));
            sum = vpadalq_s16(sum, vmlal_high_s8(words, high, qh));
        }
        out[i] = vaddvq_s32(sum);
    }
}

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define DOTPROD_INLINE                                                                             \
    static inline __attribute__((always_inline, target("arch=armv8.2-a+dotprod")))

DOTPROD_INLINE int32x4_t fold_row(int32x4_t sum, const uint8_t *row, int8x16_t query) {
    const uint8x16_t moved = veorq_u8(vld1q_u8(row), vdupq_n_u8(0x80));
    return vdotq_s32(sum, vreinterpretq_s8_u8(moved), query);
}

DOTPROD void vex_lvq_sums_dotprod(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                                  size_t bytes, int32_t *out) {
    int32x4_t total = vdupq_n_s32(0);
    for (size_t k = 0; k < bytes; k += 16) {
        total = vdotq_s32(total, vld1q_s8(query + k), vdupq_n_s8(1));
    }
    const uint32_t moved = 128u * (uint32_t)vaddvq_s32(total);
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint8_t *const *r = rows + i;
        int32x4_t a = vdupq_n_s32(0), b = a, c = a, d = a;
        for (size_t k = 0; k < bytes; k += 16) {
            const int8x16_t q = vld1q_s8(query + k);
            a = fold_row(a, r[0] + k, q);
            b = fold_row(b, r[1] + k, q);
            c = fold_row(c, r[2] + k, q);
            d = fold_row(d, r[3] + k, q);
        }
        const int32x4_t sums = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
        vst1q_s32(out + i, vaddq_s32(sums, vreinterpretq_s32_u32(vdupq_n_u32(moved))));
    }
    for (; i < n; i++) {
        int32x4_t a = vdupq_n_s32(0);
        for (size_t k = 0; k < bytes; k += 16) {
            a = fold_row(a, rows[i] + k, vld1q_s8(query + k));
        }
        out[i] = (int32_t)((uint32_t)vaddvq_s32(a) + moved);
    }
}

DOTPROD void vex_short_sums_dotprod(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                                    size_t bytes, int32_t *out) {
    for (uint32_t i = 0; i < n; i++) {
        int32x4_t low = vdupq_n_s32(0), high = low;
        for (size_t k = 0; k < bytes; k += 16) {
            const int8_t *q = query + k / 64 * 128 + k % 64;
            const uint8x16_t codes = vld1q_u8(rows[i] + k);
            low = vdotq_s32(low, vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15))), vld1q_s8(q));
            high = vdotq_s32(high, vreinterpretq_s8_u8(vshrq_n_u8(codes, 4)), vld1q_s8(q + 64));
        }
        out[i] = vaddvq_s32(vaddq_s32(low, high));
    }
}

#endif
