/*
 * store_kit.c - see store_kit.h.
 */
#include "tests/store_kit.h"

#include "tests/harness.h"

#include <stdlib.h>

void kit_xor_byte(vex_vfs *vfs, const char *path, uint64_t at, uint8_t mask) {
    vex_file *file;
    uint8_t byte;
    CHECK_OK(vfs->file_open(vfs, path, VEX_FILE_WRITE, &file));
    CHECK_OK(vex_file_read_exact(vfs, file, path, &byte, 1, at));
    byte ^= mask;
    CHECK_OK(vfs->file_write(vfs, file, &(vex_iovec){&byte, 1}, 1, at));
    vfs->file_close(vfs, file);
}

void kit_truncate(vex_vfs *vfs, const char *path, uint64_t size) {
    vex_file *file;
    CHECK_OK(vfs->file_open(vfs, path, VEX_FILE_WRITE, &file));
    CHECK_OK(vfs->file_truncate(vfs, file, size));
    vfs->file_close(vfs, file);
}

const char *kit_path(const char *dir, vex_file_kind kind, uint64_t file_no) {
    static char path[VEX_PATH_MAX];
    char name[VEX_FILE_NAME_MAX];
    vex_file_name(name, kind, file_no);
    CHECK_OK(vex_path_join(path, dir, name));
    return path;
}

static void damage(uint8_t *bytes, size_t len, uint32_t changes) {
    for (uint32_t i = 0; i < changes && len > 0; i++) {
        size_t at = test_random() % len;
        uint32_t value = (uint32_t)test_random();
        if (test_random_below(2)) {
            bytes[at] ^= (uint8_t)(1u << value % 8);
        } else {
            size_t n = len - at < sizeof value ? len - at : sizeof value;
            memset(&value, test_random_below(3) ? (int)(value & 255) : 255, sizeof value);
            memcpy(bytes + at, &value, n);
        }
    }
}

void kit_rewrite_damaged(const vex_container *from, const char *dir, uint32_t kinds_end,
                         uint64_t file_no, vex_file_entry *entry) {
    vex_container_writer *writer;
    uint32_t victims = 0;
    for (uint32_t i = 0; i < from->n_sections; i++) {
        victims += from->sections[i].kind < kinds_end;
    }
    uint32_t chosen = test_random_below(victims), seen = 0;
    CHECK_OK(vex_container_create(from->vfs, dir, kit_uuid, from->kind, file_no, entry->lsn_lo,
                                  entry->lsn_hi, &writer));
    for (uint32_t i = 0; i < from->n_sections; i++) {
        const vex_section *section = &from->sections[i];
        size_t len = (size_t)section->len;
        uint8_t *bytes = malloc(len + 1);
        memcpy(bytes, section->data, len);
        if (section->kind < kinds_end && seen++ == chosen) {
            damage(bytes, len, 1 + test_random_below(3));
            len -= test_random_below(20) == 0 ? len / 3 : 0;
        }
        CHECK_OK(vex_container_put(writer, section->kind, section->flags, section->rows,
                                   section->tag, bytes, len));
        free(bytes);
    }
    vex_file_entry written = {0};
    CHECK_OK(vex_container_finish(writer, false, &written));
    entry->file_no = file_no;
    entry->size = written.size;
    entry->crc = written.crc;
}
