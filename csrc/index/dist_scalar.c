/*
 * dist_scalar.c - distance kernels in plain C, for any processor.
 *
 * Sums are double.  A product of two float32 is exact in double, so a compiler that fuses
 * multiplication and addition gets the same result as one that does not.
 */
#include "base/bytes.h"
#include "index/dist.h"

#include "base/poison.h"

#define LEVEL_TABLE vex_kernels_scalar
#define LEVEL_NAME "scalar"
#define LEVEL_TARGET
#define LEVEL_INLINE static inline __attribute__((always_inline))
#define LEVEL_HOLD(x) (void)(x)
#define LANES 4
#define SEGMENT 4096
#define ROW_BLOCK 1
#define TILE_ROWS 1
#define TILE_QUERIES 1

typedef struct elements {
    float a, b, c, d;
} elements;

typedef struct sums {
    double a, b, c, d;
} sums;

LEVEL_INLINE elements load_f32(const uint8_t *from) {
    elements x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* The bits of a float16 in the places of a float32's are its value times 2^-112, subnormal ones
 * too; only the exponent of infinity and NaN needs help. */
LEVEL_INLINE float widen(uint32_t half) {
    uint32_t bits = (half & 0x7FFFu) << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    bits |= (half & 0x8000u) << 16 | ((half & 0x7C00u) == 0x7C00u ? 0x7F800000u : 0);
    memcpy(&value, &bits, sizeof value);
    return value;
}

LEVEL_INLINE elements load_f16(const uint8_t *from) {
    return (elements){widen(vex_get16(from)), widen(vex_get16(from + 2)),
                      widen(vex_get16(from + 4)), widen(vex_get16(from + 6))};
}

LEVEL_INLINE elements load_u8(const uint8_t *from) {
    return (elements){(float)from[0], (float)from[1], (float)from[2], (float)from[3]};
}

LEVEL_INLINE elements keep_last(elements x, size_t n) {
    return (elements){0, n > 2 ? x.b : 0, n > 1 ? x.c : 0, x.d};
}

LEVEL_INLINE sums sums_zero(void) {
    return (sums){0, 0, 0, 0};
}

LEVEL_INLINE sums sums_add(sums s, sums t) {
    return (sums){s.a + t.a, s.b + t.b, s.c + t.c, s.d + t.d};
}

LEVEL_INLINE elements subtract(elements x, elements q) {
    return (elements){x.a - q.a, x.b - q.b, x.c - q.c, x.d - q.d};
}

LEVEL_INLINE sums fold_dot(sums s, elements x, elements q) {
    return (sums){s.a + (double)x.a * (double)q.a, s.b + (double)x.b * (double)q.b,
                  s.c + (double)x.c * (double)q.c, s.d + (double)x.d * (double)q.d};
}

LEVEL_INLINE sums fold_l2(sums s, elements x, elements q) {
    const elements difference = subtract(x, q);
    return fold_dot(s, difference, difference);
}

LEVEL_INLINE sums fold_l1(sums s, elements x, elements q) {
    const elements d = subtract(x, q);
    return (sums){s.a + (double)__builtin_fabsf(d.a), s.b + (double)__builtin_fabsf(d.b),
                  s.c + (double)__builtin_fabsf(d.c), s.d + (double)__builtin_fabsf(d.d)};
}

LEVEL_INLINE float reduce(sums s) {
    return (float)((s.a + s.b) + (s.c + s.d));
}

LEVEL_INLINE void reduce4(float *out, sums s, sums t, sums u, sums v) {
    out[0] = reduce(s);
    out[1] = reduce(t);
    out[2] = reduce(u);
    out[3] = reduce(v);
}

#include "index/dist_template.h"
