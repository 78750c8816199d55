/*
 * container_write.c - writing containers (container.h).
 *
 * Everything goes once through `pending`, a buffer of 2 MiB, and through the checksum of its
 * 64 KiB chunk.  Writes of 2 MiB at multiples of it make file systems that can keep the file in
 * pages of that size, which are mapped with one fault and one entry of the page tables.
 */
#include "store/container_format.h"

#include "base/crc32c.h"

#include "base/poison.h"

#define PENDING_BYTES ((size_t)2 << 20)

struct vex_container_writer {
    vex_vfs *vfs;
    vex_file *file;
    vex_file_entry entry;
    uint8_t *pending;
    size_t n_pending;
    uint64_t written;   /* bytes before `pending`                                         */
    uint32_t chunk_crc; /* of the unfinished chunk                                        */
    size_t chunk_len;
    vex_buf chunks, table; /* as in the file                                                 */
    uint32_t n_sections;
    bool in_section;
    uint32_t section_crc;
    uint64_t section_offset;
    char path[VEX_PATH_MAX], temporary[VEX_PATH_MAX];
};

static uint64_t position(const vex_container_writer *w) {
    return w->written + w->n_pending;
}

static vex_status write_out(vex_container_writer *w) {
    const vex_iovec part = {w->pending, w->n_pending};
    VEX_TRY(w->vfs->file_write(w->vfs, w->file, &part, 1, w->written));
    w->written += w->n_pending;
    w->n_pending = 0;
    return VEX_OK;
}

/* Bytes that no chunk checksum covers: the tables and the footer. */
static vex_status put_bare(vex_container_writer *w, const void *bytes, size_t len) {
    const uint8_t *at = bytes;
    while (len > 0) {
        const size_t room = PENDING_BYTES - w->n_pending, step = len < room ? len : room;
        memcpy(w->pending + w->n_pending, at, step);
        w->n_pending += step;
        at += step;
        len -= step;
        if (w->n_pending == PENDING_BYTES) {
            VEX_TRY(write_out(w));
        }
    }
    return VEX_OK;
}

static vex_status end_chunk(vex_container_writer *w) {
    uint8_t crc[4];
    vex_put32(crc, w->chunk_crc);
    w->chunk_crc = 0;
    w->chunk_len = 0;
    return vex_buf_append(&w->chunks, crc, sizeof crc);
}

static vex_status put(vex_container_writer *w, const void *bytes, size_t len) {
    const uint8_t *at = bytes;
    for (size_t left = len; left > 0;) {
        size_t step = CHUNK_BYTES - w->chunk_len < left ? CHUNK_BYTES - w->chunk_len : left;
        w->chunk_crc = vex_crc32c(w->chunk_crc, at, step);
        w->chunk_len += step;
        at += step;
        left -= step;
        if (w->chunk_len == CHUNK_BYTES) {
            VEX_TRY(end_chunk(w));
        }
    }
    return put_bare(w, bytes, len);
}

static vex_status put_zeros_to(vex_container_writer *w, uint64_t alignment) {
    static const uint8_t zeros[4096];
    uint64_t left = vex_align_up(position(w), alignment) - position(w);
    while (left > 0) {
        size_t step = left < sizeof zeros ? (size_t)left : sizeof zeros;
        VEX_TRY(put(w, zeros, step));
        left -= step;
    }
    return VEX_OK;
}

static vex_status write_header(vex_container_writer *w, const uint8_t uuid[16]) {
    uint8_t header[HEADER_BYTES] = {0};
    memcpy(header, MAGIC_BYTES, 8);
    vex_put16(header + AT_MAJOR, VEX_FORMAT_MAJOR);
    vex_put16(header + AT_MINOR, VEX_FORMAT_MINOR);
    vex_put32(header + AT_KIND, w->entry.kind);
    memcpy(header + AT_UUID, uuid, 16);
    vex_put64(header + AT_FILE_NO, w->entry.file_no);
    vex_put64(header + AT_LSN_LO, w->entry.lsn_lo);
    vex_put64(header + AT_LSN_HI, w->entry.lsn_hi);
    vex_put32(header + AT_HEADER_CRC, vex_crc32c(0, header, AT_HEADER_CRC));
    return put(w, header, sizeof header);
}

static void destroy(vex_container_writer *w) {
    if (w->file != NULL) {
        w->vfs->file_close(w->vfs, w->file);
    }
    vex_free(w->pending);
    vex_buf_clear(&w->chunks);
    vex_buf_clear(&w->table);
    vex_free(w);
}

/* Removing the unfinished file must not hide the error that ended it. */
void vex_container_abort(vex_container_writer *writer) {
    if (writer == NULL) {
        return;
    }
    vex_error kept = *vex_last_error();
    bool exists = writer->file != NULL;
    if (exists && writer->vfs->path_remove(writer->vfs, writer->temporary) != VEX_OK) {
        vex_fail_at(kept.code, kept.path, kept.offset, kept.sys_errno, "%s", kept.message);
    }
    destroy(writer);
}

static vex_status open_writer(vex_container_writer *w, const char *dir, const uint8_t uuid[16]) {
    char name[VEX_FILE_NAME_MAX + 4];
    vex_file_name(name, (vex_file_kind)w->entry.kind, w->entry.file_no);
    VEX_TRY(vex_path_join(w->path, dir, name));
    strcat(name, ".tmp");
    VEX_TRY(vex_path_join(w->temporary, dir, name));
    w->pending = vex_malloc(PENDING_BYTES);
    if (w->pending == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot write %s", w->path);
    }
    VEX_TRY(w->vfs->file_open(w->vfs, w->temporary, VEX_FILE_CREATE, &w->file));
    VEX_TRY(w->vfs->file_truncate(w->vfs, w->file, 0)); /* left by a crash */
    return write_header(w, uuid);
}

vex_status vex_container_create(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                                vex_file_kind kind, uint64_t file_no, uint64_t lsn_lo,
                                uint64_t lsn_hi, vex_container_writer **out) {
    vex_container_writer *w = vex_calloc(1, sizeof *w);
    if (w == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot write a file");
    }
    w->vfs = vfs;
    w->entry =
        (vex_file_entry){.kind = kind, .file_no = file_no, .lsn_lo = lsn_lo, .lsn_hi = lsn_hi};
    vex_status status = open_writer(w, dir, uuid);
    if (status != VEX_OK) {
        vex_container_abort(w);
        return status;
    }
    *out = w;
    return VEX_OK;
}

vex_status vex_container_begin(vex_container_writer *writer, uint32_t section_kind, uint32_t flags,
                               uint32_t alignment, uint64_t rows, uint32_t tag) {
    uint32_t at_least = alignment > SECTION_ALIGNMENT ? alignment : SECTION_ALIGNMENT;
    if (writer->in_section || (at_least & (at_least - 1)) != 0 ||
        writer->n_sections == SECTIONS_MAX) {
        return VEX_FAIL(VEX_ERR_INVALID, "section %u of %s begins out of turn", section_kind,
                        writer->path);
    }
    VEX_TRY(put_zeros_to(writer, at_least));
    uint8_t entry[ENTRY_BYTES] = {0};
    vex_put32(entry, section_kind);
    vex_put32(entry + AT_SECTION_FLAGS, flags);
    vex_put64(entry + AT_SECTION_OFFSET, position(writer));
    vex_put64(entry + AT_SECTION_ROWS, rows);
    vex_put32(entry + AT_SECTION_TAG, tag);
    VEX_TRY(vex_buf_append(&writer->table, entry, sizeof entry));
    writer->n_sections++;
    writer->in_section = true;
    writer->section_offset = position(writer);
    writer->section_crc = 0;
    return VEX_OK;
}

vex_status vex_container_append(vex_container_writer *writer, const void *bytes, size_t len) {
    if (!writer->in_section) {
        return VEX_FAIL(VEX_ERR_INVALID, "bytes outside of any section of %s", writer->path);
    }
    writer->section_crc = vex_crc32c(writer->section_crc, bytes, len);
    return put(writer, bytes, len);
}

vex_status vex_container_end(vex_container_writer *writer) {
    if (!writer->in_section) {
        return VEX_FAIL(VEX_ERR_INVALID, "no section of %s to end", writer->path);
    }
    uint8_t *entry = writer->table.data + writer->table.len - ENTRY_BYTES;
    vex_put64(entry + AT_SECTION_LEN, position(writer) - writer->section_offset);
    vex_put32(entry + AT_SECTION_CRC, writer->section_crc);
    writer->in_section = false;
    return VEX_OK;
}

vex_status vex_container_put(vex_container_writer *writer, uint32_t section_kind, uint32_t flags,
                             uint64_t rows, uint32_t tag, const void *bytes, size_t len) {
    VEX_TRY(vex_container_begin(writer, section_kind, flags, SECTION_ALIGNMENT, rows, tag));
    VEX_TRY(vex_container_append(writer, bytes, len));
    return vex_container_end(writer);
}

/* ---- tables and footer ---- */

static vex_status finish_file(vex_container_writer *w, bool sync) {
    if (w->in_section) {
        return VEX_FAIL(VEX_ERR_INVALID, "the last section of %s is not ended", w->path);
    }
    VEX_TRY(put_zeros_to(w, 8));
    if (w->chunk_len > 0) {
        VEX_TRY(end_chunk(w));
    }
    uint8_t footer[FOOTER_BYTES] = {0};
    size_t chunks_len = w->chunks.len;
    vex_put64(footer + AT_TABLE_OFFSET, position(w));
    vex_put32(footer + AT_N_SECTIONS, w->n_sections);
    vex_put32(footer + AT_TABLE_CRC, vex_crc32c(0, w->table.data, w->table.len));
    VEX_TRY(put_bare(w, w->table.data, w->table.len));
    vex_put64(footer + AT_CHUNKS_OFFSET, position(w));
    vex_put32(footer + AT_N_CHUNKS, (uint32_t)(chunks_len / 4));
    vex_put32(footer + AT_CHUNKS_CRC, vex_crc32c(0, w->chunks.data, chunks_len));
    VEX_TRY(vex_buf_append_zeros(&w->chunks, (size_t)(vex_align_up(chunks_len, 8) - chunks_len)));
    VEX_TRY(put_bare(w, w->chunks.data, w->chunks.len));
    w->entry.size = position(w) + FOOTER_BYTES;
    vex_put64(footer + AT_FILE_LEN, w->entry.size);
    w->entry.crc = vex_crc32c(0, footer, AT_FOOTER_CRC);
    vex_put32(footer + AT_FOOTER_CRC, w->entry.crc);
    memcpy(footer + AT_REVERSED_MAGIC, REVERSED_MAGIC_BYTES, 8);
    VEX_TRY(put_bare(w, footer, sizeof footer));
    VEX_TRY(write_out(w));
    if (sync) {
        VEX_TRY(w->vfs->file_sync(w->vfs, w->file));
    }
    return w->vfs->path_rename(w->vfs, w->temporary, w->path);
}

vex_status vex_container_finish(vex_container_writer *writer, bool sync, vex_file_entry *entry) {
    vex_status status = finish_file(writer, sync);
    if (status != VEX_OK) {
        vex_container_abort(writer);
        return status;
    }
    entry->kind = writer->entry.kind;
    entry->file_no = writer->entry.file_no;
    entry->size = writer->entry.size;
    entry->crc = writer->entry.crc;
    entry->lsn_lo = writer->entry.lsn_lo;
    entry->lsn_hi = writer->entry.lsn_hi;
    destroy(writer);
    vex_stat_add(VEX_STAT_SEGMENTS_WRITTEN, 1);
    vex_stat_add(VEX_STAT_SEGMENT_BYTES, (int64_t)entry->size);
    return VEX_OK;
}
