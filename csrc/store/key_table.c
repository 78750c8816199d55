/*
 * key_table.c - see key_table.h.
 */
#include "store/key_table.h"

#include "base/mem.h"

#include "base/poison.h"

#define SLOTS_MIN_LOG2 6u

void vex_key_table_destroy(vex_key_table *table) {
    vex_key_slots *slots = atomic_load_explicit(&table->current, memory_order_relaxed);
    while (slots != NULL) {
        vex_key_slots *older = slots->older;
        vex_free(slots);
        slots = older;
    }
    atomic_store_explicit(&table->current, NULL, memory_order_relaxed);
    table->used = 0;
}

/* The first free slot on the key's way; there is one, as tables are never full. */
static vex_key_slot *free_slot(vex_key_slots *slots, uint64_t key) {
    size_t mask = vex_key_count(slots) - 1;
    for (size_t at = vex_key_start(slots, key);; at = (at + 1) & mask) {
        vex_key_slot *slot = &slots->slots[at];
        if (atomic_load_explicit(&slot->payload, memory_order_relaxed) == 0 &&
            atomic_load_explicit(&slot->vector, memory_order_relaxed) == 0) {
            return slot;
        }
    }
}

static void copy_slots(vex_key_slots *to, vex_key_slots *from) {
    size_t n = vex_key_count(from);
    for (size_t i = 0; i < n; i++) {
        vex_key_slot *slot = &from->slots[i];
        uint32_t payload = atomic_load_explicit(&slot->payload, memory_order_relaxed);
        uint32_t vector = atomic_load_explicit(&slot->vector, memory_order_relaxed);
        if (payload != 0 || vector != 0) {
            uint64_t key = atomic_load_explicit(&slot->key, memory_order_relaxed);
            vex_key_slot *copy = free_slot(to, key);
            atomic_store_explicit(&copy->key, key, memory_order_relaxed);
            atomic_store_explicit(&copy->payload, payload, memory_order_relaxed);
            atomic_store_explicit(&copy->vector, vector, memory_order_relaxed);
        }
    }
}

vex_status vex_key_table_reserve(vex_key_table *table, size_t more, size_t *bytes) {
    vex_key_slots *current = atomic_load_explicit(&table->current, memory_order_relaxed);
    size_t needed = table->used + more; /* both are below 2^31: rows of a memtable */
    uint32_t log2 = current ? 64 - current->shift : SLOTS_MIN_LOG2;
    while (needed > ((size_t)3 << log2) / 4) {
        log2++;
    }
    if (current != NULL && log2 == 64 - current->shift) {
        return VEX_OK;
    }
    size_t size = sizeof *current + (sizeof *current->slots << log2);
    vex_key_slots *larger = vex_calloc(1, size);
    if (larger == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to index %zu rows", needed);
    }
    larger->shift = 64 - log2;
    larger->older = current;
    if (current != NULL) {
        copy_slots(larger, current);
    }
    atomic_store_explicit(&table->current, larger, memory_order_release);
    *bytes += size;
    return VEX_OK;
}

vex_key_slot *vex_key_table_add(vex_key_table *table, uint64_t key) {
    vex_key_slots *current = atomic_load_explicit(&table->current, memory_order_relaxed);
    vex_key_slot *slot = free_slot(current, key);
    atomic_store_explicit(&slot->key, key, memory_order_relaxed);
    table->used++;
    return slot;
}
