/*
 * fuzz_wal.c - a write-ahead log of any bytes: the reader, the rule of its tail, the look at its end,
 * and going on behind it.
 *
 * Target "wal": the input is the file.
 */
#include "base/crc32c.h"
#include "tests/fuzz/fuzz.h"
#include "wal/wal_format.h"

#include <stdlib.h>

#define PATH "/wal-0000000001"
#define NUMBER 1u
#define AT_SALT 12u
#define AT_HEADER_CRC 60u

/* ---- checksums ---- */

static bool looks_like_frame(const uint8_t *data, size_t len, size_t at) {
    if (len - at < FRAME_BYTES) {
        return false;
    }
    const uint32_t payload = vex_get32(data + at + AT_LEN);
    return payload > 0 && payload <= PAYLOAD_MAX && frame_size(payload) <= len - at;
}

/* Frames as they follow each other; behind something else, the next place that could be one. */
void fuzz_fix_wal(uint8_t *data, size_t len) {
    uint32_t previous = 0;
    if (len < HEADER_BYTES) {
        return;
    }
    const uint32_t salt = vex_get32(data + AT_SALT);
    vex_put32(data + AT_HEADER_CRC, vex_crc32c(0, data, AT_HEADER_CRC));
    for (size_t at = HEADER_BYTES; at < len;) {
        uint8_t *frame = data + at;
        if (!looks_like_frame(data, len, at)) {
            at += 8;
            continue;
        }
        const uint32_t payload = vex_get32(frame + AT_LEN);
        const bool goes_on = frame[AT_TYPE] == FRAME_MIDDLE || frame[AT_TYPE] == FRAME_LAST;
        vex_put32(frame + AT_LINK, goes_on ? previous : salt);
        memset(frame + FRAME_BYTES + payload, 0, frame_size(payload) - FRAME_BYTES - payload);
        previous = vex_crc32c(salt, frame + AT_LEN, FRAME_BYTES - AT_LEN + payload);
        vex_put32(frame + AT_CRC, previous);
        at += frame_size(payload);
    }
}

/* ---- changes ---- */

typedef struct frame_place {
    size_t at, len;
} frame_place;

/* One of the frames, or { 0, 0 }. */
static frame_place some_frame(const fuzz_input *input) {
    frame_place chosen = {0, 0};
    uint32_t seen = 0;
    for (size_t at = HEADER_BYTES;
         at < input->len && looks_like_frame(input->data, input->len, at);) {
        const size_t size = frame_size(vex_get32(input->data + at + AT_LEN));
        if (test_random_below(++seen) == 0) {
            chosen = (frame_place){at, size};
        }
        at += size;
    }
    return chosen;
}

/* The frame once more, or away, or another payload. */
static void change_frame(fuzz_input *input, frame_place frame) {
    uint8_t *at = input->data + frame.at;
    const size_t behind = input->len - frame.at;
    switch (test_random_below(4)) {
    case 0:
        if (input->capacity - input->len >= frame.len) {
            memmove(at + frame.len, at, behind);
            input->len += frame.len;
        }
        break;
    case 1:
        memmove(at, at + frame.len, behind - frame.len);
        input->len -= frame.len;
        break;
    case 2:
        at[AT_TYPE] = (uint8_t)(1 + test_random_below(8));
        break;
    default:
        fuzz_change_part(input, frame.at + FRAME_BYTES, vex_get32(at + AT_LEN), fuzz_change_batch);
        vex_put32(input->data + frame.at + AT_LEN,
                  (uint32_t)(input->len - frame.at - behind + vex_get32(at + AT_LEN)));
    }
}

void fuzz_change_wal(fuzz_input *input) {
    static const fuzz_field header[] = {{8, 2}, {10, 2}, {12, 4}, {32, 8}, {40, 8}, {48, 4}};
    static const fuzz_field fields[] = {{AT_LEN, 4},  {AT_LSN, 8},   {AT_SYNCED_LSN, 8},
                                        {AT_TYPE, 1}, {AT_FLAGS, 1}, {AT_ZERO, 2}};
    const frame_place frame = input->len > HEADER_BYTES ? some_frame(input) : (frame_place){0, 0};
    const uint32_t what = test_random_below(8);
    if (frame.len == 0 || what == 0) {
        fuzz_change(input);
    } else if (what == 1) {
        FUZZ_CHANGE_FIELD(input->data, HEADER_BYTES, header, 1);
    } else if (what < 5) {
        FUZZ_CHANGE_FIELD(input->data + frame.at, frame.len, fields, frame.len - FRAME_BYTES);
    } else {
        change_frame(input, frame);
    }
}

/* ---- seeds ---- */

static void append(vex_wal_writer *writer, uint64_t lsn, size_t len) {
    uint8_t body[256];
    for (size_t i = 0; i < len; i++) {
        body[i] = (uint8_t)(lsn * 131 + i * 7);
    }
    const vex_iovec part = {body, len};
    CHECK_OK(vex_wal_append(writer, lsn, &part, 1));
}

/* Without the zeros that were allocated ahead. */
static void take_log(const fuzz_seeds *seeds, vex_vfs *files, uint64_t end) {
    vex_buf bytes = {0};
    fuzz_file_get(files, PATH, &bytes);
    const size_t len = bytes.len < end + 64 ? bytes.len : (size_t)end + 64;
    seeds->take(seeds->context, bytes.data, len);
    vex_buf_clear(&bytes);
}

/* `n` records, synced after every other one, and maybe a CLOSE frame. */
static void seed(const fuzz_seeds *seeds, uint32_t n, bool close) {
    vex_vfs *files = fuzz_files_create();
    vex_wal_writer *writer = NULL;
    CHECK_OK(vex_wal_create(files, "/", FUZZ_COLLECTION, NUMBER, 5, false, &writer));
    for (uint32_t i = 0; i < n; i++) {
        append(writer, 5 + i, 1 + 37 * (size_t)i);
        if (i % 2) {
            CHECK_OK(vex_wal_sync_to(writer, vex_wal_end(writer)));
        }
    }
    const uint64_t end = vex_wal_end(writer);
    if (close) {
        CHECK_OK(vex_wal_seal(writer));
    }
    vex_wal_writer_close(writer);
    take_log(seeds, files, end);
    vex_vfs_memory_destroy(files);
}

/* FIRST, MIDDLE and LAST need a MiB each when the writer makes them; the reader takes short ones. */
static void seed_short_parts(const fuzz_seeds *seeds) {
    uint8_t log[HEADER_BYTES + 5 * 48 + 16] = {0};
    static const uint8_t types[] = {FRAME_FULL, FRAME_FIRST, FRAME_MIDDLE, FRAME_LAST, FRAME_CLOSE};
    const vex_wal_header header = {.salt = 0x5A5A5A5A, .number = NUMBER, .first_lsn = 5};
    vex_wal_header_encode(&header, FUZZ_COLLECTION, log);
    size_t at = HEADER_BYTES;
    for (size_t i = 0; i < sizeof types; i++, at += 48) {
        const uint64_t lsn = i == 0 ? 5 : 6;
        vex_put32(log + at + AT_LEN, types[i] == FRAME_CLOSE ? CLOSE_PAYLOAD : 13);
        vex_put64(log + at + AT_LSN, lsn);
        vex_put64(log + at + AT_SYNCED_LSN, types[i] == FRAME_CLOSE ? lsn : 4);
        log[at + AT_TYPE] = types[i];
        memset(log + at + FRAME_BYTES, types[i] == FRAME_CLOSE ? 0 : 'a' + (int)i, 8);
    }
    fuzz_fix_wal(log, sizeof log);
    seeds->take(seeds->context, log, sizeof log);
}

static void seeds(const fuzz_seeds *seeds) {
    seed(seeds, 0, false);
    seed(seeds, 0, true);
    seed(seeds, 1, false);
    seed(seeds, 5, true);
    seed(seeds, 6, false);
    seed_short_parts(seeds);
}

/* ---- a run ---- */

typedef struct log_end {
    uint64_t offset, last_lsn, synced_lsn, first_offset, records;
    vex_wal_step step;
} log_end;

/* Read to the end: records follow each other, and lie inside the file. */
static vex_status read_all(vex_vfs *files, size_t len, log_end *end) {
    vex_wal_reader *reader = NULL;
    vex_wal_body body = {0};
    uint64_t lsn = 0, before = 0;
    *end = (log_end){.step = VEX_WAL_RECORD};
    VEX_TRY(vex_wal_reader_open(files, "/", FUZZ_COLLECTION, NUMBER, &reader));
    vex_status status = VEX_OK;
    while (status == VEX_OK && end->step == VEX_WAL_RECORD) {
        const uint64_t offset = vex_wal_reader_offset(reader);
        status = vex_wal_reader_next(reader, UINT64_MAX, &end->step, &body, &lsn);
        if (status == VEX_OK && end->step == VEX_WAL_RECORD) {
            CHECK(vex_wal_reader_offset(reader) > offset && vex_wal_reader_offset(reader) <= len);
            CHECK(body.len > 0 && body.len < len);
            CHECK(end->records == 0 || lsn == before + 1);
            end->first_offset =
                end->records == 0 ? vex_wal_reader_offset(reader) : end->first_offset;
            end->records++;
            before = lsn;
        }
    }
    end->offset = vex_wal_reader_offset(reader);
    end->last_lsn = vex_wal_reader_last_lsn(reader);
    end->synced_lsn = vex_wal_reader_synced_lsn(reader);
    vex_wal_reader_close(reader);
    return status;
}

/* Behind every record: is it the end?  It is not, unless it is the last. */
static void look_at_ends(vex_vfs *files, const log_end *end) {
    bool clean = false, sealed = false;
    CHECK_OK(vex_wal_check_end(files, "/", FUZZ_COLLECTION, NUMBER, end->offset, end->last_lsn,
                               &clean, &sealed));
    CHECK(clean || !sealed);
    if (end->records > 1) {
        CHECK_OK(vex_wal_check_end(files, "/", FUZZ_COLLECTION, NUMBER, end->first_offset,
                                   end->last_lsn - end->records + 1, &clean, &sealed));
        CHECK(!clean && !sealed);
    }
}

/* The records but the first, from behind it. */
static void read_from_first(vex_vfs *files, const log_end *end) {
    vex_wal_reader *reader = NULL;
    vex_wal_body body = {0};
    vex_wal_step step = VEX_WAL_RECORD;
    uint64_t n = 0, lsn = 0;
    CHECK_OK(vex_wal_reader_open(files, "/", FUZZ_COLLECTION, NUMBER, &reader));
    CHECK_OK(vex_wal_reader_seek(reader, end->first_offset, end->last_lsn - end->records + 1));
    while (step == VEX_WAL_RECORD) {
        CHECK_OK(vex_wal_reader_next(reader, end->offset, &step, &body, &lsn));
        n += step == VEX_WAL_RECORD;
    }
    CHECK_EQ(n, end->records - 1);
    CHECK_EQ(vex_wal_reader_offset(reader), end->offset);
    vex_wal_reader_close(reader);
}

/* Cut a torn tail off, and add a record: it is read behind the others. */
static void go_on(vex_vfs *files, const log_end *end) {
    vex_wal_writer *writer = NULL;
    vex_file *file = NULL;
    vex_file_stat stat = {0};
    log_end after;
    CHECK_OK(files->file_open(files, PATH, VEX_FILE_WRITE, &file));
    CHECK_OK(files->file_truncate(files, file, end->offset));
    files->file_close(files, file);
    CHECK_OK(vex_wal_resume(files, "/", FUZZ_COLLECTION, NUMBER, end->offset, end->last_lsn, 0,
                            &writer));
    append(writer, end->last_lsn + 1, 100);
    vex_wal_writer_close(writer);
    CHECK_OK(files->path_stat(files, PATH, &stat));
    CHECK_OK(read_all(files, (size_t)stat.size, &after));
    CHECK_EQ(after.records, end->records + 1);
    CHECK_EQ(after.last_lsn, end->last_lsn + 1);
    CHECK_EQ(after.step, VEX_WAL_END);
}

static void run(const uint8_t *data, size_t len) {
    vex_vfs *files = fuzz_files_create();
    log_end end;
    fuzz_file_put(files, PATH, data, len);
    vex_status status = read_all(files, len, &end);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
    } else if (end.records > 0) {
        fuzz_accept();
        look_at_ends(files, &end);
        read_from_first(files, &end);
        if (end.last_lsn < UINT64_MAX - 1) {
            go_on(files, &end);
        }
    }
    vex_vfs_memory_destroy(files);
}

const fuzz_target fuzz_wal = {.name = "wal",
                              .seeds = seeds,
                              .run = run,
                              .change = fuzz_change_wal,
                              .fix = fuzz_fix_wal,
                              .rounds = 10000};
