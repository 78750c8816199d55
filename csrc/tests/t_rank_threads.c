/*
 * t_rank_threads.c - queries side by side, on the newest rows and on older ones of the same
 * memtable, while rows are added and what was made is forgotten.
 */
#include "tests/rank_kit.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 4
#define ROUNDS 40

typedef struct asker {
    vex_snapshot *snapshot;
    atomic_bool *stop;
    float first; /* the best score, which does not change */
    uint64_t asked;
    bool failed;
} asker;

static bool ask(asker *a, float *best) {
    static const uint32_t indices[] = {1000, 2000, 3000};
    static const float values[] = {1, -1, 2};
    const vex_text_query text = {(const uint8_t *)"alpha gamma beta", 16, 1.2f, 0.75f};
    const vex_sparse_query sparse = {
        .key = (const uint8_t *)"sv", .key_len = 2, .indices = indices, .values = values, .n = 3};
    vex_scored_list found = {0}, vectors = {0};
    const bool fine = vex_retrieve_text(a->snapshot, NULL, &text, 10, &found) == VEX_OK &&
                      vex_retrieve_sparse(a->snapshot, NULL, &sparse, 10, &vectors) == VEX_OK;
    *best = found.n > 0 && vectors.n > 0 ? found.items[0].score + vectors.items[0].score : 0;
    vex_scored_list_clear(&found);
    vex_scored_list_clear(&vectors);
    return fine;
}

static void *keep_asking(void *context) {
    asker *a = context;
    while (!atomic_load(a->stop) && !a->failed) {
        float best;
        a->failed = !ask(a, &best) || best != a->first;
        a->asked++;
    }
    return NULL;
}

TEST(ranking_by_many_threads_while_rows_are_added) {
    world w = kit_ranked_world(1);
    asker askers[THREADS];
    pthread_t threads[THREADS];
    atomic_bool stop = false;
    for (int i = 0; i < THREADS; i++) {
        kit_ranked_batch(&w, 400);
        askers[i] = (asker){.snapshot = vex_snapshot_acquire(w.snapshot), .stop = &stop};
        CHECK(ask(&askers[i], &askers[i].first));
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, keep_asking, &askers[i]), 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        asker newest = {.snapshot = w.snapshot};
        float best;
        kit_ranked_batch(&w, 60);
        newest.snapshot = w.snapshot;
        newest.failed = !ask(&newest, &best);
        if (newest.failed) {
            break;
        }
        if (round % 10 == 9) {
            vex_annexes_forget(
                vex_memtable_annexes(w.snapshot->mems[w.snapshot->n_mems - 1].table));
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        vex_snapshot_release(askers[i].snapshot);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(!askers[i].failed && askers[i].asked > 0);
    }
    world_free(&w);
}
