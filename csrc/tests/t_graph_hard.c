/*
 * t_graph_hard.c - data that breaks graphs, filters, duplicates, and compaction.
 */
#include "index/graph.h"

#include "tests/graph_kit.h"
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>

/* ---- hard data ---- */

typedef void (*filler)(graph_kit *kit, uint64_t *state);

static void all_equal(graph_kit *kit, uint64_t *state) {
    const float value = graph_kit_float(state);
    for (size_t i = 0; i < (size_t)kit->n * kit->dim; i++) {
        kit->vectors[i] = value;
    }
}

static void zeros(graph_kit *kit, uint64_t *state) {
    (void)state;
    memset(kit->vectors, 0, (size_t)kit->n * kit->dim * sizeof *kit->vectors);
}

static void two_far_clusters(graph_kit *kit, uint64_t *state) {
    for (uint32_t i = 0; i < kit->n; i++) {
        for (uint32_t d = 0; d < kit->dim; d++) {
            kit->vectors[(size_t)i * kit->dim + d] =
                (i < kit->n / 2 ? -50.0f : 50.0f) + graph_kit_float(state);
        }
    }
}

/* Groups of more near-duplicates than links, then outliers. */
static void near_duplicates_then_outliers(graph_kit *kit, uint64_t *state) {
    for (uint32_t i = 0; i < kit->n; i++) {
        float *x = kit->vectors + (size_t)i * kit->dim;
        const bool outlier = i >= kit->n * 9 / 10;
        const bool first = i % 17 == 0;
        for (uint32_t d = 0; d < kit->dim; d++) {
            x[d] = outlier ? 20 * graph_kit_float(state)
                   : first ? 3 * graph_kit_float(state)
                           : x[d - (size_t)(i % 17) * kit->dim] + 1e-4f * graph_kit_float(state);
        }
    }
}

static void ring(graph_kit *kit, uint64_t *state) {
    (void)state;
    for (uint32_t i = 0; i < kit->n; i++) {
        for (uint32_t d = 0; d < kit->dim; d++) {
            kit->vectors[(size_t)i * kit->dim + d] = (float)i;
        }
    }
}

static void uneven_norms(graph_kit *kit, uint64_t *state) {
    for (uint32_t i = 0; i < kit->n; i++) {
        const float norm = powf(10.0f, 3 * graph_kit_float(state));
        for (uint32_t d = 0; d < kit->dim; d++) {
            kit->vectors[(size_t)i * kit->dim + d] = norm * graph_kit_float(state);
        }
    }
}

static void one_large_dimension(graph_kit *kit, uint64_t *state) {
    for (uint32_t i = 0; i < kit->n; i++) {
        for (uint32_t d = 0; d < kit->dim; d++) {
            kit->vectors[(size_t)i * kit->dim + d] =
                (d == 0 ? 100.0f : 1.0f) * graph_kit_float(state);
        }
    }
}

static void copies_of_few(graph_kit *kit, uint64_t *state) {
    for (uint32_t i = 0; i < kit->n; i++) {
        for (uint32_t d = 0; d < kit->dim; d++) {
            kit->vectors[(size_t)i * kit->dim + d] =
                i < 100 ? graph_kit_float(state)
                        : kit->vectors[(size_t)((uint64_t)i * 7919 % 100) * kit->dim + d];
        }
    }
}

/* Half of the rows are one of few, the others are alone. */
static void some_zeros(graph_kit *kit, uint64_t *state) {
    for (uint32_t i = 0; i < kit->n; i++) {
        for (uint32_t d = 0; d < kit->dim; d++) {
            kit->vectors[(size_t)i * kit->dim + d] = i % 2 ? 0 : graph_kit_float(state);
        }
    }
}

static const struct {
    const char *name;
    filler fill;
} sets[] = {{"all equal", all_equal},
            {"zeros", zeros},
            {"two far clusters", two_far_clusters},
            {"near-duplicates, then outliers", near_duplicates_then_outliers},
            {"ring", ring},
            {"uneven norms", uneven_norms},
            {"one large dimension", one_large_dimension},
            {"copies of few", copies_of_few},
            {"some zeros", some_zeros}};

typedef struct taken {
    const graph_kit *kit;
} taken;

static void source_of(void *context, uint32_t i, float *x) {
    const graph_kit *kit = ((taken *)context)->kit;
    memcpy(x, kit->vectors + (size_t)i * kit->dim, kit->dim * sizeof *x);
}

/* With the kind that the choice gives, as an engine does. */
static void check_set(size_t set, uint32_t space, uint32_t n, uint32_t dim) {
    uint64_t state = set + 12345;
    vex_codes_choice choice;
    graph_kit plain = graph_kit_create(VEX_CODE_F32, space, dim, n);
    sets[set].fill(&plain, &state);
    taken t = {&plain};
    CHECK_OK(vex_codes_choose(space, dim, VEX_CODE_LVQ8, n, source_of, &t, 1, &choice));
    graph_kit kit = graph_kit_create(choice.kind, space, dim, n);
    memcpy(kit.vectors, plain.vectors, (size_t)n * dim * sizeof *kit.vectors);
    graph_kit_encode(&kit);
    const vex_graph_params params = {.codes = kit.codes, .m = 16, .ef_construction = 100};
    CHECK_OK(vex_graph_choose_phi(&params, kit.rows, n, &kit.phi));
    graph_kit_build(&kit, 16, 100, 1);
    /* On a sphere, a row in a few hundred of uneven norms may miss what is exactly its nearest. */
    const uint32_t lost = graph_kit_lost_rows(&kit, 100, NULL), most = kit.phi > 0 ? n / 100 : 0;
    const double recall = graph_kit_recall(&kit, 40, 10, 100, NULL);
    if (lost > most || recall < 0.97) {
        test_failed(__FILE__, __LINE__, "%s, space %u, %s: %u rows lost, recall %.4f",
                    sets[set].name, space, vex_code_kind_name(choice.kind), lost, recall);
    }
    graph_kit_destroy(&kit);
    graph_kit_destroy(&plain);
}

TEST(graph_of_hard_data) {
    for (size_t set = 0; set < sizeof sets / sizeof *sets; set++) {
        for (uint32_t space = 0; space < 3; space++) {
            check_set(set, space, 1500, set == 4 ? 4 : 16);
        }
    }
}

TEST(graph_phi_grows_with_the_norms) {
    graph_kit kit = graph_kit_create(VEX_CODE_F32, VEX_SPACE_IP, 16, 2000);
    uint64_t state = 3;
    uneven_norms(&kit, &state);
    graph_kit_encode(&kit);
    CHECK(kit.phi > 0);
    const float full = kit.phi;
    kit.phi = 1e-3f;
    graph_kit_build(&kit, 16, 100, 1);
    vex_graph_stats stats;
    vex_graph_get_stats(kit.graph, &stats);
    CHECK(stats.phi >= full / 1.1f && stats.phi <= full * 1.001f);
    CHECK(graph_kit_recall(&kit, 60, 10, 100, NULL) >= 0.97);
    graph_kit_destroy(&kit);
}

/* Where few rows are long the sphere hides them from one another. */
TEST(graph_phi_is_chosen_by_what_is_found) {
    const filler fills[] = {near_duplicates_then_outliers, uneven_norms, two_far_clusters};
    for (int i = 0; i < 4; i++) {
        graph_kit kit =
            graph_kit_create(VEX_CODE_LVQ8, i < 3 ? VEX_SPACE_IP : VEX_SPACE_L2, 16, 1500);
        uint64_t state = 12348;
        float phi;
        fills[i % 3](&kit, &state);
        graph_kit_encode(&kit);
        const vex_graph_params params = {.codes = kit.codes, .m = 16, .ef_construction = 100};
        CHECK_OK(vex_graph_choose_phi(&params, kit.rows, kit.n, &phi));
        CHECK(i < 3 || phi == 0.0f);
        kit.phi = phi;
        graph_kit_build(&kit, 16, 100, 1);
        CHECK(graph_kit_recall(&kit, 60, 10, 100, NULL) >= 0.97);
        CHECK_OK(vex_graph_choose_phi(&params, kit.rows, 0, &phi));
        CHECK(phi == 0.0f);
        vex_mem_fail_at(2, true);
        const vex_status status = vex_graph_choose_phi(&params, kit.rows, kit.n, &phi);
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_ERR_NO_MEMORY || i == 3 || phi == 0.0f);
        graph_kit_destroy(&kit);
    }
}

/* ---- duplicates ---- */

TEST(graph_finds_every_duplicate) {
    enum { KINDS = 100, COPIES = 100, N = KINDS * COPIES, DIM = 12 };
    for (int order = 0; order < 3; order++) {
        graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, DIM, N);
        uint64_t state = 9;
        uint32_t kind_of[N];
        for (uint32_t i = 0; i < N; i++) {
            kind_of[i] = order == 0 ? i / COPIES : order == 1 ? i % KINDS : i;
        }
        for (uint32_t i = N; order == 2 && i > 1; i--) {
            const uint32_t j = test_random_below(i), swap = kind_of[i - 1];
            kind_of[i - 1] = kind_of[j];
            kind_of[j] = swap;
        }
        float kinds[KINDS][DIM];
        for (int i = 0; i < KINDS * DIM; i++) {
            (&kinds[0][0])[i] = graph_kit_float(&state);
        }
        for (uint32_t i = 0; i < N; i++) {
            memcpy(kit.vectors + (size_t)i * DIM, kinds[kind_of[i] % KINDS], DIM * sizeof(float));
        }
        graph_kit_encode(&kit);
        graph_kit_start(&kit, 16, 100);
        /* Inserted backwards in parts, so ids come in no order. */
        for (uint32_t part = 10; part-- > 0;) {
            CHECK_OK(vex_graph_insert(kit.graph, kit.first + part * (N / 10), N / 10, 1));
        }
        vex_graph_stats stats;
        vex_graph_get_stats(kit.graph, &stats);
        CHECK_EQ(stats.linked, KINDS);
        CHECK_EQ(stats.duplicates, N - KINDS);
        uint64_t *odd = calloc(N / 64 + 1, sizeof *odd);
        for (uint32_t i = 1; i < N; i += 2) {
            vex_bit_set(odd, i);
        }
        for (uint32_t kind = 0; kind < KINDS; kind += 7) {
            vex_graph_hit out[250], truth[250];
            for (int filtered = 0; filtered < 2; filtered++) {
                const uint64_t *allowed = filtered ? odd : NULL;
                const uint32_t n = graph_kit_exact(&kit, kinds[kind], 250, allowed, truth);
                CHECK_EQ(graph_kit_search(&kit, kinds[kind], 250, 250, allowed, out), n);
                for (uint32_t i = 0; i < n; i++) {
                    CHECK(out[i].distance == truth[i].distance && out[i].id == truth[i].id);
                }
            }
        }
        CHECK_EQ(kit.fallbacks, 0);
        free(odd);
        graph_kit_destroy(&kit);
    }
}

/* ---- filters ---- */

typedef enum relation { RANDOM, POSITIVE, NEGATIVE, RELATIONS } relation;

/* About `share` of the rows: at random, the nearest to a point, or the farthest from it. */
static uint64_t *make_filter(const graph_kit *kit, double share, relation how, const float *about) {
    uint64_t *allowed = calloc(vex_bit_words(kit->n) + 1, sizeof *allowed);
    const uint32_t wanted = (uint32_t)(share * kit->n);
    if (how == RANDOM) {
        for (uint32_t set = 0; set < wanted;) {
            const uint32_t row = test_random_below(kit->n);
            set += !vex_bit_get(allowed, row);
            vex_bit_set(allowed, row);
        }
        return allowed;
    }
    vex_graph_hit *all = malloc((kit->n + 1) * sizeof *all);
    graph_kit_exact(kit, about, kit->n, NULL, all);
    for (uint32_t i = 0; i < wanted; i++) {
        vex_bit_set(allowed, all[how == POSITIVE ? i : kit->n - 1 - i].id);
    }
    free(all);
    return allowed;
}

TEST(graph_filter_matrix) {
    enum { N = 4000, DIM = 16, K = 10 };
    static const double shares[] = {0, 1.0 / N, 0.001, 0.01, 0.04, 0.12, 0.3, 0.5, 0.99, 1};
    for (uint32_t space = 0; space < 3; space += 2) {
        graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, space, DIM, N);
        graph_kit_fill_clusters(&kit, 30, 0.7f, 21);
        graph_kit_encode(&kit);
        graph_kit_build(&kit, 16, 100, 1);
        const double unfiltered = graph_kit_recall(&kit, 40, K, 60, NULL);
        for (int s = 0; s < 10; s++) {
            for (relation how = RANDOM; how < RELATIONS; how++) {
                uint32_t hits = 0, wanted = 0;
                uint64_t state = 55;
                for (uint32_t j = 0; j < 25; j++) {
                    float query[DIM];
                    vex_graph_hit out[K], truth[K];
                    graph_kit_near(&kit, test_random_below(N), 0.2f, &state, query);
                    uint64_t *allowed = make_filter(&kit, shares[s], how, query);
                    const uint32_t m = (uint32_t)vex_bits_count(allowed, vex_bit_words(N));
                    const uint32_t n = graph_kit_search(&kit, query, K, 60, allowed, out);
                    graph_kit_exact(&kit, query, K, allowed, truth);
                    CHECK_EQ(n, K < m ? K : m);
                    for (uint32_t i = 0; i < n; i++) {
                        CHECK(vex_bit_get(allowed, out[i].id));
                        hits += out[i].distance <= truth[n - 1].distance * 1.00001f + 1e-6f;
                        wanted++;
                    }
                    free(allowed);
                }
                CHECK(wanted == 0 || (double)hits / wanted >= unfiltered - 0.01);
            }
        }
        graph_kit_destroy(&kit);
    }
}

/* A filter whose rows are not in the graph at all must end within its budget, or at the end. */
TEST(graph_filter_of_rows_not_inserted) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 8, 12000);
    graph_kit_fill_clusters(&kit, 30, 0.7f, 4);
    graph_kit_encode(&kit);
    graph_kit_start(&kit, 8, 40);
    CHECK_OK(vex_graph_insert(kit.graph, kit.first, 8000, 1));
    uint64_t *allowed = calloc(12000 / 64 + 2, sizeof *allowed);
    for (uint32_t i = 7990; i < 12000; i++) {
        vex_bit_set(allowed, i);
    }
    vex_graph_scratch *scratch;
    vex_graph_found found;
    CHECK_OK(vex_graph_scratch_acquire(kit.graph, &scratch));
    for (int budget = 0; budget < 2; budget++) {
        const vex_graph_search_args args = {.query = kit.vectors,
                                            .ef = 50,
                                            .allowed = allowed,
                                            .allowed_end = 12000,
                                            .n_allowed = 4010,
                                            .budget = budget ? 500 : 0};
        CHECK_OK(vex_graph_search(kit.graph, scratch, &args, &found));
        CHECK(found.exhausted == (budget != 0));
        if (!budget) {
            CHECK_EQ(found.n, 10); /* all that can be found, after going everywhere */
            CHECK(found.distances >= 7900 && found.distances < 9000);
        } else {
            CHECK(found.distances >= 500 && found.distances < 500 + 64);
        }
    }
    vex_graph_scratch_release(kit.graph, scratch);
    free(allowed);
    graph_kit_destroy(&kit);
}

/* ---- compaction ---- */

typedef enum death { NOBODY, HALF, NINE_TENTHS, A_REGION, ALL_BUT_FEW, EVERYBODY, DEATHS } death;

static bool dies(death how, const graph_kit *kit, uint32_t i) {
    const float *x = kit->vectors + (size_t)i * kit->dim;
    return how == HALF          ? test_random_below(2) == 0
           : how == NINE_TENTHS ? test_random_below(10) != 0
           : how == A_REGION    ? x[0] > 0 && x[1] > 0
           : how == ALL_BUT_FEW ? i % 700 != 0
                                : how == EVERYBODY;
}

/* Compact into a kit of the living, to which `more` rows are then inserted. */
static graph_kit compact(graph_kit *kit, death how, uint32_t more) {
    uint32_t *old_to_new = malloc((kit->n + 1) * sizeof *old_to_new), live = 0;
    for (uint32_t i = 0; i < kit->n; i++) {
        old_to_new[i] = dies(how, kit, i) ? VEX_GRAPH_NONE : live++;
    }
    graph_kit fresh = graph_kit_create(kit->codes.kind, kit->space, kit->dim, live + more);
    graph_kit_fill_clusters(&fresh, 30, 0.7f, kit->n + more);
    for (uint32_t i = 0; i < kit->n; i++) {
        if (old_to_new[i] != VEX_GRAPH_NONE) {
            memcpy(fresh.vectors + (size_t)old_to_new[i] * kit->dim,
                   kit->vectors + (size_t)i * kit->dim, kit->dim * sizeof(float));
        }
    }
    graph_kit_encode(&fresh);
    fresh.phi = kit->phi;
    const vex_graph_params *params = vex_graph_get_params(kit->graph);
    graph_kit_start(&fresh, params->m, params->ef_construction);
    CHECK_OK(vex_graph_remap(kit->graph, old_to_new, kit->n, &(vex_graph_pace){1, NULL, NULL},
                             fresh.graph));
    vex_graph_stats stats;
    uint32_t lost;
    vex_graph_get_stats(fresh.graph, &stats);
    CHECK_EQ(stats.linked + stats.duplicates, live);
    CHECK_OK(vex_graph_unreachable(fresh.graph, &lost));
    CHECK_EQ(lost, 0);
    CHECK_OK(vex_graph_insert(fresh.graph, fresh.first, fresh.n, 1));
    vex_graph_repair_stats repair;
    CHECK_OK(vex_graph_repair(fresh.graph, &repair));
    CHECK_EQ(repair.left, 0);
    free(old_to_new);
    return fresh;
}

TEST(graph_compaction_keeps_recall) {
    for (uint32_t space = 0; space < 3; space++) {
        for (death how = NOBODY; how < DEATHS; how++) {
            graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, space, 16, 3000);
            graph_kit_fill_clusters(&kit, 30, 0.7f, 31);
            for (uint32_t i = 100; i < 300; i++) { /* duplicates, whose first may die */
                memcpy(kit.vectors + (size_t)i * 16, kit.vectors + (size_t)(i % 20) * 16, 64);
            }
            graph_kit_encode(&kit);
            graph_kit_build(&kit, 12, 80, 1);
            graph_kit fresh = compact(&kit, how, 0);
            CHECK_EQ(graph_kit_lost_rows(&fresh, 100, NULL), 0);
            if (fresh.n > 0) {
                const double recall = graph_kit_recall(&fresh, 60, 10, 50, NULL);
                graph_kit again = graph_kit_create(VEX_CODE_LVQ8, space, 16, fresh.n);
                memcpy(again.vectors, fresh.vectors, (size_t)fresh.n * 16 * sizeof(float));
                graph_kit_encode(&again);
                graph_kit_build(&again, 12, 80, 1);
                CHECK(recall >= graph_kit_recall(&again, 60, 10, 50, NULL) - 0.02);
                graph_kit_destroy(&again);
            }
            graph_kit_destroy(&fresh);
            graph_kit_destroy(&kit);
        }
    }
}

TEST(graph_of_many_compactions) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_COSINE, 16, 2000);
    graph_kit_fill_clusters(&kit, 30, 0.7f, 1);
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 8, 60, 1);
    for (int round = 0; round < 10; round++) {
        graph_kit fresh = compact(&kit, HALF, 1000);
        graph_kit_destroy(&kit);
        kit = fresh;
        CHECK_EQ(graph_kit_lost_rows(&kit, 100, NULL), 0);
    }
    CHECK(graph_kit_recall(&kit, 60, 10, 100, NULL) >= 0.98);
    graph_kit_destroy(&kit);
}

TEST(graph_remap_refuses_impossible_tables) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, VEX_SPACE_L2, 4, 50);
    graph_kit_fill_clusters(&kit, 3, 1, 1);
    graph_kit_encode(&kit);
    graph_kit_build(&kit, 4, 20, 1);
    for (int bad = 0; bad < 4; bad++) {
        uint32_t table[60];
        const vex_graph_params params = {
            .codes = kit.codes, .m = bad == 3 ? 5 : 4, .ef_construction = 20};
        vex_graph *fresh;
        uint32_t first;
        for (uint32_t i = 0; i < 60; i++) {
            table[i] = i < 50 ? i : VEX_GRAPH_NONE;
        }
        table[7] = bad == 0 ? 8 : bad == 1 ? 50 : 7;
        CHECK_OK(vex_graph_create(&params, &fresh));
        CHECK_OK(vex_graph_add_source(fresh, 1, kit.rows, 50, &first));
        CHECK_STATUS(vex_graph_remap(kit.graph, table, bad == 2 ? 60 : 50,
                                     &(vex_graph_pace){1, NULL, NULL}, fresh),
                     VEX_ERR_INVALID);
        vex_graph_destroy(fresh);
    }
    graph_kit_destroy(&kit);
}
