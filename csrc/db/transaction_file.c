/*
 * transaction_file.c - the file of a transaction that has happened, and carrying it out after its writer
 * died.
 *
 * Header, 64 B (little-endian): magic 8 "VXTX\r\n\x1a\n"  u16 major, u16 minor  u32 n parts
 *   database uuid 16  u64 length of the file  u32 crc32c of all behind the header  16 B 0
 *   u32 crc32c of 0..59
 * Parts, each 8-aligned: collection uuid 16, u64 lsn, u64 length, then the encoded batch (store/batch.h)
 *   padded with zeros.
 *
 * It is written beside its place, synced and renamed, so it is whole or not there.  A part whose lsn its
 * log has reached is done; one whose collection is gone was done before that.
 */
#include "db/transaction.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include "base/poison.h"

#define HEADER_BYTES 64u
#define PART_BYTES 32u
#define AT_MAJOR 8
#define AT_MINOR 10
#define AT_PARTS 12
#define AT_DATABASE 16
#define AT_LENGTH 32
#define AT_BODY_CRC 40
#define AT_CRC 60

static const uint8_t magic[8] = {'V', 'X', 'T', 'X', '\r', '\n', 0x1a, '\n'};

/* ---- writing ---- */

static vex_status append_share(vex_buf *out, const vex_share *share) {
    const vex_change *change = &share->change;
    uint8_t head[PART_BYTES] = {0};
    memcpy(head, share->collection->uuid, 16);
    vex_put64(head + 16, change->lsn);
    vex_put64(head + 24, vex_change_bytes(change));
    VEX_TRY(vex_buf_append(out, head, sizeof head));
    for (uint32_t i = 0; i < change->n_parts; i++) {
        VEX_TRY(vex_buf_append(out, change->parts[i].data, change->parts[i].len));
    }
    return vex_buf_append_zeros(out, (size_t)(vex_align_up(out->len, 8) - out->len));
}

static vex_status encode(const vex_db *db, const vex_share *shares, uint32_t n, vex_buf *out) {
    VEX_TRY(vex_buf_append_zeros(out, HEADER_BYTES));
    for (uint32_t i = 0; i < n; i++) {
        VEX_TRY(append_share(out, &shares[i]));
    }
    uint8_t *head = out->data;
    memcpy(head, magic, sizeof magic);
    vex_put16(head + AT_MAJOR, VEX_FORMAT_MAJOR);
    vex_put16(head + AT_MINOR, VEX_FORMAT_MINOR);
    vex_put32(head + AT_PARTS, n);
    memcpy(head + AT_DATABASE, db->uuid, sizeof db->uuid);
    vex_put64(head + AT_LENGTH, out->len);
    vex_put32(head + AT_BODY_CRC, vex_crc32c(0, head + HEADER_BYTES, out->len - HEADER_BYTES));
    vex_put32(head + AT_CRC, vex_crc32c(0, head, AT_CRC));
    return VEX_OK;
}

vex_status vex_transaction_store(vex_db *db, const vex_share *shares, uint32_t n) {
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    vex_buf file = {0};
    VEX_TRY(vex_path_join(path, db->path, VEX_TRANSACTION_NAME));
    vex_status status = db->vfs->path_stat(db->vfs, path, &stat);
    if (status != VEX_ERR_NOT_FOUND) {
        VEX_TRY(status);
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, 0, 0,
                           "a transaction is under way that cannot be carried out, because one of "
                           "its collections is damaged; run vexctl repair");
    }
    status = encode(db, shares, n, &file);
    if (status == VEX_OK) {
        status = vex_file_write_atomic(db->vfs, db->path, VEX_TRANSACTION_NAME, file.data, file.len,
                                       vex_db_syncs(db));
    }
    vex_buf_clear(&file);
    return status;
}

vex_status vex_transaction_remove(vex_db *db) {
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, db->path, VEX_TRANSACTION_NAME));
    return db->vfs->path_remove(db->vfs, path);
}

/* ---- reading ---- */

typedef struct stored {
    char path[VEX_PATH_MAX];
    vex_buf file;
    uint32_t n_parts;
} stored;

static vex_status damaged(const stored *s, const char *what) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, s->path, 0, 0,
                       "the transaction that was under way is damaged: %s; run vexctl repair",
                       what);
}

/* All of it: of one that another process replaces meanwhile, too. */
static vex_status read_file(vex_vfs *vfs, vex_file *file, stored *out) {
    vex_file_stat stat;
    VEX_TRY(vfs->file_stat(vfs, file, &stat));
    if (stat.size < HEADER_BYTES || stat.size % 8 != 0 || stat.size > SIZE_MAX / 2) {
        return damaged(out, "it ends too early");
    }
    VEX_TRY(vex_buf_reserve(&out->file, (size_t)stat.size));
    VEX_TRY(vex_file_read_exact(vfs, file, out->path, out->file.data, (size_t)stat.size, 0));
    out->file.len = (size_t)stat.size;
    return VEX_OK;
}

static vex_status check_file(const uint8_t database[16], stored *s) {
    const uint8_t *head = s->file.data;
    if (memcmp(head, magic, sizeof magic) != 0 ||
        vex_get32(head + AT_CRC) != vex_crc32c(0, head, AT_CRC)) {
        return damaged(s, "wrong checksum of its header");
    }
    if (vex_get16(head + AT_MAJOR) != VEX_FORMAT_MAJOR) {
        return VEX_FAIL_AT(VEX_ERR_VERSION, s->path, AT_MAJOR, 0,
                           "the transaction is of format %u, this release reads %d: upgrade "
                           "vexfs_chroma",
                           vex_get16(head + AT_MAJOR), VEX_FORMAT_MAJOR);
    }
    if (vex_get64(head + AT_LENGTH) != s->file.len ||
        vex_get32(head + AT_BODY_CRC) !=
            vex_crc32c(0, head + HEADER_BYTES, s->file.len - HEADER_BYTES)) {
        return damaged(s, "wrong checksum");
    }
    if (memcmp(head + AT_DATABASE, database, 16) != 0) {
        return VEX_FAIL_AT(VEX_ERR_FOREIGN, s->path, AT_DATABASE, 0,
                           "a transaction of another database; remove the file");
    }
    s->n_parts = vex_get32(head + AT_PARTS);
    return VEX_OK;
}

/* The error just recorded, which names no file when it is about a batch. */
static vex_status about_batch(const stored *s, vex_status status) {
    const vex_error error = *vex_last_error();
    if (error.path[0] != '\0') {
        return status;
    }
    return status == VEX_ERR_CORRUPT   ? damaged(s, error.message)
           : status == VEX_ERR_VERSION ? VEX_FAIL_AT(status, s->path, 0, 0, "%s", error.message)
                                       : status;
}

typedef struct stored_part {
    const uint8_t *uuid, *body;
    uint64_t lsn, len;
} stored_part;

/* The part at *at, which then is behind it. */
static vex_status next_part(const stored *s, size_t *at, stored_part *out) {
    const uint8_t *part = s->file.data + *at;
    if (s->file.len - *at < PART_BYTES || vex_get64(part + 24) > s->file.len - *at - PART_BYTES) {
        return damaged(s, "a part lies outside");
    }
    *out = (stored_part){part, part + PART_BYTES, vex_get64(part + 16), vex_get64(part + 24)};
    *at += PART_BYTES + (size_t)vex_align_up(out->len, 8);
    return VEX_OK;
}

/* Before the first part is carried out, so that it is not the only one. */
static vex_status check_parts(const stored *s) {
    size_t at = HEADER_BYTES;
    for (uint32_t i = 0; i < s->n_parts; i++) {
        stored_part part = {0};
        vex_batch batch = {0};
        VEX_TRY(next_part(s, &at, &part));
        vex_status status = vex_batch_decode(part.body, (size_t)part.len, &batch);
        vex_batch_clear(&batch);
        if (status != VEX_OK) {
            return about_batch(s, status);
        }
    }
    return VEX_OK;
}

/* *there: there is one.  `s` is to be cleared whatever is returned. */
static vex_status read_stored(vex_vfs *vfs, const char *path, const uint8_t database[16], stored *s,
                              bool *there) {
    vex_file *file = NULL;
    VEX_TRY(vex_path_join(s->path, path, VEX_TRANSACTION_NAME));
    vex_status status = vfs->file_open(vfs, s->path, VEX_FILE_READ, &file);
    *there = status != VEX_ERR_NOT_FOUND;
    if (status != VEX_OK) {
        return *there ? status : VEX_OK;
    }
    status = read_file(vfs, file, s);
    vfs->file_close(vfs, file);
    if (status == VEX_OK) {
        status = check_file(database, s);
    }
    return status == VEX_OK ? check_parts(s) : status;
}

vex_status vex_check_transaction(const char *path, const uint8_t *database, uint32_t *there) {
    stored s = {0};
    bool found = false;
    const vex_status status = read_stored(vex_db_files(), path, database, &s, &found);
    vex_buf_clear(&s.file);
    *there = found;
    return status;
}

/* ---- carrying out ---- */

static vex_status log_change(vex_collection *collection, vex_change *change) {
    VEX_TRY(vex_change_log(collection, change));
    vex_change_adopt(collection, change);
    return vex_db_syncs(collection->db)
               ? vex_wal_sync_to(collection->wal, collection->known.wal_end)
               : VEX_OK;
}

/* As another process would: whoever has the collection open, here too, follows by its head. */
static vex_status append_batch(vex_collection *collection, vex_batch *batch, uint64_t lsn,
                               const stored *s) {
    VEX_TRY(vex_collection_take_over(collection));
    if (collection->latest->lsn >= lsn) {
        return VEX_OK;
    }
    if (collection->latest->lsn + 1 != lsn) { /* in durability off, a power failure may do that */
        return vex_db_syncs(collection->db) ? damaged(s, "a log lacks batches before it") : VEX_OK;
    }
    vex_change change = {.batch = *batch};
    *batch = (vex_batch){0};
    vex_status status = vex_change_prepare(collection, &change);
    if (status == VEX_OK) {
        status = log_change(collection, &change);
        if (status != VEX_OK) {
            vex_collection_sync_failed(collection);
        }
    }
    vex_change_clear(&change);
    return status == VEX_OK ? vex_publish(collection, collection->latest, &collection->known)
                            : status;
}

static vex_status carry_out(vex_db *db, const stored *s, const stored_part *part) {
    vex_collection *collection = NULL;
    vex_batch batch = {0};
    vex_status status = vex_collection_make(db, part->uuid, &collection);
    if (status == VEX_ERR_NOT_FOUND) {
        return VEX_OK;
    }
    VEX_TRY(status);
    status = vex_batch_decode(part->body, (size_t)part->len, &batch);
    if (status == VEX_OK) {
        pthread_mutex_lock(&collection->write_mu);
        status = append_batch(collection, &batch, part->lsn, s);
        pthread_mutex_unlock(&collection->write_mu);
    }
    vex_batch_clear(&batch);
    vex_collection_free(collection);
    return status == VEX_OK ? VEX_OK : about_batch(s, status);
}

/* *left: a collection is damaged.  Nobody can write it, so its part waits for a repair, or for nobody
 * when it is deleted; the others need not. */
static vex_status carry_out_all(vex_db *db, const stored *s, bool *left) {
    size_t at = HEADER_BYTES;
    for (uint32_t i = 0; i < s->n_parts; i++) {
        stored_part part = {0};
        VEX_TRY(next_part(s, &at, &part));
        vex_status status = carry_out(db, s, &part);
        if (status == VEX_ERR_CORRUPT && strcmp(vex_last_error()->path, s->path) != 0) {
            *left = true;
        } else if (status != VEX_OK) {
            return status;
        }
    }
    return VEX_OK;
}

/* Its writer may have died before the file, or its name, was on the disk. */
static vex_status sync_file(vex_db *db, const char *path) {
    vex_file *file = NULL;
    VEX_TRY(db->vfs->file_open(db->vfs, path, VEX_FILE_WRITE, &file));
    vex_status status = db->vfs->file_sync(db->vfs, file);
    db->vfs->file_close(db->vfs, file);
    return status == VEX_OK ? db->vfs->dir_sync(db->vfs, db->path) : status;
}

vex_status vex_transaction_finish(vex_db *db) {
    static const uint8_t unknown[sizeof db->uuid];
    stored s = {0};
    bool there = false, left = false;
    if (memcmp(db->uuid, unknown, sizeof unknown) == 0) {
        return VEX_OK; /* the database is just being made, or opened */
    }
    vex_status status = read_stored(db->vfs, db->path, db->uuid, &s, &there);
    if (status == VEX_OK && there && vex_db_syncs(db)) {
        status = sync_file(db, s.path);
    }
    if (status == VEX_OK && there) {
        status = carry_out_all(db, &s, &left);
    }
    vex_buf_clear(&s.file);
    return status == VEX_OK && there && !left ? vex_transaction_remove(db) : status;
}
