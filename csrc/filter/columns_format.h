/*
 * columns_format.h - what the writer, the opener and the evaluator of the columns section share.
 */
#ifndef VEX_FILTER_COLUMNS_FORMAT_H
#define VEX_FILTER_COLUMNS_FORMAT_H

#include "filter/columns.h"

#include <stdatomic.h>

#define VEX_COLUMNS_MAGIC 0x4f435856u /* "VXCO" */
#define VEX_COLUMNS_HEADER_BYTES 32
#define VEX_COLUMN_ENTRY_BYTES 80
#define VEX_COLUMN_SPARSE_BELOW 8 /* sparse when fewer than 1/8 of the rows have the key          */

vex_status vex_columns_build(const vex_payload *rows, uint32_t n, vex_buf *out);

/* Codes of floats: -NaN < -infinity < ... < -0.0 < 0.0 < ... < infinity < NaN. */
static inline uint64_t vex_float_code(double number) {
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}
static inline double vex_float_of_code(uint64_t code) {
    uint64_t bits = code >> 63 ? code & ~((uint64_t)1 << 63) : ~code;
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* Found at the first use; damage stays found. */
typedef enum vex_column_health { VEX_COLUMN_UNKNOWN, VEX_COLUMN_GOOD, VEX_COLUMN_BAD } vex_column_health;

/* One column as opened: every part is known to lie inside the column. */
typedef struct vex_column {
    const uint8_t *key, *start;
    const uint8_t *dictionary, *rows, *tags, *codes; /* rows NULL: dense; tags NULL: uniform      */
    size_t len;
    size_t dict_room;            /* bytes from the end of the dictionary's offsets to the column's
                                    end                                                           */
    uint32_t key_len, n_entries, dict_count, crc;
    uint16_t mask;
    uint8_t uniform, width;
    int64_t base;
    atomic_uchar health;         /* a vex_column_health                                           */
} vex_column;

struct vex_columns {
    uint32_t n_rows, n_columns;
    const uint8_t *data;
    const char *path;            /* for errors; the file's, borrowed like data                    */
    uint64_t offset;
    vex_column columns[];
};

static inline uint64_t vex_column_code(const vex_column *column, size_t entry) {
    const uint8_t *at = column->codes + entry * column->width;
    return column->width == 0   ? 0
           : column->width == 1 ? *at
           : column->width == 2 ? vex_get16(at)
           : column->width == 4 ? vex_get32(at)
                                : vex_get64(at);
}
static inline vex_value_type vex_column_type(const vex_column *column, size_t entry) {
    return (vex_value_type)(column->tags ? column->tags[entry] : column->uniform);
}
static inline vex_value vex_column_int(const vex_column *column, uint64_t code) {
    return (vex_value){.type = VEX_VALUE_INT, .integer = (int64_t)(code + (uint64_t)column->base)};
}

/* The column of a key, checked, or NULL in *out when no row has the key. */
vex_status vex_columns_find(const vex_columns *columns, const uint8_t *key, size_t len,
                            const vex_column **out);
/* The string or list of a code below dict_count. */
vex_status vex_column_text(const vex_columns *columns, const vex_column *column, uint64_t code,
                           vex_value *out);
/* VEX_ERR_CORRUPT at `where`, which lies inside `column`; it is not used again. */
vex_status vex_column_damaged(const vex_columns *columns, const vex_column *column,
                              const uint8_t *where);

#endif
