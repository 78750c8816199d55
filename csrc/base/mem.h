/*
 * mem.h - all memory of the engine.
 *
 * Three sizes of need, three tools:
 *   vex_malloc ...  single objects; counted
 *   vex_arena       many small blobs with one lifetime (the strings of a memtable)
 *   vex_bulk        one large block: page-aligned anonymous mapping with huge-page advice from
 *                   VEX_BULK_MAP_MIN bytes up (the vmalloc manner), 64-byte aligned heap below
 * vex_buf is a growing byte string on top of vex_realloc.
 *
 * No other file calls malloc, mmap and friends (poison.h).  Failure is NULL or
 * VEX_ERR_NO_MEMORY, never an abort.  Test builds can make the N-th allocation fail.
 */
#ifndef VEX_BASE_MEM_H
#define VEX_BASE_MEM_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *vex_malloc(size_t bytes);                /* uninitialised; NULL when out of memory        */
void *vex_calloc(size_t n, size_t bytes_each); /* zeroed; checks the product                    */
void *vex_realloc(void *p, size_t bytes);
void vex_free(void *p); /* NULL is fine                                  */
char *vex_strdup(const char *text);

/* vex_realloc of an array to hold >= `needed` items: doubles *capacity, checks overflow.
 * On failure the array is unchanged. */
vex_status vex_grow(void **array, size_t *capacity, size_t needed, size_t item_bytes);

/* Make the N-th allocation from now (1 = the next) fail, and all after it when `persistent`;
 * 0 turns it off.  Only in builds with VEX_TESTING. */
void vex_mem_fail_at(uint64_t n, bool persistent);
/* Allocations until the failing one (itself included); 0: it was met, or none is to fail. */
uint64_t vex_mem_fail_left(void);
/* Allocations of this thread are not counted and do not fail meanwhile: a test's own. */
void vex_mem_fail_spare(bool on);
/* The largest single allocation asked for since the reset, by any thread; in such builds only. */
size_t vex_mem_largest(void);
void vex_mem_largest_reset(void);

/* Have the C library give memory that was freed back to the system, where it can.  Takes up to some
 * milliseconds. */
void vex_mem_trim(void);

/* Bytes of memory that the machine has; UINT64_MAX: unknown. */
uint64_t vex_mem_physical(void);

/* ---- bulk buffers ---- */
#define VEX_BULK_MAP_MIN ((size_t)2 << 20)

typedef struct vex_bulk {
    void *data;
    size_t bytes; /* usable                                                                  */
    bool mapped;  /* anonymous mapping (else heap)                                           */
} vex_bulk;

/* At least `bytes`, 64-byte aligned; content undefined. */
vex_status vex_bulk_create(vex_bulk *bulk, size_t bytes);
void vex_bulk_destroy(vex_bulk *bulk); /* a zeroed vex_bulk is fine */

/* ---- arena ---- */
typedef struct vex_arena vex_arena;

/* `chunk_bytes`: size of later chunks; the first is small and they double up to it. */
vex_status vex_arena_create(vex_arena **out, size_t chunk_bytes);
void vex_arena_destroy(vex_arena *arena); /* NULL is fine */
/* `align` is a power of two.  Blobs never move.  NULL: no memory. */
void *vex_arena_alloc(vex_arena *arena, size_t bytes, size_t align);
size_t vex_arena_bytes(const vex_arena *arena); /* reserved                   */

/* ---- growing byte string ---- */
typedef struct vex_buf {
    uint8_t *data;
    size_t len, capacity;
} vex_buf;

void vex_buf_clear(vex_buf *buf); /* frees; the buffer may be used again */
vex_status vex_buf_reserve(vex_buf *buf, size_t more);
vex_status vex_buf_append(vex_buf *buf, const void *bytes, size_t len);
vex_status vex_buf_append_zeros(vex_buf *buf, size_t len);

/* ---- counters (vex_stats) ---- */
typedef enum vex_counter {
    VEX_STAT_HEAP_BYTES,
    VEX_STAT_HEAP_BLOCKS,
    VEX_STAT_BULK_BYTES,
    VEX_STAT_BULK_MAPS,
    VEX_STAT_BULK_MAPS_TOTAL,
    VEX_STAT_MAPPED_BYTES,
    VEX_STAT_MAPPED_FILES,
    VEX_STAT_OPEN_FILES,
    VEX_STAT_DISTANCES,
    VEX_STAT_WAL_BYTES,
    VEX_STAT_WAL_SYNCS,
    VEX_STAT_SEGMENTS_WRITTEN,
    VEX_STAT_BLOCKS_READ,
    VEX_STAT_DAMAGED_PARTS,
    VEX_STAT_SEGMENT_BYTES,
    VEX_STAT_COMPACTIONS,
    VEX_STAT_COMPACTED_BYTES,
    VEX_STAT_GIVEN_BACK_BYTES,
    VEX_STAT_ROWS_FETCHED,
    VEX_STAT_GRAPHS_UNLOADED,
    VEX_STAT_BLOCK_HITS,
    VEX_STAT_BLOCK_MISSES,
    VEX_STAT_FILTER_HITS,
    VEX_STAT_FILTER_MISSES,
    VEX_STAT_LEASE_WAIT_US,
    VEX_STAT_WRITER_WAIT_US,
    VEX_STAT_WAL_SYNC_US,
    VEX_STAT_COUNT
} vex_counter;

void vex_stat_add(vex_counter counter, int64_t delta); /* relaxed atomic */
uint64_t vex_stat_get(vex_counter counter);

#endif
