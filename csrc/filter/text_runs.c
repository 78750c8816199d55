/*
 * text_runs.c - see text_runs.h.
 */
#include "filter/text_runs.h"

#include "base/fold.h"

#include "base/poison.h"

typedef struct class_range {
    uint32_t first;
    vex_char_class class;
} class_range;

/* Characters from U+0080 on: each range goes on to the next one's begin. */
static const class_range ranges[] = {
    {0x0080, VEX_CHAR_SEPARATOR}, /* Latin-1 signs */
    {0x00C0, VEX_CHAR_WORD},      /* letters: Latin to Sinhala */
    {0x0E00, VEX_CHAR_SINGLE},    /* Thai, Lao, Tibetan, Myanmar */
    {0x10A0, VEX_CHAR_WORD},      /* Georgian to Philippine scripts */
    {0x1780, VEX_CHAR_SINGLE},    /* Khmer */
    {0x1800, VEX_CHAR_WORD},      /* Mongolian to Greek Extended */
    {0x2000, VEX_CHAR_SEPARATOR}, /* punctuation, symbols, drawings */
    {0x2C00, VEX_CHAR_WORD},      /* Glagolitic to Cyrillic Extended */
    {0x2E00, VEX_CHAR_SEPARATOR}, /* punctuation */
    {0x2E80, VEX_CHAR_SINGLE},    /* CJK radicals */
    {0x3000, VEX_CHAR_SEPARATOR}, /* CJK punctuation */
    {0x3040, VEX_CHAR_SINGLE},    /* kana, CJK, Yi */
    {0xA4D0, VEX_CHAR_WORD},      /* Lisu to Hangul */
    {0xE000, VEX_CHAR_SINGLE},    /* private use, CJK compatibility */
    {0xFB00, VEX_CHAR_WORD},      /* presentation forms */
    {0xFE10, VEX_CHAR_SEPARATOR}, /* vertical and small forms */
    {0xFE70, VEX_CHAR_WORD},      /* Arabic forms */
    {0xFF00, VEX_CHAR_SEPARATOR}, /* full-width signs */
    {0xFF10, VEX_CHAR_SINGLE},    /* full-width and half-width letters */
    {0x10000, VEX_CHAR_WORD},     /* historic scripts */
    {0x1F000, VEX_CHAR_SINGLE},   /* emoji, CJK extensions */
};

static bool is_ascii_word(uint8_t byte) {
    return (uint8_t)((byte | 0x20) - 'a') < 26 || (uint8_t)(byte - '0') < 10 || byte == '_';
}

static vex_char_class class_of(const uint8_t *text, size_t char_len) {
    if (char_len <= 1) {
        return char_len == 1 && is_ascii_word(text[0]) ? VEX_CHAR_WORD : VEX_CHAR_SEPARATOR;
    }
    const uint32_t code = vex_char_code(text, char_len);
    size_t low = 0, high = sizeof ranges / sizeof *ranges;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].first <= code) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return ranges[low].class;
}

vex_text_run vex_text_run_next(const uint8_t *text, size_t len, size_t *at) {
    vex_text_run run = {.bytes = text + *at};
    size_t end = *at;
    while (end < len) {
        const size_t n = vex_char_len(text + end, len - end);
        const vex_char_class class = class_of(text + end, n);
        if (end == *at) {
            run.class = class;
        } else if (class != run.class) {
            break;
        }
        run.damaged |= n == 0;
        end += n ? n : 1;
    }
    run.len = end - *at;
    *at = end;
    return run;
}

size_t vex_text_term_next(const vex_text_run *run, size_t *at) {
    const uint8_t *bytes = run->bytes + *at;
    const size_t left = run->len - *at;
    if (run->class == VEX_CHAR_SINGLE) {
        const size_t first = vex_char_len(bytes, left);
        const size_t second = vex_char_len(bytes + first, left - first);
        *at = first + second < left ? *at + first : run->len;
        return first + second;
    }
    if (left <= VEX_TERM_BYTES_MAX) {
        *at = run->len;
        return left;
    }
    *at += VEX_TERM_STEP;
    return VEX_TERM_BYTES_MAX;
}
