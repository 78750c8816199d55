/*
 * block_cache.c - see block_cache.h.
 *
 * A table of sets of four slots.  A set belongs to one of a few mutexes, which is held for a few
 * loads and stores; the references keep a block that is being read when its slot is taken.
 */
#include "codec/block_cache.h"

#include "base/hash.h"

#include <pthread.h>
#include <string.h>

#include "base/poison.h"

#define SETS 2048u
#define WAYS 4u
#define LOCKS 16u

typedef struct cache_slot {
    _Atomic uint64_t column; /* of `kept`, for a look without the lock; 0: empty                  */
    vex_cached_block *kept;
} cache_slot;

static cache_slot table[SETS][WAYS];
static pthread_mutex_t locks[LOCKS] = {
    [0 ... LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER,
};
static atomic_size_t kept_bytes, limit_bytes = VEX_BLOCK_CACHE_LIMIT;
static _Atomic uint64_t columns, uses;
static atomic_uint hand; /* the set that is next to lose a block */

static uint32_t set_of(uint64_t column, uint32_t block) {
    return (uint32_t)(vex_mix64(column << 32 ^ block) % SETS);
}

static pthread_mutex_t *lock_of(uint32_t set) {
    return &locks[set % LOCKS];
}

uint64_t vex_block_cache_column(void) {
    return atomic_fetch_add(&columns, 1) + 1;
}

void vex_block_cache_release(vex_cached_block *cached) {
    if (cached != NULL && atomic_fetch_sub(&cached->refs, 1) == 1) {
        vex_free(cached);
    }
}

/* Take the block out of a slot, with the lock held; to be released without it. */
static vex_cached_block *take_out(cache_slot *slot) {
    vex_cached_block *cached = slot->kept;
    if (cached != NULL) {
        atomic_fetch_sub(&kept_bytes, cached->bytes);
        slot->kept = NULL;
        atomic_store_explicit(&slot->column, 0, memory_order_relaxed);
    }
    return cached;
}

static cache_slot *find(uint32_t set, uint64_t column, uint32_t block) {
    for (uint32_t way = 0; way < WAYS; way++) {
        cache_slot *slot = &table[set][way];
        if (slot->kept != NULL && slot->kept->column == column && slot->kept->block == block) {
            return slot;
        }
    }
    return NULL;
}

/* An empty slot, or the one whose block was not asked for the longest. */
static cache_slot *oldest(uint32_t set) {
    cache_slot *found = &table[set][0];
    for (uint32_t way = 0; way < WAYS && found->kept != NULL; way++) {
        cache_slot *slot = &table[set][way];
        if (slot->kept == NULL || slot->kept->used < found->kept->used) {
            found = slot;
        }
    }
    return found;
}

vex_cached_block *vex_block_cache_get(uint64_t column, uint32_t block) {
    const uint32_t set = set_of(column, block);
    pthread_mutex_lock(lock_of(set));
    cache_slot *slot = find(set, column, block);
    vex_cached_block *cached = slot != NULL ? slot->kept : NULL;
    if (cached != NULL) {
        atomic_fetch_add(&cached->refs, 1);
        cached->used = atomic_fetch_add_explicit(&uses, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(lock_of(set));
    return cached;
}

/* Let blocks go, set by set, until the rest is within the limit. */
static void make_room(void) {
    for (uint32_t looked = 0; looked < SETS * WAYS; looked++) {
        if (atomic_load(&kept_bytes) <= atomic_load(&limit_bytes)) {
            return;
        }
        const uint32_t set = atomic_fetch_add(&hand, 1) % SETS;
        pthread_mutex_lock(lock_of(set));
        cache_slot *last = NULL;
        for (uint32_t way = 0; way < WAYS; way++) {
            cache_slot *slot = &table[set][way];
            if (slot->kept != NULL && (last == NULL || slot->kept->used < last->kept->used)) {
                last = slot;
            }
        }
        vex_cached_block *gone = last != NULL ? take_out(last) : NULL;
        pthread_mutex_unlock(lock_of(set));
        vex_block_cache_release(gone);
    }
}

void vex_block_cache_put(uint64_t column, uint32_t block, uint32_t first, uint32_t count,
                         const uint32_t *ends, const uint8_t *raw, uint32_t raw_len) {
    const size_t ends_bytes = ((size_t)count + 1) * sizeof *ends;
    const size_t bytes = sizeof(vex_cached_block) + ends_bytes + raw_len;
    if (column == 0 || raw_len > VEX_BLOCK_CACHE_BLOCK_MAX || bytes > atomic_load(&limit_bytes)) {
        return;
    }
    vex_cached_block *cached = vex_malloc(bytes);
    if (cached == NULL) {
        return;
    }
    uint8_t *place = (uint8_t *)(cached + 1);
    memcpy(place, ends, ends_bytes);
    memcpy(place + ends_bytes, raw, raw_len);
    *cached = (vex_cached_block){.block = block,
                                 .first = first,
                                 .count = count,
                                 .column = column,
                                 .used = atomic_fetch_add_explicit(&uses, 1, memory_order_relaxed),
                                 .bytes = bytes,
                                 .raw = place + ends_bytes,
                                 .ends = (const uint32_t *)(const void *)place};
    atomic_init(&cached->refs, 1);
    const uint32_t set = set_of(column, block);
    pthread_mutex_lock(lock_of(set));
    vex_cached_block *gone = cached; /* another thread may have been faster */
    if (find(set, column, block) == NULL) {
        cache_slot *slot = oldest(set);
        gone = take_out(slot);
        slot->kept = cached;
        atomic_store_explicit(&slot->column, column, memory_order_relaxed);
        atomic_fetch_add(&kept_bytes, bytes);
    }
    pthread_mutex_unlock(lock_of(set));
    vex_block_cache_release(gone);
    make_room();
}

/* Empty the slots of a column; 0: all. */
static void drop(uint64_t column) {
    for (uint32_t set = 0; set < SETS; set++) {
        for (uint32_t way = 0; way < WAYS; way++) {
            cache_slot *slot = &table[set][way];
            uint64_t there = atomic_load_explicit(&slot->column, memory_order_relaxed);
            if (there == 0 || (column != 0 && there != column)) {
                continue;
            }
            pthread_mutex_lock(lock_of(set));
            bool is_it = slot->kept != NULL && (column == 0 || slot->kept->column == column);
            vex_cached_block *gone = is_it ? take_out(slot) : NULL;
            pthread_mutex_unlock(lock_of(set));
            vex_block_cache_release(gone);
        }
    }
}

void vex_block_cache_forget(uint64_t column) {
    if (column != 0 && atomic_load(&kept_bytes) != 0) {
        drop(column);
    }
}

void vex_block_cache_set_limit(size_t bytes) {
    atomic_store(&limit_bytes, bytes);
    make_room();
}

size_t vex_block_cache_bytes(void) {
    return atomic_load(&kept_bytes);
}

void vex_block_cache_clear(void) {
    drop(0);
}
