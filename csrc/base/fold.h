/*
 * fold.h - comparing text without regard to case: full case folding of Unicode (CaseFolding.txt,
 * status C and F; what str.casefold of Python does), and a search in folded text that folds on the
 * way, so that it needs no memory and cannot fail.
 *
 * Texts are UTF-8; a byte that begins no character folds to itself.  Nothing is normalised: a
 * letter with an accent and the same as two characters are different, as they are in Chroma.
 */
#ifndef VEX_BASE_FOLD_H
#define VEX_BASE_FOLD_H

#include "base/mem.h"

#define VEX_FOLD_BYTES_MAX 12u /* of one folded character */

/* Bytes of the character at `text` (1 to 4), or 0 when there is none. */
size_t vex_char_len(const uint8_t *text, size_t len);
/* The code point of a character of `char_len` bytes. */
uint32_t vex_char_code(const uint8_t *text, size_t char_len);

/* Fold the character at *at < len into `out`: its length; moves *at behind it. */
size_t vex_fold_next(const uint8_t *text, size_t len, size_t *at,
                     uint8_t out[VEX_FOLD_BYTES_MAX]);

/* A text to look for: folded, and for each of its bytes where a search goes on after a mismatch
 * there (Knuth, Morris and Pratt 1977). */
typedef struct vex_needle {
    const uint8_t *bytes;
    const uint32_t *next;
    uint32_t len;
} vex_needle;

/* Of folded bytes, which are borrowed like `next`, which has room for len. */
void vex_needle_prepare(const uint8_t *folded, uint32_t len, uint32_t *next, vex_needle *out);
/* Of a text, in the arena.  VEX_ERR_TOO_BIG beyond 1 GiB. */
vex_status vex_needle_make(vex_arena *arena, const uint8_t *text, size_t len, vex_needle *out);

/* Does the needle occur in the folded text, begin it, or equal it?  An empty one occurs in and
 * begins every text. */
bool vex_needle_in(const vex_needle *needle, const uint8_t *text, size_t len);
bool vex_needle_begins(const vex_needle *needle, const uint8_t *text, size_t len);
bool vex_needle_equals(const vex_needle *needle, const uint8_t *text, size_t len);

#endif
