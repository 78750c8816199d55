/*
 * t_db_threads.c - writers, readers, background flushes and compactions at once; made for
 * ThreadSanitizer.
 *
 * Each writer owns the ids "w<number>-..." and adds, moves, annotates and deletes them in a
 * fixed rhythm.  Readers check what must hold in every snapshot: batches are whole, counts agree
 * with what a get returns, the rows of a query ascend by distance.
 */
#include "tests/harness.h"

#include "base/mem.h"
#include "base/msgpack.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define WRITERS 2
#define READERS 2
#define ROUNDS 60
#define BATCH 10u /* rows that are always added and deleted together */

typedef struct stress {
    vex_collection *collection;
    atomic_bool done;
    atomic_int failures;
} stress;

typedef struct worker {
    stress *stage;
    uint32_t number;
} worker;

static void note_failure(stress *stage, const char *what) {
    fprintf(stderr, "%s: %s\n", what, vex_last_error()->message);
    atomic_fetch_add(&stage->failures, 1);
}

static vex_status encode_ids(vex_buf *out, uint32_t writer, uint32_t round) {
    VEX_TRY(vex_mp_put_array(out, BATCH));
    for (uint32_t i = 0; i < BATCH; i++) {
        char id[32];
        int len =
            snprintf(id, sizeof id, "w%u-%u-%u", (unsigned)writer, (unsigned)round, (unsigned)i);
        VEX_TRY(vex_mp_put_str(out, id, (size_t)len));
    }
    return VEX_OK;
}

static vex_status write_batch(stress *stage, uint32_t op, uint32_t writer, uint32_t round) {
    vex_buf records = {0};
    float vectors[BATCH * 4];
    for (uint32_t i = 0; i < BATCH * 4; i++) {
        vectors[i] = (float)((writer * 31 + round * 7 + i) % 97);
    }
    vex_status status = vex_mp_put_array(&records, 4);
    status = status == VEX_OK ? encode_ids(&records, writer, round) : status;
    status = status == VEX_OK ? vex_mp_put_nil(&records) : status;
    status = status == VEX_OK ? vex_mp_put_array(&records, BATCH) : status;
    for (uint32_t i = 0; i < BATCH && status == VEX_OK; i++) {
        status = vex_mp_put_map(&records, 1);
        status = status == VEX_OK ? vex_mp_put_str(&records, "op", 2) : status;
        status = status == VEX_OK ? vex_mp_put_int(&records, (int64_t)op) : status;
    }
    status = status == VEX_OK ? vex_mp_put_nil(&records) : status;
    const vex_write_request request = {.op = op,
                                       .n = BATCH,
                                       .dimension = 4,
                                       .vectors = vectors,
                                       .records = records.data,
                                       .records_len = records.len};
    status = status == VEX_OK ? vex_write(stage->collection, &request, NULL) : status;
    vex_buf_clear(&records);
    return status;
}

static vex_status delete_batch(stress *stage, uint32_t writer, uint32_t round) {
    vex_buf ids = {0};
    vex_status status = encode_ids(&ids, writer, round);
    const vex_selection selection = {.ids = ids.data, .ids_len = ids.len};
    status = status == VEX_OK ? vex_delete(stage->collection, &selection, -1, NULL) : status;
    vex_buf_clear(&ids);
    return status;
}

static void *run_writer(void *argument) {
    const worker *self = argument;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        vex_status status = write_batch(self->stage, VEX_WRITE_ADD, self->number, round);
        if (status == VEX_OK && round % 3 == 1) {
            status = write_batch(self->stage, VEX_WRITE_UPSERT, self->number, round - 1);
        }
        if (status == VEX_OK && round % 4 == 3) {
            status = delete_batch(self->stage, self->number, round - 2);
        }
        if (status == VEX_OK && round % 20 == 19) {
            status = vex_collection_flush(self->stage->collection);
        }
        if (status != VEX_OK) {
            note_failure(self->stage, "write");
        }
    }
    return NULL;
}

static void check_get(stress *stage) {
    vex_result *result = NULL;
    if (vex_get(stage->collection, NULL, 0, -1, VEX_INCLUDE_METADATAS | VEX_INCLUDE_SEQS,
                &result)) {
        note_failure(stage, "get");
        return;
    }
    bool ordered = result->n_rows % BATCH == 0; /* batches are whole */
    for (uint32_t i = 1; i < result->n_rows; i++) {
        ordered = ordered && result->seqs[i - 1] < result->seqs[i];
    }
    vex_result_free(result);
    if (!ordered) {
        note_failure(stage, "a get shows half a batch or the wrong order");
    }
}

static void check_query(stress *stage) {
    vex_result *result = NULL;
    const float query[4] = {1, 2, 3, 4};
    if (vex_query(stage->collection, NULL, query, 1, 4, 15, NULL, 0, &result)) {
        note_failure(stage, "query");
        return;
    }
    bool ascending = true;
    for (uint32_t i = 1; i < result->n_rows; i++) {
        ascending = ascending && result->distances[i - 1] <= result->distances[i];
    }
    vex_result_free(result);
    if (!ascending) {
        note_failure(stage, "distances do not ascend");
    }
}

static void check_filter(stress *stage) {
    vex_buf filter = {0};
    uint64_t n = 0;
    vex_status status = vex_mp_put_array(&filter, 3);
    status = status == VEX_OK ? vex_mp_put_int(&filter, VEX_F_GE) : status;
    status = status == VEX_OK ? vex_mp_put_str(&filter, "op", 2) : status;
    status = status == VEX_OK ? vex_mp_put_int(&filter, 0) : status;
    const vex_selection selection = {.filter = filter.data, .filter_len = filter.len};
    status = status == VEX_OK ? vex_count(stage->collection, &selection, &n) : status;
    vex_buf_clear(&filter);
    if (status != VEX_OK || n % BATCH != 0) {
        note_failure(stage, "a filtered count shows half a batch");
    }
}

static void *run_reader(void *argument) {
    stress *stage = ((const worker *)argument)->stage;
    while (!atomic_load(&stage->done)) {
        check_get(stage);
        check_query(stage);
        check_filter(stage);
    }
    return NULL;
}

/* Everything is merged again and again, beside what the background merges. */
static void *run_compactor(void *argument) {
    stress *stage = argument;
    while (!atomic_load(&stage->done)) {
        if (vex_collection_compact(stage->collection, 0) != VEX_OK) {
            note_failure(stage, "compact");
        }
        vex_status status = vex_collection_wait_idle(stage->collection, 5);
        if (status != VEX_OK && status != VEX_ERR_BUSY) {
            note_failure(stage, "wait_idle");
        }
    }
    return NULL;
}

static void run_stage(const char *path, uint32_t durability, uint32_t memtable_rows,
                      bool compacting, uint32_t index_rows) {
    static const uint8_t uuid[16] = {42};
    const vex_db_options options = {.durability = durability,
                                    .busy_timeout_ms = 60000,
                                    .memtable_rows = memtable_rows,
                                    .index_rows = index_rows};
    vex_db *db = NULL;
    stress stage = {0};
    pthread_t writers[WRITERS], readers[READERS], compactor;
    worker workers[WRITERS + READERS];
    CHECK_OK(vex_db_open(path, &options, &db));
    CHECK_OK(vex_collection_create(db, uuid, VEX_SPACE_L2));
    CHECK_OK(vex_collection_open(db, uuid, &stage.collection));
    CHECK_OK(vex_collection_set_index(stage.collection, &(vex_index_options){.ef = 1}));
    for (uint32_t i = 0; i < WRITERS + READERS; i++) {
        workers[i] = (worker){&stage, i};
    }
    for (uint32_t i = 0; i < READERS; i++) {
        CHECK(pthread_create(&readers[i], NULL, run_reader, &workers[WRITERS + i]) == 0);
    }
    CHECK(!compacting || pthread_create(&compactor, NULL, run_compactor, &stage) == 0);
    for (uint32_t i = 0; i < WRITERS; i++) {
        CHECK(pthread_create(&writers[i], NULL, run_writer, &workers[i]) == 0);
    }
    for (uint32_t i = 0; i < WRITERS; i++) {
        pthread_join(writers[i], NULL);
    }
    atomic_store(&stage.done, true);
    for (uint32_t i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
    }
    if (compacting) {
        pthread_join(compactor, NULL);
    }
    CHECK_EQ(atomic_load(&stage.failures), 0);
    uint64_t rows = 0;
    CHECK_OK(vex_count(stage.collection, NULL, &rows));
    CHECK_EQ(rows, WRITERS * BATCH * (ROUNDS - ROUNDS / 4));
    CHECK_OK(vex_collection_close(stage.collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_threads_in_memory) {
    run_stage(NULL, VEX_DURABILITY_FULL, 150, false, 0);
}
TEST(db_threads_on_disk) {
    run_stage(test_directory(), VEX_DURABILITY_FULL, 150, false, 0);
}
TEST(db_threads_with_delayed_syncs) {
    run_stage(test_directory(), VEX_DURABILITY_NORMAL, 150, false, 0);
}
TEST(db_threads_with_compactions_in_memory) {
    run_stage(NULL, VEX_DURABILITY_FULL, 15, true, 0);
}
TEST(db_threads_with_compactions_on_disk) {
    run_stage(test_directory(), VEX_DURABILITY_FULL, 15, true, 0);
}
TEST(db_threads_with_a_graph_in_memory) {
    run_stage(NULL, VEX_DURABILITY_FULL, 150, false, 100);
}
TEST(db_threads_with_a_graph_on_disk) {
    run_stage(test_directory(), VEX_DURABILITY_OFF, 150, false, 100);
}
TEST(db_threads_with_a_graph_and_compactions) {
    run_stage(test_directory(), VEX_DURABILITY_OFF, 60, true, 100);
}
