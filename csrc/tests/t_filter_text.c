/*
 * t_filter_text.c - the text index: what it says about a needle agrees with a search in every
 * document, whatever the documents; safe on damaged bytes.
 */
#include "base/bits.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "filter/expr.h"
#include "filter/text_format.h"
#include "tests/harness.h"

#include <stdlib.h>

/* ---- documents and the index made of them ---- */

typedef struct corpus {
    uint32_t n;
    vex_buf *texts;
    vex_payload *rows; /* document NULL: none */
    vex_buf section;
    void *opened; /* NULL: no section */
} corpus;

static vex_status open_section(const uint8_t *data, size_t len, uint32_t n, void **out) {
    *out = NULL;
    return vex_text_plugin()->load(data, len, n, "test.vxp", 4096, out);
}

static corpus make_corpus(uint32_t n) {
    corpus out = {.n = n};
    out.texts = calloc(n + 1, sizeof *out.texts);
    out.rows = calloc(n + 1, sizeof *out.rows);
    return out;
}

static void add_text(corpus *c, uint32_t row, const void *bytes, size_t len) {
    CHECK_OK(vex_buf_append(&c->texts[row], bytes, len));
    c->rows[row].document = (const uint8_t *)"";
}

static void build_corpus(corpus *c) {
    for (uint32_t i = 0; i < c->n; i++) {
        c->rows[i].document_len = (uint32_t)c->texts[i].len;
        if (c->texts[i].len > 0) {
            c->rows[i].document = c->texts[i].data;
        }
    }
    CHECK_OK(vex_text_plugin()->build(c->rows, c->n, &c->section));
    if (c->section.len > 0) {
        CHECK_OK(open_section(c->section.data, c->section.len, c->n, &c->opened));
    }
}

static void free_corpus(corpus *c) {
    for (uint32_t i = 0; i < c->n; i++) {
        vex_buf_clear(&c->texts[i]);
    }
    if (c->opened != NULL) {
        vex_text_plugin()->unload(c->opened);
    }
    vex_buf_clear(&c->section);
    free(c->texts);
    free(c->rows);
}

/* Plainly: the tests' own search. */
static bool occurs(const vex_payload *row, const uint8_t *needle, size_t len) {
    for (size_t i = 0; row->document != NULL && i + len <= row->document_len; i++) {
        if (memcmp(row->document + i, needle, len) == 0) {
            return true;
        }
    }
    return false;
}

typedef struct outcome {
    uint32_t found, doubts; /* rows that contain the needle; that the index leaves open */
} outcome;

static outcome check_needle(const corpus *c, const void *needle, size_t len) {
    outcome out = {0};
    uint64_t *sure = malloc((vex_bit_words(c->n) + 1) * 8);
    uint64_t *maybe = malloc((vex_bit_words(c->n) + 1) * 8);
    CHECK_OK(vex_text_index_find(c->opened, needle, len, sure, maybe));
    for (uint32_t row = 0; row < c->n; row++) {
        bool hit = occurs(&c->rows[row], needle, len);
        CHECK(!vex_bit_get(sure, row) || hit);
        CHECK(vex_bit_get(maybe, row) || !hit);
        out.found += hit;
        out.doubts += vex_bit_get(maybe, row) && !vex_bit_get(sure, row);
    }
    free(sure);
    free(maybe);
    return out;
}

/* The same when case does not count. */
static outcome check_folded(const corpus *c, const void *text, size_t len) {
    outcome out = {0};
    vex_arena *arena = NULL;
    vex_needle needle;
    uint64_t *sure = malloc((vex_bit_words(c->n) + 1) * 8);
    uint64_t *maybe = malloc((vex_bit_words(c->n) + 1) * 8);
    CHECK_OK(vex_arena_create(&arena, 1024));
    CHECK_OK(vex_needle_make(arena, text, len, &needle));
    CHECK_OK(vex_text_index_find_folded(c->opened, &needle, sure, maybe));
    for (uint32_t row = 0; row < c->n; row++) {
        const vex_payload *document = &c->rows[row];
        bool hit = document->document != NULL &&
                   vex_needle_in(&needle, document->document, document->document_len);
        CHECK(!vex_bit_get(sure, row) || hit);
        CHECK(vex_bit_get(maybe, row) || !hit);
        out.found += hit;
        out.doubts += vex_bit_get(maybe, row) && !vex_bit_get(sure, row);
    }
    vex_arena_destroy(arena);
    free(sure);
    free(maybe);
    return out;
}

/* ---- random documents ---- */

static const char *const pieces[][12] = {
    {"the ", "quick", "brown ", "fox", "es", ", ", "jump", "s ", "over_", "it's ", "42", ". "},
    {"\xe6\x97\xa5", "\xe6\x9c\xac", "\xe8\xaa\x9e", "\xe6\x96\x87", "\xe3\x80\x82", "\xe3\x81\xae",
     "Java", " ", "\xe4\xb8\xad", "\xe5\x9b\xbd", "\xf0\x9f\x98\x80", "\xe0\xb9\x84"},
    {"caf\xc3\xa9 ", "cafe\xcc\x81 ", "\xd0\xbf\xd1\x80\xd0\xb8", "\xd0\xb2\xd0\xb5\xd1\x82 ",
     "\xc2\xa0", "\xe2\x80\x99", "\xed\x95\x9c\xea\xb5\xad", "\xcc\x88", "a", "\xe2\x80\x8d", "-",
     "\xce\xa9"},
    {"\x01", "\x7f", "\xff", "\xe6\x97", "\xc3", "\xa9", "ab", "\xf4\x90\x80\x80", " ",
     "\xe6\x97\xa5", "\xc3\xa9", "\n"},
    {"0", "1", "a", "b", "-", "=", "/", "A", "acgt", "\t", "_", "x"},
    {"Stra\xc3\x9f", "STRASSE ", "\xe1\xba\x9e", "\xef\xac\x83", "\xe2\x84\xaa", "k", "\xc2\xb5",
     "\xce\xbc", "\xce\x9c", "\xc5\xbf", "\xe2\x84\xab ", "\xc3\x85"},
};
#define N_KINDS (sizeof pieces / sizeof pieces[0])

static void random_text(corpus *c, uint32_t row, size_t kind) {
    uint32_t n = test_random_below(20) ? test_random_below(30) : 400;
    add_text(c, row, "", 0);
    for (uint32_t i = 0; i < n; i++) {
        size_t from = test_random_below(12) ? kind : test_random_below(N_KINDS);
        const char *piece = pieces[from][test_random_below(12)];
        for (uint32_t times = test_random_below(40) ? 1 : test_random_below(150); times; times--) {
            add_text(c, row, piece, strlen(piece));
        }
        if (test_random_below(60) == 0) {
            add_text(c, row, "\0\0", 1 + test_random_below(2));
        }
    }
}

static corpus random_corpus(uint32_t n, size_t kind) {
    corpus c = make_corpus(n);
    for (uint32_t row = 0; row < n; row++) {
        if (test_random_below(10) > 0) {
            random_text(&c, row, kind);
        }
    }
    build_corpus(&c);
    return c;
}

/* A piece of a document, whole characters or not, or of the alphabet, or a document's and more. */
static vex_buf random_needle(const corpus *c, size_t kind) {
    vex_buf out = {0};
    const vex_payload *row = &c->rows[test_random_below(c->n)];
    uint32_t how = test_random_below(8);
    if (how > 0 && row->document_len > 0) {
        size_t from = test_random_below(row->document_len);
        size_t most = how < 5 ? 6 : how == 5 ? 40 : how == 6 ? 120 : row->document_len;
        while (how < 6 && from > 0 && (row->document[from] & 0xC0) == 0x80) {
            from--;
        }
        size_t len = 1 + test_random_below((uint32_t)most);
        len = len < row->document_len - from ? len : row->document_len - from;
        while (how < 6 && from + len < row->document_len &&
               (row->document[from + len] & 0xC0) == 0x80) {
            len++;
        }
        CHECK_OK(vex_buf_append(&out, row->document + from, len));
    }
    for (uint32_t i = how == 0 ? 1 + test_random_below(3) : test_random_below(9) == 0; i > 0; i--) {
        const char *piece = pieces[kind][test_random_below(12)];
        CHECK_OK(vex_buf_append(&out, piece, strlen(piece)));
    }
    if (out.len == 0) {
        CHECK_OK(vex_buf_append(&out, "q", 1));
    }
    return out;
}

TEST(text_index_agrees_with_a_search) {
    uint64_t found = 0, in_doubt = 0, decided = 0, n_indexes = 0;
    uint64_t found_folded = 0, decided_folded = 0;
    for (int round = 0; round < 48; round++) {
        size_t kind = (size_t)round % N_KINDS;
        corpus c = random_corpus(1 + test_random_below(300), kind);
        for (int i = 0; c.opened != NULL && i < 200; i++) {
            vex_buf needle = random_needle(&c, kind);
            outcome o = check_needle(&c, needle.data, needle.len);
            found += o.found;
            in_doubt += o.doubts > 0;
            decided += o.doubts == 0;
            o = check_folded(&c, needle.data, needle.len);
            found_folded += o.found;
            decided_folded += o.found > 0 && o.doubts < o.found;
            vex_buf_clear(&needle);
        }
        n_indexes += c.opened != NULL;
        free_corpus(&c);
    }
    CHECK(n_indexes > 20 && found > 1000 && in_doubt > 100 && decided > 1000);
    CHECK(found_folded > found && decided_folded > 100);
}

/* ---- exact answers ---- */

/* Filler that makes the documents worth an index, of terms that nothing else has. */
static void add_filler(corpus *c, uint32_t row) {
    for (uint32_t i = 0; i < VEX_TEXT_DOCUMENTS_MIN / 6; i++) {
        add_text(c, row, "# # # ", 6);
    }
}

TEST(text_needles_within_one_run_are_exact) {
    static const char *const documents[] = {
        "caf\xc3\xa9 au lait", "au",
        "laitier, laitue",     "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
        "\xe6\x97\xa5",        "a, b; c",
        "lait \xe6\x97\xa5",   ""};
    static const struct {
        const char *needle;
        uint32_t found;
    } needles[] = {{"lait", 3},
                   {"a", 5},
                   {"ai", 3},
                   {"tu", 1},
                   {"laitue", 1},
                   {"caf\xc3\xa9", 1},
                   {"\xc3\xa9", 1},
                   {" ", 4},
                   {", ", 2},
                   {";", 1},
                   {"\xe6\x97\xa5", 3},
                   {"\xe6\x9c\xac\xe8\xaa\x9e", 1},
                   {"\xe8\xaa\x9e\xe6\x97\xa5", 0},
                   {"zz", 0},
                   {"A", 0}};
    corpus c = make_corpus(10);
    for (uint32_t i = 0; i < 8; i++) {
        add_text(&c, i, documents[i], strlen(documents[i]));
    }
    add_filler(&c, 9); /* 8: no document */
    build_corpus(&c);
    for (size_t i = 0; i < sizeof needles / sizeof needles[0]; i++) {
        outcome o = check_needle(&c, needles[i].needle, strlen(needles[i].needle));
        CHECK_EQ(o.found, needles[i].found + (strcmp(needles[i].needle, " ") == 0));
        CHECK_EQ(o.doubts, 0);
    }
    CHECK(check_needle(&c, "au lait", 7).doubts == 1); /* several runs: to be looked at */
    CHECK(check_needle(&c, "\xc3", 1).doubts == 10);   /* no whole character */
    free_corpus(&c);
}

/* Every part of a run that is cut into windows; up to 32 bytes are answered exactly. */
TEST(text_long_runs) {
    corpus c = make_corpus(4);
    uint8_t letters[300];
    for (size_t i = 0; i < sizeof letters; i++) {
        letters[i] = (uint8_t)('a' + test_random_below(26));
    }
    add_text(&c, 0, letters, sizeof letters);
    add_text(&c, 1, "x ", 2);
    add_text(&c, 1, letters, 65);
    add_text(&c, 1, " y", 2);
    add_text(&c, 2, letters, 64);
    add_filler(&c, 3);
    build_corpus(&c);
    for (size_t from = 0; from < sizeof letters; from++) {
        for (size_t len = 1; len <= 100 && from + len <= sizeof letters; len++) {
            outcome o = check_needle(&c, letters + from, len);
            CHECK(o.found >= 1 && (len > VEX_TERM_STEP || o.doubts == 0));
        }
    }
    for (size_t len = 1; len <= 65; len++) { /* with a neighbour, on either side */
        uint8_t needle[80];
        memcpy(needle, letters + 65 - len, len);
        needle[len] = ' ';
        CHECK_EQ(check_needle(&c, needle, len + 1).found, 1);
        needle[0] = ' ';
        memcpy(needle + 1, letters, len);
        CHECK_EQ(check_needle(&c, needle, len + 1).found, 1);
    }
    uint8_t whole[67] = " ";
    memcpy(whole + 1, letters, 65);
    whole[66] = ' ';
    CHECK_EQ(check_needle(&c, whole, 67).found, 1);
    free_corpus(&c);
}

/* A document that would fill the index with windows is left out of it: it stays in doubt. */
TEST(text_documents_left_out) {
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    corpus c = make_corpus(200);
    for (uint32_t row = 0; row < 200; row++) {
        for (int i = 0; i < 400; i++) {
            add_text(&c, row, "some words here ", 16);
        }
    }
    for (size_t i = 0; i < (size_t)1 << 20; i++) {
        add_text(&c, 77, &digits[test_random_below(36)], 1);
    }
    build_corpus(&c);
    CHECK(c.opened != NULL && c.section.len < 4096);
    CHECK_EQ(check_needle(&c, "words", 5).found, 200);
    CHECK_EQ(check_needle(&c, "words", 5).doubts, 1);
    CHECK_EQ(check_needle(&c, c.texts[77].data + 500000, 20).found, 1);
    CHECK_EQ(check_needle(&c, "absent", 6).doubts, 1);
    free_corpus(&c);
}

TEST(text_no_index_where_it_does_not_pay) {
    corpus few = make_corpus(3);
    add_text(&few, 1, "a few words", 11);
    build_corpus(&few);
    CHECK_EQ(few.section.len, 0);
    free_corpus(&few);
    corpus numbers = make_corpus(2000); /* each term in one place: no smaller than the documents */
    for (uint32_t row = 0; row < numbers.n; row++) {
        char text[16];
        snprintf(text, sizeof text, "%x", (unsigned)(test_random() >> 32));
        add_text(&numbers, row, text, strlen(text));
    }
    build_corpus(&numbers);
    CHECK_EQ(numbers.section.len, 0);
    free_corpus(&numbers);
}

/* ---- the format: a section by hand ---- */

TEST(text_section_known_bytes) {
    corpus c = make_corpus(9);
    add_text(&c, 2, "ab, \xe6\x97\xa5\xe6\x9c\xac", 10);
    add_text(&c, 5, "ab", 2);
    add_filler(&c, 8);
    build_corpus(&c);
    const uint8_t *data = c.section.data;
    CHECK_EQ(vex_get32(data), VEX_TEXT_MAGIC);
    CHECK_EQ(vex_get32(data + 4), 9);
    CHECK_EQ(vex_get32(data + 12), 0);
    uint32_t n_terms = vex_get32(data + 8), terms_len = vex_get32(data + 16);
    CHECK_EQ(c.section.len, 64 + (n_terms + 15) / 16 * 8 + terms_len + vex_get32(data + 20));
    static const uint8_t tail[] = {2, ',', ' ', 2, 'a', 'b', 6, 0xe6, 0x97, 0xa5, 0xe6, 0x9c, 0xac};
    static const uint8_t postings[] = {4, 5, 2, 2, 4};
    CHECK(memcmp(data + 64 + (n_terms + 15) / 16 * 8 + terms_len - sizeof tail, tail,
                 sizeof tail) == 0);
    CHECK(memcmp(data + c.section.len - sizeof postings, postings, sizeof postings) == 0);
    free_corpus(&c);
}

/* ---- damage ---- */

static corpus damage_corpus(void) {
    corpus c = make_corpus(90);
    for (uint32_t row = 0; row < c.n; row++) {
        for (uint32_t i = 4 + test_random_below(20); i > 0; i--) {
            const char *piece = pieces[test_random_below(3)][test_random_below(12)];
            add_text(&c, row, piece, strlen(piece));
        }
    }
    for (uint32_t i = 0; i < 1100; i++) { /* one document is left out */
        add_text(&c, 40, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 62);
    }
    build_corpus(&c);
    CHECK(c.opened != NULL && vex_get32(c.section.data + 12) == 1);
    return c;
}

static const char *const common_needles[] = {
    "e", "fox", "the quick", "\xe6\x97\xa5", "\xe6\x9c\xac\xe8\xaa\x9e", "s over_it", " "};
#define N_NEEDLES (sizeof common_needles / sizeof common_needles[0])

TEST(text_notices_every_flipped_bit) {
    corpus c = damage_corpus();
    uint64_t sure[2], maybe[2];
    for (size_t at = 0; at < c.section.len; at++) {
        void *opened;
        uint8_t bit = (uint8_t)(1u << test_random_below(8));
        c.section.data[at] ^= bit;
        vex_status status = open_section(c.section.data, c.section.len, c.n, &opened);
        if (status == VEX_OK) {
            uint64_t counted = vex_stat_get(VEX_STAT_DAMAGED_PARTS);
            CHECK_STATUS(vex_text_index_find(opened, (const uint8_t *)"e", 1, sure, maybe),
                         VEX_ERR_CORRUPT);
            status = vex_text_index_find(opened, (const uint8_t *)"e", 1, sure, maybe);
            CHECK_EQ(vex_stat_get(VEX_STAT_DAMAGED_PARTS), counted + 1); /* once */
            vex_text_plugin()->unload(opened);
        }
        CHECK_STATUS(status, VEX_ERR_CORRUPT);
        CHECK_EQ(strcmp(vex_last_error()->path, "test.vxp"), 0);
        CHECK(vex_last_error()->offset >= 4096);
        c.section.data[at] ^= bit;
    }
    free_corpus(&c);
}

static void put_crcs(uint8_t *data, size_t len) {
    vex_put32(data + 24, vex_crc32c(0, data + VEX_TEXT_HEADER_BYTES, len - VEX_TEXT_HEADER_BYTES));
    vex_put32(data + VEX_TEXT_HEADER_CRC, vex_crc32c(0, data, VEX_TEXT_HEADER_CRC));
}

/* Damage under right checksums: any answer, or an error, but never a step outside. */
TEST(text_survives_damage_under_right_checksums) {
    corpus c = damage_corpus();
    uint64_t n_opened = 0, n_corrupt = 0;
    for (int round = 0; round < 20000; round++) {
        size_t len = c.section.len;
        uint8_t *data = malloc(len); /* so that a read past the end shows */
        uint64_t sure[2], maybe[2];
        void *opened;
        memcpy(data, c.section.data, len);
        for (uint32_t i = 1 + test_random_below(3); i > 0; i--) {
            size_t at = test_random_below(4) ? 8 + test_random_below((uint32_t)len - 8)
                                             : 8 + test_random_below(120);
            data[at] = (uint8_t)(test_random_below(3) ? test_random() : 0xFF * (test_random() & 1));
        }
        put_crcs(data, len);
        if (open_section(data, len, c.n, &opened) == VEX_OK) {
            n_opened++;
            for (size_t i = 0; i < N_NEEDLES; i++) {
                vex_status status = vex_text_index_find(opened, (const uint8_t *)common_needles[i],
                                                        strlen(common_needles[i]), sure, maybe);
                CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT);
                n_corrupt += status != VEX_OK;
            }
            vex_text_plugin()->unload(opened);
        }
        free(data);
    }
    CHECK(n_opened > 1000 && n_corrupt > 1000);
    free_corpus(&c);
}

TEST(text_truncated) {
    corpus c = damage_corpus();
    for (size_t len = 0; len < c.section.len; len++) {
        void *opened;
        uint8_t *data = malloc(len + !len);
        memcpy(data, c.section.data, len);
        CHECK_STATUS(open_section(data, len, c.n, &opened), VEX_ERR_CORRUPT);
        free(data);
    }
    void *opened;
    CHECK_STATUS(open_section(c.section.data, c.section.len, c.n + 1, &opened), VEX_ERR_CORRUPT);
    free_corpus(&c);
}

TEST(text_without_memory) {
    corpus c = random_corpus(300, 0);
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    bool done = false;
    CHECK(c.opened != NULL);
    for (uint64_t n = 1; !done; n++) {
        vex_buf section = {0};
        vex_mem_fail_at(n, true);
        vex_status status = vex_text_plugin()->build(c.rows, c.n, &section);
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        done = status == VEX_OK;
        vex_buf_clear(&section);
        CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), blocks);
    }
    for (uint64_t n = 1; n < 3; n++) {
        uint64_t sure[5], maybe[5];
        vex_mem_fail_at(n, true);
        vex_status status =
            vex_text_index_find(c.opened, (const uint8_t *)"the quick", 9, sure, maybe);
        vex_mem_fail_at(0, false);
        CHECK_EQ(status, n == 1 ? VEX_ERR_NO_MEMORY : VEX_OK);
        CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), blocks);
    }
    void *opened;
    vex_mem_fail_at(1, true);
    vex_status status = open_section(c.section.data, c.section.len, c.n, &opened);
    vex_mem_fail_at(0, false);
    CHECK_EQ(status, VEX_ERR_NO_MEMORY);
    free_corpus(&c);
}

/* ---- runs ---- */

TEST(text_runs_known) {
    static const struct {
        const char *bytes;
        vex_char_class class;
    } runs[] = {{"it", VEX_CHAR_WORD},
                {"'", VEX_CHAR_SEPARATOR},
                {"s_\xd0\xb6"
                 "9",
                 VEX_CHAR_WORD},
                {"\xe2\x80\x94 \xc2\xbf", VEX_CHAR_SEPARATOR},
                {"\xe6\x97\xa5\xe3\x82\xab\xf0\xa0\x80\x80", VEX_CHAR_SINGLE},
                {"\xe3\x80\x82\n", VEX_CHAR_SEPARATOR},
                {"\xed\x95\x9c", VEX_CHAR_WORD},
                {"\xf0\x9f\x98\x80\xe0\xb8\x81", VEX_CHAR_SINGLE},
                {"\xff\xe6\x97", VEX_CHAR_SEPARATOR}};
    uint8_t text[200];
    size_t len = 0, at = 0;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        memcpy(text + len, runs[i].bytes, strlen(runs[i].bytes));
        len += strlen(runs[i].bytes);
    }
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        CHECK(at < len);
        vex_text_run run = vex_text_run_next(text, len, &at);
        CHECK_EQ(run.class, runs[i].class);
        CHECK_EQ(run.len, strlen(runs[i].bytes));
        CHECK(memcmp(run.bytes, runs[i].bytes, run.len) == 0);
        CHECK_EQ(run.damaged, i == 8);
    }
    CHECK_EQ(at, len);
}

TEST(text_find_agrees_with_a_plain_search) {
    for (int round = 0; round < 20000; round++) {
        uint8_t text[90], needle[20];
        size_t len = test_random_below(sizeof text + 1), n = test_random_below(6);
        n = test_random_below(10) ? n : test_random_below(sizeof needle);
        for (size_t i = 0; i < len; i++) {
            text[i] = (uint8_t)test_random_below(3);
        }
        for (size_t i = 0; i < n; i++) {
            needle[i] = (uint8_t)test_random_below(3);
        }
        size_t from = test_random_below((uint32_t)len + 1), expected = from;
        while (expected + n <= len && memcmp(text + expected, needle, n) != 0) {
            expected++;
        }
        expected = expected + n <= len ? expected : SIZE_MAX;
        CHECK(vex_text_find(text, len, from, needle, n) == expected);
    }
}
