/*
 * t_tombs.c - deleted rows: versions, files; and searching in arrays of keys.
 */
#include "base/bits.h"
#include "store/section.h"
#include "store/tombs.h"
#include "tests/vfs_suite.h"

#include <stdlib.h>

static const uint8_t uuid[16] = "0123456789abcdef";

static void check_rows(const vex_tombs *tombs, const bool *dead, uint32_t rows) {
    uint32_t n_dead = 0;
    uint64_t *live = calloc(vex_bit_words(rows) + 1, sizeof *live);
    vex_tombs_live_words(tombs, live);
    for (uint32_t row = 0; row < rows; row++) {
        CHECK_EQ(vex_tombs_dead(tombs, row), dead[row]);
        CHECK_EQ(vex_bit_get(live, row), !dead[row]);
        n_dead += dead[row];
    }
    CHECK_EQ(tombs->dead, n_dead);
    CHECK_EQ(vex_bits_count(live, vex_bit_words(rows)), rows - n_dead);
    free(live);
    for (int i = 0; i < 50; i++) {
        uint32_t first = test_random_below(rows + 1), end = test_random_below(rows + 1);
        n_dead = 0;
        for (uint32_t row = first; row < end; row++) {
            n_dead += dead[row];
        }
        CHECK_EQ(vex_tombs_count(tombs, first, end), n_dead);
    }
}

static void kill_some(vex_tombs **tombs, bool *dead, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = test_random_below((*tombs)->rows);
        bool was_live = dead[row];
        CHECK_OK(vex_tombs_kill(tombs, row, &was_live));
        CHECK_EQ(was_live, !dead[row]);
        dead[row] = true;
    }
}

TEST(tombs_versions) {
    resources before = resources_now();
    const uint32_t rows = 3 * VEX_TOMBS_PAGE_ROWS + 77;
    bool *dead = calloc(rows, 1), *older_dead = malloc(rows);
    vex_tombs *tombs, *older;
    bool was_live;
    CHECK_OK(vex_tombs_create(rows, &tombs));
    check_rows(tombs, dead, rows);
    kill_some(&tombs, dead, 3000);
    vex_tombs *same = tombs;
    kill_some(&tombs, dead, 10);
    CHECK(tombs == same); /* nobody shares it: in place */

    older = vex_tombs_acquire(tombs);
    memcpy(older_dead, dead, rows);
    kill_some(&tombs, dead, 5000);
    CHECK(tombs != older);
    check_rows(tombs, dead, rows);
    check_rows(older, older_dead, rows);

    /* Untouched pages are shared, and killing the dead makes no version. */
    vex_tombs_release(older);
    older = vex_tombs_acquire(tombs);
    uint32_t row = 0;
    while (!dead[row]) {
        row++;
    }
    CHECK_OK(vex_tombs_kill(&tombs, row, &was_live));
    CHECK(!was_live && tombs == older);
    row = rows - 1;
    while (dead[row]) {
        row--;
    }
    CHECK_OK(vex_tombs_kill(&tombs, row, &was_live));
    CHECK(was_live && tombs != older && tombs->pages[0] == older->pages[0]);
    CHECK_STATUS(vex_tombs_kill(&tombs, rows, &was_live), VEX_ERR_INVALID);
    CHECK_STATUS(vex_tombs_kill(&tombs, UINT32_MAX, &was_live), VEX_ERR_INVALID);
    vex_tombs_release(older);
    vex_tombs_release(tombs);
    vex_tombs_release(NULL);
    free(dead);
    free(older_dead);
    check_resources(before);
}

VFS_TEST(tombs_files) {
    const uint32_t sizes[] = {1, 63, 64, 65, VEX_TOMBS_PAGE_ROWS, VEX_TOMBS_PAGE_ROWS + 1, 100000};
    uint64_t file_no = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        bool *dead = calloc(sizes[s], 1);
        vex_tombs *tombs, *read;
        vex_file_entry of = {.kind = VEX_KIND_VECTORS, .file_no = 77, .rows = sizes[s]};
        CHECK_OK(vex_tombs_read(vfs, root, uuid, &of, &read)); /* none listed: none dead */
        check_rows(read, dead, sizes[s]);
        vex_tombs_release(read);
        CHECK_OK(vex_tombs_create(sizes[s], &tombs));
        kill_some(&tombs, dead, 1 + sizes[s] / 3);
        CHECK_OK(vex_tombs_write(tombs, vfs, root, uuid, file_no++, 5, true, &of));
        CHECK_EQ(of.tombs_file_no, file_no - 1);
        CHECK_EQ(of.dead_rows, tombs->dead);
        CHECK_OK(vex_tombs_read(vfs, root, uuid, &of, &read));
        check_rows(read, dead, sizes[s]);
        vex_tombs_release(read);

        vex_file_entry other = of; /* each of these says that it is not this file's version */
        other.file_no++;
        CHECK_STATUS(vex_tombs_read(vfs, root, uuid, &other, &read), VEX_ERR_CORRUPT);
        other = of;
        other.dead_rows++;
        CHECK_STATUS(vex_tombs_read(vfs, root, uuid, &other, &read), VEX_ERR_CORRUPT);
        other = of;
        other.rows++;
        CHECK_STATUS(vex_tombs_read(vfs, root, uuid, &other, &read), VEX_ERR_CORRUPT);
        vex_tombs_release(tombs);
        free(dead);
    }
}

TEST(tombs_every_bit_flipped) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    vex_tombs *tombs, *read;
    bool dead[70] = {false};
    vex_file_entry of = {.kind = VEX_KIND_VECTORS, .file_no = 77, .rows = 70};
    CHECK_OK(vex_tombs_create(70, &tombs));
    kill_some(&tombs, dead, 20);
    CHECK_OK(vex_tombs_write(tombs, vfs, "/", uuid, 1, 5, true, &of));
    vex_file *file = open_file(vfs, "/del-000000000001.vxd", VEX_FILE_WRITE);
    uint32_t refused = 0;
    for (uint64_t bit = 0; bit < of.tombs_size * 8; bit++) {
        uint8_t byte, damaged;
        CHECK_OK(vex_file_read_exact(vfs, file, "x", &byte, 1, bit / 8));
        damaged = byte ^ (uint8_t)(1 << bit % 8);
        CHECK_OK(vfs->file_write(vfs, file, &(vex_iovec){&damaged, 1}, 1, bit / 8));
        vex_status status = vex_tombs_read(vfs, "/", uuid, &of, &read);
        if (status == VEX_OK) {
            check_rows(read, dead, 70); /* padding between sections */
            vex_tombs_release(read);
        } else {
            refused++;
            CHECK(status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION);
        }
        CHECK_OK(vfs->file_write(vfs, file, &(vex_iovec){&byte, 1}, 1, bit / 8));
    }
    CHECK(refused > 8 * (64 + 16 + 16 + 2 * 48 + 40));
    vfs->file_close(vfs, file);
    vex_tombs_release(tombs);
    vex_vfs_memory_destroy(vfs);
}

#ifdef VEX_TESTING
TEST(tombs_without_memory) {
    resources before = resources_now();
    vex_tombs *tombs, *older;
    bool was_live, dead[100] = {false};
    CHECK_OK(vex_tombs_create(100, &tombs));
    kill_some(&tombs, dead, 10);
    older = vex_tombs_acquire(tombs);
    uint32_t row = 0;
    while (dead[row]) {
        row++;
    }
    for (uint64_t n = 1; n < 3; n++) {
        vex_mem_fail_at(n, false);
        CHECK_STATUS(vex_tombs_kill(&tombs, row, &was_live), VEX_ERR_NO_MEMORY);
        CHECK(tombs == older);
        check_rows(tombs, dead, 100);
    }
    vex_mem_fail_at(0, false);
    CHECK_OK(vex_tombs_kill(&tombs, row, &was_live));
    check_rows(older, dead, 100);
    vex_tombs_release(older);
    vex_tombs_release(tombs);
    check_resources(before);
}
#endif

/* ---- searching ---- */

TEST(lower_bound_finds_like_a_scan) {
    uint64_t keys[300];
    for (int round = 0; round < 3000; round++) {
        uint32_t n = test_random_below(300);
        uint64_t next = test_random_below(50), gaps = 1 + test_random_below(4) * 30;
        for (uint32_t i = 0; i < n; i++) {
            keys[i] = next;
            next += 1 + test_random() % gaps;
        }
        for (int probe = 0; probe < 10; probe++) {
            uint64_t key = probe == 0 ? UINT64_MAX : test_random() % (next + 3);
            uint32_t expected = 0;
            while (expected < n && keys[expected] < key) {
                expected++;
            }
            CHECK_EQ(vex_lower_bound(keys, n, key, n ? test_random_below(n) : 0), expected);
            CHECK_EQ(vex_lower_bound_dense(keys, n, key), expected);
        }
    }
}

TEST(lower_bound_survives_garbage) {
    for (int round = 0; round < 20000; round++) {
        uint32_t n = 1 + test_random_below(100);
        uint64_t *keys = malloc(n * sizeof *keys); /* exactly, for the sanitizer */
        for (uint32_t i = 0; i < n; i++) {
            keys[i] = test_random() >> test_random_below(64);
        }
        uint64_t key = test_random() >> test_random_below(64);
        CHECK(vex_lower_bound(keys, n, key, test_random_below(n)) <= n);
        CHECK(vex_lower_bound_dense(keys, n, key) <= n);
        free(keys);
    }
}
