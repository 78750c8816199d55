/*
 * head.h - <collection>/head: where committed data ends, for the other processes.
 *
 * 64 bytes { magic 8 "VXHD\r\n\x1a\n", u64 boot id, u64 manifest generation, u64 log number,
 *   u64 end of committed records in that log, u64 lsn, u64 recovery, 4 B 0, u32 crc32c of the
 * collection's uuid and 0..59 }, written in place after every commit and read back before every call.  It is a hint, not a truth: it is
 * never synced, counts only when its checksum holds (which the head of another collection
 * fails, as its file does not name it) and it was written since this boot, and the
 * manifest and the logs say the same without it.
 *
 * Readers in other processes stop at its end, so they never see a record that its writer has
 * not acknowledged.  A writer that finds bytes behind the end knows that another one died there.
 *
 * When a sync fails, records may be gone that readers were shown already.  So whoever reads the logs
 * without a valid head draws a new number of the recovery: others read everything anew then.
 *
 * Generation VEX_HEAD_DROPPED announces that the directory is about to be removed, or replaced by a
 * repaired one: who still has the file open looks whether it is gone.
 */
#ifndef VEX_DB_HEAD_H
#define VEX_DB_HEAD_H

#include "io/vfs.h"

#define VEX_HEAD_DROPPED UINT64_MAX

typedef struct vex_head {
    uint64_t generation, wal_number, wal_end, lsn, recovery;
} vex_head;

static inline bool vex_head_equal(const vex_head *a, const vex_head *b) {
    return a->generation == b->generation && a->wal_number == b->wal_number &&
           a->wal_end == b->wal_end && a->lsn == b->lsn && a->recovery == b->recovery;
}

/* *valid = false when there is none, or it is torn, damaged, another
 * collection's or from before the last boot. */
vex_status vex_head_read(vex_vfs *vfs, vex_file *file, const uint8_t collection[16], vex_head *out,
                         bool *valid);
/* *sound: whole, from whatever boot, or void, or not written yet. */
vex_status vex_head_check(vex_vfs *vfs, vex_file *file, const uint8_t collection[16], bool *sound);
vex_status vex_head_write(vex_vfs *vfs, vex_file *file, const uint8_t collection[16],
                          const vex_head *head);
/* Is the head of directory `dir` another file than this one by now, or gone? */
vex_status vex_head_is_replaced(vex_vfs *vfs, vex_file *file, const char *dir, bool *replaced);
/* Have it count no longer: who writes next then reads the logs to their end and writes them again. */
vex_status vex_head_void(vex_vfs *vfs, vex_file *file);

#endif
