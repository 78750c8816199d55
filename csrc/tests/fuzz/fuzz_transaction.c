/*
 * fuzz_transaction.c - the file of a transaction that was stored but not carried out, of any bytes, in a
 * sound database.
 *
 * Target "transaction": the input is the file.  Whatever it is, the collections can be read; a write
 * either carries it out first, or tells what is wrong with it.
 */
#include "base/crc32c.h"
#include "base/msgpack.h"
#include "db/db.h"
#include "db/transaction.h"
#include "tests/fuzz/fuzz.h"

#define PATH "/db"
#define FILE_PATH PATH "/" VEX_TRANSACTION_NAME
#define HEADER_BYTES 64u
#define PART_BYTES 32u
#define AT_LENGTH 32
#define AT_BODY_CRC 40
#define AT_CRC 60
#define DIMENSION 2u
#define N_COLLECTIONS 2
#define ROWS 3u
#define BATCH_MAX 4096

static const vex_db_options options = {.index_rows = UINT32_MAX};
static const char *const uuids[N_COLLECTIONS] = {"a collection's id", "another one's id"};

/* ---- checksums and changes ---- */

static void fix(uint8_t *data, size_t len) {
    if (len >= HEADER_BYTES) {
        vex_put64(data + AT_LENGTH, len);
        vex_put32(data + AT_BODY_CRC, vex_crc32c(0, data + HEADER_BYTES, len - HEADER_BYTES));
        vex_put32(data + AT_CRC, vex_crc32c(0, data, AT_CRC));
    }
}

/* One of the parts; 0: there is none. */
static size_t some_part(const fuzz_input *input) {
    size_t chosen = 0;
    uint32_t seen = 0;
    for (size_t at = HEADER_BYTES; at <= input->len && input->len - at >= PART_BYTES;) {
        const uint64_t len = vex_get64(input->data + at + 24);
        if (test_random_below(++seen) == 0) {
            chosen = at;
        }
        if (len > input->len - at - PART_BYTES) {
            break;
        }
        at += PART_BYTES + (size_t)vex_align_up(len, 8);
    }
    return chosen;
}

/* The batch of a part, which then may be longer or shorter; what follows it moves. */
static void change_batch(fuzz_input *input, size_t part) {
    uint8_t bytes[BATCH_MAX];
    fuzz_input batch = {.data = bytes, .capacity = sizeof bytes};
    const size_t at = part + PART_BYTES;
    const uint64_t len = vex_get64(input->data + part + 24);
    if (len > sizeof bytes || len > input->len - at || vex_align_up(len, 8) > input->len - at) {
        return;
    }
    batch.len = (size_t)len;
    memcpy(bytes, input->data + at, batch.len);
    fuzz_change_batch(&batch);
    const size_t before = (size_t)vex_align_up(len, 8), after = (size_t)vex_align_up(batch.len, 8);
    if (input->len - before + after > input->capacity) {
        return;
    }
    memmove(input->data + at + after, input->data + at + before, input->len - at - before);
    memset(input->data + at, 0, after);
    memcpy(input->data + at, bytes, batch.len);
    vex_put64(input->data + part + 24, batch.len);
    input->len = input->len - before + after;
}

static void change(fuzz_input *input) {
    static const fuzz_field header[] = {{8, 2}, {10, 2}, {12, 4}, {16, 8}, {32, 8}};
    static const fuzz_field fields[] = {{0, 1}, {16, 8}, {24, 8}};
    const size_t part = input->len > HEADER_BYTES ? some_part(input) : 0;
    const uint32_t what = test_random_below(8);
    if (part == 0 || what == 0) {
        fuzz_change(input);
    } else if (what == 1) {
        FUZZ_CHANGE_FIELD(input->data, HEADER_BYTES, header, N_COLLECTIONS);
    } else if (what < 4) {
        FUZZ_CHANGE_FIELD(input->data + part, input->len - part, fields, 2);
    } else {
        change_batch(input, part);
    }
}

/* ---- a database of two collections ---- */

static vex_status write_rows(vex_collection *collection, uint32_t first, uint32_t n) {
    float values[DIMENSION * ROWS];
    vex_buf records = {0};
    CHECK_OK(vex_mp_put_array(&records, 4));
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t i = 0; i < n; i++) {
        const char id[] = {'r', (char)('0' + first + i)};
        CHECK_OK(vex_mp_put_str(&records, id, sizeof id));
        values[DIMENSION * i] = (float)(first + i);
        values[DIMENSION * i + 1] = 0.5f;
    }
    for (int column = 1; column < 4; column++) {
        CHECK_OK(vex_mp_put_nil(&records));
    }
    vex_status status = vex_write(collection,
                                  &(vex_write_request){.op = VEX_WRITE_UPSERT,
                                                       .n = n,
                                                       .dimension = DIMENSION,
                                                       .vectors = values,
                                                       .records = records.data,
                                                       .records_len = records.len},
                                  NULL);
    vex_buf_clear(&records);
    return status;
}

static void open_all(vex_db **db, vex_collection *collections[N_COLLECTIONS]) {
    CHECK_OK(vex_db_open(PATH, &options, db));
    for (int c = 0; c < N_COLLECTIONS; c++) {
        CHECK_OK(vex_collection_open(*db, (const uint8_t *)uuids[c], &collections[c]));
    }
}

static void close_all(vex_db *db, vex_collection *collections[N_COLLECTIONS]) {
    for (int c = 0; c < N_COLLECTIONS; c++) {
        CHECK_OK(vex_collection_close(collections[c]));
    }
    CHECK_OK(vex_db_close(db));
}

/* The same bytes every time, so that a transaction of one fits another. */
static vex_vfs *make_database(vex_db **db, vex_collection *collections[N_COLLECTIONS]) {
    vex_vfs *files = vex_db_test_files = fuzz_files_create();
    files->is_volatile = false;
    CHECK_OK(vex_db_open(PATH, &options, db));
    for (int c = 0; c < N_COLLECTIONS; c++) {
        CHECK_OK(vex_collection_create(*db, (const uint8_t *)uuids[c], VEX_SPACE_L2));
        CHECK_OK(vex_collection_open(*db, (const uint8_t *)uuids[c], &collections[c]));
        CHECK_OK(write_rows(collections[c], 0, ROWS));
    }
    return files;
}

static void remove_database(vex_vfs *files) {
    vex_db_test_files = NULL;
    vex_vfs_memory_destroy(files);
}

/* ---- seeds ---- */

static vex_status keep_file(vex_vfs *files, const char *path) {
    (void)files;
    (void)path;
    return VEX_OK;
}

/* A transaction that deletes a record in each collection, and writes some when n > 0. */
static void seed(const fuzz_seeds *seeds, uint32_t n) {
    vex_db *db = NULL;
    vex_collection *collections[N_COLLECTIONS];
    vex_step steps[2 * N_COLLECTIONS];
    float values[DIMENSION * ROWS] = {1, 2, 3, 4, 5, 6};
    vex_buf ids = {0}, records = {0}, bytes = {0};
    uint32_t n_steps = 0;
    vex_vfs *files = make_database(&db, collections);
    CHECK_OK(vex_mp_put_array(&ids, 1));
    CHECK_OK(vex_mp_put_str(&ids, "r1", 2));
    CHECK_OK(vex_mp_put_array(&records, 4));
    for (int column = 0; column < 2; column++) {
        CHECK_OK(vex_mp_put_array(&records, n));
        for (uint32_t i = 0; i < n; i++) {
            const char text[] = {column ? 'd' : 'r', (char)('1' + i)};
            CHECK_OK(vex_mp_put_str(&records, text, sizeof text));
        }
    }
    CHECK_OK(vex_mp_put_nil(&records));
    CHECK_OK(vex_mp_put_nil(&records));
    const vex_selection selection = {.ids = ids.data, .ids_len = ids.len};
    const vex_write_request request = {.op = VEX_WRITE_UPSERT,
                                       .n = n,
                                       .dimension = DIMENSION,
                                       .vectors = values,
                                       .records = records.data,
                                       .records_len = records.len};
    for (int c = 0; c < N_COLLECTIONS; c++) {
        steps[n_steps++] =
            (vex_step){.collection = collections[c], .selection = &selection, .limit = -1};
        if (n > 0) {
            steps[n_steps++] = (vex_step){.collection = collections[c], .write = &request};
        }
    }
    vex_status (*const remove)(vex_vfs *, const char *) = files->path_remove;
    files->path_remove = keep_file;
    CHECK_OK(vex_transact(db, steps, n_steps));
    files->path_remove = remove;
    fuzz_file_get(files, FILE_PATH, &bytes);
    seeds->take(seeds->context, bytes.data, bytes.len);
    CHECK_OK(files->path_remove(files, FILE_PATH));
    close_all(db, collections);
    vex_buf_clear(&bytes);
    vex_buf_clear(&records);
    vex_buf_clear(&ids);
    remove_database(files);
}

static void prepare(void) {
    vex_db *db = NULL;
    vex_collection *collections[N_COLLECTIONS];
    vex_vfs *files = make_database(&db, collections); /* sets up once what a process has          */
    close_all(db, collections);
    remove_database(files);
}

static void seeds(const fuzz_seeds *seeds) {
    seed(seeds, 0);
    seed(seeds, 1);
    seed(seeds, ROWS);
}

/* ---- a run ---- */

static uint64_t count_all(vex_collection *const collections[N_COLLECTIONS]) {
    uint64_t all = 0;
    for (int c = 0; c < N_COLLECTIONS; c++) {
        uint64_t rows = 0;
        CHECK_OK(vex_count(collections[c], NULL, &rows));
        all += rows;
    }
    return all;
}

static void run(const uint8_t *data, size_t len) {
    vex_db *db = NULL;
    vex_collection *collections[N_COLLECTIONS];
    uint32_t there = 0;
    vex_vfs *files = make_database(&db, collections);
    fuzz_file_put(files, FILE_PATH, data, len);
    vex_status status = vex_check_transaction(PATH, db->uuid, &there);
    CHECK(there);
    if (status != VEX_OK) {
        fuzz_check_error(status, FILE_PATH);
    }
    status = write_rows(collections[0], 7, 1);
    if (status == VEX_OK) {
        fuzz_accept();
        CHECK(files->path_stat(files, FILE_PATH, &(vex_file_stat){0}) == VEX_ERR_NOT_FOUND);
    } else {
        fuzz_check_error(status, FILE_PATH);
    }
    const uint64_t rows = count_all(collections);
    close_all(db, collections);
    open_all(&db, collections);
    CHECK(count_all(collections) == rows);
    close_all(db, collections);
    remove_database(files);
}

const fuzz_target fuzz_transaction = {.name = "transaction",
                                      .prepare = prepare,
                                      .seeds = seeds,
                                      .run = run,
                                      .change = change,
                                      .fix = fix,
                                      .rounds = 6000};
