/*
 * memory_tree.h - the file tree behind the memory vfs; errors are errno values, 0 is success.
 *
 * Names.  A directory node holds an array of entries (hash, name, node); a path is walked name by
 * name from the root.  "." and ".." work, a missing leading slash is supplied.  A node is kept
 * alive by its entries and its open handles (`refs`), so unlinked and replaced files go on for
 * those who hold them, as on POSIX.
 *
 * Bytes.  A file's bytes are one content block: a bulk buffer that begins with its own header and
 * is counted in references, one of the node and one per mapping.  A block never moves and never
 * grows; a file that outgrows its block gets a new one, and mappings keep the old.  A mapping is
 * the address behind the header, which is how unmapping finds the block.  Within the capacity
 * writes are in place and seen by mappings, as in a shared mapping.  Bytes in a block beyond the
 * file's size are undefined; whoever raises the size zeroes what it does not write.
 *
 * Nothing here locks: the vfs calls with its tree's lock held.  Only content references are
 * atomic, because a mapping may be given back without the lock.
 */
#ifndef VEX_IO_MEMORY_TREE_H
#define VEX_IO_MEMORY_TREE_H

#include "base/mem.h"
#include "io/vfs.h"

#include <stdatomic.h>

typedef struct vex_content {
    _Atomic uint32_t refs;
    size_t capacity;
    vex_bulk memory; /* this block */
} vex_content;

#define VEX_CONTENT_HEADER ((size_t)64) /* keeps the bytes 64-byte aligned */
_Static_assert(sizeof(vex_content) <= VEX_CONTENT_HEADER, "content header");

static inline uint8_t *vex_content_bytes(vex_content *content) {
    return (uint8_t *)content + VEX_CONTENT_HEADER;
}
static inline vex_content *vex_content_of(const uint8_t *bytes) {
    return (vex_content *)(void *)((uintptr_t)bytes - VEX_CONTENT_HEADER);
}
void vex_content_release(vex_content *content); /* NULL is fine */

typedef struct vex_node vex_node;

typedef struct vex_entry {
    uint64_t hash;
    char *name;
    vex_node *node;
} vex_entry;

struct vex_node {
    uint32_t refs; /* entries and handles */
    bool is_directory;
    uint64_t inode;
    vex_node *parent;                    /* directory: where it is; the root is its own parent  */
    vex_entry *entries;                  /* directory                                           */
    size_t n_entries, entry_capacity;
    vex_content *content;                /* file; NULL while it needs none                      */
    uint64_t size;
    uint64_t names;                      /* entries                                              */
    const vex_file *lock_owner;          /* file: handle that holds the advisory lock           */
};

typedef struct vex_tree {
    vex_node *root;
    uint64_t next_inode;
} vex_tree;

int vex_tree_init(vex_tree *tree);
void vex_tree_clear(vex_tree *tree);

/* The node at `path`, borrowed. */
int vex_tree_find(vex_tree *tree, const char *path, vex_node **out);

/* The file as file_open wants it; the caller releases the reference it gets. */
int vex_tree_open(vex_tree *tree, const char *path, vex_file_mode mode, vex_node **out);
void vex_node_release(vex_node *node);

int vex_tree_rename(vex_tree *tree, const char *from, const char *to);
int vex_tree_link(vex_tree *tree, const char *from, const char *to);
int vex_tree_remove(vex_tree *tree, const char *path, bool directory);
int vex_tree_mkdir(vex_tree *tree, const char *path);

/* Append all names in the directory, each with its final zero. */
int vex_tree_list(vex_tree *tree, const char *path, vex_buf *names);

int vex_node_write(vex_node *node, const vex_iovec *parts, uint32_t n_parts, uint64_t offset);
int vex_node_extend(vex_node *node, uint64_t size); /* grow to `size` with zeros, never shrink */
int vex_node_resize(vex_node *node, uint64_t size);

#endif
