/*
 * vfs_trace.h - a vfs that records every change made through it; only in builds with VEX_TESTING.
 *
 * The inner vfs does the work (the memory vfs, in practice: files are told apart by their inode
 * numbers, which it never gives twice).  What changed, and what was synced, in the order in which
 * it happened, is the trace; whoever runs the work adds marks ("batch 7 acknowledged").  Calls
 * that fail change nothing and are not recorded, but for syncs that were made to fail.  From a trace, io/crash_disk.h makes the disks
 * that a power failure may leave.
 *
 * Random bytes come from the seed, so that the same work gives the same trace.
 *
 * A killed process: from a given operation on every call fails, as if it were never made, while
 * the page cache (the inner vfs) keeps what was written, synced or not.  Afterwards the next
 * process goes on, in the same trace.
 */
#ifndef VEX_IO_VFS_TRACE_H
#define VEX_IO_VFS_TRACE_H

#include "io/vfs.h"

typedef enum vex_trace_kind {
    VEX_TRACE_CREATE,     /* node got its first name: path in dir                                */
    VEX_TRACE_WRITE,      /* bytes[len] at offset                                                */
    VEX_TRACE_RESIZE,     /* to size                                                             */
    VEX_TRACE_ALLOCATE,   /* grown to size, if smaller                                           */
    VEX_TRACE_RENAME,     /* path to to_path, in one directory                                   */
    VEX_TRACE_LINK,       /* to_path in dir is another name of node                              */
    VEX_TRACE_REMOVE,
    VEX_TRACE_MKDIR,
    VEX_TRACE_RMDIR,
    VEX_TRACE_SYNC,       /* the file, as fsync                                                  */
    VEX_TRACE_SYNC_DATA,
    VEX_TRACE_SYNC_FAILED, /* either of them, with an error                                      */
    VEX_TRACE_SYNC_DIR,   /* node is the directory                                               */
    VEX_TRACE_MARK        /* no change: mark, value                                              */
} vex_trace_kind;

typedef struct vex_trace_op {
    vex_trace_kind kind;
    uint32_t node;        /* inode number concerned                                              */
    uint32_t dir;         /* of the directory whose names change                                 */
    char *path, *to_path; /* NULL when there is none                                             */
    uint64_t offset, size;
    uint8_t *bytes;
    size_t len;
    uint32_t mark;
    uint64_t value;
} vex_trace_op;

typedef struct vex_trace {
    vex_trace_op *ops;
    size_t n, capacity;
} vex_trace;

vex_status vex_vfs_trace_create(vex_vfs *inner, uint64_t seed, vex_vfs **out);
void vex_vfs_trace_destroy(vex_vfs *vfs); /* the inner vfs stays */

void vex_vfs_trace_mark(vex_vfs *vfs, uint32_t mark, uint64_t value);
/* What was recorded up to now; lives as long as the vfs, and moves when it grows. */
const vex_trace *vex_vfs_trace_get(vex_vfs *vfs);

/* Kill the process before operation `n` of the trace; UINT64_MAX: let the next one live.  `victim`: only
 * calls through this copy of the vfs are dead, when it is not NULL. */
void vex_vfs_trace_kill_at(vex_vfs *vfs, uint64_t n, const vex_vfs *victim);
bool vex_vfs_trace_killed(vex_vfs *vfs);

/* Fail the n-th sync of a file from now, once; 0: none. */
void vex_vfs_trace_fail_sync(vex_vfs *vfs, uint64_t n);
/* The operation that is this failure in the trace; SIZE_MAX: it was not met. */
size_t vex_vfs_trace_failed(vex_vfs *vfs);

/* One line about an operation. */
void vex_trace_describe(const vex_trace_op *op, char *out, size_t size);

#endif
