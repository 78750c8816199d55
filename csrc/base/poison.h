/*
 * poison.h - last include of every engine file except base/mem.c, io/vfs_posix.c, io/system.c and
 * io/map_resident.c: names that would go around the memory counters or the system-call seam do not
 * compile.
 */
#ifndef VEX_BASE_POISON_H
#define VEX_BASE_POISON_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Macros in some C libraries; a macro cannot be poisoned. */
#undef alloca
#undef strdup
#undef strndup

#pragma GCC poison malloc calloc realloc free strdup strndup aligned_alloc posix_memalign alloca
#pragma GCC poison open openat creat pread pwrite pwritev preadv fsync fdatasync ftruncate
#pragma GCC poison mmap munmap madvise flock rename renameat unlink unlinkat link linkat
#pragma GCC poison mkdir mkdirat opendir readdir fopen fread fwrite fclose
#pragma GCC poison abort exit system getenv

#endif
