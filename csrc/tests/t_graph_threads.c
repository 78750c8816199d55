/*
 * t_graph_threads.c - a graph that is built, added to and repaired while others search it.
 */
#include "index/graph.h"

#include "tests/graph_kit.h"
#include "tests/harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SEARCHERS 4
#define BUILDERS 2
#define DIM 16
#define PART 600
#define PARTS 5

typedef struct stage {
    graph_kit kit;
    vex_graph *graph;
    vex_graph_batch batch;
    _Atomic bool done;
    _Atomic int failures;
    _Atomic uint64_t searches;
} stage;

/* Results must be sound at every moment: known ids, inserted ones, in order. */
static void check_found(stage *s, const vex_graph_found *found, const uint64_t *allowed) {
    const uint32_t end = vex_graph_end(s->graph);
    for (uint32_t i = 0; i < found->n; i++) {
        const vex_graph_hit hit = found->hits[i];
        const bool good = hit.id < end && vex_graph_has(s->graph, hit.id) &&
                          (allowed == NULL || vex_bit_get(allowed, hit.id)) &&
                          (i == 0 || found->hits[i - 1].distance <= hit.distance);
        atomic_fetch_add(&s->failures, !good);
    }
}

static void *search(void *argument) {
    stage *s = argument;
    uint64_t state = 1 + (uint64_t)(uintptr_t)&state;
    uint64_t allowed[PARTS * 1024 / 64];
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        allowed[i] = 0x5555555555555555u;
    }
    while (!atomic_load(&s->done)) {
        vex_graph_scratch *scratch;
        vex_graph_found found;
        float query[DIM];
        for (int d = 0; d < DIM; d++) {
            query[d] = graph_kit_float(&state);
        }
        vex_graph_search_args args = {.query = query, .ef = 20};
        if (atomic_fetch_add(&s->searches, 1) % 3 == 0) {
            args.allowed = allowed;
            args.allowed_end = PARTS * 1024;
            args.n_allowed = state % 2 ? 10 : PARTS * 512;
        }
        if (vex_graph_scratch_acquire(s->graph, &scratch) != VEX_OK ||
            vex_graph_search(s->graph, scratch, &args, &found) != VEX_OK) {
            atomic_fetch_add(&s->failures, 1);
            continue;
        }
        check_found(s, &found, args.allowed);
        vex_graph_scratch_release(s->graph, scratch);
    }
    return NULL;
}

static void *build(void *argument) {
    stage *s = argument;
    if (vex_graph_insert_batch(s->graph, &s->batch) != VEX_OK) {
        atomic_fetch_add(&s->failures, 1);
    }
    return NULL;
}

static void run(stage *s) {
    pthread_t searchers[SEARCHERS], builders[BUILDERS];
    uint32_t firsts[PARTS];
    for (int i = 0; i < SEARCHERS; i++) {
        CHECK_EQ(pthread_create(&searchers[i], NULL, search, s), 0);
    }
    bool failed = false;
    for (int part = 0; part < PARTS; part++) { /* sources are added while all of them work */
        failed |= vex_graph_add_source(s->graph, (uint64_t)part,
                                       s->kit.rows + (size_t)part * PART * s->kit.codes.stride,
                                       PART, &firsts[part]) != VEX_OK;
        vex_graph_batch_init(&s->batch, firsts[part], PART);
        for (int i = 0; i < BUILDERS; i++) {
            failed |= pthread_create(&builders[i], NULL, build, s) != 0;
        }
        vex_graph_stats stats;
        vex_graph_get_stats(s->graph, &stats);
        for (int i = 0; i < BUILDERS; i++) {
            pthread_join(builders[i], NULL);
        }
        vex_graph_repair_stats repair;
        failed |= vex_graph_repair(s->graph, &repair) != VEX_OK || repair.left != 0;
    }
    atomic_store(&s->done, true);
    for (int i = 0; i < SEARCHERS; i++) {
        pthread_join(searchers[i], NULL);
    }
    CHECK(!failed);
    CHECK_EQ(atomic_load(&s->failures), 0);
    CHECK(atomic_load(&s->searches) > 0);
    for (int part = 0; part < PARTS; part++) {
        CHECK_EQ(firsts[part], part * 1024);
    }
}

TEST(graph_threads_search_while_others_build) {
    stage s = {.kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_COSINE, DIM, PART * PARTS)};
    graph_kit_fill_clusters(&s.kit, 20, 0.6f, 8);
    for (uint32_t i = 0; i < PART * PARTS; i += 3) { /* and chains, while they are walked */
        memcpy(s.kit.vectors + (size_t)i * DIM, s.kit.vectors + (size_t)(i % 21) * DIM,
               DIM * sizeof(float));
    }
    graph_kit_encode(&s.kit);
    const vex_graph_params params = {.codes = s.kit.codes, .m = 8, .ef_construction = 40};
    CHECK_OK(vex_graph_create(&params, &s.graph));
    run(&s);
    vex_graph_stats stats;
    vex_graph_get_stats(s.graph, &stats);
    CHECK_EQ(stats.linked + stats.duplicates, PART * PARTS);
    CHECK(stats.duplicates >= PART * PARTS / 3 - 21 && stats.duplicates < PART * PARTS / 2);
    vex_graph_destroy(s.graph);
    graph_kit_destroy(&s.kit);
}

TEST(graph_threads_build_as_well_as_one) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 24, 4000);
    graph_kit_fill_clusters(&kit, 30, 0.6f, 8);
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 16, 100, 1);
    const double alone = graph_kit_recall(&kit, 80, 10, 60, NULL);
    graph_kit_build(&kit, 16, 100, 4);
    CHECK(graph_kit_recall(&kit, 80, 10, 60, NULL) >= alone - 0.01);
    CHECK_EQ(graph_kit_lost_rows(&kit, 100, NULL), 0);
    vex_graph_stats stats;
    vex_graph_get_stats(kit.graph, &stats);
    CHECK_EQ(stats.linked, 4000);
    graph_kit_destroy(&kit);
}

/* phi is raised by many threads at once. */
TEST(graph_threads_raise_phi) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_IP, 8, 1500);
    graph_kit_fill_clusters(&kit, 10, 0.6f, 8);
    for (uint32_t i = 0; i < kit.n * 8; i++) {
        kit.vectors[i] *= (float)(1 + i / 8);
    }
    graph_kit_encode(&kit);
    kit.phi = 0.01f;
    graph_kit_build(&kit, 8, 40, 4);
    vex_graph_stats stats;
    vex_graph_get_stats(kit.graph, &stats);
    CHECK(stats.phi > 500.0f && stats.linked == 1500);
    graph_kit_destroy(&kit);
}
