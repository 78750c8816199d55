/*
 * vfs_memory.c - the vfs over a private file tree in memory (memory_tree.h).
 *
 * One lock per tree guards everything but mapped bytes, which are read without it.  All trees are
 * in one list, so that fork() can take every lock first: the child gets trees nobody was in the
 * middle of changing.  Lock order: list, then trees.
 *
 * Nothing here is a descriptor or a file mapping, so the counters of those stay untouched; the
 * content is counted as the bulk and heap memory it is.
 */
#include "base/mem.h"
#include "io/memory_tree.h"
#include "io/vfs.h"
#include "io/vfs_internal.h"

#include "base/poison.h"

typedef struct memory_vfs {
    vex_vfs vfs; /* what callers hold; its context is this */
    pthread_mutex_t lock;
    vex_tree tree;
    uint64_t device;
    struct memory_vfs *next; /* in `all` */
} memory_vfs;

struct vex_file {
    vex_node *node;
    bool writable;
    char path[]; /* for messages */
};

static memory_vfs *enter(vex_vfs *vfs) {
    memory_vfs *m = vfs->context;
    pthread_mutex_lock(&m->lock);
    return m;
}

/* Unlock, and turn the errno, if there is one, into the thread's error. */
static vex_status leave(memory_vfs *m, int error, const char *path, const char *what) {
    pthread_mutex_unlock(&m->lock);
    return error == 0 ? VEX_OK : vex_vfs_fail(path, error, what);
}

/* ---- open files ---- */

static vex_status memory_open(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out) {
    size_t path_bytes = strlen(path) + 1;
    vex_file *file = vex_malloc(sizeof *file + path_bytes);
    if (file == NULL) {
        return vex_vfs_fail(path, ENOMEM, "cannot open file");
    }
    memcpy(file->path, path, path_bytes);
    file->writable = mode != VEX_FILE_READ;
    memory_vfs *m = enter(vfs);
    int error = vex_tree_open(&m->tree, path, mode, &file->node);
    pthread_mutex_unlock(&m->lock);
    if (error != 0) {
        vex_free(file);
        return vex_vfs_fail_open(path, error);
    }
    *out = file;
    return VEX_OK;
}

static void drop_lock(vex_file *file) {
    if (file->node->lock_owner == file) {
        file->node->lock_owner = NULL;
    }
}

static void memory_close(vex_vfs *vfs, vex_file *file) {
    if (file != NULL) {
        memory_vfs *m = enter(vfs);
        drop_lock(file);
        vex_node_release(file->node);
        pthread_mutex_unlock(&m->lock);
        vex_free(file);
    }
}

static vex_status memory_read(vex_vfs *vfs, vex_file *file, void *dst, size_t len, uint64_t offset,
                              size_t *got) {
    memory_vfs *m = enter(vfs);
    const vex_node *node = file->node;
    size_t copied = 0;
    if (len > 0 && offset < node->size) {
        uint64_t left = node->size - offset;
        copied = left < len ? (size_t)left : len;
        memcpy(dst, vex_content_bytes(node->content) + offset, copied);
    }
    pthread_mutex_unlock(&m->lock);
    *got = copied;
    return VEX_OK;
}

static vex_status memory_write(vex_vfs *vfs, vex_file *file, const vex_iovec *parts,
                               uint32_t n_parts, uint64_t offset) {
    memory_vfs *m = enter(vfs);
    int error = file->writable ? vex_node_write(file->node, parts, n_parts, offset) : EBADF;
    return leave(m, error, file->path, "cannot write file");
}

static vex_status memory_truncate(vex_vfs *vfs, vex_file *file, uint64_t size) {
    memory_vfs *m = enter(vfs);
    int error = file->writable ? vex_node_resize(file->node, size) : EINVAL;
    return leave(m, error, file->path, "cannot resize file");
}

static vex_status memory_allocate(vex_vfs *vfs, vex_file *file, uint64_t offset, uint64_t len) {
    uint64_t end;
    bool fits = !__builtin_add_overflow(offset, len, &end);
    memory_vfs *m = enter(vfs);
    int error = !file->writable ? EBADF : !fits ? EFBIG : 0;
    if (error == 0 && len > 0) {
        error = vex_node_extend(file->node, end);
    }
    return leave(m, error, file->path, "cannot reserve space for file");
}

static vex_status memory_sync(vex_vfs *vfs, vex_file *file) {
    (void)vfs;
    (void)file;
    return VEX_OK;
}

static vex_file_stat stat_node(const memory_vfs *m, const vex_node *node) {
    return (vex_file_stat){node->size, m->device, node->inode, node->is_directory, node->names};
}

static vex_status memory_file_stat(vex_vfs *vfs, vex_file *file, vex_file_stat *out) {
    memory_vfs *m = enter(vfs);
    *out = stat_node(m, file->node);
    return leave(m, 0, file->path, "");
}

static vex_status memory_try_lock(vex_vfs *vfs, vex_file *file, bool *locked) {
    memory_vfs *m = enter(vfs);
    if (file->node->lock_owner == NULL) {
        file->node->lock_owner = file;
    }
    *locked = file->node->lock_owner == file;
    return leave(m, 0, file->path, "");
}

static void memory_unlock(vex_vfs *vfs, vex_file *file) {
    memory_vfs *m = enter(vfs);
    drop_lock(file);
    pthread_mutex_unlock(&m->lock);
}

/* No other process has it. */
static void memory_lock_holder(vex_vfs *vfs, const char *path, vex_lock_holder *out) {
    (void)vfs;
    (void)path;
    *out = (vex_lock_holder){0};
}

/* ---- mappings ---- */

static const uint8_t empty_map[64]; /* what an empty file is mapped to */

static vex_status memory_map(vex_vfs *vfs, vex_file *file, uint64_t size, const uint8_t **out) {
    if (size == 0) {
        *out = empty_map;
        return VEX_OK;
    }
    memory_vfs *m = enter(vfs);
    uint64_t present = file->node->size;
    if (size <= present) {
        atomic_fetch_add(&file->node->content->refs, 1);
        *out = vex_content_bytes(file->node->content);
    }
    pthread_mutex_unlock(&m->lock);
    return size <= present ? VEX_OK : vex_vfs_fail_short(file->path, size, present);
}

static void memory_unmap(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    (void)vfs;
    if (map != NULL && size > 0) {
        vex_content_release(vex_content_of(map));
    }
}

static void memory_advise(vex_vfs *vfs, const uint8_t *map, uint64_t size, vex_advice advice) {
    (void)vfs, (void)map, (void)size, (void)advice;
}

static uint64_t memory_resident(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    (void)vfs, (void)map, (void)size;
    return 0;
}

/* ---- names ---- */

static vex_status memory_path_stat(vex_vfs *vfs, const char *path, vex_file_stat *out) {
    vex_node *node;
    memory_vfs *m = enter(vfs);
    int error = vex_tree_find(&m->tree, path, &node);
    if (error == 0) {
        *out = stat_node(m, node);
    }
    return leave(m, error, path, "cannot examine file");
}

static vex_status memory_rename(vex_vfs *vfs, const char *from, const char *to) {
    memory_vfs *m = enter(vfs);
    return leave(m, vex_tree_rename(&m->tree, from, to), to, "cannot rename file");
}

static vex_status memory_link(vex_vfs *vfs, const char *from, const char *to) {
    memory_vfs *m = enter(vfs);
    return leave(m, vex_tree_link(&m->tree, from, to), to, "cannot link file");
}

static vex_status memory_remove(vex_vfs *vfs, const char *path) {
    memory_vfs *m = enter(vfs);
    return leave(m, vex_tree_remove(&m->tree, path, false), path, "cannot remove file");
}

static vex_status memory_dir_create(vex_vfs *vfs, const char *path) {
    memory_vfs *m = enter(vfs);
    return leave(m, vex_tree_mkdir(&m->tree, path), path, "cannot create directory");
}

static vex_status memory_dir_remove(vex_vfs *vfs, const char *path) {
    memory_vfs *m = enter(vfs);
    return leave(m, vex_tree_remove(&m->tree, path, true), path, "cannot remove directory");
}

static vex_status memory_dir_sync(vex_vfs *vfs, const char *path) {
    vex_node *node;
    memory_vfs *m = enter(vfs);
    int error = vex_tree_find(&m->tree, path, &node);
    if (error == 0 && !node->is_directory) {
        error = ENOTDIR;
    }
    return leave(m, error, path, "cannot sync directory");
}

/* Works on a copy of the names: the visitor is free to change the directory. */
static vex_status memory_dir_list(vex_vfs *vfs, const char *path, vex_list_visitor visit,
                                  void *context) {
    vex_buf names = {0};
    memory_vfs *m = enter(vfs);
    vex_status status =
        leave(m, vex_tree_list(&m->tree, path, &names), path, "cannot list directory");
    for (size_t i = 0; status == VEX_OK && i < names.len;) {
        const char *name = (const char *)names.data + i;
        status = visit(context, name);
        i += strlen(name) + 1;
    }
    vex_buf_clear(&names);
    return status;
}

static vex_status memory_disk_space(vex_vfs *vfs, const char *path, vex_disk_space *out) {
    (void)vfs;
    (void)path;
    out->size = out->left = INT64_MAX; /* how much memory there is shows when it is asked for */
    return VEX_OK;
}

/* ---- the list of trees, and fork ---- */

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static memory_vfs *all;
static uint64_t trees_made;

static void lock_all(void) {
    pthread_mutex_lock(&all_lock);
    for (memory_vfs *m = all; m != NULL; m = m->next) {
        pthread_mutex_lock(&m->lock);
    }
}

static void unlock_all(void) {
    for (memory_vfs *m = all; m != NULL; m = m->next) {
        pthread_mutex_unlock(&m->lock);
    }
    pthread_mutex_unlock(&all_lock);
}

static void watch_fork(void) {
    pthread_atfork(lock_all, unlock_all, unlock_all);
}

/* ---- the table ---- */

static const vex_vfs memory_table = {
    .name = "memory",
    .is_volatile = true,
    .file_open = memory_open,
    .file_close = memory_close,
    .file_read = memory_read,
    .file_write = memory_write,
    .file_truncate = memory_truncate,
    .file_allocate = memory_allocate,
    .file_sync = memory_sync,
    .file_sync_data = memory_sync,
    .file_stat = memory_file_stat,
    .file_try_lock = memory_try_lock,
    .file_unlock = memory_unlock,
    .path_lock_holder = memory_lock_holder,
    .file_map = memory_map,
    .file_unmap = memory_unmap,
    .map_advise = memory_advise,
    .map_resident = memory_resident,
    .path_stat = memory_path_stat,
    .path_rename = memory_rename,
    .path_link = memory_link,
    .path_remove = memory_remove,
    .dir_create = memory_dir_create,
    .dir_remove = memory_dir_remove,
    .dir_sync = memory_dir_sync,
    .dir_list = memory_dir_list,
    .disk_space = memory_disk_space,
    .clock_ms = vex_system_clock_ms,
    .sleep_ms = vex_system_sleep_ms,
    .random_bytes = vex_system_random_bytes,
    .boot_id = vex_system_boot_id,
};

vex_status vex_vfs_memory_create(vex_vfs **out) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_fork);
    memory_vfs *m = vex_calloc(1, sizeof *m);
    if (m == NULL || vex_tree_init(&m->tree) != 0) {
        vex_free(m);
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot create an in-memory database");
    }
    pthread_mutex_init(&m->lock, NULL);
    m->vfs = memory_table;
    m->vfs.context = m;
    pthread_mutex_lock(&all_lock);
    m->device = 1ULL << 63 | ++trees_made; /* no number of a real device */
    m->next = all;
    all = m;
    pthread_mutex_unlock(&all_lock);
    *out = &m->vfs;
    return VEX_OK;
}

void vex_vfs_memory_destroy(vex_vfs *vfs) {
    if (vfs == NULL) {
        return;
    }
    memory_vfs *m = vfs->context;
    pthread_mutex_lock(&all_lock);
    memory_vfs **link_to = &all;
    while (*link_to != m) {
        link_to = &(*link_to)->next;
    }
    *link_to = m->next;
    pthread_mutex_unlock(&all_lock);
    vex_tree_clear(&m->tree);
    pthread_mutex_destroy(&m->lock);
    vex_free(m);
}
