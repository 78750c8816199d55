/*
 * narrow.h - exact narrowing of float32 rows: uint8 when every value is an integer 0..255
 * (+0.0, not -0.0), float16 when every value survives the round trip bit for bit; else float32.
 * Lossless by construction: widening gives back the same bits.
 */
#ifndef VEX_CODEC_NARROW_H
#define VEX_CODEC_NARROW_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Narrowest exact element (VEX_ELEMENT_*) for `n` floats, given that `so_far` was enough for
 * what was seen before (start with VEX_ELEMENT_U8).  Infinity and NaN count as float32. */
uint32_t vex_narrow_scan(uint32_t so_far, const float *values, size_t n);

/* n elements; the values must be representable (vex_narrow_scan).  Buffers do not overlap and
 * are aligned to their element. */
void vex_narrow_encode(uint32_t element, void *dst, const float *src, size_t n);
void vex_narrow_decode(uint32_t element, float *dst, const void *src, size_t n);

/* IEEE 754 binary16 <-> binary32, round to nearest even; NaN kept NaN. */
uint16_t vex_f32_to_f16(float value);
float vex_f16_to_f32(uint16_t half);

#endif
