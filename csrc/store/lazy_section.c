/*
 * lazy_section.c - see lazy_section.h.
 */
#include "store/lazy_section.h"

#include "base/bits.h"
#include "store/container_format.h"

#include "base/poison.h"

static uint32_t chunk_of(uint64_t offset) {
    return (uint32_t)(offset / CHUNK_BYTES);
}

vex_status vex_lazy_section_init(vex_lazy_section *lazy, const vex_container *container,
                                 const vex_section *section) {
    uint32_t chunks = 0;
    lazy->container = container;
    lazy->section = section;
    lazy->first_chunk = chunk_of(section->offset);
    if (section->len > 0) {
        chunks = chunk_of(section->offset + section->len - 1) - lazy->first_chunk + 1;
    }
    atomic_init(&lazy->unchecked, chunks);
    lazy->checked = vex_calloc(vex_bit_words(chunks) + 1, sizeof *lazy->checked);
    if (lazy->checked == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot open %s", container->path);
    }
    return VEX_OK;
}

void vex_lazy_section_clear(vex_lazy_section *lazy) {
    vex_free(lazy->checked);
    lazy->checked = NULL;
}

vex_status vex_lazy_section_check(vex_lazy_section *lazy, uint64_t at, uint64_t len) {
    if (len == 0 || vex_lazy_section_is_checked(lazy)) {
        return VEX_OK;
    }
    uint32_t first = chunk_of(lazy->section->offset + at) - lazy->first_chunk;
    uint32_t last = chunk_of(lazy->section->offset + at + len - 1) - lazy->first_chunk;
    for (uint32_t chunk = first; chunk <= last; chunk++) {
        uint64_t bit = 1ULL << (chunk % 64);
        atomic_uint_least64_t *word = &lazy->checked[chunk / 64];
        if (atomic_load_explicit(word, memory_order_relaxed) & bit) {
            continue;
        }
        VEX_TRY(vex_container_check_chunk(lazy->container, lazy->first_chunk + chunk));
        if ((atomic_fetch_or_explicit(word, bit, memory_order_relaxed) & bit) == 0) {
            atomic_fetch_sub_explicit(&lazy->unchecked, 1, memory_order_release);
        }
    }
    return VEX_OK;
}
