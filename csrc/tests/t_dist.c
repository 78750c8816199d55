/*
 * t_dist.c - every level of the distance kernels against float64, against each other and against
 * the promise that equal vectors get bit-equal distances.
 */
#include "codec/narrow.h"
#include "index/dist.h"

#include "tests/harness.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DOT, L2, L1, KINDS };
#define DIM_MAX 2048u

static const uint32_t large_dims[] = {255, 256, 257, 384, 768, 1024, 1536, 2047, 2048};
#define DIMS (130u + (uint32_t)(sizeof large_dims / sizeof *large_dims))
static uint32_t dim_at(uint32_t i) {
    return i < 130 ? i + 1 : large_dims[i - 130];
}

static vex_row_kernel row_kernel(const vex_kernels *kernels, int kind, vex_element element) {
    return (kind == DOT ? kernels->dot : kind == L2 ? kernels->l2 : kernels->l1)[element];
}

static vex_tile_kernel tile_kernel(const vex_kernels *kernels, int kind, vex_element element) {
    return (kind == DOT ? kernels->dot_tile : kernels->l2_tile)[element];
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The sum in float64 and the scale of its allowed error. */
static double reference(int kind, const float *x, const float *q, uint32_t dim, double *scale) {
    double sum = 0, xx = 0, qq = 0, x1 = 0, q1 = 0;
    for (uint32_t i = 0; i < dim; i++) {
        const double a = x[i], b = q[i];
        sum += kind == DOT ? a * b : kind == L2 ? (a - b) * (a - b) : fabs(a - b);
        xx += a * a;
        qq += b * b;
        x1 += fabs(a);
        q1 += fabs(b);
    }
    *scale = kind == DOT ? sqrt(xx) * sqrt(qq) : kind == L2 ? xx + qq : x1 + q1;
    return sum;
}

/* ---- inputs ---- */

typedef enum values {
    UNIT,
    BYTES,
    HALVES,
    TINY_HALVES,
    HUGE_18,
    TINY_18,
    CONSTANT,
    ZEROS,
    MIXED
} values;
#define VALUES_COUNT 9

static float half_value(uint16_t bits) {
    return vex_f16_to_f32(bits);
}

static float value_of(values kind) {
    const float unit = test_random_float();
    const uint16_t random = (uint16_t)test_random();
    switch (kind) {
    case UNIT:
        return unit;
    case BYTES:
        return random % 8 == 0 ? 255.0f : random % 8 == 1 ? 0.0f : (float)(random >> 8);
    case HALVES: /* all finite ones, the largest and the smallest among them */
        return half_value(random % 16 == 0              ? 0x7BFF
                          : random % 16 == 1            ? 0x8001
                          : (random & 0x7C00) == 0x7C00 ? (uint16_t)(random & 0xBFFF)
                                                        : random);
    case TINY_HALVES:
        return half_value(random & 0x83FF);
    case HUGE_18: /* the square of one and the sum of 100 are finite */
        return copysignf(0.5f + fabsf(unit) / 2, unit) * 1e18f;
    case TINY_18:
        return copysignf(0.5f + fabsf(unit) / 2, unit) * 1e-18f;
    case CONSTANT:
        return 0.7f;
    case ZEROS:
        return random % 2 ? -0.0f : 0.0f;
    default: /* nine orders of magnitude */
        return unit * powf(10.0f, (float)(random % 9) - 4);
    }
}

static void fill(float *x, uint32_t dim, values kind) {
    for (uint32_t i = 0; i < dim; i++) {
        x[i] = value_of(kind);
    }
}

static vex_element narrowest(values kind) {
    return kind == BYTES ? VEX_U8 : kind == HALVES || kind == TINY_HALVES ? VEX_F16 : VEX_F32;
}

/* As stored; any address. */
static void store(vex_element element, void *to, const float *x, uint32_t dim) {
    uint16_t aligned[DIM_MAX * 2];
    vex_narrow_encode(element, aligned, x, dim);
    memcpy(to, aligned, dim * vex_element_bytes(element));
}

static float one_pair(const vex_kernels *kernels, int kind, vex_element element, const float *x,
                      const float *q, uint32_t dim) {
    /* Exact size, so that the address sanitizer sees a byte too many. */
    const size_t bytes = dim * vex_element_bytes(element);
    void *row = malloc(bytes);
    store(element, row, x, dim);
    float out = 0;
    row_kernel(kernels, kind, element)(row, bytes, 1, q, dim, &out);
    free(row);
    return out;
}

/* ---- accuracy ---- */

static void check_pair(const vex_kernels *kernels, const float *x, const float *q, uint32_t dim,
                       vex_element element, const char *what) {
    for (int kind = 0; kind < KINDS; kind++) {
        double scale;
        const double expected = reference(kind, x, q, dim, &scale);
        const float got = one_pair(kernels, kind, element, x, q, dim);
        if (kind == DOT ? scale > FLT_MAX : expected > FLT_MAX * 0.9999) {
            continue; /* a sum may overflow on the way; a sum of squares only at its end */
        }
        const double allowed = 1e-5 * fabs(expected) + 1e-6 * scale + dim * 1.5e-45;
        if (!(fabs((double)got - expected) <= allowed)) {
            test_failed(__FILE__, __LINE__, "%s %s sum %d dim %u: %.9g, not %.9g +- %.3g",
                        kernels->name, what, kind, dim, (double)got, expected, allowed);
        }
    }
}

TEST(dist_accuracy) {
    static float x[DIM_MAX], q[DIM_MAX];
    const vex_kernels *levels[4];
    const uint32_t n = vex_kernels_available(levels);
    for (uint32_t d = 0; d < DIMS; d++) {
        const uint32_t dim = dim_at(d);
        for (int v = 0; v < VALUES_COUNT; v++) {
            char what[64];
            snprintf(what, sizeof what, "values %d", v);
            fill(x, dim, (values)v);
            fill(q, dim, (values)v);
            for (uint32_t level = 0; level < n; level++) {
                check_pair(levels[level], x, q, dim, narrowest((values)v), what);
                check_pair(levels[level], x, x, dim, narrowest((values)v), what);
            }
        }
        /* Close neighbours: the sum is far smaller than its terms' operands. */
        fill(x, dim, UNIT);
        for (uint32_t i = 0; i < dim; i++) {
            q[i] = x[i] * (1 + test_random_float() * 1e-3f);
        }
        for (uint32_t level = 0; level < n; level++) {
            check_pair(levels[level], x, q, dim, VEX_F32, "close");
        }
    }
}

/* The longest vectors that can be stored, of values whose rounding errors do not cancel out. */
TEST(dist_accuracy_of_long_vectors) {
    const uint32_t dim = 65536;
    float *x = malloc(dim * sizeof *x), *q = malloc(dim * sizeof *q);
    const vex_kernels *levels[4];
    const uint32_t n = vex_kernels_available(levels);
    for (int round = 0; round < 8; round++) {
        for (uint32_t i = 0; i < dim; i++) {
            x[i] = round < 6 ? 0.1f + 0.13f * (float)round : test_random_float();
            q[i] = round < 6 ? -x[i] : test_random_float();
        }
        for (uint32_t level = 0; level < n; level++) {
            for (int kind = 0; kind < KINDS; kind++) {
                double scale;
                float got;
                const double expected = reference(kind, x, q, dim, &scale);
                row_kernel(levels[level], kind, VEX_F32)(x, dim * sizeof *x, 1, q, dim, &got);
                CHECK(fabs((double)got - expected) <= 1e-5 * fabs(expected) + 1e-6 * scale);
            }
        }
    }
    free(x);
    free(q);
}

/* ---- equal vectors, equal distances ---- */

TEST(dist_bits_do_not_depend_on_the_element) {
    static float x[DIM_MAX], q[DIM_MAX];
    const vex_kernels *levels[4];
    const uint32_t n = vex_kernels_available(levels);
    for (uint32_t d = 0; d < DIMS; d++) {
        const uint32_t dim = dim_at(d);
        for (int v = BYTES; v <= TINY_HALVES; v++) {
            fill(x, dim, (values)v);
            fill(q, dim, test_random_below(2) ? UNIT : (values)v);
            for (uint32_t level = 0; level < n; level++) {
                for (int kind = 0; kind < KINDS; kind++) {
                    const float wide = one_pair(levels[level], kind, VEX_F32, x, q, dim);
                    const float half = one_pair(levels[level], kind, VEX_F16, x, q, dim);
                    CHECK_EQ(bits_of(wide), bits_of(half));
                    if (v == BYTES) {
                        const float byte = one_pair(levels[level], kind, VEX_U8, x, q, dim);
                        CHECK_EQ(bits_of(wide), bits_of(byte));
                    }
                }
            }
        }
    }
}

/* n rows x m queries by the row kernel, the tile kernel and pair by pair, at odd addresses, with
 * gaps between the rows, queries and results. */
static void check_shapes(const vex_kernels *kernels, vex_element element, uint32_t dim, uint32_t n,
                         uint32_t m) {
    const size_t bytes = vex_element_bytes(element);
    const size_t stride = (dim + test_random_below(5)) * bytes,
                 query_stride = dim + test_random_below(5);
    const size_t out_stride = n + test_random_below(3), shift = test_random_below(8);
    const size_t rows_bytes = n > 0 ? (n - 1) * stride + dim * bytes : 0;
    float *x = malloc((size_t)(n + 1) * dim * sizeof *x);
    float *queries = malloc((m > 0 ? (m - 1) * query_stride + dim : 1) * sizeof *queries);
    float *out = malloc((m * out_stride + 1) * sizeof *out);
    float *single = malloc((n + 1) * sizeof *single);
    uint8_t *buffer = malloc(shift + rows_bytes), *rows = buffer + shift;
    for (uint32_t i = 0; i < n; i++) {
        fill(x + (size_t)i * dim, dim,
             element == VEX_F32   ? UNIT
             : element == VEX_F16 ? HALVES
                                  : BYTES);
        store(element, rows + i * stride, x + (size_t)i * dim, dim);
    }
    for (uint32_t j = 0; j < m; j++) {
        fill(queries + j * query_stride, dim, UNIT);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t i = 0; i <= m * out_stride; i++) {
            out[i] = -77.0f;
        }
        if (kind != L1) {
            tile_kernel(kernels, kind, element)(rows, stride, n, queries, query_stride, m, dim, out,
                                                out_stride);
        }
        for (uint32_t j = 0; j < m; j++) {
            const float *q = queries + j * query_stride;
            single[n] = -77.0f;
            row_kernel(kernels, kind, element)(rows, stride, n, q, dim, single);
            CHECK(single[n] == -77.0f);
            for (uint32_t i = 0; i < n; i++) {
                const float pair = one_pair(kernels, kind, element, x + (size_t)i * dim, q, dim);
                CHECK_EQ(bits_of(single[i]), bits_of(pair));
                if (kind != L1) {
                    CHECK_EQ(bits_of(out[j * out_stride + i]), bits_of(pair));
                }
            }
            for (size_t i = n; i < out_stride; i++) {
                CHECK(out[j * out_stride + i] == -77.0f);
            }
        }
        CHECK(out[m * out_stride] == -77.0f);
    }
    free(x);
    free(queries);
    free(out);
    free(single);
    free(buffer);
}

TEST(dist_bits_do_not_depend_on_the_call) {
    const vex_kernels *levels[4];
    const uint32_t n_levels = vex_kernels_available(levels);
    for (uint32_t level = 0; level < n_levels; level++) {
        for (int element = 0; element < VEX_ELEMENT_KINDS; element++) {
            for (uint32_t n = 0; n <= 9; n++) {
                for (uint32_t m = 0; m <= 9; m++) {
                    const uint32_t dim = dim_at(test_random_below(130));
                    check_shapes(levels[level], (vex_element)element, dim, n, m);
                }
            }
            for (uint32_t d = 0; d < DIMS; d++) {
                check_shapes(levels[level], (vex_element)element, dim_at(d), 5, 5);
            }
        }
    }
}

/* ---- non-finite and the parts in plain C ---- */

TEST(dist_nan_and_infinity_reach_the_result) {
    float x[130], q[130], bad[] = {NAN, INFINITY, -INFINITY};
    const vex_kernels *levels[4];
    const uint32_t n = vex_kernels_available(levels);
    for (uint32_t dim = 1; dim <= 130; dim++) {
        for (uint32_t level = 0; level < n; level++) {
            for (int b = 0; b < 3; b++) {
                fill(x, dim, UNIT);
                fill(q, dim, UNIT);
                q[test_random_below(dim)] = bad[b];
                for (int kind = 0; kind < KINDS; kind++) {
                    const float got = one_pair(levels[level], kind, VEX_F32, x, q, dim);
                    CHECK(b == 0 ? isnan(got) : isinf(got) || x[0] == 0);
                    CHECK(b == 0 || kind == DOT || got == INFINITY);
                }
            }
        }
    }
}

TEST(dist_norm2) {
    static float x[DIM_MAX];
    CHECK_EQ(bits_of(vex_norm2(x, 0)), 0);
    for (uint32_t d = 0; d < DIMS; d++) {
        const uint32_t dim = dim_at(d);
        fill(x, dim, MIXED);
        double sum = 0;
        for (uint32_t i = 0; i < dim; i++) {
            volatile double product = (double)x[i] * (double)x[i];
            sum += product;
        }
        CHECK_EQ(bits_of(vex_norm2(x, dim)), bits_of((float)sum));
    }
}

TEST(dist_dot_to_distance) {
    CHECK(vex_dot_to_distance(VEX_SPACE_IP, 0.25f, 0, 0) == 0.75f);
    CHECK(vex_dot_to_distance(VEX_SPACE_COSINE, 2.0f, 4.0f, 4.0f) == 0.5f);
    CHECK(vex_dot_to_distance(VEX_SPACE_COSINE, 0.0f, 0.0f, 4.0f) == 1.0f);
    CHECK(vex_dot_to_distance(VEX_SPACE_COSINE, 0.0f, 4.0f, 0.0f) == 1.0f);
    CHECK(vex_dot_to_distance(VEX_SPACE_COSINE, 0.0f, 0.0f, 0.0f) == 1.0f);
    CHECK(vex_dot_to_distance(VEX_SPACE_COSINE, 4.00001f, 4.0f, 4.0f) == 0.0f);
    CHECK(vex_dot_to_distance(VEX_SPACE_COSINE, -4.00001f, 4.0f, 4.0f) == 2.0f);
    CHECK(isnan(vex_dot_to_distance(VEX_SPACE_COSINE, NAN, 4.0f, NAN)));
    CHECK(vex_dot_to_distance(VEX_SPACE_COSINE, 3e38f, 3e38f, 3e38f) == 0.0f);
    CHECK(vex_dot_to_distance(VEX_SPACE_COSINE, 1e-36f, 1e-36f, 1e-36f) == 0.0f);
}

TEST(dist_public_distance) {
    static float x[DIM_MAX], q[DIM_MAX];
    for (uint32_t d = 0; d < DIMS; d++) {
        const uint32_t dim = dim_at(d);
        for (int v = 0; v < 4; v++) {
            double s, dot, xx, qq;
            fill(x, dim, v == 0 ? UNIT : v == 1 ? BYTES : v == 2 ? TINY_18 : CONSTANT);
            fill(q, dim, v == 0 ? UNIT : v == 1 ? BYTES : v == 2 ? TINY_18 : CONSTANT);
            const double l2 = reference(L2, x, q, dim, &s);
            CHECK(fabs((double)vex_distance(VEX_SPACE_L2, x, q, dim) - l2) <=
                  1e-5 * l2 + 1e-6 * s + dim * 1.5e-45);
            const double l1 = reference(L1, x, q, dim, &s);
            CHECK(fabs((double)vex_distance(VEX_SPACE_L1, x, q, dim) - l1) <= 1e-5 * l1 + 1e-6 * s);
            dot = reference(DOT, x, q, dim, &s);
            CHECK(fabs((double)vex_distance(VEX_SPACE_IP, x, q, dim) - (1 - dot)) <=
                  1e-5 * fabs(1 - dot) + 1e-6 * s + dim * 1.5e-45);
            reference(L2, x, x, dim, &xx);
            reference(L2, q, q, dim, &qq);
            const double norms = sqrt(xx / 2) * sqrt(qq / 2);
            const double cosine = norms > 0 ? 1 - dot / norms : 1;
            const float got = vex_distance(VEX_SPACE_COSINE, x, q, dim);
            CHECK(fabs((double)got - cosine) <= 1e-5 * cosine + 1e-6);
            CHECK(got >= 0 && got <= 2);
            CHECK(vex_distance(VEX_SPACE_L2, x, x, dim) == 0);
        }
        memset(q, 0, dim * sizeof *q);
        CHECK(vex_distance(VEX_SPACE_COSINE, x, q, dim) == 1.0f);
    }
    CHECK(isnan(vex_distance(4, x, q, 3)));
}

TEST(dist_element_bytes) {
    CHECK_EQ(vex_element_bytes(VEX_F32), 4);
    CHECK_EQ(vex_element_bytes(VEX_F16), 2);
    CHECK_EQ(vex_element_bytes(VEX_U8), 1);
}

/* ---- choice of the level ---- */

/* Holds for any value of the variable, so it can run again in a child that changed it. */
TEST(dist_level_follows_environment) {
    const char *wanted = getenv("VEXFS_SIMD"), *name = "untouched";
    const vex_kernels *levels[4], *expected = NULL;
    const uint32_t n = vex_kernels_available(levels);
    CHECK(n >= 1 && n <= 4 && levels[n - 1] == &vex_kernels_scalar);
    for (uint32_t i = 0; i < n && wanted != NULL; i++) {
        expected = strcmp(levels[i]->name, wanted) == 0 ? levels[i] : expected;
    }
    if (wanted == NULL || wanted[0] == '\0') {
        expected = levels[0];
    }
    CHECK_STATUS(vex_simd_level(NULL), VEX_ERR_INVALID);
    if (expected != NULL) {
        CHECK_OK(vex_simd_level(&name));
        CHECK(strcmp(name, expected->name) == 0 && vex_kernels_get() == expected);
    } else {
        CHECK_STATUS(vex_simd_level(&name), VEX_ERR_INVALID);
        CHECK(strstr(vex_last_error()->message, wanted) != NULL);
        CHECK(strcmp(name, "untouched") == 0 && vex_kernels_get() == &vex_kernels_scalar);
    }
}

TEST(dist_level_by_variable) {
    const char *names[] = {"scalar", "avx2", "avx512", "neon", "", "sse9"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const pid_t child = fork();
        if (child == 0) {
            setenv("VEXFS_SIMD", names[i], 1);
            freopen("/dev/null", "w", stdout);
            execl("/proc/self/exe", "test_vexfs", "--filter", "dist_level_follows_environment",
                  (char *)NULL);
            _exit(127); /* no /proc, or an emulator: the test above has checked one value */
        }
        int state = -1;
        CHECK(child > 0 && waitpid(child, &state, 0) == child && WIFEXITED(state));
        CHECK(WEXITSTATUS(state) == 0 || WEXITSTATUS(state) == 127);
    }
}
