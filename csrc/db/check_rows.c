/*
 * check_rows.c - the state of a collection as opening it shows it: that it opens, and, in a deep check,
 * that every living record has an id of its own, a payload and a vector (check.h).
 *
 * Comes last, when the files were found sound: here they are mapped and used as always.
 */
#include "db/check.h"
#include "rank/check.h"
#include "store/section.h"
#include "store/superblock.h"

#include <math.h>

#include "base/hash.h"
#include "base/poison.h"

static bool is_finite(const float *vector, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(vector[i])) {
            return false;
        }
    }
    return true;
}

/* ---- files, beyond their checksums ---- */

static vex_status check_contents(vex_check *check, const vex_snapshot *snapshot) {
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        const vex_vecfile *file = snapshot->vecs[i].file;
        vex_status status = vex_section_check_seqs(&file->container, file->seqs, file->rows);
        if (status != VEX_OK) {
            VEX_TRY(check_note_error(check, status));
        }
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        vex_status status = vex_payfile_verify_rows(snapshot->pays[i].file);
        if (status == VEX_OK) {
            status = vex_rank_check(snapshot->pays[i].file);
        }
        if (status != VEX_OK) {
            VEX_TRY(check_note_error(check, status));
        }
    }
    return VEX_OK;
}

/* ---- records ---- */

typedef struct row_check {
    vex_check *check;
    const vex_snapshot *snapshot;
    vex_snapshot_reader *reader;
    float *vector;
} row_check;

static vex_status check_record(row_check *r, const vex_row_ref *ref) {
    const vex_snapshot *snapshot = r->snapshot;
    vex_payload payload;
    vex_row_ref same, vector;
    vex_status status = vex_snapshot_read_payload(r->reader, ref, 0, &payload);
    if (status != VEX_OK) {
        return check_note_error(r->check, status);
    }
    const char *id = (const char *)payload.id;
    const int len = (int)payload.id_len;
    const uint64_t hash = vex_hash64(payload.id, payload.id_len);
    VEX_TRY(vex_snapshot_find_id(snapshot, payload.id, payload.id_len, hash, &same));
    if (!same.found || same.seq != ref->seq) {
        VEX_TRY(check_note(r->check, true, r->check->dir, 0,
                           "records %llu and %llu both have the id %.*s",
                           (unsigned long long)ref->seq, (unsigned long long)same.seq, len, id));
    }
    vex_snapshot_find_vector(snapshot, ref->seq, &vector);
    if (!vector.found) {
        return check_note(r->check, true, r->check->dir, 0, "record %llu (%.*s) has no vector",
                          (unsigned long long)ref->seq, len, id);
    }
    vex_snapshot_read_vector(snapshot, &vector, r->vector);
    return is_finite(r->vector, snapshot->dimension)
               ? VEX_OK
               : check_note(r->check, true, r->check->dir, 0,
                            "the vector of record %llu (%.*s) is not finite",
                            (unsigned long long)ref->seq, len, id);
}

/* Living vectors of files and memory. */
static uint64_t count_vectors(const vex_snapshot *snapshot) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        n += snapshot->vecs[i].file->rows - snapshot->vecs[i].tombs->dead;
    }
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        for (uint32_t row = 0; row < snapshot->mems[i].n_vectors; row++) {
            n += vex_mem_vector_live(vex_memtable_vector(snapshot->mems[i].table, row),
                                     snapshot->lsn);
        }
    }
    return n;
}

static vex_status check_records(row_check *r) {
    const vex_snapshot *snapshot = r->snapshot;
    vex_seq_cursor *cursor = NULL;
    vex_row_ref ref;
    uint64_t payloads = 0, vectors = count_vectors(snapshot);
    vex_status status = VEX_OK;
    VEX_TRY(vex_seq_cursor_create(snapshot, &cursor));
    while (status == VEX_OK && vex_seq_cursor_next(cursor, &ref)) {
        status = check_record(r, &ref);
        payloads++;
    }
    vex_seq_cursor_destroy(cursor);
    VEX_TRY(status);
    return payloads == snapshot->live_rows && vectors == snapshot->live_rows
               ? VEX_OK
               : check_note(
                     r->check, true, r->check->dir, 0,
                     "%llu records are counted, but there are %llu payloads and %llu vectors",
                     (unsigned long long)snapshot->live_rows, (unsigned long long)payloads,
                     (unsigned long long)vectors);
}

static vex_status check_snapshot(vex_check *check, const vex_snapshot *snapshot) {
    check->rows = snapshot->live_rows;
    check->lsn = snapshot->lsn;
    if (!check->deep) {
        return VEX_OK;
    }
    VEX_TRY(check_contents(check, snapshot));
    row_check r = {.check = check, .snapshot = snapshot};
    r.vector = vex_calloc((size_t)snapshot->dimension + 1, sizeof *r.vector);
    vex_status status = r.vector != NULL ? vex_snapshot_reader_create(snapshot, &r.reader)
                                         : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to check rows");
    if (status == VEX_OK) {
        status = check_records(&r);
    }
    vex_snapshot_reader_destroy(r.reader);
    vex_free(r.vector);
    return status;
}

/* ---- opening ---- */

static vex_status check_opened(vex_check *check, vex_db *db) {
    vex_collection *collection = NULL;
    vex_snapshot *snapshot = NULL;
    VEX_TRY(vex_collection_open(db, check->collection, &collection));
    vex_status status = vex_read_begin(collection, &snapshot);
    if (status == VEX_OK) {
        status = check_snapshot(check, snapshot);
        status = vex_read_end(collection, snapshot, status);
    }
    (void)vex_collection_close(collection);
    return status;
}

vex_status check_state(vex_check *check) {
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY, .index_rows = UINT32_MAX};
    vex_superblock super;
    vex_db *db = NULL;
    if (vex_superblock_read(check->vfs, check->path, &super) != VEX_OK ||
        memcmp(super.uuid, check->database, sizeof super.uuid) != 0) {
        return VEX_OK; /* damaged: whoever looks at the database tells */
    }
    VEX_TRY(vex_db_open(check->path, &options, &db));
    vex_status status = check_opened(check, db);
    const vex_error failure = *vex_last_error();
    (void)vex_db_close(db);
    return status == VEX_OK ? VEX_OK
                            : vex_fail_at(failure.code, failure.path, failure.offset,
                                          failure.sys_errno, "%s", failure.message);
}
