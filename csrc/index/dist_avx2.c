/*
 * dist_avx2.c - distance kernels for AVX2 with FMA and F16C.
 */
#include "index/dist.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "base/poison.h"

#define LEVEL_TABLE vex_kernels_avx2
#define LEVEL_NAME "avx2"
#define LEVEL_TARGET __attribute__((target("avx2,fma,f16c")))
#define LEVEL_INLINE static inline __attribute__((always_inline, target("avx2,fma,f16c")))
#define LEVEL_HOLD(x) __asm__("" : "+x"(x))
#define LANES 8
#define SEGMENT 128
#define ROW_BLOCK 4
#define TILE_ROWS 2 /* with 4 queries 8 sums, as many as two FMA units need at latency 4 */
#define TILE_QUERIES 4

typedef __m256 elements;
typedef __m256 sums;

LEVEL_INLINE elements load_f32(const uint8_t *from) {
    return _mm256_loadu_ps((const float *)(const void *)from);
}

LEVEL_INLINE elements load_f16(const uint8_t *from) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

LEVEL_INLINE elements load_u8(const uint8_t *from) {
    const __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)from);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight));
}

LEVEL_INLINE elements keep_last(elements x, size_t n) {
    static const int32_t mask[2 * LANES] = {[LANES] = -1, -1, -1, -1, -1, -1, -1, -1};
    const __m256i keep = _mm256_loadu_si256((const __m256i *)(const void *)(mask + n));
    return _mm256_and_ps(x, _mm256_castsi256_ps(keep));
}

LEVEL_INLINE sums sums_zero(void) {
    return _mm256_setzero_ps();
}

LEVEL_INLINE sums sums_add(sums s, sums t) {
    return _mm256_add_ps(s, t);
}

LEVEL_INLINE sums fold_dot(sums s, elements x, elements q) {
    return _mm256_fmadd_ps(x, q, s);
}

LEVEL_INLINE sums fold_l2(sums s, elements x, elements q) {
    const __m256 difference = _mm256_sub_ps(x, q);
    return _mm256_fmadd_ps(difference, difference, s);
}

LEVEL_INLINE sums fold_l1(sums s, elements x, elements q) {
    return _mm256_add_ps(s, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(x, q)));
}

/* Transposes while it adds: in each half [a0+a2, b0+b2, a1+a3, b1+b3] and the same of c, d. */
LEVEL_INLINE void reduce4(float *out, sums a, sums b, sums c, sums d) {
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const __m256 abcd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0)),
                                      _mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2)));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
}

#include "index/dist_template.h"

#endif
