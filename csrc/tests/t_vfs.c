/*
 * t_vfs.c - one suite over the posix and the memory vfs, and the fault vfs.
 *
 * VFS_TEST(name) { ... } makes two tests, posix_name and memory_name; `vfs` is the one under
 * test, `root` an empty directory in it.
 */
#include "base/mem.h"
#include "io/vfs.h"
#include "tests/harness.h"
#ifdef VEX_TESTING
#include "io/vfs_fault.h"
#endif

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct resources {
    uint64_t blocks, maps, files, mapped_files, mapped_bytes;
} resources;

static resources resources_now(void) {
    return (resources){vex_stat_get(VEX_STAT_HEAP_BLOCKS), vex_stat_get(VEX_STAT_BULK_MAPS),
                       vex_stat_get(VEX_STAT_OPEN_FILES), vex_stat_get(VEX_STAT_MAPPED_FILES),
                       vex_stat_get(VEX_STAT_MAPPED_BYTES)};
}

static void check_resources(resources before) {
    resources now = resources_now();
    CHECK_EQ(now.blocks, before.blocks);
    CHECK_EQ(now.maps, before.maps);
    CHECK_EQ(now.files, before.files);
    CHECK_EQ(now.mapped_files, before.mapped_files);
    CHECK_EQ(now.mapped_bytes, before.mapped_bytes);
}

typedef void (*vfs_test)(vex_vfs *vfs, const char *root);

static void on_posix(vfs_test test) {
    resources before = resources_now();
    test(vex_vfs_posix(), test_directory());
    check_resources(before);
}

static void on_memory(vfs_test test) {
    resources before = resources_now();
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    CHECK_OK(vfs->dir_create(vfs, "/root"));
    test(vfs, "/root");
    vex_vfs_memory_destroy(vfs);
    check_resources(before);
}

#define VFS_TEST(name)                                                                             \
    static void vfs_##name(vex_vfs *vfs, const char *root);                                        \
    TEST(posix_##name) {                                                                           \
        on_posix(vfs_##name);                                                                      \
    }                                                                                              \
    TEST(memory_##name) {                                                                          \
        on_memory(vfs_##name);                                                                     \
    }                                                                                              \
    static void vfs_##name(vex_vfs *vfs, const char *root)

/* root/name; good until four more were asked for */
static const char *in(const char *root, const char *name) {
    static char paths[4][VEX_PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    CHECK_OK(vex_path_join(path, root, name));
    return path;
}

static vex_file *open_file(vex_vfs *vfs, const char *path, vex_file_mode mode) {
    vex_file *file = NULL;
    CHECK_OK(vfs->file_open(vfs, path, mode, &file));
    return file;
}

static void put(vex_vfs *vfs, vex_file *file, const char *text, uint64_t offset) {
    vex_iovec part = {text, strlen(text)};
    CHECK_OK(vfs->file_write(vfs, file, &part, 1, offset));
}

static void make(vex_vfs *vfs, const char *path, const char *text) {
    vex_file *file = open_file(vfs, path, VEX_FILE_CREATE_NEW);
    put(vfs, file, text, 0);
    vfs->file_close(vfs, file);
}

static void check_content(vex_vfs *vfs, const char *path, const char *text) {
    char found[200];
    size_t got;
    vex_file *file = open_file(vfs, path, VEX_FILE_READ);
    CHECK_OK(vfs->file_read(vfs, file, found, sizeof found, 0, &got));
    vfs->file_close(vfs, file);
    CHECK_EQ(got, strlen(text));
    CHECK(memcmp(found, text, got) == 0);
}

static uint64_t size_of(vex_vfs *vfs, const char *path) {
    vex_file_stat found;
    CHECK_OK(vfs->path_stat(vfs, path, &found));
    return found.size;
}

static bool exists(vex_vfs *vfs, const char *path) {
    vex_file_stat found;
    vex_status status = vfs->path_stat(vfs, path, &found);
    CHECK(status == VEX_OK || status == VEX_ERR_NOT_FOUND);
    return status == VEX_OK;
}

/* ---- files ---- */

VFS_TEST(open_modes) {
    const char *path = in(root, "f");
    vex_file *file;
    CHECK_STATUS(vfs->file_open(vfs, path, VEX_FILE_READ, &file), VEX_ERR_NOT_FOUND);
    CHECK_EQ(vex_last_error()->sys_errno, ENOENT);
    CHECK(strcmp(vex_last_error()->path, path) == 0);
    CHECK(strstr(vex_last_error()->message, "cannot open file: No such file") != NULL);
    CHECK_STATUS(vfs->file_open(vfs, path, VEX_FILE_WRITE, &file), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vfs->file_open(vfs, in(root, "no/f"), VEX_FILE_CREATE, &file),
                 VEX_ERR_NOT_FOUND);
    make(vfs, path, "hello");
    CHECK_STATUS(vfs->file_open(vfs, path, VEX_FILE_CREATE_NEW, &file), VEX_ERR_EXISTS);
    CHECK_STATUS(vfs->file_open(vfs, in(root, "f/x"), VEX_FILE_CREATE, &file), VEX_ERR_IO);
    CHECK_EQ(vex_last_error()->sys_errno, ENOTDIR);

    file = open_file(vfs, path, VEX_FILE_CREATE);
    put(vfs, file, "J", 0);
    vfs->file_close(vfs, file);
    check_content(vfs, path, "Jello");
    file = open_file(vfs, path, VEX_FILE_READ);
    vex_iovec part = {"x", 1};
    CHECK_STATUS(vfs->file_write(vfs, file, &part, 1, 0), VEX_ERR_IO);
    CHECK_STATUS(vfs->file_truncate(vfs, file, 0), VEX_ERR_IO);
    vfs->file_close(vfs, file);
    vfs->file_close(vfs, NULL);
    CHECK_STATUS(vfs->file_open(vfs, root, VEX_FILE_WRITE, &file), VEX_ERR_IO);
    CHECK_EQ(vex_last_error()->sys_errno, EISDIR);
    check_content(vfs, path, "Jello");
}

VFS_TEST(read_stops_at_the_end) {
    char found[16];
    size_t got;
    make(vfs, in(root, "f"), "0123456789");
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_READ);
    CHECK_OK(vfs->file_read(vfs, file, found, 16, 4, &got));
    CHECK(got == 6 && memcmp(found, "456789", 6) == 0);
    CHECK_OK(vfs->file_read(vfs, file, found, 16, 10, &got));
    CHECK_EQ(got, 0);
    CHECK_OK(vfs->file_read(vfs, file, found, 16, 1u << 30, &got));
    CHECK_EQ(got, 0);
    CHECK_OK(vfs->file_read(vfs, file, found, 0, 0, &got));
    CHECK_EQ(got, 0);
    CHECK_OK(vex_file_read_exact(vfs, file, "f", found, 3, 7));
    CHECK(memcmp(found, "789", 3) == 0);
    CHECK_STATUS(vex_file_read_exact(vfs, file, "f", found, 4, 7), VEX_ERR_CORRUPT);
    CHECK_EQ(vex_last_error()->offset, 10);
    CHECK(strcmp(vex_last_error()->path, "f") == 0);
    vfs->file_close(vfs, file);
}

VFS_TEST(gather_write_of_many_parts) {
    enum { PARTS = 3000, MOST = 300 };
    static uint8_t bytes[PARTS * MOST], back[PARTS * MOST];
    static vex_iovec parts[PARTS];
    size_t len = 0;
    for (size_t i = 0; i < PARTS; i++) { /* more than IOV_MAX, some empty */
        parts[i] = (vex_iovec){bytes + len, test_random_below(10) ? test_random_below(MOST) : 0};
        len += parts[i].len;
    }
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)test_random();
    }
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_CREATE);
    CHECK_OK(vfs->file_write(vfs, file, parts, PARTS, 5));
    CHECK_OK(vfs->file_write(vfs, file, NULL, 0, 1u << 20));
    vex_iovec empty = {NULL, 0};
    CHECK_OK(vfs->file_write(vfs, file, &empty, 1, 1u << 20));
    CHECK_EQ(size_of(vfs, in(root, "f")), len + 5);
    CHECK_OK(vex_file_read_exact(vfs, file, "f", back, 5, 0));
    CHECK(memcmp(back, "\0\0\0\0\0", 5) == 0);
    CHECK_OK(vex_file_read_exact(vfs, file, "f", back, len, 5));
    CHECK(memcmp(back, bytes, len) == 0);
    vfs->file_close(vfs, file);
}

VFS_TEST(random_operations_agree_with_an_array) {
    enum { MOST = 60000 };
    static uint8_t model[MOST], noise[MOST], back[MOST];
    size_t size = 0, got;
    memset(model, 0, sizeof model);
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_CREATE_NEW);
    for (int round = 0; round < 1000; round++) {
        size_t offset = test_random_below(MOST - 4000), len = test_random_below(4000);
        vex_iovec part = {noise, len};
        switch (test_random_below(8)) {
        case 0: /* cut or lengthen; what comes back after a cut is zeros */
            CHECK_OK(vfs->file_truncate(vfs, file, offset));
            memset(model + offset, 0, MOST - offset);
            size = offset;
            break;
        case 1:
            CHECK_OK(vfs->file_allocate(vfs, file, offset, len));
            vex_file_stat now;
            CHECK_OK(vfs->file_stat(vfs, file, &now));
            CHECK(now.size == size || now.size == offset + len);
            size = (size_t)now.size;
            break;
        case 2:
            CHECK_OK(vfs->file_truncate(vfs, file, 0));
            memset(model, 0, MOST);
            size = 0;
            break;
        default:
            for (size_t i = 0; i < len; i++) {
                noise[i] = (uint8_t)(test_random() | 1);
            }
            CHECK_OK(vfs->file_write(vfs, file, &part, 1, offset));
            memcpy(model + offset, noise, len);
            size = len > 0 && offset + len > size ? offset + len : size;
            break;
        }
        CHECK_OK(vfs->file_read(vfs, file, back, MOST, 0, &got));
        CHECK_EQ(got, size);
        CHECK(memcmp(back, model, size) == 0);
    }
    CHECK_OK(vfs->file_sync(vfs, file));
    CHECK_OK(vfs->file_sync_data(vfs, file));
    vfs->file_close(vfs, file);
}

VFS_TEST(sizes_out_of_range) {
    vex_iovec part = {"x", 1};
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_CREATE);
    CHECK_STATUS(vfs->file_write(vfs, file, &part, 1, UINT64_MAX), VEX_ERR_NO_SPACE);
    CHECK_STATUS(vfs->file_truncate(vfs, file, UINT64_MAX), VEX_ERR_NO_SPACE);
    CHECK_STATUS(vfs->file_allocate(vfs, file, UINT64_MAX, 2), VEX_ERR_NO_SPACE);
    CHECK_STATUS(vfs->file_allocate(vfs, file, UINT64_MAX / 2, 2), VEX_ERR_NO_SPACE);
    CHECK_OK(vfs->file_allocate(vfs, file, UINT64_MAX, 0));
    CHECK_EQ(size_of(vfs, in(root, "f")), 0);
    const uint8_t *map;
    CHECK_STATUS(vfs->file_map(vfs, file, UINT64_MAX, &map), VEX_ERR_CORRUPT);
    vfs->file_close(vfs, file);
}

VFS_TEST(lock_belongs_to_the_handle) {
    const char *path = in(root, "lock");
    vex_file *a = open_file(vfs, path, VEX_FILE_CREATE);
    vex_file *b = open_file(vfs, path, VEX_FILE_WRITE);
    bool locked = false;
    CHECK_OK(vfs->file_try_lock(vfs, a, &locked));
    CHECK(locked);
    CHECK_OK(vfs->file_try_lock(vfs, a, &locked)); /* again: still ours */
    CHECK(locked);
    CHECK_OK(vfs->file_try_lock(vfs, b, &locked));
    CHECK(!locked);
    vfs->file_unlock(vfs, b); /* not b's to give */
    CHECK_OK(vfs->file_try_lock(vfs, b, &locked));
    CHECK(!locked);
    vfs->file_unlock(vfs, a);
    CHECK_OK(vfs->file_try_lock(vfs, b, &locked));
    CHECK(locked);
    CHECK_OK(vfs->file_try_lock(vfs, a, &locked));
    CHECK(!locked);
    vfs->file_close(vfs, b); /* closing unlocks */
    CHECK_OK(vfs->file_try_lock(vfs, a, &locked));
    CHECK(locked);
    vfs->file_close(vfs, a);
}

/* ---- mappings ---- */

VFS_TEST(map_outlives_handle_and_name) {
    const uint8_t *map, *part, *empty;
    make(vfs, in(root, "f"), "mapped bytes");
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_READ);
    CHECK_OK(vfs->file_map(vfs, file, 12, &map));
    CHECK_OK(vfs->file_map(vfs, file, 6, &part));
    CHECK_OK(vfs->file_map(vfs, file, 0, &empty));
    CHECK(empty != NULL);
    CHECK_EQ((uintptr_t)map % 64, 0);
    CHECK_STATUS(vfs->file_map(vfs, file, 13, &map), VEX_ERR_CORRUPT);
    CHECK_EQ(vex_last_error()->offset, 12);
    vfs->file_close(vfs, file);
    CHECK_OK(vfs->path_remove(vfs, in(root, "f")));
    CHECK(!exists(vfs, in(root, "f")));
    CHECK(memcmp(map, "mapped bytes", 12) == 0);
    CHECK(memcmp(part, "mapped", 6) == 0);
    vfs->map_advise(vfs, map, 12, VEX_ADVISE_RANDOM);
    vfs->map_advise(vfs, map, 12, VEX_ADVISE_SEQUENTIAL);
    vfs->map_advise(vfs, map + 1, 3, VEX_ADVISE_WILLNEED);
    vfs->map_advise(vfs, empty, 0, VEX_ADVISE_RANDOM);
    CHECK(memcmp(map, "mapped bytes", 12) == 0);
    vfs->file_unmap(vfs, part, 6);
    vfs->file_unmap(vfs, map, 12);
    vfs->file_unmap(vfs, empty, 0);
    vfs->file_unmap(vfs, NULL, 0);
}

VFS_TEST(map_of_an_empty_file) {
    const uint8_t *map = NULL;
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_CREATE);
    CHECK_OK(vfs->file_map(vfs, file, 0, &map));
    CHECK(map != NULL);
    CHECK_STATUS(vfs->file_map(vfs, file, 1, &map), VEX_ERR_CORRUPT);
    vfs->file_unmap(vfs, map, 0);
    vfs->file_close(vfs, file);
}

VFS_TEST(map_stays_while_the_file_grows) {
    const uint8_t *maps[12];
    uint64_t sizes[12];
    static uint8_t block[65536];
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_CREATE);
    uint64_t size = 0;
    for (int i = 0; i < 12; i++) { /* past the size where content becomes an own mapping */
        for (int k = 0; k <= i; k++) {
            memset(block, 1 + k + i, sizeof block);
            vex_iovec part = {block, sizeof block};
            CHECK_OK(vfs->file_write(vfs, file, &part, 1, size));
            size += sizeof block;
        }
        CHECK_OK(vfs->file_map(vfs, file, size, &maps[i]));
        sizes[i] = size;
    }
    vfs->file_close(vfs, file);
    for (int i = 0; i < 12; i++) {
        for (uint64_t at = 0, group = 0; at < sizes[i]; group++) {
            for (uint64_t k = 0; k <= group; k++, at += sizeof block) {
                CHECK_EQ(maps[i][at], 1 + k + group);
                CHECK_EQ(maps[i][at + sizeof block - 1], 1 + k + group);
            }
        }
        vfs->file_unmap(vfs, maps[i], sizes[i]);
    }
}

VFS_TEST(map_survives_replacement) {
    const uint8_t *old_map, *new_map;
    make(vfs, in(root, "f"), "old");
    make(vfs, in(root, "g"), "new");
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_READ);
    CHECK_OK(vfs->file_map(vfs, file, 3, &old_map));
    CHECK_OK(vfs->path_rename(vfs, in(root, "g"), in(root, "f")));
    char found[3];
    CHECK_OK(vex_file_read_exact(vfs, file, "f", found, 3, 0)); /* the handle has the old file */
    CHECK(memcmp(found, "old", 3) == 0);
    vfs->file_close(vfs, file);
    file = open_file(vfs, in(root, "f"), VEX_FILE_READ);
    CHECK_OK(vfs->file_map(vfs, file, 3, &new_map));
    vfs->file_close(vfs, file);
    CHECK(memcmp(old_map, "old", 3) == 0);
    CHECK(memcmp(new_map, "new", 3) == 0);
    vfs->file_unmap(vfs, old_map, 3);
    vfs->file_unmap(vfs, new_map, 3);
}

TEST(posix_map_counters) {
    vex_vfs *vfs = vex_vfs_posix();
    resources before = resources_now();
    const uint8_t *map;
    vex_file *file = open_file(vfs, in(test_directory(), "f"), VEX_FILE_CREATE);
    CHECK_EQ(vex_stat_get(VEX_STAT_OPEN_FILES), before.files + 1);
    put(vfs, file, "12345", 0);
    CHECK_OK(vfs->file_map(vfs, file, 5, &map));
    CHECK_EQ(vex_stat_get(VEX_STAT_MAPPED_FILES), before.mapped_files + 1);
    CHECK_EQ(vex_stat_get(VEX_STAT_MAPPED_BYTES), before.mapped_bytes + 5);
    vfs->file_close(vfs, file);
    vfs->file_unmap(vfs, map, 5);
    check_resources(before);
}

/* ---- names ---- */

VFS_TEST(rename_and_link) {
    vex_file_stat first, second;
    make(vfs, in(root, "a"), "A");
    make(vfs, in(root, "b"), "B");
    CHECK_OK(vfs->path_stat(vfs, in(root, "a"), &first));
    CHECK_OK(vfs->path_rename(vfs, in(root, "a"), in(root, "b")));
    CHECK(!exists(vfs, in(root, "a")));
    check_content(vfs, in(root, "b"), "A");
    CHECK_OK(vfs->path_stat(vfs, in(root, "b"), &second));
    CHECK(first.inode == second.inode && first.device == second.device);

    CHECK_OK(vfs->path_link(vfs, in(root, "b"), in(root, "c")));
    CHECK_OK(vfs->path_stat(vfs, in(root, "c"), &second));
    CHECK_EQ(second.inode, first.inode);
    CHECK_STATUS(vfs->path_link(vfs, in(root, "b"), in(root, "c")), VEX_ERR_EXISTS);
    CHECK_STATUS(vfs->path_link(vfs, in(root, "no"), in(root, "d")), VEX_ERR_NOT_FOUND);
    CHECK_OK(vfs->path_rename(vfs, in(root, "b"), in(root, "c"))); /* one file: nothing happens */
    CHECK(exists(vfs, in(root, "b")) && exists(vfs, in(root, "c")));
    CHECK_OK(vfs->path_rename(vfs, in(root, "b"), in(root, "b")));
    CHECK_OK(vfs->path_remove(vfs, in(root, "b")));
    check_content(vfs, in(root, "c"), "A");

    CHECK_STATUS(vfs->path_rename(vfs, in(root, "no"), in(root, "d")), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vfs->path_rename(vfs, in(root, "c"), in(root, "no/d")), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vfs->path_remove(vfs, in(root, "no")), VEX_ERR_NOT_FOUND);
    CHECK_OK(vfs->path_remove(vfs, in(root, "c")));
}

VFS_TEST(rename_of_directories) {
    CHECK_OK(vfs->dir_create(vfs, in(root, "d")));
    make(vfs, in(root, "d/f"), "F");
    CHECK_OK(vfs->dir_create(vfs, in(root, "e")));
    make(vfs, in(root, "file"), "x");
    CHECK(vfs->path_rename(vfs, in(root, "d"), in(root, "d/sub")) != VEX_OK);
    CHECK_EQ(vex_last_error()->sys_errno, EINVAL);
    CHECK(vfs->path_rename(vfs, in(root, "e"), in(root, "d")) != VEX_OK); /* not empty */
    CHECK(vfs->path_rename(vfs, in(root, "d"), in(root, "file")) != VEX_OK);
    CHECK_EQ(vex_last_error()->sys_errno, ENOTDIR);
    CHECK(vfs->path_rename(vfs, in(root, "file"), in(root, "d")) != VEX_OK);
    CHECK_EQ(vex_last_error()->sys_errno, EISDIR);

    CHECK_OK(vfs->path_rename(vfs, in(root, "d"), in(root, "e"))); /* e is empty: replaced */
    CHECK(!exists(vfs, in(root, "d")));
    check_content(vfs, in(root, "e/f"), "F");
    CHECK_OK(vfs->dir_create(vfs, in(root, "d")));
    CHECK_OK(vfs->path_rename(vfs, in(root, "e"), in(root, "d/e")));
    check_content(vfs, in(root, "d/e/f"), "F");
    check_content(vfs, in(root, "d/e/../../d/./e//f"), "F");
    CHECK_OK(vex_dir_remove_all(vfs, in(root, "d")));
    CHECK_OK(vfs->path_remove(vfs, in(root, "file")));
}

VFS_TEST(unlinked_file_stays_open) {
    vex_file *file = open_file(vfs, in(root, "f"), VEX_FILE_CREATE_NEW);
    put(vfs, file, "abc", 0);
    CHECK_OK(vfs->path_remove(vfs, in(root, "f")));
    make(vfs, in(root, "f"), "another");
    put(vfs, file, "def", 3);
    char found[6];
    CHECK_OK(vex_file_read_exact(vfs, file, "f", found, 6, 0));
    CHECK(memcmp(found, "abcdef", 6) == 0);
    vfs->file_close(vfs, file);
    check_content(vfs, in(root, "f"), "another");
}

typedef struct names {
    char seen[26];
    int n, stop_at;
} names;

static vex_status note_name(void *context, const char *name) {
    names *list = context;
    CHECK(strlen(name) == 1 && name[0] >= 'a' && name[0] <= 'z');
    list->seen[name[0] - 'a']++;
    return ++list->n == list->stop_at ? vex_fail(VEX_ERR_BUSY, "enough") : VEX_OK;
}

VFS_TEST(directories) {
    vex_file_stat found;
    CHECK_OK(vfs->path_stat(vfs, root, &found));
    CHECK(found.is_directory);
    CHECK_STATUS(vfs->dir_create(vfs, root), VEX_ERR_EXISTS);
    CHECK_STATUS(vfs->dir_create(vfs, in(root, "x/y")), VEX_ERR_NOT_FOUND);
    for (char c = 'a'; c <= 'z'; c++) {
        char name[2] = {c, 0};
        if (c % 2) {
            make(vfs, in(root, name), name);
        } else {
            CHECK_OK(vfs->dir_create(vfs, in(root, name)));
        }
    }
    names list = {.stop_at = 0};
    CHECK_OK(vfs->dir_list(vfs, root, note_name, &list));
    CHECK_EQ(list.n, 26);
    for (int i = 0; i < 26; i++) {
        CHECK_EQ(list.seen[i], 1);
    }
    list = (names){.stop_at = 5};
    CHECK_STATUS(vfs->dir_list(vfs, root, note_name, &list), VEX_ERR_BUSY);
    CHECK_EQ(list.n, 5);
    CHECK_STATUS(vfs->dir_list(vfs, in(root, "no"), note_name, &list), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vfs->dir_list(vfs, in(root, "a"), note_name, &list), VEX_ERR_IO);

    CHECK_OK(vfs->dir_sync(vfs, root));
    CHECK_STATUS(vfs->dir_sync(vfs, in(root, "no")), VEX_ERR_NOT_FOUND);
    make(vfs, in(root, "b/f"), "");
    CHECK(vfs->dir_remove(vfs, in(root, "b")) != VEX_OK);
    CHECK(vex_last_error()->sys_errno == ENOTEMPTY || vex_last_error()->sys_errno == EEXIST);
    CHECK(vfs->dir_remove(vfs, in(root, "a")) != VEX_OK);
    CHECK_EQ(vex_last_error()->sys_errno, ENOTDIR);
    CHECK(vfs->path_remove(vfs, in(root, "b")) != VEX_OK);
    CHECK_STATUS(vfs->dir_remove(vfs, in(root, "no")), VEX_ERR_NOT_FOUND);
    CHECK_OK(vfs->path_remove(vfs, in(root, "b/f")));
    CHECK_OK(vfs->dir_remove(vfs, in(root, "b")));
    CHECK(!exists(vfs, in(root, "b")));
    uint64_t bytes = 0;
    CHECK_OK(vfs->free_space(vfs, root, &bytes));
    CHECK(bytes > 0);
}

VFS_TEST(machine) {
    uint8_t first[300] = {0}, second[300] = {0};
    CHECK_OK(vfs->random_bytes(vfs, first, sizeof first));
    CHECK_OK(vfs->random_bytes(vfs, second, sizeof second));
    CHECK(memcmp(first, second, sizeof first) != 0);
    CHECK(memcmp(first + 290, "\0\0\0\0\0\0\0\0\0\0", 10) != 0);
    uint64_t start = vfs->clock_ms(vfs);
    vfs->sleep_ms(vfs, 20);
    CHECK(vfs->clock_ms(vfs) >= start + 19);
    CHECK_EQ(vfs->boot_id(vfs), vfs->boot_id(vfs));
#if defined(__linux__)
    CHECK(vfs->boot_id(vfs) != 0 || access("/proc/sys/kernel/random/boot_id", R_OK) != 0);
#endif
    CHECK(exists(vfs, root));
}

/* ---- conveniences ---- */

TEST(path_join) {
    char out[VEX_PATH_MAX];
    CHECK_OK(vex_path_join(out, "a", "b"));
    CHECK(strcmp(out, "a/b") == 0);
    CHECK_OK(vex_path_join(out, "a/", "b"));
    CHECK(strcmp(out, "a/b") == 0);
    CHECK_OK(vex_path_join(out, "/", "b"));
    CHECK(strcmp(out, "/b") == 0);
    CHECK_OK(vex_path_join(out, "", "b"));
    CHECK(strcmp(out, "b") == 0);
    static char longest[VEX_PATH_MAX];
    memset(longest, 'x', VEX_PATH_MAX - 3);
    CHECK_OK(vex_path_join(out, "d", longest)); /* with the final zero exactly VEX_PATH_MAX */
    CHECK_EQ(strlen(out), VEX_PATH_MAX - 1);
    CHECK_STATUS(vex_path_join(out, "dd", longest), VEX_ERR_TOO_BIG);
}

VFS_TEST(write_atomic) {
    CHECK_OK(vex_file_write_atomic(vfs, root, "f", "one", 3, true));
    check_content(vfs, in(root, "f"), "one");
    make(vfs, in(root, "f.tmp"), "a leftover that is longer than the new content");
    CHECK_OK(vex_file_write_atomic(vfs, root, "f", "two!", 4, false));
    check_content(vfs, in(root, "f"), "two!");
    CHECK(!exists(vfs, in(root, "f.tmp")));
    CHECK_OK(vex_file_write_atomic(vfs, root, "f", "", 0, true));
    check_content(vfs, in(root, "f"), "");
    CHECK_STATUS(vex_file_write_atomic(vfs, in(root, "no"), "f", "x", 1, true),
                 VEX_ERR_NOT_FOUND);
    /* the error survives the cleaning up after it */
    CHECK_OK(vfs->dir_create(vfs, in(root, "d")));
    CHECK(vex_file_write_atomic(vfs, root, "d", "x", 1, true) != VEX_OK);
    CHECK_EQ(vex_last_error()->sys_errno, EISDIR);
    CHECK(!exists(vfs, in(root, "d.tmp")));
}

VFS_TEST(remove_all) {
    CHECK_OK(vex_dir_remove_all(vfs, in(root, "none")));
    char path[VEX_PATH_MAX];
    CHECK_OK(vex_path_join(path, root, "top"));
    CHECK_OK(vfs->dir_create(vfs, path));
    for (int depth = 0; depth < 60; depth++) {
        for (int i = 0; i < 5; i++) {
            char name[32];
            snprintf(name, sizeof name, "f%d", i);
            make(vfs, in(path, name), "x");
            snprintf(name, sizeof name, "empty%d", i);
            CHECK_OK(vfs->dir_create(vfs, in(path, name)));
        }
        CHECK_OK(vfs->dir_create(vfs, in(path, "second")));
        make(vfs, in(path, "second/f"), "x");
        CHECK_OK(vex_path_join(path, path, "deeper"));
        CHECK_OK(vfs->dir_create(vfs, path));
    }
    make(vfs, in(root, "sibling"), "stays");
    CHECK_OK(vex_path_join(path, root, "top/"));
    CHECK_OK(vex_dir_remove_all(vfs, path));
    CHECK(!exists(vfs, in(root, "top")));
    check_content(vfs, in(root, "sibling"), "stays");
    CHECK(vex_dir_remove_all(vfs, in(root, "sibling")) != VEX_OK); /* not a directory */
    check_content(vfs, in(root, "sibling"), "stays");
}

TEST(posix_remove_all_leaves_link_targets_alone) {
    vex_vfs *vfs = vex_vfs_posix();
    const char *root = test_directory();
    CHECK_OK(vfs->dir_create(vfs, in(root, "kept")));
    make(vfs, in(root, "kept/f"), "kept");
    CHECK_OK(vfs->dir_create(vfs, in(root, "top")));
    CHECK_EQ(symlink(in(root, "kept"), in(root, "top/link")), 0);
    CHECK_EQ(symlink("/nonexistent", in(root, "top/dangling")), 0);
    CHECK_OK(vex_dir_remove_all(vfs, in(root, "top")));
    CHECK(!exists(vfs, in(root, "top")));
    check_content(vfs, in(root, "kept/f"), "kept");
}

TEST(environment) {
    CHECK_EQ(setenv("VEXFS_TEST_VARIABLE", "value", 1), 0);
    CHECK(strcmp(vex_environment("VEXFS_TEST_VARIABLE"), "value") == 0);
    unsetenv("VEXFS_TEST_VARIABLE");
    CHECK(vex_environment("VEXFS_TEST_VARIABLE") == NULL);
}

/* ---- what only real files show ---- */

TEST(posix_file_size_limit_is_no_space) {
    vex_vfs *vfs = vex_vfs_posix();
    const char *path = in(test_directory(), "f");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) { /* in a child: the limit cannot be taken back */
        struct rlimit limit = {4096, 4096};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        static char bytes[10000];
        vex_iovec part = {bytes, sizeof bytes};
        vex_file *file;
        bool good = vfs->file_open(vfs, path, VEX_FILE_CREATE, &file) == VEX_OK &&
                    vfs->file_write(vfs, file, &part, 1, 0) == VEX_ERR_NO_SPACE &&
                    vex_last_error()->sys_errno == EFBIG;
        _exit(good ? 0 : 1);
    }
    int result;
    CHECK_EQ(waitpid(child, &result, 0), child);
    CHECK_EQ(result, 0);
    CHECK_EQ(size_of(vfs, path), 4096); /* the part that fitted was written before the failure */
}

TEST(posix_permission) {
    vex_vfs *vfs = vex_vfs_posix();
    const char *path = in(test_directory(), "f");
    make(vfs, path, "x");
    CHECK_EQ(chmod(path, 0), 0);
    vex_file *file;
    if (geteuid() == 0) { /* root may everything: only directories refuse to be linked */
        CHECK_STATUS(vfs->path_link(vfs, test_directory(), in(test_directory(), "g")),
                     VEX_ERR_PERMISSION);
    } else {
        CHECK_STATUS(vfs->file_open(vfs, path, VEX_FILE_READ, &file), VEX_ERR_PERMISSION);
        CHECK_EQ(vex_last_error()->sys_errno, EACCES);
    }
}

TEST(posix_descriptors_stay_above_stderr) {
    const char *path = in(test_directory(), "f");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        vex_vfs *vfs = vex_vfs_posix();
        vex_file *file;
        close(0);
        close(2);
        vex_iovec part = {"data", 4};
        bool good = vfs->file_open(vfs, path, VEX_FILE_CREATE, &file) == VEX_OK &&
                    vfs->file_write(vfs, file, &part, 1, 0) == VEX_OK &&
                    write(2, "stray", 5) < 0 && errno == EBADF;
        _exit(good ? 0 : 1);
    }
    int result;
    CHECK_EQ(waitpid(child, &result, 0), child);
    CHECK_EQ(result, 0);
    check_content(vex_vfs_posix(), path, "data");
}

/* ---- threads and fork ---- */

typedef struct worker {
    vex_vfs *vfs;
    char directory[VEX_PATH_MAX];
    bool good;
} worker;

/* Its own files in a shared directory: create, fill, map, rename over, check, remove. */
static void *work(void *context) {
    worker *w = context;
    vex_vfs *vfs = w->vfs;
    char path[VEX_PATH_MAX], name[32];
    snprintf(name, sizeof name, "w%p", context);
    w->good = vex_path_join(path, w->directory, name) == VEX_OK;
    for (int i = 0; i < 200 && w->good; i++) {
        char text[64], found[64];
        size_t len = (size_t)snprintf(text, sizeof text, "%s round %d", name, i);
        const uint8_t *map = NULL;
        vex_file *file = NULL;
        w->good = vex_file_write_atomic(vfs, w->directory, name, text, len, false) == VEX_OK &&
                  vfs->file_open(vfs, path, VEX_FILE_WRITE, &file) == VEX_OK &&
                  vfs->file_map(vfs, file, len, &map) == VEX_OK &&
                  vex_file_read_exact(vfs, file, path, found, len, 0) == VEX_OK &&
                  memcmp(found, text, len) == 0 && memcmp(map, text, len) == 0;
        if (map != NULL) {
            vfs->file_unmap(vfs, map, len);
        }
        vfs->file_close(vfs, file);
    }
    w->good = w->good && vfs->path_remove(vfs, path) == VEX_OK;
    return NULL;
}

VFS_TEST(threads) {
    static worker workers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        workers[i].vfs = vfs;
        snprintf(workers[i].directory, VEX_PATH_MAX, "%s", root);
        CHECK_EQ(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(workers[i].good);
    }
    names list = {.stop_at = 0};
    CHECK_OK(vfs->dir_list(vfs, root, note_name, &list));
    CHECK_EQ(list.n, 0);
}

#if !defined(__SANITIZE_THREAD__) /* which counts the parent's threads as leaks of the child */

TEST(memory_forked_child_can_go_on) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    static worker busy;
    busy.vfs = vfs;
    snprintf(busy.directory, VEX_PATH_MAX, "/");
    make(vfs, "/f", "kept");
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, work, &busy), 0); /* holds the lock now and then */
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(20); /* a deadlock becomes a failure */
            char found[4];
            vex_file *file;
            bool good = vfs->file_open(vfs, "/f", VEX_FILE_WRITE, &file) == VEX_OK &&
                        vex_file_read_exact(vfs, file, "/f", found, 4, 0) == VEX_OK &&
                        memcmp(found, "kept", 4) == 0 &&
                        vfs->file_truncate(vfs, file, 100) == VEX_OK;
            _exit(good ? 0 : 1);
        }
        int result;
        CHECK_EQ(waitpid(child, &result, 0), child);
        CHECK_EQ(result, 0);
    }
    pthread_join(thread, NULL);
    CHECK(busy.good);
    check_content(vfs, "/f", "kept");
    vex_vfs_memory_destroy(vfs);
}

#endif

TEST(memory_trees_are_separate) {
    vex_vfs *a, *b;
    vex_file_stat in_a, in_b;
    CHECK_OK(vex_vfs_memory_create(&a));
    CHECK_OK(vex_vfs_memory_create(&b));
    CHECK(a->is_volatile && !vex_vfs_posix()->is_volatile);
    make(a, "f", "A"); /* a missing slash is supplied */
    CHECK(!exists(b, "/f"));
    make(b, "/f", "B");
    check_content(a, "/f", "A");
    CHECK_OK(a->path_stat(a, "/", &in_a));
    CHECK_OK(b->path_stat(b, "/", &in_b));
    CHECK(in_a.device != in_b.device);
    CHECK(a->dir_remove(a, "/") != VEX_OK);
    CHECK(a->path_rename(a, "/", "/x") != VEX_OK);
    CHECK_STATUS(a->dir_create(a, "/.."), VEX_ERR_EXISTS);
    vex_vfs_memory_destroy(a);
    vex_vfs_memory_destroy(b);
    vex_vfs_memory_destroy(NULL);
}

#ifdef VEX_TESTING

/* ---- failures on demand ---- */

TEST(memory_runs_out_of_memory_cleanly) {
    for (uint64_t nth = 1;; nth++) {
        resources before = resources_now();
        vex_vfs *vfs = NULL;
        vex_file *file = NULL;
        static char bytes[10000];
        vex_iovec part = {bytes, sizeof bytes};
        vex_mem_fail_at(nth, false);
        vex_status status = vex_vfs_memory_create(&vfs);
        if (status == VEX_OK) {
            status = vfs->dir_create(vfs, "/d");
        }
        if (status == VEX_OK) {
            status = vfs->file_open(vfs, "/d/f", VEX_FILE_CREATE, &file);
        }
        if (status == VEX_OK) {
            status = vfs->file_write(vfs, file, &part, 1, 0);
        }
        if (status == VEX_OK) {
            status = vfs->path_link(vfs, "/d/f", "/g");
        }
        if (status == VEX_OK) {
            status = vfs->path_rename(vfs, "/g", "/d/h");
        }
        if (status == VEX_OK) {
            status = vex_dir_remove_all(vfs, "/d");
        }
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        if (vfs != NULL) {
            vfs->file_close(vfs, file);
        }
        vex_vfs_memory_destroy(vfs);
        check_resources(before);
        if (status == VEX_OK) {
            CHECK(nth > 8); /* there were that many allocations to fail */
            return;
        }
    }
}

VFS_TEST(faults_hit_the_chosen_call) {
    vex_vfs *fault;
    vex_file *file;
    CHECK_OK(vex_vfs_fault_create(vfs, &fault));
    CHECK_OK(fault->file_open(fault, in(root, "f"), VEX_FILE_CREATE, &file));
    CHECK_EQ(vex_vfs_fault_calls(fault), 1);
    vex_vfs_fault_arm(fault, 2, EDQUOT, false, true);
    vex_iovec parts[] = {{"abc", 3}, {"defgh", 5}};
    CHECK_OK(fault->file_write(fault, file, parts, 2, 0));
    CHECK_STATUS(fault->file_write(fault, file, parts, 2, 8), VEX_ERR_NO_SPACE);
    CHECK_EQ(vex_last_error()->sys_errno, EDQUOT);
    CHECK(strcmp(vex_last_error()->path, in(root, "f")) == 0);
    CHECK_OK(fault->file_sync(fault, file));
    check_content(fault, in(root, "f"), "abcdefghabcd"); /* half of the second write */
    vex_vfs_fault_arm(fault, 1, EACCES, true, false);
    CHECK_STATUS(fault->file_sync(fault, file), VEX_ERR_PERMISSION);
    CHECK_STATUS(fault->file_truncate(fault, file, 0), VEX_ERR_PERMISSION);
    CHECK_STATUS(fault->path_remove(fault, in(root, "f")), VEX_ERR_PERMISSION);
    CHECK_EQ(vex_vfs_fault_calls(fault), 3);
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(fault->path_remove(fault, in(root, "f")));
    fault->file_close(fault, file);
    vex_vfs_fault_destroy(fault);
}

VFS_TEST(write_atomic_is_atomic_under_every_fault) {
    vex_vfs *fault;
    CHECK_OK(vex_vfs_fault_create(vfs, &fault));
    for (int persistent = 0; persistent < 2; persistent++) {
        /* open, truncate, write, sync, rename, sync of the directory */
        for (uint64_t nth = 1; nth <= 6; nth++) {
            CHECK_OK(vex_file_write_atomic(vfs, root, "f", "before", 6, false));
            vex_vfs_fault_arm(fault, nth, ENOSPC, persistent != 0, true);
            vex_status status = vex_file_write_atomic(fault, root, "f", "after!", 6, true);
            CHECK_STATUS(status, VEX_ERR_NO_SPACE);
            CHECK(strstr(vex_last_error()->message, "free some space") != NULL);
            check_content(vfs, in(root, "f"), nth < 6 ? "before" : "after!");
            CHECK_EQ(exists(vfs, in(root, "f.tmp")), persistent && nth > 1 && nth < 6);
            if (persistent && nth > 1 && nth < 6) {
                CHECK_OK(vfs->path_remove(vfs, in(root, "f.tmp")));
            }
        }
    }
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(vex_file_write_atomic(fault, root, "f", "after!", 6, true));
    CHECK_EQ(vex_vfs_fault_calls(fault), 6);
    vex_vfs_fault_destroy(fault);
}

VFS_TEST(remove_all_reports_every_fault) {
    vex_vfs *fault;
    CHECK_OK(vex_vfs_fault_create(vfs, &fault));
    for (uint64_t nth = 1;; nth++) {
        CHECK_OK(vex_dir_remove_all(vfs, in(root, "d")));
        CHECK_OK(vfs->dir_create(vfs, in(root, "d")));
        CHECK_OK(vfs->dir_create(vfs, in(root, "d/e")));
        make(vfs, in(root, "d/f"), "x");
        make(vfs, in(root, "d/e/f"), "x");
        vex_vfs_fault_arm(fault, nth, EIO, true, false);
        vex_status status = vex_dir_remove_all(fault, in(root, "d"));
        if (status == VEX_OK) {
            CHECK(nth > 6);
            CHECK(!exists(vfs, in(root, "d")));
            break;
        }
        CHECK_EQ(vex_last_error()->sys_errno, EIO);
        CHECK(exists(vfs, in(root, "d")));
    }
    vex_vfs_fault_destroy(fault);
}

#endif
