/*
 * text.c - substring search (see expr.h).
 *
 * Sixteen places at a time are compared with the needle's first and last byte; only places where
 * both agree are compared in full.  Written with the compiler's generic vectors, so it is SSE2 on
 * x86-64 and NEON on aarch64.  Documents are short, so there is no set-up that depends on the
 * needle's length.
 */
#include "filter/expr.h"

#include "base/poison.h"

#define LANES 16

typedef uint8_t byte_lanes __attribute__((vector_size(LANES)));
typedef uint64_t word_lanes __attribute__((vector_size(LANES)));

/* The bytes of `candidates` that are not zero are places from `text` on to look at. */
static bool any_matches(const uint8_t *text, uint64_t candidates, const uint8_t *needle,
                        size_t needle_len) {
    while (candidates != 0) {
        int byte = __builtin_ctzll(candidates) / 8;
        if (memcmp(text + byte, needle, needle_len) == 0) {
            return true;
        }
        candidates &= ~((uint64_t)0xFF << (8 * byte));
    }
    return false;
}

bool vex_text_contains(const uint8_t *text, size_t len, const uint8_t *needle, size_t needle_len) {
    if (needle_len <= 1) {
        return needle_len == 0 || (len > 0 && memchr(text, needle[0], len) != NULL);
    }
    if (len < needle_len) {
        return false;
    }
    const uint8_t first = needle[0], last = needle[needle_len - 1];
    const byte_lanes firsts = (byte_lanes){0} + first, lasts = (byte_lanes){0} + last;
    const size_t places = len - needle_len + 1;
    size_t at = 0;
    for (; at + LANES <= places; at += LANES) {
        byte_lanes heads, tails;
        memcpy(&heads, text + at, LANES);
        memcpy(&tails, text + at + needle_len - 1, LANES);
        word_lanes agree = (word_lanes)((heads == firsts) & (tails == lasts));
        if ((agree[0] | agree[1]) != 0 &&
            (any_matches(text + at, agree[0], needle, needle_len) ||
             any_matches(text + at + 8, agree[1], needle, needle_len))) {
            return true;
        }
    }
    for (; at < places; at++) {
        if (text[at] == first && text[at + needle_len - 1] == last &&
            memcmp(text + at, needle, needle_len) == 0) {
            return true;
        }
    }
    return false;
}
