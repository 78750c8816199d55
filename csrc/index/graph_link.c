/*
 * graph_link.c - which links a node gets: the choice among candidates, and the links back.
 */
#include "index/graph_internal.h"

#include "base/poison.h"

/* A candidate as near to a kept neighbour as to the node, but for this part of the distance, stays:
 * about a dense group every neighbour of a node is nearly as near to what lies outside as the node
 * itself, and by the errors of codes or by jitter one of them always is nearer. */
#define SLACK (1.0f / 64)
#define TOGETHER 8u /* kept neighbours that a candidate is compared with at a time */

/* Is candidate c, at `distance` of the node, no nearer to it than to one that was kept?  On a
 * tie it goes only when all three lie alike or kept and candidate are the same point: in
 * symmetric data every neighbour may tie, and none is superfluous for that. */
static bool is_covered(graph_walk *walk, uint64_t candidate, const uint64_t *kept,
                       uint32_t n_kept) {
    vex_graph_scratch *s = walk->scratch;
    const float distance = key_distance(candidate);
    const float limit = distance - (distance > 0 ? distance * SLACK : 0);
    float between[TOGETHER];
    if (n_kept == 0) {
        return false;
    }
    vex_code_query_row(&s->pivot, row_at(walk->graph, walk->tables, key_id(candidate)),
                       phi_of(walk->graph));
    for (uint32_t i = 0; i < n_kept; i += TOGETHER) {
        const uint32_t n = n_kept - i < TOGETHER ? n_kept - i : TOGETHER;
        vex_code_distances(&s->pivot, s->kept_rows + i, n, between);
        walk->distances += n;
        for (uint32_t j = 0; j < n; j++) {
            if (between[j] < limit ||
                (between[j] == distance &&
                 (between[j] <= 0 || key_distance(kept[i + j]) == distance))) {
                return true;
            }
        }
    }
    return false;
}

uint32_t graph_select_more(graph_walk *walk, uint32_t had, const uint64_t *candidates, uint32_t n,
                           uint32_t max, uint32_t *out) {
    vex_graph_scratch *s = walk->scratch;
    const uint32_t end = had + max, least = end < DEGREE_MIN ? end : DEGREE_MIN;
    uint64_t *kept = s->kept;
    uint32_t n_kept = had, n_rejected = 0;
    for (uint32_t i = 0; i < had; i++) {
        s->kept_rows[i] = row_at(walk->graph, walk->tables, key_id(kept[i]));
    }
    for (uint32_t i = 0; i < n && n_kept < end; i++) {
        if (!is_covered(walk, candidates[i], kept, n_kept)) {
            s->kept_rows[n_kept] = row_at(walk->graph, walk->tables, key_id(candidates[i]));
            kept[n_kept++] = candidates[i];
        } else if (n_rejected < least) {
            s->rejected[n_rejected++] = candidates[i];
        }
    }
    for (uint32_t i = 0; i < n_rejected && n_kept < least; i++) {
        const uint32_t place = had + graph_pool_place(kept + had, n_kept - had, s->rejected[i]);
        memmove(kept + place + 1, kept + place, (n_kept - place) * sizeof *kept);
        kept[place] = s->rejected[i];
        n_kept++;
    }
    for (uint32_t i = had; i < n_kept; i++) {
        out[i - had] = key_id(kept[i]);
    }
    return n_kept - had;
}

uint32_t graph_select(graph_walk *walk, const uint64_t *candidates, uint32_t n, uint32_t max,
                      uint32_t *out) {
    return graph_select_more(walk, 0, candidates, n, max, out);
}

void graph_rank(graph_walk *walk, uint32_t to, const uint32_t *ids, uint32_t n) {
    vex_graph_scratch *s = walk->scratch;
    for (uint32_t i = 0; i < n; i++) {
        s->rows[i] = row_at(walk->graph, walk->tables, ids[i]);
        prefetch_row(walk->graph, s->rows[i], walk->graph->params.codes.stride);
    }
    vex_code_query_row(&s->pivot, row_at(walk->graph, walk->tables, to), phi_of(walk->graph));
    vex_code_distances(&s->pivot, s->rows, n, s->distances);
    walk->distances += n;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t key = key_make(s->distances[i], ids[i]);
        const uint32_t place = graph_pool_place(s->keys, i, key);
        memmove(s->keys + place + 1, s->keys + place, (i - place) * sizeof *s->keys);
        s->keys[place] = key;
    }
}

void graph_link(graph_walk *walk, uint32_t to, uint32_t level, uint32_t id) {
    const vex_graph *g = walk->graph;
    vex_graph_scratch *s = walk->scratch;
    graph_node *node = node_at(g, walk->tables, to);
    const graph_list list = list_at(g, walk->tables, to, level);
    const uint32_t capacity = list_capacity(g, level);
    graph_node_lock(node);
    const uint32_t n = list_length(list);
    for (uint32_t i = 0; i < n; i++) {
        s->ids[i] = list_get(list, i);
        if (s->ids[i] == id) {
            graph_node_unlock(node);
            return;
        }
    }
    if (n < capacity) {
        atomic_store_explicit(&list.ids[n], id, memory_order_release);
        atomic_store_explicit(list.n, (uint16_t)(n + 1), memory_order_release);
    } else {
        s->ids[n] = id;
        graph_rank(walk, to, s->ids, n + 1);
        list_set(list, s->ids, graph_select(walk, s->keys, n + 1, capacity, s->ids));
    }
    graph_node_unlock(node);
}
