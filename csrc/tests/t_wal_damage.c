/*
 * t_wal_damage.c - the write-ahead log under truncation, flipped bits, forged frames, failing
 * system calls, and a reader that is too early.
 */
#include "tests/wal_suite.h"

#include <pthread.h>

#define MIB ((size_t)1 << 20)

/* A log of records 1..n of these lengths in memory; synced after each record when `sync`. */
static log_image make_image(const size_t *lens, size_t n, bool sync, bool seal) {
    log_image image = {0};
    CHECK_OK(vex_vfs_memory_create(&image.vfs));
    vex_wal_writer *writer = create_log(image.vfs, "/", 1);
    for (size_t i = 0; i < n; i++) {
        CHECK_OK(try_append(writer, 1 + i, lens[i]));
        if (sync) {
            CHECK_OK(vex_wal_sync_to(writer, vex_wal_end(writer)));
        }
    }
    image.end = (size_t)vex_wal_end(writer);
    if (seal) {
        CHECK_OK(vex_wal_seal(writer));
    }
    vex_wal_writer_close(writer);
    image_load(&image);
    return image;
}

/* Read all of image.bytes[0, len): the records must be 1, 2, ... with the right bytes.  Returns
 * how many; *last is how it ended. */
static uint64_t replay(const log_image *image, size_t len, const size_t *lens, size_t n,
                       vex_status *status, vex_wal_step *last) {
    vex_wal_reader *reader = NULL;
    vex_wal_body body = {0};
    uint64_t count = 0, lsn = 0;
    image_store(image, len);
    *last = VEX_WAL_END;
    *status = vex_wal_reader_open(image->vfs, "/", log_uuid, 1, &reader);
    while (*status == VEX_OK) {
        *status = vex_wal_reader_next(reader, UINT64_MAX, last, &body, &lsn);
        if (*status != VEX_OK || *last != VEX_WAL_RECORD) {
            break;
        }
        CHECK_EQ(lsn, ++count);
        CHECK(count <= n);
        check_body(lsn, &body, lens[count - 1]);
    }
    vex_wal_reader_close(reader);
    return count;
}

static size_t frames_of(size_t len) {
    return (len + MIB - 1) / MIB;
}

static size_t record_size(size_t len) {
    size_t tail = len % MIB;
    return frames_of(len) * 32 + len - tail + (tail + 7) / 8 * 8;
}

static const size_t small_lens[] = {5, 8, 40, 1, 100, 16, 3};
#define N_SMALL (sizeof small_lens / sizeof *small_lens)

TEST(wal_truncated_anywhere_keeps_a_prefix) {
    for (int sync = 0; sync < 2; sync++) {
        log_image image = make_image(small_lens, N_SMALL, sync, sync);
        for (size_t len = 0; len < image.len; len += len < image.end + 100 ? 1 : 997) {
            vex_status status;
            vex_wal_step last;
            uint64_t count = replay(&image, len, small_lens, N_SMALL, &status, &last);
            size_t whole = 0, end = 64;
            while (whole < N_SMALL && end + record_size(small_lens[whole]) <= len) {
                end += record_size(small_lens[whole++]);
            }
            CHECK_EQ(status, len < 64 ? VEX_ERR_CORRUPT : VEX_OK);
            CHECK_EQ(count, len < 64 ? 0 : whole);
            if (len >= 64 && len < image.end) {
                bool blank = true; /* a checksum may begin with a zero, like the empty tail */
                for (size_t at = end; at < len; at++) {
                    blank = blank && image.bytes[at] == 0;
                }
                CHECK_EQ(last, blank ? VEX_WAL_END : VEX_WAL_TORN);
            }
        }
        image_free(&image);
    }
}

/* Any single flipped bit: never a wrong record; damage before a witness is told. */
TEST(wal_flipped_bit_anywhere) {
    for (int sync = 0; sync < 2; sync++) {
        log_image image = make_image(small_lens, N_SMALL, sync, sync);
        size_t to = image.len < image.end + 200 ? image.len : image.end + 200;
        for (size_t bit = 0; bit < to * 8; bit++) {
            vex_status status;
            vex_wal_step last;
            image.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            uint64_t count = replay(&image, image.len, small_lens, N_SMALL, &status, &last);
            image.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            size_t whole = 0, end = 64;
            while (whole < N_SMALL && end + record_size(small_lens[whole]) <= bit / 8) {
                end += record_size(small_lens[whole++]);
            }
            if (bit / 8 < 64) {
                CHECK_EQ(status, VEX_ERR_CORRUPT);
            } else if (bit / 8 >= image.end) { /* a blank tail, or the CLOSE frame */
                CHECK_EQ(count, N_SMALL);
                CHECK(status == VEX_OK && last == VEX_WAL_TORN);
            } else {
                CHECK_EQ(count, whole);
                CHECK_EQ(status, sync ? VEX_ERR_CORRUPT : VEX_OK);
                CHECK(sync || last == VEX_WAL_TORN);
                CHECK(!sync || vex_last_error()->offset == end);
            }
        }
        image_free(&image);
    }
}

/* Without the CLOSE frame the last record has no witness: its loss is taken for a torn tail. */
TEST(wal_damage_in_the_last_record_is_a_torn_tail) {
    vex_status status;
    vex_wal_step last;
    log_image image = make_image(small_lens, N_SMALL, true, false);
    image.bytes[image.end - 3] ^= 1;
    CHECK_EQ(replay(&image, image.len, small_lens, N_SMALL, &status, &last), N_SMALL - 1);
    CHECK(status == VEX_OK && last == VEX_WAL_TORN);
    image_free(&image);
}

/* Pages of zeros, and of something else, over a log of long records. */
TEST(wal_lost_pages) {
    static const size_t lens[] = {3000, 2 * MIB + 100, 5000, MIB + 1, 70000, 3 * MIB, 10};
    const size_t n = sizeof lens / sizeof *lens;
    for (int sync = 0; sync < 2; sync++) {
        log_image image = make_image(lens, n, sync, sync);
        uint8_t *original = malloc(image.len);
        memcpy(original, image.bytes, image.len);
        for (int round = 0; round < 16; round++) {
            vex_status status;
            vex_wal_step last;
            size_t page = 1 + test_random_below((uint32_t)(image.end / 4096 - 1));
            memset(image.bytes + page * 4096, round % 2 ? 0 : (int)test_random_below(256), 4096);
            uint64_t count = replay(&image, image.len, lens, n, &status, &last);
            memcpy(image.bytes, original, image.len);
            size_t whole = 0, end = 64;
            while (whole < n && end + record_size(lens[whole]) <= page * 4096) {
                end += record_size(lens[whole++]);
            }
            CHECK_EQ(count, whole);
            CHECK_EQ(status, sync ? VEX_ERR_CORRUPT : VEX_OK);
        }
        free(original);
        image_free(&image);
    }
}

/* A frame that is a witness only by its MIDDLE part: the FIRST is damaged as well. */
TEST(wal_any_frame_can_be_the_witness) {
    static const size_t lens[] = {100, 100, 2 * MIB + 9};
    vex_status status;
    vex_wal_step last;
    log_image image = make_image(lens, 3, true, false);
    size_t third = 64 + 2 * record_size(100);
    image.bytes[64 + 40] ^= 1;
    image.bytes[64 + record_size(100) + 40] ^= 1;
    image.bytes[third + 40] ^= 1;
    CHECK_EQ(replay(&image, image.len, lens, 3, &status, &last), 0);
    CHECK_EQ(status, VEX_ERR_CORRUPT);
    image.bytes[third + 32 + MIB + 40] ^= 1; /* MIDDLE */
    CHECK_EQ(replay(&image, image.len, lens, 3, &status, &last), 0);
    CHECK_EQ(status, VEX_ERR_CORRUPT);
    image.bytes[third + 2 * (32 + MIB) + 40] ^= 1; /* LAST: nothing is left that is valid */
    CHECK_EQ(replay(&image, image.len, lens, 3, &status, &last), 0);
    CHECK(status == VEX_OK && last == VEX_WAL_TORN);
    image_free(&image);
}

/* The search for a witness reads the file in steps of 1 MiB + 4 KiB: one that lies across two. */
TEST(wal_witness_across_the_steps_of_the_search) {
    for (size_t tail = 3984; tail <= 4048; tail += 8) {
        const size_t lens[] = {MIB + tail, 50};
        vex_status status;
        vex_wal_step last;
        log_image image = make_image(lens, 2, true, false);
        image.bytes[64 + 40] ^= 1; /* the FIRST; MIDDLE and LAST of the same record say nothing */
        CHECK_EQ(replay(&image, image.len, lens, 2, &status, &last), 0);
        CHECK_EQ(status, VEX_ERR_CORRUPT);
        image_free(&image);
    }
}

/* ---- frames out of turn ---- */

/* Frames of two attempts at the same record, both valid, are not mixed into one. */
TEST(wal_attempts_are_not_mixed) {
    static const size_t lens[] = {10, 2 * MIB};
    vex_status status;
    vex_wal_step last;
    log_image image = make_image(lens, 2, false, false);
    size_t second = 64 + record_size(10);
    image.bytes[second + 32] ^= 0x55; /* another body, with a checksum that is right */
    image_forge(&image, second);
    CHECK_EQ(replay(&image, image.len, lens, 2, &status, &last), 1);
    CHECK(status == VEX_OK && last == VEX_WAL_TORN);
    image_free(&image);
}

TEST(wal_frames_out_of_turn_end_the_log) {
    static const size_t lens[] = {8, 8, 8, 8};
    static const struct {
        size_t at; /* within the third frame */
        uint8_t value;
        vex_status status;
    } cases[] = {
        {8, 2, VEX_OK},           {8, 9, VEX_OK},           {8, 4, VEX_OK}, /* lsn */
        {28, 3, VEX_OK},          {28, 4, VEX_OK},          /* MIDDLE, LAST without FIRST */
        {28, 5, VEX_OK},                                    /* CLOSE with the wrong lsn */
        {24, 0, VEX_OK},                                    /* salt */
        {28, 6, VEX_ERR_VERSION}, {28, 0, VEX_ERR_VERSION}, /* reserved and unknown types */
        {29, 1, VEX_ERR_VERSION}, {31, 1, VEX_ERR_VERSION}, /* flags */
    };
    log_image image = make_image(lens, 4, false, false);
    uint8_t kept[40];
    size_t third = 64 + 2 * 40;
    memcpy(kept, image.bytes + third, 40);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vex_status status;
        vex_wal_step last;
        image.bytes[third + cases[i].at] = cases[i].value ^ (cases[i].at == 24 ? kept[24] ^ 1 : 0);
        image_forge(&image, third);
        CHECK_EQ(replay(&image, image.len, lens, 4, &status, &last), 2);
        CHECK_EQ(status, cases[i].status);
        CHECK(status != VEX_OK || last == VEX_WAL_TORN);
        memcpy(image.bytes + third, kept, 40);
    }
    image.bytes[third + 28] = 2; /* FIRST, and then a FULL */
    image_forge(&image, third);
    vex_status status;
    vex_wal_step last;
    CHECK_EQ(replay(&image, image.len, lens, 4, &status, &last), 2);
    CHECK(status == VEX_OK && last == VEX_WAL_TORN);
    image.bytes[third + 40 + 16] = 3; /* the fourth says that the third is durable */
    image_forge(&image, third + 40);
    CHECK_EQ(replay(&image, image.len, lens, 4, &status, &last), 2);
    CHECK_EQ(status, VEX_ERR_CORRUPT);
    image_free(&image);
}

TEST(wal_hostile_lengths_are_safe) {
    static const uint32_t hostile[] = {0,          1,          9,          0xffff,
                                       0xfffff,    0x100000,   0x100001,   0x100008,
                                       0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff};
    static const size_t lens[] = {8, 8, 8};
    log_image image = make_image(lens, 3, true, false);
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        vex_status status;
        vex_wal_step last;
        vex_put32(image.bytes + 64 + 40 + 4, hostile[i]);
        if (hostile[i] < image.len - 64 - 40 - 32) {
            image_forge(&image, 64 + 40);
        }
        uint64_t count = replay(&image, 64 + 3 * 40, lens, 1, &status, &last);
        CHECK_EQ(count, 1);
        CHECK_EQ(status, VEX_ERR_CORRUPT); /* the third frame is a witness of the second */
    }
    image_free(&image);
}

TEST(wal_random_bytes_are_safe) {
    for (int round = 0; round < 200; round++) {
        static const size_t lens[] = {200, 300, 50};
        vex_status status;
        vex_wal_step last;
        log_image image = make_image(lens, 3, round % 2, round % 3 == 0);
        for (uint32_t i = 0, n = 1 + test_random_below(30); i < n; i++) {
            image.bytes[64 + test_random_below((uint32_t)image.end)] = (uint8_t)test_random();
        }
        uint64_t count = replay(&image, image.len, lens, 3, &status, &last);
        CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT);
        CHECK(count <= 3);
        image_free(&image);
    }
}

TEST(wal_header_of_a_later_release_is_refused) {
    static const size_t lens[] = {8};
    vex_status status;
    vex_wal_step last;
    log_image image = make_image(lens, 1, false, false);
    static const struct {
        size_t at;
        uint32_t value;
        vex_status status;
    } cases[] = {{8, 2, VEX_ERR_VERSION},
                 {8, 0x00070001, VEX_OK},
                 {48, 1, VEX_ERR_VERSION},
                 {32, 3, VEX_ERR_CORRUPT},
                 {40, 0, VEX_ERR_CORRUPT}};
    uint8_t kept[64];
    memcpy(kept, image.bytes, 64);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vex_put32(image.bytes + cases[i].at, cases[i].value);
        vex_put32(image.bytes + 60, vex_crc32c(0, image.bytes, 60));
        replay(&image, image.len, lens, 1, &status, &last);
        CHECK_EQ(status, cases[i].status);
        memcpy(image.bytes, kept, 64);
    }
    image_free(&image);
}

/* ---- a reader beside a writer ---- */

/* Show the log growing byte by byte: every call gives END or TORN until the record is whole. */
TEST(wal_reader_waits_for_whole_records) {
    static const size_t lens[] = {5, 60, 8, 33};
    log_image image = make_image(lens, 4, true, false), partial = {0};
    CHECK_OK(vex_vfs_memory_create(&partial.vfs));
    vex_file *file = open_file(partial.vfs, "/" LOG_NAME, VEX_FILE_CREATE_NEW);
    vex_iovec part = {image.bytes, 64};
    CHECK_OK(partial.vfs->file_write(partial.vfs, file, &part, 1, 0));
    CHECK_OK(partial.vfs->file_allocate(partial.vfs, file, 64, 5000));
    vex_wal_reader *reader = open_log(partial.vfs, "/");
    uint64_t lsn = 1;
    size_t end = 64 + record_size(lens[0]);
    for (size_t at = 64; at < image.end; at++) {
        vex_wal_body body = {0};
        vex_wal_step step;
        uint64_t found;
        part = (vex_iovec){image.bytes + at, 1};
        CHECK_OK(partial.vfs->file_write(partial.vfs, file, &part, 1, at));
        CHECK_OK(vex_wal_reader_next(reader, UINT64_MAX, &step, &body, &found));
        if (step == VEX_WAL_RECORD) { /* its padding is there already: zeros */
            CHECK(end - at <= 8);
            CHECK_EQ(found, lsn);
            check_body(lsn, &body, lens[lsn - 1]);
            if (lsn < 4) {
                end += record_size(lens[lsn]);
            }
            lsn++;
        }
    }
    CHECK_EQ(lsn, 5);
    vex_wal_reader_close(reader);
    partial.vfs->file_close(partial.vfs, file);
    vex_vfs_memory_destroy(partial.vfs);
    image_free(&image);
}

typedef struct following {
    vex_vfs *vfs;
    const char *dir;
    uint64_t n;
    const char *failure;
} following;

static size_t growing_len(uint64_t lsn) {
    return lsn % 50 == 0 ? 2 * MIB + (size_t)lsn : 1 + (size_t)(lsn * 37 % 3000);
}

static void *follow(void *context) {
    following *f = context;
    vex_wal_reader *reader = NULL;
    vex_wal_body body = {0};
    uint64_t lsn = 0;
    if (vex_wal_reader_open(f->vfs, f->dir, log_uuid, 1, &reader) != VEX_OK) {
        f->failure = "cannot open";
        return NULL;
    }
    while (lsn < f->n && f->failure == NULL) {
        vex_wal_step step;
        uint64_t found = 0;
        if (vex_wal_reader_next(reader, UINT64_MAX, &step, &body, &found) != VEX_OK) {
            f->failure = "an error while the writer is at work";
        } else if (step == VEX_WAL_RECORD) {
            bool right = found == ++lsn && body.len == growing_len(lsn);
            for (size_t i = 0; right && i < body.len; i++) {
                right = body.data[i] == body_byte(lsn, i);
            }
            f->failure = right ? NULL : "a wrong record";
        }
    }
    vex_wal_reader_close(reader);
    return NULL;
}

/* The writer syncs all the time, so there are witnesses while the reader meets half frames. */
VFS_TEST(wal_reader_follows_a_writer) {
    following f[2] = {{vfs, root, 400, NULL}, {vfs, root, 400, NULL}};
    pthread_t threads[2];
    vex_wal_writer *writer = create_log(vfs, root, 1);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, follow, &f[i]), 0);
    }
    vex_status status = VEX_OK;
    for (uint64_t lsn = 1; lsn <= 400 && status == VEX_OK; lsn++) {
        status = try_append(writer, lsn, growing_len(lsn));
        if (status == VEX_OK) {
            status = vex_wal_sync_to(writer, vex_wal_end(writer));
        }
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        if (f[i].failure != NULL) {
            test_failed(__FILE__, __LINE__, "%s", f[i].failure);
        }
    }
    CHECK_OK(status);
    vex_wal_writer_close(writer);
}

/* ---- failing system calls and memory ---- */

#ifdef VEX_TESTING

/* Append with every call failing in turn: the record is there whole or not at all, and the next
 * one follows. */
static void fail_appends(int sys_errno, bool persistent, bool short_write, size_t len) {
    vex_vfs *memory, *fault;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &fault));
    vex_wal_writer *writer = create_log(fault, "/", 1);
    CHECK_OK(try_append(writer, 1, 10));
    uint64_t lsn = 2;
    vex_status status = VEX_ERR_IO;
    for (uint64_t nth = 1; status != VEX_OK; nth++) {
        uint64_t end = vex_wal_end(writer);
        vex_vfs_fault_arm(fault, nth, sys_errno, persistent, short_write);
        status = try_append(writer, lsn, len);
        uint64_t calls = vex_vfs_fault_calls(fault);
        vex_vfs_fault_arm(fault, 0, 0, false, false);
        if (status == VEX_ERR_POISONED) { /* the truncation failed as well */
            CHECK(persistent);
            CHECK_STATUS(try_append(writer, lsn, 5), VEX_ERR_POISONED);
            CHECK_STATUS(vex_wal_sync_to(writer, end), VEX_ERR_POISONED);
            CHECK_STATUS(vex_wal_seal(writer), VEX_ERR_POISONED);
            break;
        }
        if (status == VEX_OK) {
            lsn++;
            if (calls >= nth) {
                status = VEX_ERR_IO; /* only the reservation failed: go on */
            }
            continue;
        }
        CHECK_EQ(status, sys_errno == ENOSPC ? VEX_ERR_NO_SPACE : VEX_ERR_IO);
        CHECK_EQ(vex_wal_end(writer), end);
        check_zeros_from(memory, end); /* what was written is gone; reserved may remain */
        CHECK_OK(try_append(writer, lsn++, len));
        CHECK(size_of(memory, "/" LOG_NAME) > vex_wal_end(writer)); /* reserved again */
    }
    vex_wal_writer_close(writer);
    vex_wal_reader *reader = open_log(memory, "/");
    expect_record(reader, 1, 10);
    for (uint64_t i = 2; i < lsn; i++) {
        expect_record(reader, i, len);
    }
    vex_wal_body body = {0};
    vex_wal_step step;
    uint64_t found;
    CHECK_OK(vex_wal_reader_next(reader, UINT64_MAX, &step, &body, &found));
    CHECK(step != VEX_WAL_RECORD);
    vex_wal_reader_close(reader);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(memory);
}

TEST(wal_failed_append_is_taken_back) {
    static const size_t lens[] = {20, 100000, 10 * MIB};
    resources before = resources_now();
    for (size_t i = 0; i < 3; i++) {
        for (int kind = 0; kind < 8; kind++) {
            fail_appends(kind & 1 ? ENOSPC : EIO, kind & 2, kind & 4, lens[i]);
        }
    }
    check_resources(before);
}

TEST(wal_failed_sync_poisons) {
    resources before = resources_now();
    vex_vfs *memory, *fault;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &fault));
    vex_wal_writer *writer = create_log(fault, "/", 1);
    CHECK_OK(try_append(writer, 1, 10));
    uint64_t first = vex_wal_end(writer);
    CHECK_OK(vex_wal_sync_to(writer, first));
    CHECK_OK(try_append(writer, 2, 10));
    vex_vfs_fault_arm(fault, 1, EIO, false, false);
    CHECK_STATUS(vex_wal_sync_to(writer, vex_wal_end(writer)), VEX_ERR_IO);
    CHECK_OK(vex_wal_sync_to(writer, first)); /* that is safe */
    CHECK_EQ(vex_wal_synced_end(writer), first);
    CHECK_STATUS(vex_wal_sync_to(writer, vex_wal_end(writer)), VEX_ERR_POISONED);
    CHECK_STATUS(try_append(writer, 3, 10), VEX_ERR_POISONED);
    CHECK_STATUS(vex_wal_seal(writer), VEX_ERR_POISONED);
    vex_wal_writer_close(writer);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(memory);
    check_resources(before);
}

static vex_status whole_life(vex_vfs *vfs, uint64_t *end) {
    vex_wal_writer *writer = NULL;
    *end = 0;
    VEX_TRY(vex_wal_create(vfs, "/", log_uuid, 1, 1, true, &writer));
    vex_status status = try_append(writer, 1, 10);
    if (status == VEX_OK) {
        *end = vex_wal_end(writer);
        status = vex_wal_seal(writer);
    }
    vex_wal_writer_close(writer);
    if (status == VEX_OK) {
        status = vex_wal_resume(vfs, "/", log_uuid, 1, *end, 1, 1, &writer);
        if (status == VEX_OK) {
            vex_wal_writer_close(writer);
        }
    }
    return status;
}

static vex_status read_all(vex_vfs *vfs, uint64_t *count) {
    vex_wal_reader *reader = NULL;
    vex_wal_body body = {0};
    vex_wal_step step = VEX_WAL_RECORD;
    uint64_t lsn;
    *count = 0;
    VEX_TRY(vex_wal_reader_open(vfs, "/", log_uuid, 1, &reader));
    vex_status status = VEX_OK;
    while (status == VEX_OK && step == VEX_WAL_RECORD) {
        status = vex_wal_reader_next(reader, UINT64_MAX, &step, &body, &lsn);
        *count += status == VEX_OK && step == VEX_WAL_RECORD;
    }
    vex_wal_reader_close(reader);
    return status;
}

TEST(wal_life_survives_every_failure) {
    resources before = resources_now();
    vex_vfs *memory, *fault;
    uint64_t end, count;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &fault));
    vex_status status = VEX_ERR_IO;
    for (uint64_t nth = 1; status != VEX_OK || vex_vfs_fault_calls(fault) >= nth; nth++) {
        vex_vfs_fault_arm(fault, nth, EIO, false, nth % 2);
        status = whole_life(fault, &end);
        uint64_t calls = vex_vfs_fault_calls(fault);
        CHECK(status == VEX_OK || status == VEX_ERR_IO);
        CHECK(!exists(memory, "/" LOG_NAME ".tmp"));
        if (exists(memory, "/" LOG_NAME)) { /* whole, whatever else failed */
            CHECK_OK(read_all(memory, &count));
            CHECK(count == (end > 0));
            CHECK_OK(memory->path_remove(memory, "/" LOG_NAME));
        }
        if (calls < nth) {
            break;
        }
    }
    CHECK_OK(status);
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(whole_life(fault, &end));
    status = VEX_ERR_IO;
    for (uint64_t nth = 1; status != VEX_OK; nth++) {
        vex_vfs_fault_arm(fault, nth, EIO, false, false);
        status = read_all(fault, &count);
        CHECK(status == VEX_OK ? count == 1 : status == VEX_ERR_IO);
    }
    status = VEX_ERR_IO;
    for (uint64_t nth = 1; status != VEX_OK; nth++) {
        CHECK_OK(memory->path_remove(memory, "/" LOG_NAME));
        vex_mem_fail_at(nth, false);
        status = whole_life(memory, &end);
        status = status == VEX_OK ? read_all(memory, &count) : status;
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        if (!exists(memory, "/" LOG_NAME)) {
            make(memory, "/" LOG_NAME, "");
        }
    }
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(memory);
    check_resources(before);
}

#endif
