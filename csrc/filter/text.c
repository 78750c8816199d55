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

/* The bytes of `candidates` that are not zero are places from `text` on to look at: the first that
 * has the needle, or SIZE_MAX. */
static size_t first_match(const uint8_t *text, uint64_t candidates, const uint8_t *needle,
                          size_t needle_len) {
    while (candidates != 0) {
        size_t byte = (size_t)__builtin_ctzll(candidates) / 8;
        if (memcmp(text + byte, needle, needle_len) == 0) {
            return byte;
        }
        candidates &= ~((uint64_t)0xFF << (8 * byte));
    }
    return SIZE_MAX;
}

static size_t find_byte(const uint8_t *text, size_t len, size_t from, uint8_t byte) {
    const uint8_t *found = from < len ? memchr(text + from, byte, len - from) : NULL;
    return found ? (size_t)(found - text) : SIZE_MAX;
}

size_t vex_text_find(const uint8_t *text, size_t len, size_t from, const uint8_t *needle,
                     size_t needle_len) {
    if (needle_len <= 1) {
        return needle_len == 0 ? from : find_byte(text, len, from, needle[0]);
    }
    if (len < needle_len) {
        return SIZE_MAX;
    }
    const uint8_t first = needle[0], last = needle[needle_len - 1];
    const byte_lanes firsts = (byte_lanes){0} + first, lasts = (byte_lanes){0} + last;
    const size_t places = len - needle_len + 1;
    size_t at = from;
    for (; at + LANES <= places; at += LANES) {
        byte_lanes heads, tails;
        memcpy(&heads, text + at, LANES);
        memcpy(&tails, text + at + needle_len - 1, LANES);
        word_lanes agree = (word_lanes)((heads == firsts) & (tails == lasts));
        if ((agree[0] | agree[1]) != 0) {
            size_t found = first_match(text + at, agree[0], needle, needle_len);
            if (found != SIZE_MAX) {
                return at + found;
            }
            found = first_match(text + at + 8, agree[1], needle, needle_len);
            if (found != SIZE_MAX) {
                return at + 8 + found;
            }
        }
    }
    for (; at < places; at++) {
        if (text[at] == first && text[at + needle_len - 1] == last &&
            memcmp(text + at, needle, needle_len) == 0) {
            return at;
        }
    }
    return SIZE_MAX;
}
