/*
 * columns.h - typed metadata columns of a payload file: the section VEX_SECTION_COLUMNS.
 *
 * One column per metadata key, so that a filter leaf reads just its key's values.  A value is
 * stored as a code, an unsigned number; codes of one type are in the order of the values.  So a
 * comparison is a range of codes, found once and then tested without looking at values.  A key
 * that few rows have is stored sparsely, as a list of rows.
 *   header 32 B   u32 magic 'VXCO', u32 n_rows, u32 n_keys, u32 length of the keys,
 *                 u64 directory offset, u32 crc32c of the directory with the keys,
 *                 u32 crc32c of header[0..27]
 *   columns       see below
 *   directory     n_keys * 80 B, strictly ascending by key bytes, and then the keys:
 *                  0 u32 key offset from the first key   4 u32 key length
 *                  8 u16 type mask (1 << vex_value_type)
 *                 10 u8 uniform tag (0: see tags)  11 u8 code width (0, 1, 2, 4 or 8 bytes)
 *                 12 u32 n_present   16 i64 int_base   24 u64 rows offset (0 = dense)
 *                 32 u64 tags offset   40 u64 codes offset   48 u64 dictionary offset
 *                 56 u64 end of the column   64 u32 dict_count   68 u32 crc32c of the column
 *                 72 u64 start of the column; offsets count from the section's start
 *   a column      starts 8-aligned, parts 8-aligned:
 *     dictionary  u32 offsets[count + 1], then bytes; an entry is a u8 tag and then a string's
 *                 bytes or a list's MessagePack array; ascending, without duplicates
 *     rows        u32 row per entry, ascending (sparse only)
 *     tags        u8 per entry (vex_value_type; 0 = key absent), only when not uniform
 *     codes       `width` bytes per entry: bool 0/1; int value - int_base (mod 2^64); float its
 *                 bits, all inverted when negative, else only the sign; string and list:
 *                 dictionary index; sparse vector 0
 *   An entry is a row when dense, a position in rows when sparse.
 */
#ifndef VEX_FILTER_COLUMNS_H
#define VEX_FILTER_COLUMNS_H

#include "filter/expr.h"
#include "store/payfile.h"

/* A damaged column, or section, is done without, and counted (vex_stats.damaged_parts): it only
 * repeats what the rows say.
 *
 * The plug-in that makes and opens the section; registered by db. */
const vex_section_plugin *vex_columns_plugin(void);

typedef struct vex_columns vex_columns;

/* The opened columns of a file, or NULL when the section is missing or damaged. */
const vex_columns *vex_columns_of(const vex_payfile *file);

/* Evaluate a metadata leaf over all rows: matches[i] &= leaf(row i); bits past the last row are
 * clear on entry.  Agrees with vex_leaf_matches on every value.
 * VEX_ERR_CORRUPT when the column is damaged; `matches` is then as it was, so that the rows
 * themselves can answer. */
vex_status vex_columns_match(const vex_columns *columns, const vex_expr *leaf, uint64_t *matches);

/* The values of a key row by row, the rows ascending.  Bytes of values are the file's. */
typedef struct vex_column_cursor {
    const vex_columns *columns;
    const struct vex_column *column;   /* NULL: no row has the key                                */
    uint32_t entry;
} vex_column_cursor;

/* Both: VEX_ERR_CORRUPT when the column is damaged.  A row without the key has ABSENT. */
vex_status vex_column_cursor_open(const vex_columns *columns, const uint8_t *key, size_t key_len,
                                  vex_column_cursor *out);
vex_status vex_column_cursor_value(vex_column_cursor *cursor, uint32_t row, vex_value *out);

#endif
