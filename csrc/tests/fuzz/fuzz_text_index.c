/*
 * fuzz_text_index.c - the text index on any bytes, as documents and as a section.
 *
 * The first byte chooses.  Even: the input is documents between 0xFE bytes, the last one the
 * needle; what the index says must agree with a search.  Odd: the input is a section, under
 * right checksums; the needle is its first bytes.
 */
#include "base/bits.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "filter/expr.h"
#include "filter/text_format.h"

#include <stdlib.h>

#define ROWS_MAX 64
#define FILLER_BYTES (VEX_TEXT_DOCUMENTS_MIN + 64)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void expect(bool condition) {
    if (!condition) {
        abort();
    }
}

static void check_documents(const uint8_t *data, size_t len) {
    static uint8_t filler[FILLER_BYTES];
    vex_payload rows[ROWS_MAX] = {{0}};
    uint32_t n = 0;
    memset(filler, '#', sizeof filler);
    rows[n++] = (vex_payload){.document = filler, .document_len = sizeof filler};
    for (const uint8_t *end; n < ROWS_MAX && (end = memchr(data, 0xFE, len)) != NULL;) {
        const size_t document_len = (size_t)(end - data);
        rows[n++] = (vex_payload){.document = data, .document_len = (uint32_t)document_len};
        data += document_len + 1;
        len -= document_len + 1;
    }
    vex_buf section = {0};
    void *opened = NULL;
    expect(vex_text_build(rows, n, &section) == VEX_OK);
    if (section.len > 0) {
        uint64_t sure = 0, maybe = 0;
        expect(vex_text_plugin()->load(section.data, section.len, n, "", 0, &opened) == VEX_OK);
        expect(vex_text_index_find(opened, data, len, &sure, &maybe) == VEX_OK);
        for (uint32_t i = 0; i < n; i++) {
            bool hit = vex_text_contains(rows[i].document, rows[i].document_len, data, len);
            expect(hit ? maybe >> i & 1 : !(sure >> i & 1));
        }
        vex_text_plugin()->unload(opened);
    }
    vex_buf_clear(&section);
}

static void check_section(const uint8_t *data, size_t len) {
    uint8_t *section = malloc(len + !len);
    void *opened = NULL;
    memcpy(section, data, len);
    if (len >= VEX_TEXT_HEADER_BYTES) {
        vex_put32(section, VEX_TEXT_MAGIC);
        vex_put32(section + 4, ROWS_MAX);
        size_t body = len - VEX_TEXT_HEADER_BYTES;
        const size_t groups = (vex_get32(section + 8) + (size_t)15) / 16 * VEX_TEXT_GROUP_BYTES;
        const size_t said = groups + (size_t)vex_get32(section + 12) * 4 + vex_get32(section + 16) +
                            vex_get32(section + 20);
        body = said < body ? said : body;
        vex_put32(section + 24, vex_crc32c(0, section + VEX_TEXT_HEADER_BYTES, body));
        vex_put32(section + VEX_TEXT_HEADER_CRC, vex_crc32c(0, section, VEX_TEXT_HEADER_CRC));
    }
    if (vex_text_plugin()->load(section, len, ROWS_MAX, "", 0, &opened) == VEX_OK) {
        for (size_t n = 1; n < 12 && n <= len; n++) {
            uint64_t sure = 0, maybe = 0;
            vex_status status = vex_text_index_find(opened, data + len - n, n, &sure, &maybe);
            expect(status == VEX_OK || status == VEX_ERR_CORRUPT);
        }
        vex_text_plugin()->unload(opened);
    }
    free(section);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len > 0) {
        (data[0] & 1 ? check_section : check_documents)(data + 1, len - 1);
    }
    return 0;
}
