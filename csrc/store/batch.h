/*
 * batch.h - one write batch: the resolved operations that a log record holds and a memtable
 * applies.
 *
 * Operations are resolved before they are logged (an `add` of an existing id is not in the
 * batch; merged metadata is logged merged), so replay needs no earlier state and is idempotent.
 *
 * Encoded batch: header 48 B { u32 magic 'VXB1', u32 n_ops, u32 dimension, u32 n_columns,
 *   u64 next_seq (after this batch), u64 txn (0), u32 flags (0), u32 n_vectors, 8 B 0 },
 *   n_columns * 24 B { u32 kind, u32 flags, u64 offset from the batch's start, u64 len },
 *   columns, 8-aligned.  A column of which every value is absent is left out.
 * Column kinds: 1 OPS u8[n]   2 SEQS u64[n]   3 IDS, 5 DOCUMENTS, 6 METADATA, 7 URIS: u32 len[n]
 *   (0xFFFFFFFF = none), padded to 8, then the bytes   4 VECTORS f32[n_vectors * dimension], for
 *   the PUT and VECTOR ops in order   8 EXPIRES (reserved).
 *   Flag 1 of a column = optional for readers that do not know it; else an unknown column is
 *   VEX_ERR_VERSION.
 */
#ifndef VEX_STORE_BATCH_H
#define VEX_STORE_BATCH_H

#include "base/mem.h"
#include "io/vfs.h"

typedef enum vex_op_kind {
    VEX_OP_PUT = 1,      /* new record: seq, id, vector, payload                                  */
    VEX_OP_VECTOR = 2,   /* new vector of record seq                                              */
    VEX_OP_PAYLOAD = 3,  /* new payload (whole) of record seq; carries the id                     */
    VEX_OP_DELETE = 4    /* record seq is gone; carries the id                                    */
} vex_op_kind;

/* A payload row: one version of everything but the vector.  NULL pointer = absent. */
typedef struct vex_payload {
    uint64_t seq;
    const uint8_t *id, *document, *metadata, *uri;
    uint32_t id_len, document_len, metadata_len, uri_len;
} vex_payload;

typedef struct vex_op {
    vex_op_kind kind;
    const float *vector;      /* PUT, VECTOR                                                      */
    vex_payload payload;      /* seq always; id for PUT, PAYLOAD, DELETE; the rest PUT, PAYLOAD   */
} vex_op;

typedef struct vex_batch {
    vex_op *ops;
    size_t n_ops, capacity;
    uint32_t dimension;       /* of every vector in it; 0 when there is none                      */
    uint64_t next_seq;
} vex_batch;

void vex_batch_clear(vex_batch *batch);                   /* pointers inside ops are borrowed     */
/* VEX_ERR_INVALID when the op lacks the id or the vector that its kind needs. */
vex_status vex_batch_add(vex_batch *batch, const vex_op *op);

/* Encode into `meta` (everything but vectors) and `parts`, an iovec list that references `meta`
 * and the callers' vectors; adjacent vectors share one entry.  *parts from vex_malloc. */
vex_status vex_batch_encode(const vex_batch *batch, vex_buf *meta, vex_iovec **parts,
                            uint32_t *n_parts);
/* Decode a record body, aligned to 8; ops point into it.  VEX_ERR_CORRUPT (or VERSION) when
 * malformed. */
vex_status vex_batch_decode(const void *body, size_t len, vex_batch *out);

#endif
