/*
 * graph_walk.c - moving through the graph: one hop, the way down, and the beam that keeps the ef
 * nearest.
 *
 * A hop has two phases.  First all neighbours not yet visited are collected and every cache line
 * of their rows is requested; then, while these are on their way, the links of the next node are
 * requested; and only then distances are computed.  The time of a search is the time of waiting
 * for memory, and so as many requests as possible are made to wait at once.
 */
#include "base/bits.h"
#include "index/graph_internal.h"

#include "base/poison.h"

/* ---- beginning ---- */

static vex_status grow_visited(vex_graph_scratch *s, uint32_t end) {
    const size_t n = ((size_t)end + end / 8 + 65536) & ~(size_t)65535; /* more than end */
    uint64_t *visited = vex_calloc(n / 64, sizeof *visited);
    if (visited == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot search a graph");
    }
    vex_free(s->visited);
    s->visited = visited;
    s->n_visited = n;
    s->n_marks = 0;
    return VEX_OK;
}

/* Remember whose bits are set, or that all are to be cleared. */
static void note_marks(vex_graph_scratch *s, const uint32_t *ids, uint32_t n) {
    if (s->n_marks + n <= GRAPH_MARKS_MAX) {
        memcpy(s->marks + s->n_marks, ids, n * sizeof *ids);
        s->n_marks += n;
    } else {
        s->n_marks = GRAPH_MARKS_MAX + 1;
    }
}

/* The mark behind those of all ids of the walk is set: for whatever shall not be looked at. */
void graph_walk_forget(graph_walk *walk) {
    vex_graph_scratch *s = walk->scratch;
    if (s->n_marks > GRAPH_MARKS_MAX) {
        memset(s->visited, 0, s->n_visited / 8);
    } else {
        for (uint32_t i = 0; i < s->n_marks; i++) {
            s->visited[s->marks[i] / 64] = 0;
        }
    }
    s->n_marks = s->n_visited > GRAPH_CLEARED_MAX ? 0 : GRAPH_MARKS_MAX + 1;
    (void)graph_walk_mark(walk, walk->end);
}

vex_status graph_walk_begin(graph_walk *walk, const vex_graph *graph, vex_graph_scratch *scratch,
                            uint64_t *entry) {
    /* In this order: see graph_internal.h. */
    const uint64_t start = atomic_load_explicit(&graph->entry, memory_order_acquire);
    const uint32_t end = vex_graph_end(graph);
    if (end >= scratch->n_visited) {
        VEX_TRY(grow_visited(scratch, end));
    }
    *walk = (graph_walk){.graph = graph,
                         .tables = atomic_load_explicit(&graph->tables, memory_order_acquire),
                         .scratch = scratch,
                         .end = end,
                         .guarded = graph->page_rows != NULL &&
                                    !atomic_load_explicit(&graph->verified, memory_order_acquire)};
    graph_walk_forget(walk);
    *entry = start;
    return VEX_OK;
}

vex_status graph_walk_begin_short(graph_walk *walk, const vex_graph *graph,
                                  vex_graph_scratch *scratch, uint64_t *entry) {
    /* Before the tables are: these then have what is counted here. */
    const uint32_t n_short = atomic_load_explicit(&graph->n_short, memory_order_acquire);
    VEX_TRY(graph_walk_begin(walk, graph, scratch, entry));
    walk->by_short = n_short >= walk->end;
    return VEX_OK;
}

bool graph_walk_mark(graph_walk *walk, uint32_t id) {
    vex_graph_scratch *s = walk->scratch;
    const bool marked = vex_bit_get(s->visited, id);
    vex_bit_set(s->visited, id);
    note_marks(s, &id, 1);
    return marked;
}

/* ---- distances ---- */

void graph_walk_ask(const graph_walk *walk, uint32_t first, uint32_t m) {
    const vex_graph *g = walk->graph;
    vex_graph_scratch *s = walk->scratch;
    if (walk->by_short) {
        for (uint32_t i = first; i < first + m; i++) {
            s->rows[i] = short_at(g, walk->tables, s->ids[i]);
            prefetch_row(g, s->rows[i], g->params.codes.short_stride);
        }
    } else {
        for (uint32_t i = first; i < first + m; i++) {
            s->rows[i] = row_at(g, walk->tables, s->ids[i]);
            prefetch_row(g, s->rows[i], g->params.codes.stride);
        }
    }
}

/* Distances of rows that were asked for. */
static void measure(graph_walk *walk, uint32_t first, uint32_t m) {
    vex_graph_scratch *s = walk->scratch;
    (walk->by_short ? vex_short_distances : vex_code_distances)(&s->query, s->rows + first, m,
                                                                s->distances + first);
    walk->distances += m;
}

void graph_walk_distances(graph_walk *walk, uint32_t m) {
    graph_walk_ask(walk, 0, m);
    measure(walk, 0, m);
}

float graph_walk_distance(graph_walk *walk, uint32_t id) {
    walk->scratch->ids[0] = id;
    graph_walk_distances(walk, 1);
    return walk->scratch->distances[0];
}

/* ---- one hop ---- */

static inline void prefetch_list(const graph_walk *walk, uint32_t id, uint32_t level) {
    if (level == 0) {
        const graph_node *node = node_at(walk->graph, walk->tables, id);
        prefetch_near(node, sizeof *node + 8 * (size_t)walk->graph->params.m);
    }
}

/* Ask for the rows of scratch->ids[0..m), then compute their distances. */
static void compute(graph_walk *walk, uint32_t m, uint32_t level, uint32_t ahead) {
    graph_walk_ask(walk, 0, m);
    if (ahead != VEX_GRAPH_NONE) {
        prefetch_list(walk, ahead, level);
    }
    measure(walk, 0, m);
}

/* Unvisited ids of a list, marked, to ids[].  Which they are cannot be predicted: no branch depends
 * on it. */
static uint32_t gather(const graph_walk *walk, graph_list list, uint32_t n,
                       uint32_t *restrict ids) {
    uint64_t *restrict const visited = walk->scratch->visited;
    const uint32_t end = walk->end;
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t id = list_get(list, i), place = id < end ? id : end;
        const uint64_t word = visited[place / 64];
        ids[m] = id;
        m += (word >> place % 64 & 1) == 0;
        visited[place / 64] = word | 1ULL << place % 64;
    }
    note_marks(walk->scratch, ids, m);
    return m;
}

uint32_t graph_walk_expand(graph_walk *walk, uint32_t id, uint32_t level, uint32_t ahead) {
    walk->hops++;
    if (walk->guarded && !graph_guard_list(walk, id, level)) {
        return 0;
    }
    const graph_list list = list_at(walk->graph, walk->tables, id, level);
    const uint32_t m = gather(walk, list, list_length(list), walk->scratch->ids);
    compute(walk, m, level, ahead);
    return m;
}

uint32_t graph_walk_near(graph_walk *walk, uint32_t m, uint64_t limit) {
    uint32_t *restrict const ids = walk->scratch->ids;
    float *restrict const distances = walk->scratch->distances;
    const float most = key_distance(limit);
    uint32_t n = 0;
    for (uint32_t i = 0; i < m; i++) {
        ids[n] = ids[i];
        distances[n] = distances[i];
        n += distances[i] <= most;
    }
    return n;
}

void graph_walk_descend(graph_walk *walk, uint32_t level, uint32_t floor, uint64_t *key) {
    vex_graph_scratch *s = walk->scratch;
    for (; level > floor; level--) {
        for (bool moved = true; moved;) {
            if (walk->guarded && !graph_guard_list(walk, key_id(*key), level)) {
                return;
            }
            const graph_list list = list_at(walk->graph, walk->tables, key_id(*key), level);
            const uint32_t n = list_length(list);
            uint32_t m = 0;
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t id = list_get(list, i);
                s->ids[m] = id;
                m += id < walk->end;
            }
            walk->hops++;
            compute(walk, m, level, VEX_GRAPH_NONE);
            moved = false;
            for (uint32_t i = 0; i < m; i++) {
                const uint64_t next = key_make(s->distances[i], s->ids[i]);
                moved |= next < *key;
                *key = next < *key ? next : *key;
            }
        }
    }
}

/* ---- the beam ---- */

/* Of m that were measured, keys that are not above a limit: to scratch->keys; the least key of all to
 * *least.  No branch depends on them. */
static uint32_t near_keys(const vex_graph_scratch *s, uint32_t first, uint32_t m, uint64_t limit,
                          uint64_t *least) {
    uint64_t *restrict const keys = s->keys;
    uint64_t lowest = UINT64_MAX;
    uint32_t n = 0;
    for (uint32_t i = first; i < first + m; i++) {
        const uint64_t key = key_make(s->distances[i], s->ids[i]);
        keys[n] = key;
        n += key <= limit;
        lowest = key < lowest ? key : lowest;
    }
    *least = lowest;
    return n;
}

static inline uint32_t next_open(const uint64_t *pool, uint32_t at, uint32_t n) {
    while (at < n && (pool[at] & KEY_DONE) != 0) {
        at++;
    }
    return at;
}

void graph_walk_beam(graph_walk *walk, uint32_t level, uint32_t ef) {
    vex_graph_scratch *s = walk->scratch;
    uint64_t *pool = s->pool;
    uint32_t at = 0;
    while (at < s->n_pool) {
        const uint32_t id = key_id(pool[at]);
        pool[at] |= KEY_DONE;
        at = next_open(pool, at + 1, s->n_pool);
        const uint32_t ahead = at < s->n_pool ? key_id(pool[at]) : VEX_GRAPH_NONE;
        const uint32_t m = graph_walk_expand(walk, id, level, ahead);
        const uint64_t limit = s->n_pool == ef ? pool[ef - 1] : UINT64_MAX;
        uint64_t least;
        const uint32_t n = near_keys(s, 0, m, limit, &least);
        if (n > 0 && (at == s->n_pool || least < pool[at])) { /* it is the next one */
            prefetch_list(walk, key_id(least), level);
        }
        const uint32_t place = walk->graph->take(pool, &s->n_pool, ef, s->keys, n);
        at = next_open(pool, place < at ? place : at, s->n_pool);
    }
}

uint32_t graph_walk_near_keys(graph_walk *walk, uint32_t first, uint32_t m, uint64_t limit) {
    uint64_t least;
    measure(walk, first, m);
    return near_keys(walk->scratch, first, m, limit, &least);
}
