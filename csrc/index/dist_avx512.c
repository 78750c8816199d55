/*
 * dist_avx512.c - distance kernels for AVX-512 F, BW, DQ and VL.
 */
#include "index/dist.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "base/poison.h"

#define LEVEL_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
#define LEVEL_TABLE vex_kernels_avx512
#define LEVEL_NAME "avx512"
#define LEVEL_TARGET __attribute__((target(LEVEL_FEATURES)))
#define LEVEL_INLINE static inline __attribute__((always_inline, target(LEVEL_FEATURES)))
#define LEVEL_HOLD(x) (void)(x)
#define LANES 16
#define SEGMENT 256
#define ROW_BLOCK 4
#define TILE_ROWS 4
#define TILE_QUERIES 4

typedef __m512 elements;
typedef __m512 sums;

LEVEL_INLINE elements load_f32(const uint8_t *from) {
    return _mm512_loadu_ps(from);
}

LEVEL_INLINE elements load_f16(const uint8_t *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

LEVEL_INLINE elements load_u8(const uint8_t *from) {
    const __m128i sixteen = _mm_loadu_si128((const __m128i *)(const void *)from);
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(sixteen));
}

LEVEL_INLINE elements keep_last(elements x, size_t n) {
    return _mm512_maskz_mov_ps((__mmask16)(0xFFFFu << (LANES - n)), x);
}

LEVEL_INLINE sums sums_zero(void) {
    return _mm512_setzero_ps();
}

LEVEL_INLINE sums sums_add(sums s, sums t) {
    return _mm512_add_ps(s, t);
}

LEVEL_INLINE sums fold_dot(sums s, elements x, elements q) {
    return _mm512_fmadd_ps(x, q, s);
}

LEVEL_INLINE sums fold_l2(sums s, elements x, elements q) {
    const __m512 difference = _mm512_sub_ps(x, q);
    return _mm512_fmadd_ps(difference, difference, s);
}

LEVEL_INLINE sums fold_l1(sums s, elements x, elements q) {
    return _mm512_add_ps(s, _mm512_abs_ps(_mm512_sub_ps(x, q)));
}

/* Transposes while it adds: in each quarter [a0+a2, b0+b2, a1+a3, b1+b3] and the same of c, d. */
LEVEL_INLINE void reduce4(float *out, sums a, sums b, sums c, sums d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0)),
                                      _mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2)));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

#include "index/dist_template.h"

#endif
