/*
 * t_vfs.c - files, mappings, names: what every vfs does alike.
 */
#include "tests/vfs_suite.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- files ---- */

VFS_TEST(open_modes) {
    const char *path = in(root, "f");
    vex_file *file;
    CHECK_STATUS(vfs->file_open(vfs, path, VEX_FILE_READ, &file), VEX_ERR_NOT_FOUND);
    CHECK_EQ(vex_last_error()->sys_errno, ENOENT);
    CHECK(strcmp(vex_last_error()->path, path) == 0);
    CHECK(strstr(vex_last_error()->message, "cannot open file: No such file") != NULL);
    CHECK_STATUS(vfs->file_open(vfs, path, VEX_FILE_WRITE, &file), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vfs->file_open(vfs, in(root, "no/f"), VEX_FILE_CREATE, &file), VEX_ERR_NOT_FOUND);
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
    CHECK_STATUS(vfs->file_open(vfs, root, VEX_FILE_WRITE, &file), VEX_ERR_CORRUPT);
    CHECK_EQ(vex_last_error()->sys_errno, EISDIR);
    CHECK_STATUS(vfs->file_open(vfs, root, VEX_FILE_READ, &file), VEX_ERR_CORRUPT);
    check_content(vfs, path, "Jello");
}

TEST(posix_what_is_no_plain_file) {
    static const struct {
        const char *name;
        int sys_errno;
    } cases[] = {{"pipe", ENXIO}, {"nothing", ELOOP}, {"itself", ELOOP}};
    vex_vfs *vfs = vex_vfs_posix();
    const char *root = test_directory();
    uint64_t open_files = vex_stat_get(VEX_STAT_OPEN_FILES);
    vex_file *file;
    CHECK_EQ(mkfifo(in(root, "pipe"), 0600), 0);
    CHECK_EQ(symlink("no/such", in(root, "nothing")), 0);
    CHECK_EQ(symlink("itself", in(root, "itself")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int mode = VEX_FILE_READ; mode <= VEX_FILE_CREATE; mode++) {
            const char *path = in(root, cases[i].name);
            CHECK_STATUS(vfs->file_open(vfs, path, (vex_file_mode)mode, &file), VEX_ERR_CORRUPT);
            CHECK_EQ(vex_last_error()->sys_errno, cases[i].sys_errno);
            CHECK(strstr(vex_last_error()->message, "no plain file") != NULL);
        }
    }
    CHECK_EQ(vex_stat_get(VEX_STAT_OPEN_FILES), open_files);
    make(vfs, in(root, "f"), "content");
    CHECK_EQ(symlink("f", in(root, "to_f")), 0);
    check_content(vfs, in(root, "to_f"), "content");
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
    vex_disk_space space = {0};
    CHECK_OK(vfs->disk_space(vfs, root, &space));
    CHECK(space.size > 0 && space.left > 0 && space.left <= space.size);
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
