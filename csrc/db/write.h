/*
 * write.h - turning the records of a write request into resolved operations, one by one.
 */
#ifndef VEX_DB_WRITE_H
#define VEX_DB_WRITE_H

#include "db/records.h"
#include "store/snapshot.h"

typedef struct vex_write_context {
    const vex_write_request *request;
    const vex_record *records;
    vex_arena *arena;          /* merged metadata and old payloads live until the commit          */
    vex_snapshot_reader *reader;
    uint32_t last_row;         /* of a file, that was read                                        */
    float *stored_vector;      /* scratch                                                         */
    uint64_t changed;
} vex_write_context;

/* VEX_ERR_DIMENSION unless the request's vectors fit to those that there are (0: none yet); makes
 * `stored_vector`. */
vex_status vex_write_check_dimension(vex_write_context *context, uint32_t dimension);
/* Record `row` as a new one. */
vex_status vex_write_put_new(vex_write_context *context, uint32_t row, vex_batch *batch);
/* Its new vector, or its new payload, if there is one that is not the same bit for bit as what a
 * present record has. */
vex_status vex_write_change_vector(vex_write_context *context, const vex_snapshot *latest,
                                   uint32_t row, uint64_t seq, vex_batch *batch);
vex_status vex_write_change_payload(vex_write_context *context, uint32_t row,
                                    const vex_row_ref *ref, vex_batch *batch);
/* The whole payload of a record: what is given over `old`. */
vex_status vex_write_merge(vex_write_context *context, uint32_t row, const vex_payload *old,
                           vex_payload *out);
/* Append the deletion of a present record. */
vex_status vex_write_delete(vex_arena *arena, vex_snapshot_reader *reader, const vex_row_ref *ref,
                            vex_batch *batch);

static inline const float *vex_write_vector(const vex_write_context *context, uint32_t row) {
    const vex_write_request *request = context->request;
    return request->vectors ? request->vectors + (size_t)row * request->dimension : NULL;
}
static inline bool vex_write_has_payload(const vex_record *record) {
    return record->document.data != NULL || record->metadata.data != NULL ||
           record->uri.data != NULL;
}

#endif
