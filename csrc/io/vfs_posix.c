/*
 * vfs_posix.c - real files, on Linux and macOS.
 *
 * This file alone makes system calls.  It loops over EINTR and short transfers, opens everything
 * with O_CLOEXEC, and keeps descriptors above 2, so that a stray message to a closed stderr
 * cannot land in a data file.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fallocate */
#endif

#include "base/mem.h"
#include "io/vfs.h"
#include "io/vfs_internal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static_assert(sizeof(off_t) == 8, "build with 64-bit file offsets (-D_FILE_OFFSET_BITS=64)");

struct vex_file {
    int fd;
    char path[]; /* for messages */
};

/* macOS refuses single transfers of 2 GiB.  Test builds go round the loops more often. */
#ifdef VEX_TESTING
#define TRANSFER_MAX ((size_t)65521)
#else
#define TRANSFER_MAX ((size_t)1 << 30)
#endif
#define PARTS_MAX 64 /* below every IOV_MAX */

/* Repeat a call that returns -1 and EINTR. */
#define RETRY(result, call)                                                                        \
    do {                                                                                           \
        (result) = (call);                                                                         \
    } while ((result) < 0 && errno == EINTR)

/* ---- open files ---- */

static int open_above_stderr(const char *path, int flags) {
    int fd;
    RETRY(fd, open(path, flags | O_CLOEXEC, 0666));
    if (fd >= 0 && fd <= STDERR_FILENO) {
        int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), sys_errno = errno;
        close(fd);
        errno = sys_errno;
        fd = higher;
    }
    return fd;
}

/* 0 or an errno of vex_vfs_fail_open().  A FIFO or a device would keep whoever opens it waiting, so
 * everything is opened without; who has a lease on a file is waited for, though. */
static int open_plain(const char *path, int flags, int *out) {
    struct stat found;
    int fd = open_above_stderr(path, flags | O_NONBLOCK);
    if (fd < 0 && errno == EWOULDBLOCK) {
        fd = open_above_stderr(path, flags);
    }
    if (fd < 0) {
        int sys_errno = errno;
        bool leads_nowhere =
            sys_errno == ENOENT && lstat(path, &found) == 0 && S_ISLNK(found.st_mode);
        return leads_nowhere ? ELOOP : sys_errno;
    }
    int sys_errno = fstat(fd, &found) != 0   ? errno
                    : S_ISREG(found.st_mode) ? 0
                    : S_ISDIR(found.st_mode) ? EISDIR
                                             : ENXIO;
    if (sys_errno != 0) {
        close(fd);
    }
    *out = fd;
    return sys_errno;
}

static vex_status posix_open(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out) {
    static const int flags[] = {
        [VEX_FILE_READ] = O_RDONLY,
        [VEX_FILE_WRITE] = O_RDWR,
        [VEX_FILE_CREATE] = O_RDWR | O_CREAT,
        [VEX_FILE_CREATE_NEW] = O_RDWR | O_CREAT | O_EXCL,
    };
    (void)vfs;
    size_t path_bytes = strlen(path) + 1;
    vex_file *file = vex_malloc(sizeof *file + path_bytes);
    if (file == NULL) {
        return vex_vfs_fail(path, ENOMEM, "cannot open file");
    }
    memcpy(file->path, path, path_bytes);
    int sys_errno = open_plain(path, flags[mode], &file->fd);
    if (sys_errno != 0) {
        vex_free(file);
        return vex_vfs_fail_open(path, sys_errno);
    }
    vex_stat_add(VEX_STAT_OPEN_FILES, 1);
    *out = file;
    return VEX_OK;
}

static void posix_close(vex_vfs *vfs, vex_file *file) {
    (void)vfs;
    if (file != NULL) {
        close(file->fd); /* never repeated: after EINTR the descriptor is gone already */
        vex_free(file);
        vex_stat_add(VEX_STAT_OPEN_FILES, -1);
    }
}

/* [offset, offset + len) must be addressable by the system. */
static bool range_fits(uint64_t offset, uint64_t len) {
    uint64_t end;
    return !__builtin_add_overflow(offset, len, &end) && end <= INT64_MAX;
}

static vex_status posix_read(vex_vfs *vfs, vex_file *file, void *dst, size_t len, uint64_t offset,
                             size_t *got) {
    (void)vfs;
    size_t done = 0;
    if (!range_fits(offset, len)) {
        return vex_vfs_fail(file->path, EINVAL, "cannot read file");
    }
    while (done < len) {
        size_t wanted = len - done < TRANSFER_MAX ? len - done : TRANSFER_MAX;
        ssize_t n;
        RETRY(n, pread(file->fd, (char *)dst + done, wanted, (off_t)(offset + done)));
        if (n < 0) {
            return vex_vfs_fail(file->path, errno, "cannot read file");
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    *got = done;
    return VEX_OK;
}

/* What is left of a write: `skip` bytes of parts[0] are written. */
typedef struct write_position {
    const vex_iovec *parts;
    uint32_t n_parts;
    size_t skip;
} write_position;

/* Fill `batch` with the next parts, at most TRANSFER_MAX bytes; returns how many entries. */
static int next_batch(const write_position *position, struct iovec *batch) {
    size_t bytes = 0, skip = position->skip;
    int n = 0;
    for (uint32_t i = 0; i < position->n_parts && n < PARTS_MAX && bytes < TRANSFER_MAX; i++) {
        size_t len = position->parts[i].len - skip;
        if (len > TRANSFER_MAX - bytes) {
            len = TRANSFER_MAX - bytes;
        }
        if (len > 0) {
            /* iovec has no const variant; pwritev only reads */
            batch[n].iov_base = (char *)(uintptr_t)position->parts[i].data + skip;
            batch[n++].iov_len = len;
        }
        bytes += len;
        skip = 0;
    }
    return n;
}

static void advance(write_position *position, size_t bytes) {
    while (position->n_parts > 0 && bytes >= position->parts->len - position->skip) {
        bytes -= position->parts->len - position->skip;
        position->parts++;
        position->n_parts--;
        position->skip = 0;
    }
    position->skip += bytes;
}

static vex_status posix_write(vex_vfs *vfs, vex_file *file, const vex_iovec *parts,
                              uint32_t n_parts, uint64_t offset) {
    (void)vfs;
    write_position position = {parts, n_parts, 0};
    struct iovec batch[PARTS_MAX];
    for (;;) {
        int n = next_batch(&position, batch);
        if (n == 0) {
            return VEX_OK;
        }
        if (!range_fits(offset, TRANSFER_MAX)) {
            return vex_vfs_fail(file->path, EFBIG, "cannot write file");
        }
        ssize_t written;
        RETRY(written, pwritev(file->fd, batch, n, (off_t)offset));
        if (written <= 0) { /* 0 cannot happen for a regular file */
            return vex_vfs_fail(file->path, written < 0 ? errno : EIO, "cannot write file");
        }
        offset += (uint64_t)written;
        advance(&position, (size_t)written);
    }
}

static vex_status posix_truncate(vex_vfs *vfs, vex_file *file, uint64_t size) {
    (void)vfs;
    int result;
    if (!range_fits(size, 0)) {
        return vex_vfs_fail(file->path, EFBIG, "cannot resize file");
    }
    RETRY(result, ftruncate(file->fd, (off_t)size));
    return result == 0 ? VEX_OK : vex_vfs_fail(file->path, errno, "cannot resize file");
}

/* 0 or an errno.  Not posix_fallocate(): where the file system has no such call it writes zeros,
 * which costs more than it brings. */
static int allocate_fd(int fd, off_t offset, off_t len) {
#if defined(__linux__)
    int result;
    RETRY(result, fallocate(fd, 0, offset, len));
    return result == 0 ? 0 : errno;
#elif defined(__APPLE__)
    struct stat now;
    if (fstat(fd, &now) != 0) {
        return errno;
    }
    if (now.st_size >= offset + len) {
        return 0;
    }
    fstore_t wanted = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, offset + len - now.st_size, 0};
    if (fcntl(fd, F_PREALLOCATE, &wanted) != 0 || ftruncate(fd, offset + len) != 0) {
        return errno;
    }
    return 0;
#else
    (void)fd, (void)offset, (void)len;
    return EOPNOTSUPP;
#endif
}

static vex_status posix_allocate(vex_vfs *vfs, vex_file *file, uint64_t offset, uint64_t len) {
    (void)vfs;
    if (len == 0) {
        return VEX_OK;
    }
    if (!range_fits(offset, len)) {
        return vex_vfs_fail(file->path, EFBIG, "cannot reserve space for file");
    }
    int sys_errno = allocate_fd(file->fd, (off_t)offset, (off_t)len);
    if (sys_errno == 0 || sys_errno == EOPNOTSUPP || sys_errno == ENOTSUP || sys_errno == ENOSYS) {
        return VEX_OK;
    }
    return vex_vfs_fail(file->path, sys_errno, "cannot reserve space for file");
}

static int sync_fd(int fd, bool data_only) {
    int result;
#if defined(__APPLE__)
    (void)data_only; /* fsync() of macOS stops at the drive's cache */
    RETRY(result, fcntl(fd, F_FULLFSYNC));
    if (result == 0 || (errno != ENOTSUP && errno != EINVAL && errno != ENOTTY)) {
        return result;
    }
    RETRY(result, fsync(fd));
#else
    RETRY(result, data_only ? fdatasync(fd) : fsync(fd));
#endif
    return result;
}

static vex_status posix_sync(vex_vfs *vfs, vex_file *file) {
    (void)vfs;
    return sync_fd(file->fd, false) == 0 ? VEX_OK
                                         : vex_vfs_fail(file->path, errno, "cannot sync file");
}

static vex_status posix_sync_data(vex_vfs *vfs, vex_file *file) {
    (void)vfs;
    return sync_fd(file->fd, true) == 0 ? VEX_OK
                                        : vex_vfs_fail(file->path, errno, "cannot sync file");
}

static vex_file_stat convert_stat(const struct stat *from) {
    return (vex_file_stat){
        .size = (uint64_t)from->st_size,
        .device = (uint64_t)from->st_dev,
        .inode = (uint64_t)from->st_ino,
        .is_directory = S_ISDIR(from->st_mode),
        .names = (uint64_t)from->st_nlink,
    };
}

static vex_status posix_file_stat(vex_vfs *vfs, vex_file *file, vex_file_stat *out) {
    (void)vfs;
    struct stat found;
    if (fstat(file->fd, &found) != 0) {
        return vex_vfs_fail(file->path, errno, "cannot examine file");
    }
    *out = convert_stat(&found);
    return VEX_OK;
}

static vex_status posix_try_lock(vex_vfs *vfs, vex_file *file, bool *locked) {
    (void)vfs;
    int result;
    RETRY(result, flock(file->fd, LOCK_EX | LOCK_NB));
    if (result != 0 && errno != EWOULDBLOCK) {
        return vex_vfs_fail(file->path, errno, "cannot lock file");
    }
    *locked = result == 0;
    return VEX_OK;
}

static void posix_unlock(vex_vfs *vfs, vex_file *file) {
    (void)vfs;
    int result;
    RETRY(result, flock(file->fd, LOCK_UN));
}

/* ---- mappings ---- */

static const uint8_t empty_map[64]; /* what an empty file is mapped to */

static vex_status posix_map(vex_vfs *vfs, vex_file *file, uint64_t size, const uint8_t **out) {
    (void)vfs;
    if (size == 0) {
        *out = empty_map;
        return VEX_OK;
    }
    struct stat now;
    if (fstat(file->fd, &now) != 0) {
        return vex_vfs_fail(file->path, errno, "cannot map file");
    }
    if ((uint64_t)now.st_size < size) { /* touching what is missing would kill the process */
        return vex_vfs_fail_short(file->path, size, (uint64_t)now.st_size);
    }
    void *map = size <= SIZE_MAX ? mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, file->fd, 0)
                                 : MAP_FAILED;
    if (map == MAP_FAILED) {
        return vex_vfs_fail(file->path, errno, "cannot map file");
    }
    vex_stat_add(VEX_STAT_MAPPED_BYTES, (int64_t)size);
    vex_stat_add(VEX_STAT_MAPPED_FILES, 1);
    *out = map;
    return VEX_OK;
}

static void posix_unmap(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    (void)vfs;
    if (map != NULL && size > 0) {
        munmap((void *)(uintptr_t)map, (size_t)size);
        vex_stat_add(VEX_STAT_MAPPED_BYTES, -(int64_t)size);
        vex_stat_add(VEX_STAT_MAPPED_FILES, -1);
    }
}

static void posix_advise(vex_vfs *vfs, const uint8_t *map, uint64_t size, vex_advice advice) {
    static const int advices[] = {
        [VEX_ADVISE_RANDOM] = MADV_RANDOM,
        [VEX_ADVISE_SEQUENTIAL] = MADV_SEQUENTIAL,
        [VEX_ADVISE_WILLNEED] = MADV_WILLNEED,
        [VEX_ADVISE_DONTNEED] = MADV_DONTNEED,
    };
    (void)vfs;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)map & ~(page - 1), end = (uintptr_t)map + (uintptr_t)size;
    if (advice == VEX_ADVISE_DONTNEED) { /* the pages at both ends are of the neighbours, too */
        start = ((uintptr_t)map + page - 1) & ~(page - 1), end &= ~(page - 1);
    }
    if (map != NULL && start < end) {
        madvise((void *)start, end - start, advices[advice]); /* a refusal costs only speed */
    }
}

/* ---- names ---- */

static vex_status path_result(int result, const char *path, const char *what) {
    return result == 0 ? VEX_OK : vex_vfs_fail(path, errno, what);
}

static vex_status posix_path_stat(vex_vfs *vfs, const char *path, vex_file_stat *out) {
    (void)vfs;
    struct stat found;
    if (stat(path, &found) != 0) {
        return errno == ELOOP ? vex_vfs_fail_open(path, errno)
                              : vex_vfs_fail(path, errno, "cannot examine file");
    }
    *out = convert_stat(&found);
    return VEX_OK;
}

static vex_status posix_rename(vex_vfs *vfs, const char *from, const char *to) {
    (void)vfs;
    return path_result(rename(from, to), to, "cannot rename file");
}

static vex_status posix_link(vex_vfs *vfs, const char *from, const char *to) {
    (void)vfs;
    return path_result(link(from, to), to, "cannot link file");
}

static vex_status posix_remove(vex_vfs *vfs, const char *path) {
    (void)vfs;
    return path_result(unlink(path), path, "cannot remove file");
}

static vex_status posix_dir_create(vex_vfs *vfs, const char *path) {
    (void)vfs;
    return path_result(mkdir(path, 0777), path, "cannot create directory");
}

static vex_status posix_dir_remove(vex_vfs *vfs, const char *path) {
    (void)vfs;
    return path_result(rmdir(path), path, "cannot remove directory");
}

static vex_status posix_dir_sync(vex_vfs *vfs, const char *path) {
    (void)vfs;
    int fd = open_above_stderr(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return vex_vfs_fail(path, errno, "cannot open directory");
    }
    int sys_errno = sync_fd(fd, false) == 0 ? 0 : errno;
    close(fd);
    if (sys_errno == 0 || sys_errno == EINVAL || sys_errno == ENOTSUP) {
        return VEX_OK; /* some file systems keep no order to enforce and refuse */
    }
    return vex_vfs_fail(path, sys_errno, "cannot sync directory");
}

static vex_status posix_dir_list(vex_vfs *vfs, const char *path, vex_list_visitor visit,
                                 void *context) {
    (void)vfs;
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return vex_vfs_fail(path, errno, "cannot list directory");
    }
    vex_status status = VEX_OK;
    while (status == VEX_OK) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            status = errno == 0 ? VEX_OK : vex_vfs_fail(path, errno, "cannot list directory");
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            status = visit(context, entry->d_name);
        }
    }
    closedir(directory);
    return status;
}

static vex_status posix_disk_space(vex_vfs *vfs, const char *path, vex_disk_space *out) {
    (void)vfs;
    struct statvfs found;
    int result;
    RETRY(result, statvfs(path, &found));
    if (result != 0) {
        return vex_vfs_fail(path, errno, "cannot examine file system");
    }
    out->size = (uint64_t)found.f_blocks * found.f_frsize;
    out->left = (uint64_t)found.f_bavail * found.f_frsize;
    return VEX_OK;
}

/* ---- the table ---- */

vex_vfs *vex_vfs_posix(void) {
    static vex_vfs posix = {
        .name = "posix",
        .file_open = posix_open,
        .file_close = posix_close,
        .file_read = posix_read,
        .file_write = posix_write,
        .file_truncate = posix_truncate,
        .file_allocate = posix_allocate,
        .file_sync = posix_sync,
        .file_sync_data = posix_sync_data,
        .file_stat = posix_file_stat,
        .file_try_lock = posix_try_lock,
        .file_unlock = posix_unlock,
        .path_lock_holder = vex_system_lock_holder,
        .file_map = posix_map,
        .file_unmap = posix_unmap,
        .map_advise = posix_advise,
        .map_resident = vex_system_map_resident,
        .path_stat = posix_path_stat,
        .path_rename = posix_rename,
        .path_link = posix_link,
        .path_remove = posix_remove,
        .dir_create = posix_dir_create,
        .dir_remove = posix_dir_remove,
        .dir_sync = posix_dir_sync,
        .dir_list = posix_dir_list,
        .disk_space = posix_disk_space,
        .clock_ms = vex_system_clock_ms,
        .sleep_ms = vex_system_sleep_ms,
        .random_bytes = vex_system_random_bytes,
        .boot_id = vex_system_boot_id,
    };
    return &posix;
}
