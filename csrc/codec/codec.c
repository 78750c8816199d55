/*
 * codec.c - the registered compressor: publication, self-test, dictionaries, and the two calls
 * everything else uses.
 *
 * Publication.  A registration is filled in, tested, pushed on a list that is never shortened and
 * then published by one release store; readers take it with one acquire load per call.  It is
 * never changed or freed afterwards, so no reader needs a reference count.  The list only keeps
 * old ones reachable.
 *
 * Dictionaries.  A vex_codec_dict has one slot for its compression digest and one for its
 * decompression digest.  A slot goes from empty to filled once, by compare-and-swap (a thread
 * that loses the race frees its own copy), and remembers the registration and the level it was
 * made for; a call with another registration or level hands over the plain dictionary instead.
 */
#include "codec/codec.h"

#include "base/bytes.h"
#include "codec/provider.h"

#include <stdatomic.h>

#include "base/poison.h"

typedef struct codec {
    vex_codec_provider provider;
    const vex_codec_digests *digests;
    struct codec *previous;
    char name[64];
} codec;

typedef struct digest {
    const codec *owner;
    void *handle;
    int level; /* of a compression digest */
} digest;

struct vex_codec_dict {
    const void *bytes;
    size_t len;
    _Atomic(digest *) compression, decompression;
};

static _Atomic(codec *) registrations;
static _Atomic(const codec *) published;

static const codec *current_codec(void) {
    /* Acquire: the registration's fields were written before it was published. */
    return atomic_load_explicit(&published, memory_order_acquire);
}

bool vex_codec_ready(void) {
    return current_codec() != NULL;
}

const char *vex_codec_name(void) {
    const codec *c = current_codec();
    return c ? c->name : "store";
}

/* ---- dictionaries ---- */

vex_status vex_codec_dict_create(vex_codec_dict **out, const void *bytes, size_t len) {
    vex_codec_dict *dict = vex_calloc(1, sizeof *dict);
    if (dict == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory for a dictionary");
    }
    dict->bytes = bytes;
    dict->len = len;
    *out = dict;
    return VEX_OK;
}

static void digest_destroy(digest *d, bool compression) {
    if (d != NULL) {
        const vex_codec_digests *digests = d->owner->digests;
        (compression ? digests->free_cdict : digests->free_ddict)(d->owner->provider.context,
                                                                  d->handle);
        vex_free(d);
    }
}

void vex_codec_dict_destroy(vex_codec_dict *dict) {
    if (dict != NULL) {
        digest_destroy(atomic_load(&dict->compression), true);
        digest_destroy(atomic_load(&dict->decompression), false);
        vex_free(dict);
    }
}

static digest *digest_create(const codec *c, const vex_codec_dict *dict, bool compression,
                             int level) {
    void *context = c->provider.context;
    digest *d = vex_calloc(1, sizeof *d);
    if (d == NULL) {
        return NULL;
    }
    d->owner = c;
    d->level = level;
    d->handle = compression ? c->digests->create_cdict(context, dict->bytes, dict->len, level)
                            : c->digests->create_ddict(context, dict->bytes, dict->len);
    if (d->handle == NULL) {
        vex_free(d);
        return NULL;
    }
    return d;
}

/* The digest of `dict` for this codec (and level), or NULL: use the plain dictionary. */
static const void *digest_get(const codec *c, vex_codec_dict *dict, bool compression, int level) {
    if (c->digests == NULL) {
        return NULL;
    }
    _Atomic(digest *) *slot = compression ? &dict->compression : &dict->decompression;
    digest *d = atomic_load_explicit(slot, memory_order_acquire);
    if (d == NULL) {
        digest *made = digest_create(c, dict, compression, level);
        if (made == NULL) {
            return NULL;
        }
        /* Release: the digest is complete before others can see it. */
        if (atomic_compare_exchange_strong_explicit(slot, &d, made, memory_order_acq_rel,
                                                    memory_order_acquire)) {
            d = made;
        } else {
            digest_destroy(made, compression);
        }
    }
    return d->owner == c && (!compression || d->level == level) ? d->handle : NULL;
}

#define DICTIONARY_MAGIC 0xEC30A437u

vex_status vex_codec_train(vex_buf *dict, size_t dict_max, const void *samples,
                           const size_t *sample_lens, uint32_t n_samples) {
    const codec *c = current_codec();
    vex_buf_clear(dict);
    if (c == NULL || c->provider.train == NULL || n_samples == 0) {
        return VEX_OK;
    }
    VEX_TRY(vex_buf_reserve(dict, dict_max));
    size_t len = c->provider.train(c->provider.context, dict->data, dict_max, samples, sample_lens,
                                   n_samples);
    if (len < 8 || len > dict_max) {
        vex_buf_clear(dict);
        return VEX_OK;
    }
    if (vex_get32(dict->data) == DICTIONARY_MAGIC) {
        /* Every frame repeats the dictionary's id: 1 takes one byte there, the trainer's hash
         * four.  The column knows its dictionary without it. */
        vex_put32(dict->data + 4, 1);
    }
    dict->len = len;
    return VEX_OK;
}

/* ---- frames ---- */

/* The smallest capacity that makes compression certain to succeed (ZSTD_COMPRESSBOUND). */
static size_t bound_of(const codec *c, size_t raw_len) {
    if (c->provider.bound != NULL) {
        return c->provider.bound(c->provider.context, raw_len);
    }
    size_t margin = raw_len < ((size_t)128 << 10) ? (((size_t)128 << 10) - raw_len) >> 11 : 0;
    return raw_len + (raw_len >> 8) + margin;
}

static size_t compress_frame(const codec *c, void *dst, size_t dst_len, const void *raw,
                             size_t raw_len, vex_codec_dict *dict, int level) {
    const vex_codec_provider *p = &c->provider;
    if (dict == NULL) {
        return p->compress(p->context, dst, dst_len, raw, raw_len, NULL, 0, level);
    }
    const void *digested = digest_get(c, dict, true, level);
    if (digested != NULL) {
        return c->digests->compress(p->context, dst, dst_len, raw, raw_len, digested);
    }
    return p->compress(p->context, dst, dst_len, raw, raw_len, dict->bytes, dict->len, level);
}

static size_t decompress_frame(const codec *c, void *dst, size_t dst_len, const void *stored,
                               size_t stored_len, vex_codec_dict *dict) {
    const vex_codec_provider *p = &c->provider;
    if (dict == NULL) {
        return p->decompress(p->context, dst, dst_len, stored, stored_len, NULL, 0);
    }
    const void *digested = digest_get(c, dict, false, 0);
    if (digested != NULL) {
        return c->digests->decompress(p->context, dst, dst_len, stored, stored_len, digested);
    }
    return p->decompress(p->context, dst, dst_len, stored, stored_len, dict->bytes, dict->len);
}

vex_status vex_codec_compress(vex_buf *out, const void *raw, size_t raw_len, vex_codec_dict *dict,
                              int level, vex_codec_id *id) {
    const codec *c = current_codec();
    if (c != NULL && raw_len > 0) {
        size_t bound = bound_of(c, raw_len);
        VEX_TRY(vex_buf_reserve(out, bound));
        size_t len = compress_frame(c, out->data + out->len, bound, raw, raw_len, dict, level);
        if (len <= raw_len - (raw_len + 9) / 10) {
            out->len += len;
            *id = VEX_CODEC_ZSTD;
            return VEX_OK;
        }
    }
    VEX_TRY(vex_buf_append(out, raw, raw_len));
    *id = VEX_CODEC_STORE;
    return VEX_OK;
}

vex_status vex_codec_decompress(vex_codec_id id, void *dst, size_t raw_len, const void *stored,
                                size_t stored_len, vex_codec_dict *dict) {
    if (id == VEX_CODEC_STORE) {
        if (stored_len != raw_len) {
            return VEX_FAIL(VEX_ERR_CORRUPT, "raw bytes: %zu stored, %zu expected", stored_len,
                            raw_len);
        }
        if (raw_len > 0) {
            memcpy(dst, stored, raw_len);
        }
        return VEX_OK;
    }
    if (id != VEX_CODEC_ZSTD) {
        return VEX_FAIL(VEX_ERR_CORRUPT, "unknown codec %d", (int)id);
    }
    const codec *c = current_codec();
    if (c == NULL) {
        return VEX_FAIL(VEX_ERR_CODEC, "the data is zstd-compressed and no codec is registered; "
                                       "install zstandard and unset VEXFS_CODEC=store, or call "
                                       "vex_set_codec");
    }
    size_t len = decompress_frame(c, dst, raw_len, stored, stored_len, dict);
    if (len == VEX_CODEC_NO_MEMORY) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory for a zstd context");
    }
    if (len != raw_len) {
        return VEX_FAIL(VEX_ERR_CORRUPT, "%zu bytes of zstd do not decompress to %zu", stored_len,
                        raw_len);
    }
    return VEX_OK;
}

/* ---- registration ---- */

/* Frames made by libzstd 1.5.7 of TEST_TEXT: files of other providers must be readable. */
#define TEST_TEXT                                                                                  \
    "One text, one frame, one text, one frame: a provider must read what another one wrote.\n"
#define TEST_DICT                                                                                  \
    "One text, one frame, one provider: a dictionary must help to read what another one wrote."

static const uint8_t TEST_FRAME[] = {
    0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x57, 0xed, 0x01, 0x00, 0x52, 0x44, 0x0d, 0x10, 0xa0,
    0xed, 0x90, 0x4b, 0x12, 0x55, 0xc4, 0xa2, 0x94, 0xde, 0xd7, 0xc7, 0xc6, 0x7e, 0xd7,
    0x47, 0x40, 0x7c, 0x53, 0xa1, 0xbf, 0xd2, 0x7a, 0xb4, 0xb9, 0x8a, 0xb7, 0x20, 0x68,
    0x53, 0xae, 0xde, 0xe6, 0x94, 0xf5, 0x26, 0xbd, 0x54, 0xe6, 0xe2, 0x91, 0x0e, 0x57,
    0x45, 0x8f, 0xbf, 0xd2, 0x61, 0xe3, 0xd7, 0x5f, 0x24, 0x01, 0x00, 0xd0, 0x9b, 0x4d,
};
static const uint8_t TEST_FRAME_WITH_DICT[] = {
    0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x57, 0xad, 0x00, 0x00, 0x28, 0x4f, 0x3a, 0x20, 0x61, 0x0a,
    0x05, 0x00, 0x59, 0x5c, 0x08, 0x43, 0x80, 0x37, 0x14, 0x83, 0xe3, 0x01, 0xf7, 0xe1, 0x2b,
};

#define TEST_BYTES 4096u

/* Read a known frame, then a round trip of our own: what went wrong, or NULL. */
static const char *test_frames(const codec *c, vex_codec_dict *dict, const uint8_t *raw,
                               uint8_t *work, size_t work_len) {
    const uint8_t *frame = dict ? TEST_FRAME_WITH_DICT : TEST_FRAME;
    size_t frame_len = dict ? sizeof TEST_FRAME_WITH_DICT : sizeof TEST_FRAME;
    size_t text_len = sizeof TEST_TEXT - 1;
    if (decompress_frame(c, work, text_len, frame, frame_len, dict) != text_len ||
        memcmp(work, TEST_TEXT, text_len) != 0) {
        return "it does not read a frame of libzstd";
    }
    if (decompress_frame(c, work, text_len, frame, frame_len - 3, dict) <= text_len) {
        return "it accepts a truncated frame";
    }
    if (decompress_frame(c, work, text_len - 1, frame, frame_len, dict) <= text_len) {
        return "it accepts a frame longer than its output";
    }
    size_t len = compress_frame(c, work, work_len - TEST_BYTES, raw, TEST_BYTES, dict, 3);
    if (len > work_len - TEST_BYTES) {
        return "it does not compress";
    }
    uint8_t *back = work + work_len - TEST_BYTES;
    if (decompress_frame(c, back, TEST_BYTES, work, len, dict) != TEST_BYTES ||
        memcmp(back, raw, TEST_BYTES) != 0) {
        return "a round trip gives other bytes";
    }
    return NULL;
}

static vex_status self_test(const codec *c) {
    size_t bound = bound_of(c, TEST_BYTES);
    if (bound < TEST_BYTES || bound > 4 * TEST_BYTES) {
        return VEX_FAIL(VEX_ERR_CODEC, "codec '%s' failed its self-test: its bound is wrong",
                        c->name);
    }
    vex_codec_dict *dict = NULL;
    VEX_TRY(vex_codec_dict_create(&dict, TEST_DICT, sizeof TEST_DICT - 1));
    vex_status status = VEX_OK;
    size_t work_len = bound + TEST_BYTES;
    uint8_t *work = vex_malloc(work_len + TEST_BYTES);
    if (work == NULL) {
        status = VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory for the codec's self-test");
        goto done;
    }
    uint8_t *raw = work + work_len; /* text with some noise in it */
    for (uint32_t i = 0, noise = 1; i < TEST_BYTES; i++) {
        noise = noise * 1664525u + 1013904223u;
        raw[i] =
            noise >> 29 ? (uint8_t)TEST_TEXT[i % (sizeof TEST_TEXT - 1)] : (uint8_t)(noise >> 16);
    }
    const char *problem = test_frames(c, NULL, raw, work, work_len);
    if (problem == NULL) {
        problem = test_frames(c, dict, raw, work, work_len);
    }
    if (problem != NULL) {
        status = VEX_FAIL(VEX_ERR_CODEC, "codec '%s' failed its self-test: %s", c->name, problem);
    }
done:
    vex_codec_dict_destroy(dict);
    vex_free(work);
    return status;
}

vex_status vex_codec_register(const vex_codec_provider *provider,
                              const vex_codec_digests *digests) {
    if (provider->name == NULL || provider->compress == NULL || provider->decompress == NULL) {
        return VEX_FAIL(VEX_ERR_INVALID, "a codec needs a name, compress and decompress");
    }
    if (provider->version < 10400) {
        return VEX_FAIL(VEX_ERR_CODEC, "codec '%.40s' is libzstd %u; 10400 or later is needed",
                        provider->name, provider->version);
    }
    codec *c = vex_calloc(1, sizeof *c);
    if (c == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory for a codec");
    }
    c->provider = *provider;
    c->digests = digests;
    snprintf(c->name, sizeof c->name, "%s", provider->name);
    c->provider.name = c->name;
    vex_status status = self_test(c);
    if (status != VEX_OK) {
        vex_free(c);
        return status;
    }
    c->previous = atomic_load(&registrations);
    while (!atomic_compare_exchange_weak(&registrations, &c->previous, c)) {
    }
    atomic_store_explicit(&published, c, memory_order_release);
    return VEX_OK;
}

vex_status vex_set_codec(const vex_codec_provider *provider) {
    if (provider == NULL) {
        atomic_store_explicit(&published, NULL, memory_order_release);
        return VEX_OK;
    }
    return vex_codec_register(provider, NULL);
}
