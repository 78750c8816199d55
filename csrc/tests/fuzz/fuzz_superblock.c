/*
 * fuzz_superblock.c - the superblock and the head of a collection, of any bytes.
 *
 * Targets "superblock" and "head": the input is the file.
 */
#include "base/crc32c.h"
#include "db/head.h"
#include "store/superblock.h"
#include "tests/fuzz/fuzz.h"

/* ---- superblock ---- */

#define PATH "/" VEX_SUPERBLOCK_NAME
#define SUPERBLOCK_BYTES 96u
#define AT_SUPERBLOCK_CRC 92u

void fuzz_fix_superblock(uint8_t *data, size_t len) {
    if (len == SUPERBLOCK_BYTES) {
        vex_put32(data + AT_SUPERBLOCK_CRC, vex_crc32c(0, data, AT_SUPERBLOCK_CRC));
    }
}

void fuzz_change_superblock(fuzz_input *input) {
    static const fuzz_field fields[] = {{8, 2}, {10, 2}, {12, 4}, {32, 8}, {40, 8}};
    if (test_random_below(4) == 0) {
        fuzz_change(input);
    } else {
        FUZZ_CHANGE_FIELD(input->data, input->len, fields, 0);
    }
}

static void superblock_seeds(const fuzz_seeds *seeds) {
    vex_vfs *files = fuzz_files_create();
    vex_superblock block;
    vex_buf bytes = {0};
    CHECK_OK(vex_superblock_create(files, "/", &block));
    fuzz_file_get(files, PATH, &bytes);
    seeds->take(seeds->context, bytes.data, bytes.len);
    vex_buf_clear(&bytes);
    vex_vfs_memory_destroy(files);
}

static void superblock_run(const uint8_t *data, size_t len) {
    vex_vfs *files = fuzz_files_create();
    vex_superblock block;
    fuzz_file_put(files, PATH, data, len);
    vex_status status = vex_superblock_read(files, "/", &block);
    if (status == VEX_OK) {
        fuzz_accept();
        CHECK_EQ(len, SUPERBLOCK_BYTES);
        CHECK_EQ(block.major, VEX_FORMAT_MAJOR);
        CHECK_EQ(block.reader_flags, 0);
        CHECK(memcmp(block.uuid, data + 16, 16) == 0);
    } else {
        fuzz_check_error(status, PATH);
    }
    vex_vfs_memory_destroy(files);
}

const fuzz_target fuzz_superblock = {.name = "superblock",
                                     .seeds = superblock_seeds,
                                     .run = superblock_run,
                                     .change = fuzz_change_superblock,
                                     .fix = fuzz_fix_superblock,
                                     .rounds = 5000};

/* ---- head ---- */

#define HEAD_PATH "/head"
#define HEAD_BYTES 64u
#define AT_HEAD_CRC 60u

void fuzz_fix_head(uint8_t *data, size_t len) {
    if (len >= HEAD_BYTES) {
        vex_put32(data + AT_HEAD_CRC,
                  vex_crc32c(vex_crc32c(0, FUZZ_COLLECTION, 16), data, AT_HEAD_CRC));
    }
}

void fuzz_change_head(fuzz_input *input) {
    static const fuzz_field fields[] = {{8, 8}, {16, 8}, {24, 8}, {32, 8}, {40, 8}};
    if (test_random_below(4) == 0) {
        fuzz_change(input);
    } else {
        FUZZ_CHANGE_FIELD(input->data, input->len, fields, 64);
    }
}

static void head_seeds(const fuzz_seeds *seeds) {
    static const vex_head heads[] = {
        {1, 1, 64, 0, 0}, {7, 3, 4096, 99, 5}, {.generation = VEX_HEAD_DROPPED}};
    vex_vfs *files = fuzz_files_create();
    vex_buf bytes = {0};
    fuzz_file_put(files, HEAD_PATH, "", 0);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        vex_file *file = NULL;
        CHECK_OK(files->file_open(files, HEAD_PATH, VEX_FILE_WRITE, &file));
        CHECK_OK(vex_head_write(files, file, FUZZ_COLLECTION, &heads[i]));
        files->file_close(files, file);
        fuzz_file_get(files, HEAD_PATH, &bytes);
        seeds->take(seeds->context, bytes.data, bytes.len);
    }
    vex_buf_clear(&bytes);
    vex_vfs_memory_destroy(files);
}

/* What counts comes back the same when it is written again. */
static void head_run(const uint8_t *data, size_t len) {
    vex_vfs *files = fuzz_files_create();
    vex_file *file = NULL;
    vex_head head = {0}, again = {0};
    bool valid = false;
    fuzz_file_put(files, HEAD_PATH, data, len);
    CHECK_OK(files->file_open(files, HEAD_PATH, VEX_FILE_WRITE, &file));
    CHECK_OK(vex_head_read(files, file, FUZZ_COLLECTION, &head, &valid));
    if (valid) {
        fuzz_accept();
        CHECK(len >= HEAD_BYTES);
        CHECK_OK(vex_head_write(files, file, FUZZ_COLLECTION, &head));
        CHECK_OK(vex_head_read(files, file, FUZZ_COLLECTION, &again, &valid));
        CHECK(valid && vex_head_equal(&head, &again));
        CHECK_OK(vex_head_void(files, file));
        CHECK_OK(vex_head_read(files, file, FUZZ_COLLECTION, &again, &valid));
        CHECK(!valid);
    }
    files->file_close(files, file);
    vex_vfs_memory_destroy(files);
}

const fuzz_target fuzz_head = {.name = "head",
                               .seeds = head_seeds,
                               .run = head_run,
                               .change = fuzz_change_head,
                               .fix = fuzz_fix_head,
                               .rounds = 5000};
