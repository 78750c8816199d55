/*
 * wal.h - the write-ahead log of a collection: append, group commit, replay.
 *
 * A log is a numbered file wal-%010u in the collection's directory.  One record is one write
 * batch with its log sequence number (lsn), consecutive over all files.  Records are opaque
 * here (store/batch.h gives them meaning).
 *
 * File header, 64 bytes (little-endian)
 *   0  magic 8 "VXWL\r\n\x1a\n"   8 u16 major, u16 minor   12 u32 salt   16 collection uuid 16
 *   32 u64 file number   40 u64 first lsn   48 u32 flags   52 u64 0   60 u32 crc32c of 0..59
 * Frame header, 32 bytes, then the payload padded with zeros to 8
 *   0 u32 crc32c of bytes 4..31 and the payload, seeded with the salt
 *   4 u32 payload length (1..1 MiB; 0 marks the end: the preallocated tail is zeros)
 *   8 u64 lsn   16 u64 synced_lsn (newest lsn known durable when the record was written)
 *   24 u32 salt; in MIDDLE and LAST the crc of the record's frame before, so that no mixture of
 *   two records passes for one   28 u8 type (1 FULL 2 FIRST 3 MIDDLE 4 LAST 5 CLOSE; 6 PREPARE
 *   7 COMMIT reserved for transactions)   29 u8 flags (0)   30 u16 0
 * A record is the payload of one FULL frame, or those of FIRST, MIDDLE*, LAST put together; it
 * is visible only when its last frame is valid.  CLOSE has eight zeros as payload, the lsn of the
 * last record (first lsn - 1 when there is none) and the same as synced_lsn; nothing follows it,
 * but a log that is written again goes on in its place.
 *
 * Tail rule.  The log ends at the first frame that is bad: invalid, or not the one whose turn it
 * is.  When a later valid frame has synced_lsn >= the lsn that was expected there, that place had
 * been durable: the file is damaged, VEX_ERR_CORRUPT.  Otherwise the tail is torn by a crash and
 * the log simply ends there.  A bad frame in a log that is not the newest is always damage,
 * because rotation syncs the old log first.
 *
 * Group commit: appends are serialised by the caller; any number of threads then call
 * vex_wal_sync_to() and share one fdatasync.
 */
#ifndef VEX_WAL_WAL_H
#define VEX_WAL_WAL_H

#include "base/mem.h"
#include "io/vfs.h"

#define VEX_WAL_NAME_MAX 32
void vex_wal_name(char out[VEX_WAL_NAME_MAX], uint64_t number);       /* "wal-0000000001"         */
bool vex_wal_parse_name(const char *name, uint64_t *number);

/* ---- writing ---- */
typedef struct vex_wal_writer vex_wal_writer;

/* New log file, its header durable (file and directory synced) unless !sync; it appears whole or
 * not at all.  VEX_ERR_EXISTS when there is a log of that number that holds something; an empty
 * one (left by an attempt that failed) is replaced. */
vex_status vex_wal_create(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t number,
                          uint64_t first_lsn, bool sync, vex_wal_writer **out);

/* Go on at `offset` of a log whose frames up to there were read and found valid, the last one
 * being `last_lsn`, and whose tail beyond is known to hold nothing but perhaps a CLOSE frame (so
 * not after a crash, unless the caller cut it).  synced_lsn: the newest lsn that is durable for
 * certain, 0 when not known; a wrong one makes a later crash look like damage. */
vex_status vex_wal_resume(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t number,
                          uint64_t offset, uint64_t last_lsn, uint64_t synced_lsn,
                          vex_wal_writer **out);

/* Append one record of 1 byte to VEX_WAL_RECORD_MAX made of `parts` (streamed, never copied).
 * Not synced yet.  `lsn` must be the next.  On NO_SPACE or another failure the file is cut back
 * to its last whole record and the writer stays usable; when even that fails, it is poisoned:
 * VEX_ERR_POISONED from this and every later call. */
#define VEX_WAL_RECORD_MAX ((uint64_t)4 << 30)
vex_status vex_wal_append(vex_wal_writer *writer, uint64_t lsn, const vex_iovec *parts,
                          uint32_t n_parts);

/* Have space reserved for a record of `len` bytes and `spare` more behind it, so that later records,
 * up to that, find room on a full disk.  VEX_ERR_NO_SPACE when it is not to be had; nothing changed
 * then.  Where a file system cannot reserve, this promises nothing. */
vex_status vex_wal_make_room(vex_wal_writer *writer, uint64_t len, uint64_t spare);

/* The end of a log without records. */
#define VEX_WAL_EMPTY_END ((uint64_t)64)

/* Offset behind the last appended record, and its lsn. */
uint64_t vex_wal_end(const vex_wal_writer *writer);
uint64_t vex_wal_number(const vex_wal_writer *writer);

/* Return once everything up to `offset` is on stable storage; concurrent callers share syncs.
 * A failed sync poisons the writer for good (the page cache can no longer be trusted). */
vex_status vex_wal_sync_to(vex_wal_writer *writer, uint64_t offset);
uint64_t vex_wal_synced_end(const vex_wal_writer *writer);

/* Sync, then write a CLOSE frame (a witness that all before it is durable), give back the
 * preallocated tail and sync again.  The end stays in front of the frame: appending after all
 * (when the next log could not be made) overwrites it. */
vex_status vex_wal_seal(vex_wal_writer *writer);
void vex_wal_writer_close(vex_wal_writer *writer); /* NULL is fine; no implied sync */

/* ---- reading ---- */
typedef struct vex_wal_reader vex_wal_reader;

typedef enum vex_wal_step {
    VEX_WAL_RECORD,   /* one record delivered                                                     */
    VEX_WAL_END,      /* nothing more (yet)                                                       */
    VEX_WAL_TORN      /* bad bytes at vex_wal_reader_offset(): torn tail by the rule above        */
} vex_wal_step;

/* VEX_ERR_CORRUPT when the header is bad, VEX_ERR_VERSION when it is from the future,
 * VEX_ERR_NOT_FOUND when there is no such file. */
vex_status vex_wal_reader_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                               uint64_t number, vex_wal_reader **out);

/* Go on at `offset`, the end of a record (last_lsn) that was read or written before. */
vex_status vex_wal_reader_seek(vex_wal_reader *reader, uint64_t offset, uint64_t last_lsn);

/* What a record holds, aligned to 8: the reader's memory, until its next call. */
typedef struct vex_wal_body {
    const uint8_t *data;
    size_t len;
} vex_wal_body;

/* Deliver the next record that ends at or before `limit` (UINT64_MAX: no limit); bytes behind
 * `limit` are not used.  After END or TORN the call may be repeated later:
 * the file may have grown.  A writer may be at work in another process: what it has not wholly
 * written is END or TORN.  VEX_ERR_CORRUPT: damage by the rule above; VEX_ERR_VERSION: a valid
 * frame of a later release. */
vex_status vex_wal_reader_next(vex_wal_reader *reader, uint64_t limit, vex_wal_step *step,
                               vex_wal_body *body, uint64_t *lsn);
/* What lies behind `offset`, the end of record last_lsn?  *sealed: a CLOSE frame, and with it the file
 * ends (so all before it is durable, and nothing was added of which a power failure may have left any
 * part); *clean: that or nothing at all.  Cheap: one read. */
vex_status vex_wal_check_end(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             uint64_t number, uint64_t offset, uint64_t last_lsn, bool *clean,
                             bool *sealed);

const char *vex_wal_reader_path(const vex_wal_reader *reader);
uint64_t vex_wal_reader_offset(const vex_wal_reader *reader);    /* behind the last record        */
uint64_t vex_wal_reader_last_lsn(const vex_wal_reader *reader);  /* 0 when none yet               */
uint64_t vex_wal_reader_synced_lsn(const vex_wal_reader *reader);/* greatest witness seen         */
bool vex_wal_reader_sealed(const vex_wal_reader *reader);        /* ended by a CLOSE frame        */
void vex_wal_reader_close(vex_wal_reader *reader);

/* ---- salvaging ---- */

/* Everything whole in a log that may be damaged. */
typedef struct vex_wal_found {
    uint64_t lsn;
    vex_buf body;
} vex_wal_found;

/* A damaged place: from here to where the next whole record begins, or to the end.  The batches from
 * lsn_from up to, not including, lsn_to were there; lsn_to 0: nobody knows how many. */
typedef struct vex_wal_gap {
    uint64_t offset, lsn_from, lsn_to;
} vex_wal_gap;

typedef struct vex_wal_survey {
    vex_wal_found *records;
    size_t n_records, records_capacity;
    vex_wal_gap *gaps;
    size_t n_gaps, gaps_capacity;
    uint64_t bytes;            /* read                                                            */
    bool header_damaged;
} vex_wal_survey;

/* Read all of a log, beyond damaged places, too.  `newest`: it may end torn (the tail rule); an older
 * one may not.  A log whose header is lost is read by the salt that its frames carry.
 * VEX_ERR_VERSION, VEX_ERR_NOT_FOUND, VEX_ERR_NO_MEMORY. */
vex_status vex_wal_salvage(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t number,
                           bool newest, vex_wal_survey *out);
/* The uuid in the header of a log; `uuid` stays as it is where the header is damaged. */
vex_status vex_wal_owner(vex_vfs *vfs, const char *dir, uint64_t number, uint8_t uuid[16]);
void vex_wal_survey_clear(vex_wal_survey *survey);

#endif
