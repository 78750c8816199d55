/*
 * key_table.h - hash table from 64-bit keys to row numbers, for one writer and readers that take
 * no lock.
 *
 * Open addressing, linear probing.  A slot's key never changes once one of its rows is set, and
 * no slot is ever emptied; rows only move on to newer ones.  The writer stores the key before
 * the row (release), so whoever sees a row (acquire) sees its key.  Growing builds a larger
 * array, publishes it, and keeps the smaller ones until the table is destroyed, as a reader may
 * still probe there: what such a reader misses was added after it began.
 *
 * Keys need not be unique: equal hashes of different ids have a slot each.
 */
#ifndef VEX_STORE_KEY_TABLE_H
#define VEX_STORE_KEY_TABLE_H

#include "base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define VEX_NO_ROW UINT32_MAX

typedef struct vex_key_slot {
    _Atomic uint64_t key;
    _Atomic uint32_t payload, vector; /* row + 1; both 0: the slot is free                        */
} vex_key_slot;

typedef struct vex_key_slots {
    struct vex_key_slots *older;      /* the arrays this one replaced                             */
    uint32_t shift;                   /* 64 - log2 of the number of slots                         */
    vex_key_slot slots[];
} vex_key_slots;

/* Where the search for a key begins.  Multiplying by 2^64 / golden ratio spreads dense and evenly
 * spaced keys alike. */
static inline size_t vex_key_start(const vex_key_slots *slots, uint64_t key) {
    return (size_t)((key * 0x9E3779B97F4A7C15ULL) >> slots->shift);
}
static inline size_t vex_key_count(const vex_key_slots *slots) {
    return (size_t)1 << (64 - slots->shift);
}

typedef struct vex_key_table {
    _Atomic(vex_key_slots *) current; /* NULL: empty                                              */
    size_t used;                      /* the writer's                                             */
} vex_key_table; /* zeroed: empty */

void vex_key_table_destroy(vex_key_table *table);
/* Make room for `more` keys; *bytes grows by what was allocated. */
vex_status vex_key_table_reserve(vex_key_table *table, size_t more, size_t *bytes);

/* The slots with `key`, one after the other: start, then next until NULL. */
typedef struct vex_key_probe {
    vex_key_slots *slots;
    uint64_t key;
    size_t at;
} vex_key_probe;

static inline vex_key_probe vex_key_probe_start(const vex_key_table *table, uint64_t key) {
    vex_key_slots *slots = atomic_load_explicit(&table->current, memory_order_acquire);
    return (vex_key_probe){slots, key, slots ? vex_key_start(slots, key) : 0};
}

static inline vex_key_slot *vex_key_probe_next(vex_key_probe *probe) {
    if (probe->slots == NULL) {
        return NULL;
    }
    size_t mask = vex_key_count(probe->slots) - 1;
    for (;;) {
        vex_key_slot *slot = &probe->slots->slots[probe->at];
        if (atomic_load_explicit(&slot->payload, memory_order_acquire) == 0 &&
            atomic_load_explicit(&slot->vector, memory_order_acquire) == 0) {
            return NULL;
        }
        probe->at = (probe->at + 1) & mask;
        if (atomic_load_explicit(&slot->key, memory_order_relaxed) == probe->key) {
            return slot;
        }
    }
}

/* Writer, with room reserved: a fresh slot for `key`.  It counts as taken once a row is set. */
vex_key_slot *vex_key_table_add(vex_key_table *table, uint64_t key);

static inline uint32_t vex_key_slot_payload(const vex_key_slot *slot) {
    return atomic_load_explicit(&slot->payload, memory_order_acquire) - 1;
}
static inline uint32_t vex_key_slot_vector(const vex_key_slot *slot) {
    return atomic_load_explicit(&slot->vector, memory_order_acquire) - 1;
}
static inline void vex_key_slot_set_payload(vex_key_slot *slot, uint32_t row) {
    atomic_store_explicit(&slot->payload, row + 1, memory_order_release);
}
static inline void vex_key_slot_set_vector(vex_key_slot *slot, uint32_t row) {
    atomic_store_explicit(&slot->vector, row + 1, memory_order_release);
}

#endif
