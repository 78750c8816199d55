/*
 * transaction_resolve.c - the steps of a transaction, as one batch for each collection.
 *
 * A later step sees what earlier ones did: by id, as that is in no snapshot yet.  Filters cannot be asked
 * about it, so a deletion by filter comes before everything else that is done to its collection.
 */
#include "db/records.h"
#include "db/select.h"
#include "db/transaction.h"
#include "db/write.h"

#include "base/hash.h"
#include "base/msgpack.h"

#include "base/poison.h"

#define NO_KIND ((vex_op_kind)0) /* of an operation that a later step took back */

typedef struct step_run {
    vex_share *share;
    const vex_snapshot *latest;
    vex_batch *batch;
    vex_write_context write;
    uint64_t changed;
} step_run;

/* ---- add, update, upsert ---- */

/* Note which operations, from `first` on, are the record's. */
static void note_operations(const vex_batch *batch, size_t first, vex_changed_record *record) {
    for (size_t at = first; at < batch->n_ops; at++) {
        switch (batch->ops[at].kind) {
        case VEX_OP_PUT:
            record->put = at;
            break;
        case VEX_OP_VECTOR:
            record->vector = at;
            break;
        default:
            record->payload = at;
        }
    }
}

static vex_status put(step_run *run, uint32_t row, vex_changed_record *known) {
    const vex_record *record = &run->write.records[row];
    const size_t first = run->batch->n_ops;
    const uint64_t seq = run->batch->next_seq;
    VEX_TRY(vex_write_put_new(&run->write, row, run->batch));
    if (known == NULL) {
        VEX_TRY(vex_changed_add(&run->share->records, record->id.data, record->id.len,
                                record->id_hash, seq, &known));
    }
    known->seq = seq;
    known->is_gone = false;
    known->vector = known->payload = VEX_NO_OP;
    note_operations(run->batch, first, known);
    run->changed++;
    return VEX_OK;
}

/* A record of the snapshot, which no step touched yet. */
static vex_status change(step_run *run, uint32_t row, const vex_row_ref *ref) {
    const vex_record *record = &run->write.records[row];
    const size_t first = run->batch->n_ops;
    vex_changed_record *added = NULL;
    VEX_TRY(vex_write_change_vector(&run->write, run->latest, row, ref->seq, run->batch));
    VEX_TRY(vex_write_change_payload(&run->write, row, ref, run->batch));
    if (run->batch->n_ops == first) {
        return VEX_OK;
    }
    VEX_TRY(vex_changed_add(&run->share->records, record->id.data, record->id.len, record->id_hash,
                            ref->seq, &added));
    note_operations(run->batch, first, added);
    run->changed++;
    return VEX_OK;
}

static vex_status change_again(step_run *run, uint32_t row, vex_changed_record *known) {
    const vex_record *record = &run->write.records[row];
    const float *vector = vex_write_vector(&run->write, row);
    const size_t first = run->batch->n_ops;
    const size_t vector_at = known->put != VEX_NO_OP ? known->put : known->vector;
    const size_t payload_at = known->put != VEX_NO_OP ? known->put : known->payload;
    if (vector != NULL && vector_at != VEX_NO_OP) {
        run->batch->ops[vector_at].vector = vector;
    } else if (vector != NULL) {
        VEX_TRY(vex_write_change_vector(&run->write, run->latest, row, known->seq, run->batch));
    }
    if (vex_write_has_payload(record) && payload_at != VEX_NO_OP) {
        const vex_payload old = run->batch->ops[payload_at].payload;
        VEX_TRY(vex_write_merge(&run->write, row, &old, &run->batch->ops[payload_at].payload));
    } else if (vex_write_has_payload(record)) {
        vex_row_ref ref;
        VEX_TRY(vex_snapshot_find_id(run->latest, record->id.data, record->id.len, record->id_hash,
                                     &ref));
        VEX_TRY(vex_write_change_payload(&run->write, row, &ref, run->batch));
    }
    note_operations(run->batch, first, known);
    run->changed++;
    return VEX_OK;
}

static vex_status resolve_row(step_run *run, uint32_t row) {
    const vex_record *record = &run->write.records[row];
    const uint32_t op = run->write.request->op;
    vex_row_ref ref = {0};
    vex_changed_record *known =
        vex_changed_find(&run->share->records, record->id.data, record->id.len, record->id_hash);
    if (known == NULL) {
        VEX_TRY(vex_snapshot_find_id(run->latest, record->id.data, record->id.len, record->id_hash,
                                     &ref));
    }
    const bool is_there = known != NULL ? !known->is_gone : ref.found;
    if (op == (is_there ? VEX_WRITE_ADD : VEX_WRITE_UPDATE)) {
        return VEX_OK;
    }
    if (!is_there) {
        return put(run, row, known);
    }
    return known != NULL ? change_again(run, row, known) : change(run, row, &ref);
}

static vex_status resolve_write(step_run *run) {
    const uint32_t dimension =
        run->latest->dimension != 0 ? run->latest->dimension : run->batch->dimension;
    VEX_TRY(vex_write_check_dimension(&run->write, dimension));
    for (uint32_t row = 0; row < run->write.request->n; row++) {
        VEX_TRY(resolve_row(run, row));
    }
    return VEX_OK;
}

/* ---- delete ---- */

/* A record of the snapshot, which no step touched yet. */
static vex_status delete_present(step_run *run, const vex_row_ref *ref) {
    vex_changed_record *added = NULL;
    VEX_TRY(vex_write_delete(run->write.arena, run->write.reader, ref, run->batch));
    const vex_payload *payload = &run->batch->ops[run->batch->n_ops - 1].payload;
    VEX_TRY(vex_changed_add(&run->share->records, payload->id, payload->id_len,
                            vex_hash64(payload->id, payload->id_len), ref->seq, &added));
    added->is_gone = true;
    run->changed++;
    return VEX_OK;
}

static void take_back(vex_batch *batch, size_t *at) {
    if (*at != VEX_NO_OP) {
        batch->ops[*at].kind = NO_KIND;
        *at = VEX_NO_OP;
    }
}

static vex_status delete_changed(step_run *run, vex_changed_record *known) {
    if (known->is_gone) {
        return VEX_OK;
    }
    const bool was_new = known->put != VEX_NO_OP;
    take_back(run->batch, &known->put);
    take_back(run->batch, &known->vector);
    take_back(run->batch, &known->payload);
    known->is_gone = true;
    run->changed++;
    const vex_op op = {
        .kind = VEX_OP_DELETE,
        .payload = {.seq = known->seq, .id = known->id, .id_len = known->id_len},
    };
    return was_new ? VEX_OK : vex_batch_add(run->batch, &op);
}

static vex_status delete_ids(step_run *run, const vex_selection *selection) {
    vex_mp_reader reader = vex_mp_reader_make(selection->ids, selection->ids_len);
    const vex_mp_value list = vex_mp_next(&reader);
    bool good = list.kind == VEX_MP_ARRAY;
    for (uint32_t i = 0; good && i < list.count; i++) {
        const vex_mp_value id = vex_mp_next(&reader);
        good = id.kind == VEX_MP_STR;
        if (!good) {
            break;
        }
        const uint64_t hash = vex_hash64(id.bytes, id.len);
        vex_changed_record *known = vex_changed_find(&run->share->records, id.bytes, id.len, hash);
        if (known != NULL) {
            VEX_TRY(delete_changed(run, known));
            continue;
        }
        vex_row_ref ref;
        VEX_TRY(vex_snapshot_find_id(run->latest, id.bytes, id.len, hash, &ref));
        VEX_TRY(ref.found ? delete_present(run, &ref) : VEX_OK);
    }
    return good && !vex_mp_bad(&reader)
               ? VEX_OK
               : VEX_FAIL(VEX_ERR_INVALID, "ids must be a MessagePack array of strings");
}

static vex_status delete_selected(step_run *run, const vex_selection *selection, int64_t limit) {
    vex_refs refs = {0};
    if (run->share->records.n > 0) {
        return VEX_FAIL(VEX_ERR_INVALID,
                        "in a transaction, a deletion by filter or with a limit comes before "
                        "everything else that is done to its collection");
    }
    VEX_TRY(vex_select(run->latest, selection, 0, limit, &refs));
    vex_status status = VEX_OK;
    for (size_t i = 0; i < refs.n && status == VEX_OK; i++) {
        status = delete_present(run, &refs.rows[i]);
    }
    vex_refs_clear(&refs);
    return status;
}

static vex_status resolve_delete(step_run *run, const vex_step *step) {
    const vex_selection *selection = step->selection;
    return selection->filter == NULL && step->limit < 0
               ? delete_ids(run, selection)
               : delete_selected(run, selection, step->limit);
}

/* ---- a step ---- */

vex_status vex_share_resolve(vex_share *share, const vex_record *records, vex_arena *arena,
                             vex_step *step) {
    const vex_snapshot *latest = share->collection->latest;
    step_run run = {.share = share,
                    .latest = latest,
                    .batch = &share->change.batch,
                    .write = {.request = step->write, .records = records, .arena = arena}};
    if (run.batch->next_seq == 0) {
        run.batch->next_seq = latest->next_seq;
    }
    VEX_TRY(vex_snapshot_reader_create(latest, &run.write.reader));
    const vex_status status =
        step->write != NULL ? resolve_write(&run) : resolve_delete(&run, step);
    vex_snapshot_reader_destroy(run.write.reader);
    step->changed = run.changed;
    return vex_collection_place(share->collection, status);
}

void vex_share_settle(vex_share *share) {
    vex_batch *batch = &share->change.batch;
    size_t kept = 0;
    for (size_t at = 0; at < batch->n_ops; at++) {
        if (batch->ops[at].kind != NO_KIND) {
            batch->ops[kept++] = batch->ops[at];
        }
    }
    batch->n_ops = kept;
}
