/*
 * t_base.c - status and errors, bitmaps, byte access, hash, CPU features.
 */
#include "base/bits.h"
#include "base/bytes.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/status.h"
#include "tests/harness.h"

#include <pthread.h>

/* Every code of the header by its own name, and nothing else between them. */
TEST(status_names) {
    static const vex_status codes[] = {
        VEX_ERR_INVALID,   VEX_ERR_DIMENSION,  VEX_ERR_NOT_FINITE, VEX_ERR_EXISTS,
        VEX_ERR_NOT_FOUND, VEX_ERR_TOO_BIG,    VEX_ERR_CLOSED,     VEX_ERR_BUSY,
        VEX_ERR_READ_ONLY, VEX_ERR_POISONED,   VEX_ERR_FORKED,     VEX_ERR_IO,
        VEX_ERR_NO_SPACE,  VEX_ERR_PERMISSION, VEX_ERR_CORRUPT,    VEX_ERR_VERSION,
        VEX_ERR_FOREIGN,   VEX_ERR_NO_MEMORY,  VEX_ERR_CODEC,      VEX_ERR_REGEX,
    };
    size_t known = 0, n_codes = sizeof codes / sizeof *codes;
    for (vex_status code = -1; code > -1000; code--) {
        known += strcmp(vex_status_name(code), "VEX_ERR_?") != 0;
    }
    CHECK_EQ(known, n_codes);
    for (size_t i = 0; i < n_codes; i++) {
        CHECK(strncmp(vex_status_name(codes[i]), "VEX_ERR_", 8) == 0);
        for (size_t k = 0; k < i; k++) {
            CHECK(strcmp(vex_status_name(codes[i]), vex_status_name(codes[k])) != 0);
        }
    }
    CHECK(strcmp(vex_status_name(VEX_OK), "VEX_OK") == 0);
    CHECK(strcmp(vex_status_name(VEX_ERR_CORRUPT), "VEX_ERR_CORRUPT") == 0);
    CHECK(strcmp(vex_status_name(VEX_ERR_REGEX), "VEX_ERR_REGEX") == 0);
    CHECK(strcmp(vex_status_name(7), "VEX_ERR_?") == 0);
}

TEST(base_bits_any) {
    uint64_t words[4];
    for (int round = 0; round < 2000; round++) {
        memset(words, 0, sizeof words);
        size_t bit = test_random_below(256), from = test_random_below(257),
               end = test_random_below(257);
        vex_bit_set(words, bit);
        CHECK_EQ(vex_bits_any(words, from, end), from <= bit && bit < end);
    }
}

TEST(status_fail_fills_the_error) {
    CHECK_EQ(vex_fail_at(VEX_ERR_CORRUPT, "/a/b", 4096, 5, "row %d", 7), VEX_ERR_CORRUPT);
    const vex_error *error = vex_last_error();
    CHECK_EQ(error->code, VEX_ERR_CORRUPT);
    CHECK_EQ(error->offset, 4096);
    CHECK_EQ(error->sys_errno, 5);
    CHECK(strcmp(error->path, "/a/b") == 0);
    CHECK(strcmp(error->message, "row 7") == 0);

    CHECK_EQ(vex_fail_context(VEX_ERR_IO, "opening %s", "x"), VEX_ERR_IO);
    CHECK_EQ(error->code, VEX_ERR_IO);
    CHECK(strcmp(error->message, "opening x: row 7") == 0);
    CHECK(strcmp(error->path, "/a/b") == 0);

    /* a plain failure leaves nothing of the one before, even built from its message */
    vex_fail(VEX_ERR_BUSY, "again: %s", error->message);
    CHECK(strcmp(error->message, "again: opening x: row 7") == 0);
    CHECK_EQ(error->path[0], 0);
    CHECK_EQ(error->sys_errno, 0);
    CHECK_EQ(error->offset, 0);
}

TEST(status_long_texts_are_cut_between_characters) {
    char text[2000];
    for (size_t lead = 0; lead < 4; lead++) {
        memset(text, 'x', lead);
        for (size_t i = lead; i + 3 < sizeof text; i += 3) {
            memcpy(text + i, "\xE2\x82\xAC", 4); /* a three-byte character and the final zero */
        }
        vex_fail_at(VEX_ERR_IO, text, 0, 0, "%s", text);
        const vex_error *error = vex_last_error();
        size_t len = strlen(error->message);
        CHECK(len >= sizeof error->message - 3 && len < sizeof error->message);
        CHECK_EQ((len - lead) % 3, 0);
        CHECK_EQ((strlen(error->path) - lead) % 3, 0);
        vex_fail_context(VEX_ERR_IO, "%s", text);
        CHECK_EQ((strlen(error->message) - lead) % 3, 0);
    }
}

static void *fail_elsewhere(void *unused) {
    (void)unused;
    vex_fail(VEX_ERR_BUSY, "other thread");
    return NULL;
}

TEST(status_error_is_per_thread) {
    vex_fail(VEX_ERR_IO, "this thread");
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    pthread_join(thread, NULL);
    CHECK(strcmp(vex_last_error()->message, "this thread") == 0);
}

TEST(bits_agree_with_a_byte_array) {
    uint64_t words[5];
    for (size_t n = 0; n <= 300; n += 1 + test_random_below(20)) {
        memset(words, 0xFF, sizeof words);
        vex_bits_fill(words, n);
        CHECK_EQ(vex_bits_count(words, vex_bit_words(n)), n);
        for (int i = 0; i < 200 && n > 0; i++) {
            size_t at = test_random_below((uint32_t)n);
            vex_bit_clear(words, at);
            CHECK(!vex_bit_get(words, at));
            vex_bit_set(words, at);
            CHECK(vex_bit_get(words, at));
        }
        CHECK_EQ(vex_bits_count(words, vex_bit_words(n)), n);
    }
}

TEST(bytes_are_little_endian) {
    uint8_t raw[8];
    vex_put64(raw, 0x0102030405060708ULL);
    CHECK(memcmp(raw, "\x08\x07\x06\x05\x04\x03\x02\x01", 8) == 0);
    CHECK_EQ(vex_get64(raw), 0x0102030405060708LL);
    CHECK_EQ(vex_get32(raw + 1), 0x04050607);
    CHECK_EQ(vex_get16(raw + 6), 0x0102);
    vex_put16(raw, 0xBEEF);
    vex_put32(raw + 2, 0xDEADBEEF);
    CHECK(memcmp(raw, "\xEF\xBE\xEF\xBE\xAD\xDE\x02\x01", 8) == 0);
    CHECK_EQ(vex_align_up(0, 64), 0);
    CHECK_EQ(vex_align_up(1, 64), 64);
    CHECK_EQ(vex_align_up(64, 64), 64);
}

TEST(cursor_stops_at_the_end_for_good) {
    vex_cursor c = vex_cursor_make("\1\2\0\3\0\0\0", 7);
    CHECK_EQ(vex_cursor_u8(&c), 1);
    CHECK_EQ(vex_cursor_u16(&c), 2);
    CHECK_EQ(vex_cursor_u32(&c), 3);
    CHECK(!c.bad);
    CHECK(vex_cursor_take(&c, 0) != NULL && !c.bad);
    CHECK_EQ(vex_cursor_u8(&c), 0);
    CHECK(c.bad);
    CHECK(vex_cursor_take(&c, 0) == NULL);

    c = vex_cursor_make("\1", 1);
    CHECK(vex_cursor_take(&c, SIZE_MAX) == NULL && c.bad);
    CHECK_EQ(vex_cursor_u8(&c), 0); /* bad stays bad, though a byte is left */
}

TEST(hash_is_fixed_by_the_format) {
    CHECK_EQ(vex_hash64("", 0), vex_mix64(0xcbf29ce484222325ULL));
    CHECK_EQ(vex_hash64("a", 1), vex_mix64(0xaf63dc4c8601ec8cULL)); /* FNV-1a test vectors */
    CHECK_EQ(vex_hash64("foobar", 6), vex_mix64(0x85944171f73967e8ULL));
    CHECK_EQ(vex_mix64(0), 0);
    CHECK_EQ(vex_mix64(1), (long long)0xb456bcfc34c2cb2cULL); /* fmix64 of MurmurHash3 */
}

TEST(cpu_levels_imply_one_another) {
    const vex_cpu_features *cpu = vex_cpu();
    CHECK(cpu == vex_cpu());
    CHECK(!cpu->avx512 || cpu->avx2_fma);
    CHECK(!cpu->avx512_vnni || cpu->avx512);
    CHECK(!cpu->avx2_fma || cpu->sse42);
#if defined(__aarch64__)
    CHECK(cpu->neon && !cpu->sse42);
#else
    CHECK(!cpu->neon && !cpu->arm_crc32);
#endif
}
