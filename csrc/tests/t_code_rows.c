/*
 * t_code_rows.c - exact search by code rows: the same hits, bit for bit, as a scan of the vectors.
 */
#include "base/bits.h"
#include "db/db.h"
#include "db/scan.h"
#include "index/code_rows.h"
#include "tests/code_rows_kit.h"
#include "tests/db_kit.h"
#include "tests/store_kit.h"

#include <math.h>
#include <stdlib.h>

static size_t search_both_ways(const world *w, const float *query, uint32_t k,
                               const uint64_t *selected) {
    const vex_kernels *kernels = vex_kernels_get();
    const float norm2 = vex_norm2(query, w->dim);
    vex_topk exact, coded;
    vex_near near;
    CHECK_OK(vex_topk_init(&exact, k));
    CHECK_OK(vex_topk_init(&coded, k));
    const vex_row_run all = run_of(w, 0, w->n, selected);
    CHECK_OK(vex_flat_scan(kernels, w->space, &all, query, &norm2, 1, w->dim, &exact));
    vex_near_init(&near, w->space, query, w->dim, k);
    uint32_t cut = test_random_below(w->n);
    CHECK_OK(vex_near_scan(&near, kernels, w->codes, w->stride, 0, 0, cut, selected));
    CHECK_OK(vex_near_scan(&near, kernels, w->codes, w->stride, 0, cut, w->n, selected));
    vex_near_sort(&near);
    for (size_t i = 0; i < near.n && vex_topk_wants(&coded, near.rows[i].lower); i++) {
        const vex_row_run one = run_of(w, near.rows[i].row, 1, NULL);
        CHECK_OK(vex_flat_scan(kernels, w->space, &one, query, &norm2, 1, w->dim, &coded));
    }
    same_hits(&exact, &coded);
    const size_t left = near.n;
    vex_near_clear(&near);
    vex_topk_clear(&exact);
    vex_topk_clear(&coded);
    return left;
}

TEST(code_rows_find_what_a_scan_finds) {
    static const uint32_t spaces[] = {VEX_SPACE_L2, VEX_SPACE_IP, VEX_SPACE_COSINE};
    static const uint32_t dims[] = {1, 3, 16, 65, 200};
    for (uint32_t round = 0; round < SHAPES * 15; round++) {
        const uint32_t dim = dims[test_random_below(5)];
        world w = make_world((shape)(round % SHAPES), spaces[round / SHAPES % 3], 300, dim);
        uint64_t selected[8] = {0};
        for (uint32_t i = 0; i < w.n; i++) {
            if (test_random_below(3) != 0) {
                vex_bit_set(selected, i);
            }
        }
        for (uint32_t q = 0; q < 12; q++) {
            float query[200];
            const float *base = w.vectors + (size_t)test_random_below(w.n) * dim;
            for (uint32_t d = 0; d < dim; d++) {
                query[d] = q % 4 == 0   ? base[d]
                           : q % 4 == 1 ? base[d] * 1.01f
                           : q % 4 == 2 ? test_random_float()
                                        : 0.0f;
            }
            static const uint32_t ks[] = {1, 5, 40, 400};
            CHECK(vex_near_possible(w.space, query, dim) || round % SHAPES == HUGE_VALUES ||
                  round % SHAPES == MIXED);
            if (vex_near_possible(w.space, query, dim)) {
                (void)search_both_ways(&w, query, ks[q % 4], q % 2 ? selected : NULL);
            }
        }
        free_world(&w);
    }
}

/* The point of it all: few rows are left to be read.  Counted, so that it cannot decay unseen. */
TEST(code_rows_leave_few_rows) {
    size_t left = 0;
    world w = make_world(UNIFORM, VEX_SPACE_COSINE, 4000, 200);
    for (uint32_t q = 0; q < 20; q++) {
        float query[200];
        for (uint32_t d = 0; d < w.dim; d++) {
            query[d] = test_random_float();
        }
        left += search_both_ways(&w, query, 10, NULL);
    }
    CHECK(left / 20 < 400);
    free_world(&w);
}

TEST(code_rows_refuse_queries_without_intervals) {
    const float query[2] = {1, 2}, nan_query[2] = {1, NAN}, infinite[2] = {INFINITY, 0};
    CHECK(vex_near_possible(VEX_SPACE_L2, query, 2));
    CHECK(!vex_near_possible(VEX_SPACE_L1, query, 2));
    CHECK(!vex_near_possible(VEX_SPACE_L2, nan_query, 2));
    CHECK(!vex_near_possible(VEX_SPACE_COSINE, infinite, 2));
}

/* ---- in files ---- */

enum { ROWS = 3000, DIMENSION = 40 };

static void insert_rows(vex_collection *collection) {
    float *vectors = malloc((size_t)ROWS * DIMENSION * sizeof *vectors);
    uint64_t *ids = malloc(ROWS * sizeof *ids);
    for (uint32_t i = 0; i < ROWS; i++) {
        ids[i] = i;
        for (uint32_t d = 0; d < DIMENSION; d++) {
            vectors[(size_t)i * DIMENSION + d] = test_random_float();
        }
    }
    const vexfs_batch_insert_request request = {
        .vectors = vectors, .count = ROWS, .dimensions = DIMENSION, .ids = ids};
    CHECK_OK(vex_batch_insert_simple(collection, &request));
    free(vectors);
    free(ids);
}

/* The k nearest of a collection that has one vector file, with and without its codes. */
static void check_scan(vex_collection *collection, const float *query, uint32_t k) {
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    const vex_vecfile *file = snapshot->vecs[0].file;
    const float norm2 = vex_norm2(query, DIMENSION);
    vex_topk top, expected;
    CHECK_OK(vex_topk_init(&top, k));
    CHECK_OK(vex_topk_init(&expected, k));
    vex_scan scan = {.snapshot = snapshot,
                     .kernels = vex_kernels_get(),
                     .queries = query,
                     .n = 1,
                     .dimension = DIMENSION,
                     .norm2 = &norm2,
                     .top = &top};
    CHECK_OK(vex_scan_run(&scan));
    const vex_row_run run = {.rows = file->vectors,
                             .stride = file->stride,
                             .norm2 = file->norms,
                             .norm2_stride = sizeof *file->norms,
                             .seqs = file->seqs,
                             .seq_stride = sizeof *file->seqs,
                             .n = file->rows,
                             .element = (vex_element)file->element};
    CHECK_OK(
        vex_flat_scan(scan.kernels, snapshot->space, &run, query, &norm2, 1, DIMENSION, &expected));
    same_hits(&expected, &top);
    vex_topk_clear(&top);
    vex_topk_clear(&expected);
    vex_snapshot_release(snapshot);
}

static void check_scans(vex_collection *collection) {
    float query[DIMENSION];
    for (uint32_t q = 0; q < 20; q++) {
        for (uint32_t d = 0; d < DIMENSION; d++) {
            query[d] = test_random_float();
        }
        check_scan(collection, query, q % 2 ? 10 : 1000);
    }
}

TEST(code_rows_in_files) {
    static const uint32_t spaces[] = {VEX_SPACE_L2, VEX_SPACE_IP, VEX_SPACE_COSINE, VEX_SPACE_L1};
    for (uint32_t i = 0; i < 4; i++) {
        vex_db *db = open_db(NULL, 0);
        vex_collection *collection = open_collection(db, spaces[i]);
        insert_rows(collection);
        CHECK_OK(vex_collection_flush(collection));
        vex_snapshot *snapshot = vex_collection_snapshot(collection);
        CHECK_EQ(snapshot->n_vecs, 1);
        CHECK_EQ(snapshot->vecs[0].file->codes != NULL, spaces[i] != VEX_SPACE_L1);
        vex_snapshot_release(snapshot);
        check_scans(collection);
        CHECK_OK(vex_collection_close(collection));
        CHECK_OK(vex_db_close(db));
    }
}

/* Damaged codes cost time, never a result. */
TEST(code_rows_damaged) {
    const char *path = test_directory();
    vex_db *db = open_db(path, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert_rows(collection);
    CHECK_OK(vex_collection_flush(collection));
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    const vex_section *section = snapshot->vecs[0].file->lazy_codes.section;
    const uint64_t at = section->offset + test_random_below((uint32_t)section->len);
    char file[VEX_PATH_MAX];
    (void)snprintf(file, sizeof file, "%s", snapshot->vecs[0].file->container.path);
    vex_snapshot_release(snapshot);
    check_scans(collection);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
    FILE *stream = fopen(file, "r+b");
    CHECK(stream != NULL && fseek(stream, (long)at, SEEK_SET) == 0);
    const int byte = fgetc(stream);
    CHECK(fseek(stream, (long)at, SEEK_SET) == 0 && fputc(byte ^ 4, stream) != EOF);
    CHECK(fclose(stream) == 0);
    vex_stats before, after;
    db = open_db(path, 0);
    collection = open_collection(db, VEX_SPACE_L2);
    vex_get_stats(&before);
    check_scans(collection);
    vex_get_stats(&after);
    CHECK_EQ(after.damaged_parts, before.damaged_parts + 1);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}
