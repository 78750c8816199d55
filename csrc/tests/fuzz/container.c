/*
 * container.c - changing containers (vector, payload, tombstone and graph files) and making their
 * checksums right again, those of block columns, metadata columns and text indexes within, too.
 */
#include "store/container_format.h"

#include "base/crc32c.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

/* What the footer says, as far as it can be true. */
typedef struct layout {
    uint8_t *table, *chunks, *footer;
    uint32_t n_sections, n_chunks;
    size_t table_at;
} layout;

static bool find_layout(uint8_t *data, size_t len, layout *out) {
    if (len < HEADER_BYTES + FOOTER_BYTES) {
        return false;
    }
    const size_t end = len - FOOTER_BYTES;
    uint8_t *footer = data + end;
    const uint64_t table = vex_get64(footer + AT_TABLE_OFFSET);
    const uint64_t chunks = vex_get64(footer + AT_CHUNKS_OFFSET);
    *out = (layout){.footer = footer,
                    .n_sections = vex_get32(footer + AT_N_SECTIONS),
                    .n_chunks = vex_get32(footer + AT_N_CHUNKS)};
    if (table > end || (end - table) / ENTRY_BYTES < out->n_sections || chunks > end ||
        (end - chunks) / 4 < out->n_chunks) {
        return false;
    }
    out->table = data + table;
    out->chunks = data + chunks;
    out->table_at = (size_t)table;
    return true;
}

/* The bytes of a section; false when they are not inside. */
static bool find_section(const layout *l, uint32_t i, size_t *at, size_t *len) {
    const uint8_t *entry = l->table + (size_t)i * ENTRY_BYTES;
    const uint64_t offset = vex_get64(entry + AT_SECTION_OFFSET);
    const uint64_t bytes = vex_get64(entry + AT_SECTION_LEN);
    if (offset > l->table_at || bytes > l->table_at - offset) {
        return false;
    }
    *at = (size_t)offset;
    *len = (size_t)bytes;
    return true;
}

/* ---- checksums ---- */

static void fix_section(uint32_t kind, uint8_t *bytes, size_t len) {
    switch (kind) {
    case VEX_SECTION_DOCUMENTS:
    case VEX_SECTION_METADATA:
    case VEX_SECTION_URIS:
        fuzz_fix_blocks(bytes, len);
        break;
    case VEX_SECTION_COLUMNS:
        fuzz_fix_columns(bytes, len);
        break;
    case VEX_SECTION_TEXT:
        fuzz_fix_text(bytes, len);
        break;
    default:
        break;
    }
}

void fuzz_fix_container(uint8_t *data, size_t len) {
    layout l;
    if (!find_layout(data, len, &l)) {
        return;
    }
    for (uint32_t i = 0; i < l.n_sections; i++) {
        uint8_t *entry = l.table + (size_t)i * ENTRY_BYTES;
        size_t at, bytes;
        if (find_section(&l, i, &at, &bytes)) {
            fix_section(vex_get32(entry), data + at, bytes);
            vex_put32(entry + AT_SECTION_CRC, vex_crc32c(0, data + at, bytes));
        }
    }
    vex_put32(data + AT_HEADER_CRC, vex_crc32c(0, data, AT_HEADER_CRC));
    for (uint32_t i = 0; i < l.n_chunks; i++) {
        const size_t at = i * CHUNK_BYTES;
        if (at < l.table_at) {
            const size_t left = l.table_at - at;
            vex_put32(l.chunks + (size_t)4 * i,
                      vex_crc32c(0, data + at, left < CHUNK_BYTES ? left : CHUNK_BYTES));
        }
    }
    vex_put32(l.footer + AT_TABLE_CRC, vex_crc32c(0, l.table, l.n_sections * (size_t)ENTRY_BYTES));
    vex_put32(l.footer + AT_CHUNKS_CRC, vex_crc32c(0, l.chunks, l.n_chunks * (size_t)4));
    vex_put64(l.footer + AT_FILE_LEN, len);
    vex_put32(l.footer + AT_FOOTER_CRC, vex_crc32c(0, l.footer, AT_FOOTER_CRC));
}

vex_file_entry fuzz_entry_of(vex_file_kind kind, uint64_t file_no, const uint8_t *data,
                             size_t len) {
    const size_t footer = len < FOOTER_BYTES ? 0 : len - FOOTER_BYTES;
    return (vex_file_entry){.kind = kind,
                            .file_no = file_no,
                            .size = len,
                            .crc =
                                len < FOOTER_BYTES ? 0 : vex_get32(data + footer + AT_FOOTER_CRC),
                            .lsn_lo = 1,
                            .lsn_hi = 1};
}

void fuzz_rows_of(vex_vfs *files, vex_file_entry *entry) {
    vex_container container;
    if (vex_container_open(files, "/", FUZZ_DATABASE, (vex_file_kind)entry->kind, entry->file_no,
                           entry, &container) != VEX_OK) {
        return;
    }
    const vex_section *info = vex_container_find(&container, VEX_SECTION_INFO);
    const vex_section *seqs = vex_container_find(&container, VEX_SECTION_SEQS);
    const size_t at = entry->kind == VEX_KIND_VECTORS ? 12 : 0;
    if (info != NULL && info->len >= at + 4) {
        entry->rows = vex_get32(info->data + at);
    }
    if (seqs != NULL && seqs->len >= 8) {
        entry->seq_lo = vex_get64(seqs->data);
        entry->seq_hi = vex_get64(seqs->data + seqs->len / 8 * 8 - 8);
    }
    vex_container_close(&container);
}

/* ---- changes ---- */

/* A number of an array of them, as sequence numbers and offsets are. */
static void change_numbers(fuzz_input *input) {
    const uint32_t width = test_random_below(2) ? 8 : 4;
    if (test_random_below(4) == 0 || input->len < 8) {
        fuzz_change(input);
    } else {
        const size_t at = test_random() % (input->len / width) * width;
        fuzz_change_number(input->data + at, width, input->len);
    }
}

static void (*change_of(uint32_t kind))(fuzz_input *) {
    switch (kind) {
    case VEX_SECTION_DOCUMENTS:
    case VEX_SECTION_METADATA:
    case VEX_SECTION_URIS:
        return fuzz_change_blocks;
    case VEX_SECTION_COLUMNS:
        return fuzz_change_columns;
    case VEX_SECTION_TEXT:
        return fuzz_change_text;
    case VEX_SECTION_VECTORS:
        return fuzz_change;
    default:
        return change_numbers;
    }
}

/* The section may become longer where there is room before the next one. */
static void change_section(uint8_t *data, const layout *l, uint32_t i) {
    uint8_t *entry = l->table + (size_t)i * ENTRY_BYTES;
    size_t at, len, next = l->table_at;
    if (!find_section(l, i, &at, &len)) {
        return;
    }
    for (uint32_t other = 0; other < l->n_sections; other++) {
        size_t other_at, other_len;
        if (find_section(l, other, &other_at, &other_len) && other_at >= at + len &&
            other_at < next) {
            next = other_at;
        }
    }
    fuzz_input part = {.data = malloc(next - at + 1), .len = len, .capacity = next - at};
    memcpy(part.data, data + at, len);
    change_of(vex_get32(entry))(&part);
    memcpy(data + at, part.data, part.len);
    vex_put64(entry + AT_SECTION_LEN, part.len);
    free(part.data);
}

void fuzz_change_container(fuzz_input *input) {
    static const fuzz_field header[] = {
        {AT_MAJOR, 2}, {AT_KIND, 4}, {AT_FILE_NO, 8}, {AT_LSN_LO, 8}, {AT_LSN_HI, 8}};
    static const fuzz_field footer[] = {
        {AT_TABLE_OFFSET, 8}, {AT_N_SECTIONS, 4}, {AT_CHUNKS_OFFSET, 8}, {AT_N_CHUNKS, 4}};
    static const fuzz_field entry[] = {{0, 4},
                                       {AT_SECTION_FLAGS, 4},
                                       {AT_SECTION_OFFSET, 8},
                                       {AT_SECTION_LEN, 8},
                                       {AT_SECTION_ROWS, 8},
                                       {AT_SECTION_TAG, 4}};
    const uint32_t what = test_random_below(24);
    layout l;
    if (!find_layout(input->data, input->len, &l) || what == 0) {
        fuzz_change(input);
    } else if (what == 1) {
        FUZZ_CHANGE_FIELD(input->data, HEADER_BYTES, header, input->len);
    } else if (what == 2) {
        FUZZ_CHANGE_FIELD(l.footer, FOOTER_BYTES, footer, input->len);
    } else if (l.n_sections > 0) {
        const uint32_t i = test_random_below(l.n_sections);
        if (what < 6) {
            FUZZ_CHANGE_FIELD(l.table + (size_t)i * ENTRY_BYTES, ENTRY_BYTES, entry, l.table_at);
        } else {
            change_section(input->data, &l, i);
        }
    }
}
