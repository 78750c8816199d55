/*
 * t_msgpack.c - MessagePack against bytes written by hand, against itself, and against damage.
 */
#include "base/msgpack.h"
#include "tests/harness.h"

#include <math.h>

/* Bytes of a literal, without its final zero. */
#define BYTES(literal) (const uint8_t *)(literal), sizeof(literal) - 1

static vex_mp_value read_one(const uint8_t *bytes, size_t len) {
    vex_mp_reader r = vex_mp_reader_make(bytes, len);
    vex_mp_value value = vex_mp_next(&r);
    CHECK(!vex_mp_bad(&r) && vex_mp_at_end(&r));
    return value;
}

static void check_int(const uint8_t *bytes, size_t len, int64_t expected) {
    vex_mp_value value = read_one(bytes, len);
    CHECK_EQ(value.kind, VEX_MP_INT);
    CHECK_EQ(value.integer, expected);
}

static void check_text(const uint8_t *bytes, size_t len, vex_mp_kind kind, size_t text_len,
                       size_t head) {
    vex_mp_reader r = vex_mp_reader_make(bytes, len);
    vex_mp_value value = vex_mp_next(&r);
    CHECK_EQ(value.kind, kind);
    CHECK_EQ(value.len, text_len);
    CHECK(value.bytes == bytes + head);
    CHECK(vex_mp_at_end(&r));
}

TEST(msgpack_reads_every_scalar_form) {
    CHECK_EQ(read_one(BYTES("\xc0")).kind, VEX_MP_NIL);
    CHECK_EQ(read_one(BYTES("\xc2")).kind, VEX_MP_BOOL);
    CHECK_EQ(read_one(BYTES("\xc2")).boolean, false);
    CHECK_EQ(read_one(BYTES("\xc3")).boolean, true);
    check_int(BYTES("\x00"), 0);
    check_int(BYTES("\x7f"), 127);
    check_int(BYTES("\xe0"), -32);
    check_int(BYTES("\xff"), -1);
    check_int(BYTES("\xcc\xff"), 255);
    check_int(BYTES("\xcd\x01\x02"), 258);
    check_int(BYTES("\xce\xff\xff\xff\xfe"), 4294967294);
    check_int(BYTES("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX);
    check_int(BYTES("\xd0\x80"), -128);
    check_int(BYTES("\xd1\x80\x00"), -32768);
    check_int(BYTES("\xd2\x80\x00\x00\x00"), INT32_MIN);
    check_int(BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), INT64_MIN);

    vex_mp_value value = read_one(BYTES("\xcf\x80\x00\x00\x00\x00\x00\x00\x00"));
    CHECK_EQ(value.kind, VEX_MP_FLOAT); /* 2^63 is beyond int64 */
    CHECK(value.number == 9223372036854775808.0);
    value = read_one(BYTES("\xca\xbf\xc0\x00\x00"));
    CHECK(value.kind == VEX_MP_FLOAT && value.number == -1.5);
    value = read_one(BYTES("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"));
    CHECK(value.kind == VEX_MP_FLOAT && value.number == 0.1);
}

TEST(msgpack_reads_every_string_and_container_form) {
    check_text(BYTES("\xa0"), VEX_MP_STR, 0, 1);
    check_text(BYTES("\xa3"
                     "abc"),
               VEX_MP_STR, 3, 1);
    check_text(BYTES("\xd9\x03"
                     "abc"),
               VEX_MP_STR, 3, 2);
    check_text(BYTES("\xda\x00\x03"
                     "abc"),
               VEX_MP_STR, 3, 3);
    check_text(BYTES("\xdb\x00\x00\x00\x03"
                     "abc"),
               VEX_MP_STR, 3, 5);
    check_text(BYTES("\xc4\x03"
                     "abc"),
               VEX_MP_BIN, 3, 2);
    check_text(BYTES("\xc5\x00\x03"
                     "abc"),
               VEX_MP_BIN, 3, 3);
    check_text(BYTES("\xc6\x00\x00\x00\x03"
                     "abc"),
               VEX_MP_BIN, 3, 5);
    check_text(BYTES("\xd4\x01"
                     "a"),
               VEX_MP_EXT, 1, 2);
    check_text(BYTES("\xd5\x01"
                     "ab"),
               VEX_MP_EXT, 2, 2);
    check_text(BYTES("\xd6\x01"
                     "abcd"),
               VEX_MP_EXT, 4, 2);
    check_text(BYTES("\xd7\x01"
                     "abcdabcd"),
               VEX_MP_EXT, 8, 2);
    check_text(BYTES("\xd8\x01"
                     "abcdabcdabcdabcd"),
               VEX_MP_EXT, 16, 2);
    check_text(BYTES("\xc7\x03\xfe"
                     "abc"),
               VEX_MP_EXT, 3, 3);
    check_text(BYTES("\xc8\x00\x03\xfe"
                     "abc"),
               VEX_MP_EXT, 3, 4);
    check_text(BYTES("\xc9\x00\x00\x00\x03\xfe"
                     "abc"),
               VEX_MP_EXT, 3, 6);
    CHECK_EQ(read_one(BYTES("\xc7\x01\xfe"
                            "a"))
                 .ext_type,
             -2);
    CHECK_EQ(read_one(BYTES("\xd4\x7f"
                            "a"))
                 .ext_type,
             127);

    static const char *const arrays[] = {"\x92", "\xdc\x00\x02", "\xdd\x00\x00\x00\x02"};
    static const char *const maps[] = {"\x81", "\xde\x00\x01", "\xdf\x00\x00\x00\x01"};
    static const size_t heads[] = {1, 3, 5};
    for (int form = 0; form < 3; form++) {
        for (int map = 0; map < 2; map++) {
            uint8_t bytes[16];
            memcpy(bytes, map ? maps[form] : arrays[form], heads[form]);
            memcpy(bytes + heads[form], "\x07\xc3", 2);
            vex_mp_reader r = vex_mp_reader_make(bytes, heads[form] + 2);
            CHECK_EQ(vex_mp_peek(&r), map ? VEX_MP_MAP : VEX_MP_ARRAY);
            CHECK_EQ(vex_mp_next(&r).count, map ? 1 : 2);
            CHECK_EQ(vex_mp_next(&r).integer, 7);
            CHECK_EQ(vex_mp_next(&r).boolean, true);
            CHECK(vex_mp_at_end(&r) && !vex_mp_bad(&r));
        }
    }
}

static void check_bad(const uint8_t *bytes, size_t len) {
    vex_mp_reader r = vex_mp_reader_make(bytes, len);
    CHECK_EQ(vex_mp_peek(&r), VEX_MP_BAD);
    CHECK(!vex_mp_bad(&r)); /* peeking consumes nothing, errors included */
    vex_mp_value value = vex_mp_next(&r);
    CHECK_EQ(value.kind, VEX_MP_BAD);
    CHECK(value.bytes == NULL && value.len == 0 && value.count == 0);
    CHECK(vex_mp_bad(&r));
    CHECK_EQ(vex_mp_next(&r).kind, VEX_MP_BAD);
    size_t raw_len;
    CHECK(vex_mp_raw(&r, &raw_len) == NULL);
}

TEST(msgpack_refuses_malformed) {
    check_bad(BYTES(""));
    check_bad(BYTES("\xc1"));
    check_bad(BYTES("\xa2"
                    "a"));
    check_bad(BYTES("\xcd\x01"));
    check_bad(BYTES("\xcb\x01\x02\x03\x04\x05\x06\x07"));
    check_bad(BYTES("\xdb\xff\xff\xff\xff"
                    "abc"));
    check_bad(BYTES("\xc9\xff\xff\xff\xff\x01"));
    check_bad(BYTES("\x92\x01")); /* two items need two bytes */
    check_bad(BYTES("\x81\x01"));
    check_bad(BYTES("\xdd\xff\xff\xff\xff\x01\x01"));
    check_bad(BYTES("\xdf\xff\xff\xff\xff\x01\x01"));
}

TEST(msgpack_skips_any_depth) {
    static uint8_t deep[1000000];
    memset(deep, 0x91, sizeof deep - 1); /* arrays of one array ... */
    deep[sizeof deep - 1] = 0xc0;
    vex_mp_reader r = vex_mp_reader_make(deep, sizeof deep);
    vex_mp_skip(&r);
    CHECK(!vex_mp_bad(&r) && vex_mp_at_end(&r));
    deep[sizeof deep - 1] = 0x91; /* the innermost item is missing */
    r = vex_mp_reader_make(deep, sizeof deep);
    vex_mp_skip(&r);
    CHECK(vex_mp_bad(&r));

    const char nested[] = "\x93\x01\x82\xa1"
                          "a"
                          "\x92\x01\x02\xa1"
                          "b"
                          "\xc0\xa3"
                          "xyz\x05";
    r = vex_mp_reader_make(nested, sizeof nested - 1);
    size_t len = 0;
    const uint8_t *raw = vex_mp_raw(&r, &len);
    CHECK(raw == (const uint8_t *)nested && len == sizeof nested - 2);
    CHECK_EQ(vex_mp_next(&r).integer, 5);
    CHECK(vex_mp_at_end(&r));
}

static void check_written(vex_buf *buf, const uint8_t *bytes, size_t len) {
    CHECK_EQ(buf->len, len);
    CHECK(memcmp(buf->data, bytes, len) == 0);
    buf->len = 0;
}

TEST(msgpack_writes_the_shortest_form) {
    vex_buf b = {0};
    CHECK_OK(vex_mp_put_nil(&b));
    CHECK_OK(vex_mp_put_bool(&b, true));
    CHECK_OK(vex_mp_put_bool(&b, false));
    check_written(&b, BYTES("\xc0\xc3\xc2"));
    static const struct {
        int64_t value;
        const char *bytes;
        size_t len;
    } ints[] = {
        {0, "\x00", 1},
        {127, "\x7f", 1},
        {128, "\xcc\x80", 2},
        {255, "\xcc\xff", 2},
        {256, "\xcd\x01\x00", 3},
        {65535, "\xcd\xff\xff", 3},
        {65536, "\xce\x00\x01\x00\x00", 5},
        {4294967295, "\xce\xff\xff\xff\xff", 5},
        {4294967296, "\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 9},
        {-1, "\xff", 1},
        {-32, "\xe0", 1},
        {-33, "\xd0\xdf", 2},
        {-128, "\xd0\x80", 2},
        {-129, "\xd1\xff\x7f", 3},
        {-32768, "\xd1\x80\x00", 3},
        {-32769, "\xd2\xff\xff\x7f\xff", 5},
        {INT32_MIN, "\xd2\x80\x00\x00\x00", 5},
        {(int64_t)INT32_MIN - 1, "\xd3\xff\xff\xff\xff\x7f\xff\xff\xff", 9},
        {INT64_MIN, "\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9},
    };
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        CHECK_OK(vex_mp_put_int(&b, ints[i].value));
        check_written(&b, (const uint8_t *)ints[i].bytes, ints[i].len);
    }
    CHECK_OK(vex_mp_put_uint(&b, UINT64_MAX));
    check_written(&b, BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"));
    CHECK_OK(vex_mp_put_double(&b, -1.5));
    check_written(&b, BYTES("\xcb\xbf\xf8\x00\x00\x00\x00\x00\x00"));
    CHECK_OK(vex_mp_put_array(&b, 15));
    CHECK_OK(vex_mp_put_array(&b, 16));
    CHECK_OK(vex_mp_put_array(&b, 65536));
    check_written(&b, BYTES("\x9f\xdc\x00\x10\xdd\x00\x01\x00\x00"));
    CHECK_OK(vex_mp_put_map(&b, 15));
    CHECK_OK(vex_mp_put_map(&b, 16));
    CHECK_OK(vex_mp_put_map(&b, 65536));
    check_written(&b, BYTES("\x8f\xde\x00\x10\xdf\x00\x01\x00\x00"));
    CHECK_OK(vex_mp_put_ext(&b, -2, "abcd", 4));
    CHECK_OK(vex_mp_put_ext(&b, 1, "abc", 3));
    CHECK_OK(vex_mp_put_ext(&b, 1, "", 0));
    check_written(&b, BYTES("\xd6\xfe"
                            "abcd"
                            "\xc7\x03\x01"
                            "abc"
                            "\xc7\x00\x01"));
    vex_buf_clear(&b);
}

TEST(msgpack_string_lengths_round_trip) {
    static const size_t lens[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 100000};
    static const size_t str_heads[] = {1, 1, 1, 2, 2, 3, 3, 5, 5};
    static char text[100000];
    memset(text, 'q', sizeof text);
    vex_buf b = {0};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        b.len = 0;
        CHECK_OK(vex_mp_put_str(&b, text, lens[i]));
        CHECK_EQ(b.len, lens[i] + str_heads[i]);
        vex_mp_value value = read_one(b.data, b.len);
        CHECK(value.kind == VEX_MP_STR && value.len == lens[i]);
        b.len = 0;
        CHECK_OK(vex_mp_put_ext(&b, 5, text, lens[i]));
        value = read_one(b.data, b.len);
        CHECK(value.kind == VEX_MP_EXT && value.len == lens[i] && value.ext_type == 5);
        CHECK(memcmp(value.bytes, text, lens[i]) == 0);
    }
    if (sizeof(size_t) > 4) {
        CHECK_STATUS(vex_mp_put_str(&b, text, (size_t)1 << 32), VEX_ERR_TOO_BIG);
        CHECK_STATUS(vex_mp_put_ext(&b, 1, text, (size_t)1 << 32), VEX_ERR_TOO_BIG);
    }
    vex_buf_clear(&b);
}

/* ---- random documents ---- */

static uint64_t random_number(void) {
    return test_random() >> test_random_below(64);
}

/* Append one random value; also what it is, flattened, to `expected`. */
static void put_random(vex_buf *b, vex_buf *expected, unsigned depth) {
    static const char text[] = "the quick brown fox jumps over the lazy dog, again and again";
    vex_mp_value v = {0};
    uint32_t kind = test_random_below(depth > 0 ? 8 : 6);
    switch (kind) {
    case 0:
        v.kind = VEX_MP_NIL;
        CHECK_OK(vex_mp_put_nil(b));
        break;
    case 1:
        v.kind = VEX_MP_BOOL;
        v.boolean = test_random_below(2) != 0;
        CHECK_OK(vex_mp_put_bool(b, v.boolean));
        break;
    case 2:
        v.kind = VEX_MP_INT;
        v.integer = (int64_t)(test_random_below(2) ? random_number() : ~random_number());
        CHECK_OK(vex_mp_put_int(b, v.integer));
        break;
    case 3:
        v.kind = VEX_MP_FLOAT;
        v.number = ldexp((double)test_random_float(), (int)test_random_below(600) - 300);
        CHECK_OK(vex_mp_put_double(b, v.number));
        break;
    case 4:
        v.kind = VEX_MP_STR;
        v.len = test_random_below(sizeof text);
        CHECK_OK(vex_mp_put_str(b, text, v.len));
        break;
    case 5:
        v.kind = VEX_MP_EXT;
        v.len = test_random_below(sizeof text);
        v.ext_type = (int8_t)test_random();
        CHECK_OK(vex_mp_put_ext(b, v.ext_type, text, v.len));
        break;
    default:
        v.kind = kind == 6 ? VEX_MP_ARRAY : VEX_MP_MAP;
        v.count = test_random_below(20);
        CHECK_OK(kind == 6 ? vex_mp_put_array(b, v.count) : vex_mp_put_map(b, v.count));
        break;
    }
    CHECK_OK(vex_buf_append(expected, &v, sizeof v));
    for (uint32_t i = 0; i < v.count * (v.kind == VEX_MP_MAP ? 2u : 1u); i++) {
        put_random(b, expected, depth - 1);
    }
}

static void check_same(const vex_mp_value *found, const vex_mp_value *expected) {
    CHECK_EQ(found->kind, expected->kind);
    CHECK_EQ(found->boolean, expected->boolean);
    CHECK_EQ(found->integer, expected->integer);
    CHECK_EQ(found->count, expected->count);
    CHECK_EQ(found->len, expected->len);
    CHECK_EQ(found->ext_type, expected->ext_type);
    CHECK(memcmp(&found->number, &expected->number, sizeof(double)) == 0);
}

TEST(msgpack_random_documents_round_trip) {
    vex_buf b = {0}, expected = {0};
    for (int round = 0; round < 300; round++) {
        b.len = expected.len = 0;
        put_random(&b, &expected, 3);
        vex_mp_reader r = vex_mp_reader_make(b.data, b.len);
        for (size_t at = 0; at < expected.len; at += sizeof(vex_mp_value)) {
            vex_mp_value wanted, found = vex_mp_next(&r);
            memcpy(&wanted, expected.data + at, sizeof wanted);
            check_same(&found, &wanted);
        }
        CHECK(vex_mp_at_end(&r));
        size_t len = 0;
        r = vex_mp_reader_make(b.data, b.len);
        CHECK(vex_mp_raw(&r, &len) == b.data && len == b.len);
    }
    vex_buf_clear(&b);
    vex_buf_clear(&expected);
}

static volatile uint8_t sink;

/* Read to the end or the first error; touches every payload byte. */
static void exhaust(const uint8_t *bytes, size_t len) {
    uint8_t *copy = vex_malloc(len); /* of the exact size, so that a read past it is noticed */
    memcpy(copy, bytes, len);
    vex_mp_reader r = vex_mp_reader_make(copy, len);
    while (!vex_mp_at_end(&r) && !vex_mp_bad(&r)) {
        vex_mp_value value = vex_mp_next(&r);
        for (size_t i = 0; i < value.len; i++) {
            sink = value.bytes[i];
        }
        CHECK(value.count <= len);
    }
    r = vex_mp_reader_make(copy, len);
    vex_mp_skip(&r);
    CHECK(r.in.pos <= len);
    vex_free(copy);
}

TEST(msgpack_damage_is_found_not_followed) {
    vex_buf b = {0}, expected = {0};
    for (int round = 0; round < 60; round++) {
        b.len = expected.len = 0;
        put_random(&b, &expected, 2);
        size_t whole = b.len;
        for (size_t len = 0; len < whole && len < 300; len++) {
            exhaust(b.data, len);
            vex_mp_reader r = vex_mp_reader_make(b.data, len);
            vex_mp_skip(&r);
            CHECK(vex_mp_bad(&r)); /* no proper prefix of a value is a value */
        }
        for (int i = 0; i < 200; i++) {
            b.data[test_random_below((uint32_t)whole)] = (uint8_t)test_random();
            exhaust(b.data, whole);
        }
    }
    vex_buf_clear(&b);
    vex_buf_clear(&expected);
}

/* ---- UTF-8 ---- */

/* By decoding, as RFC 3629 puts it. */
static bool valid_by_decoding(const uint8_t *p, size_t len) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < len;) {
        size_t n = p[i] < 0x80 ? 1 : p[i] >> 5 == 6 ? 2 : p[i] >> 4 == 14 ? 3 : 4;
        if ((n == 4 && p[i] >> 3 != 30) || i + n > len) {
            return false;
        }
        uint32_t code = n == 1 ? p[i] : p[i] & (0x7Fu >> n);
        for (size_t k = 1; k < n; k++) {
            if (p[i + k] >> 6 != 2) {
                return false;
            }
            code = code << 6 | (p[i + k] & 0x3Fu);
        }
        if (code < least[n] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
            return false;
        }
        i += n;
    }
    return true;
}

TEST(utf8_every_short_string) {
    uint8_t p[4];
    for (uint32_t v = 0; v < 1u << 24; v++) { /* all of three bytes, a fourth that may continue */
        p[0] = (uint8_t)(v >> 16);
        p[1] = (uint8_t)(v >> 8);
        p[2] = (uint8_t)v;
        p[3] = 0x80;
        if (p[0] >= 0x80) {
            CHECK_EQ(vex_utf8_valid(p, 3), valid_by_decoding(p, 3));
            CHECK_EQ(vex_utf8_valid(p, 4), valid_by_decoding(p, 4));
        }
    }
}

TEST(utf8_anywhere_in_long_text) {
    static const struct {
        const char *bytes;
        bool valid;
    } pieces[] = {
        {"\xC3\xA9", true},  {"\xE2\x82\xAC", true},      {"\xF0\x9F\x98\x80", true},
        {"\xC0\xAF", false}, {"\xED\xA0\x80", false},     {"\xF4\x90\x80\x80", false},
        {"\x80", false},     {"\xF0\x8F\xBF\xBF", false}, {"\xE2\x82", false},
        {"\xFF", false},
    };
    uint8_t text[64];
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t len = strlen(pieces[i].bytes);
        for (size_t at = 0; at + len <= 40; at++) {
            memset(text, 'a', sizeof text);
            memcpy(text + at, pieces[i].bytes, len);
            CHECK_EQ(vex_utf8_valid(text, 40), pieces[i].valid);
            CHECK(vex_utf8_valid(text, at));
        }
    }
    CHECK(vex_utf8_valid(text, 0));
    CHECK(vex_utf8_valid((const uint8_t *)"\0a", 2)); /* U+0000 is a character */
}
