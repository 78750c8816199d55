/*
 * vfs.h - the system-call seam: the only way from the engine to files, clock and randomness.
 *
 * A vex_vfs is a table of about twenty calls.  Implementations: posix (real files), memory (a
 * private tree in RAM; the database of EphemeralClient), and in test builds wrappers that fail
 * the N-th call, keep a live/durable pair of images, or record a trace.
 *
 * Every call returns VEX_OK or fills the thread's error with the path and errno:
 *   ENOENT -> VEX_ERR_NOT_FOUND, EACCES/EPERM/EROFS -> VEX_ERR_PERMISSION,
 *   ENOSPC/EDQUOT/EFBIG -> VEX_ERR_NO_SPACE, EEXIST -> VEX_ERR_EXISTS, ENOMEM -> NO_MEMORY,
 *   anything else -> VEX_ERR_IO.
 * What is opened and is no plain file (a directory, a pipe, a link to nothing) is VEX_ERR_CORRUPT.
 * Short transfers and EINTR are dealt with here and nowhere else: read returns fewer bytes only
 * at end of file, write writes all or fails.
 *
 * Thread-safe, except that one vex_file's close must not race with its other calls.
 */
#ifndef VEX_IO_VFS_H
#define VEX_IO_VFS_H

#include "base/status.h"

#include <stdbool.h>

typedef struct vex_vfs vex_vfs;
typedef struct vex_file vex_file;

typedef enum vex_file_mode {
    VEX_FILE_READ,        /* existing file, read only                                            */
    VEX_FILE_WRITE,       /* existing file, read and write                                       */
    VEX_FILE_CREATE,      /* create or open, read and write                                      */
    VEX_FILE_CREATE_NEW   /* create, VEX_ERR_EXISTS when there; read and write                   */
} vex_file_mode;

typedef struct vex_iovec {
    const void *data;
    size_t len;
} vex_iovec;

typedef struct vex_file_stat {
    uint64_t size;
    uint64_t device, inode;   /* identity of the file                                            */
    bool is_directory;
    uint64_t names;           /* of the file: more than one after path_link                      */
} vex_file_stat;

typedef struct vex_disk_space {
    uint64_t size, left;      /* bytes of the file system, and those that we may still take       */
} vex_disk_space;

typedef enum vex_advice {
    VEX_ADVISE_RANDOM,
    VEX_ADVISE_SEQUENTIAL,
    VEX_ADVISE_WILLNEED,
    VEX_ADVISE_DONTNEED   /* whole pages in it are not of the process until they are used again    */
} vex_advice;

typedef vex_status (*vex_list_visitor)(void *context, const char *name);

struct vex_vfs {
    const char *name;
    bool is_volatile;     /* contents die with the process: logging and syncing are pointless     */
    void *context;

    vex_status (*file_open)(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out);
    void (*file_close)(vex_vfs *vfs, vex_file *file);
    vex_status (*file_read)(vex_vfs *vfs, vex_file *file, void *dst, size_t len, uint64_t offset,
                            size_t *got);
    vex_status (*file_write)(vex_vfs *vfs, vex_file *file, const vex_iovec *parts,
                             uint32_t n_parts, uint64_t offset);
    vex_status (*file_truncate)(vex_vfs *vfs, vex_file *file, uint64_t size);
    vex_status (*file_allocate)(vex_vfs *vfs, vex_file *file, uint64_t offset, uint64_t len);
                                /* reserve space, keeps content; the size becomes offset + len
                                 * when smaller.  Unsupported file system: VEX_OK, size as it was */
    vex_status (*file_sync)(vex_vfs *vfs, vex_file *file);      /* data and metadata; F_FULLFSYNC */
    vex_status (*file_sync_data)(vex_vfs *vfs, vex_file *file); /* data, and the size             */
    vex_status (*file_stat)(vex_vfs *vfs, vex_file *file, vex_file_stat *out);
    /* Lock the whole file exclusively (flock).  *locked = false when another holder has it.
     * Blocks never. */
    vex_status (*file_try_lock)(vex_vfs *vfs, vex_file *file, bool *locked);
    void (*file_unlock)(vex_vfs *vfs, vex_file *file);
    /* Which other process has a lock on the file, as far as the system tells.  By its path, because to
     * open and close a file drops the record locks that this process has on it (SQLite's are such). */
    void (*path_lock_holder)(vex_vfs *vfs, const char *path, vex_lock_holder *out);
    /* Map [0, size) read-only; the mapping outlives file_close and unlinking.  Aligned to 64
     * bytes at least; size 0 maps too.  VEX_ERR_CORRUPT when the file is shorter than size.
     * Writes inside the mapped range may or may not show; the file must not be cut below size. */
    vex_status (*file_map)(vex_vfs *vfs, vex_file *file, uint64_t size, const uint8_t **out);
    void (*file_unmap)(vex_vfs *vfs, const uint8_t *map, uint64_t size);
    void (*map_advise)(vex_vfs *vfs, const uint8_t *map, uint64_t size, vex_advice advice);
    /* Bytes of the process's memory that a part of a mapping takes now, in whole pages.  The system's
     * cache of the file is not counted, nor what is counted as allocated anyway (a tree in memory:
     * 0). */
    uint64_t (*map_resident)(vex_vfs *vfs, const uint8_t *map, uint64_t size);

    vex_status (*path_stat)(vex_vfs *vfs, const char *path, vex_file_stat *out);
    vex_status (*path_rename)(vex_vfs *vfs, const char *from, const char *to);
    vex_status (*path_link)(vex_vfs *vfs, const char *from, const char *to);
    vex_status (*path_remove)(vex_vfs *vfs, const char *path);           /* file                  */
    vex_status (*dir_create)(vex_vfs *vfs, const char *path);            /* one level; EXISTS     */
    vex_status (*dir_remove)(vex_vfs *vfs, const char *path);            /* empty directory       */
    vex_status (*dir_sync)(vex_vfs *vfs, const char *path);
    vex_status (*dir_list)(vex_vfs *vfs, const char *path, vex_list_visitor visit, void *context);
                                /* without . and ..; stops at the first failing visit            */
    vex_status (*disk_space)(vex_vfs *vfs, const char *path, vex_disk_space *out);

    uint64_t (*clock_ms)(vex_vfs *vfs);                                  /* monotonic             */
    void (*sleep_ms)(vex_vfs *vfs, uint32_t ms);
    vex_status (*random_bytes)(vex_vfs *vfs, void *dst, size_t len);
    /* A value that changes with every boot of the machine (0 when the system does not tell). */
    uint64_t (*boot_id)(vex_vfs *vfs);
};

/* Real files; one static instance. */
vex_vfs *vex_vfs_posix(void);

/* A new, empty tree in memory with the root directory "/"; destroy frees everything in it
 * (mappings of its files must be gone). */
vex_status vex_vfs_memory_create(vex_vfs **out);
void vex_vfs_memory_destroy(vex_vfs *vfs);

/* ---- conveniences over any vfs (vfs_util.c) ---- */

#define VEX_PATH_MAX 4096
/* "dir/name" into out[VEX_PATH_MAX]; VEX_ERR_TOO_BIG when it does not fit. */
vex_status vex_path_join(char *out, const char *dir, const char *name);

/* Read exactly len bytes or fail with VEX_ERR_CORRUPT ("truncated"). */
vex_status vex_file_read_exact(vex_vfs *vfs, vex_file *file, const char *path, void *dst,
                               size_t len, uint64_t offset);

/* Write bytes as `dir/name` so that after a crash the file is there whole or not at all:
 * name.tmp, file_sync, path_rename, dir_sync.  `sync` false leaves the syncs out. */
vex_status vex_file_write_atomic(vex_vfs *vfs, const char *dir, const char *name,
                                 const void *data, size_t len, bool sync);

/* Make `to` a copy of the first `len` bytes of `from`; UINT64_MAX: of all there are.  Durable when
 * `sync`, but for its name.  VEX_ERR_CORRUPT when `from` is shorter.  What a failure leaves of `to`
 * is removed, if it can be. */
vex_status vex_file_copy(vex_vfs *vfs, const char *from, const char *to, uint64_t len, bool sync);

/* Give the file `from` the second name `to`, or make `to` a copy of its `size` bytes where there are no
 * links: another file system, one without them, too many, a file of somebody else. */
vex_status vex_file_share(vex_vfs *vfs, const char *from, const char *to, uint64_t size, bool sync,
                          bool *linked);

/* Make what is in a file durable. */
vex_status vex_file_sync(vex_vfs *vfs, const char *path);

/* Remove a directory with everything in it; a missing one is fine. */
vex_status vex_dir_remove_all(vex_vfs *vfs, const char *path);

/* The environment variable, or NULL; the only getenv of the engine. */
const char *vex_environment(const char *name);

#endif
