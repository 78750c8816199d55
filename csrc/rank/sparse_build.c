/*
 * sparse_build.c - making the section of sparse vectors (layout in sparse_index.h).
 *
 * Every entry of a vector is noted with its key; sorted, the notes are the lists.
 */
#include "rank/sparse_index.h"

#include "base/crc32c.h"
#include "filter/expr.h"
#include "rank/sparse.h"

#include <stdlib.h>

#include "base/poison.h"

typedef struct note {
    uint32_t key, index, row, value;
} note;

typedef struct key_name {
    uint8_t *bytes;
    size_t len;
} key_name;

struct vex_sparse_builder {
    key_name *keys;
    size_t n_keys, keys_capacity;
    note *notes;
    size_t n_notes, notes_capacity;
};

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index of sparse vectors");
}

/* ---- notes ---- */

vex_status vex_sparse_builder_create(vex_sparse_builder **out) {
    *out = vex_calloc(1, sizeof **out);
    return *out ? VEX_OK : no_memory();
}

void vex_sparse_builder_destroy(vex_sparse_builder *builder) {
    if (builder == NULL) {
        return;
    }
    for (size_t i = 0; i < builder->n_keys; i++) {
        vex_free(builder->keys[i].bytes);
    }
    vex_free(builder->keys);
    vex_free(builder->notes);
    vex_free(builder);
}

/* A collection has one such key, or a few. */
static vex_status find_key(vex_sparse_builder *builder, const uint8_t *bytes, size_t len,
                           uint32_t *number) {
    for (size_t i = 0; i < builder->n_keys; i++) {
        if (builder->keys[i].len == len && memcmp(builder->keys[i].bytes, bytes, len) == 0) {
            *number = (uint32_t)i;
            return VEX_OK;
        }
    }
    VEX_TRY(vex_grow((void **)&builder->keys, &builder->keys_capacity, builder->n_keys + 1,
                     sizeof *builder->keys));
    uint8_t *copy = vex_malloc(len + 1);
    if (copy == NULL) {
        return no_memory();
    }
    memcpy(copy, bytes, len);
    builder->keys[builder->n_keys] = (key_name){copy, len};
    *number = (uint32_t)builder->n_keys++;
    return VEX_OK;
}

static vex_status take_vector(vex_sparse_builder *builder, uint32_t row, const uint8_t *key,
                              size_t key_len, const vex_value *value) {
    vex_sparse_vector vector;
    uint32_t number = 0;
    const char *problem = vex_sparse_problem(value->bytes, value->len);
    if (problem != NULL || !vex_sparse_read(value->bytes, value->len, &vector)) {
        return VEX_FAIL(VEX_ERR_CORRUPT, "a sparse vector is malformed: %s",
                        problem ? problem : "too short");
    }
    VEX_TRY(find_key(builder, key, key_len, &number));
    VEX_TRY(vex_grow((void **)&builder->notes, &builder->notes_capacity,
                     builder->n_notes + vector.n, sizeof *builder->notes));
    for (uint32_t i = 0; i < vector.n; i++) {
        builder->notes[builder->n_notes++] = (note){number, vex_sparse_index(&vector, i), row,
                                                    vex_get32(vector.values + 4 * (size_t)i)};
    }
    return VEX_OK;
}

vex_status vex_sparse_builder_add(vex_sparse_builder *builder, uint32_t row,
                                  const uint8_t *metadata, size_t len) {
    vex_mp_reader reader;
    const uint8_t *key;
    size_t key_len;
    vex_value value;
    const uint32_t n = vex_metadata_start(&reader, metadata, len);
    for (uint32_t i = 0; i < n && vex_metadata_next(&reader, &key, &key_len, &value); i++) {
        if (key == NULL || value.type != VEX_VALUE_SPARSE) {
            continue;
        }
        const vex_value found = vex_metadata_find(metadata, len, key, key_len);
        if (found.bytes == value.bytes) { /* not a key that was there before */
            VEX_TRY(take_vector(builder, row, key, key_len, &value));
        }
    }
    return VEX_OK;
}

/* ---- lists ---- */

static int compare_notes(const void *a, const void *b) {
    const note *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    if (x->index != y->index) {
        return x->index < y->index ? -1 : 1;
    }
    return x->row < y->row ? -1 : x->row > y->row;
}

typedef struct sparse_parts {
    vex_buf keys, lists, names, postings, blocks;
} sparse_parts;

static vex_status put32(vex_buf *out, uint32_t number) {
    uint8_t bytes[4];
    vex_put32(bytes, number);
    return vex_buf_append(out, bytes, sizeof bytes);
}

static vex_status put_range(vex_buf *out, const note *list, size_t n) {
    uint32_t least = 0, greatest = 0;
    for (size_t i = 1; i < n; i++) {
        const float value = vex_float_of_bits(list[i].value);
        least = value < vex_float_of_bits(list[least].value) ? (uint32_t)i : least;
        greatest = value > vex_float_of_bits(list[greatest].value) ? (uint32_t)i : greatest;
    }
    VEX_TRY(put32(out, list[least].value));
    return put32(out, list[greatest].value);
}

static vex_status put_block(vex_buf *out, const note *list, size_t n, uint32_t next) {
    uint32_t gaps[VEX_BLOCK_ROWS];
    for (size_t i = 0; i < n; i++) {
        gaps[i] = list[i].row - next;
        next = list[i].row + 1;
    }
    if (n == VEX_BLOCK_ROWS) {
        const uint8_t width = (uint8_t)vex_pack_width(gaps, VEX_BLOCK_ROWS);
        VEX_TRY(vex_buf_append(out, &width, 1));
        const size_t at = out->len;
        VEX_TRY(vex_buf_append_zeros(out, vex_packed_bytes(width)));
        vex_pack(gaps, width, out->data + at);
    } else {
        for (size_t i = 0; i < n; i++) {
            VEX_TRY(vex_leb_append(out, gaps[i]));
        }
    }
    for (size_t i = 0; i < n; i++) {
        VEX_TRY(put32(out, list[i].value));
    }
    return VEX_OK;
}

static vex_status put_list(sparse_parts *parts, const note *list, size_t n) {
    vex_buf *out = &parts->postings;
    const size_t n_blocks = (n + VEX_BLOCK_ROWS - 1) / VEX_BLOCK_ROWS;
    VEX_TRY(put32(&parts->lists, list[0].index));
    VEX_TRY(put32(&parts->lists, (uint32_t)n));
    VEX_TRY(put32(&parts->lists, (uint32_t)out->len));
    VEX_TRY(put_range(out, list, n));
    parts->blocks.len = 0;
    for (size_t b = 0; b < n_blocks; b++) {
        const note *block = list + b * VEX_BLOCK_ROWS;
        const size_t left = n - b * VEX_BLOCK_ROWS;
        const size_t in_block = left < VEX_BLOCK_ROWS ? left : VEX_BLOCK_ROWS;
        if (n_blocks > 1) {
            VEX_TRY(put32(out, block[in_block - 1].row));
            VEX_TRY(put32(out, (uint32_t)parts->blocks.len));
            VEX_TRY(put_range(out, block, in_block));
        }
        VEX_TRY(put_block(&parts->blocks, block, in_block, b > 0 ? block[-1].row + 1 : 0));
    }
    VEX_TRY(vex_buf_append(out, parts->blocks.data, parts->blocks.len));
    return out->len <= UINT32_MAX
               ? VEX_OK
               : VEX_FAIL(VEX_ERR_TOO_BIG, "an index of sparse vectors passes 4 GiB");
}

static vex_status put_lists(const vex_sparse_builder *builder, sparse_parts *parts) {
    size_t at = 0;
    for (size_t k = 0; k < builder->n_keys; k++) {
        const size_t first = parts->lists.len / VEX_SPARSE_LIST_BYTES;
        while (at < builder->n_notes && builder->notes[at].key == k) {
            size_t end = at + 1;
            while (end < builder->n_notes && builder->notes[end].key == k &&
                   builder->notes[end].index == builder->notes[at].index) {
                end++;
            }
            VEX_TRY(put_list(parts, builder->notes + at, end - at));
            at = end;
        }
        VEX_TRY(put32(&parts->keys, (uint32_t)parts->names.len));
        VEX_TRY(put32(&parts->keys, (uint32_t)builder->keys[k].len));
        VEX_TRY(put32(&parts->keys, (uint32_t)first));
        VEX_TRY(put32(&parts->keys, (uint32_t)(parts->lists.len / VEX_SPARSE_LIST_BYTES - first)));
        VEX_TRY(vex_buf_append(&parts->names, builder->keys[k].bytes, builder->keys[k].len));
    }
    return vex_buf_append_zeros(&parts->names, (4 - parts->names.len % 4) % 4);
}

static vex_status write_section(const vex_sparse_builder *builder, uint32_t n_rows,
                                const sparse_parts *parts, vex_buf *out) {
    const size_t start = out->len;
    VEX_TRY(vex_buf_append_zeros(out, VEX_SPARSE_HEADER_BYTES));
    const vex_buf *bodies[] = {&parts->keys, &parts->lists, &parts->names, &parts->postings};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        if (bodies[i]->len > 0) {
            VEX_TRY(vex_buf_append(out, bodies[i]->data, bodies[i]->len));
        }
    }
    uint8_t *header = out->data + start;
    vex_put32(header, VEX_SPARSE_MAGIC);
    vex_put32(header + 4, n_rows);
    vex_put32(header + 8, (uint32_t)builder->n_keys);
    vex_put32(header + 12, (uint32_t)(parts->lists.len / VEX_SPARSE_LIST_BYTES));
    vex_put32(header + 16, (uint32_t)parts->names.len);
    vex_put32(header + 20, (uint32_t)parts->postings.len);
    vex_put32(header + 24, vex_crc32c(0, header + VEX_SPARSE_HEADER_BYTES,
                                      out->len - start - VEX_SPARSE_HEADER_BYTES));
    vex_put32(header + VEX_SPARSE_HEADER_CRC, vex_crc32c(0, header, VEX_SPARSE_HEADER_CRC));
    return VEX_OK;
}

vex_status vex_sparse_builder_finish(vex_sparse_builder *builder, uint32_t n_rows, vex_buf *out) {
    sparse_parts parts = {0};
    if (builder->n_notes > 1) {
        qsort(builder->notes, builder->n_notes, sizeof *builder->notes, compare_notes);
    }
    vex_status status = put_lists(builder, &parts);
    if (status == VEX_OK) {
        status = write_section(builder, n_rows, &parts, out);
    }
    vex_buf_clear(&parts.keys);
    vex_buf_clear(&parts.lists);
    vex_buf_clear(&parts.names);
    vex_buf_clear(&parts.postings);
    vex_buf_clear(&parts.blocks);
    return status;
}
