/*
 * retrieve_scan.c - sparse vectors found by reading the metadata of every row (see retrieve.h).
 */
#include "rank/sparse.h"

#include "base/bits.h"
#include "filter/expr.h"

#include "base/poison.h"

/* ---- rows ---- */

/* Called with the place and the metadata of a live row. */
typedef vex_status (*row_visitor)(void *context, const vex_row_ref *ref,
                                  const vex_payload *payload);

static void live_words(const vex_snapshot *snapshot, bool in_memory, uint32_t number,
                       uint64_t *words) {
    if (!in_memory) {
        vex_tombs_live_words(snapshot->pays[number].tombs, words);
        return;
    }
    const vex_mem_source *source = &snapshot->mems[number];
    for (uint32_t row = 0; row < source->n_payloads; row++) {
        if (vex_mem_payload_live(vex_memtable_payload(source->table, row), snapshot->lsn)) {
            vex_bit_set(words, row);
        }
    }
}

/* The rows of a bitmap of one source. */
static vex_status visit_words(vex_snapshot_reader *reader, bool in_memory, uint32_t number,
                              const uint64_t *words, size_t n_words, row_visitor visit,
                              void *context) {
    for (size_t at = 0; at < n_words; at++) {
        for (uint64_t word = words[at]; word != 0; word &= word - 1) {
            vex_row_ref ref = {.found = true,
                               .in_memory = in_memory,
                               .source = number,
                               .row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word)};
            vex_payload payload;
            VEX_TRY(vex_snapshot_read_payload(reader, &ref, VEX_PAYLOAD_METADATA, &payload));
            ref.seq = payload.seq;
            VEX_TRY(visit(context, &ref, &payload));
        }
    }
    return VEX_OK;
}

static vex_status visit_source(const vex_snapshot *snapshot, const vex_matches *matches,
                               vex_snapshot_reader *reader, bool in_memory, uint32_t number,
                               row_visitor visit, void *context) {
    const size_t n_words = vex_bit_words(in_memory ? snapshot->mems[number].n_payloads
                                                   : snapshot->pays[number].file->rows);
    if (matches != NULL) {
        const uint64_t *words = in_memory ? matches->mems[number] : matches->pays[number];
        return words ? visit_words(reader, in_memory, number, words, n_words, visit, context)
                     : VEX_OK;
    }
    uint64_t *live = vex_calloc(n_words + 1, sizeof *live);
    if (live == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
    }
    live_words(snapshot, in_memory, number, live);
    const vex_status status = visit_words(reader, in_memory, number, live, n_words, visit, context);
    vex_free(live);
    return status;
}

/* The live rows of `matches`, or all that live. */
static vex_status visit_rows(const vex_snapshot *snapshot, const vex_matches *matches,
                             row_visitor visit, void *context) {
    vex_snapshot_reader *reader = NULL;
    vex_status status = vex_snapshot_reader_create(snapshot, &reader);
    for (uint32_t i = 0; i < snapshot->n_pays && status == VEX_OK; i++) {
        status = visit_source(snapshot, matches, reader, false, i, visit, context);
    }
    for (uint32_t i = 0; i < snapshot->n_mems && status == VEX_OK; i++) {
        status = visit_source(snapshot, matches, reader, true, i, visit, context);
    }
    vex_snapshot_reader_destroy(reader);
    return status;
}

/* ---- sparse vectors ---- */

typedef struct sparse_scan {
    const vex_sparse_query *query;
    uint32_t limit;
    vex_scored_list *out;
    uint64_t *having; /* per entry of the query: rows that have its index                         */
} sparse_scan;

/* The sparse vector of a row; false when it has none. */
static vex_status sparse_of(const sparse_scan *scan, const vex_payload *payload,
                            vex_sparse_vector *out, bool *has) {
    const vex_value value = vex_metadata_find(payload->metadata, payload->metadata_len,
                                              scan->query->key, scan->query->key_len);
    *has = value.type == VEX_VALUE_SPARSE;
    return !*has || vex_sparse_read(value.bytes, value.len, out)
               ? VEX_OK
               : VEX_FAIL(VEX_ERR_CORRUPT, "a sparse vector of record %llu is malformed",
                          (unsigned long long)payload->seq);
}

static vex_status count_indices(void *context, const vex_row_ref *ref, const vex_payload *payload) {
    const sparse_scan *scan = context;
    vex_sparse_vector vector;
    bool has;
    (void)ref;
    VEX_TRY(sparse_of(scan, payload, &vector, &has));
    for (uint32_t i = 0, j = 0; has && i < vector.n && j < scan->query->n;) {
        const uint32_t a = vex_sparse_index(&vector, i), b = scan->query->indices[j];
        scan->having[j] += a == b;
        i += a <= b;
        j += b <= a;
    }
    return VEX_OK;
}

static vex_status offer_row(void *context, const vex_row_ref *ref, const vex_payload *payload) {
    const sparse_scan *scan = context;
    vex_sparse_vector vector;
    vex_scored item = {.row = *ref};
    bool has;
    VEX_TRY(sparse_of(scan, payload, &vector, &has));
    if (!has || !vex_sparse_dot(&vector, scan->query, &item.score)) {
        return VEX_OK;
    }
    return vex_scored_offer(scan->out, scan->limit, item);
}

/* The query's values, scaled; to be freed. */
static vex_status scale_values(const vex_snapshot *snapshot, sparse_scan *scan, float **out) {
    const vex_sparse_query *query = scan->query;
    float *scaled = vex_calloc((size_t)query->n + 1, sizeof *scaled);
    scan->having = vex_calloc((size_t)query->n + 1, sizeof *scan->having);
    vex_status status = scaled && scan->having
                            ? visit_rows(snapshot, NULL, count_indices, scan)
                            : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a sparse query");
    for (uint32_t i = 0; i < query->n && status == VEX_OK; i++) {
        scaled[i] = vex_sparse_idf(query->values[i], snapshot->live_rows, scan->having[i]);
    }
    vex_free(scan->having);
    if (status != VEX_OK) {
        vex_free(scaled);
        return status;
    }
    *out = scaled;
    return VEX_OK;
}

vex_status vex_retrieve_sparse(const vex_snapshot *snapshot, const vex_matches *matches,
                               const vex_sparse_query *query, uint32_t limit,
                               vex_scored_list *out) {
    vex_scored_list found = {0};
    vex_sparse_query scaled = *query;
    sparse_scan scan = {.query = query, .limit = limit, .out = &found};
    float *values = NULL;
    if (query->idf) {
        VEX_TRY(scale_values(snapshot, &scan, &values));
        scaled.values = values;
        scan.query = &scaled;
    }
    vex_status status = visit_rows(snapshot, matches, offer_row, &scan);
    vex_free(values);
    if (status != VEX_OK) {
        vex_scored_list_clear(&found);
        return status;
    }
    vex_scored_sort(&found);
    *out = found;
    return VEX_OK;
}
