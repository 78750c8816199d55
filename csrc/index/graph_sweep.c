/*
 * graph_sweep.c - does a search for a row's own vector find it?  A row that can be reached may be
 * beside every way that a search takes; it gets links from where the search ends.
 *
 * A search with fewer candidates goes the same way as one with more, only less far, so what a
 * small one finds need not be looked for by a larger one.
 */
#include "index/graph_internal.h"

#include "base/poison.h"

#define EF_FIRST 4u /* finds nearly all */
#define EF_SURE 64u /* below the 100 that searches have by default */
#define TRIES 4u
#define SPARED_MAX 64u

/* Search for node `id` by its own row.  In inner product others may be nearer to a row than it is
 * itself, and where distances are rounded to the same number as near: if all that are found are, it
 * need not be. */
static vex_status finds_itself(vex_graph *g, vex_graph_scratch *s, uint32_t id, uint32_t ef,
                               bool *found) {
    graph_walk walk;
    uint64_t entry;
    VEX_TRY(graph_walk_begin_short(&walk, g, s, &entry));
    const uint32_t start = (uint32_t)entry;
    vex_code_query_row(&s->query, row_at(g, walk.tables, id), 0);
    const uint64_t own = key_make(graph_walk_distance(&walk, id), id);
    uint64_t key = key_make(graph_walk_distance(&walk, start), start);
    graph_walk_descend(&walk, (uint32_t)(entry >> 32), 0, &key);
    graph_walk_mark(&walk, key_id(key));
    s->pool[0] = key;
    s->n_pool = 1;
    graph_walk_beam(&walk, 0, ef);
    const uint32_t place = graph_pool_place(s->pool, s->n_pool, own);
    *found = (s->n_pool == ef && key_distance(s->pool[ef - 1]) <= key_distance(own)) ||
             (place < s->n_pool && key_id(s->pool[place]) == id);
    vex_stat_add(VEX_STAT_DISTANCES, (int64_t)walk.distances);
    return VEX_OK;
}

typedef struct sweep {
    vex_graph *graph;
    _Atomic uint64_t links;
} sweep;

/* Link `n` nodes of scratch->pool to `id`: the search visits all of them, so first those that have
 * room, then those that can spare a link, and at last the nearest.  Always the nearest would take
 * one row's only way for another's, where many searches end.  *spared gets nodes that lost a link. */
static void link_from_pool(sweep *w, vex_graph_scratch *s, uint32_t id, uint32_t n,
                           uint32_t *spared, uint32_t *n_spared) {
    const vex_graph *g = w->graph;
    const graph_tables *t = atomic_load_explicit(&g->tables, memory_order_acquire);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < s->n_pool && n > 0; i++) {
            const uint32_t from = key_id(s->pool[i]);
            const bool full = list_length(list_at(g, t, from, 0)) == list_capacity(g, 0);
            uint32_t lost;
            if (from == id || (round == 0 && full) ||
                !graph_force_link(g, t, from, id, round == 2, &lost)) {
                continue;
            }
            n--;
            atomic_fetch_add_explicit(&w->links, 1, memory_order_relaxed);
            if (lost != VEX_GRAPH_NONE && *n_spared < SPARED_MAX) {
                spared[(*n_spared)++] = lost;
            }
        }
    }
}

static vex_status visit(void *context, vex_graph_scratch *s, uint32_t id) {
    sweep *w = context;
    vex_graph *g = w->graph;
    uint32_t todo[SPARED_MAX + 1], n = 1, looks = 0;
    todo[0] = id;
    VEX_TRY(graph_pool_reserve(s, EF_SURE + 1));
    while (n > 0 && looks++ < 2 * SPARED_MAX) { /* the node, and those that lost a link for it */
        const uint32_t at = todo[--n];
        bool found =
            !is_linked(node_at(g, atomic_load_explicit(&g->tables, memory_order_acquire), at));
        for (uint32_t try = 0; try <= TRIES && !found; try++) {
            VEX_TRY(finds_itself(g, s, at, try == 0 ? EF_FIRST : EF_SURE, &found));
            if (!found && try > 0) {
                link_from_pool(w, s, at, try, todo, &n);
            }
        }
    }
    return VEX_OK;
}

vex_status vex_graph_sweep_by(vex_graph *graph, vex_graph_batch *batch, uint32_t threads,
                              uint64_t *links) {
    sweep w = {.graph = graph};
    const vex_status status = graph_for_batch(graph, batch, threads, visit, &w);
    *links = atomic_load(&w.links);
    return status;
}
