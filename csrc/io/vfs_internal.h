/*
 * vfs_internal.h - what the implementations of vex_vfs share; not for other layers.
 */
#ifndef VEX_IO_VFS_INTERNAL_H
#define VEX_IO_VFS_INTERNAL_H

#include "io/vfs.h"

/* Fail as the table in vfs.h says: `what` ("cannot open file") failed on `path` by `sys_errno`. */
vex_status vex_vfs_fail(const char *path, int sys_errno, const char *what)
    __attribute__((cold));

/* `path` cannot be opened as a file.  A directory (EISDIR), a link that leads nowhere (ELOOP) or
 * something that is neither (ENXIO) in the place of a file is damage. */
vex_status vex_vfs_fail_open(const char *path, int sys_errno)
    __attribute__((cold));

/* A file is shorter than what was to be mapped. */
vex_status vex_vfs_fail_short(const char *path, uint64_t expected, uint64_t found)
    __attribute__((cold));

/* Clock, sleep, randomness and boot id of this machine, for every implementation. */
uint64_t vex_system_clock_ms(vex_vfs *vfs);
void vex_system_sleep_ms(vex_vfs *vfs, uint32_t ms);
vex_status vex_system_random_bytes(vex_vfs *vfs, void *dst, size_t len);
uint64_t vex_system_boot_id(vex_vfs *vfs);
uint64_t vex_system_map_resident(vex_vfs *vfs, const uint8_t *map, uint64_t size);
/* lock_holder.c; `vfs` has the file */
void vex_system_lock_holder(vex_vfs *vfs, const char *path, vex_lock_holder *out);

#endif
