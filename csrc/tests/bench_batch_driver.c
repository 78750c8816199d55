/*
 * bench_batch_driver.c - micro benchmark of batches of queries: exact search of a collection, as
 * vex_query() does it, and of its parts.
 *
 *   make bench-batch ARGS="rows dim queries k seconds threads [only-batch]"
 *
 * Rows are drawn from clusters; the database is in memory, its rows are in files.  Printed: queries
 * per second of exact search one by one and in batches, and what reading memory in order costs.
 */
#include "base/mem.h"
#include "include/vexfs.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check(vex_status status) {
    if (status != VEX_OK) {
        fprintf(stderr, "%s\n", vex_last_error()->message);
        exit(1);
    }
}

static uint64_t state = 88172645463325252ULL;

static float uniform(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (float)(state >> 40) / (float)(1 << 24);
}

static float normal(void) {
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        sum += uniform();
    }
    return sum - 6;
}

static float *clustered(size_t n, uint32_t dim) {
    enum { CLUSTERS = 100 };
    static float *centres;
    float *x = malloc(n * dim * sizeof *x);
    if (centres == NULL) {
        centres = malloc((size_t)CLUSTERS * dim * sizeof *centres);
        for (size_t i = 0; i < (size_t)CLUSTERS * dim; i++) {
            centres[i] = normal();
        }
    }
    for (size_t i = 0; i < n; i++) {
        const float *centre = centres + (size_t)(uniform() * CLUSTERS) * dim;
        for (uint32_t d = 0; d < dim; d++) {
            x[i * dim + d] = centre[d] + 0.7f * normal();
        }
    }
    return x;
}

static vex_collection *load(vex_db *db, uint32_t space, uint32_t rows, uint32_t dim) {
    const uint8_t uuid[16] = {1};
    vex_collection *collection = NULL;
    check(vex_collection_create(db, uuid, space));
    check(vex_collection_open(db, uuid, &collection));
    for (uint32_t first = 0; first < rows; first += 10000) {
        const uint32_t n = rows - first < 10000 ? rows - first : 10000;
        float *x = clustered(n, dim);
        uint64_t *ids = malloc(n * sizeof *ids);
        for (uint32_t i = 0; i < n; i++) {
            ids[i] = first + i;
        }
        const vexfs_batch_insert_request request = {
            .vectors = x, .count = n, .dimensions = dim, .ids = ids};
        check(vex_batch_insert_simple(collection, &request));
        free(x);
        free(ids);
    }
    return collection;
}

typedef struct bench {
    vex_collection *collection;
    const float *queries;
    uint32_t n, dim, k, threads, flags;
    double seconds;
} bench;

/* Queries per second; the best of some rounds. */
static double measure(const bench *b, uint32_t batch, vex_query_plan *plan) {
    double best = 0, until = now() + b->seconds;
    while (now() < until) {
        const double began = now();
        uint32_t done = 0;
        for (; done + batch <= b->n && now() < until + 1; done += batch) {
            vex_result *result = NULL;
            const vex_query_options options = {
                .flags = b->flags, .plan = plan, .threads = b->threads};
            check(vex_query(b->collection, NULL, b->queries + (size_t)done * b->dim, batch, b->dim,
                            b->k, &options, 0, &result));
            vex_result_free(result);
            if (batch == 1 && now() - began > b->seconds) {
                done++;
                break;
            }
        }
        const double rate = done / (now() - began);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Bytes per second of reading more memory than caches hold, by one thread. */
static double read_limit(size_t bytes) {
    uint64_t *data = malloc(bytes), sum = 0;
    double best = 0;
    memset(data, 1, bytes);
    for (int round = 0; round < 5; round++) {
        const double began = now();
        for (size_t i = 0; i < bytes / 8; i += 8) {
            sum += data[i] ^ data[i + 1] ^ data[i + 2] ^ data[i + 3] ^ data[i + 4] ^ data[i + 5] ^
                   data[i + 6] ^ data[i + 7];
        }
        const double rate = (double)bytes / (now() - began);
        best = rate > best ? rate : best;
    }
    fprintf(stderr, "%s", sum == 1 ? " " : "");
    free(data);
    return best;
}

int main(int argc, char **argv) {
    const uint32_t rows = argc > 1 ? (uint32_t)atoi(argv[1]) : 10000,
                   dim = argc > 2 ? (uint32_t)atoi(argv[2]) : 128,
                   n = argc > 3 ? (uint32_t)atoi(argv[3]) : 1000,
                   k = argc > 4 ? (uint32_t)atoi(argv[4]) : 10;
    const double seconds = argc > 5 ? atof(argv[5]) : 1;
    const uint32_t threads = argc > 6 ? (uint32_t)atoi(argv[6]) : 1;
    const bool only_batch = argc > 7; /* for a profile */
    static const char *names[] = {"l2", "ip", "cosine"};
    float *queries = clustered(n, dim);
    printf("%u rows of %u dimensions, %u queries, k = %u, %u threads\n", rows, dim, n, k, threads);
    for (uint32_t space = VEX_SPACE_L2; space <= VEX_SPACE_COSINE; space++) {
        const vex_db_options options = {.index_rows = UINT32_MAX};
        vex_db *db = NULL;
        check(vex_db_open(NULL, &options, &db));
        bench b = {.collection = load(db, space, rows, dim),
                   .queries = queries,
                   .n = n,
                   .dim = dim,
                   .k = k,
                   .threads = threads,
                   .flags = VEX_QUERY_EXACT,
                   .seconds = seconds};
        for (int in_files = 0; in_files < 2; in_files++) {
            vex_query_plan plan = {0};
            if (in_files) {
                check(vex_collection_flush(b.collection));
            }
            const double single = only_batch ? 0 : measure(&b, 1, &plan),
                         batch = measure(&b, n, &plan);
            printf("%-7s %-9s single %9.0f/s (%5.2f GB/s of codes)  batch %9.0f/s "
                   "(search %.2f us, result %.2f us a query)\n",
                   names[space], in_files ? "files" : "memory", single,
                   single * rows * ((dim + 16 + 63) / 64 * 64) * 1e-9, batch,
                   (double)plan.search_us / n, (double)plan.fetch_us / n);
        }
        check(vex_collection_close(b.collection));
        check(vex_db_close(db));
    }
    printf("reading 256 MiB in order: %.2f GB/s; as many bytes as the codes: %.2f GB/s\n",
           read_limit((size_t)256 << 20) * 1e-9,
           read_limit((size_t)rows * ((dim + 16 + 63) / 64 * 64)) * 1e-9);
    free(queries);
    return 0;
}
