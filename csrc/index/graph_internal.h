/*
 * graph_internal.h - what the parts of the graph share (graph.h has the manual).
 *
 * Record of a node, `record_bytes` = align64(16 + 8M) long, in chunks of 16384 that never move (in a
 * graph that is mapped, where they lie in the file):
 *   u16 n, u8 level, u8 flags, u32 chain, u32 hash, u32 upper, u32 neighbours[2M]
 * chain   0: the only row of its kind.  Of a representative: last duplicate + 1.  Of a duplicate:
 *         next one + 1, the last points to the first; neighbours[0] is then the one before + 1
 *         (0: first) and neighbours[1] the representative.
 * hash    of the code row; 0 while the node is not inserted.
 * upper   number of its first upper list; list of level l >= 1 is upper + l - 1.
 * Upper list, 4 + 4M bytes: u16 n, u16 0, u32 neighbours[M]; in chunks of 4096, and those of one
 * node lie in one chunk.
 *
 * Levels and upper lists are given out when a source is added, so inserting allocates nothing
 * that a reader must find.  Readers load the entry, then the number of ids, then the tables: these
 * then have everything that ids below that number need.
 */
#ifndef VEX_INDEX_GRAPH_INTERNAL_H
#define VEX_INDEX_GRAPH_INTERNAL_H

#include "index/graph.h"
#include "store/container.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define PAGE_SHIFT 10u
#define CHUNK_SHIFT 14u
#define CHUNK_NODES (1u << CHUNK_SHIFT)
#define UPPER_SHIFT 12u
#define UPPER_LISTS (1u << UPPER_SHIFT)
#define LEVEL_MAX 31u
#define EARLY_NODES 256u /* inserted one at a time                                                */
#define DEGREE_MIN 4u
#define NO_ENTRY UINT64_MAX
#define GRAPH_MARKS_MAX 8192u    /* several times what a walk without a filter meets */
#define GRAPH_CLEARED_MAX 65536u /* so many bits are cleared sooner than those of a list */

#define NODE_LOCK 1u
#define NODE_LINKED 2u
#define NODE_DUPLICATE 4u
#define NODE_PRESENT (NODE_LINKED | NODE_DUPLICATE)

typedef struct graph_node {
    _Atomic uint16_t n;
    _Atomic uint8_t level, flags;
    _Atomic uint32_t chain, hash, upper;
    _Atomic uint32_t neighbours[];
} graph_node;

typedef struct graph_upper {
    _Atomic uint16_t n, zero;
    _Atomic uint32_t neighbours[];
} graph_upper;

/* Which records of a chunk are representatives of duplicates. */
typedef struct graph_chunk {
    _Atomic uint64_t chained[CHUNK_NODES / 64];
} graph_chunk;

/* Where things lie.  Replaced by a larger copy when full; readers may go on with the old one. */
typedef struct graph_tables {
    struct graph_tables *older;
    size_t capacity; /* of each array */
    _Atomic(const uint8_t *) *pages;
    const uint8_t **shorts; /* short rows of each page; ids below n_short have them */
    uint8_t **chunks;
    uint8_t **uppers;
    graph_chunk **chained; /* by chunk */
} graph_tables;

/* A list of links, on any level. */
typedef struct graph_list {
    _Atomic uint16_t *n;
    _Atomic uint32_t *ids;
} graph_list;

typedef uint32_t (*graph_pool_taker)(uint64_t *pool, uint32_t *held, uint32_t ef,
                                     const uint64_t *keys, uint32_t n_keys);

/* Are walks to go by short rows? */
typedef enum graph_shorts { SHORTS_UNKNOWN, SHORTS_FIT, SHORTS_UNFIT } graph_shorts;

struct vex_graph {
    vex_graph_params params;
    uint32_t record_bytes, upper_bytes;
    graph_pool_taker take;
    bool rows_near; /* how rows are asked for: prefetch_row */
    _Atomic(graph_tables *) tables;
    _Atomic uint32_t n_ids, n_linked, n_duplicates, n_short;
    _Atomic uint64_t entry; /* level << 32 | id, or NO_ENTRY */
    _Atomic uint32_t phi;   /* bits of the float */

    pthread_mutex_t structure; /* sources, tables, phi, entry, the first nodes */
    vex_graph_source *sources;
    size_t sources_capacity;
    uint32_t n_sources, n_held; /* n_held: the first ones, see graph_hold.c */
    graph_shorts shorts;
    uint64_t held_bytes;
    vex_bulk *memory; /* chunks of both kinds */
    size_t n_memory, memory_capacity;
    uint32_t n_chunks, n_uppers, n_lists; /* n_lists: upper lists given out */
    vex_container file;   /* of a graph that is mapped: its records are there, and never change */
    uint16_t *page_rows;  /* of the same: how many ids of each page are rows (graph_guard.c) */
    atomic_bool verified; /* its records were checked */
    uint64_t bytes;

    pthread_mutex_t duplicates; /* the table below, and all chains */
    uint32_t *rows_by_hash;     /* id + 1, open addressing */
    size_t hash_capacity, hash_used;

    pthread_mutex_t scratches;
    vex_graph_scratch *idle;
    uint32_t n_idle;
};

struct vex_graph_scratch {
    vex_graph_scratch *next;
    vex_code_query query, pivot;
    uint64_t *visited; /* a bit for each id and one more: seen in this walk */
    size_t n_visited;  /* bits */
    uint32_t n_marks;  /* whose bits are set; GRAPH_MARKS_MAX + 1: not noted, or more than fit */
    uint32_t marks[GRAPH_MARKS_MAX];
    uint64_t *pool; /* keys ascending; see below */
    size_t pool_capacity;
    uint32_t n_pool;
    uint64_t *heap;
    size_t heap_capacity;
    vex_graph_hit *hits;
    size_t hits_capacity;
    /* of one hop: 2M + 1 each */
    uint32_t *ids;
    const uint8_t **rows;
    float *distances;
    uint64_t *keys;
    /* of building */
    uint64_t *kept;   /* 2M + 1 */
    uint64_t *ranked; /* the pool by code rows */
    size_t ranked_capacity;
    uint32_t *chosen; /* (LEVEL_MAX + 1) lists of M */
    uint32_t *n_chosen;
    vex_bulk arrays;
};

/* One walk through the graph, by a searcher or a builder. */
typedef struct graph_walk {
    const vex_graph *graph;
    const graph_tables *tables;
    vex_graph_scratch *scratch;
    uint32_t end;  /* ids from here on are not looked at */
    bool by_short; /* by short rows */
    bool guarded;  /* check what is met... */
    bool damaged;  /* ... and this is what was found */
    uint64_t distances, hops;
} graph_walk;

/* ---- keys: (distance, id) in one integer, lowest bit free ---- */

static inline uint32_t distance_bits(float d) {
    uint32_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits ^ ((bits >> 31) != 0 ? UINT32_MAX : 0x80000000u);
}
static inline uint64_t key_make(float d, uint32_t id) {
    return (uint64_t)distance_bits(d) << 32 | (uint64_t)id << 1;
}
static inline uint32_t key_id(uint64_t key) {
    return (uint32_t)key >> 1;
}
static inline float key_distance(uint64_t key) {
    uint32_t bits = (uint32_t)(key >> 32);
    bits ^= (bits >> 31) != 0 ? 0x80000000u : UINT32_MAX;
    float d;
    memcpy(&d, &bits, sizeof d);
    return d;
}
#define KEY_DONE 1u

/* ---- places ---- */

static inline const uint8_t *row_at(const vex_graph *g, const graph_tables *t, uint32_t id) {
    return atomic_load_explicit(&t->pages[id >> PAGE_SHIFT], memory_order_acquire) +
           (size_t)(id & (VEX_GRAPH_PAGE - 1)) * g->params.codes.stride;
}
static inline const uint8_t *short_at(const vex_graph *g, const graph_tables *t, uint32_t id) {
    return t->shorts[id >> PAGE_SHIFT] +
           (size_t)(id & (VEX_GRAPH_PAGE - 1)) * g->params.codes.short_stride;
}
static inline graph_chunk *chunk_at(const graph_tables *t, uint32_t id) {
    return t->chained[id >> CHUNK_SHIFT];
}
static inline graph_node *node_at(const vex_graph *g, const graph_tables *t, uint32_t id) {
    return (graph_node *)(void *)(t->chunks[id >> CHUNK_SHIFT] +
                                  (size_t)(id & (CHUNK_NODES - 1)) * g->record_bytes);
}
static inline graph_upper *upper_at(const vex_graph *g, const graph_tables *t, uint32_t list) {
    return (graph_upper *)(void *)(t->uppers[list >> UPPER_SHIFT] +
                                   (size_t)(list & (UPPER_LISTS - 1)) * g->upper_bytes);
}
static inline graph_list list_at(const vex_graph *g, const graph_tables *t, uint32_t id,
                                 uint32_t level) {
    graph_node *node = node_at(g, t, id);
    if (level == 0) {
        return (graph_list){&node->n, node->neighbours};
    }
    const uint32_t first = atomic_load_explicit(&node->upper, memory_order_relaxed);
    graph_upper *upper = upper_at(g, t, first + level - 1);
    return (graph_list){&upper->n, upper->neighbours};
}
static inline uint32_t list_capacity(const vex_graph *g, uint32_t level) {
    return level == 0 ? 2 * g->params.m : g->params.m;
}
static inline uint32_t list_length(graph_list list) {
    return atomic_load_explicit(list.n, memory_order_acquire);
}
static inline uint32_t list_get(graph_list list, uint32_t i) {
    return atomic_load_explicit(&list.ids[i], memory_order_relaxed);
}
/* Under the node's lock, or before the node is known. */
static inline void list_set(graph_list list, const uint32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        atomic_store_explicit(&list.ids[i], ids[i], memory_order_release);
    }
    atomic_store_explicit(list.n, (uint16_t)n, memory_order_release);
}
static inline uint32_t level_of(const graph_node *node) {
    return atomic_load_explicit(&node->level, memory_order_relaxed);
}
static inline uint32_t flags_of(const graph_node *node) {
    return atomic_load_explicit(&node->flags, memory_order_acquire);
}
static inline bool is_linked(const graph_node *node) {
    return (flags_of(node) & NODE_LINKED) != 0;
}
static inline float phi_of(const vex_graph *g) {
    const uint32_t bits = atomic_load_explicit(&g->phi, memory_order_relaxed);
    float phi;
    memcpy(&phi, &bits, sizeof phi);
    return phi;
}

void graph_node_lock(graph_node *node);
void graph_node_unlock(graph_node *node);

/* Every cache line of [p, p + bytes).  GCC 12.1 to 12.4 drop repeated prefetches of an inlined loop
 * that has no barrier. */
static inline void prefetch_near(const void *p, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) {
        __builtin_prefetch((const uint8_t *)p + at, 0, 3);
        __asm__ volatile("" ::: "memory");
    }
}
/* The same to the second-level cache, where more requests than to the first can be outstanding:
 * 1.7 times the rate of rows on AMD Zen 4, 0.9 times on Intel. */
static inline void prefetch_far(const void *p, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) {
        __builtin_prefetch((const uint8_t *)p + at, 0, 2);
        __asm__ volatile("" ::: "memory");
    }
}
static inline void prefetch_row(const vex_graph *g, const uint8_t *row, uint32_t bytes) {
    if (g->rows_near) {
        prefetch_near(row, bytes);
    } else {
        prefetch_far(row, bytes);
    }
}

/* ---- walking (graph_walk.c) ---- */

/* Begin a walk; *entry is NO_ENTRY when the graph is empty.  Makes room for marks. */
vex_status graph_walk_begin(graph_walk *walk, const vex_graph *graph, vex_graph_scratch *scratch,
                            uint64_t *entry);
/* The same by short rows, where all have one. */
vex_status graph_walk_begin_short(graph_walk *walk, const vex_graph *graph,
                                  vex_graph_scratch *scratch, uint64_t *entry);
/* Forget what was visited. */
void graph_walk_forget(graph_walk *walk);
/* Mark `id`; was it marked? */
bool graph_walk_mark(graph_walk *walk, uint32_t id);
/* Distance of the scratch's query to one node. */
float graph_walk_distance(graph_walk *walk, uint32_t id);
/* Distances of the scratch's query to scratch->ids[0..m), m <= 2M + 1: to scratch->distances. */
void graph_walk_distances(graph_walk *walk, uint32_t m);
/* From the node of *key down from `level` to above `floor`, always to the nearest neighbour. */
void graph_walk_descend(graph_walk *walk, uint32_t level, uint32_t floor, uint64_t *key);
/* Unvisited neighbours of a node: to scratch->ids and ->distances; returns how many. */
uint32_t graph_walk_expand(graph_walk *walk, uint32_t id, uint32_t level, uint32_t ahead);
/* Of the m expanded, keep those whose distance is not above that of a key; returns how many. */
uint32_t graph_walk_near(graph_walk *walk, uint32_t m, uint64_t limit);
/* Grow scratch->pool from what is in it (unmarked keys, ascending; visited) to the ef nearest. */
void graph_walk_beam(graph_walk *walk, uint32_t level, uint32_t ef);
/* Ask for the rows of scratch->ids[first .. first + m), m <= 2M + 1 in all. */
void graph_walk_ask(const graph_walk *walk, uint32_t first, uint32_t m);
/* Measure them; keys that are not above a limit: to scratch->keys; returns how many. */
uint32_t graph_walk_near_keys(graph_walk *walk, uint32_t first, uint32_t m, uint64_t limit);

/* ---- checking what a walk meets (graph_guard.c) ---- */

/* Once the sources are known. */
vex_status graph_guard_create(const vex_graph *graph, uint16_t **page_rows);
/* If not, the walk is damaged: is the node a row that is linked ... */
bool graph_guard_linked(graph_walk *walk, uint32_t id);
/* ... may its links of a level be followed ... */
bool graph_guard_list(graph_walk *walk, uint32_t id, uint32_t level);
/* ... is it a row in the chain of `representative`? */
bool graph_guard_duplicate(graph_walk *walk, uint32_t id, uint32_t representative);

/* ---- keys in ascending order (graph_pool.c) ---- */

/* Room for `n` keys in the pool. */
vex_status graph_pool_reserve(vex_graph_scratch *scratch, size_t n);
/* Index of the first key above `key`. */
uint32_t graph_pool_place(const uint64_t *pool, uint32_t n, uint64_t key);
/* Put keys that are not in it into a pool of the ef least, *held of them there already; returns the
 * first place that changed, or ef.  The pool has room for ef. */
graph_pool_taker graph_pool_best_taker(void);
uint32_t graph_pool_take_plain(uint64_t *pool, uint32_t *held, uint32_t ef, const uint64_t *keys,
                               uint32_t n_keys);
#if defined(__x86_64__)
uint32_t graph_pool_take_avx512(uint64_t *pool, uint32_t *held, uint32_t ef, const uint64_t *keys,
                                uint32_t n_keys);
#endif

/* ---- linking (graph_build.c, graph_link.c) ---- */

/* Choose up to `max` of n candidates (keys ascending, by distance to one node) whose directions
 * differ: to out[], nearest first. */
uint32_t graph_select(graph_walk *walk, const uint64_t *keys, uint32_t n, uint32_t max,
                      uint32_t *out);
/* The same beside `had` links that stay, whose keys are in scratch->kept: up to `max` more. */
uint32_t graph_select_more(graph_walk *walk, uint32_t had, const uint64_t *keys, uint32_t n,
                           uint32_t max, uint32_t *out);
/* The first n keys of the pool by code rows, ascending: to scratch->ranked. */
void graph_rank_pool(graph_walk *walk, uint32_t n);
/* Keys of n ids by their distance to node `to`, ascending, in scratch->keys (n <= 2M + 1). */
void graph_rank(graph_walk *walk, uint32_t to, const uint32_t *ids, uint32_t n);
/* Add `id` to a list of node `to`, choosing anew when it is full. */
void graph_link(graph_walk *walk, uint32_t to, uint32_t level, uint32_t id);
/* Search for, link and publish a node whose duplicates were looked for. */
vex_status graph_insert_node(vex_graph *graph, vex_graph_scratch *scratch, uint32_t id);
/* The same for a node that is linked, but not well. */
vex_status graph_link_anew(vex_graph *graph, vex_graph_scratch *scratch, uint32_t id);
/* Room for what building needs in a scratch. */
vex_status graph_scratch_for_building(vex_graph *graph, vex_graph_scratch *scratch);

/* ---- going through ids (graph_batch.c) ---- */

typedef vex_status (*graph_visit)(void *context, vex_graph_scratch *scratch, uint32_t id);
/* Visit each id of the batch, by the caller's thread and others that give way to the rest of the
 * process; a failure stops all.  Paused: batch->next is what was not visited. */
vex_status graph_for_batch(vex_graph *graph, vex_graph_batch *batch, uint32_t threads,
                           graph_visit visit, void *context);

/* ---- repair (graph_repair.c) ---- */

/* Link `from` to `to` on level 0, in the place of a link that can be spared when the list is full
 * (*spared: that node, else VEX_GRAPH_NONE), or with `any` of the last.  False: not done. */
bool graph_force_link(const vex_graph *graph, const graph_tables *tables, uint32_t from,
                      uint32_t to, bool any, uint32_t *spared);

/* ---- duplicates (graph_duplicates.c) ---- */

/* Find an equal row that is inserted, and chain `id` to it (*representative), or take note of
 * `id` as the first of its kind (VEX_GRAPH_NONE). */
vex_status graph_duplicates_enter(vex_graph *graph, uint32_t id, uint32_t *representative);
/* Take note of `id`, a representative with its hash set, as when loading. */
vex_status graph_duplicates_note(vex_graph *graph, uint32_t id);
/* Put `id` into the chain of `representative`. */
void graph_duplicates_chain(vex_graph *graph, uint32_t representative, uint32_t id);
uint32_t graph_row_hash(const void *row, size_t bytes);
static inline bool is_chained(const graph_tables *t, uint32_t id) {
    const uint32_t i = id & (CHUNK_NODES - 1);
    return (atomic_load_explicit(&chunk_at(t, id)->chained[i / 64], memory_order_relaxed) >>
            (i % 64)) &
           1u;
}

/* ---- storage (graph.c) ---- */

/* Room for n pages, chunks and chunks of upper lists in the tables. */
vex_status graph_reserve_tables(vex_graph *graph, size_t n);
/* Zeroed memory that lives as long as the graph. */
vex_status graph_add_memory(vex_graph *graph, size_t bytes, uint8_t **out);
/* Memory for the records of ids 0..end-1, in tables that have room for them. */
vex_status graph_reserve_chunks(vex_graph *graph, uint64_t end);
/* Make a source known, whose nodes and levels are there or come later. */
vex_status graph_note_source(vex_graph *graph, uint64_t file_no, const void *rows, uint32_t n);
/* The level that the hash gives. */
uint32_t graph_level(const vex_graph *graph, uint32_t id);
/* Give the node `level` upper lists, empty. */
vex_status graph_give_level(vex_graph *graph, uint32_t id, uint32_t level);
/* Memory for upper lists 0..n-1. */
vex_status graph_reserve_lists(vex_graph *graph, uint64_t n);
/* Take the upper lists of all nodes back; every level is 0 then. */
void graph_reset_levels(vex_graph *graph);
void graph_set_entry(vex_graph *graph, uint32_t id, uint32_t level);
/* The source that holds an id, or NULL. */
const vex_graph_source *graph_source_of(const vex_graph *graph, uint32_t id);

#endif
