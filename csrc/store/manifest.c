/*
 * manifest.c - see manifest.h.
 */
#include "store/manifest.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/msgpack.h"
#include "wal/wal.h"

#include <inttypes.h>

#include "base/poison.h"

static const uint8_t magic[8] = {'V', 'X', 'M', 'F', '\r', '\n', 0x1a, '\n'};

#define HEADER_BYTES 64
#define BODY_BYTES 72 /* without entries and keys */
#define ENTRY_BYTES 96
#define FILES_MAX 1000000u
#define KEYS_MAX (64u << 20)
#define MANIFEST_MAX ((uint64_t)BODY_BYTES + (uint64_t)FILES_MAX * ENTRY_BYTES + KEYS_MAX)

/* header */
#define AT_MAJOR 8
#define AT_MINOR 10
#define AT_BODY_LEN 12
#define AT_UUID 16
#define AT_GENERATION 32
#define AT_LINEAGE 40
#define AT_FLAGS 56
#define AT_CRC 60

#define FLAG_FORKED 1u

void vex_manifest_clear(vex_manifest *manifest) {
    vex_free(manifest->files);
    vex_buf_clear(&manifest->keys);
    *manifest = (vex_manifest){0};
}

bool vex_manifest_is_fork(const vex_manifest *manifest) {
    static const uint8_t none[sizeof manifest->lineage];
    return memcmp(manifest->lineage, none, sizeof none) != 0 &&
           memcmp(manifest->lineage, manifest->collection, sizeof none) != 0;
}

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot hold a manifest");
}

vex_status vex_manifest_copy(vex_manifest *to, const vex_manifest *from) {
    vex_manifest copy = *from;
    copy.keys = (vex_buf){0};
    copy.files = vex_calloc(from->n_files > 0 ? from->n_files : 1, sizeof *copy.files);
    if (copy.files == NULL) {
        return no_memory();
    }
    if (from->n_files > 0) {
        memcpy(copy.files, from->files, from->n_files * sizeof *copy.files);
    }
    vex_status status = vex_buf_append(&copy.keys, from->keys.data, from->keys.len);
    if (status != VEX_OK) {
        vex_manifest_clear(&copy);
        return status;
    }
    *to = copy;
    return VEX_OK;
}

/* ---- reading ---- */

static vex_status damaged(const char *path, uint64_t offset, const char *what) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, offset, 0,
                       "the manifest is damaged (%s); restore the collection from a backup", what);
}

static vex_status later_release(const char *path, uint64_t offset) {
    return VEX_FAIL_AT(VEX_ERR_VERSION, path, offset, 0,
                       "the manifest was written by a later release; upgrade vexfs_chroma");
}

static vex_file_entry parse_entry(vex_cursor *in) {
    vex_file_entry entry;
    entry.kind = vex_cursor_u32(in);
    entry.owner = vex_cursor_u32(in);
    entry.file_no = vex_cursor_u64(in);
    entry.size = vex_cursor_u64(in);
    entry.crc = vex_cursor_u32(in);
    entry.rows = vex_cursor_u32(in);
    entry.seq_lo = vex_cursor_u64(in);
    entry.seq_hi = vex_cursor_u64(in);
    entry.lsn_lo = vex_cursor_u64(in);
    entry.lsn_hi = vex_cursor_u64(in);
    entry.tombs_file_no = vex_cursor_u64(in);
    entry.tombs_size = vex_cursor_u64(in);
    entry.tombs_crc = vex_cursor_u32(in);
    entry.dead_rows = vex_cursor_u32(in);
    vex_cursor_take(in, 8);
    return entry;
}

/* Every live record has a payload row and a vector row. */
static bool rows_add_up(const vex_manifest *manifest) {
    uint64_t live[VEX_KIND_PAYLOAD + 1] = {0};
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        const vex_file_entry *entry = &manifest->files[i];
        live[entry->kind] += entry->rows - entry->dead_rows;
    }
    return live[VEX_KIND_VECTORS] == manifest->live_rows &&
           live[VEX_KIND_PAYLOAD] == manifest->live_rows;
}

static bool counters_fit(const vex_manifest *m) {
    const uint64_t all = m->generation | m->lsn | m->next_seq | m->wal_first | m->next_file_no;
    return m->next_file_no > 0 && all < VEX_COUNTER_END;
}

vex_status vex_manifest_check(const vex_manifest *manifest, const char *dir) {
    return rows_add_up(manifest) && counters_fit(manifest)
               ? VEX_OK
               : VEX_FAIL_AT(VEX_ERR_CORRUPT, dir, 0, 0,
                             "the log and the files contradict each other, so nothing was written; "
                             "restore the collection from a backup");
}

static int compare_numbers(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* No number is used for two files. */
static vex_status check_numbers(const char *path, const vex_manifest *manifest) {
    size_t n = 0;
    uint64_t *numbers = vex_malloc(2 * (size_t)manifest->n_files * sizeof *numbers);
    if (numbers == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        numbers[n++] = manifest->files[i].file_no;
        if (manifest->files[i].tombs_file_no != 0) {
            numbers[n++] = manifest->files[i].tombs_file_no;
        }
    }
    qsort(numbers, n, sizeof *numbers, compare_numbers);
    bool twice = false;
    for (size_t i = 1; i < n; i++) {
        twice = twice || numbers[i - 1] == numbers[i];
    }
    vex_free(numbers);
    return twice ? damaged(path, HEADER_BYTES, "two files have one number") : VEX_OK;
}

static vex_status parse_entries(const char *path, vex_cursor *in, vex_manifest *out) {
    out->files = vex_calloc(out->n_files > 0 ? out->n_files : 1, sizeof *out->files);
    if (out->files == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < out->n_files; i++) {
        uint64_t offset = HEADER_BYTES + in->pos;
        vex_file_entry *entry = &out->files[i];
        *entry = parse_entry(in);
        if ((entry->kind != VEX_KIND_VECTORS && entry->kind != VEX_KIND_PAYLOAD) ||
            entry->owner != 0) {
            return later_release(path, offset);
        }
        if (entry->file_no == 0 || entry->file_no >= out->next_file_no ||
            entry->tombs_file_no >= out->next_file_no || entry->rows > VEX_ROWS_MAX ||
            entry->dead_rows > entry->rows || entry->seq_lo > entry->seq_hi ||
            entry->seq_hi >= out->next_seq || entry->lsn_lo > entry->lsn_hi) {
            return damaged(path, offset, "impossible file entry");
        }
    }
    if (!rows_add_up(out)) {
        return damaged(path, HEADER_BYTES, "its files have another number of rows");
    }
    return check_numbers(path, out);
}

/* A map from strings to numbers, or nothing at all. */
static bool are_keys(const uint8_t *bytes, size_t len) {
    vex_mp_reader reader = vex_mp_reader_make(bytes, len);
    vex_mp_value map = vex_mp_next(&reader);
    bool fine = map.kind == VEX_MP_MAP;
    for (uint32_t i = 0; i < map.count && fine; i++) {
        fine = vex_mp_next(&reader).kind == VEX_MP_STR && vex_mp_next(&reader).kind == VEX_MP_INT;
    }
    return len == 0 || (fine && vex_mp_at_end(&reader));
}

static vex_status parse_body(const char *path, const uint8_t *body, size_t len, vex_manifest *out) {
    vex_cursor in = vex_cursor_make(body, len);
    out->space = vex_cursor_u32(&in);
    out->dimension = vex_cursor_u32(&in);
    out->lsn = vex_cursor_u64(&in);
    out->next_seq = vex_cursor_u64(&in);
    out->live_rows = vex_cursor_u64(&in);
    out->wal_first = vex_cursor_u64(&in);
    out->next_file_no = vex_cursor_u64(&in);
    out->n_files = vex_cursor_u32(&in);
    uint32_t keys_len = vex_cursor_u32(&in);
    const uint8_t *collection = vex_cursor_take(&in, sizeof out->collection);
    if (in.bad || len != BODY_BYTES + (uint64_t)out->n_files * ENTRY_BYTES + (uint64_t)keys_len) {
        return damaged(path, HEADER_BYTES, "its length does not match its counts");
    }
    memcpy(out->collection, collection, sizeof out->collection);
    if (out->space > VEX_SPACE_L1) {
        return later_release(path, HEADER_BYTES);
    }
    if (out->dimension > VEX_DIMENSION_MAX) {
        return damaged(path, HEADER_BYTES, "impossible dimension");
    }
    if (!counters_fit(out)) {
        return damaged(path, HEADER_BYTES, "impossible numbers");
    }
    VEX_TRY(parse_entries(path, &in, out));
    if (!are_keys(body + in.pos, keys_len)) {
        return damaged(path, HEADER_BYTES + in.pos, "its list of metadata keys is malformed");
    }
    return vex_buf_append(&out->keys, body + in.pos, keys_len);
}

static vex_status parse(const char *path, const uint8_t *raw, size_t len, const uint8_t uuid[16],
                        uint64_t generation, vex_manifest *out) {
    uint8_t header[HEADER_BYTES];
    if (len < HEADER_BYTES || memcmp(raw, magic, sizeof magic) != 0) {
        return damaged(path, 0, "no header");
    }
    memcpy(header, raw, sizeof header);
    uint64_t body_len = vex_get32(header + AT_BODY_LEN);
    if (len != HEADER_BYTES + body_len) {
        return damaged(path, AT_BODY_LEN, "wrong length");
    }
    uint32_t crc = vex_crc32c(0, header, AT_CRC);
    if (vex_crc32c(crc, raw + HEADER_BYTES, (size_t)body_len) != vex_get32(header + AT_CRC)) {
        return damaged(path, AT_CRC, "wrong checksum");
    }
    if (vex_get16(header + AT_MAJOR) != VEX_FORMAT_MAJOR ||
        (vex_get32(header + AT_FLAGS) & ~FLAG_FORKED) != 0) {
        return VEX_FAIL_AT(VEX_ERR_VERSION, path, AT_MAJOR, 0,
                           "the manifest has format %u.%u, flags %x; this release reads format %d: "
                           "upgrade vexfs_chroma",
                           vex_get16(header + AT_MAJOR), vex_get16(header + AT_MINOR),
                           vex_get32(header + AT_FLAGS), VEX_FORMAT_MAJOR);
    }
    out->generation = vex_get64(header + AT_GENERATION);
    if (out->generation != generation || memcmp(header + AT_UUID, uuid, 16) != 0) {
        return damaged(path, AT_UUID, "it belongs to another generation or database");
    }
    VEX_TRY(parse_body(path, raw + HEADER_BYTES, (size_t)body_len, out));
    bool forked = vex_get32(header + AT_FLAGS) & FLAG_FORKED;
    memcpy(out->lineage, forked ? header + AT_LINEAGE : out->collection, sizeof out->lineage);
    return forked && !vex_manifest_is_fork(out) ? damaged(path, AT_LINEAGE, "a fork of itself")
                                                : VEX_OK;
}

static vex_status read_whole(vex_vfs *vfs, const char *path, vex_buf *out) {
    vex_file *file = NULL;
    vex_file_stat stat = {0};
    vex_status status;
    VEX_TRY(vfs->file_open(vfs, path, VEX_FILE_READ, &file));
    VEX_TRY_DONE(status, vfs->file_stat(vfs, file, &stat));
    if (stat.size > HEADER_BYTES + MANIFEST_MAX) {
        VEX_TRY_DONE(status, damaged(path, 0, "wrong length"));
    }
    VEX_TRY_DONE(status, vex_buf_reserve(out, (size_t)stat.size + 1));
    status = vfs->file_read(vfs, file, out->data, (size_t)stat.size, 0, &out->len);
done:
    vfs->file_close(vfs, file);
    return status;
}

typedef vex_status (*parser)(const char *path, vex_buf *raw, const uint8_t uuid[16],
                             uint64_t generation, vex_manifest *out);

static vex_status parse_sound(const char *path, vex_buf *raw, const uint8_t uuid[16],
                              uint64_t generation, vex_manifest *out) {
    return parse(path, raw->data, raw->len, uuid, generation, out);
}

static vex_status read_by(parser parse_it, vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                          uint64_t generation, vex_manifest *out) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    vex_buf raw = {0};
    vex_manifest manifest = {0};
    vex_manifest_name(name, generation);
    VEX_TRY(vex_path_join(path, dir, name));
    vex_status status = read_whole(vfs, path, &raw);
    if (status == VEX_OK) {
        status = parse_it(path, &raw, uuid, generation, &manifest);
    }
    vex_buf_clear(&raw);
    if (status != VEX_OK) {
        vex_manifest_clear(&manifest);
        return status;
    }
    *out = manifest;
    return VEX_OK;
}

vex_status vex_manifest_read(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             uint64_t generation, vex_manifest *out) {
    return read_by(parse_sound, vfs, dir, uuid, generation, out);
}

/* Put one flipped bit right in a manifest of `len` bytes, if that is all that is wrong with it. */
static vex_status mend(uint8_t *raw, size_t len) {
    vex_buf covered = {0}; /* the checksum lies between what it covers */
    vex_status status = vex_buf_append(&covered, raw, AT_CRC);
    if (status == VEX_OK) {
        status = vex_buf_append(&covered, raw + HEADER_BYTES, len - HEADER_BYTES);
    }
    if (status == VEX_OK) {
        uint32_t crc = vex_crc32c(0, covered.data, covered.len);
        uint32_t difference = crc ^ vex_get32(raw + AT_CRC);
        uint64_t bit =
            difference == 0 ? VEX_CRC32C_ITSELF : vex_crc32c_flipped_bit(covered.len, difference);
        if (bit == VEX_CRC32C_ITSELF) {
            vex_put32(raw + AT_CRC, crc);
        } else if (bit != VEX_CRC32C_NONE) {
            raw[bit / 8 < AT_CRC ? bit / 8 : bit / 8 + 4] ^= (uint8_t)(1u << bit % 8);
        }
    }
    vex_buf_clear(&covered);
    return status;
}

static vex_status parse_damaged(const char *path, vex_buf *raw, const uint8_t uuid[16],
                                uint64_t generation, vex_manifest *out) {
    uint64_t said =
        raw->len >= HEADER_BYTES ? HEADER_BYTES + (uint64_t)vex_get32(raw->data + AT_BODY_LEN) : 0;
    if (said >= HEADER_BYTES && said < raw->len) { /* something was added behind its end? */
        vex_status status = parse(path, raw->data, (size_t)said, uuid, generation, out);
        if (status != VEX_ERR_CORRUPT) {
            return status;
        }
        vex_manifest_clear(out);
    }
    if (raw->len >= HEADER_BYTES) {
        VEX_TRY(mend(raw->data, raw->len));
    }
    return parse(path, raw->data, raw->len, uuid, generation, out);
}

vex_status vex_manifest_salvage(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                                uint64_t generation, vex_manifest *out) {
    return read_by(parse_damaged, vfs, dir, uuid, generation, out);
}

vex_status vex_manifest_owner(vex_vfs *vfs, const char *dir, uint8_t uuid[16]) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    vex_buf raw = {0};
    uint64_t generation = 0;
    VEX_TRY(vex_manifest_newest(vfs, dir, &generation));
    if (generation == 0) {
        return VEX_FAIL_AT(VEX_ERR_NOT_FOUND, dir, 0, 0, "there is no manifest");
    }
    vex_manifest_name(name, generation);
    VEX_TRY(vex_path_join(path, dir, name));
    vex_status status = read_whole(vfs, path, &raw);
    if (status == VEX_OK && raw.len < HEADER_BYTES) {
        status = damaged(path, 0, "no header");
    }
    if (status == VEX_OK) {
        status = mend(raw.data, raw.len);
    }
    if (status == VEX_OK) {
        vex_manifest manifest = {0};
        memcpy(uuid, raw.data + AT_UUID, 16);
        status = parse(path, raw.data, raw.len, uuid, generation, &manifest);
        vex_manifest_clear(&manifest);
    }
    vex_buf_clear(&raw);
    return status;
}

vex_status vex_manifest_is_foreign(const char *dir, uint64_t generation) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    vex_manifest_name(name, generation);
    VEX_TRY(vex_path_join(path, dir, name));
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, HEADER_BYTES + 56, 0,
                       "it is the manifest of another collection; if all of that is in the "
                       "directory, give the directory its name back");
}

/* ---- writing ---- */

static uint8_t *put32(uint8_t *at, uint32_t value) {
    vex_put32(at, value);
    return at + 4;
}

static uint8_t *put64(uint8_t *at, uint64_t value) {
    vex_put64(at, value);
    return at + 8;
}

static uint8_t *put_entry(uint8_t *at, const vex_file_entry *entry) {
    at = put32(at, entry->kind);
    at = put32(at, entry->owner);
    at = put64(at, entry->file_no);
    at = put64(at, entry->size);
    at = put32(at, entry->crc);
    at = put32(at, entry->rows);
    at = put64(at, entry->seq_lo);
    at = put64(at, entry->seq_hi);
    at = put64(at, entry->lsn_lo);
    at = put64(at, entry->lsn_hi);
    at = put64(at, entry->tombs_file_no);
    at = put64(at, entry->tombs_size);
    at = put32(at, entry->tombs_crc);
    at = put32(at, entry->dead_rows);
    return put64(at, 0);
}

static vex_status encode(const vex_manifest *manifest, const uint8_t uuid[16], vex_buf *out) {
    if (manifest->n_files > FILES_MAX || manifest->keys.len > KEYS_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG,
                        "the collection has too many files (%u) or metadata "
                        "keys (%zu bytes)",
                        manifest->n_files, manifest->keys.len);
    }
    size_t body_len = BODY_BYTES + (size_t)manifest->n_files * ENTRY_BYTES + manifest->keys.len;
    VEX_TRY(vex_buf_append_zeros(out, HEADER_BYTES + body_len));
    uint8_t *at = out->data + HEADER_BYTES;
    at = put32(at, manifest->space);
    at = put32(at, manifest->dimension);
    at = put64(at, manifest->lsn);
    at = put64(at, manifest->next_seq);
    at = put64(at, manifest->live_rows);
    at = put64(at, manifest->wal_first);
    at = put64(at, manifest->next_file_no);
    at = put32(at, manifest->n_files);
    at = put32(at, (uint32_t)manifest->keys.len);
    memcpy(at, manifest->collection, sizeof manifest->collection);
    at += sizeof manifest->collection;
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        at = put_entry(at, &manifest->files[i]);
    }
    if (manifest->keys.len > 0) {
        memcpy(at, manifest->keys.data, manifest->keys.len);
    }

    uint8_t *header = out->data;
    memcpy(header, magic, sizeof magic);
    vex_put16(header + AT_MAJOR, VEX_FORMAT_MAJOR);
    vex_put16(header + AT_MINOR, VEX_FORMAT_MINOR);
    vex_put32(header + AT_BODY_LEN, (uint32_t)body_len);
    memcpy(header + AT_UUID, uuid, 16);
    vex_put64(header + AT_GENERATION, manifest->generation);
    if (vex_manifest_is_fork(manifest)) {
        vex_put32(header + AT_FLAGS, FLAG_FORKED);
        memcpy(header + AT_LINEAGE, manifest->lineage, sizeof manifest->lineage);
    }
    uint32_t crc = vex_crc32c(0, header, AT_CRC);
    vex_put32(header + AT_CRC, vex_crc32c(crc, header + HEADER_BYTES, body_len));
    return VEX_OK;
}

/* The commit failed, but the file may be there with its name not yet durable.  Take it back, so
 * that a second attempt with other files of the same numbers cannot be mixed up with this one;
 * when that fails too, nobody knows which generation a crash would leave. */
static vex_status take_back(vex_vfs *vfs, const char *dir, const char *path, vex_status failure) {
    vex_error cause = *vex_last_error();
    vex_file_stat stat;
    vex_status status = vfs->path_stat(vfs, path, &stat);
    if (status == VEX_OK) {
        status = vfs->path_remove(vfs, path);
        if (status == VEX_OK) {
            status = vfs->dir_sync(vfs, dir);
        }
    }
    if (status != VEX_OK && status != VEX_ERR_NOT_FOUND) {
        return VEX_FAIL_AT(VEX_ERR_POISONED, path, 0, cause.sys_errno,
                           "a commit failed half-way (%s); reopen the database", cause.message);
    }
    return vex_fail_at(failure, cause.path, cause.offset, cause.sys_errno, "%s", cause.message);
}

vex_status vex_manifest_write(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                              const vex_manifest *manifest, bool sync) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    vex_buf raw = {0};
    vex_manifest_name(name, manifest->generation);
    VEX_TRY(vex_path_join(path, dir, name));
    vex_status status = encode(manifest, uuid, &raw);
    if (status == VEX_OK) {
        status = vex_file_write_atomic(vfs, dir, name, raw.data, raw.len, sync);
        if (status != VEX_OK) {
            status = take_back(vfs, dir, path, status);
        }
    }
    vex_buf_clear(&raw);
    return status;
}
