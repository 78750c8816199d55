/*
 * columns_read.c - opening the columns section and evaluating leaves on it (layout in columns.h).
 *
 * Opening checks the header and the directory; a column's own bytes are checked the first time
 * it is used, so that opening a file does not read its metadata.
 */
#include "filter/columns_format.h"

#include "base/bits.h"
#include "base/crc32c.h"

#include <stdatomic.h>

#include "base/poison.h"

typedef struct meta_column {
    const uint8_t *key;
    uint32_t key_len, n_entries, dict_count;
    uint16_t mask;
    uint8_t uniform, width;
    int64_t base;
    uint64_t rows, tags, codes, dictionary, start, end; /* offsets; rows 0 = dense                */
    uint32_t crc;
    atomic_uchar verified;
} meta_column;

struct vex_columns {
    const uint8_t *data;
    size_t len;
    uint32_t n_rows, n_columns;
    const char *path;
    uint64_t offset;
    meta_column columns[];
};

/* ---- opening ---- */

static bool inside(const meta_column *column, uint64_t offset, uint64_t count, uint64_t width) {
    uint64_t bytes;
    return !__builtin_mul_overflow(count, width, &bytes) && offset >= column->start &&
           offset <= column->end && bytes <= column->end - offset;
}

static bool read_entry(const vex_columns *columns, const uint8_t *entry, meta_column *out) {
    uint32_t key_at = vex_get32(entry), n_present = vex_get32(entry + 12);
    out->key_len = vex_get32(entry + 4);
    out->mask = vex_get16(entry + 8);
    out->uniform = entry[10];
    out->width = entry[11];
    out->base = (int64_t)vex_get64(entry + 16);
    out->rows = vex_get64(entry + 24);
    out->tags = vex_get64(entry + 32);
    out->codes = vex_get64(entry + 40);
    out->dictionary = vex_get64(entry + 48);
    out->end = vex_get64(entry + 56);
    out->dict_count = vex_get32(entry + 64);
    out->crc = vex_get32(entry + 68);
    out->start = vex_get64(entry + 72);
    out->n_entries = out->rows ? n_present : columns->n_rows;
    bool width_fine = out->width <= 2 || out->width == 4 || out->width == 8;
    if (out->start > out->end || out->end > columns->len || !width_fine ||
        !inside(out, key_at, out->key_len, 1) ||
        !inside(out, out->codes, out->n_entries, out->width) ||
        !inside(out, out->dictionary, (uint64_t)out->dict_count + 1, 4) ||
        (out->rows && !inside(out, out->rows, out->n_entries, 4)) ||
        (!out->uniform && !inside(out, out->tags, out->n_entries, 1)) ||
        out->uniform > VEX_VALUE_SPARSE) {
        return false;
    }
    out->key = columns->data + key_at;
    return true;
}

static vex_status damaged(const char *path, uint64_t offset) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, offset, 0, "the metadata columns are damaged");
}

static vex_status open_columns(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                               uint64_t offset, void **state) {
    if (len < VEX_COLUMNS_HEADER_BYTES || vex_get32(data) != VEX_COLUMNS_MAGIC ||
        vex_get32(data + 28) != vex_crc32c(0, data, 28) || vex_get32(data + 4) != rows) {
        return damaged(path, offset);
    }
    uint32_t n = vex_get32(data + 8);
    uint64_t directory = vex_get64(data + 16);
    uint64_t directory_len = (uint64_t)n * VEX_COLUMN_ENTRY_BYTES;
    if (directory > len || directory_len > len - directory ||
        vex_get32(data + 24) != vex_crc32c(0, data + directory, (size_t)directory_len)) {
        return damaged(path, offset);
    }
    vex_columns *columns = vex_calloc(1, sizeof *columns + n * sizeof columns->columns[0]);
    if (columns == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u metadata columns", (unsigned)n);
    }
    columns->data = data;
    columns->len = len;
    columns->n_rows = rows;
    columns->n_columns = n;
    columns->path = path;
    columns->offset = offset;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *entry = data + directory + (size_t)i * VEX_COLUMN_ENTRY_BYTES;
        if (!read_entry(columns, entry, &columns->columns[i])) {
            vex_free(columns);
            return damaged(path, offset);
        }
    }
    *state = columns;
    return VEX_OK;
}

static void close_columns(void *state) {
    vex_free(state);
}

const vex_section_plugin *vex_columns_plugin(void) {
    static const vex_section_plugin plugin = {VEX_SECTION_COLUMNS, vex_columns_build, open_columns,
                                              close_columns};
    return &plugin;
}

const vex_columns *vex_columns_of(const vex_payfile *file) {
    return vex_payfile_plugin(file, VEX_SECTION_COLUMNS);
}

static int compare_key(const meta_column *column, const uint8_t *key, size_t len) {
    size_t shorter = column->key_len < len ? column->key_len : len;
    int order = shorter ? memcmp(column->key, key, shorter) : 0;
    return order != 0 ? order : (column->key_len < len ? -1 : column->key_len > len);
}

static meta_column *find_column(const vex_columns *columns, const uint8_t *key, size_t len) {
    uint32_t low = 0, high = columns->n_columns;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const meta_column *candidate = &columns->columns[middle];
        int order = compare_key(candidate, key, len);
        if (order == 0) {
            return (meta_column *)(uintptr_t)candidate; /* its `verified` is written, atomically */
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* ---- evaluating ---- */

static vex_status verify(const vex_columns *columns, meta_column *column) {
    if (!atomic_load_explicit(&column->verified, memory_order_relaxed)) {
        size_t len = (size_t)(column->end - column->start);
        if (vex_crc32c(0, columns->data + column->start, len) != column->crc) {
            return damaged(columns->path, columns->offset + column->start);
        }
        atomic_store_explicit(&column->verified, 1, memory_order_relaxed);
    }
    return VEX_OK;
}

/* The leaf's answer for every dictionary entry, as a bitmap (from vex_malloc). */
static vex_status match_dictionary(const vex_columns *columns, const meta_column *column,
                                   const vex_expr *leaf, uint64_t **out) {
    uint64_t *hits = vex_calloc(vex_bit_words(column->dict_count) + 1, sizeof *hits);
    if (hits == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
    }
    const uint8_t *offsets = columns->data + column->dictionary;
    const uint8_t *bytes = offsets + ((size_t)column->dict_count + 1) * 4;
    uint64_t room = column->end - column->dictionary - ((uint64_t)column->dict_count + 1) * 4;
    for (uint32_t i = 0; i < column->dict_count; i++) {
        uint32_t from = vex_get32(offsets + (size_t)i * 4);
        uint32_t to = vex_get32(offsets + (size_t)i * 4 + 4);
        if (from >= to || to > room) {
            vex_free(hits);
            return damaged(columns->path, columns->offset + column->dictionary);
        }
        const vex_value value = {.type = (vex_value_type)bytes[from],
                                 .bytes = bytes + from + 1,
                                 .len = to - from - 1};
        if (vex_leaf_matches(leaf, &value)) {
            vex_bit_set(hits, i);
        }
    }
    *out = hits;
    return VEX_OK;
}

static inline uint64_t code_at(const uint8_t *codes, uint8_t width, size_t i) {
    switch (width) {
    case 0:
        return 0;
    case 1:
        return codes[i];
    case 2:
        return vex_get16(codes + 2 * i);
    case 4:
        return vex_get32(codes + 4 * i);
    default:
        return vex_get64(codes + 8 * i);
    }
}

typedef struct leaf_test {
    const vex_expr *leaf;
    const uint64_t *dictionary_hits;
    uint32_t dict_count;
    int64_t base;
    bool absent;
} leaf_test;

static bool entry_matches(const leaf_test *test, uint8_t tag, uint64_t code) {
    vex_value value = {.type = (vex_value_type)tag};
    switch (tag) {
    case VEX_VALUE_ABSENT:
        return test->absent;
    case VEX_VALUE_STRING:
    case VEX_VALUE_LIST:
        return code < test->dict_count && vex_bit_get(test->dictionary_hits, code);
    case VEX_VALUE_BOOL:
        value.boolean = code != 0;
        break;
    case VEX_VALUE_INT:
        value.integer = (int64_t)(code + (uint64_t)test->base);
        break;
    case VEX_VALUE_FLOAT:
        memcpy(&value.number, &code, sizeof value.number);
        break;
    default:
        break;
    }
    return vex_leaf_matches(test->leaf, &value);
}

static void match_dense(const vex_columns *columns, const meta_column *column,
                        const leaf_test *test, uint64_t *matches) {
    const uint8_t *codes = columns->data + column->codes;
    const uint8_t *tags = column->uniform ? NULL : columns->data + column->tags;
    for (size_t at = 0; at < vex_bit_words(columns->n_rows); at++) {
        uint64_t keep = 0;
        for (uint64_t word = matches[at]; word != 0; word &= word - 1) {
            size_t row = at * 64 + (size_t)__builtin_ctzll(word);
            uint8_t tag = tags ? tags[row] : column->uniform;
            if (entry_matches(test, tag, code_at(codes, column->width, row))) {
                keep |= word & -word;
            }
        }
        matches[at] = keep;
    }
}

static vex_status match_sparse(const vex_columns *columns, const meta_column *column,
                               const leaf_test *test, uint64_t *matches) {
    size_t n_words = vex_bit_words(columns->n_rows);
    const uint8_t *codes = columns->data + column->codes;
    const uint8_t *tags = column->uniform ? NULL : columns->data + column->tags;
    uint64_t *hits = vex_calloc(n_words + 1, sizeof *hits);
    if (hits == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
    }
    if (test->absent) {
        memcpy(hits, matches, n_words * sizeof *hits);
    }
    vex_status status = VEX_OK;
    for (uint32_t i = 0; i < column->n_entries; i++) {
        uint32_t row = vex_get32(columns->data + column->rows + (size_t)i * 4);
        if (row >= columns->n_rows) {
            status = damaged(columns->path, columns->offset + column->rows);
            break;
        }
        uint8_t tag = tags ? tags[i] : column->uniform;
        bool hit = vex_bit_get(matches, row) &&
                   entry_matches(test, tag, code_at(codes, column->width, i));
        if (hit) {
            vex_bit_set(hits, row);
        } else {
            vex_bit_clear(hits, row);
        }
    }
    if (status == VEX_OK) {
        memcpy(matches, hits, n_words * sizeof *hits);
    }
    vex_free(hits);
    return status;
}

vex_status vex_columns_match(const vex_columns *columns, const vex_expr *leaf, uint64_t *matches) {
    const vex_value nothing = {.type = VEX_VALUE_ABSENT};
    bool absent = vex_leaf_matches(leaf, &nothing);
    meta_column *column = find_column(columns, leaf->key, leaf->key_len);
    if (column == NULL) {
        if (!absent) {
            memset(matches, 0, vex_bit_words(columns->n_rows) * sizeof *matches);
        }
        return VEX_OK;
    }
    VEX_TRY(verify(columns, column));
    uint64_t *hits = NULL;
    VEX_TRY(match_dictionary(columns, column, leaf, &hits));
    const leaf_test test = {.leaf = leaf,
                                   .dictionary_hits = hits,
                                   .dict_count = column->dict_count,
                                   .base = column->base,
                                   .absent = absent};
    vex_status status = VEX_OK;
    if (column->rows) {
        status = match_sparse(columns, column, &test, matches);
    } else {
        match_dense(columns, column, &test, matches);
    }
    vex_free(hits);
    return status;
}
