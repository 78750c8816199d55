/*
 * query.c - vex_query: evaluate the selection, search, build the result.
 */
#include "db/db.h"
#include "db/nearest.h"
#include "db/result.h"

#include "base/clock.h"
#include "base/poison.h"

typedef struct query_run {
    const vex_snapshot *snapshot;
    vex_nearest nearest;
    uint64_t began_us; /* the step that is going on                                              */
} query_run;

/* Microseconds since the last call. */
static uint64_t lap(query_run *run) {
    uint64_t us = vex_now_us();
    uint64_t took = us - run->began_us;
    run->began_us = us;
    return took;
}

#define HITS_TOGETHER 16u

/* Records lie anywhere: all are looked for before the first is read, so that they are waited for
 * together. */
static vex_status add_hits(const vex_nearest *nearest, const vex_hit *hits, uint32_t n,
                           vex_result_builder *builder) {
    vex_row_ref payloads[HITS_TOGETHER];
    for (uint32_t i = 0; i < n; i++) {
        VEX_TRY(vex_nearest_payload(nearest, &hits[i], &payloads[i]));
        vex_snapshot_expect_payload(nearest->snapshot, &payloads[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        const vex_row_ref vector = vex_nearest_vector(nearest, &hits[i]);
        VEX_TRY(vex_result_builder_add(builder, &payloads[i], &vector, hits[i].distance));
    }
    return VEX_OK;
}

static vex_status build_hits(const query_run *run, uint32_t include, vex_result **out) {
    const vex_nearest *nearest = &run->nearest;
    vex_result_builder builder = {0};
    uint32_t *counts = vex_calloc(nearest->n ? nearest->n : 1, sizeof *counts);
    size_t rows = 0;
    vex_status status = counts ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a result");
    for (uint32_t q = 0; q < nearest->n && status == VEX_OK; q++) {
        counts[q] = nearest->top[q].n;
        rows += counts[q];
    }
    if (status == VEX_OK) {
        status = vex_result_builder_init(&builder, run->snapshot, include, rows, true);
    }
    for (uint32_t q = 0; q < nearest->n && status == VEX_OK; q++) {
        for (uint32_t i = 0; i < counts[q] && status == VEX_OK; i += HITS_TOGETHER) {
            const uint32_t left = counts[q] - i;
            status = add_hits(nearest, nearest->top[q].hits + i,
                              left < HITS_TOGETHER ? left : HITS_TOGETHER, &builder);
        }
    }
    if (status == VEX_OK) {
        status = vex_result_builder_finish(&builder, counts, nearest->n, out);
    }
    vex_result_builder_clear(&builder);
    vex_free(counts);
    return status;
}

/* Evaluate the selection; the matches stay NULL when everything is selected. */
static vex_status select_rows(query_run *run, const vex_selection *selection,
                              vex_vector_matches *vectors) {
    if (selection == NULL || (selection->ids == NULL && selection->filter == NULL)) {
        return VEX_OK;
    }
    vex_matches matches = {0};
    vex_status status = vex_matches_find(run->snapshot, selection, &matches);
    if (status == VEX_OK && matches.ids_missing > 0 && selection->filter == NULL) {
        status = VEX_FAIL(VEX_ERR_NOT_FOUND, "%llu of the given ids do not exist",
                          (unsigned long long)matches.ids_missing);
    }
    if (status == VEX_OK) {
        status = vex_vector_matches_find(run->snapshot, &matches, vectors);
    }
    vex_matches_clear(&matches);
    run->nearest.matches = vectors;
    return status;
}

static vex_status run_query(query_run *run, const vex_selection *selection, uint32_t include,
                            vex_result **out) {
    const vex_snapshot *snapshot = run->snapshot;
    vex_vector_matches vectors = {0};
    VEX_TRY(vex_nearest_check(snapshot, run->nearest.dimension));
    vex_status status = VEX_OK;
    /* A collection that never had a vector finds nothing, whichever ids are asked for. */
    if (selection != NULL && (snapshot->dimension != 0 || selection->filter != NULL)) {
        status = select_rows(run, selection, &vectors);
    }
    if (status == VEX_OK) {
        run->nearest.plan.select_us = lap(run);
        status = vex_nearest_find(&run->nearest);
    }
    if (status == VEX_OK) {
        run->nearest.plan.search_us = lap(run);
        status = build_hits(run, include, out);
        run->nearest.plan.fetch_us = lap(run);
    }
    vex_vector_matches_clear(&vectors);
    vex_nearest_clear(&run->nearest);
    return status;
}

vex_status vex_query(vex_collection *collection, const vex_selection *selection,
                     const float *queries, uint32_t n, uint32_t dimension, uint32_t k,
                     const vex_query_options *options, uint32_t include, vex_result **out) {
    if (queries == NULL || dimension == 0 || dimension > VEX_DIMENSION_MAX || k == 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "a query needs vectors of 1 to %u dimensions and k >= 1",
                        VEX_DIMENSION_MAX);
    }
    vex_snapshot *snapshot = NULL;
    VEX_TRY(vex_read_begin(collection, &snapshot));
    query_run run = {
        .snapshot = snapshot,
        .nearest = {.queries = queries, .n = n, .dimension = dimension, .k = k},
    };
    if (options != NULL) {
        run.nearest.options = *options;
    }
    vex_nearest_begin(&run.nearest, collection, snapshot);
    (void)lap(&run);
    vex_status status = run_query(&run, selection, include, out);
    if (status == VEX_OK && run.nearest.options.plan != NULL) {
        *run.nearest.options.plan = run.nearest.plan;
    }
    vex_nearest_end(&run.nearest);
    return vex_read_end(collection, snapshot, status);
}
