/*
 * salvage_read.c - the records of a salvage, batch by batch, as vex_write takes them (salvage.h).
 */
#include "db/salvage.h"

#include "base/msgpack.h"

#include <math.h>

#include "base/poison.h"

typedef struct salvaged {
    vex_buf ids, values[VEX_WRECK_PARTS]; /* MessagePack items                                    */
    float *vectors;
    uint32_t n;
} salvaged;

/* ---- one record ---- */

static bool read_vector(const vex_salvage *s, const salvage_version *vector, float *dst) {
    const vex_op *op = salvage_op(s, vector);
    if (op != NULL) {
        memcpy(dst, op->vector, s->dimension * sizeof *dst);
    } else {
        vex_wreck_rows_vector(&s->files[vector->source], vector->row, dst);
    }
    for (uint32_t i = 0; i < s->dimension; i++) {
        if (!isfinite(dst[i])) {
            return false;
        }
    }
    return true;
}

static void value_of_op(const vex_payload *payload, vex_wreck_part part, const uint8_t **bytes,
                        size_t *len) {
    switch (part) {
    case VEX_WRECK_DOCUMENT:
        *bytes = payload->document;
        *len = payload->document_len;
        break;
    case VEX_WRECK_METADATA:
        *bytes = payload->metadata;
        *len = payload->metadata_len;
        break;
    default:
        *bytes = payload->uri;
        *len = payload->uri_len;
    }
}

/* Its value as a MessagePack item; one that cannot be read is absent, and noted. */
static vex_status put_value(vex_salvage *s, const salvage_record *record, vex_wreck_part part,
                            vex_buf *out) {
    static const char *const names[VEX_WRECK_PARTS] = {"document", "metadata", "uri"};
    const salvage_version *payload = &record->payload;
    const vex_op *op = salvage_op(s, payload);
    const uint8_t *bytes = NULL, *id = NULL;
    size_t len = 0, id_len = 0;
    bool lost = false;
    if (op != NULL) {
        value_of_op(&op->payload, part, &bytes, &len);
    } else {
        vex_wreck_rows *file = &s->files[payload->source];
        VEX_TRY(vex_wreck_rows_value(file, payload->row, part, &bytes, &len, &lost));
    }
    if (lost) {
        (void)salvage_id(s, payload, &id, &id_len);
        const vex_wreck_rows *file = &s->files[payload->source];
        VEX_TRY(salvage_lose(s, names[part], id, id_len, 1, file->wreck.path,
                             file->columns[part].offset, "it is damaged"));
    }
    if (bytes == NULL) {
        return vex_mp_put_nil(out);
    }
    return part == VEX_WRECK_METADATA ? vex_buf_append(out, bytes, len)
                                      : vex_mp_put_str(out, bytes, len);
}

static vex_status put_record(vex_salvage *s, const salvage_record *record, salvaged *out) {
    const uint8_t *id = NULL;
    size_t len = 0;
    (void)salvage_id(s, &record->payload, &id, &len); /* known, or it would be no record */
    if (!read_vector(s, &record->vector, out->vectors + (size_t)out->n * s->dimension)) {
        return salvage_lose(s, "record", id, len, 1, s->dir, 0, "its vector is not finite");
    }
    VEX_TRY(vex_mp_put_str(&out->ids, id, len));
    for (vex_wreck_part part = 0; part < VEX_WRECK_PARTS; part++) {
        VEX_TRY(put_value(s, record, part, &out->values[part]));
    }
    out->n++;
    return VEX_OK;
}

/* ---- a batch ---- */

static vex_status put_column(vex_buf *out, uint32_t n, const vex_buf *items) {
    VEX_TRY(vex_mp_put_array(out, n));
    return items->len > 0 ? vex_buf_append(out, items->data, items->len) : VEX_OK;
}

static vex_status make_result(const vex_salvage *s, salvaged *batch, vex_result **out) {
    vex_buf records = {0};
    vex_result *result = vex_calloc(1, sizeof *result);
    vex_status status = result != NULL ? vex_mp_put_array(&records, 4)
                                       : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a result");
    if (status == VEX_OK) {
        status = put_column(&records, batch->n, &batch->ids);
    }
    for (vex_wreck_part part = 0; part < VEX_WRECK_PARTS && status == VEX_OK; part++) {
        status = put_column(&records, batch->n, &batch->values[part]);
    }
    if (status != VEX_OK) {
        vex_buf_clear(&records);
        vex_free(result);
        return status;
    }
    *result = (vex_result){.n_rows = batch->n,
                           .dimension = s->dimension,
                           .include = VEX_INCLUDE_DOCUMENTS | VEX_INCLUDE_METADATAS |
                                      VEX_INCLUDE_URIS | VEX_INCLUDE_VECTORS,
                           .vectors = batch->vectors,
                           .records = records.data,
                           .records_len = records.len};
    batch->vectors = NULL;
    *out = result;
    return VEX_OK;
}

vex_status vex_salvage_next(vex_salvage *s, uint32_t n, vex_result **out, uint32_t *more) {
    size_t left = s->n_records - s->next;
    size_t wanted = n < left ? n : left;
    salvaged batch = {.vectors =
                          vex_calloc(wanted + 1, ((size_t)s->dimension + 1) * sizeof(float))};
    vex_status status = batch.vectors != NULL
                            ? VEX_OK
                            : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %zu records", wanted);
    for (size_t i = 0; i < wanted && status == VEX_OK; i++) {
        status = put_record(s, &s->records[s->next + i], &batch);
    }
    if (status == VEX_OK) {
        status = make_result(s, &batch, out);
    }
    if (status == VEX_OK) {
        s->next += wanted;
        *more = s->next < s->n_records;
    }
    vex_buf_clear(&batch.ids);
    for (vex_wreck_part part = 0; part < VEX_WRECK_PARTS; part++) {
        vex_buf_clear(&batch.values[part]);
    }
    vex_free(batch.vectors);
    return status;
}
