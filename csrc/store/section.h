/*
 * section.h - what the readers of container files share: sections whose checksum is checked when
 * the file is opened, and searching in mapped arrays of keys.
 */
#ifndef VEX_STORE_SECTION_H
#define VEX_STORE_SECTION_H

#include "store/container.h"

#include <stdatomic.h>

/* vex_container_need, and VEX_ERR_CORRUPT when the bytes do not match their checksum.  For what
 * identifies rows: reading it costs a few bytes per row, and damage would give wrong answers. */
vex_status vex_section_need(const vex_container *container, uint32_t kind, uint64_t expected_len,
                            const vex_section **out);
vex_status vex_section_damaged(const vex_container *container, const vex_section *section,
                               const char *what);
/* Check that the SEQS of a file are strictly ascending. */
vex_status vex_section_check_seqs(const vex_container *container, const uint64_t *seqs,
                                  uint32_t n);

/* First i with keys[i] >= key, or n.  Gallops from `guess` (< n, when n > 0), then halves.  On
 * keys that are not ascending the answer is some i <= n. */
uint32_t vex_lower_bound(const uint64_t *keys, uint32_t n, uint64_t key, uint32_t guess);
/* The same for keys that are mostly dense, as seqs are. */
uint32_t vex_lower_bound_dense(const uint64_t *keys, uint32_t n, uint64_t key);

/* For reference counts: take one away; true when that was the last. */
static inline bool vex_refs_drop(atomic_uint *refs) {
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}
static inline void vex_refs_take(atomic_uint *refs) {
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

#endif
