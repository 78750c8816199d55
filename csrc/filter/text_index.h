/*
 * text_index.h - the text index of a payload file: the section VEX_SECTION_TEXT.
 *
 * For every term (text_runs.h) of the documents, the rows it occurs in.  A needle is looked for in
 * the terms, not in the documents: they are few and lie together, so going through them all takes
 * tens of microseconds.  What stays within one run is answered exactly; a needle of several runs
 * gives rows that have terms which end, are, and begin like its runs, to be looked at.
 *
 *   header 64 B   u32 magic 'VXTX', u32 n_rows, u32 n_terms, u32 n_unread,
 *                 u32 length of the terms, u32 length of the postings,
 *                 u32 crc32c of all that follows the header, 32 B 0,
 *                 u32 crc32c of header[0..59]
 *   groups        for every 16 terms: u32 offset of the first of them in the terms,
 *                 u32 offset of its rows in the postings
 *   unread        u32 row[n_unread], ascending: documents that are in no postings, as their terms
 *                 would take too much room
 *   terms         ascending by bytes (a shorter one before what it begins): u8 length (1 to 64),
 *                 bytes
 *   postings      for every term its rows: LEB128 head, then head / 2 bytes
 *                   head even        one row, head / 2; no bytes
 *                   head = 1         ceil(n_rows / 8) bytes: bit i % 8 of byte i / 8 is row i
 *                   head odd         LEB128 of each row - row before - 1 (the first: row)
 * Derived data: when it is missing or damaged (which vex_stats.damaged_parts counts), documents are
 * read instead.
 */
#ifndef VEX_FILTER_TEXT_INDEX_H
#define VEX_FILTER_TEXT_INDEX_H

#include "base/fold.h"
#include "store/payfile.h"

/* The plug-in that makes and opens the section; registered by db. */
const vex_section_plugin *vex_text_plugin(void);

typedef struct vex_text_index vex_text_index;

/* The opened index of a file, or NULL. */
const vex_text_index *vex_text_index_of(const vex_payfile *file);

/* Which documents contain the needle (not empty)?  Bitmaps over all rows, overwritten: rows of
 * `sure` do, rows outside of `maybe` do not.
 * VEX_ERR_CORRUPT when the index is damaged; the bitmaps are then undefined. */
vex_status vex_text_index_find(const vex_text_index *index, const uint8_t *needle, size_t len,
                               uint64_t *sure, uint64_t *maybe);
/* The same for documents that contain it when case does not count. */
vex_status vex_text_index_find_folded(const vex_text_index *index, const vex_needle *needle,
                                      uint64_t *sure, uint64_t *maybe);

#endif
