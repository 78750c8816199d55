/*
 * t_reembed.c - other vectors for all records of a collection, all at once.  (What a crash leaves:
 * t_faults_states.c.)
 */
#include "db/index_internal.h"
#include "tests/index_kit.h"

#include <math.h>

enum { OTHER_DIMENSION = 7 };

static float value_of(uint64_t id, uint32_t d) {
    return (float)(id % 1000) + 0.125f * (float)d;
}

/* Vectors for records in order of their ids, which are numbers: what the collection has. */
static float *vectors_for(vex_collection *collection, uint64_t *n) {
    vex_result *result = NULL;
    CHECK_OK(vex_get(collection, NULL, 0, -1, 0, &result));
    *n = result->n_rows;
    float *vectors = malloc((*n + 1) * OTHER_DIMENSION * sizeof *vectors);
    vex_mp_reader ids = vex_mp_reader_make(result->records, result->records_len);
    (void)vex_mp_next(&ids);
    (void)vex_mp_next(&ids);
    for (uint64_t i = 0; i < *n; i++) {
        char text[24] = "";
        vex_mp_value id = vex_mp_next(&ids);
        memcpy(text, id.bytes, id.len);
        for (uint32_t d = 0; d < OTHER_DIMENSION; d++) {
            vectors[i * OTHER_DIMENSION + d] = value_of(strtoull(text, NULL, 10), d);
        }
    }
    vex_result_free(result);
    return vectors;
}

static vex_status reembed(vex_collection *collection, uint32_t *changed) {
    uint64_t n = 0;
    const uint64_t lsn = info_of(collection).lsn;
    float *vectors = vectors_for(collection, &n);
    const vex_reembed_request request = {lsn, n, vectors, OTHER_DIMENSION};
    vex_status status = vex_collection_reembed(collection, &request, changed);
    free(vectors);
    return status;
}

static void check_vectors(vex_collection *collection, uint64_t rows) {
    uint64_t n = 0;
    vex_result *result = NULL;
    float *expected = vectors_for(collection, &n);
    CHECK_OK(vex_get(collection, NULL, 0, -1, VEX_INCLUDE_VECTORS, &result));
    CHECK_EQ(n, rows);
    CHECK_EQ(result->dimension, OTHER_DIMENSION);
    CHECK_EQ(memcmp(result->vectors, expected, n * OTHER_DIMENSION * sizeof *expected), 0);
    vex_result_free(result);
    free(expected);
}

static void insert_other(vex_collection *collection, uint64_t first, uint32_t n) {
    float *vectors = malloc((size_t)n * OTHER_DIMENSION * sizeof *vectors);
    uint64_t *ids = malloc(n * sizeof *ids);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = first + i;
        for (uint32_t d = 0; d < OTHER_DIMENSION; d++) {
            vectors[(size_t)i * OTHER_DIMENSION + d] = value_of(first + i, d);
        }
    }
    const vexfs_batch_insert_request request = {.vectors = vectors,
                                                .count = n,
                                                .dimensions = OTHER_DIMENSION,
                                                .ids = ids,
                                                .flags = VEX_WRITE_ADD};
    CHECK_OK(vex_batch_insert_simple(collection, &request));
    free(vectors);
    free(ids);
}

/* Rows in several files and in memory, dead ones among them, of a collection with a graph. */
static void check_all(const char *path, uint64_t file_max) {
    uint32_t changed = 1;
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 2000);
    insert(collection, 2000, 500, VEX_WRITE_ADD);
    insert(collection, 100, 300, VEX_WRITE_UPSERT);
    delete_some(collection, 0, 2500, 10);
    db->file_max = file_max ? file_max : db->file_max;
    CHECK_OK(reembed(collection, &changed));
    CHECK_EQ(changed, 0);
    check_vectors(collection, 2250);
    CHECK_EQ(info_of(collection).dimension, OTHER_DIMENSION);
    CHECK(file_max == 0 || info_of(collection).vector_files > 1);
    CHECK_EQ(indexed(collection), 2250);
    insert_other(collection, 5000, 100);
    delete_some(collection, 1, 2500, 9);
    const uint64_t left = info_of(collection).rows;
    check_vectors(collection, left);
    CHECK_OK(reembed(collection, &changed)); /* the same dimension, and vectors */
    check_vectors(collection, left);
    CHECK_OK(vex_collection_compact(collection, 0));
    check_vectors(collection, left);
    if (path != NULL) {
        close_all(db, collection);
        db = open_indexed(path);
        CHECK_OK(vex_collection_open(db, uuid, &collection));
        check_vectors(collection, left);
    }
    close_all(db, collection);
}

TEST(reembed_all_vectors) {
    check_all(test_directory(), 0);
}

TEST(reembed_in_memory) {
    check_all(NULL, 0);
}

TEST(reembed_into_several_files) {
    check_all(test_directory(), 20000);
}

/* What is read meanwhile stays as it is. */
TEST(reembed_leaves_results_alone) {
    uint32_t changed = 1;
    vex_result *before = NULL;
    make_centres();
    vex_db *db = open_indexed(test_directory());
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 700, VEX_WRITE_ADD);
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    CHECK_OK(vex_get(collection, NULL, 0, -1, VEX_INCLUDE_VECTORS, &before));
    CHECK_OK(reembed(collection, &changed));
    CHECK_EQ(snapshot->dimension, DIMENSION);
    CHECK_EQ(snapshot->live_rows, 700);
    vex_snapshot_release(snapshot);
    vex_result_free(before);
    close_all(db, collection);
}

/* As for a moment here, or until the next step in another process: files that are gone have no rows that a
 * walk may give, and the dimension is looked at before. */
TEST(reembed_beside_a_graph_of_old_vectors) {
    uint32_t changed = 1;
    make_centres();
    vex_db *db = open_indexed(test_directory());
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 2000);
    vex_index_view *old = vex_collection_index_view(collection);
    pthread_mutex_lock(&collection->index.mu);
    collection->index.options.rows = UINT32_MAX; /* the worker does nothing */
    pthread_mutex_unlock(&collection->index.mu);
    CHECK_OK(reembed(collection, &changed));
    vex_index_publish(collection, old);
    for (uint64_t id = 0; id < 1000; id += 100) {
        float query[OTHER_DIMENSION];
        vex_result *found = NULL;
        for (uint32_t d = 0; d < OTHER_DIMENSION; d++) {
            query[d] = value_of(id, d);
        }
        CHECK_OK(vex_query(collection, NULL, query, 1, OTHER_DIMENSION, 3, NULL, 0, &found));
        CHECK_EQ(found->n_rows, 3);
        CHECK(found->distances[0] == 0);
        vex_result_free(found);
    }
    close_all(db, collection);
}

TEST(reembed_is_given_up_when_records_were_written) {
    uint64_t n = 0;
    uint32_t changed = 0;
    make_centres();
    vex_db *db = open_indexed(test_directory());
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 1000, VEX_WRITE_ADD);
    const uint64_t lsn = info_of(collection).lsn;
    float *vectors = vectors_for(collection, &n);
    const vex_reembed_request request = {lsn, n, vectors, OTHER_DIMENSION};
    insert(collection, 5, 1, VEX_WRITE_UPSERT); /* as many records as before */
    CHECK_OK(vex_collection_reembed(collection, &request, &changed));
    CHECK_EQ(changed, 1);
    CHECK_EQ(info_of(collection).dimension, DIMENSION);
    CHECK(indexed(collection) >= 1000);
    CHECK(recall(collection, NULL, 20, 10) >= 0.98);
    free(vectors);
    close_all(db, collection);
}

static const vex_index_graph *graph_of(vex_collection *collection) {
    vex_index_view *view = vex_collection_index_view(collection);
    const vex_index_graph *graph = view != NULL ? view->owner : NULL;
    vex_index_view_release(view);
    return graph;
}

/* It may be half built, and nowhere else. */
TEST(reembed_that_fails_leaves_the_graph_alone) {
    uint32_t changed = 0;
    vex_result *found = NULL;
    make_centres();
    vex_db *db = open_indexed(test_directory());
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    CHECK_EQ(indexed(collection), 2000);
    const vex_index_graph *graph = graph_of(collection);
    CHECK(graph != NULL);
    const vex_reembed_request old = {info_of(collection).lsn - 1, 0, NULL, 0};
    CHECK_OK(vex_collection_reembed(collection, &old, &changed));
    CHECK_EQ(changed, 1);
    collection->poisoned = true;
    CHECK_STATUS(reembed(collection, &changed), VEX_ERR_POISONED);
    CHECK_STATUS(vex_collection_reindex(collection, VEX_SPACE_IP), VEX_ERR_POISONED);
    collection->poisoned = false;
    CHECK_OK(vex_query(collection, NULL, centres[0], 1, DIMENSION, 5, NULL, 0, &found));
    vex_result_free(found);
    CHECK(graph_of(collection) == graph);
    close_all(db, collection);
}

TEST(reembed_refuses) {
    uint64_t n = 0;
    uint32_t changed = 0;
    make_centres();
    vex_db *db = open_indexed(test_directory());
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 1000, VEX_WRITE_ADD);
    float *vectors = vectors_for(collection, &n);
    vex_reembed_request request = {info_of(collection).lsn, n - 1, vectors, OTHER_DIMENSION};
    CHECK_STATUS(vex_collection_reembed(collection, &request, &changed), VEX_ERR_INVALID);
    request.n = n;
    request.dimension = 0;
    CHECK_STATUS(vex_collection_reembed(collection, &request, &changed), VEX_ERR_INVALID);
    request.dimension = VEX_DIMENSION_MAX + 1;
    CHECK_STATUS(vex_collection_reembed(collection, &request, &changed), VEX_ERR_INVALID);
    request.dimension = OTHER_DIMENSION;
    vectors[n * OTHER_DIMENSION - 1] = NAN;
    CHECK_STATUS(vex_collection_reembed(collection, &request, &changed), VEX_ERR_INVALID);
    vectors[n * OTHER_DIMENSION - 1] = 1e30f;
    CHECK_STATUS(vex_collection_reembed(collection, &request, &changed), VEX_ERR_INVALID);
    CHECK_EQ(info_of(collection).rows, 1000);
    CHECK_EQ(info_of(collection).dimension, DIMENSION);
    free(vectors);
    close_all(db, collection);
}

/* Which dimension it has is open again then. */
TEST(reembed_nothing) {
    const vex_reembed_request nothing = {0};
    uint32_t changed = 1;
    make_centres();
    const char *path = test_directory();
    vex_db *db = open_indexed(NULL);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(vex_collection_reembed(collection, &nothing, &changed)); /* never written */
    CHECK_EQ(changed, 0);
    close_all(db, collection);
    db = open_indexed(path);
    collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(vex_collection_reembed(collection, &nothing, &changed));
    CHECK_EQ(changed, 0);
    insert(collection, 0, 10, VEX_WRITE_ADD);
    delete_some(collection, 0, 10, 1);
    CHECK_OK(reembed(collection, &changed));
    CHECK_EQ(info_of(collection).dimension, 0);
    insert_other(collection, 0, 10);
    check_vectors(collection, 10);
    close_all(db, collection);
    db = open_indexed(path);
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    check_vectors(collection, 10);
    close_all(db, collection);
}
