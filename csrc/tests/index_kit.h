/*
 * index_kit.h - what the tests of collections with a graph share: one collection of clustered
 * vectors, named by numbers.
 */
#ifndef VEX_TESTS_INDEX_KIT_H
#define VEX_TESTS_INDEX_KIT_H

#include "db/db.h"
#include "tests/db_kit.h"

#include <dirent.h>
#include <stdlib.h>

enum { DIMENSION = 24, CLUSTERS = 40, INDEX_ROWS = 500, WAIT_MS = 600000, MOST = 12000 };

static float centres[CLUSTERS][DIMENSION];

static inline vex_db *open_indexed(const char *path) {
    const vex_db_options options = {.durability = VEX_DURABILITY_OFF,
                                    .busy_timeout_ms = 5000,
                                    .memtable_rows = 100000,
                                    .index_rows = INDEX_ROWS};
    vex_db *db = NULL;
    CHECK_OK(vex_db_open(path, &options, &db));
    return db;
}

static inline void make_vector(float *out) {
    const float *centre = centres[test_random_below(CLUSTERS)];
    for (uint32_t d = 0; d < DIMENSION; d++) {
        out[d] = centre[d] + 0.3f * test_random_float();
    }
}

static inline void make_centres(void) {
    for (uint32_t i = 0; i < CLUSTERS; i++) {
        for (uint32_t d = 0; d < DIMENSION; d++) {
            centres[i][d] = test_random_float();
        }
    }
}

/* Records first..first+n-1, named by their numbers. */
static inline void insert(vex_collection *collection, uint64_t first, uint32_t n, uint32_t flags) {
    float *vectors = malloc((size_t)n * DIMENSION * sizeof *vectors);
    uint64_t *ids = malloc(n * sizeof *ids);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = first + i;
        make_vector(vectors + (size_t)i * DIMENSION);
    }
    const vexfs_batch_insert_request request = {
        .vectors = vectors, .count = n, .dimensions = DIMENSION, .ids = ids, .flags = flags};
    CHECK_OK(vex_batch_insert_simple(collection, &request));
    free(vectors);
    free(ids);
}

/* Delete the records [first, end) whose number is a multiple of `step`. */
static inline void delete_some(vex_collection *collection, uint64_t first, uint64_t end, uint32_t step) {
    vex_buf ids = {0};
    uint32_t n = 0;
    uint64_t deleted = 0;
    for (uint64_t i = first; i < end; i++) {
        n += i % step == 0;
    }
    CHECK_OK(vex_mp_put_array(&ids, n));
    for (uint64_t i = first; i < end; i++) {
        if (i % step == 0) {
            char text[24];
            (void)snprintf(text, sizeof text, "%llu", (unsigned long long)i);
            put_text(&ids, text);
        }
    }
    const vex_selection selection = {.ids = ids.data, .ids_len = ids.len};
    CHECK_OK(vex_delete(collection, &selection, -1, &deleted));
    CHECK(deleted > 0 && deleted <= n);
    vex_buf_clear(&ids);
}

static inline vex_collection_info info_of(vex_collection *collection) {
    vex_collection_info info;
    CHECK_OK(vex_collection_get_info(collection, &info));
    return info;
}

static inline uint64_t indexed(vex_collection *collection) {
    CHECK_OK(vex_collection_wait_index(collection, WAIT_MS));
    return info_of(collection).indexed_rows;
}

static const vex_query_options exactly = {.flags = VEX_QUERY_EXACT};

/* Share of the k nearest of `queries` random queries that are found, by distance.  Results are
 * always k live rows, ascending, without repeats. */
static inline double recall(vex_collection *collection, const vex_selection *selection, uint32_t queries,
                     uint32_t k) {
    uint32_t right = 0, all = 0;
    for (uint32_t q = 0; q < queries; q++) {
        float query[DIMENSION];
        vex_result *found = NULL, *expected = NULL;
        make_vector(query);
        CHECK_OK(vex_query(collection, selection, query, 1, DIMENSION, k, NULL, 0, &found));
        CHECK_OK(vex_query(collection, selection, query, 1, DIMENSION, k, &exactly, 0, &expected));
        CHECK_EQ(found->n_rows, expected->n_rows);
        for (uint64_t i = 0; i < found->n_rows; i++) {
            CHECK(i == 0 || found->distances[i - 1] <= found->distances[i]);
            right += found->distances[i] <= expected->distances[expected->n_rows - 1];
            all++;
        }
        vex_result_free(found);
        vex_result_free(expected);
    }
    return all ? (double)right / all : 1;
}

static inline uint64_t distances_now(void) {
    vex_stats stats;
    vex_get_stats(&stats);
    return stats.distances;
}

/* Name of the one graph file, "" when there is none. */
static inline const char *graph_file(const char *path) {
    static char name[VEX_PATH_MAX + 300];
    char dir[VEX_PATH_MAX];
    uint32_t n = 0;
    (void)snprintf(dir, sizeof dir, "%s/collections/0102030405060708090a0b0c0d0e0f10", path);
    DIR *listing = opendir(dir);
    CHECK(listing != NULL);
    name[0] = '\0';
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        if (strncmp(entry->d_name, "gra-", 4) == 0) {
            (void)snprintf(name, sizeof name, "%s/%s", dir, entry->d_name);
            n++;
        }
    }
    closedir(listing);
    CHECK(n <= 1);
    return name;
}

static inline void close_all(vex_db *db, vex_collection *collection) {
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

/* Records with {"n": i % 100}. */
static inline void insert_numbered(vex_collection *collection, uint32_t n) {
    vex_buf records = {0};
    float *vectors = malloc((size_t)n * DIMENSION * sizeof *vectors);
    CHECK_OK(vex_mp_put_array(&records, 4));
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t i = 0; i < n; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "r%u", i);
        put_text(&records, text);
        make_vector(vectors + (size_t)i * DIMENSION);
    }
    CHECK_OK(vex_mp_put_nil(&records));
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t i = 0; i < n; i++) {
        CHECK_OK(vex_mp_put_map(&records, 1));
        put_text(&records, "n");
        CHECK_OK(vex_mp_put_int(&records, (int64_t)i % 100));
    }
    CHECK_OK(vex_mp_put_nil(&records));
    const vex_write_request request = {.op = VEX_WRITE_ADD,
                                       .n = n,
                                       .dimension = DIMENSION,
                                       .vectors = vectors,
                                       .records = records.data,
                                       .records_len = records.len};
    CHECK_OK(vex_write(collection, &request, NULL));
    vex_buf_clear(&records);
    free(vectors);
}

#endif
