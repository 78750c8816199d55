/*
 * t_block_cache.c - the cache of decoded blocks: what it gives back, forgets and counts.
 */
#include "codec/block_cache.h"

#include "tests/harness.h"

#include <pthread.h>
#include <stdatomic.h>

#define VALUES 3u
#define RAW 4096u

/* Content that tells its column and block. */
static void put(uint64_t column, uint32_t block) {
    uint8_t raw[RAW];
    const uint32_t ends[VALUES + 1] = {(uint32_t)column, block, 7, 9};
    memset(raw, (int)(column * 31 + block), sizeof raw);
    vex_block_cache_put(column, block, block * VALUES, VALUES, ends, raw, RAW);
}

static bool has(uint64_t column, uint32_t block) {
    vex_cached_block *found = vex_block_cache_get(column, block);
    if (found == NULL) {
        return false;
    }
    bool right = found->column == column && found->block == block && found->count == VALUES &&
                 found->first == block * VALUES && found->ends[0] == (uint32_t)column &&
                 found->ends[1] == block && found->ends[VALUES] == 9;
    for (uint32_t i = 0; i < RAW; i++) {
        right = right && found->raw[i] == (uint8_t)(column * 31 + block);
    }
    CHECK(right);
    vex_block_cache_release(found);
    return true;
}

TEST(block_cache_keeps_and_forgets) {
    vex_block_cache_clear();
    CHECK_EQ(vex_block_cache_bytes(), 0);
    uint64_t heap = vex_stat_get(VEX_STAT_HEAP_BYTES);
    uint64_t one = vex_block_cache_column(), two = vex_block_cache_column();
    CHECK(one != two && one != 0);
    for (uint32_t block = 0; block < 50; block++) {
        put(one, block);
        put(two, block);
        put(two, block); /* again: nothing happens */
    }
    CHECK(vex_block_cache_bytes() >= 100 * RAW);
    CHECK(!has(one, 50));
    CHECK(has(one, 49) && has(two, 49));
    vex_cached_block *reading = vex_block_cache_get(one, 7);
    CHECK(reading != NULL);
    vex_block_cache_forget(one);
    for (uint32_t block = 0; block < 50; block++) {
        CHECK(!has(one, block));
        CHECK(has(two, block));
    }
    CHECK_EQ(reading->raw[RAW - 1], (uint8_t)(one * 31 + 7)); /* who reads it has it still */
    vex_block_cache_release(reading);
    vex_block_cache_clear();
    CHECK_EQ(vex_block_cache_bytes(), 0);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BYTES), heap);
}

TEST(block_cache_has_a_limit) {
    vex_block_cache_clear();
    vex_block_cache_set_limit(20 * (RAW + 200));
    uint64_t column = vex_block_cache_column();
    for (uint32_t block = 0; block < 1000; block++) {
        put(column, block);
        CHECK(vex_block_cache_bytes() <= 20 * (RAW + 200));
    }
    uint32_t there = 0;
    for (uint32_t block = 0; block < 1000; block++) {
        there += has(column, block);
    }
    CHECK(there >= 10 && there <= 20);
    vex_block_cache_set_limit(0);
    CHECK_EQ(vex_block_cache_bytes(), 0);
    put(column, 1);
    CHECK(!has(column, 1));
    vex_block_cache_set_limit(VEX_BLOCK_CACHE_LIMIT);
    vex_mem_fail_at(1, true);
    put(column, 1); /* no memory: it is not kept */
    vex_mem_fail_at(0, false);
    CHECK(!has(column, 1));
    uint8_t *large = vex_calloc(1, VEX_BLOCK_CACHE_BLOCK_MAX + 1);
    const uint32_t ends[2] = {0, 0};
    vex_block_cache_put(column, 2, 0, 1, ends, large, VEX_BLOCK_CACHE_BLOCK_MAX + 1);
    CHECK(vex_block_cache_get(column, 2) == NULL);
    vex_free(large);
    vex_block_cache_clear();
}

static void *use(void *argument) {
    const uint64_t *shared = argument;
    uint64_t own = vex_block_cache_column(), state = own;
    for (uint32_t round = 0; round < 3000; round++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint32_t block = (uint32_t)(state >> 33) % 60;
        uint64_t column = state >> 63 ? own : *shared;
        if (!has(column, block)) {
            put(column, block);
        }
        if (round % 500 == 499) {
            vex_block_cache_forget(own);
        }
    }
    vex_block_cache_forget(own);
    return NULL;
}

TEST(block_cache_threads) {
    vex_block_cache_clear();
    vex_block_cache_set_limit(64 * RAW);
    uint64_t shared = vex_block_cache_column();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, use, &shared) == 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    vex_block_cache_forget(shared);
    CHECK_EQ(vex_block_cache_bytes(), 0);
    vex_block_cache_set_limit(VEX_BLOCK_CACHE_LIMIT);
}
