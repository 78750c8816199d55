/*
 * t_fold.c - case folding, and looking for text without regard to case.
 */
#include "base/fold.h"
#include "filter/expr.h"
#include "filter/text_runs.h"
#include "tests/harness.h"

#include <stdlib.h>

static vex_buf fold(const void *text, size_t len) {
    vex_buf out = {0};
    uint8_t folded[VEX_FOLD_BYTES_MAX];
    CHECK_OK(vex_buf_append(&out, "", 0));
    for (size_t at = 0; at < len;) {
        const size_t before = at, n = vex_fold_next(text, len, &at, folded);
        CHECK(at > before && at <= len && n > 0 && n <= VEX_FOLD_BYTES_MAX);
        CHECK_OK(vex_buf_append(&out, folded, n));
    }
    return out;
}

static void check_fold(const char *text, const char *expected) {
    vex_buf folded = fold(text, strlen(text));
    CHECK_EQ(folded.len, strlen(expected));
    CHECK(memcmp(folded.data, expected, folded.len) == 0);
    vex_buf_clear(&folded);
}

TEST(fold_characters) {
    check_fold("Az09@[`{", "az09@[`{");
    check_fold("\xc3\x84\xc3\x9c\xc3\xa4", "\xc3\xa4\xc3\xbc\xc3\xa4"); /* A U a with dots */
    check_fold("Stra\xc3\x9f"
               "E",
               "strasse");                                                      /* sharp s */
    check_fold("\xe1\xba\x9e", "ss");                                           /* ... capital */
    check_fold("\xe2\x84\xaa", "k");                                            /* Kelvin sign */
    check_fold("\xef\xac\x83", "ffi");                                          /* ligature */
    check_fold("\xce\xa3\xcf\x82\xcf\x83", "\xcf\x83\xcf\x83\xcf\x83");         /* three sigmas */
    check_fold("\xc4\xb0", "i\xcc\x87");                                        /* I with a dot */
    check_fold("\xce\x90", "\xce\xb9\xcc\x88\xcc\x81");                         /* three of one */
    check_fold("\xf0\x90\x90\x80", "\xf0\x90\x90\xa8");                         /* Deseret */
    check_fold("\xe6\x97\xa5\xf0\x9f\x98\x80", "\xe6\x97\xa5\xf0\x9f\x98\x80"); /* caseless */
    check_fold("\xff\xc3(\xe6\x97", "\xff\xc3(\xe6\x97");                       /* no characters */
}

/* ---- what the text index relies on ---- */

static size_t put_code(uint32_t code, uint8_t out[4]) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    const size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; code >>= 6) {
        out[i] = (uint8_t)(0x80 | (code & 0x3F));
    }
    out[0] = (uint8_t)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | code);
    return n;
}

/* Folding twice is folding once; it keeps the class of all characters but four, and of the others
 * none becomes shorter than half. */
TEST(fold_every_character) {
    uint32_t n_changed = 0, n_signs = 0;
    for (uint32_t code = 1; code < 0x110000; code++) {
        uint8_t text[4];
        if (code >= 0xD800 && code < 0xE000) {
            continue;
        }
        const size_t len = put_code(code, text);
        CHECK_EQ(vex_char_len(text, len), len);
        CHECK_EQ(vex_char_code(text, len), code);
        vex_buf once = fold(text, len), twice = fold(once.data, once.len);
        CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
        if (once.len != len || memcmp(once.data, text, len) != 0) {
            size_t at = 0, folded_at = 0;
            const vex_text_run whole = vex_text_run_next(text, len, &at);
            const vex_text_run run = vex_text_run_next(once.data, once.len, &folded_at);
            const bool same = run.class == whole.class && folded_at == once.len;
            const bool is_sign = code == 0x212A || code == 0x212B || code == 0x2126 || code == 0xB5;
            CHECK_EQ(same, !is_sign);
            CHECK(is_sign || once.len * 2 >= len);
            n_changed++;
            n_signs += is_sign;
        }
        vex_buf_clear(&once);
        vex_buf_clear(&twice);
    }
    CHECK(n_changed > 1400);
    CHECK_EQ(n_signs, 4);
}

/* ---- needles ---- */

/* Few characters, of one and more bytes, some of which fold to several or to nothing's equal. */
static vex_buf random_text(uint32_t n) {
    static const char *const pieces[] = {
        "a", "A", "b", "S", "s", "\xc3\x9f", "k", "\xe2\x84\xaa", "\xc5\xbf", "\xff", " ", "aB"};
    vex_buf out = {0};
    CHECK_OK(vex_buf_append(&out, "", 0));
    for (; n > 0; n--) {
        const char *piece = pieces[test_random_below(12)];
        CHECK_OK(vex_buf_append(&out, piece, strlen(piece)));
    }
    return out;
}

TEST(fold_needles_agree_with_folded_texts) {
    uint32_t found = 0, begun = 0, equal = 0;
    vex_arena *arena = NULL;
    CHECK_OK(vex_arena_create(&arena, 1 << 16));
    for (int round = 0; round < 40000; round++) {
        vex_buf text = random_text(test_random_below(12)),
                other = random_text(test_random_below(4));
        vex_buf folded = fold(text.data, text.len), wanted = fold(other.data, other.len);
        uint8_t *exact = malloc(text.len + 1); /* so that a read past the end shows */
        memcpy(exact, text.data ? text.data : (const uint8_t *)"", text.len);
        exact = realloc(exact, text.len ? text.len : 1);
        vex_needle needle;
        CHECK_OK(vex_needle_make(arena, other.data, other.len, &needle));
        const bool in = vex_text_contains(folded.data, folded.len, wanted.data, wanted.len);
        const bool begins = folded.len >= wanted.len &&
                            (wanted.len == 0 || memcmp(folded.data, wanted.data, wanted.len) == 0);
        CHECK_EQ(vex_needle_in(&needle, exact, text.len), in);
        CHECK_EQ(vex_needle_begins(&needle, exact, text.len), begins);
        CHECK_EQ(vex_needle_equals(&needle, exact, text.len), begins && folded.len == wanted.len);
        found += in;
        begun += begins;
        equal += begins && folded.len == wanted.len;
        free(exact);
        vex_buf_clear(&text);
        vex_buf_clear(&other);
        vex_buf_clear(&folded);
        vex_buf_clear(&wanted);
    }
    CHECK(found > 8000 && found < 36000 && begun > 1000 && equal > 100);
    vex_arena_destroy(arena);
}
