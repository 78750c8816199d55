/*
 * t_near_batch.c - exact search of many queries by code rows: its kernels against plain C, and its
 * hits against those of a scan of the vectors, bit for bit.
 */
#include "base/bits.h"
#include "base/mem.h"
#include "index/near_batch.h"
#include "tests/code_rows_kit.h"

/* ---- kernels ---- */

TEST(near_batch_kernels_agree_with_plain_c) {
    vex_near_level levels[4];
    const uint32_t n_levels = vex_near_levels(levels);
    const vex_near_level plain = levels[n_levels - 1];
    CHECK(strcmp(plain.name, "scalar") == 0);
    for (uint32_t dim = 1; dim <= 300; dim++) {
        const uint32_t quads = (dim + 3) / 4, n = 1 + test_random_below(VEX_NEAR_ROWS);
        const size_t stride = (size_t)quads * 4 + test_random_below(20);
        uint8_t *rows = malloc(VEX_NEAR_ROWS * stride);
        int8_t *packed = malloc((size_t)quads * 128);
        const bool extreme = dim % 5 == 0;
        for (size_t i = 0; i < VEX_NEAR_ROWS * stride; i++) {
            rows[i] = extreme ? 255 : (uint8_t)test_random_below(256);
        }
        for (size_t i = 0; i < (size_t)quads * 128; i++) {
            packed[i] =
                (int8_t)(extreme ? (dim % 10 ? -128 : 127) : (int)test_random_below(256) - 128);
        }
        for (uint32_t panels = 1; panels <= 2; panels++) {
            const size_t bytes = (size_t)n * panels * VEX_NEAR_LANES * sizeof(int32_t);
            int32_t *expected = malloc(bytes), *found = malloc(bytes);
            plain.dots(rows, stride, n, packed, quads, panels, expected);
            for (uint32_t l = 0; l + 1 < n_levels; l++) {
                memset(found, 0x5a, bytes);
                levels[l].dots(rows, stride, n, packed, quads, panels, found);
                CHECK(memcmp(found, expected, bytes) == 0);
            }
            free(expected);
            free(found);
        }
        free(rows);
        free(packed);
    }
}

/* The longest vectors: no sum overflows. */
TEST(near_batch_kernels_do_not_overflow) {
    vex_near_level levels[4];
    const uint32_t n_levels = vex_near_levels(levels), quads = VEX_DIMENSION_MAX / 4;
    uint8_t *rows = malloc((size_t)quads * 4);
    int8_t *packed = malloc((size_t)quads * 64);
    int32_t dots[VEX_NEAR_LANES];
    memset(rows, 255, (size_t)quads * 4);
    memset(packed, -128, (size_t)quads * 64);
    for (uint32_t l = 0; l < n_levels; l++) {
        levels[l].dots(rows, (size_t)quads * 4, 1, packed, quads, 1, dots);
        for (uint32_t lane = 0; lane < VEX_NEAR_LANES; lane++) {
            CHECK_EQ(dots[lane], -255 * 128 * (int64_t)quads * 4);
        }
    }
    free(rows);
    free(packed);
}

static float near_one(void) {
    return test_random_float() * 3 - 1;
}

/* The test is of float32 and may differ where it is close; but what is not a number always passes. */
TEST(near_batch_tests_agree_with_plain_c) {
    vex_near_level levels[4];
    const uint32_t n_levels = vex_near_levels(levels);
    for (uint32_t round = 0; round < 200; round++) {
        static vex_near_block block;
        static vex_near_panel panel;
        uint16_t expected[VEX_NEAR_ROWS], found[VEX_NEAR_ROWS];
        block.n = 1 + test_random_below(VEX_NEAR_ROWS);
        for (uint32_t r = 0; r < VEX_NEAR_ROWS; r++) {
            block.s[r] = near_one(), block.low[r] = near_one(), block.sum[r] = near_one();
            block.norm2[r] = r % 7 == 3 ? NAN : near_one();
            block.length[r] = near_one(), block.most[r] = near_one();
            for (uint32_t lane = 0; lane < 2 * VEX_NEAR_LANES; lane++) {
                block.dots[r * 2 * VEX_NEAR_LANES + lane] = (int32_t)test_random_below(2000) - 1000;
            }
        }
        for (uint32_t lane = 0; lane < VEX_NEAR_LANES; lane++) {
            panel.step[lane] = near_one(), panel.row_error[lane] = near_one();
            panel.low[lane] = near_one(), panel.middle[lane] = near_one();
            panel.own_error[lane] = near_one(), panel.rounding[lane] = near_one();
            /* far from all sums of these numbers, or met by all */
            panel.limit[lane] = lane % 3 == 0 ? -INFINITY : lane % 3 == 1 ? INFINITY : 1e6f;
        }
        levels[n_levels - 1].test(&block, &panel, block.dots, 32, expected);
        for (uint32_t l = 0; l + 1 < n_levels; l++) {
            levels[l].test(&block, &panel, block.dots, 32, found);
            CHECK(memcmp(found, expected, block.n * sizeof *found) == 0);
        }
        for (uint32_t r = 0; r < block.n; r++) {
            CHECK_EQ(expected[r], r % 7 == 3 ? 0xFFFF : 0xFFFF & ~0x9249);
        }
    }
}

/* Uppers of the levels differ by rounding alone. */
TEST(near_batch_seeds_agree_with_plain_c) {
    vex_near_level levels[4];
    const uint32_t n_levels = vex_near_levels(levels);
    for (uint32_t round = 0; round < 100; round++) {
        static vex_near_block block;
        static vex_near_panel panel;
        const uint32_t k = 1 + test_random_below(12);
        float expected[12 * VEX_NEAR_LANES], found[12 * VEX_NEAR_LANES];
        block.n = 1 + test_random_below(VEX_NEAR_ROWS);
        for (uint32_t r = 0; r < VEX_NEAR_ROWS; r++) {
            block.s[r] = fabsf(near_one()), block.low[r] = near_one(), block.sum[r] = near_one();
            block.norm2[r] = r % 7 == 3 ? NAN : near_one();
            block.length[r] = fabsf(near_one()), block.most[r] = fabsf(near_one());
            for (uint32_t lane = 0; lane < 2 * VEX_NEAR_LANES; lane++) {
                block.dots[r * 2 * VEX_NEAR_LANES + lane] = (int32_t)test_random_below(2000) - 1000;
            }
        }
        for (uint32_t lane = 0; lane < VEX_NEAR_LANES; lane++) {
            panel.step[lane] = near_one(), panel.row_error[lane] = near_one() - 3;
            panel.low[lane] = near_one(), panel.middle[lane] = near_one();
            panel.own_error[lane] = near_one() - 3, panel.rounding[lane] = near_one() - 3;
            panel.base[lane] = near_one(), panel.slack[lane] = near_one();
        }
        for (uint32_t l = n_levels; l-- > 0;) {
            float *kept = l == n_levels - 1 ? expected : found;
            for (uint32_t i = 0; i < k * VEX_NEAR_LANES; i++) {
                kept[i] = INFINITY;
            }
            levels[l].seed(&block, &panel, block.dots, 32, k, kept);
            for (uint32_t i = 0; i < k * VEX_NEAR_LANES; i++) {
                CHECK(kept[i] == expected[i] || fabsf(kept[i] - expected[i]) < 0.02f);
                CHECK(i < VEX_NEAR_LANES || kept[i - VEX_NEAR_LANES] <= kept[i]);
            }
        }
    }
}

/* What is encoded in passing is what is in files, for rows that are not all whole numbers. */
TEST(near_batch_encodes_as_files_do) {
    vex_near_level levels[4];
    const uint32_t n_levels = vex_near_levels(levels);
    for (uint32_t dim = 1; dim <= 300; dim++) {
        vex_codes codes;
        float *x = malloc(dim * sizeof *x);
        CHECK_OK(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L2, dim));
        uint8_t *expected = calloc(1, codes.stride), *found = calloc(1, codes.stride);
        for (uint32_t i = 0; i < dim; i++) {
            x[i] = dim % 7 == 0 ? -3.5f : test_random_float() - 2;
        }
        vex_codes_encode(&codes, x, 1.5f, expected);
        for (uint32_t l = 0; l < n_levels; l++) {
            if (levels[l].encode != NULL) {
                levels[l].encode(x, dim, 1.5f, codes.stride, found);
                CHECK(memcmp(found, expected, codes.stride) == 0);
            }
        }
        free(x);
        free(expected);
        free(found);
    }
}

/* ---- the whole ---- */

static void settle_one(const world *w, vex_near *near, const float *query, vex_topk *top) {
    const vex_kernels *kernels = vex_kernels_get();
    const float norm2 = vex_norm2(query, w->dim);
    vex_near_sort(near);
    for (size_t i = 0; i < near->n && vex_topk_wants(top, near->rows[i].lower); i++) {
        const vex_row_run one = run_of(w, near->rows[i].row, 1, NULL);
        CHECK_OK(vex_flat_scan(kernels, w->space, &one, query, &norm2, 1, w->dim, top));
    }
}

/* Rows that were left, of all queries. */
static size_t search_side_by_side(const world *w, const float *queries, uint32_t n, uint32_t k,
                                  const uint64_t *selected, const vex_near_level *level) {
    vex_near *near = calloc(n, sizeof *near);
    vex_near_batch batch;
    size_t left = 0;
    for (uint32_t q = 0; q < n; q++) {
        vex_near_init(&near[q], w->space, queries + (size_t)q * w->dim, w->dim, k);
    }
    CHECK_OK(vex_near_batch_init(&batch, near, n, w->stride));
    batch.level = *level;
    const uint32_t cut = test_random_below(w->n);
    CHECK_OK(vex_near_batch_scan(&batch, w->codes, 0, 0, 0, cut, selected));
    CHECK_OK(vex_near_batch_scan(&batch, w->codes + (size_t)cut * w->stride, cut, 0, cut, w->n,
                                 selected));
    for (uint32_t q = 0; q < n; q++) {
        const float *query = queries + (size_t)q * w->dim;
        const float norm2 = vex_norm2(query, w->dim);
        const vex_row_run all = run_of(w, 0, w->n, selected);
        vex_topk exact, coded;
        CHECK_OK(vex_topk_init(&exact, k));
        CHECK_OK(vex_topk_init(&coded, k));
        CHECK_OK(
            vex_flat_scan(vex_kernels_get(), w->space, &all, query, &norm2, 1, w->dim, &exact));
        settle_one(w, &near[q], query, &coded);
        same_hits(&exact, &coded);
        left += near[q].n;
        vex_near_clear(&near[q]);
        vex_topk_clear(&exact);
        vex_topk_clear(&coded);
    }
    vex_near_batch_clear(&batch);
    free(near);
    return left;
}

static void random_query(const world *w, uint32_t number, float *query) {
    const float *base = w->vectors + (size_t)test_random_below(w->n) * w->dim;
    for (uint32_t d = 0; d < w->dim; d++) {
        query[d] = number % 5 == 0   ? base[d]
                   : number % 5 == 1 ? base[d] * 1.01f
                   : number % 5 == 2 ? test_random_float()
                   : number % 5 == 3 ? 3.0f
                                     : 0.0f;
    }
}

static void check_shape(shape s, uint32_t space, const vex_near_level *level) {
    static const uint32_t dims[] = {1, 3, 16, 65, 200}, ks[] = {1, 5, 40, 400};
    const uint32_t dim = dims[test_random_below(5)], most = 1 + test_random_below(50);
    world w = make_world(s, space, 300, dim);
    float *queries = malloc((size_t)most * dim * sizeof *queries);
    uint64_t selected[8] = {0};
    uint32_t n = 0;
    const uint32_t share = 1 + test_random_below(12);
    for (uint32_t i = 0; i < w.n; i++) {
        if (test_random_below(share) == 0) {
            vex_bit_set(selected, i);
        }
    }
    for (uint32_t q = 0; q < most; q++) {
        random_query(&w, q, queries + (size_t)n * dim);
        n += vex_near_possible(space, queries + (size_t)n * dim, dim);
    }
    if (n > 0) {
        (void)search_side_by_side(&w, queries, n, ks[test_random_below(4)],
                                  test_random_below(2) ? selected : NULL, level);
    }
    free(queries);
    free_world(&w);
}

TEST(near_batch_finds_what_a_scan_finds) {
    static const uint32_t spaces[] = {VEX_SPACE_L2, VEX_SPACE_IP, VEX_SPACE_COSINE};
    vex_near_level levels[4];
    const uint32_t n_levels = vex_near_levels(levels);
    for (uint32_t l = 0; l < n_levels; l++) {
        for (uint32_t round = 0; round < SHAPES * 15; round++) {
            check_shape((shape)(round % SHAPES), spaces[round / SHAPES % 3], &levels[l]);
        }
    }
}

TEST(near_batch_leaves_few_rows) {
    vex_near_level levels[4];
    (void)vex_near_levels(levels);
    world w = make_world(UNIFORM, VEX_SPACE_COSINE, 4000, 200);
    float *queries = malloc(20 * 200 * sizeof *queries);
    for (uint32_t i = 0; i < 20 * 200; i++) {
        queries[i] = test_random_float();
    }
    const size_t left = search_side_by_side(&w, queries, 20, 10, NULL, &levels[0]);
    CHECK(left / 20 < 600);
    free(queries);
    free_world(&w);
}

TEST(near_batch_without_memory_says_so) {
    world w = make_world(UNIFORM, VEX_SPACE_L2, 300, 16);
    for (uint64_t fail = 1; fail < 200; fail++) {
        vex_near near[6];
        vex_near_batch batch;
        for (uint32_t q = 0; q < 6; q++) {
            vex_near_init(&near[q], w.space, w.vectors + (size_t)q * w.dim, w.dim, 10);
        }
        vex_mem_fail_at(fail, true);
        vex_status status = vex_near_batch_init(&batch, near, 6, w.stride);
        if (status == VEX_OK) {
            status = vex_near_batch_scan(&batch, w.codes, 0, 0, 0, w.n, NULL);
        }
        vex_mem_fail_at(0, false);
        vex_near_batch_clear(&batch);
        for (uint32_t q = 0; q < 6; q++) {
            vex_near_clear(&near[q]);
        }
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        if (status == VEX_OK) {
            CHECK(fail > 4);
            break;
        }
    }
    free_world(&w);
}
