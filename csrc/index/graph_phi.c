/*
 * graph_phi.c - which form of the inner product a graph is to be linked by (graph.h), by building
 * both over a sample.
 */
#include "base/mem.h"
#include "index/graph.h"

#include <math.h>

#include "base/poison.h"

#define SAMPLE_ROWS 3000u
#define SAMPLE_QUERIES 100u
#define NEAREST 10u
#define EF 50u
#define MARGIN 2u /* per cent more that the plain form must find: on more rows it loses more */

typedef struct trial {
    vex_graph_params params;
    uint8_t *rows;
    uint32_t n;
    float *vectors, *limits; /* of the queries: what they are, distance of their NEAREST-th */
    const uint8_t **all;     /* addresses of the n rows */
    float *distances;        /* n */
    vex_bulk memory;
} trial;

static void find_limit(trial *t, const vex_code_query *query, float *limit) {
    float best[NEAREST];
    uint32_t held = 0;
    vex_code_distances(query, t->all, t->n, t->distances);
    for (uint32_t i = 0; i < t->n; i++) {
        const float d = t->distances[i];
        if (held == NEAREST && d >= best[NEAREST - 1]) {
            continue;
        }
        uint32_t at = held < NEAREST ? held++ : NEAREST - 1;
        for (; at > 0 && best[at - 1] > d; at--) {
            best[at] = best[at - 1];
        }
        best[at] = d;
    }
    *limit = best[held - 1];
}

static vex_status prepare(trial *t, const uint8_t *rows, uint32_t n) {
    const vex_codes *codes = &t->params.codes;
    const size_t row_bytes = (size_t)t->n * codes->stride;
    const size_t vectors = (size_t)SAMPLE_QUERIES * codes->dim;
    VEX_TRY(vex_bulk_create(&t->memory, row_bytes + t->n * sizeof *t->all +
                                            (vectors + SAMPLE_QUERIES + t->n) * sizeof(float)));
    t->rows = t->memory.data;
    t->all = (void *)(t->rows + row_bytes);
    t->vectors = (void *)(t->all + t->n);
    t->limits = t->vectors + vectors;
    t->distances = t->limits + SAMPLE_QUERIES;
    for (uint32_t i = 0; i < t->n; i++) {
        const uint64_t from = (uint64_t)n * i / t->n;
        t->all[i] = t->rows + (size_t)i * codes->stride;
        memcpy(t->rows + (size_t)i * codes->stride, rows + from * codes->stride, codes->stride);
    }
    vex_code_query query;
    VEX_TRY(vex_code_query_create(&query, codes));
    for (uint32_t j = 0; j < SAMPLE_QUERIES; j++) {
        float *x = t->vectors + (size_t)j * codes->dim;
        vex_codes_decode(codes, t->all[(uint64_t)t->n * j / SAMPLE_QUERIES], x);
        vex_code_query_vector(&query, x);
        find_limit(t, &query, &t->limits[j]);
    }
    vex_code_query_destroy(&query);
    return VEX_OK;
}

static vex_status count_found(trial *t, vex_graph *graph, uint32_t *found) {
    vex_graph_scratch *scratch;
    vex_status status = vex_graph_scratch_acquire(graph, &scratch);
    uint32_t n = 0;
    for (uint32_t j = 0; status == VEX_OK && j < SAMPLE_QUERIES; j++) {
        vex_graph_found result = {0};
        const vex_graph_search_args args = {.query = t->vectors + (size_t)j * t->params.codes.dim,
                                            .ef = EF};
        status = vex_graph_search(graph, scratch, &args, &result);
        for (uint32_t i = 0; i < result.n && i < NEAREST; i++) {
            n += result.hits[i].distance <= t->limits[j];
        }
    }
    if (status == VEX_OK) {
        vex_graph_scratch_release(graph, scratch);
        *found = n;
    }
    return status;
}

/* How many of the nearest a graph linked by `phi` finds. */
static vex_status try_form(trial *t, float phi, uint32_t *found) {
    vex_graph *graph = NULL;
    vex_graph_repair_stats repair;
    uint32_t first = 0;
    t->params.phi = phi;
    vex_status status = vex_graph_create(&t->params, &graph);
    if (status == VEX_OK) {
        status = vex_graph_add_source(graph, 0, t->rows, t->n, &first);
    }
    if (status == VEX_OK) {
        status = vex_graph_insert(graph, first, t->n, 1);
    }
    if (status == VEX_OK) {
        status = vex_graph_repair(graph, &repair);
    }
    if (status == VEX_OK) {
        status = count_found(t, graph, found);
    }
    vex_graph_destroy(graph);
    return status;
}

vex_status vex_graph_choose_phi(const vex_graph_params *params, const void *rows, uint32_t n,
                                float *phi) {
    float low = INFINITY, high = 0;
    for (uint32_t i = 0; i < n; i++) {
        const vex_codes *codes = &params->codes;
        const uint8_t *row = (const uint8_t *)rows + (size_t)i * codes->stride;
        const float norm2 = vex_codes_tail(codes, row).norm2;
        low = norm2 < low ? norm2 : low;
        high = norm2 > high ? norm2 : high;
    }
    const float candidate = 1.1f * sqrtf(high);
    float chosen = 0;
    if (params->codes.space == VEX_SPACE_IP && n > 0 && vex_codes_uneven(low, high) &&
        candidate < 1e18f) {
        trial t = {.params = *params, .n = n < SAMPLE_ROWS ? n : SAMPLE_ROWS};
        uint32_t plain = 0, sphere = 0;
        vex_status status = prepare(&t, rows, n);
        if (status == VEX_OK) {
            status = try_form(&t, candidate, &sphere);
        }
        if (status == VEX_OK) {
            status = try_form(&t, 0, &plain);
        }
        vex_bulk_destroy(&t.memory);
        VEX_TRY(status);
        chosen = plain > sphere + MARGIN * SAMPLE_QUERIES * NEAREST / 100 ? 0 : candidate;
    }
    *phi = chosen;
    return VEX_OK;
}
