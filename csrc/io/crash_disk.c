/*
 * crash_disk.c - see crash_disk.h.
 *
 * Nodes are numbered by their inodes.  The names of all directories are one array of entries,
 * which an image copies and changes; the bytes of a node are copied by an image only when a pending
 * operation changes them.
 */
#ifdef VEX_TESTING

#include "io/crash_disk.h"

#include "base/hash.h"
#include "base/mem.h"

#include "base/poison.h"

#define SECTOR ((size_t)512)
#define ROOT 1u /* inode of the root of a memory vfs */

typedef struct content {
    uint8_t *bytes;
    size_t size, capacity;
    uint64_t hash;
} content;

typedef struct disk_node {
    bool is_directory;
    content file;
} disk_node;

typedef struct disk_entry {
    uint32_t dir, node;
    const char *name; /* in the operation, or owned by `names` */
} disk_entry;

typedef struct entries {
    disk_entry *items;
    size_t n, capacity;
} entries;

typedef struct pending_op {
    const vex_trace_op *op; /* what is left of it */
    const vex_trace_op *of; /* in the trace */
    vex_trace_op *own;      /* of a failed sync: a copy of which later writes take their part */
} pending_op;

struct vex_disk {
    disk_node *nodes;
    size_t n_nodes, node_capacity;
    entries names;
    char **owned; /* names of the files that were there at the beginning */
    size_t n_owned, owned_capacity;
    pending_op *pending;
    size_t n_pending, pending_capacity;
};

struct vex_image {
    const vex_disk *disk;
    entries names;
    content *changed; /* per node; bytes NULL: as on the disk */
    bool *is_changed;
    uint64_t hash;
};

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot hold a disk");
}

/* ---- bytes ---- */

static uint64_t hash_bytes(const uint8_t *bytes, size_t len) {
    uint64_t h = 0x9e3779b97f4a7c15ULL ^ len;
    for (; len >= 8; bytes += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdULL;
        h ^= h >> 32;
    }
    return vex_mix64(h ^ vex_hash64(bytes, len));
}

static vex_status resize(content *c, size_t size) {
    size_t before = c->size;
    VEX_TRY(vex_grow((void **)&c->bytes, &c->capacity, size + 1, 1));
    if (size > before) {
        memset(c->bytes + before, 0, size - before);
    }
    c->size = size;
    return VEX_OK;
}

static vex_status copy_content(content *to, const content *from) {
    *to = (content){0};
    VEX_TRY(resize(to, from->size));
    if (from->size > 0) {
        memcpy(to->bytes, from->bytes, from->size);
    }
    to->hash = from->hash;
    return VEX_OK;
}

static uint64_t next_random(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15ULL;
    return vex_mix64(*state);
}

/* The sector in flight: what the write changes in it may be anything. */
static void tear_sector(uint8_t *to, const uint8_t *from, size_t len, uint64_t *random) {
    uint64_t how = next_random(random) % 4;
    size_t cut = (size_t)(next_random(random) % (len + 1));
    for (size_t i = 0; i < len; i++) {
        uint8_t garbage = how == 0 ? 0 : (uint8_t)next_random(random);
        bool is_new = how == 2 ? i < cut : how == 3 && i >= cut;
        bool as_before = how >= 2 && !is_new && next_random(random) % 2 == 0;
        if (to[i] != from[i] && !as_before) {
            to[i] = is_new ? from[i] : garbage;
        }
    }
}

static vex_status apply_torn(content *c, const vex_trace_op *op, uint64_t random) {
    uint64_t end = op->offset + op->len;
    uint64_t how = next_random(&random) % 4;
    size_t first = (size_t)op->offset / SECTOR, n = ((size_t)end + SECTOR - 1) / SECTOR - first;
    size_t split = (size_t)(next_random(&random) % n);
    size_t grown = how == 0 ? (first + split + 1) * SECTOR : (size_t)end; /* cut there, or whole */
    grown = grown < end ? grown : (size_t)end;
    if (grown > c->size) {
        VEX_TRY(resize(c, grown));
    }
    for (size_t i = 0; i < n; i++) {
        size_t from = (first + i) * SECTOR, to = from + SECTOR;
        from = from > op->offset ? from : (size_t)op->offset;
        to = to < end ? to : (size_t)end;
        to = to < c->size ? to : c->size;
        if (from >= to) {
            continue;
        }
        const uint8_t *bytes = op->bytes + (from - op->offset);
        bool is_new = how <= 1 ? i < split : how == 2 ? i != split : next_random(&random) % 2;
        if (i == split) {
            tear_sector(c->bytes + from, bytes, to - from, &random);
        } else if (is_new) {
            memcpy(c->bytes + from, bytes, to - from);
        }
    }
    return VEX_OK;
}

static vex_status apply_to_content(content *c, const vex_trace_op *op, uint8_t fate,
                                   uint64_t random) {
    if (op->kind == VEX_TRACE_RESIZE) {
        return resize(c, (size_t)op->size);
    }
    if (op->kind == VEX_TRACE_ALLOCATE) {
        return op->size > c->size ? resize(c, (size_t)op->size) : VEX_OK;
    }
    if (fate >= VEX_FATE_TORN_A) {
        return apply_torn(c, op, random + fate);
    }
    size_t end = (size_t)(op->offset + op->len);
    if (end > c->size && op->len > 0) {
        VEX_TRY(resize(c, end));
    }
    if (fate == VEX_FATE_WHOLE && op->len > 0) {
        memcpy(c->bytes + op->offset, op->bytes, op->len);
    }
    return VEX_OK;
}

/* ---- names ---- */

static disk_entry *find(const entries *names, uint32_t dir, const char *name) {
    for (size_t i = 0; i < names->n; i++) {
        if (names->items[i].dir == dir && strcmp(names->items[i].name, name) == 0) {
            return &names->items[i];
        }
    }
    return NULL;
}

static void forget(entries *names, uint32_t dir, const char *name) {
    disk_entry *there = find(names, dir, name);
    if (there != NULL) {
        *there = names->items[--names->n];
    }
}

static vex_status set(entries *names, uint32_t dir, const char *name, uint32_t node) {
    disk_entry *there = find(names, dir, name);
    if (there == NULL) {
        VEX_TRY(vex_grow((void **)&names->items, &names->capacity, names->n + 1, sizeof *there));
        there = &names->items[names->n++];
    }
    *there = (disk_entry){dir, node, name};
    return VEX_OK;
}

static vex_status copy_names(entries *to, const entries *from) {
    *to = (entries){0};
    VEX_TRY(vex_grow((void **)&to->items, &to->capacity, from->n + 4, sizeof(disk_entry)));
    if (from->n > 0) {
        memcpy(to->items, from->items, from->n * sizeof(disk_entry));
    }
    to->n = from->n;
    return VEX_OK;
}

static const char *last_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static vex_status apply_to_names(entries *names, const vex_trace_op *op) {
    switch (op->kind) {
    case VEX_TRACE_CREATE:
    case VEX_TRACE_MKDIR:
        return set(names, op->dir, last_name(op->path), op->node);
    case VEX_TRACE_LINK:
        return set(names, op->dir, last_name(op->to_path), op->node);
    case VEX_TRACE_RENAME:
        forget(names, op->dir, last_name(op->path));
        return set(names, op->dir, last_name(op->to_path), op->node);
    default:
        forget(names, op->dir, last_name(op->path));
        return VEX_OK;
    }
}

/* ---- the disk ---- */

static vex_status node_at(vex_disk *disk, uint32_t number, disk_node **out) {
    while (disk->n_nodes <= number) {
        VEX_TRY(vex_grow((void **)&disk->nodes, &disk->node_capacity, disk->n_nodes + 1,
                         sizeof(disk_node)));
        disk->nodes[disk->n_nodes++] = (disk_node){.file.hash = hash_bytes(NULL, 0)};
    }
    *out = &disk->nodes[number];
    return VEX_OK;
}

static bool changes_content(const vex_trace_op *op) {
    return op->kind == VEX_TRACE_WRITE || op->kind == VEX_TRACE_RESIZE ||
           op->kind == VEX_TRACE_ALLOCATE;
}

static void drop_own(pending_op *pending) {
    if (pending->own != NULL) {
        vex_free(pending->own->bytes);
        vex_free(pending->own);
        pending->own = NULL;
    }
}

/* `op` is durable: what is left of older writes may not bring back what it replaced. */
static void supersede(vex_disk *disk, const vex_trace_op *op) {
    for (size_t i = 0; i < disk->n_pending; i++) {
        vex_trace_op *old = disk->pending[i].own;
        if (old == NULL || old->node != op->node || old->kind != VEX_TRACE_WRITE) {
            continue;
        }
        uint64_t from = op->offset > old->offset ? op->offset : old->offset;
        uint64_t to = old->offset + old->len, end = op->offset + op->len;
        to = to < end ? to : end;
        if (op->kind == VEX_TRACE_WRITE && from < to) {
            memcpy(old->bytes + (from - old->offset), op->bytes + (from - op->offset), to - from);
        }
        if (op->kind == VEX_TRACE_RESIZE && op->size < old->offset + old->len) {
            old->len = op->size > old->offset ? (size_t)(op->size - old->offset) : 0;
        }
    }
}

/* Make durable what is pending for a file, or for the names in a directory. */
static vex_status settle(vex_disk *disk, uint32_t number, bool directory) {
    disk_node *node;
    size_t kept = 0;
    bool changed = false;
    VEX_TRY(node_at(disk, number, &node));
    for (size_t i = 0; i < disk->n_pending; i++) {
        pending_op *pending = &disk->pending[i];
        const vex_trace_op *op = pending->op;
        bool of_file = !directory && changes_content(op) && op->node == number;
        if (directory && !changes_content(op) && op->dir == number) {
            VEX_TRY(apply_to_names(&disk->names, op));
        } else if (of_file && pending->own == NULL) {
            VEX_TRY(apply_to_content(&node->file, op, VEX_FATE_WHOLE, 0));
            supersede(disk, op);
            changed = true;
        } else if (of_file && op->kind != VEX_TRACE_WRITE) {
            drop_own(pending); /* the size is another now */
        } else {
            pending_op moved = *pending;
            pending->own = NULL; /* for supersede() */
            disk->pending[kept++] = moved;
        }
    }
    disk->n_pending = kept;
    if (changed) {
        node->file.hash = hash_bytes(node->file.bytes, node->file.size);
    }
    return VEX_OK;
}

/* The changes of a file count as clean from now on. */
static vex_status fail_sync(vex_disk *disk, uint32_t number) {
    for (size_t i = 0; i < disk->n_pending; i++) {
        pending_op *pending = &disk->pending[i];
        if (!changes_content(pending->op) || pending->op->node != number || pending->own != NULL) {
            continue;
        }
        pending->own = vex_malloc(sizeof *pending->own);
        if (pending->own == NULL) {
            return no_memory();
        }
        *pending->own = *pending->op;
        pending->own->bytes = vex_malloc(pending->op->len);
        if (pending->own->bytes == NULL) {
            return no_memory();
        }
        if (pending->op->len > 0) {
            memcpy(pending->own->bytes, pending->op->bytes, pending->op->len);
        }
        pending->op = pending->own;
    }
    return VEX_OK;
}

vex_status vex_disk_step(vex_disk *disk, const vex_trace_op *op, bool lying) {
    disk_node *node;
    switch (op->kind) {
    case VEX_TRACE_MARK:
        return VEX_OK;
    case VEX_TRACE_SYNC:
    case VEX_TRACE_SYNC_DATA:
        return lying ? VEX_OK : settle(disk, op->node, false);
    case VEX_TRACE_SYNC_FAILED:
        return fail_sync(disk, op->node);
    case VEX_TRACE_SYNC_DIR:
        return lying ? VEX_OK : settle(disk, op->node, true);
    default:
        VEX_TRY(node_at(disk, op->node, &node));
        node->is_directory = node->is_directory || op->kind == VEX_TRACE_MKDIR;
        VEX_TRY(vex_grow((void **)&disk->pending, &disk->pending_capacity, disk->n_pending + 1,
                         sizeof *disk->pending));
        disk->pending[disk->n_pending++] = (pending_op){op, op, NULL};
        return VEX_OK;
    }
}

size_t vex_disk_pending(const vex_disk *disk) {
    return disk->n_pending;
}

const vex_trace_op *vex_disk_pending_op(const vex_disk *disk, size_t i) {
    return disk->pending[i].of;
}

uint32_t vex_disk_fates(const vex_disk *disk, size_t i) {
    const vex_trace_op *op = disk->pending[i].op;
    return op->kind == VEX_TRACE_WRITE && op->len > 0 ? VEX_FATES : 2;
}

/* ---- the disk of a vfs ---- */

typedef struct reading {
    vex_vfs *vfs;
    vex_disk *disk;
    const char *path; /* the directory being read */
    uint32_t dir;
} reading;

static vex_status read_directory(vex_vfs *vfs, vex_disk *disk, const char *path);

static vex_status read_file(vex_vfs *vfs, const char *path, size_t size, content *out) {
    vex_file *file = NULL;
    size_t got = 0;
    VEX_TRY(resize(out, size));
    VEX_TRY(vfs->file_open(vfs, path, VEX_FILE_READ, &file));
    vex_status status = vfs->file_read(vfs, file, out->bytes, size, 0, &got);
    vfs->file_close(vfs, file);
    out->hash = hash_bytes(out->bytes, out->size);
    return status;
}

static vex_status read_entry(void *context, const char *name) {
    const reading *r = context;
    vex_disk *disk = r->disk;
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    disk_node *node;
    VEX_TRY(vex_path_join(path, r->path, name));
    VEX_TRY(r->vfs->path_stat(r->vfs, path, &stat));
    VEX_TRY(vex_grow((void **)&disk->owned, &disk->owned_capacity, disk->n_owned + 1,
                     sizeof *disk->owned));
    char *own = vex_strdup(name);
    if (own == NULL) {
        return no_memory();
    }
    disk->owned[disk->n_owned++] = own;
    VEX_TRY(set(&disk->names, r->dir, own, (uint32_t)stat.inode));
    VEX_TRY(node_at(disk, (uint32_t)stat.inode, &node));
    if (!stat.is_directory) {
        return read_file(r->vfs, path, (size_t)stat.size, &node->file);
    }
    node->is_directory = true;
    return read_directory(r->vfs, disk, path);
}

static vex_status read_directory(vex_vfs *vfs, vex_disk *disk, const char *path) {
    vex_file_stat stat;
    disk_node *node;
    VEX_TRY(vfs->path_stat(vfs, path, &stat));
    VEX_TRY(node_at(disk, (uint32_t)stat.inode, &node));
    node->is_directory = true;
    reading r = {vfs, disk, path, (uint32_t)stat.inode};
    return vfs->dir_list(vfs, path, read_entry, &r);
}

vex_status vex_disk_create(vex_vfs *vfs, vex_disk **out) {
    vex_disk *disk = vex_calloc(1, sizeof *disk);
    if (disk == NULL) {
        return no_memory();
    }
    vex_status status = read_directory(vfs, disk, "/");
    if (status != VEX_OK) {
        vex_disk_destroy(disk);
        return status;
    }
    *out = disk;
    return VEX_OK;
}

void vex_disk_destroy(vex_disk *disk) {
    if (disk == NULL) {
        return;
    }
    for (size_t i = 0; i < disk->n_nodes; i++) {
        vex_free(disk->nodes[i].file.bytes);
    }
    for (size_t i = 0; i < disk->n_owned; i++) {
        vex_free(disk->owned[i]);
    }
    for (size_t i = 0; i < disk->n_pending; i++) {
        drop_own(&disk->pending[i]);
    }
    vex_free(disk->owned);
    vex_free(disk->nodes);
    vex_free(disk->names.items);
    vex_free(disk->pending);
    vex_free(disk);
}

/* ---- images ---- */

static vex_status apply_pending(vex_image *image, const vex_trace_op *op, uint8_t fate,
                                uint64_t random) {
    if (!changes_content(op)) {
        return apply_to_names(&image->names, op);
    }
    if (!image->is_changed[op->node]) {
        image->is_changed[op->node] = true;
        VEX_TRY(copy_content(&image->changed[op->node], &image->disk->nodes[op->node].file));
    }
    return apply_to_content(&image->changed[op->node], op, fate, random);
}

static const content *content_of(const vex_image *image, uint32_t node) {
    return image->is_changed[node] ? &image->changed[node] : &image->disk->nodes[node].file;
}

/* The sum over all that can be reached, each with its path: in whatever order it is met. */
static uint64_t hash_directory(const vex_image *image, uint32_t dir, uint64_t path_hash) {
    uint64_t sum = 0;
    for (size_t i = 0; i < image->names.n; i++) {
        const disk_entry *entry = &image->names.items[i];
        if (entry->dir != dir) {
            continue;
        }
        uint64_t at = vex_mix64(path_hash * 31 + vex_hash64(entry->name, strlen(entry->name)));
        if (image->disk->nodes[entry->node].is_directory) {
            sum += vex_mix64(at + 1) + hash_directory(image, entry->node, at);
        } else {
            sum += vex_mix64(at ^ content_of(image, entry->node)->hash * 0x9e3779b97f4a7c15ULL);
        }
    }
    return sum;
}

vex_status vex_disk_image(const vex_disk *disk, const uint8_t *fates, uint64_t seed,
                          vex_image **out) {
    vex_image *image = vex_calloc(1, sizeof *image);
    if (image == NULL) {
        return no_memory();
    }
    image->disk = disk;
    image->changed = vex_calloc(disk->n_nodes + 1, sizeof *image->changed);
    image->is_changed = vex_calloc(disk->n_nodes + 1, sizeof *image->is_changed);
    vex_status status = copy_names(&image->names, &disk->names);
    if (image->changed == NULL || image->is_changed == NULL) {
        status = no_memory();
    }
    for (size_t i = 0; i < disk->n_pending && status == VEX_OK; i++) {
        if (fates[i] != VEX_FATE_ABSENT) {
            status = apply_pending(image, disk->pending[i].op, fates[i], vex_mix64(seed + i));
        }
    }
    if (status != VEX_OK) {
        vex_image_destroy(image);
        return status;
    }
    for (size_t i = 0; i < disk->n_nodes; i++) {
        content *c = &image->changed[i];
        c->hash = image->is_changed[i] ? hash_bytes(c->bytes, c->size) : 0;
    }
    image->hash = hash_directory(image, ROOT, 0);
    *out = image;
    return VEX_OK;
}

void vex_image_destroy(vex_image *image) {
    if (image == NULL) {
        return;
    }
    for (size_t i = 0; image->changed != NULL && i < image->disk->n_nodes; i++) {
        vex_free(image->changed[i].bytes);
    }
    vex_free(image->changed);
    vex_free(image->is_changed);
    vex_free(image->names.items);
    vex_free(image);
}

uint64_t vex_image_hash(const vex_image *image) {
    return image->hash;
}

static vex_status store_file(const content *c, vex_vfs *vfs, const char *path) {
    vex_file *file = NULL;
    size_t used = c->size; /* most of a log is reserved: zeros */
    while (used > 0 && c->bytes[used - 1] == 0) {
        used--;
    }
    const vex_iovec part = {c->bytes, used};
    VEX_TRY(vfs->file_open(vfs, path, VEX_FILE_CREATE_NEW, &file));
    vex_status status = vfs->file_write(vfs, file, &part, 1, 0);
    if (status == VEX_OK) {
        status = vfs->file_truncate(vfs, file, c->size);
    }
    vfs->file_close(vfs, file);
    return status;
}

static vex_status store_directory(const vex_image *image, uint32_t dir, vex_vfs *vfs,
                                  const char *path) {
    char child[VEX_PATH_MAX];
    for (size_t i = 0; i < image->names.n; i++) {
        const disk_entry *entry = &image->names.items[i];
        if (entry->dir != dir) {
            continue;
        }
        VEX_TRY(vex_path_join(child, path, entry->name));
        if (image->disk->nodes[entry->node].is_directory) {
            VEX_TRY(vfs->dir_create(vfs, child));
            VEX_TRY(store_directory(image, entry->node, vfs, child));
        } else {
            VEX_TRY(store_file(content_of(image, entry->node), vfs, child));
        }
    }
    return VEX_OK;
}

vex_status vex_image_store(const vex_image *image, vex_vfs *vfs) {
    return store_directory(image, ROOT, vfs, "/");
}

#else

typedef int vex_crash_disk_absent; /* a translation unit must not be empty */

#endif
