/*
 * graph_kit.c - see graph_kit.h.
 */
#include "tests/graph_kit.h"

#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>

float graph_kit_float(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (float)((double)((*state * 0x2545F4914F6CDD1DULL) >> 11) / 4503599627370496.0 - 1.0);
}

graph_kit graph_kit_create(vex_code_kind kind, uint32_t space, uint32_t dim, uint32_t n) {
    graph_kit kit = {.n = n, .dim = dim, .space = space};
    CHECK_OK(vex_codes_init(&kit.codes, kind, space, dim));
    kit.vectors = calloc((size_t)n * dim + 1, sizeof *kit.vectors);
    kit.norms = calloc(n + 1, sizeof *kit.norms);
    kit.rows = calloc((size_t)n + 1, kit.codes.stride);
    return kit;
}

void graph_kit_destroy(graph_kit *kit) {
    vex_graph_destroy(kit->graph);
    free(kit->vectors);
    free(kit->norms);
    free(kit->rows);
}

void graph_kit_fill_clusters(graph_kit *kit, uint32_t clusters, float spread, uint64_t seed) {
    uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
    float *centres = malloc((size_t)clusters * kit->dim * sizeof *centres);
    for (size_t i = 0; i < (size_t)clusters * kit->dim; i++) {
        centres[i] = graph_kit_float(&state);
    }
    for (uint32_t i = 0; i < kit->n; i++) {
        const uint32_t c = (uint32_t)(fabsf(graph_kit_float(&state)) * (float)clusters) % clusters;
        for (uint32_t d = 0; d < kit->dim; d++) {
            kit->vectors[(size_t)i * kit->dim + d] =
                centres[(size_t)c * kit->dim + d] + spread * graph_kit_float(&state);
        }
    }
    free(centres);
}

void graph_kit_near(const graph_kit *kit, uint32_t like, float spread, uint64_t *state,
                    float *out) {
    for (uint32_t d = 0; d < kit->dim; d++) {
        out[d] = kit->vectors[(size_t)like * kit->dim + d] + spread * graph_kit_float(state);
    }
}

void graph_kit_encode(graph_kit *kit) {
    float low = INFINITY, high = 0;
    for (uint32_t i = 0; i < kit->n; i++) {
        const float *x = kit->vectors + (size_t)i * kit->dim;
        kit->norms[i] = vex_norm2(x, kit->dim);
        low = fminf(low, kit->norms[i]);
        high = fmaxf(high, kit->norms[i]);
        vex_codes_encode(&kit->codes, x, kit->norms[i], kit->rows + (size_t)i * kit->codes.stride);
    }
    const bool uneven = kit->space == VEX_SPACE_IP && vex_codes_uneven(low, high);
    kit->phi = uneven ? 1.1f * sqrtf(high) : 0;
}

void graph_kit_start(graph_kit *kit, uint32_t m, uint32_t ef_construction) {
    const vex_graph_params params = {.codes = kit->codes,
                                     .m = m,
                                     .ef_construction = ef_construction,
                                     .seed = 42,
                                     .phi = kit->phi};
    vex_graph_destroy(kit->graph);
    kit->graph = NULL;
    CHECK_OK(vex_graph_create(&params, &kit->graph));
    CHECK_OK(vex_graph_add_source(kit->graph, 1, kit->rows, kit->n, &kit->first));
}

void graph_kit_build(graph_kit *kit, uint32_t m, uint32_t ef_construction, uint32_t threads) {
    vex_graph_repair_stats repair;
    uint32_t lost;
    graph_kit_start(kit, m, ef_construction);
    CHECK_OK(vex_graph_insert(kit->graph, kit->first, kit->n, threads));
    CHECK_OK(vex_graph_repair(kit->graph, &repair));
    CHECK_EQ(repair.left, 0);
    CHECK_OK(vex_graph_unreachable(kit->graph, &lost));
    CHECK_EQ(lost, 0);
}

static vex_status exact_distances(void *context, const uint32_t *ids, uint32_t n, float *out) {
    const graph_kit *kit = context;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = ids[i] - kit->first;
        CHECK(row < kit->n);
        out[i] =
            vex_distance(kit->space, kit->vectors + (size_t)row * kit->dim, kit->query, kit->dim);
    }
    return VEX_OK;
}

static bool is_allowed(const uint64_t *allowed, uint32_t row) {
    return allowed == NULL || vex_bit_get(allowed, row);
}

uint32_t graph_kit_exact(const graph_kit *kit, const float *query, uint32_t k,
                         const uint64_t *allowed, vex_graph_hit *out) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < kit->n && k > 0; i++) {
        if (!is_allowed(allowed, i)) {
            continue;
        }
        const float d =
            vex_distance(kit->space, kit->vectors + (size_t)i * kit->dim, query, kit->dim);
        if (n == k && !(d < out[k - 1].distance)) {
            continue;
        }
        uint32_t at = n < k ? n++ : k - 1;
        for (; at > 0 && out[at - 1].distance > d; at--) {
            out[at] = out[at - 1];
        }
        out[at] = (vex_graph_hit){d, i};
    }
    return n;
}

/* The bitmap over ids that belongs to one over rows; first is a multiple of 64. */
static uint64_t *bitmap_of_ids(const graph_kit *kit, const uint64_t *allowed, uint32_t *n) {
    uint64_t *ids = calloc(vex_bit_words((size_t)kit->first + kit->n) + 1, sizeof *ids);
    memcpy(ids + kit->first / 64, allowed, vex_bit_words(kit->n) * sizeof *ids);
    *n = (uint32_t)vex_bits_count(allowed, vex_bit_words(kit->n));
    return ids;
}

uint32_t graph_kit_search(graph_kit *kit, const float *query, uint32_t k, uint32_t ef,
                          const uint64_t *allowed, vex_graph_hit *out) {
    vex_graph_scratch *scratch;
    vex_graph_found found;
    uint32_t n = 0, m = kit->n;
    uint64_t *ids = allowed != NULL ? bitmap_of_ids(kit, allowed, &m) : NULL;
    const vex_graph_search_args args = {.query = query,
                                        .ef = ef > k + k / 2 ? ef : k + k / 2,
                                        .allowed = ids,
                                        .allowed_end = kit->first + kit->n,
                                        .n_allowed = m,
                                        .budget = allowed != NULL ? m : 0};
    kit->query = query;
    CHECK_OK(vex_graph_scratch_acquire(kit->graph, &scratch));
    CHECK_OK(vex_graph_search(kit->graph, scratch, &args, &found));
    kit->distances += found.distances;
    kit->hops += found.hops;
    for (uint32_t i = 0; i < found.n; i++) {
        CHECK(found.hits[i].id - kit->first < kit->n);
        CHECK(is_allowed(allowed, found.hits[i].id - kit->first));
        CHECK(i == 0 || found.hits[i - 1].distance < found.hits[i].distance ||
              (found.hits[i - 1].distance == found.hits[i].distance &&
               found.hits[i - 1].id < found.hits[i].id));
    }
    CHECK_OK(vex_rerank(found.hits, found.n, k, UINT32_MAX, exact_distances, kit, out, &n, NULL));
    for (uint32_t i = 0; i < n; i++) {
        out[i].id -= kit->first;
    }
    vex_graph_scratch_release(kit->graph, scratch);
    free(ids);
    if (allowed != NULL && (found.exhausted || n < (k < m ? k : m))) {
        kit->fallbacks++;
        n = graph_kit_exact(kit, query, k, allowed, out);
    }
    return n;
}

double graph_kit_recall(graph_kit *kit, uint32_t queries, uint32_t k, uint32_t ef,
                        const uint64_t *allowed) {
    uint64_t state = 77777;
    vex_graph_hit *truth = malloc((k + 1) * sizeof *truth), *out = malloc((k + 1) * sizeof *out);
    float *query = malloc(kit->dim * sizeof *query);
    uint64_t hits = 0, wanted = 0;
    for (uint32_t j = 0; j < queries; j++) {
        graph_kit_near(kit, (uint32_t)((uint64_t)j * 7919 % kit->n), 0.2f, &state, query);
        const uint32_t n_truth = graph_kit_exact(kit, query, k, allowed, truth);
        const uint32_t n = graph_kit_search(kit, query, k, ef, allowed, out);
        wanted += n_truth;
        for (uint32_t i = 0; i < n && n_truth > 0; i++) {
            const float last = truth[n_truth - 1].distance;
            hits += out[i].distance <= last + 1e-5f * fabsf(last) + 1e-6f;
        }
    }
    free(truth);
    free(out);
    free(query);
    return wanted > 0 ? (double)hits / (double)wanted : 1;
}

uint32_t graph_kit_lost_rows(graph_kit *kit, uint32_t ef, const uint64_t *allowed) {
    uint32_t lost = 0;
    for (uint32_t i = 0; i < kit->n; i++) {
        const float *x = kit->vectors + (size_t)i * kit->dim;
        vex_graph_hit best, truth;
        if (!is_allowed(allowed, i)) {
            continue;
        }
        const uint32_t n = graph_kit_search(kit, x, 1, ef, NULL, &best);
        if (n == 1 && (best.id == i || best.distance == 0.0f)) {
            continue;
        }
        graph_kit_exact(kit, x, 1, NULL, &truth);
        lost += n == 0 || best.distance > truth.distance + 1e-5f * fabsf(truth.distance);
    }
    return lost;
}
