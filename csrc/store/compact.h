/*
 * compact.h - merge files of a collection: their live rows go into new files, in order of seq.
 *
 * The input is the newest manifest, not a snapshot: a row counts as dead when the manifest's
 * tombstones say so.  Rows that died since are in the log only, and a replay of the log must find
 * them; so they are copied, and vex_compact_carry kills them in the new files.  The manifest may
 * change between begin and carry in one way: by flushes, which give its files newer tombstones,
 * drop those that have no live row left, and add files.
 *
 * Memory: 40 bytes per vector row (vectors are copied from map to file), and the payloads of one
 * new file, VEX_COMPACT_PAYLOAD_BYTES of them: what is more goes into a further file.
 */
#ifndef VEX_STORE_COMPACT_H
#define VEX_STORE_COMPACT_H

#include "store/snapshot.h"

#define VEX_COMPACT_FILES_MAX 64u                         /* of one kind, at once                 */
#define VEX_COMPACT_PAYLOAD_BYTES ((uint64_t)128 << 20)   /* of one new file, uncompressed        */

/* File numbers of what is to be merged; vector and payload files independently. */
typedef struct vex_compact_plan {
    uint64_t vecs[VEX_COMPACT_FILES_MAX], pays[VEX_COMPACT_FILES_MAX];
    uint32_t n_vecs, n_pays;
} vex_compact_plan;

typedef struct vex_compaction {
    vex_vec_source *vecs;      /* the files to merge, with the manifest's tombstones              */
    vex_pay_source *pays;
    uint32_t n_vecs, n_pays;
    vex_code_range codes;      /* of the new vector file                                          */
    vex_vec_source vec;        /* the new files; file NULL when no vector row is alive            */
    vex_pay_source *new_pays;
    uint32_t n_new_pays;
    uint64_t next_file_no;     /* behind the numbers used                                         */
    uint64_t bytes;            /* of the new files                                                */
} vex_compaction;

/* Collect the planned files of `manifest`, which `snapshot` has open.  VEX_ERR_INVALID when one is
 * not there. */
vex_status vex_compact_begin(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             const vex_snapshot *snapshot, const vex_manifest *manifest,
                             const vex_compact_plan *plan, vex_compaction *out);
/* About how many bytes the new files will have. */
uint64_t vex_compact_estimate(const vex_compaction *compaction);
/* Write them durably (unless !sync), from the number `first_file_no` on; `manifest` tells dimension
 * and space.  VEX_ERR_CORRUPT when a
 * row to copy is damaged.  On failure files may be left over, which no manifest lists. */
vex_status vex_compact_write(vex_compaction *compaction, vex_vfs *vfs, const char *dir,
                             const uint8_t uuid[16], const vex_manifest *manifest,
                             uint64_t first_file_no, bool sync, const vex_pace *pace);
/* The manifest that follows `newest`: the new files in the place of the old ones.  Writes
 * tombstones of rows that died, by `newest`, since the beginning. */
vex_status vex_compact_manifest(vex_compaction *compaction, vex_vfs *vfs, const char *dir,
                                const uint8_t uuid[16], bool sync, const vex_manifest *newest,
                                vex_manifest *out);
/* The same in the private snapshot `next`, killing in the new files what is dead in it, and set
 * its generation.  VEX_ERR_INVALID when its files are not those of the manifest.  On failure it
 * can only be released. */
vex_status vex_compact_carry(const vex_compaction *compaction, const vex_manifest *manifest,
                             vex_snapshot *next);
void vex_compaction_clear(vex_compaction *compaction); /* a zeroed one is fine */

#endif
