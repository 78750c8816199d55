/*
 * batch.c - see batch.h.
 *
 * The vectors come last in the encoded batch, so that everything else is one contiguous piece
 * and the vectors are handed on from where the caller has them.
 */
#include "store/batch.h"

#include "base/bytes.h"
#include "store/format.h"

#include "base/poison.h"

#define MAGIC 0x31425856u /* "VXB1" */
#define HEADER_BYTES 48
#define ENTRY_BYTES 24
#define ABSENT UINT32_MAX

/* header */
#define AT_MAGIC 0
#define AT_N_OPS 4
#define AT_DIMENSION 8
#define AT_N_COLUMNS 12
#define AT_NEXT_SEQ 16
#define AT_TXN 24
#define AT_FLAGS 32
#define AT_N_VECTORS 36

enum column_kind {
    COLUMN_OPS = 1,
    COLUMN_SEQS,
    COLUMN_IDS,
    COLUMN_VECTORS,
    COLUMN_DOCUMENTS,
    COLUMN_METADATA,
    COLUMN_URIS,
    COLUMN_KINDS /* one more than the last */
};
#define COLUMN_OPTIONAL 1u

void vex_batch_clear(vex_batch *batch) {
    vex_free(batch->ops);
    *batch = (vex_batch){0};
}

static bool has_vector(vex_op_kind kind) {
    return kind == VEX_OP_PUT || kind == VEX_OP_VECTOR;
}

static bool has_id(vex_op_kind kind) {
    return kind != VEX_OP_VECTOR;
}

vex_status vex_batch_add(vex_batch *batch, const vex_op *op) {
    if ((has_vector(op->kind) && op->vector == NULL) ||
        (has_id(op->kind) && op->payload.id == NULL)) {
        return VEX_FAIL(VEX_ERR_INVALID, "operation %d lacks its %s", (int)op->kind,
                        has_id(op->kind) && op->payload.id == NULL ? "id" : "vector");
    }
    void *ops = batch->ops;
    VEX_TRY(vex_grow(&ops, &batch->capacity, batch->n_ops + 1, sizeof *batch->ops));
    batch->ops = ops;
    batch->ops[batch->n_ops++] = *op;
    return VEX_OK;
}

/* ---- byte-string columns ---- */

typedef struct field {
    const uint8_t *bytes; /* NULL: absent */
    uint32_t len;
} field;

static field field_of(const vex_payload *payload, uint32_t column) {
    switch (column) {
    case COLUMN_IDS:
        return (field){payload->id, payload->id_len};
    case COLUMN_DOCUMENTS:
        return (field){payload->document, payload->document_len};
    case COLUMN_METADATA:
        return (field){payload->metadata, payload->metadata_len};
    default:
        return (field){payload->uri, payload->uri_len};
    }
}

static void set_field(vex_payload *payload, uint32_t column, field value) {
    switch (column) {
    case COLUMN_IDS:
        payload->id = value.bytes;
        payload->id_len = value.len;
        break;
    case COLUMN_DOCUMENTS:
        payload->document = value.bytes;
        payload->document_len = value.len;
        break;
    case COLUMN_METADATA:
        payload->metadata = value.bytes;
        payload->metadata_len = value.len;
        break;
    default:
        payload->uri = value.bytes;
        payload->uri_len = value.len;
    }
}

/* ---- encoding ---- */

static const uint32_t string_columns[] = {COLUMN_IDS, COLUMN_DOCUMENTS, COLUMN_METADATA,
                                          COLUMN_URIS};
#define N_STRING_COLUMNS (sizeof string_columns / sizeof *string_columns)

typedef struct column_plan {
    uint32_t kind;
    uint64_t offset, len;
} column_plan;

typedef struct batch_plan {
    column_plan columns[COLUMN_KINDS];
    uint32_t n_columns, n_vectors, n_vector_parts;
    uint64_t meta_len; /* everything before the vectors */
} batch_plan;

/* Bytes of a string column: 0 when every value is absent. */
static uint64_t string_column_len(const vex_batch *batch, uint32_t column) {
    uint64_t bytes = 0;
    bool any = false;
    for (size_t i = 0; i < batch->n_ops; i++) {
        field value = field_of(&batch->ops[i].payload, column);
        if (value.bytes != NULL) {
            bytes += value.len;
            any = true;
        }
    }
    return any ? vex_align_up(4 * (uint64_t)batch->n_ops, 8) + bytes : 0;
}

static void plan_column(batch_plan *plan, uint32_t kind, uint64_t len) {
    plan->columns[plan->n_columns++] = (column_plan){kind, plan->meta_len, len};
    plan->meta_len = vex_align_up(plan->meta_len + len, 8);
}

/* Does the vector of this op begin where the one before it ends? */
static bool continues(const vex_op *op, const float *end) {
    return op->vector == end;
}

static vex_status make_plan(const vex_batch *batch, batch_plan *plan) {
    *plan = (batch_plan){0};
    if (batch->next_seq >= VEX_COUNTER_END) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "no sequence number is left");
    }
    if (batch->n_ops > VEX_ROWS_MAX || batch->dimension > VEX_DIMENSION_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG,
                        "a batch holds at most %u operations, a vector at most "
                        "%u dimensions",
                        VEX_ROWS_MAX, VEX_DIMENSION_MAX);
    }
    const float *end = NULL;
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_op *op = &batch->ops[i];
        if (has_vector(op->kind)) {
            plan->n_vector_parts += plan->n_vectors == 0 || !continues(op, end);
            plan->n_vectors++;
            end = op->vector + batch->dimension;
        }
    }
    if (plan->n_vectors > 0 && batch->dimension == 0) {
        return VEX_FAIL(VEX_ERR_DIMENSION, "vectors of dimension 0 cannot be stored");
    }
    uint64_t string_lens[N_STRING_COLUMNS];
    uint32_t n_columns = 2 + (plan->n_vectors > 0);
    for (size_t c = 0; c < N_STRING_COLUMNS; c++) {
        string_lens[c] = string_column_len(batch, string_columns[c]);
        n_columns += string_lens[c] > 0;
    }
    plan->meta_len = HEADER_BYTES + ENTRY_BYTES * (uint64_t)n_columns;
    plan_column(plan, COLUMN_OPS, batch->n_ops);
    plan_column(plan, COLUMN_SEQS, 8 * (uint64_t)batch->n_ops);
    for (size_t c = 0; c < N_STRING_COLUMNS; c++) {
        if (string_lens[c] > 0) {
            plan_column(plan, string_columns[c], string_lens[c]);
        }
    }
    if (plan->n_vectors > 0) {
        plan->columns[plan->n_columns++] =
            (column_plan){COLUMN_VECTORS, plan->meta_len,
                          (uint64_t)plan->n_vectors * batch->dimension * sizeof(float)};
    }
    return VEX_OK;
}

static void write_strings(const vex_batch *batch, uint32_t column, uint8_t *at) {
    uint8_t *lens = at, *bytes = at + vex_align_up(4 * (uint64_t)batch->n_ops, 8);
    for (size_t i = 0; i < batch->n_ops; i++) {
        field value = field_of(&batch->ops[i].payload, column);
        vex_put32(lens + 4 * i, value.bytes ? value.len : ABSENT);
        if (value.bytes != NULL && value.len > 0) {
            memcpy(bytes, value.bytes, value.len);
            bytes += value.len;
        }
    }
}

/* `at` is zeroed. */
static void write_meta(const vex_batch *batch, const batch_plan *plan, uint8_t *at) {
    vex_put32(at + AT_MAGIC, MAGIC);
    vex_put32(at + AT_N_OPS, (uint32_t)batch->n_ops);
    vex_put32(at + AT_DIMENSION, plan->n_vectors > 0 ? batch->dimension : 0);
    vex_put32(at + AT_N_COLUMNS, plan->n_columns);
    vex_put64(at + AT_NEXT_SEQ, batch->next_seq);
    vex_put32(at + AT_N_VECTORS, plan->n_vectors);
    for (uint32_t c = 0; c < plan->n_columns; c++) {
        const column_plan *column = &plan->columns[c];
        uint8_t *entry = at + HEADER_BYTES + (size_t)c * ENTRY_BYTES;
        vex_put32(entry, column->kind);
        vex_put64(entry + 8, column->offset);
        vex_put64(entry + 16, column->len);
        uint8_t *data = at + column->offset;
        switch (column->kind) {
        case COLUMN_OPS:
            for (size_t i = 0; i < batch->n_ops; i++) {
                data[i] = (uint8_t)batch->ops[i].kind;
            }
            break;
        case COLUMN_SEQS:
            for (size_t i = 0; i < batch->n_ops; i++) {
                vex_put64(data + 8 * i, batch->ops[i].payload.seq);
            }
            break;
        case COLUMN_VECTORS:
            break;
        default:
            write_strings(batch, column->kind, data);
        }
    }
}

static void list_vectors(const vex_batch *batch, vex_iovec *part) {
    const float *end = NULL;
    size_t row_bytes = batch->dimension * sizeof(float);
    bool first = true;
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_op *op = &batch->ops[i];
        if (!has_vector(op->kind)) {
            continue;
        }
        if (!first && continues(op, end)) {
            part->len += row_bytes;
        } else {
            part += !first;
            *part = (vex_iovec){op->vector, row_bytes};
        }
        first = false;
        end = op->vector + batch->dimension;
    }
}

vex_status vex_batch_encode(const vex_batch *batch, vex_buf *meta, vex_iovec **parts,
                            uint32_t *n_parts) {
    batch_plan plan;
    VEX_TRY(make_plan(batch, &plan));
    if (plan.meta_len > SIZE_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "the batch does not fit into memory");
    }
    meta->len = 0;
    VEX_TRY(vex_buf_append_zeros(meta, (size_t)plan.meta_len));
    vex_iovec *list = vex_calloc(1 + (size_t)plan.n_vector_parts, sizeof *list);
    if (list == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot encode a batch");
    }
    write_meta(batch, &plan, meta->data);
    list[0] = (vex_iovec){meta->data, meta->len};
    if (plan.n_vectors > 0) {
        list_vectors(batch, list + 1);
    }
    *parts = list;
    *n_parts = 1 + plan.n_vector_parts;
    return VEX_OK;
}

/* ---- decoding ---- */

typedef struct encoded {
    const uint8_t *data;
    size_t len;
    uint32_t n_ops, n_vectors, dimension;
    const uint8_t *columns[COLUMN_KINDS]; /* NULL: absent */
    size_t lens[COLUMN_KINDS];
} encoded;

static vex_status malformed(const char *what) {
    return VEX_FAIL(VEX_ERR_CORRUPT, "malformed batch: %s", what);
}

static vex_status read_header(encoded *in, vex_batch *out, uint32_t *n_columns) {
    if (in->len < HEADER_BYTES || vex_get32(in->data + AT_MAGIC) != MAGIC) {
        return malformed("no header");
    }
    if (vex_get64(in->data + AT_TXN) != 0 || vex_get32(in->data + AT_FLAGS) != 0) {
        return VEX_FAIL(VEX_ERR_VERSION, "a batch uses features of a later release");
    }
    in->n_ops = vex_get32(in->data + AT_N_OPS);
    in->n_vectors = vex_get32(in->data + AT_N_VECTORS);
    in->dimension = vex_get32(in->data + AT_DIMENSION);
    *n_columns = vex_get32(in->data + AT_N_COLUMNS);
    out->next_seq = vex_get64(in->data + AT_NEXT_SEQ);
    out->dimension = in->dimension;
    if (in->n_ops > VEX_ROWS_MAX || in->dimension > VEX_DIMENSION_MAX ||
        out->next_seq >= VEX_COUNTER_END || (in->dimension == 0) != (in->n_vectors == 0)) {
        return malformed("impossible counts");
    }
    if (*n_columns > (in->len - HEADER_BYTES) / ENTRY_BYTES) {
        return malformed("columns beyond the end");
    }
    return VEX_OK;
}

static vex_status read_columns(encoded *in, uint32_t n_columns) {
    uint64_t first = HEADER_BYTES + ENTRY_BYTES * (uint64_t)n_columns;
    for (uint32_t c = 0; c < n_columns; c++) {
        const uint8_t *entry = in->data + HEADER_BYTES + (size_t)c * ENTRY_BYTES;
        uint32_t kind = vex_get32(entry), flags = vex_get32(entry + 4);
        uint64_t offset = vex_get64(entry + 8), len = vex_get64(entry + 16);
        if (offset < first || offset % 8 != 0 || offset > in->len || len > in->len - offset) {
            return malformed("a column lies outside");
        }
        if (kind == 0 || kind >= COLUMN_KINDS) {
            if ((flags & COLUMN_OPTIONAL) == 0) {
                return VEX_FAIL(VEX_ERR_VERSION,
                                "a batch holds a column (kind %u) of a later release", kind);
            }
            continue;
        }
        if (in->columns[kind] != NULL) {
            return malformed("a column appears twice");
        }
        in->columns[kind] = in->data + offset;
        in->lens[kind] = (size_t)len;
    }
    uint64_t vector_bytes; /* at most 2^32 * 2^16 * 4 */
    vector_bytes = (uint64_t)in->n_vectors * in->dimension * sizeof(float);
    if (in->lens[COLUMN_OPS] != in->n_ops || in->lens[COLUMN_SEQS] != 8 * (uint64_t)in->n_ops ||
        in->lens[COLUMN_VECTORS] != vector_bytes) {
        return malformed("a column's length does not match the counts");
    }
    return VEX_OK;
}

static vex_status decode_ops(const encoded *in, uint64_t next_seq, vex_op *ops) {
    const uint8_t *kinds = in->columns[COLUMN_OPS], *seqs = in->columns[COLUMN_SEQS];
    const float *vectors = (const void *)in->columns[COLUMN_VECTORS];
    uint32_t n_vectors = 0;
    for (uint32_t i = 0; i < in->n_ops; i++) {
        vex_op *op = &ops[i];
        if (kinds[i] < VEX_OP_PUT || kinds[i] > VEX_OP_DELETE) {
            return malformed("unknown operation");
        }
        op->kind = (vex_op_kind)kinds[i];
        op->payload.seq = vex_get64(seqs + 8 * (size_t)i);
        if (op->payload.seq >= next_seq) {
            return malformed("a record comes after all");
        }
        if (has_vector(op->kind)) {
            if (n_vectors == in->n_vectors) {
                return malformed("too few vectors");
            }
            op->vector = vectors + (size_t)n_vectors * in->dimension;
            n_vectors++;
        }
    }
    return n_vectors == in->n_vectors ? VEX_OK : malformed("too many vectors");
}

static vex_status decode_strings(const encoded *in, uint32_t column, vex_op *ops) {
    uint64_t lens_bytes = vex_align_up(4 * (uint64_t)in->n_ops, 8);
    if (in->lens[column] < lens_bytes) {
        return malformed("a column is too short for its lengths");
    }
    const uint8_t *lens = in->columns[column];
    vex_cursor bytes = vex_cursor_make(lens + lens_bytes, in->lens[column] - (size_t)lens_bytes);
    for (uint32_t i = 0; i < in->n_ops; i++) {
        uint32_t len = vex_get32(lens + 4 * (size_t)i);
        if (len != ABSENT) {
            set_field(&ops[i].payload, column, (field){vex_cursor_take(&bytes, len), len});
        }
    }
    return bytes.bad || bytes.pos != bytes.len ? malformed("a column's values do not fill it")
                                               : VEX_OK;
}

static vex_status check_ids(const encoded *in, const vex_op *ops) {
    for (uint32_t i = 0; i < in->n_ops; i++) {
        const vex_payload *payload = &ops[i].payload;
        if ((has_id(ops[i].kind) && payload->id == NULL) || payload->id_len > VEX_ID_BYTES_MAX) {
            return malformed("an operation has no id, or one too long");
        }
    }
    return VEX_OK;
}

vex_status vex_batch_decode(const void *body, size_t len, vex_batch *out) {
    vex_batch batch = {0};
    encoded in = {.data = body, .len = len};
    uint32_t n_columns = 0;
    if ((uintptr_t)body % 8 != 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "the bytes of a batch must be aligned to 8");
    }
    VEX_TRY(read_header(&in, &batch, &n_columns));
    VEX_TRY(read_columns(&in, n_columns));
    batch.ops = vex_calloc(in.n_ops > 0 ? in.n_ops : 1, sizeof *batch.ops);
    if (batch.ops == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot decode a batch");
    }
    batch.n_ops = batch.capacity = in.n_ops;
    vex_status status;
    VEX_TRY_DONE(status, decode_ops(&in, batch.next_seq, batch.ops));
    for (size_t c = 0; c < N_STRING_COLUMNS; c++) {
        if (in.columns[string_columns[c]] != NULL) {
            VEX_TRY_DONE(status, decode_strings(&in, string_columns[c], batch.ops));
        }
    }
    VEX_TRY_DONE(status, check_ids(&in, batch.ops));
    *out = batch;
    return VEX_OK;
done:
    vex_batch_clear(&batch);
    return status;
}
