/*
 * wal_format.h - offsets in log files (wal.h has the table), and their header, shared by the
 * writer and the reader.
 */
#ifndef VEX_WAL_FORMAT_H
#define VEX_WAL_FORMAT_H

#include "base/bytes.h"
#include "wal/wal.h"

#define HEADER_BYTES 64
_Static_assert(VEX_WAL_EMPTY_END == HEADER_BYTES, "a log without records is its header");
#define WAL_MAJOR 1
#define WAL_MINOR 0

/* frame header */
#define FRAME_BYTES 32 /* without payload */
#define PAYLOAD_MAX ((size_t)1 << 20)
#define AT_CRC 0
#define AT_LEN 4
#define AT_LSN 8
#define AT_SYNCED_LSN 16
#define AT_LINK 24 /* salt, or the crc of the frame before */
#define AT_TYPE 28
#define AT_FLAGS 29
#define AT_ZERO 30

enum frame_type { FRAME_FULL = 1, FRAME_FIRST, FRAME_MIDDLE, FRAME_LAST, FRAME_CLOSE };
#define CLOSE_PAYLOAD 8

static inline uint64_t frame_size(uint64_t payload_len) {
    return FRAME_BYTES + vex_align_up(payload_len, 8);
}

typedef struct vex_frame {
    uint64_t lsn, synced_lsn;
    uint32_t len, crc, link_value;
    uint8_t type;
    bool unknown;           /* type or flags of a later release                                */
    const uint8_t *payload; /* in the bytes it was parsed from                                  */
} vex_frame;

/* Is this a whole, valid frame of the log with that salt?  `bytes` are `got` >= FRAME_BYTES of it. */
bool vex_frame_parse(uint32_t salt, const uint8_t *bytes, size_t got, vex_frame *out);

typedef struct vex_wal_header {
    uint32_t salt;
    uint64_t number, first_lsn;
} vex_wal_header;

vex_status vex_wal_path(char out[], const char *dir, uint64_t number);
void vex_wal_header_encode(const vex_wal_header *header, const uint8_t uuid[16],
                           uint8_t out[HEADER_BYTES]);
/* Read and check the header of an open log. */
vex_status vex_wal_header_read(vex_vfs *vfs, vex_file *file, const char *path,
                               const uint8_t uuid[16], uint64_t number, vex_wal_header *out);

#endif
