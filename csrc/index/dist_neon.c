/*
 * dist_neon.c - distance kernels for AArch64 (NEON), eight elements in a pair of registers.
 */
#include "index/dist.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#include "base/poison.h"

#define LEVEL_TABLE vex_kernels_neon
#define LEVEL_NAME "neon"
#define LEVEL_TARGET
#define LEVEL_INLINE static inline __attribute__((always_inline))
#define LEVEL_HOLD(x) (void)(x)
#define LANES 8
#define SEGMENT 128
#define ROW_BLOCK 4
#define TILE_ROWS 2
#define TILE_QUERIES 4

typedef struct elements {
    float32x4_t lo, hi;
} elements;
typedef elements sums;

LEVEL_INLINE elements load_f32(const uint8_t *from) {
    return (elements){vreinterpretq_f32_u8(vld1q_u8(from)),
                      vreinterpretq_f32_u8(vld1q_u8(from + 16))};
}

LEVEL_INLINE elements load_f16(const uint8_t *from) {
    const float16x8_t half = vreinterpretq_f16_u8(vld1q_u8(from));
    return (elements){vcvt_f32_f16(vget_low_f16(half)), vcvt_high_f32_f16(half)};
}

LEVEL_INLINE elements load_u8(const uint8_t *from) {
    const uint16x8_t wide = vmovl_u8(vld1_u8(from));
    return (elements){vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))),
                      vcvtq_f32_u32(vmovl_high_u16(wide))};
}

LEVEL_INLINE float32x4_t keep(float32x4_t x, const uint32_t *mask) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vld1q_u32(mask)));
}

LEVEL_INLINE elements keep_last(elements x, size_t n) {
    static const uint32_t mask[2 * LANES] = {[LANES] = ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
    return (elements){keep(x.lo, mask + n), keep(x.hi, mask + n + 4)};
}

LEVEL_INLINE sums sums_zero(void) {
    return (sums){vdupq_n_f32(0), vdupq_n_f32(0)};
}

LEVEL_INLINE sums sums_add(sums s, sums t) {
    return (sums){vaddq_f32(s.lo, t.lo), vaddq_f32(s.hi, t.hi)};
}

LEVEL_INLINE sums fold_dot(sums s, elements x, elements q) {
    return (sums){vfmaq_f32(s.lo, x.lo, q.lo), vfmaq_f32(s.hi, x.hi, q.hi)};
}

LEVEL_INLINE sums fold_l2(sums s, elements x, elements q) {
    const elements difference = {vsubq_f32(x.lo, q.lo), vsubq_f32(x.hi, q.hi)};
    return fold_dot(s, difference, difference);
}

LEVEL_INLINE sums fold_l1(sums s, elements x, elements q) {
    return (sums){vaddq_f32(s.lo, vabdq_f32(x.lo, q.lo)), vaddq_f32(s.hi, vabdq_f32(x.hi, q.hi))};
}

LEVEL_INLINE void reduce4(float *out, sums a, sums b, sums c, sums d) {
    const float32x4_t ab = vpaddq_f32(vaddq_f32(a.lo, a.hi), vaddq_f32(b.lo, b.hi));
    const float32x4_t cd = vpaddq_f32(vaddq_f32(c.lo, c.hi), vaddq_f32(d.lo, d.hi));
    vst1q_f32(out, vpaddq_f32(ab, cd));
}

#include "index/dist_template.h"

#endif
