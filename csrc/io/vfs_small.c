/*
 * vfs_small.c - see vfs_small.h.
 *
 * The table is the inner one with some calls replaced.  Its context stays the inner one's, so calls
 * that are not replaced, and handles, are the inner vfs's own; ours is found from the table's address.
 * One lock is held over each replaced call, so that asking for space and taking it are one.
 */
#ifdef VEX_TESTING

#include "io/vfs_small.h"

#include "base/mem.h"
#include "io/vfs_internal.h"

#include <stdio.h>

#include "base/poison.h"

#define FILES_MAX 1024u
#define MAPS_MAX 1024u

typedef struct small_file {
    uint64_t inode, bytes;
    uint32_t names, handles, maps;
    char path[200]; /* the newest, for messages */
} small_file;

typedef struct small_map {
    const uint8_t *address;
    uint64_t inode;
} small_map;

typedef struct small_vfs {
    vex_vfs vfs; /* what callers hold; first, so that its address is ours */
    vex_vfs *inner;
    pthread_mutex_t lock; /* guards the rest */
    uint64_t size, used, most, refused;
    bool hidden;
    uint32_t n_files, n_maps;
    small_file files[FILES_MAX];
    small_map maps[MAPS_MAX];
} small_vfs;

static small_vfs *enter(vex_vfs *vfs) {
    small_vfs *s = (small_vfs *)vfs;
    pthread_mutex_lock(&s->lock);
    return s;
}

static vex_status leave(small_vfs *s, vex_status status) {
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* ---- accounts ---- */

static void take(small_vfs *s, uint64_t bytes) {
    s->used += bytes;
    s->most = s->used > s->most ? s->used : s->most;
}

static uint64_t left(const small_vfs *s) {
    return s->used < s->size ? s->size - s->used : 0;
}

static vex_status refuse(small_vfs *s, const char *path, const char *what) {
    s->refused++;
    return vex_vfs_fail(path, ENOSPC, what);
}

static small_file *find(small_vfs *s, uint64_t inode) {
    for (uint32_t i = 0; i < s->n_files; i++) {
        if (s->files[i].inode == inode) {
            return &s->files[i];
        }
    }
    return NULL;
}

/* The file is as large as it is now. */
static void settle(small_vfs *s, small_file *file, uint64_t bytes) {
    s->used -= file->bytes;
    file->bytes = bytes;
    take(s, bytes);
}

/* After a name, a handle or a map went. */
static void drop_unused(small_vfs *s, small_file *file) {
    if (file->names + file->handles + file->maps == 0) {
        settle(s, file, 0);
        *file = s->files[--s->n_files];
    }
}

/* The account of what `path` names; NULL: no file. */
static small_file *find_named(small_vfs *s, const char *path) {
    vex_file_stat stat;
    vex_status status = s->inner->path_stat(s->inner, path, &stat);
    return status == VEX_OK && !stat.is_directory ? find(s, stat.inode) : NULL;
}

static void set_path(small_file *file, const char *path) {
    snprintf(file->path, sizeof file->path, "%s", path);
}

static void drop_name(small_vfs *s, small_file *file) {
    s->used -= VEX_SMALL_NAME;
    file->names--;
    drop_unused(s, file);
}

static vex_status find_open(small_vfs *s, vex_file *file, small_file **out) {
    vex_file_stat stat;
    VEX_TRY(s->inner->file_stat(s->inner, file, &stat));
    *out = find(s, stat.inode);
    return VEX_OK;
}

static void settle_open(small_vfs *s, vex_file *file, small_file *account) {
    vex_file_stat stat;
    if (s->inner->file_stat(s->inner, file, &stat) == VEX_OK) {
        settle(s, account, stat.size);
    }
}

/* ---- open files ---- */

static vex_status open_within(small_vfs *s, const char *path, vex_file_mode mode, vex_file **out) {
    vex_file_stat stat;
    bool creates = mode == VEX_FILE_CREATE || mode == VEX_FILE_CREATE_NEW;
    bool is_new = creates && s->inner->path_stat(s->inner, path, &stat) == VEX_ERR_NOT_FOUND;
    if (is_new && s->n_files == FILES_MAX) {
        return vex_vfs_fail(path, ENFILE, "cannot create file");
    }
    if (is_new && left(s) < VEX_SMALL_NAME) {
        return refuse(s, path, "cannot create file");
    }
    VEX_TRY(s->inner->file_open(s->inner, path, mode, out));
    VEX_TRY(s->inner->file_stat(s->inner, *out, &stat));
    if (is_new) {
        take(s, VEX_SMALL_NAME);
        small_file *account = &s->files[s->n_files++];
        *account = (small_file){.inode = stat.inode, .names = 1};
        set_path(account, path);
    }
    find(s, stat.inode)->handles++;
    return VEX_OK;
}

static vex_status small_open(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out) {
    small_vfs *s = enter(vfs);
    return leave(s, open_within(s, path, mode, out));
}

static void small_close(vex_vfs *vfs, vex_file *file) {
    small_vfs *s = enter(vfs);
    small_file *account = NULL;
    if (file != NULL && find_open(s, file, &account) == VEX_OK) {
        account->handles--;
        drop_unused(s, account);
    }
    s->inner->file_close(s->inner, file);
    (void)leave(s, VEX_OK);
}

/* Write the first `len` bytes. */
static vex_status write_some(small_vfs *s, vex_file *file, const vex_iovec *parts, uint32_t n_parts,
                             uint64_t offset, uint64_t len) {
    for (uint32_t i = 0; i < n_parts && len > 0; i++) {
        const vex_iovec part = {parts[i].data, parts[i].len < len ? parts[i].len : (size_t)len};
        VEX_TRY(s->inner->file_write(s->inner, file, &part, 1, offset));
        offset += part.len;
        len -= part.len;
    }
    return VEX_OK;
}

static vex_status small_write(vex_vfs *vfs, vex_file *file, const vex_iovec *parts,
                              uint32_t n_parts, uint64_t offset) {
    small_vfs *s = enter(vfs);
    small_file *account = NULL;
    uint64_t len = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        len += parts[i].len;
    }
    vex_status status = find_open(s, file, &account);
    if (status == VEX_OK) {
        uint64_t room = account->bytes + left(s);
        uint64_t fits = room > offset ? room - offset : 0;
        status = write_some(s, file, parts, n_parts, offset, fits < len ? fits : len);
        settle_open(s, file, account);
        if (status == VEX_OK && fits < len) {
            status = refuse(s, account->path, "cannot write file");
        }
    }
    return leave(s, status);
}

/* Resize by `call`, if the new size fits. */
static vex_status grow(small_vfs *s, vex_file *file, uint64_t size,
                       vex_status (*call)(vex_vfs *, vex_file *, uint64_t), const char *what) {
    small_file *account = NULL;
    VEX_TRY(find_open(s, file, &account));
    if (size > account->bytes && size - account->bytes > left(s)) {
        return refuse(s, account->path, what);
    }
    vex_status status = call(s->inner, file, size);
    settle_open(s, file, account);
    return status;
}

static vex_status small_truncate(vex_vfs *vfs, vex_file *file, uint64_t size) {
    small_vfs *s = enter(vfs);
    return leave(s, grow(s, file, size, s->inner->file_truncate, "cannot resize file"));
}

static vex_status allocate_to(vex_vfs *inner, vex_file *file, uint64_t size) {
    return inner->file_allocate(inner, file, 0, size);
}

static vex_status small_allocate(vex_vfs *vfs, vex_file *file, uint64_t offset, uint64_t len) {
    small_vfs *s = enter(vfs);
    return leave(s, grow(s, file, offset + len, allocate_to, "cannot reserve space for file"));
}

/* ---- mappings ---- */

static vex_status small_map_file(vex_vfs *vfs, vex_file *file, uint64_t size, const uint8_t **out) {
    small_vfs *s = enter(vfs);
    small_file *account = NULL;
    vex_status status = s->n_maps < MAPS_MAX ? find_open(s, file, &account)
                                             : vex_vfs_fail(s->vfs.name, ENOMEM, "cannot map file");
    if (status == VEX_OK) {
        status = s->inner->file_map(s->inner, file, size, out);
    }
    if (status == VEX_OK && size > 0) {
        s->maps[s->n_maps++] = (small_map){*out, account->inode};
        account->maps++;
    }
    return leave(s, status);
}

static void small_unmap(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    small_vfs *s = enter(vfs);
    for (uint32_t i = 0; i < s->n_maps && map != NULL && size > 0; i++) {
        if (s->maps[i].address == map) {
            small_file *account = find(s, s->maps[i].inode);
            s->maps[i] = s->maps[--s->n_maps];
            account->maps--;
            drop_unused(s, account);
            break;
        }
    }
    s->inner->file_unmap(s->inner, map, size);
    (void)leave(s, VEX_OK);
}

/* ---- names ---- */

static vex_status small_rename(vex_vfs *vfs, const char *from, const char *to) {
    small_vfs *s = enter(vfs);
    small_file *replaced = find_named(s, to);
    vex_status status = s->inner->path_rename(s->inner, from, to);
    if (status == VEX_OK && replaced != NULL) {
        drop_name(s, replaced);
    }
    small_file *renamed = status == VEX_OK ? find_named(s, to) : NULL;
    if (renamed != NULL) {
        set_path(renamed, to);
    }
    return leave(s, status);
}

static vex_status small_link(vex_vfs *vfs, const char *from, const char *to) {
    small_vfs *s = enter(vfs);
    small_file *file = find_named(s, from);
    vex_status status = left(s) < VEX_SMALL_NAME ? refuse(s, to, "cannot link file")
                                                 : s->inner->path_link(s->inner, from, to);
    if (status == VEX_OK) {
        take(s, VEX_SMALL_NAME);
        file->names++;
    }
    return leave(s, status);
}

static vex_status small_remove(vex_vfs *vfs, const char *path) {
    small_vfs *s = enter(vfs);
    small_file *file = find_named(s, path);
    vex_status status = s->inner->path_remove(s->inner, path);
    if (status == VEX_OK && file != NULL) {
        drop_name(s, file);
    }
    return leave(s, status);
}

static vex_status small_dir_create(vex_vfs *vfs, const char *path) {
    small_vfs *s = enter(vfs);
    vex_file_stat stat;
    bool is_new = s->inner->path_stat(s->inner, path, &stat) == VEX_ERR_NOT_FOUND;
    vex_status status = is_new && left(s) < VEX_SMALL_NAME
                            ? refuse(s, path, "cannot create directory")
                            : s->inner->dir_create(s->inner, path);
    if (status == VEX_OK) {
        take(s, VEX_SMALL_NAME);
    }
    return leave(s, status);
}

static vex_status small_dir_remove(vex_vfs *vfs, const char *path) {
    small_vfs *s = enter(vfs);
    vex_status status = s->inner->dir_remove(s->inner, path);
    if (status == VEX_OK) {
        s->used -= VEX_SMALL_NAME;
    }
    return leave(s, status);
}

static vex_status small_disk_space(vex_vfs *vfs, const char *path, vex_disk_space *out) {
    (void)path;
    small_vfs *s = enter(vfs);
    out->size = s->hidden ? INT64_MAX : s->size;
    out->left = s->hidden ? INT64_MAX : left(s);
    return leave(s, VEX_OK);
}

/* ---- the disk ---- */

vex_status vex_vfs_small_create(vex_vfs *inner, uint64_t bytes, vex_vfs **out) {
    small_vfs *s = vex_calloc(1, sizeof *s);
    if (s == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot create a vfs");
    }
    s->vfs = *inner;
    s->vfs.name = "small";
    s->vfs.file_open = small_open;
    s->vfs.file_close = small_close;
    s->vfs.file_write = small_write;
    s->vfs.file_truncate = small_truncate;
    s->vfs.file_allocate = small_allocate;
    s->vfs.file_map = small_map_file;
    s->vfs.file_unmap = small_unmap;
    s->vfs.path_rename = small_rename;
    s->vfs.path_link = small_link;
    s->vfs.path_remove = small_remove;
    s->vfs.dir_create = small_dir_create;
    s->vfs.dir_remove = small_dir_remove;
    s->vfs.disk_space = small_disk_space;
    s->inner = inner;
    s->size = bytes;
    pthread_mutex_init(&s->lock, NULL);
    *out = &s->vfs;
    return VEX_OK;
}

void vex_vfs_small_destroy(vex_vfs *vfs) {
    small_vfs *s = (small_vfs *)vfs;
    pthread_mutex_destroy(&s->lock);
    vex_free(s);
}

void vex_vfs_small_resize(vex_vfs *vfs, uint64_t bytes) {
    small_vfs *s = enter(vfs);
    s->size = bytes;
    (void)leave(s, VEX_OK);
}

void vex_vfs_small_hide(vex_vfs *vfs, bool hide) {
    small_vfs *s = enter(vfs);
    s->hidden = hide;
    (void)leave(s, VEX_OK);
}

uint64_t vex_vfs_small_used(vex_vfs *vfs) {
    small_vfs *s = enter(vfs);
    uint64_t used = s->used;
    (void)leave(s, VEX_OK);
    return used;
}

uint64_t vex_vfs_small_most(vex_vfs *vfs) {
    small_vfs *s = enter(vfs);
    uint64_t most = s->most;
    (void)leave(s, VEX_OK);
    return most;
}

uint64_t vex_vfs_small_refused(vex_vfs *vfs) {
    small_vfs *s = enter(vfs);
    uint64_t refused = s->refused;
    (void)leave(s, VEX_OK);
    return refused;
}

#else

typedef int vex_vfs_small_absent; /* a translation unit must not be empty */

#endif
