/*
 * snapshot.h - one immutable, reference-counted state of a collection, and look-ups in it.
 *
 * Sources, oldest first: payload files and vector files (each with its tombstone version), then
 * memtables (sealed ones waiting to be flushed, and the one being written), read as of `lsn`.
 * Exactly one live payload row and one live vector row exist per live record.
 *
 * A batch becomes the next state in two steps, with the log record between them:
 *   vex_memtable_prepare(newest memtable, batch)      memory; nothing is changed
 *   vex_snapshot_copy(latest, &next)
 *   vex_snapshot_apply(next, batch, lsn)              marks dead rows of files, copy-on-write;
 *                                                     lists those of sealed memtables
 *   ... append to the log; when anything up to here fails, release `next` and nothing happened
 *   vex_snapshot_commit(next, batch, lsn)             changes the memtables; cannot fail
 * After it, `next` is immutable and may be shared.  Memtables are shared by all snapshots; what a
 * commit changes there carries its lsn, so older snapshots do not see it.
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
    vex_tombs *tombs;        /* never NULL                                                        */
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

/* A row of a sealed memtable that the applied, not yet committed batch replaces. */
typedef struct vex_mem_kill {
    uint32_t source, row;
    bool payload, deletes;           /* a payload row; and by a DELETE, not by an update          */
} vex_mem_kill;

typedef struct vex_snapshot {
    atomic_uint refs;
    uint64_t lsn, next_seq, live_rows, generation;
    uint32_t dimension, space;
    vex_code_range codes;    /* of new files; set by who opens it, copied on                      */
    vex_vec_source *vecs;
    vex_pay_source *pays;
    uint32_t n_vecs, n_pays, n_mems;
    vex_mem_source mems[VEX_MEMTABLES_MAX];  /* oldest first; the last is being written           */

    /* between apply and commit */
    vex_mem_kill *kills;
    size_t n_kills, kills_capacity;
    uint64_t n_deleted;              /* records of files that DELETEs ended                       */
} vex_snapshot;

/* A copy with references of its own (refs = 1), for the next version. */
vex_status vex_snapshot_copy(const vex_snapshot *from, vex_snapshot **out);
vex_snapshot *vex_snapshot_acquire(vex_snapshot *snapshot);
void vex_snapshot_release(vex_snapshot *snapshot); /* NULL is fine */

/* Open all files of a manifest; no memtables yet.  Those that `known` (NULL: none), an earlier state of
 * the collection, has open are shared with it. */
vex_status vex_snapshot_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             const vex_manifest *manifest, const vex_snapshot *known,
                             vex_snapshot **out);

/* The form of code rows that all its files should have, as one graph needs: the highest of theirs
 * within the range; 0 when there are no files. */
uint32_t vex_snapshot_code_tag(const vex_snapshot *snapshot);
/* What a new file may have so that it does not fall behind that. */
vex_code_range vex_snapshot_code_range(const vex_snapshot *snapshot);

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

/* First step of a batch, on a private snapshot: kill the older versions that it replaces (all its
 * non-PUT ops) in files and sealed memtables.  Of these, unknown seqs are ignored.
 * VEX_ERR_DIMENSION when its vectors do not fit; VEX_ERR_CORRUPT when the seq of a PUT does not
 * come after all others.  On failure the snapshot
 * can only be released. */
vex_status vex_snapshot_apply(vex_snapshot *snapshot, const vex_batch *batch, uint64_t lsn);
/* Second step: with the batch prepared in the newest memtable and applied here, make it so. */
void vex_snapshot_commit(vex_snapshot *snapshot, const vex_batch *batch, uint64_t lsn);

/* Do files have dead rows that the manifest does not know of? */
bool vex_snapshot_tombs_changed(const vex_snapshot *snapshot);

/* Reads payload rows wherever they are.  One per thread and call; the snapshot outlives it. */
typedef struct vex_snapshot_reader vex_snapshot_reader;
vex_status vex_snapshot_reader_create(const vex_snapshot *snapshot, vex_snapshot_reader **out);
/* Rows are read here and there: see vex_block_reader_share. */
void vex_snapshot_reader_share(vex_snapshot_reader *reader);
void vex_snapshot_reader_destroy(vex_snapshot_reader *reader);
/* The payload will be read soon: have the place of its id fetched. */
void vex_snapshot_expect_payload(const vex_snapshot *snapshot, const vex_row_ref *ref);
/* seq and id, and at least `parts` (VEX_PAYLOAD_*); pointers are valid until the next call. */
vex_status vex_snapshot_read_payload(vex_snapshot_reader *reader, const vex_row_ref *ref,
                                     uint32_t parts, vex_payload *out);
/* Vector row widened to dst[dimension]. */
void vex_snapshot_read_vector(const vex_snapshot *snapshot, const vex_row_ref *ref, float *dst);

/* Walks all live payload rows in seq order (k-way merge over the sources).  The snapshot outlives
 * it. */
typedef struct vex_seq_cursor vex_seq_cursor;
vex_status vex_seq_cursor_create(const vex_snapshot *snapshot, vex_seq_cursor **out);
bool vex_seq_cursor_next(vex_seq_cursor *cursor, vex_row_ref *out);
/* Pass over the next `n` rows without looking at each; returns how many there were. */
uint64_t vex_seq_cursor_skip(vex_seq_cursor *cursor, uint64_t n);
void vex_seq_cursor_destroy(vex_seq_cursor *cursor);

#endif
