/*
 * words_memory.h - the words of a memtable's documents: an index that grows as the memtable does.
 *
 * Made at the first query, with the documents there are; each later query adds those that are new,
 * so that no document is taken apart twice.  Kept with the memtable (store/annex.h).  Queries read
 * it side by side under a lock that only adding takes alone.
 */
#ifndef VEX_RANK_WORDS_MEMORY_H
#define VEX_RANK_WORDS_MEMORY_H

#include "rank/words.h"
#include "store/memtable.h"

typedef struct vex_words_memory vex_words_memory;

/* The index of a memtable's first n_rows rows, and perhaps more, locked for reading. */
vex_status vex_words_memory_open(vex_memtable *table, uint32_t n_rows, vex_words_memory **out);
void vex_words_memory_close(vex_words_memory *memory);

/* Rows from n_rows on are left out. */
void vex_words_memory_find(const vex_words_memory *memory, const uint8_t *term, size_t len,
                           uint32_t n_rows, vex_word_list *out);
/* 1 + the number of tokens in the document of a row, or 0. */
uint32_t vex_words_memory_length(const vex_words_memory *memory, uint32_t row);
/* Documents of the first n_rows rows, and their tokens. */
void vex_words_memory_count(const vex_words_memory *memory, uint32_t n_rows, uint64_t *documents,
                            uint64_t *tokens);

#endif
