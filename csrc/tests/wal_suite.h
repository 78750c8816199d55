/*
 * wal_suite.h - what the tests of the write-ahead log share.
 *
 * Record bodies are derived from their lsn, so that a wrong record cannot pass for the right one.
 */
#ifndef VEX_TESTS_WAL_SUITE_H
#define VEX_TESTS_WAL_SUITE_H

#include "base/bytes.h"
#include "base/crc32c.h"
#include "tests/vfs_suite.h"
#include "wal/wal.h"

#include <stdlib.h>

static const uint8_t log_uuid[16] = "0123456789abcdef";
#define LOG_NAME "wal-0000000001"

static inline uint8_t body_byte(uint64_t lsn, size_t i) {
    return (uint8_t)(lsn * 131 + i * 7 + i / 251);
}

static inline uint8_t *make_body(uint64_t lsn, size_t len) {
    uint8_t *body = malloc(len + 1);
    for (size_t i = 0; i < len; i++) {
        body[i] = body_byte(lsn, i);
    }
    return body;
}

static inline vex_status try_append(vex_wal_writer *writer, uint64_t lsn, size_t len) {
    uint8_t *body = make_body(lsn, len);
    vex_iovec part = {body, len};
    vex_status status = vex_wal_append(writer, lsn, &part, 1);
    free(body);
    return status;
}

static inline void check_body(uint64_t lsn, const vex_wal_body *body, size_t len) {
    CHECK_EQ(body->len, len);
    for (size_t i = 0; i < len; i++) {
        if (body->data[i] != body_byte(lsn, i)) {
            test_failed(__FILE__, __LINE__, "byte %zu of record %llu is wrong", i,
                        (unsigned long long)lsn);
        }
    }
}

static inline vex_wal_writer *create_log(vex_vfs *vfs, const char *dir, uint64_t first_lsn) {
    vex_wal_writer *writer = NULL;
    CHECK_OK(vex_wal_create(vfs, dir, log_uuid, 1, first_lsn, true, &writer));
    return writer;
}

static inline vex_wal_reader *open_log(vex_vfs *vfs, const char *dir) {
    vex_wal_reader *reader = NULL;
    CHECK_OK(vex_wal_reader_open(vfs, dir, log_uuid, 1, &reader));
    return reader;
}

/* The next step must be record `lsn` of `len` bytes. */
static inline void expect_record(vex_wal_reader *reader, uint64_t lsn, size_t len) {
    vex_wal_body body = {0};
    vex_wal_step step;
    uint64_t found = 0;
    CHECK_OK(vex_wal_reader_next(reader, UINT64_MAX, &step, &body, &found));
    CHECK_EQ(step, VEX_WAL_RECORD);
    CHECK_EQ(found, lsn);
    CHECK_EQ(vex_wal_reader_last_lsn(reader), lsn);
    check_body(lsn, &body, len);
}

static inline void expect_step(vex_wal_reader *reader, vex_wal_step expected) {
    vex_wal_body body = {0};
    vex_wal_step step;
    uint64_t lsn = 0;
    CHECK_OK(vex_wal_reader_next(reader, UINT64_MAX, &step, &body, &lsn));
    CHECK_EQ(step, expected);
}

/* A log as bytes in memory, which a test changes and reads again. */
typedef struct log_image {
    vex_vfs *vfs;
    uint8_t *bytes;
    size_t len;              /* whole file                                                        */
    size_t end;              /* behind the last record                                            */
    uint32_t salt;
} log_image;

static inline void image_load(log_image *image) {
    image->len = (size_t)size_of(image->vfs, "/" LOG_NAME);
    image->bytes = malloc(image->len + 64);
    vex_file *file = open_file(image->vfs, "/" LOG_NAME, VEX_FILE_READ);
    CHECK_OK(vex_file_read_exact(image->vfs, file, LOG_NAME, image->bytes, image->len, 0));
    image->vfs->file_close(image->vfs, file);
    image->salt = vex_get32(image->bytes + 12);
}

static inline void image_store(const log_image *image, size_t len) {
    vex_iovec part = {image->bytes, len};
    vex_file *file = open_file(image->vfs, "/" LOG_NAME, VEX_FILE_CREATE);
    CHECK_OK(image->vfs->file_truncate(image->vfs, file, 0));
    CHECK_OK(image->vfs->file_write(image->vfs, file, &part, 1, 0));
    image->vfs->file_close(image->vfs, file);
}

static inline void image_free(log_image *image) {
    free(image->bytes);
    vex_vfs_memory_destroy(image->vfs);
}

/* Make the checksum of the frame at `at` right. */
static inline void image_forge(log_image *image, size_t at) {
    uint32_t len = vex_get32(image->bytes + at + 4);
    vex_put32(image->bytes + at, vex_crc32c(image->salt, image->bytes + at + 4, 28 + len));
}

/* Behind `at` the log holds nothing. */
static inline void check_zeros_from(vex_vfs *vfs, uint64_t at) {
    uint8_t bytes[4096];
    size_t got = 0;
    vex_file *file = NULL;
    CHECK_OK(vfs->file_open(vfs, "/" LOG_NAME, VEX_FILE_READ, &file));
    do {
        CHECK_OK(vfs->file_read(vfs, file, bytes, sizeof bytes, at, &got));
        for (size_t i = 0; i < got; i++) {
            CHECK_EQ(bytes[i], 0);
        }
        at += got;
    } while (got > 0);
    vfs->file_close(vfs, file);
}

#endif
