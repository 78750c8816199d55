/*
 * t_lvq.c - code rows: the integer kernels of all levels, the error of the codes, and the
 * finite distances.
 */
#include "index/lvq.h"

#include "tests/harness.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* ---- kernels ---- */

typedef enum fill { RANDOM, HIGHEST, LOWEST, MIXED, FILLS } fill;

static void fill_pair(fill how, uint8_t *row, int8_t *query, size_t n) {
    for (size_t k = 0; k < n; k++) {
        const uint64_t draw = test_random();
        row[k] = how == RANDOM ? (uint8_t)draw : how == MIXED ? (uint8_t)(draw & 1 ? 255 : 0) : 255;
        query[k] = how == RANDOM    ? (int8_t)(draw >> 8)
                   : how == HIGHEST ? 127
                   : how == LOWEST  ? -128
                                    : (int8_t)(draw & 2 ? 127 : -128);
    }
}

/* Every level at every length and every number of rows up to 9, at any address. */
static void check_levels(size_t dim, fill how) {
    vex_lvq_level levels[4];
    const uint32_t n_levels = vex_lvq_levels(levels);
    const size_t bytes = (dim + 16 + 63) / 64 * 64;
    const uint32_t n = 1 + test_random_below(9);
    uint8_t *memory = malloc(n * (bytes + 3) + 64);
    int8_t *query = calloc(bytes + 5, 1);
    int8_t *q = query + dim % 5;
    const uint8_t *rows[9];
    int32_t expected[9], out[9];
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *row = memory + i * (bytes + 3) + dim % 7;
        fill_pair(how, row, q, dim);
        for (size_t k = dim; k < bytes; k++) {
            row[k] = (uint8_t)test_random(); /* the tail must not count */
        }
        rows[i] = row;
    }
    for (uint32_t i = 0; i < n; i++) {
        int64_t sum = 0;
        for (size_t k = 0; k < dim; k++) {
            sum += rows[i][k] * q[k];
        }
        expected[i] = (int32_t)sum;
        CHECK_EQ(expected[i], sum);
    }
    for (uint32_t level = 0; level < n_levels; level++) {
        memset(out, 0x5A, sizeof out);
        levels[level].sums(q, rows, n, bytes, out);
        for (uint32_t i = 0; i < n; i++) {
            CHECK_EQ(out[i], expected[i]);
        }
    }
    free(memory);
    free(query);
}

/* The same of short rows: any bytes are codes. */
static void check_short_levels(uint32_t dim, fill how) {
    vex_lvq_level levels[4];
    vex_codes codes;
    const uint32_t n_levels = vex_lvq_levels(levels), n = 1 + test_random_below(9);
    CHECK_OK(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L2, dim));
    const size_t bytes = codes.short_stride;
    uint8_t *memory = malloc(n * (bytes + 3) + 64);
    int8_t *query = calloc(2 * bytes + 5, 1);
    int8_t *q = query + dim % 5;
    const uint8_t *rows[9];
    int32_t out[9];
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *row = memory + i * (bytes + 3) + dim % 7;
        fill_pair(how, row, q, bytes);
        rows[i] = row;
    }
    memset(q, 0, 2 * bytes);
    for (uint32_t k = 0; k < dim; k++) {
        uint8_t unused;
        fill_pair(how, &unused, q + k, 1);
    }
    for (uint32_t level = 0; level < n_levels; level++) {
        memset(out, 0x5A, sizeof out);
        levels[level].short_sums(q, rows, n, bytes, out);
        for (uint32_t i = 0; i < n; i++) {
            int64_t sum = 0;
            for (uint32_t k = 0; k < dim; k++) {
                const uint8_t both = rows[i][k / 128 * 64 + k % 64];
                sum += (k / 64 % 2 == 0 ? both & 15 : both >> 4) * q[k];
            }
            CHECK_EQ(out[i], sum);
        }
    }
    free(memory);
    free(query);
}

TEST(lvq_levels_agree_on_all_dimensions) {
    for (size_t dim = 1; dim <= 2048; dim++) {
        check_levels(dim, (fill)(dim % FILLS));
        check_levels(dim, RANDOM);
        check_short_levels((uint32_t)dim, (fill)(dim % FILLS));
        check_short_levels((uint32_t)dim, RANDOM);
    }
    for (int how = 0; how < FILLS; how++) {
        check_levels(65536, (fill)how);
        check_short_levels(65536, (fill)how);
    }
}

TEST(lvq_level_follows_the_choice_of_the_float_kernels) {
    vex_lvq_level levels[4];
    const uint32_t n = vex_lvq_levels(levels);
    const char *wide = vex_kernels_get()->name, *name = vex_lvq_level_name();
    CHECK(strcmp(levels[n - 1].name, "scalar") == 0);
    if (strcmp(wide, "scalar") == 0 || strcmp(wide, "avx2") == 0) {
        CHECK(strcmp(name, wide) == 0);
    } else {
        CHECK(strcmp(name, levels[0].name) == 0);
    }
}

/* Any float, NaN and infinities among them. */
static float any_float(void) {
    const uint32_t bits = (uint32_t)test_random();
    float x;
    memcpy(&x, &bits, sizeof x);
    return test_random_below(4) > 0 ? test_random_float() : test_random_below(8) > 0 ? x : 0;
}

TEST(lvq_levels_finish_to_the_same_bits) {
    vex_lvq_level levels[4];
    const uint32_t n_levels = vex_lvq_levels(levels);
    for (int round = 0; round < 4000; round++) {
        vex_codes codes;
        vex_lvq_group group;
        float expected[VEX_LVQ_GROUP], out[VEX_LVQ_GROUP];
        const uint32_t n = 1 + test_random_below(VEX_LVQ_GROUP);
        CHECK_OK(vex_codes_init(&codes, VEX_CODE_LVQ8, (uint32_t)round % 3, 16));
        const vex_code_query query = {.codes = &codes,
                                      .a = (double)any_float(),
                                      .b = (double)any_float(),
                                      .c = (double)any_float(),
                                      .norm2 = fabsf(any_float()),
                                      .inverse_norm = fabs((double)any_float()),
                                      .phi2 = round % 2 ? fabsf(any_float()) : 0,
                                      .phi_rest = (double)test_random_float()};
        for (uint32_t i = 0; i < n; i++) {
            group.s[i] = any_float();
            group.lo[i] = any_float();
            group.norm2[i] = fabsf(any_float());
            group.codes[i] = (int32_t)test_random_below(1u << 24);
            group.sums[i] = (int32_t)test_random();
        }
        levels[n_levels - 1].finish(&query, &group, n, expected);
        for (uint32_t level = 0; level < n_levels; level++) {
            memset(out, 0x5A, sizeof out);
            levels[level].finish(&query, &group, n, out);
            CHECK(memcmp(out, expected, n * sizeof *out) == 0);
        }
        for (uint32_t i = 0; i < n; i++) {
            CHECK(isfinite(expected[i]));
        }
    }
}

TEST(lvq_levels_finish_short_rows_to_the_same_bits) {
    vex_lvq_level levels[4];
    const uint32_t n_levels = vex_lvq_levels(levels);
    for (int round = 0; round < 4000; round++) {
        vex_codes codes;
        float tails[VEX_LVQ_GROUP][16], expected[VEX_LVQ_GROUP], out[VEX_LVQ_GROUP];
        const uint8_t *rows[VEX_LVQ_GROUP];
        int32_t sums[VEX_LVQ_GROUP] = {0};
        const uint32_t n = 1 + test_random_below(VEX_LVQ_GROUP);
        CHECK_OK(vex_codes_init(&codes, VEX_CODE_LVQ8, (uint32_t)round % 3, 16));
        CHECK_EQ(codes.short_stride, sizeof tails[0]);
        const vex_code_query query = {.codes = &codes,
                                      .a = (double)any_float(),
                                      .b = (double)any_float(),
                                      .c = (double)any_float(),
                                      .norm2 = fabsf(any_float()),
                                      .inverse_norm = fabs((double)any_float())};
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t k = 0; k < 16; k++) {
                tails[i][k] = any_float();
            }
            rows[i] = (const uint8_t *)tails[i];
            sums[i] = (int32_t)test_random();
        }
        levels[n_levels - 1].short_finish(&query, rows, n, sums, expected);
        for (uint32_t level = 0; level < n_levels; level++) {
            memset(out, 0x5A, sizeof out);
            levels[level].short_finish(&query, rows, n, sums, out);
            CHECK(memcmp(out, expected, n * sizeof *out) == 0);
            CHECK(n == VEX_LVQ_GROUP || out[n] == out[VEX_LVQ_GROUP - 1]); /* as it was */
        }
        for (uint32_t i = 0; i < n; i++) {
            CHECK(isfinite(expected[i]));
        }
    }
}

/* ---- rows ---- */

typedef struct pair {
    vex_codes codes;
    uint8_t *row;
    float *x, *q, *back;
    float distance;
    double exact;
} pair;

static double exact_distance(uint32_t space, const float *x, const float *q, uint32_t dim) {
    double dot = 0, xx = 0, qq = 0;
    for (uint32_t i = 0; i < dim; i++) {
        dot += (double)x[i] * (double)q[i];
        xx += (double)x[i] * (double)x[i];
        qq += (double)q[i] * (double)q[i];
    }
    return space == VEX_SPACE_L2    ? xx + qq - 2 * dot
           : space == VEX_SPACE_IP  ? 1 - dot
           : xx == 0.0 || qq == 0.0 ? 1
                                    : 1 - dot / sqrt(xx * qq);
}

static pair make_pair(vex_code_kind kind, uint32_t space, uint32_t dim) {
    pair p = {.x = calloc(dim, 4), .q = calloc(dim, 4), .back = calloc(dim, 4)};
    CHECK_OK(vex_codes_init(&p.codes, kind, space, dim));
    CHECK_EQ(p.codes.stride % 64, 0);
    p.row = malloc(p.codes.stride);
    memset(p.row, 0xEE, p.codes.stride);
    return p;
}

/* Encode x, decode it, and take the distance to q. */
static void compute(pair *p) {
    const uint8_t *rows[1] = {p->row};
    vex_code_query query;
    CHECK_OK(vex_code_query_create(&query, &p->codes));
    vex_codes_encode(&p->codes, p->x, vex_norm2(p->x, p->codes.dim), p->row);
    vex_codes_decode(&p->codes, p->row, p->back);
    vex_code_query_vector(&query, p->q);
    vex_code_distances(&query, rows, 1, &p->distance);
    p->exact = exact_distance(p->codes.space, p->x, p->q, p->codes.dim);
    vex_code_query_destroy(&query);
}

static void free_pair(pair *p) {
    free(p->row);
    free(p->x);
    free(p->q);
    free(p->back);
}

static float largest(const float *x, uint32_t n) {
    float most = 0;
    for (uint32_t i = 0; i < n; i++) {
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    }
    return most;
}

/* |x^ - x| <= s/2 each; so |dot^ - dot| <= (sx |q|_1 + sq |x|_1 + dim sx sq / 2) / 2. */
TEST(lvq_error_is_within_its_bound) {
    for (int round = 0; round < 3000; round++) {
        const uint32_t dim = 1 + test_random_below(round % 20 == 0 ? 1600 : 300);
        const uint32_t space = test_random_below(3);
        const float scale = powf(10.0f, (float)test_random_below(9) - 4);
        const float shift = test_random_below(3) == 0 ? test_random_float() * 3 : 0;
        pair p = make_pair(VEX_CODE_LVQ8, space, dim);
        double xs = 0, qs = 0, sx, sq;
        float range[4] = {INFINITY, -INFINITY, INFINITY, -INFINITY};
        for (uint32_t i = 0; i < dim; i++) {
            p.x[i] = scale * (test_random_float() + shift);
            p.q[i] = test_random_float() + shift;
            range[0] = fminf(range[0], p.x[i]), range[1] = fmaxf(range[1], p.x[i]);
            range[2] = fminf(range[2], p.q[i]), range[3] = fmaxf(range[3], p.q[i]);
            xs += fabs((double)p.x[i]);
            qs += fabs((double)p.q[i]);
        }
        compute(&p);
        sx = ((double)range[1] - (double)range[0]) / 255;
        sq = ((double)range[3] - (double)range[2]) / 255;
        for (uint32_t i = 0; i < dim; i++) {
            CHECK(fabs((double)p.back[i] - (double)p.x[i]) <=
                  sx * 0.5001 + 1e-6 * (double)largest(p.x, dim));
        }
        double bound = (sx * qs + sq * xs + dim * sx * sq / 2) / 2 * 1.001;
        if (space == VEX_SPACE_L2) {
            bound *= 2;
        } else if (space == VEX_SPACE_COSINE) {
            bound /= sqrt((double)vex_norm2(p.x, dim) * (double)vex_norm2(p.q, dim));
        }
        const double rounding = 1e-5 * (1 + fabs(p.exact) + xs * qs + xs * xs + qs * qs);
        CHECK(fabs((double)p.distance - p.exact) <= bound + rounding);
        free_pair(&p);
    }
}

/* The codes of a row have a range of `width`: a part of it is off by width / 32 + 1/2 at most. */
static double short_bound(const pair *p) {
    const vex_code_tail tail = vex_codes_tail(&p->codes, p->row);
    uint32_t low = 255, high = 0;
    double norm1 = 0;
    for (uint32_t i = 0; i < p->codes.dim; i++) {
        low = p->row[i] < low ? p->row[i] : low;
        high = p->row[i] > high ? p->row[i] : high;
        norm1 += fabs((double)p->q[i]);
    }
    double bound = (double)tail.s * ((high - low + 1) / 32.0 + 0.5) * norm1;
    if (p->codes.space == VEX_SPACE_L2) {
        bound *= 2;
    } else if (p->codes.space == VEX_SPACE_COSINE) {
        bound /= sqrt((double)tail.norm2 * (double)vex_norm2(p->q, p->codes.dim));
    }
    return bound;
}

static float short_distance(const pair *p) {
    uint8_t *row = malloc(p->codes.short_stride);
    const uint8_t *rows[1] = {row};
    vex_code_query query;
    float distance;
    CHECK_EQ(p->codes.short_stride % 64, 0);
    CHECK_OK(vex_code_query_create(&query, &p->codes));
    vex_codes_shorten(&p->codes, p->row, row);
    vex_code_query_vector(&query, p->q);
    vex_short_distances(&query, rows, 1, &distance);
    vex_code_query_destroy(&query);
    free(row);
    return distance;
}

TEST(lvq_short_rows_err_within_their_bound) {
    for (int round = 0; round < 3000; round++) {
        const uint32_t dim = 1 + test_random_below(round % 20 == 0 ? 1600 : 300);
        pair p = make_pair(VEX_CODE_LVQ8, test_random_below(3), dim);
        const bool whole = round % 3 == 0; /* values 0..9: nothing is lost */
        double scale = 1;
        for (uint32_t i = 0; i < dim; i++) {
            p.x[i] = whole ? (float)test_random_below(10) : test_random_float() + 0.2f;
            p.q[i] = whole ? (float)test_random_below(256) : test_random_float() - 0.1f;
            scale += fabs((double)p.x[i] * (double)p.q[i]) + (double)p.x[i] * (double)p.x[i] +
                     (double)p.q[i] * (double)p.q[i];
        }
        compute(&p);
        const double bound = whole ? 0 : short_bound(&p);
        CHECK(fabs((double)short_distance(&p) - (double)p.distance) <= bound + 1e-5 * scale);
        free_pair(&p);
    }
}

TEST(lvq_short_distances_are_finite) {
    for (int round = 0; round < 3000; round++) {
        pair p = make_pair(VEX_CODE_LVQ8, (uint32_t)round % 3, 1 + test_random_below(200));
        for (uint32_t i = 0; i < p.codes.dim; i++) {
            p.x[i] = any_float();
            p.x[i] = isfinite(p.x[i]) && round % 5 > 0 ? p.x[i] : 0;
            p.q[i] = round % 7 > 0 ? any_float() : 0;
        }
        compute(&p);
        const float distance = short_distance(&p);
        CHECK(isfinite(distance));
        if (p.codes.space == VEX_SPACE_COSINE && (round % 5 == 0 || round % 7 == 0)) {
            CHECK(distance == 1.0f);
        }
        free_pair(&p);
    }
}

/* Rows of eight degrees of freedom, and such whose differences are less than what a code can tell. */
TEST(lvq_short_rows_serve_where_they_tell_rows_apart) {
    enum { DIM = 96, ROWS = 3000 };
    vex_codes codes;
    bool serves;
    float x[DIM], direction[8][DIM];
    for (uint32_t k = 0; k < 8 * DIM; k++) {
        direction[k / DIM][k % DIM] = test_random_float();
    }
    CHECK_OK(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L2, DIM));
    uint8_t *rows = malloc((size_t)ROWS * codes.stride);
    for (int fine = 0; fine < 2; fine++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            for (uint32_t k = 0; k < DIM; k++) {
                x[k] = fine ? (float)k : 0;
            }
            for (uint32_t j = 0; j < 8; j++) {
                const float far = test_random_float();
                for (uint32_t k = 0; k < DIM; k++) {
                    x[k] += far * direction[j][k];
                }
            }
            vex_codes_encode(&codes, x, vex_norm2(x, DIM), rows + (size_t)i * codes.stride);
        }
        CHECK_OK(vex_short_serves(&codes, rows, ROWS, &serves));
        CHECK_EQ(serves, !fine);
        CHECK_OK(vex_short_serves(&codes, rows, VEX_SHORT_LEAST - 1, &serves));
        CHECK(!serves);
    }
    free(rows);
}

TEST(lvq_of_small_integers_is_exact) {
    for (int round = 0; round < 500; round++) {
        const uint32_t dim = 1 + test_random_below(257); /* squares stay below 2^24 */
        const uint32_t space = round % 2 ? VEX_SPACE_L2 : VEX_SPACE_IP;
        pair p = make_pair(VEX_CODE_LVQ8, space, dim);
        for (uint32_t i = 0; i < dim; i++) {
            p.x[i] = (float)(round % 5 == 0 ? 255 : test_random_below(256));
            p.q[i] = (float)(round % 7 == 0 ? 255 : test_random_below(256));
        }
        compute(&p);
        const vex_code_tail tail = vex_codes_tail(&p.codes, p.row);
        CHECK(tail.s == 1.0f && tail.lo == 0.0f);
        CHECK(memcmp(p.back, p.x, dim * sizeof *p.x) == 0);
        CHECK((double)p.distance == p.exact);
        free_pair(&p);
    }
}

TEST(lvq_rows_as_queries_give_the_same_distances) {
    for (int round = 0; round < 600; round++) {
        const vex_code_kind kind = (vex_code_kind)(1 + round % 3);
        const uint32_t dim = 1 + test_random_below(200);
        pair p = make_pair(kind, test_random_below(3), dim);
        for (uint32_t i = 0; i < dim; i++) {
            p.x[i] = test_random_float();
            p.q[i] = test_random_float();
        }
        compute(&p);
        uint8_t *row = malloc(p.codes.stride);
        vex_codes_encode(&p.codes, p.q, vex_norm2(p.q, dim), row);
        vex_code_query query;
        float distance, there, back;
        const uint8_t *rows[2] = {p.row, row};
        CHECK_OK(vex_code_query_create(&query, &p.codes));
        vex_code_query_row(&query, row, 0);
        vex_code_distances(&query, rows, 1, &distance);
        if (kind != VEX_CODE_F16) { /* whose query is wider than its rows */
            CHECK(distance == p.distance);
        }
        CHECK(fabsf(distance - p.distance) < 0.02f * (float)dim);
        there = distance;
        vex_code_query_row(&query, p.row, 0);
        vex_code_distances(&query, rows + 1, 1, &back);
        CHECK(fabsf(there - back) <= 1e-4f * (1 + fabsf(there)));
        vex_code_query_destroy(&query);
        free(row);
        free_pair(&p);
    }
}

/* In the phi form the nearest of a direction is the one of largest inner product. */
TEST(lvq_phi_form_is_a_distance_on_a_sphere) {
    enum { DIM = 24, N = 40 };
    vex_codes codes;
    CHECK_OK(vex_codes_init(&codes, VEX_CODE_F32, VEX_SPACE_IP, DIM));
    for (int round = 0; round < 50; round++) {
        float x[N][DIM], most = 0;
        uint8_t *memory = malloc((size_t)N * codes.stride);
        const uint8_t *rows[N];
        for (int i = 0; i < N; i++) {
            const float scale = powf(10.0f, test_random_float() * 2);
            for (int d = 0; d < DIM; d++) {
                x[i][d] = scale * test_random_float();
            }
            rows[i] = memory + (size_t)i * codes.stride;
            const float norm2 = vex_norm2(x[i], DIM);
            most = fmaxf(most, norm2);
            vex_codes_encode(&codes, x[i], norm2, memory + (size_t)i * codes.stride);
        }
        vex_code_query query;
        float out[N], plain[N];
        CHECK_OK(vex_code_query_create(&query, &codes));
        const float phi = 1.1f * sqrtf(most);
        for (int j = 0; j < N; j++) {
            vex_code_query_row(&query, rows[j], phi);
            vex_code_distances(&query, rows, N, out);
            for (int i = 0; i < N; i++) { /* its own nearest, whatever the norms */
                CHECK(out[j] <= out[i] + 1e-5f && out[i] >= -1e-5f && out[i] <= 4.0f);
            }
            CHECK(fabsf(out[j]) < 1e-5f);
        }
        vex_code_query_vector(&query, x[0]);
        vex_code_distances(&query, rows, N, plain);
        for (int i = 0; i < N; i++) {
            const double exact = exact_distance(VEX_SPACE_IP, x[i], x[0], DIM);
            CHECK(fabs((double)plain[i] - exact) <= 1e-4 * (1 + fabs(exact)));
        }
        vex_code_query_destroy(&query);
        free(memory);
    }
}

TEST(lvq_distances_are_always_finite) {
    const float odd[] = {0,        -0.0f,     FLT_MAX, -FLT_MAX, FLT_MIN, 1e-45f,
                         INFINITY, -INFINITY, NAN,     1,        1e30f,   -1e20f};
    for (int round = 0; round < 3000; round++) {
        const vex_code_kind kind = (vex_code_kind)(1 + round % 3);
        const uint32_t dim = 1 + test_random_below(40);
        pair p = make_pair(kind, test_random_below(3), dim);
        const float one = odd[test_random_below(12)];
        for (uint32_t i = 0; i < dim; i++) {
            /* rows are finite, queries anything */
            p.x[i] = round % 4 == 0 ? 0 : odd[test_random_below(6)];
            p.q[i] = round % 3 == 0 ? one : odd[test_random_below(12)];
        }
        compute(&p);
        CHECK(p.distance >= -FLT_MAX && p.distance <= FLT_MAX);
        if (p.codes.space == VEX_SPACE_COSINE && round % 4 == 0) {
            CHECK(p.distance == 1.0f);
        }
        free_pair(&p);
    }
}

TEST(lvq_constant_vectors) {
    pair p = make_pair(VEX_CODE_LVQ8, VEX_SPACE_L2, 33);
    for (int i = 0; i < 33; i++) {
        p.x[i] = -0.7f;
        p.q[i] = 0.3f;
    }
    compute(&p);
    CHECK(vex_codes_tail(&p.codes, p.row).s == 0.0f);
    CHECK(fabs((double)p.distance - 33.0) < 1e-4);
    free_pair(&p);
}

TEST(lvq_refuses_bad_arguments) {
    vex_codes codes;
    CHECK_STATUS(vex_codes_init(&codes, (vex_code_kind)0, VEX_SPACE_L2, 3), VEX_ERR_INVALID);
    CHECK_STATUS(vex_codes_init(&codes, (vex_code_kind)4, VEX_SPACE_L2, 3), VEX_ERR_INVALID);
    CHECK_STATUS(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L1, 3), VEX_ERR_INVALID);
    CHECK_STATUS(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L2, 0), VEX_ERR_INVALID);
    CHECK_STATUS(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L2, 65537), VEX_ERR_INVALID);
}

TEST(lvq_strides) {
    const uint32_t dims[] = {1, 48, 49, 96, 128, 384, 768, 1024, 1536};
    const uint32_t lines[] = {1, 1, 2, 2, 3, 7, 13, 17, 25};
    for (int i = 0; i < 9; i++) {
        vex_codes codes;
        CHECK_OK(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L2, dims[i]));
        CHECK_EQ(codes.stride, lines[i] * 64);
    }
}

TEST(lvq_uneven_norms) {
    CHECK(!vex_codes_uneven(1, 1) && !vex_codes_uneven(0, 0) && !vex_codes_uneven(1, 1.1f));
    CHECK(vex_codes_uneven(1, 1.11f) && vex_codes_uneven(0, 1e-30f));
}
