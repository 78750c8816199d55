/*
 * crash_controls.c - taking safeguards away, in the trace or in the images: the engine is as it is,
 * and what it relies on does not hold (crash_states.h).
 */
#include "tests/crash_states.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "wal/wal_format.h"

#include <stdlib.h>

static const char *last_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool begins(const char *name, const char *with) {
    return strncmp(name, with, strlen(with)) == 0;
}

static bool is_sealed_file(const char *name) {
    return begins(name, "vec-") || begins(name, "pay-") || begins(name, "del-");
}

/* A directory is synced for what was renamed in it last. */
static uint32_t directory_barrier(const vex_trace *trace, size_t i) {
    uint32_t dir = trace->ops[i].node;
    while (i-- > 0) {
        const vex_trace_op *op = &trace->ops[i];
        if (op->kind == VEX_TRACE_RENAME && op->dir == dir) {
            const char *name = last_name(op->to_path);
            return begins(name, "transaction") ? CRASH_TRANSACTION_DIR_SYNC
                   : begins(name, "wal-")      ? CRASH_WAL_DIR_SYNC
                   : begins(name, "manifest-") ? CRASH_MANIFEST_DIR_SYNC
                   : is_sealed_file(name)      ? CRASH_FILE_DIR_SYNC
                                               : CRASH_PARENT_SYNC;
        }
    }
    return CRASH_PARENT_SYNC;
}

uint32_t crash_barrier(const vex_trace *trace, size_t i) {
    const vex_trace_op *op = &trace->ops[i];
    if (op->path != NULL && begins(op->path, CRASH_BACKUP)) {
        return op->kind == VEX_TRACE_SYNC_DIR ? CRASH_BACKUP_DIR_SYNC : CRASH_BACKUP_SYNC;
    }
    if (op->kind == VEX_TRACE_SYNC_DIR) {
        return directory_barrier(trace, i);
    }
    if (op->kind == VEX_TRACE_SYNC_DATA) {
        return CRASH_WAL_SYNC;
    }
    if (op->kind != VEX_TRACE_SYNC) {
        return 0;
    }
    const char *name = last_name(op->path);
    return begins(name, "transaction") ? CRASH_TRANSACTION_SYNC
           : begins(name, "wal-")      ? CRASH_WAL_HEADER_SYNC
           : begins(name, "manifest-") ? CRASH_MANIFEST_SYNC
           : is_sealed_file(name)      ? CRASH_FILE_SYNC
                                       : 0;
}

void crash_unlink_early(const vex_trace *trace, size_t *order) {
    for (size_t i = 0; i < trace->n; i++) {
        order[i] = i;
    }
    for (size_t i = 0; i < trace->n; i++) {
        size_t at = i;
        if (crash_barrier(trace, i) != CRASH_MANIFEST_DIR_SYNC) {
            continue;
        }
        for (size_t next = i + 1; next < trace->n; next++) { /* what follows, up to the next sync */
            vex_trace_kind kind = trace->ops[next].kind;
            if (kind == VEX_TRACE_SYNC || kind == VEX_TRACE_SYNC_DATA ||
                kind == VEX_TRACE_SYNC_DIR || kind == VEX_TRACE_MARK) {
                break;
            }
            if (kind == VEX_TRACE_REMOVE) {
                memmove(&order[at + 1], &order[at], (next - at) * sizeof *order);
                order[at++] = next;
            }
        }
    }
}

/* ---- checksums that always fit ---- */

static void fit_log(uint8_t *bytes, size_t size) {
    uint32_t salt = size >= HEADER_BYTES ? vex_get32(bytes + 12) : 0;
    for (size_t at = HEADER_BYTES; at + FRAME_BYTES <= size;) {
        uint8_t *frame = bytes + at;
        uint32_t len = vex_get32(frame + AT_LEN);
        if (len == 0 || len > PAYLOAD_MAX || at + frame_size(len) > size) {
            return;
        }
        vex_put32(frame + AT_CRC, vex_crc32c(salt, frame + AT_LEN, frame_size(len) - AT_LEN));
        at += frame_size(len);
    }
}

static void fit_manifest(uint8_t *bytes, size_t size) {
    if (size >= 64) {
        uint32_t crc = vex_crc32c(0, bytes, 60);
        vex_put32(bytes + 60, vex_crc32c(crc, bytes + 64, size - 64));
    }
}

typedef struct place {
    vex_vfs *files;
    uint32_t without;
    const char *path;
} place;

static vex_status fit_file(vex_vfs *files, const char *path,
                           void (*fit)(uint8_t *bytes, size_t size)) {
    vex_file *file = NULL;
    vex_file_stat stat;
    vex_buf bytes = {0};
    size_t got = 0;
    VEX_TRY(files->path_stat(files, path, &stat));
    VEX_TRY(vex_buf_append_zeros(&bytes, (size_t)stat.size));
    vex_status status = files->file_open(files, path, VEX_FILE_WRITE, &file);
    if (status == VEX_OK) {
        status = files->file_read(files, file, bytes.data, bytes.len, 0, &got);
        fit(bytes.data, got);
        const vex_iovec part = {bytes.data, got};
        status = status == VEX_OK ? files->file_write(files, file, &part, 1, 0) : status;
        files->file_close(files, file);
    }
    vex_buf_clear(&bytes);
    return status;
}

static vex_status fit_entry(void *context, const char *name) {
    const place *in = context;
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, in->path, name));
    if (begins(name, "wal-")) {
        return in->without & CRASH_NO_FRAME_CHECK ? fit_file(in->files, path, fit_log) : VEX_OK;
    }
    if (begins(name, "manifest-")) {
        return in->without & CRASH_NO_MANIFEST_CHECK ? fit_file(in->files, path, fit_manifest)
                                                     : VEX_OK;
    }
    place below = {in->files, in->without, path};
    return strlen(name) == 32 ? in->files->dir_list(in->files, path, fit_entry, &below) : VEX_OK;
}

void crash_fit(vex_vfs *files, uint32_t without) {
    place collections = {files, without, CRASH_PATH "/collections"};
    (void)files->dir_list(files, collections.path, fit_entry, &collections);
}
