/*
 * container_read.c - opening and verifying containers (container.h).
 */
#include "store/container_format.h"

#include "base/crc32c.h"

#include "base/poison.h"

static vex_status damaged(const vex_container *c, uint64_t offset, const char *what) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, c->path, offset, 0,
                       "the file is damaged: %s; restore it from a backup", what);
}

static vex_status later_release(const vex_container *c, uint64_t offset) {
    return VEX_FAIL_AT(VEX_ERR_VERSION, c->path, offset, 0,
                       "the file was written by a later release; upgrade vexfs_chroma");
}

static vex_status check_header(vex_container *c, const uint8_t uuid[16], vex_file_kind kind,
                               uint64_t file_no) {
    const uint8_t *header = c->map;
    if (memcmp(header, MAGIC_BYTES, 8) != 0 ||
        vex_get32(header + AT_HEADER_CRC) != vex_crc32c(0, header, AT_HEADER_CRC)) {
        return damaged(c, 0, "bad header");
    }
    if (vex_get16(header + AT_MAJOR) != VEX_FORMAT_MAJOR) {
        return VEX_FAIL_AT(VEX_ERR_VERSION, c->path, AT_MAJOR, 0,
                           "the file has format %u.%u; this release reads format %d: upgrade "
                           "vexfs_chroma",
                           vex_get16(header + AT_MAJOR), vex_get16(header + AT_MINOR),
                           VEX_FORMAT_MAJOR);
    }
    if ((uuid != NULL && memcmp(header + AT_UUID, uuid, 16) != 0) ||
        vex_get32(header + AT_KIND) != kind || vex_get64(header + AT_FILE_NO) != file_no) {
        return damaged(c, AT_KIND, "it is another file under this name");
    }
    c->kind = kind;
    c->file_no = file_no;
    return VEX_OK;
}

/* Where the tables are; they fill the file exactly. */
typedef struct layout {
    uint64_t table, chunks;
    uint32_t n_sections, n_chunks;
} layout;

static const uint8_t *footer_of(const vex_container *c) {
    return c->map + c->size - FOOTER_BYTES;
}

static layout layout_of(const vex_container *c) {
    const uint8_t *footer = footer_of(c);
    return (layout){vex_get64(footer + AT_TABLE_OFFSET), vex_get64(footer + AT_CHUNKS_OFFSET),
                    vex_get32(footer + AT_N_SECTIONS), vex_get32(footer + AT_N_CHUNKS)};
}

static vex_status check_footer(const vex_container *c, const vex_file_entry *entry) {
    uint64_t at = c->size - FOOTER_BYTES;
    const uint8_t *footer = footer_of(c);
    uint32_t crc = vex_get32(footer + AT_FOOTER_CRC);
    if (memcmp(footer + AT_REVERSED_MAGIC, REVERSED_MAGIC_BYTES, 8) != 0 ||
        crc != vex_crc32c(0, footer, AT_FOOTER_CRC) || vex_get64(footer + AT_FILE_LEN) != c->size) {
        return damaged(c, at, "bad footer");
    }
    if (entry != NULL && entry->crc != crc) {
        return damaged(c, at + AT_FOOTER_CRC, "it is not the file that the manifest lists");
    }
    layout l = layout_of(c);
    uint64_t table_len = (uint64_t)l.n_sections * ENTRY_BYTES;
    uint64_t chunks_len = vex_align_up((uint64_t)l.n_chunks * 4, 8);
    if (l.n_sections > SECTIONS_MAX || l.table % 8 != 0 || l.table < HEADER_BYTES || l.table > at ||
        table_len > at - l.table || l.chunks != l.table + table_len ||
        chunks_len != at - l.chunks ||
        l.n_chunks != l.table / CHUNK_BYTES + (l.table % CHUNK_BYTES != 0)) {
        return damaged(c, at, "impossible table offsets");
    }
    if (vex_crc32c(0, c->map + l.table, (size_t)table_len) != vex_get32(footer + AT_TABLE_CRC) ||
        vex_crc32c(0, c->map + l.chunks, (size_t)l.n_chunks * 4) !=
            vex_get32(footer + AT_CHUNKS_CRC) ||
        (l.n_chunks % 2 != 0 && vex_get32(c->map + at - 4) != 0)) {
        return damaged(c, l.table, "wrong checksum of a table");
    }
    return VEX_OK;
}

static vex_status read_sections(vex_container *c) {
    layout l = layout_of(c);
    uint64_t end = HEADER_BYTES;
    c->sections = vex_calloc(l.n_sections > 0 ? l.n_sections : 1, sizeof *c->sections);
    if (c->sections == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot open %s", c->path);
    }
    c->n_sections = l.n_sections;
    for (uint32_t i = 0; i < l.n_sections; i++) {
        uint64_t at = l.table + (uint64_t)i * ENTRY_BYTES;
        const uint8_t *entry = c->map + at;
        vex_section section = {
            .kind = vex_get32(entry),
            .flags = vex_get32(entry + AT_SECTION_FLAGS),
            .offset = vex_get64(entry + AT_SECTION_OFFSET),
            .len = vex_get64(entry + AT_SECTION_LEN),
            .rows = vex_get64(entry + AT_SECTION_ROWS),
            .tag = vex_get32(entry + AT_SECTION_TAG),
            .crc = vex_get32(entry + AT_SECTION_CRC),
        };
        if (section.offset < end || section.offset % SECTION_ALIGNMENT != 0 ||
            section.offset > l.table || section.len > l.table - section.offset) {
            return damaged(c, at, "a section lies outside");
        }
        bool known = section.kind >= VEX_SECTION_INFO && section.kind <= VEX_SECTION_TOMBS;
        if (!known && (section.flags & VEX_SECTION_OPTIONAL) == 0) {
            return later_release(c, at);
        }
        end = section.offset + section.len;
        section.data = c->map + section.offset;
        c->sections[i] = section;
    }
    return VEX_OK;
}

static vex_status map_file(vex_container *c, const vex_file_entry *entry) {
    vex_file *file = NULL;
    vex_file_stat stat = {0};
    VEX_TRY(c->vfs->file_open(c->vfs, c->path, VEX_FILE_READ, &file));
    vex_status status = c->vfs->file_stat(c->vfs, file, &stat);
    if (status == VEX_OK &&
        (stat.size < HEADER_BYTES + FOOTER_BYTES || (entry != NULL && entry->size != stat.size))) {
        status = damaged(c, stat.size, "wrong length");
    }
    if (status == VEX_OK) {
        status = c->vfs->file_map(c->vfs, file, stat.size, &c->map);
    }
    if (status == VEX_OK) {
        c->size = stat.size;
    }
    c->vfs->file_close(c->vfs, file);
    return status;
}

vex_status vex_container_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                              vex_file_kind kind, uint64_t file_no, const vex_file_entry *entry,
                              vex_container *out) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    vex_file_name(name, kind, file_no);
    VEX_TRY(vex_path_join(path, dir, name));
    vex_container c = {.vfs = vfs, .path = vex_strdup(path)};
    if (c.path == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot open %s", path);
    }
    vex_status status;
    VEX_TRY_DONE(status, map_file(&c, entry));
    VEX_TRY_DONE(status, check_header(&c, uuid, kind, file_no));
    VEX_TRY_DONE(status, check_footer(&c, entry));
    VEX_TRY_DONE(status, read_sections(&c));
    *out = c;
    return VEX_OK;
done:
    vex_container_close(&c);
    return status;
}

void vex_container_close(vex_container *container) {
    if (container->map != NULL) {
        container->vfs->file_unmap(container->vfs, container->map, container->size);
    }
    vex_free(container->sections);
    vex_free(container->path);
    *container = (vex_container){0};
}

const vex_section *vex_container_find(const vex_container *container, uint32_t kind) {
    for (uint32_t i = 0; i < container->n_sections; i++) {
        if (container->sections[i].kind == kind) {
            return &container->sections[i];
        }
    }
    return NULL;
}

vex_status vex_container_need(const vex_container *container, uint32_t kind, uint64_t expected_len,
                              const vex_section **out) {
    const vex_section *section = vex_container_find(container, kind);
    if (section == NULL) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, container->path, 0, 0,
                           "the file is damaged: it has no section %u; restore it from a backup",
                           kind);
    }
    if (expected_len != UINT64_MAX && section->len != expected_len) {
        return VEX_FAIL_AT(
            VEX_ERR_CORRUPT, container->path, section->offset, 0,
            "the file is damaged: section %u has %llu bytes, not %llu; restore it from "
            "a backup",
            kind, (unsigned long long)section->len, (unsigned long long)expected_len);
    }
    *out = section;
    return VEX_OK;
}

/* ---- verifying ---- */

/* Bytes of a chunk: the last one ends at the tables. */
static size_t chunk_len(const layout *l, uint32_t chunk) {
    uint64_t left = l->table - (uint64_t)chunk * CHUNK_BYTES;
    return left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
}

static uint32_t chunk_crc(const vex_container *c, const layout *l, uint32_t chunk) {
    return vex_get32(c->map + l->chunks + (size_t)chunk * 4);
}

vex_status vex_container_check_chunk(const vex_container *container, uint32_t chunk) {
    layout l = layout_of(container);
    uint64_t at = (uint64_t)chunk * CHUNK_BYTES;
    if (vex_crc32c(0, container->map + at, chunk_len(&l, chunk)) !=
        chunk_crc(container, &l, chunk)) {
        return damaged(container, at, "wrong checksum of a 64 KiB chunk");
    }
    return VEX_OK;
}

/* Continue the section checksums over the bytes [at, at + len) of the file. */
typedef struct section_check {
    uint32_t next; /* section that is not yet complete */
    uint32_t crc;
} section_check;

static vex_status check_sections(const vex_container *c, section_check *check, const uint8_t *bytes,
                                 uint64_t at, size_t len) {
    while (check->next < c->n_sections) {
        const vex_section *section = &c->sections[check->next];
        uint64_t end = section->offset + section->len;
        uint64_t from = section->offset > at ? section->offset : at;
        uint64_t to = end < at + len ? end : at + len;
        if (from < to) {
            check->crc = vex_crc32c(check->crc, bytes + (from - at), (size_t)(to - from));
        }
        if (end > at + len) {
            return VEX_OK;
        }
        if (check->crc != section->crc) {
            return damaged(c, section->offset, "wrong checksum of a section");
        }
        check->next++;
        check->crc = 0;
    }
    return VEX_OK;
}

static vex_status verify_file(const vex_container *c, vex_file *file, uint8_t *chunk) {
    layout l = layout_of(c);
    section_check check = {0};
    for (uint32_t i = 0; i < l.n_chunks; i++) {
        uint64_t at = (uint64_t)i * CHUNK_BYTES;
        size_t len = chunk_len(&l, i);
        VEX_TRY(vex_file_read_exact(c->vfs, file, c->path, chunk, len, at));
        if (vex_crc32c(0, chunk, len) != chunk_crc(c, &l, i)) {
            return damaged(c, at, "wrong checksum of a 64 KiB chunk");
        }
        VEX_TRY(check_sections(c, &check, chunk, at, len));
    }
    /* The tables: what the mapping showed at opening must be what the file holds now. */
    for (uint64_t at = l.table; at < c->size; at += CHUNK_BYTES) {
        size_t len = c->size - at < CHUNK_BYTES ? (size_t)(c->size - at) : CHUNK_BYTES;
        VEX_TRY(vex_file_read_exact(c->vfs, file, c->path, chunk, len, at));
        if (memcmp(chunk, c->map + at, len) != 0) {
            return damaged(c, at, "its tables changed");
        }
    }
    return check_footer(c, NULL);
}

vex_status vex_container_verify(const vex_container *container) {
    vex_file *file = NULL;
    uint8_t *chunk = vex_malloc(CHUNK_BYTES);
    if (chunk == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot verify %s", container->path);
    }
    vex_vfs *vfs = container->vfs;
    vex_status status = vfs->file_open(vfs, container->path, VEX_FILE_READ, &file);
    if (status == VEX_OK) {
        status = verify_file(container, file, chunk);
        vfs->file_close(vfs, file);
    }
    vex_free(chunk);
    return status;
}
