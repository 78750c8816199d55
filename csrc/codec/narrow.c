/*
 * narrow.c - exact narrowing of float32 (see narrow.h).
 *
 * Everything works on bit patterns, branch-free, so that loops vectorise and the result does not
 * depend on the rounding mode's or denormal flags' effect on the tested values.  A chunk is
 * tested without leaving early; between chunks the scan stops as soon as float32 is certain.
 */
#include "codec/narrow.h"

#include <stdbool.h>
#include <string.h>

#include "base/poison.h"

#define CHUNK 1024u

#define F32_SIGN 0x80000000u
#define F32_INFINITY 0x7F800000u
#define F16_NORMAL_MIN 0x38800000u /* 2^-14 as float32 */
#define F16_MAX 0x477FE000u        /* 65504 */
#define F16_OVERFLOW 0x47800000u   /* 65536 */
#define REBIAS (112u << 23)        /* exponent bias 127 -> 15 */
#define F16_DROPPED 0x1FFFu        /* mantissa bits of float32 that float16 has not */

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* 2^-24, the smallest positive float16. */
#define F16_STEP 0x1p-24f

uint16_t vex_f32_to_f16(float value) {
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, a = bits & ~F32_SIGN;
    uint32_t half;
    if (a >= F16_OVERFLOW) {
        /* NaN keeps its upper payload bits and becomes quiet; all else is infinity. */
        half = a > F32_INFINITY ? 0x7E00u | (a >> 13 & 0x3FFu) : 0x7C00u;
    } else if (a >= F16_NORMAL_MIN) {
        /* Round to nearest even; a carry runs into the exponent, at the top into infinity. */
        half = (a - REBIAS + (F16_DROPPED >> 1) + (a >> 13 & 1u)) >> 13;
    } else {
        /* One unit in the last place of 0.5f is 2^-24: the addition does the rounding. */
        half = bits_of(float_of(a) + 0.5f) - bits_of(0.5f);
    }
    return (uint16_t)(sign | half);
}

float vex_f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, a = half & 0x7FFFu;
    uint32_t special = a >= 0x7C00u ? REBIAS : 0; /* infinity, NaN: exponent 255 */
    uint32_t bits = a >= 0x0400u ? (a << 13) + REBIAS + special : bits_of((float)a * F16_STEP);
    return float_of(sign | bits);
}

/* 1 when the value is not one of 0.0, 1.0 ... 255.0. */
static inline uint32_t not_u8(float value) {
    float clamped = value >= 0.0f && value <= 255.0f ? value : 0.0f;
    return bits_of((float)(int32_t)clamped) != bits_of(value);
}

/* 1 when the value is not a finite float16. */
static inline uint32_t not_f16(float value) {
    uint32_t a = bits_of(value) & ~F32_SIGN;
    uint32_t normal = (a - F16_NORMAL_MIN <= F16_MAX - F16_NORMAL_MIN) & !(a & F16_DROPPED);
    /* Below 2^-14: multiples of 2^-24.  Scaling by a power of two is exact. */
    float steps = float_of(a < F16_NORMAL_MIN ? a : 0) * 0x1p24f;
    uint32_t small = bits_of((float)(int32_t)steps * F16_STEP) == a;
    return !(normal | small);
}

static bool chunk_is_u8(const float *values, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= not_u8(values[i]);
    }
    return bad == 0;
}

static bool chunk_is_f16(const float *values, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= not_f16(values[i]);
    }
    return bad == 0;
}

uint32_t vex_narrow_scan(uint32_t so_far, const float *values, size_t n) {
    for (size_t i = 0; i < n && so_far != VEX_ELEMENT_F32; i += CHUNK) {
        size_t m = n - i < CHUNK ? n - i : CHUNK;
        if (so_far == VEX_ELEMENT_U8 && !chunk_is_u8(values + i, m)) {
            so_far = VEX_ELEMENT_F16; /* every uint8 is a float16 too */
        }
        if (so_far == VEX_ELEMENT_F16 && !chunk_is_f16(values + i, m)) {
            so_far = VEX_ELEMENT_F32;
        }
    }
    return so_far;
}

void vex_narrow_encode(uint32_t element, void *dst, const float *src, size_t n) {
    if (element == VEX_ELEMENT_U8) {
        uint8_t *out = dst;
        for (size_t i = 0; i < n; i++) {
            out[i] = (uint8_t)(int32_t)src[i];
        }
    } else if (element == VEX_ELEMENT_F16) {
        uint16_t *out = dst;
        for (size_t i = 0; i < n; i++) {
            out[i] = vex_f32_to_f16(src[i]);
        }
    } else if (n > 0) {
        memcpy(dst, src, n * sizeof *src);
    }
}

void vex_narrow_decode(uint32_t element, float *dst, const void *src, size_t n) {
    if (element == VEX_ELEMENT_U8) {
        const uint8_t *in = src;
        for (size_t i = 0; i < n; i++) {
            dst[i] = (float)in[i];
        }
    } else if (element == VEX_ELEMENT_F16) {
        const uint16_t *in = src;
        for (size_t i = 0; i < n; i++) {
            dst[i] = vex_f16_to_f32(in[i]);
        }
    } else if (n > 0) {
        memcpy(dst, src, n * sizeof *dst);
    }
}
