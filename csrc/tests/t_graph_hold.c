/*
 * t_graph_hold.c - code rows that are copied to large pages while others search.
 */
#include "base/mem.h"
#include "index/graph.h"

#include "tests/graph_kit.h"
#include "tests/harness.h"

#include <math.h>
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

typedef struct target {
    const float *vectors, *query;
} target;

static vex_status exact(void *context, const uint32_t *ids, uint32_t n, float *out) {
    const target *t = context;
    for (uint32_t i = 0; i < n; i++) {
        out[i] = vex_distance(VEX_SPACE_L2, t->vectors + (size_t)ids[i] * DIM, t->query, DIM);
    }
    return VEX_OK;
}

/* Walks by code rows and by short rows see distances that differ: exact ones do not. */
static void find(const stage *s, uint32_t query, vex_graph_hit *out) {
    vex_graph_scratch *scratch;
    vex_graph_found found;
    uint32_t n;
    target t = {.vectors = s->kit.vectors, .query = s->queries + (size_t)query * DIM};
    const vex_graph_search_args args = {.query = t.query, .ef = 20};
    CHECK_OK(vex_graph_scratch_acquire(s->kit.graph, &scratch));
    CHECK_OK(vex_graph_search(s->kit.graph, scratch, &args, &found));
    CHECK(found.n >= K);
    CHECK_OK(vex_rerank(found.hits, found.n, K, UINT32_MAX, exact, &t, out, &n, NULL));
    CHECK_EQ(n, K);
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
    const vex_codes *codes = &s->kit.codes;
    const uint64_t bytes = (uint64_t)ROWS * (codes->stride + codes->short_stride);
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
    CHECK_EQ(vex_graph_held_bytes(s->kit.graph), bytes);
    CHECK_OK(vex_graph_hold_rows(s->kit.graph, UINT64_MAX)); /* nothing is left to hold */
    CHECK_EQ(vex_graph_held_bytes(s->kit.graph), bytes);
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

/* ---- short rows ---- */

/* Rows of ten degrees of freedom, which short rows tell apart. */
static graph_kit walkable(uint32_t dim, uint32_t n) {
    enum { DEGREES = 10 };
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_COSINE, dim, n);
    float *direction = malloc(DEGREES * dim * sizeof *direction);
    uint64_t state = 5;
    for (uint32_t i = 0; i < DEGREES * dim; i++) {
        direction[i] = graph_kit_float(&state);
    }
    for (uint32_t i = 0; i < n; i++) {
        float *x = memset(kit.vectors + (size_t)i * dim, 0, dim * sizeof *x);
        for (uint32_t j = 0; j < DEGREES; j++) {
            const float far = graph_kit_float(&state);
            for (uint32_t k = 0; k < dim; k++) {
                x[k] += far * direction[j * dim + k];
            }
        }
    }
    graph_kit_encode(&kit);
    free(direction);
    return kit;
}

static uint64_t short_bytes(const graph_kit *kit) {
    return (uint64_t)kit->n * kit->codes.short_stride;
}

TEST(graph_walks_by_short_rows_find_as_much) {
    graph_kit kit = walkable(200, 4000);
    graph_kit_build(&kit, 8, 40, 1);
    uint64_t *few = calloc(vex_bit_words(kit.n) + 1, sizeof *few);
    for (uint32_t i = 0; i < kit.n; i += 3) {
        vex_bit_set(few, i);
    }
    const double all = graph_kit_recall(&kit, 200, 10, 20, NULL);
    const double third = graph_kit_recall(&kit, 200, 10, 20, few);
    CHECK_OK(vex_graph_hold_rows(kit.graph, UINT64_MAX));
    CHECK_EQ(vex_graph_held_bytes(kit.graph), short_bytes(&kit)); /* rows: below 2 MiB */
    CHECK(graph_kit_recall(&kit, 200, 10, 20, NULL) >= all - 0.01);
    CHECK(graph_kit_recall(&kit, 200, 10, 20, few) >= third - 0.01);
    free(few);
    graph_kit_destroy(&kit);
}

static uint64_t *every(const graph_kit *kit, uint32_t step, uint32_t *n) {
    uint64_t *rows = calloc(vex_bit_words(kit->n) + 1, sizeof *rows);
    *n = 0;
    for (uint32_t i = 0; i < kit->n; i += step, ++*n) {
        vex_bit_set(rows, i);
    }
    return rows;
}

/* So few rows are left that no walk is needed: each is looked at, once, and found whether links lead
 * there or not. */
TEST(graph_looks_at_each_of_few_rows) {
    enum { N = 4000, EF = 20 };
    graph_kit kit = walkable(200, N);
    graph_kit_build(&kit, 8, 40, 1);
    CHECK_OK(vex_graph_hold_rows(kit.graph, UINT64_MAX));
    static const uint32_t steps[] = {1000, 70, 20, 4, 2};
    for (uint32_t i = 0; i < 5; i++) {
        vex_graph_scratch *scratch;
        vex_graph_found found;
        uint32_t n;
        uint64_t *allowed = every(&kit, steps[i], &n);
        const bool each = (uint64_t)n * n <= 22u * EF * N;
        const vex_graph_search_args args = {.query = kit.vectors + 77 * (size_t)kit.dim,
                                            .ef = EF,
                                            .allowed = allowed,
                                            .allowed_end = N,
                                            .n_allowed = n};
        CHECK_EQ(each, steps[i] > 2);
        CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
        CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
        CHECK_EQ(found.n, n < EF ? n : EF);
        CHECK(each ? found.hops == 0 && found.distances == n : found.hops > EF);
        for (uint32_t h = 0; h < found.n; h++) {
            CHECK(vex_bit_get(allowed, found.hits[h].id));
            CHECK(h == 0 || found.hits[h - 1].distance <= found.hits[h].distance);
        }
        vex_graph_scratch_release(kit.graph, scratch);
        CHECK(graph_kit_recall(&kit, 100, n < 10 ? n : 10, EF, allowed) >= (each ? 0.999 : 0.95));
        free(allowed);
    }
    graph_kit_destroy(&kit);
}

/* Of equal rows one is a candidate, and the others are found beside it, as by a walk. */
TEST(graph_looks_at_each_of_few_equal_rows) {
    enum { N = 4000, SOME = 60 };
    graph_kit kit = walkable(200, N);
    for (uint32_t i = N / 2; i < N; i++) { /* row i again */
        memcpy(kit.vectors + i * (size_t)kit.dim, kit.vectors + (i - N / 2) * (size_t)kit.dim,
               kit.dim * sizeof *kit.vectors);
    }
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 8, 40, 1);
    CHECK_OK(vex_graph_hold_rows(kit.graph, UINT64_MAX));
    uint64_t allowed[N / 64 + 2] = {0}, seen[N / 64 + 2] = {0};
    for (uint32_t i = 0; i < SOME; i++) { /* the first of them only by their equals */
        vex_bit_set(allowed, (size_t)i * 30 + N / 2);
        if (i >= SOME / 2) {
            vex_bit_set(allowed, (size_t)i * 30);
        }
    }
    vex_graph_search_args args = {.query = kit.vectors,
                                  .ef = SOME,
                                  .allowed = allowed,
                                  .allowed_end = N,
                                  .n_allowed = SOME + SOME / 2};
    vex_graph_scratch *scratch;
    vex_graph_found found;
    CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
    CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
    CHECK_EQ(found.hops, 0);
    CHECK_EQ(found.n, SOME + SOME / 2);
    CHECK_EQ(found.hits[0].id, N / 2);
    for (uint32_t h = 0; h < found.n; h++) {
        CHECK(vex_bit_get(allowed, found.hits[h].id) && !vex_bit_get(seen, found.hits[h].id));
        vex_bit_set(seen, found.hits[h].id);
    }
    args.ef = 10;
    uint32_t different = 0;
    CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
    for (uint32_t h = 0; h < found.n; h++) {
        different += h == 0 || found.hits[h - 1].distance < found.hits[h].distance;
    }
    CHECK_EQ(different, 10);
    CHECK(found.n > 10 && found.n <= 20);
    vex_graph_scratch_release(kit.graph, scratch);
    graph_kit_destroy(&kit);
}

typedef struct look {
    const graph_kit *kit;
    const uint64_t *allowed;
    uint32_t n_allowed;
    _Atomic bool done;
    _Atomic int failures, searches;
} look;

static void *look_at_each(void *argument) {
    enum { EF = 30 };
    look *l = argument;
    for (bool last = false; !last;) {
        uint64_t seen[64] = {0};
        vex_graph_scratch *scratch;
        vex_graph_found found;
        const vex_graph_search_args args = {.query = l->kit->vectors,
                                            .ef = EF,
                                            .allowed = l->allowed,
                                            .allowed_end = l->kit->n,
                                            .n_allowed = l->n_allowed};
        last = atomic_load(&l->done);
        if (vex_graph_scratch_acquire(l->kit->graph, &scratch) != VEX_OK ||
            vex_graph_search(l->kit->graph, scratch, &args, &found) != VEX_OK) {
            atomic_fetch_add(&l->failures, 1);
            break;
        }
        for (uint32_t h = 0; h < found.n; h++) {
            const uint32_t id = found.hits[h].id;
            const bool good = vex_bit_get(l->allowed, id) && !vex_bit_get(seen, id) &&
                              (h == 0 || found.hits[h - 1].distance <= found.hits[h].distance);
            atomic_fetch_add(&l->failures, !good);
            vex_bit_set(seen, id);
        }
        atomic_fetch_add(&l->failures, found.hops != 0 || (last && found.n < EF));
        atomic_fetch_add(&l->searches, 1);
        vex_graph_scratch_release(l->kit->graph, scratch);
    }
    return NULL;
}

/* Rows are linked and chained meanwhile: none is found twice. */
TEST(graph_looks_at_each_while_others_build) {
    enum { N = 4000 };
    graph_kit kit = walkable(200, N);
    for (uint32_t i = 1; i < N; i += 2) { /* pairs of equal rows */
        memcpy(kit.vectors + i * (size_t)kit.dim, kit.vectors + (i - 1) * (size_t)kit.dim,
               kit.dim * sizeof *kit.vectors);
    }
    graph_kit_encode(&kit);
    graph_kit_start(&kit, 8, 40);
    CHECK_OK(vex_graph_hold_rows(kit.graph, UINT64_MAX));
    uint64_t allowed[N / 64 + 2] = {0};
    for (uint32_t i = 0; i < N; i += 8) {
        allowed[i / 64] |= 3ULL << (i % 64);
    }
    look l = {.kit = &kit, .allowed = allowed, .n_allowed = N / 4};
    pthread_t searchers[SEARCHERS];
    for (int i = 0; i < SEARCHERS; i++) {
        CHECK_EQ(pthread_create(&searchers[i], NULL, look_at_each, &l), 0);
    }
    const vex_status status = vex_graph_insert(kit.graph, kit.first, N, 2);
    atomic_store(&l.done, true);
    for (int i = 0; i < SEARCHERS; i++) {
        CHECK_EQ(pthread_join(searchers[i], NULL), 0);
    }
    CHECK_OK(status);
    CHECK_EQ(atomic_load(&l.failures), 0);
    CHECK(atomic_load(&l.searches) > SEARCHERS);
    graph_kit_destroy(&kit);
}

/* By short rows the order is another one: sharpened it is that of code rows. */
TEST(graph_sharpens_what_short_rows_found) {
    enum { N = 4000, EF = 200 };
    graph_kit kit = walkable(200, N);
    graph_kit_build(&kit, 8, 40, 1);
    float by_codes[N];
    vex_graph_hit hits[2 * EF];
    vex_graph_scratch *scratch;
    vex_graph_found found;
    uint32_t unsorted = 0, known = 0;
    vex_graph_search_args args = {.query = kit.vectors + 77 * (size_t)kit.dim, .ef = N};
    CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
    CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
    CHECK(!found.by_short);
    for (uint32_t i = 0; i < N; i++) {
        by_codes[i] = INFINITY;
    }
    for (uint32_t i = 0; i < found.n; i++) {
        by_codes[found.hits[i].id - kit.first] = found.hits[i].distance;
    }
    CHECK_OK(vex_graph_hold_rows(kit.graph, UINT64_MAX));
    args.ef = EF;
    CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
    CHECK(found.by_short && found.n >= EF && found.n <= 2 * EF);
    const uint32_t n = found.n;
    memcpy(hits, found.hits, n * sizeof *hits);
    for (uint32_t i = 1; i < n; i++) {
        unsorted += by_codes[hits[i - 1].id - kit.first] > by_codes[hits[i].id - kit.first];
    }
    CHECK(unsorted > 0);
    CHECK_OK(vex_graph_sharpen(kit.graph, scratch, hits, n));
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = hits[i].id - kit.first;
        CHECK(i == 0 || hits[i - 1].distance <= hits[i].distance);
        CHECK(isinf(by_codes[row]) || by_codes[row] == hits[i].distance);
        known += !isinf(by_codes[row]);
        by_codes[row] = INFINITY; /* each of them once */
    }
    CHECK(known > n / 2);
    vex_graph_scratch_release(kit.graph, scratch);
    graph_kit_destroy(&kit);
}

static uint64_t distances_of_building(graph_kit *kit) {
    const uint64_t before = vex_stat_get(VEX_STAT_DISTANCES);
    CHECK_OK(vex_graph_insert(kit->graph, kit->first, kit->n, 1));
    return vex_stat_get(VEX_STAT_DISTANCES) - before;
}

/* Walks are by short rows; candidates are measured by code rows once more. */
TEST(graph_built_by_short_rows_is_as_good) {
    graph_kit kit = walkable(200, 4000);
    graph_kit_start(&kit, 8, 40);
    const uint64_t by_codes = distances_of_building(&kit);
    const double recall = graph_kit_recall(&kit, 300, 10, 20, NULL);
    graph_kit_start(&kit, 8, 40);
    CHECK_OK(vex_graph_hold_rows(kit.graph, UINT64_MAX));
    CHECK(vex_graph_held_bytes(kit.graph) == short_bytes(&kit));
    const uint64_t by_shorts = distances_of_building(&kit);
    const double short_recall = graph_kit_recall(&kit, 300, 10, 20, NULL);
    CHECK(by_shorts > by_codes + 30 * kit.n);
    CHECK(by_shorts < by_codes + 50 * kit.n);
    CHECK(short_recall >= recall - 0.01);
    graph_kit_destroy(&kit);
}

/* All values lie within a 16th of the range of their row: a short row says next to nothing of them. */
TEST(graph_walks_by_code_rows_where_short_rows_would_mislead) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 64, 3000);
    graph_kit_fill_clusters(&kit, 1, 1.0f, 5);
    for (size_t i = 0; i < (size_t)kit.n * kit.dim; i++) {
        kit.vectors[i] = i % kit.dim == 0 ? 40.0f : kit.vectors[i];
    }
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 8, 40, 1);
    const double before = graph_kit_recall(&kit, 100, 10, 20, NULL);
    CHECK_OK(vex_graph_hold_rows(kit.graph, UINT64_MAX));
    CHECK_EQ(vex_graph_held_bytes(kit.graph), 0);
    CHECK(graph_kit_recall(&kit, 100, 10, 20, NULL) == before);
    graph_kit_destroy(&kit);
}

/* What has too few rows to tell waits for more; and whoever adds rows that have no short ones yet finds
 * them all the same. */
TEST(graph_short_rows_of_a_few_rows_wait_for_more) {
    graph_kit kit = walkable(200, 3500);
    const vex_graph_params params = {.codes = kit.codes, .m = 8, .ef_construction = 40, .seed = 1};
    uint32_t first;
    CHECK_OK(vex_graph_create(&params, &kit.graph));
    const uint32_t ends[] = {100, 3000, 3500};
    for (uint32_t from = 0, i = 0; i < 3; from = ends[i++]) {
        const uint8_t *rows = kit.rows + (size_t)from * kit.codes.stride;
        CHECK_OK(vex_graph_add_source(kit.graph, i + 1, rows, ends[i] - from, &first));
        CHECK_OK(vex_graph_insert(kit.graph, first, ends[i] - from, 1));
        const uint32_t last = ends[i] - 1 - from + first;
        const float *x = kit.vectors + (size_t)(ends[i] - 1) * kit.dim;
        for (int held = 0; held < 2; held++) {
            vex_graph_scratch *scratch;
            vex_graph_found found;
            const vex_graph_search_args args = {.query = x, .ef = 20};
            CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
            CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
            CHECK(found.n > 0 && found.hits[0].id == last);
            vex_graph_scratch_release(kit.graph, scratch);
            CHECK_OK(vex_graph_hold_rows(kit.graph, UINT64_MAX));
            CHECK_EQ(vex_graph_held_bytes(kit.graph), (uint64_t)ends[i] * kit.codes.short_stride);
        }
    }
    graph_kit_destroy(&kit);
}

TEST(graph_without_memory_for_short_rows_walks_by_code_rows) {
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        graph_kit kit = walkable(40, 2500);
        graph_kit_build(&kit, 8, 40, 1);
        const double before = graph_kit_recall(&kit, 20, 10, 20, NULL);
        vex_mem_fail_at(nth, false);
        const vex_status status = vex_graph_hold_rows(kit.graph, UINT64_MAX);
        failed = vex_mem_fail_left() == 0;
        vex_mem_fail_at(0, false);
        CHECK_EQ(status, failed ? VEX_ERR_NO_MEMORY : VEX_OK);
        CHECK(!failed || vex_graph_held_bytes(kit.graph) == 0);
        CHECK(graph_kit_recall(&kit, 20, 10, 20, NULL) >= before - 0.03);
        graph_kit_destroy(&kit);
    }
}

/* ---- what a search keeps ---- */

/* Marks of what a walk met are taken back: of a small graph all, else one by one, or all when there were
 * more than are noted. */
static void check_marks_are_taken_back(uint32_t n_rows) {
    enum { K_FEW = 20, K_MANY = 9000, NOTED = 8192 };
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 4, n_rows);
    graph_kit_fill_clusters(&kit, 90, 0.5f, 5);
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 4, 10, 1);
    vex_graph_hit few[2 * K_FEW];
    vex_graph_scratch *scratch;
    vex_graph_found found;
    CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
    vex_graph_search_args args = {.query = kit.vectors, .ef = K_FEW};
    CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
    const uint32_t n = found.n;
    const uint64_t distances = found.distances;
    memcpy(few, found.hits, n * sizeof *few);
    for (int round = 0; round < 3; round++) {
        args.ef = K_MANY;
        CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
        CHECK(found.distances > NOTED);
        args.ef = K_FEW;
        CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
        CHECK_EQ(found.n, n);
        CHECK_EQ(found.distances, distances);
        CHECK(memcmp(found.hits, few, n * sizeof *few) == 0);
    }
    vex_graph_scratch_release(kit.graph, scratch);
    graph_kit_destroy(&kit);
}

TEST(graph_walks_forget_what_others_met) {
    check_marks_are_taken_back(9000);
    check_marks_are_taken_back(70000);
}

/* A bit for each row is marked by walks, so that marks of a million rows stay in the cache; and links of
 * many rows lie in one block, which is in large pages but for its end. */
TEST(graph_keeps_marks_and_links_close) {
    enum { N = 100000 };
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 4, N);
    graph_kit_encode(&kit);
    const uint64_t maps = vex_stat_get(VEX_STAT_BULK_MAPS);
    graph_kit_start(&kit, 16, 10);
    CHECK_EQ(vex_stat_get(VEX_STAT_BULK_MAPS), maps + 1);
    vex_graph_scratch *scratch;
    vex_graph_found found;
    const vex_graph_search_args args = {.query = kit.vectors, .ef = 10};
    CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
    CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
    vex_graph_scratch_release(kit.graph, scratch);
    CHECK(vex_graph_idle_bytes(kit.graph) < N);
    graph_kit_destroy(&kit);
}
