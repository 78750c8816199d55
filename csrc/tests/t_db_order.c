/*
 * t_db_order.c - vex_aggregate and vex_get_ordered: bad requests, failing allocations, nothing read
 * that columns tell.  What they answer is compared with a model in
 * tests/property/test_filter_model.py.
 */
#include "tests/db_kit.h"
#include "tests/filter_kit.h"

#define N_ROWS 600

static void write_many(vex_collection *collection) {
    static char ids[N_ROWS][12];
    for (uint32_t first = 0; first < N_ROWS; first += 30) {
        row rows[30];
        for (uint32_t i = 0; i < 30; i++) {
            const uint32_t number = first + i;
            (void)snprintf(ids[number], sizeof ids[number], "r%u", number);
            rows[i] = (row){.id = ids[number],
                            .x = (float)number,
                            .document = "document",
                            .number = number % 7 == 0 ? INT64_MIN : number * 37 % 50};
        }
        CHECK_OK(write_rows(collection, VEX_WRITE_ADD, rows, 30, true));
    }
}

static vex_status aggregate(vex_collection *collection, uint32_t kind, const vex_buf *keys,
                            vex_buf *out) {
    uint8_t *bytes = NULL;
    size_t len = 0;
    vex_status status =
        vex_aggregate(collection, NULL, kind, keys->data, keys->len, -1, &bytes, &len);
    if (status == VEX_OK) {
        if (out != NULL) {
            out->len = 0;
            CHECK_OK(vex_buf_append(out, bytes, len));
        }
        vex_bytes_free(bytes);
    }
    return status;
}

static vex_status ordered(vex_collection *collection, const vex_order *order, int64_t limit,
                          uint32_t *n_rows) {
    vex_result *result = NULL;
    uint8_t *last = NULL;
    size_t len = 0;
    vex_status status = vex_get_ordered(collection, NULL, order, 0, limit, VEX_INCLUDE_METADATAS,
                                        &result, &last, &len);
    if (status == VEX_OK) {
        *n_rows = result->n_rows;
        CHECK_EQ(last != NULL, *n_rows > 0);
        vex_result_free(result);
        vex_bytes_free(last);
    }
    return status;
}

TEST(aggregates_are_the_same_in_files_and_read_no_row) {
    vex_db *db = open_db(NULL, 100000);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    vex_buf keys = {0}, memory[4] = {{0}}, files = {0};
    vex_stats before, after;
    kit_put(&keys, "ass", 2u, "n", "nowhere");
    write_many(collection);
    for (uint32_t kind = 0; kind < 4; kind++) {
        CHECK_OK(aggregate(collection, kind, &keys, &memory[kind]));
    }
    CHECK_OK(vex_collection_flush(collection));
    vex_get_stats(&before);
    for (uint32_t kind = 0; kind < 4; kind++) {
        CHECK_OK(aggregate(collection, kind, &keys, &files));
        CHECK_EQ(files.len, memory[kind].len);
        CHECK(memcmp(files.data, memory[kind].data, files.len) == 0);
        vex_buf_clear(&memory[kind]);
    }
    vex_get_stats(&after);
    CHECK_EQ(after.blocks_read, before.blocks_read);
    vex_buf_clear(&keys);
    vex_buf_clear(&files);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(aggregates_and_orders_refuse_malformed_requests) {
    static const char *const forms[] = {"n", "i", "s", "ai", "an", "as", "assn"};
    vex_db *db = open_db(NULL, 100000);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    vex_buf bytes = {0}, out = {0};
    uint32_t n_rows = 0;
    write_many(collection);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        bytes.len = 0;
        forms[i][0] != 'a' ? kit_put(&bytes, forms[i], "n")
                           : kit_put(&bytes, forms[i], i < 5 ? 1u : 2u, "n", "n");
        CHECK_STATUS(aggregate(collection, VEX_AGGREGATE_COUNTS, &bytes, &out), VEX_ERR_INVALID);
        const vex_order order = {
            .key = (const uint8_t *)"n", .key_len = 1, .after = bytes.data, .after_len = bytes.len};
        CHECK_STATUS(ordered(collection, &order, 5, &n_rows), VEX_ERR_INVALID);
    }
    bytes.len = 0;
    kit_put(&bytes, "as", 1u, "n");
    CHECK_STATUS(aggregate(collection, 4, &bytes, &out), VEX_ERR_INVALID);
    CHECK_STATUS(aggregate(collection, UINT32_MAX, &bytes, &out), VEX_ERR_INVALID);
    vex_buf_clear(&bytes);
    kit_put(&bytes, "adi", 2u, (double)NAN, 5LL);
    const vex_order order = {.after = bytes.data, .after_len = bytes.len};
    CHECK_STATUS(ordered(collection, &order, 5, &n_rows), VEX_ERR_INVALID);
    vex_buf_clear(&bytes);
    vex_buf_clear(&out);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

/* Every allocation failing in turn: an error, nothing kept, and the answer afterwards. */
TEST(aggregates_and_orders_without_memory) {
    vex_db *db = open_db(NULL, 100000);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    vex_buf keys = {0};
    kit_put(&keys, "ass", 2u, "n", "nowhere");
    write_many(collection);
    for (int flushed = 0; flushed < 2; flushed++) {
        const vex_order order = {.key = (const uint8_t *)"n", .key_len = 1, .descending = 1};
        for (int call = 0; call < 2; call++) {
            bool done = false;
            for (uint64_t n = 1; !done && n < 300; n++) {
                uint32_t n_rows = 0;
                vex_mem_fail_at(n, true);
                vex_status status = call == 0
                                        ? aggregate(collection, VEX_AGGREGATE_COUNTS, &keys, NULL)
                                        : ordered(collection, &order, 40, &n_rows);
                vex_mem_fail_at(0, false);
                done = status == VEX_OK;
                CHECK(done || status == VEX_ERR_NO_MEMORY);
                CHECK(!done || call == 0 || n_rows == 40);
            }
            CHECK(done);
        }
        CHECK_OK(vex_collection_flush(collection));
    }
    vex_buf_clear(&keys);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}
