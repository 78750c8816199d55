/*
 * fuzz_msgpack.c - the MessagePack reader on any bytes.
 *
 * Target "msgpack": the input is a sequence of values.  Peeking, skipping and reading agree, and
 * what was read is written and read again as the same.
 */
#include "base/msgpack.h"
#include "tests/fuzz/fuzz.h"

#define ROUND_TRIPS_MAX 500u /* of one input                                                      */
#define ITEMS_MAX 100u       /* of a container that is written again                              */
#define PREFIXES_MAX 64u     /* bytes of a string whose prefixes are looked at                    */

static bool same_value(const vex_mp_value *a, const vex_mp_value *b) {
    const bool bytes = a->len == b->len && (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
    return a->kind == b->kind && a->boolean == b->boolean && a->ext_type == b->ext_type &&
           a->count == b->count && a->integer == b->integer &&
           memcmp(&a->number, &b->number, sizeof a->number) == 0 && bytes;
}

/* Containers get items, or their count would be too high to be believed. */
static void put_value(vex_buf *out, const vex_mp_value *value) {
    switch (value->kind) {
    case VEX_MP_NIL:
        CHECK_OK(vex_mp_put_nil(out));
        break;
    case VEX_MP_BOOL:
        CHECK_OK(vex_mp_put_bool(out, value->boolean));
        break;
    case VEX_MP_INT:
        CHECK_OK(vex_mp_put_int(out, value->integer));
        break;
    case VEX_MP_FLOAT:
        CHECK_OK(vex_mp_put_double(out, value->number));
        break;
    case VEX_MP_STR:
        CHECK_OK(vex_mp_put_str(out, value->bytes, value->len));
        break;
    case VEX_MP_EXT:
        CHECK_OK(vex_mp_put_ext(out, value->ext_type, value->bytes, value->len));
        break;
    case VEX_MP_ARRAY:
        CHECK_OK(vex_mp_put_array(out, value->count));
        CHECK_OK(vex_buf_append_zeros(out, value->count));
        break;
    case VEX_MP_MAP:
        CHECK_OK(vex_mp_put_map(out, value->count));
        CHECK_OK(vex_buf_append_zeros(out, 2 * (size_t)value->count));
        break;
    default:
        break;
    }
}

static void check_round_trip(const vex_mp_value *value) {
    vex_buf bytes = {0};
    if (value->kind == VEX_MP_BIN || value->kind == VEX_MP_BAD || value->count > ITEMS_MAX) {
        return; /* there is no writer of bin; many items would take long */
    }
    put_value(&bytes, value);
    vex_mp_reader reader = vex_mp_reader_make(bytes.data, bytes.len);
    const vex_mp_value again = vex_mp_next(&reader);
    CHECK(same_value(value, &again));
    vex_buf_clear(&bytes);
}

/* One value after the other, children of containers, too. */
static void read_values(const uint8_t *data, size_t len) {
    vex_mp_reader reader = vex_mp_reader_make(data, len);
    for (uint32_t n = 0; !vex_mp_bad(&reader) && !vex_mp_at_end(&reader); n++) {
        const vex_mp_kind kind = vex_mp_peek(&reader);
        const size_t before = reader.in.pos;
        const vex_mp_value value = vex_mp_next(&reader);
        CHECK_EQ(kind, value.kind);
        CHECK((value.kind == VEX_MP_BAD) == vex_mp_bad(&reader));
        CHECK(vex_mp_bad(&reader) || (reader.in.pos > before && reader.in.pos <= len));
        const uint64_t items = (uint64_t)value.count * (value.kind == VEX_MP_MAP ? 2 : 1);
        CHECK(items <= len - reader.in.pos);
        if (value.kind == VEX_MP_STR && value.len <= PREFIXES_MAX &&
            vex_utf8_valid(value.bytes, value.len)) {
            for (size_t i = 0; i < value.len; i++) { /* a prefix, too, unless it cuts a character */
                CHECK((value.bytes[i] & 0xC0) == 0x80 || vex_utf8_valid(value.bytes, i));
            }
        }
        if (n < ROUND_TRIPS_MAX) {
            check_round_trip(&value);
        }
    }
}

/* Whole values: skipping one ends where its raw bytes end, and these skip alone, too. */
static void skip_values(const uint8_t *data, size_t len) {
    vex_mp_reader reader = vex_mp_reader_make(data, len);
    while (!vex_mp_bad(&reader) && !vex_mp_at_end(&reader)) {
        vex_mp_reader copy = reader;
        size_t raw_len = 0;
        const uint8_t *raw = vex_mp_raw(&reader, &raw_len);
        vex_mp_skip(&copy);
        CHECK((raw == NULL) == vex_mp_bad(&reader) && vex_mp_bad(&copy) == vex_mp_bad(&reader));
        if (raw != NULL) {
            CHECK(raw_len > 0 && raw + raw_len == data + reader.in.pos);
            CHECK_EQ(copy.in.pos, reader.in.pos);
            vex_mp_reader alone = vex_mp_reader_make(raw, raw_len);
            vex_mp_skip(&alone);
            CHECK(!vex_mp_bad(&alone) && vex_mp_at_end(&alone));
        }
    }
}

static void run(const uint8_t *data, size_t len) {
    fuzz_accept();
    read_values(data, len);
    skip_values(data, len);
}

static void seeds(const fuzz_seeds *seeds) {
    static const uint8_t every_form[] = {
        0x00, 0x7f, 0xff, 0xe0, 0xc0, 0xc2, 0xc3, 0xcc, 0x80, 0xcd, 1, 2,    0xce, 1,    2,
        3,    4,    0xcf, 0x80, 0,    0,    0,    0,    0,    0,    0, 0xd0, 0x80, 0xd1, 0x80,
        0,    0xd2, 0x80, 0,    0,    0,    0xd3, 0x80, 0,    0,    0, 0,    0,    0,    0,
        0xca, 0x3f, 0x80, 0,    0,    0xcb, 0x3f, 0xf0, 0,    0,    0, 0,    0,    0,    0xa2,
        'h',  'i',  0xd9, 1,    'x',  0xda, 0,    1,    'y',  0xdb, 0, 0,    0,    1,    'z',
        0xc4, 1,    9,    0xc5, 0,    1,    9,    0xc6, 0,    0,    0, 1,    9,    0xd4, 5,
        1,    0xd5, 5,    1,    2,    0xd6, 5,    1,    2,    3,    4, 0xc7, 3,    5,    1,
        2,    3,    0xc8, 0,    1,    5,    7,    0xc9, 0,    0,    0, 1,    5,    7,    0x92,
        1,    0x81, 0xa1, 'k',  0x90, 0xdc, 0,    1,    0,    0xdd, 0, 0,    0,    1,    0,
        0xde, 0,    1,    0xa1, 'k',  0x80, 0xdf, 0,    0,    0,    1, 0xa1, 'k',  0xc0};
    static const char text[] = "\x94\xa4wave\xa6\xc3\xa4\xe2\x82\xac\x21\xa4\xf0\x9f\x98\x80\xa0";
    seeds->take(seeds->context, every_form, sizeof every_form);
    seeds->take(seeds->context, text, sizeof text - 1);
}

const fuzz_target fuzz_msgpack = {.name = "msgpack", .seeds = seeds, .run = run, .rounds = 10000};
