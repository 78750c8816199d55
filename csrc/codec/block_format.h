/*
 * block_format.h - offsets and limits of the encoded column (block.h has the table), shared by
 * its writer and its reader.
 */
#ifndef VEX_CODEC_BLOCK_FORMAT_H
#define VEX_CODEC_BLOCK_FORMAT_H

#include "codec/block.h"

#include "base/bytes.h"

#define COLUMN_MAGIC 0x43425856u /* "VXBC" */

/* header */
#define AT_MAGIC 0
#define AT_N_VALUES 4
#define AT_N_BLOCKS 8
#define AT_N_PRESENT 12
#define AT_RAW_BYTES 16
#define AT_TOTAL_LEN 24
#define AT_DICT_LEN 32
#define AT_DICT_CRC 36
#define AT_TABLE_CRC 40
#define AT_HEADER_CRC 60
#define HEADER_BYTES 64

/* entry of the block table */
#define AT_OFFSET 0
#define AT_FIRST 8
#define AT_RAW_LEN 12 /* low 30 bits; the codec above */
#define AT_STORED_CRC 16
#define ENTRY_BYTES 20
#define RAW_LEN_BITS 30
#define RAW_LEN_MASK (((uint32_t)1 << RAW_LEN_BITS) - 1)

/* A length code is 0 for absent, else 1 + length. */
#define LENGTH_CODE_BYTES 5
_Static_assert(VEX_BLOCK_VALUE_MAX + LENGTH_CODE_BYTES <= RAW_LEN_MASK, "a value fits a block");

#endif
