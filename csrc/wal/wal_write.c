/*
 * wal_write.c - appending to a log and group commit (wal.h).
 *
 * One thread at a time appends; `mu` is only for what syncing threads share with it.  The first
 * thread that needs a sync leads: it notes the end, syncs without the lock, and wakes everybody.
 * Who came meanwhile and is not covered leads the next one.
 */
#include "wal/wal_format.h"

#include "base/clock.h"
#include "base/crc32c.h"

#include <stdatomic.h>

#include "base/poison.h"

/* Space is reserved ahead, so that a sync of a small record need not sync a new file size. */
#define RESERVE_MIN ((uint64_t)64 << 10)
#define RESERVE_MAX ((uint64_t)4 << 20)
#define RESERVE_SHARE 64u /* of the free space, at most */

struct vex_wal_writer {
    vex_vfs *vfs;
    vex_file *file;
    vex_wal_header header;
    uint64_t reserved; /* offset up to which space was reserved                           */
    uint64_t reserve_step;
    pthread_mutex_t mu; /* guards the rest; only the appending thread changes end, last_lsn */
    pthread_cond_t synced;
    _Atomic uint64_t end;
    _Atomic uint64_t synced_end;
    uint64_t last_lsn;
    _Atomic uint64_t synced_lsn;
    bool syncing;
    _Atomic bool poisoned;
    char path[];
};

static vex_status poisoned(const vex_wal_writer *w) {
    return VEX_FAIL_AT(VEX_ERR_POISONED, w->path, 0, 0,
                       "an earlier write to the log failed half-way; reopen the database");
}

/* ---- opening ---- */

static vex_status new_writer(vex_vfs *vfs, const char *path, vex_wal_writer **out) {
    size_t path_bytes = strlen(path) + 1;
    vex_wal_writer *w = vex_calloc(1, sizeof *w + path_bytes);
    if (w == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot open a log");
    }
    memcpy(w->path, path, path_bytes);
    w->vfs = vfs;
    w->reserve_step = RESERVE_MIN;
    pthread_mutex_init(&w->mu, NULL);
    pthread_cond_init(&w->synced, NULL);
    *out = w;
    return VEX_OK;
}

void vex_wal_writer_close(vex_wal_writer *writer) {
    if (writer != NULL) {
        writer->vfs->file_close(writer->vfs, writer->file);
        pthread_cond_destroy(&writer->synced);
        pthread_mutex_destroy(&writer->mu);
        vex_free(writer);
    }
}

/* VEX_ERR_EXISTS when the log `path` is there and has a frame. */
static vex_status check_replaceable(vex_vfs *vfs, const char *path) {
    static const uint8_t zeros[FRAME_BYTES];
    uint8_t frame[FRAME_BYTES] = {0};
    vex_file *file = NULL;
    size_t got = 0;
    vex_status status = vfs->file_open(vfs, path, VEX_FILE_READ, &file);
    if (status != VEX_OK) {
        return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
    }
    status = vfs->file_read(vfs, file, frame, sizeof frame, HEADER_BYTES, &got);
    vfs->file_close(vfs, file);
    if (status == VEX_OK && memcmp(frame, zeros, sizeof frame) != 0) {
        status = VEX_FAIL_AT(VEX_ERR_EXISTS, path, HEADER_BYTES, 0,
                             "there is a log of this number; reopen the database");
    }
    return status;
}

/* Remove a file whose creation failed, keeping the reason. */
static void remove_quietly(vex_vfs *vfs, const char *path) {
    vex_error kept = *vex_last_error();
    vfs->path_remove(vfs, path);
    vex_fail_at(kept.code, kept.path, kept.offset, kept.sys_errno, "%s", kept.message);
}

/* How much to reserve ahead: less where the disk is short of space. */
static uint64_t reserve_step(const vex_wal_writer *w) {
    vex_disk_space space;
    bool short_of = w->vfs->disk_space(w->vfs, w->path, &space) == VEX_OK &&
                    space.left / RESERVE_SHARE < w->reserve_step;
    return short_of ? RESERVE_MIN : w->reserve_step;
}

static vex_status reserve_to(vex_wal_writer *w, uint64_t target) {
    VEX_TRY(w->vfs->file_allocate(w->vfs, w->file, w->reserved, target - w->reserved));
    w->reserved = target;
    return VEX_OK;
}

/* Reserve space for `bytes` more, and rather some more than that.  A failure changes nothing, and need
 * not be one of the write. */
static vex_status reserve(vex_wal_writer *w, uint64_t bytes) {
    uint64_t needed = atomic_load(&w->end) + bytes, before = w->reserved;
    if (needed <= before) {
        return VEX_OK;
    }
    uint64_t target = before + reserve_step(w);
    target = vex_align_up(target > needed ? target : needed, 4096);
    if (reserve_to(w, target) == VEX_OK) {
        w->reserve_step = w->reserve_step < RESERVE_MAX ? w->reserve_step * 2 : RESERVE_MAX;
        return VEX_OK;
    }
    w->reserve_step = RESERVE_MIN;
    vex_status status = reserve_to(w, needed);
    if (status != VEX_OK) { /* some file systems have taken what there was */
        const vex_error cause = *vex_last_error();
        const uint64_t end = atomic_load(&w->end); /* what was written without room reserved */
        (void)w->vfs->file_truncate(w->vfs, w->file, before > end ? before : end);
        status = vex_fail_at(cause.code, cause.path, 0, cause.sys_errno, "%s", cause.message);
    }
    return status;
}

static vex_status write_new(vex_wal_writer *w, const uint8_t uuid[16], const char *temporary,
                            const char *dir, bool sync) {
    uint8_t header[HEADER_BYTES];
    vex_vfs *vfs = w->vfs;
    VEX_TRY(vfs->file_open(vfs, temporary, VEX_FILE_CREATE, &w->file));
    VEX_TRY(vfs->file_truncate(vfs, w->file, 0)); /* left by a crash */
    VEX_TRY(vfs->random_bytes(vfs, &w->header.salt, sizeof w->header.salt));
    w->header.salt += w->header.salt == 0;
    vex_wal_header_encode(&w->header, uuid, header);
    const vex_iovec part = {header, sizeof header};
    VEX_TRY(vfs->file_write(vfs, w->file, &part, 1, 0));
    w->reserved = HEADER_BYTES;
    w->end = HEADER_BYTES;
    w->synced_end = HEADER_BYTES;
    if (sync) {
        VEX_TRY(vfs->file_sync(vfs, w->file));
    }
    VEX_TRY(vfs->path_rename(vfs, temporary, w->path));
    vex_status status = sync ? vfs->dir_sync(vfs, dir) : VEX_OK;
    if (status == VEX_OK) {
        return VEX_OK;
    }
    /* The log before must not be written further while this one may come back. */
    const vex_error cause = *vex_last_error();
    remove_quietly(vfs, w->path);
    return vex_fail_at(vfs->dir_sync(vfs, dir) == VEX_OK ? status : VEX_ERR_POISONED, cause.path,
                       cause.offset, cause.sys_errno, "%s", cause.message);
}

static vex_status no_lsn_left(void) {
    return VEX_FAIL(VEX_ERR_TOO_BIG,
                    "no log sequence number is left; restore the collection from a "
                    "backup");
}

vex_status vex_wal_create(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t number,
                          uint64_t first_lsn, bool sync, vex_wal_writer **out) {
    char path[VEX_PATH_MAX], temporary[VEX_PATH_MAX], name[VEX_WAL_NAME_MAX + 4];
    vex_wal_writer *w = NULL;
    if (first_lsn == 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "a log cannot begin at lsn 0");
    }
    if (first_lsn >= VEX_COUNTER_END) {
        return no_lsn_left();
    }
    vex_wal_name(name, number);
    VEX_TRY(vex_path_join(path, dir, name));
    strcat(name, ".tmp");
    VEX_TRY(vex_path_join(temporary, dir, name));
    VEX_TRY(check_replaceable(vfs, path));
    VEX_TRY(new_writer(vfs, path, &w));
    w->header = (vex_wal_header){.number = number, .first_lsn = first_lsn};
    w->last_lsn = first_lsn - 1;
    w->synced_lsn = first_lsn - 1;
    vex_status status = write_new(w, uuid, temporary, dir, sync);
    if (status != VEX_OK) {
        if (w->file != NULL) {
            remove_quietly(vfs, temporary);
        }
        vex_wal_writer_close(w);
        return status;
    }
    *out = w;
    return VEX_OK;
}

vex_status vex_wal_resume(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t number,
                          uint64_t offset, uint64_t last_lsn, uint64_t synced_lsn,
                          vex_wal_writer **out) {
    char path[VEX_PATH_MAX];
    vex_wal_writer *w = NULL;
    vex_file_stat stat = {0};
    vex_status status;
    VEX_TRY(vex_wal_path(path, dir, number));
    VEX_TRY(new_writer(vfs, path, &w));
    VEX_TRY_DONE(status, vfs->file_open(vfs, path, VEX_FILE_WRITE, &w->file));
    VEX_TRY_DONE(status, vex_wal_header_read(vfs, w->file, path, uuid, number, &w->header));
    VEX_TRY_DONE(status, vfs->file_stat(vfs, w->file, &stat));
    if (offset < HEADER_BYTES || offset % 8 != 0 || offset > stat.size ||
        last_lsn < w->header.first_lsn - 1 ||
        (offset == HEADER_BYTES) != (last_lsn == w->header.first_lsn - 1)) {
        VEX_TRY_DONE(status, VEX_FAIL_AT(VEX_ERR_CORRUPT, path, offset, 0,
                                         "the log cannot go on here with lsn %llu: it begins "
                                         "with %llu and has %llu bytes",
                                         (unsigned long long)last_lsn + 1,
                                         (unsigned long long)w->header.first_lsn,
                                         (unsigned long long)stat.size));
    }
    w->end = offset;
    w->reserved = stat.size;
    w->last_lsn = last_lsn;
    w->synced_lsn = synced_lsn < last_lsn ? synced_lsn : last_lsn;
    w->synced_end = synced_lsn >= last_lsn ? offset : HEADER_BYTES;
    *out = w;
    return VEX_OK;
done:
    vex_wal_writer_close(w);
    return status;
}

uint64_t vex_wal_end(const vex_wal_writer *writer) {
    return atomic_load(&writer->end);
}

uint64_t vex_wal_number(const vex_wal_writer *writer) {
    return writer->header.number;
}

uint64_t vex_wal_synced_end(const vex_wal_writer *writer) {
    return atomic_load(&writer->synced_end);
}

/* ---- appending ---- */

/* What is left of a record: `skip` bytes of parts[0] are in frames already. */
typedef struct record_rest {
    const vex_iovec *parts;
    size_t skip;
    uint64_t len;
    uint64_t lsn, synced_lsn;
    uint32_t previous_crc; /* of the frame before                                             */
    bool begun;
} record_rest;

/* Some frames, for one file_write.  A frame needs three entries: header, bytes, padding. */
#define GROUP_PARTS 64
#define GROUP_FRAMES 8
typedef struct frame_group {
    vex_iovec parts[GROUP_PARTS];
    uint8_t headers[GROUP_FRAMES][FRAME_BYTES];
    uint32_t n_parts, n_frames;
    uint64_t bytes;
} frame_group;

static bool has_room(const frame_group *group) {
    return group->n_frames < GROUP_FRAMES && group->n_parts + 3 <= GROUP_PARTS;
}

static void take_slice(record_rest *rest, frame_group *group, size_t *payload) {
    size_t len = rest->parts->len - rest->skip;
    if (len > PAYLOAD_MAX - *payload) {
        len = PAYLOAD_MAX - *payload;
    }
    if (len > 0) {
        group->parts[group->n_parts++] =
            (vex_iovec){(const uint8_t *)rest->parts->data + rest->skip, len};
    }
    *payload += len;
    rest->len -= len;
    rest->skip += len;
    if (rest->skip == rest->parts->len) {
        rest->parts++;
        rest->skip = 0;
    }
}

static uint8_t type_of(bool begun, bool ends) {
    if (begun) {
        return ends ? FRAME_LAST : FRAME_MIDDLE;
    }
    return ends ? FRAME_FULL : FRAME_FIRST;
}

static void add_frame(const vex_wal_writer *w, frame_group *group, record_rest *rest) {
    static const uint8_t zeros[8];
    uint8_t *header = group->headers[group->n_frames++];
    uint32_t at = group->n_parts;
    size_t payload = 0;
    group->parts[group->n_parts++] = (vex_iovec){header, FRAME_BYTES};
    while (rest->len > 0 && payload < PAYLOAD_MAX && group->n_parts < GROUP_PARTS - 1) {
        take_slice(rest, group, &payload);
    }
    memset(header, 0, FRAME_BYTES);
    vex_put32(header + AT_LEN, (uint32_t)payload);
    vex_put64(header + AT_LSN, rest->lsn);
    vex_put64(header + AT_SYNCED_LSN, rest->synced_lsn);
    vex_put32(header + AT_LINK, rest->begun ? rest->previous_crc : w->header.salt);
    header[AT_TYPE] = type_of(rest->begun, rest->len == 0);
    uint32_t crc = vex_crc32c(w->header.salt, header + AT_LEN, FRAME_BYTES - AT_LEN);
    while (++at < group->n_parts) {
        crc = vex_crc32c(crc, group->parts[at].data, group->parts[at].len);
    }
    vex_put32(header + AT_CRC, crc);
    rest->previous_crc = crc;
    rest->begun = true;
    size_t padding = (size_t)(frame_size(payload) - FRAME_BYTES) - payload;
    if (padding > 0) {
        group->parts[group->n_parts++] = (vex_iovec){zeros, padding};
    }
    group->bytes += frame_size(payload);
}

static vex_status write_frames(vex_wal_writer *w, record_rest *rest, uint64_t *end) {
    while (rest->len > 0) {
        frame_group group;
        group.n_parts = group.n_frames = 0;
        group.bytes = 0;
        while (rest->len > 0 && has_room(&group)) {
            add_frame(w, &group, rest);
        }
        VEX_TRY(w->vfs->file_write(w->vfs, w->file, group.parts, group.n_parts, *end));
        *end += group.bytes;
    }
    return VEX_OK;
}

/* Cut what a failed write left behind the last record.  Returns `failure`. */
static vex_status cut_back(vex_wal_writer *w, vex_status failure) {
    vex_error cause = *vex_last_error();
    uint64_t end = atomic_load(&w->end);
    if (w->vfs->file_truncate(w->vfs, w->file, end) != VEX_OK) {
        atomic_store(&w->poisoned, true);
        return VEX_FAIL_AT(VEX_ERR_POISONED, w->path, end, cause.sys_errno,
                           "a write failed (%s) and could not be taken back; reopen the database",
                           cause.message);
    }
    uint64_t before = w->reserved;
    w->reserved = end;
    if (before > end) { /* deleting must still find room */
        (void)reserve_to(w, before);
    }
    return vex_fail_at(failure, cause.path, cause.offset, cause.sys_errno, "%s", cause.message);
}

/* What a record of `len` bytes takes, or a little less than that. */
static uint64_t record_size(uint64_t len) {
    return frame_size(len) + len / PAYLOAD_MAX * FRAME_BYTES;
}

vex_status vex_wal_make_room(vex_wal_writer *writer, uint64_t len, uint64_t spare) {
    vex_status status = len > VEX_WAL_RECORD_MAX ? VEX_OK /* append tells */
                                                 : reserve(writer, record_size(len) + spare);
    return status == VEX_ERR_NO_SPACE ? status : VEX_OK;
}

vex_status vex_wal_append(vex_wal_writer *writer, uint64_t lsn, const vex_iovec *parts,
                          uint32_t n_parts) {
    record_rest rest = {.parts = parts, .lsn = lsn, .synced_lsn = atomic_load(&writer->synced_lsn)};
    for (uint32_t i = 0; i < n_parts; i++) {
        if (__builtin_add_overflow(rest.len, parts[i].len, &rest.len) ||
            rest.len > VEX_WAL_RECORD_MAX) {
            return VEX_FAIL(VEX_ERR_TOO_BIG, "a batch holds at most 4 GiB; write smaller ones");
        }
    }
    if (rest.len == 0 || lsn != writer->last_lsn + 1) {
        return VEX_FAIL(VEX_ERR_INVALID, "record %llu of %llu bytes after record %llu",
                        (unsigned long long)lsn, (unsigned long long)rest.len,
                        (unsigned long long)writer->last_lsn);
    }
    if (lsn >= VEX_COUNTER_END - 1) { /* the next log begins with the next one */
        return no_lsn_left();
    }
    if (atomic_load(&writer->poisoned)) {
        return poisoned(writer);
    }
    uint64_t start = atomic_load(&writer->end), end = start;
    (void)reserve(writer, record_size(rest.len));
    vex_status status = write_frames(writer, &rest, &end);
    if (status != VEX_OK) {
        return cut_back(writer, status);
    }
    pthread_mutex_lock(&writer->mu);
    writer->reserved = writer->reserved > end ? writer->reserved : end;
    atomic_store(&writer->end, end);
    writer->last_lsn = lsn;
    pthread_mutex_unlock(&writer->mu);
    vex_stat_add(VEX_STAT_WAL_BYTES, (int64_t)(end - start));
    return VEX_OK;
}

/* ---- syncing ---- */

/* Under `mu`, which it leaves meanwhile: sync all that is appended. */
static vex_status lead(vex_wal_writer *w) {
    uint64_t end = atomic_load(&w->end), lsn = w->last_lsn;
    w->syncing = true;
    pthread_mutex_unlock(&w->mu);
    const uint64_t began_us = vex_now_us();
    vex_status status = w->vfs->file_sync_data(w->vfs, w->file);
    vex_stat_add(VEX_STAT_WAL_SYNC_US, (int64_t)(vex_now_us() - began_us));
    vex_stat_add(VEX_STAT_WAL_SYNCS, 1);
    pthread_mutex_lock(&w->mu);
    w->syncing = false;
    if (status == VEX_OK) {
        atomic_store(&w->synced_end, end);
        atomic_store(&w->synced_lsn, lsn);
    } else {
        atomic_store(&w->poisoned, true);
    }
    pthread_cond_broadcast(&w->synced);
    return status;
}

vex_status vex_wal_sync_to(vex_wal_writer *writer, uint64_t offset) {
    vex_status status = VEX_OK;
    if (offset <= atomic_load(&writer->synced_end)) {
        return VEX_OK;
    }
    pthread_mutex_lock(&writer->mu);
    if (offset > atomic_load(&writer->end)) {
        offset = atomic_load(&writer->end); /* nothing is there to wait for */
    }
    while (status == VEX_OK && atomic_load(&writer->synced_end) < offset) {
        if (atomic_load(&writer->poisoned)) {
            status = poisoned(writer);
        } else if (writer->syncing) {
            pthread_cond_wait(&writer->synced, &writer->mu);
        } else {
            status = lead(writer);
        }
    }
    pthread_mutex_unlock(&writer->mu);
    return status;
}

vex_status vex_wal_seal(vex_wal_writer *writer) {
    static const uint8_t zeros[CLOSE_PAYLOAD];
    uint64_t end = atomic_load(&writer->end);
    VEX_TRY(vex_wal_sync_to(writer, end));
    if (atomic_load(&writer->poisoned)) {
        return poisoned(writer);
    }
    uint8_t header[FRAME_BYTES] = {0};
    vex_put32(header + AT_LEN, CLOSE_PAYLOAD);
    vex_put64(header + AT_LSN, writer->last_lsn);
    vex_put64(header + AT_SYNCED_LSN, writer->last_lsn);
    vex_put32(header + AT_LINK, writer->header.salt);
    header[AT_TYPE] = FRAME_CLOSE;
    uint32_t crc = vex_crc32c(writer->header.salt, header + AT_LEN, FRAME_BYTES - AT_LEN);
    vex_put32(header + AT_CRC, vex_crc32c(crc, zeros, CLOSE_PAYLOAD));
    const vex_iovec parts[2] = {{header, FRAME_BYTES}, {zeros, CLOSE_PAYLOAD}};
    vex_status status = writer->vfs->file_write(writer->vfs, writer->file, parts, 2, end);
    if (status == VEX_OK) {
        writer->reserved = end + frame_size(CLOSE_PAYLOAD);
        status = writer->vfs->file_truncate(writer->vfs, writer->file, writer->reserved);
    }
    if (status != VEX_OK) {
        return cut_back(writer, status);
    }
    vex_stat_add(VEX_STAT_WAL_BYTES, (int64_t)frame_size(CLOSE_PAYLOAD));
    pthread_mutex_lock(&writer->mu);
    while (writer->syncing) {
        pthread_cond_wait(&writer->synced, &writer->mu);
    }
    status = atomic_load(&writer->poisoned) ? poisoned(writer) : lead(writer);
    pthread_mutex_unlock(&writer->mu);
    return status;
}
