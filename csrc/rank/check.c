/*
 * check.c - see check.h.
 */
#include "rank/check.h"

#include "rank/sparse_index.h"
#include "rank/words.h"

#include "base/poison.h"

static vex_status compare(const vex_payfile *file, uint32_t kind, const vex_buf *made,
                          const char *what) {
    const vex_section *section = vex_container_find(&file->container, kind);
    if (made->len == section->len && memcmp(made->data, section->data, made->len) == 0) {
        return VEX_OK;
    }
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, file->container.path, section->offset, 0,
                       "the index of %s is not that of the rows", what);
}

static vex_status read_rows(vex_payfile *file, vex_words_builder *words,
                            vex_sparse_builder *sparse) {
    vex_payload_reader reader;
    vex_payload row;
    vex_status status = VEX_OK;
    const uint32_t parts =
        (words ? VEX_PAYLOAD_DOCUMENT : 0u) | (sparse ? VEX_PAYLOAD_METADATA : 0u);
    vex_payload_reader_init(&reader, file);
    for (uint32_t i = 0; i < file->rows && status == VEX_OK; i++) {
        status = vex_payload_read(&reader, i, parts, &row);
        if (status == VEX_OK && words != NULL && row.document != NULL) {
            status = vex_words_builder_add(words, i, row.document, row.document_len);
        }
        if (status == VEX_OK && sparse != NULL && row.metadata != NULL) {
            status = vex_sparse_builder_add(sparse, i, row.metadata, row.metadata_len);
        }
    }
    vex_payload_reader_clear(&reader);
    return status;
}

vex_status vex_rank_check(vex_payfile *file) {
    const bool has_words = vex_container_find(&file->container, VEX_SECTION_WORDS) != NULL;
    const bool has_sparse = vex_container_find(&file->container, VEX_SECTION_SPARSE) != NULL;
    vex_words_builder *words = NULL;
    vex_sparse_builder *sparse = NULL;
    vex_buf made = {0};
    vex_status status = VEX_OK;
    if (has_words) {
        VEX_TRY_DONE(status, vex_words_builder_create(&words));
    }
    if (has_sparse) {
        VEX_TRY_DONE(status, vex_sparse_builder_create(&sparse));
    }
    VEX_TRY_DONE(status, read_rows(file, words, sparse));
    if (has_words) {
        VEX_TRY_DONE(status, vex_words_builder_finish(words, file->rows, &made));
        VEX_TRY_DONE(status, compare(file, VEX_SECTION_WORDS, &made, "words"));
    }
    made.len = 0;
    if (has_sparse) {
        VEX_TRY_DONE(status, vex_sparse_builder_finish(sparse, file->rows, &made));
        VEX_TRY_DONE(status, compare(file, VEX_SECTION_SPARSE, &made, "sparse vectors"));
    }
done:
    vex_buf_clear(&made);
    vex_words_builder_destroy(words);
    vex_sparse_builder_destroy(sparse);
    return status;
}
