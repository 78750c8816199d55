/*
 * vfs_fault.c - see vfs_fault.h.
 */
#ifdef VEX_TESTING

#include "io/vfs_fault.h"

#include "base/mem.h"
#include "io/vfs_internal.h"

#include "base/poison.h"

typedef struct fault_vfs {
    vex_vfs vfs; /* what callers hold; its context is this */
    vex_vfs *inner;
    pthread_mutex_t lock; /* guards the rest */
    uint64_t calls, nth, burst;
    int sys_errno;
    bool persistent, short_write;
    uint32_t kinds;   /* which calls count */
    const char *part; /* and which paths: those with this in them */
} fault_vfs;

struct vex_file {
    vex_file *inner;
    char path[];
};

static vex_vfs *inner_of(vex_vfs *vfs) {
    const fault_vfs *f = vfs->context;
    return f->inner;
}

/* Count a call; the errno to fail it with, or 0. */
static int count_call(vex_vfs *vfs, uint32_t kind, const char *path, bool *short_write) {
    fault_vfs *f = vfs->context;
    int sys_errno = 0;
    pthread_mutex_lock(&f->lock);
    if ((f->kinds & kind) != 0 && strstr(path, f->part) != NULL) {
        f->calls++;
        bool fails =
            f->nth != 0 && f->calls >= f->nth && (f->persistent || f->calls < f->nth + f->burst);
        sys_errno = fails ? f->sys_errno : 0;
    }
    if (short_write != NULL) {
        *short_write = f->short_write;
    }
    pthread_mutex_unlock(&f->lock);
    return sys_errno;
}

/* Begin a call: fail it when it is its turn. */
#define MAY_FAIL(vfs, kind, path, what)                                                            \
    do {                                                                                           \
        int may_fail_ = count_call(vfs, VEX_FAULT_##kind, path, NULL);                             \
        if (may_fail_ != 0) {                                                                      \
            return vex_vfs_fail(path, may_fail_, "injected fault: cannot " what);                  \
        }                                                                                          \
    } while (0)

static vex_status fault_open(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out) {
    if (mode == VEX_FILE_CREATE || mode == VEX_FILE_CREATE_NEW) {
        MAY_FAIL(vfs, WRITE, path, "create file");
    } else {
        MAY_FAIL(vfs, OTHER, path, "open file");
    }
    size_t path_bytes = strlen(path) + 1;
    vex_file *file = vex_malloc(sizeof *file + path_bytes);
    if (file == NULL) {
        return vex_vfs_fail(path, ENOMEM, "cannot open file");
    }
    memcpy(file->path, path, path_bytes);
    vex_status status = inner_of(vfs)->file_open(inner_of(vfs), path, mode, &file->inner);
    if (status != VEX_OK) {
        vex_free(file);
        return status;
    }
    *out = file;
    return VEX_OK;
}

static void fault_close(vex_vfs *vfs, vex_file *file) {
    if (file != NULL) {
        inner_of(vfs)->file_close(inner_of(vfs), file->inner);
        vex_free(file);
    }
}

static vex_status fault_read(vex_vfs *vfs, vex_file *file, void *dst, size_t len, uint64_t offset,
                             size_t *got) {
    MAY_FAIL(vfs, OTHER, file->path, "read file");
    return inner_of(vfs)->file_read(inner_of(vfs), file->inner, dst, len, offset, got);
}

/* Hand on the first half of the bytes. */
static void write_half(vex_vfs *vfs, vex_file *file, const vex_iovec *parts, uint32_t n_parts,
                       uint64_t offset) {
    size_t left = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        left += parts[i].len;
    }
    left /= 2;
    for (uint32_t i = 0; i < n_parts && left > 0; i++) {
        vex_iovec part = {parts[i].data, parts[i].len < left ? parts[i].len : left};
        if (inner_of(vfs)->file_write(inner_of(vfs), file->inner, &part, 1, offset) != VEX_OK) {
            return;
        }
        offset += part.len;
        left -= part.len;
    }
}

static vex_status fault_write(vex_vfs *vfs, vex_file *file, const vex_iovec *parts,
                              uint32_t n_parts, uint64_t offset) {
    bool short_write;
    int sys_errno = count_call(vfs, VEX_FAULT_WRITE, file->path, &short_write);
    if (sys_errno != 0) {
        if (short_write) {
            write_half(vfs, file, parts, n_parts, offset);
        }
        return vex_vfs_fail(file->path, sys_errno, "injected fault: cannot write file");
    }
    return inner_of(vfs)->file_write(inner_of(vfs), file->inner, parts, n_parts, offset);
}

static vex_status fault_truncate(vex_vfs *vfs, vex_file *file, uint64_t size) {
    MAY_FAIL(vfs, WRITE, file->path, "resize file");
    return inner_of(vfs)->file_truncate(inner_of(vfs), file->inner, size);
}

static vex_status fault_allocate(vex_vfs *vfs, vex_file *file, uint64_t offset, uint64_t len) {
    MAY_FAIL(vfs, WRITE, file->path, "reserve space for file");
    return inner_of(vfs)->file_allocate(inner_of(vfs), file->inner, offset, len);
}

static vex_status fault_sync(vex_vfs *vfs, vex_file *file) {
    MAY_FAIL(vfs, SYNC, file->path, "sync file");
    return inner_of(vfs)->file_sync(inner_of(vfs), file->inner);
}

static vex_status fault_sync_data(vex_vfs *vfs, vex_file *file) {
    MAY_FAIL(vfs, SYNC, file->path, "sync file");
    return inner_of(vfs)->file_sync_data(inner_of(vfs), file->inner);
}

static vex_status fault_file_stat(vex_vfs *vfs, vex_file *file, vex_file_stat *out) {
    MAY_FAIL(vfs, OTHER, file->path, "examine file");
    return inner_of(vfs)->file_stat(inner_of(vfs), file->inner, out);
}

static vex_status fault_try_lock(vex_vfs *vfs, vex_file *file, bool *locked) {
    MAY_FAIL(vfs, OTHER, file->path, "lock file");
    return inner_of(vfs)->file_try_lock(inner_of(vfs), file->inner, locked);
}

static void fault_unlock(vex_vfs *vfs, vex_file *file) {
    inner_of(vfs)->file_unlock(inner_of(vfs), file->inner);
}

static void fault_lock_holder(vex_vfs *vfs, const char *path, vex_lock_holder *out) {
    inner_of(vfs)->path_lock_holder(inner_of(vfs), path, out);
}

static vex_status fault_map(vex_vfs *vfs, vex_file *file, uint64_t size, const uint8_t **out) {
    MAY_FAIL(vfs, OTHER, file->path, "map file");
    return inner_of(vfs)->file_map(inner_of(vfs), file->inner, size, out);
}

static void fault_unmap(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    inner_of(vfs)->file_unmap(inner_of(vfs), map, size);
}

static void fault_advise(vex_vfs *vfs, const uint8_t *map, uint64_t size, vex_advice advice) {
    inner_of(vfs)->map_advise(inner_of(vfs), map, size, advice);
}

static uint64_t fault_resident(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    return inner_of(vfs)->map_resident(inner_of(vfs), map, size);
}

static vex_status fault_path_stat(vex_vfs *vfs, const char *path, vex_file_stat *out) {
    MAY_FAIL(vfs, OTHER, path, "examine file");
    return inner_of(vfs)->path_stat(inner_of(vfs), path, out);
}

static vex_status fault_rename(vex_vfs *vfs, const char *from, const char *to) {
    MAY_FAIL(vfs, RENAME, to, "rename file");
    return inner_of(vfs)->path_rename(inner_of(vfs), from, to);
}

static vex_status fault_link(vex_vfs *vfs, const char *from, const char *to) {
    MAY_FAIL(vfs, WRITE | VEX_FAULT_LINK, to, "link file");
    return inner_of(vfs)->path_link(inner_of(vfs), from, to);
}

static vex_status fault_remove(vex_vfs *vfs, const char *path) {
    MAY_FAIL(vfs, REMOVE, path, "remove file");
    return inner_of(vfs)->path_remove(inner_of(vfs), path);
}

static vex_status fault_dir_create(vex_vfs *vfs, const char *path) {
    MAY_FAIL(vfs, WRITE, path, "create directory");
    return inner_of(vfs)->dir_create(inner_of(vfs), path);
}

static vex_status fault_dir_remove(vex_vfs *vfs, const char *path) {
    MAY_FAIL(vfs, REMOVE, path, "remove directory");
    return inner_of(vfs)->dir_remove(inner_of(vfs), path);
}

static vex_status fault_dir_sync(vex_vfs *vfs, const char *path) {
    MAY_FAIL(vfs, SYNC, path, "sync directory");
    return inner_of(vfs)->dir_sync(inner_of(vfs), path);
}

static vex_status fault_dir_list(vex_vfs *vfs, const char *path, vex_list_visitor visit,
                                 void *context) {
    MAY_FAIL(vfs, OTHER, path, "list directory");
    return inner_of(vfs)->dir_list(inner_of(vfs), path, visit, context);
}

static vex_status fault_disk_space(vex_vfs *vfs, const char *path, vex_disk_space *out) {
    MAY_FAIL(vfs, OTHER, path, "examine file system");
    return inner_of(vfs)->disk_space(inner_of(vfs), path, out);
}

static uint64_t fault_clock_ms(vex_vfs *vfs) {
    return inner_of(vfs)->clock_ms(inner_of(vfs));
}

static void fault_sleep_ms(vex_vfs *vfs, uint32_t ms) {
    inner_of(vfs)->sleep_ms(inner_of(vfs), ms);
}

static vex_status fault_random_bytes(vex_vfs *vfs, void *dst, size_t len) {
    MAY_FAIL(vfs, OTHER, "", "get random bytes");
    return inner_of(vfs)->random_bytes(inner_of(vfs), dst, len);
}

static uint64_t fault_boot_id(vex_vfs *vfs) {
    return inner_of(vfs)->boot_id(inner_of(vfs));
}

static const vex_vfs fault_table = {
    .name = "fault",
    .file_open = fault_open,
    .file_close = fault_close,
    .file_read = fault_read,
    .file_write = fault_write,
    .file_truncate = fault_truncate,
    .file_allocate = fault_allocate,
    .file_sync = fault_sync,
    .file_sync_data = fault_sync_data,
    .file_stat = fault_file_stat,
    .file_try_lock = fault_try_lock,
    .file_unlock = fault_unlock,
    .path_lock_holder = fault_lock_holder,
    .file_map = fault_map,
    .file_unmap = fault_unmap,
    .map_advise = fault_advise,
    .map_resident = fault_resident,
    .path_stat = fault_path_stat,
    .path_rename = fault_rename,
    .path_link = fault_link,
    .path_remove = fault_remove,
    .dir_create = fault_dir_create,
    .dir_remove = fault_dir_remove,
    .dir_sync = fault_dir_sync,
    .dir_list = fault_dir_list,
    .disk_space = fault_disk_space,
    .clock_ms = fault_clock_ms,
    .sleep_ms = fault_sleep_ms,
    .random_bytes = fault_random_bytes,
    .boot_id = fault_boot_id,
};

vex_status vex_vfs_fault_create(vex_vfs *inner, vex_vfs **out) {
    fault_vfs *f = vex_calloc(1, sizeof *f);
    if (f == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot create a vfs");
    }
    f->vfs = fault_table;
    f->vfs.is_volatile = inner->is_volatile;
    f->vfs.context = f;
    f->inner = inner;
    f->kinds = VEX_FAULT_ALL;
    f->part = "";
    f->burst = 1;
    pthread_mutex_init(&f->lock, NULL);
    *out = &f->vfs;
    return VEX_OK;
}

void vex_vfs_fault_destroy(vex_vfs *vfs) {
    fault_vfs *f = vfs->context;
    pthread_mutex_destroy(&f->lock);
    vex_free(f);
}

void vex_vfs_fault_arm(vex_vfs *vfs, uint64_t nth, int sys_errno, bool persistent,
                       bool short_write) {
    fault_vfs *f = vfs->context;
    pthread_mutex_lock(&f->lock);
    f->calls = 0;
    f->nth = nth;
    f->sys_errno = sys_errno;
    f->persistent = persistent;
    f->short_write = short_write;
    pthread_mutex_unlock(&f->lock);
}

void vex_vfs_fault_only(vex_vfs *vfs, uint32_t kinds, const char *part) {
    fault_vfs *f = vfs->context;
    pthread_mutex_lock(&f->lock);
    f->kinds = kinds;
    f->part = part;
    pthread_mutex_unlock(&f->lock);
}

void vex_vfs_fault_burst(vex_vfs *vfs, uint64_t n) {
    fault_vfs *f = vfs->context;
    pthread_mutex_lock(&f->lock);
    f->burst = n;
    pthread_mutex_unlock(&f->lock);
}

uint64_t vex_vfs_fault_calls(vex_vfs *vfs) {
    fault_vfs *f = vfs->context;
    pthread_mutex_lock(&f->lock);
    uint64_t calls = f->calls;
    pthread_mutex_unlock(&f->lock);
    return calls;
}

#else

typedef int vex_vfs_fault_absent; /* a translation unit must not be empty */

#endif
