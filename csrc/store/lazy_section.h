/*
 * lazy_section.h - a section too large to be read when its file is opened: its bytes are checked
 * against the checksums of their 64 KiB chunks when they are first used, each chunk once.
 *
 * Checking may run in any thread, many at a time; two threads may check the same chunk.
 */
#ifndef VEX_STORE_LAZY_SECTION_H
#define VEX_STORE_LAZY_SECTION_H

#include "store/container.h"

#include <stdatomic.h>

typedef struct vex_lazy_section {
    const vex_container *container;
    const vex_section *section;
    atomic_uint_least64_t *checked;     /* one bit per chunk that holds bytes of the section      */
    uint32_t first_chunk;
    atomic_uint unchecked;              /* chunks whose bit is clear                              */
} vex_lazy_section;

/* The container stays where it is, and open, for as long as the lazy section is used. */
vex_status vex_lazy_section_init(vex_lazy_section *lazy, const vex_container *container,
                                 const vex_section *section);
void vex_lazy_section_clear(vex_lazy_section *lazy); /* a zeroed one is fine */

static inline bool vex_lazy_section_is_checked(const vex_lazy_section *lazy) {
    return atomic_load_explicit(&lazy->unchecked, memory_order_acquire) == 0;
}
/* VEX_ERR_CORRUPT when a chunk under the bytes [at, at + len) of the section is damaged. */
vex_status vex_lazy_section_check(vex_lazy_section *lazy, uint64_t at, uint64_t len);

#endif
