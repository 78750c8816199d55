/*
 * graph_guard.c - walking a graph file that was not checked yet.
 *
 * Reading all of a large file takes longer than the first search of it.  So until somebody did
 * (vex_graph_verify), searches trust no record that they meet: its state must be what led to it, its lists
 * lie within the file, and links lead to rows.  Duplicates must ascend and name their representative, so
 * chains end, and no row is found twice.  Bytes that changed and pass may hide rows from a search, no
 * more: what is found exists, and its distance is computed from its vector.
 */
#include "index/graph_internal.h"

#include "base/poison.h"

vex_status graph_guard_create(const vex_graph *g, uint16_t **out) {
    const size_t pages = ((size_t)vex_graph_end(g) + VEX_GRAPH_PAGE - 1) >> PAGE_SHIFT;
    uint16_t *page_rows = vex_calloc(pages + 1, sizeof *page_rows);
    if (page_rows == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot load a graph");
    }
    for (uint32_t i = 0; i < g->n_sources; i++) {
        uint16_t *page = page_rows + (g->sources[i].first >> PAGE_SHIFT);
        for (uint32_t left = g->sources[i].rows, n; left > 0; left -= n) {
            n = left < VEX_GRAPH_PAGE ? left : VEX_GRAPH_PAGE;
            *page++ = (uint16_t)n;
        }
    }
    *out = page_rows;
    return VEX_OK;
}

/* Is there a row of this id?  Without a branch: asked for every link. */
static inline bool is_row(const graph_walk *walk, uint32_t id) {
    const uint32_t known = id < walk->end ? id : 0;
    return (id < walk->end) &
           ((known & (VEX_GRAPH_PAGE - 1)) < walk->graph->page_rows[known >> PAGE_SHIFT]);
}

static bool is_in_state(const graph_walk *walk, uint32_t id, uint32_t state) {
    return is_row(walk, id) && flags_of(node_at(walk->graph, walk->tables, id)) == state;
}

/* Does a list lie within the file, and have links to rows only? */
static bool has_list(const graph_walk *walk, uint32_t id, uint32_t level) {
    const vex_graph *g = walk->graph;
    const graph_node *node = node_at(g, walk->tables, id);
    const uint64_t first = atomic_load_explicit(&node->upper, memory_order_relaxed);
    if (level > 0 && (level > level_of(node) || first + level > g->n_lists)) {
        return false;
    }
    const graph_list list = list_at(g, walk->tables, id, level);
    const uint32_t n = list_length(list);
    if (n > list_capacity(g, level)) {
        return false;
    }
    bool good = true;
    for (uint32_t i = 0; i < n; i++) {
        good &= is_row(walk, list_get(list, i));
    }
    return good;
}

static bool note(graph_walk *walk, bool sound) {
    walk->damaged |= !sound;
    return sound;
}

bool graph_guard_linked(graph_walk *walk, uint32_t id) {
    return note(walk, is_in_state(walk, id, NODE_LINKED));
}

bool graph_guard_list(graph_walk *walk, uint32_t id, uint32_t level) {
    return note(walk, is_in_state(walk, id, NODE_LINKED) && has_list(walk, id, level));
}

bool graph_guard_duplicate(graph_walk *walk, uint32_t id, uint32_t representative) {
    return note(walk, is_in_state(walk, id, NODE_DUPLICATE) &&
                          atomic_load(&node_at(walk->graph, walk->tables, id)->neighbours[1]) ==
                              representative);
}
