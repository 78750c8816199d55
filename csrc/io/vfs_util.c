/*
 * vfs_util.c - conveniences over any vex_vfs, and the one way system errors become statuses.
 */
#include "base/mem.h"
#include "io/vfs.h"
#include "io/vfs_internal.h"

#include "base/poison.h"

/* ---- errors ---- */

static vex_status status_of_errno(int sys_errno) {
    switch (sys_errno) {
    case ENOENT:
        return VEX_ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return VEX_ERR_PERMISSION;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return VEX_ERR_NO_SPACE;
    case EEXIST:
        return VEX_ERR_EXISTS;
    case ENOMEM:
        return VEX_ERR_NO_MEMORY;
    default:
        return VEX_ERR_IO;
    }
}

static const char *hint_for_errno(int sys_errno) {
    switch (sys_errno) {
    case ENOSPC:
        return "; free some space and try again";
    case EDQUOT:
        return "; raise the quota or remove files";
    case EMFILE:
        return "; raise the limit of open files (ulimit -n)";
    case EROFS:
        return "; open the database read-only";
    default:
        return "";
    }
}

/* strerror_r() comes in two kinds: POSIX returns a code, GNU the text itself. */
static inline const char *text_of_code(int code, const char *buffer) {
    return code == 0 ? buffer : "unknown error";
}
static inline const char *text_of_text(char *text, const char *buffer) {
    (void)buffer;
    return text;
}

vex_status vex_vfs_fail(const char *path, int sys_errno, const char *what) {
    char buffer[128] = "";
    const char *reason = _Generic(strerror_r(0, buffer, 1),
        int: text_of_code,
        char *: text_of_text)(strerror_r(sys_errno, buffer, sizeof buffer), buffer);
    return VEX_FAIL_AT(status_of_errno(sys_errno), path, 0, sys_errno, "%s: %s%s", what, reason,
                       hint_for_errno(sys_errno));
}

vex_status vex_vfs_fail_open(const char *path, int sys_errno) {
    const char *what = sys_errno == EISDIR  ? "a directory"
                       : sys_errno == ELOOP ? "a link that leads nowhere"
                       : sys_errno == ENXIO ? "a pipe, a socket or a device"
                                            : NULL;
    return what == NULL ? vex_vfs_fail(path, sys_errno, "cannot open file")
                        : VEX_FAIL_AT(VEX_ERR_CORRUPT, path, 0, sys_errno,
                                      "it is no plain file but %s; restore it from a backup", what);
}

vex_status vex_vfs_fail_short(const char *path, uint64_t expected, uint64_t found) {
    return VEX_FAIL_AT(
        VEX_ERR_CORRUPT, path, found, 0,
        "file is truncated: %llu bytes expected, %llu found; restore it from a backup",
        (unsigned long long)expected, (unsigned long long)found);
}

/* ---- paths and whole files ---- */

vex_status vex_path_join(char *out, const char *dir, const char *name) {
    size_t dir_len = strlen(dir), name_len = strlen(name);
    bool slash = dir_len > 0 && dir[dir_len - 1] != '/';
    if (dir_len >= VEX_PATH_MAX || name_len >= VEX_PATH_MAX ||
        dir_len + slash + name_len >= VEX_PATH_MAX) {
        return VEX_FAIL_AT(VEX_ERR_TOO_BIG, dir, 0, 0,
                           "path too long: this directory and \"%s\" pass %d bytes", name,
                           VEX_PATH_MAX - 1);
    }
    memmove(out, dir, dir_len);
    if (slash) {
        out[dir_len++] = '/';
    }
    memcpy(out + dir_len, name, name_len + 1);
    return VEX_OK;
}

vex_status vex_file_read_exact(vex_vfs *vfs, vex_file *file, const char *path, void *dst,
                               size_t len, uint64_t offset) {
    size_t got;
    VEX_TRY(vfs->file_read(vfs, file, dst, len, offset, &got));
    if (got != len) {
        return VEX_FAIL_AT(
            VEX_ERR_CORRUPT, path, offset + got, 0,
            "file is truncated: %zu bytes expected at offset %llu, %zu found; restore "
            "it from a backup",
            len, (unsigned long long)offset, got);
    }
    return VEX_OK;
}

/* Create or replace the file `path` with these bytes; durable when `sync`. */
static vex_status write_whole(vex_vfs *vfs, const char *path, const void *data, size_t len,
                              bool sync) {
    vex_file *file;
    VEX_TRY(vfs->file_open(vfs, path, VEX_FILE_CREATE, &file));
    vex_iovec part = {data, len};
    vex_status status;
    VEX_TRY_DONE(status, vfs->file_truncate(vfs, file, 0));
    VEX_TRY_DONE(status, vfs->file_write(vfs, file, &part, 1, 0));
    if (sync) {
        status = vfs->file_sync(vfs, file);
    }
done:
    vfs->file_close(vfs, file);
    return status;
}

/* Remove a leftover, whose removal must not hide the error that made it one. */
static void remove_quietly(vex_vfs *vfs, const char *path) {
    vex_error kept = *vex_last_error();
    if (vfs->path_remove(vfs, path) != VEX_OK) {
        vex_fail_at(kept.code, kept.path, kept.offset, kept.sys_errno, "%s", kept.message);
    }
}

vex_status vex_file_write_atomic(vex_vfs *vfs, const char *dir, const char *name, const void *data,
                                 size_t len, bool sync) {
    char path[VEX_PATH_MAX], temporary[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, dir, name));
    size_t path_len = strlen(path);
    if (path_len + sizeof ".tmp" > VEX_PATH_MAX) {
        return VEX_FAIL_AT(VEX_ERR_TOO_BIG, path, 0, 0, "path too long: over %d bytes",
                           VEX_PATH_MAX - 1);
    }
    memcpy(temporary, path, path_len);
    memcpy(temporary + path_len, ".tmp", sizeof ".tmp");

    vex_status status = write_whole(vfs, temporary, data, len, sync);
    if (status == VEX_OK) {
        status = vfs->path_rename(vfs, temporary, path);
    }
    if (status != VEX_OK) {
        remove_quietly(vfs, temporary);
        return status;
    }
    return sync ? vfs->dir_sync(vfs, dir) : VEX_OK;
}

#define COPY_STEP ((size_t)1 << 20)

/* Read, not mapped: a disk that fails is an error then, and no signal. */
static vex_status copy_bytes(vex_vfs *vfs, vex_file *from, const char *from_path, vex_file *to,
                             uint64_t len, uint8_t *step) {
    for (uint64_t at = 0; at < len;) {
        size_t wanted = len - at < COPY_STEP ? (size_t)(len - at) : COPY_STEP, got = 0;
        VEX_TRY(vfs->file_read(vfs, from, step, wanted, at, &got));
        if (got > 0) {
            const vex_iovec part = {step, got};
            VEX_TRY(vfs->file_write(vfs, to, &part, 1, at));
        }
        at += got;
        if (got < wanted) {
            return len == UINT64_MAX ? VEX_OK : vex_vfs_fail_short(from_path, len, at);
        }
    }
    return VEX_OK;
}

vex_status vex_file_copy(vex_vfs *vfs, const char *from, const char *to, uint64_t len, bool sync) {
    vex_file *source = NULL, *target = NULL;
    vex_status status;
    uint8_t *step = vex_malloc(COPY_STEP);
    if (step == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot copy a file");
    }
    VEX_TRY_DONE(status, vfs->file_open(vfs, from, VEX_FILE_READ, &source));
    VEX_TRY_DONE(status, vfs->file_open(vfs, to, VEX_FILE_CREATE, &target));
    VEX_TRY_DONE(status, vfs->file_truncate(vfs, target, 0));
    VEX_TRY_DONE(status, copy_bytes(vfs, source, from, target, len, step));
    if (sync) {
        status = vfs->file_sync(vfs, target);
    }
done:
    vex_free(step);
    vfs->file_close(vfs, source);
    vfs->file_close(vfs, target);
    if (status != VEX_OK && target != NULL) {
        remove_quietly(vfs, to);
    }
    return status;
}

/* ---- removing a tree ----
 *
 * Iterative: `path` is the directory being emptied; it grows by one name to descend and shrinks
 * to go back up.  Directories are told from files by which removal the system accepts, never by
 * following a link, so a symbolic link is removed and what it points to is left alone. */

#define NAME_BYTES 1024

typedef struct removal {
    vex_vfs *vfs;
    char path[VEX_PATH_MAX];
    char subdirectory[NAME_BYTES]; /* a directory met that is not empty; "" none */
} removal;

static bool has_no_links(vex_status status) {
    int reason = vex_last_error()->sys_errno;
    return status != VEX_OK && (reason == EXDEV || reason == EPERM || reason == EMLINK ||
                                reason == ENOTSUP || reason == EOPNOTSUPP || reason == ENOSYS);
}

vex_status vex_file_share(vex_vfs *vfs, const char *from, const char *to, uint64_t size, bool sync,
                          bool *linked) {
    vex_status status = vfs->path_link(vfs, from, to);
    *linked = status == VEX_OK;
    return has_no_links(status) ? vex_file_copy(vfs, from, to, size, sync) : status;
}

vex_status vex_file_sync(vex_vfs *vfs, const char *path) {
    vex_file *file = NULL;
    VEX_TRY(vfs->file_open(vfs, path, VEX_FILE_READ, &file));
    vex_status status = vfs->file_sync(vfs, file);
    vfs->file_close(vfs, file);
    return status;
}

static bool is_not_empty(vex_status status) {
    int sys_errno = vex_last_error()->sys_errno;
    return status != VEX_OK && (sys_errno == ENOTEMPTY || sys_errno == EEXIST);
}

static vex_status remove_entry(void *context, const char *name) {
    removal *r = context;
    char child[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(child, r->path, name));
    vex_status status = r->vfs->path_remove(r->vfs, child);
    if (status == VEX_OK || status == VEX_ERR_NOT_FOUND) {
        return VEX_OK;
    }
    vex_error as_file = *vex_last_error();
    status = r->vfs->dir_remove(r->vfs, child);
    if (status == VEX_OK || status == VEX_ERR_NOT_FOUND) {
        return VEX_OK;
    }
    if (is_not_empty(status)) {
        if (strlen(name) >= sizeof r->subdirectory) {
            return VEX_FAIL_AT(VEX_ERR_TOO_BIG, child, 0, 0, "cannot remove: name too long");
        }
        memcpy(r->subdirectory, name, strlen(name) + 1);
        return VEX_OK;
    }
    if (vex_last_error()->sys_errno == ENOTDIR) { /* a file: the first error is the true one */
        return vex_fail_at(as_file.code, as_file.path, 0, as_file.sys_errno, "%s", as_file.message);
    }
    return status;
}

/* Somebody who keeps creating files must not keep us here for ever. */
#define REMOVE_ROUNDS_MAX 64

static vex_status remove_tree(removal *r) {
    size_t root_len = strlen(r->path);
    for (int fruitless = 0; fruitless < REMOVE_ROUNDS_MAX;) {
        r->subdirectory[0] = '\0';
        vex_status status = r->vfs->dir_list(r->vfs, r->path, remove_entry, r);
        if (status == VEX_OK && r->subdirectory[0] != '\0') {
            VEX_TRY(vex_path_join(r->path, r->path, r->subdirectory));
            continue;
        }
        if (status == VEX_OK) {
            status = r->vfs->dir_remove(r->vfs, r->path);
        }
        if (is_not_empty(status)) {
            fruitless++;
            continue;
        }
        if (status != VEX_OK && status != VEX_ERR_NOT_FOUND) {
            return status;
        }
        if (strlen(r->path) <= root_len) {
            return VEX_OK;
        }
        *strrchr(r->path, '/') = '\0';
    }
    return VEX_FAIL_AT(VEX_ERR_BUSY, r->path, 0, ENOTEMPTY,
                       "cannot remove directory: files keep appearing in it");
}

vex_status vex_dir_remove_all(vex_vfs *vfs, const char *path) {
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    if (len >= VEX_PATH_MAX) {
        return VEX_FAIL_AT(VEX_ERR_TOO_BIG, path, 0, 0, "path too long: over %d bytes",
                           VEX_PATH_MAX - 1);
    }
    removal *r = vex_malloc(sizeof *r);
    if (r == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot remove a directory");
    }
    r->vfs = vfs;
    memcpy(r->path, path, len);
    r->path[len] = '\0';
    vex_status status = remove_tree(r);
    vex_free(r);
    return status;
}
