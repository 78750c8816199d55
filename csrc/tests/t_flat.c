/*
 * t_flat.c - exact search and the heap of best hits, against sorting everything.
 */
#include "base/bits.h"
#include "base/mem.h"
#include "codec/narrow.h"
#include "index/flat.h"

#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>

static int by_distance_then_seq(const void *a, const void *b) {
    const vex_hit *x = a, *y = b;
    const bool x_nan = isnan(x->distance), y_nan = isnan(y->distance);
    if (x_nan != y_nan) {
        return x_nan ? 1 : -1;
    }
    if (!x_nan && x->distance != y->distance) {
        return x->distance < y->distance ? -1 : 1;
    }
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Sorts `all`, and checks that the heap holds its first k. */
static void check_best(vex_topk *top, vex_hit *all, size_t n) {
    qsort(all, n, sizeof *all, by_distance_then_seq);
    CHECK_EQ(top->n, n < top->k ? n : top->k);
    vex_topk_sort(top);
    for (uint32_t i = 0; i < top->n; i++) {
        CHECK(memcmp(&top->hits[i].distance, &all[i].distance, sizeof(float)) == 0);
        CHECK_EQ(top->hits[i].seq, all[i].seq);
        CHECK_EQ(top->hits[i].row, all[i].row);
        CHECK_EQ(top->hits[i].source, all[i].source);
    }
}

/* ---- the heap ---- */

static float any_distance(uint32_t variety) {
    const uint32_t draw = test_random_below(variety);
    return draw == 0   ? NAN
           : draw == 1 ? INFINITY
           : draw == 2 ? 0.0f
           : draw == 3 ? -0.0f
           : draw == 4 ? -INFINITY
                       : (float)draw * 0.37f - 3.0f;
}

TEST(topk_equals_sorting) {
    vex_hit all[600];
    for (int round = 0; round < 3000; round++) {
        const uint32_t n = test_random_below(round % 10 == 0 ? 600 : 40);
        const uint32_t k = test_random_below(round % 10 == 1 ? 700 : 30);
        const uint32_t variety = 1 + test_random_below(test_random_below(2) ? 12 : 100000);
        vex_topk top;
        CHECK_OK(vex_topk_init(&top, k));
        for (uint32_t i = 0; i < n; i++) {
            /* seqs are unique, in no order */
            all[i] = (vex_hit){any_distance(variety), i % 3, (uint64_t)(i * 7919 % 601) << 40, i};
            const vex_hit before_worst = top.n > 0 ? top.hits[0] : all[i];
            const bool wanted = vex_topk_wants(&top, all[i].distance);
            const uint32_t held = top.n;
            CHECK_OK(vex_topk_push(&top, all[i]));
            if (!wanted) {
                CHECK(held == k && (k == 0 || top.hits[0].seq == before_worst.seq));
            }
        }
        check_best(&top, all, n);
        vex_topk_clear(&top);
    }
}

TEST(topk_memory_grows_with_hits) {
    const uint64_t before = vex_stat_get(VEX_STAT_HEAP_BYTES);
    vex_topk top;
    CHECK_OK(vex_topk_init(&top, 1u << 31));
    CHECK(vex_stat_get(VEX_STAT_HEAP_BYTES) - before < 4096);
    for (uint32_t i = 0; i < 10000; i++) {
        CHECK_OK(vex_topk_push(&top, (vex_hit){(float)(i * 7919 % 10007), 0, i, i}));
    }
    CHECK(vex_stat_get(VEX_STAT_HEAP_BYTES) - before < 3 * 10000 * sizeof(vex_hit));
    CHECK_EQ(top.n, 10000);
    vex_topk_sort(&top);
    for (uint32_t i = 1; i < top.n; i++) {
        CHECK(top.hits[i - 1].distance < top.hits[i].distance);
    }
    vex_topk_clear(&top);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BYTES), before);
}

TEST(topk_of_none) {
    vex_topk top;
    CHECK_OK(vex_topk_init(&top, 0));
    CHECK(!vex_topk_wants(&top, -1.0f) && !vex_topk_wants(&top, NAN));
    CHECK_OK(vex_topk_push(&top, (vex_hit){0}));
    CHECK_EQ(top.n, 0);
    vex_topk_sort(&top);
    vex_topk_clear(&top);
}

/* ---- scanning ---- */

/* One source of rows as a memtable keeps them: norm and seq beside each vector, at any address. */
typedef struct rows {
    uint8_t *records;
    float *values; /* widened, dim each */
    uint64_t *selected;
    size_t stride;
    uint32_t n, source_rows, first_row;
    vex_element element;
} rows;

typedef enum selection {
    ALL_NULL,
    ALL,
    NONE,
    ONE,
    PERCENT_1,
    PERCENT_30,
    HALF,
    RUNS,
    SELECTIONS
} selection;

static bool draw_selected(selection how, uint32_t i, uint32_t one, bool *in_run) {
    switch (how) {
    case NONE:
        return false;
    case ONE:
        return i == one;
    case PERCENT_1:
        return test_random_below(100) == 0;
    case PERCENT_30:
        return test_random_below(100) < 30;
    case HALF:
        return test_random_below(2) == 0;
    case RUNS:
        *in_run = test_random_below(40) == 0 ? !*in_run : *in_run;
        return *in_run;
    default:
        return true;
    }
}

static rows make_rows(uint32_t n, uint32_t dim, vex_element element, selection how,
                      uint64_t first_seq) {
    rows r = {.n = n, .element = element, .first_row = test_random_below(200)};
    const size_t bytes = dim * vex_element_bytes(element);
    r.stride = bytes + 12 + (4 - bytes % 4) % 4 + 4 * test_random_below(3);
    r.source_rows = r.first_row + n + test_random_below(100);
    r.records = malloc(n * r.stride + 1);
    r.values = malloc(((size_t)n * dim + 1) * sizeof *r.values);
    r.selected = malloc(vex_bit_words(r.source_rows) * sizeof *r.selected + 1);
    for (size_t i = 0; i < vex_bit_words(r.source_rows); i++) {
        r.selected[i] = test_random(); /* so the rows around the run are selected or not */
    }
    bool in_run = false;
    const uint32_t one = n > 0 ? test_random_below(n) : 0;
    for (uint32_t i = 0; i < n; i++) {
        float *x = r.values + (size_t)i * dim;
        uint8_t *record = r.records + i * r.stride;
        for (uint32_t d = 0; d < dim; d++) { /* few values: many ties */
            x[d] = (float)test_random_below(dim < 4 ? 5 : 256);
        }
        if (i > 0 && test_random_below(4) == 0) {
            memcpy(x, r.values + (size_t)test_random_below(i) * dim, dim * sizeof *x);
        }
        uint64_t encoded[1024];
        const float norm2 = vex_norm2(x, dim);
        const uint64_t seq = first_seq + (uint64_t)i * 2654435761u % 4294967291u;
        vex_narrow_encode(element, encoded, x, dim);
        memcpy(record, encoded, bytes);
        memcpy(record + r.stride - 12, &norm2, sizeof norm2);
        memcpy(record + r.stride - 8, &seq, sizeof seq);
        vex_bit_clear(r.selected, r.first_row + i);
        if (draw_selected(how, i, one, &in_run)) {
            vex_bit_set(r.selected, r.first_row + i);
        }
    }
    return r;
}

static void free_rows(rows *r) {
    free(r->records);
    free(r->values);
    free(r->selected);
}

static vex_row_run run_of(const rows *r, uint32_t source, selection how) {
    return (vex_row_run){.rows = r->records,
                         .stride = r->stride,
                         .norm2 = r->records + r->stride - 12,
                         .norm2_stride = r->stride,
                         .seqs = r->records + r->stride - 8,
                         .seq_stride = r->stride,
                         .n = r->n,
                         .first_row = r->first_row,
                         .source = source,
                         .element = r->element,
                         .selected = how == ALL_NULL ? NULL : r->selected};
}

static float distance_of(const vex_kernels *kernels, uint32_t space, const float *x, const float *q,
                         uint32_t dim) {
    float sum;
    (space == VEX_SPACE_L2   ? kernels->l2
     : space == VEX_SPACE_L1 ? kernels->l1
                             : kernels->dot)[VEX_F32](x, dim * sizeof *x, 1, q, dim, &sum);
    return space == VEX_SPACE_L2 || space == VEX_SPACE_L1
               ? sum
               : vex_dot_to_distance(space, sum, vex_norm2(x, dim), vex_norm2(q, dim));
}

/* All selected rows of a source, appended to `all`. */
static size_t add_all(vex_hit *all, size_t n, const rows *r, uint32_t source,
                      const vex_kernels *kernels, uint32_t space, const float *q, uint32_t dim) {
    for (uint32_t i = 0; i < r->n; i++) {
        if (vex_bit_get(r->selected, r->first_row + i)) {
            uint64_t seq;
            memcpy(&seq, r->records + i * r->stride + r->stride - 8, sizeof seq);
            all[n++] = (vex_hit){distance_of(kernels, space, r->values + (size_t)i * dim, q, dim),
                                 source, seq, r->first_row + i};
        }
    }
    return n;
}

#define SOURCES 3

typedef struct search_case {
    const vex_kernels *kernels;
    uint32_t space, dim, m, k, n[SOURCES];
    selection how[SOURCES];
    bool nan_query;
} search_case;

/* Several sources of different element types, searched for m queries; returns how many distances
 * were counted. */
static uint64_t check_search(const search_case *c) {
    rows sources[SOURCES];
    size_t total = 0;
    for (uint32_t s = 0; s < SOURCES; s++) {
        sources[s] = make_rows(c->n[s], c->dim, (vex_element)test_random_below(3), c->how[s],
                               (uint64_t)s << 33);
        total += c->n[s];
    }
    float *queries = malloc(((size_t)c->m * c->dim + 1) * sizeof *queries);
    float *norms = malloc((c->m + 1) * sizeof *norms);
    vex_topk *top = calloc(c->m + 1, sizeof *top);
    vex_hit *all = malloc((total + 1) * sizeof *all);
    for (uint32_t j = 0; j < c->m; j++) {
        float *q = queries + (size_t)j * c->dim;
        for (uint32_t d = 0; d < c->dim; d++) {
            q[d] = (float)test_random_below(c->dim < 4 ? 5 : 256);
        }
        if (c->nan_query && j % 2 == 0) {
            q[test_random_below(c->dim)] = NAN;
        }
        norms[j] = vex_norm2(q, c->dim);
        CHECK_OK(vex_topk_init(&top[j], c->k));
    }
    const uint64_t before = vex_stat_get(VEX_STAT_DISTANCES);
    for (uint32_t s = 0; s < SOURCES; s++) {
        const vex_row_run run = run_of(&sources[s], 10 + s, c->how[s]);
        CHECK_OK(vex_flat_scan(c->kernels, c->space, &run, queries,
                               c->space == VEX_SPACE_COSINE ? norms : NULL, c->m, c->dim, top));
    }
    const uint64_t counted = vex_stat_get(VEX_STAT_DISTANCES) - before;
    for (uint32_t j = 0; j < c->m; j++) {
        size_t n = 0;
        for (uint32_t s = 0; s < SOURCES; s++) {
            n = add_all(all, n, &sources[s], 10 + s, c->kernels, c->space,
                        queries + (size_t)j * c->dim, c->dim);
        }
        check_best(&top[j], all, n);
        vex_topk_clear(&top[j]);
    }
    for (uint32_t s = 0; s < SOURCES; s++) {
        free_rows(&sources[s]);
    }
    free(queries);
    free(norms);
    free(top);
    free(all);
    return counted;
}

static const vex_kernels *any_level(void) {
    const vex_kernels *levels[4];
    const uint32_t n = vex_kernels_available(levels);
    return levels[test_random_below(n)];
}

TEST(flat_equals_sorting) {
    const uint32_t dims[] = {1, 2, 3, 8, 17, 64, 100, 384, 768};
    for (int round = 0; round < 500; round++) {
        search_case c = {.kernels = any_level(),
                         .space = test_random_below(4),
                         .dim = dims[test_random_below(9)],
                         .m = round % 5 == 0 ? test_random_below(70) : 1 + test_random_below(5),
                         .k = round % 7 == 0 ? 2000 : test_random_below(30)};
        for (uint32_t s = 0; s < SOURCES; s++) {
            c.n[s] = test_random_below(c.m > 10 || c.dim > 100 ? 150 : 700);
            c.how[s] = (selection)test_random_below(SELECTIONS);
        }
        check_search(&c);
    }
}

TEST(flat_counts_what_it_computes) {
    for (int m = 1; m <= 3; m++) {
        search_case c = {.kernels = any_level(),
                         .space = VEX_SPACE_L2,
                         .dim = 24,
                         .m = (uint32_t)m,
                         .k = 5,
                         .n = {1000, 0, 0}};
        const uint64_t queries = (uint64_t)m;
        c.how[0] = ALL_NULL;
        CHECK_EQ(check_search(&c), 1000 * queries);
        c.how[0] = ALL;
        CHECK_EQ(check_search(&c), 1000 * queries);
        c.how[0] = NONE;
        CHECK_EQ(check_search(&c), 0);
        c.how[0] = ONE;
        CHECK_EQ(check_search(&c), queries);
        c.how[0] = PERCENT_1;
        CHECK(check_search(&c) < 40 * queries);
    }
}

TEST(flat_nan_query_sorts_last) {
    for (int round = 0; round < 60; round++) {
        const search_case c = {.kernels = any_level(),
                               .space = test_random_below(4),
                               .dim = 1 + test_random_below(40),
                               .m = 1 + test_random_below(4),
                               .k = 1 + test_random_below(50),
                               .n = {200, 1, 30},
                               .how = {HALF, ALL_NULL, PERCENT_30},
                               .nan_query = true};
        check_search(&c);
    }
}

/* Rows as long as can be: a block is a few rows only. */
TEST(flat_long_rows) {
    const search_case c = {.kernels = any_level(),
                           .space = VEX_SPACE_COSINE,
                           .dim = 2000,
                           .m = 3,
                           .k = 4,
                           .n = {50, 9, 4},
                           .how = {HALF, ALL_NULL, RUNS}};
    check_search(&c);
}

TEST(flat_refuses_bad_arguments) {
    float x = 0;
    uint64_t seq = 0;
    vex_topk top;
    CHECK_OK(vex_topk_init(&top, 1));
    vex_row_run run = {.rows = &x, .stride = 4, .seqs = &seq, .seq_stride = 8, .n = 1};
    const vex_kernels *kernels = vex_kernels_get();
    CHECK_STATUS(vex_flat_scan(kernels, 4, &run, &x, NULL, 1, 1, &top), VEX_ERR_INVALID);
    CHECK_STATUS(vex_flat_scan(kernels, VEX_SPACE_COSINE, &run, &x, &x, 1, 1, &top),
                 VEX_ERR_INVALID);
    run.norm2 = &x;
    CHECK_STATUS(vex_flat_scan(kernels, VEX_SPACE_COSINE, &run, &x, NULL, 1, 1, &top),
                 VEX_ERR_INVALID);
    run.element = (vex_element)3;
    CHECK_STATUS(vex_flat_scan(kernels, VEX_SPACE_L2, &run, &x, NULL, 1, 1, &top), VEX_ERR_INVALID);
    CHECK_EQ(top.n, 0);
    vex_topk_clear(&top);
}
