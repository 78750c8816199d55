/*
 * section.c - see section.h.
 */
#include "store/section.h"

#include "base/crc32c.h"

#include "base/poison.h"

#define FIRST_STEP 8u

vex_status vex_section_damaged(const vex_container *container, const vex_section *section,
                               const char *what) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, container->path, section->offset, 0,
                       "the file is damaged: %s; restore the collection from a backup", what);
}

vex_status vex_section_need(const vex_container *container, uint32_t kind, uint64_t expected_len,
                            const vex_section **out) {
    const vex_section *section = NULL;
    VEX_TRY(vex_container_need(container, kind, expected_len, &section));
    if (vex_crc32c(0, section->data, (size_t)section->len) != section->crc) {
        return vex_section_damaged(container, section, "a section does not match its checksum");
    }
    *out = section;
    return VEX_OK;
}

vex_status vex_section_check_seqs(const vex_container *container, const uint64_t *seqs,
                                  uint32_t n) {
    for (uint32_t i = 1; i < n; i++) {
        if (seqs[i - 1] >= seqs[i]) {
            return VEX_FAIL_AT(
                VEX_ERR_CORRUPT, container->path,
                (uint64_t)((const uint8_t *)&seqs[i] - container->map), 0,
                "the file is damaged: its rows are not in order; restore it from a backup");
        }
    }
    return VEX_OK;
}

uint32_t vex_lower_bound(const uint64_t *keys, uint32_t n, uint64_t key, uint32_t guess) {
    uint32_t low = 0, high = n, step = FIRST_STEP;
    if (n == 0) {
        return 0;
    }
    /* Everything before `low` is less than the key, everything from `high` on is not. */
    if (keys[guess] < key) {
        low = guess + 1;
        while (n - low > step && keys[low + step] < key) {
            low += step + 1;
            step *= 2;
        }
        high = n - low > step ? low + step : n;
    } else {
        high = guess;
        while (high > step && keys[high - step] >= key) {
            high -= step;
            step *= 2;
        }
        low = high > step ? high - step + 1 : 0;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (keys[middle] < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t vex_lower_bound_dense(const uint64_t *keys, uint32_t n, uint64_t key) {
    if (n == 0 || key <= keys[0]) {
        return 0;
    }
    uint64_t first = keys[0], last = keys[n - 1];
    if (key > last) {
        return n;
    }
    if (key - first < n && keys[key - first] == key) {
        return (uint32_t)(key - first); /* no gaps up to here */
    }
    uint32_t guess =
        last > first ? (uint32_t)((unsigned __int128)(key - first) * (n - 1) / (last - first)) : 0;
    return vex_lower_bound(keys, n, key, guess < n ? guess : n - 1);
}
