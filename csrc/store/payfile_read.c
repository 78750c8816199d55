/*
 * payfile_read.c - opening and reading payload files (payfile.h).
 */
#include "store/payfile_format.h"

#include "base/hash.h"
#include "store/section.h"

#include "base/poison.h"

/* ---- open ---- */

static vex_status read_info(vex_payfile *file) {
    const vex_section *info = NULL;
    VEX_TRY(vex_section_need(&file->container, VEX_SECTION_INFO, INFO_BYTES, &info));
    file->rows = vex_get32(info->data + AT_ROWS);
    file->raw_document_bytes = vex_get64(info->data + AT_RAW_DOCUMENTS);
    file->raw_metadata_bytes = vex_get64(info->data + AT_RAW_METADATA);
    if (file->rows == 0 || file->rows > VEX_ROWS_MAX) {
        return vex_section_damaged(&file->container, info, "impossible row count");
    }
    return VEX_OK;
}

static vex_status read_keys(vex_payfile *file) {
    const vex_section *section = NULL;
    uint64_t rows = file->rows;
    VEX_TRY(
        vex_section_need(&file->container, VEX_SECTION_SEQS, rows * sizeof(uint64_t), &section));
    file->seqs = (const void *)section->data;
    VEX_TRY(vex_section_check_seqs(&file->container, file->seqs, file->rows));
    VEX_TRY(
        vex_section_need(&file->container, VEX_SECTION_ID_INDEX, rows * ID_INDEX_BYTES, &section));
    file->id_hashes = (const void *)section->data;
    file->id_rows = (const void *)(section->data + rows * sizeof(uint64_t));
    VEX_TRY(vex_section_need(&file->container, VEX_SECTION_IDS, UINT64_MAX, &section));
    if (section->len < id_offsets_bytes(file->rows)) {
        return vex_section_damaged(&file->container, section, "ids are missing");
    }
    file->id_offsets = (const void *)section->data;
    file->id_bytes = section->data + id_offsets_bytes(file->rows);
    file->id_bytes_len = section->len - id_offsets_bytes(file->rows);
    return VEX_OK;
}

#define ROWS_PER_FILTER_WORD 4

static vex_status make_filter(vex_payfile *file) {
    file->id_filter_words = file->rows / ROWS_PER_FILTER_WORD + 1;
    file->id_filter = vex_calloc(file->id_filter_words, sizeof *file->id_filter);
    if (file->id_filter == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to open a payload file");
    }
    for (uint32_t i = 0; i < file->rows; i++) {
        uint64_t hash = file->id_hashes[i];
        file->id_filter[vex_id_filter_word(hash, file->id_filter_words)] |=
            vex_id_filter_bits(hash);
    }
    return VEX_OK;
}

static vex_status open_column(vex_payfile *file, uint32_t kind, bool *present,
                              vex_block_column *column) {
    const vex_section *section = vex_container_find(&file->container, kind);
    if (section == NULL) {
        return VEX_OK;
    }
    VEX_TRY(vex_block_column_open(column, section->data, (size_t)section->len, file->container.path,
                                  section->offset));
    *present = true;
    if (column->n_values != file->rows) {
        return vex_section_damaged(&file->container, section, "a column of another length");
    }
    return VEX_OK;
}

static vex_status open_columns(vex_payfile *file) {
    VEX_TRY(open_column(file, VEX_SECTION_DOCUMENTS, &file->has_documents, &file->documents));
    VEX_TRY(open_column(file, VEX_SECTION_METADATA, &file->has_metadata, &file->metadata));
    VEX_TRY(open_column(file, VEX_SECTION_URIS, &file->has_uris, &file->uris));
    file->stored_document_bytes = file->has_documents ? file->documents.stored_bytes : 0;
    file->stored_metadata_bytes = file->has_metadata ? file->metadata.stored_bytes : 0;
    return VEX_OK;
}

/* Derived sections: what cannot be loaded is done without. */
static void open_plugins(vex_payfile *file) {
    const vex_section_plugin *const *list;
    uint32_t n = vex_payfile_plugins(&list);
    for (uint32_t i = 0; i < n; i++) {
        const vex_section *section = vex_container_find(&file->container, list[i]->section_kind);
        void *state = NULL;
        if (section == NULL) {
            continue;
        }
        if (list[i]->load(section->data, (size_t)section->len, file->rows, file->container.path,
                          section->offset, &state) == VEX_OK) {
            file->plugin_state[i] = state;
        } else {
            vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
        }
    }
}

static vex_status check_entry(const vex_payfile *file, const vex_file_entry *entry) {
    if (file->rows != entry->rows || file->seqs[0] != entry->seq_lo ||
        file->seqs[file->rows - 1] != entry->seq_hi) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, file->container.path, 0, 0,
                           "the file's rows are not those that the manifest lists; restore the "
                           "collection from a backup");
    }
    return VEX_OK;
}

vex_status vex_payfile_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                            const vex_file_entry *entry, vex_payfile **out) {
    vex_payfile *file = vex_calloc(1, sizeof *file);
    if (file == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to open a payload file");
    }
    atomic_init(&file->refs, 1);
    vex_memo_init(&file->memo);
    vex_annexes_init(&file->annexes);
    vex_status status;
    VEX_TRY_DONE(status, vex_container_open(vfs, dir, uuid, VEX_KIND_PAYLOAD, entry->file_no, entry,
                                            &file->container));
    VEX_TRY_DONE(status, read_info(file));
    VEX_TRY_DONE(status, read_keys(file));
    VEX_TRY_DONE(status, check_entry(file, entry));
    VEX_TRY_DONE(status, make_filter(file));
    VEX_TRY_DONE(status, open_columns(file));
    open_plugins(file);
    *out = file;
    return VEX_OK;
done:
    vex_payfile_release(file);
    return status;
}

vex_payfile *vex_payfile_acquire(vex_payfile *file) {
    vex_refs_take(&file->refs);
    return file;
}

void vex_payfile_release(vex_payfile *file) {
    if (file == NULL || !vex_refs_drop(&file->refs)) {
        return;
    }
    const vex_section_plugin *const *list;
    uint32_t n = vex_payfile_plugins(&list);
    for (uint32_t i = 0; i < n; i++) {
        if (file->plugin_state[i] != NULL) {
            list[i]->unload(file->plugin_state[i]);
        }
    }
    vex_block_column_close(&file->documents);
    vex_block_column_close(&file->metadata);
    vex_block_column_close(&file->uris);
    if (file->container.path != NULL) {
        vex_container_close(&file->container);
    }
    vex_annexes_clear(&file->annexes);
    vex_memo_clear(&file->memo);
    vex_free(file->id_filter);
    vex_free(file);
}

void *vex_payfile_plugin(const vex_payfile *file, uint32_t section_kind) {
    const vex_section_plugin *const *list;
    uint32_t n = vex_payfile_plugins(&list);
    for (uint32_t i = 0; i < n; i++) {
        if (list[i]->section_kind == section_kind) {
            return file->plugin_state[i];
        }
    }
    return NULL;
}

/* ---- find ---- */

uint32_t vex_payfile_find_seq(const vex_payfile *file, uint64_t seq) {
    uint32_t row = vex_lower_bound_dense(file->seqs, file->rows, seq);
    return row < file->rows && file->seqs[row] == seq ? row : UINT32_MAX;
}

static vex_status damaged_ids(const vex_payfile *file) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, file->container.path,
                       (uint64_t)((const uint8_t *)file->id_offsets - file->container.map), 0,
                       "the file is damaged: an id lies outside; restore the collection from a "
                       "backup");
}

vex_status vex_payfile_id(const vex_payfile *file, uint32_t row, const uint8_t **id, size_t *len) {
    uint32_t start = file->id_offsets[row], end = file->id_offsets[row + 1];
    if (start > end || end > file->id_bytes_len) {
        return damaged_ids(file);
    }
    *id = file->id_bytes + start;
    *len = end - start;
    return VEX_OK;
}

vex_status vex_payfile_find_id(const vex_payfile *file, const void *id, size_t len, uint64_t hash,
                               uint32_t *row) {
    if (!vex_payfile_may_have(file, hash)) {
        *row = UINT32_MAX;
        return VEX_OK;
    }
    /* Hashes are uniform: this one is near its share of the rows. */
    uint32_t guess = (uint32_t)((unsigned __int128)hash * file->rows >> 64);
    uint32_t at = vex_lower_bound(file->id_hashes, file->rows, hash, guess);
    for (; at < file->rows && file->id_hashes[at] == hash; at++) {
        uint32_t candidate = file->id_rows[at];
        const uint8_t *there = NULL;
        size_t there_len = 0;
        if (candidate >= file->rows) {
            return damaged_ids(file);
        }
        VEX_TRY(vex_payfile_id(file, candidate, &there, &there_len));
        if (there_len == len && (len == 0 || memcmp(there, id, len) == 0)) {
            *row = candidate;
            return VEX_OK;
        }
    }
    *row = UINT32_MAX;
    return VEX_OK;
}

/* ---- verify ---- */

/* The index must lead from every id to its row: n entries, in order, each right, make it so. */
static vex_status verify_ids(const vex_payfile *file) {
    for (uint32_t i = 0; i < file->rows; i++) {
        uint32_t row = file->id_rows[i];
        const uint8_t *id = NULL;
        size_t len = 0;
        if (row >= file->rows || (i > 0 && (file->id_hashes[i - 1] > file->id_hashes[i] ||
                                            (file->id_hashes[i - 1] == file->id_hashes[i] &&
                                             file->id_rows[i - 1] >= row)))) {
            return damaged_ids(file);
        }
        VEX_TRY(vex_payfile_id(file, row, &id, &len));
        if (vex_hash64(id, len) != file->id_hashes[i]) {
            return damaged_ids(file);
        }
    }
    return VEX_OK;
}

vex_status vex_payfile_verify(const vex_payfile *file) {
    VEX_TRY(vex_container_verify(&file->container));
    return vex_payfile_verify_rows(file);
}

vex_status vex_payfile_verify_rows(const vex_payfile *file) {
    VEX_TRY(vex_section_check_seqs(&file->container, file->seqs, file->rows));
    VEX_TRY(verify_ids(file));
    if (file->has_documents) {
        VEX_TRY(vex_block_column_verify(&file->documents));
    }
    if (file->has_metadata) {
        VEX_TRY(vex_block_column_verify(&file->metadata));
    }
    return file->has_uris ? vex_block_column_verify(&file->uris) : VEX_OK;
}

/* ---- read ---- */

void vex_payload_reader_init(vex_payload_reader *reader, const vex_payfile *file) {
    *reader = (vex_payload_reader){.file = file};
    vex_block_reader_init(&reader->documents, &file->documents);
    vex_block_reader_init(&reader->metadata, &file->metadata);
    vex_block_reader_init(&reader->uris, &file->uris);
}

void vex_payfile_forget_blocks(const vex_payfile *file) {
    vex_block_cache_forget(file->documents.number);
    vex_block_cache_forget(file->metadata.number);
    vex_block_cache_forget(file->uris.number);
}

void vex_payload_reader_share(vex_payload_reader *reader) {
    vex_block_reader_share(&reader->documents);
    vex_block_reader_share(&reader->metadata);
    vex_block_reader_share(&reader->uris);
}

void vex_payload_reader_clear(vex_payload_reader *reader) {
    vex_block_reader_clear(&reader->documents);
    vex_block_reader_clear(&reader->metadata);
    vex_block_reader_clear(&reader->uris);
    *reader = (vex_payload_reader){0};
}

static vex_status read_value(vex_block_reader *column, bool wanted, uint32_t row,
                             const uint8_t **bytes, uint32_t *len) {
    size_t n = 0;
    if (wanted) {
        VEX_TRY(vex_block_reader_get(column, row, bytes, &n));
        *len = *bytes ? (uint32_t)n : 0; /* below VEX_BLOCK_VALUE_MAX */
    }
    return VEX_OK;
}

vex_status vex_payload_read(vex_payload_reader *reader, uint32_t row, uint32_t parts,
                            vex_payload *out) {
    const vex_payfile *file = reader->file;
    vex_payload payload = {.seq = file->seqs[row]};
    size_t id_len = 0;
    VEX_TRY(vex_payfile_id(file, row, &payload.id, &id_len));
    payload.id_len = (uint32_t)id_len;
    VEX_TRY(read_value(&reader->documents, (parts & VEX_PAYLOAD_DOCUMENT) && file->has_documents,
                       row, &payload.document, &payload.document_len));
    VEX_TRY(read_value(&reader->metadata, (parts & VEX_PAYLOAD_METADATA) && file->has_metadata, row,
                       &payload.metadata, &payload.metadata_len));
    VEX_TRY(read_value(&reader->uris, (parts & VEX_PAYLOAD_URI) && file->has_uris, row,
                       &payload.uri, &payload.uri_len));
    *out = payload;
    return VEX_OK;
}
