/*
 * tokens.c - see tokens.h.
 *
 * Characters below U+3400, but for ASCII, are looked up in a table that is made of the generated
 * ones when it is first needed; those above by halving.
 */
#include "rank/tokens.h"

#include <pthread.h>
#include <string.h>

#include "base/poison.h"

typedef enum char_class { CLASS_SEPARATOR, CLASS_WORD, CLASS_SINGLE, CLASS_MARK } char_class;

typedef struct several_fold {
    uint32_t code;
    char folded[4];
} several_fold;

#include "rank/tokens_tables.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define TABLE_END 0x3400u
#define NO_CHARACTER UINT32_MAX
/* A character's entry: folded * 4 + class.  Folded 0: to several. */
static uint32_t table[TABLE_END];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

/* ASCII letters and digits, folded; 0: a separator. */
static const uint8_t ascii[128] = {
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',
    ['7'] = '7', ['8'] = '8', ['9'] = '9', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd',
    ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',
    ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',
    ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y',
    ['Z'] = 'z', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f',
    ['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm',
    ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't',
    ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
};

/* ---- what is known of a character ---- */

static char_class class_of(uint32_t code) {
    size_t low = 0, high = COUNT(class_starts);
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (class_starts[middle] >> 2 <= code) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (char_class)(class_starts[low] & 3);
}

static uint32_t fold(uint32_t code) {
    size_t low = 0, high = COUNT(single_folds);
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (single_folds[middle][0] < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < COUNT(single_folds) && single_folds[low][0] == code) {
        return single_folds[low][1];
    }
    for (size_t i = 0; i < COUNT(run_folds); i++) {
        const int32_t *run = run_folds[i], at = (int32_t)code;
        if (at >= run[0] && at <= run[1] && (at - run[0]) % run[2] == 0) {
            return (uint32_t)(at + run[3]);
        }
    }
    for (size_t i = 0; i < COUNT(several_folds); i++) {
        if (several_folds[i].code == code) {
            return 0;
        }
    }
    return code;
}

static void make_table(void) {
    for (uint32_t code = 0x80; code < TABLE_END; code++) {
        table[code] = fold(code) << 2 | class_of(code);
    }
}

static uint32_t entry_of(uint32_t code) {
    if (code < TABLE_END) {
        return table[code];
    }
    /* Han and Hangul, which are most of what there is, are folded to themselves. */
    const bool is_plain = code < 0xA640 || (code >= 0xAC00 && code < 0xD7A4);
    return (is_plain ? code : fold(code)) << 2 | class_of(code);
}

/* ---- UTF-8 ---- */

/* The character at *at < end, which moves behind it, or behind a byte that begins none. */
static uint32_t next_character(const uint8_t **at, const uint8_t *end) {
    const uint8_t *p = *at;
    const uint8_t lead = p[0];
    const size_t left = (size_t)(end - p);
    *at = p + 1;
    if (lead < 0x80) {
        return lead;
    }
    if (lead < 0xC2 || lead > 0xF4) {
        return NO_CHARACTER;
    }
    const size_t n = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint32_t code = lead & (0xFFu >> (n + 1));
    if (left < n) {
        return NO_CHARACTER;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return NO_CHARACTER;
        }
        code = code << 6 | (p[i] & 0x3Fu);
    }
    if ((n == 3 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) ||
        (n == 4 && (code < 0x10000 || code > 0x10FFFF))) {
        return NO_CHARACTER;
    }
    *at = p + n;
    return code;
}

static uint32_t put_character(uint8_t *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xE0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}

/* The folded form of a character: at most 4 bytes. */
static uint32_t put_folded(uint8_t *out, uint32_t code, uint32_t folded) {
    if (folded != 0) {
        return put_character(out, folded);
    }
    size_t i = 0;
    while (several_folds[i].code != code) {
        i++;
    }
    const uint32_t len = (uint32_t)strlen(several_folds[i].folded);
    memcpy(out, several_folds[i].folded, len);
    return len;
}

/* ---- tokens ---- */

void vex_tokens_start(vex_tokens *tokens, const uint8_t *text, size_t len) {
    pthread_once(&table_once, make_table);
    tokens->at = text;
    tokens->end = text + len;
    tokens->len = 0;
    tokens->neighbour = 0;
    tokens->paired = false;
}

static void put_in_word(vex_tokens *tokens, bool *full, const uint8_t *piece, uint32_t n) {
    *full = *full || tokens->len + n > VEX_TOKEN_BYTES_MAX;
    if (!*full) {
        memcpy(tokens->bytes + tokens->len, piece, n);
        tokens->len += n;
    }
}

/* The word that begins at `at`, with a WORD character. */
static void read_word(vex_tokens *tokens) {
    bool full = false;
    tokens->len = 0;
    while (tokens->at < tokens->end) {
        const uint8_t byte = *tokens->at;
        uint8_t piece[4];
        if (byte < 0x80) {
            if (ascii[byte] == 0) {
                return;
            }
            put_in_word(tokens, &full, &ascii[byte], 1);
            tokens->at++;
            continue;
        }
        const uint8_t *next = tokens->at;
        const uint32_t code = next_character(&next, tokens->end);
        const uint32_t entry = code == NO_CHARACTER ? CLASS_SEPARATOR : entry_of(code);
        const char_class class = (char_class)(entry & 3);
        if (class != CLASS_WORD && class != CLASS_MARK) {
            return;
        }
        if (class == CLASS_WORD) {
            put_in_word(tokens, &full, piece, put_folded(piece, code, entry >> 2));
        }
        tokens->at = next;
    }
}

/* A SINGLE character: with the one before it, if there is one, it is a token. */
static bool take_single(vex_tokens *tokens, uint32_t folded) {
    const uint32_t before = tokens->neighbour;
    tokens->neighbour = folded;
    tokens->paired = before != 0;
    if (before == 0) {
        return false;
    }
    tokens->len = put_character(tokens->bytes, before);
    tokens->len += put_character(tokens->bytes + tokens->len, folded);
    return true;
}

/* The end of a run of SINGLE characters: an only one is a token. */
static bool end_singles(vex_tokens *tokens) {
    const uint32_t last = tokens->neighbour;
    tokens->neighbour = 0;
    if (last == 0 || tokens->paired) {
        return false;
    }
    tokens->len = put_character(tokens->bytes, last);
    return true;
}

bool vex_tokens_next(vex_tokens *tokens) {
    while (tokens->at < tokens->end) {
        const uint8_t *next = tokens->at;
        const uint32_t code = next_character(&next, tokens->end);
        const uint32_t entry = code == NO_CHARACTER ? CLASS_SEPARATOR
                               : code < 0x80        ? (ascii[code] ? CLASS_WORD : CLASS_SEPARATOR)
                                                    : entry_of(code);
        const char_class class = (char_class)(entry & 3);
        if (class == CLASS_SINGLE) {
            tokens->at = next;
            if (take_single(tokens, entry >> 2)) {
                return true;
            }
        } else if (class == CLASS_MARK) {
            tokens->at = next;
        } else if (end_singles(tokens)) {
            return true; /* and the character is looked at again */
        } else if (class == CLASS_WORD) {
            read_word(tokens);
            return true;
        } else {
            tokens->at = next;
        }
    }
    return end_singles(tokens);
}
