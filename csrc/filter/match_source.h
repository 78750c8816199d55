/*
 * match_source.h - one payload source under evaluation: what match.c and match_text.c share.
 */
#ifndef VEX_FILTER_MATCH_SOURCE_H
#define VEX_FILTER_MATCH_SOURCE_H

#include "base/bits.h"
#include "filter/match.h"
#include "filter/text_index.h"

typedef struct vex_row_source {
    const vex_snapshot *snapshot;
    vex_snapshot_reader *reader;
    const vex_columns *columns;  /* of a file, or NULL                                            */
    const vex_text_index *text;  /* of a file, or NULL                                            */
    bool in_memory;
    uint32_t number, n_rows;
} vex_row_source;

static inline size_t vex_source_words(const vex_row_source *source) {
    return vex_bit_words(source->n_rows);
}

static inline vex_status vex_source_bitmap(const vex_row_source *source, uint64_t **out) {
    *out = vex_calloc(vex_source_words(source) + 1, sizeof **out);
    return *out ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
}

static inline bool vex_source_any(const vex_row_source *source, const uint64_t *words) {
    for (size_t at = 0; at < vex_source_words(source); at++) {
        if (words[at] != 0) {
            return true;
        }
    }
    return false;
}

static inline vex_status vex_source_read(const vex_row_source *source, uint32_t row,
                                         uint32_t parts, vex_payload *out) {
    const vex_row_ref ref = {
        .found = true, .in_memory = source->in_memory, .source = source->number, .row = row};
    return vex_snapshot_read_payload(source->reader, &ref, parts, out);
}

/* The tests of documents (match_text.c).  Each clears the rows of `words` that do not match. */

/* A node of substring tests only; of another AND or OR its children that are such nodes, joined
 * as the node joins them.  Each document is read once, and only when the index leaves a doubt. */
vex_status vex_match_substrings(const vex_row_source *source, const vex_expr *node,
                                uint64_t *words);
/* DOC_REGEX, DOC_NOT_REGEX. */
vex_status vex_match_regex(const vex_row_source *source, const vex_expr *leaf, uint64_t *words);
/* Clear rows that the index alone rules out, whatever the node; reads no document. */
vex_status vex_match_narrow(const vex_row_source *source, const vex_expr *node, uint64_t *words);

#endif
