/*
 * micro_blocks.c - documents in compressed blocks: zstd levels, and none.
 *
 * Documents are made of words by Zipf's law, some of them repeated from the document before.
 */
#include "codec/block.h"
#include "tests/micro/micro.h"
#include "tests/zstd_provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENTS 20000u
#define WORDS 4096u
#define LOOKS 20000u

typedef struct column {
    vex_buf texts; /* all documents, end to end */
    uint32_t ends[DOCUMENTS];
    int level;
    vex_buf encoded;
    vex_block_column opened;
    uint64_t state;
} column;

static void make_documents(column *c) {
    uint64_t state = 8;
    for (uint32_t i = 0; i < DOCUMENTS; i++) {
        const uint32_t words = 20 + (uint32_t)(micro_random(&state) % 80);
        for (uint32_t w = 0; w < words; w++) {
            const double u = (double)(micro_random(&state) >> 11) / 9007199254740992.0;
            const uint32_t word = (uint32_t)((double)WORDS * u * u * u); /* few are frequent */
            char text[16];
            const int len =
                snprintf(text, sizeof text, "%c%c%x ", 'a' + (int)(word % 26),
                         'a' + (int)(word / 26 % 26), (unsigned)(word * 2654435761u >> 16));
            micro_need(vex_buf_append(&c->texts, text, (size_t)len), "blocks");
        }
        c->ends[i] = (uint32_t)c->texts.len;
    }
}

static void encode(void *context) {
    column *c = context;
    vex_block_writer *writer;
    c->encoded.len = 0;
    micro_need(vex_block_writer_create(&writer, c->level), "blocks");
    for (uint32_t i = 0, from = 0; i < DOCUMENTS; from = c->ends[i], i++) {
        micro_need(vex_block_writer_add(writer, c->texts.data + from, c->ends[i] - from), "blocks");
    }
    micro_need(vex_block_writer_finish(writer, &c->encoded), "blocks");
    vex_block_writer_destroy(writer);
}

static void look(void *context) {
    column *c = context;
    vex_block_reader reader;
    vex_block_reader_init(&reader, &c->opened);
    for (uint32_t i = 0; i < LOOKS; i++) {
        const uint8_t *value;
        size_t len;
        micro_need(vex_block_reader_get(&reader, (uint32_t)(micro_random(&c->state) % DOCUMENTS),
                                        &value, &len),
                   "blocks");
        micro_use(value);
    }
    vex_block_reader_clear(&reader);
}

static void measure(column *c, const char *what) {
    char name[64];
    const double seconds = micro_time(encode, c);
    snprintf(name, sizeof name, "%s: write", what);
    micro_report("blocks", name, (double)c->texts.len / seconds * 1e-6, "MB/s");
    snprintf(name, sizeof name, "%s: bytes stored", what);
    micro_report("blocks", name, 100.0 * (double)c->encoded.len / (double)c->texts.len, "%");
    micro_need(vex_block_column_open(&c->opened, c->encoded.data, c->encoded.len, "blocks", 0),
               "blocks");
    c->state = 9;
    snprintf(name, sizeof name, "%s: read one document", what);
    micro_report("blocks", name, micro_time(look, c) / LOOKS * 1e9, "ns");
    vex_block_column_close(&c->opened);
}

void micro_blocks(void) {
    static const int levels[] = {1, 3, VEX_BLOCK_LEVEL_FLUSH, VEX_BLOCK_LEVEL_COMPACT, 19};
    column *c = micro_room(sizeof *c);
    make_documents(c);
    measure(c, "stored as they are"); /* no compressor is registered yet */
    const vex_zstd_symbols symbols = test_zstd_symbols();
    micro_need(vex_set_codec_native(&symbols, "micro"), "blocks");
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        char what[32];
        c->level = levels[i];
        snprintf(what, sizeof what, "zstd %d", levels[i]);
        measure(c, what);
    }
    vex_buf_clear(&c->texts);
    vex_buf_clear(&c->encoded);
    free(c);
}
