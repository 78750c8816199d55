/*
 * store_model.h - a collection on the store layer alone, beside a plain array that says what it
 * must hold.
 *
 * A record's contents follow from its number and a version, so the array holds two versions per
 * record and is cheap to copy: one copy goes with every snapshot that is to be checked later.
 */
#ifndef VEX_TESTS_STORE_MODEL_H
#define VEX_TESTS_STORE_MODEL_H

#include "store/flush.h"

#define MODEL_IDS 300u
#define MODEL_DIMENSION 6u

typedef struct model_record {
    uint64_t seq;             /* 0: not there                                                     */
    uint32_t payload, vector; /* versions                                                         */
} model_record;

typedef struct model {
    model_record records[MODEL_IDS];
    uint64_t lsn, live;
} model;

typedef struct logged_batch {
    uint64_t lsn;
    vex_buf body;
} logged_batch;

typedef struct model_store {
    vex_vfs *vfs;
    const char *dir;
    vex_snapshot *latest;
    model now;                /* what `latest` must hold                                          */
    vex_snapshot *sealed;     /* as of the newest seal; NULL: nothing is sealed                   */
    model at_seal;
    vex_manifest manifest;
    logged_batch *log;        /* batches that are not in files                                    */
    size_t n_log, log_capacity;
    uint32_t version;
    bool whole_numbers;       /* vectors that fit uint8                                           */
} model_store;

void model_store_start(model_store *store, vex_vfs *vfs, const char *dir);
void model_store_end(model_store *store);

/* One random batch, the N-th allocation failing (0: none; only in builds with VEX_TESTING).  On
 * failure nothing changed. */
vex_status model_store_try_batch(model_store *store, uint32_t max_records, uint64_t fail_at);
void model_store_batch(model_store *store, uint32_t max_records);
/* A batch that fails at its log record, after everything else was done. */
void model_store_fail_batch(model_store *store, uint32_t max_records);

/* Begin a new memtable; what was there can be flushed. */
vex_status model_store_seal(model_store *store);
/* Write the sealed memtables out. */
vex_status model_store_flush_write(model_store *store, vex_flush_result *result);
/* Commit: manifest, then the new state in memory.  Clears *result. */
vex_status model_store_flush_commit(model_store *store, vex_flush_result *result);
/* Read the newest manifest and replay the log, as after a restart. */
vex_status model_store_reopen(model_store *store);

/* What is wrong with the snapshot, or NULL.  Any thread may ask. */
const char *model_check(const vex_snapshot *snapshot, const model *expected);
#define CHECK_MODEL(snapshot, expected)                                                            \
    do {                                                                                           \
        const char *wrong_ = model_check(snapshot, expected);                                      \
        if (wrong_ != NULL) {                                                                      \
            test_failed(__FILE__, __LINE__, "%s", wrong_);                                         \
        }                                                                                          \
    } while (0)

#endif
