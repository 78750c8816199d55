/*
 * graph_kit.h - what the tests of graphs share: vectors with their code rows, a graph over them,
 * exact answers, and recall by distance (a tie with the k-th nearest counts as found).
 */
#ifndef VEX_TESTS_GRAPH_KIT_H
#define VEX_TESTS_GRAPH_KIT_H

#include "base/bits.h"
#include "index/graph.h"

typedef struct graph_kit {
    vex_codes codes;
    uint32_t n, dim, space;
    float *vectors, *norms;
    uint8_t *rows;
    vex_graph *graph;
    uint32_t first;       /* id of row 0, when there is one source                                */
    float phi;
    const float *query;   /* of the rerank                                                        */
    uint64_t distances, hops; /* of all searches                                                  */
    uint32_t fallbacks;   /* searches answered exactly                                            */
} graph_kit;

/* A generator apart from test_random(), for what must not depend on --seed. */
float graph_kit_float(uint64_t *state); /* in [-1, 1) */

graph_kit graph_kit_create(vex_code_kind kind, uint32_t space, uint32_t dim, uint32_t n);
void graph_kit_destroy(graph_kit *kit);
/* `clusters` centres, rows about them. */
void graph_kit_fill_clusters(graph_kit *kit, uint32_t clusters, float spread, uint64_t seed);
/* A vector like those: near row `like`. */
void graph_kit_near(const graph_kit *kit, uint32_t like, float spread, uint64_t *state, float *out);
/* Norms and code rows of the vectors, phi for ip. */
void graph_kit_encode(graph_kit *kit);
/* A graph with one source, nothing inserted. */
void graph_kit_start(graph_kit *kit, uint32_t m, uint32_t ef_construction);
/* The same and all inserted, repaired; checks that everything can be reached. */
void graph_kit_build(graph_kit *kit, uint32_t m, uint32_t ef_construction, uint32_t threads);

/* Search and rerank: rows (not ids) to out[k]; returns how many.  With a bitmap (over rows), falls
 * back to exact search as a caller must, when the budget is spent or too few were found. */
uint32_t graph_kit_search(graph_kit *kit, const float *query, uint32_t k, uint32_t ef,
                          const uint64_t *allowed, vex_graph_hit *out);
uint32_t graph_kit_exact(const graph_kit *kit, const float *query, uint32_t k,
                         const uint64_t *allowed, vex_graph_hit *out);
/* Share of the k nearest found, over queries near random rows. */
double graph_kit_recall(graph_kit *kit, uint32_t queries, uint32_t k, uint32_t ef,
                        const uint64_t *allowed);
/* Rows (allowed, or all) that do not find themselves (or an equal row) as nearest. */
uint32_t graph_kit_lost_rows(graph_kit *kit, uint32_t ef, const uint64_t *allowed);

#endif
