/*
 * memtable.h - the newest rows, in memory, readable while one writer appends.
 *
 * Two append-only tables: payload rows (found by id or seq) and vector rows (found by seq).
 * Rows never move.  A row carries the lsn it was born at and, in an atomic, the lsn it died at
 * (UINT64_MAX while it lives): a reader at lsn L sees the rows with born <= L < died.
 *
 * Readers take no lock.  A row is written before the number of rows (walking) or its slot in a
 * key table (looking up) is published with release; key_table.h says why look-ups may run
 * beside the writer.  Look-ups see rows that are newer than the reader's snapshot, and pass over
 * them by their lsn to the older rows of the key, which each row links to.
 *
 * Row arrays grow by chunks that double (64, 64, 128, ...), so 26 chunk pointers hold
 * everything.  The vectors of one batch lie contiguously, and so do its strings: small batches
 * one after the other in slabs (slabs.h), big ones (vectors >= VEX_BULK_MAP_MIN) with all they
 * have in one bulk buffer of their own.
 */
#ifndef VEX_STORE_MEMTABLE_H
#define VEX_STORE_MEMTABLE_H

#include "store/annex.h"
#include "store/batch.h"

#include <stdatomic.h>

typedef struct vex_memtable vex_memtable;

typedef struct vex_mem_vector {
    uint64_t seq, born;
    _Atomic uint64_t died;
    const float *vector;
    float norm2;
    uint32_t previous;      /* older row of the same seq in this table, or UINT32_MAX             */
} vex_mem_vector;

typedef struct vex_mem_payload {
    uint64_t born;
    _Atomic uint64_t died;
    vex_payload payload;    /* bytes in the table's memory                                        */
    uint32_t previous;      /* older row of the same id in this table, or UINT32_MAX              */
} vex_mem_payload;

vex_status vex_memtable_create(vex_memtable **out);
vex_memtable *vex_memtable_acquire(vex_memtable *table);
void vex_memtable_release(vex_memtable *table);

/* ---- the writer (one at a time) ---- */

/* Make room for the batch: everything that can fail.  Copies vectors (and fills norms) and
 * strings; nothing is visible yet.  May be called again for another batch if apply is not. */
vex_status vex_memtable_prepare(vex_memtable *table, const vex_batch *batch);
/* Append the prepared batch as of `lsn`.  Cannot fail.  VECTOR, PAYLOAD and DELETE ops kill older
 * rows of their seq in THIS table; older rows elsewhere are the caller's affair.  Returns how
 * many payload rows DELETE ops killed here.  New rows are visible to readers that ask for
 * lsn >= this one. */
uint32_t vex_memtable_apply(vex_memtable *table, const vex_batch *batch, uint64_t lsn);
/* Kill one row at `lsn` (for batches applied to a newer table); false when it was dead. */
bool vex_memtable_kill_vector(vex_memtable *table, uint32_t row, uint64_t lsn);
bool vex_memtable_kill_payload(vex_memtable *table, uint32_t row, uint64_t lsn);

uint64_t vex_memtable_bytes(const vex_memtable *table);  /* memory held; any thread may ask       */
uint64_t vex_memtable_dead(const vex_memtable *table);   /* rows of both kinds; any thread may ask */

/* ---- readers ---- */
uint32_t vex_memtable_vectors(const vex_memtable *table);    /* rows appended so far (acquire)     */
uint32_t vex_memtable_payloads(const vex_memtable *table);
/* Do the payload rows so far lie in ascending order of seq? */
bool vex_memtable_in_order(const vex_memtable *table);
const vex_mem_vector *vex_memtable_vector(const vex_memtable *table, uint32_t row);
const vex_mem_payload *vex_memtable_payload(const vex_memtable *table, uint32_t row);

static inline bool vex_mem_vector_live(const vex_mem_vector *row, uint64_t lsn) {
    return row->born <= lsn && lsn < atomic_load_explicit(&row->died, memory_order_acquire);
}
static inline bool vex_mem_payload_live(const vex_mem_payload *row, uint64_t lsn) {
    return row->born <= lsn && lsn < atomic_load_explicit(&row->died, memory_order_acquire);
}

/* What higher layers keep with it. */
vex_annexes *vex_memtable_annexes(vex_memtable *table);

/* Newest row of the key that is live at `lsn`, or UINT32_MAX. */
uint32_t vex_memtable_find_id(const vex_memtable *table, const void *id, size_t len,
                              uint64_t hash, uint64_t lsn);
uint32_t vex_memtable_find_payload(const vex_memtable *table, uint64_t seq, uint64_t lsn);
uint32_t vex_memtable_find_vector(const vex_memtable *table, uint64_t seq, uint64_t lsn);

/* The longest run of vector rows [first, *end) with end <= limit whose rows AND row structs are
 * contiguous, so that vex_row_run can point at them: returns the first row's struct. */
const vex_mem_vector *vex_memtable_run(const vex_memtable *table, uint32_t first, uint32_t limit,
                                       uint32_t dimension, uint32_t *end);

#endif
