/*
 * write.c - vex_write and vex_delete: turning requests into resolved operations.
 */
#include "db/write.h"
#include "db/db.h"
#include "db/select.h"

#include "base/poison.h"

#define ARENA_CHUNK ((size_t)256 << 10)

/* ---- add, update, upsert ---- */

static vex_status copy_slice(vex_arena *arena, const uint8_t *data, uint32_t len,
                             const uint8_t **out) {
    *out = NULL;
    if (data == NULL) {
        return VEX_OK;
    }
    uint8_t *copy = vex_arena_alloc(arena, len ? len : 1, 1);
    if (copy == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a stored record of %u bytes",
                        (unsigned)len);
    }
    memcpy(copy, data, len);
    *out = copy;
    return VEX_OK;
}

vex_status vex_write_put_new(vex_write_context *context, uint32_t row, vex_batch *batch) {
    const vex_record *record = &context->records[row];
    vex_slice metadata = {0};
    VEX_TRY(vex_metadata_strip(context->arena, record->metadata, &metadata));
    vex_op op = {.kind = VEX_OP_PUT,
                 .vector = vex_write_vector(context, row),
                 .payload = {.seq = batch->next_seq,
                             .id = record->id.data,
                             .id_len = record->id.len,
                             .document = record->document.data,
                             .document_len = record->document.len,
                             .metadata = metadata.data,
                             .metadata_len = metadata.len,
                             .uri = record->uri.data,
                             .uri_len = record->uri.len}};
    batch->dimension = context->request->dimension;
    VEX_TRY(vex_batch_add(batch, &op));
    batch->next_seq++;
    return VEX_OK;
}

/* Is it what the record's vector is already, bit for bit?  A stored vector that is damaged is not:
 * it is replaced. */
static bool same_vector(vex_write_context *context, const vex_snapshot *latest, uint64_t seq,
                        const float *vector) {
    vex_row_ref ref;
    vex_snapshot_find_vector(latest, seq, &ref);
    if (!ref.found || (!ref.in_memory && vex_vecfile_check_rows(latest->vecs[ref.source].file,
                                                                ref.row, 1) != VEX_OK)) {
        return false;
    }
    vex_snapshot_read_vector(latest, &ref, context->stored_vector);
    return memcmp(context->stored_vector, vector,
                  (size_t)context->request->dimension * sizeof *vector) == 0;
}

static bool same_bytes(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len) {
    return (a == NULL) == (b == NULL) &&
           (a == NULL || (a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0)));
}

static bool same_payload(const vex_payload *a, const vex_payload *b) {
    return same_bytes(a->document, a->document_len, b->document, b->document_len) &&
           same_bytes(a->metadata, a->metadata_len, b->metadata, b->metadata_len) &&
           same_bytes(a->uri, a->uri_len, b->uri, b->uri_len);
}

vex_status vex_write_merge(vex_write_context *context, uint32_t row, const vex_payload *old,
                           vex_payload *out) {
    const vex_record *record = &context->records[row];
    *out = (vex_payload){.seq = old->seq, .id = record->id.data, .id_len = record->id.len};
    out->document = record->document.data;
    out->document_len = record->document.len;
    if (out->document == NULL) {
        out->document_len = old->document_len;
        VEX_TRY(copy_slice(context->arena, old->document, old->document_len, &out->document));
    }
    out->uri = record->uri.data;
    out->uri_len = record->uri.len;
    if (out->uri == NULL) {
        out->uri_len = old->uri_len;
        VEX_TRY(copy_slice(context->arena, old->uri, old->uri_len, &out->uri));
    }
    vex_slice stored = {old->metadata, old->metadata_len}, merged = {0};
    if (record->metadata.data != NULL) {
        VEX_TRY(vex_metadata_merge(context->arena, stored, record->metadata, &merged));
        out->metadata = merged.data;
        out->metadata_len = merged.len;
        return VEX_OK;
    }
    out->metadata_len = old->metadata_len;
    return copy_slice(context->arena, old->metadata, old->metadata_len, &out->metadata);
}

/* What is written is only what differs: loads are repeated, and most of a repetition is the same. */
vex_status vex_write_change_vector(vex_write_context *context, const vex_snapshot *latest,
                                   uint32_t row, uint64_t seq, vex_batch *batch) {
    vex_op op = {
        .kind = VEX_OP_VECTOR, .vector = vex_write_vector(context, row), .payload = {.seq = seq}};
    if (op.vector == NULL || same_vector(context, latest, seq, op.vector)) {
        return VEX_OK;
    }
    batch->dimension = context->request->dimension;
    return vex_batch_add(batch, &op);
}

vex_status vex_write_change_payload(vex_write_context *context, uint32_t row,
                                    const vex_row_ref *ref, vex_batch *batch) {
    vex_payload old;
    vex_op op = {.kind = VEX_OP_PAYLOAD};
    if (!vex_write_has_payload(&context->records[row])) {
        return VEX_OK;
    }
    if (!ref->in_memory) {
        if (ref->row < context->last_row) { /* in no order: each would have its blocks unpacked */
            vex_snapshot_reader_share(context->reader);
        }
        context->last_row = ref->row;
    }
    VEX_TRY(vex_snapshot_read_payload(
        context->reader, ref, VEX_PAYLOAD_DOCUMENT | VEX_PAYLOAD_METADATA | VEX_PAYLOAD_URI, &old));
    VEX_TRY(vex_write_merge(context, row, &old, &op.payload));
    return same_payload(&op.payload, &old) ? VEX_OK : vex_batch_add(batch, &op);
}

vex_status vex_write_check_dimension(vex_write_context *context, uint32_t dimension) {
    const vex_write_request *request = context->request;
    if (request->vectors == NULL) {
        return VEX_OK;
    }
    if (dimension != 0 && dimension != request->dimension) {
        return VEX_FAIL(VEX_ERR_DIMENSION,
                        "Collection expecting embedding with dimension of %u, got %u",
                        (unsigned)dimension, (unsigned)request->dimension);
    }
    context->stored_vector =
        vex_arena_alloc(context->arena, request->dimension * sizeof(float), sizeof(float));
    return context->stored_vector != NULL ? VEX_OK
                                          : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a vector");
}

static vex_status resolve_row(vex_write_context *context, const vex_snapshot *latest, uint32_t row,
                              vex_batch *batch) {
    const vex_record *record = &context->records[row];
    const uint32_t op = context->request->op;
    vex_row_ref ref = {0};
    VEX_TRY(vex_snapshot_find_id(latest, record->id.data, record->id.len, record->id_hash, &ref));
    if (!ref.found) {
        return op == VEX_WRITE_UPDATE ? VEX_OK : vex_write_put_new(context, row, batch);
    }
    if (op == VEX_WRITE_ADD) {
        return VEX_OK;
    }
    VEX_TRY(vex_write_change_vector(context, latest, row, ref.seq, batch));
    return vex_write_change_payload(context, row, &ref, batch);
}

static vex_status resolve_write(void *argument, const vex_snapshot *latest, vex_batch *batch) {
    vex_write_context *context = argument;
    VEX_TRY(vex_write_check_dimension(context, latest->dimension));
    VEX_TRY(vex_snapshot_reader_create(latest, &context->reader));
    vex_status status = VEX_OK;
    for (uint32_t row = 0; row < context->request->n && status == VEX_OK; row++) {
        const size_t before = batch->n_ops;
        status = resolve_row(context, latest, row, batch);
        context->changed += batch->n_ops > before;
    }
    vex_snapshot_reader_destroy(context->reader);
    context->reader = NULL;
    return status;
}

static uint64_t bytes_of(const vex_write_request *request) {
    uint64_t vectors = request->vectors != NULL ? (uint64_t)request->n * request->dimension : 0;
    return vectors * sizeof(float) + request->records_len;
}

vex_status vex_write(vex_collection *collection, const vex_write_request *request,
                     uint64_t *changed) {
    vex_record *records = NULL;
    vex_write_context context = {.request = request};
    VEX_TRY(vex_records_parse(request, &records));
    context.records = records;
    vex_status status = vex_db_enter(collection->db);
    if (status == VEX_OK) {
        status = vex_arena_create(&context.arena, ARENA_CHUNK);
        if (status == VEX_OK) {
            vex_index_wait_for_builder(collection, request->vectors != NULL ? request->n : 0);
            status = vex_space_for_write(collection->db, collection, bytes_of(request));
            if (status == VEX_OK) {
                status = vex_commit(collection, resolve_write, &context);
            }
            vex_arena_destroy(context.arena);
        }
        vex_db_leave(collection->db);
    }
    vex_free(records);
    if (status == VEX_OK && changed != NULL) {
        *changed = context.changed;
    }
    return status;
}

/* ---- delete ---- */

typedef struct delete_context {
    const vex_selection *selection;
    int64_t limit;
    vex_arena *arena;
    uint64_t deleted;
} delete_context;

vex_status vex_write_delete(vex_arena *arena, vex_snapshot_reader *reader, const vex_row_ref *ref,
                            vex_batch *batch) {
    vex_op op = {.kind = VEX_OP_DELETE};
    const uint8_t *id = NULL;
    VEX_TRY(vex_snapshot_read_payload(reader, ref, 0, &op.payload));
    VEX_TRY(copy_slice(arena, op.payload.id, op.payload.id_len, &id));
    op.payload = (vex_payload){.seq = ref->seq, .id = id, .id_len = op.payload.id_len};
    return vex_batch_add(batch, &op);
}

static vex_status resolve_delete(void *argument, const vex_snapshot *latest, vex_batch *batch) {
    delete_context *context = argument;
    vex_refs refs = {0};
    vex_snapshot_reader *reader = NULL;
    VEX_TRY(vex_select(latest, context->selection, 0, context->limit, &refs));
    vex_status status = vex_snapshot_reader_create(latest, &reader);
    for (size_t i = 0; i < refs.n && status == VEX_OK; i++) {
        status = vex_write_delete(context->arena, reader, &refs.rows[i], batch);
    }
    context->deleted = refs.n;
    vex_snapshot_reader_destroy(reader);
    vex_refs_clear(&refs);
    return status;
}

vex_status vex_delete(vex_collection *collection, const vex_selection *selection, int64_t limit,
                      uint64_t *deleted) {
    if (selection == NULL || (selection->ids == NULL && selection->filter == NULL)) {
        return VEX_FAIL(VEX_ERR_INVALID, "delete needs ids or a filter");
    }
    delete_context context = {.selection = selection, .limit = limit};
    VEX_TRY(vex_db_enter(collection->db));
    vex_status status = vex_arena_create(&context.arena, ARENA_CHUNK);
    if (status == VEX_OK) {
        status = vex_commit(collection, resolve_delete, &context);
        vex_arena_destroy(context.arena);
    }
    vex_db_leave(collection->db);
    if (status == VEX_OK && deleted != NULL) {
        *deleted = context.deleted;
    }
    return status;
}
