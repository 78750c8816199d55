/*
 * fuzz_write.c - write requests of any bytes, on a collection in memory.
 *
 * Target "write": a sequence of requests, each u8 operation, u8 records, u8 dimension (0: no
 * vectors), u16 length, and so many bytes of MessagePack records.  A request that is refused
 * changes nothing and says why; one that is taken leaves records that can be read, found and
 * selected.
 */
#include "base/msgpack.h"
#include "tests/fuzz/fuzz.h"

#define HEADER_BYTES 5u
#define REQUESTS_MAX 8
#define DIMENSION 2u
#define VALUES 1024u

static const uint8_t id_of_collection[16] = {7};

/* ---- seeds ---- */

static void put_text(vex_buf *out, const char *text) {
    CHECK_OK(vex_mp_put_str(out, text, strlen(text)));
}

static void put_metadata(vex_buf *out, uint32_t row) {
    static const uint8_t sparse[] = {1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 128, 63};
    CHECK_OK(vex_mp_put_map(out, 4));
    put_text(out, "n");
    CHECK_OK(row % 3 ? vex_mp_put_int(out, row) : vex_mp_put_nil(out));
    put_text(out, "f");
    CHECK_OK(vex_mp_put_double(out, row / 2.0));
    put_text(out, "list");
    CHECK_OK(vex_mp_put_array(out, 2));
    put_text(out, "x");
    put_text(out, "y");
    put_text(out, "sparse");
    CHECK_OK(vex_mp_put_ext(out, 1, sparse, sizeof sparse));
}

/* Of the last three columns those that are named. */
static void put_request(vex_buf *out, uint32_t op, uint32_t n, bool vectors, const char *columns) {
    vex_buf records = {0};
    CHECK_OK(vex_mp_put_array(&records, 4));
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t row = 0; row < n; row++) {
        const char id[] = {'i', 'd', (char)('0' + row), 0};
        put_text(&records, id);
    }
    for (const char *column = "dmu"; *column; column++) {
        if (strchr(columns, *column) == NULL) {
            CHECK_OK(vex_mp_put_nil(&records));
            continue;
        }
        CHECK_OK(vex_mp_put_array(&records, n));
        for (uint32_t row = 0; row < n; row++) {
            if (row % 4 == 3) {
                CHECK_OK(vex_mp_put_nil(&records));
            } else if (*column == 'm') {
                put_metadata(&records, row + op);
            } else {
                put_text(&records, *column == 'd' ? "a document" : "file:/x");
            }
        }
    }
    const uint8_t header[HEADER_BYTES] = {(uint8_t)op, (uint8_t)n, vectors ? DIMENSION : 0,
                                          (uint8_t)records.len, (uint8_t)(records.len >> 8)};
    CHECK_OK(vex_buf_append(out, header, sizeof header));
    CHECK_OK(vex_buf_append(out, records.data, records.len));
    vex_buf_clear(&records);
}

static void take(const fuzz_seeds *seeds, vex_buf *input) {
    seeds->take(seeds->context, input->data, input->len);
    input->len = 0;
}

static void seeds(const fuzz_seeds *seeds) {
    vex_buf input = {0};
    put_request(&input, VEX_WRITE_ADD, 1, true, "");
    take(seeds, &input);
    put_request(&input, VEX_WRITE_ADD, 5, true, "dmu");
    put_request(&input, VEX_WRITE_UPDATE, 3, false, "m");
    take(seeds, &input);
    put_request(&input, VEX_WRITE_UPSERT, 3, true, "d");
    put_request(&input, VEX_WRITE_UPDATE, 5, true, "mu");
    put_request(&input, VEX_WRITE_UPSERT, 6, true, "dm");
    put_request(&input, VEX_WRITE_ADD, 9, true, "m");
    take(seeds, &input);
    vex_buf_clear(&input);
}

/* ---- changes ---- */

static void change(fuzz_input *input) {
    static const fuzz_field header[] = {{0, 1}, {1, 1}, {2, 1}};
    if (input->len > HEADER_BYTES && test_random_below(3)) {
        const size_t len = vex_get16(input->data + 3), rest = input->len - HEADER_BYTES;
        fuzz_change_part(input, HEADER_BYTES, len < rest ? len : rest, fuzz_change);
        const size_t now = input->len - HEADER_BYTES - (rest - (len < rest ? len : rest));
        vex_put16(input->data + 3, (uint16_t)now);
    } else if (input->len > HEADER_BYTES && test_random_below(2)) {
        FUZZ_CHANGE_FIELD(input->data, input->len, header, 5);
    } else {
        fuzz_change(input);
    }
}

/* ---- a run ---- */

static void check_get(vex_collection *collection, uint64_t expected) {
    vex_result *result = NULL;
    CHECK_OK(vex_get(collection, NULL, 0, -1,
                     VEX_INCLUDE_DOCUMENTS | VEX_INCLUDE_METADATAS | VEX_INCLUDE_URIS |
                         VEX_INCLUDE_VECTORS,
                     &result));
    CHECK_EQ(result->n_rows, expected);
    vex_mp_reader reader = vex_mp_reader_make(result->records, result->records_len);
    CHECK_EQ(vex_mp_next(&reader).count, 4);
    vex_mp_reader ids = reader;
    for (int column = 0; column < 4; column++) {
        vex_mp_skip(&reader);
    }
    CHECK(!vex_mp_bad(&reader) && vex_mp_at_end(&reader));
    CHECK_EQ(vex_mp_next(&ids).count, expected);
    for (uint64_t row = 0; row < expected; row++) { /* every id finds its record */
        vex_buf list = {0};
        uint64_t found = 0;
        size_t len = 0;
        const uint8_t *raw = vex_mp_raw(&ids, &len);
        CHECK_OK(vex_mp_put_array(&list, 1));
        CHECK_OK(vex_buf_append(&list, raw, len));
        const vex_selection selection = {.ids = list.data, .ids_len = list.len};
        CHECK_OK(vex_count(collection, &selection, &found));
        CHECK_EQ(found, 1);
        vex_buf_clear(&list);
    }
    vex_result_free(result);
}

static bool may_refuse(vex_status status) {
    return status == VEX_ERR_INVALID || status == VEX_ERR_DIMENSION || status == VEX_ERR_TOO_BIG;
}

static void write_one(vex_collection *collection, const uint8_t *header, size_t len) {
    static float values[VALUES];
    const uint32_t n = header[1] == 255 ? UINT32_MAX / 3 : header[1];
    const bool vectors = header[2] > 0 && n * (uint64_t)header[2] <= VALUES;
    const vex_write_request request = {.op = header[0],
                                       .n = n,
                                       .dimension = vectors ? header[2] : 0,
                                       .vectors = vectors ? values : NULL,
                                       .records = header + HEADER_BYTES,
                                       .records_len = len};
    uint64_t before = 0, after = 0, changed = 0;
    CHECK_OK(vex_count(collection, NULL, &before));
    vex_status status = vex_write(collection, &request, &changed);
    CHECK_OK(vex_count(collection, NULL, &after));
    if (status == VEX_OK) {
        fuzz_accept();
        CHECK(after >= before && after - before <= changed && changed <= n);
        check_get(collection, after);
    } else {
        CHECK(may_refuse(status) && vex_last_error()->message[0] != '\0');
        CHECK_EQ(after, before);
    }
}

static void run(const uint8_t *data, size_t len) {
    const vex_db_options options = {.index_rows = UINT32_MAX};
    vex_db *db = NULL;
    vex_collection *collection = NULL;
    CHECK_OK(vex_db_open(NULL, &options, &db));
    CHECK_OK(vex_collection_create(db, id_of_collection, VEX_SPACE_L2));
    CHECK_OK(vex_collection_open(db, id_of_collection, &collection));
    for (int i = 0; i < REQUESTS_MAX && len >= HEADER_BYTES; i++) {
        const size_t said = vex_get16(data + 3), rest = len - HEADER_BYTES;
        const size_t records = said < rest ? said : rest;
        write_one(collection, data, records);
        data += HEADER_BYTES + records;
        len = rest - records;
    }
    CHECK_OK(vex_collection_flush(collection));
    uint64_t rows = 0;
    CHECK_OK(vex_count(collection, NULL, &rows));
    check_get(collection, rows);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

const fuzz_target fuzz_write = {
    .name = "write", .seeds = seeds, .run = run, .change = change, .rounds = 4000};
