/*
 * text_runs.h - how the text index takes documents and needles apart.
 *
 * A text is a sequence of characters (UTF-8), each of one class: SEPARATOR (space, punctuation,
 * symbols), WORD (letters and digits of scripts that put spaces between words) or SINGLE
 * (characters of Chinese, Japanese, Thai and other scripts that do not, and emoji).  A byte that
 * begins no character is a SEPARATOR.  A run is a longest sequence of characters of one class.
 *
 * The class of a character depends on nothing but the character, so a needle that is whole
 * characters falls into the same runs wherever it occurs, but for its first and its last run,
 * which may go on beyond it.
 *
 * The terms of a run:
 *   SEPARATOR, WORD  the run; of one longer than 64 bytes, windows of 64 bytes that begin every
 *                    32 bytes (the last one, which ends with the run, has 33 to 64 bytes)
 *   SINGLE           every two neighbouring characters; of a run of one character, that one
 * So up to 32 bytes of a run lie in one of its terms; what a run begins (ends) with, one of its
 * terms begins (ends) with.
 *
 * Classes and terms are part of the file format.
 */
#ifndef VEX_FILTER_TEXT_RUNS_H
#define VEX_FILTER_TEXT_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VEX_TERM_BYTES_MAX 64u
#define VEX_TERM_STEP 32u  /* any so many bytes of a run lie in one term                          */

typedef enum vex_char_class {
    VEX_CHAR_SEPARATOR, VEX_CHAR_WORD, VEX_CHAR_SINGLE
} vex_char_class;

typedef struct vex_text_run {
    const uint8_t *bytes;    /* not empty                                                         */
    size_t len;
    vex_char_class class;
    bool damaged;            /* it has bytes that begin no character                              */
} vex_text_run;

/* The run that begins at *at < len; moves *at behind it. */
vex_text_run vex_text_run_next(const uint8_t *text, size_t len, size_t *at);

/* The term of a run that begins at *at < run->len: its length; moves *at to the next one, or to
 * run->len after the last. */
size_t vex_text_term_next(const vex_text_run *run, size_t *at);

#endif
