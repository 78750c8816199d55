/*
 * t_crash_disk.c - the recording vfs and the disks made of its traces (io/crash_disk.h): what must be
 * possible after a power failure, and what must not.
 */
#include "tests/harness.h"

#include "base/mem.h"
#include "io/crash_disk.h"

#include <stdlib.h>

typedef struct bench {
    vex_vfs *memory, *trace;
    vex_disk *disk;
    size_t done; /* operations that the disk knows */
} bench;

static bench make_bench(void) {
    bench b = {0};
    CHECK_OK(vex_vfs_memory_create(&b.memory));
    CHECK_OK(vex_vfs_trace_create(b.memory, 1, &b.trace));
    CHECK_OK(vex_disk_create(b.memory, &b.disk));
    return b;
}

static void clear_bench(bench *b) {
    vex_disk_destroy(b->disk);
    vex_vfs_trace_destroy(b->trace);
    vex_vfs_memory_destroy(b->memory);
}

static void put(bench *b, const char *path, uint8_t byte, size_t len, uint64_t offset, bool sync) {
    static uint8_t bytes[4096];
    vex_file *file = NULL;
    memset(bytes, byte, len);
    const vex_iovec part = {bytes, len};
    CHECK_OK(b->trace->file_open(b->trace, path, VEX_FILE_CREATE, &file));
    CHECK_OK(b->trace->file_write(b->trace, file, &part, 1, offset));
    if (sync) {
        CHECK_OK(b->trace->file_sync(b->trace, file));
    }
    b->trace->file_close(b->trace, file);
}

static size_t catch_up(bench *b) {
    const vex_trace *trace = vex_vfs_trace_get(b->trace);
    for (; b->done < trace->n; b->done++) {
        CHECK_OK(vex_disk_step(b->disk, &trace->ops[b->done], false));
    }
    return vex_disk_pending(b->disk);
}

static vex_vfs *files_with(const bench *b, const uint8_t *fates, uint64_t seed) {
    vex_image *image = NULL;
    vex_vfs *files = NULL;
    CHECK_OK(vex_disk_image(b->disk, fates, seed, &image));
    CHECK_OK(vex_vfs_memory_create(&files));
    CHECK_OK(vex_image_store(image, files));
    vex_image_destroy(image);
    return files;
}

/* The bytes of a file as text, runs shortened: "512a100b"; "-" when there is none. */
static const char *look(const bench *b, const uint8_t *fates, uint64_t seed, const char *path) {
    static char text[512];
    uint8_t bytes[4096];
    size_t got = 0, at = 0;
    vex_file *file = NULL;
    vex_vfs *files = files_with(b, fates, seed);
    snprintf(text, sizeof text, "-");
    if (files->file_open(files, path, VEX_FILE_READ, &file) == VEX_OK) {
        CHECK_OK(files->file_read(files, file, bytes, sizeof bytes, 0, &got));
        files->file_close(files, file);
        text[0] = '\0';
        for (size_t i = 0, run = 0; i < got && at < sizeof text - 8; i += run) {
            for (run = 1; i + run < got && bytes[i + run] == bytes[i]; run++) {
            }
            at += (size_t)snprintf(text + at, sizeof text - at, "%zu%c", run,
                                   bytes[i] == 0 ? '0' : bytes[i]);
        }
    }
    vex_vfs_memory_destroy(files);
    return text;
}

static void check_file(const bench *b, const uint8_t *fates, const char *path,
                       const char *expected) {
    const char *found = look(b, fates, 1, path);
    if (strcmp(found, expected) != 0) {
        test_failed(__FILE__, __LINE__, "%s is %s, expected %s", path, found, expected);
    }
}

TEST(crash_disk_names_and_bytes_are_durable_apart) {
    bench b = make_bench();
    put(&b, "/f", 'a', 600, 0, false);
    CHECK_EQ(catch_up(&b), 2);
    check_file(&b, (uint8_t[]){0, 1}, "/f", "-");
    check_file(&b, (uint8_t[]){1, 0}, "/f", "");
    check_file(&b, (uint8_t[]){1, VEX_FATE_ZEROS}, "/f", "6000");
    check_file(&b, (uint8_t[]){1, 1}, "/f", "600a");
    put(&b, "/f", 'b', 100, 600, true);
    CHECK_EQ(catch_up(&b), 1); /* its name */
    check_file(&b, (uint8_t[]){0}, "/f", "-");
    check_file(&b, (uint8_t[]){1}, "/f", "600a100b");
    CHECK_OK(b.trace->dir_sync(b.trace, "/"));
    CHECK_EQ(catch_up(&b), 0);
    check_file(&b, NULL, "/f", "600a100b");
    clear_bench(&b);
}

TEST(crash_disk_renames_are_atomic) {
    bench b = make_bench();
    put(&b, "/old", 'o', 10, 0, true);
    put(&b, "/new.tmp", 'n', 10, 0, true);
    CHECK_OK(b.trace->dir_sync(b.trace, "/"));
    CHECK_OK(b.trace->path_rename(b.trace, "/new.tmp", "/old"));
    CHECK_EQ(catch_up(&b), 1);
    check_file(&b, (uint8_t[]){0}, "/old", "10o");
    check_file(&b, (uint8_t[]){0}, "/new.tmp", "10n");
    check_file(&b, (uint8_t[]){1}, "/old", "10n");
    check_file(&b, (uint8_t[]){1}, "/new.tmp", "-");
    clear_bench(&b);
}

TEST(crash_disk_syncs_are_of_one_directory) {
    bench b = make_bench();
    CHECK_OK(b.trace->dir_create(b.trace, "/d"));
    put(&b, "/d/f", 'x', 5, 0, true);
    CHECK_OK(b.trace->dir_sync(b.trace, "/d"));
    CHECK_EQ(catch_up(&b), 1);
    check_file(&b, (uint8_t[]){0}, "/d/f", "-");
    check_file(&b, (uint8_t[]){1}, "/d/f", "5x");
    clear_bench(&b);
}

/* What is torn: only where the write is, and only what it changes. */
TEST(crash_disk_torn_writes_stay_within_their_range) {
    bench b = make_bench();
    put(&b, "/f", 'a', 2000, 0, true);
    CHECK_OK(b.trace->dir_sync(b.trace, "/"));
    put(&b, "/f", 'a', 700, 100, false); /* the same again */
    put(&b, "/f", 'b', 600, 900, false);
    CHECK_EQ(catch_up(&b), 2);
    uint32_t torn = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint8_t bytes[2001];
        size_t got = 0;
        vex_file *file = NULL;
        const uint8_t fates[] = {VEX_FATE_TORN_A, seed % 2 ? VEX_FATE_TORN_A : VEX_FATE_TORN_B};
        vex_vfs *files = files_with(&b, fates, seed);
        CHECK_OK(files->file_open(files, "/f", VEX_FILE_READ, &file));
        CHECK_OK(files->file_read(files, file, bytes, sizeof bytes, 0, &got));
        files->file_close(files, file);
        vex_vfs_memory_destroy(files);
        CHECK_EQ(got, 2000);
        uint32_t as_before = 0, is_new = 0;
        for (size_t i = 0; i < got; i++) {
            bool inside = i >= 900 && i < 1500;
            CHECK(inside || bytes[i] == 'a');
            as_before += inside && bytes[i] == 'a';
            is_new += inside && bytes[i] == 'b';
        }
        torn += as_before + is_new < 600 || (as_before > 0 && is_new > 0);
    }
    CHECK(torn > 100);
    clear_bench(&b);
}

TEST(crash_disk_later_syncs_do_not_make_up_for_a_failed_one) {
    bench b = make_bench();
    vex_file *file = NULL;
    put(&b, "/f", 'a', 100, 0, true);
    CHECK_OK(b.trace->dir_sync(b.trace, "/"));
    vex_vfs_trace_fail_sync(b.trace, 1);
    put(&b, "/f", 'b', 100, 100, false);
    CHECK_OK(b.trace->file_open(b.trace, "/f", VEX_FILE_WRITE, &file));
    CHECK_STATUS(b.trace->file_sync(b.trace, file), VEX_ERR_IO);
    CHECK_OK(b.trace->file_sync(b.trace, file));
    CHECK(vex_vfs_trace_failed(b.trace) != SIZE_MAX);
    CHECK_EQ(catch_up(&b), 1);
    check_file(&b, (uint8_t[]){0}, "/f", "100a");
    check_file(&b, (uint8_t[]){1}, "/f", "100a100b");
    put(&b, "/f", 'c', 50, 100, true); /* written again, in part */
    CHECK_EQ(catch_up(&b), 1);
    check_file(&b, (uint8_t[]){0}, "/f", "100a50c");
    check_file(&b, (uint8_t[]){1}, "/f", "100a50c50b");
    b.trace->file_close(b.trace, file);
    clear_bench(&b);
}

TEST(crash_disk_a_killed_process_does_nothing) {
    bench b = make_bench();
    vex_file *file = NULL;
    put(&b, "/f", 'a', 10, 0, false);
    vex_vfs_trace_kill_at(b.trace, vex_vfs_trace_get(b.trace)->n, NULL);
    CHECK_STATUS(b.trace->file_open(b.trace, "/g", VEX_FILE_CREATE, &file), VEX_ERR_IO);
    CHECK_STATUS(b.trace->path_remove(b.trace, "/f"), VEX_ERR_IO);
    CHECK(vex_vfs_trace_killed(b.trace));
    vex_vfs_trace_kill_at(b.trace, UINT64_MAX, NULL);
    CHECK_EQ(catch_up(&b), 2);
    put(&b, "/g", 'b', 10, 0, false);
    CHECK_EQ(catch_up(&b), 4);
    clear_bench(&b);
}

/* Equal disks have equal hashes, whatever the way to them. */
TEST(crash_disk_images_are_told_apart) {
    bench b = make_bench();
    put(&b, "/f", 'a', 100, 0, false);
    put(&b, "/g", 'a', 100, 0, false);
    CHECK_EQ(catch_up(&b), 4);
    uint64_t seen[16];
    size_t n = 0;
    for (uint8_t bits = 0; bits < 16; bits++) {
        const uint8_t fates[4] = {bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1};
        vex_image *image = NULL;
        bool known = false;
        CHECK_OK(vex_disk_image(b.disk, fates, 1, &image));
        for (size_t i = 0; i < n; i++) {
            known = known || seen[i] == vex_image_hash(image);
        }
        seen[n] = vex_image_hash(image);
        n += !known;
        vex_image_destroy(image);
    }
    CHECK_EQ(n, 9); /* each file: none, empty, whole */
    clear_bench(&b);
}
