/*
 * words_source.h - the words of one payload source of a snapshot, wherever they come from: the
 * section of a file, an index made in memory of a file that has none, or that of a memtable; and
 * what the living rows come to.
 */
#ifndef VEX_RANK_WORDS_SOURCE_H
#define VEX_RANK_WORDS_SOURCE_H

#include "rank/words_memory.h"
#include "store/snapshot.h"

/* What the living rows of a source come to, kept until other rows live. */
typedef struct vex_words_live {
    vex_annex annex;
    uint64_t version;
    uint32_t n_rows;
    uint64_t documents, tokens;
    uint64_t *rows;             /* bitmap; NULL: all are alive                                    */
    pthread_mutex_t mutex;
    struct vex_live_count *counts;
} vex_words_live;

typedef struct vex_words_source {
    bool in_memory;
    uint32_t number, n_rows;    /* as in vex_row_ref                                              */
    vex_words *words;           /* one of them                                                    */
    vex_words_memory *memory;
    vex_annex *made;            /* what `words` stands on, or NULL                                */
    vex_words_live *live;
} vex_words_source;

vex_status vex_words_source_open(const vex_snapshot *snapshot, bool in_memory, uint32_t number,
                                 vex_words_source *out);
void vex_words_source_close(vex_words_source *source); /* a zeroed one is fine */

vex_status vex_words_source_find(const vex_words_source *source, const uint8_t *term, size_t len,
                                 vex_word_list *out);
/* Living rows of a list. */
vex_status vex_words_source_count(const vex_words_source *source, const vex_word_list *list,
                                  uint32_t *count);
/* 1 + the number of tokens in the document of a row, or 0. */
static inline uint32_t vex_words_source_length(const vex_words_source *source, uint32_t row) {
    return source->words ? vex_words_length(source->words, row)
                         : vex_words_memory_length(source->memory, row);
}

#endif
