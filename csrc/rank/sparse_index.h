/*
 * sparse_index.h - the sparse vectors of a payload file's metadata by their indices: the section
 * VEX_SECTION_SPARSE.
 *
 * For every metadata key and every index of its vectors the rows that have it, and their values.
 *
 *   header 64 B   u32 magic 'VXSP', u32 n_rows, u32 n_keys, u32 n_lists, u32 length of the names,
 *                 u32 length of the postings, u32 crc32c of all that follows the header, 32 B 0,
 *                 u32 crc32c of header[0..59]
 *   keys          for each, in no order: u32 offset in the names, u32 length, u32 its first list,
 *                 u32 n lists
 *   lists         of each key in turn, ascending by index: u32 index, u32 n rows, u32 offset in the
 *                 postings
 *   names         the keys' bytes; zeros up to 4
 *   postings      of each list f32 least and f32 greatest value; then rows in blocks of 128, the last
 *                 with what is left: of more than one block first for each u32 its last row, u32 its
 *                 offset from the first block, f32 least, f32 greatest value
 *                   block  128 rows: u8 width, gaps (packed.h); fewer: LEB128 gaps; then f32 values
 * Made of every file with metadata, so that one without sparse vectors says so.  Derived data: when
 * it is missing or damaged (which vex_stats.damaged_parts counts), it is made anew in memory.
 */
#ifndef VEX_RANK_SPARSE_INDEX_H
#define VEX_RANK_SPARSE_INDEX_H

#include "base/bytes.h"
#include "rank/packed.h"
#include "store/payfile.h"

#define VEX_SPARSE_MAGIC 0x50535856u /* "VXSP" */
#define VEX_SPARSE_HEADER_BYTES 64u
#define VEX_SPARSE_HEADER_CRC 60u    /* offset */
#define VEX_SPARSE_KEY_BYTES 16u
#define VEX_SPARSE_LIST_BYTES 12u
#define VEX_SPARSE_SKIP_BYTES 16u

/* The plug-in that makes and opens the section; registered by db. */
const vex_section_plugin *vex_sparse_plugin(void);

typedef struct vex_sparse_builder vex_sparse_builder;

vex_status vex_sparse_builder_create(vex_sparse_builder **out);
void vex_sparse_builder_destroy(vex_sparse_builder *builder); /* NULL is fine */
/* The metadata of a row; rows ascend.  VEX_ERR_CORRUPT at a malformed sparse vector. */
vex_status vex_sparse_builder_add(vex_sparse_builder *builder, uint32_t row,
                                  const uint8_t *metadata, size_t len);
/* Append the section of n_rows rows.  VEX_ERR_TOO_BIG when a part passes 4 GiB. */
vex_status vex_sparse_builder_finish(vex_sparse_builder *builder, uint32_t n_rows, vex_buf *out);

typedef struct vex_sparse_lists {
    uint32_t n_rows, n_keys, n_lists, names_len, postings_len, crc;
    const uint8_t *keys, *lists, *names, *postings;
    size_t body_len;
    const char *path;   /* for errors; borrowed like the bytes                                    */
    uint64_t offset;
    atomic_uchar health;
} vex_sparse_lists;

/* Open bytes, which stay where they are for as long as it is used.  Checks the header only. */
vex_status vex_sparse_lists_open(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                                 uint64_t offset, vex_sparse_lists **out);
void vex_sparse_lists_close(vex_sparse_lists *index);
/* The opened section of a file, or NULL. */
vex_sparse_lists *vex_sparse_lists_of(const vex_payfile *file);
/* Check the checksum, once: before anything below. */
vex_status vex_sparse_lists_verify(vex_sparse_lists *index);
bool vex_sparse_lists_is_damaged(const vex_sparse_lists *index);

/* The lists of a key. */
typedef struct vex_sparse_key {
    uint32_t first, n;
} vex_sparse_key;

vex_status vex_sparse_find_key(vex_sparse_lists *index, const uint8_t *key, size_t len,
                               vex_sparse_key *out);

typedef struct vex_sparse_list {
    uint32_t n, n_blocks;       /* rows; 0: none has the index                                    */
    float least, greatest;
    const uint8_t *skips;       /* NULL: one block                                                */
    const uint8_t *blocks, *end;
    vex_sparse_lists *index;
} vex_sparse_list;

vex_status vex_sparse_find(vex_sparse_lists *index, const vex_sparse_key *key, uint32_t number,
                           vex_sparse_list *out);
/* Block b: rows ascend and are below n_rows; values are the bits of the f32. */
vex_status vex_sparse_block(const vex_sparse_list *list, uint32_t b, vex_block *out);
static inline uint32_t vex_sparse_last_row(const vex_sparse_list *list, uint32_t b) {
    return b + 1 < list->n_blocks ? vex_get32(list->skips + (size_t)b * VEX_SPARSE_SKIP_BYTES)
                                  : UINT32_MAX;
}

static inline float vex_float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
