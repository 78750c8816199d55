/*
 * check_logs.c - reading all logs of a collection that may be written meanwhile (check.h).
 */
#include "db/check.h"

#include <math.h>

#include "base/poison.h"

static vex_status check_finite(vex_check *check, const vex_batch *batch, uint64_t lsn,
                               const char *path) {
    for (size_t i = 0; i < batch->n_ops; i++) {
        const float *vector = batch->ops[i].vector;
        for (uint32_t k = 0; vector != NULL && k < batch->dimension; k++) {
            if (!isfinite(vector[k])) {
                return check_note(check, true, path, 0,
                                  "batch %llu has a vector that is not finite",
                                  (unsigned long long)lsn);
            }
        }
    }
    return VEX_OK;
}

static vex_status check_batch(vex_check *check, const vex_wal_body *body, uint64_t lsn,
                              const char *path) {
    vex_batch batch = {0};
    const uint32_t dimension = check->manifest.dimension;
    vex_status status = vex_batch_decode(body->data, body->len, &batch);
    if (status == VEX_ERR_CORRUPT) {
        return check_note(check, true, path, 0, "batch %llu makes no sense: %s",
                          (unsigned long long)lsn, vex_last_error()->message);
    }
    if (status == VEX_OK && batch.dimension != 0 && dimension != 0 &&
        batch.dimension != dimension) {
        status = check_note(check, true, path, 0, "batch %llu has vectors of dimension %u, not %u",
                            (unsigned long long)lsn, batch.dimension, dimension);
    } else if (status == VEX_OK && check->deep) {
        status = check_finite(check, &batch, lsn, path);
    }
    vex_batch_clear(&batch);
    return status;
}

/* One log, from its first record on; *next_lsn: expected there, and after its last. */
static vex_status check_log(vex_check *check, vex_wal_reader *reader, const char *path, bool newest,
                            uint64_t *next_lsn) {
    vex_wal_body body = {0};
    vex_wal_step step = VEX_WAL_RECORD;
    vex_status status = VEX_OK;
    while (status == VEX_OK) {
        uint64_t lsn = 0;
        status = vex_wal_reader_next(reader, UINT64_MAX, &step, &body, &lsn);
        if (status != VEX_OK || step != VEX_WAL_RECORD) {
            break;
        }
        if (lsn > *next_lsn) {
            status = check_note(check, true, path, 0, "batches %llu to %llu are missing",
                                (unsigned long long)*next_lsn, (unsigned long long)lsn - 1);
        }
        *next_lsn = lsn + 1 > *next_lsn ? lsn + 1 : *next_lsn;
        if (status == VEX_OK) {
            status = check_batch(check, &body, lsn, path);
        }
    }
    check->bytes += vex_wal_reader_offset(reader);
    if (status == VEX_OK && step == VEX_WAL_TORN && !newest) {
        status = check_note(check, true, path, vex_wal_reader_offset(reader),
                            "the log is damaged: newer ones follow it, so it had been whole");
    }
    return status;
}

static vex_status log_exists(const vex_check *check, uint64_t number, char *path, bool *exists) {
    char name[VEX_WAL_NAME_MAX];
    vex_file_stat stat;
    vex_wal_name(name, number);
    VEX_TRY(vex_path_join(path, check->dir, name));
    vex_status status = check->vfs->path_stat(check->vfs, path, &stat);
    *exists = status == VEX_OK;
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

vex_status check_logs(vex_check *check) {
    char path[VEX_PATH_MAX], next_path[VEX_PATH_MAX];
    uint64_t next_lsn = check->manifest.lsn + 1, number = check->manifest.wal_first;
    bool exists = false, newer = false;
    VEX_TRY(log_exists(check, number, path, &exists));
    VEX_TRY(log_exists(check, number + 1, next_path, &newer));
    if (!exists && (newer || check->manifest.generation > 1)) {
        return check_note(check, true, path, 0, "the log is missing");
    }
    for (; exists; exists = newer, number++) {
        vex_wal_reader *reader = NULL;
        vex_status status = VEX_OK;
        VEX_TRY(log_exists(check, number, path, &exists));
        VEX_TRY(log_exists(check, number + 1, next_path, &newer));
        check->files++;
        status =
            vex_wal_reader_open(check->vfs, check->dir, check->manifest.lineage, number, &reader);
        if (status == VEX_OK) {
            status = check_log(check, reader, path, !newer, &next_lsn);
            vex_wal_reader_close(reader);
        }
        if (status != VEX_OK) {
            VEX_TRY(check_note_error(check, status));
        }
    }
    check->lsn = next_lsn - 1;
    return VEX_OK;
}
