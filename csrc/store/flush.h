/*
 * flush.h - turn sealed memtables into a vector file and a payload file.
 *
 * Input is the snapshot as it was when the newest of the memtables was sealed: behind the sealed
 * memtables it has only empty ones.  The files hold the state as of its lsn and nothing newer,
 * because what is newer may not be durable yet: rows dead by then are left out, older files get
 * tombstone versions as of then, and files without any live row are dropped.  What happened
 * since is still in the log, and in memory: vex_flush_carry takes it over.
 */
#ifndef VEX_STORE_FLUSH_H
#define VEX_STORE_FLUSH_H

#include "store/snapshot.h"

typedef struct vex_flush_result {
    vex_manifest manifest;      /* complete next manifest, not yet written                        */
    bool has_rows;              /* false: every row was dead; only tombstones were written        */
    vex_vec_source vec;         /* new files, opened; file NULL when there are no such rows       */
    vex_pay_source pay;
} vex_flush_result;

/* `sealed` has n_flush memtables to flush (the oldest ones); `base` is the newest manifest.
 * Writes the files durably (unless !sync) except for the manifest itself.  `keys` is the
 * MessagePack map for the next manifest; wal_first its first log.  On failure files may be left
 * over, which no manifest lists. */
vex_status vex_flush_write(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                           const vex_snapshot *sealed, uint32_t n_flush,
                           const vex_manifest *base, const vex_buf *keys, uint64_t wal_first,
                           bool sync, vex_flush_result *out);
/* Replace the flushed memtables of the private snapshot `next` by the new files, killing in
 * them the rows that died since `sealed`, and set its generation.  VEX_ERR_INVALID when `next`
 * does not descend from `sealed`.  On failure `next` can only be released. */
vex_status vex_flush_carry(const vex_flush_result *result, const vex_snapshot *sealed,
                           uint32_t n_flush, vex_snapshot *next);
void vex_flush_result_clear(vex_flush_result *result); /* a zeroed one is fine */

#endif
