/*
 * vfs_trace.c - see vfs_trace.h.  One lock is held over a call and its recording, so that the
 * trace has the order in which things happened.
 */
#ifdef VEX_TESTING

#include "io/vfs_trace.h"

#include "base/hash.h"
#include "base/mem.h"
#include "io/vfs_internal.h"

#include "base/poison.h"

typedef struct trace_vfs {
    vex_vfs vfs; /* what callers hold; its context is this */
    vex_vfs *inner;
    pthread_mutex_t lock; /* guards the rest */
    vex_trace trace;
    uint64_t random, kill_at, fail_sync;
    size_t failed;
    bool killed;
    const vex_vfs *victim; /* whose calls fail then; NULL: all                             */
} trace_vfs;

struct vex_file {
    vex_file *inner;
    uint32_t node;
    char path[];
};

static vex_vfs *inner_of(vex_vfs *vfs) {
    const trace_vfs *t = vfs->context;
    return t->inner;
}

/* ---- recording ---- */

static void clear_op(vex_trace_op *op) {
    vex_free(op->path);
    vex_free(op->to_path);
    vex_free(op->bytes);
}

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot record a trace");
}

/* Under the lock: the operation is about to be done: make room, so that recording cannot fail. */
static vex_status prepare(trace_vfs *t, const char *path, const char *to_path, vex_trace_op *op) {
    if (vex_grow((void **)&t->trace.ops, &t->trace.capacity, t->trace.n + 1, sizeof *op) !=
        VEX_OK) {
        return no_memory();
    }
    op->path = path != NULL ? vex_strdup(path) : NULL;
    op->to_path = to_path != NULL ? vex_strdup(to_path) : NULL;
    if ((path != NULL && op->path == NULL) || (to_path != NULL && op->to_path == NULL)) {
        return no_memory();
    }
    return VEX_OK;
}

/* Under the lock: is the caller dead? */
static bool is_dead(const trace_vfs *t, const vex_vfs *vfs) {
    return t->killed && (t->victim == NULL || t->victim == vfs);
}

/* Lock and begin a call that changes something; fails when the process is dead. */
static vex_status begin(vex_vfs *vfs, const char *path, const char *to_path, vex_trace_op *op) {
    trace_vfs *t = vfs->context;
    pthread_mutex_lock(&t->lock);
    t->killed = t->killed || t->trace.n >= t->kill_at;
    return is_dead(t, vfs) ? vex_vfs_fail(path, EIO, "the process was killed")
                           : prepare(t, path, to_path, op);
}

static vex_status end(vex_vfs *vfs, vex_status status, vex_trace_op *op) {
    trace_vfs *t = vfs->context;
    if (status == VEX_OK) {
        t->trace.ops[t->trace.n++] = *op;
    } else {
        clear_op(op);
    }
    pthread_mutex_unlock(&t->lock);
    return status;
}

/* A call that changes nothing. */
static vex_status check_alive(vex_vfs *vfs, const char *path) {
    trace_vfs *t = vfs->context;
    pthread_mutex_lock(&t->lock);
    bool dead = is_dead(t, vfs);
    pthread_mutex_unlock(&t->lock);
    return dead ? vex_vfs_fail(path, EIO, "the process was killed") : VEX_OK;
}

static vex_status node_of(vex_vfs *inner, const char *path, uint32_t *node) {
    vex_file_stat stat;
    VEX_TRY(inner->path_stat(inner, path, &stat));
    *node = (uint32_t)stat.inode;
    return VEX_OK;
}

static vex_status directory_of(vex_vfs *inner, const char *path, uint32_t *node) {
    char parent[VEX_PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) : 0;
    if (len >= sizeof parent) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "path too long");
    }
    memcpy(parent, path, len);
    parent[len] = '\0';
    return node_of(inner, len == 0 ? "/" : parent, node);
}

/* ---- files ---- */

static vex_status create_file(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file *file) {
    vex_vfs *inner = inner_of(vfs);
    vex_trace_op op = {.kind = VEX_TRACE_CREATE};
    vex_file_stat stat;
    vex_status status = begin(vfs, path, NULL, &op);
    bool is_new = status == VEX_OK && inner->path_stat(inner, path, &stat) == VEX_ERR_NOT_FOUND;
    if (status == VEX_OK) {
        status = directory_of(inner, path, &op.dir);
    }
    if (status == VEX_OK) {
        status = inner->file_open(inner, path, mode, &file->inner);
    }
    if (status == VEX_OK && !is_new) { /* nothing to record */
        trace_vfs *t = vfs->context;
        clear_op(&op);
        pthread_mutex_unlock(&t->lock);
        return VEX_OK;
    }
    if (status == VEX_OK) {
        status = node_of(inner, path, &op.node);
    }
    return end(vfs, status, &op);
}

static vex_status trace_open(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out) {
    size_t path_bytes = strlen(path) + 1;
    vex_file_stat stat;
    vex_file *file = vex_calloc(1, sizeof *file + path_bytes);
    if (file == NULL) {
        return vex_vfs_fail(path, ENOMEM, "cannot open file");
    }
    memcpy(file->path, path, path_bytes);
    vex_vfs *inner = inner_of(vfs);
    vex_status status = VEX_OK;
    if (mode == VEX_FILE_CREATE || mode == VEX_FILE_CREATE_NEW) {
        status = create_file(vfs, path, mode, file);
    } else {
        status = check_alive(vfs, path);
        status = status == VEX_OK ? inner->file_open(inner, path, mode, &file->inner) : status;
    }
    if (status != VEX_OK) {
        vex_free(file);
        return status;
    }
    (void)inner->file_stat(inner, file->inner, &stat);
    file->node = (uint32_t)stat.inode;
    *out = file;
    return VEX_OK;
}

static void trace_close(vex_vfs *vfs, vex_file *file) {
    if (file != NULL) {
        inner_of(vfs)->file_close(inner_of(vfs), file->inner);
        vex_free(file);
    }
}

static vex_status trace_read(vex_vfs *vfs, vex_file *file, void *dst, size_t len, uint64_t offset,
                             size_t *got) {
    VEX_TRY(check_alive(vfs, file->path));
    return inner_of(vfs)->file_read(inner_of(vfs), file->inner, dst, len, offset, got);
}

static vex_status trace_write(vex_vfs *vfs, vex_file *file, const vex_iovec *parts,
                              uint32_t n_parts, uint64_t offset) {
    vex_trace_op op = {.kind = VEX_TRACE_WRITE, .node = file->node, .offset = offset};
    vex_status status = begin(vfs, file->path, NULL, &op);
    for (uint32_t i = 0; i < n_parts; i++) {
        op.len += parts[i].len;
    }
    if (status == VEX_OK) {
        op.bytes = vex_malloc(op.len);
        status = op.bytes == NULL ? no_memory() : VEX_OK;
    }
    size_t at = 0;
    for (uint32_t i = 0; status == VEX_OK && i < n_parts; i++) {
        if (parts[i].len > 0) {
            memcpy(op.bytes + at, parts[i].data, parts[i].len);
            at += parts[i].len;
        }
    }
    if (status == VEX_OK) {
        status = inner_of(vfs)->file_write(inner_of(vfs), file->inner, parts, n_parts, offset);
    }
    return end(vfs, status, &op);
}

static vex_status trace_truncate(vex_vfs *vfs, vex_file *file, uint64_t size) {
    vex_trace_op op = {.kind = VEX_TRACE_RESIZE, .node = file->node, .size = size};
    vex_status status = begin(vfs, file->path, NULL, &op);
    if (status == VEX_OK) {
        status = inner_of(vfs)->file_truncate(inner_of(vfs), file->inner, size);
    }
    return end(vfs, status, &op);
}

static vex_status trace_allocate(vex_vfs *vfs, vex_file *file, uint64_t offset, uint64_t len) {
    vex_trace_op op = {.kind = VEX_TRACE_ALLOCATE, .node = file->node, .size = offset + len};
    vex_status status = begin(vfs, file->path, NULL, &op);
    if (status == VEX_OK) {
        status = inner_of(vfs)->file_allocate(inner_of(vfs), file->inner, offset, len);
    }
    return end(vfs, status, &op);
}

static vex_status sync_as(vex_vfs *vfs, vex_file *file, vex_trace_kind kind) {
    trace_vfs *t = vfs->context;
    vex_trace_op op = {.kind = kind, .node = file->node};
    vex_status status = begin(vfs, file->path, NULL, &op);
    bool fails = status == VEX_OK && t->fail_sync > 0 && --t->fail_sync == 0;
    if (fails) {
        op.kind = VEX_TRACE_SYNC_FAILED;
        t->failed = t->trace.n;
    } else if (status == VEX_OK) {
        status = inner_of(vfs)->file_sync(inner_of(vfs), file->inner);
    }
    status = end(vfs, status, &op);
    return fails ? vex_vfs_fail(file->path, EIO, "injected fault: cannot sync file") : status;
}

static vex_status trace_sync(vex_vfs *vfs, vex_file *file) {
    return sync_as(vfs, file, VEX_TRACE_SYNC);
}

static vex_status trace_sync_data(vex_vfs *vfs, vex_file *file) {
    return sync_as(vfs, file, VEX_TRACE_SYNC_DATA);
}

static vex_status trace_file_stat(vex_vfs *vfs, vex_file *file, vex_file_stat *out) {
    VEX_TRY(check_alive(vfs, file->path));
    return inner_of(vfs)->file_stat(inner_of(vfs), file->inner, out);
}

static vex_status trace_try_lock(vex_vfs *vfs, vex_file *file, bool *locked) {
    VEX_TRY(check_alive(vfs, file->path));
    return inner_of(vfs)->file_try_lock(inner_of(vfs), file->inner, locked);
}

static void trace_unlock(vex_vfs *vfs, vex_file *file) {
    inner_of(vfs)->file_unlock(inner_of(vfs), file->inner);
}

static void trace_lock_holder(vex_vfs *vfs, const char *path, vex_lock_holder *out) {
    inner_of(vfs)->path_lock_holder(inner_of(vfs), path, out);
}

static vex_status trace_map(vex_vfs *vfs, vex_file *file, uint64_t size, const uint8_t **out) {
    VEX_TRY(check_alive(vfs, file->path));
    return inner_of(vfs)->file_map(inner_of(vfs), file->inner, size, out);
}

static void trace_unmap(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    inner_of(vfs)->file_unmap(inner_of(vfs), map, size);
}

static void trace_advise(vex_vfs *vfs, const uint8_t *map, uint64_t size, vex_advice advice) {
    inner_of(vfs)->map_advise(inner_of(vfs), map, size, advice);
}

static uint64_t trace_resident(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    return inner_of(vfs)->map_resident(inner_of(vfs), map, size);
}

/* ---- names ---- */

static vex_status trace_path_stat(vex_vfs *vfs, const char *path, vex_file_stat *out) {
    VEX_TRY(check_alive(vfs, path));
    return inner_of(vfs)->path_stat(inner_of(vfs), path, out);
}

static vex_status trace_rename(vex_vfs *vfs, const char *from, const char *to) {
    vex_vfs *inner = inner_of(vfs);
    vex_trace_op op = {.kind = VEX_TRACE_RENAME};
    uint32_t to_dir = 0;
    vex_status status = begin(vfs, from, to, &op);
    status = status == VEX_OK ? node_of(inner, from, &op.node) : status;
    status = status == VEX_OK ? directory_of(inner, from, &op.dir) : status;
    status = status == VEX_OK ? directory_of(inner, to, &to_dir) : status;
    if (status == VEX_OK && op.dir != to_dir) {
        status = VEX_FAIL(VEX_ERR_INVALID, "the trace knows no renames between directories");
    }
    status = status == VEX_OK ? inner->path_rename(inner, from, to) : status;
    return end(vfs, status, &op);
}

static vex_status trace_link(vex_vfs *vfs, const char *from, const char *to) {
    vex_vfs *inner = inner_of(vfs);
    vex_trace_op op = {.kind = VEX_TRACE_LINK};
    vex_status status = begin(vfs, from, to, &op);
    status = status == VEX_OK ? node_of(inner, from, &op.node) : status;
    status = status == VEX_OK ? directory_of(inner, to, &op.dir) : status;
    status = status == VEX_OK ? inner->path_link(inner, from, to) : status;
    return end(vfs, status, &op);
}

static vex_status remove_as(vex_vfs *vfs, const char *path, vex_trace_kind kind) {
    vex_vfs *inner = inner_of(vfs);
    vex_trace_op op = {.kind = kind};
    vex_status status = begin(vfs, path, NULL, &op);
    status = status == VEX_OK ? node_of(inner, path, &op.node) : status;
    status = status == VEX_OK ? directory_of(inner, path, &op.dir) : status;
    if (status == VEX_OK) {
        status = kind == VEX_TRACE_REMOVE ? inner->path_remove(inner, path)
                                          : inner->dir_remove(inner, path);
    }
    return end(vfs, status, &op);
}

static vex_status trace_remove(vex_vfs *vfs, const char *path) {
    return remove_as(vfs, path, VEX_TRACE_REMOVE);
}

static vex_status trace_dir_remove(vex_vfs *vfs, const char *path) {
    return remove_as(vfs, path, VEX_TRACE_RMDIR);
}

static vex_status trace_dir_create(vex_vfs *vfs, const char *path) {
    vex_vfs *inner = inner_of(vfs);
    vex_trace_op op = {.kind = VEX_TRACE_MKDIR};
    vex_status status = begin(vfs, path, NULL, &op);
    status = status == VEX_OK ? inner->dir_create(inner, path) : status;
    status = status == VEX_OK ? node_of(inner, path, &op.node) : status;
    status = status == VEX_OK ? directory_of(inner, path, &op.dir) : status;
    return end(vfs, status, &op);
}

static vex_status trace_dir_sync(vex_vfs *vfs, const char *path) {
    vex_vfs *inner = inner_of(vfs);
    vex_trace_op op = {.kind = VEX_TRACE_SYNC_DIR};
    vex_status status = begin(vfs, path, NULL, &op);
    status = status == VEX_OK ? node_of(inner, path, &op.node) : status;
    status = status == VEX_OK ? inner->dir_sync(inner, path) : status;
    return end(vfs, status, &op);
}

static vex_status trace_dir_list(vex_vfs *vfs, const char *path, vex_list_visitor visit,
                                 void *context) {
    VEX_TRY(check_alive(vfs, path));
    return inner_of(vfs)->dir_list(inner_of(vfs), path, visit, context);
}

static vex_status trace_disk_space(vex_vfs *vfs, const char *path, vex_disk_space *out) {
    VEX_TRY(check_alive(vfs, path));
    return inner_of(vfs)->disk_space(inner_of(vfs), path, out);
}

/* ---- the machine ---- */

static uint64_t trace_clock_ms(vex_vfs *vfs) {
    return inner_of(vfs)->clock_ms(inner_of(vfs));
}

static void trace_sleep_ms(vex_vfs *vfs, uint32_t ms) {
    inner_of(vfs)->sleep_ms(inner_of(vfs), ms);
}

static vex_status trace_random_bytes(vex_vfs *vfs, void *dst, size_t len) {
    trace_vfs *t = vfs->context;
    uint8_t *to = dst;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < len; i++) {
        t->random += 0x9e3779b97f4a7c15ULL;
        to[i] = (uint8_t)(vex_mix64(t->random) >> 32);
    }
    pthread_mutex_unlock(&t->lock);
    return VEX_OK;
}

static uint64_t trace_boot_id(vex_vfs *vfs) {
    return inner_of(vfs)->boot_id(inner_of(vfs));
}

static const vex_vfs trace_table = {
    .name = "trace",
    .file_open = trace_open,
    .file_close = trace_close,
    .file_read = trace_read,
    .file_write = trace_write,
    .file_truncate = trace_truncate,
    .file_allocate = trace_allocate,
    .file_sync = trace_sync,
    .file_sync_data = trace_sync_data,
    .file_stat = trace_file_stat,
    .file_try_lock = trace_try_lock,
    .file_unlock = trace_unlock,
    .path_lock_holder = trace_lock_holder,
    .file_map = trace_map,
    .file_unmap = trace_unmap,
    .map_advise = trace_advise,
    .map_resident = trace_resident,
    .path_stat = trace_path_stat,
    .path_rename = trace_rename,
    .path_link = trace_link,
    .path_remove = trace_remove,
    .dir_create = trace_dir_create,
    .dir_remove = trace_dir_remove,
    .dir_sync = trace_dir_sync,
    .dir_list = trace_dir_list,
    .disk_space = trace_disk_space,
    .clock_ms = trace_clock_ms,
    .sleep_ms = trace_sleep_ms,
    .random_bytes = trace_random_bytes,
    .boot_id = trace_boot_id,
};

vex_status vex_vfs_trace_create(vex_vfs *inner, uint64_t seed, vex_vfs **out) {
    trace_vfs *t = vex_calloc(1, sizeof *t);
    if (t == NULL) {
        return no_memory();
    }
    t->vfs = trace_table; /* not volatile: a disk to the engine */
    t->vfs.context = t;
    t->inner = inner;
    t->random = seed;
    t->kill_at = UINT64_MAX;
    t->failed = SIZE_MAX;
    pthread_mutex_init(&t->lock, NULL);
    *out = &t->vfs;
    return VEX_OK;
}

void vex_vfs_trace_destroy(vex_vfs *vfs) {
    trace_vfs *t = vfs->context;
    for (size_t i = 0; i < t->trace.n; i++) {
        clear_op(&t->trace.ops[i]);
    }
    vex_free(t->trace.ops);
    pthread_mutex_destroy(&t->lock);
    vex_free(t);
}

void vex_vfs_trace_mark(vex_vfs *vfs, uint32_t mark, uint64_t value) {
    trace_vfs *t = vfs->context;
    vex_trace_op op = {.kind = VEX_TRACE_MARK, .mark = mark, .value = value};
    pthread_mutex_lock(&t->lock);
    bool nobody_lives = t->killed && t->victim == NULL;
    if (!nobody_lives && prepare(t, NULL, NULL, &op) == VEX_OK) {
        t->trace.ops[t->trace.n++] = op;
    }
    pthread_mutex_unlock(&t->lock);
}

const vex_trace *vex_vfs_trace_get(vex_vfs *vfs) {
    const trace_vfs *t = vfs->context;
    return &t->trace;
}

void vex_vfs_trace_kill_at(vex_vfs *vfs, uint64_t n, const vex_vfs *victim) {
    trace_vfs *t = vfs->context;
    pthread_mutex_lock(&t->lock);
    t->victim = victim;
    t->kill_at = n;
    t->killed = false;
    pthread_mutex_unlock(&t->lock);
}

bool vex_vfs_trace_killed(vex_vfs *vfs) {
    trace_vfs *t = vfs->context;
    pthread_mutex_lock(&t->lock);
    bool killed = t->killed;
    pthread_mutex_unlock(&t->lock);
    return killed;
}

void vex_vfs_trace_fail_sync(vex_vfs *vfs, uint64_t n) {
    trace_vfs *t = vfs->context;
    pthread_mutex_lock(&t->lock);
    t->fail_sync = n;
    t->failed = SIZE_MAX;
    pthread_mutex_unlock(&t->lock);
}

size_t vex_vfs_trace_failed(vex_vfs *vfs) {
    const trace_vfs *t = vfs->context;
    return t->failed;
}

void vex_trace_describe(const vex_trace_op *op, char *out, size_t size) {
    static const char *const names[] = {"create",          "write", "resize",    "allocate",
                                        "rename",          "link",  "unlink",    "mkdir",
                                        "rmdir",           "fsync", "fdatasync", "failed fsync of",
                                        "fsync directory", "mark"};
    unsigned long long offset = op->offset, bytes = op->len, to = op->size;
    switch (op->kind) {
    case VEX_TRACE_WRITE:
        snprintf(out, size, "write %s, %llu bytes at %llu", op->path, bytes, offset);
        break;
    case VEX_TRACE_RESIZE:
    case VEX_TRACE_ALLOCATE:
        snprintf(out, size, "%s %s to %llu bytes", names[op->kind], op->path, to);
        break;
    case VEX_TRACE_RENAME:
    case VEX_TRACE_LINK:
        snprintf(out, size, "%s %s to %s", names[op->kind], op->path, op->to_path);
        break;
    case VEX_TRACE_MARK:
        snprintf(out, size, "mark %u: %llu", op->mark, (unsigned long long)op->value);
        break;
    default:
        snprintf(out, size, "%s %s", names[op->kind], op->path);
    }
}

#else

typedef int vex_vfs_trace_absent; /* a translation unit must not be empty */

#endif
