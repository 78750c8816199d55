/*
 * t_mem.c - allocators, bulk buffers, arenas, byte strings, counters, failures on demand.
 */
#include "base/mem.h"
#include "tests/harness.h"

#include <pthread.h>

typedef struct usage {
    uint64_t heap_bytes, heap_blocks, bulk_bytes, bulk_maps;
} usage;

static usage usage_now(void) {
    return (usage){vex_stat_get(VEX_STAT_HEAP_BYTES), vex_stat_get(VEX_STAT_HEAP_BLOCKS),
                   vex_stat_get(VEX_STAT_BULK_BYTES), vex_stat_get(VEX_STAT_BULK_MAPS)};
}

static void check_usage(usage expected) {
    usage now = usage_now();
    CHECK_EQ(now.heap_blocks, expected.heap_blocks);
    CHECK_EQ(now.heap_bytes, expected.heap_bytes);
    CHECK_EQ(now.bulk_maps, expected.bulk_maps);
    CHECK_EQ(now.bulk_bytes, expected.bulk_bytes);
}

TEST(mem_counts_blocks) {
    usage before = usage_now();
    char *p = vex_malloc(1000);
    CHECK(p != NULL);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), before.heap_blocks + 1);
    CHECK(vex_stat_get(VEX_STAT_HEAP_BYTES) >= before.heap_bytes + 1000);
    memset(p, 'x', 1000);
    p = vex_realloc(p, 100000);
    CHECK(p != NULL && p[999] == 'x');
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), before.heap_blocks + 1);
    CHECK(vex_stat_get(VEX_STAT_HEAP_BYTES) >= before.heap_bytes + 100000);
    vex_free(p);
    vex_free(NULL);

    char *text = vex_strdup("hello");
    CHECK(text != NULL && strcmp(text, "hello") == 0);
    vex_free(text);
    void *nothing = vex_malloc(0), *none = vex_calloc(0, 8);
    CHECK(nothing != NULL && none != NULL);
    nothing = vex_realloc(nothing, 0);
    CHECK(nothing != NULL);
    vex_free(nothing);
    vex_free(none);

    uint8_t *zeroed = vex_calloc(100, 10);
    CHECK(zeroed != NULL);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(zeroed[i], 0);
    }
    vex_free(zeroed);
    check_usage(before);
}

TEST(mem_sizes_that_overflow_are_refused) {
    volatile size_t huge = SIZE_MAX / 2 + 2; /* volatile: the compiler would warn */
    CHECK(vex_calloc(huge, 2) == NULL);

    uint64_t *array = NULL;
    size_t capacity = 0;
    CHECK_STATUS(vex_grow((void **)&array, &capacity, huge, 8), VEX_ERR_NO_MEMORY);
    CHECK(array == NULL && capacity == 0);

    vex_bulk bulk;
    CHECK_STATUS(vex_bulk_create(&bulk, SIZE_MAX), VEX_ERR_NO_MEMORY);
    CHECK_STATUS(vex_bulk_create(&bulk, SIZE_MAX - ((size_t)1 << 20)), VEX_ERR_NO_MEMORY);

    vex_arena *arena;
    CHECK_OK(vex_arena_create(&arena, 4096));
    CHECK(vex_arena_alloc(arena, SIZE_MAX, 8) == NULL);
    CHECK(vex_arena_alloc(arena, SIZE_MAX - 40, 8) == NULL);
    vex_arena_destroy(arena);

    vex_buf buf = {0};
    CHECK_OK(vex_buf_append(&buf, "x", 1));
    CHECK_STATUS(vex_buf_reserve(&buf, SIZE_MAX), VEX_ERR_NO_MEMORY);
    CHECK_EQ(buf.len, 1);
    vex_buf_clear(&buf);
}

TEST(mem_grow_keeps_content_and_doubles) {
    uint32_t *array = NULL;
    size_t capacity = 0, moves = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        size_t before = capacity;
        CHECK_OK(vex_grow((void **)&array, &capacity, i + 1, sizeof *array));
        moves += capacity != before;
        array[i] = i;
    }
    CHECK(moves < 20);
    for (uint32_t i = 0; i < 100000; i++) {
        CHECK_EQ(array[i], i);
    }
    vex_free(array);
}

TEST(bulk_small_is_heap_large_is_mapped) {
    usage before = usage_now();
    uint64_t made = vex_stat_get(VEX_STAT_BULK_MAPS_TOTAL);
    vex_bulk small, large;
    CHECK_OK(vex_bulk_create(&small, VEX_BULK_MAP_MIN - 1));
    CHECK(!small.mapped && small.bytes >= VEX_BULK_MAP_MIN - 1);
    CHECK_EQ((uintptr_t)small.data % 64, 0);
    CHECK_EQ(vex_stat_get(VEX_STAT_BULK_MAPS), before.bulk_maps);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), before.heap_blocks + 1);

    CHECK_OK(vex_bulk_create(&large, VEX_BULK_MAP_MIN + 1));
    CHECK(large.mapped && large.bytes > VEX_BULK_MAP_MIN);
    CHECK_EQ((uintptr_t)large.data % VEX_BULK_MAP_MIN, 0);
    CHECK_EQ(vex_stat_get(VEX_STAT_BULK_MAPS), before.bulk_maps + 1);
    CHECK_EQ(vex_stat_get(VEX_STAT_BULK_MAPS_TOTAL), made + 1);
    CHECK_EQ(vex_stat_get(VEX_STAT_BULK_BYTES), before.bulk_bytes + large.bytes);
    memset(small.data, 1, small.bytes);
    memset(large.data, 1, large.bytes);

    vex_bulk_destroy(&small);
    vex_bulk_destroy(&large);
    vex_bulk_destroy(&large); /* zeroed by the first */
    check_usage(before);
    CHECK_EQ(vex_stat_get(VEX_STAT_BULK_MAPS_TOTAL), made + 1);

    CHECK_OK(vex_bulk_create(&small, 0));
    CHECK(small.data != NULL && small.bytes > 0);
    vex_bulk_destroy(&small);
}

TEST(bulk_mappings_are_aligned_and_whole) {
    vex_bulk bulks[20];
    for (int i = 0; i < 20; i++) {
        CHECK_OK(vex_bulk_create(&bulks[i], VEX_BULK_MAP_MIN + test_random_below(8u << 20)));
        CHECK_EQ((uintptr_t)bulks[i].data % VEX_BULK_MAP_MIN, 0);
        memset(bulks[i].data, i, bulks[i].bytes);
    }
    for (int i = 0; i < 20; i++) {
        const uint8_t *bytes = bulks[i].data;
        CHECK(bytes[0] == i && bytes[bulks[i].bytes - 1] == i);
        vex_bulk_destroy(&bulks[i]);
    }
}

#if defined(__linux__)

static unsigned long virtual_pages(void) {
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL);
    int fields = fscanf(statm, "%lu", &pages);
    fclose(statm);
    CHECK_EQ(fields, 1);
    return pages;
}

TEST(bulk_mappings_leave_no_surplus) {
    unsigned long before = virtual_pages();
    for (int i = 0; i < 1000; i++) { /* 2 GiB of surplus, were it left behind */
        vex_bulk bulk;
        CHECK_OK(vex_bulk_create(&bulk, VEX_BULK_MAP_MIN + 1));
        vex_bulk_destroy(&bulk);
    }
    CHECK(virtual_pages() < before + 10000);
}

#endif

TEST(arena_blobs_stay_whole) {
    usage before = usage_now();
    static const size_t chunk_sizes[] = {0, 4096, 65536, (size_t)4 << 20};
    for (size_t c = 0; c < 4; c++) {
        vex_arena *arena;
        CHECK_OK(vex_arena_create(&arena, chunk_sizes[c]));
        CHECK_EQ(vex_arena_bytes(arena), 0);
        static struct {
            uint8_t *at;
            size_t len;
        } blobs[3000];
        size_t total = 0;
        for (size_t i = 0; i < 3000; i++) {
            uint32_t kind = test_random_below(100);
            size_t len = kind < 90 ? test_random_below(200) : test_random_below(20000);
            size_t align = (size_t)1 << test_random_below(7);
            blobs[i].at = vex_arena_alloc(arena, len, align);
            blobs[i].len = len;
            CHECK(blobs[i].at != NULL);
            CHECK_EQ((uintptr_t)blobs[i].at % align, 0);
            memset(blobs[i].at, (int)(i & 0xFF), len);
            total += len;
        }
        for (size_t i = 0; i < 3000; i++) {
            for (size_t b = 0; b < blobs[i].len; b++) {
                CHECK_EQ(blobs[i].at[b], i & 0xFF);
            }
        }
        CHECK(vex_arena_bytes(arena) >= total);
        vex_arena_destroy(arena);
    }
    vex_arena_destroy(NULL);
    check_usage(before);
}

TEST(arena_starts_small_and_wastes_little) {
    vex_arena *arena;
    CHECK_OK(vex_arena_create(&arena, (size_t)4 << 20));
    CHECK(vex_arena_alloc(arena, 10, 1) != NULL);
    CHECK(vex_arena_bytes(arena) <= 8192);
    size_t total = 10;
    for (int i = 0; i < 200000; i++) {
        CHECK(vex_arena_alloc(arena, 100, 1) != NULL);
        total += 100;
    }
    CHECK(vex_arena_bytes(arena) < total + ((size_t)5 << 20));
    CHECK(vex_stat_get(VEX_STAT_BULK_MAPS) > 0);

    /* a blob larger than a chunk takes what it needs and leaves the chunk being filled alone */
    size_t reserved = vex_arena_bytes(arena);
    CHECK(vex_arena_alloc(arena, (size_t)5 << 20, 64) != NULL);
    size_t grown = vex_arena_bytes(arena) - reserved;
    CHECK(grown >= (size_t)5 << 20 && grown < ((size_t)5 << 20) + 8192);
    vex_arena_destroy(arena);
}

TEST(buf_appends) {
    usage before = usage_now();
    vex_buf buf = {0};
    CHECK_OK(vex_buf_append(&buf, NULL, 0));
    CHECK_OK(vex_buf_append(&buf, "abc", 3));
    CHECK_OK(vex_buf_append_zeros(&buf, 1000));
    CHECK_OK(vex_buf_append(&buf, "def", 3));
    CHECK_EQ(buf.len, 1006);
    CHECK(memcmp(buf.data, "abc", 3) == 0 && memcmp(buf.data + 1003, "def", 3) == 0);
    for (size_t i = 3; i < 1003; i++) {
        CHECK_EQ(buf.data[i], 0);
    }
    vex_buf_clear(&buf);
    CHECK(buf.data == NULL && buf.len == 0 && buf.capacity == 0);
    CHECK_OK(vex_buf_append(&buf, "again", 5));
    vex_buf_clear(&buf);
    check_usage(before);
}

static void *count_a_lot(void *unused) {
    (void)unused;
    for (int i = 0; i < 100000; i++) {
        vex_stat_add(VEX_STAT_DISTANCES, 3);
        vex_stat_add(VEX_STAT_DISTANCES, -1);
    }
    return NULL;
}

TEST(stat_counters_lose_nothing) {
    uint64_t before = vex_stat_get(VEX_STAT_DISTANCES);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, count_a_lot, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(vex_stat_get(VEX_STAT_DISTANCES), before + 800000);
}

#ifdef VEX_TESTING

TEST(mem_fails_at_the_chosen_allocation) {
    usage before = usage_now();
    vex_mem_fail_at(2, false);
    void *first = vex_malloc(1), *second = vex_malloc(1), *third = vex_malloc(1);
    vex_mem_fail_at(0, false);
    CHECK(first != NULL && second == NULL && third != NULL);

    vex_mem_fail_at(1, true);
    vex_bulk bulk = {0};
    void *moved = vex_realloc(first, 100), *zeroed = vex_calloc(1, 1);
    vex_status status = vex_bulk_create(&bulk, 10);
    vex_mem_fail_at(0, false);
    CHECK(moved == NULL && zeroed == NULL && bulk.data == NULL);
    CHECK_EQ(status, VEX_ERR_NO_MEMORY);

    uint8_t *array = NULL;
    size_t capacity = 0;
    vex_mem_fail_at(1, false);
    CHECK_STATUS(vex_grow((void **)&array, &capacity, 10, 1), VEX_ERR_NO_MEMORY);
    CHECK_OK(vex_grow((void **)&array, &capacity, 10, 1));
    vex_free(array);
    vex_free(first);
    vex_free(third);
    check_usage(before);
}

#endif
