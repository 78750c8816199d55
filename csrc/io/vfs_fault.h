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

/* Calls since the last arming. */
uint64_t vex_vfs_fault_calls(vex_vfs *vfs);

#endif
