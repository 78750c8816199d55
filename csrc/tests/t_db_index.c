/*
 * t_db_index.c - collections with a graph: complete results while it is built, recall, filters,
 * deletes, files that come and go, saving and loading, damage.
 */
#include "tests/index_kit.h"

static uint64_t distances_of_queries(vex_collection *collection, uint32_t queries) {
    vex_stats before, after;
    vex_get_stats(&before);
    for (uint32_t q = 0; q < queries; q++) {
        float query[DIMENSION];
        vex_result *found = NULL;
        make_vector(query);
        CHECK_OK(vex_query(collection, NULL, query, 1, DIMENSION, 10, NULL, 0, &found));
        vex_result_free(found);
    }
    vex_get_stats(&after);
    return (after.distances - before.distances) / queries;
}

static void life(const char *path, uint32_t space) {
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, space);
    insert(collection, 0, 4000, VEX_WRITE_ADD);
    CHECK_EQ(info_of(collection).indexed_rows, 0); /* still in memory */
    CHECK_EQ(indexed(collection), 4000);
    CHECK_EQ(info_of(collection).unindexed_rows, 0);
    CHECK_EQ(info_of(collection).quantization, VEX_QUANTIZE_SQ8);
    CHECK(recall(collection, NULL, 60, 10) >= 0.98);
    CHECK(distances_of_queries(collection, 20) < 2000); /* not a scan */

    insert(collection, 4000, 1000, VEX_WRITE_ADD); /* the tail, in memory */
    CHECK(recall(collection, NULL, 60, 10) >= 0.98);
    CHECK_OK(vex_collection_flush(collection));
    CHECK(recall(collection, NULL, 60, 10) >= 0.98); /* whatever the worker has done by now */
    CHECK_EQ(indexed(collection), 5000);

    delete_some(collection, 0, 5000, 10);
    insert(collection, 2001, 50, VEX_WRITE_UPSERT); /* vectors move from file to memory */
    CHECK(recall(collection, NULL, 60, 10) >= 0.98);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), 5050);
    delete_some(collection, 0, 5000, 3); /* a third: the graph is made anew without them */
    CHECK_EQ(indexed(collection), 5050);
    CHECK(recall(collection, NULL, 60, 10) >= 0.98);

    vex_collection_info info;
    CHECK_OK(vex_collection_get_info(collection, &info));
    CHECK(recall(collection, NULL, 10, (uint32_t)info.rows) == 1); /* all of them */
    CHECK(recall(collection, NULL, 10, 300) >= 0.98);
    close_all(db, collection);
}

TEST(db_index_life_in_memory) {
    life(NULL, VEX_SPACE_L2);
}
TEST(db_index_life_on_disk) {
    life(test_directory(), VEX_SPACE_COSINE);
}
TEST(db_index_life_ip) {
    life(test_directory(), VEX_SPACE_IP);
}

/* ---- saving and loading ---- */

TEST(db_index_is_saved_and_loaded) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 3000, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), 3000);
    uint64_t built = distances_now();
    close_all(db, collection);
    CHECK(graph_file(path)[0] != '\0');

    db = open_indexed(path);
    collection = open_collection(db, VEX_SPACE_L2);
    uint64_t before = distances_now();
    CHECK_EQ(indexed(collection), 3000);
    CHECK(distances_now() - before < built / 100); /* loaded, not built */
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
    insert(collection, 3000, 2000, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), 5000);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
    close_all(db, collection);

    /* Read-only: loaded, never built or saved. */
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY, .index_rows = INDEX_ROWS};
    CHECK_OK(vex_db_open(path, &options, &db));
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    CHECK_EQ(indexed(collection), 5000);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
    close_all(db, collection);
}

TEST(db_index_survives_damage) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 1500, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), 1500);
    close_all(db, collection);
    for (uint32_t round = 0; round < 12; round++) {
        FILE *stream = fopen(graph_file(path), "r+b");
        CHECK(stream != NULL && fseek(stream, 0, SEEK_END) == 0);
        long at = (long)test_random_below((uint32_t)ftell(stream));
        CHECK(fseek(stream, at, SEEK_SET) == 0);
        const int byte = fgetc(stream);
        CHECK(fseek(stream, at, SEEK_SET) == 0 && fputc(byte ^ 16, stream) != EOF);
        CHECK(fclose(stream) == 0);
        db = open_indexed(path);
        collection = open_collection(db, VEX_SPACE_L2);
        CHECK(recall(collection, NULL, 3, 10) >= 0.9);
        CHECK_EQ(indexed(collection), 1500);
        CHECK(recall(collection, NULL, 20, 10) >= 0.98);
        close_all(db, collection);
    }
}

/* ---- files that go ---- */

TEST(db_index_without_a_file_that_died) {
    make_centres();
    vex_db *db = open_indexed(NULL);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    for (uint64_t part = 0; part < 3; part++) {
        insert(collection, part * 1000, 1000, VEX_WRITE_ADD);
        CHECK_OK(vex_collection_flush(collection));
    }
    CHECK_EQ(indexed(collection), 3000);
    delete_some(collection, 0, 1000, 1);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
    CHECK_OK(vex_collection_flush(collection)); /* the first file vanishes */
    CHECK_EQ(indexed(collection), 2000);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
    delete_some(collection, 1000, 3000, 1);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), 0);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), 2000);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
    close_all(db, collection);
}

/* ---- filters ---- */

TEST(db_index_with_filters) {
    static const int64_t shares[] = {0, 1, 5, 50, 90, 99, 100}; /* per cent of the rows */
    make_centres();
    vex_db *db = open_indexed(NULL);
    vex_collection *collection = open_collection(db, VEX_SPACE_COSINE);
    insert_numbered(collection, MOST);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), MOST);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        vex_buf filter = {0};
        const vex_selection selection = filter_number(&filter, VEX_F_LT, shares[i]);
        CHECK(recall(collection, &selection, 25, 10) >= 0.98);
        CHECK(recall(collection, &selection, 5, 200) >= 0.98);
        vex_buf_clear(&filter);
    }
    close_all(db, collection);
}

TEST(db_index_options) {
    vex_db *db = open_indexed(NULL);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_STATUS(vex_collection_set_index(collection, &(vex_index_options){.m = 1}),
                 VEX_ERR_INVALID);
    CHECK_STATUS(vex_collection_set_index(collection, &(vex_index_options){.m = 1025}),
                 VEX_ERR_INVALID);
    CHECK_OK(vex_collection_set_index(collection, &(vex_index_options){.rows = UINT32_MAX}));
    insert(collection, 0, 1000, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), 0);
    CHECK_OK(vex_collection_set_index(
        collection, &(vex_index_options){.rows = 900, .m = 8, .ef_construction = 50, .ef = 20}));
    CHECK_EQ(indexed(collection), 1000);
    close_all(db, collection);
}
