/*
 * container_format.h - offsets in a container (container.h has the table), shared by its writer
 * and its reader.
 */
#ifndef VEX_STORE_CONTAINER_FORMAT_H
#define VEX_STORE_CONTAINER_FORMAT_H

#include "base/bytes.h"
#include "store/container.h"

#define MAGIC_BYTES "VXSG\r\n\x1a\n"
#define REVERSED_MAGIC_BYTES "\n\x1a\n\rGSXV"

#define HEADER_BYTES 64
#define AT_MAJOR 8
#define AT_MINOR 10
#define AT_KIND 12
#define AT_UUID 16
#define AT_FILE_NO 32
#define AT_LSN_LO 40
#define AT_LSN_HI 48
#define AT_HEADER_CRC 60

#define SECTION_ALIGNMENT 64
#define ENTRY_BYTES 48
#define AT_SECTION_FLAGS 4
#define AT_SECTION_OFFSET 8
#define AT_SECTION_LEN 16
#define AT_SECTION_ROWS 24
#define AT_SECTION_TAG 32
#define AT_SECTION_CRC 36

#define CHUNK_BYTES ((size_t)64 << 10)

#define FOOTER_BYTES 64
#define AT_TABLE_OFFSET 0
#define AT_N_SECTIONS 8
#define AT_TABLE_CRC 12
#define AT_CHUNKS_OFFSET 16
#define AT_N_CHUNKS 24
#define AT_CHUNKS_CRC 28
#define AT_FILE_LEN 32
#define AT_FOOTER_CRC 52
#define AT_REVERSED_MAGIC 56

#define SECTIONS_MAX 65536u

#endif
