/*
 * superblock.h - <path>/VEXFS: says that this directory is a vexfs database, and which.
 *
 * 96 bytes: 0 magic 8 "VXSB\r\n\x1a\n"  8 u16 major, u16 minor  12 u32 0  16 database uuid 16
 *   32 u64 reader flags (unknown: refuse)  40 u64 writer flags (unknown: read-only)
 *   48 44 B 0  92 u32 crc32c of 0..91
 * Written once, atomically (vex_file_write_atomic), when the database is created.
 */
#ifndef VEX_STORE_SUPERBLOCK_H
#define VEX_STORE_SUPERBLOCK_H

#include "io/vfs.h"
#include "store/format.h"

#define VEX_SUPERBLOCK_NAME "VEXFS"

typedef struct vex_superblock {
    uint16_t major, minor;
    uint8_t uuid[16];
    uint64_t reader_flags, writer_flags;
} vex_superblock;

/* VEX_ERR_NOT_FOUND when absent, CORRUPT, VERSION (future major or unknown reader flag),
 * FOREIGN (another magic). */
vex_status vex_superblock_read(vex_vfs *vfs, const char *path, vex_superblock *out);
/* Write one with that uuid in the place of whatever is there. */
vex_status vex_superblock_restore(vex_vfs *vfs, const char *path, const uint8_t uuid[16]);
vex_status vex_superblock_create(vex_vfs *vfs, const char *path, vex_superblock *out);

#endif
