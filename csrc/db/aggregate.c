/*
 * aggregate.c - vex_aggregate: what selected records have under metadata keys.
 *
 * Files answer by their columns, without reading a record; memtables, and files whose columns are
 * missing or damaged, by their rows.
 */
#include "base/bits.h"
#include "db/db.h"
#include "filter/match.h"
#include "filter/tally.h"

#include "base/poison.h"

typedef struct aggregate {
    const vex_snapshot *snapshot;
    vex_snapshot_reader *reader;
    vex_mp_value *keys; /* strings, borrowed                                               */
    vex_tally *tallies; /* one per key                                                     */
    bool *by_rows;      /* keys that the source's rows are asked for                       */
    uint32_t n_keys;
} aggregate;

static vex_status read_keys(aggregate *a, uint32_t kind, const uint8_t *msgpack, size_t len) {
    static const vex_tally_kind kinds[] = {[VEX_AGGREGATE_KEYS] = VEX_TALLY_KEYS,
                                           [VEX_AGGREGATE_RANGE] = VEX_TALLY_RANGE,
                                           [VEX_AGGREGATE_VALUES] = VEX_TALLY_VALUES,
                                           [VEX_AGGREGATE_COUNTS] = VEX_TALLY_VALUES};
    vex_mp_reader reader = vex_mp_reader_make(msgpack, len);
    const vex_mp_value list = vex_mp_next(&reader);
    if (kind >= sizeof kinds / sizeof *kinds) {
        return VEX_FAIL(VEX_ERR_INVALID, "there is no aggregate %u", (unsigned)kind);
    }
    if (list.kind != VEX_MP_ARRAY) {
        return VEX_FAIL(VEX_ERR_INVALID, "keys must be a MessagePack array of strings");
    }
    a->keys = vex_calloc((size_t)list.count + 1, sizeof *a->keys);
    a->tallies = vex_calloc((size_t)list.count + 1, sizeof *a->tallies);
    a->by_rows = vex_calloc((size_t)list.count + 1, sizeof *a->by_rows);
    if (a->keys == NULL || a->tallies == NULL || a->by_rows == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u keys", (unsigned)list.count);
    }
    for (a->n_keys = 0; a->n_keys < list.count; a->n_keys++) {
        a->keys[a->n_keys] = vex_mp_next(&reader);
        if (a->keys[a->n_keys].kind != VEX_MP_STR) {
            return VEX_FAIL(VEX_ERR_INVALID, "keys must be a MessagePack array of strings");
        }
        VEX_TRY(vex_tally_init(&a->tallies[a->n_keys], kinds[kind]));
    }
    return vex_mp_at_end(&reader) ? VEX_OK
                                  : VEX_FAIL(VEX_ERR_INVALID, "bytes after the array of keys");
}

static void clear(aggregate *a) {
    for (uint32_t i = 0; i < a->n_keys; i++) {
        vex_tally_clear(&a->tallies[i]);
    }
    vex_snapshot_reader_destroy(a->reader);
    vex_free(a->keys);
    vex_free(a->tallies);
    vex_free(a->by_rows);
}

/* ---- counting ---- */

/* Each record is read once, for all keys. */
static vex_status count_rows(aggregate *a, bool in_memory, uint32_t source, const uint64_t *words,
                             uint32_t n_rows) {
    for (uint32_t at = 0; at < vex_bit_words(n_rows); at++) {
        for (uint64_t word = words[at]; word != 0; word &= word - 1) {
            const vex_row_ref ref = {.found = true,
                                     .in_memory = in_memory,
                                     .source = source,
                                     .row = at * 64 + (uint32_t)__builtin_ctzll(word)};
            vex_payload row;
            VEX_TRY(vex_snapshot_read_payload(a->reader, &ref, VEX_PAYLOAD_METADATA, &row));
            for (uint32_t i = 0; i < a->n_keys; i++) {
                if (a->by_rows[i]) {
                    const vex_value value = vex_metadata_find(row.metadata, row.metadata_len,
                                                              a->keys[i].bytes, a->keys[i].len);
                    VEX_TRY(vex_tally_add(&a->tallies[i], &value, 1));
                }
            }
        }
    }
    return VEX_OK;
}

static vex_status count_file(aggregate *a, uint32_t source, const uint64_t *words) {
    const vex_payfile *file = a->snapshot->pays[source].file;
    const vex_columns *columns = vex_columns_of(file);
    bool any = false;
    for (uint32_t i = 0; i < a->n_keys; i++) {
        a->by_rows[i] = columns == NULL;
        if (columns != NULL) {
            vex_status status =
                vex_tally_column(&a->tallies[i], columns, a->keys[i].bytes, a->keys[i].len, words);
            a->by_rows[i] = status == VEX_ERR_CORRUPT; /* then the rows tell */
            if (status != VEX_OK && status != VEX_ERR_CORRUPT) {
                return status;
            }
        }
        any |= a->by_rows[i];
    }
    return any ? count_rows(a, false, source, words, file->rows) : VEX_OK;
}

static vex_status count_all(aggregate *a, const vex_matches *matches) {
    for (uint32_t i = 0; i < matches->n_pays; i++) {
        if (matches->pays[i] != NULL) {
            VEX_TRY(count_file(a, i, matches->pays[i]));
        }
    }
    for (uint32_t i = 0; i < a->n_keys; i++) {
        a->by_rows[i] = true;
    }
    for (uint32_t i = 0; i < matches->n_mems; i++) {
        if (matches->mems[i] != NULL) {
            const uint32_t n_rows = a->snapshot->mems[i].n_payloads;
            VEX_TRY(count_rows(a, true, i, matches->mems[i], n_rows));
        }
    }
    return VEX_OK;
}

/* ---- the answer ---- */

static vex_status put_tally(vex_buf *out, const vex_tally *tally, int64_t limit) {
    const bool all = limit < 0 || (uint64_t)limit >= tally->n;
    const uint32_t n = (uint32_t)(all ? tally->n : (size_t)limit);
    VEX_TRY(vex_mp_put_array(out, 5));
    VEX_TRY(vex_mp_put_uint(out, tally->rows));
    VEX_TRY(vex_mp_put_uint(out, tally->types));
    VEX_TRY(vex_mp_put_uint(out, tally->n));
    VEX_TRY(vex_mp_put_array(out, n));
    for (uint32_t i = 0; i < n; i++) {
        VEX_TRY(vex_value_write(out, &tally->entries[i].value));
    }
    VEX_TRY(vex_mp_put_array(out, n));
    for (uint32_t i = 0; i < n; i++) {
        VEX_TRY(vex_mp_put_uint(out, tally->entries[i].count));
    }
    return VEX_OK;
}

static vex_status put_answer(aggregate *a, uint32_t kind, int64_t limit, vex_buf *out) {
    VEX_TRY(vex_mp_put_array(out, a->n_keys));
    for (uint32_t i = 0; i < a->n_keys; i++) {
        vex_tally_sort(&a->tallies[i], kind == VEX_AGGREGATE_COUNTS);
        VEX_TRY(put_tally(out, &a->tallies[i], limit));
    }
    return VEX_OK;
}

static vex_status run(aggregate *a, const vex_selection *selection) {
    static const vex_selection everything;
    vex_matches matches = {0};
    VEX_TRY(vex_matches_find(a->snapshot, selection ? selection : &everything, &matches));
    vex_status status = vex_snapshot_reader_create(a->snapshot, &a->reader);
    if (status == VEX_OK) {
        status = count_all(a, &matches);
    }
    vex_matches_clear(&matches);
    return status;
}

vex_status vex_aggregate(vex_collection *collection, const vex_selection *selection, uint32_t kind,
                         const uint8_t *keys, size_t keys_len, int64_t limit, uint8_t **msgpack,
                         size_t *len) {
    vex_snapshot *snapshot = NULL;
    aggregate a = {0};
    vex_buf answer = {0};
    VEX_TRY(vex_read_begin(collection, &snapshot));
    a.snapshot = snapshot;
    vex_status status = read_keys(&a, kind, keys, keys_len);
    if (status == VEX_OK) {
        status = run(&a, selection);
    }
    if (status == VEX_OK) {
        status = put_answer(&a, kind, limit, &answer);
    }
    clear(&a);
    status = vex_read_end(collection, snapshot, status);
    if (status != VEX_OK) {
        vex_buf_clear(&answer);
        return status;
    }
    *msgpack = answer.data;
    *len = answer.len;
    return VEX_OK;
}
