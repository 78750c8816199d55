/*
 * t_wal.c - the write-ahead log: round trips, resuming, limits, group commit.
 */
#include "tests/wal_suite.h"

#include <pthread.h>

#define MIB ((size_t)1 << 20)

/* ---- round trips ---- */

VFS_TEST(wal_round_trip_around_frame_limits) {
    static const size_t sizes[] = {
        1,       7,           8,       9,           31,           32,
        33,      4096,        MIB - 8, MIB - 1,     MIB,          MIB + 1,
        MIB + 8, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 3 * MIB + 17, 9 * MIB + 5,
        1,       100};
    const size_t n = sizeof sizes / sizeof *sizes;
    vex_wal_writer *writer = create_log(vfs, root, 10);
    CHECK_EQ(vex_wal_number(writer), 1);
    CHECK_EQ(vex_wal_end(writer), 64);
    for (size_t i = 0; i < n; i++) {
        CHECK_OK(try_append(writer, 10 + i, sizes[i]));
    }
    CHECK_OK(vex_wal_sync_to(writer, vex_wal_end(writer)));
    CHECK_EQ(vex_wal_synced_end(writer), vex_wal_end(writer));

    vex_wal_reader *reader = open_log(vfs, root);
    CHECK_EQ(vex_wal_reader_last_lsn(reader), 0);
    for (size_t i = 0; i < n; i++) {
        expect_record(reader, 10 + i, sizes[i]);
    }
    CHECK_EQ(vex_wal_reader_offset(reader), vex_wal_end(writer));
    expect_step(reader, VEX_WAL_END);
    CHECK(!vex_wal_reader_sealed(reader));
    expect_step(reader, VEX_WAL_END);
    CHECK_OK(try_append(writer, 10 + n, 5));
    expect_record(reader, 10 + n, 5);
    CHECK_EQ(vex_wal_reader_synced_lsn(reader), 9 + n);
    vex_wal_reader_close(reader);
    vex_wal_writer_close(writer);
}

VFS_TEST(wal_streams_many_parts) {
    vex_wal_writer *writer = create_log(vfs, root, 1);
    vex_wal_reader *reader = open_log(vfs, root);
    for (uint64_t lsn = 1; lsn <= 40; lsn++) {
        uint32_t n_parts = 1 + test_random_below(500);
        vex_iovec *parts = calloc(n_parts, sizeof *parts);
        size_t total = 0, most = lsn % 4 == 0 ? 20000 : 300;
        for (uint32_t i = 0; i < n_parts; i++) {
            parts[i].len = test_random_below((uint32_t)most) * (test_random_below(4) != 0);
            total += parts[i].len;
        }
        parts[0].len++;
        total++;
        uint8_t *body = make_body(lsn, total);
        for (uint32_t i = 0, at = 0; i < n_parts; at += (uint32_t)parts[i++].len) {
            parts[i].data = parts[i].len > 0 ? body + at : NULL;
        }
        CHECK_OK(vex_wal_append(writer, lsn, parts, n_parts));
        expect_record(reader, lsn, total);
        free(parts);
        free(body);
    }
    expect_step(reader, VEX_WAL_END);
    vex_wal_reader_close(reader);
    vex_wal_writer_close(writer);
}

/* A frame that is full with the list of parts almost so, and one that ends with it. */
VFS_TEST(wal_frames_that_end_with_their_parts) {
    vex_wal_writer *writer = create_log(vfs, root, 1);
    vex_wal_reader *reader = open_log(vfs, root);
    uint64_t lsn = 1;
    for (uint32_t n = 58; n < 70; n++, lsn++) {
        vex_iovec parts[71];
        size_t total = MIB + 10, at = 0;
        uint8_t *body = make_body(lsn, total);
        for (uint32_t i = 0; i < n; at += parts[i++].len) {
            parts[i] = (vex_iovec){body + at, i + 1 < n ? 15000 : MIB - at};
        }
        parts[n] = (vex_iovec){body + at, 10};
        CHECK_OK(vex_wal_append(writer, lsn, parts, n + 1));
        expect_record(reader, lsn, total);
        free(body);
    }
    vex_wal_reader_close(reader);
    vex_wal_writer_close(writer);
}

VFS_TEST(wal_refuses_impossible_records) {
    vex_wal_writer *writer = create_log(vfs, root, 5);
    vex_iovec none = {NULL, 0}, huge[2] = {{"x", SIZE_MAX}, {"x", 2}};
    CHECK_STATUS(vex_wal_append(writer, 5, &none, 1), VEX_ERR_INVALID);
    CHECK_STATUS(vex_wal_append(writer, 5, NULL, 0), VEX_ERR_INVALID);
    CHECK_STATUS(vex_wal_append(writer, 5, huge, 2), VEX_ERR_TOO_BIG);
    CHECK_STATUS(vex_wal_append(writer, 5, huge, 1), VEX_ERR_TOO_BIG);
    CHECK_STATUS(try_append(writer, 4, 10), VEX_ERR_INVALID);
    CHECK_STATUS(try_append(writer, 6, 10), VEX_ERR_INVALID);
    CHECK_OK(try_append(writer, 5, 10));
    CHECK_STATUS(try_append(writer, 5, 10), VEX_ERR_INVALID);
    vex_wal_writer_close(writer);
    vex_wal_writer_close(NULL);
    vex_wal_reader_close(NULL);
}

/* The bytes of a small log, as the tables in wal.h give them. */
VFS_TEST(wal_bytes_are_as_specified) {
    uint8_t f[64 + 40 + 48 + 40];
    vex_wal_writer *writer = create_log(vfs, root, 3);
    vex_iovec first[2] = {{"ab", 2}, {"c", 1}}, second = {"0123456789", 10};
    CHECK_OK(vex_wal_append(writer, 3, first, 2));
    CHECK_OK(vex_wal_sync_to(writer, vex_wal_end(writer)));
    CHECK_OK(vex_wal_append(writer, 4, &second, 1));
    CHECK_OK(vex_wal_seal(writer));
    vex_wal_writer_close(writer);
    CHECK_EQ(size_of(vfs, in(root, LOG_NAME)), sizeof f);
    vex_file *file = open_file(vfs, in(root, LOG_NAME), VEX_FILE_READ);
    CHECK_OK(vex_file_read_exact(vfs, file, LOG_NAME, f, sizeof f, 0));
    vfs->file_close(vfs, file);
    CHECK(memcmp(f, "VXWL\r\n\x1a\n\1\0\0\0", 12) == 0 && memcmp(f + 16, log_uuid, 16) == 0);
    uint32_t salt = vex_get32(f + 12);
    CHECK(salt != 0 && vex_get64(f + 32) == 1 && vex_get64(f + 40) == 3 && vex_get32(f + 48) == 0 &&
          vex_get64(f + 52) == 0);
    CHECK_EQ(vex_get32(f + 60), vex_crc32c(0, f, 60));
    const uint8_t *a = f + 64, *b = a + 40, *c = b + 48;
    CHECK_EQ(vex_get32(a), vex_crc32c(salt, a + 4, 28 + 3));
    CHECK(vex_get32(a + 4) == 3 && vex_get64(a + 8) == 3 && vex_get64(a + 16) == 2 &&
          vex_get32(a + 24) == salt && vex_get32(a + 28) == 1);
    CHECK(memcmp(a + 32, "abc\0\0\0\0\0", 8) == 0);
    CHECK_EQ(vex_get32(b), vex_crc32c(salt, b + 4, 28 + 10));
    CHECK(vex_get32(b + 4) == 10 && vex_get64(b + 8) == 4 && vex_get64(b + 16) == 3 &&
          vex_get32(b + 24) == salt && vex_get32(b + 28) == 1);
    CHECK(memcmp(b + 32, "0123456789\0\0\0\0\0\0", 16) == 0);
    CHECK_EQ(vex_get32(c), vex_crc32c(salt, c + 4, 28 + 8));
    CHECK(vex_get32(c + 4) == 8 && vex_get64(c + 8) == 4 && vex_get64(c + 16) == 4 &&
          vex_get32(c + 24) == salt && vex_get32(c + 28) == 5 && vex_get64(c + 32) == 0);
}

VFS_TEST(wal_frames_of_a_long_record_are_linked) {
    uint8_t header[3][32];
    vex_wal_writer *writer = create_log(vfs, root, 1);
    CHECK_OK(try_append(writer, 1, 2 * MIB + 5));
    CHECK_EQ(vex_wal_end(writer), 64 + 3 * 32 + 2 * MIB + 8);
    vex_file *file = open_file(vfs, in(root, LOG_NAME), VEX_FILE_READ);
    for (size_t i = 0; i < 3; i++) {
        CHECK_OK(vex_file_read_exact(vfs, file, LOG_NAME, header[i], 32, 64 + i * (32 + MIB)));
        CHECK_EQ(header[i][28], 2 + i); /* FIRST, MIDDLE, LAST */
        CHECK_EQ(vex_get64(header[i] + 8), 1);
    }
    vfs->file_close(vfs, file);
    CHECK_EQ(vex_get32(header[1] + 24), vex_get32(header[0]));
    CHECK_EQ(vex_get32(header[2] + 24), vex_get32(header[1]));
    CHECK_EQ(vex_get32(header[2] + 4), 5);
    vex_wal_writer_close(writer);
}

/* ---- files ---- */

VFS_TEST(wal_create_replaces_only_an_empty_log) {
    vex_wal_writer *writer, *again;
    make(vfs, in(root, LOG_NAME ".tmp"),
         "left by a crash, longer than the header of a log is, "
         "so that something would remain behind it");
    writer = create_log(vfs, root, 1);
    CHECK(!exists(vfs, in(root, LOG_NAME ".tmp")));
    vex_wal_writer_close(writer);
    writer = create_log(vfs, root, 7);
    CHECK_OK(try_append(writer, 7, 1));
    CHECK_STATUS(vex_wal_create(vfs, root, log_uuid, 1, 8, true, &again), VEX_ERR_EXISTS);
    CHECK_STATUS(vex_wal_create(vfs, root, log_uuid, 2, 0, true, &again), VEX_ERR_INVALID);
    CHECK_STATUS(vex_wal_create(vfs, in(root, "missing"), log_uuid, 2, 1, true, &again),
                 VEX_ERR_NOT_FOUND);
    vex_wal_writer_close(writer);
    vex_wal_reader *reader = open_log(vfs, root);
    expect_record(reader, 7, 1);
    vex_wal_reader_close(reader);
}

VFS_TEST(wal_is_not_taken_for_another) {
    static const uint8_t other[16] = "another database";
    vex_wal_reader *reader;
    vex_wal_writer *writer = create_log(vfs, root, 7);
    vex_wal_writer_close(writer);
    CHECK_STATUS(vex_wal_reader_open(vfs, root, log_uuid, 2, &reader), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vex_wal_reader_open(vfs, root, other, 1, &reader), VEX_ERR_CORRUPT);
    CHECK_OK(vfs->path_rename(vfs, in(root, LOG_NAME), in(root, "wal-0000000002")));
    CHECK_STATUS(vex_wal_reader_open(vfs, root, log_uuid, 2, &reader), VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_wal_resume(vfs, root, log_uuid, 2, 64, 6, 6, &writer), VEX_ERR_CORRUPT);
}

VFS_TEST(wal_resumes) {
    vex_wal_writer *writer = create_log(vfs, root, 100);
    vex_wal_writer_close(writer);
    CHECK_OK(vex_wal_resume(vfs, root, log_uuid, 1, 64, 99, 99, &writer));
    uint64_t lsn = 100;
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++, lsn++) {
            CHECK_OK(try_append(writer, lsn, (size_t)lsn * 500));
        }
        uint64_t end = vex_wal_end(writer);
        if (round % 2) {
            CHECK_OK(vex_wal_sync_to(writer, end));
        }
        vex_wal_writer_close(writer);
        CHECK_OK(
            vex_wal_resume(vfs, root, log_uuid, 1, end, lsn - 1, round % 2 ? lsn - 1 : 0, &writer));
        CHECK_EQ(vex_wal_end(writer), end);
        CHECK_EQ(vex_wal_synced_end(writer), round % 2 ? end : 64);
    }
    uint64_t end = vex_wal_end(writer);
    vex_wal_writer_close(writer);
    CHECK_STATUS(vex_wal_resume(vfs, root, log_uuid, 1, end + 1, lsn - 1, 0, &writer),
                 VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_wal_resume(vfs, root, log_uuid, 1, 0, 99, 0, &writer), VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_wal_resume(vfs, root, log_uuid, 1, 64, 100, 0, &writer), VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_wal_resume(vfs, root, log_uuid, 1, end, 98, 0, &writer), VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_wal_resume(vfs, root, log_uuid, 1, 1u << 30, lsn, 0, &writer),
                 VEX_ERR_CORRUPT);
    vex_wal_reader *reader = open_log(vfs, root);
    for (uint64_t i = 100; i < lsn; i++) {
        expect_record(reader, i, (size_t)i * 500);
    }
    expect_step(reader, VEX_WAL_END);
    vex_wal_reader_close(reader);
}

VFS_TEST(wal_sealed_and_written_after_all) {
    vex_wal_writer *writer = create_log(vfs, root, 1);
    vex_wal_reader *reader = open_log(vfs, root);
    CHECK_OK(vex_wal_seal(writer)); /* an empty log */
    expect_step(reader, VEX_WAL_END);
    CHECK(vex_wal_reader_sealed(reader));
    CHECK_OK(try_append(writer, 1, 1));
    CHECK_OK(try_append(writer, 2, 1000));
    expect_record(reader, 1, 1);
    CHECK(!vex_wal_reader_sealed(reader));
    expect_record(reader, 2, 1000);
    CHECK_OK(vex_wal_seal(writer));
    CHECK_OK(vex_wal_seal(writer));
    CHECK_EQ(vex_wal_synced_end(writer), vex_wal_end(writer));
    CHECK_EQ(size_of(vfs, in(root, LOG_NAME)), vex_wal_end(writer) + 40);
    expect_step(reader, VEX_WAL_END);
    CHECK(vex_wal_reader_sealed(reader));
    CHECK_EQ(vex_wal_reader_synced_lsn(reader), 2);
    CHECK_EQ(vex_wal_reader_offset(reader), vex_wal_end(writer));
    CHECK_OK(try_append(writer, 3, 3));
    expect_record(reader, 3, 3);
    expect_step(reader, VEX_WAL_END);
    CHECK(!vex_wal_reader_sealed(reader));
    vex_wal_reader_close(reader);
    vex_wal_writer_close(writer);
}

VFS_TEST(wal_reads_up_to_the_limit) {
    uint64_t ends[20] = {64};
    vex_wal_writer *writer = create_log(vfs, root, 1);
    for (uint64_t lsn = 1; lsn < 20; lsn++) {
        CHECK_OK(try_append(writer, lsn, lsn % 5 == 0 ? MIB + (size_t)lsn : (size_t)lsn * 11));
        ends[lsn] = vex_wal_end(writer);
    }
    vex_wal_body body = {0};
    vex_wal_step step;
    uint64_t lsn;
    vex_wal_reader *reader = open_log(vfs, root);
    for (uint64_t next = 1; next < 20; next++) {
        uint64_t short_of[] = {0, 64, ends[next - 1], ends[next - 1] + 8, ends[next] - 1};
        for (size_t i = 0; i < 5; i++) {
            CHECK_OK(vex_wal_reader_next(reader, short_of[i], &step, &body, &lsn));
            CHECK_EQ(step, VEX_WAL_END);
            CHECK_EQ(vex_wal_reader_offset(reader), ends[next - 1]);
        }
        CHECK_OK(vex_wal_reader_next(reader, ends[next], &step, &body, &lsn));
        CHECK_EQ(step, VEX_WAL_RECORD);
        CHECK_EQ(lsn, next);
        CHECK_EQ(vex_wal_reader_offset(reader), ends[next]);
    }
    CHECK_OK(vex_wal_reader_seek(reader, ends[7], 7));
    expect_record(reader, 8, 88);
    CHECK_OK(vex_wal_reader_seek(reader, ends[7], 6)); /* not the lsn that ends there */
    expect_step(reader, VEX_WAL_TORN);
    CHECK_STATUS(vex_wal_reader_seek(reader, 63, 6), VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_wal_reader_seek(reader, 68, 6), VEX_ERR_CORRUPT);
    vex_wal_reader_close(reader);
    vex_wal_writer_close(writer);
}

/* A reader that follows the committed end sees what replaced a record that was taken back, even
 * when it has read the same window before. */
VFS_TEST(wal_limit_hides_what_is_not_committed) {
    vex_wal_body body = {0};
    vex_wal_step step;
    uint64_t lsn;
    vex_wal_writer *writer = create_log(vfs, root, 1);
    CHECK_OK(try_append(writer, 1, 100));
    uint64_t committed = vex_wal_end(writer);
    CHECK_OK(try_append(writer, 2, 100));
    vex_wal_reader *reader = open_log(vfs, root);
    CHECK_OK(vex_wal_reader_next(reader, committed, &step, &body, &lsn));
    CHECK_EQ(step, VEX_WAL_RECORD);
    vex_wal_writer_close(writer);
    vex_file *file = open_file(vfs, in(root, LOG_NAME), VEX_FILE_WRITE);
    CHECK_OK(vfs->file_truncate(vfs, file, committed));
    vfs->file_close(vfs, file);
    CHECK_OK(vex_wal_resume(vfs, root, log_uuid, 1, committed, 1, 1, &writer));
    vex_iovec other = {"something else", 14};
    CHECK_OK(vex_wal_append(writer, 2, &other, 1));
    CHECK_OK(vex_wal_reader_next(reader, vex_wal_end(writer), &step, &body, &lsn));
    CHECK(step == VEX_WAL_RECORD && lsn == 2 && body.len == 14);
    CHECK(memcmp(body.data, "something else", 14) == 0);
    vex_wal_reader_close(reader);
    vex_wal_writer_close(writer);
}

/* ---- group commit ---- */

#define COMMITTERS 8
#define COMMITS_EACH 60

typedef struct group {
    vex_wal_writer *writer;
    pthread_mutex_t append; /* the caller serialises appends                                   */
    uint64_t next_lsn;
    int failures;
} group;

static void *commit_many(void *context) {
    group *g = context;
    int failures = 0;
    for (int i = 0; i < COMMITS_EACH; i++) {
        uint8_t body[24];
        vex_iovec part = {body, sizeof body};
        pthread_mutex_lock(&g->append);
        uint64_t lsn = g->next_lsn++;
        for (size_t j = 0; j < sizeof body; j++) {
            body[j] = body_byte(lsn, j);
        }
        failures += vex_wal_append(g->writer, lsn, &part, 1) != VEX_OK;
        uint64_t end = vex_wal_end(g->writer);
        pthread_mutex_unlock(&g->append);
        failures += vex_wal_sync_to(g->writer, end) != VEX_OK;
        failures += vex_wal_synced_end(g->writer) < end;
    }
    pthread_mutex_lock(&g->append);
    g->failures += failures;
    pthread_mutex_unlock(&g->append);
    return NULL;
}

/* A disk that takes its time, so that committers meet. */
static vex_status (*fast_sync)(vex_vfs *vfs, vex_file *file);
static vex_status slow_sync(vex_vfs *vfs, vex_file *file) {
    vfs->sleep_ms(vfs, 1);
    return fast_sync(vfs, file);
}

VFS_TEST(wal_commits_share_syncs) {
    vex_vfs slow = *vfs;
    fast_sync = vfs->file_sync_data;
    slow.file_sync_data = slow_sync;
    group g = {.writer = create_log(&slow, root, 1), .next_lsn = 1};
    pthread_mutex_init(&g.append, NULL);
    pthread_t threads[COMMITTERS];
    uint64_t syncs = vex_stat_get(VEX_STAT_WAL_SYNCS), bytes = vex_stat_get(VEX_STAT_WAL_BYTES);
    for (int i = 0; i < COMMITTERS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, commit_many, &g), 0);
    }
    for (int i = 0; i < COMMITTERS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(g.failures, 0);
    syncs = vex_stat_get(VEX_STAT_WAL_SYNCS) - syncs;
    CHECK(syncs > 0 && syncs < COMMITTERS * COMMITS_EACH);
    CHECK_EQ(vex_stat_get(VEX_STAT_WAL_BYTES) - bytes, COMMITTERS * COMMITS_EACH * (32 + 24));
    vex_wal_reader *reader = open_log(vfs, root);
    for (uint64_t lsn = 1; lsn <= COMMITTERS * COMMITS_EACH; lsn++) {
        expect_record(reader, lsn, 24);
    }
    expect_step(reader, VEX_WAL_END);
    vex_wal_reader_close(reader);
    vex_wal_writer_close(g.writer);
    pthread_mutex_destroy(&g.append);
}

VFS_TEST(wal_sync_is_done_once) {
    vex_wal_writer *writer = create_log(vfs, root, 1);
    CHECK_OK(try_append(writer, 1, 10));
    uint64_t first = vex_wal_end(writer), syncs = vex_stat_get(VEX_STAT_WAL_SYNCS);
    CHECK_OK(vex_wal_sync_to(writer, 0));
    CHECK_OK(vex_wal_sync_to(writer, 64));
    CHECK_EQ(vex_stat_get(VEX_STAT_WAL_SYNCS), syncs);
    CHECK_OK(try_append(writer, 2, 10));
    CHECK_OK(vex_wal_sync_to(writer, first));
    CHECK_OK(vex_wal_sync_to(writer, vex_wal_end(writer))); /* came with it */
    CHECK_OK(vex_wal_sync_to(writer, UINT64_MAX));
    CHECK_EQ(vex_stat_get(VEX_STAT_WAL_SYNCS), syncs + 1);
    vex_wal_writer_close(writer);
}
