/*
 * run.c - the list of fuzz targets, and one run of one of them (see fuzz.h).
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

extern const fuzz_target fuzz_superblock, fuzz_head, fuzz_manifest, fuzz_wal, fuzz_batch,
    fuzz_vectors, fuzz_payload, fuzz_tombs, fuzz_blocks, fuzz_columns, fuzz_text, fuzz_graph,
    fuzz_words, fuzz_sparse, fuzz_filter, fuzz_search, fuzz_msgpack, fuzz_write, fuzz_database,
    fuzz_transaction;

const fuzz_target *const fuzz_targets[] = {&fuzz_superblock, &fuzz_head,        &fuzz_manifest,
                                           &fuzz_wal,        &fuzz_batch,       &fuzz_vectors,
                                           &fuzz_payload,    &fuzz_tombs,       &fuzz_blocks,
                                           &fuzz_columns,    &fuzz_text,        &fuzz_graph,
                                           &fuzz_words,      &fuzz_sparse,      &fuzz_filter,
                                           &fuzz_search,     &fuzz_msgpack,     &fuzz_write,
                                           &fuzz_database,   &fuzz_transaction, NULL};

const fuzz_target *fuzz_target_named(const char *name) {
    for (const fuzz_target *const *target = fuzz_targets; *target != NULL; target++) {
        if (strcmp((*target)->name, name) == 0) {
            return *target;
        }
    }
    return NULL;
}

/* What must be as before when a run is over. */
static const struct {
    vex_counter counter;
    const char *what;
} held[] = {
    {VEX_STAT_HEAP_BLOCKS, "blocks of memory"},
    {VEX_STAT_BULK_MAPS, "large blocks of memory"},
    {VEX_STAT_MAPPED_FILES, "mapped files"},
    {VEX_STAT_OPEN_FILES, "open files"},
};
#define N_HELD (sizeof held / sizeof held[0])

void fuzz_prepare(const fuzz_target *target) {
    if (target->prepare != NULL) {
        target->prepare();
    }
}

uint64_t fuzz_accepted;

void fuzz_accept(void) {
    fuzz_accepted++;
}

void fuzz_run(const fuzz_target *target, const uint8_t *data, size_t len) {
    uint64_t before[N_HELD];
    const size_t expansion = target->expansion ? target->expansion : FUZZ_EXPANSION;
    for (size_t i = 0; i < N_HELD; i++) {
        before[i] = vex_stat_get(held[i].counter);
    }
    vex_mem_largest_reset();
    target->run(data, len);
    if (vex_mem_largest() > FUZZ_ALLOCATION_FREE + len * expansion) {
        test_failed(__FILE__, __LINE__, "%s: %zu bytes of input had %zu allocated at once",
                    target->name, len, vex_mem_largest());
    }
    for (size_t i = 0; i < N_HELD; i++) {
        if (vex_stat_get(held[i].counter) != before[i]) {
            test_failed(__FILE__, __LINE__, "%s: %lld %s are left", target->name,
                        (long long)(vex_stat_get(held[i].counter) - before[i]), held[i].what);
        }
    }
}

void fuzz_mutate(const fuzz_target *target, fuzz_input *input) {
    for (uint32_t n = 1 + test_random_below(test_random_below(4) ? 1 : 5); n > 0; n--) {
        (target->change != NULL ? target->change : fuzz_change)(input);
    }
    if (target->fix != NULL && test_random_below(32) > 0) {
        target->fix(input->data, input->len);
    }
}
