/*
 * fuzz_ranks.c - the indexes behind ranking, of words and of sparse vectors, on any bytes.
 *
 * Targets "words" and "sparse": the input is a section, of a file of which nothing else is there;
 * queries are answered from it, and by the rows (which are empty) once damage is found.
 */
#include "base/crc32c.h"
#include "base/msgpack.h"
#include "rank/retrieve.h"
#include "rank/sparse_index.h"
#include "rank/words.h"
#include "store/payfile_format.h"
#include "store/snapshot.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#define ROWS 600u
#define PATH "a file"

/* ---- checksums ---- */

static void fix_section(uint8_t *data, size_t len, uint64_t body, size_t at_crc) {
    const size_t left = len - VEX_WORDS_HEADER_BYTES;
    vex_put32(data + at_crc,
              vex_crc32c(0, data + VEX_WORDS_HEADER_BYTES, body < left ? (size_t)body : left));
    vex_put32(data + VEX_WORDS_HEADER_CRC, vex_crc32c(0, data, VEX_WORDS_HEADER_CRC));
}

static void fix_words(uint8_t *data, size_t len) {
    if (len >= VEX_WORDS_HEADER_BYTES) {
        const uint64_t lengths = vex_align_up((uint64_t)vex_get32(data + 4) * data[33], 4);
        const uint64_t buckets = (((uint64_t)1 << data[32] % 32) + 1) * 4;
        fix_section(data, len,
                    lengths + buckets + vex_get32(data + 24) + (uint64_t)vex_get32(data + 28), 36);
    }
}

static void fix_sparse(uint8_t *data, size_t len) {
    if (len >= VEX_SPARSE_HEADER_BYTES) {
        fix_section(data, len,
                    (uint64_t)vex_get32(data + 8) * VEX_SPARSE_KEY_BYTES +
                        (uint64_t)vex_get32(data + 12) * VEX_SPARSE_LIST_BYTES +
                        vex_get32(data + 16) + (uint64_t)vex_get32(data + 20),
                    24);
    }
}

static void change_words(fuzz_input *input) {
    static const fuzz_field fields[] = {{8, 4}, {12, 4}, {24, 4}, {28, 4}, {32, 1}, {33, 1}};
    if (input->len < VEX_WORDS_HEADER_BYTES || test_random_below(4)) {
        fuzz_change(input);
    } else {
        FUZZ_CHANGE_FIELD(input->data, input->len, fields, input->len);
    }
}

static void change_sparse(fuzz_input *input) {
    static const fuzz_field fields[] = {{8, 4},  {12, 4}, {16, 4}, {20, 4},
                                        {64, 4}, {68, 4}, {72, 4}, {76, 4}};
    if (input->len < VEX_SPARSE_HEADER_BYTES + 16 || test_random_below(4)) {
        fuzz_change(input);
    } else {
        FUZZ_CHANGE_FIELD(input->data, input->len, fields, input->len);
    }
}

/* ---- runs ---- */

static void prepare(void) {
    CHECK_OK(vex_payfile_register(vex_words_plugin()));
    CHECK_OK(vex_payfile_register(vex_sparse_plugin()));
}

static void ask_words(const vex_snapshot *snapshot) {
    static const char *const queries[] = {"w1", "w0 w1 w2 w3 w4 w5", "w7 w300 nothing", "rare w2"};
    for (uint32_t i = 0; i < 12; i++) {
        const char *text = queries[i % 4];
        const vex_text_query query = {(const uint8_t *)text, strlen(text), 1.2f, 0.75f};
        vex_scored_list found = {0};
        CHECK_OK(vex_retrieve_text(snapshot, NULL, &query, i < 4 ? 10 : ROWS, &found));
        vex_scored_list_clear(&found);
    }
}

static void ask_sparse(const vex_snapshot *snapshot) {
    static const uint32_t indices[] = {0, 1, 2, 3, 5, 900};
    static const float values[] = {1, -2, 0.5f, 3, -1, 8};
    for (uint32_t i = 0; i < 12; i++) {
        const uint32_t n = 1 + i % 6;
        const vex_sparse_query query = {.key = (const uint8_t *)"sv",
                                        .key_len = 2,
                                        .indices = indices,
                                        .values = values,
                                        .n = n,
                                        .idf = i % 2};
        vex_scored_list found = {0};
        CHECK_OK(vex_retrieve_sparse(snapshot, NULL, &query, i < 6 ? 10 : ROWS, &found));
        vex_scored_list_clear(&found);
    }
}

/* A snapshot of one file that is nothing but its section, some of whose rows may be dead. */
static void run_section(const vex_section_plugin *plugin, const uint8_t *data, size_t len,
                        void (*ask)(const vex_snapshot *)) {
    static uint64_t seqs[ROWS];
    const vex_section_plugin *const *list;
    const uint32_t n_plugins = vex_payfile_plugins(&list);
    void *opened = NULL;
    vex_status status = plugin->load(data, len, ROWS, PATH, 0, &opened);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
        return;
    }
    fuzz_accept();
    vex_payfile file = {.rows = ROWS, .seqs = seqs};
    vex_pay_source source = {.file = &file};
    vex_snapshot snapshot = {.pays = &source, .n_pays = 1, .live_rows = ROWS};
    for (uint32_t row = 0; row < ROWS; row++) {
        seqs[row] = row + 1;
    }
    for (uint32_t i = 0; i < n_plugins; i++) {
        file.plugin_state[i] = list[i]->section_kind == plugin->section_kind ? opened : NULL;
    }
    vex_annexes_init(&file.annexes);
    CHECK_OK(vex_tombs_create(ROWS, &source.tombs));
    for (uint32_t row = 0; len % 2 && row < ROWS; row += 7) {
        bool was_live;
        CHECK_OK(vex_tombs_kill(&source.tombs, row, &was_live));
    }
    ask(&snapshot);
    vex_tombs_release(source.tombs);
    vex_annexes_clear(&file.annexes);
    plugin->unload(opened);
}

static void run_words(const uint8_t *data, size_t len) {
    uint8_t *section = malloc(len + 1); /* at an address as in a mapping, and of its size */
    memcpy(section, data, len);
    run_section(vex_words_plugin(), section, len, ask_words);
    free(section);
}

static void run_sparse(const uint8_t *data, size_t len) {
    uint8_t *section = malloc(len + 1);
    memcpy(section, data, len);
    run_section(vex_sparse_plugin(), section, len, ask_sparse);
    free(section);
}

/* ---- seeds ---- */

static void seed_words(const fuzz_seeds *seeds) {
    static char text[ROWS][120];
    static vex_payload rows[ROWS];
    vex_buf section = {0};
    for (uint32_t i = 0; i < ROWS; i++) {
        const int len = snprintf(text[i], sizeof text[i], "w0 w%u w%u w%u %s %.*s", i % 2, i % 5,
                                 i % 301, i % 97 ? "" : "rare rare", (int)(i % 40),
                                 "w1 w1 w1 w1 w1 w1 w1 w1 w1 w1 w1 w1 w1 w1");
        rows[i] = (vex_payload){.document = i % 11 ? (const uint8_t *)text[i] : NULL,
                                .document_len = (uint32_t)len};
    }
    CHECK_OK(vex_words_plugin()->build(rows, ROWS, &section));
    seeds->take(seeds->context, section.data, section.len);
    vex_buf_clear(&section);
}

static void seed_sparse(const fuzz_seeds *seeds) {
    static vex_buf maps[ROWS];
    static vex_payload rows[ROWS];
    vex_buf section = {0};
    for (uint32_t i = 0; i < ROWS; i++) {
        uint8_t payload[4 + 8 * 3];
        const uint32_t indices[3] = {i % 2, 2 + i % 4, 900 + i % 90};
        vex_put32(payload, 3);
        for (uint32_t k = 0; k < 3; k++) {
            const float value = (float)(i % 9) - 4;
            vex_put32(payload + 4 + 4 * (size_t)k, indices[k]);
            memcpy(payload + 16 + 4 * (size_t)k, &value, 4);
        }
        CHECK_OK(vex_mp_put_map(&maps[i], 1));
        CHECK_OK(vex_mp_put_str(&maps[i], "sv", 2));
        CHECK_OK(vex_mp_put_ext(&maps[i], 1, payload, sizeof payload));
        rows[i] = (vex_payload){.metadata = maps[i].data, .metadata_len = (uint32_t)maps[i].len};
    }
    CHECK_OK(vex_sparse_plugin()->build(rows, ROWS, &section));
    seeds->take(seeds->context, section.data, section.len);
    vex_buf_clear(&section);
    for (uint32_t i = 0; i < ROWS; i++) {
        vex_buf_clear(&maps[i]);
    }
}

const fuzz_target fuzz_words = {.name = "words",
                                .prepare = prepare,
                                .seeds = seed_words,
                                .run = run_words,
                                .change = change_words,
                                .fix = fix_words,
                                .rounds = 3000};
const fuzz_target fuzz_sparse = {.name = "sparse",
                                 .prepare = prepare,
                                 .seeds = seed_sparse,
                                 .run = run_sparse,
                                 .change = change_sparse,
                                 .fix = fix_sparse,
                                 .rounds = 3000};
