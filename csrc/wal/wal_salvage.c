/*
 * wal_salvage.c - what is whole in a damaged log (wal.h, "salvaging").
 *
 * The log is read into memory, and walked from frame to frame.  Where no valid frame is whose turn it
 * is, the next place is looked for where a record begins (a FULL or FIRST frame with the log's salt, and
 * a right checksum), or the CLOSE frame.  Whether the bytes between are damage or a torn end
 * is decided as in wal_read.c: by a frame that says that they had been durable.
 */
#include "wal/wal_format.h"

#include "base/poison.h"

#define READ_STEP ((size_t)64 << 10)

typedef struct survey_walk {
    const uint8_t *bytes;
    uint64_t size, at;
    uint32_t salt;
    uint64_t next_lsn; /* 0: not known                                                    */
    uint64_t witness;  /* greatest synced_lsn seen                                        */
    bool later_release;
    vex_wal_survey *out;
} survey_walk;

/* ---- reading ---- */

/* The whole file; zeros where the disk cannot read. */
static vex_status read_all(vex_vfs *vfs, vex_file *file, vex_bulk *out, uint64_t *size) {
    vex_file_stat stat = {0};
    VEX_TRY(vfs->file_stat(vfs, file, &stat));
    VEX_TRY(vex_bulk_create(out, (size_t)stat.size + READ_STEP));
    uint8_t *bytes = out->data;
    memset(bytes, 0, (size_t)stat.size + READ_STEP);
    for (uint64_t at = 0; at < stat.size; at += READ_STEP) {
        uint64_t left = stat.size - at;
        size_t got = 0, len = left < READ_STEP ? (size_t)left : READ_STEP;
        if (vfs->file_read(vfs, file, bytes + at, len, at, &got) != VEX_OK) {
            memset(bytes + at, 0, len);
        }
    }
    *size = stat.size;
    return VEX_OK;
}

static bool frame_at(const survey_walk *w, uint64_t at, vex_frame *out) {
    return w->size - at >= FRAME_BYTES && at < w->size &&
           vex_frame_parse(w->salt, w->bytes + at, (size_t)(w->size - at), out);
}

/* ---- gaps ---- */

static vex_status add_gap(survey_walk *w, uint64_t offset, uint64_t lsn_to) {
    vex_wal_survey *out = w->out;
    void *gaps = out->gaps;
    VEX_TRY(vex_grow(&gaps, &out->gaps_capacity, out->n_gaps + 1, sizeof *out->gaps));
    out->gaps = gaps;
    out->gaps[out->n_gaps++] = (vex_wal_gap){offset, w->next_lsn, lsn_to};
    return VEX_OK;
}

/* Can a record, or the end of the log, begin with this frame? */
static bool begins(const survey_walk *w, const vex_frame *f) {
    bool first = f->type == FRAME_FULL || f->type == FRAME_FIRST;
    return !f->unknown && f->link_value == w->salt &&
           (first ? f->lsn >= w->next_lsn : f->type == FRAME_CLOSE && f->lsn + 1 >= w->next_lsn);
}

/* From a place where no record is: to the next one.  False: there is none. */
static bool find_next(survey_walk *w) {
    vex_frame f;
    for (uint64_t at = vex_align_up(w->at + 1, 8); at + FRAME_BYTES <= w->size; at += 8) {
        if (vex_get32(w->bytes + at + AT_LINK) == w->salt && frame_at(w, at, &f) && begins(w, &f)) {
            w->at = at;
            return true;
        }
    }
    w->at = w->size;
    return false;
}

/* ---- records ---- */

static vex_status add_record(survey_walk *w, uint64_t lsn, vex_buf *body) {
    vex_wal_survey *out = w->out;
    void *records = out->records;
    VEX_TRY(vex_grow(&records, &out->records_capacity, out->n_records + 1, sizeof *out->records));
    out->records = records;
    out->records[out->n_records++] = (vex_wal_found){lsn, *body};
    *body = (vex_buf){0};
    return VEX_OK;
}

/* Put the record together that begins at w->at; *whole when all its frames are there. */
static vex_status take_record(survey_walk *w, bool *whole, bool *closed) {
    vex_frame f;
    vex_buf body = {0};
    uint64_t at = w->at, lsn = 0;
    uint32_t previous_crc = 0;
    bool first = true;
    *whole = *closed = false;
    while (frame_at(w, at, &f)) {
        w->later_release = w->later_release || f.unknown;
        bool in_turn = first ? begins(w, &f)
                             : (f.type == FRAME_MIDDLE || f.type == FRAME_LAST) && f.lsn == lsn &&
                                   f.link_value == previous_crc && !f.unknown;
        if (!in_turn || body.len + f.len > VEX_WAL_RECORD_MAX) {
            break;
        }
        w->witness = f.synced_lsn > w->witness ? f.synced_lsn : w->witness;
        lsn = f.lsn;
        if (f.type == FRAME_CLOSE) {
            *whole = *closed = true;
            break;
        }
        vex_status status = vex_buf_append(&body, f.payload, f.len);
        at += frame_size(f.len);
        previous_crc = f.crc;
        first = false;
        *whole = status == VEX_OK && (f.type == FRAME_FULL || f.type == FRAME_LAST);
        if (*whole) {
            status = add_record(w, lsn, &body);
        }
        if (status != VEX_OK || *whole) {
            vex_buf_clear(&body);
            w->next_lsn = lsn + 1;
            w->at = at;
            return status;
        }
    }
    vex_buf_clear(&body);
    return VEX_OK;
}

/* The lsn that comes next at w->at, where a record or the end begins. */
static uint64_t lsn_here(const survey_walk *w) {
    vex_frame f;
    return frame_at(w, w->at, &f) ? (f.type == FRAME_CLOSE ? f.lsn + 1 : f.lsn) : 0;
}

static vex_status walk(survey_walk *w) {
    bool closed = false;
    while (w->at < w->size && !closed) {
        bool whole = false;
        uint64_t at = w->at;
        uint64_t here = lsn_here(w);
        if (w->next_lsn != 0 && here > w->next_lsn) {
            VEX_TRY(add_gap(w, at, here)); /* a record is missing although nothing is damaged */
            w->next_lsn = here;
        }
        VEX_TRY(take_record(w, &whole, &closed));
        if (!whole) {
            bool more = find_next(w);
            VEX_TRY(add_gap(w, at, more ? lsn_here(w) : 0));
            w->next_lsn = more ? lsn_here(w) : w->next_lsn;
        }
    }
    return VEX_OK;
}

/* What follows a place that was never durable had not been acknowledged: there the log ends. */
static void end_torn(survey_walk *w, bool newest) {
    vex_wal_survey *out = w->out;
    for (size_t i = 0; i < out->n_gaps; i++) {
        uint64_t lsn = out->gaps[i].lsn_from;
        if (!newest || w->witness >= lsn) {
            continue;
        }
        out->n_gaps = i;
        while (out->n_records > 0 && out->records[out->n_records - 1].lsn > lsn) {
            vex_buf_clear(&out->records[--out->n_records].body);
        }
    }
}

static uint64_t end_of_data(const uint8_t *bytes, uint64_t size) {
    while (size > 0 && bytes[size - 1] == 0) {
        size--;
    }
    return size;
}

/* ---- the whole ---- */

/* The salt that frames carry at 24, confirmed by a checksum. */
static void guess_salt(survey_walk *w) {
    vex_frame f;
    for (uint64_t at = HEADER_BYTES; at + FRAME_BYTES <= w->size; at += 8) {
        w->salt = vex_get32(w->bytes + at + AT_LINK);
        if (w->salt != 0 && frame_at(w, at, &f) && begins(w, &f)) {
            return;
        }
    }
    w->salt = 0;
}

static vex_status survey(vex_vfs *vfs, const char *path, vex_file *file, const uint8_t uuid[16],
                         uint64_t number, bool newest, vex_bulk *bulk, vex_wal_survey *out) {
    vex_wal_header header = {0};
    survey_walk w = {.at = HEADER_BYTES, .out = out};
    VEX_TRY(read_all(vfs, file, bulk, &out->bytes));
    w.bytes = bulk->data;
    w.size = out->bytes;
    vex_status status = vex_wal_header_read(vfs, file, path, uuid, number, &header);
    if (status == VEX_ERR_VERSION) {
        return status;
    }
    out->header_damaged = status != VEX_OK;
    w.salt = header.salt;
    w.next_lsn = header.first_lsn;
    if (out->header_damaged) {
        bool other = vex_last_error()->offset != 0 && out->bytes >= HEADER_BYTES;
        if (other) { /* a sound log of something else */
            return add_gap(&w, 0, 0);
        }
        guess_salt(&w);
        if (w.salt == 0) {
            return w.size > HEADER_BYTES ? add_gap(&w, HEADER_BYTES, 0) : VEX_OK;
        }
    }
    VEX_TRY(walk(&w));
    if (w.later_release) {
        return VEX_FAIL_AT(VEX_ERR_VERSION, path, 0, 0,
                           "the log holds a record of a later release; upgrade vexfs_chroma");
    }
    /* Preallocated space behind the last record is no gap. */
    if (out->n_gaps > 0 && out->gaps[out->n_gaps - 1].lsn_to == 0 &&
        end_of_data(w.bytes, out->bytes) <= out->gaps[out->n_gaps - 1].offset) {
        out->n_gaps--;
    }
    end_torn(&w, newest);
    return VEX_OK;
}

vex_status vex_wal_salvage(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t number,
                           bool newest, vex_wal_survey *out) {
    char path[VEX_PATH_MAX];
    vex_file *file = NULL;
    vex_bulk bulk = {0};
    vex_wal_survey found = {0};
    VEX_TRY(vex_wal_path(path, dir, number));
    vex_status status = vfs->file_open(vfs, path, VEX_FILE_READ, &file);
    if (status == VEX_ERR_CORRUPT) { /* no plain file, so nothing of it can be read */
        *out = (vex_wal_survey){.header_damaged = true};
        return VEX_OK;
    }
    VEX_TRY(status);
    status = survey(vfs, path, file, uuid, number, newest, &bulk, &found);
    vfs->file_close(vfs, file);
    vex_bulk_destroy(&bulk);
    if (status != VEX_OK) {
        vex_wal_survey_clear(&found);
        return status;
    }
    *out = found;
    return VEX_OK;
}

void vex_wal_survey_clear(vex_wal_survey *survey) {
    for (size_t i = 0; i < survey->n_records; i++) {
        vex_buf_clear(&survey->records[i].body);
    }
    vex_free(survey->records);
    vex_free(survey->gaps);
    *survey = (vex_wal_survey){0};
}
