/*
 * wreck.c - see wreck.h.
 */
#include "store/wreck.h"

#include "base/bits.h"
#include "base/crc32c.h"
#include "store/container_format.h"

#include "base/poison.h"

static vex_status no_memory(const vex_wreck *w) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot examine %s", w->path);
}

static vex_status add_fault(vex_wreck *w, uint64_t offset, uint32_t section, const char *what) {
    void *faults = w->faults;
    VEX_TRY(vex_grow(&faults, &w->faults_capacity, w->n_faults + 1, sizeof *w->faults));
    w->faults = faults;
    w->faults[w->n_faults++] = (vex_wreck_fault){offset, section, what};
    return VEX_OK;
}

/* Read exactly len bytes; false: the disk cannot, or the file ends before. */
static bool read_bytes(vex_wreck *w, vex_file *file, uint64_t at, void *dst, size_t len) {
    size_t got = 0;
    vex_status status = w->vfs->file_read(w->vfs, file, dst, len, at, &got);
    w->read_bytes += got;
    return status == VEX_OK && got == len;
}

/* Do the bytes have this checksum, or had they before one bit was flipped, which is put right? */
static bool mend(uint8_t *bytes, size_t len, uint32_t crc) {
    uint32_t difference = vex_crc32c(0, bytes, len) ^ crc;
    if (difference == 0) {
        return true;
    }
    uint64_t bit = vex_crc32c_flipped_bit(len, difference);
    if (bit < VEX_CRC32C_ITSELF) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return bit != VEX_CRC32C_NONE;
}

/* ---- header, footer, tables ---- */

typedef struct expected {
    const uint8_t *uuid;
    vex_file_kind kind;
    uint64_t file_no;
    const vex_file_entry *entry;
} expected;

static vex_status read_header(vex_wreck *w, vex_file *file, const expected *e, bool *other) {
    uint8_t header[HEADER_BYTES];
    *other = false;
    w->lsn_hi = UINT64_MAX;
    if (!read_bytes(w, file, 0, header, sizeof header)) {
        return add_fault(w, 0, 0, "its header cannot be read");
    }
    if (memcmp(header, MAGIC_BYTES, 8) != 0 ||
        vex_get32(header + AT_HEADER_CRC) != vex_crc32c(0, header, AT_HEADER_CRC)) {
        return add_fault(w, 0, 0, "its header is damaged");
    }
    if (vex_get16(header + AT_MAJOR) != VEX_FORMAT_MAJOR) {
        return VEX_FAIL_AT(VEX_ERR_VERSION, w->path, AT_MAJOR, 0,
                           "the file was written by a later release; upgrade vexfs_chroma");
    }
    if (memcmp(header + AT_UUID, e->uuid, 16) != 0 || vex_get32(header + AT_KIND) != e->kind ||
        vex_get64(header + AT_FILE_NO) != e->file_no) {
        *other = true;
        return add_fault(w, AT_KIND, 0, "it is another file under this name");
    }
    w->lsn_hi = vex_get64(header + AT_LSN_HI);
    return VEX_OK;
}

/* Footer and tables as they lay, in w->tables; *usable when they are whole, or were put right. */
static vex_status read_tables(vex_wreck *w, vex_file *file, const expected *e, bool *usable) {
    uint8_t footer[FOOTER_BYTES];
    uint64_t at = w->size - FOOTER_BYTES;
    *usable = false;
    if (!read_bytes(w, file, at, footer, sizeof footer)) {
        return add_fault(w, at, 0, "its footer cannot be read");
    }
    uint32_t stored = vex_get32(footer + AT_FOOTER_CRC);
    bool sound = vex_crc32c(0, footer, AT_FOOTER_CRC) == stored;
    uint32_t crc = e->entry != NULL ? e->entry->crc : stored;
    if (sound && stored != crc) {
        return add_fault(w, at, 0, "it is not the file that the manifest lists");
    }
    if (!sound || memcmp(footer + AT_REVERSED_MAGIC, REVERSED_MAGIC_BYTES, 8) != 0) {
        VEX_TRY(add_fault(w, at, 0, "its footer is damaged"));
    }
    if (!mend(footer, AT_FOOTER_CRC, crc)) {
        return VEX_OK;
    }
    uint64_t table = vex_get64(footer + AT_TABLE_OFFSET);
    uint64_t chunks = vex_get64(footer + AT_CHUNKS_OFFSET);
    uint64_t n_sections = vex_get32(footer + AT_N_SECTIONS);
    uint64_t n_chunks = vex_get32(footer + AT_N_CHUNKS);
    uint64_t table_len = n_sections * ENTRY_BYTES;
    if (vex_get64(footer + AT_FILE_LEN) != w->size || n_sections > SECTIONS_MAX || table % 8 != 0 ||
        table < HEADER_BYTES || table > at || table_len > at - table ||
        chunks != table + table_len || vex_align_up(n_chunks * 4, 8) != at - chunks ||
        n_chunks != table / CHUNK_BYTES + (table % CHUNK_BYTES != 0)) {
        return add_fault(w, at, 0, "its footer is impossible");
    }
    w->table = table;
    w->n_chunks = (uint32_t)n_chunks;
    w->tables = vex_malloc((size_t)(at - table) + 1);
    if (w->tables == NULL) {
        return no_memory(w);
    }
    if (!read_bytes(w, file, table, w->tables, (size_t)(at - table))) {
        return add_fault(w, table, 0, "its tables cannot be read");
    }
    uint32_t table_crc = vex_get32(footer + AT_TABLE_CRC);
    uint32_t chunks_crc = vex_get32(footer + AT_CHUNKS_CRC);
    uint8_t *crcs = w->tables + table_len;
    if (vex_crc32c(0, w->tables, (size_t)table_len) != table_crc) {
        VEX_TRY(add_fault(w, table, 0, "its section table is damaged"));
    }
    if (vex_crc32c(0, crcs, (size_t)n_chunks * 4) != chunks_crc ||
        (n_chunks % 2 != 0 && vex_get32(crcs + n_chunks * 4) != 0)) {
        VEX_TRY(add_fault(w, chunks, 0, "its table of checksums is damaged"));
    }
    w->chunk_crcs = mend(crcs, (size_t)n_chunks * 4, chunks_crc) ? crcs : NULL;
    *usable = mend(w->tables, (size_t)table_len, table_crc);
    w->n_sections = *usable ? (uint32_t)n_sections : 0;
    return VEX_OK;
}

static vex_status parse_sections(vex_wreck *w) {
    uint64_t end = HEADER_BYTES;
    w->sections = vex_calloc((size_t)w->n_sections + 1, sizeof *w->sections);
    if (w->sections == NULL) {
        w->n_sections = 0;
        return no_memory(w);
    }
    for (uint32_t i = 0; i < w->n_sections; i++) {
        const uint8_t *entry = w->tables + (size_t)i * ENTRY_BYTES;
        vex_section *section = &w->sections[i].is;
        *section = (vex_section){.kind = vex_get32(entry),
                                 .flags = vex_get32(entry + AT_SECTION_FLAGS),
                                 .offset = vex_get64(entry + AT_SECTION_OFFSET),
                                 .len = vex_get64(entry + AT_SECTION_LEN),
                                 .rows = vex_get64(entry + AT_SECTION_ROWS),
                                 .tag = vex_get32(entry + AT_SECTION_TAG),
                                 .crc = vex_get32(entry + AT_SECTION_CRC)};
        bool known = section->kind >= VEX_SECTION_INFO && section->kind <= VEX_SECTION_TOMBS;
        if (section->offset < end || section->offset % SECTION_ALIGNMENT != 0 ||
            section->offset > w->table || section->len > w->table - section->offset) {
            w->n_sections = i;
            return add_fault(w, w->table + (uint64_t)i * ENTRY_BYTES, 0, "a section lies outside");
        }
        if (!known && (section->flags & VEX_SECTION_OPTIONAL) == 0) {
            return VEX_FAIL_AT(VEX_ERR_VERSION, w->path, w->table, 0,
                               "the file was written by a later release; upgrade vexfs_chroma");
        }
        section->data = w->map + section->offset;
        end = section->offset + section->len;
    }
    return VEX_OK;
}

/* ---- sections ---- */

/* What opening a file reads whole (vecfile.h, payfile.h, tombs.h). */
static bool is_read_at_opening(uint32_t kind) {
    return kind == VEX_SECTION_INFO || kind == VEX_SECTION_SEQS || kind == VEX_SECTION_NORMS ||
           kind == VEX_SECTION_IDS || kind == VEX_SECTION_ID_INDEX || kind == VEX_SECTION_TOMBS;
}

bool vex_wreck_is_derived(uint32_t kind) {
    return kind == VEX_SECTION_NORMS || kind == VEX_SECTION_ID_INDEX ||
           kind == VEX_SECTION_COLUMNS || kind == VEX_SECTION_CODES || kind == VEX_SECTION_TEXT ||
           kind == VEX_SECTION_POSTINGS || kind == VEX_SECTION_SPARSE;
}

static vex_status check_section(vex_wreck *w, vex_file *file, vex_wreck_section *section,
                                uint8_t *step) {
    uint32_t crc = 0;
    uint64_t at = 0;
    for (size_t len = 0; at < section->is.len; at += len) {
        uint64_t left = section->is.len - at;
        len = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        if (!read_bytes(w, file, section->is.offset + at, step, len)) {
            return add_fault(w, section->is.offset + at, section->is.kind, "it cannot be read");
        }
        crc = vex_crc32c(crc, step, len);
    }
    section->whole = crc == section->is.crc;
    return section->whole ? VEX_OK
                          : add_fault(w, section->is.offset, section->is.kind,
                                      "a section does not match its checksum");
}

static vex_status check_shallow(vex_wreck *w, vex_file *file, uint8_t *step) {
    for (uint32_t i = 0; i < w->n_sections; i++) {
        if (is_read_at_opening(w->sections[i].is.kind)) {
            VEX_TRY(check_section(w, file, &w->sections[i], step));
        }
    }
    return VEX_OK;
}

static size_t chunk_len(const vex_wreck *w, uint32_t chunk) {
    uint64_t left = w->table - (uint64_t)chunk * CHUNK_BYTES;
    return left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
}

static uint32_t section_at(const vex_wreck *w, uint64_t from, uint64_t to) {
    for (uint32_t i = 0; i < w->n_sections; i++) {
        const vex_section *section = &w->sections[i].is;
        if (section->offset < to && section->offset + section->len > from) {
            return section->kind;
        }
    }
    return 0;
}

/* Go on with the checksums of the sections that have bytes in [at, at + len). */
static void add_to_sections(const vex_wreck *w, uint32_t *crcs, const uint8_t *bytes, uint64_t at,
                            size_t len) {
    for (uint32_t i = 0; i < w->n_sections; i++) {
        const vex_section *section = &w->sections[i].is;
        uint64_t end = section->offset + section->len;
        uint64_t from = section->offset > at ? section->offset : at;
        uint64_t to = end < at + len ? end : at + len;
        if (from < to) {
            crcs[i] = vex_crc32c(crcs[i], bytes + (from - at), (size_t)(to - from));
        }
    }
}

static vex_status read_chunks(vex_wreck *w, vex_file *file, uint8_t *step, uint32_t *crcs) {
    for (uint32_t chunk = 0; chunk < w->n_chunks; chunk++) {
        uint64_t at = (uint64_t)chunk * CHUNK_BYTES;
        size_t len = chunk_len(w, chunk);
        if (!read_bytes(w, file, at, step, len)) {
            vex_bit_set(w->unread_chunks, chunk);
            vex_bit_set(w->bad_chunks, chunk);
            memset(step, 0, len);
            VEX_TRY(add_fault(w, at, section_at(w, at, at + len), "it cannot be read"));
        } else if (w->chunk_crcs != NULL &&
                   vex_crc32c(0, step, len) != vex_get32(w->chunk_crcs + (size_t)chunk * 4)) {
            vex_bit_set(w->bad_chunks, chunk);
        }
        add_to_sections(w, crcs, step, at, len);
    }
    return VEX_OK;
}

static bool lies_in(const vex_wreck *w, const vex_section *section, uint32_t chunk) {
    uint64_t at = (uint64_t)chunk * CHUNK_BYTES;
    return section->offset < at + chunk_len(w, chunk) && section->offset + section->len > at;
}

/* One flipped bit in a bad chunk of the section, to be put right in its copy?  The chunk's checksum
 * says where, and the section's whether that is all. */
static bool mend_section(const vex_wreck *w, vex_wreck_section *section) {
    uint8_t *copy = section->copy.data;
    for (uint32_t chunk = (uint32_t)(section->is.offset / CHUNK_BYTES);
         w->chunk_crcs != NULL && chunk < w->n_chunks && lies_in(w, &section->is, chunk); chunk++) {
        uint64_t at = (uint64_t)chunk * CHUNK_BYTES;
        size_t len = chunk_len(w, chunk);
        if (!vex_bit_get(w->bad_chunks, chunk) || vex_bit_get(w->unread_chunks, chunk)) {
            continue;
        }
        uint64_t bit = vex_crc32c_flipped_bit(
            len, vex_crc32c(0, w->map + at, len) ^ vex_get32(w->chunk_crcs + (size_t)chunk * 4));
        uint64_t place = at + bit / 8;
        if (bit < VEX_CRC32C_ITSELF && place >= section->is.offset &&
            place < section->is.offset + section->is.len) {
            copy[place - section->is.offset] ^= (uint8_t)(1u << bit % 8);
        }
    }
    return vex_crc32c(0, copy, (size_t)section->is.len) == section->is.crc;
}

static vex_status copy_section(const vex_wreck *w, vex_wreck_section *section) {
    if (vex_bulk_create(&section->copy, (size_t)section->is.len + 1) != VEX_OK) {
        return no_memory(w);
    }
    uint8_t *copy = section->copy.data;
    for (uint64_t at = section->is.offset, end = at + section->is.len; at < end;) {
        uint64_t chunk = at / CHUNK_BYTES, next = (chunk + 1) * CHUNK_BYTES;
        size_t len = (size_t)((next < end ? next : end) - at);
        if (vex_bit_get(w->unread_chunks, chunk)) {
            memset(copy, 0, len);
        } else {
            memcpy(copy, w->map + at, len);
        }
        copy += len;
        at += len;
    }
    section->is.data = section->copy.data;
    return VEX_OK;
}

/* Every bad chunk and every bad section is a fault; one that lies in the other is told once. */
static vex_status note_bad_chunks(vex_wreck *w) {
    for (uint32_t chunk = 0; chunk < w->n_chunks; chunk++) {
        uint64_t at = (uint64_t)chunk * CHUNK_BYTES, end = at + chunk_len(w, chunk);
        if (!vex_bit_get(w->bad_chunks, chunk) || vex_bit_get(w->unread_chunks, chunk)) {
            continue;
        }
        bool told = false;
        for (uint32_t i = 0; i < w->n_sections; i++) {
            const vex_wreck_section *section = &w->sections[i];
            if (!section->whole && lies_in(w, &section->is, chunk)) {
                VEX_TRY(add_fault(w, section->is.offset > at ? section->is.offset : at,
                                  section->is.kind, "a 64 KiB chunk does not match its checksum"));
                told = true;
            }
        }
        if (!told) {
            VEX_TRY(add_fault(w, at, section_at(w, at, end),
                              "bytes between its sections do not match their checksum"));
        }
    }
    return VEX_OK;
}

static vex_status check_deep(vex_wreck *w, vex_file *file, uint8_t *step) {
    uint32_t *crcs = vex_calloc((size_t)w->n_sections + 1, sizeof *crcs);
    if (crcs == NULL) {
        return no_memory(w);
    }
    vex_status status = read_chunks(w, file, step, crcs);
    for (uint32_t i = 0; i < w->n_sections; i++) {
        w->sections[i].whole = crcs[i] == w->sections[i].is.crc;
    }
    vex_free(crcs);
    VEX_TRY(status);
    VEX_TRY(note_bad_chunks(w));
    for (uint32_t i = 0; i < w->n_sections; i++) {
        vex_wreck_section *section = &w->sections[i];
        if (section->whole) {
            continue;
        }
        if (w->chunk_crcs == NULL) {
            VEX_TRY(add_fault(w, section->is.offset, section->is.kind,
                              "a section does not match its checksum"));
        }
        VEX_TRY(copy_section(w, section));
        section->whole = mend_section(w, section);
    }
    return VEX_OK;
}

/* ---- the whole ---- */

static vex_status examine(vex_wreck *w, vex_file *file, const expected *e, vex_wreck_depth depth) {
    vex_file_stat stat = {0};
    bool usable = false, other = false;
    VEX_TRY(w->vfs->file_stat(w->vfs, file, &stat));
    w->size = e->entry != NULL ? e->entry->size : stat.size;
    if (stat.size < w->size || w->size < HEADER_BYTES + FOOTER_BYTES) {
        w->size = stat.size;
        return add_fault(w, stat.size, 0, "it is cut short");
    }
    if (stat.size > w->size) {
        VEX_TRY(add_fault(w, w->size, 0, "something was added behind its end"));
    }
    VEX_TRY(read_header(w, file, e, &other));
    if (!other) {
        VEX_TRY(read_tables(w, file, e, &usable));
    }
    if (!usable) {
        return VEX_OK;
    }
    VEX_TRY(w->vfs->file_map(w->vfs, file, w->size, &w->map));
    VEX_TRY(parse_sections(w));
    w->bad_chunks = vex_calloc(vex_bit_words(w->n_chunks) + 1, sizeof(uint64_t));
    w->unread_chunks = vex_calloc(vex_bit_words(w->n_chunks) + 1, sizeof(uint64_t));
    uint8_t *step = vex_malloc(CHUNK_BYTES);
    if (w->bad_chunks == NULL || w->unread_chunks == NULL || step == NULL) {
        vex_free(step);
        return no_memory(w);
    }
    vex_status status =
        depth == VEX_WRECK_DEEP ? check_deep(w, file, step) : check_shallow(w, file, step);
    vex_free(step);
    return status;
}

vex_status vex_wreck_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], vex_file_kind kind,
                          uint64_t file_no, const vex_file_entry *entry, vex_wreck_depth depth,
                          vex_wreck *out) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    const expected e = {uuid, kind, file_no, entry};
    vex_wreck w = {.vfs = vfs, .lsn_hi = UINT64_MAX};
    vex_file *file = NULL;
    vex_file_name(name, kind, file_no);
    VEX_TRY(vex_path_join(path, dir, name));
    w.path = vex_strdup(path);
    if (w.path == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot examine %s", path);
    }
    vex_status status = vfs->file_open(vfs, path, VEX_FILE_READ, &file);
    if (status == VEX_OK) {
        status = examine(&w, file, &e, depth);
        vfs->file_close(vfs, file);
    } else if (status == VEX_ERR_NOT_FOUND && entry != NULL) {
        status = add_fault(&w, 0, 0, "it is missing");
    } else if (status == VEX_ERR_CORRUPT) {
        status = add_fault(&w, 0, 0, "it is no plain file");
    }
    if (status != VEX_OK) {
        vex_wreck_close(&w);
        return status;
    }
    *out = w;
    return VEX_OK;
}

void vex_wreck_close(vex_wreck *w) {
    for (uint32_t i = 0; w->sections != NULL && i < w->n_sections; i++) {
        vex_bulk_destroy(&w->sections[i].copy);
    }
    if (w->map != NULL) {
        w->vfs->file_unmap(w->vfs, w->map, w->size);
    }
    vex_free(w->sections);
    vex_free(w->tables);
    vex_free(w->bad_chunks);
    vex_free(w->unread_chunks);
    vex_free(w->faults);
    vex_free(w->path);
    *w = (vex_wreck){0};
}

const vex_wreck_section *vex_wreck_find(const vex_wreck *w, uint32_t kind) {
    for (uint32_t i = 0; i < w->n_sections; i++) {
        if (w->sections[i].is.kind == kind) {
            return &w->sections[i];
        }
    }
    return NULL;
}

bool vex_wreck_intact(const vex_wreck *w, const vex_wreck_section *section, uint64_t at,
                      uint64_t len) {
    if (section == NULL || at > section->is.len || len > section->is.len - at) {
        return false;
    }
    if (section->whole || len == 0) {
        return true;
    }
    uint64_t first = (section->is.offset + at) / CHUNK_BYTES;
    uint64_t end = (section->is.offset + at + len - 1) / CHUNK_BYTES + 1;
    return w->chunk_crcs != NULL && !vex_bits_any(w->bad_chunks, first, end);
}
