/*
 * wal_read.c - reading a log (wal.h), while another process may be writing it.
 *
 * Bytes come through a window of about 1 MiB.  It never holds bytes behind the caller's limit and
 * is dropped at every END and TORN, because what lies there may change: a writer goes on, or takes
 * a failed append back.  For the same reason a frame is called bad only when it is still bad in
 * bytes read after the ones that speak against it.
 */
#include "wal/wal_format.h"

#include "base/poison.h"

#define WINDOW_BYTES ((uint64_t)PAYLOAD_MAX + 4096)

struct vex_wal_reader {
    vex_vfs *vfs;
    vex_file *file;
    vex_wal_header header;
    uint64_t offset; /* behind the last record                                          */
    uint64_t next_lsn;
    uint64_t last_lsn, synced_lsn;
    bool sealed;
    uint8_t *window;
    uint64_t window_at;
    size_t window_len, window_capacity;
    vex_buf joined; /* the body of a record of several frames                           */
    char path[];
};

vex_status vex_wal_reader_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                               uint64_t number, vex_wal_reader **out) {
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_wal_path(path, dir, number));
    size_t path_bytes = strlen(path) + 1;
    vex_wal_reader *r = vex_calloc(1, sizeof *r + path_bytes);
    if (r == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot open a log");
    }
    memcpy(r->path, path, path_bytes);
    r->vfs = vfs;
    vex_status status = vfs->file_open(vfs, path, VEX_FILE_READ, &r->file);
    if (status == VEX_OK) {
        status = vex_wal_header_read(vfs, r->file, path, uuid, number, &r->header);
    }
    if (status != VEX_OK) {
        vex_wal_reader_close(r);
        return status;
    }
    r->offset = HEADER_BYTES;
    r->next_lsn = r->header.first_lsn;
    *out = r;
    return VEX_OK;
}

static void drop_window(vex_wal_reader *r) {
    vex_free(r->window);
    r->window = NULL;
    r->window_len = r->window_capacity = 0;
}

void vex_wal_reader_close(vex_wal_reader *reader) {
    if (reader != NULL) {
        drop_window(reader);
        vex_buf_clear(&reader->joined);
        reader->vfs->file_close(reader->vfs, reader->file);
        vex_free(reader);
    }
}

vex_status vex_wal_reader_seek(vex_wal_reader *reader, uint64_t offset, uint64_t last_lsn) {
    if (offset < HEADER_BYTES || offset % 8 != 0 || last_lsn < reader->header.first_lsn - 1) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, reader->path, offset, 0,
                           "no record %llu can end here in a log that begins with %llu",
                           (unsigned long long)last_lsn,
                           (unsigned long long)reader->header.first_lsn);
    }
    drop_window(reader);
    reader->offset = offset;
    reader->last_lsn = last_lsn;
    reader->next_lsn = last_lsn + 1;
    return VEX_OK;
}

const char *vex_wal_reader_path(const vex_wal_reader *reader) {
    return reader->path;
}

uint64_t vex_wal_reader_offset(const vex_wal_reader *reader) {
    return reader->offset;
}

uint64_t vex_wal_reader_last_lsn(const vex_wal_reader *reader) {
    return reader->last_lsn;
}

uint64_t vex_wal_reader_synced_lsn(const vex_wal_reader *reader) {
    return reader->synced_lsn;
}

bool vex_wal_reader_sealed(const vex_wal_reader *reader) {
    return reader->sealed;
}

/* ---- frames ---- */

/* [at, at + wanted) of the file, or what there is of it, cut at `limit`. */
static vex_status fetch(vex_wal_reader *r, uint64_t at, size_t wanted, uint64_t limit,
                        const uint8_t **bytes, size_t *got) {
    if (r->window == NULL || at < r->window_at || at + wanted > r->window_at + r->window_len) {
        vex_file_stat stat = {0};
        VEX_TRY(r->vfs->file_stat(r->vfs, r->file, &stat));
        uint64_t end = stat.size < limit ? stat.size : limit;
        uint64_t available = at < end ? end - at : 0;
        size_t len = (size_t)(available < WINDOW_BYTES ? available : WINDOW_BYTES);
        if (r->window == NULL || r->window_capacity < len) {
            drop_window(r);
            r->window = vex_malloc(len + 1);
            if (r->window == NULL) {
                return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot read a log");
            }
            r->window_capacity = len;
        }
        r->window_at = at;
        r->window_len = 0;
        VEX_TRY(r->vfs->file_read(r->vfs, r->file, r->window, len, at, &r->window_len));
    }
    size_t left = r->window_len - (size_t)(at - r->window_at);
    *bytes = r->window + (at - r->window_at);
    *got = left < wanted ? left : wanted;
    return VEX_OK;
}

typedef enum verdict { FRAME_GOOD, FRAME_BAD, FRAME_BEHIND_LIMIT } verdict;

/* The record being put together. */
typedef struct assembly {
    uint64_t at; /* behind its frames so far                                        */
    uint32_t previous_crc;
    bool begun;
} assembly;

/* May this (valid) frame come next? */
static bool is_in_turn(const vex_wal_reader *r, const assembly *so_far, const vex_frame *f) {
    if (f->unknown) {
        return true; /* who wrote it knows */
    }
    if (so_far->begun) {
        return (f->type == FRAME_MIDDLE || f->type == FRAME_LAST) && f->lsn == r->next_lsn &&
               f->link_value == so_far->previous_crc;
    }
    if (f->link_value != r->header.salt) {
        return false;
    }
    if (f->type == FRAME_CLOSE) {
        return f->lsn == r->next_lsn - 1;
    }
    return (f->type == FRAME_FULL || f->type == FRAME_FIRST) && f->lsn == r->next_lsn;
}

static vex_status read_frame(vex_wal_reader *r, const assembly *so_far, uint64_t limit,
                             vex_frame *out, verdict *found) {
    const uint8_t *bytes = NULL;
    size_t got = 0;
    *found = FRAME_BEHIND_LIMIT;
    if (so_far->at >= limit || limit - so_far->at < FRAME_BYTES) {
        return VEX_OK;
    }
    VEX_TRY(fetch(r, so_far->at, FRAME_BYTES, limit, &bytes, &got));
    *found = FRAME_BAD;
    if (got < FRAME_BYTES) {
        return VEX_OK;
    }
    uint64_t size = frame_size(vex_get32(bytes + AT_LEN));
    if (size > frame_size(PAYLOAD_MAX)) {
        return VEX_OK;
    }
    if (size > limit - so_far->at) {
        *found = FRAME_BEHIND_LIMIT;
        return VEX_OK;
    }
    VEX_TRY(fetch(r, so_far->at, (size_t)size, limit, &bytes, &got));
    if (vex_frame_parse(r->header.salt, bytes, got, out) && is_in_turn(r, so_far, out)) {
        *found = FRAME_GOOD;
    }
    return VEX_OK;
}

/* ---- the tail ---- */

/* Bytes to checksum in search of a witness: only frames of this log, damaged by the hundred, or a
 * forgery come near. */
#define SEARCH_BUDGET ((uint64_t)1 << 30)

typedef struct search {
    uint64_t lsn;   /* a frame with synced_lsn >= this is a witness                    */
    uint8_t *bytes; /* some of the file                                                */
    size_t capacity;
    vex_buf frame; /* a frame to check whole                                          */
    uint64_t budget;
    bool blank; /* only zeros so far                                               */
    bool witness;
} search;

/* Worth reading whole?  `header` are the 32 bytes of what may be a frame. */
static bool may_be_witness(const vex_wal_reader *r, const search *s, const uint8_t *header) {
    uint32_t len = vex_get32(header + AT_LEN);
    uint64_t lsn = vex_get64(header + AT_LSN), synced_lsn = vex_get64(header + AT_SYNCED_LSN);
    uint8_t type = header[AT_TYPE];
    bool linked =
        type == FRAME_MIDDLE || type == FRAME_LAST || vex_get32(header + AT_LINK) == r->header.salt;
    return linked && len > 0 && len <= PAYLOAD_MAX && synced_lsn >= s->lsn && lsn >= synced_lsn;
}

static vex_status check_witness(const vex_wal_reader *r, search *s, uint64_t at, size_t len) {
    size_t got = 0;
    vex_frame f;
    uint64_t size = frame_size(len);
    if (s->budget < size) {
        s->witness = true; /* so much of this log behind the place: it did not end there */
        return VEX_OK;
    }
    s->budget -= size;
    VEX_TRY(vex_buf_reserve(&s->frame, (size_t)size));
    VEX_TRY(r->vfs->file_read(r->vfs, r->file, s->frame.data, (size_t)size, at, &got));
    /* The prefilter looked at other bytes when the file changes meanwhile: look again. */
    s->witness = got == size && may_be_witness(r, s, s->frame.data) &&
                 vex_frame_parse(r->header.salt, s->frame.data, got, &f);
    return VEX_OK;
}

/* Look at every place of [at, at + len) where a frame could begin. */
static vex_status search_bytes(const vex_wal_reader *r, search *s, uint64_t at, size_t len) {
    size_t pos = 0;
    for (; pos + FRAME_BYTES <= len && !s->witness; pos += 8) {
        const uint8_t *header = s->bytes + pos;
        if (vex_get64(header) == 0) {
            continue; /* a checksum and a length of zero */
        }
        s->blank = false;
        if (may_be_witness(r, s, header)) {
            VEX_TRY(check_witness(r, s, at + pos, vex_get32(header + AT_LEN)));
        }
    }
    for (; pos < len; pos++) {
        s->blank = s->blank && s->bytes[pos] == 0;
    }
    return VEX_OK;
}

static vex_status search_tail(const vex_wal_reader *r, search *s, uint64_t from) {
    vex_file_stat stat = {0};
    VEX_TRY(r->vfs->file_stat(r->vfs, r->file, &stat));
    uint64_t len = from < stat.size ? stat.size - from : 0;
    s->capacity = (size_t)(len < WINDOW_BYTES ? len : WINDOW_BYTES);
    s->bytes = vex_malloc(s->capacity + 1);
    if (s->bytes == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot read a log");
    }
    for (uint64_t at = from; !s->witness; at += s->capacity - FRAME_BYTES) {
        size_t got = 0;
        VEX_TRY(r->vfs->file_read(r->vfs, r->file, s->bytes, s->capacity, at, &got));
        VEX_TRY(search_bytes(r, s, at, got));
        if (got < WINDOW_BYTES) {
            break;
        }
    }
    return VEX_OK;
}

/* The frame at `from` is bad: what does the rest of the file say? */
static vex_status judge_tail(const vex_wal_reader *r, uint64_t from, bool *witness, bool *blank) {
    search s = {.lsn = r->next_lsn, .budget = SEARCH_BUDGET, .blank = true};
    vex_status status = search_tail(r, &s, from);
    vex_free(s.bytes);
    vex_buf_clear(&s.frame);
    *witness = s.witness;
    *blank = s.blank;
    return status;
}

/* ---- records ---- */

static vex_status later_release(const vex_wal_reader *r, uint64_t at) {
    return VEX_FAIL_AT(VEX_ERR_VERSION, r->path, at, 0,
                       "the log holds a record of a later release; upgrade vexfs_chroma");
}

static vex_status add_payload(vex_wal_reader *r, assembly *so_far, const vex_frame *f) {
    if (r->joined.len + f->len > VEX_WAL_RECORD_MAX) {
        return VEX_FAIL_AT(
            VEX_ERR_CORRUPT, r->path, so_far->at, 0,
            "the log is damaged: a record passes 4 GiB; restore the collection from a backup");
    }
    VEX_TRY(vex_buf_append(&r->joined, f->payload, f->len));
    so_far->previous_crc = f->crc;
    so_far->begun = true;
    return VEX_OK;
}

/* Put the frames from r->offset together until a record is whole (FRAME_GOOD; *last is its last
 * frame, or a CLOSE), or one is bad or behind the limit.  One of a single frame stays where it is. */
static vex_status assemble(vex_wal_reader *r, uint64_t limit, assembly *so_far, vex_frame *last,
                           verdict *found, vex_wal_body *body) {
    *so_far = (assembly){.at = r->offset};
    r->joined.len = 0;
    for (;;) {
        VEX_TRY(read_frame(r, so_far, limit, last, found));
        if (*found != FRAME_GOOD) {
            return VEX_OK;
        }
        if (last->unknown) {
            return later_release(r, so_far->at);
        }
        if (last->type == FRAME_CLOSE) {
            return VEX_OK;
        }
        if (last->type == FRAME_FULL) {
            *body = (vex_wal_body){last->payload, last->len};
        } else {
            VEX_TRY(add_payload(r, so_far, last));
            *body = (vex_wal_body){r->joined.data, r->joined.len};
        }
        so_far->at += frame_size(last->len);
        if (last->type == FRAME_FULL || last->type == FRAME_LAST) {
            return VEX_OK;
        }
    }
}

static void finish(vex_wal_reader *r, const assembly *whole, const vex_frame *last,
                   vex_wal_step *step) {
    if (last->synced_lsn > r->synced_lsn) {
        r->synced_lsn = last->synced_lsn;
    }
    if (last->type == FRAME_CLOSE) {
        r->sealed = true;
        return;
    }
    r->offset = whole->at;
    r->last_lsn = last->lsn;
    r->next_lsn = last->lsn + 1;
    *step = VEX_WAL_RECORD;
}

/* A bad frame is met up to three times: in a window that may be older than what a writer has done
 * since; in fresh bytes; and once more when there is a witness, because its writer may have
 * completed the record, synced, and gone on while we searched. */
static vex_status next_record(vex_wal_reader *r, uint64_t limit, vex_wal_step *step,
                              vex_wal_body *body) {
    assembly so_far;
    vex_frame last;
    verdict found;
    bool witness = false, blank = false;
    *step = VEX_WAL_END;
    for (int attempt = 0; attempt < 3; attempt++) {
        VEX_TRY(assemble(r, limit, &so_far, &last, &found, body));
        if (found == FRAME_GOOD) {
            finish(r, &so_far, &last, step);
            return VEX_OK;
        }
        if (found == FRAME_BEHIND_LIMIT) {
            return VEX_OK;
        }
        drop_window(r);
        if (attempt == 1) {
            VEX_TRY(judge_tail(r, so_far.at, &witness, &blank));
            if (!witness) {
                *step = blank && !so_far.begun ? VEX_WAL_END : VEX_WAL_TORN;
                return VEX_OK;
            }
        }
    }
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, r->path, so_far.at, 0,
                       "the log is damaged: record %llu had been made durable; restore the "
                       "collection from a backup",
                       (unsigned long long)r->next_lsn);
}

vex_status vex_wal_reader_next(vex_wal_reader *reader, uint64_t limit, vex_wal_step *step,
                               vex_wal_body *body, uint64_t *lsn) {
    vex_wal_step found = VEX_WAL_END;
    reader->sealed = false;
    vex_status status = next_record(reader, limit, &found, body);
    if (status != VEX_OK || found != VEX_WAL_RECORD) {
        drop_window(reader);
        vex_buf_clear(&reader->joined);
        *body = (vex_wal_body){0};
    }
    VEX_TRY(status);
    *step = found;
    if (found == VEX_WAL_RECORD) {
        *lsn = reader->last_lsn;
    }
    return VEX_OK;
}

/* ---- the end, before appending to it ---- */

static bool is_blank(const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

#define CLOSE_SIZE (FRAME_BYTES + CLOSE_PAYLOAD)

vex_status vex_wal_check_end(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t number,
                             uint64_t offset, uint64_t last_lsn, bool *clean, bool *sealed) {
    char path[VEX_PATH_MAX];
    uint8_t bytes[CLOSE_SIZE + FRAME_BYTES] = {0};
    vex_file *file = NULL;
    vex_wal_header header = {0};
    size_t got = 0;
    bool closes = false;
    VEX_TRY(vex_wal_path(path, dir, number));
    VEX_TRY(vfs->file_open(vfs, path, VEX_FILE_READ, &file));
    vex_status status = vfs->file_read(vfs, file, bytes, sizeof bytes, offset, &got);
    bool blank = is_blank(bytes, FRAME_BYTES); /* a frame header is never all zero */
    if (status == VEX_OK && !blank) {
        status = vex_wal_header_read(vfs, file, path, uuid, number, &header);
    }
    vfs->file_close(vfs, file);
    VEX_TRY(status);
    if (!blank) {
        vex_frame f;
        closes = got == CLOSE_SIZE && vex_frame_parse(header.salt, bytes, CLOSE_SIZE, &f) &&
                 !f.unknown && f.type == FRAME_CLOSE && f.link_value == header.salt &&
                 f.lsn == last_lsn;
    }
    *clean = blank || closes;
    *sealed = closes;
    return VEX_OK;
}
