/*
 * vfs_suite.h - tests that run over both the posix and the memory vfs.
 *
 * VFS_TEST(name) { ... } makes the tests posix_name, memory_name and, in test builds, fault_name
 * (memory behind a fault vfs that is not armed); `vfs` is the one under test, `root` an empty
 * directory in it.  All check that nothing is left allocated, open or mapped.
 */
#ifndef VEX_TESTS_VFS_SUITE_H
#define VEX_TESTS_VFS_SUITE_H

#include "base/mem.h"
#include "io/vfs.h"
#ifdef VEX_TESTING
#include "io/vfs_fault.h"
#endif
#include "tests/harness.h"

#include <errno.h>

typedef struct resources {
    uint64_t blocks, maps, files, mapped_files, mapped_bytes;
} resources;

static inline resources resources_now(void) {
    return (resources){vex_stat_get(VEX_STAT_HEAP_BLOCKS), vex_stat_get(VEX_STAT_BULK_MAPS),
                       vex_stat_get(VEX_STAT_OPEN_FILES), vex_stat_get(VEX_STAT_MAPPED_FILES),
                       vex_stat_get(VEX_STAT_MAPPED_BYTES)};
}

static inline void check_resources(resources before) {
    resources now = resources_now();
    CHECK_EQ(now.blocks, before.blocks);
    CHECK_EQ(now.maps, before.maps);
    CHECK_EQ(now.files, before.files);
    CHECK_EQ(now.mapped_files, before.mapped_files);
    CHECK_EQ(now.mapped_bytes, before.mapped_bytes);
}

typedef void (*vfs_test)(vex_vfs *vfs, const char *root);

static inline void on_posix(vfs_test test) {
    resources before = resources_now();
    test(vex_vfs_posix(), test_directory());
    check_resources(before);
}

static inline void on_memory(vfs_test test) {
    resources before = resources_now();
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    CHECK_OK(vfs->dir_create(vfs, "/root"));
    test(vfs, "/root");
    vex_vfs_memory_destroy(vfs);
    check_resources(before);
}

#ifdef VEX_TESTING

static inline void on_fault(vfs_test test) {
    resources before = resources_now();
    vex_vfs *memory, *fault;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &fault));
    CHECK(fault->is_volatile);
    CHECK_OK(fault->dir_create(fault, "/root"));
    test(fault, "/root");
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(memory);
    check_resources(before);
}

#define FAULT_TEST(name)                                                                           \
    TEST(fault_##name) {                                                                           \
        on_fault(vfs_##name);                                                                      \
    }

#else
#define FAULT_TEST(name)
#endif

#define VFS_TEST(name)                                                                             \
    static void vfs_##name(vex_vfs *vfs, const char *root);                                        \
    TEST(posix_##name) {                                                                           \
        on_posix(vfs_##name);                                                                      \
    }                                                                                              \
    TEST(memory_##name) {                                                                          \
        on_memory(vfs_##name);                                                                     \
    }                                                                                              \
    FAULT_TEST(name)                                                                               \
    static void vfs_##name(vex_vfs *vfs, const char *root)

/* root/name; good until four more were asked for */
static inline const char *in(const char *root, const char *name) {
    static char paths[4][VEX_PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    CHECK_OK(vex_path_join(path, root, name));
    return path;
}

static inline vex_file *open_file(vex_vfs *vfs, const char *path, vex_file_mode mode) {
    vex_file *file = NULL;
    CHECK_OK(vfs->file_open(vfs, path, mode, &file));
    return file;
}

static inline void put(vex_vfs *vfs, vex_file *file, const char *text, uint64_t offset) {
    vex_iovec part = {text, strlen(text)};
    CHECK_OK(vfs->file_write(vfs, file, &part, 1, offset));
}

static inline void make(vex_vfs *vfs, const char *path, const char *text) {
    vex_file *file = open_file(vfs, path, VEX_FILE_CREATE_NEW);
    put(vfs, file, text, 0);
    vfs->file_close(vfs, file);
}

static inline void check_content(vex_vfs *vfs, const char *path, const char *text) {
    char found[200];
    size_t got;
    vex_file *file = open_file(vfs, path, VEX_FILE_READ);
    CHECK_OK(vfs->file_read(vfs, file, found, sizeof found, 0, &got));
    vfs->file_close(vfs, file);
    CHECK_EQ(got, strlen(text));
    CHECK(memcmp(found, text, got) == 0);
}

static inline uint64_t size_of(vex_vfs *vfs, const char *path) {
    vex_file_stat found;
    CHECK_OK(vfs->path_stat(vfs, path, &found));
    return found.size;
}

static inline bool exists(vex_vfs *vfs, const char *path) {
    vex_file_stat found;
    vex_status status = vfs->path_stat(vfs, path, &found);
    CHECK(status == VEX_OK || status == VEX_ERR_NOT_FOUND);
    return status == VEX_OK;
}

typedef struct names {
    char seen[26];
    int n, stop_at;
} names;

static inline vex_status note_name(void *context, const char *name) {
    names *list = context;
    CHECK(strlen(name) == 1 && name[0] >= 'a' && name[0] <= 'z');
    list->seen[name[0] - 'a']++;
    return ++list->n == list->stop_at ? vex_fail(VEX_ERR_BUSY, "enough") : VEX_OK;
}

#endif
