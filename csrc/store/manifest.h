/*
 * manifest.h - the commit point of a collection: which files make it up.
 *
 * manifest-%020u, number = generation.  The newest must be valid (it was synced before its
 * rename); older ones are leftovers.  A commit writes generation g+1 atomically.
 *
 * Layout: 64-byte header { magic 8 "VXMF\r\n\x1a\n", u16 major, u16 minor, u32 body length,
 *   database uuid 16, u64 generation, lineage 16, u32 flags, u32 crc32c of header[0..59] + body },
 * body { u32 space, u32 dimension, u64 lsn (newest in the files), u64 next_seq, u64 live_rows,
 *   u64 wal_first, u64 next_file_no, u32 n_files, u32 keys_len, collection uuid 16,
 *   n_files * entry, keys blob (MessagePack map key -> type mask) }.
 * flags 1 forked: `lineage` is the uuid of the collection that the first fork was of, and all logs
 *   carry it in the place of the collection's own; without the flag 0.
 * Entry, 96 B: u32 kind, u32 owner (0), u64 file_no,
 *   u64 size, u32 crc (footer crc of the container), u32 rows, u64 seq_lo, u64 seq_hi, u64 lsn_lo,
 *   u64 lsn_hi, u64 tombs_file_no (0 = none), u64 tombs_size, u32 tombs_crc, u32 dead_rows, 8 B 0.
 */
#ifndef VEX_STORE_MANIFEST_H
#define VEX_STORE_MANIFEST_H

#include "base/mem.h"
#include "io/vfs.h"
#include "store/format.h"

typedef struct vex_file_entry {
    uint32_t kind, owner;
    uint64_t file_no, size;
    uint32_t crc, rows;
    uint64_t seq_lo, seq_hi, lsn_lo, lsn_hi;
    uint64_t tombs_file_no, tombs_size;
    uint32_t tombs_crc, dead_rows;
} vex_file_entry;

typedef struct vex_manifest {
    uint64_t generation;
    uint8_t collection[16];
    uint8_t lineage[16];       /* uuid that its logs carry: of the collection that its line of forks began
                                  with, which may be itself (all zeros mean that, too, when written)      */
    uint32_t space, dimension;
    uint64_t lsn, next_seq, live_rows, wal_first, next_file_no;
    vex_file_entry *files;     /* in the order they were added: newest last                       */
    uint32_t n_files;
    vex_buf keys;              /* MessagePack map key -> type mask, for the sealed rows           */
} vex_manifest;

void vex_manifest_clear(vex_manifest *manifest);
vex_status vex_manifest_copy(vex_manifest *to, const vex_manifest *from);

/* "manifest-00000000000000000007". */
#define VEX_FILE_NAME_MAX 40
void vex_manifest_name(char out[VEX_FILE_NAME_MAX], uint64_t generation);
/* Newest generation present in `dir`; 0 when none. */
vex_status vex_manifest_newest(vex_vfs *vfs, const char *dir, uint64_t *generation);
vex_status vex_manifest_read(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             uint64_t generation, vex_manifest *out);
/* The same for one that may be damaged: a single flipped bit is put right, and what was added behind its
 * end is ignored. */
vex_status vex_manifest_salvage(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                                uint64_t generation, vex_manifest *out);
/* The error for one that names another collection than its directory does. */
vex_status vex_manifest_is_foreign(const char *dir, uint64_t generation);
/* Is it a fork? */
bool vex_manifest_is_fork(const vex_manifest *manifest);
/* The database that the newest manifest names.  CORRUPT; NOT_FOUND when there is none. */
vex_status vex_manifest_owner(vex_vfs *vfs, const char *dir, uint8_t uuid[16]);
/* VEX_ERR_CORRUPT when no reader would take it: to be called before it is written. */
vex_status vex_manifest_check(const vex_manifest *manifest, const char *dir);
/* Write manifest->generation durably; this is the commit.  `sync` false for volatile/off. */
vex_status vex_manifest_write(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                              const vex_manifest *manifest, bool sync);
/* Remove what the manifest does not need: .tmp files, older manifests, unlisted numbered files,
 * logs below wal_first.  Failures to remove are ignored (tried again at the next open).
 * `unfinished_logs`: wal-*.tmp too; only when nobody can be beginning a log now. */
void vex_manifest_remove_leftovers(vex_vfs *vfs, const char *dir, const vex_manifest *manifest,
                                   bool unfinished_logs);
/* Is `name` one of them? */
bool vex_manifest_is_leftover(const vex_manifest *manifest, const char *name, bool unfinished_logs);
/* The names of what it would remove. */
vex_status vex_manifest_leftovers(vex_vfs *vfs, const char *dir, const vex_manifest *manifest,
                                  vex_list_visitor visit, void *context);
bool vex_manifest_has_leftovers(vex_vfs *vfs, const char *dir, const vex_manifest *manifest);
/* Did whoever made `dir` die before its first manifest had its name?  Then `dir` is empty or holds
 * that manifest's .tmp file, and nothing else. */
vex_status vex_manifest_never_written(vex_vfs *vfs, const char *dir, bool *never);

/* "vec-000000000007.vxv" and so on. */
void vex_file_name(char out[VEX_FILE_NAME_MAX], vex_file_kind kind, uint64_t file_no);
/* Is this the name of such a file?  Of a manifest? */
bool vex_manifest_number(const char *name, uint64_t *generation);
bool vex_file_number(const char *name, vex_file_kind kind, uint64_t *file_no);

#endif
