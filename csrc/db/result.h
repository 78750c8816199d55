/*
 * result.h - building a vex_result row by row.
 */
#ifndef VEX_DB_RESULT_H
#define VEX_DB_RESULT_H

#include "store/snapshot.h"

typedef struct vex_result_builder {
    const vex_snapshot *snapshot;
    vex_snapshot_reader *reader;
    uint32_t include, n_rows;
    size_t capacity;                            /* rows that fit                                  */
    vex_buf ids, documents, metadatas, uris;    /* MessagePack items, headers added at the end    */
    float *vectors, *distances;
    uint64_t *seqs;
} vex_result_builder;

/* Room for `rows` rows; distances only for queries. */
vex_status vex_result_builder_init(vex_result_builder *builder, const vex_snapshot *snapshot,
                                   uint32_t include, size_t rows, bool distances);
/* Append the record whose payload row is `ref`. `vector` (may be NULL) is its vector row where
 * it is known already. */
vex_status vex_result_builder_add(vex_result_builder *builder, const vex_row_ref *ref,
                                  const vex_row_ref *vector, float distance);
/* Hand over everything as one result; row_counts has n_queries entries (copied). */
vex_status vex_result_builder_finish(vex_result_builder *builder, const uint32_t *row_counts,
                                     uint32_t n_queries, vex_result **out);
void vex_result_builder_clear(vex_result_builder *builder);

#endif
