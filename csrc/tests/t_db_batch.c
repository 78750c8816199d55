/*
 * t_db_batch.c - batches of queries: as many threads as there are, the same answers as one by one,
 * bit for bit; what they count adds up; failures inside are reported once.
 */
#include "base/pool.h"
#include "tests/index_kit.h"

#include <stdatomic.h>

/* ---- the pool ---- */

typedef struct tally {
    atomic_uint parts[1000], bodies;
    uint32_t fails_at;
} tally;

static vex_status count_parts(void *context, vex_pool_job *job) {
    tally *t = context;
    atomic_fetch_add(&t->bodies, 1);
    for (uint32_t part; vex_pool_next(job, &part);) {
        atomic_fetch_add(&t->parts[part], 1);
        if (part == t->fails_at) {
            return VEX_FAIL(VEX_ERR_CORRUPT, "part %u is damaged", (unsigned)part);
        }
    }
    return VEX_OK;
}

TEST(pool_does_every_part_once) {
    for (uint32_t threads = 0; threads <= 8; threads++) {
        static tally t;
        t = (tally){.fails_at = UINT32_MAX};
        CHECK_OK(vex_pool_run(1000, threads, count_parts, &t));
        for (uint32_t i = 0; i < 1000; i++) {
            CHECK_EQ(atomic_load(&t.parts[i]), 1);
        }
        CHECK(atomic_load(&t.bodies) >= 1 && atomic_load(&t.bodies) <= (threads ? threads : 1));
    }
    CHECK(vex_pool_threads() <= 7);
    vex_pool_stop();
    CHECK_EQ(vex_pool_threads(), 0);
}

TEST(pool_starts_no_thread_for_one) {
    static tally t;
    t = (tally){.fails_at = UINT32_MAX};
    vex_pool_stop();
    CHECK_OK(vex_pool_run(1000, 1, count_parts, &t));
    CHECK_OK(vex_pool_run(1, 8, count_parts, &t));
    CHECK_EQ(vex_pool_threads(), 0);
}

TEST(pool_reports_the_first_failure) {
    for (uint32_t round = 0; round < 50; round++) {
        static tally t;
        t = (tally){.fails_at = 17};
        (void)VEX_FAIL(VEX_ERR_BUSY, "of before");
        CHECK_EQ(vex_pool_run(1000, 4, count_parts, &t), VEX_ERR_CORRUPT);
        CHECK(strcmp(vex_last_error()->message, "part 17 is damaged") == 0);
        CHECK_EQ(vex_last_error()->code, VEX_ERR_CORRUPT);
    }
    vex_pool_stop();
}

static void *run_jobs(void *failures) {
    for (uint32_t round = 0; round < 100; round++) {
        tally *t = calloc(1, sizeof *t);
        t->fails_at = UINT32_MAX;
        bool fine = vex_pool_run(200, 3, count_parts, t) == VEX_OK;
        for (uint32_t i = 0; i < 200; i++) {
            fine = fine && atomic_load(&t->parts[i]) == 1;
        }
        atomic_fetch_add((atomic_int *)failures, !fine);
        free(t);
    }
    return NULL;
}

TEST(pool_serves_many_callers_while_it_is_stopped) {
    pthread_t threads[4];
    atomic_int failures = 0;
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, run_jobs, &failures), 0);
    }
    for (uint32_t i = 0; i < 50; i++) {
        vex_pool_stop();
    }
    for (uint32_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(atomic_load(&failures), 0);
    vex_pool_stop();
}

/* ---- queries ---- */

enum { QUERIES = 150 };

static float queries[QUERIES * DIMENSION];

static void make_queries(void) {
    for (uint32_t q = 0; q < QUERIES; q++) {
        make_vector(queries + (size_t)q * DIMENSION);
    }
}

/* The batch and each query alone: the same rows, distances and ids. */
static void check_batch(vex_collection *collection, const vex_selection *selection, uint32_t n,
                        uint32_t k, uint32_t threads, uint32_t flags) {
    vex_query_plan plan = {0}, one = {0};
    const vex_query_options all = {.flags = flags, .plan = &plan, .threads = threads};
    const vex_query_options single = {.flags = flags, .plan = &one};
    vex_result *batch = NULL;
    uint64_t walked = 0, hops = 0;
    uint32_t done = 0;
    CHECK_OK(
        vex_query(collection, selection, queries, n, DIMENSION, k, &all, VEX_INCLUDE_SEQS, &batch));
    CHECK_EQ(batch->n_queries, n);
    for (uint32_t q = 0; q < n; q++) {
        vex_result *alone = NULL;
        CHECK_OK(vex_query(collection, selection, queries + (size_t)q * DIMENSION, 1, DIMENSION, k,
                           &single, VEX_INCLUDE_SEQS, &alone));
        CHECK_EQ(batch->row_counts[q], alone->n_rows);
        if (batch->row_counts[q] == alone->n_rows) {
            CHECK(memcmp(batch->seqs + done, alone->seqs, alone->n_rows * sizeof(uint64_t)) == 0);
            CHECK(memcmp(batch->distances + done, alone->distances,
                         alone->n_rows * sizeof(float)) == 0);
        }
        done += batch->row_counts[q];
        walked += one.walk_distances;
        hops += one.walk_hops;
        vex_result_free(alone);
    }
    if (plan.why == one.why) {
        CHECK_EQ(plan.walk_distances, walked);
        CHECK_EQ(plan.walk_hops, hops);
        CHECK_EQ(plan.read_rows, n * one.read_rows);
    }
    vex_result_free(batch);
}

static void check_batches(vex_collection *collection, uint32_t flags) {
    static const uint32_t sizes[] = {2, 3, 4, 17, 33, QUERIES}, threads[] = {1, 2, 8};
    vex_buf filter = {0};
    const vex_selection some = filter_number(&filter, VEX_F_LT, 30);
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t t = 0; t < 3; t++) {
            check_batch(collection, NULL, sizes[i], 10, threads[t], flags);
        }
        check_batch(collection, &some, sizes[i], 10, 8, flags);
        check_batch(collection, NULL, sizes[i], 1, 8, flags);
    }
    check_batch(collection, NULL, 17, 300, 8, flags);
    vex_buf_clear(&filter);
}

static void delete_first(vex_collection *collection) {
    vex_buf filter = {0};
    const vex_selection zero = filter_number(&filter, VEX_F_EQ, 0);
    uint64_t deleted = 0;
    CHECK_OK(vex_delete(collection, &zero, -1, &deleted));
    CHECK(deleted > 0);
    vex_buf_clear(&filter);
}

/* In memory, in files, with deleted rows, and with rows of both. */
static void check_space(uint32_t space) {
    const vex_db_options options = {.durability = VEX_DURABILITY_OFF,
                                    .busy_timeout_ms = 5000,
                                    .memtable_rows = 100000,
                                    .index_rows = UINT32_MAX};
    vex_db *db = NULL;
    CHECK_OK(vex_db_open(NULL, &options, &db));
    vex_collection *collection = open_collection(db, space);
    insert_numbered(collection, 3000);
    check_batches(collection, 0);
    CHECK_OK(vex_collection_flush(collection));
    check_batches(collection, 0);
    delete_first(collection);
    insert(collection, 100000, 200, VEX_WRITE_ADD);
    check_batches(collection, 0);
    close_all(db, collection);
}

TEST(db_batch_reads_as_single_queries_do) {
    static const uint32_t spaces[] = {VEX_SPACE_L2, VEX_SPACE_IP, VEX_SPACE_COSINE, VEX_SPACE_L1};
    make_centres();
    make_queries();
    for (uint32_t i = 0; i < 4; i++) {
        check_space(spaces[i]);
    }
}

TEST(db_batch_walks_as_single_queries_do) {
    make_centres();
    make_queries();
    vex_db *db = open_indexed(NULL);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert_numbered(collection, 3000);
    CHECK_OK(vex_collection_flush(collection));
    CHECK(indexed(collection) > 0);
    insert(collection, 100000, 100, VEX_WRITE_ADD); /* a tail that is read */
    check_batches(collection, VEX_QUERY_GRAPH);
    check_batches(collection, VEX_QUERY_EXACT);
    close_all(db, collection);
}

/* Integers are kept in bytes, where l2 of whole numbers is exact on every level. */
TEST(db_batch_reads_bytes) {
    const vex_db_options options = {.memtable_rows = 100000, .index_rows = UINT32_MAX};
    vex_db *db = NULL;
    CHECK_OK(vex_db_open(NULL, &options, &db));
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    for (uint32_t i = 0; i < CLUSTERS; i++) {
        for (uint32_t d = 0; d < DIMENSION; d++) {
            centres[i][d] = 0;
        }
    }
    enum { ROWS = 1500 };
    float *vectors = malloc((size_t)ROWS * DIMENSION * sizeof *vectors);
    uint64_t *ids = malloc(ROWS * sizeof *ids);
    for (uint32_t i = 0; i < ROWS * DIMENSION; i++) {
        vectors[i] = (float)test_random_below(256);
        ids[i / DIMENSION] = i / DIMENSION;
    }
    for (uint32_t i = 0; i < QUERIES * DIMENSION; i++) {
        queries[i] = (float)test_random_below(256) + (i % 3 == 0 ? 0.25f : 0);
    }
    const vexfs_batch_insert_request request = {
        .vectors = vectors, .count = ROWS, .dimensions = DIMENSION, .ids = ids};
    CHECK_OK(vex_batch_insert_simple(collection, &request));
    CHECK_OK(vex_collection_flush(collection));
    check_batch(collection, NULL, QUERIES, 10, 2, 0);
    check_batch(collection, NULL, 5, 3, 1, 0);
    free(vectors);
    free(ids);
    close_all(db, collection);
}

/* Every allocation fails once, wherever it is made. */
TEST(db_batch_without_memory_says_so_once) {
    make_centres();
    make_queries();
    for (uint32_t walks = 0; walks < 2; walks++) {
        vex_db *db = open_indexed(NULL);
        vex_collection *collection = open_collection(db, VEX_SPACE_L2);
        insert_numbered(collection, 1500);
        CHECK_OK(vex_collection_flush(collection));
        CHECK(indexed(collection) > 0);
        const vex_query_options options = {.flags = walks ? VEX_QUERY_GRAPH : VEX_QUERY_EXACT,
                                           .threads = 4};
        uint32_t failed = 0;
        for (uint64_t at = 1;; at++) {
            vex_result *result = NULL;
            vex_mem_fail_at(at, false);
            vex_status status =
                vex_query(collection, NULL, queries, 40, DIMENSION, 10, &options, 0, &result);
            const bool met = vex_mem_fail_left() == 0;
            vex_mem_fail_at(0, false);
            CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
            failed += status == VEX_ERR_NO_MEMORY;
            vex_result_free(result);
            if (!met || at > 2000) {
                CHECK_EQ(status, VEX_OK);
                break;
            }
        }
        CHECK(failed > 10);
        close_all(db, collection);
    }
}

TEST(db_batch_threads_end_with_the_last_database) {
    make_centres();
    make_queries();
    const vex_db_options options = {.memtable_rows = 100000, .index_rows = UINT32_MAX};
    vex_db *db = NULL;
    vex_result *result = NULL;
    CHECK_OK(vex_db_open(NULL, &options, &db));
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 3000, VEX_WRITE_ADD);
    const vex_query_options by_three = {.threads = 3};
    CHECK_OK(vex_query(collection, NULL, queries, 1, DIMENSION, 10, &by_three, 0, &result));
    vex_result_free(result);
    CHECK_EQ(vex_pool_threads(), 0);
    CHECK_OK(vex_query(collection, NULL, queries, QUERIES, DIMENSION, 10, &by_three, 0, &result));
    vex_result_free(result);
    CHECK_EQ(vex_pool_threads(), 2);
    close_all(db, collection);
    CHECK_EQ(vex_pool_threads(), 0);
}
