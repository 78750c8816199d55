/*
 * superblock.c - see superblock.h.
 */
#include "store/superblock.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include "base/poison.h"

static const uint8_t magic[8] = {'V', 'X', 'S', 'B', '\r', '\n', 0x1a, '\n'};

#define SUPERBLOCK_BYTES 96
#define AT_MAJOR 8
#define AT_MINOR 10
#define AT_UUID 16
#define AT_READER_FLAGS 32
#define AT_WRITER_FLAGS 40
#define AT_CRC 92

#define KNOWN_READER_FLAGS 0ULL

static vex_status parse(const char *path, const uint8_t *raw, size_t len, vex_superblock *out) {
    size_t magic_len = len < sizeof magic ? len : sizeof magic;
    if (memcmp(raw, magic, magic_len) != 0) {
        return VEX_FAIL_AT(VEX_ERR_FOREIGN, path, 0, 0,
                           "not the superblock of a vexfs database; choose another directory");
    }
    if (len != SUPERBLOCK_BYTES) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, len, 0,
                           "the superblock has not %d bytes; restore it from a backup",
                           SUPERBLOCK_BYTES);
    }
    if (vex_get32(raw + AT_CRC) != vex_crc32c(0, raw, AT_CRC)) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, 0, 0,
                           "the superblock's checksum is wrong; restore it from a backup");
    }
    out->major = vex_get16(raw + AT_MAJOR);
    out->minor = vex_get16(raw + AT_MINOR);
    out->reader_flags = vex_get64(raw + AT_READER_FLAGS);
    out->writer_flags = vex_get64(raw + AT_WRITER_FLAGS);
    memcpy(out->uuid, raw + AT_UUID, sizeof out->uuid);
    if (out->major != VEX_FORMAT_MAJOR || (out->reader_flags & ~KNOWN_READER_FLAGS) != 0) {
        return VEX_FAIL_AT(VEX_ERR_VERSION, path, AT_MAJOR, 0,
                           "the database has format %u.%u, flags %llx; this release reads "
                           "format %d: upgrade vexfs_chroma",
                           out->major, out->minor, (unsigned long long)out->reader_flags,
                           VEX_FORMAT_MAJOR);
    }
    return VEX_OK;
}

vex_status vex_superblock_read(vex_vfs *vfs, const char *path, vex_superblock *out) {
    char file_path[VEX_PATH_MAX];
    uint8_t raw[SUPERBLOCK_BYTES + 1];
    vex_file *file = NULL;
    size_t got = 0;
    VEX_TRY(vex_path_join(file_path, path, VEX_SUPERBLOCK_NAME));
    VEX_TRY(vfs->file_open(vfs, file_path, VEX_FILE_READ, &file));
    vex_status status = vfs->file_read(vfs, file, raw, sizeof raw, 0, &got);
    vfs->file_close(vfs, file);
    VEX_TRY(status);
    vex_superblock found = {0};
    VEX_TRY(parse(file_path, raw, got, &found));
    *out = found;
    return VEX_OK;
}

vex_status vex_superblock_restore(vex_vfs *vfs, const char *path, const uint8_t uuid[16]) {
    uint8_t raw[SUPERBLOCK_BYTES] = {0};
    memcpy(raw, magic, sizeof magic);
    vex_put16(raw + AT_MAJOR, VEX_FORMAT_MAJOR);
    vex_put16(raw + AT_MINOR, VEX_FORMAT_MINOR);
    memcpy(raw + AT_UUID, uuid, 16);
    vex_put32(raw + AT_CRC, vex_crc32c(0, raw, AT_CRC));
    return vex_file_write_atomic(vfs, path, VEX_SUPERBLOCK_NAME, raw, sizeof raw,
                                 !vfs->is_volatile);
}

vex_status vex_superblock_create(vex_vfs *vfs, const char *path, vex_superblock *out) {
    vex_superblock block = {.major = VEX_FORMAT_MAJOR, .minor = VEX_FORMAT_MINOR};
    VEX_TRY(vfs->random_bytes(vfs, block.uuid, sizeof block.uuid));
    block.uuid[6] = (uint8_t)((block.uuid[6] & 0x0f) | 0x40); /* RFC 9562: random, version 4 */
    block.uuid[8] = (uint8_t)((block.uuid[8] & 0x3f) | 0x80);
    VEX_TRY(vex_superblock_restore(vfs, path, block.uuid));
    *out = block;
    return VEX_OK;
}
