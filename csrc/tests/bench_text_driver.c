/*
 * bench_text_driver.c - full text by BM25 in C: how long an index takes to make, and queries.
 *
 *   make build/bench_text && build/bench_text DOCUMENTS QUERIES [limit [RESULTS]]
 *
 * Files with a document, and a query, per line.  Prints the size of the index, us per document, and
 * the median, 95th and 99th percentile of queries in us, with rows in a file and in a memtable.
 * RESULTS gets a line for each query: numbers of documents and scores, best first.  tools/bench_text.py
 * runs it beside other libraries.
 */
#include "rank/retrieve.h"
#include "rank/words.h"
#include "store/flush.h"
#include "tests/zstd_provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIR_NAME "/bench"
#define ROUNDS 3

static const uint8_t uuid[16] = "text benchmark";

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void check(vex_status status) {
    if (status != VEX_OK) {
        fprintf(stderr, "%s\n", vex_last_error()->message);
        exit(1);
    }
}

typedef struct lines {
    vex_buf bytes;
    const uint8_t **start;
    uint32_t *len;
    uint32_t n;
} lines;

static lines read_lines(const char *path) {
    lines out = {0};
    FILE *file = fopen(path, "rb");
    uint8_t chunk[65536];
    if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file)) > 0;) {
        check(vex_buf_append(&out.bytes, chunk, got));
    }
    fclose(file);
    for (size_t i = 0; i < out.bytes.len; i++) {
        out.n += out.bytes.data[i] == '\n';
    }
    out.start = calloc((size_t)out.n + 1, sizeof *out.start);
    out.len = calloc((size_t)out.n + 1, sizeof *out.len);
    const uint8_t *at = out.bytes.data;
    for (uint32_t i = 0; i < out.n; i++) {
        const uint8_t *end = memchr(at, '\n', out.bytes.len - (size_t)(at - out.bytes.data));
        out.start[i] = at;
        out.len[i] = (uint32_t)(end - at);
        at = end + 1;
    }
    return out;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(const char *name, const vex_snapshot *snapshot, const lines *queries,
                    uint32_t limit) {
    double *took = calloc(queries->n, sizeof *took), total = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < queries->n; i++) {
            const vex_text_query query = {queries->start[i], queries->len[i], 1.2f, 0.75f};
            vex_scored_list found = {0};
            const double start = now();
            check(vex_retrieve_text(snapshot, NULL, &query, limit, &found));
            const double t = now() - start;
            took[i] = round == 0 || t < took[i] ? t : took[i];
            vex_scored_list_clear(&found);
        }
    }
    for (uint32_t i = 0; i < queries->n; i++) {
        total += took[i];
    }
    qsort(took, queries->n, sizeof *took, compare);
    printf("  %-10s p50 %8.1f us   p95 %8.1f us   p99 %8.1f us   mean %8.1f us\n", name,
           took[queries->n / 2], took[queries->n * 95 / 100], took[queries->n * 99 / 100],
           total / queries->n);
    free(took);
}

static void write_results(const char *path, const vex_snapshot *snapshot, const lines *queries,
                          uint32_t limit) {
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        fprintf(stderr, "cannot write %s\n", path);
        exit(1);
    }
    for (uint32_t i = 0; i < queries->n; i++) {
        const vex_text_query query = {queries->start[i], queries->len[i], 1.2f, 0.75f};
        vex_scored_list found = {0};
        check(vex_retrieve_text(snapshot, NULL, &query, limit, &found));
        for (size_t k = 0; k < found.n; k++) {
            fprintf(file, "%s%u %.9g", k ? " " : "", (unsigned)(found.items[k].row.seq - 1),
                    (double)found.items[k].score);
        }
        fprintf(file, "\n");
        vex_scored_list_clear(&found);
    }
    fclose(file);
}

static vex_snapshot *make_snapshot(vex_vfs *vfs, const lines *documents) {
    vex_manifest manifest = {.generation = 1, .next_seq = 1, .next_file_no = 1, .wal_first = 1};
    vex_snapshot *snapshot = NULL;
    vex_batch batch = {.next_seq = (uint64_t)documents->n + 1};
    char *ids = calloc(documents->n, 12);
    check(vex_snapshot_open(vfs, DIR_NAME, uuid, &manifest, NULL, &snapshot));
    check(vex_memtable_create(&snapshot->mems[snapshot->n_mems++].table));
    for (uint32_t i = 0; i < documents->n; i++) {
        char *id = ids + (size_t)i * 12;
        const vex_op op = {.kind = VEX_OP_PAYLOAD,
                           .payload = {.seq = i + 1,
                                       .id = (const uint8_t *)id,
                                       .id_len = (uint32_t)snprintf(id, 12, "%u", i),
                                       .document = documents->start[i],
                                       .document_len = documents->len[i]}};
        check(vex_batch_add(&batch, &op));
    }
    check(vex_memtable_prepare(snapshot->mems[0].table, &batch));
    check(vex_snapshot_apply(snapshot, &batch, 1));
    vex_snapshot_commit(snapshot, &batch, 1);
    vex_batch_clear(&batch);
    free(ids);
    return snapshot;
}

static void flush(vex_vfs *vfs, vex_snapshot *snapshot, const lines *documents) {
    const uint32_t n = documents->n;
    vex_payload *rows = calloc(n, sizeof *rows);
    vex_buf section = {0};
    vex_file_entry entry = {0};
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = vex_memtable_payload(snapshot->mems[0].table, i)->payload;
    }
    double best = 1e30;
    for (int round = 0; round < 3; round++) {
        vex_buf_clear(&section);
        const double start = now();
        check(vex_words_plugin()->build(rows, n, &section));
        best = now() - start < best ? now() - start : best;
    }
    printf("  index of %zu KB made in %.2f us per document\n", section.len / 1024, best / n);
    vex_buf_clear(&section);
    check(vex_payfile_write(vfs, DIR_NAME, uuid, 1, rows, n, 1, 1, true, &entry));
    snapshot->pays = vex_calloc(1, sizeof *snapshot->pays);
    snapshot->pays[0].entry = entry;
    check(vex_payfile_open(vfs, DIR_NAME, uuid, &entry, &snapshot->pays[0].file));
    check(vex_tombs_create(n, &snapshot->pays[0].tombs));
    snapshot->n_pays = 1;
    vex_memtable_release(snapshot->mems[0].table);
    snapshot->n_mems = 0;
    free(rows);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s DOCUMENTS QUERIES [limit [RESULTS]]\n", argv[0]);
        return 1;
    }
    const lines documents = read_lines(argv[1]), queries = read_lines(argv[2]);
    const uint32_t limit = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 10;
    vex_vfs *vfs = NULL;
    check(vex_payfile_register(vex_words_plugin()));
    check(test_register_zstd());
    check(vex_vfs_memory_create(&vfs));
    check(vfs->dir_create(vfs, DIR_NAME));
    vex_snapshot *snapshot = make_snapshot(vfs, &documents);
    printf("%u documents of %zu KB, %u queries, the best %u\n", documents.n,
           documents.bytes.len / 1024, queries.n, limit);
    measure("memtable", snapshot, &queries, limit);
    flush(vfs, snapshot, &documents);
    measure("file", snapshot, &queries, limit);
    if (argc > 4) {
        write_results(argv[4], snapshot, &queries, limit);
    }
    vex_snapshot_release(snapshot);
    vex_vfs_memory_destroy(vfs);
    return 0;
}
