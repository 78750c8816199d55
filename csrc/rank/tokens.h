/*
 * tokens.h - the tokenizer of full text: what a word is, in documents and in queries alike.
 *
 * A text is a sequence of characters (UTF-8, any bytes), each of one class:
 *   WORD       letters, digits and marks (Unicode categories L, N, M) of scripts that put spaces
 *              between words, Hangul among them
 *   SINGLE     those of scripts that do not: Han, kana, Bopomofo, Yi, Thai, Lao, Khmer, Myanmar,
 *              Tibetan
 *   MARK       combining diacritical marks (U+0300..036F and the blocks that extend it): passed
 *              over, wherever they are
 *   SEPARATOR  all others, and every byte that begins no character
 * A longest sequence of WORD characters is a token; of one of SINGLE characters every two
 * neighbours are, or its only one.  MARKs interrupt neither.
 *
 * Characters are folded one by one: case (Unicode's full case folding), diacritics that a canonical
 * decomposition shows (e with acute is e), full-width and half-width forms, Latin ligatures.  A word
 * is cut to what fits in VEX_TOKEN_BYTES_MAX bytes of folded characters.  There are no stop words
 * and no stemming: BM25 weighs words by how rare they are, in every language.
 *
 * Tokens are part of the file format: tokens_tables.h is made by tools/make_token_tables.py from one
 * version of Unicode.
 */
#ifndef VEX_RANK_TOKENS_H
#define VEX_RANK_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VEX_TOKEN_BYTES_MAX 64u

typedef struct vex_tokens {
    const uint8_t *at, *end;
    uint8_t bytes[VEX_TOKEN_BYTES_MAX];      /* the token                                         */
    uint32_t len;                            /* of it                                             */
    uint32_t neighbour;                      /* SINGLE character before `at`, folded, 0: none     */
    bool paired;                             /* and it is in a token already                      */
} vex_tokens;

/* Begin: the tokenizer reads text[len], which stays where it is. */
void vex_tokens_start(vex_tokens *tokens, const uint8_t *text, size_t len);
/* The next token, in bytes[len], 1 to VEX_TOKEN_BYTES_MAX of them; false: there is none. */
bool vex_tokens_next(vex_tokens *tokens);

#endif
