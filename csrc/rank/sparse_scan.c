/*
 * sparse_scan.c - see sparse_scan.h.
 */
#include "rank/sparse_scan.h"

#include "base/bits.h"
#include "filter/expr.h"
#include "rank/sparse.h"

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

/* The rows of a bitmap. */
static vex_status visit_words(vex_snapshot_reader *reader, const vex_scan_rows *rows,
                              const uint64_t *words, size_t n_words, row_visitor visit,
                              void *context) {
    for (size_t at = rows->first / 64; at < n_words; at++) {
        uint64_t word = words[at];
        if (at == rows->first / 64) {
            word &= ~0ULL << rows->first % 64;
        }
        for (; word != 0; word &= word - 1) {
            vex_row_ref ref = {.found = true,
                               .in_memory = rows->in_memory,
                               .source = rows->number,
                               .row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word)};
            vex_payload payload;
            VEX_TRY(vex_snapshot_read_payload(reader, &ref, VEX_PAYLOAD_METADATA, &payload));
            ref.seq = payload.seq;
            VEX_TRY(visit(context, &ref, &payload));
        }
    }
    return VEX_OK;
}

static vex_status visit_rows(const vex_snapshot *snapshot, const vex_scan_rows *rows,
                             row_visitor visit, void *context) {
    vex_snapshot_reader *reader = NULL;
    uint64_t *live = NULL;
    const size_t n_words = vex_bit_words(rows->in_memory ? snapshot->mems[rows->number].n_payloads
                                                         : snapshot->pays[rows->number].file->rows);
    VEX_TRY(vex_snapshot_reader_create(snapshot, &reader));
    if (rows->wanted == NULL) {
        live = vex_calloc(n_words + 1, sizeof *live);
        if (live == NULL) {
            vex_snapshot_reader_destroy(reader);
            return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
        }
        live_words(snapshot, rows->in_memory, rows->number, live);
    }
    const vex_status status =
        visit_words(reader, rows, live ? live : rows->wanted, n_words, visit, context);
    vex_free(live);
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

vex_status vex_sparse_scan(const vex_snapshot *snapshot, const vex_scan_rows *rows,
                           const vex_sparse_query *query, uint32_t limit, vex_scored_list *out) {
    sparse_scan scan = {.query = query, .limit = limit, .out = out};
    return visit_rows(snapshot, rows, offer_row, &scan);
}

vex_status vex_sparse_scan_count(const vex_snapshot *snapshot, const vex_scan_rows *rows,
                                 const vex_sparse_query *query, uint64_t *having) {
    sparse_scan scan = {.query = query, .having = having};
    return visit_rows(snapshot, rows, count_indices, &scan);
}

/* ---- all sources ---- */

static vex_scan_rows rows_of(const vex_snapshot *snapshot, uint32_t source) {
    const bool in_memory = source >= snapshot->n_pays;
    return (vex_scan_rows){.in_memory = in_memory,
                           .number = in_memory ? source - snapshot->n_pays : source};
}

static vex_status scale_values(const vex_snapshot *snapshot, const vex_sparse_query *query,
                               float *scaled, uint64_t *having) {
    for (uint32_t i = 0; i < snapshot->n_pays + snapshot->n_mems; i++) {
        const vex_scan_rows rows = rows_of(snapshot, i);
        VEX_TRY(vex_sparse_scan_count(snapshot, &rows, query, having));
    }
    for (uint32_t i = 0; i < query->n; i++) {
        scaled[i] = vex_sparse_idf(query->values[i], snapshot->live_rows, having[i]);
    }
    return VEX_OK;
}

static vex_status scan_all(const vex_snapshot *snapshot, const vex_matches *matches,
                           const vex_sparse_query *query, uint32_t limit, vex_scored_list *out) {
    for (uint32_t i = 0; i < snapshot->n_pays + snapshot->n_mems; i++) {
        vex_scan_rows rows = rows_of(snapshot, i);
        if (matches != NULL) {
            rows.wanted = (rows.in_memory ? matches->mems : matches->pays)[rows.number];
            if (rows.wanted == NULL) {
                continue;
            }
        }
        VEX_TRY(vex_sparse_scan(snapshot, &rows, query, limit, out));
    }
    return VEX_OK;
}

vex_status vex_retrieve_sparse_by_scan(const vex_snapshot *snapshot, const vex_matches *matches,
                                       const vex_sparse_query *query, uint32_t limit,
                                       vex_scored_list *out) {
    vex_scored_list found = {0};
    vex_sparse_query scaled = *query;
    float *values = vex_calloc((size_t)query->n + 1, sizeof *values);
    uint64_t *having = vex_calloc((size_t)query->n + 1, sizeof *having);
    vex_status status =
        values && having ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a sparse query");
    if (status == VEX_OK && query->idf) {
        status = scale_values(snapshot, query, values, having);
        scaled.values = values;
    }
    if (status == VEX_OK) {
        status = scan_all(snapshot, matches, &scaled, limit, &found);
    }
    vex_free(values);
    vex_free(having);
    if (status != VEX_OK) {
        vex_scored_list_clear(&found);
        return status;
    }
    vex_scored_sort(&found);
    *out = found;
    return VEX_OK;
}
