/*
 * words.h - the words of a payload file's documents, for BM25: the section VEX_SECTION_WORDS.
 *
 * For every token (tokens.h) the rows that have it, how often, and how long the documents are.
 *
 *   header 64 B   u32 magic 'VXWD', u32 n_rows, u32 n_documents, u32 n_terms, u64 n_tokens (of all
 *                 documents), u32 length of the terms, u32 length of the postings, u8 bits (there are
 *                 2^bits buckets), u8 bytes per length (1, 2 or 4), u16 0, u32 crc32c of all that
 *                 follows the header, 20 B 0, u32 crc32c of header[0..59]
 *   lengths       for every row 0: no document, else 1 + its number of tokens; zeros up to 4
 *   buckets       u32[2^bits + 1]: where in the terms the bucket begins; the last is their length
 *   terms         bucket by bucket, which is the upper bits of the term's hash (base/hash.h); in one
 *                 ascending by hash, then by bytes: u8 length (1 to 64), bytes, LEB128 n rows, and
 *                   one row    LEB128 row, LEB128 times
 *                   else       LEB128 offset in the postings
 *   postings      for every such term, rows in blocks of 128, the last with what is left:
 *                 of more than one block first impacts of all, then for each block u32 its last row,
 *                 u32 its offset from the first block
 *                   block          impacts, then
 *                     128 rows     u8 width of gaps, u8 width of times, gaps, times - 1 (packed.h)
 *                     fewer        for each LEB128 gap * 2 + (times > 1), then if so LEB128 times - 2
 *                   impacts        u8 n (1 to 8), n pairs { u8 times (255: any number), u8 length },
 *                                  ascending by both: every row has at most the times and at least
 *                                  the length of one of them.  A length code c below 128 is
 *                                  c tokens, others (8 + c % 8) << (c / 8 - 12)
 * Derived data: when it is missing or damaged (which vex_stats.damaged_parts counts), it is made
 * anew in memory (words_cache.h).
 */
#ifndef VEX_RANK_WORDS_H
#define VEX_RANK_WORDS_H

#include "base/bytes.h"
#include "rank/packed.h"
#include "store/payfile.h"

#define VEX_WORDS_MAGIC 0x44575856u /* "VXWD" */
#define VEX_WORDS_HEADER_BYTES 64u
#define VEX_WORDS_HEADER_CRC 60u    /* offset */
#define VEX_IMPACTS_MAX 8u
#define VEX_IMPACT_TIMES_ANY 255u

/* The plug-in that makes and opens the section; registered by db. */
const vex_section_plugin *vex_words_plugin(void);

/* ---- making it ---- */
typedef struct vex_words_builder vex_words_builder;

vex_status vex_words_builder_create(vex_words_builder **out);
void vex_words_builder_destroy(vex_words_builder *builder); /* NULL is fine */
/* The document of a row; rows ascend, those without a document are left out. */
vex_status vex_words_builder_add(vex_words_builder *builder, uint32_t row, const uint8_t *text,
                                 size_t len);
/* Append the section of n_rows rows.  VEX_ERR_TOO_BIG when a part passes 4 GiB. */
vex_status vex_words_builder_finish(vex_words_builder *builder, uint32_t n_rows, vex_buf *out);

/* ---- using it ---- */
typedef struct vex_words {
    uint32_t n_rows, n_documents, n_terms;
    uint64_t n_tokens;
    const uint8_t *lengths, *buckets, *terms, *postings;
    uint32_t terms_len, postings_len;
    uint8_t bits, length_bytes;
    uint32_t crc;
    size_t body_len;
    const char *path;   /* for errors; borrowed like the bytes                                    */
    uint64_t offset;
    atomic_uchar health;
} vex_words;

/* Open bytes, which stay where they are for as long as it is used.  Checks the header only. */
vex_status vex_words_open(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                          uint64_t offset, vex_words **out);
void vex_words_close(vex_words *words);
/* The opened section of a file, or NULL. */
vex_words *vex_words_of(const vex_payfile *file);
/* Check the checksum, once: before anything below. */
vex_status vex_words_verify(vex_words *words);
bool vex_words_is_damaged(const vex_words *words);
/* VEX_ERR_CORRUPT at `where`; it is not used again. */
vex_status vex_words_damaged(vex_words *words, const uint8_t *where);

/* 1 + the number of tokens in the document of a row, or 0. */
static inline uint32_t vex_words_length(const vex_words *words, uint32_t row) {
    const uint8_t *at = words->lengths + (size_t)row * words->length_bytes;
    return words->length_bytes == 1 ? *at : words->length_bytes == 2 ? vex_get16(at) : vex_get32(at);
}

/* The postings of a term: in a file, or in memory (words_memory.h). */
typedef struct vex_word_posting {
    uint32_t row, times;
} vex_word_posting;

typedef struct vex_word_list {
    uint32_t n, n_blocks;       /* rows; 0: no row has it                                         */
    uint64_t number;            /* of the list among those of its index                           */
    vex_word_posting only;      /* of n = 1, in a file                                            */
    const vex_word_posting *postings; /* in memory; else NULL                                     */
    const uint8_t *impacts;     /* of all; NULL: those of the only block                          */
    const uint8_t *skips;       /* NULL: one block                                                */
    const uint8_t *blocks, *end; /* in memory impacts, VEX_MEMORY_IMPACTS bytes for each block    */
    vex_words *words;           /* the index; NULL in memory                                      */
} vex_word_list;

#define VEX_MEMORY_IMPACTS 3u

vex_status vex_words_find(vex_words *words, const uint8_t *term, size_t len, vex_word_list *out);
/* Block b: rows ascend and are below n_rows. */
vex_status vex_words_block(const vex_word_list *list, uint32_t b, vex_block *out);
/* Impacts of block b, of all rows for UINT32_MAX; NULL: damaged, or (n = 1) there are none. */
const uint8_t *vex_words_impacts(const vex_word_list *list, uint32_t b);
/* The last row of a block, UINT32_MAX of the last one. */
static inline uint32_t vex_words_last_row(const vex_word_list *list, uint32_t b) {
    return b + 1 >= list->n_blocks ? UINT32_MAX
           : list->postings        ? list->postings[((size_t)b + 1) * VEX_BLOCK_ROWS - 1].row
                                   : vex_get32(list->skips + (size_t)b * 8);
}

uint8_t vex_length_code(uint32_t length);   /* of the greatest length that is not greater         */
static inline uint32_t vex_length_of(uint8_t code) {
    return code < 128 ? code : (8u + code % 8u) << (code / 8u - 12u);
}

#endif
