/*
 * map_resident.c - how much of a mapping is in the memory of this process.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* mincore */
#endif

#include "io/vfs_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__linux__)

#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_STEP 512

/* mincore() would tell what the page cache has, whoever put it there; this is what is mapped here. */
static uint64_t count_present(uintptr_t first, uintptr_t end, uintptr_t page) {
    uint64_t entries[PAGEMAP_STEP], present = 0;
    const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    for (uintptr_t at = first; at < end;) {
        const uintptr_t left = (end - at) / page;
        const size_t wanted = (left < PAGEMAP_STEP ? left : PAGEMAP_STEP) * sizeof entries[0];
        const ssize_t got = pread(fd, entries, wanted, (off_t)(at / page * sizeof entries[0]));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < (ssize_t)sizeof entries[0]) {
            break;
        }
        const size_t n = (size_t)got / sizeof entries[0];
        for (size_t i = 0; i < n; i++) {
            present += (entries[i] & PAGEMAP_PRESENT) != 0;
        }
        at += n * page;
    }
    close(fd);
    return present * page;
}

#else

static uint64_t count_present(uintptr_t first, uintptr_t end, uintptr_t page) {
    char pages[512];
    uint64_t present = 0;
    for (uintptr_t at = first; at < end;) {
        const uintptr_t left = (end - at) / page, n = left < sizeof pages ? left : sizeof pages;
        if (mincore((void *)at, n * page, pages) != 0) {
            break;
        }
        for (uintptr_t i = 0; i < n; i++) {
            present += (pages[i] & 1) != 0;
        }
        at += n * page;
    }
    return present * page;
}

#endif

uint64_t vex_system_map_resident(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    (void)vfs;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = (uintptr_t)map & ~(page - 1);
    const uintptr_t end = ((uintptr_t)map + (uintptr_t)size + page - 1) & ~(page - 1);
    return map == NULL || size == 0 ? 0 : count_present(first, end, page);
}
