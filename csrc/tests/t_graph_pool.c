/*
 * t_graph_pool.c - the pool of a walk: whoever puts keys in, the same come out.
 */
#include "base/cpu.h"
#include "index/graph_internal.h"

#include "tests/harness.h"

#include <stdlib.h>

#define EF_MOST 400u
#define KEYS_MOST 40u

static int by_key(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Keys that differ, mixed: every key is of another id.  Distances repeat. */
static void draw(uint64_t *keys, uint32_t n, uint32_t *id) {
    for (uint32_t i = 0; i < n; i++) {
        keys[i] = key_make((float)test_random_below(50) - 10.0f, (*id)++) |
                  (test_random_below(2) ? KEY_DONE : 0);
    }
}

static void check_taker(graph_pool_taker take, uint32_t ef) {
    uint64_t pool[EF_MOST + 8], all[3 * EF_MOST + 2 * KEYS_MOST], keys[KEYS_MOST];
    uint32_t held = 0, n = 0, id = 1;
    for (uint32_t i = 0; i < ef + 8; i++) {
        pool[i] = test_random(); /* what is behind the keys does not count */
    }
    while (n <= 3 * ef) {
        const uint32_t more = test_random_below(KEYS_MOST), had = n < ef ? n : ef;
        uint64_t before[EF_MOST];
        memcpy(before, pool, sizeof before);
        draw(keys, more, &id);
        memcpy(all + n, keys, more * sizeof *keys);
        n += more;
        qsort(all, n, sizeof *all, by_key);
        const uint32_t kept = n < ef ? n : ef;
        const uint32_t first = take(pool, &held, ef, keys, more);
        CHECK_EQ(held, kept);
        CHECK(memcmp(pool, all, kept * sizeof *pool) == 0);
        uint32_t changed = 0;
        while (changed < had && changed < kept && before[changed] == pool[changed]) {
            changed++;
        }
        CHECK_EQ(first, changed == kept ? ef : changed);
    }
}

TEST(graph_pools_are_the_same_at_every_level) {
    for (uint32_t ef = 1; ef <= EF_MOST; ef += ef < 40 ? 1 : 1 + test_random_below(30)) {
        check_taker(graph_pool_take_plain, ef);
        check_taker(graph_pool_best_taker(), ef);
#if defined(__x86_64__)
        if (vex_cpu()->avx512) {
            check_taker(graph_pool_take_avx512, ef);
        }
#endif
    }
}
