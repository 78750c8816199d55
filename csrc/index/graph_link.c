/*
 * graph_link.c - which links a node gets: the choice among candidates, and the links back.
 */
#include "index/graph_internal.h"

#include "base/poison.h"

/* A candidate as near to a kept neighbour as to the node, but for this part of the distance, stays:
 * about a dense group every neighbour of a node is nearly as near to what lies outside as the node
 * itself, and by the errors of codes or by jitter one of them always is nearer. */
#define SLACK (1.0f / 64)
#define TOGETHER 64u /* candidates that are looked at together */

/* Candidates of a node that no kept neighbour covers, nearest first. */
typedef struct candidates {
    uint64_t keys[TOGETHER];
    const uint8_t *rows[TOGETHER];
    uint32_t n;
} candidates;

/* The nearest of those that are covered, for a node that would have too few links. */
typedef struct rejected {
    uint64_t keys[DEGREE_MIN];
    uint32_t n, most;
} rejected;

/* Does a kept neighbour cover a candidate that lies `between` from it: is the candidate no nearer to the
 * node?  On a tie only when all three lie alike or kept and candidate are the same point: in
 * symmetric data every neighbour may tie, and none is superfluous for that. */
static bool covers(uint64_t kept, uint64_t candidate, float between) {
    const float distance = key_distance(candidate);
    return between < distance - (distance > 0 ? distance * SLACK : 0) ||
           (between == distance && (between <= 0 || key_distance(kept) == distance));
}

/* Take away what a kept neighbour covers, from place `from` on. */
static void remove_covered(graph_walk *walk, uint64_t kept, candidates *c, uint32_t from,
                           rejected *r) {
    vex_code_query *pivot = &walk->scratch->pivot;
    float between[TOGETHER];
    uint32_t n = from;
    if (from == c->n) {
        return;
    }
    vex_code_query_row(pivot, row_at(walk->graph, walk->tables, key_id(kept)), phi_of(walk->graph));
    vex_code_distances(pivot, c->rows + from, c->n - from, between);
    walk->distances += c->n - from;
    for (uint32_t i = from; i < c->n; i++) {
        const uint64_t key = c->keys[i];
        const bool covered = covers(kept, key, between[i - from]);
        if (covered && (r->n < r->most || (r->n > 0 && key < r->keys[r->n - 1]))) {
            graph_pool_take_plain(r->keys, &r->n, r->most, &key, 1);
        }
        c->keys[n] = key;
        c->rows[n] = c->rows[i];
        n += !covered;
    }
    c->n = n;
}

/* Keep as many of the candidates as there is room for up to `end`; returns how many are kept then. */
static uint32_t keep(graph_walk *walk, candidates *c, uint32_t n_kept, uint32_t end, rejected *r) {
    uint64_t *kept = walk->scratch->kept;
    for (uint32_t i = 0; i < n_kept; i++) {
        remove_covered(walk, kept[i], c, 0, r);
    }
    for (uint32_t i = 0; i < c->n && n_kept < end; i++) {
        kept[n_kept++] = c->keys[i];
        if (n_kept < end) {
            remove_covered(walk, c->keys[i], c, i + 1, r);
        }
    }
    return n_kept;
}

uint32_t graph_select_more(graph_walk *walk, uint32_t had, const uint64_t *keys, uint32_t n,
                           uint32_t max, uint32_t *out) {
    const uint32_t end = had + max;
    uint64_t *kept = walk->scratch->kept;
    rejected r = {.most = end < DEGREE_MIN ? end : DEGREE_MIN};
    candidates c;
    uint32_t n_kept = had;
    for (uint32_t first = 0; first < n && n_kept < end; first += TOGETHER) {
        c.n = n - first < TOGETHER ? n - first : TOGETHER;
        for (uint32_t i = 0; i < c.n; i++) {
            c.keys[i] = keys[first + i];
            c.rows[i] = row_at(walk->graph, walk->tables, key_id(c.keys[i]));
        }
        n_kept = keep(walk, &c, n_kept, end, &r);
    }
    for (uint32_t i = 0; i < r.n && n_kept < r.most; i++) {
        const uint32_t place = had + graph_pool_place(kept + had, n_kept - had, r.keys[i]);
        memmove(kept + place + 1, kept + place, (n_kept - place) * sizeof *kept);
        kept[place] = r.keys[i];
        n_kept++;
    }
    for (uint32_t i = had; i < n_kept; i++) {
        out[i - had] = key_id(kept[i]);
    }
    return n_kept - had;
}

uint32_t graph_select(graph_walk *walk, const uint64_t *keys, uint32_t n, uint32_t max,
                      uint32_t *out) {
    return graph_select_more(walk, 0, keys, n, max, out);
}

/* Put the i-th key in among those before it. */
static void put_in_order(uint64_t *keys, uint32_t i, uint64_t key) {
    for (; i > 0 && keys[i - 1] > key; i--) {
        keys[i] = keys[i - 1];
    }
    keys[i] = key;
}

void graph_rank_pool(graph_walk *walk, uint32_t n) {
    const vex_graph *g = walk->graph;
    vex_graph_scratch *s = walk->scratch;
    const uint32_t most = 2 * g->params.m;
    for (uint32_t at = 0; at < n; at += most) {
        const uint32_t m = n - at < most ? n - at : most;
        for (uint32_t i = 0; i < m; i++) {
            s->rows[i] = row_at(g, walk->tables, key_id(s->pool[at + i]));
            prefetch_row(g, s->rows[i], g->params.codes.stride);
        }
        vex_code_distances(&s->query, s->rows, m, s->distances);
        for (uint32_t i = 0; i < m; i++) {
            put_in_order(s->ranked, at + i, key_make(s->distances[i], key_id(s->pool[at + i])));
        }
    }
    walk->distances += n;
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
