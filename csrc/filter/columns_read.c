/*
 * columns_read.c - opening the columns section and finding a key's column (layout in columns.h).
 *
 * Opening checks the header, the directory and the keys; a column's own bytes are checked the
 * first time it is used, so that opening a file does not read its metadata.  Bytes with a right
 * checksum are still not trusted as sizes or indexes.
 */
#include "filter/columns_format.h"

#include "base/crc32c.h"

#include "base/poison.h"

/* ---- opening ---- */

/* A part of a column, from offsets in the directory; NULL when it is not inside the column. */
static const uint8_t *part(const uint8_t *data, uint64_t start, uint64_t end, uint64_t offset,
                           uint64_t count, uint64_t width) {
    bool inside = offset >= start && offset <= end && count * width <= end - offset;
    return inside ? data + offset : NULL; /* count < 2^33, width <= 8: no overflow */
}

static bool known_types(const vex_column *column) {
    const unsigned known = (1u << (VEX_VALUE_SPARSE + 1)) - (1u << VEX_VALUE_BOOL);
    const unsigned mask = column->mask;
    if ((mask & ~known) != 0 || (mask >> VEX_VALUE_FLOAT & 1u && column->width != 8)) {
        return false;
    }
    return column->uniform == 0 || mask == 1u << column->uniform;
}

static bool read_entry(const vex_columns *columns, const uint8_t *entry, size_t len,
                       vex_column *out) {
    const uint8_t *data = columns->data;
    uint64_t rows = vex_get64(entry + 24), tags = vex_get64(entry + 32);
    uint64_t dictionary = vex_get64(entry + 48);
    uint64_t end = vex_get64(entry + 56), start = vex_get64(entry + 72);
    uint8_t width = entry[11];
    if (start > end || end > len || !(width <= 2 || width == 4 || width == 8) ||
        entry[10] > VEX_VALUE_SPARSE) {
        return false;
    }
    out->mask = vex_get16(entry + 8);
    out->uniform = entry[10];
    out->width = width;
    out->base = (int64_t)vex_get64(entry + 16);
    out->dict_count = vex_get32(entry + 64);
    out->crc = vex_get32(entry + 68);
    out->n_entries = rows ? vex_get32(entry + 12) : columns->n_rows;
    out->start = data + start;
    out->len = (size_t)(end - start);
    uint64_t n_offsets = (uint64_t)out->dict_count + 1;
    out->rows = rows ? part(data, start, end, rows, out->n_entries, 4) : NULL;
    out->tags = out->uniform ? NULL : part(data, start, end, tags, out->n_entries, 1);
    out->codes = part(data, start, end, vex_get64(entry + 40), out->n_entries, width);
    out->dictionary = part(data, start, end, dictionary, n_offsets, 4);
    if ((rows && !out->rows) || (!out->uniform && !out->tags) || !out->codes || !out->dictionary) {
        return false;
    }
    out->dict_room = (size_t)(end - dictionary - n_offsets * 4);
    return known_types(out);
}

static int compare_key(const vex_column *column, const uint8_t *key, size_t len) {
    size_t shorter = column->key_len < len ? column->key_len : len;
    int order = shorter ? memcmp(column->key, key, shorter) : 0;
    return order != 0 ? order : (column->key_len < len ? -1 : column->key_len > len);
}

/* Keys ascend, or the search for one would miss some. */
static bool read_key(const uint8_t *entry, const uint8_t *keys, size_t keys_len,
                     const vex_column *previous, vex_column *out) {
    size_t at = vex_get32(entry), len = vex_get32(entry + 4);
    if (at > keys_len || len > keys_len - at) {
        return false;
    }
    out->key = keys + at;
    out->key_len = (uint32_t)len;
    return previous == NULL || compare_key(previous, out->key, len) < 0;
}

static vex_status damaged(const char *path, uint64_t offset) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, offset, 0, "the metadata columns are damaged");
}

static atomic_uchar *health_of(const vex_column *column) {
    return (atomic_uchar *)(uintptr_t)&column->health; /* a cache */
}

vex_status vex_column_damaged(const vex_columns *columns, const vex_column *column,
                              const uint8_t *where) {
    if (atomic_exchange(health_of(column), VEX_COLUMN_BAD) != VEX_COLUMN_BAD) {
        vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
    }
    return damaged(columns->path, columns->offset + (uint64_t)(where - columns->data));
}

static void unload_columns(void *state) {
    vex_free(state);
}

static vex_status load_columns(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                               uint64_t offset, void **state) {
    if (len < VEX_COLUMNS_HEADER_BYTES || vex_get32(data) != VEX_COLUMNS_MAGIC ||
        vex_get32(data + 28) != vex_crc32c(0, data, 28) || vex_get32(data + 4) != rows) {
        return damaged(path, offset);
    }
    uint32_t n = vex_get32(data + 8), keys_len = vex_get32(data + 12);
    uint64_t directory = vex_get64(data + 16);
    uint64_t entries_len = (uint64_t)n * VEX_COLUMN_ENTRY_BYTES;
    if (directory > len || entries_len + keys_len > len - directory ||
        vex_get32(data + 24) != vex_crc32c(0, data + directory, (size_t)(entries_len + keys_len))) {
        return damaged(path, offset);
    }
    vex_columns *columns = vex_calloc(1, sizeof *columns + n * sizeof columns->columns[0]);
    if (columns == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u metadata columns", (unsigned)n);
    }
    columns->data = data;
    columns->n_rows = rows;
    columns->n_columns = n;
    columns->path = path;
    columns->offset = offset;
    const uint8_t *entry = data + directory, *keys = entry + entries_len;
    for (uint32_t i = 0; i < n; i++, entry += VEX_COLUMN_ENTRY_BYTES) {
        vex_column *column = &columns->columns[i];
        if (!read_entry(columns, entry, len, column) ||
            !read_key(entry, keys, keys_len, i ? column - 1 : NULL, column)) {
            unload_columns(columns);
            return damaged(path, offset + (uint64_t)(entry - data));
        }
    }
    *state = columns;
    return VEX_OK;
}

const vex_section_plugin *vex_columns_plugin(void) {
    static const vex_section_plugin plugin = {VEX_SECTION_COLUMNS, vex_columns_build, load_columns,
                                              unload_columns};
    return &plugin;
}

const vex_columns *vex_columns_of(const vex_payfile *file) {
    return vex_payfile_plugin(file, VEX_SECTION_COLUMNS);
}

/* ---- finding ---- */

/* Two threads may both do it the first time; the bytes do not change, so no order is needed. */
static vex_status verify(const vex_columns *columns, const vex_column *column) {
    unsigned char health = atomic_load_explicit(health_of(column), memory_order_relaxed);
    if (health == VEX_COLUMN_UNKNOWN && vex_crc32c(0, column->start, column->len) == column->crc) {
        health = VEX_COLUMN_GOOD;
        atomic_store_explicit(health_of(column), health, memory_order_relaxed);
    }
    return health == VEX_COLUMN_GOOD ? VEX_OK : vex_column_damaged(columns, column, column->start);
}

vex_status vex_columns_find(const vex_columns *columns, const uint8_t *key, size_t len,
                            const vex_column **out) {
    uint32_t low = 0, high = columns->n_columns;
    *out = NULL;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const vex_column *candidate = &columns->columns[middle];
        int order = compare_key(candidate, key, len);
        if (order == 0) {
            VEX_TRY(verify(columns, candidate));
            *out = candidate;
            return VEX_OK;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return VEX_OK;
}

vex_status vex_column_text(const vex_columns *columns, const vex_column *column, uint64_t code,
                           vex_value *out) {
    const uint8_t *offsets = column->dictionary + (size_t)code * 4;
    uint32_t from = vex_get32(offsets), to = vex_get32(offsets + 4);
    if (from >= to || to > column->dict_room) {
        return vex_column_damaged(columns, column, offsets);
    }
    const uint8_t *bytes = column->dictionary + ((size_t)column->dict_count + 1) * 4;
    if (bytes[from] != VEX_VALUE_STRING && bytes[from] != VEX_VALUE_LIST) {
        return vex_column_damaged(columns, column, bytes + from);
    }
    *out = (vex_value){
        .type = (vex_value_type)bytes[from], .bytes = bytes + from + 1, .len = to - from - 1};
    return VEX_OK;
}

/* ---- values, row by row ---- */

vex_status vex_column_cursor_open(const vex_columns *columns, const uint8_t *key, size_t key_len,
                                  vex_column_cursor *out) {
    *out = (vex_column_cursor){.columns = columns};
    return vex_columns_find(columns, key, key_len, &out->column);
}

vex_status vex_column_cursor_value(vex_column_cursor *cursor, uint32_t row, vex_value *out) {
    const vex_column *column = cursor->column;
    *out = (vex_value){.type = VEX_VALUE_ABSENT};
    if (column == NULL) {
        return VEX_OK;
    }
    if (column->rows != NULL) {
        while (cursor->entry < column->n_entries &&
               vex_get32(column->rows + (size_t)cursor->entry * 4) < row) {
            cursor->entry++;
        }
        if (cursor->entry == column->n_entries ||
            vex_get32(column->rows + (size_t)cursor->entry * 4) != row) {
            return VEX_OK;
        }
    }
    const size_t entry = column->rows ? cursor->entry : row;
    const uint64_t code = vex_column_code(column, entry);
    const vex_value_type type = vex_column_type(column, entry);
    switch (type) {
    case VEX_VALUE_INT:
        *out = vex_column_int(column, code);
        return VEX_OK;
    case VEX_VALUE_STRING:
    case VEX_VALUE_LIST:
        return code < column->dict_count
                   ? vex_column_text(cursor->columns, column, code, out)
                   : vex_column_damaged(cursor->columns, column, column->codes);
    default:
        *out = (vex_value){.type = type};
        if (type == VEX_VALUE_FLOAT) {
            out->number = vex_float_of_code(code);
        } else {
            out->boolean = code != 0;
        }
        return VEX_OK;
    }
}
