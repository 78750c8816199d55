/*
 * block_cache.h - decoded blocks of all columns of the process, kept for the next read.
 *
 * The nearest records of a query lie anywhere, so reading them decodes about one block for each; the
 * same blocks are asked for again soon.  Blocks are found by the number of their column and their
 * place in it, and the least recently used of four neighbours makes room.  Any thread may call
 * anything at any time.  Nothing is ever wrong for being forgotten: what cannot be kept is not.
 */
#ifndef VEX_CODEC_BLOCK_CACHE_H
#define VEX_CODEC_BLOCK_CACHE_H

#include "base/mem.h"

#include <stdatomic.h>

/* Of all kept blocks together, in bytes, until somebody says otherwise. */
#define VEX_BLOCK_CACHE_LIMIT ((size_t)16 << 20)
/* Larger ones are not kept. */
#define VEX_BLOCK_CACHE_BLOCK_MAX ((uint32_t)64 << 10)

/* A decoded block; what it holds does not change any more. */
typedef struct vex_cached_block {
    atomic_uint refs;
    uint32_t block, first, count;  /* place in the column, and its values                          */
    uint64_t column, used;         /* number of the column; when it was last asked for             */
    size_t bytes;                  /* all memory that it takes                                     */
    const uint8_t *raw;            /* as block_data and ends of a vex_block_reader                 */
    const uint32_t *ends;
} vex_cached_block;

/* A number that no column had before. */
uint64_t vex_block_cache_column(void);
/* The block, to be given back with release; NULL when it is not there. */
vex_cached_block *vex_block_cache_get(uint64_t column, uint32_t block);
void vex_block_cache_release(vex_cached_block *cached); /* NULL is fine */
/* Keep a copy of a decoded block: `count` values, so count + 1 ends, and raw[raw_len]. */
void vex_block_cache_put(uint64_t column, uint32_t block, uint32_t first, uint32_t count,
                         const uint32_t *ends, const uint8_t *raw, uint32_t raw_len);
/* Forget the blocks of a column that is closed. */
void vex_block_cache_forget(uint64_t column);

/* How much may be kept (0: nothing), and how much is. */
void vex_block_cache_set_limit(size_t bytes);
size_t vex_block_cache_bytes(void);
void vex_block_cache_clear(void);

#endif
