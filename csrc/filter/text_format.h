/*
 * text_format.h - what the writer and the reader of the text index share.
 */
#ifndef VEX_FILTER_TEXT_FORMAT_H
#define VEX_FILTER_TEXT_FORMAT_H

#include "filter/text_index.h"
#include "filter/text_runs.h"

#define VEX_TEXT_MAGIC 0x58545856u /* "VXTX" */
#define VEX_TEXT_HEADER_BYTES 64u
#define VEX_TEXT_HEADER_CRC 60u    /* offset */
#define VEX_TEXT_GROUP_TERMS 16u
#define VEX_TEXT_GROUP_BYTES 8u
/* Fewer bytes of documents are read in no time. */
#define VEX_TEXT_DOCUMENTS_MIN 4096u

vex_status vex_text_build(const vex_payload *rows, uint32_t n, vex_buf *out);

#endif
