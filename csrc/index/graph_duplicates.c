/*
 * graph_duplicates.c - rows with equal code rows: finding them, and their chains.
 *
 * The table holds representatives only.  A chain is a circle in id order that the representative
 * enters at its end, so that an id above all others, the usual case, is appended in one step.
 */
#include "base/hash.h"
#include "index/graph_internal.h"

#include "base/poison.h"

#define FIRST_CAPACITY 1024u

uint32_t graph_row_hash(const void *row, size_t bytes) {
    const uint8_t *p = row;
    uint64_t a = 0x9E3779B97F4A7C15u, b = 0xC2B2AE3D27D4EB4Fu;
    for (size_t i = 0; i < bytes; i += 16) { /* rows are multiples of 64 */
        uint64_t x[2];
        memcpy(x, p + i, sizeof x);
        a = (a ^ x[0]) * 0xff51afd7ed558ccdu;
        a ^= a >> 32;
        b = (b ^ x[1]) * 0xc4ceb9fe1a85ec53u;
        b ^= b >> 32;
    }
    const uint32_t hash = (uint32_t)(vex_mix64(a + 3 * b) >> 16);
    return hash != 0 ? hash : 1;
}

static graph_tables *tables_of(const vex_graph *g) {
    return atomic_load_explicit(&g->tables, memory_order_acquire);
}

static uint32_t hash_of(const vex_graph *g, const graph_tables *t, uint32_t id) {
    return atomic_load_explicit(&node_at(g, t, id)->hash, memory_order_relaxed);
}

static void put(uint32_t *table, size_t capacity, uint32_t hash, uint32_t id) {
    size_t slot = hash & (capacity - 1);
    while (table[slot] != 0) {
        slot = (slot + 1) & (capacity - 1);
    }
    table[slot] = id + 1;
}

/* Room for one more. */
static vex_status reserve(vex_graph *g) {
    if ((g->hash_used + 1) * 3 <= g->hash_capacity * 2) {
        return VEX_OK;
    }
    const size_t capacity = g->hash_capacity > 0 ? 2 * g->hash_capacity : FIRST_CAPACITY;
    uint32_t *table = vex_calloc(capacity, sizeof *table);
    if (table == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot grow a graph");
    }
    const graph_tables *t = tables_of(g);
    for (size_t i = 0; i < g->hash_capacity; i++) {
        const uint32_t id = g->rows_by_hash[i] - 1;
        if (g->rows_by_hash[i] != 0) {
            put(table, capacity, hash_of(g, t, id), id);
        }
    }
    vex_free(g->rows_by_hash);
    g->rows_by_hash = table;
    g->hash_capacity = capacity;
    return VEX_OK;
}

static uint32_t find(const vex_graph *g, const graph_tables *t, uint32_t hash, const void *row) {
    if (g->hash_capacity == 0) {
        return VEX_GRAPH_NONE;
    }
    size_t slot = hash & (g->hash_capacity - 1);
    for (; g->rows_by_hash[slot] != 0; slot = (slot + 1) & (g->hash_capacity - 1)) {
        const uint32_t id = g->rows_by_hash[slot] - 1;
        if (hash_of(g, t, id) == hash &&
            memcmp(row_at(g, t, id), row, g->params.codes.stride) == 0) {
            return id;
        }
    }
    return VEX_GRAPH_NONE;
}

static void set(_Atomic uint32_t *field, uint32_t value) {
    atomic_store_explicit(field, value, memory_order_release);
}
static uint32_t get(const _Atomic uint32_t *field) {
    return atomic_load_explicit(field, memory_order_relaxed);
}

void graph_duplicates_chain(vex_graph *g, uint32_t representative, uint32_t id) {
    const graph_tables *t = tables_of(g);
    graph_node *head = node_at(g, t, representative), *node = node_at(g, t, id);
    const uint32_t last = get(&head->chain); /* all of these are id + 1 */
    uint32_t before = last;
    while (before != 0 && before > id + 1) {
        before = get(&node_at(g, t, before - 1)->neighbours[0]);
    }
    graph_node *previous = before != 0 ? node_at(g, t, before - 1) : NULL;
    graph_node *end = last != 0 ? node_at(g, t, last - 1) : NULL;
    const uint32_t next = previous != NULL ? get(&previous->chain)
                          : end != NULL    ? get(&end->chain)
                                           : id + 1;
    set(&node->neighbours[0], before);
    set(&node->neighbours[1], representative);
    set(&node->chain, next);
    if (next != id + 1 && before != last) {
        set(&node_at(g, t, next - 1)->neighbours[0], id + 1);
    }
    atomic_fetch_or_explicit(&node->flags, NODE_DUPLICATE, memory_order_release);
    if (previous != NULL) {
        set(&previous->chain, id + 1);
    } else if (end != NULL) {
        set(&end->chain, id + 1); /* the new first */
    }
    if (before == last) {
        set(&head->chain, id + 1); /* the new last */
    }
    const uint32_t bit = representative & (CHUNK_NODES - 1);
    atomic_fetch_or_explicit(&chunk_at(t, representative)->chained[bit / 64], 1ULL << (bit % 64),
                             memory_order_release);
    atomic_fetch_add_explicit(&g->n_duplicates, 1, memory_order_release);
}

vex_status graph_duplicates_note(vex_graph *g, uint32_t id) {
    VEX_TRY(reserve(g));
    put(g->rows_by_hash, g->hash_capacity, hash_of(g, tables_of(g), id), id);
    g->hash_used++;
    return VEX_OK;
}

vex_status graph_duplicates_enter(vex_graph *g, uint32_t id, uint32_t *representative) {
    const graph_tables *t = tables_of(g);
    const uint8_t *row = row_at(g, t, id);
    const uint32_t hash = graph_row_hash(row, g->params.codes.stride);
    pthread_mutex_lock(&g->duplicates);
    uint32_t same = find(g, t, hash, row);
    vex_status status = VEX_OK;
    set(&node_at(g, t, id)->hash, hash);
    if (same == id) {
        same = VEX_GRAPH_NONE; /* noted by an attempt that then failed */
    } else if (same == VEX_GRAPH_NONE) {
        status = graph_duplicates_note(g, id);
    } else {
        graph_duplicates_chain(g, same, id);
    }
    pthread_mutex_unlock(&g->duplicates);
    *representative = same;
    return status;
}
