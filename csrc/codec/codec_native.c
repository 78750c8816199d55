/*
 * codec_native.c - a codec made of libzstd addresses found in the process, called without any
 * lock or interpreter.
 *
 * A libzstd context serves one thread at a time, so every thread owns one compression and one
 * decompression context per registration.  They hang from one process-wide pthread key, are made
 * on first use and freed when the thread ends.
 */
#include "codec/provider.h"

#include "base/poison.h"

typedef struct native {
    void *(*create_cctx)(void);
    size_t (*free_cctx)(void *cctx);
    size_t (*compress_using_dict)(void *cctx, void *dst, size_t dst_len, const void *src,
                                  size_t src_len, const void *dict, size_t dict_len, int level);
    void *(*create_dctx)(void);
    size_t (*free_dctx)(void *dctx);
    size_t (*decompress_using_dict)(void *dctx, void *dst, size_t dst_len, const void *src,
                                    size_t src_len, const void *dict, size_t dict_len);
    void *(*create_cdict)(const void *dict, size_t dict_len, int level);
    size_t (*free_cdict)(void *cdict);
    size_t (*compress_using_cdict)(void *cctx, void *dst, size_t dst_len, const void *src,
                                   size_t src_len, const void *cdict);
    void *(*create_ddict)(const void *dict, size_t dict_len);
    size_t (*free_ddict)(void *ddict);
    size_t (*decompress_using_ddict)(void *dctx, void *dst, size_t dst_len, const void *src,
                                     size_t src_len, const void *ddict);
    size_t (*compress_bound)(size_t raw_len);
    unsigned (*is_error)(size_t code);
    size_t (*train_from_buffer)(void *dict, size_t dict_len, const void *samples,
                                const size_t *sample_lens, unsigned n_samples);
    unsigned (*train_is_error)(size_t code);
} native;

/* ---- contexts of a thread ---- */

typedef struct thread_contexts {
    const native *owner;
    void *cctx, *dctx;
    struct thread_contexts *next;
} thread_contexts;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool key_made;

static void contexts_destroy(thread_contexts *contexts) {
    if (contexts->cctx != NULL) {
        contexts->owner->free_cctx(contexts->cctx);
    }
    if (contexts->dctx != NULL) {
        contexts->owner->free_dctx(contexts->dctx);
    }
    vex_free(contexts);
}

static void thread_ends(void *first) {
    for (thread_contexts *contexts = first; contexts != NULL;) {
        thread_contexts *next = contexts->next;
        contexts_destroy(contexts);
        contexts = next;
    }
}

static void make_key(void) {
    key_made = pthread_key_create(&key, thread_ends) == 0;
}

/* This thread's contexts for `owner`; NULL when out of memory. */
static thread_contexts *contexts_get(const native *owner) {
    pthread_once(&key_once, make_key);
    if (!key_made) {
        return NULL;
    }
    thread_contexts *first = pthread_getspecific(key);
    for (thread_contexts *contexts = first; contexts != NULL; contexts = contexts->next) {
        if (contexts->owner == owner) {
            return contexts;
        }
    }
    thread_contexts *contexts = vex_calloc(1, sizeof *contexts);
    if (contexts == NULL) {
        return NULL;
    }
    contexts->owner = owner;
    contexts->next = first;
    if (pthread_setspecific(key, contexts) != 0) {
        vex_free(contexts);
        return NULL;
    }
    return contexts;
}

/* Free this thread's contexts for `owner`, which is about to be freed. */
static void contexts_forget(const native *owner) {
    thread_contexts *contexts = contexts_get(owner);
    if (contexts != NULL) {
        /* contexts_get puts new ones first, and nothing came after a failed registration. */
        thread_contexts *first = pthread_getspecific(key);
        if (first == contexts && pthread_setspecific(key, contexts->next) == 0) {
            contexts_destroy(contexts);
        }
    }
}

static void *cctx_get(const native *n) {
    thread_contexts *contexts = contexts_get(n);
    if (contexts != NULL && contexts->cctx == NULL) {
        contexts->cctx = n->create_cctx();
    }
    return contexts ? contexts->cctx : NULL;
}

static void *dctx_get(const native *n) {
    thread_contexts *contexts = contexts_get(n);
    if (contexts != NULL && contexts->dctx == NULL) {
        contexts->dctx = n->create_dctx();
    }
    return contexts ? contexts->dctx : NULL;
}

/* ---- the provider ---- */

static size_t size_or_error(const native *n, size_t result) {
    return n->is_error(result) ? SIZE_MAX : result;
}

static size_t native_bound(void *context, size_t raw_len) {
    return ((const native *)context)->compress_bound(raw_len);
}

static size_t native_compress(void *context, void *dst, size_t dst_len, const void *src,
                              size_t src_len, const void *dict, size_t dict_len, int level) {
    const native *n = context;
    void *cctx = cctx_get(n);
    if (cctx == NULL) {
        return VEX_CODEC_NO_MEMORY;
    }
    return size_or_error(
        n, n->compress_using_dict(cctx, dst, dst_len, src, src_len, dict, dict_len, level));
}

static size_t native_decompress(void *context, void *dst, size_t dst_len, const void *src,
                                size_t src_len, const void *dict, size_t dict_len) {
    const native *n = context;
    void *dctx = dctx_get(n);
    if (dctx == NULL) {
        return VEX_CODEC_NO_MEMORY;
    }
    return size_or_error(
        n, n->decompress_using_dict(dctx, dst, dst_len, src, src_len, dict, dict_len));
}

static size_t native_train(void *context, void *dict, size_t dict_len, const void *samples,
                           const size_t *sample_lens, uint32_t n_samples) {
    const native *n = context;
    size_t len = n->train_from_buffer(dict, dict_len, samples, sample_lens, n_samples);
    return n->train_is_error(len) ? 0 : len;
}

/* ---- digested dictionaries ---- */

static void *native_create_cdict(void *context, const void *dict, size_t dict_len, int level) {
    return ((const native *)context)->create_cdict(dict, dict_len, level);
}

static void native_free_cdict(void *context, void *cdict) {
    ((const native *)context)->free_cdict(cdict);
}

static size_t native_compress_digested(void *context, void *dst, size_t dst_len, const void *src,
                                       size_t src_len, const void *cdict) {
    const native *n = context;
    void *cctx = cctx_get(n);
    if (cctx == NULL) {
        return VEX_CODEC_NO_MEMORY;
    }
    return size_or_error(n, n->compress_using_cdict(cctx, dst, dst_len, src, src_len, cdict));
}

static void *native_create_ddict(void *context, const void *dict, size_t dict_len) {
    return ((const native *)context)->create_ddict(dict, dict_len);
}

static void native_free_ddict(void *context, void *ddict) {
    ((const native *)context)->free_ddict(ddict);
}

static size_t native_decompress_digested(void *context, void *dst, size_t dst_len, const void *src,
                                         size_t src_len, const void *ddict) {
    const native *n = context;
    void *dctx = dctx_get(n);
    if (dctx == NULL) {
        return VEX_CODEC_NO_MEMORY;
    }
    return size_or_error(n, n->decompress_using_ddict(dctx, dst, dst_len, src, src_len, ddict));
}

static const vex_codec_digests native_digests = {
    .create_cdict = native_create_cdict,
    .free_cdict = native_free_cdict,
    .compress = native_compress_digested,
    .create_ddict = native_create_ddict,
    .free_ddict = native_free_ddict,
    .decompress = native_decompress_digested,
};

/* ---- registration ---- */

/* Set the function pointer n->field; C converts no void pointer to one, memcpy does. */
#define TAKE(field)                                                                                \
    do {                                                                                           \
        _Static_assert(sizeof n->field == sizeof symbols->field, "one kind of pointer");           \
        memcpy(&n->field, &symbols->field, sizeof n->field);                                       \
    } while (0)

static void take_symbols(native *n, const vex_zstd_symbols *symbols) {
    TAKE(create_cctx);
    TAKE(free_cctx);
    TAKE(compress_using_dict);
    TAKE(create_dctx);
    TAKE(free_dctx);
    TAKE(decompress_using_dict);
    TAKE(create_cdict);
    TAKE(free_cdict);
    TAKE(compress_using_cdict);
    TAKE(create_ddict);
    TAKE(free_ddict);
    TAKE(decompress_using_ddict);
    TAKE(compress_bound);
    TAKE(is_error);
    TAKE(train_from_buffer);
    TAKE(train_is_error);
}

static bool complete(const native *n) {
    return n->create_cctx && n->free_cctx && n->compress_using_dict && n->create_dctx &&
           n->free_dctx && n->decompress_using_dict && n->create_cdict && n->free_cdict &&
           n->compress_using_cdict && n->create_ddict && n->free_ddict &&
           n->decompress_using_ddict && n->compress_bound && n->is_error;
}

vex_status vex_set_codec_native(const vex_zstd_symbols *symbols, const char *name) {
    if (symbols == NULL || name == NULL) {
        return VEX_FAIL(VEX_ERR_INVALID, "a native codec needs symbols and a name");
    }
    native *n = vex_calloc(1, sizeof *n);
    if (n == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory for a codec");
    }
    take_symbols(n, symbols);
    if (!complete(n)) {
        vex_free(n);
        return VEX_FAIL(VEX_ERR_INVALID, "codec '%.40s': a libzstd address is missing", name);
    }
    bool trains = n->train_from_buffer != NULL && n->train_is_error != NULL;
    vex_codec_provider provider = {
        .name = name,
        .version = symbols->version,
        .context = n,
        .bound = native_bound,
        .compress = native_compress,
        .decompress = native_decompress,
        .train = trains ? native_train : NULL,
    };
    vex_status status = vex_codec_register(&provider, &native_digests);
    if (status != VEX_OK) {
        contexts_forget(n);
        vex_free(n);
    }
    return status;
}
