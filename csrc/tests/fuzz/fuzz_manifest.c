/*
 * fuzz_manifest.c - the manifest of a collection, of any bytes.
 *
 * Target "manifest": the input is the file.  What is read must be written again as the same bytes.
 */
#include "base/crc32c.h"
#include "base/msgpack.h"
#include "store/manifest.h"
#include "tests/fuzz/fuzz.h"

#define HEADER_BYTES 64u
#define BODY_BYTES 72u
#define ENTRY_BYTES 96u
#define AT_MAJOR 8u
#define AT_BODY_LEN 12u
#define AT_FLAGS 56u
#define AT_CRC 60u
#define AT_N_FILES (HEADER_BYTES + 48u)
#define AT_KEYS_LEN (HEADER_BYTES + 52u)
#define AT_ENTRIES (HEADER_BYTES + BODY_BYTES)

#define GENERATION 3u
#define PATH "/manifest-00000000000000000003"

void fuzz_fix_manifest(uint8_t *data, size_t len) {
    if (len >= HEADER_BYTES) {
        vex_put32(data + AT_BODY_LEN, (uint32_t)(len - HEADER_BYTES));
        const uint32_t crc = vex_crc32c(0, data, AT_CRC);
        vex_put32(data + AT_CRC, vex_crc32c(crc, data + HEADER_BYTES, len - HEADER_BYTES));
    }
}

/* One entry more (a copy of one that is there) or one less. */
static void change_count(fuzz_input *input) {
    const uint32_t n = vex_get32(input->data + AT_N_FILES);
    const size_t room = (input->len - AT_ENTRIES) / ENTRY_BYTES;
    if (n == 0 || n > room) {
        return;
    }
    uint8_t *entry = input->data + AT_ENTRIES + (size_t)test_random_below(n) * ENTRY_BYTES;
    const size_t behind = (size_t)(input->data + input->len - entry);
    if (test_random_below(2) && input->capacity - input->len >= ENTRY_BYTES) {
        memmove(entry + ENTRY_BYTES, entry, behind);
        input->len += ENTRY_BYTES;
        vex_put32(input->data + AT_N_FILES, n + 1);
    } else {
        memmove(entry, entry + ENTRY_BYTES, behind - ENTRY_BYTES);
        input->len -= ENTRY_BYTES;
        vex_put32(input->data + AT_N_FILES, n - 1);
    }
}

static void change_keys(fuzz_input *input) {
    const size_t keys = AT_ENTRIES + (size_t)vex_get32(input->data + AT_N_FILES) * ENTRY_BYTES;
    if (keys < input->len) {
        fuzz_change_part(input, keys, input->len - keys, fuzz_change);
        vex_put32(input->data + AT_KEYS_LEN, (uint32_t)(input->len - keys));
    }
}

void fuzz_change_manifest(fuzz_input *input) {
    static const fuzz_field header[] = {{8, 2}, {10, 2}, {32, 8}, {56, 4}};
    static const fuzz_field body[] = {{0, 4},  {4, 4},  {8, 8},  {16, 8}, {24, 8},
                                      {32, 8}, {40, 8}, {48, 4}, {52, 4}};
    static const fuzz_field entry[] = {{0, 4},  {4, 4},  {8, 8},  {16, 8}, {24, 4},
                                       {28, 4}, {32, 8}, {40, 8}, {48, 8}, {56, 8},
                                       {64, 8}, {72, 8}, {80, 4}, {84, 4}};
    if (input->len < AT_ENTRIES || test_random_below(6) == 0) {
        fuzz_change(input);
        return;
    }
    const uint32_t entries = (uint32_t)((input->len - AT_ENTRIES) / ENTRY_BYTES);
    switch (test_random_below(12)) {
    case 0:
        FUZZ_CHANGE_FIELD(input->data, input->len, header, GENERATION);
        break;
    case 1:
    case 2:
    case 3:
        FUZZ_CHANGE_FIELD(input->data + HEADER_BYTES, BODY_BYTES, body, entries);
        break;
    case 4:
        change_count(input);
        break;
    case 5:
    case 6:
        change_keys(input);
        break;
    default:
        if (entries > 0) {
            const size_t at = AT_ENTRIES + (size_t)test_random_below(entries) * ENTRY_BYTES;
            FUZZ_CHANGE_FIELD(input->data + at, ENTRY_BYTES, entry, VEX_ROWS_MAX);
        }
    }
}

/* ---- seeds ---- */

static void put_keys(vex_buf *keys, uint32_t n) {
    CHECK_OK(vex_mp_put_map(keys, n));
    for (uint32_t i = 0; i < n; i++) {
        char key[16];
        const int len = snprintf(key, sizeof key, "key%u", (unsigned)i);
        CHECK_OK(vex_mp_put_str(keys, key, (size_t)len));
        CHECK_OK(vex_mp_put_int(keys, 1 << i % 9));
    }
}

static void seeds(const fuzz_seeds *seeds) {
    vex_buf bytes = {0};
    for (uint32_t n = 0; n <= 8; n = n == 0 ? 2 : n * 2) { /* as many files of either kind */
        vex_vfs *files = fuzz_files_create();
        vex_file_entry entries[8] = {{0}};
        vex_manifest manifest = {.generation = GENERATION,
                                 .space = n % 4,
                                 .dimension = 3 * n,
                                 .lsn = 5 * n,
                                 .next_seq = 100,
                                 .live_rows = n / 2 * 9,
                                 .wal_first = 1 + n,
                                 .next_file_no = 50,
                                 .files = entries,
                                 .n_files = n};
        for (uint32_t i = 0; i < n; i++) {
            entries[i] = (vex_file_entry){.kind = 1 + i % 2,
                                          .file_no = 3 * i + 1,
                                          .size = 4096,
                                          .rows = 10,
                                          .seq_lo = i / 2 * 10 + 1,
                                          .seq_hi = i / 2 * 10 + 10,
                                          .lsn_lo = i,
                                          .lsn_hi = i + 1,
                                          .tombs_file_no = 3 * i + 2,
                                          .dead_rows = 1};
        }
        memcpy(manifest.collection, FUZZ_COLLECTION, 16);
        if (n >= 4) { /* forks */
            memset(manifest.lineage, 7, sizeof manifest.lineage);
        }
        put_keys(&manifest.keys, 2 * n);
        CHECK_OK(vex_manifest_write(files, "/", FUZZ_DATABASE, &manifest, false));
        fuzz_file_get(files, PATH, &bytes);
        seeds->take(seeds->context, bytes.data, bytes.len);
        vex_buf_clear(&manifest.keys);
        vex_vfs_memory_destroy(files);
    }
    vex_buf_clear(&bytes);
}

/* ---- a run ---- */

/* Bytes that are ignored when read: the minor version, what is called 0, and so the checksum. */
static bool is_ignored(const uint8_t *data, size_t at) {
    const size_t in_entry = (at - AT_ENTRIES) % ENTRY_BYTES;
    return (at >= AT_MAJOR + 2 && at < AT_BODY_LEN) ||
           (at >= 40 && at < 56 && data[AT_FLAGS] == 0) || (at >= AT_CRC && at < HEADER_BYTES) ||
           (at >= AT_ENTRIES && in_entry >= 88);
}

static void check_same(const uint8_t *data, size_t len, const vex_buf *again, size_t entries_end) {
    CHECK_EQ(again->len, len);
    for (size_t at = 0; at < len; at++) {
        if (data[at] != again->data[at] && (at >= entries_end || !is_ignored(data, at))) {
            test_failed(__FILE__, __LINE__, "byte %zu of the manifest comes back as another", at);
        }
    }
}

/* Every rule about the entries that the format has. */
static void check_entries(const vex_manifest *manifest) {
    uint64_t vectors = 0, payloads = 0;
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        const vex_file_entry *entry = &manifest->files[i];
        CHECK(entry->kind == VEX_KIND_VECTORS || entry->kind == VEX_KIND_PAYLOAD);
        CHECK(entry->file_no > 0 && entry->file_no < manifest->next_file_no);
        CHECK(entry->rows <= VEX_ROWS_MAX && entry->dead_rows <= entry->rows);
        CHECK(entry->seq_lo <= entry->seq_hi && entry->seq_hi < manifest->next_seq);
        for (uint32_t other = 0; other < i; other++) {
            CHECK(entry->file_no != manifest->files[other].file_no);
        }
        *(entry->kind == VEX_KIND_VECTORS ? &vectors : &payloads) += entry->rows - entry->dead_rows;
    }
    CHECK(vectors == manifest->live_rows && payloads == manifest->live_rows);
    CHECK(manifest->next_file_no > 0 && manifest->lsn < VEX_COUNTER_END);
    CHECK(manifest->keys.len == 0 || vex_mp_is_map(manifest->keys.data, manifest->keys.len));
}

static void run(const uint8_t *data, size_t len) {
    vex_vfs *files = fuzz_files_create();
    vex_manifest manifest = {0}, copy = {0};
    fuzz_file_put(files, PATH, data, len);
    vex_status status = vex_manifest_read(files, "/", FUZZ_DATABASE, GENERATION, &manifest);
    if (status == VEX_OK) {
        vex_buf again = {0};
        fuzz_accept();
        check_entries(&manifest);
        CHECK_OK(vex_manifest_copy(&copy, &manifest));
        CHECK_OK(vex_manifest_write(files, "/", FUZZ_DATABASE, &copy, false));
        fuzz_file_get(files, PATH, &again);
        check_same(data, len, &again, AT_ENTRIES + (size_t)manifest.n_files * ENTRY_BYTES);
        vex_manifest_remove_leftovers(files, "/", &copy, true);
        vex_buf_clear(&again);
    } else {
        fuzz_check_error(status, PATH);
    }
    vex_manifest_clear(&manifest);
    vex_manifest_clear(&copy);
    vex_vfs_memory_destroy(files);
}

const fuzz_target fuzz_manifest = {.name = "manifest",
                                   .seeds = seeds,
                                   .run = run,
                                   .change = fuzz_change_manifest,
                                   .fix = fuzz_fix_manifest,
                                   .rounds = 10000};
