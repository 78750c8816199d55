/*
 * fuzz_database.c - whole databases whose files were changed, opened, read, queried, filtered,
 * written, flushed, compacted, and opened again.
 *
 * Target "database": the input is the files, each u8 length of its name, the name, u32 length, and
 * its bytes; VEXFS lies in the database's directory, the others in that of its one collection.
 * Fixing makes the manifest agree with the files that it lists, besides all checksums.
 */
#include "base/msgpack.h"
#include "db/db.h"
#include "tests/fuzz/fuzz.h"
#include "tests/zstd_provider.h"

#include <stdlib.h>

#define PATH "/db"
#define COLLECTIONS PATH "/collections"
#define FILES_MAX 32
#define NAME_MAX_BYTES 60u

static char directory[VEX_PATH_MAX]; /* of the collection */

/* ---- the files in an input ---- */

typedef struct packed {
    char name[NAME_MAX_BYTES + 1];
    size_t at, len; /* of its bytes */
} packed;

static uint32_t unpack(const uint8_t *data, size_t len, packed files[FILES_MAX]) {
    uint32_t n = 0;
    for (size_t at = 0; n < FILES_MAX && at < len;) {
        const size_t name_len = data[at++];
        packed *file = &files[n];
        if (name_len > NAME_MAX_BYTES || len - at < name_len + 4) {
            break;
        }
        memcpy(file->name, data + at, name_len);
        file->name[name_len] = '\0';
        at += name_len;
        file->len = vex_get32(data + at);
        file->at = at + 4;
        if (file->len > len - file->at || strlen(file->name) != name_len || name_len == 0 ||
            strchr(file->name, '/') != NULL || file->name[0] == '.') {
            break;
        }
        at = file->at + file->len;
        n++;
    }
    return n;
}

static void pack(vex_buf *out, const char *name, const uint8_t *bytes, size_t len) {
    const uint8_t name_len = (uint8_t)strlen(name);
    uint8_t size[4];
    vex_put32(size, (uint32_t)len);
    CHECK_OK(vex_buf_append(out, &name_len, 1));
    CHECK_OK(vex_buf_append(out, name, name_len));
    CHECK_OK(vex_buf_append(out, size, sizeof size));
    CHECK_OK(vex_buf_append(out, bytes, len));
}

typedef struct file_format {
    const char *prefix;
    void (*change)(fuzz_input *input);
    void (*fix)(uint8_t *data, size_t len);
} file_format;

static const file_format *format_of(const char *name) {
    static const file_format formats[] = {
        {VEX_SUPERBLOCK_NAME, fuzz_change_superblock, fuzz_fix_superblock},
        {"manifest-", fuzz_change_manifest, fuzz_fix_manifest},
        {"wal-", fuzz_change_wal, fuzz_fix_wal},
        {"head", fuzz_change_head, fuzz_fix_head},
        {"vec-", fuzz_change_container, fuzz_fix_container},
        {"pay-", fuzz_change_container, fuzz_fix_container},
        {"del-", fuzz_change_container, fuzz_fix_container},
    };
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strncmp(name, formats[i].prefix, strlen(formats[i].prefix)) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

/* ---- changes ---- */

static void change(fuzz_input *input) {
    packed files[FILES_MAX];
    const uint32_t n = unpack(input->data, input->len, files);
    if (n == 0 || test_random_below(50) == 0) {
        fuzz_change(input);
        return;
    }
    const packed *file = &files[test_random_below(n)];
    const file_format *format = format_of(file->name);
    const size_t before = input->len;
    fuzz_change_part(input, file->at, file->len, format ? format->change : fuzz_change);
    vex_put32(input->data + file->at - 4, (uint32_t)(file->len + input->len - before));
}

/* ---- checksums, and what the manifest says of files ---- */

#define MANIFEST_ENTRIES 136u
#define MANIFEST_ENTRY_BYTES 96u
#define FOOTER_CRC_FROM_END 12u

/* Length and checksum of the file with that number, when it is there. */
static void list_file(uint8_t *data, const packed *files, uint32_t n, vex_file_kind kind,
                      uint64_t file_no, uint8_t *size_at, uint8_t *crc_at) {
    char name[VEX_FILE_NAME_MAX];
    vex_file_name(name, kind, file_no);
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(files[i].name, name) == 0 && files[i].len >= FOOTER_CRC_FROM_END) {
            vex_put64(size_at, files[i].len);
            memcpy(crc_at, data + files[i].at + files[i].len - FOOTER_CRC_FROM_END, 4);
        }
    }
}

static void fix_listed(uint8_t *data, const packed *files, uint32_t n, const packed *manifest) {
    const size_t end = manifest->at + manifest->len;
    for (size_t at = manifest->at + MANIFEST_ENTRIES; at + MANIFEST_ENTRY_BYTES <= end;
         at += MANIFEST_ENTRY_BYTES) {
        uint8_t *entry = data + at;
        const uint32_t kind = vex_get32(entry);
        const uint64_t tombs = vex_get64(entry + 64);
        if (kind == VEX_KIND_VECTORS || kind == VEX_KIND_PAYLOAD) {
            list_file(data, files, n, (vex_file_kind)kind, vex_get64(entry + 8), entry + 16,
                      entry + 24);
        }
        if (tombs != 0) {
            list_file(data, files, n, VEX_KIND_TOMBS, tombs, entry + 72, entry + 80);
        }
    }
}

static void fix(uint8_t *data, size_t len) {
    packed files[FILES_MAX];
    const uint32_t n = unpack(data, len, files);
    for (int manifests = 0; manifests < 2; manifests++) { /* they tell of the others: last */
        for (uint32_t i = 0; i < n; i++) {
            const file_format *format = format_of(files[i].name);
            if (format != NULL && (format->fix == fuzz_fix_manifest) == (manifests == 1)) {
                if (manifests == 1) {
                    fix_listed(data, files, n, &files[i]);
                }
                format->fix(data + files[i].at, files[i].len);
            }
        }
    }
}

/* ---- working with a database ---- */

#define DIMENSION 2u

static const vex_db_options options = {.index_rows = UINT32_MAX};

static void put_text(vex_buf *out, const char *text) {
    CHECK_OK(vex_mp_put_str(out, text, strlen(text)));
}

/* Records r<first>.. of which every third has no document, every fourth no metadata. */
static vex_status write_rows(vex_collection *collection, uint32_t op, uint32_t first, uint32_t n,
                             uint32_t dimension, float step) {
    vex_buf records = {0};
    float *values = calloc((size_t)n * dimension + 1, sizeof *values);
    CHECK_OK(vex_mp_put_array(&records, 4));
    for (int column = 0; column < 3; column++) {
        CHECK_OK(vex_mp_put_array(&records, n));
        for (uint32_t i = first; i < first + n; i++) {
            char text[64];
            snprintf(text, sizeof text, column == 0 ? "r%u" : "document %u with common words",
                     (unsigned)i);
            if (column < 2 && (column == 0 || i % 3 > 0)) {
                put_text(&records, text);
            } else if (column == 2 && i % 4 > 0) {
                CHECK_OK(vex_mp_put_map(&records, 2));
                put_text(&records, "n");
                CHECK_OK(vex_mp_put_int(&records, i));
                put_text(&records, "t");
                put_text(&records, i % 2 ? "odd" : "even");
            } else {
                CHECK_OK(vex_mp_put_nil(&records));
            }
        }
    }
    CHECK_OK(vex_mp_put_nil(&records));
    for (size_t i = 0; i < (size_t)n * dimension; i++) {
        values[i] = (float)((first + i) % 50) * step;
    }
    const vex_write_request request = {.op = op,
                                       .n = n,
                                       .dimension = dimension,
                                       .vectors = values,
                                       .records = records.data,
                                       .records_len = records.len};
    vex_status status = vex_write(collection, &request, NULL);
    vex_buf_clear(&records);
    free(values);
    return status;
}

static vex_selection select_numbers(vex_buf *bytes, uint32_t op, int64_t number) {
    CHECK_OK(vex_mp_put_array(bytes, 3));
    CHECK_OK(vex_mp_put_int(bytes, op));
    put_text(bytes, "n");
    CHECK_OK(vex_mp_put_int(bytes, number));
    return (vex_selection){.filter = bytes->data, .filter_len = bytes->len};
}

static vex_status delete_below(vex_collection *collection, int64_t number) {
    vex_buf bytes = {0};
    const vex_selection selection = select_numbers(&bytes, VEX_F_LT, number);
    vex_status status = vex_delete(collection, &selection, -1, NULL);
    vex_buf_clear(&bytes);
    return status;
}

/* ---- seeds ---- */

static vex_vfs *new_files(void) {
    vex_vfs *files = fuzz_files_create();
    files->is_volatile = false;
    return files;
}

static vex_status pack_file(void *context, const char *name) {
    vex_buf *out = context, bytes = {0};
    char path[VEX_PATH_MAX];
    CHECK_OK(vex_path_join(path, strcmp(name, VEX_SUPERBLOCK_NAME) == 0 ? PATH : directory, name));
    fuzz_file_get(vex_db_test_files, path, &bytes);
    while (strncmp(name, "wal-", 4) == 0 && bytes.len > 72 &&
           vex_get64(bytes.data + bytes.len - 16) == 0) {
        bytes.len -= 8; /* room that was allocated ahead */
    }
    pack(out, name, bytes.data, bytes.len);
    vex_buf_clear(&bytes);
    return VEX_OK;
}

static void take(const fuzz_seeds *seeds) {
    vex_buf input = {0};
    CHECK_OK(pack_file(&input, VEX_SUPERBLOCK_NAME));
    CHECK_OK(vex_db_test_files->dir_list(vex_db_test_files, directory, pack_file, &input));
    seeds->take(seeds->context, input.data, input.len);
    vex_buf_clear(&input);
}

/* Steps: A add, U upsert, X delete, F flush, V compact, R reopen. */
static void seed(const fuzz_seeds *seeds, const char *steps, uint32_t space, float step) {
    vex_db *db = NULL;
    vex_collection *collection = NULL;
    vex_vfs *files = vex_db_test_files = new_files();
    uint32_t next = 0;
    CHECK_OK(vex_db_open(PATH, &options, &db));
    CHECK_OK(vex_collection_create(db, FUZZ_COLLECTION, space));
    CHECK_OK(vex_collection_open(db, FUZZ_COLLECTION, &collection));
    for (; *steps != '\0'; steps++) {
        switch (*steps) {
        case 'A':
            CHECK_OK(write_rows(collection, VEX_WRITE_ADD, next, 9, DIMENSION, step));
            next += 9;
            break;
        case 'U':
            CHECK_OK(write_rows(collection, VEX_WRITE_UPSERT, next / 2, 5, DIMENSION, step));
            break;
        case 'X':
            CHECK_OK(delete_below(collection, next / 3));
            break;
        case 'F':
            CHECK_OK(vex_collection_flush(collection));
            break;
        case 'V':
            CHECK_OK(vex_collection_compact(collection, 0));
            break;
        default:
            CHECK_OK(vex_collection_close(collection));
            CHECK_OK(vex_collection_open(db, FUZZ_COLLECTION, &collection));
        }
    }
    if (next % 2 == 0) { /* as after the death of the process */
        take(seeds);
    }
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
    if (next % 2 != 0) {
        take(seeds);
    }
    vex_db_test_files = NULL;
    vex_vfs_memory_destroy(files);
}

static void prepare(void) {
    vex_vfs *files = new_files();
    vex_db *db = NULL;
    CHECK_OK(test_register_zstd());
    snprintf(directory, sizeof directory, COLLECTIONS "/");
    for (int i = 0; i < 16; i++) {
        const size_t at = strlen(COLLECTIONS "/") + 2 * (size_t)i;
        snprintf(directory + at, sizeof directory - at, "%02x", FUZZ_COLLECTION[i]);
    }
    vex_db_test_files = files; /* what opening sets up once for the process */
    CHECK_OK(vex_db_open(PATH, &options, &db));
    CHECK_OK(vex_db_close(db));
    vex_db_test_files = NULL;
    vex_vfs_memory_destroy(files);
}

static void seeds(const fuzz_seeds *seeds) {
    seed(seeds, "", VEX_SPACE_L2, 1);
    seed(seeds, "A", VEX_SPACE_L2, 1);
    seed(seeds, "AF", VEX_SPACE_COSINE, 1);
    seed(seeds, "AUX", VEX_SPACE_IP, 0.1f);
    seed(seeds, "AFAXFU", VEX_SPACE_L2, 0.5f);
    seed(seeds, "AAFXUFAVUXR", VEX_SPACE_L1, 0.1f);
}

/* ---- a run ---- */

static void store(vex_vfs *files, const uint8_t *data, size_t len) {
    packed all[FILES_MAX];
    const uint32_t n = unpack(data, len, all);
    CHECK_OK(files->dir_create(files, PATH));
    CHECK_OK(files->dir_create(files, COLLECTIONS));
    CHECK_OK(files->dir_create(files, directory));
    for (uint32_t i = 0; i < n; i++) {
        char path[VEX_PATH_MAX];
        const bool above = strcmp(all[i].name, VEX_SUPERBLOCK_NAME) == 0;
        CHECK_OK(vex_path_join(path, above ? PATH : directory, all[i].name));
        fuzz_file_put(files, path, data + all[i].at, all[i].len);
    }
}

/* Is it fine?  If not, it tells of damage, and where; or nothing can be written: by the superblock,
 * or because counters are at their end. */
static bool fine(vex_status status) {
    if (status == VEX_OK || status == VEX_ERR_READ_ONLY || status == VEX_ERR_TOO_BIG) {
        return status == VEX_OK;
    }
    fuzz_check_error(status, NULL);
    if (vex_last_error()->path[0] == '\0') {
        test_failed(__FILE__, __LINE__, "no file is named: %s", vex_last_error()->message);
    }
    return false;
}

static void check_result(const vex_result *result, uint32_t include) {
    vex_mp_reader reader = vex_mp_reader_make(result->records, result->records_len);
    CHECK_EQ(vex_mp_next(&reader).count, 4);
    for (int column = 0; column < 4; column++) {
        const vex_mp_value list = vex_mp_next(&reader);
        CHECK(list.kind == VEX_MP_NIL || list.count == result->n_rows);
        for (uint32_t row = 0; row < list.count; row++) {
            vex_mp_skip(&reader);
        }
    }
    CHECK(!vex_mp_bad(&reader) && vex_mp_at_end(&reader));
    for (uint32_t row = 1; result->seqs != NULL && result->n_queries == 1 &&
                           result->distances == NULL && row < result->n_rows;
         row++) {
        CHECK(result->seqs[row - 1] <= result->seqs[row]); /* equal: two files that both have it */
    }
    if (include & VEX_INCLUDE_VECTORS) {
        float sum = 0;
        for (size_t i = 0; i < (size_t)result->n_rows * result->dimension; i++) {
            sum += result->vectors[i];
        }
        CHECK(sum <= 0 || sum >= 0 || sum != sum);
    }
}

/* How many rows are there; false when that cannot be told. */
static bool read_all(vex_collection *collection, uint64_t *rows, uint32_t *dimension) {
    const uint32_t include = VEX_INCLUDE_DOCUMENTS | VEX_INCLUDE_METADATAS | VEX_INCLUDE_URIS |
                             VEX_INCLUDE_VECTORS | VEX_INCLUDE_SEQS;
    vex_result *result = NULL;
    uint64_t count = 0;
    if (!fine(vex_count(collection, NULL, &count)) ||
        !fine(vex_get(collection, NULL, 0, -1, include, &result))) {
        return false;
    }
    CHECK_EQ(result->n_rows, count);
    check_result(result, include);
    *rows = count;
    *dimension = result->dimension;
    vex_result_free(result);
    return true;
}

static void query(vex_collection *collection, const vex_selection *selection, uint32_t dimension) {
    float *vector = calloc(dimension + (size_t)1, sizeof *vector);
    vex_result *result = NULL;
    const uint32_t include = VEX_INCLUDE_METADATAS | VEX_INCLUDE_SEQS;
    vector[0] = 3;
    vex_status status =
        vex_query(collection, selection, vector, 1, dimension, 4, NULL, include, &result);
    if (fine(status)) {
        CHECK(result->n_rows <= 4);
        check_result(result, include);
        for (uint32_t row = 1; row < result->n_rows; row++) {
            const float *distances = result->distances;
            CHECK(distances[row - 1] <= distances[row] || distances[row] != distances[row]);
        }
        vex_result_free(result);
    }
    free(vector);
}

static void select_some(vex_collection *collection, uint32_t dimension) {
    vex_buf numbers = {0}, words = {0};
    uint64_t some = 0, others = 0;
    vex_selection selection = select_numbers(&numbers, VEX_F_GE, 4);
    if (dimension > 0) {
        query(collection, NULL, dimension);
        query(collection, &selection, dimension);
    }
    fine(vex_count(collection, &selection, &some));
    CHECK_OK(vex_mp_put_array(&words, 2));
    CHECK_OK(vex_mp_put_int(&words, VEX_F_DOC_CONTAINS));
    put_text(&words, "with common");
    selection = (vex_selection){.filter = words.data, .filter_len = words.len};
    fine(vex_count(collection, &selection, &others));
    vex_buf_clear(&numbers);
    vex_buf_clear(&words);
}

/* What was written is there afterwards. */
static void write_some(vex_collection *collection, uint32_t dimension) {
    uint64_t before = 0, after = 0;
    uint32_t then = 0;
    if (!fine(write_rows(collection, VEX_WRITE_UPSERT, 3, 4, dimension ? dimension : DIMENSION,
                         0.1f)) ||
        !read_all(collection, &before, &then)) {
        return;
    }
    CHECK(before >= 4);
    fine(delete_below(collection, 3));
    fine(vex_collection_flush(collection));
    fine(vex_collection_compact(collection, 0));
    if (read_all(collection, &before, &then)) {
        CHECK(read_all(collection, &after, &then) && after == before);
    }
}

static void use(vex_db *db, uint64_t *rows, bool *known) {
    vex_collection *collection = NULL;
    uint32_t dimension = 0;
    *known = false;
    vex_status status = vex_collection_open(db, FUZZ_COLLECTION, &collection);
    if (status == VEX_ERR_NOT_FOUND || !fine(status)) {
        return;
    }
    if (read_all(collection, rows, &dimension)) {
        select_some(collection, dimension);
        write_some(collection, dimension);
        *known = read_all(collection, rows, &dimension);
        if (*known) {
            fuzz_accept();
        }
    }
    CHECK_OK(vex_collection_close(collection));
}

static void run(const uint8_t *data, size_t len) {
    uint64_t rows = 0, again = 0;
    bool known = false, known_again = false;
    vex_vfs *files = vex_db_test_files = new_files();
    store(files, data, len);
    for (int opening = 0; opening < 2; opening++) {
        vex_db *db = NULL;
        if (fine(vex_db_open(PATH, &options, &db))) {
            use(db, opening ? &again : &rows, opening ? &known_again : &known);
            CHECK_OK(vex_db_close(db));
        }
    }
    if (known && !known_again) {
        test_failed(__FILE__, __LINE__, "all was well, but the database cannot be read again: %s",
                    vex_last_error()->message);
    }
    vex_db_test_files = NULL;
    vex_vfs_memory_destroy(files);
}

/* A zstd frame may stand for 32,768 times its length. */
const fuzz_target fuzz_database = {.name = "database",
                                   .prepare = prepare,
                                   .seeds = seeds,
                                   .run = run,
                                   .change = change,
                                   .fix = fix,
                                   .rounds = 6000,
                                   .expansion = 32768};
