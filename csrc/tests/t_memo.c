/*
 * t_memo.c - the memo of a file: what is kept, what has to go, many threads.
 */
#include "store/memo.h"
#include "tests/harness.h"

static void put(vex_memo *memo, uint32_t number) {
    const uint64_t value[3] = {number, (uint64_t)number * 7, 1};
    vex_memo_put(memo, &number, sizeof number, value, sizeof value);
}

/* Is the value there?  If so it is the right one. */
static bool has(vex_memo *memo, uint32_t number) {
    uint64_t value[3] = {0};
    const bool there = vex_memo_get(memo, &number, sizeof number, value, sizeof value);
    CHECK(!there || (value[0] == number && value[1] == (uint64_t)number * 7 && value[2] == 1));
    return there;
}

TEST(memo_keeps_what_was_used_last) {
    vex_memo memo;
    vex_memo_init(&memo);
    CHECK(!has(&memo, 0));
    for (uint32_t i = 0; i < VEX_MEMO_VALUES; i++) {
        put(&memo, i);
    }
    CHECK(has(&memo, 0)); /* used again */
    put(&memo, 100);      /* in the place of 1 */
    CHECK(has(&memo, 0) && !has(&memo, 1) && has(&memo, 2) && has(&memo, 100));
    for (uint32_t i = 200; i < 200 + VEX_MEMO_VALUES; i++) {
        put(&memo, i);
    }
    CHECK(!has(&memo, 0) && !has(&memo, 100) && has(&memo, 200));
    vex_memo_clear(&memo);
}

TEST(memo_replaces_and_tells_lengths_apart) {
    vex_memo memo;
    char value[8] = "";
    vex_memo_init(&memo);
    vex_memo_put(&memo, "key", 3, "one", 4);
    vex_memo_put(&memo, "key", 3, "three", 6);
    CHECK(!vex_memo_get(&memo, "key", 3, value, 4));
    CHECK(vex_memo_get(&memo, "key", 3, value, 6));
    CHECK_EQ(strcmp(value, "three"), 0);
    CHECK(!vex_memo_get(&memo, "ke", 2, value, 6));
    vex_memo_put(&memo, "", 0, "", 0);
    CHECK(vex_memo_get(&memo, "", 0, value, 0));
    vex_memo_clear(&memo);
}

TEST(memo_leaves_large_keys) {
    static const char key[VEX_MEMO_KEY_MAX + 1];
    vex_memo memo;
    char value;
    vex_memo_init(&memo);
    vex_memo_put(&memo, key, VEX_MEMO_KEY_MAX + 1, "x", 1);
    CHECK(!vex_memo_get(&memo, key, VEX_MEMO_KEY_MAX + 1, &value, 1));
    vex_memo_put(&memo, key, VEX_MEMO_KEY_MAX, "x", 1);
    CHECK(vex_memo_get(&memo, key, VEX_MEMO_KEY_MAX, &value, 1));
    vex_memo_clear(&memo);
}

static void *use(void *argument) {
    for (uint32_t i = 0; i < 3000; i++) {
        if (!has(argument, i % 11)) {
            put(argument, i % 11);
        }
    }
    return NULL;
}

TEST(memo_in_threads) {
    vex_memo memo;
    pthread_t threads[4];
    vex_memo_init(&memo);
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, use, &memo), 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    vex_memo_clear(&memo);
}
