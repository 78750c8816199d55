/*
 * columns_build.c - making the columns section from metadata maps (layout in columns.h).
 */
#include "filter/columns_format.h"

#include "base/crc32c.h"
#include "base/hash.h"

#include "base/poison.h"

/* One value of a key in a row; strings and lists point into the rows' metadata. */
typedef struct column_entry {
    uint64_t code; /* an int's value until the base is known; string, list: set last */
    const uint8_t *bytes;
    uint32_t len, row;
    uint8_t tag;
} column_entry;

typedef struct column_builder {
    const uint8_t *key;
    uint32_t key_len;
    uint64_t hash;
    column_entry *entries;
    size_t n, capacity;
} column_builder;

/* Columns are in the order in which their keys were first seen, until they are written. */
typedef struct columns_builder {
    column_builder *columns;
    size_t n, capacity;
    uint32_t *slots; /* open addressing: column number + 1 */
    size_t n_slots;
} columns_builder;

static vex_status grow_slots(columns_builder *builder) {
    size_t n_slots = builder->n_slots ? builder->n_slots * 2 : 64;
    uint32_t *slots = vex_calloc(n_slots, sizeof *slots);
    if (slots == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for metadata columns");
    }
    for (size_t i = 0; i < builder->n; i++) {
        size_t at = builder->columns[i].hash & (n_slots - 1);
        while (slots[at] != 0) {
            at = (at + 1) & (n_slots - 1);
        }
        slots[at] = (uint32_t)i + 1;
    }
    vex_free(builder->slots);
    builder->slots = slots;
    builder->n_slots = n_slots;
    return VEX_OK;
}

static bool is_key(const column_builder *column, const uint8_t *key, size_t len) {
    return column->key_len == len && memcmp(column->key, key, len) == 0;
}

/* The column of a key, made when it is new.  Rows mostly have the same keys in the same order, so
 * the pair's position in its map is tried first. */
static vex_status find_column(columns_builder *builder, const uint8_t *key, size_t len,
                              size_t position, column_builder **out) {
    if (position < builder->n && is_key(&builder->columns[position], key, len)) {
        *out = &builder->columns[position];
        return VEX_OK;
    }
    if (2 * (builder->n + 1) > builder->n_slots) {
        VEX_TRY(grow_slots(builder));
    }
    uint64_t hash = vex_hash64(key, len);
    size_t at = hash & (builder->n_slots - 1);
    for (; builder->slots[at] != 0; at = (at + 1) & (builder->n_slots - 1)) {
        column_builder *column = &builder->columns[builder->slots[at] - 1];
        if (column->hash == hash && is_key(column, key, len)) {
            *out = column;
            return VEX_OK;
        }
    }
    VEX_TRY(vex_grow((void **)&builder->columns, &builder->capacity, builder->n + 1,
                     sizeof *builder->columns));
    builder->columns[builder->n] =
        (column_builder){.key = key, .key_len = (uint32_t)len, .hash = hash};
    *out = &builder->columns[builder->n++];
    builder->slots[at] = (uint32_t)builder->n;
    return VEX_OK;
}

static column_entry make_entry(uint32_t row, const vex_value *value) {
    column_entry entry = {.row = row, .tag = (uint8_t)value->type};
    switch (value->type) {
    case VEX_VALUE_BOOL:
        entry.code = value->boolean;
        break;
    case VEX_VALUE_INT:
        entry.code = (uint64_t)value->integer;
        break;
    case VEX_VALUE_FLOAT:
        entry.code = vex_float_code(value->number);
        break;
    case VEX_VALUE_STRING:
    case VEX_VALUE_LIST:
        entry.bytes = value->bytes;
        entry.len = (uint32_t)value->len;
        break;
    default:
        break;
    }
    return entry;
}

static vex_status add_row(columns_builder *builder, uint32_t row, const vex_payload *payload) {
    vex_mp_reader reader;
    const uint8_t *key;
    size_t len;
    vex_value value;
    uint32_t n = vex_metadata_start(&reader, payload->metadata, payload->metadata_len);
    for (uint32_t i = 0; i < n && vex_metadata_next(&reader, &key, &len, &value); i++) {
        if (key == NULL || value.type == VEX_VALUE_ABSENT) {
            continue;
        }
        column_builder *column = NULL;
        VEX_TRY(find_column(builder, key, len, i, &column));
        if (column->n > 0 && column->entries[column->n - 1].row == row) {
            continue; /* a key twice in one map: the first counts, as when it is looked up */
        }
        VEX_TRY(vex_grow((void **)&column->entries, &column->capacity, column->n + 1,
                         sizeof *column->entries));
        column->entries[column->n++] = make_entry(row, &value);
    }
    return VEX_OK;
}

/* ---- dictionary ---- */

static int compare_text(const column_entry *a, const column_entry *b) {
    if (a->tag != b->tag) {
        return a->tag < b->tag ? -1 : 1;
    }
    uint32_t shorter = a->len < b->len ? a->len : b->len;
    int order = shorter ? memcmp(a->bytes, b->bytes, shorter) : 0;
    return order != 0 ? order : (a->len < b->len ? -1 : a->len > b->len);
}

static int compare_entries(const void *a, const void *b) {
    return compare_text(*(column_entry *const *)a, *(column_entry *const *)b);
}

static bool has_text(const column_entry *entry) {
    return entry->tag == VEX_VALUE_STRING || entry->tag == VEX_VALUE_LIST;
}

/* Number the distinct texts in ascending order and append the dictionary to `out`. */
static vex_status write_dictionary(column_builder *column, vex_buf *out, uint32_t *count) {
    column_entry **sorted = vex_calloc(column->n ? column->n : 1, sizeof *sorted);
    size_t n = 0;
    if (sorted == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a metadata dictionary");
    }
    for (size_t i = 0; i < column->n; i++) {
        if (has_text(&column->entries[i])) {
            sorted[n++] = &column->entries[i];
        }
    }
    qsort(sorted, n, sizeof *sorted, compare_entries);
    *count = 0;
    for (size_t i = 0; i < n; i++) {
        *count += i == 0 || compare_text(sorted[i - 1], sorted[i]) != 0;
        sorted[i]->code = *count - 1;
    }
    vex_buf bytes = {0};
    size_t offsets = out->len;
    vex_status status = vex_buf_append_zeros(out, ((size_t)*count + 1) * 4);
    for (size_t i = 0; i < n && status == VEX_OK; i++) {
        if (i == 0 || sorted[i]->code != sorted[i - 1]->code) {
            status = vex_buf_append(&bytes, &sorted[i]->tag, 1);
            if (status == VEX_OK) {
                status = vex_buf_append(&bytes, sorted[i]->bytes, sorted[i]->len);
            }
            vex_put32(out->data + offsets + (sorted[i]->code + 1) * 4, (uint32_t)bytes.len);
        }
    }
    if (status == VEX_OK && bytes.len > UINT32_MAX) {
        status = VEX_FAIL(VEX_ERR_TOO_BIG, "the values of one metadata key pass 4 GiB");
    }
    if (status == VEX_OK && bytes.len > 0) {
        status = vex_buf_append(out, bytes.data, bytes.len);
    }
    vex_buf_clear(&bytes);
    vex_free(sorted);
    return status;
}

/* ---- encoding one column ---- */

static uint8_t width_for(uint64_t largest) {
    return largest == 0            ? 0
           : largest <= 0xff       ? 1
           : largest <= 0xffff     ? 2
           : largest <= 0xffffffff ? 4
                                   : 8;
}

/* Count ints from the smallest, and find the width that every code fits. */
static uint8_t choose_width(column_builder *column, int64_t *base) {
    uint64_t largest = 0;
    *base = INT64_MAX;
    for (size_t i = 0; i < column->n; i++) {
        const column_entry *entry = &column->entries[i];
        if (entry->tag == VEX_VALUE_INT && (int64_t)entry->code < *base) {
            *base = (int64_t)entry->code;
        }
    }
    for (size_t i = 0; i < column->n; i++) {
        column_entry *entry = &column->entries[i];
        if (entry->tag == VEX_VALUE_INT) {
            entry->code -= (uint64_t)*base;
        }
        uint64_t code = entry->tag == VEX_VALUE_FLOAT ? UINT64_MAX : entry->code;
        largest = code > largest ? code : largest;
    }
    return width_for(largest);
}

static vex_status align8(vex_buf *out) {
    return vex_buf_append_zeros(out, (8 - out->len % 8) % 8);
}

static vex_status write_rows(const column_builder *column, vex_buf *out, uint64_t *offset) {
    *offset = out->len;
    VEX_TRY(vex_buf_append_zeros(out, column->n * 4));
    for (size_t i = 0; i < column->n; i++) {
        vex_put32(out->data + *offset + i * 4, column->entries[i].row);
    }
    return align8(out);
}

static vex_status write_tags(const column_builder *column, vex_buf *out, bool sparse,
                             size_t n_entries, uint64_t *offset) {
    *offset = out->len;
    VEX_TRY(vex_buf_append_zeros(out, n_entries));
    for (size_t i = 0; i < column->n; i++) {
        out->data[*offset + (sparse ? i : column->entries[i].row)] = column->entries[i].tag;
    }
    return align8(out);
}

static vex_status write_codes(const column_builder *column, vex_buf *out, bool sparse,
                              size_t n_entries, uint8_t width, uint64_t *offset) {
    *offset = out->len;
    VEX_TRY(vex_buf_append_zeros(out, n_entries * width));
    for (size_t i = 0; i < column->n; i++) {
        uint8_t raw[8];
        vex_put64(raw, column->entries[i].code);
        memcpy(out->data + *offset + (sparse ? i : column->entries[i].row) * width, raw, width);
    }
    return align8(out);
}

/* Append the column and fill its entry of the directory, but for the key. */
static vex_status write_column(column_builder *column, uint32_t n_rows, vex_buf *out,
                               uint8_t *entry) {
    bool sparse = column->n < n_rows / VEX_COLUMN_SPARSE_BELOW;
    size_t n_entries = sparse ? column->n : n_rows;
    uint8_t tag = column->entries[0].tag; /* a column has at least one entry */
    uint32_t mask = 0, dict_count = 0;
    for (size_t i = 0; i < column->n; i++) {
        mask |= 1u << column->entries[i].tag;
    }
    bool uniform = mask == 1u << tag && n_entries == column->n;
    uint64_t start, rows = 0, tags = 0, codes, dictionary;
    int64_t base;
    VEX_TRY(align8(out));
    start = dictionary = out->len;
    VEX_TRY(write_dictionary(column, out, &dict_count));
    VEX_TRY(align8(out));
    uint8_t width = choose_width(column, &base);
    if (sparse) {
        VEX_TRY(write_rows(column, out, &rows));
    }
    if (!uniform) {
        VEX_TRY(write_tags(column, out, sparse, n_entries, &tags));
    }
    VEX_TRY(write_codes(column, out, sparse, n_entries, width, &codes));
    vex_put16(entry + 8, (uint16_t)mask);
    entry[10] = uniform ? tag : 0;
    entry[11] = width;
    vex_put32(entry + 12, (uint32_t)column->n);
    vex_put64(entry + 16, (uint64_t)base);
    vex_put64(entry + 24, rows);
    vex_put64(entry + 32, tags);
    vex_put64(entry + 40, codes);
    vex_put64(entry + 48, dictionary);
    vex_put64(entry + 56, out->len);
    vex_put32(entry + 64, dict_count);
    vex_put32(entry + 68, vex_crc32c(0, out->data + start, out->len - start));
    vex_put64(entry + 72, start);
    return VEX_OK;
}

static int compare_keys(const void *a, const void *b) {
    const column_builder *x = a, *y = b;
    uint32_t shorter = x->key_len < y->key_len ? x->key_len : y->key_len;
    int order = shorter ? memcmp(x->key, y->key, shorter) : 0;
    return order != 0 ? order : (x->key_len < y->key_len ? -1 : x->key_len > y->key_len);
}

static vex_status append_keys(const columns_builder *builder, vex_buf *directory) {
    size_t start = directory->len;
    for (size_t i = 0; i < builder->n; i++) {
        const column_builder *column = &builder->columns[i];
        uint8_t *entry = directory->data + i * VEX_COLUMN_ENTRY_BYTES;
        vex_put32(entry, (uint32_t)(directory->len - start));
        vex_put32(entry + 4, column->key_len);
        VEX_TRY(vex_buf_append(directory, column->key, column->key_len));
        if (directory->len - start > UINT32_MAX) {
            return VEX_FAIL(VEX_ERR_TOO_BIG, "the metadata keys of one file pass 4 GiB");
        }
    }
    return VEX_OK;
}

/* Offsets count from the section's start, so it is made on its own and then appended. */
static vex_status write_all(columns_builder *builder, uint32_t n_rows, vex_buf *out) {
    vex_buf body = {0}, directory = {0};
    vex_status status = VEX_OK;
    VEX_TRY_DONE(status, vex_buf_append_zeros(&body, VEX_COLUMNS_HEADER_BYTES));
    VEX_TRY_DONE(status, vex_buf_append_zeros(&directory, builder->n * VEX_COLUMN_ENTRY_BYTES));
    if (builder->n > 0) {
        qsort(builder->columns, builder->n, sizeof *builder->columns, compare_keys);
    }
    for (size_t i = 0; i < builder->n; i++) {
        VEX_TRY_DONE(status, write_column(&builder->columns[i], n_rows, &body,
                                          directory.data + i * VEX_COLUMN_ENTRY_BYTES));
    }
    VEX_TRY_DONE(status, align8(&body));
    VEX_TRY_DONE(status, append_keys(builder, &directory));
    vex_put32(body.data, VEX_COLUMNS_MAGIC);
    vex_put32(body.data + 4, n_rows);
    vex_put32(body.data + 8, (uint32_t)builder->n);
    vex_put32(body.data + 12, (uint32_t)(directory.len - builder->n * VEX_COLUMN_ENTRY_BYTES));
    vex_put64(body.data + 16, body.len);
    vex_put32(body.data + 24, vex_crc32c(0, directory.data, directory.len));
    vex_put32(body.data + 28, vex_crc32c(0, body.data, 28));
    VEX_TRY_DONE(status, vex_buf_append(out, body.data, body.len));
    VEX_TRY_DONE(status, vex_buf_append(out, directory.data, directory.len));
done:
    vex_buf_clear(&body);
    vex_buf_clear(&directory);
    return status;
}

vex_status vex_columns_build(const vex_payload *rows, uint32_t n, vex_buf *out) {
    columns_builder builder = {0};
    vex_status status = VEX_OK;
    for (uint32_t row = 0; row < n && status == VEX_OK; row++) {
        status = add_row(&builder, row, &rows[row]);
    }
    if (status == VEX_OK) {
        status = write_all(&builder, n, out);
    }
    for (size_t i = 0; i < builder.n; i++) {
        vex_free(builder.columns[i].entries);
    }
    vex_free(builder.columns);
    vex_free(builder.slots);
    return status == VEX_ERR_TOO_BIG ? VEX_OK : status; /* no section: rows are read instead */
}
