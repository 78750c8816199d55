/*
 * graph_repair.c - which nodes can be reached from the entry, and a way in for those that cannot.
 */
#include "base/bits.h"
#include "index/graph_internal.h"

#include <math.h>

#include "base/poison.h"

#define PASSES_MAX 16u
#define SPARING_MAX 8u /* nodes that are asked for a link to spare */

typedef struct reach {
    const vex_graph *graph;
    const graph_tables *tables;
    uint64_t *seen;  /* bit per id */
    uint32_t *queue; /* nodes to go on from */
    uint32_t n_queue, end;
    uint32_t
        last;   /* the node that was rescued last, or another one with room; VEX_GRAPH_NONE: none */
    bool again; /* it is not the first pass */
    vex_bulk memory;
} reach;

static vex_status reach_create(const vex_graph *g, reach *r) {
    *r = (reach){.graph = g, .end = vex_graph_end(g)};
    r->tables = atomic_load_explicit(&g->tables, memory_order_acquire);
    const size_t words = vex_bit_words(r->end);
    VEX_TRY(vex_bulk_create(&r->memory, words * sizeof(uint64_t) + r->end * sizeof(uint32_t)));
    r->seen = r->memory.data;
    r->queue = (uint32_t *)(void *)(r->seen + words);
    memset(r->seen, 0, words * sizeof(uint64_t));
    return VEX_OK;
}

/* Mark everything that can be reached from `id` on level 0. */
static void spread(reach *r, uint32_t id) {
    if (vex_bit_get(r->seen, id)) {
        return;
    }
    vex_bit_set(r->seen, id);
    r->queue[r->n_queue++] = id;
    while (r->n_queue > 0) {
        const graph_list list = list_at(r->graph, r->tables, r->queue[--r->n_queue], 0);
        const uint32_t n = list_length(list);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t neighbour = list_get(list, i);
            if (neighbour < r->end && !vex_bit_get(r->seen, neighbour)) {
                vex_bit_set(r->seen, neighbour);
                r->queue[r->n_queue++] = neighbour;
            }
        }
    }
}

static void spread_from_entry(reach *r) {
    const uint64_t entry = atomic_load_explicit(&r->graph->entry, memory_order_acquire);
    memset(r->seen, 0, vex_bit_words(r->end) * sizeof(uint64_t));
    if (entry != NO_ENTRY && (uint32_t)entry < r->end) {
        spread(r, (uint32_t)entry);
    }
}

static bool is_lost(const reach *r, uint32_t id) {
    return !vex_bit_get(r->seen, id) && is_linked(node_at(r->graph, r->tables, id));
}

static uint32_t count_lost(const reach *r) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < r->end; id++) {
        n += is_lost(r, id);
    }
    return n;
}

vex_status vex_graph_unreachable(const vex_graph *graph, uint32_t *out) {
    reach r;
    VEX_TRY(reach_create(graph, &r));
    spread_from_entry(&r);
    *out = count_lost(&r);
    vex_bulk_destroy(&r.memory);
    return VEX_OK;
}

/* ---- repair ---- */

static bool links_to(const vex_graph *g, const graph_tables *t, uint32_t from, uint32_t to) {
    const graph_list list = list_at(g, t, from, 0);
    const uint32_t n = list_length(list);
    for (uint32_t i = 0; i < n; i++) {
        if (list_get(list, i) == to) {
            return true;
        }
    }
    return false;
}

/* The place in a full list that can be spared: the last whose node another node of the list links
 * to, so that it stays reachable; VEX_GRAPH_NONE when there is none. */
static uint32_t spare_place(const vex_graph *g, const graph_tables *t, graph_list list,
                            uint32_t n) {
    for (uint32_t i = n; i-- > 0;) {
        for (uint32_t j = 0; j < n; j++) {
            if (j != i && links_to(g, t, list_get(list, j), list_get(list, i))) {
                return i;
            }
        }
    }
    return VEX_GRAPH_NONE;
}

bool graph_force_link(const vex_graph *g, const graph_tables *t, uint32_t from, uint32_t to,
                      bool any, uint32_t *spared) {
    const graph_list list = list_at(g, t, from, 0);
    graph_node *node = node_at(g, t, from);
    *spared = VEX_GRAPH_NONE;
    graph_node_lock(node);
    const uint32_t n = list_length(list);
    uint32_t place = n;
    for (uint32_t i = 0; i < n; i++) {
        if (list_get(list, i) == to) {
            graph_node_unlock(node);
            return false;
        }
    }
    if (n == list_capacity(g, 0)) {
        place = spare_place(g, t, list, n);
        place = place == VEX_GRAPH_NONE && any ? n - 1 : place;
        *spared = place != VEX_GRAPH_NONE ? list_get(list, place) : VEX_GRAPH_NONE;
    }
    if (place != VEX_GRAPH_NONE) {
        atomic_store_explicit(&list.ids[place], to, memory_order_release);
        if (place == n) {
            atomic_store_explicit(list.n, (uint16_t)(n + 1), memory_order_release);
        }
    }
    graph_node_unlock(node);
    return place != VEX_GRAPH_NONE;
}

/* The reached nodes nearest to a lost one: to scratch->pool, nearest first.  *to_last: the distance of
 * the one rescued last. */
static vex_status nearest_reached(const reach *r, vex_graph *g, vex_graph_scratch *s, uint32_t id,
                                  float *to_last) {
    graph_walk walk;
    uint64_t entry;
    VEX_TRY(graph_walk_begin(&walk, g, s, &entry));
    const uint32_t start = (uint32_t)entry;
    vex_code_query_row(&s->query, row_at(g, walk.tables, id), phi_of(g));
    *to_last = r->last == VEX_GRAPH_NONE ? INFINITY : graph_walk_distance(&walk, r->last);
    graph_walk_mark(&walk, id);
    /* Not by the upper levels: from there the walk could begin among the lost. */
    s->pool[0] = key_make(graph_walk_distance(&walk, start), start);
    s->n_pool = 1;
    graph_walk_mark(&walk, start);
    graph_walk_beam(&walk, 0, g->params.ef_construction);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_pool; i++) {
        if (vex_bit_get(r->seen, key_id(s->pool[i]))) {
            s->pool[n++] = s->pool[i];
        }
    }
    s->n_pool = n;
    return VEX_OK;
}

static bool has_room(const reach *r, uint32_t id) {
    return list_length(list_at(r->graph, r->tables, id, 0)) < list_capacity(r->graph, 0);
}

static uint32_t reached_with_room(const reach *r) {
    uint32_t id = r->end;
    while (id-- > 0 && !(vex_bit_get(r->seen, id) && has_room(r, id))) {
    }
    return id; /* VEX_GRAPH_NONE behind the first */
}

static bool link_if_room(const reach *r, uint32_t from, uint32_t id) {
    uint32_t spared;
    return has_room(r, from) && graph_force_link(r->graph, r->tables, from, id, false, &spared);
}

/* From the nearest that has room or a link to spare, which takes long to find out, so only of some.
 * Where distances hardly tell rows apart these are the same for all lost ones, and one would take the
 * link of another; so then from the one that was rescued last, if it is as near, or if that has
 * happened: a chain of them. */
static bool link_from_pool(const reach *r, const vex_graph_scratch *s, uint32_t id, float to_last) {
    const uint32_t n = s->n_pool;
    uint32_t spared;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t from = key_id(s->pool[i]);
        if (i < SPARING_MAX ? graph_force_link(r->graph, r->tables, from, id, false, &spared)
                            : link_if_room(r, from, id)) {
            return true;
        }
    }
    if (n > 0 && r->last != VEX_GRAPH_NONE &&
        (r->again || to_last <= key_distance(s->pool[n - 1])) && link_if_room(r, r->last, id)) {
        return true;
    }
    return n > 0 && graph_force_link(r->graph, r->tables, key_id(s->pool[0]), id, true, &spared);
}

static vex_status rescue(reach *r, vex_graph *g, vex_graph_scratch *s, uint32_t id,
                         uint32_t *edges) {
    float to_last;
    VEX_TRY(nearest_reached(r, g, s, id, &to_last));
    if (link_from_pool(r, s, id, to_last)) {
        ++*edges;
        r->last = id;
        spread(r, id);
    }
    return VEX_OK;
}

static vex_status repair_pass(reach *r, vex_graph *g, vex_graph_scratch *s, uint32_t *edges) {
    r->last = r->again ? reached_with_room(r) : VEX_GRAPH_NONE;
    for (uint32_t id = 0; id < r->end; id++) {
        if (is_lost(r, id)) {
            VEX_TRY(rescue(r, g, s, id, edges));
        }
    }
    return VEX_OK;
}

vex_status vex_graph_repair(vex_graph *graph, vex_graph_repair_stats *out) {
    vex_graph_repair_stats stats = {0};
    vex_graph_scratch *s = NULL;
    reach r;
    VEX_TRY(reach_create(graph, &r));
    spread_from_entry(&r);
    stats.found = stats.left = count_lost(&r);
    vex_status status = VEX_OK;
    if (stats.left > 0) {
        status = vex_graph_scratch_acquire(graph, &s);
        if (status == VEX_OK) {
            status = graph_scratch_for_building(graph, s);
        }
    }
    /* A link that was put in for another may have been a way in; so until nothing is lost. */
    while (status == VEX_OK && stats.left > 0 && stats.passes < PASSES_MAX) {
        r.again = stats.passes++ > 0;
        status = repair_pass(&r, graph, s, &stats.edges);
        spread_from_entry(&r);
        stats.left = count_lost(&r);
    }
    vex_graph_scratch_release(graph, s);
    vex_bulk_destroy(&r.memory);
    if (status == VEX_OK) {
        *out = stats;
    }
    return status;
}
