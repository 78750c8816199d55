/*
 * read.c - vex_count, vex_get and vex_query: one snapshot, one pass, one result.
 */
#include "base/bits.h"
#include "db/db.h"
#include "db/result.h"
#include "db/select.h"
#include "filter/match.h"
#include "index/flat.h"

#include "base/poison.h"

/* The state to read from, after looking what other processes did.  NULL on failure. */
static vex_status begin_read(vex_collection *collection, vex_snapshot **snapshot) {
    VEX_TRY(vex_db_enter(collection->db));
    vex_status status = vex_collection_refresh(collection);
    if (status != VEX_OK) {
        vex_db_leave(collection->db);
        return status;
    }
    *snapshot = vex_collection_snapshot(collection);
    return VEX_OK;
}

static void end_read(vex_collection *collection, vex_snapshot *snapshot) {
    vex_snapshot_release(snapshot);
    vex_db_leave(collection->db);
}

vex_status vex_count(vex_collection *collection, const vex_selection *selection, uint64_t *out) {
    vex_snapshot *snapshot = NULL;
    VEX_TRY(begin_read(collection, &snapshot));
    vex_status status = vex_select_count(snapshot, selection, out);
    end_read(collection, snapshot);
    return status;
}

/* ---- get ---- */

static vex_status build_get(const vex_snapshot *snapshot, const vex_refs *refs, uint32_t include,
                            vex_result **out) {
    vex_result_builder builder;
    vex_status status = vex_result_builder_init(&builder, snapshot, include, refs->n, false);
    for (size_t i = 0; i < refs->n && status == VEX_OK; i++) {
        status = vex_result_builder_add(&builder, &refs->rows[i], NULL, 0);
    }
    if (status == VEX_OK) {
        status = vex_result_builder_finish(&builder, &builder.n_rows, 1, out);
    }
    vex_result_builder_clear(&builder);
    return status;
}

vex_status vex_get(vex_collection *collection, const vex_selection *selection, uint64_t offset,
                   int64_t limit, uint32_t include, vex_result **out) {
    vex_snapshot *snapshot = NULL;
    vex_refs refs = {0};
    VEX_TRY(begin_read(collection, &snapshot));
    vex_status status = vex_select(snapshot, selection, offset, limit, &refs);
    if (status == VEX_OK) {
        status = build_get(snapshot, &refs, include, out);
    }
    vex_refs_clear(&refs);
    end_read(collection, snapshot);
    return status;
}

/* ---- query ---- */

typedef struct flat_query {
    const vex_snapshot *snapshot;
    const vex_kernels *kernels;
    const float *queries;
    uint32_t n, dimension, k;
    float *norm2;  /* |q|^2 per query                                              */
    vex_topk *top; /* one per query                                                */
    const vex_vector_matches *matches; /* NULL: every live row                                    */
} flat_query;

/* Live rows of a vector file as a bitmap; NULL when all are live. */
static vex_status live_words(const vex_vec_source *source, uint64_t **out) {
    *out = NULL;
    if (source->tombs == NULL || source->tombs->dead == 0) {
        return VEX_OK;
    }
    *out = vex_calloc(vex_bit_words(source->file->rows), sizeof **out);
    if (*out == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
    }
    vex_tombs_live_words(source->tombs, *out);
    return VEX_OK;
}

static vex_status scan_file(flat_query *search, uint32_t number) {
    const vex_vec_source *source = &search->snapshot->vecs[number];
    const vex_vecfile *file = source->file;
    uint64_t *live = NULL;
    const uint64_t *selected = NULL;
    VEX_TRY(vex_vecfile_check_vectors(source->file));
    if (search->matches != NULL) {
        selected = search->matches->vecs[number];
        if (selected == NULL) {
            return VEX_OK;
        }
    } else {
        VEX_TRY(live_words(source, &live));
        selected = live;
    }
    const vex_row_run run = {.rows = file->vectors,
                             .stride = file->stride,
                             .norm2 = file->norms,
                             .norm2_stride = sizeof *file->norms,
                             .seqs = file->seqs,
                             .seq_stride = sizeof *file->seqs,
                             .n = file->rows,
                             .source = number,
                             .element = (vex_element)file->element,
                             .selected = selected};
    vex_status status =
        vex_flat_scan(search->kernels, search->snapshot->space, &run, search->queries,
                      search->norm2, search->n, search->dimension, search->top);
    vex_free(live);
    return status;
}

static vex_status live_memory_words(const flat_query *search, const vex_mem_source *source,
                                    uint64_t **out) {
    *out = vex_calloc(vex_bit_words(source->n_vectors) + 1, sizeof **out);
    if (*out == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
    }
    for (uint32_t row = 0; row < source->n_vectors; row++) {
        if (vex_mem_vector_live(vex_memtable_vector(source->table, row), search->snapshot->lsn)) {
            vex_bit_set(*out, row);
        }
    }
    return VEX_OK;
}

static vex_status scan_memtable(flat_query *search, uint32_t number) {
    const vex_mem_source *source = &search->snapshot->mems[number];
    uint64_t *live = NULL;
    const uint64_t *selected = NULL;
    if (source->n_vectors == 0) {
        return VEX_OK;
    }
    if (search->matches != NULL) {
        selected = search->matches->mems[number];
        if (selected == NULL) {
            return VEX_OK;
        }
    } else {
        VEX_TRY(live_memory_words(search, source, &live));
        selected = live;
    }
    vex_status status = VEX_OK;
    for (uint32_t row = 0, end = 0; row < source->n_vectors && status == VEX_OK; row = end) {
        const vex_mem_vector *first =
            vex_memtable_run(source->table, row, source->n_vectors, search->dimension, &end);
        const vex_row_run run = {.rows = first->vector,
                                 .stride = search->dimension * sizeof(float),
                                 .norm2 = &first->norm2,
                                 .norm2_stride = sizeof *first,
                                 .seqs = &first->seq,
                                 .seq_stride = sizeof *first,
                                 .n = end - row,
                                 .first_row = row,
                                 .source = search->snapshot->n_vecs + number,
                                 .element = VEX_F32,
                                 .selected = selected};
        status = vex_flat_scan(search->kernels, search->snapshot->space, &run, search->queries,
                               search->norm2, search->n, search->dimension, search->top);
    }
    vex_free(live);
    return status;
}

static vex_status scan_everything(flat_query *search) {
    const vex_snapshot *snapshot = search->snapshot;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        VEX_TRY(scan_file(search, i));
    }
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        VEX_TRY(scan_memtable(search, i));
    }
    return VEX_OK;
}

static vex_status build_hits(flat_query *search, uint32_t include, vex_result **out) {
    const vex_snapshot *snapshot = search->snapshot;
    vex_result_builder builder = {0};
    uint32_t *counts = vex_calloc(search->n ? search->n : 1, sizeof *counts);
    size_t rows = 0;
    vex_status status = counts ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a result");
    for (uint32_t q = 0; q < search->n && status == VEX_OK; q++) {
        vex_topk_sort(&search->top[q]);
        counts[q] = search->top[q].n;
        rows += counts[q];
    }
    if (status == VEX_OK) {
        status = vex_result_builder_init(&builder, snapshot, include, rows, true);
    }
    for (uint32_t q = 0; q < search->n && status == VEX_OK; q++) {
        for (uint32_t i = 0; i < counts[q] && status == VEX_OK; i++) {
            const vex_hit *hit = &search->top[q].hits[i];
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
        status = vex_result_builder_finish(&builder, counts, search->n, out);
    }
    vex_result_builder_clear(&builder);
    vex_free(counts);
    return status;
}

static vex_status set_up(flat_query *search) {
    search->kernels = vex_kernels_get();
    search->top = vex_calloc(search->n ? search->n : 1, sizeof *search->top);
    search->norm2 = vex_calloc(search->n ? search->n : 1, sizeof *search->norm2);
    if (search->top == NULL || search->norm2 == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u queries", (unsigned)search->n);
    }
    for (uint32_t q = 0; q < search->n; q++) {
        VEX_TRY(vex_topk_init(&search->top[q], search->k));
        search->norm2[q] =
            vex_norm2(search->queries + (size_t)q * search->dimension, search->dimension);
    }
    return VEX_OK;
}

static void tear_down(flat_query *search) {
    for (uint32_t q = 0; search->top != NULL && q < search->n; q++) {
        vex_topk_clear(&search->top[q]);
    }
    vex_free(search->top);
    vex_free(search->norm2);
}

/* Evaluate the selection; *search->matches stays NULL when everything is selected. */
static vex_status select_rows(flat_query *search, const vex_selection *selection,
                              vex_vector_matches *vectors) {
    if (selection == NULL || (selection->ids == NULL && selection->filter == NULL)) {
        return VEX_OK;
    }
    vex_matches matches = {0};
    vex_status status = vex_matches_find(search->snapshot, selection, &matches);
    if (status == VEX_OK && matches.ids_missing > 0 && selection->filter == NULL) {
        status = VEX_FAIL(VEX_ERR_NOT_FOUND, "%llu of the given ids do not exist",
                          (unsigned long long)matches.ids_missing);
    }
    if (status == VEX_OK) {
        status = vex_vector_matches_find(search->snapshot, &matches, vectors);
    }
    vex_matches_clear(&matches);
    search->matches = vectors;
    return status;
}

static vex_status run_query(flat_query *search, const vex_selection *selection, uint32_t include,
                            vex_result **out) {
    const vex_snapshot *snapshot = search->snapshot;
    vex_vector_matches vectors = {0};
    if (snapshot->dimension != 0 && snapshot->dimension != search->dimension) {
        return VEX_FAIL(VEX_ERR_DIMENSION,
                        "Collection expecting embedding with dimension of %u, got %u",
                        (unsigned)snapshot->dimension, (unsigned)search->dimension);
    }
    vex_status status = set_up(search);
    /* A collection that never had a vector finds nothing, whichever ids are asked for. */
    bool selects = selection != NULL && (snapshot->dimension != 0 || selection->filter != NULL);
    if (status == VEX_OK && selects) {
        status = select_rows(search, selection, &vectors);
    }
    if (status == VEX_OK && snapshot->dimension != 0) {
        status = scan_everything(search);
    }
    if (status == VEX_OK) {
        status = build_hits(search, include, out);
    }
    vex_vector_matches_clear(&vectors);
    tear_down(search);
    return status;
}

vex_status vex_query(vex_collection *collection, const vex_selection *selection,
                     const float *queries, uint32_t n, uint32_t dimension, uint32_t k,
                     uint32_t include, vex_result **out) {
    if (queries == NULL || dimension == 0 || dimension > VEX_DIMENSION_MAX || k == 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "a query needs vectors of 1 to %u dimensions and k >= 1",
                        VEX_DIMENSION_MAX);
    }
    vex_snapshot *snapshot = NULL;
    VEX_TRY(begin_read(collection, &snapshot));
    flat_query search = {
        .snapshot = snapshot, .queries = queries, .n = n, .dimension = dimension, .k = k};
    vex_status status = run_query(&search, selection, include, out);
    end_read(collection, snapshot);
    return status;
}
