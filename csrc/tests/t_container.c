/*
 * t_container.c - container files: sections, checksums, damage.
 */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "io/vfs_trace.h"
#include "store/container.h"
#include "tests/vfs_suite.h"

#include <stdlib.h>

static const uint8_t uuid[16] = "0123456789abcdef";

/* Whole file `path` into a block of exactly its size. */
static uint8_t *load(vex_vfs *vfs, const char *path, size_t *len) {
    *len = (size_t)size_of(vfs, path);
    uint8_t *bytes = malloc(*len + 1);
    vex_file *file = open_file(vfs, path, VEX_FILE_READ);
    CHECK_OK(vex_file_read_exact(vfs, file, path, bytes, *len, 0));
    vfs->file_close(vfs, file);
    return bytes;
}

static void store(vex_vfs *vfs, const char *path, const void *bytes, size_t len) {
    vex_file *file = open_file(vfs, path, VEX_FILE_CREATE);
    vex_iovec part = {bytes, len};
    CHECK_OK(vfs->file_truncate(vfs, file, 0));
    CHECK_OK(vfs->file_write(vfs, file, &part, 1, 0));
    vfs->file_close(vfs, file);
}

/* A file of three sections: 100 bytes, `big` bytes aligned to 4096, none. */
static vex_file_entry make_file(vex_vfs *vfs, const char *dir, uint64_t file_no, size_t big) {
    vex_container_writer *writer;
    vex_file_entry entry = {0};
    uint8_t bytes[100], *data = malloc(big + 1);
    for (size_t i = 0; i < big; i++) {
        data[i] = (uint8_t)(i * 7 + i / 256);
    }
    memset(bytes, 0x5a, sizeof bytes);
    CHECK_OK(vex_container_create(vfs, dir, uuid, VEX_KIND_PAYLOAD, file_no, 3, 9, &writer));
    CHECK_OK(vex_container_put(writer, VEX_SECTION_INFO, 0, 1, 77, bytes, sizeof bytes));
    CHECK_OK(vex_container_begin(writer, VEX_SECTION_VECTORS, 0, 4096, 12, 0));
    for (size_t at = 0; at < big;) {
        size_t step = 1 + (size_t)test_random_below(200000);
        step = step < big - at ? step : big - at;
        CHECK_OK(vex_container_append(writer, data + at, step));
        at += step;
    }
    CHECK_OK(vex_container_end(writer));
    CHECK_OK(vex_container_put(writer, 200, VEX_SECTION_OPTIONAL, 0, 0, NULL, 0));
    CHECK_OK(vex_container_finish(writer, true, &entry));
    free(data);
    return entry;
}

static void check_file(vex_vfs *vfs, const char *dir, const vex_file_entry *entry, size_t big) {
    vex_container c;
    const vex_section *section;
    CHECK_OK(vex_container_open(vfs, dir, uuid, VEX_KIND_PAYLOAD, entry->file_no, entry, &c));
    CHECK_EQ(c.n_sections, 3);
    CHECK_EQ(c.size, entry->size);
    CHECK_EQ(c.file_no, entry->file_no);
    CHECK_OK(vex_container_need(&c, VEX_SECTION_INFO, 100, &section));
    CHECK(section->rows == 1 && section->tag == 77 && section->data[99] == 0x5a);
    CHECK_OK(vex_container_need(&c, VEX_SECTION_VECTORS, UINT64_MAX, &section));
    CHECK_EQ(section->len, big);
    CHECK_EQ(section->offset % 4096, 0);
    CHECK_EQ((uintptr_t)section->data % 64, 0);
    for (size_t i = 0; i < big; i++) {
        if (section->data[i] != (uint8_t)(i * 7 + i / 256)) {
            CHECK_EQ(i, SIZE_MAX);
        }
    }
    CHECK(vex_container_find(&c, 200) != NULL && vex_container_find(&c, 200)->len == 0);
    CHECK(vex_container_find(&c, VEX_SECTION_SEQS) == NULL);
    CHECK_STATUS(vex_container_need(&c, VEX_SECTION_SEQS, 0, &section), VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_container_need(&c, VEX_SECTION_INFO, 99, &section), VEX_ERR_CORRUPT);
    CHECK_OK(vex_container_verify(&c));
    vex_container_close(&c);
}

VFS_TEST(container_round_trip) {
    static const size_t sizes[] = {
        0, 1, 63, 64, 65536 - 4096, 65536, 65537, 200000, 1 << 20, (1 << 20) + 1, 3500000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        vex_file_entry entry = make_file(vfs, root, 1 + i, sizes[i]);
        CHECK(entry.kind == VEX_KIND_PAYLOAD && entry.lsn_lo == 3 && entry.lsn_hi == 9);
        check_file(vfs, root, &entry, sizes[i]);
    }
    CHECK(exists(vfs, in(root, "pay-000000000001.vxp")));
    CHECK(!exists(vfs, in(root, "pay-000000000001.vxp.tmp")));
}

/* So that file systems can keep it in large pages; see container_write.c. */
TEST(container_is_written_in_aligned_parts) {
    static const uint64_t part = 2 << 20;
    vex_vfs *memory, *vfs;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_trace_create(memory, 1, &vfs));
    const vex_file_entry entry = make_file(vfs, "/", 1, (size_t)(2 * part + 300000));
    const vex_trace *trace = vex_vfs_trace_get(vfs);
    uint64_t written = 0;
    for (size_t i = 0; i < trace->n; i++) {
        if (trace->ops[i].kind == VEX_TRACE_WRITE) {
            CHECK_EQ(trace->ops[i].offset, written);
            CHECK_EQ(written % part, 0);
            written += trace->ops[i].len;
        }
    }
    CHECK_EQ(written, entry.size);
    check_file(vfs, "/", &entry, (size_t)(2 * part + 300000));
    vex_vfs_trace_destroy(vfs);
    vex_vfs_memory_destroy(memory);
}

VFS_TEST(container_without_sections) {
    vex_container_writer *writer;
    vex_container c;
    vex_file_entry entry = {.rows = 5};
    CHECK_OK(vex_container_create(vfs, root, uuid, VEX_KIND_TOMBS, 4, 0, 0, &writer));
    CHECK_OK(vex_container_finish(writer, false, &entry));
    CHECK_EQ(entry.rows, 5); /* not the container's affair */
    CHECK_EQ(entry.size, 64 + 8 + 64);
    CHECK_OK(vex_container_open(vfs, root, uuid, VEX_KIND_TOMBS, 4, NULL, &c));
    CHECK_EQ(c.n_sections, 0);
    CHECK_OK(vex_container_verify(&c));
    vex_container_close(&c);
}

VFS_TEST(container_replaces_what_a_crash_left_and_abort_leaves_nothing) {
    vex_container_writer *writer;
    char junk[500] = "left by a crash";
    store(vfs, in(root, "pay-000000000002.vxp.tmp"), junk, sizeof junk);
    vex_file_entry entry = make_file(vfs, root, 2, 10);
    check_file(vfs, root, &entry, 10);
    CHECK_OK(vex_container_create(vfs, root, uuid, VEX_KIND_VECTORS, 3, 0, 0, &writer));
    CHECK_OK(vex_container_put(writer, VEX_SECTION_INFO, 0, 0, 0, junk, sizeof junk));
    CHECK(exists(vfs, in(root, "vec-000000000003.vxv.tmp")));
    vex_container_abort(writer);
    vex_container_abort(NULL);
    CHECK(!exists(vfs, in(root, "vec-000000000003.vxv.tmp")));
    CHECK(!exists(vfs, in(root, "vec-000000000003.vxv")));
}

VFS_TEST(container_sections_in_turn) {
    vex_container_writer *writer;
    vex_file_entry entry;
    CHECK_OK(vex_container_create(vfs, root, uuid, VEX_KIND_VECTORS, 3, 0, 0, &writer));
    CHECK_STATUS(vex_container_append(writer, "x", 1), VEX_ERR_INVALID);
    CHECK_STATUS(vex_container_end(writer), VEX_ERR_INVALID);
    CHECK_STATUS(vex_container_begin(writer, 1, 0, 100, 0, 0), VEX_ERR_INVALID);
    CHECK_OK(vex_container_begin(writer, 1, 0, 0, 0, 0));
    CHECK_STATUS(vex_container_begin(writer, 2, 0, 0, 0, 0), VEX_ERR_INVALID);
    CHECK_STATUS(vex_container_finish(writer, true, &entry), VEX_ERR_INVALID);
    CHECK(!exists(vfs, in(root, "vec-000000000003.vxv.tmp")));
}

/* The bytes of a small file, as the table in container.h gives them. */
VFS_TEST(container_bytes_are_as_specified) {
    vex_container_writer *writer;
    vex_file_entry entry = {0};
    size_t len;
    CHECK_OK(vex_container_create(vfs, root, uuid, VEX_KIND_TOMBS, 7, 5, 6, &writer));
    CHECK_OK(vex_container_put(writer, VEX_SECTION_INFO, 0, 2, 9, "abc", 3));
    CHECK_OK(vex_container_put(writer, VEX_SECTION_TOMBS, 1, 3, 0, "defg", 4));
    CHECK_OK(vex_container_finish(writer, true, &entry));
    uint8_t *f = load(vfs, in(root, "del-000000000007.vxd"), &len);
    /* header, 2 sections at 64 and 128, table at 136, chunk table at 232, footer at 240 */
    CHECK_EQ(len, 304);
    CHECK(memcmp(f, "VXSG\r\n\x1a\n\1\0\0\0\3\0\0\0", 16) == 0 && memcmp(f + 16, uuid, 16) == 0);
    CHECK(vex_get64(f + 32) == 7 && vex_get64(f + 40) == 5 && vex_get64(f + 48) == 6);
    CHECK_EQ(vex_get32(f + 60), vex_crc32c(0, f, 60));
    CHECK(memcmp(f + 64, "abc", 3) == 0 && memcmp(f + 128, "defg", 4) == 0);
    CHECK(vex_get32(f + 136) == 1 && vex_get32(f + 140) == 0 && vex_get64(f + 144) == 64 &&
          vex_get64(f + 152) == 3 && vex_get64(f + 160) == 2 && vex_get32(f + 168) == 9);
    CHECK_EQ(vex_get32(f + 172), vex_crc32c(0, "abc", 3));
    CHECK(vex_get32(f + 184) == 11 && vex_get32(f + 188) == 1 && vex_get64(f + 192) == 128 &&
          vex_get64(f + 200) == 4 && vex_get64(f + 208) == 3 && vex_get32(f + 216) == 0);
    CHECK_EQ(vex_get32(f + 232), vex_crc32c(0, f, 136));
    const uint8_t *footer = f + 240;
    CHECK(vex_get64(footer) == 136 && vex_get32(footer + 8) == 2 && vex_get64(footer + 16) == 232 &&
          vex_get32(footer + 24) == 1 && vex_get64(footer + 32) == 304);
    CHECK_EQ(vex_get32(footer + 12), vex_crc32c(0, f + 136, 96));
    CHECK_EQ(vex_get32(footer + 28), vex_crc32c(0, f + 232, 4));
    CHECK_EQ(vex_get32(footer + 52), vex_crc32c(0, footer, 52));
    CHECK_EQ(entry.crc, vex_get32(footer + 52));
    CHECK(memcmp(footer + 56, "\n\x1a\n\rGSXV", 8) == 0);
    free(f);
}

/* ---- damage ---- */

VFS_TEST(container_is_not_taken_for_another) {
    static const uint8_t other[16] = "another database";
    vex_container c;
    vex_file_entry entry = make_file(vfs, root, 5, 1000), wrong = entry;
    CHECK_STATUS(vex_container_open(vfs, root, uuid, VEX_KIND_PAYLOAD, 6, NULL, &c),
                 VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vex_container_open(vfs, root, other, VEX_KIND_PAYLOAD, 5, NULL, &c),
                 VEX_ERR_CORRUPT);
    wrong.crc ^= 1;
    CHECK_STATUS(vex_container_open(vfs, root, uuid, VEX_KIND_PAYLOAD, 5, &wrong, &c),
                 VEX_ERR_CORRUPT);
    wrong = entry;
    wrong.size++;
    CHECK_STATUS(vex_container_open(vfs, root, uuid, VEX_KIND_PAYLOAD, 5, &wrong, &c),
                 VEX_ERR_CORRUPT);
    CHECK_OK(
        vfs->path_rename(vfs, in(root, "pay-000000000005.vxp"), in(root, "pay-000000000006.vxp")));
    CHECK_STATUS(vex_container_open(vfs, root, uuid, VEX_KIND_PAYLOAD, 6, NULL, &c),
                 VEX_ERR_CORRUPT);
    CHECK_OK(
        vfs->path_rename(vfs, in(root, "pay-000000000006.vxp"), in(root, "vec-000000000005.vxv")));
    CHECK_STATUS(vex_container_open(vfs, root, uuid, VEX_KIND_VECTORS, 5, NULL, &c),
                 VEX_ERR_CORRUPT);
}

/* A container in the memory vfs whose bytes the test may change at will. */
typedef struct patient {
    vex_vfs *vfs;
    vex_file_entry entry;
    uint8_t *bytes;
    size_t len;
} patient;

static patient admit(size_t big) {
    patient p;
    CHECK_OK(vex_vfs_memory_create(&p.vfs));
    p.entry = make_file(p.vfs, "/", 1, big);
    p.bytes = load(p.vfs, "/pay-000000000001.vxp", &p.len);
    return p;
}

static void dismiss(patient *p) {
    free(p->bytes);
    vex_vfs_memory_destroy(p->vfs);
}

/* What opening, and then verifying, says about bytes[0, len). */
static vex_status diagnose(const patient *p, size_t len, bool with_entry) {
    vex_container c;
    store(p->vfs, "/pay-000000000001.vxp", p->bytes, len);
    vex_status status = vex_container_open(p->vfs, "/", uuid, VEX_KIND_PAYLOAD, 1,
                                           with_entry ? &p->entry : NULL, &c);
    if (status == VEX_OK) {
        status = vex_container_verify(&c);
        vex_container_close(&c);
    }
    return status;
}

TEST(container_truncated_anywhere_is_refused) {
    patient p = admit(3000);
    for (size_t len = 0; len < p.len; len++) {
        CHECK_STATUS(diagnose(&p, len, false), VEX_ERR_CORRUPT);
    }
    CHECK_OK(diagnose(&p, p.len, true));
    p.bytes[p.len] = 0;
    CHECK_STATUS(diagnose(&p, p.len + 1, false), VEX_ERR_CORRUPT);
    dismiss(&p);
}

TEST(container_flipped_bit_anywhere_is_found) {
    patient p = admit(1000);
    for (size_t bit = 0; bit < p.len * 8; bit += bit / 8 > 200 && bit / 8 < 4000 ? 7 : 1) {
        p.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK_STATUS(diagnose(&p, p.len, bit % 2 == 0), VEX_ERR_CORRUPT);
        p.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    dismiss(&p);
}

/* Make all checksums of the tables, header and footer right again. */
static void forge(patient *p) {
    uint8_t *footer = p->bytes + p->len - 64;
    uint64_t table = vex_get64(footer), chunks = vex_get64(footer + 16);
    uint64_t n_sections = vex_get32(footer + 8), n_chunks = vex_get32(footer + 24);
    if (table <= p->len && n_sections * 48 <= p->len - table) {
        vex_put32(footer + 12, vex_crc32c(0, p->bytes + table, n_sections * 48));
    }
    if (chunks <= p->len && n_chunks * 4 <= p->len - chunks) {
        vex_put32(footer + 28, vex_crc32c(0, p->bytes + chunks, n_chunks * 4));
    }
    vex_put32(p->bytes + 60, vex_crc32c(0, p->bytes, 60));
    vex_put32(footer + 52, vex_crc32c(0, footer, 52));
}

/* Numbers behind right checksums: nothing is read outside, nothing is overflowed. */
TEST(container_hostile_numbers_are_safe) {
    static const uint64_t hostile[] = {0,          1,          8,
                                       64,         4096,       0xffffffff,
                                       0x80000000, UINT64_MAX, UINT64_MAX - 63,
                                       1ULL << 63, 1ULL << 40, 0x5555555555555556ULL};
    patient p = admit(500);
    uint8_t *original = malloc(p.len);
    memcpy(original, p.bytes, p.len);
    size_t table = (size_t)vex_get64(p.bytes + p.len - 64), refused = 0, passed = 0;
    for (size_t at = 0; at + 8 <= p.len; at += 4) {
        if (at >= 64 && at < table) {
            continue; /* contents of sections */
        }
        for (size_t h = 0; h < sizeof hostile / sizeof *hostile; h++) {
            memcpy(p.bytes, original, p.len);
            vex_put64(p.bytes + at, hostile[h]);
            forge(&p);
            vex_status status = diagnose(&p, p.len, false);
            CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION);
            refused += status != VEX_OK;
            passed += status == VEX_OK;
        }
    }
    CHECK(refused > 400 && passed > 0); /* e.g. rows and tags may be anything here */
    free(original);
    dismiss(&p);
}

/* Numbers that agree with each other, and yet are wrong. */
TEST(container_consistent_lies_are_refused) {
    patient p = admit(500);
    uint8_t *original = malloc(p.len), *footer = p.bytes + p.len - 64;
    memcpy(original, p.bytes, p.len);
    uint64_t table = vex_get64(footer), chunks = vex_get64(footer + 16);
    for (int change = -1; change <= 1; change += 2) { /* a section more or less than there are */
        vex_put32(footer + 8, vex_get32(footer + 8) + (uint32_t)change);
        vex_put64(footer + 16, chunks + (uint64_t)(48 * change));
        forge(&p);
        CHECK_STATUS(diagnose(&p, p.len, false), VEX_ERR_CORRUPT);
        memcpy(p.bytes, original, p.len);
    }
    uint8_t *second = p.bytes + table + 48; /* VECTORS, moved over INFO */
    vex_put64(second + 8, 64);
    vex_put64(second + 16, 100);
    vex_put32(second + 36, vex_crc32c(0, p.bytes + 64, 100));
    forge(&p);
    CHECK_STATUS(diagnose(&p, p.len, false), VEX_ERR_CORRUPT);
    memcpy(p.bytes, original, p.len);
    second[36] ^= 1; /* a checksum that the chunks do not bear out */
    forge(&p);
    CHECK_STATUS(diagnose(&p, p.len, false), VEX_ERR_CORRUPT);
    free(original);
    dismiss(&p);
}

/* A file whose chunk table was cut out: nothing is read past the end of the mapping. */
TEST(container_without_its_chunk_table_is_refused) {
    patient p = admit(3 << 20);
    uint8_t *footer = p.bytes + p.len - 64;
    uint64_t chunks = vex_get64(footer + 16);
    vex_put64(footer + 32, chunks + 64);
    memmove(p.bytes + chunks, footer, 64);
    p.len = (size_t)chunks + 64;
    forge(&p);
    CHECK_STATUS(diagnose(&p, p.len, false), VEX_ERR_CORRUPT);
    dismiss(&p);
}

/* Verifying reads the file, whatever the mapping shows. */
VFS_TEST(container_changed_while_open_is_found) {
    static const size_t from_end[] = {1, 30, 70, 100, 200, 5000};
    for (uint64_t i = 0; i < 6; i++) {
        vex_container c;
        uint8_t byte;
        vex_iovec part = {&byte, 1};
        vex_file_entry entry = make_file(vfs, root, 1 + i, 1000);
        CHECK_OK(vex_container_open(vfs, root, uuid, VEX_KIND_PAYLOAD, 1 + i, &entry, &c));
        CHECK_OK(vex_container_verify(&c));
        vex_file *file = open_file(vfs, c.path, VEX_FILE_WRITE);
        CHECK_OK(vex_file_read_exact(vfs, file, c.path, &byte, 1, c.size - from_end[i]));
        byte ^= 4;
        CHECK_OK(vfs->file_write(vfs, file, &part, 1, c.size - from_end[i]));
        vfs->file_close(vfs, file);
        CHECK_STATUS(vex_container_verify(&c), VEX_ERR_CORRUPT);
        vex_container_close(&c);
    }
}

TEST(container_of_a_later_release_is_refused) {
    patient p = admit(500);
    size_t table = (size_t)vex_get64(p.bytes + p.len - 64);
    CHECK_EQ(vex_get32(p.bytes + table + 2 * 48), 200);
    vex_put32(p.bytes + table + 2 * 48 + 4, 0); /* an unknown section, no longer optional */
    forge(&p);
    CHECK_STATUS(diagnose(&p, p.len, false), VEX_ERR_VERSION);
    vex_put32(p.bytes + table + 2 * 48 + 4, VEX_SECTION_OPTIONAL);
    vex_put16(p.bytes + 10, 999); /* another minor version */
    vex_put32(p.bytes + 60, vex_crc32c(0, p.bytes, 60));
    vex_put32(p.bytes + (size_t)vex_get64(p.bytes + p.len - 48), vex_crc32c(0, p.bytes, table));
    forge(&p);
    CHECK_OK(diagnose(&p, p.len, false));
    vex_put16(p.bytes + 8, 2);
    forge(&p);
    CHECK_STATUS(diagnose(&p, p.len, false), VEX_ERR_VERSION);
    dismiss(&p);
}

#ifdef VEX_TESTING

static vex_status write_small(vex_vfs *vfs, vex_file_entry *entry) {
    static const uint8_t zeros[5000];
    vex_container_writer *writer;
    VEX_TRY(vex_container_create(vfs, "/", uuid, VEX_KIND_VECTORS, 1, 0, 0, &writer));
    vex_status status = vex_container_put(writer, VEX_SECTION_INFO, 0, 0, 0, zeros, sizeof zeros);
    if (status != VEX_OK) {
        vex_container_abort(writer);
        return status;
    }
    return vex_container_finish(writer, true, entry);
}

static vex_status open_and_verify(vex_vfs *vfs, const vex_file_entry *entry) {
    vex_container c;
    VEX_TRY(vex_container_open(vfs, "/", uuid, VEX_KIND_VECTORS, 1, entry, &c));
    vex_status status = vex_container_verify(&c);
    vex_container_close(&c);
    return status;
}

/* Every system call and every allocation fails once: a typed error, nothing leaks or stays. */
TEST(container_survives_every_failure) {
    resources before = resources_now();
    vex_vfs *memory, *fault;
    vex_file_entry entry = {0};
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &fault));
    for (int short_write = 0; short_write < 2; short_write++) {
        vex_status status = VEX_ERR_IO;
        for (uint64_t nth = 1; status != VEX_OK; nth++) {
            vex_vfs_fault_arm(fault, nth, ENOSPC, false, short_write);
            status = write_small(fault, &entry);
            vex_vfs_fault_arm(fault, 0, 0, false, false);
            CHECK(status == VEX_OK || status == VEX_ERR_NO_SPACE);
            CHECK(exists(memory, "/vec-000000000001.vxv") == (status == VEX_OK));
            CHECK(!exists(memory, "/vec-000000000001.vxv.tmp"));
        }
        status = VEX_ERR_IO;
        for (uint64_t nth = 1; status != VEX_OK; nth++) {
            vex_vfs_fault_arm(fault, nth, EIO, false, false);
            status = open_and_verify(fault, &entry);
            CHECK(status == VEX_OK || status == VEX_ERR_IO);
        }
        CHECK_OK(memory->path_remove(memory, "/vec-000000000001.vxv"));
    }
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    vex_status status = VEX_ERR_IO;
    for (uint64_t nth = 1; status != VEX_OK; nth++) {
        vex_mem_fail_at(nth, false);
        status = write_small(memory, &entry);
        status = status == VEX_OK ? open_and_verify(memory, &entry) : status;
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
    }
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(memory);
    check_resources(before);
}

#endif
