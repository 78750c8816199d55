/*
 * columns_format.h - constants shared by the writer and the reader of the columns section.
 */
#ifndef VEX_FILTER_COLUMNS_FORMAT_H
#define VEX_FILTER_COLUMNS_FORMAT_H

#include "filter/columns.h"

#define VEX_COLUMNS_MAGIC 0x4f435856u /* "VXCO" */
#define VEX_COLUMNS_HEADER_BYTES 32
#define VEX_COLUMN_ENTRY_BYTES 80
#define VEX_COLUMN_SPARSE_BELOW 8 /* sparse when fewer than 1/8 of the rows have the key          */

vex_status vex_columns_build(const vex_payload *rows, uint32_t n, vex_buf *out);

#endif
