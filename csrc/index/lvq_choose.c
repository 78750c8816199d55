/*
 * lvq_choose.c - which kind of code rows serves a set of vectors, by trying them on a sample.
 *
 * The sample's first rows are its queries too; a query's own row does not count.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "index/lvq.h"

#include <math.h>

#include "base/poison.h"

#define NEAREST 10u
#define NEED_MAX (3 * NEAREST)
#define NEED_CLEAR (3 * NEAREST / 2) /* when no query needs more, half of them will do */
#define ROW_GROUP 64u
#define CODED_GROUP 1024u /* rows that a query, made anew for them, meets */

typedef struct sample {
    uint32_t space, dim, n, m; /* m of the n rows are queries now, */
    uint32_t most, known;      /* of as many at most; and exact distances of some are known */
    float *vectors, *norms;
    float *exact, *coded; /* most * n distances */
    float *scratch;       /* n */
} sample;

/* The k-th smallest of n >= k values, for 1 <= k <= NEAREST.  NaN counts as large. */
static float kth_smallest(const float *values, uint32_t n, uint32_t k) {
    float least[NEAREST];
    uint32_t held = 0;
    for (uint32_t i = 0; i < n; i++) {
        const float value = isnan(values[i]) ? INFINITY : values[i];
        if (held == k && !(value < least[k - 1])) {
            continue;
        }
        uint32_t at = held < k ? held++ : k - 1;
        for (; at > 0 && least[at - 1] > value; at--) {
            least[at] = least[at - 1];
        }
        least[at] = value;
    }
    return least[k - 1];
}

/* Draw without repeats: one row of each of n equal parts of the whole. */
static void draw(sample *s, uint32_t of, vex_vector_source source, void *context, uint64_t seed) {
    for (uint32_t i = 0; i < s->n; i++) {
        const uint64_t from = (uint64_t)of * i / s->n, to = (uint64_t)of * (i + 1) / s->n;
        /* Queries are the first rows, so parts are taken in an order that spreads them. */
        const uint64_t pick = from + vex_mix64(seed + i) % (to - from);
        const uint32_t place = (uint32_t)((uint64_t)i * 7919 % s->n);
        float *x = s->vectors + (size_t)(s->n % 7919 != 0 ? place : i) * s->dim;
        source(context, (uint32_t)pick, x);
    }
    for (uint32_t i = 0; i < s->n; i++) {
        s->norms[i] = vex_norm2(s->vectors + (size_t)i * s->dim, s->dim);
    }
}

static void exact_distances(sample *s) {
    const vex_kernels *kernels = vex_kernels_get();
    const bool l2 = s->space == VEX_SPACE_L2;
    const vex_tile_kernel kernel = (l2 ? kernels->l2_tile : kernels->dot_tile)[VEX_F32];
    const size_t stride = s->dim * sizeof(float);
    for (uint32_t i = 0; i < s->n; i += ROW_GROUP) {
        const uint32_t n = s->n - i < ROW_GROUP ? s->n - i : ROW_GROUP;
        kernel(s->vectors + (size_t)i * s->dim, stride, n, s->vectors, s->dim, s->m, s->dim,
               s->exact + i, s->n);
    }
    for (uint32_t j = 0; j < s->m && !l2; j++) {
        float *d = s->exact + (size_t)j * s->n;
        for (uint32_t i = 0; i < s->n; i++) {
            d[i] = vex_dot_to_distance(s->space, d[i], s->norms[i], s->norms[j]);
        }
    }
    s->known = s->m;
}

static vex_status coded_distances(sample *s, const vex_codes *codes) {
    vex_code_query query = {0};
    const uint8_t *rows[CODED_GROUP];
    uint8_t *group = vex_malloc((size_t)CODED_GROUP * codes->stride);
    vex_status status = group != NULL ? vex_code_query_create(&query, codes)
                                      : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to sample vectors");
    for (uint32_t i = 0; i < s->n && status == VEX_OK; i += CODED_GROUP) {
        const uint32_t n = s->n - i < CODED_GROUP ? s->n - i : CODED_GROUP;
        for (uint32_t k = 0; k < n; k++) {
            rows[k] = group + (size_t)k * codes->stride;
            vex_codes_encode(codes, s->vectors + (size_t)(i + k) * s->dim, s->norms[i + k],
                             group + (size_t)k * codes->stride);
        }
        for (uint32_t j = 0; j < s->m; j++) {
            vex_code_query_vector(&query, s->vectors + (size_t)j * s->dim);
            vex_code_distances(&query, rows, n, s->coded + (size_t)j * s->n + i);
        }
    }
    vex_code_query_destroy(&query);
    vex_free(group);
    return status;
}

/* How many rows the pool of query j must hold for k of its exact nearest (ties count) to be in. */
static uint32_t pool_needed(sample *s, uint32_t j, uint32_t k, double *error) {
    const float *exact = s->exact + (size_t)j * s->n, *coded = s->coded + (size_t)j * s->n;
    uint32_t n = 0, near = 0, need = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (i != j) {
            s->scratch[n++] = exact[i];
            const double off = fabs((double)exact[i] - (double)coded[i]);
            *error = off > *error ? off : *error;
        }
    }
    const float kth = kth_smallest(s->scratch, n, k);
    for (uint32_t i = 0; i < s->n; i++) {
        if (i != j && exact[i] <= kth) {
            s->scratch[near++] = coded[i];
        }
    }
    /* Exact distances that are NaN leave too few: the pool must be everything then. */
    const float limit = near >= k ? kth_smallest(s->scratch, near, k) : INFINITY;
    for (uint32_t i = 0; i < s->n; i++) {
        need += i != j && !(exact[i] <= kth) && coded[i] <= limit;
    }
    return need + k;
}

static void measure(sample *s, vex_codes_health *out) {
    uint32_t needs[VEX_CODES_SAMPLE_QUERIES];
    const uint32_t k = s->n > NEAREST ? NEAREST : s->n - 1;
    *out = (vex_codes_health){.k = k, .queries = s->m, .rows = s->n};
    if (k == 0) {
        return;
    }
    for (uint32_t j = 0; j < s->m; j++) {
        needs[j] = pool_needed(s, j, k, &out->error_max);
    }
    for (uint32_t j = 1; j < s->m; j++) { /* insertion sort */
        const uint32_t need = needs[j];
        uint32_t at = j;
        for (; at > 0 && needs[at - 1] > need; at--) {
            needs[at] = needs[at - 1];
        }
        needs[at] = need;
    }
    out->need_max = needs[s->m - 1];
    out->need_p99 = needs[(s->m - 1) * 99 / 100];
}

static bool fits_f16(const sample *s) {
    float largest = 0;
    for (size_t i = 0; i < (size_t)s->n * s->dim; i++) {
        const float value = fabsf(s->vectors[i]);
        largest = value > largest ? value : largest;
    }
    /* Other rows may be larger than the sample's: leave room. */
    return largest <= VEX_CODES_F16_MAX / 16;
}

static vex_status try_kind(sample *s, vex_code_kind kind, vex_codes_health *out, bool *good) {
    vex_codes codes;
    VEX_TRY(vex_codes_init(&codes, kind, s->space, s->dim));
    s->m = (s->most + 1) / 2;
    for (bool clear = false; !clear; s->m = s->most) {
        if (s->known < s->m) {
            exact_distances(s);
        }
        VEX_TRY(coded_distances(s, &codes));
        measure(s, out);
        clear = s->m == s->most || out->need_max <= NEED_CLEAR;
    }
    *good = out->need_p99 <= NEED_MAX;
    return VEX_OK;
}

static vex_status choose(sample *s, vex_code_kind least, vex_codes_choice *out) {
    bool good = false;
    if (least <= VEX_CODE_LVQ8) {
        VEX_TRY(try_kind(s, VEX_CODE_LVQ8, &out->lvq8, &good));
        out->kind = VEX_CODE_LVQ8;
    }
    if (!good && fits_f16(s)) {
        VEX_TRY(try_kind(s, VEX_CODE_F16, &out->f16, &good));
        out->kind = VEX_CODE_F16;
    }
    if (!good) {
        out->kind = VEX_CODE_F32;
    }
    return VEX_OK;
}

vex_status vex_codes_choose(uint32_t space, uint32_t dim, vex_code_kind least, uint32_t n,
                            vex_vector_source source, void *context, uint64_t seed,
                            vex_codes_choice *out) {
    vex_codes codes;
    vex_codes_choice result = {.kind = least};
    VEX_TRY(vex_codes_init(&codes, VEX_CODE_LVQ8, space, dim));
    sample s = {.space = space, .dim = dim};
    s.n = n < VEX_CODES_SAMPLE_ROWS ? n : VEX_CODES_SAMPLE_ROWS;
    s.most = s.n < VEX_CODES_SAMPLE_QUERIES ? s.n : VEX_CODES_SAMPLE_QUERIES;
    if (n > 0 && least < VEX_CODE_F32) {
        vex_bulk memory;
        const size_t distances = (size_t)s.most * s.n, vectors = (size_t)s.n * dim;
        VEX_TRY(
            vex_bulk_create(&memory, (vectors + 2 * distances + 2 * (size_t)s.n) * sizeof(float)));
        s.vectors = memory.data;
        s.exact = s.vectors + vectors;
        s.coded = s.exact + distances;
        s.norms = s.coded + distances;
        s.scratch = s.norms + s.n;
        draw(&s, n, source, context, seed);
        const vex_status status = choose(&s, least, &result);
        vex_bulk_destroy(&memory);
        VEX_TRY(status);
    }
    *out = result;
    return VEX_OK;
}
