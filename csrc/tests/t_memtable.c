/*
 * t_memtable.c - the memtable: rows, keys, versions, memory; and its hash table.
 */
#include "base/hash.h"
#include "store/key_table.h"
#include "store/memtable.h"
#include "store/slabs.h"
#include "tests/vfs_suite.h"

#include <pthread.h>
#include <stdlib.h>

static vex_op put_op(uint64_t seq, const char *id, const char *document, const float *vector) {
    return (vex_op){.kind = VEX_OP_PUT,
                    .vector = vector,
                    .payload = {.seq = seq,
                                .id = (const uint8_t *)id,
                                .id_len = (uint32_t)strlen(id),
                                .document = (const uint8_t *)document,
                                .document_len = document ? (uint32_t)strlen(document) : 0}};
}

static vex_op of_kind(vex_op_kind kind, vex_op op) {
    op.kind = kind;
    return op;
}

static uint32_t apply_ops(vex_memtable *table, const vex_op *ops, size_t n, uint32_t dimension,
                          uint64_t lsn) {
    vex_batch batch = {.dimension = dimension};
    for (size_t i = 0; i < n; i++) {
        CHECK_OK(vex_batch_add(&batch, &ops[i]));
    }
    CHECK_OK(vex_memtable_prepare(table, &batch));
    uint32_t deleted = vex_memtable_apply(table, &batch, lsn);
    vex_batch_clear(&batch);
    return deleted;
}

static uint32_t find_id(const vex_memtable *table, const char *id, uint64_t lsn) {
    size_t len = strlen(id);
    return vex_memtable_find_id(table, id, len, vex_hash64(id, len), lsn);
}

TEST(memtable_versions) {
    resources before = resources_now();
    vex_memtable *table;
    CHECK_OK(vex_memtable_create(&table));
    const float v[4][2] = {{1, 2}, {3, 4}, {5, 6}, {7, 8}};
    CHECK_EQ(find_id(table, "a", 9), VEX_NO_ROW);
    CHECK_EQ(vex_memtable_find_vector(table, 0, 9), VEX_NO_ROW);

    const vex_op first[] = {put_op(10, "a", "one", v[0]), put_op(11, "b", NULL, v[1])};
    CHECK_EQ(apply_ops(table, first, 2, 2, 1), 0);
    CHECK_EQ(find_id(table, "a", 0), VEX_NO_ROW); /* not born yet */
    CHECK_EQ(find_id(table, "a", 1), 0);
    CHECK_EQ(find_id(table, "b", 1), 1);
    CHECK_EQ(find_id(table, "c", 1), VEX_NO_ROW);
    CHECK_EQ(vex_memtable_find_payload(table, 11, 1), 1);
    CHECK_EQ(vex_memtable_find_vector(table, 10, 1), 0);
    CHECK(vex_memtable_payload(table, 1)->payload.document == NULL);
    CHECK_EQ(vex_memtable_vector(table, 0)->norm2, 5);
    CHECK_EQ(vex_memtable_vector(table, 1)->norm2, 25);
    CHECK(vex_memtable_in_order(table));

    const vex_op update[] = {of_kind(VEX_OP_VECTOR, put_op(10, "a", NULL, v[2])),
                             of_kind(VEX_OP_PAYLOAD, put_op(11, "b", "", NULL))};
    CHECK_EQ(apply_ops(table, update, 2, 2, 2), 0);
    CHECK_EQ(vex_memtable_find_vector(table, 10, 1), 0);
    CHECK_EQ(vex_memtable_find_vector(table, 10, 2), 2);
    CHECK_EQ(vex_memtable_find_payload(table, 10, 2), 0);
    CHECK_EQ(find_id(table, "b", 1), 1);
    CHECK_EQ(find_id(table, "b", 2), 2);
    const vex_payload *empty = &vex_memtable_payload(table, 2)->payload;
    CHECK(empty->document != NULL && empty->document_len == 0); /* present and empty */
    CHECK(vex_memtable_in_order(table));                        /* 10, 11, 11 */

    /* Gone and put again: a new record of the same id. */
    const vex_op again[] = {of_kind(VEX_OP_DELETE, put_op(10, "a", NULL, NULL)),
                            put_op(12, "a", "two", v[3])};
    CHECK_EQ(apply_ops(table, again, 2, 2, 3), 1);
    CHECK_EQ(find_id(table, "a", 2), 0);
    CHECK_EQ(find_id(table, "a", 3), 3);
    CHECK_EQ(vex_memtable_find_payload(table, 10, 2), 0);
    CHECK_EQ(vex_memtable_find_payload(table, 10, 3), VEX_NO_ROW);
    CHECK_EQ(vex_memtable_find_payload(table, 12, 2), VEX_NO_ROW);
    CHECK_EQ(vex_memtable_find_vector(table, 10, 3), VEX_NO_ROW);
    CHECK_EQ(vex_memtable_find_vector(table, 12, 3), 3);

    /* Born and dead in one batch: never seen.  Unknown seqs are nobody's. */
    const vex_op brief[] = {put_op(13, "d", NULL, v[0]),
                            of_kind(VEX_OP_DELETE, put_op(13, "d", NULL, NULL)),
                            of_kind(VEX_OP_DELETE, put_op(13, "d", NULL, NULL)),
                            of_kind(VEX_OP_DELETE, put_op(99, "x", NULL, NULL))};
    CHECK_EQ(apply_ops(table, brief, 4, 2, 4), 1);
    for (uint64_t lsn = 1; lsn < 6; lsn++) {
        CHECK_EQ(find_id(table, "d", lsn), VEX_NO_ROW);
    }

    CHECK(vex_memtable_kill_payload(table, 3, 5));
    CHECK(!vex_memtable_kill_payload(table, 3, 6));
    CHECK(vex_memtable_kill_vector(table, 3, 5));
    CHECK_EQ(find_id(table, "a", 4), 3);
    CHECK_EQ(find_id(table, "a", 5), VEX_NO_ROW);
    const vex_op older = of_kind(VEX_OP_PAYLOAD, put_op(11, "b", "x", NULL));
    CHECK_EQ(apply_ops(table, &older, 1, 0, 6), 0);
    CHECK(!vex_memtable_in_order(table));
    vex_memtable_release(vex_memtable_acquire(table));
    vex_memtable_release(table);
    check_resources(before);
}

TEST(memtable_unapplied_batches_leave_nothing) {
    resources before = resources_now();
    vex_memtable *table;
    CHECK_OK(vex_memtable_create(&table));
    size_t floats = VEX_BULK_MAP_MIN / sizeof(float);
    float *big = calloc(floats, sizeof *big);
    vex_batch batch = {.dimension = 1024};
    for (uint32_t i = 0; i < floats / 1024; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", (unsigned)i);
        vex_op op = put_op(i, "shared", "text", big + (size_t)i * 1024);
        CHECK_OK(vex_batch_add(&batch, &op));
    }
    uint64_t maps = vex_stat_get(VEX_STAT_BULK_MAPS_TOTAL);
    for (int i = 0; i < 5; i++) {
        CHECK_OK(vex_memtable_prepare(table, &batch));
        CHECK_EQ(vex_stat_get(VEX_STAT_BULK_MAPS), before.maps + 1); /* the failed one is gone */
    }
    CHECK_EQ(vex_stat_get(VEX_STAT_BULK_MAPS_TOTAL), maps + 5); /* one buffer for each */
    CHECK_EQ(vex_memtable_vectors(table), 0);
    CHECK(vex_memtable_bytes(table) < VEX_BULK_MAP_MIN / 2);
    vex_memtable_apply(table, &batch, 1);
    CHECK(vex_memtable_bytes(table) >= VEX_BULK_MAP_MIN);
    CHECK_EQ(vex_memtable_vectors(table), batch.n_ops);
    for (uint32_t row = 0; row < batch.n_ops; row++) {
        const vex_payload *payload = &vex_memtable_payload(table, row)->payload;
        CHECK(payload->document_len == 4 && memcmp(payload->document, "text", 4) == 0);
    }
    vex_batch_clear(&batch);
    free(big);
    vex_memtable_release(table);
    check_resources(before);
}

/* Runs cover all rows, never cross a gap, and are long where batches follow each other. */
TEST(memtable_runs) {
    vex_memtable *table;
    CHECK_OK(vex_memtable_create(&table));
    enum { DIMENSION = 24, ROWS = 5000 };
    float *vectors = malloc(sizeof(float) * DIMENSION * ROWS);
    for (size_t i = 0; i < DIMENSION * ROWS; i++) {
        vectors[i] = test_random_float();
    }
    vex_batch batch = {.dimension = DIMENSION};
    uint64_t lsn = 0;
    for (uint32_t row = 0; row < ROWS;) {
        uint32_t n = 1 + test_random_below(lsn % 3 ? 5 : 900), backwards = test_random_below(2);
        n = n < ROWS - row ? n : ROWS - row;
        batch.n_ops = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t from = row + (backwards ? n - 1 - i : i); /* not contiguous in the caller */
            vex_op op = put_op(from, "id", NULL, vectors + (size_t)from * DIMENSION);
            CHECK_OK(vex_batch_add(&batch, &op));
        }
        CHECK_OK(vex_memtable_prepare(table, &batch));
        vex_memtable_apply(table, &batch, ++lsn);
        row += n;
    }
    CHECK_EQ(vex_memtable_vectors(table), ROWS);
    uint32_t n_runs = 0;
    for (uint32_t row = 0, end; row < ROWS; row = end, n_runs++) {
        const vex_mem_vector *first = vex_memtable_run(table, row, ROWS, DIMENSION, &end);
        CHECK(end > row && end <= ROWS);
        for (uint32_t i = row; i < end; i++) {
            CHECK(&first[i - row] == vex_memtable_vector(table, i));
            CHECK(first[i - row].vector == first->vector + (size_t)(i - row) * DIMENSION);
            const float *original = vectors + first[i - row].seq * DIMENSION;
            CHECK(memcmp(first[i - row].vector, original, DIMENSION * sizeof(float)) == 0);
            double sum = 0;
            for (int d = 0; d < DIMENSION; d++) {
                sum += (double)original[d] * (double)original[d];
            }
            CHECK(first[i - row].norm2 == (float)sum);
        }
    }
    CHECK(n_runs < lsn);
    uint32_t end;
    vex_memtable_run(table, 1, 3, DIMENSION, &end);
    CHECK_EQ(end, 3);
    vex_batch_clear(&batch);
    vex_memtable_release(table);
    free(vectors);
}

/* Against a plain array, with ids that collide in their hash. */
TEST(memtable_model) {
    enum { KEYS = 400, STEPS = 6000, DIMENSION = 3 };
    struct {
        uint64_t seq, payload_born, vector_born; /* seq 0: not there */
    } model[KEYS] = {0};
    vex_memtable *table;
    CHECK_OK(vex_memtable_create(&table));
    uint64_t next_seq = 1;
    for (uint64_t lsn = 1; lsn <= STEPS; lsn++) {
        uint32_t key = test_random_below(KEYS);
        char id[16];
        float vector[DIMENSION] = {(float)key, (float)lsn, 0};
        snprintf(id, sizeof id, "key-%u", (unsigned)key);
        vex_op op = put_op(model[key].seq, id, id, vector);
        if (model[key].seq == 0) {
            op.payload.seq = model[key].seq = next_seq++;
            model[key].payload_born = model[key].vector_born = lsn;
        } else {
            op.kind = (vex_op_kind)(VEX_OP_VECTOR + test_random_below(3));
            if (op.kind == VEX_OP_DELETE) {
                model[key].seq = 0;
            } else if (op.kind == VEX_OP_VECTOR) {
                model[key].vector_born = lsn;
            } else {
                model[key].payload_born = lsn;
            }
        }
        CHECK_EQ(apply_ops(table, &op, 1, DIMENSION, lsn), op.kind == VEX_OP_DELETE);
        for (int i = 0; i < 5; i++) {
            key = test_random_below(KEYS);
            snprintf(id, sizeof id, "key-%u", (unsigned)key);
            uint32_t row = find_id(table, id, lsn);
            CHECK_EQ(row != VEX_NO_ROW, model[key].seq != 0);
            if (row != VEX_NO_ROW) {
                CHECK_EQ(vex_memtable_payload(table, row)->payload.seq, model[key].seq);
                CHECK_EQ(vex_memtable_payload(table, row)->born, model[key].payload_born);
                CHECK_EQ(vex_memtable_find_payload(table, model[key].seq, lsn), row);
                uint32_t at = vex_memtable_find_vector(table, model[key].seq, lsn);
                CHECK(at != VEX_NO_ROW);
                CHECK_EQ(vex_memtable_vector(table, at)->born, model[key].vector_born);
                CHECK_EQ(vex_memtable_vector(table, at)->vector[0], (float)key);
            }
        }
    }
    vex_memtable_release(table);
}

TEST(memtable_equal_hashes) {
    vex_memtable *table;
    CHECK_OK(vex_memtable_create(&table));
    const float v[2] = {0};
    const vex_op op = put_op(1, "a", NULL, v);
    apply_ops(table, &op, 1, 2, 1);
    uint64_t hash = vex_hash64("a", 1);
    CHECK_EQ(vex_memtable_find_id(table, "b", 1, hash, 1), VEX_NO_ROW); /* same hash, other id */
    CHECK_EQ(vex_memtable_find_id(table, "a", 1, hash, 1), 0);
    vex_memtable_release(table);

    vex_key_table keys = {.used = 0};
    size_t bytes = 0;
    CHECK_OK(vex_key_table_reserve(&keys, 1000, &bytes));
    for (uint32_t i = 0; i < 1000; i++) {
        vex_key_slot_set_payload(vex_key_table_add(&keys, i % 10 * 1024), i);
    }
    CHECK_OK(vex_key_table_reserve(&keys, 5000, &bytes)); /* moves them */
    for (uint32_t key = 0; key < 11; key++) {
        vex_key_probe probe = vex_key_probe_start(&keys, key * 1024);
        uint32_t n = 0, sum = 0;
        for (vex_key_slot *slot; (slot = vex_key_probe_next(&probe)) != NULL; n++) {
            sum += vex_key_slot_payload(slot);
            CHECK_EQ(vex_key_slot_payload(slot) % 10, key);
            CHECK_EQ(vex_key_slot_vector(slot), VEX_NO_ROW);
        }
        CHECK_EQ(n, key < 10 ? 100 : 0);
        CHECK_EQ(sum, key < 10 ? 49500 + 100 * key : 0);
    }
    vex_key_table_destroy(&keys);
}

TEST(memtable_too_big) {
    vex_memtable *table;
    CHECK_OK(vex_memtable_create(&table));
    vex_batch batch = {.n_ops = (size_t)1 << 31}; /* never looked at */
    CHECK_STATUS(vex_memtable_prepare(table, &batch), VEX_ERR_TOO_BIG);
    vex_memtable_release(table);
}

/* ---- one writer, many readers ---- */

enum { RACE_KEYS = 64, RACE_BATCHES = 10000, RACE_DIMENSION = 4 };
static vex_memtable *race_table;
static _Atomic uint64_t race_published;
static _Atomic uint32_t race_wrong;

/* Batch `lsn` gives two keys, which had seq key + 1 from the start, a new vector and payload; all
 * vectors of one version hold its lsn, and so does its document. */
static void *race_reader(void *argument) {
    uint32_t random = *(const uint32_t *)argument;
    for (;;) {
        uint64_t lsn = atomic_load_explicit(&race_published, memory_order_acquire);
        uint32_t n = vex_memtable_payloads(race_table), live = 0;
        for (uint32_t row = 0; row < n; row++) {
            live += vex_mem_payload_live(vex_memtable_payload(race_table, row), lsn);
        }
        race_wrong += live != RACE_KEYS;
        random = random * 1664525u + 1013904223u;
        uint32_t key = (random >> 8) % RACE_KEYS;
        char id[16];
        snprintf(id, sizeof id, "k%u", (unsigned)key);
        uint32_t payload = find_id(race_table, id, lsn);
        uint32_t same = vex_memtable_find_payload(race_table, key + 1, lsn);
        uint32_t vector = vex_memtable_find_vector(race_table, key + 1, lsn);
        if (payload == VEX_NO_ROW || payload != same || vector == VEX_NO_ROW) {
            race_wrong++;
        } else {
            const vex_mem_payload *p = vex_memtable_payload(race_table, payload);
            const vex_mem_vector *v = vex_memtable_vector(race_table, vector);
            uint64_t document;
            memcpy(&document, p->payload.document, sizeof document);
            race_wrong += document != p->born || p->born > lsn || v->born != p->born ||
                          v->vector[RACE_DIMENSION - 1] != (float)p->born ||
                          v->norm2 != 4.0f * (float)(p->born * p->born);
        }
        if (lsn == RACE_BATCHES) {
            return NULL;
        }
    }
}

static void race_batch(uint64_t lsn, uint32_t first, uint32_t n) {
    vex_op ops[2 * RACE_KEYS];
    char ids[RACE_KEYS][16];
    float vector[RACE_DIMENSION];
    size_t n_ops = 0;
    for (int i = 0; i < RACE_DIMENSION; i++) {
        vector[i] = (float)lsn;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = (first + i) % RACE_KEYS;
        snprintf(ids[i], sizeof ids[i], "k%u", (unsigned)key);
        vex_op op = put_op(key + 1, ids[i], NULL, vector);
        op.payload.document = (const uint8_t *)&lsn;
        op.payload.document_len = sizeof lsn;
        if (lsn == 1) {
            ops[n_ops++] = op;
        } else {
            ops[n_ops++] = of_kind(VEX_OP_VECTOR, op);
            ops[n_ops++] = of_kind(VEX_OP_PAYLOAD, op);
        }
    }
    apply_ops(race_table, ops, n_ops, RACE_DIMENSION, lsn);
    atomic_store_explicit(&race_published, lsn, memory_order_release);
}

TEST(memtable_readers_beside_the_writer) {
    CHECK_OK(vex_memtable_create(&race_table));
    race_wrong = 0;
    race_batch(1, 0, RACE_KEYS);
    pthread_t readers[3];
    uint32_t seeds[3] = {1, 2, 3};
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&readers[i], NULL, race_reader, &seeds[i]), 0);
    }
    for (uint64_t lsn = 2; lsn <= RACE_BATCHES; lsn++) {
        race_batch(lsn, test_random_below(RACE_KEYS), 2);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(readers[i], NULL);
    }
    CHECK_EQ(race_wrong, 0);
    vex_memtable_release(race_table);
}

#ifdef VEX_TESTING
TEST(memtable_without_memory) {
    enum { ROWS = 3000, DIMENSION = 64 };
    float *vectors = calloc(ROWS * DIMENSION, sizeof *vectors);
    vex_batch batch = {.dimension = DIMENSION};
    for (uint32_t i = 0; i < ROWS; i++) {
        vex_op op = put_op(i, "an id", "a document", vectors + (size_t)i * DIMENSION);
        CHECK_OK(vex_batch_add(&batch, &op));
    }
    resources before = resources_now();
    vex_memtable *table;
    CHECK_OK(vex_memtable_create(&table));
    vex_status status = VEX_ERR_NO_MEMORY;
    uint64_t n = 0;
    while (status != VEX_OK && n < 1000) {
        vex_mem_fail_at(++n, false);
        status = vex_memtable_prepare(table, &batch);
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        CHECK_EQ(vex_memtable_vectors(table), 0);
    }
    CHECK_OK(status);
    vex_memtable_apply(table, &batch, 1);
    CHECK_EQ(vex_memtable_payloads(table), ROWS);
    vex_memtable_release(table);
    check_resources(before);
    vex_batch_clear(&batch);
    free(vectors);
}
#endif
