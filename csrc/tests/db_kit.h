/*
 * db_kit.h - what the tests of whole databases share: one collection of two-dimensional records,
 * written and looked at through the public functions.
 */
#ifndef VEX_TESTS_DB_KIT_H
#define VEX_TESTS_DB_KIT_H

#include "tests/harness.h"

#include "base/mem.h"
#include "base/msgpack.h"

#include <stdlib.h>

static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static inline vex_db *open_db(const char *path, uint32_t memtable_rows) {
    const vex_db_options options = {
        .durability = VEX_DURABILITY_FULL, .busy_timeout_ms = 5000, .memtable_rows = memtable_rows};
    vex_db *db = NULL;
    CHECK_OK(vex_db_open(path, &options, &db));
    return db;
}

static inline vex_collection *open_collection(vex_db *db, uint32_t space) {
    vex_collection *collection = NULL;
    vex_status status = vex_collection_create(db, uuid, space);
    CHECK(status == VEX_OK || status == VEX_ERR_EXISTS);
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    return collection;
}

static inline void put_text(vex_buf *out, const char *text) {
    CHECK_OK(text ? vex_mp_put_str(out, text, strlen(text)) : vex_mp_put_nil(out));
}

typedef struct row {
    const char *id;
    float x, y;
    const char *document;
    int64_t number; /* metadata {"n": number}; INT64_MIN = no metadata                      */
} row;

static inline vex_status write_rows(vex_collection *collection, uint32_t op, const row *rows, uint32_t n,
                             bool vectors) {
    vex_buf records = {0};
    float *values = calloc((size_t)n + 1, 2 * sizeof *values);
    CHECK(values != NULL);
    CHECK_OK(vex_mp_put_array(&records, 4));
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t i = 0; i < n; i++) {
        put_text(&records, rows[i].id);
    }
    for (uint32_t i = 0; i < n && vectors; i++) {
        values[2 * i] = rows[i].x;
        values[2 * i + 1] = rows[i].y;
    }
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t i = 0; i < n; i++) {
        put_text(&records, rows[i].document);
    }
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].number == INT64_MIN) {
            CHECK_OK(vex_mp_put_nil(&records));
        } else {
            CHECK_OK(vex_mp_put_map(&records, 1));
            put_text(&records, "n");
            CHECK_OK(vex_mp_put_int(&records, rows[i].number));
        }
    }
    CHECK_OK(vex_mp_put_nil(&records));
    const vex_write_request request = {.op = op,
                                       .n = n,
                                       .dimension = vectors ? 2 : 0,
                                       .vectors = vectors ? values : NULL,
                                       .records = records.data,
                                       .records_len = records.len};
    vex_status status = vex_write(collection, &request, NULL);
    vex_buf_clear(&records);
    free(values);
    return status;
}

static inline uint64_t count(vex_collection *collection) {
    uint64_t n = 0;
    CHECK_OK(vex_count(collection, NULL, &n));
    return n;
}

/* "id,id,..." of a result */
static const char *ids_of(const vex_result *result) {
    static char text[4096];
    vex_mp_reader reader = vex_mp_reader_make(result->records, result->records_len);
    size_t at = 0;
    (void)vex_mp_next(&reader);
    uint32_t n = vex_mp_next(&reader).count;
    for (uint32_t i = 0; i < n; i++) {
        vex_mp_value id = vex_mp_next(&reader);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s", i ? "," : "", (int)id.len,
                               (const char *)id.bytes);
    }
    text[at] = '\0';
    return text;
}

static inline void check_ids(vex_collection *collection, const vex_selection *selection,
                      const char *expected) {
    vex_result *result = NULL;
    CHECK_OK(vex_get(collection, selection, 0, -1, VEX_INCLUDE_DOCUMENTS | VEX_INCLUDE_VECTORS,
                     &result));
    const char *ids = ids_of(result);
    if (strcmp(ids, expected) != 0) {
        test_failed(__FILE__, __LINE__, "ids are %s, expected %s", ids, expected);
    }
    vex_result_free(result);
}

static inline void check_query(vex_collection *collection, float x, float y, uint32_t k,
                        const char *expected) {
    vex_result *result = NULL;
    const float query[2] = {x, y};
    CHECK_OK(vex_query(collection, NULL, query, 1, 2, k, NULL, VEX_INCLUDE_METADATAS, &result));
    const char *ids = ids_of(result);
    if (strcmp(ids, expected) != 0) {
        test_failed(__FILE__, __LINE__, "nearest are %s, expected %s", ids, expected);
    }
    vex_result_free(result);
}

static inline void delete_id(vex_collection *collection, const char *id, uint64_t expected) {
    vex_buf ids = {0};
    CHECK_OK(vex_mp_put_array(&ids, 1));
    put_text(&ids, id);
    const vex_selection selection = {.ids = ids.data, .ids_len = ids.len};
    uint64_t deleted = 0;
    CHECK_OK(vex_delete(collection, &selection, -1, &deleted));
    CHECK_EQ(deleted, expected);
    vex_buf_clear(&ids);
}

static inline vex_selection filter_number(vex_buf *filter, uint32_t op, int64_t operand) {
    CHECK_OK(vex_mp_put_array(filter, 3));
    CHECK_OK(vex_mp_put_int(filter, (int64_t)op));
    put_text(filter, "n");
    CHECK_OK(vex_mp_put_int(filter, operand));
    return (vex_selection){.filter = filter->data, .filter_len = filter->len};
}

static const row three[] = {{"a", 1, 0, "first", 1}, {"b", 0, 1, NULL, 2}, {"c", 1, 1, "third", 3}};

#endif
