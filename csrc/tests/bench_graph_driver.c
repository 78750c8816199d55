/*
 * bench_graph_driver.c - building and searching a graph over given vectors.
 *
 *   F="csrc/tests/bench_graph_driver.c $(find csrc -name '*.c' ! -path '*tests*')"
 *   cc -std=gnu11 -O3 -fno-math-errno -ffp-contract=off -Icsrc $F -o bench_graph -pthread -lm
 *   ./bench_graph base.f32 N DIM queries.f32 Q SPACE [M [EF_CONSTRUCTION [THREADS [KIND]]]]
 *
 * Files are raw float32, SPACE is l2, ip or cosine, KIND is lvq8, f16, f32 or auto.  Prints rows/s
 * of building with each number of threads up to THREADS, then per ef: recall@10 against exact
 * search, queries/s of one thread with exact distances for the results, and distances and hops
 * per query; then the same with what walks read in large pages, and by short rows if they serve.
 */
#include "index/graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define K 10u

typedef struct bench {
    float *base, *queries, *norms;
    uint32_t n, q, dim, space;
    vex_codes codes;
    uint8_t *rows;
    uint32_t *truth;    /* K per query */
    const float *query; /* the one being searched */
    float query_norm2;
} bench;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, vex_last_error()->message);
    exit(1);
}

static float *read_floats(const char *path, size_t n) {
    vex_bulk memory;
    FILE *file = fopen(path, "rb");
    if (file == NULL || vex_bulk_create(&memory, n * sizeof(float)) != VEX_OK ||
        fread(memory.data, sizeof(float), n, file) != n) {
        fail(path);
    }
    fclose(file);
    return memory.data;
}

static vex_status exact(void *context, const uint32_t *ids, uint32_t n, float *out) {
    const bench *b = context;
    const vex_kernels *kernels = vex_kernels_get();
    const size_t bytes = b->dim * sizeof(float);
    for (uint32_t i = 0; i < n; i++) {
        for (size_t at = 0; at < bytes; at += 64) {
            __builtin_prefetch((const char *)(b->base + (size_t)ids[i] * b->dim) + at, 0, 2);
            __asm__ volatile("" ::: "memory");
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        const float *x = b->base + (size_t)ids[i] * b->dim;
        const bool l2 = b->space == VEX_SPACE_L2;
        (l2 ? kernels->l2 : kernels->dot)[VEX_F32](x, bytes, 1, b->query, b->dim, &out[i]);
        if (!l2) {
            out[i] = vex_dot_to_distance(b->space, out[i], b->norms[ids[i]], b->query_norm2);
        }
    }
    return VEX_OK;
}

static void set_query(bench *b, uint32_t i) {
    b->query = b->queries + (size_t)i * b->dim;
    b->query_norm2 = vex_norm2(b->query, b->dim);
}

static void find_truth(bench *b) {
    b->truth = malloc((size_t)b->q * K * sizeof *b->truth);
    uint32_t *ids = malloc(1024 * sizeof *ids);
    float d[1024];
    for (uint32_t j = 0; j < b->q; j++) {
        float best[K];
        uint32_t held = 0, *truth = b->truth + (size_t)j * K;
        set_query(b, j);
        for (uint32_t i = 0; i < b->n; i += 1024) {
            const uint32_t m = b->n - i < 1024 ? b->n - i : 1024;
            for (uint32_t k = 0; k < m; k++) {
                ids[k] = i + k;
            }
            (void)exact(b, ids, m, d);
            for (uint32_t k = 0; k < m; k++) {
                if (held == K && d[k] >= best[K - 1]) {
                    continue;
                }
                uint32_t at = held < K ? held++ : K - 1;
                for (; at > 0 && best[at - 1] > d[k]; at--) {
                    best[at] = best[at - 1];
                    truth[at] = truth[at - 1];
                }
                best[at] = d[k];
                truth[at] = i + k;
            }
        }
    }
    free(ids);
}

static void source_of(void *context, uint32_t i, float *x) {
    const bench *b = context;
    memcpy(x, b->base + (size_t)i * b->dim, b->dim * sizeof *x);
}

static void encode(bench *b, const char *kind) {
    vex_bulk memory;
    vex_code_kind which = strcmp(kind, "f16") == 0   ? VEX_CODE_F16
                          : strcmp(kind, "f32") == 0 ? VEX_CODE_F32
                                                     : VEX_CODE_LVQ8;
    double start = now();
    if (strcmp(kind, "auto") == 0) {
        vex_codes_choice choice;
        if (vex_codes_choose(b->space, b->dim, VEX_CODE_LVQ8, b->n, source_of, b, 1, &choice) !=
            VEX_OK) {
            fail("choosing");
        }
        which = choice.kind;
        printf("choice %s in %.0f ms: lvq8 needs a pool of %u (99 %%), %u (all); error %.2g\n",
               vex_code_kind_name(which), 1e3 * (now() - start), choice.lvq8.need_p99,
               choice.lvq8.need_max, choice.lvq8.error_max);
    }
    if (vex_codes_init(&b->codes, which, b->space, b->dim) != VEX_OK ||
        vex_bulk_create(&memory, (size_t)b->n * b->codes.stride) != VEX_OK) {
        fail("encoding");
    }
    b->rows = memory.data;
    start = now();
    for (uint32_t i = 0; i < b->n; i++) {
        vex_codes_encode(&b->codes, b->base + (size_t)i * b->dim, b->norms[i],
                         b->rows + (size_t)i * b->codes.stride);
    }
    printf("encode %s by %s: %.2f us/row\n", vex_code_kind_name(which), vex_lvq_level_name(),
           1e6 * (now() - start) / b->n);
}

static vex_graph *build(bench *b, uint32_t m, uint32_t ef, uint32_t threads) {
    vex_graph_params params = {.codes = b->codes, .m = m, .ef_construction = ef, .seed = 1};
    float low = INFINITY, high = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        low = fminf(low, b->norms[i]);
        high = fmaxf(high, b->norms[i]);
    }
    if (b->space == VEX_SPACE_IP && vex_codes_uneven(low, high)) {
        params.phi = 1.1f * sqrtf(high);
    }
    vex_graph *graph;
    uint32_t first;
    vex_graph_repair_stats repair;
    if (vex_graph_create(&params, &graph) != VEX_OK ||
        vex_graph_add_source(graph, 1, b->rows, b->n, &first) != VEX_OK) {
        fail("building");
    }
    const double start = now();
    if (vex_graph_insert(graph, first, b->n, threads) != VEX_OK) {
        fail("building");
    }
    const double inserted = now();
    if (vex_graph_repair(graph, &repair) != VEX_OK) {
        fail("repair");
    }
    vex_graph_stats stats;
    vex_graph_get_stats(graph, &stats);
    printf(
        "build threads=%u rows/s=%.0f repair=%.0f ms found=%u left=%u duplicates=%u degree=%.1f\n",
        threads, b->n / (inserted - start), 1e3 * (now() - inserted), repair.found, repair.left,
        stats.duplicates, (double)stats.edges / stats.linked);
    return graph;
}

static void search(bench *b, vex_graph *graph, uint32_t ef) {
    vex_graph_scratch *scratch;
    uint64_t distances = 0, hops = 0, hits = 0, exacts = 0;
    if (vex_graph_scratch_acquire(graph, &scratch) != VEX_OK) {
        fail("searching");
    }
    double best = 1e9;
    for (int repetition = 0; repetition < 3; repetition++) {
        const double start = now();
        hits = distances = hops = exacts = 0;
        for (uint32_t j = 0; j < b->q; j++) {
            vex_graph_found found;
            vex_graph_hit out[K];
            vex_rerank_stats stats;
            uint32_t n;
            set_query(b, j);
            const vex_graph_search_args args = {.query = b->query, .ef = ef < 15 ? 15 : ef};
            if (vex_graph_search(graph, scratch, &args, &found) != VEX_OK ||
                vex_rerank(found.hits, found.n, K, UINT32_MAX, exact, b, out, &n, &stats) !=
                    VEX_OK) {
                fail("searching");
            }
            distances += found.distances;
            hops += found.hops;
            exacts += stats.exact;
            for (uint32_t i = 0; i < n; i++) {
                for (uint32_t k = 0; k < K; k++) {
                    hits += out[i].id == b->truth[(size_t)j * K + k];
                }
            }
        }
        const double took = now() - start;
        best = took < best ? took : best;
    }
    vex_graph_scratch_release(graph, scratch);
    printf("ef=%u recall=%.4f qps=%.0f distances=%.0f hops=%.0f exact=%.1f\n", ef,
           (double)hits / b->q / K, b->q / best, (double)distances / b->q, (double)hops / b->q,
           (double)exacts / b->q);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 7) {
        fprintf(stderr,
                "usage: %s base.f32 N DIM queries.f32 Q SPACE [M [EF_CONSTRUCTION "
                "[THREADS [KIND]]]]\n",
                argv[0]);
        return 2;
    }
    bench b = {.n = (uint32_t)atoi(argv[2]), .dim = (uint32_t)atoi(argv[3])};
    b.q = (uint32_t)atoi(argv[5]);
    b.space = strcmp(argv[6], "l2") == 0   ? VEX_SPACE_L2
              : strcmp(argv[6], "ip") == 0 ? VEX_SPACE_IP
                                           : VEX_SPACE_COSINE;
    const uint32_t m = argc > 7 ? (uint32_t)atoi(argv[7]) : 16;
    const uint32_t ef = argc > 8 ? (uint32_t)atoi(argv[8]) : 100;
    const uint32_t threads = argc > 9 ? (uint32_t)atoi(argv[9]) : 1;
    b.base = read_floats(argv[1], (size_t)b.n * b.dim);
    b.queries = read_floats(argv[4], (size_t)b.q * b.dim);
    b.norms = malloc(b.n * sizeof *b.norms);
    for (uint32_t i = 0; i < b.n; i++) {
        b.norms[i] = vex_norm2(b.base + (size_t)i * b.dim, b.dim);
    }
    find_truth(&b);
    encode(&b, argc > 10 ? argv[10] : "auto");
    vex_graph *graph = NULL;
    for (uint32_t t = threads; t > 0; t--) {
        vex_graph_destroy(graph);
        graph = build(&b, m, ef, t);
    }
    const uint32_t efs[] = {10, 20, 40, 70, 100, 150, 200};
    for (int held = 0; held < 2; held++) {
        for (size_t i = 0; i < sizeof efs / sizeof *efs; i++) {
            search(&b, graph, efs[i]);
        }
        if (held == 0 && vex_graph_hold_rows(graph, UINT64_MAX) != VEX_OK) {
            fail("holding rows");
        }
        if (held == 0) {
            printf("held %.1f MB\n", (double)vex_graph_held_bytes(graph) / 1e6);
        }
    }
    vex_graph_destroy(graph);
    return 0;
}
