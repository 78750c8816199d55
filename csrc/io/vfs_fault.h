/*
 * vfs_fault.h - a vfs that fails on demand, around another; only in builds with VEX_TESTING.
 *
 * Calls that can fail are counted from arming on (closing, unmapping and the like cannot and are
 * not).  The N-th fails with the given errno, as if the system had refused it, without reaching
 * the inner vfs.  A test of every failure runs its work once armed with 0, asks how many calls
 * there were, and repeats it failing each.
 */
#ifndef VEX_IO_VFS_FAULT_H
#define VEX_IO_VFS_FAULT_H

#include "io/vfs.h"

vex_status vex_vfs_fault_create(vex_vfs *inner, vex_vfs **out);
void vex_vfs_fault_destroy(vex_vfs *vfs); /* the inner vfs stays */

/* Fail the `nth` call from now (1 = the next), and all after it when `persistent`; 0: none.
 * `short_write`: a failing file_write hands the first half of its bytes on before it fails. */
void vex_vfs_fault_arm(vex_vfs *vfs, uint64_t nth, int sys_errno, bool persistent,
                       bool short_write);

/* Count (and so fail) only calls of these kinds on paths that contain `part` (borrowed; "": all). */
#define VEX_FAULT_WRITE 1  /* what needs space: write, resize, reserve, create, link               */
#define VEX_FAULT_SYNC 2
#define VEX_FAULT_RENAME 4 /* the path is the new name                                             */
#define VEX_FAULT_REMOVE 8
#define VEX_FAULT_OTHER 16 /* open what exists, read, examine, list, lock, map                      */
#define VEX_FAULT_LINK 32  /* link, on its own                                                     */
#define VEX_FAULT_ALL 63
void vex_vfs_fault_only(vex_vfs *vfs, uint32_t kinds, const char *part);

/* A fault that is not persistent fails `n` calls in a row instead of one. */
void vex_vfs_fault_burst(vex_vfs *vfs, uint64_t n);

/* Calls since the last arming. */
uint64_t vex_vfs_fault_calls(vex_vfs *vfs);

#endif
