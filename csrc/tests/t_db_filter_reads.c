/*
 * t_db_filter_reads.c - what a filter on metadata reads: counting reads no block of payload, and
 * getting ids no document; and what updates read.
 */
#include "codec/block_cache.h"
#include "tests/db_kit.h"
#include "tests/zstd_provider.h"

static uint64_t blocks_now(void) {
    vex_stats stats;
    vex_get_stats(&stats);
    return stats.blocks_read;
}

static void write_many(vex_collection *collection) {
    static char ids[1500][12], documents[1500][400];
    for (uint32_t first = 0; first < 1500; first += 30) {
        row rows[30];
        for (uint32_t i = 0; i < 30; i++) {
            const uint32_t number = first + i;
            (void)snprintf(ids[number], sizeof ids[number], "r%u", number);
            for (uint32_t c = 0; c + 1 < sizeof documents[number]; c++) {
                documents[number][c] = (char)('a' + test_random_below(26));
            }
            rows[i] = (row){.id = ids[number],
                            .x = (float)number,
                            .y = 1,
                            .document = documents[number],
                            .number = number % 50};
        }
        CHECK_OK(write_rows(collection, VEX_WRITE_ADD, rows, 30, true));
    }
    CHECK_OK(vex_collection_flush(collection));
}

static uint64_t blocks_of_get(vex_collection *collection, const vex_selection *selection,
                              uint32_t include) {
    vex_result *result = NULL;
    const uint64_t before = blocks_now();
    CHECK_OK(vex_get(collection, selection, 0, -1, include, &result));
    CHECK_EQ(result->n_rows, 300);
    vex_result_free(result);
    return blocks_now() - before;
}

TEST(filters_count_without_reading_and_get_without_documents) {
    vex_db *db = open_db(NULL, 100000);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    vex_buf filter = {0};
    uint64_t n = 0;
    write_many(collection);
    const vex_selection some = filter_number(&filter, VEX_F_LT, 10);
    const uint64_t before = blocks_now();
    CHECK_OK(vex_count(collection, &some, &n));
    CHECK_EQ(n, 300);
    CHECK_EQ(blocks_now() - before, 0);
    const uint64_t ids = blocks_of_get(collection, &some, 0);
    const uint64_t all = blocks_of_get(collection, &some, VEX_INCLUDE_DOCUMENTS);
    CHECK_EQ(ids, 0);
    CHECK(all > 0);
    vex_buf_clear(&filter);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

/* What is updated in no order has its blocks unpacked once, not for each record; what comes in order
 * leaves the cache of blocks alone. */
TEST(updates_unpack_a_block_once) {
    CHECK_OK(test_register_zstd()); /* other tests do, and compressed there are fewer blocks */
    vex_db *db = open_db(NULL, 100000);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    static char ids[1500][12];
    static row rows[1500];
    write_many(collection);
    for (int scattered = 0; scattered < 2; scattered++) {
        for (uint32_t i = 0; i < 1500; i++) {
            const uint32_t number = scattered ? i * 701 % 1500 : i;
            (void)snprintf(ids[i], sizeof ids[i], "r%u", number);
            rows[i] = (row){.id = ids[i], .number = 100 + scattered};
        }
        CHECK_OK(vex_collection_wait_idle(collection, 60000)); /* it reads blocks, too */
        vex_block_cache_clear();
        const uint64_t before = blocks_now();
        CHECK_OK(write_rows(collection, VEX_WRITE_UPDATE, rows, 1500, false));
        const uint64_t blocks = blocks_now() - before;
        CHECK(blocks > 10 && blocks < 100);
        CHECK(scattered || vex_block_cache_bytes() == 0);
        CHECK_OK(vex_collection_flush(collection));
    }
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}
