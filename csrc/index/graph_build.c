/*
 * graph_build.c - inserting nodes, by any number of threads.
 *
 * A node is inserted in this order: search on all its levels, write its own lists, then the links
 * back from level 0 up, then perhaps become the entry.  So whoever finds it finds it complete.
 */
#include "index/graph_internal.h"

#include <math.h>

#include "base/poison.h"

/* ---- one node ---- */

/* Every norm must stay below phi. */
static void raise_phi(vex_graph *g, uint32_t id) {
    if (!(phi_of(g) > 0)) {
        return;
    }
    const float norm2 = vex_codes_tail(&g->params.codes, vex_graph_row(g, id)).norm2;
    const float norm = sqrtf(norm2);
    if (norm <= phi_of(g) || norm > 1e18f) {
        return; /* beyond that phi^2 overflows: such rows tie at the rim */
    }
    pthread_mutex_lock(&g->structure);
    if (norm > phi_of(g)) {
        const float phi = 1.1f * norm;
        uint32_t bits;
        memcpy(&bits, &phi, sizeof bits);
        atomic_store_explicit(&g->phi, bits, memory_order_relaxed);
    }
    pthread_mutex_unlock(&g->structure);
}

/* Choose among the pool without the node itself, which stays in when nothing else is. */
static void choose(graph_walk *walk, uint32_t id, uint32_t level) {
    const vex_graph *g = walk->graph;
    vex_graph_scratch *s = walk->scratch;
    const uint64_t first = s->pool[0];
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_pool; i++) {
        if (key_id(s->pool[i]) != id) {
            s->pool[n++] = s->pool[i];
        }
    }
    const uint64_t *keys = s->pool;
    if (walk->by_short) { /* these tell what is near, but links are chosen by code rows */
        graph_rank_pool(walk, n);
        keys = s->ranked;
    }
    s->n_chosen[level] =
        graph_select(walk, keys, n, g->params.m, s->chosen + (size_t)level * g->params.m);
    if (n == 0) {
        s->pool[n++] = first;
    }
    s->n_pool = n;
}

/* The way down to `level`, then the neighbours on each level: chosen[l * m ...]. */
static void find_neighbours(graph_walk *walk, uint64_t entry, uint32_t id, uint32_t level) {
    vex_graph_scratch *s = walk->scratch;
    const uint32_t top = (uint32_t)(entry >> 32), start = (uint32_t)entry;
    uint64_t key = key_make(graph_walk_distance(walk, start), start);
    memset(s->n_chosen, 0, (LEVEL_MAX + 1) * sizeof *s->n_chosen);
    graph_walk_descend(walk, top, level, &key);
    s->pool[0] = key;
    s->n_pool = 1;
    for (uint32_t l = top < level ? top + 1 : level + 1; l-- > 0;) {
        graph_walk_forget(walk);
        for (uint32_t i = 0; i < s->n_pool; i++) {
            s->pool[i] &= ~(uint64_t)KEY_DONE;
            graph_walk_mark(walk, key_id(s->pool[i]));
        }
        graph_walk_beam(walk, l, walk->graph->params.ef_construction);
        choose(walk, id, l);
    }
}

/* Lists of the node itself, then those of its neighbours. */
static void write_links(graph_walk *walk, uint32_t id, uint32_t level) {
    const vex_graph *g = walk->graph;
    vex_graph_scratch *s = walk->scratch;
    for (uint32_t l = 0; l <= level; l++) {
        list_set(list_at(g, walk->tables, id, l), s->chosen + (size_t)l * g->params.m,
                 s->n_chosen[l]);
    }
    atomic_fetch_or_explicit(&node_at(g, walk->tables, id)->flags, NODE_LINKED,
                             memory_order_release);
    for (uint32_t l = 0; l <= level; l++) {
        for (uint32_t i = 0; i < s->n_chosen[l]; i++) {
            graph_link(walk, s->chosen[(size_t)l * g->params.m + i], l, id);
        }
    }
}

vex_status graph_scratch_for_building(vex_graph *graph, vex_graph_scratch *scratch) {
    const size_t most = (size_t)graph->params.ef_construction + 1;
    void *ranked = scratch->ranked;
    VEX_TRY(vex_grow(&ranked, &scratch->ranked_capacity, most, sizeof *scratch->ranked));
    scratch->ranked = ranked;
    return graph_pool_reserve(scratch, most);
}

static bool is_above(const vex_graph *g, uint32_t level) {
    const uint64_t entry = atomic_load_explicit(&g->entry, memory_order_acquire);
    return entry == NO_ENTRY || level > entry >> 32;
}

/* `locked`: the structure is. */
static vex_status insert_node(vex_graph *g, vex_graph_scratch *s, uint32_t id, bool locked) {
    graph_walk walk;
    uint64_t entry;
    VEX_TRY(graph_walk_begin_short(&walk, g, s, &entry));
    walk.by_short &= !(phi_of(g) > 0); /* of that form short rows know nothing */
    const uint32_t level = level_of(node_at(g, walk.tables, id));
    s->n_pool = 0;
    if (entry == NO_ENTRY) {
        atomic_fetch_or_explicit(&node_at(g, walk.tables, id)->flags, NODE_LINKED,
                                 memory_order_release);
    } else {
        vex_code_query_row(&s->query, row_at(g, walk.tables, id), phi_of(g));
        find_neighbours(&walk, entry, id, level);
        write_links(&walk, id, level);
    }
    atomic_fetch_add_explicit(&g->n_linked, 1, memory_order_release);
    if (is_above(g, level)) {
        if (!locked) {
            pthread_mutex_lock(&g->structure);
        }
        if (is_above(g, level)) {
            graph_set_entry(g, id, level);
        }
        if (!locked) {
            pthread_mutex_unlock(&g->structure);
        }
    }
    vex_stat_add(VEX_STAT_DISTANCES, (int64_t)walk.distances);
    return VEX_OK;
}

vex_status graph_insert_node(vex_graph *g, vex_graph_scratch *s, uint32_t id) {
    VEX_TRY(graph_scratch_for_building(g, s));
    raise_phi(g, id);
    if (atomic_load_explicit(&g->n_linked, memory_order_acquire) >= EARLY_NODES) {
        return insert_node(g, s, id, false);
    }
    pthread_mutex_lock(&g->structure);
    const vex_status status = insert_node(g, s, id, true);
    pthread_mutex_unlock(&g->structure);
    return status;
}

vex_status graph_link_anew(vex_graph *g, vex_graph_scratch *s, uint32_t id) {
    graph_walk walk;
    uint64_t entry;
    VEX_TRY(graph_scratch_for_building(g, s));
    VEX_TRY(graph_walk_begin(&walk, g, s, &entry));
    const uint32_t level = level_of(node_at(g, walk.tables, id));
    vex_code_query_row(&s->query, row_at(g, walk.tables, id), phi_of(g));
    find_neighbours(&walk, entry, id, level);
    for (uint32_t l = 0; l <= level; l++) { /* what it has stays */
        for (uint32_t i = 0; i < s->n_chosen[l]; i++) {
            const uint32_t other = s->chosen[(size_t)l * g->params.m + i];
            graph_link(&walk, id, l, other);
            graph_link(&walk, other, l, id);
        }
    }
    return VEX_OK;
}

static vex_status insert_row(vex_graph *g, vex_graph_scratch *s, uint32_t id) {
    graph_walk walk;
    uint64_t entry;
    uint32_t representative;
    if (vex_graph_has(g, id)) {
        return VEX_OK;
    }
    /* Everything that may fail comes before the first change. */
    VEX_TRY(graph_scratch_for_building(g, s));
    VEX_TRY(graph_walk_begin(&walk, g, s, &entry));
    VEX_TRY(graph_duplicates_enter(g, id, &representative));
    return representative == VEX_GRAPH_NONE ? graph_insert_node(g, s, id) : VEX_OK;
}

/* ---- many nodes ---- */

/* Is all of [first, end) in one source? */
static bool is_of_one_source(vex_graph *g, uint64_t first, uint32_t end) {
    pthread_mutex_lock(&g->structure);
    const vex_graph_source *source =
        first < VEX_GRAPH_IDS_MAX ? graph_source_of(g, (uint32_t)first) : NULL;
    const bool is = first >= end || (source != NULL && end <= source->first + source->rows);
    pthread_mutex_unlock(&g->structure);
    return is;
}

static vex_status insert_visit(void *context, vex_graph_scratch *s, uint32_t id) {
    return insert_row(context, s, id);
}

static vex_status check_batch(vex_graph *graph, const vex_graph_batch *batch) {
    return is_of_one_source(graph, atomic_load_explicit(&batch->next, memory_order_relaxed),
                            batch->end)
               ? VEX_OK
               : VEX_FAIL(VEX_ERR_INVALID, "graph: rows to insert are not of one source");
}

vex_status vex_graph_insert_batch(vex_graph *graph, vex_graph_batch *batch) {
    return vex_graph_insert_by(graph, batch, 1);
}

vex_status vex_graph_insert_by(vex_graph *graph, vex_graph_batch *batch, uint32_t threads) {
    VEX_TRY(check_batch(graph, batch));
    return graph_for_batch(graph, batch, threads, insert_visit, graph);
}

vex_status vex_graph_insert(vex_graph *graph, uint32_t first, uint32_t n, uint32_t threads) {
    vex_graph_batch batch;
    vex_graph_batch_init(&batch, first, n);
    return vex_graph_insert_by(graph, &batch, threads);
}
