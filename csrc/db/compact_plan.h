/*
 * compact_plan.h - which files are worth merging, and when dead rows are worth a flush.
 *
 * TIERS.  A file with n live rows is of tier floor(log4 n).  Four or more files of one tier become
 * one file, of the next tier or so.  So a row is copied once per factor of four between the first
 * file it was in and the last, and there are at most three files per tier: 3 * log4(rows) files,
 * however small the flushes.  A factor of two would copy twice as often for a third of the files
 * less; of eight, half as often for twice the files, and each is one more place to look for an id
 * and one more scan to start.
 *
 * DEAD ROWS.  A file is written again when more than a fifth of its rows, and at least 1,000, are
 * dead, or all: then each row copied frees the space of a quarter of a row at least.
 *
 * CODES.  A file whose code rows are of another kind than the collection's (store/snapshot.h), is
 * written again, too: one graph needs one kind.
 *
 * FULL DISKS.  Files are a small part of the disk at most, so that room for a new one can be kept
 * (db/space.c).  Where the new file has no room beside the old ones, files are rewritten one by one, those
 * that need the least first: on a disk that filled up the newest files are small, and each one gives
 * back space for a larger one.
 *
 * STEPS.  One step merges at most VEX_COMPACT_STEP_VECTORS and VEX_COMPACT_STEP_PAYLOADS bytes, and
 * so takes some seconds at most; files that are too large to be merged by fours stay as they are.
 * A single file with many dead rows is written again whatever its size.
 */
#ifndef VEX_DB_COMPACT_PLAN_H
#define VEX_DB_COMPACT_PLAN_H

#include "store/compact.h"

#define VEX_COMPACT_FANOUT 4u
#define VEX_COMPACT_STEP_VECTORS ((uint64_t)256 << 20)
#define VEX_COMPACT_STEP_PAYLOADS ((uint64_t)96 << 20) /* uncompressed                            */
#define VEX_COMPACT_VACUUM_VECTORS ((uint64_t)1 << 30)
#define VEX_RECLAIM_BYTES ((uint64_t)512 << 10)

/* What the background should merge next; false: nothing.  The entries of `snapshot` are those of
 * the newest manifest.  `file_max`: what files may have (vex_db.file_max). */
vex_status vex_plan_background(const vex_snapshot *snapshot, uint64_t file_max,
                               vex_compact_plan *plan, bool *found);
/* The next step on the way to the fewest files without dead rows. */
vex_status vex_plan_vacuum(const vex_snapshot *snapshot, uint64_t file_max, vex_compact_plan *plan,
                           bool *found);

/* When there is no room for either: the file whose dead rows can be shed with the least space, at most
 * `bytes`.  What it gives back may do for the next.  `few`: also where that is little. */
void vex_plan_within(const vex_snapshot *snapshot, uint64_t bytes, bool few,
                     vex_compact_plan *plan, bool *found);
/* Do files hold dead rows? */
bool vex_plan_has_dead(const vex_snapshot *snapshot);

/* Bytes that a flush would give back, or let a merge give back: rows of files that died since the
 * manifest, where it makes a file worth rewriting, and the log's (in memory: the memtable's) rows
 * when most are dead. */
uint64_t vex_plan_reclaimable(const vex_snapshot *snapshot, uint64_t wal_bytes);

#endif
