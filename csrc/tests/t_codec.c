/*
 * t_codec.c - registration, self-test, frames and dictionaries of the codec layer.
 */
#include "codec/codec.h"

#include "base/bytes.h"
#include "tests/harness.h"
#include "tests/zstd_provider.h"

#include <pthread.h>
#include <stdatomic.h>

/* Text that compresses: words drawn from a small list. */
static void fill_text(uint8_t *out, size_t len) {
    static const char *const words[] = {"segment ", "block ", "of ", "the ",     "dictionary ",
                                        "vector ",  "zstd ",  "a ",  "column\n", "value, "};
    for (size_t i = 0; i < len;) {
        const char *word = words[test_random_below(10)];
        for (; *word && i < len; word++) {
            out[i++] = (uint8_t)*word;
        }
    }
}

static void use_plain(void) {
    vex_codec_provider provider = test_zstd_provider();
    CHECK_OK(vex_set_codec(&provider));
}

TEST(codec_store) {
    CHECK_OK(vex_set_codec(NULL));
    CHECK(!vex_codec_ready());
    CHECK(strcmp(vex_codec_name(), "store") == 0);
    uint8_t raw[1000], back[1000];
    fill_text(raw, sizeof raw);
    vex_buf out = {0};
    vex_codec_id id;
    CHECK_OK(vex_codec_compress(&out, raw, sizeof raw, NULL, 3, &id));
    CHECK_EQ(id, VEX_CODEC_STORE);
    CHECK_EQ(out.len, sizeof raw);
    CHECK_OK(vex_codec_decompress(id, back, sizeof back, out.data, out.len, NULL));
    CHECK(memcmp(raw, back, sizeof raw) == 0);
    CHECK_STATUS(vex_codec_decompress(id, back, 999, out.data, out.len, NULL), VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_codec_decompress(VEX_CODEC_ZSTD, back, 999, out.data, out.len, NULL),
                 VEX_ERR_CODEC);
    CHECK(strstr(vex_last_error()->message, "vex_set_codec") != NULL);
    CHECK_STATUS(vex_codec_decompress((vex_codec_id)2, back, 999, out.data, out.len, NULL),
                 VEX_ERR_CORRUPT);
    vex_buf dict = {0};
    size_t len = sizeof raw;
    CHECK_OK(vex_codec_train(&dict, 1024, raw, &len, 1));
    CHECK_EQ(dict.len, 0);
    vex_buf_clear(&out);
}

TEST(codec_frames) {
    CHECK_OK(test_register_zstd());
    CHECK(vex_codec_ready());
    CHECK(strcmp(vex_codec_name(), "libzstd") == 0);
    static const size_t sizes[] = {0, 1, 2, 15, 100, 4096, 65536, 1 << 20};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t len = sizes[s];
        uint8_t *raw = vex_malloc(len + 1), *back = vex_malloc(len + 1);
        for (int noise = 0; noise < 2; noise++) {
            fill_text(raw, len);
            for (size_t i = 0; noise && i < len; i++) {
                raw[i] = (uint8_t)test_random();
            }
            vex_buf out = {0};
            vex_codec_id id;
            CHECK_OK(vex_buf_append(&out, "kept", 4));
            CHECK_OK(vex_codec_compress(&out, raw, len, NULL, 3, &id));
            CHECK(memcmp(out.data, "kept", 4) == 0);
            CHECK_EQ(id, !noise && len >= 100 ? VEX_CODEC_ZSTD : VEX_CODEC_STORE);
            CHECK(id == VEX_CODEC_STORE ? out.len == 4 + len : (out.len - 4) * 10 <= len * 9);
            memset(back, 0xEE, len + 1);
            CHECK_OK(vex_codec_decompress(id, back, len, out.data + 4, out.len - 4, NULL));
            CHECK(memcmp(raw, back, len) == 0);
            CHECK_EQ(back[len], 0xEE);
            vex_buf_clear(&out);
        }
        vex_free(raw);
        vex_free(back);
    }
}

TEST(codec_damaged_frames) {
    enum { N = 2000 };
    CHECK_OK(test_register_zstd());
    uint8_t raw[N], back[N + 1];
    fill_text(raw, N);
    vex_buf out = {0};
    vex_codec_id id;
    CHECK_OK(vex_codec_compress(&out, raw, N, NULL, 3, &id));
    CHECK_EQ(id, VEX_CODEC_ZSTD);
    CHECK_STATUS(vex_codec_decompress(id, back, N - 1, out.data, out.len, NULL), VEX_ERR_CORRUPT);
    CHECK_STATUS(vex_codec_decompress(id, back, N + 1, out.data, out.len, NULL), VEX_ERR_CORRUPT);
    for (size_t len = 0; len < out.len; len++) {
        CHECK_STATUS(vex_codec_decompress(id, back, N, out.data, len, NULL), VEX_ERR_CORRUPT);
    }
    for (size_t bit = 0; bit < out.len * 8; bit++) { /* no checksum here: only memory safety */
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        back[N] = 0xEE;
        (void)vex_codec_decompress(id, back, N, out.data, out.len, NULL);
        CHECK_EQ(back[N], 0xEE);
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    vex_buf_clear(&out);
}

#define N_SAMPLES 300u
#define SAMPLE_BYTES 500u

static void make_dictionary(vex_buf *bytes) {
    static uint8_t samples[N_SAMPLES * SAMPLE_BYTES];
    static size_t lens[N_SAMPLES];
    fill_text(samples, sizeof samples);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        lens[i] = SAMPLE_BYTES;
    }
    CHECK_OK(vex_codec_train(bytes, 4096, samples, lens, N_SAMPLES));
    CHECK(bytes->len > 256 && bytes->len <= 4096);
    CHECK_EQ(vex_get32(bytes->data + 4), 1); /* short id in each frame */
}

/* Write with one provider, read with the other, with and without a dictionary. */
TEST(codec_interchange) {
    for (int direction = 0; direction < 2; direction++) {
        CHECK_OK(test_register_zstd());
        vex_buf bytes = {0}, out = {0}, out_dict = {0};
        make_dictionary(&bytes);
        vex_codec_dict *dict;
        CHECK_OK(vex_codec_dict_create(&dict, bytes.data, bytes.len));
        uint8_t raw[700], back[700];
        fill_text(raw, sizeof raw);
        vex_codec_id id, id_dict;
        if (direction) {
            use_plain();
        }
        CHECK_OK(vex_codec_compress(&out, raw, sizeof raw, NULL, 3, &id));
        CHECK_OK(vex_codec_compress(&out_dict, raw, sizeof raw, dict, 3, &id_dict));
        CHECK_EQ(id, VEX_CODEC_ZSTD);
        CHECK_EQ(id_dict, VEX_CODEC_ZSTD);
        CHECK(out_dict.len < out.len);
        for (int reader = 0; reader < 2; reader++) {
            if (reader) {
                CHECK_OK(test_register_zstd());
            } else {
                use_plain();
            }
            CHECK_OK(vex_codec_decompress(id, back, sizeof back, out.data, out.len, NULL));
            CHECK(memcmp(raw, back, sizeof raw) == 0);
            memset(back, 0, sizeof back);
            CHECK_OK(
                vex_codec_decompress(id, back, sizeof back, out_dict.data, out_dict.len, dict));
            CHECK(memcmp(raw, back, sizeof raw) == 0);
            CHECK_STATUS(
                vex_codec_decompress(id, back, sizeof back, out_dict.data, out_dict.len, NULL),
                VEX_ERR_CORRUPT);
        }
        /* A digest of another level is not used, and still gives a good frame. */
        out_dict.len = 0;
        CHECK_OK(vex_codec_compress(&out_dict, raw, sizeof raw, dict, 9, &id_dict));
        CHECK_OK(
            vex_codec_decompress(id_dict, back, sizeof back, out_dict.data, out_dict.len, dict));
        vex_codec_dict_destroy(dict);
        vex_buf_clear(&bytes);
        vex_buf_clear(&out);
        vex_buf_clear(&out_dict);
    }
}

TEST(codec_untrainable) {
    CHECK_OK(test_register_zstd());
    vex_buf dict = {0};
    size_t lens[2] = {3, 2};
    CHECK_OK(vex_codec_train(&dict, 4096, "abcde", lens, 2));
    CHECK_EQ(dict.len, 0);
    CHECK_OK(vex_codec_train(&dict, 4096, NULL, NULL, 0));
    CHECK_EQ(dict.len, 0);
    vex_codec_dict_destroy(NULL);
}

/* ---- providers that must be refused ---- */

static size_t identity(void *context, void *dst, size_t dst_len, const void *src, size_t src_len,
                       const void *dict, size_t dict_len, int level) {
    (void)context, (void)dict, (void)dict_len, (void)level;
    if (src_len > dst_len) {
        return SIZE_MAX;
    }
    memcpy(dst, src, src_len);
    return src_len;
}

static size_t believer(void *context, void *dst, size_t dst_len, const void *src, size_t src_len,
                       const void *dict, size_t dict_len) {
    (void)context, (void)src, (void)src_len, (void)dict, (void)dict_len;
    memset(dst, 'x', dst_len);
    return dst_len;
}

static size_t failing(void *context, void *dst, size_t dst_len, const void *src, size_t src_len,
                      const void *dict, size_t dict_len, int level) {
    (void)context, (void)dst, (void)dst_len, (void)src, (void)src_len, (void)dict;
    (void)dict_len, (void)level;
    return SIZE_MAX;
}

static size_t zero_bound(void *context, size_t raw_len) {
    (void)context, (void)raw_len;
    return 0;
}

TEST(codec_refuses_bad_providers) {
    CHECK_OK(test_register_zstd());
    vex_codec_provider good = test_zstd_provider(), bad = good;
    bad.version = 10399;
    CHECK_STATUS(vex_set_codec(&bad), VEX_ERR_CODEC);
    bad = good, bad.name = NULL;
    CHECK_STATUS(vex_set_codec(&bad), VEX_ERR_INVALID);
    bad = good, bad.compress = NULL;
    CHECK_STATUS(vex_set_codec(&bad), VEX_ERR_INVALID);
    bad = good, bad.decompress = NULL;
    CHECK_STATUS(vex_set_codec(&bad), VEX_ERR_INVALID);
    bad = good, bad.compress = failing;
    CHECK_STATUS(vex_set_codec(&bad), VEX_ERR_CODEC);
    bad = good, bad.compress = identity; /* not a zstd frame */
    CHECK_STATUS(vex_set_codec(&bad), VEX_ERR_CODEC);
    bad = good, bad.decompress = believer;
    CHECK_STATUS(vex_set_codec(&bad), VEX_ERR_CODEC);
    bad = good, bad.bound = zero_bound;
    CHECK_STATUS(vex_set_codec(&bad), VEX_ERR_CODEC);
    CHECK(strstr(vex_last_error()->message, "self-test") != NULL);

    vex_zstd_symbols symbols = test_zstd_symbols();
    CHECK_STATUS(vex_set_codec_native(NULL, "x"), VEX_ERR_INVALID);
    CHECK_STATUS(vex_set_codec_native(&symbols, NULL), VEX_ERR_INVALID);
    symbols.create_ddict = NULL;
    CHECK_STATUS(vex_set_codec_native(&symbols, "x"), VEX_ERR_INVALID);
    symbols = test_zstd_symbols();
    symbols.version = 9999;
    CHECK_STATUS(vex_set_codec_native(&symbols, "x"), VEX_ERR_CODEC);
    CHECK(strcmp(vex_codec_name(), "libzstd") == 0); /* the good one stayed */

    symbols = test_zstd_symbols();
    symbols.train_from_buffer = symbols.train_is_error = NULL;
    CHECK_OK(vex_set_codec_native(&symbols, "untrained"));
    vex_buf dict = {0};
    size_t len = 4;
    CHECK_OK(vex_codec_train(&dict, 4096, "abcd", &len, 1));
    CHECK_EQ(dict.len, 0);
}

/* A provider that breaks later on. */
static _Atomic bool broken;
static vex_codec_provider inner;

static size_t breaking_compress(void *context, void *dst, size_t dst_len, const void *src,
                                size_t src_len, const void *dict, size_t dict_len, int level) {
    return broken ? SIZE_MAX
                  : inner.compress(context, dst, dst_len, src, src_len, dict, dict_len, level);
}

TEST(codec_failed_compressor_stores) {
    inner = test_zstd_provider();
    vex_codec_provider provider = inner;
    provider.compress = breaking_compress;
    broken = false;
    CHECK_OK(vex_set_codec(&provider));
    uint8_t raw[1000];
    fill_text(raw, sizeof raw);
    vex_buf out = {0};
    vex_codec_id id;
    CHECK_OK(vex_codec_compress(&out, raw, sizeof raw, NULL, 3, &id));
    CHECK_EQ(id, VEX_CODEC_ZSTD);
    broken = true;
    out.len = 0;
    CHECK_OK(vex_codec_compress(&out, raw, sizeof raw, NULL, 3, &id));
    CHECK_EQ(id, VEX_CODEC_STORE);
    CHECK(out.len == sizeof raw && memcmp(out.data, raw, sizeof raw) == 0);
    vex_buf_clear(&out);
}

/* ---- threads ---- */

#define WORKERS 4
#define ROUNDS 300

static vex_codec_dict *shared_dict;
static uint8_t shared_text[WORKERS][3000];
static _Atomic int n_wrong;

static void *work(void *argument) {
    uint8_t *text = argument;
    static _Thread_local uint8_t back[3000];
    for (int round = 0; round < ROUNDS; round++) {
        vex_buf out = {0};
        vex_codec_id id;
        vex_codec_dict *dict = round % 3 ? shared_dict : NULL;
        if (vex_codec_compress(&out, text, 3000, dict, 3 + round % 2, &id) != VEX_OK ||
            vex_codec_decompress(id, back, 3000, out.data, out.len, dict) != VEX_OK ||
            memcmp(text, back, 3000) != 0) {
            n_wrong++;
        }
        vex_buf_clear(&out);
    }
    return NULL;
}

/* One dictionary used by all threads from its first, undigested moment, while the process changes
 * its codec. */
TEST(codec_threads) {
    CHECK_OK(test_register_zstd());
    vex_buf bytes = {0};
    make_dictionary(&bytes);
    CHECK_OK(vex_codec_dict_create(&shared_dict, bytes.data, bytes.len));
    pthread_t threads[WORKERS];
    n_wrong = 0;
    for (size_t t = 0; t < WORKERS; t++) {
        fill_text(shared_text[t], 3000);
        CHECK_EQ(pthread_create(&threads[t], NULL, work, shared_text[t]), 0);
    }
    for (int i = 0; i < 20; i++) {
        use_plain();
        CHECK_OK(test_register_zstd());
    }
    for (size_t t = 0; t < WORKERS; t++) {
        pthread_join(threads[t], NULL);
    }
    CHECK_EQ(n_wrong, 0);
    vex_codec_dict_destroy(shared_dict);
    vex_buf_clear(&bytes);
}

#ifdef VEX_TESTING
TEST(codec_register_without_memory) {
    CHECK_OK(vex_set_codec(NULL));
    vex_status status = VEX_ERR_NO_MEMORY;
    for (uint64_t n = 1; status != VEX_OK && n < 100; n++) {
        vex_mem_fail_at(n, false);
        status = test_register_zstd();
        vex_mem_fail_at(0, false);
        /* The self-test sees a codec that cannot get its context, or the codec was registered
         * although a digest could not be kept. */
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY || status == VEX_ERR_CODEC);
        CHECK_EQ(vex_codec_ready(), status == VEX_OK);
    }
    CHECK_OK(status);
}
#endif
