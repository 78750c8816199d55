/*
 * store_kit.h - what the tests of stored files share: damaging them, on purpose and behind their
 * checksums.
 */
#ifndef VEX_TESTS_STORE_KIT_H
#define VEX_TESTS_STORE_KIT_H

#include "store/container.h"

static const uint8_t kit_uuid[16] = "0123456789abcdef";

/* Change byte `at` of a file. */
void kit_xor_byte(vex_vfs *vfs, const char *path, uint64_t at, uint8_t mask);
void kit_truncate(vex_vfs *vfs, const char *path, uint64_t size);
/* Path of a file of the collection in `dir`; good until the next call. */
const char *kit_path(const char *dir, vex_file_kind kind, uint64_t file_no);

/* Write the container `from` again under `file_no`, with up to three random changes in the
 * sections whose kinds are below `kinds_end`, all checksums being right again.  Fills size and
 * crc of *entry. */
void kit_rewrite_damaged(const vex_container *from, const char *dir, uint32_t kinds_end,
                         uint64_t file_no, vex_file_entry *entry);

#endif
