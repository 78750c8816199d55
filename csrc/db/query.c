/*
 * query.c - vex_query: evaluate the selection, search, build the result.
 */
#include "db/db.h"
#include "db/result.h"
#include "db/search.h"

#include "base/poison.h"

typedef struct query_run {
    const vex_snapshot *snapshot;
    const float *queries;
    uint32_t n, dimension, k;
    float *norm2;                      /* |q|^2 per query                                         */
    vex_topk *top;                     /* one per query                                           */
    const vex_vector_matches *matches; /* NULL: every live row                                    */
    const vex_index_view *view;        /* NULL: no graph                                          */
    vex_query_options options;
    vex_query_plan plan;
    uint64_t began_us; /* the step that is going on                               */
    bool fetch;        /* see vex_search                                          */
} query_run;

/* Microseconds since the last call; the clock is the one that pauses with the process's machine. */
static uint64_t lap(query_run *run) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
    uint64_t took = us - run->began_us;
    run->began_us = us;
    return took;
}

static vex_status build_hits(query_run *run, uint32_t include, vex_result **out) {
    const vex_snapshot *snapshot = run->snapshot;
    vex_result_builder builder = {0};
    uint32_t *counts = vex_calloc(run->n ? run->n : 1, sizeof *counts);
    size_t rows = 0;
    vex_status status = counts ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a result");
    for (uint32_t q = 0; q < run->n && status == VEX_OK; q++) {
        vex_topk_sort(&run->top[q]);
        counts[q] = run->top[q].n;
        rows += counts[q];
    }
    if (status == VEX_OK) {
        status = vex_result_builder_init(&builder, snapshot, include, rows, true);
    }
    for (uint32_t q = 0; q < run->n && status == VEX_OK; q++) {
        for (uint32_t i = 0; i < counts[q] && status == VEX_OK; i++) {
            const vex_hit *hit = &run->top[q].hits[i];
            bool in_memory = hit->source >= snapshot->n_vecs;
            vex_row_ref payload,
                vector = {.found = true,
                          .in_memory = in_memory,
                          .source = hit->source - (in_memory ? snapshot->n_vecs : 0),
                          .row = hit->row,
                          .seq = hit->seq};
            vex_snapshot_find_payload(snapshot, hit->seq, &payload);
            status = payload.found
                         ? vex_result_builder_add(&builder, &payload, &vector, hit->distance)
                         : VEX_FAIL(VEX_ERR_CORRUPT, "vector %llu belongs to no record",
                                    (unsigned long long)hit->seq);
        }
    }
    if (status == VEX_OK) {
        status = vex_result_builder_finish(&builder, counts, run->n, out);
    }
    vex_result_builder_clear(&builder);
    vex_free(counts);
    return status;
}

static vex_status set_up(query_run *run) {
    run->top = vex_calloc(run->n ? run->n : 1, sizeof *run->top);
    run->norm2 = vex_calloc(run->n ? run->n : 1, sizeof *run->norm2);
    if (run->top == NULL || run->norm2 == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u queries", (unsigned)run->n);
    }
    for (uint32_t q = 0; q < run->n; q++) {
        VEX_TRY(vex_topk_init(&run->top[q], run->k));
        run->norm2[q] = vex_norm2(run->queries + (size_t)q * run->dimension, run->dimension);
    }
    return VEX_OK;
}

static void tear_down(query_run *run) {
    for (uint32_t q = 0; run->top != NULL && q < run->n; q++) {
        vex_topk_clear(&run->top[q]);
    }
    vex_free(run->top);
    vex_free(run->norm2);
}

/* Evaluate the selection; run->matches stays NULL when everything is selected. */
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
    run->matches = vectors;
    return status;
}

static vex_status find_nearest(query_run *run) {
    const vex_scan scan = {.snapshot = run->snapshot,
                           .kernels = vex_kernels_get(),
                           .queries = run->queries,
                           .n = run->n,
                           .dimension = run->dimension,
                           .norm2 = run->norm2,
                           .matches = run->matches,
                           .top = run->top};
    vex_search search = {.scan = scan,
                         .view = run->view,
                         .k = run->k,
                         .ef = run->options.ef,
                         .flags = run->options.flags,
                         .threads = run->options.threads,
                         .fetch = run->fetch,
                         .plan = &run->plan};
    run->plan.rows = run->matches != NULL ? run->matches->count : run->snapshot->live_rows;
    if (run->plan.rows == 0) {
        return VEX_OK;
    }
    return vex_search_run(&search);
}

static vex_status run_query(query_run *run, const vex_selection *selection, uint32_t include,
                            vex_result **out) {
    const vex_snapshot *snapshot = run->snapshot;
    vex_vector_matches vectors = {0};
    if (snapshot->dimension != 0 && snapshot->dimension != run->dimension) {
        return VEX_FAIL(VEX_ERR_DIMENSION,
                        "Collection expecting embedding with dimension of %u, got %u",
                        (unsigned)snapshot->dimension, (unsigned)run->dimension);
    }
    vex_status status = set_up(run);
    /* A collection that never had a vector finds nothing, whichever ids are asked for. */
    bool selects = selection != NULL && (snapshot->dimension != 0 || selection->filter != NULL);
    if (status == VEX_OK && selects) {
        status = select_rows(run, selection, &vectors);
    }
    if (status == VEX_OK && snapshot->dimension != 0) {
        run->plan.select_us = lap(run);
        status = find_nearest(run);
    }
    if (status == VEX_OK) {
        run->plan.search_us = lap(run);
        status = build_hits(run, include, out);
        run->plan.fetch_us = lap(run);
    }
    vex_vector_matches_clear(&vectors);
    tear_down(run);
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
    query_run run = {.snapshot = snapshot,
                     .queries = queries,
                     .n = n,
                     .dimension = dimension,
                     .k = k,
                     .fetch = collection->db->options.memory_limit > 0};
    if (options != NULL) {
        run.options = *options;
    }
    run.options.ef = run.options.ef ? run.options.ef : atomic_load(&collection->index.ef);
    if (n < 2) {
        run.options.threads = 1; /* one query is one thread's */
    } else if (run.options.threads == 0) {
        run.options.threads = vex_query_threads();
    }
    vex_index_load_for_query(collection, snapshot);
    run.view = vex_collection_index_view(collection);
    vex_index_note_query(collection, run.view, snapshot);
    (void)lap(&run);
    vex_status status = run_query(&run, selection, include, out);
    if (status == VEX_OK && run.options.plan != NULL) {
        *run.options.plan = run.plan;
    }
    vex_index_view_release((vex_index_view *)run.view);
    return vex_read_end(collection, snapshot, status);
}
