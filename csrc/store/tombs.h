/*
 * tombs.h - deleted rows of one immutable file: a copy-on-write bitmap.
 *
 * A vex_tombs is an immutable, reference-counted version.  Pages of 32,768 rows (4 KiB) are
 * shared between versions; a page without deleted rows is NULL.  So marking a row dead costs
 * one page copy, whatever the file's size, and snapshots keep the version they started with.
 *
 * On disk (del-*.vxd): a container of kind VEX_KIND_TOMBS with INFO { u64 file_no of the file it
 * belongs to, u32 rows, u32 dead } and TOMBS (plain bitmap words of all rows).
 */
#ifndef VEX_STORE_TOMBS_H
#define VEX_STORE_TOMBS_H

#include "store/container.h"

#include <stdatomic.h>

#define VEX_TOMBS_PAGE_ROWS 32768u
#define VEX_TOMBS_INFO_BYTES 16

typedef struct vex_tombs_page {
    atomic_uint refs;
    uint64_t words[VEX_TOMBS_PAGE_ROWS / 64];
} vex_tombs_page;

typedef struct vex_tombs {
    atomic_uint refs;
    uint32_t rows, dead, n_pages;
    vex_tombs_page *pages[];
} vex_tombs;

vex_status vex_tombs_create(uint32_t rows, vex_tombs **out); /* nothing dead             */
vex_tombs *vex_tombs_acquire(vex_tombs *tombs);
void vex_tombs_release(vex_tombs *tombs); /* NULL is fine             */

static inline bool vex_tombs_dead(const vex_tombs *tombs, uint32_t row) {
    const vex_tombs_page *page = tombs->pages[row / VEX_TOMBS_PAGE_ROWS];
    return page && (page->words[row % VEX_TOMBS_PAGE_ROWS / 64] >> (row % 64) & 1u);
}
/* Bits of the dead among the rows from 64 * word on. */
static inline uint64_t vex_tombs_dead_word(const vex_tombs *tombs, uint32_t word) {
    const vex_tombs_page *page = tombs->pages[word / (VEX_TOMBS_PAGE_ROWS / 64)];
    return page ? page->words[word % (VEX_TOMBS_PAGE_ROWS / 64)] : 0;
}
/* Mark `row` dead in *tombs, replacing *tombs by a new version when others share it (the old
 * reference is given back).  *was_live tells whether it changed anything.  On failure *tombs is
 * unchanged. */
vex_status vex_tombs_kill(vex_tombs **tombs, uint32_t row, bool *was_live);

/* Live rows as a bitmap of vex_bit_words(rows) words. */
void vex_tombs_live_words(const vex_tombs *tombs, uint64_t *words);
/* Dead rows among [first, end). */
uint32_t vex_tombs_count(const vex_tombs *tombs, uint32_t first, uint32_t end);

/* Write a version as of `lsn` under the number `file_no` and enter it into `of`, the entry of
 * the file it belongs to.  The caller syncs the directory. */
vex_status vex_tombs_write(const vex_tombs *tombs, vex_vfs *vfs, const char *dir,
                           const uint8_t uuid[16], uint64_t file_no, uint64_t lsn, bool sync,
                           vex_file_entry *of);
/* The version that `of` names; nothing is dead when it names none. */
vex_status vex_tombs_read(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                          const vex_file_entry *of, vex_tombs **out);

#endif
