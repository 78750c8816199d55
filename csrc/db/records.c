/*
 * records.c - parsing write requests and merging metadata (see records.h).
 */
#include "db/records.h"

#include "base/hash.h"
#include "base/msgpack.h"
#include "rank/sparse.h"
#include "store/format.h"

#include "base/poison.h"

#define METADATA_BYTES_MAX ((size_t)1 << 30)

/* ---- vectors ---- */

/* By bits, so that no compiler flag can optimise the question away. */
static bool all_finite(const float *values, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bad |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u);
    }
    return bad == 0;
}

static vex_status check_vectors(const vex_write_request *request) {
    if (request->vectors == NULL) {
        return request->op == VEX_WRITE_UPDATE
                   ? VEX_OK
                   : VEX_FAIL(VEX_ERR_INVALID, "add and upsert need a vector for every record");
    }
    if (request->dimension == 0 || request->dimension > VEX_DIMENSION_MAX) {
        return VEX_FAIL(VEX_ERR_INVALID, "vectors must have 1 to %u dimensions, got %u",
                        VEX_DIMENSION_MAX, (unsigned)request->dimension);
    }
    for (uint32_t i = 0; i < request->n; i++) {
        if (!all_finite(request->vectors + (size_t)i * request->dimension, request->dimension)) {
            return VEX_FAIL(VEX_ERR_NOT_FINITE,
                            "the vector of record %u holds NaN or infinity; remove or replace it",
                            (unsigned)i);
        }
    }
    return VEX_OK;
}

/* ---- metadata ---- */

static bool is_scalar(vex_mp_kind kind) {
    return kind == VEX_MP_BOOL || kind == VEX_MP_INT || kind == VEX_MP_FLOAT || kind == VEX_MP_STR;
}

/* Is the next value a uint64 that int64 cannot hold?  The reader would widen it to a float, but
 * its stored bytes would come back as an integer. */
static bool is_oversized(const vex_mp_reader *reader) {
    const vex_cursor *in = &reader->in;
    return in->pos + 1 < in->len && in->data[in->pos] == 0xcf && in->data[in->pos + 1] >= 0x80;
}

/* One metadata value behind its key.  NULL, or what is wrong with it. */
static const char *value_problem(vex_mp_reader *reader) {
    static const char kinds[] = "keys must be strings, values bool, int64, float, string, a sparse "
                                "vector or a list of one scalar type";
    if (is_oversized(reader)) {
        return kinds;
    }
    vex_mp_value value = vex_mp_next(reader);
    if (value.kind == VEX_MP_ARRAY) {
        vex_mp_kind kind = vex_mp_peek(reader);
        for (uint32_t i = 0; i < value.count; i++) {
            if (is_oversized(reader) || vex_mp_next(reader).kind != kind || vex_mp_bad(reader)) {
                return kinds;
            }
        }
        return value.count == 0 || is_scalar(kind) ? NULL : kinds;
    }
    if (value.kind == VEX_MP_EXT && value.ext_type == 1) {
        return vex_sparse_problem(value.bytes, value.len);
    }
    return is_scalar(value.kind) || value.kind == VEX_MP_NIL ? NULL : kinds;
}

static vex_status check_metadata(const uint8_t *map, size_t len, uint32_t record) {
    vex_mp_reader reader = vex_mp_reader_make(map, len);
    vex_mp_value header = vex_mp_next(&reader);
    if (header.kind != VEX_MP_MAP || len > METADATA_BYTES_MAX) {
        return VEX_FAIL(VEX_ERR_INVALID, "metadata of record %u must be a map under 1 GiB",
                        (unsigned)record);
    }
    for (uint32_t i = 0; i < header.count && !vex_mp_bad(&reader); i++) {
        const bool named = vex_mp_next(&reader).kind == VEX_MP_STR;
        const char *problem = value_problem(&reader);
        if (!named || problem != NULL) {
            return VEX_FAIL(VEX_ERR_INVALID, "metadata of record %u: %s", (unsigned)record,
                            problem ? problem : "keys must be strings");
        }
    }
    return vex_mp_bad(&reader)
               ? VEX_FAIL(VEX_ERR_INVALID, "metadata of record %u is malformed", (unsigned)record)
               : VEX_OK;
}

/* ---- records ---- */

typedef enum record_column { IDS, DOCUMENTS, METADATAS, URIS, N_COLUMNS } record_column;
static const char *const column_names[N_COLUMNS] = {"ids", "documents", "metadatas", "uris"};

static vex_status store_value(vex_record *record, record_column column, vex_slice value,
                              uint32_t row) {
    switch (column) {
    case IDS:
        if (value.data == NULL || value.len == 0 || value.len > VEX_ID_BYTES_MAX) {
            return VEX_FAIL(VEX_ERR_INVALID, "the id of record %u must have 1 to %u bytes",
                            (unsigned)row, VEX_ID_BYTES_MAX);
        }
        record->id = value;
        record->id_hash = vex_hash64(value.data, value.len);
        return VEX_OK;
    case METADATAS:
        record->metadata = value;
        return value.data ? check_metadata(value.data, value.len, row) : VEX_OK;
    case DOCUMENTS:
        record->document = value;
        return VEX_OK;
    default:
        record->uri = value;
        return VEX_OK;
    }
}

static vex_status parse_value(vex_mp_reader *reader, record_column column, uint32_t row,
                              vex_record *record) {
    vex_slice slice = {0};
    vex_mp_kind kind = vex_mp_peek(reader);
    size_t raw_len = 0;
    if (column == METADATAS && kind != VEX_MP_NIL) {
        slice.data = vex_mp_raw(reader, &raw_len);
    } else {
        vex_mp_value value = vex_mp_next(reader);
        if (value.kind == VEX_MP_STR && vex_utf8_valid(value.bytes, value.len)) {
            slice.data = value.bytes;
            raw_len = value.len;
        } else if (value.kind != VEX_MP_NIL) {
            return VEX_FAIL(VEX_ERR_INVALID, "%s: entry %u must be UTF-8 text or nil",
                            column_names[column], (unsigned)row);
        }
    }
    if (raw_len >= UINT32_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "%s: entry %u is larger than 4 GiB", column_names[column],
                        (unsigned)row);
    }
    slice.len = (uint32_t)raw_len;
    return store_value(record, column, slice, row);
}

static vex_status parse_columns(const vex_write_request *request, vex_record *records) {
    vex_mp_reader reader = vex_mp_reader_make(request->records, request->records_len);
    vex_mp_value outer = vex_mp_next(&reader);
    if (outer.kind != VEX_MP_ARRAY || outer.count != N_COLUMNS) {
        return VEX_FAIL(VEX_ERR_INVALID,
                        "records must be a MessagePack array [ids, documents, metadatas, uris]");
    }
    for (record_column column = IDS; column < N_COLUMNS; column++) {
        vex_mp_value list = vex_mp_next(&reader);
        if (list.kind == VEX_MP_NIL && column != IDS) {
            continue;
        }
        if (list.kind != VEX_MP_ARRAY || list.count != request->n) {
            return VEX_FAIL(VEX_ERR_INVALID, "%s must be an array of %u entries",
                            column_names[column], (unsigned)request->n);
        }
        for (uint32_t row = 0; row < request->n && !vex_mp_bad(&reader); row++) {
            VEX_TRY(parse_value(&reader, column, row, &records[row]));
        }
    }
    return vex_mp_bad(&reader) ? VEX_FAIL(VEX_ERR_INVALID, "records: malformed MessagePack")
                               : VEX_OK;
}

static vex_status check_unique(const vex_record *records, uint32_t n) {
    size_t slots = 16;
    while (slots < 2 * (size_t)n) {
        slots *= 2;
    }
    uint32_t *table = vex_calloc(slots, sizeof *table);
    if (table == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to compare %u ids", (unsigned)n);
    }
    vex_status status = VEX_OK;
    for (uint32_t i = 0; i < n && status == VEX_OK; i++) {
        size_t at = records[i].id_hash & (slots - 1);
        for (; table[at] != 0; at = (at + 1) & (slots - 1)) {
            const vex_record *other = &records[table[at] - 1];
            if (other->id_hash == records[i].id_hash && other->id.len == records[i].id.len &&
                memcmp(other->id.data, records[i].id.data, other->id.len) == 0) {
                status = VEX_FAIL(VEX_ERR_INVALID, "id \"%.*s\" occurs twice in the batch",
                                  (int)(other->id.len < 200 ? other->id.len : 200),
                                  (const char *)other->id.data);
                break;
            }
        }
        table[at] = i + 1;
    }
    vex_free(table);
    return status;
}

vex_status vex_records_parse(const vex_write_request *request, vex_record **out) {
    if (request->op > VEX_WRITE_UPSERT || request->flags != 0 || request->n > VEX_ROWS_MAX) {
        return VEX_FAIL(VEX_ERR_INVALID, "unknown write operation, flags, or too many records");
    }
    if (request->n > request->records_len) { /* before memory is asked for: an id has a byte */
        return VEX_FAIL(VEX_ERR_INVALID, "ids must be an array of %u entries",
                        (unsigned)request->n);
    }
    VEX_TRY(check_vectors(request));
    vex_record *records = vex_calloc(request->n ? request->n : 1, sizeof *records);
    if (records == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u records", (unsigned)request->n);
    }
    vex_status status = parse_columns(request, records);
    if (status == VEX_OK) {
        status = check_unique(records, request->n);
    }
    if (status != VEX_OK) {
        vex_free(records);
        return status;
    }
    *out = records;
    return VEX_OK;
}

/* ---- merging ---- */

typedef struct meta_pair {
    vex_slice key, value; /* value raw; .data NULL = nil                                          */
} meta_pair;

typedef struct meta_pairs {
    meta_pair *items;
    size_t n, capacity;
} meta_pairs;

/* The pairs of a map that was checked before. */
static vex_status read_pairs(vex_slice map, meta_pairs *out) {
    if (map.data == NULL) {
        return VEX_OK;
    }
    vex_mp_reader reader = vex_mp_reader_make(map.data, map.len);
    vex_mp_value header = vex_mp_next(&reader);
    for (uint32_t i = 0; header.kind == VEX_MP_MAP && i < header.count; i++) {
        vex_mp_value key = vex_mp_next(&reader);
        bool nil = vex_mp_peek(&reader) == VEX_MP_NIL;
        size_t len = 0;
        const uint8_t *raw = vex_mp_raw(&reader, &len);
        if (vex_mp_bad(&reader) || key.kind != VEX_MP_STR) {
            return VEX_FAIL(VEX_ERR_CORRUPT, "stored metadata is malformed");
        }
        VEX_TRY(vex_grow((void **)&out->items, &out->capacity, out->n + 1, sizeof *out->items));
        out->items[out->n++] = (meta_pair){{key.bytes, (uint32_t)key.len},
                                           {nil ? NULL : raw, nil ? 0 : (uint32_t)len}};
    }
    return VEX_OK;
}

static meta_pair *find_pair(const meta_pairs *pairs, vex_slice key) {
    for (size_t i = 0; i < pairs->n; i++) {
        if (pairs->items[i].key.len == key.len &&
            memcmp(pairs->items[i].key.data, key.data, key.len) == 0) {
            return &pairs->items[i];
        }
    }
    return NULL;
}

/* Encode the pairs that have a value into the arena. */
static vex_status write_pairs(vex_arena *arena, const meta_pairs *pairs, bool empty_is_map,
                              vex_slice *out) {
    vex_buf buf = {0};
    uint32_t n = 0;
    for (size_t i = 0; i < pairs->n; i++) {
        n += pairs->items[i].value.data != NULL;
    }
    *out = (vex_slice){0};
    if (n == 0 && !empty_is_map) {
        return VEX_OK;
    }
    vex_status status = vex_mp_put_map(&buf, n);
    for (size_t i = 0; i < pairs->n && status == VEX_OK; i++) {
        const meta_pair *pair = &pairs->items[i];
        if (pair->value.data != NULL) {
            status = vex_mp_put_str(&buf, pair->key.data, pair->key.len);
            if (status == VEX_OK) {
                status = vex_buf_append(&buf, pair->value.data, pair->value.len);
            }
        }
    }
    uint8_t *copy = status == VEX_OK ? vex_arena_alloc(arena, buf.len, 1) : NULL;
    if (status == VEX_OK && copy == NULL) {
        status = VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for merged metadata");
    }
    if (status == VEX_OK) {
        memcpy(copy, buf.data, buf.len);
        *out = (vex_slice){copy, (uint32_t)buf.len};
    }
    vex_buf_clear(&buf);
    return status;
}

vex_status vex_metadata_strip(vex_arena *arena, vex_slice given, vex_slice *out) {
    meta_pairs all = {0};
    vex_status status = read_pairs(given, &all);
    bool has_nil = false;
    for (size_t i = 0; i < all.n; i++) {
        has_nil = has_nil || all.items[i].value.data == NULL;
    }
    if (status == VEX_OK && has_nil) {
        status = write_pairs(arena, &all, false, out);
    } else if (status == VEX_OK) {
        *out = given;
    }
    vex_free(all.items);
    return status;
}

vex_status vex_metadata_merge(vex_arena *arena, vex_slice old, vex_slice given, vex_slice *out) {
    meta_pairs merged = {0}, changes = {0};
    vex_status status = read_pairs(old, &merged);
    bool was_empty_map = old.data != NULL && merged.n == 0;
    if (status == VEX_OK) {
        status = read_pairs(given, &changes);
    }
    for (size_t i = 0; i < changes.n && status == VEX_OK; i++) {
        meta_pair *present = find_pair(&merged, changes.items[i].key);
        if (present != NULL) {
            present->value = changes.items[i].value;
            continue;
        }
        status =
            vex_grow((void **)&merged.items, &merged.capacity, merged.n + 1, sizeof *merged.items);
        if (status == VEX_OK) {
            merged.items[merged.n++] = changes.items[i];
        }
    }
    if (status == VEX_OK) {
        status = write_pairs(arena, &merged, was_empty_map, out);
    }
    vex_free(merged.items);
    vex_free(changes.items);
    return status;
}
