/*
 * codec.h - zstd through a function table, and blocks made with it.
 *
 * Frames are plain RFC 8878, so files are interchangeable between providers.  The public half
 * (vex_set_codec, vex_set_codec_native) is in vexfs.h.
 */
#ifndef VEX_CODEC_CODEC_H
#define VEX_CODEC_CODEC_H

#include "base/mem.h"

typedef enum vex_codec_id {
    VEX_CODEC_STORE = 0, /* raw bytes                                                            */
    VEX_CODEC_ZSTD = 1   /* one zstd frame                                                       */
} vex_codec_id;

/* Is a compressor registered? */
bool vex_codec_ready(void);

/* Append `raw` to `out`, compressed with the registered codec when that saves at least 10 %,
 * else raw; *id says which.  dict may be NULL. */
vex_status vex_codec_compress(vex_buf *out, const void *raw, size_t raw_len, const void *dict,
                              size_t dict_len, int level, vex_codec_id *id);

/* Decompress into dst[raw_len]; anything but exactly raw_len bytes is VEX_ERR_CORRUPT. */
vex_status vex_codec_decompress(vex_codec_id id, void *dst, size_t raw_len, const void *stored,
                                size_t stored_len, const void *dict, size_t dict_len);

/* Train a dictionary of at most dict_max bytes from samples laid end to end.  *dict empty when
 * training is not possible (few samples, no trainer). */
vex_status vex_codec_train(vex_buf *dict, size_t dict_max, const void *samples,
                           const size_t *sample_lens, uint32_t n_samples);

#endif
