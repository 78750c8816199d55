/*
 * t_manifest.c - manifests, leftovers, and the superblock.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/manifest.h"
#include "store/superblock.h"
#include "tests/vfs_suite.h"
#include "wal/wal.h"

#include <stdlib.h>

static const uint8_t uuid[16] = "0123456789abcdef";
#define NAME_9 "manifest-00000000000000000009"

static vex_file_entry make_entry(uint64_t file_no) {
    return (vex_file_entry){.kind = file_no % 2 ? VEX_KIND_VECTORS : VEX_KIND_PAYLOAD,
                            .file_no = file_no,
                            .size = 1000 + file_no,
                            .crc = 0xdeadbeef,
                            .rows = 50,
                            .seq_lo = file_no * 100,
                            .seq_hi = file_no * 100 + 49,
                            .lsn_lo = file_no,
                            .lsn_hi = file_no + 3,
                            .tombs_file_no = file_no % 3 ? 0 : file_no + 40,
                            .tombs_size = 77,
                            .tombs_crc = 5,
                            .dead_rows = 4};
}

/* Files 1..n, of both kinds in turn; of an odd number the last has no live row.  Keys "\x80". */
static vex_manifest make_manifest(uint32_t n_files) {
    vex_manifest m = {.generation = 9,
                      .space = VEX_SPACE_COSINE,
                      .dimension = 384,
                      .lsn = 1234,
                      .next_seq = 99999,
                      .live_rows = n_files / 2 * 46,
                      .wal_first = 4,
                      .next_file_no = 100,
                      .n_files = n_files};
    memcpy(m.collection, "collection uuid.", 16);
    m.files = vex_calloc(n_files + 1, sizeof *m.files);
    for (uint32_t i = 0; i < n_files; i++) {
        m.files[i] = make_entry(i + 1);
    }
    if (n_files % 2) {
        m.files[n_files - 1].dead_rows = m.files[n_files - 1].rows;
    }
    CHECK_OK(vex_buf_append(&m.keys, "\x80", 1));
    return m;
}

static void check_same(const vex_manifest *a, const vex_manifest *b) {
    CHECK(a->generation == b->generation && a->space == b->space && a->dimension == b->dimension &&
          a->lsn == b->lsn && a->next_seq == b->next_seq && a->live_rows == b->live_rows &&
          a->wal_first == b->wal_first && a->next_file_no == b->next_file_no &&
          a->n_files == b->n_files);
    CHECK(memcmp(a->collection, b->collection, 16) == 0);
    CHECK(vex_manifest_is_fork(a) == vex_manifest_is_fork(b));
    CHECK(!vex_manifest_is_fork(a) || memcmp(a->lineage, b->lineage, 16) == 0);
    for (uint32_t i = 0; i < a->n_files; i++) {
        const vex_file_entry *x = &a->files[i], *y = &b->files[i];
        CHECK(x->kind == y->kind && x->owner == y->owner && x->file_no == y->file_no &&
              x->size == y->size && x->crc == y->crc && x->rows == y->rows &&
              x->seq_lo == y->seq_lo && x->seq_hi == y->seq_hi && x->lsn_lo == y->lsn_lo &&
              x->lsn_hi == y->lsn_hi && x->tombs_file_no == y->tombs_file_no &&
              x->tombs_size == y->tombs_size && x->tombs_crc == y->tombs_crc &&
              x->dead_rows == y->dead_rows);
    }
    CHECK_EQ(a->keys.len, b->keys.len);
    CHECK(memcmp(a->keys.data, b->keys.data, a->keys.len) == 0);
}

VFS_TEST(manifest_round_trip) {
    for (uint32_t n = 0; n < 40; n += 13) {
        vex_manifest written = make_manifest(n), found = {0}, copy = {0};
        if (n >= 26) {
            memset(written.lineage, 0xaa, sizeof written.lineage);
        }
        CHECK_OK(vex_manifest_write(vfs, root, uuid, &written, n % 2 == 0));
        CHECK_OK(vex_manifest_read(vfs, root, uuid, 9, &found));
        check_same(&written, &found);
        CHECK_EQ(size_of(vfs, in(root, NAME_9)), 64 + 72 + 96 * n + 1);
        CHECK_OK(vex_manifest_copy(&copy, &found));
        vex_manifest_clear(&found);
        check_same(&written, &copy);
        vex_manifest_clear(&copy);
        vex_manifest_clear(&written);
    }
}

VFS_TEST(manifest_empty_copy) {
    vex_manifest from = {0}, to;
    CHECK_OK(vex_manifest_copy(&to, &from));
    CHECK(to.n_files == 0 && to.keys.len == 0);
    vex_manifest_clear(&to);
    CHECK_STATUS(vex_manifest_read(vfs, root, uuid, 9, &to), VEX_ERR_NOT_FOUND);
}

VFS_TEST(manifest_newest_wins) {
    static const char *const noise[] = {"manifest-",
                                        "manifest-12",
                                        "manifest-00000000000000000099.tmp",
                                        "wal-0000000001",
                                        "manifest-99999999999999999999",
                                        "manifest-0000000000000000009x",
                                        "head"};
    uint64_t newest = 1;
    CHECK_OK(vex_manifest_newest(vfs, root, &newest));
    CHECK_EQ(newest, 0);
    for (size_t i = 0; i < sizeof noise / sizeof *noise; i++) {
        make(vfs, in(root, noise[i]), "x");
    }
    CHECK_OK(vex_manifest_newest(vfs, root, &newest));
    CHECK_EQ(newest, 0);
    vex_manifest m = make_manifest(2);
    CHECK_OK(vex_manifest_write(vfs, root, uuid, &m, true));
    m.generation = 10;
    CHECK_OK(vex_manifest_write(vfs, root, uuid, &m, true));
    CHECK_OK(vex_manifest_newest(vfs, root, &newest));
    CHECK_EQ(newest, 10);
    m.generation = UINT64_MAX;
    CHECK_OK(vex_manifest_write(vfs, root, uuid, &m, true));
    CHECK_OK(vex_manifest_newest(vfs, root, &newest));
    CHECK(newest == UINT64_MAX);
    CHECK_STATUS(vex_manifest_newest(vfs, in(root, "missing"), &newest), VEX_ERR_NOT_FOUND);
    vex_manifest_clear(&m);
}

/* The bytes of a manifest, as the table in manifest.h gives them. */
VFS_TEST(manifest_bytes_are_as_specified) {
    uint8_t f[64 + 72 + 96 + 1];
    vex_manifest m = make_manifest(1);
    m.files[0].tombs_file_no = 33;
    m.files[0].dead_rows = 4;
    m.live_rows = 88;
    CHECK_OK(vex_manifest_write(vfs, root, uuid, &m, true));
    vex_file *file = open_file(vfs, in(root, NAME_9), VEX_FILE_READ);
    CHECK_OK(vex_file_read_exact(vfs, file, "manifest", f, sizeof f, 0));
    vfs->file_close(vfs, file);
    CHECK(memcmp(f, "VXMF\r\n\x1a\n\1\0\0\0\251\0\0\0", 16) == 0 && memcmp(f + 16, uuid, 16) == 0);
    CHECK(vex_get64(f + 32) == 9 && vex_get64(f + 40) == 0 && vex_get64(f + 48) == 0 &&
          vex_get32(f + 56) == 0);
    CHECK_EQ(vex_get32(f + 60), vex_crc32c(vex_crc32c(0, f, 60), f + 64, sizeof f - 64));
    CHECK(vex_get32(f + 64) == 2 && vex_get32(f + 68) == 384 && vex_get64(f + 72) == 1234 &&
          vex_get64(f + 80) == 99999 && vex_get64(f + 88) == 88 && vex_get64(f + 96) == 4 &&
          vex_get64(f + 104) == 100 && vex_get32(f + 112) == 1 && vex_get32(f + 116) == 1);
    CHECK(memcmp(f + 120, m.collection, 16) == 0);
    const uint8_t *e = f + 136;
    CHECK(vex_get32(e) == 1 && vex_get32(e + 4) == 0 && vex_get64(e + 8) == 1 &&
          vex_get64(e + 16) == 1001 && vex_get32(e + 24) == 0xdeadbeef && vex_get32(e + 28) == 50 &&
          vex_get64(e + 32) == 100 && vex_get64(e + 40) == 149 && vex_get64(e + 48) == 1 &&
          vex_get64(e + 56) == 4 && vex_get64(e + 64) == 33 && vex_get64(e + 72) == 77 &&
          vex_get32(e + 80) == 5 && vex_get32(e + 84) == 4 && vex_get64(e + 88) == 0);
    CHECK_EQ(f[232], 0x80);
    vex_manifest_clear(&m);
}

/* ---- damage ---- */

static vex_status read_bytes(vex_vfs *vfs, const uint8_t *bytes, size_t len) {
    vex_manifest found = {0};
    vex_iovec part = {bytes, len};
    vex_file *file = open_file(vfs, "/" NAME_9, VEX_FILE_CREATE);
    CHECK_OK(vfs->file_truncate(vfs, file, 0));
    CHECK_OK(vfs->file_write(vfs, file, &part, 1, 0));
    vfs->file_close(vfs, file);
    vex_status status = vex_manifest_read(vfs, "/", uuid, 9, &found);
    if (status == VEX_OK) {
        vex_manifest_clear(&found);
    }
    CHECK(found.files == NULL && found.keys.data == NULL);
    return status;
}

static size_t make_bytes(vex_vfs *vfs, uint32_t n_files, uint8_t *bytes) {
    vex_manifest m = make_manifest(n_files);
    CHECK_OK(vex_manifest_write(vfs, "/", uuid, &m, true));
    vex_manifest_clear(&m);
    size_t len = (size_t)size_of(vfs, "/" NAME_9);
    vex_file *file = open_file(vfs, "/" NAME_9, VEX_FILE_READ);
    CHECK_OK(vex_file_read_exact(vfs, file, NAME_9, bytes, len, 0));
    vfs->file_close(vfs, file);
    return len;
}

TEST(manifest_truncated_or_flipped_is_refused) {
    uint8_t bytes[2000];
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    size_t len = make_bytes(vfs, 5, bytes);
    CHECK_OK(read_bytes(vfs, bytes, len));
    for (size_t cut = 0; cut < len; cut++) {
        CHECK_STATUS(read_bytes(vfs, bytes, cut), VEX_ERR_CORRUPT);
    }
    bytes[len] = 0;
    CHECK_STATUS(read_bytes(vfs, bytes, len + 1), VEX_ERR_CORRUPT);
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK_STATUS(read_bytes(vfs, bytes, len), VEX_ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    vex_vfs_memory_destroy(vfs);
}

static vex_status read_forged(vex_vfs *vfs, uint8_t *bytes, size_t len) {
    vex_put32(bytes + 60, vex_crc32c(vex_crc32c(0, bytes, 60), bytes + 64, len - 64));
    return read_bytes(vfs, bytes, len);
}

TEST(manifest_hostile_numbers_are_safe) {
    static const uint64_t hostile[] = {0,          1,          2,          3,          0xffffffff,
                                       0x80000000, 1ULL << 63, UINT64_MAX, 0xaaaaaaab, 1ULL << 32};
    uint8_t bytes[2000], original[2000];
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    size_t len = make_bytes(vfs, 3, original);
    for (size_t at = 0; at + 8 <= len; at += 4) {
        for (size_t h = 0; h < sizeof hostile / sizeof *hostile; h++) {
            memcpy(bytes, original, len);
            vex_put64(bytes + at, hostile[h]);
            vex_status status = read_forged(vfs, bytes, len);
            CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION);
        }
    }
    /* what must not pass, one by one */
    static const struct {
        size_t at;
        uint32_t value;
        vex_status expected;
    } cases[] = {
        {8, 2, VEX_ERR_VERSION},                                             /* major */
        {8, 0x00090001, VEX_OK},                                             /* minor */
        {56, 2, VEX_ERR_VERSION},                                            /* flags */
        {56, 1, VEX_ERR_CORRUPT},                                            /* a fork of nothing */
        {32, 8, VEX_ERR_CORRUPT},                                            /* generation */
        {16, 0, VEX_ERR_CORRUPT},                                            /* uuid */
        {64, 9, VEX_ERR_VERSION},                                            /* space */
        {68, 1u << 20, VEX_ERR_CORRUPT},                                     /* dimension */
        {112, 4, VEX_ERR_CORRUPT},                                           /* files */
        {116, 2, VEX_ERR_CORRUPT},                                           /* keys */
        {136, 3, VEX_ERR_VERSION},                                           /* kind */
        {140, 1, VEX_ERR_VERSION},                                           /* owner */
        {144, 100, VEX_ERR_CORRUPT},                                         /* file number */
        {144, 0, VEX_ERR_CORRUPT},       {164, 0x80000000, VEX_ERR_CORRUPT}, /* rows */
        {172, 1, VEX_ERR_CORRUPT},   /* seq_lo past seq_hi */
        {188, 1, VEX_ERR_CORRUPT},   /* lsn_lo past lsn_hi */
        {200, 100, VEX_ERR_CORRUPT}, /* number of the tombstones */
        {220, 51, VEX_ERR_CORRUPT},  /* dead rows */
        {220, 5, VEX_ERR_CORRUPT},   /* ... that do not add up with the live ones */
        {88, 1, VEX_ERR_CORRUPT},    /* live rows */
        {80, 149, VEX_ERR_CORRUPT},  /* next_seq, which a file has */
        {144, 2, VEX_ERR_CORRUPT},   /* a number that another file has */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(bytes, original, len);
        vex_put32(bytes + cases[i].at, cases[i].value);
        vex_status status = read_forged(vfs, bytes, len);
        if (status != cases[i].expected) {
            test_failed(__FILE__, __LINE__, "case %zu: %s", i, vex_status_name(status));
        }
    }
    vex_vfs_memory_destroy(vfs);
}

/* ---- leftovers ---- */

VFS_TEST(manifest_removes_leftovers) {
    static const char *const gone[] = {"manifest-00000000000000000008",
                                       "manifest-00000000000000000007.tmp",
                                       "wal-0000000003",
                                       "wal-0000000000",
                                       "wal-0000000009.tmp",
                                       "vec-000000000002.vxv",
                                       "pay-000000000001.vxp",
                                       "vec-000000000059.vxv",
                                       "vec-000000000061.vxv",
                                       "del-000000000022.vxd",
                                       "del-000000000001.vxd",
                                       "vec-000000000001.vxv.tmp"};
    static const char *const kept[] = {"wal-0000000004",
                                       "wal-0000000005",
                                       "vec-000000000001.vxv",
                                       "pay-000000000002.vxp",
                                       "vec-000000000003.vxv",
                                       "gra-000000000005.vxg",
                                       "del-000000000043.vxd",
                                       "head",
                                       "readme.txt",
                                       "vec-1.vxv",
                                       "vec-000000000002.vxp",
                                       "wal-3",
                                       "tmp"};
    vex_manifest m = make_manifest(3);
    CHECK_OK(vex_manifest_write(vfs, root, uuid, &m, true));
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        make(vfs, in(root, gone[i]), "x");
    }
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        make(vfs, in(root, kept[i]), "x");
    }
    vex_manifest outdated = make_manifest(0);
    outdated.generation = 8;
    vex_manifest_remove_leftovers(vfs, root, &outdated,
                                  true); /* a newer one rules: nothing happens */
    vex_manifest_clear(&outdated);
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        CHECK(exists(vfs, in(root, gone[i])));
    }
    vex_manifest_remove_leftovers(vfs, root, &m, true);
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        if (exists(vfs, in(root, gone[i]))) {
            test_failed(__FILE__, __LINE__, "%s is still there", gone[i]);
        }
    }
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (!exists(vfs, in(root, kept[i]))) {
            test_failed(__FILE__, __LINE__, "%s was removed", kept[i]);
        }
    }
    CHECK(exists(vfs, in(root, NAME_9)));
    vex_manifest_clear(&m);
}

#ifdef VEX_TESTING

/* A commit that fails leaves the old generation in charge, or says that nobody knows. */
TEST(manifest_write_survives_every_failure) {
    resources before = resources_now();
    vex_vfs *memory, *fault;
    uint64_t newest;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &fault));
    vex_manifest m = make_manifest(4);
    m.generation = 8;
    CHECK_OK(vex_manifest_write(memory, "/", uuid, &m, true));
    m.generation = 9;
    for (int persistent = 0; persistent < 2; persistent++) {
        vex_status status = VEX_ERR_IO;
        int poisoned = 0;
        for (uint64_t nth = 1; status != VEX_OK; nth++) {
            vex_vfs_fault_arm(fault, nth, EIO, persistent, nth % 2);
            status = vex_manifest_write(fault, "/", uuid, &m, true);
            vex_vfs_fault_arm(fault, 0, 0, false, false);
            CHECK_OK(vex_manifest_newest(memory, "/", &newest));
            CHECK(newest == 9 ? status == VEX_OK || status == VEX_ERR_POISONED
                              : status == VEX_ERR_IO || status == VEX_ERR_POISONED);
            poisoned += status == VEX_ERR_POISONED;
            if (newest == 9) {
                CHECK_OK(memory->path_remove(memory, "/" NAME_9));
            }
        }
        CHECK((poisoned > 0) == persistent);
    }
    vex_status status = VEX_ERR_IO;
    for (uint64_t nth = 1; status != VEX_OK; nth++) {
        vex_manifest found = {0};
        vex_mem_fail_at(nth, false);
        status = vex_manifest_write(memory, "/", uuid, &m, true);
        status = status == VEX_OK ? vex_manifest_read(memory, "/", uuid, 9, &found) : status;
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        vex_manifest_clear(&found);
    }
    vex_manifest_clear(&m);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(memory);
    check_resources(before);
}

#endif

/* ---- superblock ---- */

VFS_TEST(superblock_round_trip) {
    vex_superblock written = {0}, found = {0};
    CHECK_STATUS(vex_superblock_read(vfs, root, &found), VEX_ERR_NOT_FOUND);
    CHECK_OK(vex_superblock_create(vfs, root, &written));
    CHECK_OK(vex_superblock_read(vfs, root, &found));
    CHECK(memcmp(written.uuid, found.uuid, 16) == 0);
    CHECK(found.major == 1 && found.minor == 0);
    CHECK(found.reader_flags == 0 && found.writer_flags == 0);
    CHECK((found.uuid[6] & 0xf0) == 0x40 && (found.uuid[8] & 0xc0) == 0x80);
    CHECK_EQ(size_of(vfs, in(root, "VEXFS")), 96);
    CHECK_OK(vex_superblock_create(vfs, root, &written));
    CHECK(memcmp(written.uuid, found.uuid, 16) != 0);
}

static vex_status read_super(vex_vfs *vfs, const uint8_t *raw, size_t len, vex_superblock *out) {
    vex_iovec part = {raw, len};
    vex_file *file = open_file(vfs, "/VEXFS", VEX_FILE_CREATE);
    CHECK_OK(vfs->file_truncate(vfs, file, 0));
    CHECK_OK(vfs->file_write(vfs, file, &part, 1, 0));
    vfs->file_close(vfs, file);
    return vex_superblock_read(vfs, "/", out);
}

TEST(superblock_damaged_or_strange_is_refused) {
    vex_vfs *vfs;
    vex_superblock super;
    uint8_t raw[97] = {0};
    CHECK_OK(vex_vfs_memory_create(&vfs));
    CHECK_OK(vex_superblock_create(vfs, "/", &super));
    vex_file *file = open_file(vfs, "/VEXFS", VEX_FILE_READ);
    CHECK_OK(vex_file_read_exact(vfs, file, "VEXFS", raw, 96, 0));
    vfs->file_close(vfs, file);
    for (size_t len = 0; len <= 97; len++) {
        CHECK_EQ(read_super(vfs, raw, len, &super), len == 96 ? VEX_OK : VEX_ERR_CORRUPT);
    }
    for (size_t bit = 0; bit < 96 * 8; bit++) {
        raw[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK_EQ(read_super(vfs, raw, 96, &super), bit < 64 ? VEX_ERR_FOREIGN : VEX_ERR_CORRUPT);
        raw[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    static const struct {
        size_t at;
        uint32_t value;
        vex_status expected;
    } cases[] = {{8, 2, VEX_ERR_VERSION},
                 {8, 0x00070001, VEX_OK},
                 {32, 1, VEX_ERR_VERSION},
                 {36, 1, VEX_ERR_VERSION},
                 {40, 1, VEX_OK}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t copy[96];
        memcpy(copy, raw, sizeof copy);
        vex_put32(copy + cases[i].at, cases[i].value);
        vex_put32(copy + 92, vex_crc32c(0, copy, 92));
        CHECK_STATUS(read_super(vfs, copy, 96, &super), cases[i].expected);
    }
    CHECK_EQ(super.writer_flags, 1); /* the last case: the caller opens read-only */
    CHECK_STATUS(read_super(vfs, (const uint8_t *)"SQLite format 3", 15, &super), VEX_ERR_FOREIGN);
    vex_vfs_memory_destroy(vfs);
}

TEST(file_names) {
    char name[VEX_FILE_NAME_MAX], log[VEX_WAL_NAME_MAX];
    uint64_t number = 5;
    vex_file_name(name, VEX_KIND_VECTORS, 7);
    CHECK(strcmp(name, "vec-000000000007.vxv") == 0);
    vex_file_name(name, VEX_KIND_PAYLOAD, 123456789012);
    CHECK(strcmp(name, "pay-123456789012.vxp") == 0);
    vex_file_name(name, VEX_KIND_TOMBS, UINT64_MAX);
    CHECK(strcmp(name, "del-18446744073709551615.vxd") == 0);
    vex_wal_name(log, 1);
    CHECK(strcmp(log, "wal-0000000001") == 0);
    vex_wal_name(log, UINT64_MAX);
    CHECK(vex_wal_parse_name(log, &number) && number == UINT64_MAX);
    CHECK(vex_wal_parse_name("wal-0000000042", &number) && number == 42);
    CHECK(!vex_wal_parse_name("wal-42", &number) && !vex_wal_parse_name("wal-", &number));
    CHECK(!vex_wal_parse_name("wal-0000000042.tmp", &number));
    CHECK(!vex_wal_parse_name("wal-18446744073709551616", &number));
    CHECK(!vex_wal_parse_name("val-0000000042", &number));
    CHECK_EQ(number, 42);
}
