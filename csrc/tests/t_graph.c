/*
 * t_graph.c - building and searching a graph: what is found, against exact search.
 */
#include "index/graph.h"

#include "tests/graph_kit.h"
#include "tests/harness.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

TEST(graph_refuses_bad_arguments) {
    vex_graph *graph;
    vex_graph_params p = {.m = 16, .ef_construction = 100};
    CHECK_OK(vex_codes_init(&p.codes, VEX_CODE_LVQ8, VEX_SPACE_L2, 8));
    for (int bad = 0; bad < 7; bad++) {
        vex_graph_params q = p;
        q.m = bad == 0 ? 1 : bad == 1 ? VEX_GRAPH_M_MAX + 1 : q.m;
        q.ef_construction = bad == 2 ? 0 : bad == 3 ? 65536 : q.ef_construction;
        q.phi = bad == 4 ? 1 : bad == 5 ? NAN : 0;
        q.codes.space = bad == 6 ? VEX_SPACE_L1 : q.codes.space;
        CHECK_STATUS(vex_graph_create(&q, &graph), VEX_ERR_INVALID);
    }
    CHECK_OK(vex_graph_create(&p, &graph));
    uint8_t *rows = calloc(10, p.codes.stride);
    uint32_t first, second;
    CHECK_OK(vex_graph_add_source(graph, 1, rows, 10, &first));
    CHECK_OK(vex_graph_add_source(graph, 2, rows, 3, &second));
    CHECK_EQ(first, 0);
    CHECK_EQ(second, VEX_GRAPH_PAGE);
    CHECK_STATUS(vex_graph_insert(graph, 0, 11, 1), VEX_ERR_INVALID);
    CHECK_STATUS(vex_graph_insert(graph, 5, VEX_GRAPH_PAGE, 1), VEX_ERR_INVALID);
    CHECK_STATUS(vex_graph_insert(graph, 20, 2, 1), VEX_ERR_INVALID);
    CHECK_STATUS(vex_graph_insert(graph, second + 3, 1, 1), VEX_ERR_INVALID);
    CHECK_STATUS(vex_graph_add_source(graph, 3, rows, VEX_GRAPH_IDS_MAX, &first), VEX_ERR_TOO_BIG);
    vex_graph_scratch *scratch;
    vex_graph_found found;
    const float query[8] = {0};
    CHECK_OK(vex_graph_scratch_acquire(graph, &scratch));
    const vex_graph_search_args args = {.query = query};
    CHECK_STATUS(vex_graph_search(graph, scratch, &args, &found), VEX_ERR_INVALID);
    vex_graph_scratch_release(graph, scratch);
    vex_graph_destroy(graph);
    free(rows);
}

TEST(graph_of_few_rows) {
    for (uint32_t n = 0; n < 40; n += 1 + n / 8) {
        for (uint32_t space = 0; space < 3; space++) {
            graph_kit kit = graph_kit_create((vex_code_kind)(1 + n % 3), space, 5, n);
            vex_graph_hit out[64], truth[64];
            float query[5];
            uint64_t state = n + 1;
            graph_kit_fill_clusters(&kit, 2, 1, n + 1);
            graph_kit_encode(&kit);
            graph_kit_build(&kit, 4, 20, 1);
            for (int d = 0; d < 5; d++) {
                query[d] = graph_kit_float(&state);
            }
            CHECK_EQ(graph_kit_search(&kit, query, 64, 64, NULL, out), n);
            graph_kit_exact(&kit, query, 64, NULL, truth);
            for (uint32_t i = 0; i < n; i++) {
                CHECK(out[i].id == truth[i].id && out[i].distance == truth[i].distance);
            }
            graph_kit_destroy(&kit);
        }
    }
}

/* ---- recall ---- */

static const uint32_t ms[] = {4, 16, 48}, efs[] = {10, 100, 400}, ks[] = {1, 10, 100};

static void fill_table(vex_code_kind kind, uint32_t space, double out[3][3][3]) {
    graph_kit kit = graph_kit_create(kind, space, 32, 3000);
    graph_kit_fill_clusters(&kit, 40, 0.6f, 5);
    graph_kit_encode(&kit);
    for (int m = 0; m < 3; m++) {
        graph_kit_build(&kit, ms[m], 100, 1);
        for (int e = 0; e < 3; e++) {
            for (int k = 0; k < 3; k++) {
                out[m][e][k] = graph_kit_recall(&kit, 60, ks[k], efs[e], NULL);
            }
        }
    }
    graph_kit_destroy(&kit);
}

/* Codes must not cost recall, against the same graph over plain float32 rows. */
TEST(graph_recall_is_that_of_plain_rows) {
    for (uint32_t space = 0; space < 3; space++) {
        double plain[3][3][3], lvq[3][3][3], half[3][3][3];
        fill_table(VEX_CODE_F32, space, plain);
        fill_table(VEX_CODE_LVQ8, space, lvq);
        fill_table(VEX_CODE_F16, space, half);
        for (int i = 0; i < 27; i++) {
            const double p = (&plain[0][0][0])[i], l = (&lvq[0][0][0])[i], h = (&half[0][0][0])[i];
            /* with four links luck decides more than the codes */
            const double least = i < 9 ? p - 0.08 : p - 0.002;
            CHECK(l >= least && h >= least);
        }
        CHECK(plain[1][1][1] >= 0.995 && lvq[1][1][1] >= 0.995);
        CHECK(lvq[1][2][2] >= 0.995 && lvq[2][2][2] >= 0.999);
    }
}

/* Work is counted, not timed: these numbers change only with the algorithm. */
TEST(graph_work_is_as_expected) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 48, 6000);
    graph_kit_fill_clusters(&kit, 60, 0.7f, 11);
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 16, 100, 1);
    const double recall = graph_kit_recall(&kit, 200, 10, 100, NULL);
    vex_graph_stats stats;
    vex_graph_get_stats(kit.graph, &stats);
    CHECK(recall >= 0.99);
    CHECK_EQ(kit.distances, 110351);
    CHECK_EQ(kit.hops, 21278);
    CHECK_EQ(stats.edges, 100409);
    CHECK_EQ(stats.linked, 6000);
    CHECK(stats.bytes > 6000 * 192 && stats.bytes < 12 << 20);
    graph_kit_destroy(&kit);
}

TEST(graph_of_one_thread_is_the_same_again) {
    graph_kit a = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_COSINE, 24, 2500);
    graph_kit_fill_clusters(&a, 10, 0.5f, 3);
    graph_kit_encode(&a);
    graph_kit_build(&a, 8, 60, 1);
    graph_kit b = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_COSINE, 24, 2500);
    memcpy(b.vectors, a.vectors, (size_t)a.n * a.dim * sizeof *a.vectors);
    graph_kit_encode(&b);
    graph_kit_build(&b, 8, 60, 1);
    vex_graph_stats x, y;
    vex_graph_get_stats(a.graph, &x);
    vex_graph_get_stats(b.graph, &y);
    CHECK(x.edges == y.edges && x.upper_edges == y.upper_edges && x.entry == y.entry);
    for (uint32_t i = 0; i < 200; i++) {
        vex_graph_hit out[2][20];
        const float *query = a.vectors + (size_t)test_random_below(a.n) * a.dim;
        CHECK_EQ(graph_kit_search(&a, query, 20, 50, NULL, out[0]),
                 graph_kit_search(&b, query, 20, 50, NULL, out[1]));
        CHECK(memcmp(out[0], out[1], sizeof out[0]) == 0);
    }
    CHECK(a.distances == b.distances && a.hops == b.hops);
    graph_kit_destroy(&a);
    graph_kit_destroy(&b);
}

/* Several sources are one id space, with gaps that are never found. */
TEST(graph_over_many_sources) {
    enum { DIM = 16, SOURCES = 5 };
    const uint32_t sizes[SOURCES] = {700, 1024, 1, 0, 1500};
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, DIM, 3225);
    uint32_t firsts[SOURCES], at = 0;
    graph_kit_fill_clusters(&kit, 20, 0.6f, 9);
    graph_kit_encode(&kit);
    const vex_graph_params params = {.codes = kit.codes, .m = 12, .ef_construction = 80};
    CHECK_OK(vex_graph_create(&params, &kit.graph));
    uint32_t expected = 0;
    for (int s = 0; s < SOURCES; s++) {
        CHECK_OK(vex_graph_add_source(kit.graph, 100 + (uint64_t)s,
                                      kit.rows + (size_t)at * kit.codes.stride, sizes[s],
                                      &firsts[s]));
        CHECK_EQ(firsts[s], expected);
        CHECK_OK(vex_graph_insert(kit.graph, firsts[s], sizes[s], 1));
        expected = (firsts[s] + sizes[s] + 1023) / 1024 * 1024;
        at += sizes[s];
    }
    const vex_graph_source *sources;
    CHECK_EQ(vex_graph_sources(kit.graph, &sources), SOURCES);
    CHECK(sources[2].file_no == 102 && sources[2].rows == 1 && sources[2].first == firsts[2]);
    CHECK(!vex_graph_has(kit.graph, 700) && vex_graph_has(kit.graph, 699));
    CHECK(!vex_graph_has(kit.graph, vex_graph_end(kit.graph)));
    vex_graph_scratch *scratch;
    CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
    at = 0;
    for (int s = 0; s < SOURCES; s++) {
        for (uint32_t i = 0; i < sizes[s]; i++, at++) {
            vex_graph_found found;
            const vex_graph_search_args args = {.query = kit.vectors + (size_t)at * DIM, .ef = 60};
            CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
            CHECK_EQ(found.n, 60);
            bool is_there = false;
            for (uint32_t h = 0; h < found.n; h++) {
                is_there |= found.hits[h].id == firsts[s] + i;
            }
            CHECK(is_there);
        }
    }
    vex_graph_scratch_release(kit.graph, scratch);
    graph_kit_destroy(&kit);
}

/* ---- stopping and failing ---- */

static bool pause_after(void *context) {
    uint32_t *left = context;
    return (*left)-- == 0;
}

TEST(graph_insert_stops_and_goes_on) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 16, 900);
    graph_kit_fill_clusters(&kit, 5, 0.5f, 2);
    graph_kit_encode(&kit);
    graph_kit_start(&kit, 8, 40);
    uint32_t inserted = 0;
    for (int rounds = 0; inserted < kit.n; rounds++) {
        vex_graph_batch batch;
        uint32_t left = 100;
        vex_graph_stats stats;
        vex_graph_batch_init(&batch, kit.first, kit.n);
        atomic_store(&batch.next, kit.first + inserted);
        batch.pause = pause_after;
        batch.context = &left;
        CHECK_OK(vex_graph_insert_batch(kit.graph, &batch));
        vex_graph_get_stats(kit.graph, &stats);
        CHECK_EQ(stats.linked, inserted + 100 < kit.n ? inserted + 100 : kit.n);
        inserted = stats.linked;
        CHECK(rounds < 20);
    }
    CHECK_OK(vex_graph_insert(kit.graph, kit.first, kit.n, 1)); /* everything is there: no change */
    vex_graph_stats stats;
    vex_graph_get_stats(kit.graph, &stats);
    CHECK_EQ(stats.linked, kit.n);
    CHECK_EQ(graph_kit_lost_rows(&kit, 40, NULL), 0);
    graph_kit_destroy(&kit);
}

TEST(graph_without_memory) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 8, 1500);
    graph_kit_fill_clusters(&kit, 5, 0.5f, 2);
    memcpy(kit.vectors + 8, kit.vectors, 8 * sizeof *kit.vectors); /* a duplicate, too */
    graph_kit_encode(&kit);
    const vex_graph_params params = {.codes = kit.codes, .m = 4, .ef_construction = 16};
    for (uint64_t n = 1; n < 60; n++) {
        const uint64_t before = vex_stat_get(VEX_STAT_HEAP_BYTES);
        vex_graph *graph = NULL;
        uint32_t lost;
        vex_mem_fail_at(n, n % 2 == 0);
        vex_status status = vex_graph_create(&params, &graph);
        status =
            status == VEX_OK ? vex_graph_add_source(graph, 1, kit.rows, kit.n, &kit.first) : status;
        status = status == VEX_OK ? vex_graph_insert(graph, kit.first, kit.n, 1) : status;
        vex_graph_repair_stats repair;
        status = status == VEX_OK ? vex_graph_repair(graph, &repair) : status;
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        if (graph != NULL) { /* what failed can be done again */
            if (vex_graph_end(graph) == 0) {
                CHECK_OK(vex_graph_add_source(graph, 1, kit.rows, kit.n, &kit.first));
            }
            CHECK_OK(vex_graph_insert(graph, kit.first, kit.n, 1));
            CHECK_OK(vex_graph_repair(graph, &repair));
            CHECK_OK(vex_graph_unreachable(graph, &lost));
            CHECK_EQ(lost, 0);
            vex_graph_stats stats;
            vex_graph_get_stats(graph, &stats);
            CHECK_EQ(stats.linked + stats.duplicates, kit.n);
            CHECK_EQ(stats.duplicates, 1);
        }
        vex_graph_destroy(graph);
        CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BYTES), before);
    }
    graph_kit_destroy(&kit);
}

TEST(graph_searches_do_not_allocate) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 8, 2000);
    graph_kit_fill_clusters(&kit, 5, 0.5f, 2);
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 8, 40, 1);
    for (int round = 0; round < 20; round++) {
        vex_graph_scratch *scratch;
        vex_graph_found found;
        const vex_graph_search_args args = {.query = kit.vectors, .ef = 64};
        vex_mem_fail_at(round > 0, true);
        CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
        CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
        vex_mem_fail_at(0, false);
        vex_graph_scratch_release(kit.graph, scratch);
        CHECK_EQ(found.n, 64);
    }
    graph_kit_destroy(&kit);
}

/* ---- rerank ---- */

typedef struct told {
    const float *exact;
    uint32_t asked;
    bool fail;
} told;

static vex_status tell(void *context, const uint32_t *ids, uint32_t n, float *out) {
    told *t = context;
    if (t->fail) {
        return VEX_FAIL(VEX_ERR_IO, "cannot read");
    }
    for (uint32_t i = 0; i < n; i++) {
        out[i] = t->exact[ids[i]];
    }
    t->asked += n;
    return VEX_OK;
}

static int by_exact(const void *a, const void *b) {
    const vex_graph_hit *x = a, *y = b;
    return x->distance < y->distance   ? -1
           : x->distance > y->distance ? 1
           : x->id < y->id             ? -1
                                       : x->id > y->id;
}

TEST(rerank_equals_sorting) {
    for (int round = 0; round < 2000; round++) {
        const uint32_t n = test_random_below(300), k = test_random_below(40);
        const float error = round % 3 == 0 ? 0 : (float)test_random_below(100) / 1000;
        float exact[300];
        vex_graph_hit pool[300], sorted[300], out[40];
        for (uint32_t i = 0; i < n; i++) {
            exact[i] = (float)test_random_below(round % 2 ? 20 : 10000) / 10;
            sorted[i] = (vex_graph_hit){exact[i], i};
            /* the first error is as large as any, so that it is known from the start */
            pool[i] = (vex_graph_hit){exact[i] + error * (i % 2 ? 1.0f : -1.0f), i};
        }
        qsort(pool, n, sizeof *pool, by_exact);
        qsort(sorted, n, sizeof *sorted, by_exact);
        told t = {.exact = exact};
        uint32_t n_out;
        vex_rerank_stats stats;
        CHECK_OK(vex_rerank(pool, n, k, UINT32_MAX, tell, &t, out, &n_out, &stats));
        CHECK_EQ(n_out, k < n ? k : n);
        CHECK_EQ(stats.exact, t.asked);
        for (uint32_t i = 0; i < n_out; i++) {
            CHECK(out[i].distance == sorted[i].distance);
            CHECK(out[i].id == sorted[i].id || error > 0);
        }
    }
}

TEST(rerank_goes_as_deep_as_it_must) {
    float exact[500];
    vex_graph_hit pool[500], out[10];
    uint32_t n;
    vex_rerank_stats stats;
    for (uint32_t i = 0; i < 500; i++) {
        exact[i] = (float)i;
        pool[i] = (vex_graph_hit){(float)i, i};
    }
    told t = {.exact = exact};
    CHECK_OK(vex_rerank(pool, 500, 10, UINT32_MAX, tell, &t, out, &n, &stats));
    CHECK_EQ(stats.exact, 14);
    CHECK(stats.delta == 0.0f);
    exact[3] = 53; /* an error of 50 is seen: twice that is the margin then */
    exact[120] = 20;
    CHECK_OK(vex_rerank(pool, 500, 10, UINT32_MAX, tell, &t, out, &n, &stats));
    CHECK(stats.settled && stats.exact >= 110 && stats.exact < 120);
    CHECK_OK(vex_rerank(pool, 500, 10, 16, tell, &t, out, &n, &stats));
    CHECK(!stats.settled && stats.exact == 14 && n == 10);
    CHECK_OK(vex_rerank(pool, 30, 10, 16, tell, &t, out, &n, &stats)); /* all of the few */
    CHECK(stats.settled && stats.exact == 30);
    t.fail = true;
    CHECK_STATUS(vex_rerank(pool, 500, 10, UINT32_MAX, tell, &t, out, &n, &stats), VEX_ERR_IO);
    t.fail = false;
    exact[0] = NAN;
    CHECK_OK(vex_rerank(pool, 5, 10, UINT32_MAX, tell, &t, out, &n, &stats));
    CHECK(n == 5 && isnan(out[4].distance) && out[4].id == 0);
}
