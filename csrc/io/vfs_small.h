/*
 * vfs_small.h - a disk of limited size, around another vfs; only in builds with VEX_TESTING.
 *
 * A file costs its bytes, and every name of a file or directory VEX_SMALL_NAME bytes.  What does not
 * fit fails with ENOSPC: a write after the bytes that do fit, everything else as a whole.  As on a
 * real disk, writing over what is there costs nothing, and the bytes of a file are free again when it
 * has no name and is neither open nor mapped.
 *
 * Files are those of the inner vfs, which must hold nothing yet, and stay usable through it.
 */
#ifndef VEX_IO_VFS_SMALL_H
#define VEX_IO_VFS_SMALL_H

#include "io/vfs.h"

#define VEX_SMALL_NAME 64

vex_status vex_vfs_small_create(vex_vfs *inner, uint64_t bytes, vex_vfs **out);
void vex_vfs_small_destroy(vex_vfs *vfs); /* the inner vfs stays */

/* Another size from now on; it may be less than what is used. */
void vex_vfs_small_resize(vex_vfs *vfs, uint64_t bytes);
/* disk_space() tells of a disk without limit: a quota, which shows only when it is reached. */
void vex_vfs_small_hide(vex_vfs *vfs, bool hide);

uint64_t vex_vfs_small_used(vex_vfs *vfs);
uint64_t vex_vfs_small_most(vex_vfs *vfs);    /* that was ever used                               */
uint64_t vex_vfs_small_refused(vex_vfs *vfs); /* calls that failed for want of space              */

#endif
