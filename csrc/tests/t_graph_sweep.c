/*
 * t_graph_sweep.c - rows that searches do not find, and what a sweep does about them; graphs made
 * anew after half of their rows died; equal rows that must not hide nearer ones.
 */
#include "base/bits.h"
#include "tests/graph_kit.h"
#include "tests/harness.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 24, ROWS = 8000 };

/* Clusters far apart, in a graph of few links: a search does not come to all of them. */
static graph_kit hard_kit(uint32_t space, uint32_t rows) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, space, DIM, rows);
    graph_kit_fill_clusters(&kit, 60, 0.3f, 17);
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 4, 20, 1);
    return kit;
}

static vex_status sweep(graph_kit *kit, uint32_t threads) {
    vex_graph_batch batch;
    uint64_t links;
    vex_graph_batch_init(&batch, kit->first, kit->n);
    return vex_graph_sweep_by(kit->graph, &batch, threads, &links);
}

static void sweep_finds_all(uint32_t space, uint32_t threads) {
    graph_kit kit = hard_kit(space, ROWS);
    const uint32_t lost = graph_kit_lost_rows(&kit, 64, NULL);
    CHECK(lost > 20); /* or this shows nothing */
    CHECK_OK(sweep(&kit, threads));
    CHECK(graph_kit_lost_rows(&kit, 64, NULL) <= lost / 50);
    for (uint32_t i = 0; i < 4; i++) { /* with so few links a way for one is taken from another */
        CHECK_OK(sweep(&kit, threads));
    }
    CHECK_EQ(graph_kit_lost_rows(&kit, 64, NULL), 0);
    vex_graph_repair_stats repair;
    CHECK_OK(vex_graph_repair(kit.graph, &repair));
    CHECK_EQ(repair.left, 0);
    graph_kit_destroy(&kit);
}

TEST(graph_sweep_finds_all_l2) {
    sweep_finds_all(VEX_SPACE_L2, 1);
}
TEST(graph_sweep_finds_all_cosine) {
    sweep_finds_all(VEX_SPACE_COSINE, 1);
}
TEST(graph_sweep_in_threads) {
    sweep_finds_all(VEX_SPACE_L2, 4);
}

static bool stop_after(void *context) {
    uint32_t *left = context;
    return *left == 0 || --*left == 0;
}

/* Paused and gone on with, it is the same; of an empty graph it is nothing. */
TEST(graph_sweep_in_slices) {
    graph_kit kit = hard_kit(VEX_SPACE_L2, 3000);
    vex_graph_batch batch;
    vex_graph_batch_init(&batch, 0, vex_graph_end(kit.graph)); /* ids between sources, too */
    uint32_t slices = 0;
    uint64_t links, all = 0;
    for (uint32_t left = 700; atomic_load(&batch.next) < batch.end; left = 700, slices++) {
        batch.pause = stop_after;
        batch.context = &left;
        atomic_store(&batch.stop, false);
        CHECK_OK(vex_graph_sweep_by(kit.graph, &batch, 1, &links));
        all += links;
    }
    CHECK(all > 0);
    CHECK(slices >= 4);
    CHECK(graph_kit_lost_rows(&kit, 64, NULL) <= 1);
    graph_kit_start(&kit, 4, 20);
    CHECK_OK(sweep(&kit, 1));
    graph_kit_destroy(&kit);
}

TEST(graph_sweep_without_memory) {
    graph_kit kit = hard_kit(VEX_SPACE_L2, 500);
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        vex_mem_fail_at(n, true);
        const vex_status status = sweep(&kit, 2);
        vex_mem_fail_at(0, false);
        done = status == VEX_OK;
        CHECK(done || status == VEX_ERR_NO_MEMORY);
    }
    graph_kit_destroy(&kit);
}

/* ---- made anew ---- */

/* The rows of `kit` that live by `alive`, as a kit whose graph is made out of the old one, or built. */
static graph_kit halve(graph_kit *kit, bool anew, uint32_t threads) {
    uint32_t *table = malloc(kit->n * sizeof *table), live = 0;
    for (uint32_t i = 0; i < kit->n; i++) {
        table[i] = i % 2 == 0 ? live++ : VEX_GRAPH_NONE;
    }
    graph_kit half = graph_kit_create(VEX_CODE_LVQ8, kit->space, kit->dim, live);
    for (uint32_t i = 0; i < kit->n; i += 2) {
        memcpy(half.vectors + (size_t)table[i] * kit->dim, kit->vectors + (size_t)i * kit->dim,
               kit->dim * sizeof(float));
    }
    graph_kit_encode(&half);
    if (anew) {
        const vex_graph_pace pace = {threads, NULL, NULL};
        graph_kit_start(&half, 16, 100);
        CHECK_OK(vex_graph_remap(kit->graph, table, kit->n, &pace, half.graph));
    } else {
        graph_kit_build(&half, 16, 100, 1);
    }
    free(table);
    return half;
}

/* Clusters must not become islands; that was so when healing chose all links anew. */
static void made_anew(uint32_t space, uint32_t threads) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, space, 64, 2 * ROWS);
    graph_kit_fill_clusters(&kit, 60, 0.4f, 5);
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 16, 100, 1);
    graph_kit anew = halve(&kit, true, threads), built = halve(&kit, false, 1);
    vex_graph_stats stats[2];
    vex_graph_get_stats(anew.graph, &stats[0]);
    vex_graph_get_stats(built.graph, &stats[1]);
    CHECK(stats[0].edges * 10 >= stats[1].edges * 9);
    const double recall = graph_kit_recall(&built, 200, 10, 100, NULL);
    CHECK(graph_kit_recall(&anew, 200, 10, 100, NULL) >= recall - 0.005);
    CHECK(graph_kit_lost_rows(&anew, 100, NULL) <= graph_kit_lost_rows(&built, 100, NULL) + 4);
    graph_kit_destroy(&kit);
    graph_kit_destroy(&anew);
    graph_kit_destroy(&built);
}

TEST(graph_made_anew_is_as_good_l2) {
    made_anew(VEX_SPACE_L2, 1);
}
TEST(graph_made_anew_is_as_good_cosine) {
    made_anew(VEX_SPACE_COSINE, 3);
}

TEST(graph_making_anew_gives_way) {
    graph_kit kit = hard_kit(VEX_SPACE_L2, 2000);
    uint32_t table[2000], left = 1500, live = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        table[i] = i % 2 == 0 ? live++ : VEX_GRAPH_NONE;
    }
    graph_kit fresh = graph_kit_create(VEX_CODE_LVQ8, kit.space, kit.dim, live);
    for (uint32_t i = 0; i < 2000; i += 2) {
        memcpy(fresh.vectors + (size_t)table[i] * kit.dim, kit.vectors + (size_t)i * kit.dim,
               kit.dim * sizeof(float));
    }
    graph_kit_encode(&fresh);
    graph_kit_start(&fresh, 4, 20);
    const vex_graph_pace pace = {1, stop_after, &left};
    CHECK_STATUS(vex_graph_remap(kit.graph, table, 2000, &pace, fresh.graph), VEX_ERR_BUSY);
    graph_kit_destroy(&kit);
    graph_kit_destroy(&fresh);
}

/* ---- equal rows ---- */

/* More copies of one vector than are asked for, a little nearer by code than others that are nearer in
 * truth: each different row has its place in the pool. */
TEST(graph_equal_rows_do_not_hide_others) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, DIM, 1200);
    graph_kit_fill_clusters(&kit, 3, 1.0f, 23);
    for (uint32_t i = 1; i < 1000; i++) {
        memcpy(kit.vectors + (size_t)i * DIM, kit.vectors, DIM * sizeof(float));
    }
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 8, 60, 1);
    vex_graph_scratch *scratch;
    vex_graph_found found;
    const vex_graph_search_args args = {.query = kit.vectors, .ef = 50};
    CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
    CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
    uint32_t copies = 0;
    for (uint32_t i = 0; i < found.n; i++) {
        copies += found.hits[i].id - kit.first < 1000;
        CHECK(i > 50 || found.hits[i].id - kit.first == i); /* the first of them, in order */
    }
    CHECK_EQ(copies, 51);
    CHECK_EQ(found.n, 100);
    vex_graph_scratch_release(kit.graph, scratch);
    graph_kit_destroy(&kit);
}

/* ---- rows that distances do not tell apart ---- */

/* Different rows whose distances are all rounded to the same few numbers: links go by number then, and
 * most rows are nobody's neighbour.  They get ways in without taking those of others. */
static void check_blurred(uint32_t space, float centre, float spread, uint32_t m) {
    enum { N = 3000 };
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, space, DIM, N);
    uint64_t state = 5;
    vex_graph_repair_stats repair;
    for (size_t i = 0; i < (size_t)N * DIM; i++) {
        kit.vectors[i] = centre + spread * graph_kit_float(&state);
    }
    graph_kit_encode(&kit);
    graph_kit_start(&kit, m, 5 * m);
    CHECK_OK(vex_graph_insert(kit.graph, kit.first, kit.n, 1));
    CHECK_OK(vex_graph_repair(kit.graph, &repair));
    CHECK(repair.found > N / 2); /* or this shows nothing */
    CHECK_EQ(repair.left, 0);
    CHECK(repair.edges < 2 * N);
    CHECK_OK(sweep(&kit, 1));
    graph_kit_destroy(&kit);
}

TEST(graph_of_rows_that_distances_do_not_tell_apart) {
    for (uint32_t m = 4; m <= 8; m += 4) {
        check_blurred(VEX_SPACE_COSINE, 100, 0.01f, m);
        check_blurred(VEX_SPACE_L2, 0, 1e-30f, m);
    }
}

/* Among others that are as near as itself a row need not be found, so none is given links for that. */
TEST(graph_sweep_leaves_rows_that_distances_do_not_tell_apart) {
    enum { N = 3000 };
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, DIM, N);
    uint64_t state = 5, links;
    for (size_t i = 0; i < (size_t)N * DIM; i++) {
        kit.vectors[i] = 1e-30f * graph_kit_float(&state);
    }
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 8, 40, 1);
    vex_graph_batch batch;
    vex_graph_batch_init(&batch, kit.first, kit.n);
    CHECK_OK(vex_graph_sweep_by(kit.graph, &batch, 1, &links));
    CHECK_EQ(links, 0);
    graph_kit_destroy(&kit);
}
