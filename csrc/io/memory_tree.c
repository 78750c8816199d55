/*
 * memory_tree.c - nodes, names and bytes of the memory vfs (memory_tree.h).  Functions that return
 * int return 0 or an errno.
 */
#include "io/memory_tree.h"

#include "base/hash.h"

#include "base/poison.h"

/* ---- content ---- */

static vex_content *content_create(size_t capacity) {
    size_t total;
    vex_bulk memory;
    if (__builtin_add_overflow(capacity, VEX_CONTENT_HEADER, &total) ||
        vex_bulk_create(&memory, total) != VEX_OK) {
        return NULL;
    }
    vex_content *block = memory.data;
    block->capacity = memory.bytes - VEX_CONTENT_HEADER;
    block->memory = memory;
    atomic_init(&block->refs, 1);
    return block;
}

void vex_content_release(vex_content *block) {
    if (block != NULL && atomic_fetch_sub(&block->refs, 1) == 1) {
        vex_bulk memory = block->memory;
        vex_bulk_destroy(&memory);
    }
}

/* ---- nodes and names ---- */

static vex_node *node_create(vex_tree *tree, bool is_directory) {
    vex_node *n = vex_calloc(1, sizeof *n);
    if (n != NULL) {
        n->refs = 1;
        n->is_directory = is_directory;
        n->inode = tree->next_inode++;
    }
    return n;
}

void vex_node_release(vex_node *n) {
    if (--n->refs == 0) {
        vex_content_release(n->content);
        vex_free(n->entries);
        vex_free(n);
    }
}

static vex_entry *entry_find(vex_node *directory, const char *name, size_t len) {
    uint64_t hash = vex_hash64(name, len);
    for (size_t i = 0; i < directory->n_entries; i++) {
        vex_entry *e = &directory->entries[i];
        if (e->hash == hash && strncmp(e->name, name, len) == 0 && e->name[len] == '\0') {
            return e;
        }
    }
    return NULL;
}

/* Add a name for `target`, whose reference passes to the entry. */
static int entry_add(vex_node *directory, const char *name, size_t len, vex_node *target) {
    char *copy = vex_malloc(len + 1);
    if (copy == NULL || vex_grow((void **)&directory->entries, &directory->entry_capacity,
                                 directory->n_entries + 1, sizeof(vex_entry)) != VEX_OK) {
        vex_free(copy);
        return ENOMEM;
    }
    memcpy(copy, name, len);
    copy[len] = '\0';
    directory->entries[directory->n_entries++] = (vex_entry){vex_hash64(name, len), copy, target};
    target->names++;
    if (target->is_directory) {
        target->parent = directory;
    }
    return 0;
}

static void entry_remove(vex_node *directory, vex_entry *e) {
    vex_node *target = e->node;
    target->names--;
    vex_free(e->name);
    *e = directory->entries[--directory->n_entries];
    vex_node_release(target);
}

/* Where a path leads: the directory that holds its last name, and the entry when it exists.
 * The root, and paths ending in "..", have no name of their own: `self` is set then. */
typedef struct place {
    vex_node *directory;
    const char *name;
    size_t name_len;
    vex_entry *found;
    vex_node *self;
} place;

static vex_node *place_node(const place *p) {
    return p->self ? p->self : p->found ? p->found->node : NULL;
}

/* Walk `path`; 0 or an errno.  A missing last name is no error here. */
static int walk(vex_tree *tree, const char *path, place *out) {
    *out = (place){.self = tree->root};
    for (const char *name = path;;) {
        name += strspn(name, "/");
        size_t len = strcspn(name, "/");
        if (len == 0) {
            return 0;
        }
        vex_node *here = place_node(out);
        if (here == NULL) {
            return ENOENT;
        }
        if (!here->is_directory) {
            return ENOTDIR;
        }
        if (len == 2 && memcmp(name, "..", 2) == 0) {
            *out = (place){.self = here->parent};
        } else if (!(len == 1 && name[0] == '.')) {
            *out = (place){.directory = here, .name = name, .name_len = len};
            out->found = entry_find(here, name, len);
        }
        name += len;
    }
}

int vex_tree_find(vex_tree *tree, const char *path, vex_node **out) {
    place p;
    int error = walk(tree, path, &p);
    if (error == 0) {
        *out = place_node(&p);
        error = *out ? 0 : ENOENT;
    }
    return error;
}

/* Make a node at a place where nothing is. */
static int create_at(vex_tree *tree, const place *p, bool is_directory) {
    vex_node *made = node_create(tree, is_directory);
    if (made == NULL) {
        return ENOMEM;
    }
    int error = entry_add(p->directory, p->name, p->name_len, made);
    if (error != 0) {
        vex_node_release(made);
    }
    return error;
}

int vex_tree_init(vex_tree *tree) {
    tree->next_inode = 1;
    tree->root = node_create(tree, true);
    if (tree->root == NULL) {
        return ENOMEM;
    }
    tree->root->parent = tree->root;
    return 0;
}

void vex_tree_clear(vex_tree *tree) {
    for (vex_node *n = tree->root; n->n_entries > 0 || n != tree->root;) {
        vex_entry *last = n->n_entries > 0 ? &n->entries[n->n_entries - 1] : NULL;
        if (last == NULL) {
            n = n->parent;
        } else if (last->node->n_entries > 0) {
            n = last->node;
        } else {
            entry_remove(n, last);
        }
    }
    vex_node_release(tree->root);
    tree->root = NULL;
}

int vex_tree_open(vex_tree *tree, const char *path, vex_file_mode mode, vex_node **out) {
    place p;
    int error = walk(tree, path, &p);
    if (error != 0) {
        return error;
    }
    if (place_node(&p) == NULL) {
        if (mode == VEX_FILE_READ || mode == VEX_FILE_WRITE) {
            return ENOENT;
        }
        error = create_at(tree, &p, false);
        if (error != 0) {
            return error;
        }
        p.found = entry_find(p.directory, p.name, p.name_len);
    } else if (mode == VEX_FILE_CREATE_NEW) {
        return EEXIST;
    }
    *out = place_node(&p);
    if ((*out)->is_directory) {
        return EISDIR;
    }
    (*out)->refs++;
    return 0;
}

static bool is_inside(const vex_node *directory, const vex_node *ancestor) {
    while (directory != ancestor && directory->parent != directory) {
        directory = directory->parent;
    }
    return directory == ancestor;
}

/* May `from` take the place `to`? */
static int check_rename(const place *from, const place *to) {
    if (from->self || to->self) {
        return EBUSY; /* the root, or a directory by way of ".." */
    }
    if (from->found == NULL) {
        return ENOENT;
    }
    vex_node *moved = from->found->node;
    if (moved->is_directory && is_inside(to->directory, moved)) {
        return EINVAL;
    }
    if (to->found != NULL) {
        vex_node *replaced = to->found->node;
        if (moved->is_directory != replaced->is_directory) {
            return moved->is_directory ? ENOTDIR : EISDIR;
        }
        return replaced->n_entries > 0 && replaced != moved ? ENOTEMPTY : 0;
    }
    return 0;
}

int vex_tree_rename(vex_tree *tree, const char *from_path, const char *to_path) {
    place from, to;
    int error = walk(tree, from_path, &from);
    error = error ? error : walk(tree, to_path, &to);
    error = error ? error : check_rename(&from, &to);
    if (error != 0 || (to.found && to.found->node == from.found->node)) {
        return error; /* two names of one file: POSIX does nothing */
    }
    vex_node *moved = from.found->node;
    moved->refs++; /* for the new entry */
    if (to.found != NULL) {
        vex_node *replaced = to.found->node;
        to.found->node = moved;
        vex_node_release(replaced);
        if (moved->is_directory) {
            moved->parent = to.directory;
        }
    } else {
        error = entry_add(to.directory, to.name, to.name_len, moved);
        if (error != 0) {
            moved->refs--;
            return error;
        }
    }
    /* looked up again: adding an entry may have moved the array */
    entry_remove(from.directory, entry_find(from.directory, from.name, from.name_len));
    return 0;
}

int vex_tree_link(vex_tree *tree, const char *from, const char *to) {
    vex_node *target;
    place p;
    int error = vex_tree_find(tree, from, &target);
    error = error ? error : walk(tree, to, &p);
    if (error != 0) {
        return error;
    }
    if (target->is_directory) {
        return EPERM;
    }
    if (place_node(&p) != NULL) {
        return EEXIST;
    }
    error = entry_add(p.directory, p.name, p.name_len, target);
    target->refs += error == 0;
    return error;
}

int vex_tree_remove(vex_tree *tree, const char *path, bool directory) {
    place p;
    int error = walk(tree, path, &p);
    if (error != 0) {
        return error;
    }
    const vex_node *n = place_node(&p);
    if (n == NULL) {
        return ENOENT;
    }
    if (n->is_directory != directory) {
        return directory ? ENOTDIR : EISDIR;
    }
    if (p.self) {
        return EBUSY;
    }
    if (n->n_entries > 0) {
        return ENOTEMPTY;
    }
    entry_remove(p.directory, p.found);
    return 0;
}

int vex_tree_mkdir(vex_tree *tree, const char *path) {
    place p;
    int error = walk(tree, path, &p);
    if (error == 0) {
        error = place_node(&p) ? EEXIST : create_at(tree, &p, true);
    }
    return error;
}

int vex_tree_list(vex_tree *tree, const char *path, vex_buf *names) {
    vex_node *n;
    int error = vex_tree_find(tree, path, &n);
    if (error != 0) {
        return error;
    }
    if (!n->is_directory) {
        return ENOTDIR;
    }
    for (size_t i = 0; i < n->n_entries; i++) {
        const char *name = n->entries[i].name;
        if (vex_buf_append(names, name, strlen(name) + 1) != VEX_OK) {
            return ENOMEM;
        }
    }
    return 0;
}

/* ---- bytes ---- */

/* Make room for `size` bytes. */
static int reserve(vex_node *n, uint64_t size) {
    size_t capacity = n->content ? n->content->capacity : 0;
    if (size <= capacity) {
        return 0;
    }
    if (size > SIZE_MAX / 4) {
        return EFBIG;
    }
    size_t wanted = size > 2 * capacity ? (size_t)size : 2 * capacity;
    vex_content *larger = content_create(wanted);
    if (larger == NULL) {
        return ENOMEM;
    }
    if (n->size > 0) {
        memcpy(vex_content_bytes(larger), vex_content_bytes(n->content), (size_t)n->size);
    }
    vex_content_release(n->content);
    n->content = larger;
    return 0;
}

/* Raise the size to `size`, with zeros. */
int vex_node_extend(vex_node *n, uint64_t size) {
    int error = size > n->size ? reserve(n, size) : 0;
    if (error == 0 && size > n->size) {
        memset(vex_content_bytes(n->content) + n->size, 0, (size_t)(size - n->size));
        n->size = size;
    }
    return error;
}

int vex_node_write(vex_node *n, const vex_iovec *parts, uint32_t n_parts, uint64_t offset) {
    uint64_t end = offset;
    for (uint32_t i = 0; i < n_parts; i++) {
        if (__builtin_add_overflow(end, (uint64_t)parts[i].len, &end)) {
            return EFBIG;
        }
    }
    if (end == offset) {
        return 0;
    }
    int error = reserve(n, end);
    if (error == 0 && offset > n->size) {
        error = vex_node_extend(n, offset);
    }
    if (error != 0) {
        return error;
    }
    uint8_t *to = vex_content_bytes(n->content) + offset;
    for (uint32_t i = 0; i < n_parts; i++) {
        if (parts[i].len > 0) {
            memcpy(to, parts[i].data, parts[i].len);
            to += parts[i].len;
        }
    }
    n->size = end > n->size ? end : n->size;
    return 0;
}

int vex_node_resize(vex_node *n, uint64_t size) {
    int error = vex_node_extend(n, size);
    if (error != 0) {
        return error;
    }
    n->size = size;
    if (size == 0) {
        vex_content_release(n->content);
        n->content = NULL;
    }
    return 0;
}
