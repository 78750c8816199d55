/*
 * t_narrow.c - exact narrowing against references computed in double precision.
 */
#include "codec/narrow.h"

#include "tests/harness.h"

#include <math.h>

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The value of a float16, from its definition. */
static double half_value(uint32_t half) {
    uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;
    double value = exponent == 0    ? ldexp(mantissa, -24)
                   : exponent == 31 ? (mantissa ? (double)NAN : (double)INFINITY)
                                    : ldexp(1024.0 + mantissa, (int)exponent - 25);
    return half & 0x8000 ? -value : value;
}

/* Round to nearest even, by dividing by the step at that magnitude. */
static uint32_t reference_half(float value) {
    uint32_t sign = signbit(value) ? 0x8000u : 0;
    double magnitude = fabs((double)value);
    if (magnitude >= 65520.0) {
        return sign | 0x7C00u;
    }
    int exponent;
    frexp(magnitude, &exponent); /* magnitude in [2^(exponent-1), 2^exponent), or 0 and 0 */
    if (magnitude == 0 || exponent < -13) {
        exponent = -13;
    }
    double steps = nearbyint(ldexp(magnitude, 11 - exponent)); /* 0..2048 */
    return sign | (uint32_t)(steps + 1024.0 * (exponent + 13));
}

TEST(narrow_every_half) {
    for (uint32_t half = 0; half < 65536; half++) {
        float wide = vex_f16_to_f32((uint16_t)half);
        if ((half & 0x7FFF) > 0x7C00) {
            CHECK(isnan(wide));
            CHECK_EQ(vex_f32_to_f16(wide) & 0xFDFF, half & 0xFDFF); /* the quiet bit may be set */
            CHECK_EQ(vex_f32_to_f16(wide) & 0x200, 0x200);
            CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_U8, &wide, 1), VEX_ELEMENT_F32);
            continue;
        }
        CHECK((double)wide == half_value(half));
        CHECK_EQ(bits_of(wide) >> 31, half >> 15);
        CHECK_EQ(vex_f32_to_f16(wide), half);
        bool infinite = (half & 0x7FFF) == 0x7C00;
        CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_F16, &wide, 1),
                 infinite ? VEX_ELEMENT_F32 : VEX_ELEMENT_F16);
    }
}

static void check_rounding(uint32_t bits) {
    float value = float_of(bits);
    if (isnan(value)) {
        CHECK((vex_f32_to_f16(value) & 0x7FFF) > 0x7C00);
    } else {
        CHECK_EQ(vex_f32_to_f16(value), reference_half(value));
    }
    float back = vex_f16_to_f32(vex_f32_to_f16(value));
    bool exact = isfinite(value) && bits_of(back) == bits;
    CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_F16, &value, 1),
             exact ? VEX_ELEMENT_F16 : VEX_ELEMENT_F32);
}

TEST(narrow_rounding) {
    for (uint32_t half = 0; half < 0x7C00;
         half++) { /* each half, each midpoint, their neighbours */
        double below = half_value(half);
        double above = half + 1 == 0x7C00 ? 65536.0 : half_value(half + 1);
        uint32_t places[2] = {bits_of((float)below), bits_of((float)((below + above) / 2))};
        for (int p = 0; p < 2; p++) {
            for (uint32_t delta = 0; delta < 3; delta++) {
                check_rounding(places[p] + delta - 1);
                check_rounding((places[p] + delta - 1) | 0x80000000u);
            }
        }
    }
    for (int i = 0; i < 1000000; i++) {
        check_rounding((uint32_t)(test_random() >> 32));
    }
}

TEST(narrow_scan_choices) {
    static const struct {
        float value;
        uint32_t element;
    } cases[] = {
        {0.0f, VEX_ELEMENT_U8},       {255.0f, VEX_ELEMENT_U8},    {-0.0f, VEX_ELEMENT_F16},
        {256.0f, VEX_ELEMENT_F16},    {-1.0f, VEX_ELEMENT_F16},    {0.5f, VEX_ELEMENT_F16},
        {65504.0f, VEX_ELEMENT_F16},  {65505.0f, VEX_ELEMENT_F32}, {0x1p-24f, VEX_ELEMENT_F16},
        {0x1p-25f, VEX_ELEMENT_F32},  {0x3p-24f, VEX_ELEMENT_F16}, {0x3p-25f, VEX_ELEMENT_F32},
        {0x1p-149f, VEX_ELEMENT_F32}, {0.1f, VEX_ELEMENT_F32},     {2049.0f, VEX_ELEMENT_F32},
        {1e30f, VEX_ELEMENT_F32},     {INFINITY, VEX_ELEMENT_F32}, {-INFINITY, VEX_ELEMENT_F32},
        {NAN, VEX_ELEMENT_F32},       {-NAN, VEX_ELEMENT_F32},
    };
    static float values[5000];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (size_t i = 0; i < 5000; i++) {
            values[i] = (float)(i % 256);
        }
        CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_U8, values, 5000), VEX_ELEMENT_U8);
        values[test_random_below(5000)] = cases[c].value;
        CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_U8, values, 5000), cases[c].element);
    }
    /* What was found before is never narrowed again. */
    values[0] = 1.0f;
    CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_F16, values, 1), VEX_ELEMENT_F16);
    CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_F32, values, 1), VEX_ELEMENT_F32);
    CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_U8, NULL, 0), VEX_ELEMENT_U8);
}

TEST(narrow_keeps_bits) {
    enum { N = 3001 };
    static float values[N], back[N];
    static uint16_t packed[2 * N];
    for (uint32_t element = VEX_ELEMENT_F32; element <= VEX_ELEMENT_U8; element++) {
        for (size_t i = 0; i < N; i++) {
            uint64_t r = test_random();
            values[i] = element == VEX_ELEMENT_U8    ? (float)(r % 256)
                        : element == VEX_ELEMENT_F16 ? vex_f16_to_f32((uint16_t)(r % 0x7C00))
                                                     : test_random_float();
        }
        CHECK_EQ(vex_narrow_scan(VEX_ELEMENT_U8, values, N), element);
        vex_narrow_encode(element, packed, values, N);
        vex_narrow_decode(element, back, packed, N);
        CHECK(memcmp(values, back, sizeof values) == 0);
        vex_narrow_encode(element, packed, values, 0);
        vex_narrow_decode(element, back, packed, 0);
    }
}
