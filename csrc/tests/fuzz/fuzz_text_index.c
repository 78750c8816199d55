/*
 * fuzz_text_index.c - the text index on any bytes, as documents and as a section.
 *
 * Target "text": the first byte chooses.  Even: the input is documents between 0xFE bytes, the
 * last one the needle; what the index says must agree with a search.  Odd: the input is a section;
 * needles are its last bytes.
 */
#include "base/bits.h"
#include "base/crc32c.h"
#include "filter/expr.h"
#include "filter/text_format.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#define ROWS_MAX 64u
#define FILLER_BYTES (VEX_TEXT_DOCUMENTS_MIN + 64)
#define PATH "a file"

#define AT_N_TERMS 8u
#define AT_N_UNREAD 12u
#define AT_TERMS_LEN 16u
#define AT_POSTINGS_LEN 20u
#define AT_BODY_CRC 24u

/* Bytes of the body that the header speaks of, as far as they are there. */
static size_t body_len(const uint8_t *data, size_t len) {
    const uint64_t groups = (vex_get32(data + AT_N_TERMS) + (uint64_t)VEX_TEXT_GROUP_TERMS - 1) /
                            VEX_TEXT_GROUP_TERMS * VEX_TEXT_GROUP_BYTES;
    const uint64_t said = groups + (uint64_t)vex_get32(data + AT_N_UNREAD) * 4 +
                          vex_get32(data + AT_TERMS_LEN) + vex_get32(data + AT_POSTINGS_LEN);
    return (size_t)(said < len - VEX_TEXT_HEADER_BYTES ? said : len - VEX_TEXT_HEADER_BYTES);
}

void fuzz_fix_text(uint8_t *data, size_t len) {
    if (len >= VEX_TEXT_HEADER_BYTES) {
        vex_put32(data + AT_BODY_CRC,
                  vex_crc32c(0, data + VEX_TEXT_HEADER_BYTES, body_len(data, len)));
        vex_put32(data + VEX_TEXT_HEADER_CRC, vex_crc32c(0, data, VEX_TEXT_HEADER_CRC));
    }
}

void fuzz_change_text(fuzz_input *input) {
    static const fuzz_field fields[] = {{4, 4}, {8, 4}, {12, 4}, {16, 4}, {20, 4}};
    if (input->len < VEX_TEXT_HEADER_BYTES || test_random_below(4)) {
        fuzz_change(input);
    } else {
        FUZZ_CHANGE_FIELD(input->data, input->len, fields, input->len);
    }
}

/* ---- runs ---- */

static void check_documents(const uint8_t *data, size_t len) {
    static uint8_t filler[FILLER_BYTES];
    vex_payload rows[ROWS_MAX] = {{0}};
    uint32_t n = 0;
    memset(filler, '#', sizeof filler);
    rows[n++] = (vex_payload){.document = filler, .document_len = sizeof filler};
    for (const uint8_t *end; n < ROWS_MAX && len > 0 && (end = memchr(data, 0xFE, len)) != NULL;) {
        const size_t document_len = (size_t)(end - data);
        rows[n++] = (vex_payload){.document = data, .document_len = (uint32_t)document_len};
        data += document_len + 1;
        len -= document_len + 1;
    }
    vex_buf section = {0};
    void *opened = NULL;
    CHECK(vex_text_build(rows, n, &section) == VEX_OK);
    if (section.len > 0) {
        uint64_t sure = 0, maybe = 0;
        CHECK(vex_text_plugin()->load(section.data, section.len, n, "", 0, &opened) == VEX_OK);
        CHECK(vex_text_index_find(opened, data, len, &sure, &maybe) == VEX_OK);
        for (uint32_t i = 0; i < n; i++) {
            bool hit = vex_text_contains(rows[i].document, rows[i].document_len, data, len);
            CHECK((hit ? maybe >> i : ~sure >> i) & 1);
        }
        vex_text_plugin()->unload(opened);
    }
    vex_buf_clear(&section);
}

static void check_section(const uint8_t *data, size_t len) {
    void *opened = NULL;
    vex_status status = vex_text_plugin()->load(data, len, ROWS_MAX, PATH, 0, &opened);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
        return;
    }
    fuzz_accept();
    for (size_t n = 1; n < 12 && n <= len; n++) {
        uint64_t sure = 0, maybe = 0;
        status = vex_text_index_find(opened, data + len - n, n, &sure, &maybe);
        if (status != VEX_OK) {
            fuzz_check_error(status, PATH);
        }
    }
    vex_text_plugin()->unload(opened);
}

static void run(const uint8_t *data, size_t len) {
    if (len > 0 && data[0] % 2 == 0) {
        check_documents(data + 1, len - 1);
    } else if (len > 0) { /* at an address as in a mapping */
        uint8_t *section = malloc(len);
        memcpy(section, data + 1, len - 1);
        check_section(section, len - 1);
        free(section);
    }
}

static void change(fuzz_input *input) {
    if (input->len < 2 || input->data[0] % 2 == 0) {
        fuzz_change(input);
    } else {
        fuzz_change_part(input, 1, input->len - 1, fuzz_change_text);
    }
}

static void fix(uint8_t *data, size_t len) {
    if (len > 0 && data[0] % 2 != 0) {
        fuzz_fix_text(data + 1, len - 1);
    }
}

/* ---- seeds ---- */

static const char documents[] = "some words, and more words\xFE"
                                "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e in between\xFE"
                                "identifier_with_parts 12345 67890\xFE"
                                "words";

static void seeds(const fuzz_seeds *seeds) {
    static uint8_t text[ROWS_MAX][200];
    vex_payload rows[ROWS_MAX] = {{0}};
    vex_buf input = {0};
    uint8_t kind = 0;
    CHECK_OK(vex_buf_append(&input, &kind, 1));
    CHECK_OK(vex_buf_append(&input, documents, sizeof documents - 1));
    seeds->take(seeds->context, input.data, input.len);
    for (uint32_t i = 0; i < ROWS_MAX; i++) {
        const int len =
            snprintf((char *)text[i], sizeof text[i],
                     "document %u of many: common words, word%u%s, %*s %.40s", (unsigned)i,
                     (unsigned)(i % 7), i % 3 ? "" : "rare", i % 50 + 20, "-", documents + i % 40);
        rows[i] = (vex_payload){.document = text[i], .document_len = (uint32_t)len};
    }
    vex_buf section = {0};
    CHECK_OK(vex_text_build(rows, ROWS_MAX, &section));
    CHECK(section.len > 0);
    kind = 1;
    input.len = 0;
    CHECK_OK(vex_buf_append(&input, &kind, 1));
    CHECK_OK(vex_buf_append(&input, section.data, section.len));
    seeds->take(seeds->context, input.data, input.len);
    vex_buf_clear(&section);
    vex_buf_clear(&input);
}

const fuzz_target fuzz_text = {
    .name = "text", .seeds = seeds, .run = run, .change = change, .fix = fix, .rounds = 3000};
