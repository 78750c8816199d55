/*
 * codec.h - zstd through a function table.
 *
 * The engine links no compressor: the process registers one (vex_set_codec, vex_set_codec_native
 * in vexfs.h).  Frames are plain RFC 8878, so files are interchangeable between providers, and
 * without a provider everything is stored raw.
 *
 * A registration is immutable once published and lives until the process ends, so a thread in the
 * middle of a call never sees its provider change or vanish.
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

/* ---- dictionaries ----
 * A dictionary is digested on first use (64 KiB take longer to load than a block to decode); the
 * digest is kept in the object and shared by all threads. */
typedef struct vex_codec_dict vex_codec_dict;

/* The bytes are borrowed and must outlive the object. */
vex_status vex_codec_dict_create(vex_codec_dict **out, const void *bytes, size_t len);
void vex_codec_dict_destroy(vex_codec_dict *dict); /* NULL is fine */

/* Train a dictionary of at most dict_max bytes from samples laid end to end.  *dict (cleared
 * first) stays empty when training is not possible: few samples, no trainer. */
vex_status vex_codec_train(vex_buf *dict, size_t dict_max, const void *samples,
                           const size_t *sample_lens, uint32_t n_samples);

/* ---- frames ---- */

/* Append `raw` to `out`, compressed with the registered codec when that saves at least 10 %,
 * else raw; *id says which.  dict may be NULL.  A compressor that fails is no error. */
vex_status vex_codec_compress(vex_buf *out, const void *raw, size_t raw_len, vex_codec_dict *dict,
                              int level, vex_codec_id *id);

/* Decompress into dst[raw_len]; anything but exactly raw_len bytes is VEX_ERR_CORRUPT.
 * VEX_ERR_CODEC: a zstd frame, and no compressor registered. */
vex_status vex_codec_decompress(vex_codec_id id, void *dst, size_t raw_len, const void *stored,
                                size_t stored_len, vex_codec_dict *dict);

#endif
