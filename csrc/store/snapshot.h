/*
 * snapshot.h - one immutable, reference-counted state of a collection, and look-ups in it.
 *
 * Sources, oldest first: payload files and vector files (each with its tombstone version), then
 * memtables (sealed ones waiting to be flushed, and the one being written), read as of `lsn`.
 * Exactly one live payload row and one live vector row exist per live record.
 */
#ifndef VEX_STORE_SNAPSHOT_H
#define VEX_STORE_SNAPSHOT_H

#include "store/manifest.h"
#include "store/memtable.h"
#include "store/payfile.h"
#include "store/tombs.h"
#include "store/vecfile.h"

#define VEX_MEMTABLES_MAX 8

typedef struct vex_vec_source {
    vex_vecfile *file;
    vex_tombs *tombs;
    vex_file_entry entry;
    bool tombs_changed;      /* since `entry` was committed                                       */
} vex_vec_source;

typedef struct vex_pay_source {
    vex_payfile *file;
    vex_tombs *tombs;
    vex_file_entry entry;
    bool tombs_changed;
} vex_pay_source;

typedef struct vex_mem_source {
    vex_memtable *table;
    uint32_t n_vectors, n_payloads;  /* rows that existed when the snapshot was made              */
} vex_mem_source;

typedef struct vex_snapshot {
    atomic_uint refs;
    uint64_t lsn, next_seq, live_rows, generation;
    uint32_t dimension, space;
    vex_vec_source *vecs;
    vex_pay_source *pays;
    uint32_t n_vecs, n_pays, n_mems;
    vex_mem_source mems[VEX_MEMTABLES_MAX];  /* oldest first; the last is being written           */
} vex_snapshot;

/* A copy with references of its own (refs = 1), for the next version. */
vex_status vex_snapshot_copy(const vex_snapshot *from, vex_snapshot **out);
vex_snapshot *vex_snapshot_acquire(vex_snapshot *snapshot);
void vex_snapshot_release(vex_snapshot *snapshot);

/* Open all files of a manifest; no memtables yet. */
vex_status vex_snapshot_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             const vex_manifest *manifest, vex_snapshot **out);

/* Where a live row is. */
typedef struct vex_row_ref {
    bool found, in_memory;
    uint32_t source;    /* index into mems, pays or vecs                                          */
    uint32_t row;
    uint64_t seq;
} vex_row_ref;

/* Live payload row of an id / of a seq, live vector row of a seq; newest source first. */
vex_status vex_snapshot_find_id(const vex_snapshot *snapshot, const void *id, size_t len,
                                uint64_t hash, vex_row_ref *out);
void vex_snapshot_find_payload(const vex_snapshot *snapshot, uint64_t seq, vex_row_ref *out);
void vex_snapshot_find_vector(const vex_snapshot *snapshot, uint64_t seq, vex_row_ref *out);

/* Kill the row at `ref` in this (private, not yet published) snapshot as of `lsn`. */
vex_status vex_snapshot_kill_vector(vex_snapshot *snapshot, const vex_row_ref *ref, uint64_t lsn);
vex_status vex_snapshot_kill_payload(vex_snapshot *snapshot, const vex_row_ref *ref, uint64_t lsn);

/* Kill the older versions that `batch` replaces (all its non-PUT ops) in the files and sealed
 * memtables of a private snapshot; keeps live_rows and dimension right.  With vex_memtable_apply
 * on the newest memtable this is the whole effect of a batch, for writing and for replay. */
vex_status vex_snapshot_apply(vex_snapshot *snapshot, const vex_batch *batch, uint64_t lsn);

/* Reads payload rows wherever they are.  One per thread and call. */
typedef struct vex_snapshot_reader vex_snapshot_reader;
vex_status vex_snapshot_reader_create(const vex_snapshot *snapshot, vex_snapshot_reader **out);
void vex_snapshot_reader_destroy(vex_snapshot_reader *reader);
vex_status vex_snapshot_read_payload(vex_snapshot_reader *reader, const vex_row_ref *ref,
                                     uint32_t parts, vex_payload *out);
/* Vector row widened to dst[dimension]. */
void vex_snapshot_read_vector(const vex_snapshot *snapshot, const vex_row_ref *ref, float *dst);

/* Walks all live payload rows in seq order (k-way merge over the sources). */
typedef struct vex_seq_cursor vex_seq_cursor;
vex_status vex_seq_cursor_create(const vex_snapshot *snapshot, vex_seq_cursor **out);
bool vex_seq_cursor_next(vex_seq_cursor *cursor, vex_row_ref *out);
void vex_seq_cursor_destroy(vex_seq_cursor *cursor);

#endif
