/*
 * filter_kit.h - what the filter tests share: filters and metadata as MessagePack, written by
 * hand or at random, and a regex provider that counts its handles.
 */
#ifndef VEX_TESTS_FILTER_KIT_H
#define VEX_TESTS_FILTER_KIT_H

#include "filter/expr.h"
#include "tests/harness.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

/* ---- MessagePack by hand ---- */

static inline void kit_str(vex_buf *out, const char *text) {
    CHECK_OK(vex_mp_put_str(out, text, strlen(text)));
}

/* Append the values that `form` names, one letter each, from the arguments:
 *   a array (int count)   i int (long long)   d float (double)   b bool (int)   s string
 *   n nil                 m map (int count) */
static inline void kit_put(vex_buf *out, const char *form, ...) {
    va_list arguments;
    va_start(arguments, form);
    for (; *form; form++) {
        switch (*form) {
        case 'a':
            CHECK_OK(vex_mp_put_array(out, va_arg(arguments, unsigned)));
            break;
        case 'm':
            CHECK_OK(vex_mp_put_map(out, va_arg(arguments, unsigned)));
            break;
        case 'i':
            CHECK_OK(vex_mp_put_int(out, va_arg(arguments, long long)));
            break;
        case 'd':
            CHECK_OK(vex_mp_put_double(out, va_arg(arguments, double)));
            break;
        case 'b':
            CHECK_OK(vex_mp_put_bool(out, va_arg(arguments, int) != 0));
            break;
        case 's':
            kit_str(out, va_arg(arguments, const char *));
            break;
        default:
            CHECK(*form == 'n');
            CHECK_OK(vex_mp_put_nil(out));
            break;
        }
    }
    va_end(arguments);
}

/* ---- at random, from few values, so that much matches ---- */

static const char *const kit_keys[] = {"a", "b", "c", "mixed", "list", "rare", "\xd0\xba", "",
                                       "a key of more than thirty-one bytes", "constant"};
#define KIT_KEYS (sizeof kit_keys / sizeof kit_keys[0])

static inline void kit_random_int(vex_buf *out) {
    static const int64_t extremes[] = {INT64_MIN,
                                       INT64_MIN + 1,
                                       INT64_MAX,
                                       INT64_MAX - 1,
                                       9007199254740993,
                                       9007199254740992,
                                       -9007199254740993,
                                       1LL << 32,
                                       65536,
                                       255,
                                       256,
                                       -1};
    bool small = test_random_below(4) != 0;
    CHECK_OK(vex_mp_put_int(out, small ? (int64_t)test_random_below(7) - 3
                                       : extremes[test_random_below(12)]));
}

static inline void kit_random_float(vex_buf *out) {
    static const double extremes[] = {-0.0,
                                      0.0,
                                      9007199254740992.0,
                                      9223372036854775808.0,
                                      1e300,
                                      -1e300,
                                      -9223372036854775808.0,
                                      5e-324,
                                      -5e-324,
                                      4294967296.0,
                                      0.1,
                                      255.0};
    uint32_t kind = test_random_below(8);
    double number = kind < 5    ? (double)((int)test_random_below(15) - 7) / 2
                    : kind == 5 ? (test_random_below(2) ? INFINITY : -INFINITY)
                                : extremes[test_random_below(12)];
    CHECK_OK(vex_mp_put_double(out, number));
}

static inline void kit_random_string(vex_buf *out) {
    static const char *const texts[] = {"",
                                        "x",
                                        "xy",
                                        "xyz",
                                        "\xc3\xa4",
                                        "\xe6\x97\xa5\xe6\x9c\xac",
                                        "a much longer string that differs at its end 1",
                                        "a much longer string that differs at its end 2"};
    if (test_random_below(3) > 0) {
        kit_str(out, texts[test_random_below(8)]);
    } else {
        char text[16];
        snprintf(text, sizeof text, "s%u", (unsigned)test_random_below(40));
        kit_str(out, text);
    }
}

static inline void kit_random_scalar(vex_buf *out, uint32_t kind) {
    switch (kind) {
    case 0:
        CHECK_OK(vex_mp_put_bool(out, test_random_below(2)));
        break;
    case 1:
        kit_random_int(out);
        break;
    case 2:
        kit_random_float(out);
        break;
    default:
        kit_random_string(out);
        break;
    }
}

static inline void kit_random_list(vex_buf *out) {
    uint32_t n = 1 + test_random_below(4), kind = test_random_below(4);
    CHECK_OK(vex_mp_put_array(out, n));
    for (uint32_t i = 0; i < n; i++) {
        kit_random_scalar(out, kind);
    }
}

static inline void kit_random_value(vex_buf *out, uint32_t key) {
    static const uint8_t sparse[] = {1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 128, 63};
    uint32_t kind = test_random_below(6);
    if (key < 3) {
        kit_random_scalar(out, key + 1); /* "a" ints, "b" floats, "c" strings */
    } else if (key == KIT_KEYS - 1) {
        kit_put(out, "i", 7LL);
    } else if (strcmp(kit_keys[key], "list") == 0 || kind == 4) {
        kit_random_list(out);
    } else if (kind == 5) {
        CHECK_OK(vex_mp_put_ext(out, 1, sparse, sizeof sparse));
    } else {
        kit_random_scalar(out, kind);
    }
}

/* `density` of 8: how often a key is there.  Now and then a key comes twice, or is nil. */
static inline void kit_random_metadata(vex_buf *out, const uint8_t density[KIT_KEYS]) {
    vex_buf pairs = {0};
    uint32_t n = 0;
    for (uint32_t key = 0; key < KIT_KEYS; key++) {
        uint32_t times = test_random_below(8) < density[key];
        if (strcmp(kit_keys[key], "rare") == 0) {
            times = times && test_random_below(16) == 0;
        }
        times += times && test_random_below(64) == 0;
        for (; times > 0; times--, n++) {
            kit_str(&pairs, kit_keys[key]);
            if (test_random_below(64) == 0 && density[key] < 8) {
                kit_put(&pairs, "n");
            } else {
                kit_random_value(&pairs, key);
            }
        }
    }
    CHECK_OK(vex_mp_put_map(out, n));
    CHECK_OK(vex_buf_append(out, pairs.data, pairs.len));
    vex_buf_clear(&pairs);
}

/* A text to look for in strings: some of one, in some case. */
static inline void kit_random_piece(vex_buf *out) {
    static const char *const texts[] = {"",     "x",       "X",     "Y",  "xY", "\xc3\x84",
                                        "\xa4", "END 1",   "s1",    "S",  "A much LONGER",
                                        "A MUCH longer string that differs at its end 2"};
    kit_str(out, texts[test_random_below(12)]);
}

/* A random metadata leaf. */
static inline void kit_random_leaf(vex_buf *out) {
    static const uint8_t ops[] = {VEX_F_EQ,       VEX_F_NE,           VEX_F_GT, VEX_F_GE,
                                  VEX_F_LT,       VEX_F_LE,           VEX_F_IN, VEX_F_NIN,
                                  VEX_F_CONTAINS, VEX_F_NOT_CONTAINS, 0,        0};
    uint8_t op = ops[test_random_below(sizeof ops)];
    bool other_key = test_random_below(32) == 0;
    uint32_t key = test_random_below(KIT_KEYS);
    uint32_t kind = key < 3 && test_random_below(4) ? key + 1 : test_random_below(4);
    if (op == 0) {
        op = (uint8_t)(VEX_F_TEXT_CONTAINS + test_random_below(10));
        key = test_random_below(2) ? 2 : key;
        if (test_random_below(4) == 0) {
            op = (uint8_t)(VEX_F_EXISTS + test_random_below(2));
            kit_put(out, "ais", 2u, (long long)op, other_key ? "nowhere" : kit_keys[key]);
            return;
        }
    }
    kit_put(out, "ais", 3u, (long long)op, other_key ? "nowhere" : kit_keys[key]);
    if (op == VEX_F_IN || op == VEX_F_NIN) {
        uint32_t n = test_random_below(4) ? test_random_below(6) : test_random_below(60);
        kit_put(out, "a", n);
        for (uint32_t i = 0; i < n; i++) {
            kit_random_scalar(out, test_random_below(3) ? kind : test_random_below(4));
        }
    } else if (op >= VEX_F_TEXT_CONTAINS) {
        kit_random_piece(out);
    } else if (op >= VEX_F_GT && op <= VEX_F_LE) {
        kit_random_scalar(out, 1 + test_random_below(3));
    } else {
        kit_random_scalar(out, kind);
    }
}

static inline vex_status kit_parse(const vex_buf *bytes, vex_filter *filter) {
    *filter = (vex_filter){0};
    return vex_filter_parse(filter, bytes->data, bytes->len);
}

/* ---- a regex provider: patterns are plain text ---- */

typedef struct kit_regex {
    int64_t live, compiled, calls; /* handles not released, made; calls of match                 */
} kit_regex;

typedef struct kit_pattern {
    size_t len;
    char text[];
} kit_pattern;

/* Refuses patterns that begin with '!'. */
static inline void *kit_regex_compile(void *context, const char *pattern, size_t len) {
    kit_regex *regex = context;
    if (len > 0 && pattern[0] == '!') {
        return NULL;
    }
    kit_pattern *handle = malloc(sizeof *handle + len);
    handle->len = len;
    memcpy(handle->text, pattern, len);
    regex->live++;
    regex->compiled++;
    return handle;
}

/* Fails for the pattern "?". */
static inline int kit_regex_match(void *context, void *handle, const char *const *texts,
                                  const size_t *lens, uint32_t n, uint8_t *out) {
    const kit_pattern *pattern = handle;
    ((kit_regex *)context)->calls++;
    for (uint32_t i = 0; i < n; i++) {
        out[i] = vex_text_contains((const uint8_t *)texts[i], lens[i],
                                   (const uint8_t *)pattern->text, pattern->len);
    }
    return pattern->len == 1 && pattern->text[0] == '?' ? -1 : 0;
}

static inline void kit_regex_release(void *context, void *handle) {
    ((kit_regex *)context)->live--;
    free(handle);
}

static inline void kit_regex_install(kit_regex *counters) {
    *counters = (kit_regex){0};
    const vex_regex_provider provider = {counters, kit_regex_compile, kit_regex_match,
                                         kit_regex_release};
    CHECK_OK(vex_set_regex(&provider));
}

#endif
