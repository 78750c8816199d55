/*
 * sparse_read.c - opening the section of sparse vectors and looking indices up in it (layout in
 * sparse_index.h).
 *
 * Opening checks the header; the rest is checked as a whole before the first use.  Bytes with a right
 * checksum are still not trusted as sizes or offsets.
 */
#include "rank/sparse_index.h"

#include "base/crc32c.h"

#include "base/poison.h"

/* Found at the first use; damage stays found. */
typedef enum index_health { INDEX_UNKNOWN, INDEX_GOOD, INDEX_BAD } index_health;

/* ---- opening ---- */

static vex_status damaged(const char *path, uint64_t offset) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, offset, 0, "the index of sparse vectors is damaged");
}

static bool read_header(const uint8_t *data, size_t len, uint32_t rows, vex_sparse_lists *out) {
    if (len < VEX_SPARSE_HEADER_BYTES || vex_get32(data) != VEX_SPARSE_MAGIC ||
        vex_get32(data + VEX_SPARSE_HEADER_CRC) != vex_crc32c(0, data, VEX_SPARSE_HEADER_CRC) ||
        vex_get32(data + 4) != rows) {
        return false;
    }
    out->n_rows = rows;
    out->n_keys = vex_get32(data + 8);
    out->n_lists = vex_get32(data + 12);
    out->names_len = vex_get32(data + 16);
    out->postings_len = vex_get32(data + 20);
    out->crc = vex_get32(data + 24);
    const uint64_t keys_len = (uint64_t)out->n_keys * VEX_SPARSE_KEY_BYTES;
    const uint64_t lists_len = (uint64_t)out->n_lists * VEX_SPARSE_LIST_BYTES;
    const uint64_t body_len = keys_len + lists_len + out->names_len + out->postings_len;
    if (body_len > len - VEX_SPARSE_HEADER_BYTES) {
        return false;
    }
    out->body_len = (size_t)body_len;
    out->keys = data + VEX_SPARSE_HEADER_BYTES;
    out->lists = out->keys + keys_len;
    out->names = out->lists + lists_len;
    out->postings = out->names + out->names_len;
    return true;
}

vex_status vex_sparse_lists_open(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                                 uint64_t offset, vex_sparse_lists **out) {
    vex_sparse_lists *index = vex_calloc(1, sizeof *index);
    if (index == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index of sparse vectors");
    }
    if (!read_header(data, len, rows, index)) {
        vex_free(index);
        return damaged(path, offset);
    }
    index->path = path;
    index->offset = offset;
    *out = index;
    return VEX_OK;
}

void vex_sparse_lists_close(vex_sparse_lists *index) {
    vex_free(index);
}

bool vex_sparse_lists_is_damaged(const vex_sparse_lists *index) {
    return atomic_load_explicit(&index->health, memory_order_relaxed) == INDEX_BAD;
}

static vex_status damaged_at(vex_sparse_lists *index, const uint8_t *where) {
    if (atomic_exchange(&index->health, INDEX_BAD) != INDEX_BAD) {
        vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
    }
    return damaged(index->path,
                   index->offset + VEX_SPARSE_HEADER_BYTES + (uint64_t)(where - index->keys));
}

/* Two threads may both do it the first time; the bytes do not change, so no order is needed. */
vex_status vex_sparse_lists_verify(vex_sparse_lists *index) {
    unsigned char health = atomic_load_explicit(&index->health, memory_order_relaxed);
    if (health == INDEX_UNKNOWN && vex_crc32c(0, index->keys, index->body_len) == index->crc) {
        health = INDEX_GOOD;
        atomic_store_explicit(&index->health, health, memory_order_relaxed);
    }
    return health == INDEX_GOOD ? VEX_OK : damaged_at(index, index->keys);
}

/* ---- the plug-in ---- */

static vex_status build(const vex_payload *rows, uint32_t n, vex_buf *out) {
    vex_sparse_builder *builder = NULL;
    bool any = false;
    VEX_TRY(vex_sparse_builder_create(&builder));
    vex_status status = VEX_OK;
    for (uint32_t row = 0; row < n && status == VEX_OK; row++) {
        if (rows[row].metadata != NULL) {
            any = true;
            status =
                vex_sparse_builder_add(builder, row, rows[row].metadata, rows[row].metadata_len);
        }
    }
    if (status == VEX_OK && any) {
        status = vex_sparse_builder_finish(builder, n, out);
    }
    vex_sparse_builder_destroy(builder);
    /* no section: the rows are read instead, by whom a malformed vector is told of */
    return status == VEX_ERR_TOO_BIG || status == VEX_ERR_CORRUPT ? VEX_OK : status;
}

static vex_status load(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                       uint64_t offset, void **state) {
    vex_sparse_lists *index = NULL;
    VEX_TRY(vex_sparse_lists_open(data, len, rows, path, offset, &index));
    *state = index;
    return VEX_OK;
}

static void unload(void *state) {
    vex_sparse_lists_close(state);
}

const vex_section_plugin *vex_sparse_plugin(void) {
    static const vex_section_plugin plugin = {VEX_SECTION_SPARSE, build, load, unload};
    return &plugin;
}

vex_sparse_lists *vex_sparse_lists_of(const vex_payfile *file) {
    return vex_payfile_plugin(file, VEX_SECTION_SPARSE);
}

/* ---- keys and lists ---- */

vex_status vex_sparse_find_key(vex_sparse_lists *index, const uint8_t *key, size_t len,
                               vex_sparse_key *out) {
    *out = (vex_sparse_key){0};
    for (uint32_t i = 0; i < index->n_keys; i++) {
        const uint8_t *entry = index->keys + (size_t)i * VEX_SPARSE_KEY_BYTES;
        const uint32_t at = vex_get32(entry), name_len = vex_get32(entry + 4);
        const uint32_t first = vex_get32(entry + 8), n = vex_get32(entry + 12);
        if (at > index->names_len || name_len > index->names_len - at || first > index->n_lists ||
            n > index->n_lists - first) {
            return damaged_at(index, entry);
        }
        if (name_len == len && memcmp(index->names + at, key, len) == 0) {
            *out = (vex_sparse_key){first, n};
            return VEX_OK;
        }
    }
    return VEX_OK;
}

static vex_status open_list(vex_sparse_lists *index, const uint8_t *entry, vex_sparse_list *out) {
    const uint32_t n = vex_get32(entry + 4), offset = vex_get32(entry + 8);
    const uint64_t n_blocks = ((uint64_t)n + VEX_BLOCK_ROWS - 1) / VEX_BLOCK_ROWS;
    const uint64_t head = 8 + (n_blocks > 1 ? n_blocks * VEX_SPARSE_SKIP_BYTES : 0);
    if (n == 0 || n > index->n_rows || offset > index->postings_len ||
        head > index->postings_len - offset) {
        return damaged_at(index, entry);
    }
    const uint8_t *at = index->postings + offset;
    *out = (vex_sparse_list){.n = n,
                             .n_blocks = (uint32_t)n_blocks,
                             .least = vex_float_of_bits(vex_get32(at)),
                             .greatest = vex_float_of_bits(vex_get32(at + 4)),
                             .skips = n_blocks > 1 ? at + 8 : NULL,
                             .blocks = at + head,
                             .end = index->postings + index->postings_len,
                             .index = index};
    return VEX_OK;
}

vex_status vex_sparse_find(vex_sparse_lists *index, const vex_sparse_key *key, uint32_t number,
                           vex_sparse_list *out) {
    uint32_t low = key->first, high = key->first + key->n;
    *out = (vex_sparse_list){0};
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const uint8_t *entry = index->lists + (size_t)middle * VEX_SPARSE_LIST_BYTES;
        const uint32_t here = vex_get32(entry);
        if (here == number) {
            return open_list(index, entry, out);
        }
        if (here < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return VEX_OK;
}

/* ---- blocks ---- */

/* The rows of a block as gaps; *at moves behind them. */
static bool read_gaps(const uint8_t **at, const uint8_t *end, vex_block *out) {
    if (out->n < VEX_BLOCK_ROWS) {
        for (uint32_t i = 0; i < out->n; i++) {
            if (!vex_leb_get(at, end, &out->rows[i])) {
                return false;
            }
        }
        return true;
    }
    const uint8_t *p = *at;
    if (p >= end || *p > 32 || vex_packed_bytes(*p) > (size_t)(end - p) - 1) {
        return false;
    }
    vex_unpack(p + 1, *p, out->rows);
    *at = p + 1 + vex_packed_bytes(*p);
    return true;
}

vex_status vex_sparse_block(const vex_sparse_list *list, uint32_t b, vex_block *out) {
    vex_sparse_lists *index = list->index;
    const uint32_t left = list->n - b * VEX_BLOCK_ROWS;
    const uint8_t *skip = list->skips ? list->skips + (size_t)b * VEX_SPARSE_SKIP_BYTES : NULL;
    const uint32_t offset = skip ? vex_get32(skip + 4) : 0;
    const uint32_t first = b > 0 ? vex_sparse_last_row(list, b - 1) + 1 : 0;
    const bool is_inside = offset < (size_t)(list->end - list->blocks);
    const uint8_t *at = is_inside ? list->blocks + offset : list->end;
    out->n = left < VEX_BLOCK_ROWS ? left : VEX_BLOCK_ROWS;
    out->packed = NULL;
    const bool fine =
        read_gaps(&at, list->end, out) && (size_t)(list->end - at) >= (size_t)out->n * 4 &&
        vex_gaps_to_rows(out->rows, out->n, first, index->n_rows) &&
        (b + 1 == list->n_blocks || out->rows[out->n - 1] == vex_sparse_last_row(list, b));
    if (!fine) {
        return damaged_at(index, is_inside ? list->blocks + offset : list->blocks);
    }
    for (uint32_t i = 0; i < out->n; i++) {
        out->values[i] = vex_get32(at + (size_t)i * 4);
    }
    return VEX_OK;
}
