/*
 * t_db_index_more.c - collections with a graph: kinds of code rows, how queries are answered, the
 * tail that is not in the graph, graphs that are half built, files that the graph leaves.
 */
#include "tests/index_kit.h"

#include <unistd.h>

static vex_db *open_with(const char *path, vex_db_options options) {
    vex_db *db = NULL;
    options.durability = VEX_DURABILITY_OFF;
    options.busy_timeout_ms = 5000;
    options.memtable_rows = options.memtable_rows ? options.memtable_rows : 100000;
    options.index_rows = options.index_rows ? options.index_rows : INDEX_ROWS;
    CHECK_OK(vex_db_open(path, &options, &db));
    return db;
}

static void check_sound(vex_collection *collection, uint64_t rows) {
    vex_index_check check;
    CHECK_EQ(indexed(collection), rows);
    CHECK_EQ(info_of(collection).unindexed_rows, 0);
    CHECK_OK(vex_collection_check_index(collection, &check));
    CHECK_EQ(check.linked + check.duplicates, rows);
    CHECK_EQ(check.unreachable, 0);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
}

/* ---- kinds of code rows ---- */

/* One element that is large and hardly varies: 8 bits for the range leave nothing for the rest. */
static void make_hard_centres(float large) {
    make_centres();
    for (uint32_t i = 0; i < CLUSTERS; i++) {
        centres[i][0] = large;
    }
}

static void one_kind(uint32_t option, float large, uint32_t space, uint32_t expected) {
    vex_db *db = open_with(NULL, (vex_db_options){.quantization = option});
    vex_collection *collection = open_collection(db, space);
    make_hard_centres(large);
    insert(collection, 0, 3000, VEX_WRITE_ADD);
    check_sound(collection, 3000);
    CHECK_EQ(info_of(collection).quantization, expected);
    insert(collection, 3000, 1000, VEX_WRITE_ADD);
    check_sound(collection, 4000);
    close_all(db, collection);
}

TEST(db_index_kinds_are_chosen) {
    one_kind(VEX_QUANTIZE_AUTO, 0, VEX_SPACE_L2, VEX_QUANTIZE_SQ8);
    one_kind(VEX_QUANTIZE_AUTO, 100, VEX_SPACE_L2, VEX_QUANTIZE_F16);
    one_kind(VEX_QUANTIZE_AUTO, 1e5f, VEX_SPACE_L2, VEX_QUANTIZE_NONE);
    one_kind(VEX_QUANTIZE_NONE, 0, VEX_SPACE_COSINE, VEX_QUANTIZE_NONE);
    one_kind(VEX_QUANTIZE_SQ8, 0, VEX_SPACE_IP, VEX_QUANTIZE_SQ8);
}

TEST(db_index_kind_by_option_only) {
    vex_db *db = open_with(NULL, (vex_db_options){.quantization = VEX_QUANTIZE_SQ8});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    make_hard_centres(1e5f);
    insert(collection, 0, 3000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 3000);
    CHECK_EQ(info_of(collection).quantization, VEX_QUANTIZE_SQ8);
    (void)recall(collection, NULL, 10, 10); /* as many as there are, if not the nearest */
    close_all(db, collection);
    vex_db *none = NULL;
    CHECK_STATUS(vex_db_open(NULL, &(vex_db_options){.quantization = VEX_QUANTIZE_F16}, &none),
                 VEX_ERR_INVALID);
    CHECK_STATUS(vex_db_open(NULL, &(vex_db_options){.quantization = 4}, &none), VEX_ERR_INVALID);
}

/* Data that change their nature: all files follow the one that needs most, and there is one graph. */
TEST(db_index_kind_grows) {
    const char *path = test_directory();
    vex_db *db = open_with(path, (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    make_hard_centres(0);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    check_sound(collection, 2000);
    CHECK_EQ(info_of(collection).quantization, VEX_QUANTIZE_SQ8);
    make_hard_centres(100);
    insert(collection, 2000, 3000, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    CHECK(recall(collection, NULL, 20, 10) >= 0.98); /* whatever the worker has done by now */
    CHECK_OK(vex_collection_compact(collection, 0));
    check_sound(collection, 5000);
    CHECK_EQ(info_of(collection).quantization, VEX_QUANTIZE_F16);
    make_hard_centres(1e5f);
    insert(collection, 5000, 3000, VEX_WRITE_ADD);
    check_sound(collection, 8000); /* without vacuum: the background does it */
    CHECK_EQ(info_of(collection).quantization, VEX_QUANTIZE_NONE);
    close_all(db, collection);
    db = open_with(path, (vex_db_options){0});
    collection = open_collection(db, VEX_SPACE_L2);
    check_sound(collection, 8000);
    CHECK_EQ(info_of(collection).quantization, VEX_QUANTIZE_NONE);
    close_all(db, collection);
}

TEST(db_index_kind_is_changed) {
    static const uint32_t options[] = {VEX_QUANTIZE_NONE, VEX_QUANTIZE_SQ8, VEX_QUANTIZE_NONE};
    const char *path = test_directory();
    make_centres();
    for (uint32_t i = 0; i < 3; i++) {
        vex_db *db = open_with(path, (vex_db_options){.quantization = options[i]});
        vex_collection *collection = open_collection(db, VEX_SPACE_COSINE);
        insert(collection, i * 1000, 1000, VEX_WRITE_ADD);
        CHECK_OK(vex_collection_compact(collection, 0));
        check_sound(collection, (i + 1) * 1000);
        CHECK_EQ(info_of(collection).quantization, options[i]);
        close_all(db, collection);
    }
    vex_db *db = open_with(path, (vex_db_options){.quantization = VEX_QUANTIZE_SQ8});
    vex_collection *collection = open_collection(db, VEX_SPACE_COSINE);
    check_sound(collection, 3000); /* nothing was written: asking for the graph is enough */
    CHECK_EQ(info_of(collection).quantization, VEX_QUANTIZE_SQ8);
    CHECK_OK(vex_collection_wait_index(collection, WAIT_MS)); /* what so many queries ask for */
    CHECK_OK(vex_collection_wait_index(collection, 0)); /* there it is: no need to look again */
    CHECK_STATUS(vex_collection_start_index(collection, 2), VEX_ERR_INVALID);
    close_all(db, collection);
}

TEST(db_index_not_for_l1) {
    vex_db *db = open_with(NULL, (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L1);
    make_centres();
    insert(collection, 0, 3000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 0);
    CHECK(recall(collection, NULL, 5, 10) == 1);
    CHECK_OK(vex_collection_compact(collection, 0));
    CHECK_EQ(info_of(collection).quantization, 0);
    close_all(db, collection);
}

/* ---- how a query is answered ---- */

static vex_query_plan plan_of(vex_collection *collection, const vex_selection *selection,
                              uint32_t k, uint32_t flags) {
    float query[2 * DIMENSION];
    vex_query_plan plan;
    const vex_query_options options = {.flags = flags, .plan = &plan};
    vex_result *found = NULL;
    make_vector(query);
    make_vector(query + DIMENSION);
    CHECK_OK(vex_query(collection, selection, query, 2, DIMENSION, k, &options, 0, &found));
    vex_result_free(found);
    return plan;
}

TEST(db_index_plans) {
    vex_db *db = open_with(NULL, (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    make_centres();
    CHECK_EQ(plan_of(collection, NULL, 10, 0).why, VEX_PLAN_NO_VECTORS);
    insert(collection, 0, 100, VEX_WRITE_ADD);
    vex_query_plan plan = plan_of(collection, NULL, 10, 0);
    CHECK_EQ(plan.why, VEX_PLAN_NO_GRAPH);
    CHECK_EQ(plan.rows, 100);
    CHECK_EQ(plan.read_rows, 200); /* by two queries */
    insert(collection, 100, 11900, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 12000);
    insert(collection, 12000, 100, VEX_WRITE_ADD);
    plan = plan_of(collection, NULL, 10, 0);
    CHECK_EQ(plan.why, VEX_PLAN_WALK);
    CHECK_EQ(plan.ef, 100);
    CHECK_EQ(plan.quantization, VEX_QUANTIZE_SQ8);
    CHECK_EQ(plan.rows, 12100);
    CHECK_EQ(plan.graph_rows, 12000);
    CHECK_EQ(plan.read_rows, 200); /* the tail, by two queries */
    CHECK_EQ(plan.read_again, 0);
    CHECK(plan.walk_distances > 200 && plan.walk_distances < 2 * 6000);
    CHECK(plan.walk_hops >= 200 && plan.exact_distances >= 28);
    CHECK_EQ(plan_of(collection, NULL, 10, VEX_QUERY_EXACT).why, VEX_PLAN_ASKED);
    CHECK_EQ(plan_of(collection, NULL, 5000, 0).why, VEX_PLAN_LARGE_K);
    CHECK_EQ(plan_of(collection, NULL, 50000, 0).why, VEX_PLAN_LARGE_K);
    close_all(db, collection);
}

/* A graph of files that are all gone is none. */
TEST(db_index_plans_after_a_merge) {
    vex_db *db = open_with(NULL, (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    make_centres();
    insert(collection, 0, 3000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 3000);
    CHECK_OK(vex_collection_set_index(collection, &(vex_index_options){.rows = UINT32_MAX}));
    delete_some(collection, 0, 3000, 100);
    CHECK_OK(vex_collection_compact(collection, 0));
    const vex_query_plan plan = plan_of(collection, NULL, 10, 0);
    CHECK_EQ(plan.why, VEX_PLAN_NO_GRAPH);
    CHECK_EQ(plan.rows, 2970);
    CHECK_EQ(plan.graph_rows, 0);
    close_all(db, collection);
}

typedef struct waiter {
    vex_collection *collection;
    vex_status status;
} waiter;

static void *wait_for_ever(void *argument) {
    waiter *w = argument;
    w->status = vex_collection_wait_index(w->collection, UINT32_MAX);
    return NULL;
}

/* Whoever waits for a collection that is deleted is told. */
TEST(db_index_waiting_ends_with_the_collection) {
    vex_db *db = open_with(NULL, (vex_db_options){.index_threads = 1});
    waiter w = {.collection = open_collection(db, VEX_SPACE_L2)};
    pthread_t thread;
    make_centres();
    insert(w.collection, 0, 10000, VEX_WRITE_ADD);
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_ever, &w), 0);
    usleep(30000);
    CHECK_OK(vex_collection_drop(db, uuid));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(w.status == VEX_ERR_NOT_FOUND || w.status == VEX_OK); /* it may have been faster */
    CHECK_OK(vex_db_wait_idle(db, WAIT_MS));
    close_all(db, w.collection);
}

TEST(db_index_plans_for_filters) {
    vex_db *db = open_with(NULL, (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    make_centres();
    insert_numbered(collection, MOST);
    CHECK_EQ(indexed(collection), MOST);
    vex_buf filter = {0};
    vex_selection selection = filter_number(&filter, VEX_F_LT, 5);
    vex_query_plan plan = plan_of(collection, &selection, 10, 0);
    CHECK_EQ(plan.why, VEX_PLAN_FEW_ROWS);
    CHECK_EQ(plan.rows, MOST / 20);
    CHECK_EQ(plan.graph_rows, MOST / 20);
    plan = plan_of(collection, &selection, 10, VEX_QUERY_GRAPH);
    CHECK_EQ(plan.why, VEX_PLAN_WALK);
    vex_buf_clear(&filter);
    selection = filter_number(&filter, VEX_F_LT, 95);
    plan = plan_of(collection, &selection, 10, 0);
    CHECK_EQ(plan.why, VEX_PLAN_WALK);
    CHECK_EQ(plan.rows, MOST / 100 * 95);
    vex_buf_clear(&filter);
    selection = filter_number(&filter, VEX_F_LT, 0);
    CHECK_EQ(plan_of(collection, &selection, 10, 0).why, VEX_PLAN_NO_VECTORS);
    vex_buf_clear(&filter);
    close_all(db, collection);
}

/* Walking on purpose finds as many rows as reading, also where hardly any can be found. */
TEST(db_index_walks_find_all_there_is) {
    vex_db *db = open_with(NULL, (vex_db_options){.index_rows = 1});
    vex_collection *collection = open_collection(db, VEX_SPACE_COSINE);
    const vex_query_options walk = {.flags = VEX_QUERY_GRAPH};
    make_centres();
    insert_numbered(collection, 700);
    CHECK_EQ(indexed(collection), 700);
    for (int64_t share = 0; share <= 100; share += 5) {
        vex_buf filter = {0};
        const vex_selection selection = filter_number(&filter, VEX_F_LT, share);
        for (uint32_t k = 1; k <= 1000; k *= 10) {
            float query[DIMENSION];
            vex_result *found = NULL;
            make_vector(query);
            CHECK_OK(vex_query(collection, &selection, query, 1, DIMENSION, k, &walk, 0, &found));
            uint32_t there = (uint32_t)share * 7;
            CHECK_EQ(found->n_rows, k < there ? k : there);
            vex_result_free(found);
        }
        vex_buf_clear(&filter);
    }
    close_all(db, collection);
}

/* ---- the tail ---- */

/* Many rows in memory beside a graph are flushed without being asked; few are not. */
TEST(db_index_tail_is_flushed) {
    vex_db *db = open_with(test_directory(), (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    make_centres();
    insert(collection, 0, 300, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
    CHECK_EQ(info_of(collection).memtable_rows, 300);
    insert(collection, 300, VEX_TAIL_ROWS, VEX_WRITE_ADD);
    for (uint32_t i = 0; i < WAIT_MS / 10 && info_of(collection).memtable_rows > 0; i++) {
        usleep(10000);
    }
    CHECK_EQ(info_of(collection).memtable_rows, 0);
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
    CHECK_EQ(info_of(collection).indexed_rows, 300 + VEX_TAIL_ROWS);
    insert(collection, 10000, VEX_TAIL_ROWS, VEX_WRITE_ADD);
    CHECK_OK(
        vex_collection_wait_idle(collection, WAIT_MS)); /* which does not wait for the second */
    CHECK_EQ(info_of(collection).memtable_rows, 0);
    close_all(db, collection);
}

/* They came while others were being flushed, which took longer than they were to wait. */
TEST(db_index_tail_that_came_during_a_flush_is_not_forgotten) {
    vex_db *db = open_with(test_directory(), (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    make_centres();
    insert(collection, 0, 300, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
    insert(collection, 300, VEX_TAIL_ROWS, VEX_WRITE_ADD);
    atomic_store(&collection->tail_due_ms, 1);
    vex_collection_settle_tail(collection);
    CHECK(atomic_load(&collection->tail_due_ms) == 1 || info_of(collection).memtable_rows == 0);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
    atomic_store(&collection->tail_due_ms, 1);
    vex_collection_settle_tail(collection);
    CHECK_EQ(atomic_load(&collection->tail_due_ms), 0);
    close_all(db, collection);
}

/* Rows that only the log has, after a crash: queries see to it. */
TEST(db_index_tail_is_flushed_for_queries) {
    const char *path = test_directory();
    vex_db *db = open_with(path, (vex_db_options){.index_rows = UINT32_MAX});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    make_centres();
    insert(collection, 0, VEX_TAIL_ROWS, VEX_WRITE_ADD); /* less than closing flushes */
    close_all(db, collection);
    db = open_with(path, (vex_db_options){0});
    collection = open_collection(db, VEX_SPACE_L2);
    CHECK_EQ(info_of(collection).memtable_rows, VEX_TAIL_ROWS);
    (void)plan_of(collection, NULL, 10, 0);
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
    CHECK_EQ(info_of(collection).memtable_rows, 0);
    CHECK_EQ(info_of(collection).indexed_rows, VEX_TAIL_ROWS);
    close_all(db, collection);
}

typedef struct held_writer {
    vex_collection *collection;
    pthread_t thread;
    atomic_bool through;
} held_writer;

static void *write_past_the_bound(void *argument) {
    held_writer *writer = argument;
    vex_index_wait_for_builder(writer->collection, 100);
    atomic_store(&writer->through, true);
    return NULL;
}

/* Two writers of 100 rows wait for 200. */
TEST(db_index_writers_wait_for_the_builder) {
    vex_db *db = open_with(NULL, (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    vex_index *index = &collection->index;
    held_writer writers[2];
    vex_index_wait_for_builder(collection, 100); /* nothing waits, nobody does */
    atomic_store(&index->waiting_bytes, VEX_TAIL_BYTES + 1);
    for (uint32_t i = 0; i < 2; i++) {
        writers[i].collection = collection;
        atomic_init(&writers[i].through, false);
        CHECK_EQ(pthread_create(&writers[i].thread, NULL, write_past_the_bound, &writers[i]), 0);
    }
    usleep(20000);
    CHECK(!atomic_load(&writers[0].through) && !atomic_load(&writers[1].through));
    atomic_store(&index->inserted, 99);
    usleep(20000);
    CHECK(!atomic_load(&writers[0].through) && !atomic_load(&writers[1].through));
    atomic_store(&index->inserted, 100);
    while (!atomic_load(&writers[0].through) && !atomic_load(&writers[1].through)) {
        usleep(1000);
    }
    usleep(20000);
    CHECK(!atomic_load(&writers[0].through) || !atomic_load(&writers[1].through));
    atomic_store(&index->waiting_bytes, 0); /* enough is in it: the other need not wait either */
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(writers[i].thread, NULL), 0);
    }
    close_all(db, collection);
}

/* ---- building ---- */

TEST(db_index_by_many_threads) {
    vex_db *db = open_with(test_directory(), (vex_db_options){.index_threads = 5});
    vex_collection *collection = open_collection(db, VEX_SPACE_COSINE);
    make_centres();
    for (uint32_t i = 0; i < 4; i++) {
        insert(collection, i * 2000, 2000, VEX_WRITE_ADD);
        CHECK_OK(vex_collection_flush(collection));
    }
    check_sound(collection, 8000);
    close_all(db, collection);
}

/* What was inserted when the database is closed need not be inserted again. */
TEST(db_index_half_built_is_saved) {
    const char *path = test_directory();
    const vex_db_options one = {.index_threads = 1};
    make_centres();
    vex_db *db = open_with(path, one);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    uint64_t before = distances_now();
    insert(collection, 0, 10000, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    while (distances_now() - before < 3000000) {
        usleep(1000);
    }
    CHECK_OK(vex_collection_set_index(collection, &(vex_index_options){.rows = UINT32_MAX}));
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
    uint64_t half = distances_now() - before;
    bool whole = info_of(collection).indexed_rows == 10000; /* on a very slow day */
    close_all(db, collection);
    CHECK(graph_file(path)[0] != '\0');
    db = open_with(path, one);
    collection = open_collection(db, VEX_SPACE_L2);
    before = distances_now();
    CHECK_EQ(indexed(collection), 10000);
    uint64_t rest = distances_now() - before;
    check_sound(collection, 10000);
    close_all(db, collection);

    db = open_with(NULL, one);
    collection = open_collection(db, VEX_SPACE_L2);
    before = distances_now();
    insert(collection, 0, 10000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 10000);
    uint64_t all = distances_now() - before;
    CHECK(whole || rest < all - half / 2);
    close_all(db, collection);
}

/* The same after a remap, which may leave several files to be inserted. */
TEST(db_index_half_remapped_is_saved) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_with(path, (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 1000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 1000);
    CHECK_OK(vex_collection_set_index(collection, &(vex_index_options){.rows = UINT32_MAX}));
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
    insert(collection, 1000, 700, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    insert(collection, 1700, 800, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    delete_some(collection, 0, 1000, 2); /* a remap is due, which takes the other files along */
    CHECK_OK(vex_collection_flush(collection));
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
    bool more = true;
    collection->index.options.rows = INDEX_ROWS; /* one step, by hand: the worker does none */
    CHECK_OK(vex_index_step(collection, &more));
    CHECK(info_of(collection).unindexed_rows >= 1500); /* the two files */
    collection->index.options.rows = UINT32_MAX;
    close_all(db, collection);
    db = open_with(path, (vex_db_options){0});
    collection = open_collection(db, VEX_SPACE_L2);
    CHECK(indexed(collection) >= 2000);
    CHECK_EQ(info_of(collection).unindexed_rows, 0);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
    close_all(db, collection);
}

/* A reader of read-only media cannot extend its graph: it takes over what the writer saved. */
TEST(db_index_read_only_follows) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_with(path, (vex_db_options){0}), *reading = NULL;
    vex_collection *collection = open_collection(db, VEX_SPACE_L2), *reader = NULL;
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 2000);
    reading = open_with(path, (vex_db_options){.flags = VEX_OPEN_READ_ONLY});
    CHECK_OK(vex_collection_open(reading, uuid, &reader));
    CHECK_EQ(indexed(reader), 2000);
    insert(collection, 2000, 3000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 5000);
    for (uint32_t i = 0; i < WAIT_MS / 10 && info_of(reader).indexed_rows < 5000; i++) {
        CHECK(recall(reader, NULL, 1, 10) >= 0.5);
        usleep(10000);
    }
    CHECK_EQ(info_of(reader).indexed_rows, 5000);
    CHECK(recall(reader, NULL, 40, 10) >= 0.98);
    close_all(reading, reader);
    close_all(db, collection);
}

/* ---- files that the graph leaves ---- */

static void upsert_one(vex_collection *collection, uint64_t id, const float *vector) {
    const vexfs_batch_insert_request request = {.vectors = vector,
                                                .count = 1,
                                                .dimensions = DIMENSION,
                                                .ids = &id,
                                                .flags = VEX_WRITE_UPSERT};
    CHECK_OK(vex_batch_insert_simple(collection, &request));
    CHECK_OK(vex_collection_flush(collection));
}

/* A vector that changes and changes back is in three files, twice the same, of one seq. */
TEST(db_index_vectors_that_change_back) {
    float a[DIMENSION], b[DIMENSION];
    make_centres();
    vex_db *db = open_with(test_directory(), (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    for (uint64_t id = 0; id < 20; id++) {
        make_vector(a);
        make_vector(b);
        upsert_one(collection, id, a);
        upsert_one(collection, id, b);
        upsert_one(collection, id, a);
    }
    CHECK(indexed(collection) >= 2000);
    CHECK_OK(vex_collection_compact(collection, 0));
    check_sound(collection, 2000);
    vexfs_vector_search_request request = {
        .query = a, .dimensions = DIMENSION, .k = 1, .search_type = VEX_SPACE_L2};
    float distance = -1;
    uint64_t id = 0;
    request.results = &distance;
    request.result_ids = &id;
    CHECK_OK(vex_search_simple(collection, &request));
    CHECK_EQ(id, 19);
    CHECK(distance == 0);
    close_all(db, collection);
}

TEST(db_index_file_goes_with_the_rows) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_with(path, (vex_db_options){0});
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 2000);
    CHECK(graph_file(path)[0] != '\0');
    delete_some(collection, 0, 2000, 1);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_EQ(indexed(collection), 0);
    CHECK(graph_file(path)[0] == '\0');
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 2000);
    CHECK(graph_file(path)[0] != '\0');
    delete_some(collection, 0, 2000, 1);
    close_all(db, collection);
    CHECK(graph_file(path)[0] == '\0');
}
