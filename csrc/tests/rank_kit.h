/*
 * rank_kit.h - what the tests of ranking share: sparse vectors at random, and a world whose records
 * have them under "sv".
 */
#ifndef VEX_TESTS_RANK_KIT_H
#define VEX_TESTS_RANK_KIT_H

#include "base/bytes.h"
#include "rank/sparse.h"
#include "tests/filter_kit.h"
#include "tests/filter_world.h"

#define KIT_SPARSE_MAX 12u /* entries */
#define KIT_INDICES 30u    /* different indices, so that much is shared */

typedef struct kit_sparse {
    uint32_t n, indices[KIT_SPARSE_MAX];
    float values[KIT_SPARSE_MAX];
} kit_sparse;

/* Few different values, so that scores are often equal. */
static inline kit_sparse kit_random_sparse(uint32_t most) {
    kit_sparse out = {.n = 0};
    const uint32_t n = test_random_below(most + 1);
    for (uint32_t index = 0; index < KIT_INDICES && out.n < n; index++) {
        if (test_random_below(KIT_INDICES) < 2 * n) {
            out.indices[out.n] = index * 1000u;
            out.values[out.n++] = (float)test_random_below(9) / 4 - 1;
        }
    }
    return out;
}

static inline void kit_put_sparse(vex_buf *out, const kit_sparse *vector) {
    uint8_t payload[4 + 8 * KIT_SPARSE_MAX];
    vex_put32(payload, vector->n);
    for (uint32_t i = 0; i < vector->n; i++) {
        uint32_t bits;
        memcpy(&bits, &vector->values[i], sizeof bits);
        vex_put32(payload + 4 + 4 * (size_t)i, vector->indices[i]);
        vex_put32(payload + 4 + 4 * (size_t)(vector->n + i), bits);
    }
    CHECK_OK(vex_mp_put_ext(out, 1, payload, 4 + 8 * (size_t)vector->n));
}

/* Metadata {"g": 0..2, "sv": a sparse vector}, some without either. */
static inline void kit_random_ranked(record *r) {
    const bool group = test_random_below(5) != 0, sparse = test_random_below(6) != 0;
    vex_buf_clear(&r->metadata);
    kit_put(&r->metadata, "m", (unsigned)group + (unsigned)sparse);
    if (group) {
        kit_put(&r->metadata, "si", "g", (long long)test_random_below(3));
    }
    if (sparse) {
        const kit_sparse vector = kit_random_sparse(KIT_SPARSE_MAX);
        kit_str(&r->metadata, "sv");
        kit_put_sparse(&r->metadata, &vector);
    }
}

/* New records, other metadata for some, and the end of others. */
static inline void kit_ranked_batch(world *w, uint32_t n_new) {
    vex_batch batch = {0};
    const size_t n_old = w->n;
    for (uint32_t i = 0; i < n_new; i++) {
        record *r = world_new_record(w);
        kit_random_ranked(r);
        world_put(&batch, VEX_OP_PUT, r);
    }
    for (size_t i = 0; i < n_old; i++) {
        record *r = w->records[i];
        const uint32_t what = test_random_below(20);
        if (r->live && what == 0) {
            r->live = false;
            world_put(&batch, VEX_OP_DELETE, r);
        } else if (r->live && what == 1) {
            kit_random_ranked(r);
            world_put(&batch, VEX_OP_PAYLOAD, r);
        }
    }
    world_commit(w, &batch);
}

/* Some files, and rows in memory. */
static inline world kit_ranked_world(uint32_t n_files) {
    world w = world_make();
    for (uint32_t i = 0; i < n_files; i++) {
        kit_ranked_batch(&w, 40);
        kit_ranked_batch(&w, 10);
        world_seal(&w);
        world_flush(&w, 0);
    }
    kit_ranked_batch(&w, 30);
    world_seal(&w);
    kit_ranked_batch(&w, 20);
    return w;
}

#endif
