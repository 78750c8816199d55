/*
 * code_rows_kit.h - rows for the tests of exact search by code rows.
 */
#ifndef VEX_TESTS_CODE_ROWS_KIT_H
#define VEX_TESTS_CODE_ROWS_KIT_H

#include "index/code_rows.h"
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>

/* ---- data that is hard on intervals ---- */

typedef enum shape {
    UNIFORM,
    CLUSTERED,
    DUPLICATES,
    LINE,
    OUTLIERS,
    CONSTANT,
    INTEGERS,
    TINY,
    HUGE_VALUES,
    MIXED,
    SHAPES
} shape;

static inline float value_of(shape s, uint32_t number, uint32_t d) {
    const float x = test_random_float();
    switch (s) {
    case CLUSTERED:
        return (float)(number % 7) + 1e-4f * x;
    case LINE:
        return (float)number + 0 * (float)d;
    case OUTLIERS:
        return d == 0 ? 1e4f * x : x;
    case CONSTANT:
        return (float)(number % 3);
    case INTEGERS:
        return (float)test_random_below(256);
    case TINY:
        return 1e-22f * x;
    case HUGE_VALUES:
        return 1e18f * x;
    case MIXED:
        return x * powf(10, (float)(number % 37) - 18);
    default:
        return x;
    }
}

typedef struct world {
    uint32_t n, dim, space, stride;
    float *vectors, *norms;
    uint64_t *seqs;
    uint8_t *codes;
} world;

static inline world make_world(shape s, uint32_t space, uint32_t n, uint32_t dim) {
    world w = {.n = n, .dim = dim, .space = space};
    vex_codes codes;
    CHECK_OK(vex_codes_init(&codes, VEX_CODE_LVQ8, space, dim));
    w.stride = codes.stride;
    w.vectors = malloc((size_t)n * dim * sizeof *w.vectors);
    w.norms = malloc(n * sizeof *w.norms);
    w.seqs = malloc(n * sizeof *w.seqs);
    w.codes = malloc((size_t)n * codes.stride);
    for (uint32_t i = 0; i < n; i++) {
        float *x = w.vectors + (size_t)i * dim;
        for (uint32_t d = 0; d < dim; d++) {
            x[d] = value_of(s, i, d);
        }
        if (s == DUPLICATES && i >= 20) {
            memcpy(x, w.vectors + (size_t)test_random_below(20) * dim, dim * sizeof *x);
        }
        if (s == MIXED && i % 11 == 0) {
            memset(x, 0, dim * sizeof *x);
        }
        w.norms[i] = vex_norm2(x, dim);
        w.seqs[i] = i;
        vex_codes_encode(&codes, x, w.norms[i], w.codes + (size_t)i * codes.stride);
    }
    return w;
}

static inline void free_world(world *w) {
    free(w->vectors);
    free(w->norms);
    free(w->seqs);
    free(w->codes);
}

static inline vex_row_run run_of(const world *w, uint32_t first, uint32_t n, const uint64_t *selected) {
    return (vex_row_run){.rows = w->vectors + (size_t)first * w->dim,
                         .stride = w->dim * sizeof *w->vectors,
                         .norm2 = w->norms + first,
                         .norm2_stride = sizeof *w->norms,
                         .seqs = w->seqs + first,
                         .seq_stride = sizeof *w->seqs,
                         .n = n,
                         .first_row = first,
                         .element = VEX_F32,
                         .selected = selected};
}

static inline void same_hits(vex_topk *a, vex_topk *b) {
    vex_topk_sort(a);
    vex_topk_sort(b);
    CHECK_EQ(a->n, b->n);
    for (uint32_t i = 0; i < a->n; i++) {
        CHECK_EQ(a->hits[i].seq, b->hits[i].seq);
        CHECK(memcmp(&a->hits[i].distance, &b->hits[i].distance, sizeof(float)) == 0);
    }
}

#endif
