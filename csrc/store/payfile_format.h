/*
 * payfile_format.h - offsets inside payload files (payfile.h has the sections), shared by their
 * writer and reader.
 */
#ifndef VEX_STORE_PAYFILE_FORMAT_H
#define VEX_STORE_PAYFILE_FORMAT_H

#include "base/bytes.h"
#include "store/payfile.h"

#define INFO_BYTES 24
#define AT_ROWS 0
#define AT_RAW_DOCUMENTS 8
#define AT_RAW_METADATA 16

#define ID_INDEX_BYTES 12 /* per row */

static inline uint64_t id_offsets_bytes(uint32_t rows) {
    return vex_align_up(((uint64_t)rows + 1) * 4, 8);
}

/* The registered plug-ins; returns how many. */
uint32_t vex_payfile_plugins(const vex_section_plugin *const **list);

#endif
