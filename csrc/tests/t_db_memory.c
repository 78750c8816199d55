/* db/memory.c: giving memory back, by itself and when asked to, the limit, and the report. */
#include "tests/index_kit.h"

#include <pthread.h>
#include <stdatomic.h>

enum { ROWS = 4000, QUERIES = 20, K = 10, PAGE = 4096 };

static vex_collection_memory memory_of(vex_collection *collection) {
    vex_collection_memory memory;
    CHECK_OK(vex_collection_get_memory(collection, &memory));
    return memory;
}

static vex_stats stats_now(void) {
    vex_stats stats;
    vex_get_stats(&stats);
    return stats;
}

static vex_db *open_limited(const char *path, uint64_t limit) {
    const vex_db_options options = {.durability = VEX_DURABILITY_OFF,
                                    .busy_timeout_ms = 5000,
                                    .memtable_rows = 100000,
                                    .index_rows = INDEX_ROWS,
                                    .memory_limit = limit};
    vex_db *db = NULL;
    CHECK_OK(vex_db_open(path, &options, &db));
    return db;
}

/* What some queries find. */
typedef struct answers {
    float queries[QUERIES][DIMENSION];
    float distances[QUERIES][K];
} answers;

static void ask(vex_collection *collection, const float *query, float *distances) {
    vex_result *found = NULL;
    const vex_query_options options = {.flags = VEX_QUERY_GRAPH};
    CHECK_OK(vex_query(collection, NULL, query, 1, DIMENSION, K, &options, VEX_INCLUDE_METADATAS,
                       &found));
    CHECK_EQ(found->n_rows, K);
    memcpy(distances, found->distances, K * sizeof *distances);
    vex_result_free(found);
}

static void ask_all(vex_collection *collection, answers *a) {
    for (int q = 0; q < QUERIES; q++) {
        make_vector(a->queries[q]);
        ask(collection, a->queries[q], a->distances[q]);
    }
}

static void check_same(vex_collection *collection, const answers *a) {
    float distances[K];
    for (int q = 0; q < QUERIES; q++) {
        ask(collection, a->queries[q], distances);
        CHECK(memcmp(distances, a->distances[q], sizeof distances) == 0);
    }
}

static vex_collection *filled(vex_db *db) {
    make_centres();
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert_numbered(collection, ROWS);
    CHECK_EQ(indexed(collection), ROWS);
    return collection;
}

/* Wait for the background; the test fails if it never does it. */
static void wait_until(bool (*done)(vex_collection *), vex_collection *collection) {
    for (int i = 0; i < WAIT_MS && !done(collection); i++) {
        const struct timespec ms = {0, 1000000};
        nanosleep(&ms, NULL);
    }
    CHECK(done(collection));
}

/* Pages at the ends of a section are kept: they are of the neighbours, too. */
static bool is_at_rest(vex_collection *collection) {
    const vex_collection_memory memory = memory_of(collection);
    return memory.vector_bytes <= 2 * PAGE && memory.document_bytes <= 2 * PAGE;
}

TEST(db_memory_is_given_back_at_rest) {
    vex_memory_test_rest_ms = 300;
    vex_db *db = open_indexed(test_directory());
    vex_collection *collection = filled(db);
    answers a;
    wait_until(is_at_rest, collection);
    for (int i = 0; i < 3; i++) {
        ask_all(collection, &a);
        const vex_collection_memory used = memory_of(collection);
        CHECK(used.vector_bytes > 2 * PAGE && used.vector_bytes <= used.mapped_bytes);
        CHECK(used.code_bytes > 0 && used.graph_bytes > 0 && used.search_bytes > 0);
        CHECK(used.key_bytes > 0 && used.document_bytes > 0);
        CHECK_EQ(used.collections, 1);
        const uint64_t before = stats_now().given_back_bytes;
        wait_until(is_at_rest, collection);
        CHECK(stats_now().given_back_bytes >= before + (uint64_t)ROWS * DIMENSION * sizeof(float));
        const vex_collection_memory rests = memory_of(collection);
        CHECK_EQ(rests.code_bytes, used.code_bytes); /* the next walk needs them */
        CHECK_EQ(rests.graph_bytes, used.graph_bytes);
        check_same(collection, &a);
    }
    vex_memory_test_rest_ms = 0;
    close_all(db, collection);
}

TEST(db_memory_unloaded_is_loaded_again) {
    vex_db *db = open_indexed(test_directory());
    vex_collection *collection = filled(db);
    answers a;
    ask_all(collection, &a);
    for (int i = 0; i < 3; i++) {
        const uint64_t unloaded = stats_now().graphs_unloaded;
        CHECK_OK(i == 0 ? vex_collection_unload(collection) : vex_db_unload(db));
        CHECK_EQ(stats_now().graphs_unloaded, unloaded + 1);
        const vex_collection_memory memory = memory_of(collection);
        CHECK_EQ(memory.graph_bytes, 0);
        CHECK_EQ(memory.search_bytes, 0);
        CHECK(memory.code_bytes <= 2 * PAGE && memory.vector_bytes <= 2 * PAGE);
        CHECK(memory.document_bytes <= 2 * PAGE);
        CHECK_EQ(info_of(collection).rows, ROWS);
        CHECK_OK(vex_collection_unload(collection)); /* nothing is left to unload */
        CHECK_EQ(stats_now().graphs_unloaded, unloaded + 1);
        const uint64_t built = distances_now();
        CHECK_EQ(indexed(collection), ROWS);
        CHECK_EQ(distances_now(), built); /* loaded, not built */
        check_same(collection, &a);
    }
    close_all(db, collection);
}

/* What is not in the file of the graph is saved first, or stays. */
TEST(db_memory_unload_saves_the_graph) {
    const char *path = test_directory();
    vex_db *db = open_indexed(path);
    vex_collection *collection = filled(db);
    insert(collection, 100000, 500, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_OK(vex_collection_start_index(collection, 0));
    CHECK_OK(vex_collection_unload(collection)); /* however far it is */
    CHECK(recall(collection, NULL, 20, K) >= 0.98);
    CHECK_EQ(indexed(collection), ROWS + 500);
    delete_some(collection, 100000, 100500, 1);
    close_all(db, collection);
}

TEST(db_memory_unload_in_memory_keeps_the_graph) {
    vex_db *db = open_indexed(NULL);
    vex_collection *collection = filled(db);
    answers a;
    ask_all(collection, &a);
    CHECK_OK(vex_db_unload(db));
    const vex_collection_memory memory = memory_of(collection);
    CHECK(memory.graph_bytes > 0);
    CHECK(memory.vector_bytes >= (uint64_t)ROWS * DIMENSION * sizeof(float));
    CHECK_EQ(info_of(collection).indexed_rows, ROWS);
    check_same(collection, &a);
    close_all(db, collection);
}

TEST(db_memory_unload_read_only) {
    const char *path = test_directory();
    vex_db *db = open_indexed(path);
    vex_collection *collection = filled(db);
    answers a;
    ask_all(collection, &a);
    close_all(db, collection);
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY, .index_rows = INDEX_ROWS};
    CHECK_OK(vex_db_open(path, &options, &db));
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    CHECK_EQ(indexed(collection), ROWS);
    CHECK_OK(vex_collection_unload(collection));
    CHECK_EQ(info_of(collection).indexed_rows, 0);
    CHECK_EQ(indexed(collection), ROWS);
    check_same(collection, &a);
    close_all(db, collection);
}

/* ---- the graph of a file ---- */

/* The first query walks it where it is mapped; it is copied when something is to be inserted. */
TEST(db_memory_first_query_walks_the_stored_graph) {
    const char *path = test_directory();
    vex_db *db = open_indexed(path);
    vex_collection *collection = filled(db);
    answers a;
    ask_all(collection, &a);
    close_all(db, collection);
    for (uint32_t flags = 0; flags <= VEX_OPEN_READ_ONLY; flags += VEX_OPEN_READ_ONLY) {
        const vex_db_options options = {.flags = flags, .index_rows = INDEX_ROWS};
        vex_query_plan plan = {0};
        const vex_query_options asked = {.flags = VEX_QUERY_GRAPH, .plan = &plan};
        vex_result *found = NULL;
        CHECK_OK(vex_db_open(path, &options, &db));
        CHECK_OK(vex_collection_open(db, uuid, &collection));
        CHECK_EQ(info_of(collection).indexed_rows, 0);
        CHECK_OK(vex_query(collection, NULL, a.queries[0], 1, DIMENSION, K, &asked, 0, &found));
        vex_result_free(found);
        CHECK_EQ(plan.why, VEX_PLAN_WALK);
        CHECK_EQ(plan.graph_rows, ROWS);
        CHECK_EQ(plan.read_rows, 0);
        check_same(collection, &a);
        CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS));
        const vex_collection_memory memory = memory_of(collection);
        CHECK(memory.link_bytes >= ROWS * 32 * sizeof(uint32_t));
        CHECK(memory.graph_bytes < memory.link_bytes / 2);
        close_all(db, collection);
    }
    db = open_indexed(path);
    collection = open_collection(db, VEX_SPACE_L2);
    check_same(collection, &a);
    insert(collection, 70000, 600, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), ROWS + 600);
    const vex_collection_memory memory = memory_of(collection);
    CHECK_EQ(memory.link_bytes, 0);
    CHECK(memory.graph_bytes >= ROWS * 32 * sizeof(uint32_t));
    CHECK(recall(collection, NULL, 20, K) >= 0.98);
    close_all(db, collection);
}

static bool is_held(vex_collection *collection) {
    const vex_collection_memory memory = memory_of(collection);
    return memory.link_bytes == 0 && memory.graph_bytes >= ROWS * 32 * sizeof(uint32_t);
}

static void check_often(vex_collection *collection, const answers *a) {
    for (int n = 0; n < 70; n += QUERIES) {
        check_same(collection, a);
    }
}

/* A graph that is asked often is taken out of the pages of its file; where it cannot be, or memory is
 * limited, it goes on serving from there. */
TEST(db_memory_links_are_held_when_asked_often) {
    const char *path = test_directory();
    vex_db *db = open_indexed(path);
    vex_collection *collection = filled(db);
    answers a;
    ask_all(collection, &a);
    close_all(db, collection);
    for (uint32_t flags = 0; flags <= VEX_OPEN_READ_ONLY; flags += VEX_OPEN_READ_ONLY) {
        const vex_db_options options = {.flags = flags, .index_rows = INDEX_ROWS};
        CHECK_OK(vex_db_open(path, &options, &db));
        CHECK_OK(vex_collection_open(db, uuid, &collection));
        check_often(collection, &a);
        wait_until(is_held, collection);
        check_often(collection, &a);
        close_all(db, collection);
    }
    db = open_limited(path, 1ull << 40);
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    check_often(collection, &a);
    CHECK_OK(vex_collection_wait_index(collection, WAIT_MS));
    CHECK(!is_held(collection));
    close_all(db, collection);

    db = open_indexed(path);
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    check_same(collection, &a); /* it is mapped, and then its name goes */
    CHECK_EQ(remove(graph_file(path)), 0);
    check_often(collection, &a);
    CHECK_OK(vex_collection_wait_index(collection, WAIT_MS));
    CHECK_EQ(info_of(collection).indexed_rows, ROWS);
    CHECK(!is_held(collection) && memory_of(collection).link_bytes > 0);
    check_often(collection, &a);
    close_all(db, collection);
}

/* ---- the limit ---- */

static const uint8_t other_uuid[16] = {9};

static vex_collection *open_other(vex_db *db) {
    vex_collection *other = NULL;
    CHECK_OK(vex_collection_create(db, other_uuid, VEX_SPACE_L2));
    CHECK_OK(vex_collection_open(db, other_uuid, &other));
    insert(other, 0, ROWS, VEX_WRITE_ADD);
    CHECK_EQ(indexed(other), ROWS);
    return other;
}

static bool is_unloaded(vex_collection *collection) {
    return memory_of(collection).graph_bytes == 0;
}

TEST(db_memory_limit_unloads_what_was_used_least_recently) {
    vex_db *db = open_limited(test_directory(), 1); /* whatever there is, it is too much */
    vex_collection *collection = filled(db), *other = open_other(db);
    answers a;
    ask_all(other, &a);
    wait_until(is_unloaded, collection);
    for (int i = 0; i < 3; i++) {
        check_same(other, &a);
        CHECK(!is_unloaded(other)); /* it was used last */
    }
    ask_all(collection, &a);
    wait_until(is_unloaded, other);
    check_same(collection, &a);
    CHECK(!is_unloaded(collection));
    CHECK_OK(vex_collection_close(other));
    close_all(db, collection);
}

/* The data are four times the limit: slower, and the same. */
TEST(db_memory_limit_of_a_quarter) {
    const char *path = test_directory();
    vex_db *db = open_indexed(path);
    vex_collection *collection = filled(db);
    answers a;
    ask_all(collection, &a);
    const uint64_t data = memory_of(collection).mapped_bytes;
    const uint64_t fetched = stats_now().rows_fetched;
    close_all(db, collection);
    CHECK_EQ(fetched, stats_now().rows_fetched); /* never without a limit */

    db = open_limited(path, data / 4);
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    CHECK_EQ(indexed(collection), ROWS);
    check_same(collection, &a);
    CHECK(stats_now().rows_fetched >= fetched + (uint64_t)QUERIES * K); /* reranked by reading */
    insert(collection, 200000, 3000, VEX_WRITE_ADD);
    delete_some(collection, 200000, 203000, 2);
    CHECK(recall(collection, NULL, 20, K) >= 0.98);
    CHECK_OK(vex_collection_compact(collection, 0));
    CHECK_EQ(indexed(collection), ROWS + 1500);
    CHECK(recall(collection, NULL, 20, K) >= 0.98);
    wait_until(is_at_rest, collection); /* with a limit not only at rest */
    close_all(db, collection);
}

/* ---- beside everything else ---- */

typedef struct shared {
    vex_db *db;
    vex_collection *collection;
    atomic_bool stop;
} shared;

static void *unload_again_and_again(void *context) {
    shared *s = context;
    while (!atomic_load(&s->stop)) {
        vex_collection_memory memory;
        CHECK_OK(vex_collection_unload(s->collection));
        CHECK_OK(vex_db_get_memory(s->db, &memory));
        CHECK_EQ(memory.collections, 1);
    }
    return NULL;
}

TEST(db_memory_unload_beside_reads_and_writes) {
    vex_db *db = open_limited(test_directory(), 1);
    shared s = {.db = db, .collection = filled(db)};
    pthread_t thread;
    atomic_init(&s.stop, false);
    CHECK_EQ(pthread_create(&thread, NULL, unload_again_and_again, &s), 0);
    for (uint32_t i = 0; i < 15; i++) {
        insert(s.collection, 50000 + 100 * i, 100, VEX_WRITE_ADD);
        if (i % 5 == 0) {
            CHECK_OK(vex_collection_flush(s.collection));
        }
        CHECK(recall(s.collection, NULL, 5, K) >= 0.8);
    }
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
    CHECK_EQ(indexed(s.collection), ROWS + 1500);
    CHECK(recall(s.collection, NULL, 20, K) >= 0.98);
    close_all(db, s.collection);
}
