/*
 * nearest.c - see nearest.h.
 */
#include "db/nearest.h"

#include "base/poison.h"

void vex_nearest_begin(vex_nearest *nearest, vex_collection *collection, vex_snapshot *snapshot) {
    vex_query_options *options = &nearest->options;
    options->ef = options->ef ? options->ef : atomic_load(&collection->index.ef);
    if (nearest->n < 2) {
        options->threads = 1; /* one query is one thread's */
    } else if (options->threads == 0) {
        options->threads = vex_query_threads();
    }
    nearest->snapshot = snapshot;
    nearest->fetch = collection->db->options.memory_limit > 0;
    vex_index_load_for_query(collection, snapshot);
    nearest->view = vex_index_view_for(collection, snapshot);
    vex_index_note_query(collection, nearest->view, snapshot);
}

void vex_nearest_end(vex_nearest *nearest) {
    vex_index_view_release((vex_index_view *)nearest->view);
    nearest->view = NULL;
}

vex_status vex_nearest_check(const vex_snapshot *snapshot, uint32_t dimension) {
    if (snapshot->dimension != 0 && snapshot->dimension != dimension) {
        return VEX_FAIL(VEX_ERR_DIMENSION,
                        "Collection expecting embedding with dimension of %u, got %u",
                        (unsigned)snapshot->dimension, (unsigned)dimension);
    }
    return VEX_OK;
}

static vex_status make_room(vex_nearest *nearest) {
    const uint32_t n = nearest->n;
    nearest->top = vex_calloc(n ? n : 1, sizeof *nearest->top);
    nearest->norm2 = vex_calloc(n ? n : 1, sizeof *nearest->norm2);
    if (nearest->top == NULL || nearest->norm2 == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u queries", (unsigned)n);
    }
    for (uint32_t q = 0; q < n; q++) {
        const float *query = nearest->queries + (size_t)q * nearest->dimension;
        VEX_TRY(vex_topk_init(&nearest->top[q], nearest->k));
        nearest->norm2[q] = vex_norm2(query, nearest->dimension);
    }
    return VEX_OK;
}

static vex_status search(vex_nearest *nearest) {
    const vex_snapshot *snapshot = nearest->snapshot;
    const vex_scan scan = {.snapshot = snapshot,
                           .kernels = vex_kernels_get(),
                           .queries = nearest->queries,
                           .n = nearest->n,
                           .dimension = nearest->dimension,
                           .norm2 = nearest->norm2,
                           .matches = nearest->matches,
                           .top = nearest->top};
    vex_search search = {.scan = scan,
                         .view = nearest->view,
                         .k = nearest->k,
                         .ef = nearest->options.ef,
                         .flags = nearest->options.flags,
                         .threads = nearest->options.threads,
                         .fetch = nearest->fetch,
                         .plan = &nearest->plan};
    nearest->plan.rows = nearest->matches ? nearest->matches->count : snapshot->live_rows;
    return nearest->plan.rows > 0 ? vex_search_run(&search) : VEX_OK;
}

vex_status vex_nearest_find(vex_nearest *nearest) {
    VEX_TRY(vex_nearest_check(nearest->snapshot, nearest->dimension));
    VEX_TRY(make_room(nearest));
    if (nearest->snapshot->dimension != 0) {
        VEX_TRY(search(nearest));
    }
    for (uint32_t q = 0; q < nearest->n; q++) {
        vex_topk_sort(&nearest->top[q]);
    }
    return VEX_OK;
}

void vex_nearest_clear(vex_nearest *nearest) {
    for (uint32_t q = 0; nearest->top != NULL && q < nearest->n; q++) {
        vex_topk_clear(&nearest->top[q]);
    }
    vex_free(nearest->top);
    vex_free(nearest->norm2);
    nearest->top = NULL;
    nearest->norm2 = NULL;
}

vex_row_ref vex_nearest_vector(const vex_nearest *nearest, const vex_hit *hit) {
    const uint32_t n_vecs = nearest->snapshot->n_vecs;
    const bool in_memory = hit->source >= n_vecs;
    return (vex_row_ref){.found = true,
                         .in_memory = in_memory,
                         .source = hit->source - (in_memory ? n_vecs : 0),
                         .row = hit->row,
                         .seq = hit->seq};
}

vex_status vex_nearest_payload(const vex_nearest *nearest, const vex_hit *hit, vex_row_ref *out) {
    vex_snapshot_find_payload(nearest->snapshot, hit->seq, out);
    return out->found ? VEX_OK
                      : VEX_FAIL(VEX_ERR_CORRUPT, "vector %llu belongs to no record",
                                 (unsigned long long)hit->seq);
}
