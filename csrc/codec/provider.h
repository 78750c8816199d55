/*
 * provider.h - what a registered codec is, inside the codec layer (codec.c, codec_native.c).
 */
#ifndef VEX_CODEC_PROVIDER_H
#define VEX_CODEC_PROVIDER_H

#include "codec/codec.h"

/* Besides SIZE_MAX, a function of a codec may return this. */
#define VEX_CODEC_NO_MEMORY (SIZE_MAX - 1)

/* Dictionaries digested once and used by many threads.  create returns NULL on failure; the
 * caller then hands over the plain dictionary with each call instead. */
typedef struct vex_codec_digests {
    void *(*create_cdict)(void *context, const void *dict, size_t dict_len, int level);
    void (*free_cdict)(void *context, void *cdict);
    size_t (*compress)(void *context, void *dst, size_t dst_len, const void *src, size_t src_len,
                       const void *cdict);
    void *(*create_ddict)(void *context, const void *dict, size_t dict_len);
    void (*free_ddict)(void *context, void *ddict);
    size_t (*decompress)(void *context, void *dst, size_t dst_len, const void *src,
                         size_t src_len, const void *ddict);
} vex_codec_digests;

/* Check `provider` by round trips and publish a copy of it.  digests: static, or NULL. */
vex_status vex_codec_register(const vex_codec_provider *provider,
                              const vex_codec_digests *digests);

#endif
