/*
 * head.c - reading and writing the head of a collection (see head.h).
 */
#include "db/head.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include "base/poison.h"

#define HEAD_BYTES 64
static const uint8_t head_magic[8] = {'V', 'X', 'H', 'D', '\r', '\n', 0x1a, '\n'};

/* A reader may see half of a concurrent write; the writer is done long before the third look. */
#define HEAD_READ_TRIES 3

static uint32_t checksum(const uint8_t collection[16], const uint8_t raw[HEAD_BYTES]) {
    return vex_crc32c(vex_crc32c(0, collection, 16), raw, 60);
}

vex_status vex_head_read(vex_vfs *vfs, vex_file *file, const uint8_t collection[16], vex_head *out,
                         bool *valid) {
    uint8_t raw[HEAD_BYTES];
    *valid = false;
    for (int attempt = 0; attempt < HEAD_READ_TRIES && !*valid; attempt++) {
        size_t got = 0;
        VEX_TRY(vfs->file_read(vfs, file, raw, sizeof raw, 0, &got));
        *valid = got == sizeof raw && memcmp(raw, head_magic, sizeof head_magic) == 0 &&
                 vex_get32(raw + 60) == checksum(collection, raw) &&
                 vex_get64(raw + 8) == vfs->boot_id(vfs);
    }
    if (*valid) {
        out->generation = vex_get64(raw + 16);
        out->wal_number = vex_get64(raw + 24);
        out->wal_end = vex_get64(raw + 32);
        out->lsn = vex_get64(raw + 40);
        out->recovery = vex_get64(raw + 48);
    }
    return VEX_OK;
}

vex_status vex_head_check(vex_vfs *vfs, vex_file *file, const uint8_t collection[16], bool *sound) {
    static const uint8_t zeros[HEAD_BYTES];
    uint8_t raw[HEAD_BYTES + 1];
    *sound = false;
    for (int attempt = 0; attempt < HEAD_READ_TRIES && !*sound; attempt++) {
        size_t got = 0;
        VEX_TRY(vfs->file_read(vfs, file, raw, sizeof raw, 0, &got));
        *sound =
            got == 0 || (got == HEAD_BYTES && (memcmp(raw, zeros, HEAD_BYTES) == 0 ||
                                               (memcmp(raw, head_magic, sizeof head_magic) == 0 &&
                                                vex_get32(raw + 60) == checksum(collection, raw))));
    }
    return VEX_OK;
}

vex_status vex_head_write(vex_vfs *vfs, vex_file *file, const uint8_t collection[16],
                          const vex_head *head) {
    uint8_t raw[HEAD_BYTES] = {0};
    memcpy(raw, head_magic, sizeof head_magic);
    vex_put64(raw + 8, vfs->boot_id(vfs));
    vex_put64(raw + 16, head->generation);
    vex_put64(raw + 24, head->wal_number);
    vex_put64(raw + 32, head->wal_end);
    vex_put64(raw + 40, head->lsn);
    vex_put64(raw + 48, head->recovery);
    vex_put32(raw + 60, checksum(collection, raw));
    const vex_iovec part = {raw, sizeof raw};
    return vfs->file_write(vfs, file, &part, 1, 0);
}

vex_status vex_head_void(vex_vfs *vfs, vex_file *file) {
    static const uint8_t zeros[HEAD_BYTES];
    const vex_iovec part = {zeros, sizeof zeros};
    return vfs->file_write(vfs, file, &part, 1, 0);
}

vex_status vex_head_is_replaced(vex_vfs *vfs, vex_file *file, const char *dir, bool *replaced) {
    char path[VEX_PATH_MAX];
    vex_file_stat ours, there;
    VEX_TRY(vex_path_join(path, dir, "head"));
    VEX_TRY(vfs->file_stat(vfs, file, &ours));
    vex_status status = vfs->path_stat(vfs, path, &there);
    *replaced = status == VEX_ERR_NOT_FOUND ||
                (status == VEX_OK && (there.device != ours.device || there.inode != ours.inode));
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}
