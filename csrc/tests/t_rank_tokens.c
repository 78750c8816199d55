/*
 * t_rank_tokens.c - the tokenizer: the tokens of golden texts, and of any bytes.
 */
#include "rank/tokens.h"
#include "tests/harness.h"

#include <stdlib.h>

#include "tests/tokens_golden.h"

TEST(tokens_of_golden_texts) {
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        const char *expected = golden[i].tokens;
        vex_tokens tokens;
        vex_tokens_start(&tokens, (const uint8_t *)golden[i].text, golden[i].len);
        while (vex_tokens_next(&tokens)) {
            if (strncmp(expected, (const char *)tokens.bytes, tokens.len) != 0 ||
                expected[tokens.len] != '\n') {
                test_failed(__FILE__, __LINE__, "text %zu (%s): token %.*s, expected %s", i,
                            golden[i].text, (int)tokens.len, (const char *)tokens.bytes, expected);
            }
            expected += tokens.len + 1;
        }
        if (*expected != 0) {
            test_failed(__FILE__, __LINE__, "text %zu (%s): no more tokens, expected %s", i,
                        golden[i].text, expected);
        }
    }
}

/* In a block of exactly its size, so that a sanitizer sees a read behind it. */
TEST(tokens_of_any_bytes) {
    for (int round = 0; round < 2000; round++) {
        const size_t len = test_random_below(60);
        uint8_t *text = malloc(len + 1);
        uint32_t n = 0;
        for (size_t i = 0; i < len; i++) {
            text[i] = test_random_below(3) ? (uint8_t)(0x80 | test_random_below(128))
                                           : (uint8_t)test_random_below(256);
        }
        text = realloc(text, len ? len : 1);
        vex_tokens tokens;
        vex_tokens_start(&tokens, text, len);
        while (vex_tokens_next(&tokens)) {
            CHECK(tokens.len > 0 && tokens.len <= VEX_TOKEN_BYTES_MAX);
            n++;
        }
        CHECK(n <= len && !vex_tokens_next(&tokens));
        free(text);
    }
}
