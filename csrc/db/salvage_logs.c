/*
 * salvage_logs.c - the versions that the logs of a damaged collection hold (salvage.h).
 *
 * With a manifest, what counts is the batches behind its lsn.  Without one, all batches of the newest
 * run of logs without a gap between their numbers: applied again to files that have them already, they
 * change nothing, because a version of a file wins over a batch that the file is not older than.
 */
#include "db/salvage.h"

#include "base/poison.h"

typedef struct log_list {
    uint64_t *numbers;
    size_t n, capacity;
} log_list;

static vex_status note_log(void *context, const char *name) {
    log_list *logs = context;
    uint64_t number;
    if (vex_wal_parse_name(name, &number)) {
        void *numbers = logs->numbers;
        VEX_TRY(vex_grow(&numbers, &logs->capacity, logs->n + 1, sizeof *logs->numbers));
        logs->numbers = numbers;
        logs->numbers[logs->n++] = number;
    }
    return VEX_OK;
}

static int compare_numbers(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* ---- batches ---- */

static vex_status add_op(vex_salvage *s, const vex_op *op, uint64_t lsn, uint32_t source,
                         uint32_t row) {
    const bool deletes = op->kind == VEX_OP_DELETE;
    const salvage_version version = {op->payload.seq, lsn, source, deletes ? SALVAGE_DELETED : row};
    if (deletes || op->kind == VEX_OP_PUT || op->kind == VEX_OP_PAYLOAD) {
        VEX_TRY(salvage_add(&s->payloads, &version));
    }
    return deletes || op->kind == VEX_OP_PUT || op->kind == VEX_OP_VECTOR
               ? salvage_add(&s->vectors, &version)
               : VEX_OK;
}

/* Take the record over, with its body. */
static vex_status add_batch(vex_salvage *s, vex_wal_found *found, const char *path) {
    void *batches = s->batches;
    VEX_TRY(vex_grow(&batches, &s->batches_capacity, s->n_batches + 1, sizeof *s->batches));
    s->batches = batches;
    salvage_batch *added = &s->batches[s->n_batches];
    *added = (salvage_batch){.body = found->body};
    found->body = (vex_buf){0};
    s->n_batches++;
    vex_status status = vex_batch_decode(added->body.data, added->body.len, &added->batch);
    const vex_batch *batch = &added->batch;
    if (status == VEX_OK && batch->dimension != 0 && s->dimension == 0) {
        s->dimension = batch->dimension;
    }
    if (status == VEX_ERR_CORRUPT ||
        (status == VEX_OK && batch->dimension != 0 && batch->dimension != s->dimension)) {
        s->vectors_lost = true;
        return salvage_lose(s, "batch", NULL, 0, 1, path, 0, "a batch in it makes no sense");
    }
    VEX_TRY(status);
    const uint32_t source = s->n_files + (uint32_t)(s->n_batches - 1);
    for (size_t i = 0; i < batch->n_ops; i++) {
        VEX_TRY(add_op(s, &batch->ops[i], found->lsn, source, (uint32_t)i));
    }
    return VEX_OK;
}

/* ---- logs ---- */

typedef struct replaying {
    uint64_t next_lsn; /* expected; 0: not known                                          */
    bool told;         /* that some before the next record are lost                       */
} replaying;

/* The batches [from, to) are lost; 0: nobody knows. */
static vex_status lose_batches(vex_salvage *s, uint64_t from, uint64_t to, const char *path,
                               uint64_t offset, const char *why) {
    s->vectors_lost = true;
    uint64_t count = from != 0 && to > from ? to - from : 0;
    return salvage_lose(s, "batch", NULL, 0, count, path, offset, why);
}

static vex_status lose_gaps(vex_salvage *s, const replaying *r, const vex_wal_survey *survey,
                            const char *path) {
    for (size_t i = 0; i < survey->n_gaps; i++) {
        const vex_wal_gap *gap = &survey->gaps[i];
        uint64_t from = gap->lsn_from > r->next_lsn ? gap->lsn_from : r->next_lsn;
        if (gap->lsn_to == 0 || gap->lsn_to > r->next_lsn) { /* else it is in the files */
            VEX_TRY(
                lose_batches(s, from, gap->lsn_to, path, gap->offset, "the log is damaged here"));
        }
    }
    return VEX_OK;
}

static bool lies_behind_gap(const vex_wal_survey *survey, uint64_t lsn) {
    for (size_t i = 0; i < survey->n_gaps; i++) {
        if (survey->gaps[i].lsn_to == lsn) {
            return true;
        }
    }
    return false;
}

static vex_status take_records(vex_salvage *s, replaying *r, vex_wal_survey *survey,
                               const char *path) {
    for (size_t i = 0; i < survey->n_records; i++) {
        vex_wal_found *found = &survey->records[i];
        if (found->lsn < r->next_lsn) {
            continue;
        }
        if (r->next_lsn != 0 && found->lsn > r->next_lsn && !r->told &&
            !lies_behind_gap(survey, found->lsn)) {
            VEX_TRY(lose_batches(s, r->next_lsn, found->lsn, path, 0,
                                 "the batches before it are missing"));
        }
        r->next_lsn = found->lsn + 1;
        r->told = false;
        VEX_TRY(add_batch(s, found, path));
    }
    return VEX_OK;
}

static vex_status take_log(vex_salvage *s, replaying *r, uint64_t number, bool newest) {
    char name[VEX_WAL_NAME_MAX], path[VEX_PATH_MAX];
    vex_wal_survey survey = {0};
    vex_wal_name(name, number);
    VEX_TRY(vex_path_join(path, s->dir, name));
    uint8_t owner[16];
    memcpy(owner, s->unlisted ? s->collection : s->manifest.lineage, sizeof owner);
    if (s->unlisted) { /* whether it was a fork nobody knows */
        VEX_TRY(vex_wal_owner(s->vfs, s->dir, number, owner));
    }
    VEX_TRY(vex_wal_salvage(s->vfs, s->dir, owner, number, newest, &survey));
    s->bytes += survey.bytes;
    bool nothing = survey.header_damaged && survey.n_records + survey.n_gaps == 0;
    vex_status status =
        nothing ? lose_batches(s, 0, 0, path, 0, "the log is damaged, and no batch of it is left")
                : lose_gaps(s, r, &survey, path);
    if (status == VEX_OK) {
        status = take_records(s, r, &survey, path);
    }
    r->told =
        r->told || nothing || (survey.n_gaps > 0 && survey.gaps[survey.n_gaps - 1].lsn_to == 0);
    vex_wal_survey_clear(&survey);
    return status;
}

/* The head knows of batches that are not there: the newest log was cut short. */
static vex_status compare_with_head(vex_salvage *s, const replaying *r) {
    char path[VEX_PATH_MAX];
    vex_file *file = NULL;
    vex_head head = {0};
    bool valid = false;
    VEX_TRY(vex_path_join(path, s->dir, "head"));
    if (s->vfs->file_open(s->vfs, path, VEX_FILE_READ, &file) != VEX_OK) {
        return VEX_OK;
    }
    vex_status status = vex_head_read(s->vfs, file, s->collection, &head, &valid);
    s->vfs->file_close(s->vfs, file);
    if (status != VEX_OK || !valid || head.generation == VEX_HEAD_DROPPED ||
        head.lsn < r->next_lsn || r->next_lsn == 0 || r->told) {
        return VEX_OK;
    }
    return lose_batches(s, r->next_lsn, head.lsn + 1, path, 0,
                        "batches that it knows of are in no log");
}

static vex_status take_logs(vex_salvage *s, const log_list *logs, size_t first) {
    replaying r = {.next_lsn = s->unlisted ? 0 : s->manifest.lsn + 1};
    bool missing = !s->unlisted && s->manifest.generation > 1 &&
                   (first == logs->n || logs->numbers[first] != s->manifest.wal_first);
    if (missing) {
        VEX_TRY(lose_batches(s, 0, 0, s->dir, 0, "a log is missing"));
        r.told = true;
    }
    for (size_t i = first; i < logs->n; i++) {
        VEX_TRY(take_log(s, &r, logs->numbers[i], i + 1 == logs->n));
    }
    return compare_with_head(s, &r);
}

vex_status salvage_logs(vex_salvage *s) {
    log_list logs = {0};
    vex_status status = s->vfs->dir_list(s->vfs, s->dir, note_log, &logs);
    size_t first = 0;
    if (status == VEX_OK && logs.n > 0) {
        qsort(logs.numbers, logs.n, sizeof *logs.numbers, compare_numbers);
        first = s->unlisted ? logs.n - 1 : 0;
        while (s->unlisted && first > 0 && logs.numbers[first - 1] + 1 == logs.numbers[first]) {
            first--;
        }
        while (!s->unlisted && first < logs.n && logs.numbers[first] < s->manifest.wal_first) {
            first++;
        }
    }
    if (status == VEX_OK) {
        status = take_logs(s, &logs, first);
    }
    vex_free(logs.numbers);
    return status;
}
