/*
 * msgpack.h - reading and writing MessagePack (the specification at msgpack/msgpack, 2013
 * edition with str, bin and ext), the form in which records, metadata and filters cross the API.
 *
 * The reader trusts nothing: every length is checked against what is left, and so is a count
 * (each item has at least one byte), so callers may allocate by it.  No recursion.  An error sets
 * `bad`; that read and all further ones yield VEX_MP_BAD, whose other fields are zero.
 */
#ifndef VEX_BASE_MSGPACK_H
#define VEX_BASE_MSGPACK_H

#include "base/bytes.h"
#include "base/mem.h"

typedef enum vex_mp_kind {
    VEX_MP_NIL, VEX_MP_BOOL, VEX_MP_INT, VEX_MP_FLOAT, VEX_MP_STR, VEX_MP_BIN,
    VEX_MP_ARRAY, VEX_MP_MAP, VEX_MP_EXT, VEX_MP_BAD
} vex_mp_kind;

typedef struct vex_mp_value {
    vex_mp_kind kind;
    bool boolean;
    int8_t ext_type;
    uint32_t count;        /* items of an array, pairs of a map                                   */
    int64_t integer;       /* VEX_MP_INT; a uint64 above INT64_MAX becomes VEX_MP_FLOAT           */
    double number;         /* VEX_MP_FLOAT; float32 is widened                                    */
    const uint8_t *bytes;  /* str, bin, ext payload (borrowed)                                    */
    size_t len;
} vex_mp_value;

typedef struct vex_mp_reader {
    vex_cursor in;
} vex_mp_reader;

static inline vex_mp_reader vex_mp_reader_make(const void *data, size_t len) {
    vex_mp_reader r = {vex_cursor_make(data, len)};
    return r;
}
/* Next value; for arrays and maps only the header (then read `count` items or 2*count). */
vex_mp_value vex_mp_next(vex_mp_reader *reader);
/* Kind of the next value without consuming it. */
vex_mp_kind vex_mp_peek(const vex_mp_reader *reader);
/* Skip one whole value, children included, however deep. */
void vex_mp_skip(vex_mp_reader *reader);
/* The bytes of the next whole value (borrowed), which is skipped; NULL when malformed. */
const uint8_t *vex_mp_raw(vex_mp_reader *reader, size_t *len);
/* Are these bytes one whole map and nothing else? */
bool vex_mp_is_map(const void *data, size_t len);
static inline bool vex_mp_bad(const vex_mp_reader *reader) {
    return reader->in.bad;
}
static inline bool vex_mp_at_end(const vex_mp_reader *reader) {
    return reader->in.pos == reader->in.len;
}

/* Is this UTF-8 (no surrogates, no overlong forms)? */
bool vex_utf8_valid(const uint8_t *bytes, size_t len);

/* Writers use the shortest form. */
vex_status vex_mp_put_nil(vex_buf *out);
vex_status vex_mp_put_bool(vex_buf *out, bool v);
vex_status vex_mp_put_int(vex_buf *out, int64_t v);
vex_status vex_mp_put_uint(vex_buf *out, uint64_t v);
vex_status vex_mp_put_double(vex_buf *out, double v);
vex_status vex_mp_put_str(vex_buf *out, const void *bytes, size_t len);
vex_status vex_mp_put_array(vex_buf *out, uint32_t count);
vex_status vex_mp_put_map(vex_buf *out, uint32_t count);
vex_status vex_mp_put_ext(vex_buf *out, int8_t type, const void *bytes, size_t len);

#endif
