/*
 * wal_format.c - names, headers and frames of log files.
 */
#include "wal/wal_format.h"

#include "base/crc32c.h"

#include <inttypes.h>

#include "base/poison.h"

static const uint8_t magic[8] = {'V', 'X', 'W', 'L', '\r', '\n', 0x1a, '\n'};

/* file header */
#define AT_MAJOR 8
#define AT_MINOR 10
#define AT_SALT 12
#define AT_UUID 16
#define AT_NUMBER 32
#define AT_FIRST_LSN 40
#define AT_HEADER_FLAGS 48
#define AT_HEADER_CRC 60

void vex_wal_name(char out[VEX_WAL_NAME_MAX], uint64_t number) {
    snprintf(out, VEX_WAL_NAME_MAX, "wal-%010" PRIu64, number);
}

bool vex_wal_parse_name(const char *name, uint64_t *number) {
    char canonical[VEX_WAL_NAME_MAX];
    uint64_t value = 0;
    if (strncmp(name, "wal-", 4) != 0) {
        return false;
    }
    for (const char *digit = name + 4; *digit >= '0' && *digit <= '9'; digit++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*digit - '0'), &value)) {
            return false;
        }
    }
    vex_wal_name(canonical, value);
    if (strcmp(name, canonical) != 0) {
        return false;
    }
    *number = value;
    return true;
}

vex_status vex_wal_path(char out[], const char *dir, uint64_t number) {
    char name[VEX_WAL_NAME_MAX];
    vex_wal_name(name, number);
    return vex_path_join(out, dir, name);
}

void vex_wal_header_encode(const vex_wal_header *header, const uint8_t uuid[16],
                           uint8_t out[HEADER_BYTES]) {
    memset(out, 0, HEADER_BYTES);
    memcpy(out, magic, sizeof magic);
    vex_put16(out + AT_MAJOR, WAL_MAJOR);
    vex_put16(out + AT_MINOR, WAL_MINOR);
    vex_put32(out + AT_SALT, header->salt);
    memcpy(out + AT_UUID, uuid, 16);
    vex_put64(out + AT_NUMBER, header->number);
    vex_put64(out + AT_FIRST_LSN, header->first_lsn);
    vex_put32(out + AT_HEADER_CRC, vex_crc32c(0, out, AT_HEADER_CRC));
}

vex_status vex_wal_header_read(vex_vfs *vfs, vex_file *file, const char *path,
                               const uint8_t uuid[16], uint64_t number, vex_wal_header *out) {
    uint8_t raw[HEADER_BYTES];
    VEX_TRY(vex_file_read_exact(vfs, file, path, raw, sizeof raw, 0));
    if (memcmp(raw, magic, sizeof magic) != 0 ||
        vex_get32(raw + AT_HEADER_CRC) != vex_crc32c(0, raw, AT_HEADER_CRC)) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, 0, 0,
                           "the header of the log is damaged; "
                           "restore the collection from a backup");
    }
    if (vex_get16(raw + AT_MAJOR) != WAL_MAJOR || vex_get32(raw + AT_HEADER_FLAGS) != 0) {
        return VEX_FAIL_AT(VEX_ERR_VERSION, path, AT_MAJOR, 0,
                           "the log has format %u.%u, flags %x; this release reads format %d: "
                           "upgrade vexfs_chroma",
                           vex_get16(raw + AT_MAJOR), vex_get16(raw + AT_MINOR),
                           vex_get32(raw + AT_HEADER_FLAGS), WAL_MAJOR);
    }
    vex_wal_header header = {vex_get32(raw + AT_SALT), vex_get64(raw + AT_NUMBER),
                             vex_get64(raw + AT_FIRST_LSN)};
    if (header.number != number || header.first_lsn == 0 || header.first_lsn >= VEX_COUNTER_END ||
        memcmp(raw + AT_UUID, uuid, 16) != 0) {
        return VEX_FAIL_AT(
            VEX_ERR_CORRUPT, path, AT_UUID, 0,
            "this is another log under this name: one of another collection or number; "
            "restore the collection from a backup");
    }
    *out = header;
    return VEX_OK;
}

vex_status vex_wal_owner(vex_vfs *vfs, const char *dir, uint64_t number, uint8_t uuid[16]) {
    uint8_t raw[HEADER_BYTES];
    char path[VEX_PATH_MAX];
    vex_file *file = NULL;
    size_t got = 0;
    VEX_TRY(vex_wal_path(path, dir, number));
    vex_status status = vfs->file_open(vfs, path, VEX_FILE_READ, &file);
    if (status != VEX_OK) {
        return status == VEX_ERR_CORRUPT ? VEX_OK : status; /* no plain file */
    }
    status = vfs->file_read(vfs, file, raw, sizeof raw, 0, &got);
    vfs->file_close(vfs, file);
    if (status == VEX_OK && got == sizeof raw &&
        vex_get32(raw + AT_HEADER_CRC) == vex_crc32c(0, raw, AT_HEADER_CRC)) {
        memcpy(uuid, raw + AT_UUID, 16);
    }
    return status;
}

bool vex_frame_parse(uint32_t salt, const uint8_t *bytes, size_t got, vex_frame *out) {
    out->crc = vex_get32(bytes + AT_CRC);
    out->len = vex_get32(bytes + AT_LEN);
    out->lsn = vex_get64(bytes + AT_LSN);
    out->synced_lsn = vex_get64(bytes + AT_SYNCED_LSN);
    out->link_value = vex_get32(bytes + AT_LINK);
    out->type = bytes[AT_TYPE];
    out->payload = bytes + FRAME_BYTES;
    if (out->len == 0 || out->len > PAYLOAD_MAX || got < frame_size(out->len)) {
        return false;
    }
    if (vex_crc32c(salt, bytes + AT_LEN, FRAME_BYTES - AT_LEN + out->len) != out->crc) {
        return false;
    }
    for (uint64_t i = FRAME_BYTES + out->len; i < frame_size(out->len); i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    out->unknown = out->type < FRAME_FULL || out->type > FRAME_CLOSE || bytes[AT_FLAGS] != 0 ||
                   vex_get16(bytes + AT_ZERO) != 0;
    return true;
}
