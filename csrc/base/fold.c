/*
 * fold.c - see fold.h.
 */
#include "base/fold.h"

#include "base/poison.h"

#define NEEDLE_BYTES_MAX ((size_t)1 << 30)

typedef struct fold_range {
    uint32_t first, last;
    uint8_t step;
    int32_t distance;
} fold_range;

typedef struct fold_several {
    uint32_t code;
    uint32_t folded[3];
} fold_several;

#include "base/fold_table.h"

#define N_RANGES (sizeof fold_ranges / sizeof *fold_ranges)
#define N_SEVERALS (sizeof fold_severals / sizeof *fold_severals)

/* ---- characters ---- */

size_t vex_char_len(const uint8_t *text, size_t len) {
    if (len == 0) {
        return 0;
    }
    const uint8_t lead = text[0];
    const size_t n = lead < 0x80                   ? 1
                     : lead >= 0xC2 && lead < 0xE0 ? 2
                     : lead >= 0xE0 && lead < 0xF0 ? 3
                     : lead >= 0xF0 && lead < 0xF5 ? 4
                                                   : 0;
    if (n > len) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return n;
}

uint32_t vex_char_code(const uint8_t *text, size_t char_len) {
    if (char_len == 1) {
        return text[0];
    }
    uint32_t code = text[0] & (0xFFu >> (char_len + 1));
    for (size_t i = 1; i < char_len; i++) {
        code = code << 6 | (text[i] & 0x3Fu);
    }
    return code;
}

static size_t put_char(uint32_t code, uint8_t *out) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    const size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, code >>= 6) {
        out[i] = (uint8_t)(0x80 | (code & 0x3F));
    }
    out[0] = (uint8_t)((0xF00u >> n & 0xFF) | code);
    return n;
}

static inline uint8_t fold_ascii(uint8_t byte) {
    return (uint8_t)(byte - 'A') < 26 ? byte | 0x20 : byte;
}

/* The last range that begins at or before `code`. */
static uint32_t fold_one(uint32_t code) {
    size_t low = 0, high = N_RANGES;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (fold_ranges[middle].first <= code) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const fold_range *range = &fold_ranges[low];
    const bool inside =
        code >= range->first && code <= range->last && (code - range->first) % range->step == 0;
    return inside ? (uint32_t)((int32_t)code + range->distance) : code;
}

static const fold_several *find_several(uint32_t code) {
    size_t low = 0, high = N_SEVERALS;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (fold_severals[middle].code == code) {
            return &fold_severals[middle];
        }
        if (fold_severals[middle].code < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

size_t vex_fold_next(const uint8_t *text, size_t len, size_t *at, uint8_t out[VEX_FOLD_BYTES_MAX]) {
    const uint8_t *from = text + *at;
    const size_t n = vex_char_len(from, len - *at);
    *at += n ? n : 1;
    if (n <= 1) {
        out[0] = n == 1 ? fold_ascii(from[0]) : from[0];
        return 1;
    }
    const uint32_t code = vex_char_code(from, n), folded = fold_one(code);
    if (folded != code) {
        return put_char(folded, out);
    }
    const fold_several *several = find_several(code);
    if (several == NULL) {
        memcpy(out, from, n);
        return n;
    }
    size_t written = 0;
    for (size_t i = 0; i < 3 && several->folded[i] != 0; i++) {
        written += put_char(several->folded[i], out + written);
    }
    return written;
}

/* ---- needles ---- */

void vex_needle_prepare(const uint8_t *folded, uint32_t len, uint32_t *next, vex_needle *out) {
    if (len > 0) {
        next[0] = 0;
    }
    for (uint32_t i = 1, matched = 0; i < len; i++) {
        while (matched > 0 && folded[i] != folded[matched]) {
            matched = next[matched - 1];
        }
        matched += folded[i] == folded[matched];
        next[i] = matched;
    }
    *out = (vex_needle){folded, next, len};
}

vex_status vex_needle_make(vex_arena *arena, const uint8_t *text, size_t len, vex_needle *out) {
    uint8_t folded[VEX_FOLD_BYTES_MAX];
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        n += vex_fold_next(text, len, &at, folded);
    }
    if (n > NEEDLE_BYTES_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a text to look for has more than 1 GiB");
    }
    uint8_t *bytes = vex_arena_alloc(arena, n + 1, 1);
    uint32_t *next = vex_arena_alloc(arena, (n + 1) * sizeof *next, sizeof *next);
    if (bytes == NULL || next == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a text of %zu bytes to look for", n);
    }
    n = 0;
    for (size_t at = 0; at < len;) {
        const size_t more = vex_fold_next(text, len, &at, folded);
        memcpy(bytes + n, folded, more);
        n += more;
    }
    vex_needle_prepare(bytes, (uint32_t)n, next, out);
    return VEX_OK;
}

/* How much of the needle is matched after one byte more. */
static inline uint32_t match_byte(const vex_needle *needle, uint32_t matched, uint8_t byte) {
    while (matched > 0 && byte != needle->bytes[matched]) {
        matched = needle->next[matched - 1];
    }
    return matched + (byte == needle->bytes[matched]);
}

bool vex_needle_in(const vex_needle *needle, const uint8_t *text, size_t len) {
    uint8_t folded[VEX_FOLD_BYTES_MAX];
    uint32_t matched = 0;
    for (size_t at = 0; at < len && matched < needle->len;) {
        if (text[at] < 0x80) { /* nearly all text is this */
            matched = match_byte(needle, matched, fold_ascii(text[at++]));
            continue;
        }
        const size_t n = vex_fold_next(text, len, &at, folded);
        for (size_t i = 0; i < n && matched < needle->len; i++) {
            matched = match_byte(needle, matched, folded[i]);
        }
    }
    return matched == needle->len;
}

/* Bytes of the needle that the folded text begins with; *at is where that ends, and *rest what is
 * left there of a folded character. */
static size_t common_start(const vex_needle *needle, const uint8_t *text, size_t len, size_t *at,
                           size_t *rest) {
    uint8_t folded[VEX_FOLD_BYTES_MAX];
    size_t matched = 0;
    *at = *rest = 0;
    while (*at < len && matched < needle->len) {
        const size_t n = vex_fold_next(text, len, at, folded);
        for (size_t i = 0; i < n; i++) {
            if (matched == needle->len || folded[i] != needle->bytes[matched]) {
                *rest = n - i;
                return matched;
            }
            matched++;
        }
    }
    return matched;
}

bool vex_needle_begins(const vex_needle *needle, const uint8_t *text, size_t len) {
    size_t at, rest;
    return common_start(needle, text, len, &at, &rest) == needle->len;
}

bool vex_needle_equals(const vex_needle *needle, const uint8_t *text, size_t len) {
    size_t at, rest;
    return common_start(needle, text, len, &at, &rest) == needle->len && at == len && rest == 0;
}
