/*
 * t_graph_hold.c - code rows that are copied to large pages while others search.
 */
#include "base/mem.h"
#include "index/graph.h"

#include "tests/graph_kit.h"
#include "tests/harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define ROWS 2400u
#define DIM 1024u
#define QUERIES 40u
#define K 10u
#define SEARCHERS 2

typedef struct stage {
    graph_kit kit;
    float *queries;
    vex_graph_hit hits[QUERIES][K];
    _Atomic bool done;
    _Atomic int differences;
} stage;

static void find(const stage *s, uint32_t query, vex_graph_hit *out) {
    vex_graph_scratch *scratch;
    vex_graph_found found;
    const vex_graph_search_args args = {.query = s->queries + (size_t)query * DIM, .ef = 20};
    CHECK_OK(vex_graph_scratch_acquire(s->kit.graph, &scratch));
    CHECK_OK(vex_graph_search(s->kit.graph, scratch, &args, &found));
    CHECK(found.n >= K);
    memcpy(out, found.hits, K * sizeof *out);
    vex_graph_scratch_release(s->kit.graph, scratch);
}

static void compare(stage *s) {
    for (uint32_t q = 0; q < QUERIES; q++) {
        vex_graph_hit hits[K];
        find(s, q, hits);
        if (memcmp(hits, s->hits[q], sizeof hits) != 0) {
            atomic_fetch_add(&s->differences, 1);
        }
    }
}

static void *search(void *argument) {
    stage *s = argument;
    while (!atomic_load(&s->done)) {
        compare(s);
    }
    return NULL;
}

static stage *begin(void) {
    stage *s = calloc(1, sizeof *s);
    uint64_t state = 7;
    s->kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, DIM, ROWS);
    graph_kit_fill_clusters(&s->kit, 30, 0.3f, 5);
    graph_kit_build(&s->kit, 8, 20, 1);
    CHECK((uint64_t)ROWS * s->kit.codes.stride >= VEX_BULK_MAP_MIN);
    s->queries = malloc((size_t)QUERIES * DIM * sizeof *s->queries);
    for (uint32_t q = 0; q < QUERIES; q++) {
        graph_kit_near(&s->kit, q * 7, 0.3f, &state, s->queries + (size_t)q * DIM);
        find(s, q, s->hits[q]);
    }
    return s;
}

static void end(stage *s) {
    graph_kit_destroy(&s->kit);
    free(s->queries);
    free(s);
}

TEST(graph_holds_rows_while_others_search) {
    stage *s = begin();
    pthread_t searchers[SEARCHERS];
    const void *row = vex_graph_row(s->kit.graph, s->kit.first + ROWS - 1);
    CHECK_EQ(vex_graph_held_bytes(s->kit.graph), 0);
    const uint64_t rows_bytes = (uint64_t)ROWS * s->kit.codes.stride;
    CHECK(!vex_graph_holds_rows(s->kit.graph));
    for (int i = 0; i < SEARCHERS; i++) {
        CHECK_EQ(pthread_create(&searchers[i], NULL, search, s), 0);
    }
    CHECK_OK(vex_graph_hold_rows(s->kit.graph, UINT64_MAX));
    compare(s);
    atomic_store(&s->done, true);
    for (int i = 0; i < SEARCHERS; i++) {
        pthread_join(searchers[i], NULL);
    }
    CHECK_EQ(atomic_load(&s->differences), 0);
    CHECK(vex_graph_holds_rows(s->kit.graph));
    const void *held = vex_graph_row(s->kit.graph, s->kit.first + ROWS - 1);
    CHECK(held != row);
    CHECK(memcmp(held, row, s->kit.codes.stride) == 0);
    CHECK_EQ(vex_graph_held_bytes(s->kit.graph), rows_bytes);
    CHECK_OK(vex_graph_hold_rows(s->kit.graph, UINT64_MAX)); /* nothing is left to hold */
    CHECK_EQ(vex_graph_held_bytes(s->kit.graph), rows_bytes);
    end(s);
}

TEST(graph_holds_no_more_rows_than_it_may) {
    stage *s = begin();
    const uint64_t rows_bytes = (uint64_t)ROWS * s->kit.codes.stride;
    const void *row = vex_graph_row(s->kit.graph, s->kit.first);
    CHECK_OK(vex_graph_hold_rows(s->kit.graph, rows_bytes - 1));
    CHECK(vex_graph_holds_rows(s->kit.graph)); /* they were offered, once */
    CHECK(vex_graph_row(s->kit.graph, s->kit.first) == row);
    uint32_t first;
    CHECK_OK(vex_graph_add_source(s->kit.graph, 2, s->kit.rows, 100, &first)); /* small */
    CHECK(!vex_graph_holds_rows(s->kit.graph));
    CHECK_OK(vex_graph_hold_rows(s->kit.graph, UINT64_MAX));
    CHECK(vex_graph_row(s->kit.graph, first) == s->kit.rows);
    compare(s);
    CHECK_EQ(atomic_load(&s->differences), 0);
    end(s);
}
