/*
 * sparse.h - sparse vectors as metadata values hold them: MessagePack ext type 1 (vexfs.h,
 * vex_write), { u32 n, u32 index[n] strictly ascending, f32 value[n], optionally a MessagePack array
 * of n strings }, little-endian.
 */
#ifndef VEX_RANK_SPARSE_H
#define VEX_RANK_SPARSE_H

#include "rank/retrieve.h"

typedef struct vex_sparse_vector {
    const uint8_t *indices, *values;    /* n of four bytes each, anywhere (borrowed)              */
    uint32_t n;
} vex_sparse_vector;

/* The vector in a payload of ext type 1; false when that is too short for what it says. */
bool vex_sparse_read(const uint8_t *payload, size_t len, vex_sparse_vector *out);
/* NULL when everything about the payload is as described above, with finite values; else what is
 * not ("indices must be strictly ascending"). */
const char *vex_sparse_problem(const uint8_t *payload, size_t len);

uint32_t vex_sparse_index(const vex_sparse_vector *vector, uint32_t i);
float vex_sparse_value(const vex_sparse_vector *vector, uint32_t i);

/* The dot product with a query, as vex_retrieve_sparse defines it; false when they share no index. */
bool vex_sparse_dot(const vex_sparse_vector *vector, const vex_sparse_query *query, float *dot);

#endif
