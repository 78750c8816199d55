/*
 * zstd_provider.c - see zstd_provider.h.
 */
#include "tests/zstd_provider.h"

#include <string.h>
#include <zdict.h>
#include <zstd.h>

#define PUT(field, function)                                                                       \
    do {                                                                                           \
        __typeof__(&(function)) address_ = &(function);                                            \
        memcpy(&symbols.field, &address_, sizeof symbols.field);                                   \
    } while (0)

vex_zstd_symbols test_zstd_symbols(void) {
    vex_zstd_symbols symbols = {.version = ZSTD_versionNumber()};
    PUT(create_cctx, ZSTD_createCCtx);
    PUT(free_cctx, ZSTD_freeCCtx);
    PUT(compress_using_dict, ZSTD_compress_usingDict);
    PUT(create_dctx, ZSTD_createDCtx);
    PUT(free_dctx, ZSTD_freeDCtx);
    PUT(decompress_using_dict, ZSTD_decompress_usingDict);
    PUT(create_cdict, ZSTD_createCDict);
    PUT(free_cdict, ZSTD_freeCDict);
    PUT(compress_using_cdict, ZSTD_compress_usingCDict);
    PUT(create_ddict, ZSTD_createDDict);
    PUT(free_ddict, ZSTD_freeDDict);
    PUT(decompress_using_ddict, ZSTD_decompress_usingDDict);
    PUT(compress_bound, ZSTD_compressBound);
    PUT(is_error, ZSTD_isError);
    PUT(train_from_buffer, ZDICT_trainFromBuffer);
    PUT(train_is_error, ZDICT_isError);
    return symbols;
}

static size_t plain_compress(void *context, void *dst, size_t dst_len, const void *src,
                             size_t src_len, const void *dict, size_t dict_len, int level) {
    (void)context;
    ZSTD_CCtx *cctx = ZSTD_createCCtx();
    size_t len = ZSTD_compress_usingDict(cctx, dst, dst_len, src, src_len, dict, dict_len, level);
    ZSTD_freeCCtx(cctx);
    return ZSTD_isError(len) ? SIZE_MAX : len;
}

static size_t plain_decompress(void *context, void *dst, size_t dst_len, const void *src,
                               size_t src_len, const void *dict, size_t dict_len) {
    (void)context;
    ZSTD_DCtx *dctx = ZSTD_createDCtx();
    size_t len = ZSTD_decompress_usingDict(dctx, dst, dst_len, src, src_len, dict, dict_len);
    ZSTD_freeDCtx(dctx);
    return ZSTD_isError(len) ? SIZE_MAX : len;
}

static size_t plain_train(void *context, void *dict, size_t dict_len, const void *samples,
                          const size_t *sample_lens, uint32_t n_samples) {
    (void)context;
    size_t len = ZDICT_trainFromBuffer(dict, dict_len, samples, sample_lens, n_samples);
    return ZDICT_isError(len) ? 0 : len;
}

vex_codec_provider test_zstd_provider(void) {
    return (vex_codec_provider){
        .name = "plain libzstd",
        .version = ZSTD_versionNumber(),
        .compress = plain_compress,
        .decompress = plain_decompress,
        .train = plain_train,
    };
}

vex_status test_register_zstd(void) {
    vex_zstd_symbols symbols = test_zstd_symbols();
    return vex_set_codec_native(&symbols, "libzstd");
}
