/*
 * columns.h - typed metadata columns of a payload file: the section VEX_SECTION_COLUMNS.
 *
 * One column per metadata key, so that a filter leaf reads just its key's values:
 *   header 32 B   u32 magic 'VXCO', u32 n_rows, u32 n_keys, u32 0, u64 directory offset,
 *                 u32 crc32c of the directory, u32 crc32c of header[0..27]
 *   directory     n_keys * 64 B, ascending by key bytes: u32 key_off, u32 key_len, u16 type mask,
 *                 u8 uniform tag (0 = tags differ, see tags array), u8 code width (0,1,2,4,8 bytes),
 *                 u32 n_present, i64 int_base, u64 tags_off, u64 codes_off, u32 dict_count,
 *                 u32 crc32c of the column's bytes, u64 dict_off, u64 column end; offsets from
 *                 the section's start, 8-aligned
 *   tags          u8 per row (vex_value_type; 0 = key absent), only when not uniform
 *   codes         n_rows * width: bool 0/1; int value - int_base; float its 8 bytes;
 *                 string and list: index into the dictionary, which is ascending
 *   dictionary    u32 offsets[count + 1], then bytes; strings and lists (as MessagePack arrays)
 *                 share it: u8 tag first, then the bytes
 * Sparse vectors are present with tag VEX_VALUE_SPARSE and no code.
 */
#ifndef VEX_FILTER_COLUMNS_H
#define VEX_FILTER_COLUMNS_H

#include "filter/expr.h"
#include "store/payfile.h"

/* The plug-in that makes and opens the section; registered by db. */
const vex_section_plugin *vex_columns_plugin(void);

typedef struct vex_columns vex_columns;

/* The opened columns of a file, or NULL when the section is missing or damaged. */
const vex_columns *vex_columns_of(const vex_payfile *file);

/* Evaluate a metadata leaf over all rows: matches[i] &= leaf(row i); rows whose bit is clear on
 * entry need not be looked at.  Agrees with vex_leaf_matches on every value.
 * VEX_ERR_CORRUPT when the column is damaged. */
vex_status vex_columns_match(const vex_columns *columns, const vex_expr *leaf, uint64_t *matches);

#endif
