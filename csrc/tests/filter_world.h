/*
 * filter_world.h - a collection in a memory file system, written at random, and beside it the
 * plain list of its records.
 */
#ifndef VEX_TESTS_FILTER_WORLD_H
#define VEX_TESTS_FILTER_WORLD_H

#include "filter/expr.h"
#include "store/snapshot.h"

#define WORLD_DIMENSION 3

typedef struct record {
    uint64_t seq; /* its number in `records`, from 1 */
    char id[16];
    bool live, has_document;
    vex_buf document, metadata; /* metadata empty: none */
    float vector[WORLD_DIMENSION]; /* [0]: seq, [1]: how often it was written again */
} record;

typedef struct world {
    vex_vfs *vfs;
    vex_manifest manifest;
    vex_snapshot *snapshot;
    record **records;
    size_t n, capacity;
} world;

world world_make(void);
void world_free(world *w);

/* One record more in the list; `world_put` adds its write to a batch, `world_commit` the batch. */
record *world_new_record(world *w);
void world_put(vex_batch *batch, vex_op_kind kind, const record *r);
void world_commit(world *w, vex_batch *batch);

/* A batch of new records, some under the ids of deleted ones, and changes of old ones. */
void world_random_batch(world *w);
void world_seal(world *w);
/* Flush all sealed memtables, while `n_batches` are written. */
void world_flush(world *w, uint32_t n_batches);
/* A batch and then, now and then, a seal or a flush. */
void world_random_step(world *w);

#endif
