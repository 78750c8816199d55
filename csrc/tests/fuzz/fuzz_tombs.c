/*
 * fuzz_tombs.c - tombstone files of any bytes.
 *
 * Target "tombs": the input is the file; the file whose rows it calls dead has as many rows as it
 * says, up to ROWS_MAX.  What is read must be written again as the same rows.
 */
#include "base/bits.h"
#include "store/tombs.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#define FILE_NO 9u
#define PATH "/del-000000000009.vxd"
#define OF_FILE_NO 4u
#define ROWS_MAX 200000u

/* ---- seeds ---- */

static void seed(const fuzz_seeds *seeds, uint32_t rows, uint32_t every) {
    vex_vfs *files = fuzz_files_create();
    vex_tombs *tombs = NULL;
    vex_file_entry of = {.file_no = OF_FILE_NO, .rows = rows};
    vex_buf bytes = {0};
    bool was_live;
    CHECK_OK(vex_tombs_create(rows, &tombs));
    for (uint32_t row = 0; row < rows; row += every) {
        CHECK_OK(vex_tombs_kill(&tombs, row, &was_live));
    }
    CHECK_OK(vex_tombs_write(tombs, files, "/", FUZZ_DATABASE, FILE_NO, 1, false, &of));
    fuzz_file_get(files, PATH, &bytes);
    seeds->take(seeds->context, bytes.data, bytes.len);
    vex_buf_clear(&bytes);
    vex_tombs_release(tombs);
    vex_vfs_memory_destroy(files);
}

static void seeds(const fuzz_seeds *seeds) {
    seed(seeds, 1, 1);
    seed(seeds, 64, 3);
    seed(seeds, 100, 1);
    seed(seeds, 1000, 200);
    seed(seeds, VEX_TOMBS_PAGE_ROWS + 70, VEX_TOMBS_PAGE_ROWS + 1);
}

/* ---- a run ---- */

/* As the manifest would have it: what the file itself says. */
static vex_file_entry owner(vex_vfs *files, const vex_file_entry *entry) {
    vex_container container;
    vex_file_entry of = {.kind = VEX_KIND_VECTORS,
                         .file_no = OF_FILE_NO,
                         .rows = 100,
                         .tombs_file_no = FILE_NO,
                         .tombs_size = entry->size,
                         .tombs_crc = entry->crc};
    if (vex_container_open(files, "/", FUZZ_DATABASE, VEX_KIND_TOMBS, FILE_NO, entry, &container) ==
        VEX_OK) {
        const vex_section *info = vex_container_find(&container, VEX_SECTION_INFO);
        if (info != NULL && info->len >= 16) {
            const uint32_t rows = vex_get32(info->data + 8);
            of.rows = rows < ROWS_MAX ? rows : ROWS_MAX;
            of.dead_rows = vex_get32(info->data + 12);
        }
        vex_container_close(&container);
    }
    return of;
}

static void check_counts(const vex_tombs *tombs) {
    const size_t n = vex_bit_words(tombs->rows);
    uint64_t *live = calloc(n + 1, sizeof *live);
    uint32_t dead = 0;
    vex_tombs_live_words(tombs, live);
    for (uint32_t row = 0; row < tombs->rows; row++) {
        CHECK(vex_tombs_dead(tombs, row) == !vex_bit_get(live, row));
        dead += vex_tombs_dead(tombs, row);
    }
    CHECK_EQ(dead, tombs->dead);
    CHECK_EQ(vex_bits_count(live, n), tombs->rows - dead);
    CHECK_EQ(vex_tombs_count(tombs, 0, tombs->rows), dead);
    CHECK_EQ(vex_tombs_count(tombs, 0, tombs->rows / 3) +
                 vex_tombs_count(tombs, tombs->rows / 3, tombs->rows),
             dead);
    free(live);
}

/* One more row dies; then the rows are written and read again. */
static void write_again(vex_vfs *files, vex_tombs **tombs, const vex_file_entry *of) {
    vex_file_entry entry = *of;
    vex_tombs *again = NULL;
    bool was_live = false;
    if ((*tombs)->rows > 0) {
        CHECK_OK(vex_tombs_kill(tombs, (*tombs)->rows / 2, &was_live));
    }
    CHECK_OK(vex_tombs_write(*tombs, files, "/", FUZZ_DATABASE, FILE_NO + 1, 2, false, &entry));
    CHECK_OK(vex_tombs_read(files, "/", FUZZ_DATABASE, &entry, &again));
    CHECK_EQ(again->dead, (*tombs)->dead);
    for (uint32_t row = 0; row < again->rows; row++) {
        CHECK(vex_tombs_dead(again, row) == vex_tombs_dead(*tombs, row));
    }
    vex_tombs_release(again);
}

static void run(const uint8_t *data, size_t len) {
    vex_vfs *files = fuzz_files_create();
    const vex_file_entry entry = fuzz_entry_of(VEX_KIND_TOMBS, FILE_NO, data, len);
    vex_tombs *tombs = NULL;
    fuzz_file_put(files, PATH, data, len);
    const vex_file_entry of = owner(files, &entry);
    vex_status status = vex_tombs_read(files, "/", FUZZ_DATABASE, &of, &tombs);
    if (status == VEX_OK) {
        fuzz_accept();
        CHECK(tombs->rows == of.rows && tombs->dead == of.dead_rows);
        check_counts(tombs);
        write_again(files, &tombs, &of);
        vex_tombs_release(tombs);
    } else {
        fuzz_check_error(status, PATH);
    }
    vex_vfs_memory_destroy(files);
}

const fuzz_target fuzz_tombs = {.name = "tombs",
                                .seeds = seeds,
                                .run = run,
                                .change = fuzz_change_container,
                                .fix = fuzz_fix_container,
                                .rounds = 5000};
