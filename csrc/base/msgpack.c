/*
 * msgpack.c - MessagePack, one value at a time.
 *
 * A container's count is believed only as far as there are bytes for its items (one each at
 * least), so a caller may allocate by it, and skipping ends after at most as many steps as there
 * are bytes.
 */
#include "base/msgpack.h"

#include "base/poison.h"

/* ---- reading ---- */

static uint16_t cursor_be16(vex_cursor *in) {
    return __builtin_bswap16(vex_cursor_u16(in));
}
static uint32_t cursor_be32(vex_cursor *in) {
    return __builtin_bswap32(vex_cursor_u32(in));
}
static uint64_t cursor_be64(vex_cursor *in) {
    return __builtin_bswap64(vex_cursor_u64(in));
}

static vex_mp_value malformed(vex_mp_reader *reader) {
    reader->in.bad = true;
    return (vex_mp_value){.kind = VEX_MP_BAD};
}

static vex_mp_value read_bytes(vex_mp_reader *reader, vex_mp_kind kind, size_t len) {
    vex_mp_value value = {.kind = kind};
    if (kind == VEX_MP_EXT) {
        value.ext_type = (int8_t)vex_cursor_u8(&reader->in);
    }
    value.bytes = vex_cursor_take(&reader->in, len);
    value.len = len;
    return value;
}

static vex_mp_value read_container(vex_mp_reader *reader, vex_mp_kind kind, uint32_t count) {
    uint64_t items = kind == VEX_MP_MAP ? 2 * (uint64_t)count : count;
    if (items > reader->in.len - reader->in.pos) {
        return malformed(reader);
    }
    return (vex_mp_value){.kind = kind, .count = count};
}

static vex_mp_value make_int(int64_t v) {
    return (vex_mp_value){.kind = VEX_MP_INT, .integer = v};
}

static vex_mp_value make_float(double v) {
    return (vex_mp_value){.kind = VEX_MP_FLOAT, .number = v};
}

static vex_mp_value read_uint64(vex_cursor *in) {
    uint64_t v = cursor_be64(in);
    return v <= INT64_MAX ? make_int((int64_t)v) : make_float((double)v);
}

static vex_mp_value read_float32(vex_cursor *in) {
    uint32_t bits = cursor_be32(in);
    float v;
    memcpy(&v, &bits, sizeof v);
    return make_float((double)v);
}

static vex_mp_value read_float64(vex_cursor *in) {
    uint64_t bits = cursor_be64(in);
    double v;
    memcpy(&v, &bits, sizeof v);
    return make_float(v);
}

static vex_mp_value read_value(vex_mp_reader *reader) {
    vex_cursor *in = &reader->in;
    uint8_t tag = vex_cursor_u8(in);
    if (in->bad) {
        return malformed(reader);
    }
    if (tag <= 0x7f || tag >= 0xe0) {
        return make_int((int8_t)tag);
    }
    if (tag <= 0x8f) {
        return read_container(reader, VEX_MP_MAP, tag & 0x0fu);
    }
    if (tag <= 0x9f) {
        return read_container(reader, VEX_MP_ARRAY, tag & 0x0fu);
    }
    if (tag <= 0xbf) {
        return read_bytes(reader, VEX_MP_STR, tag & 0x1fu);
    }
    switch (tag) {
    case 0xc0:
        return (vex_mp_value){.kind = VEX_MP_NIL};
    case 0xc2:
        return (vex_mp_value){.kind = VEX_MP_BOOL, .boolean = false};
    case 0xc3:
        return (vex_mp_value){.kind = VEX_MP_BOOL, .boolean = true};
    case 0xc4:
        return read_bytes(reader, VEX_MP_BIN, vex_cursor_u8(in));
    case 0xc5:
        return read_bytes(reader, VEX_MP_BIN, cursor_be16(in));
    case 0xc6:
        return read_bytes(reader, VEX_MP_BIN, cursor_be32(in));
    case 0xc7:
        return read_bytes(reader, VEX_MP_EXT, vex_cursor_u8(in));
    case 0xc8:
        return read_bytes(reader, VEX_MP_EXT, cursor_be16(in));
    case 0xc9:
        return read_bytes(reader, VEX_MP_EXT, cursor_be32(in));
    case 0xca:
        return read_float32(in);
    case 0xcb:
        return read_float64(in);
    case 0xcc:
        return make_int(vex_cursor_u8(in));
    case 0xcd:
        return make_int(cursor_be16(in));
    case 0xce:
        return make_int(cursor_be32(in));
    case 0xcf:
        return read_uint64(in);
    case 0xd0:
        return make_int((int8_t)vex_cursor_u8(in));
    case 0xd1:
        return make_int((int16_t)cursor_be16(in));
    case 0xd2:
        return make_int((int32_t)cursor_be32(in));
    case 0xd3:
        return make_int((int64_t)cursor_be64(in));
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return read_bytes(reader, VEX_MP_EXT, (size_t)1 << (tag - 0xd4));
    case 0xd9:
        return read_bytes(reader, VEX_MP_STR, vex_cursor_u8(in));
    case 0xda:
        return read_bytes(reader, VEX_MP_STR, cursor_be16(in));
    case 0xdb:
        return read_bytes(reader, VEX_MP_STR, cursor_be32(in));
    case 0xdc:
        return read_container(reader, VEX_MP_ARRAY, cursor_be16(in));
    case 0xdd:
        return read_container(reader, VEX_MP_ARRAY, cursor_be32(in));
    case 0xde:
        return read_container(reader, VEX_MP_MAP, cursor_be16(in));
    case 0xdf:
        return read_container(reader, VEX_MP_MAP, cursor_be32(in));
    default: /* 0xc1, never used */
        return malformed(reader);
    }
}

vex_mp_value vex_mp_next(vex_mp_reader *reader) {
    vex_mp_value value = read_value(reader);
    return reader->in.bad ? malformed(reader) : value;
}

vex_mp_kind vex_mp_peek(const vex_mp_reader *reader) {
    vex_mp_reader copy = *reader;
    return vex_mp_next(&copy).kind;
}

void vex_mp_skip(vex_mp_reader *reader) {
    for (uint64_t pending = 1; pending > 0; pending--) {
        vex_mp_value value = vex_mp_next(reader);
        if (value.kind == VEX_MP_ARRAY) {
            pending += value.count;
        } else if (value.kind == VEX_MP_MAP) {
            pending += 2 * (uint64_t)value.count;
        }
        if (reader->in.bad || pending - 1 > reader->in.len - reader->in.pos) {
            reader->in.bad = true;
            return;
        }
    }
}

const uint8_t *vex_mp_raw(vex_mp_reader *reader, size_t *len) {
    size_t start = reader->in.pos;
    vex_mp_skip(reader);
    if (reader->in.bad) {
        return NULL;
    }
    *len = reader->in.pos - start;
    return reader->in.data + start;
}

bool vex_mp_is_map(const void *data, size_t len) {
    vex_mp_reader reader = vex_mp_reader_make(data, len);
    bool map = vex_mp_peek(&reader) == VEX_MP_MAP;
    vex_mp_skip(&reader);
    return map && !reader.in.bad && vex_mp_at_end(&reader);
}

/* ---- UTF-8 ---- */

/* Length of the well-formed character at `p` (Unicode 15, table 3-7), or 0. */
static size_t utf8_char(const uint8_t *p, size_t left) {
    uint8_t lead = p[0];
    if (lead < 0x80) {
        return 1;
    }
    size_t len = lead >= 0xC2 && lead <= 0xDF   ? 2
                 : lead >= 0xE0 && lead <= 0xEF ? 3
                 : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                : 0;
    if (len == 0 || len > left) {
        return 0;
    }
    /* The second byte is where overlong forms, surrogates and values past U+10FFFF show. */
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return len;
}

bool vex_utf8_valid(const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len;) {
        if (len - i >= 8 && (vex_get64(bytes + i) & 0x8080808080808080ULL) == 0) {
            i += 8;
            continue;
        }
        size_t step = utf8_char(bytes + i, len - i);
        if (step == 0) {
            return false;
        }
        i += step;
    }
    return true;
}

/* ---- writing ---- */

/* A tag, then the low `width` bytes of `v`, big-endian, with room kept for `payload` more. */
static vex_status put_head(vex_buf *out, uint8_t tag, uint64_t v, unsigned width, size_t payload) {
    size_t more;
    if (__builtin_add_overflow(payload, (size_t)1 + width, &more)) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a MessagePack value of %zu bytes is too big", payload);
    }
    VEX_TRY(vex_buf_reserve(out, more));
    uint8_t *p = out->data + out->len;
    *p++ = tag;
    for (unsigned shift = 8 * width; shift > 0;) {
        shift -= 8;
        *p++ = (uint8_t)(v >> shift);
    }
    out->len += 1 + width;
    return VEX_OK;
}

static vex_status put_tag(vex_buf *out, uint8_t tag) {
    return put_head(out, tag, 0, 0, 0);
}

vex_status vex_mp_put_nil(vex_buf *out) {
    return put_tag(out, 0xc0);
}

vex_status vex_mp_put_bool(vex_buf *out, bool v) {
    return put_tag(out, v ? 0xc3 : 0xc2);
}

vex_status vex_mp_put_uint(vex_buf *out, uint64_t v) {
    if (v <= 0x7f) {
        return put_tag(out, (uint8_t)v);
    }
    if (v <= UINT8_MAX) {
        return put_head(out, 0xcc, v, 1, 0);
    }
    if (v <= UINT16_MAX) {
        return put_head(out, 0xcd, v, 2, 0);
    }
    return v <= UINT32_MAX ? put_head(out, 0xce, v, 4, 0) : put_head(out, 0xcf, v, 8, 0);
}

vex_status vex_mp_put_int(vex_buf *out, int64_t v) {
    uint64_t bits = (uint64_t)v;
    if (v >= 0) {
        return vex_mp_put_uint(out, bits);
    }
    if (v >= -32) {
        return put_tag(out, (uint8_t)bits);
    }
    if (v >= INT8_MIN) {
        return put_head(out, 0xd0, bits, 1, 0);
    }
    if (v >= INT16_MIN) {
        return put_head(out, 0xd1, bits, 2, 0);
    }
    return v >= INT32_MIN ? put_head(out, 0xd2, bits, 4, 0) : put_head(out, 0xd3, bits, 8, 0);
}

vex_status vex_mp_put_double(vex_buf *out, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_head(out, 0xcb, bits, 8, 0);
}

static vex_status too_long(const char *what, size_t len) {
    return VEX_FAIL(VEX_ERR_TOO_BIG, "a %s of %zu bytes does not fit into MessagePack (4 GiB)",
                    what, len);
}

vex_status vex_mp_put_str(vex_buf *out, const void *bytes, size_t len) {
    if (len > UINT32_MAX) {
        return too_long("string", len);
    }
    if (len <= 31) {
        VEX_TRY(put_head(out, (uint8_t)(0xa0 | len), 0, 0, len));
    } else if (len <= UINT8_MAX) {
        VEX_TRY(put_head(out, 0xd9, len, 1, len));
    } else if (len <= UINT16_MAX) {
        VEX_TRY(put_head(out, 0xda, len, 2, len));
    } else {
        VEX_TRY(put_head(out, 0xdb, len, 4, len));
    }
    return vex_buf_append(out, bytes, len);
}

static vex_status put_container(vex_buf *out, uint32_t count, uint8_t fix_tag, uint8_t tag16) {
    if (count <= 15) {
        return put_tag(out, (uint8_t)(fix_tag | count));
    }
    return count <= UINT16_MAX ? put_head(out, tag16, count, 2, 0)
                               : put_head(out, (uint8_t)(tag16 + 1), count, 4, 0);
}

vex_status vex_mp_put_array(vex_buf *out, uint32_t count) {
    return put_container(out, count, 0x90, 0xdc);
}

vex_status vex_mp_put_map(vex_buf *out, uint32_t count) {
    return put_container(out, count, 0x80, 0xde);
}

vex_status vex_mp_put_ext(vex_buf *out, int8_t type, const void *bytes, size_t len) {
    if (len > UINT32_MAX) {
        return too_long("extension", len);
    }
    uint64_t v = (uint64_t)len << 8 | (uint8_t)type; /* the length, then the type */
    if (len == 1 || len == 2 || len == 4 || len == 8 || len == 16) {
        uint8_t tag = (uint8_t)(0xd4 + __builtin_ctzll(len));
        VEX_TRY(put_head(out, tag, (uint8_t)type, 1, len));
    } else if (len <= UINT8_MAX) {
        VEX_TRY(put_head(out, 0xc7, v, 2, len));
    } else if (len <= UINT16_MAX) {
        VEX_TRY(put_head(out, 0xc8, v, 3, len));
    } else {
        VEX_TRY(put_head(out, 0xc9, v, 5, len));
    }
    return vex_buf_append(out, bytes, len);
}
