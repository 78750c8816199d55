/*
 * lvq_x86.c - the integer kernels for AVX2 and for AVX-512 with VNNI.
 *
 * No step saturates: AVX2 multiplies as 16-bit integers, VNNI adds its four products at full
 * width.  Four rows at a time share the loads of the query and one reduction.
 */
#include "index/lvq_finish.h"
#include "index/lvq_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "base/poison.h"

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2")))
#define VNNI_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2"
#define VNNI __attribute__((target(VNNI_FEATURES)))
#define VNNI_INLINE static inline __attribute__((always_inline, target(VNNI_FEATURES)))

/* ---- AVX2 ---- */

AVX2_INLINE __m256i row_words(const uint8_t *from) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
}

AVX2_INLINE __m256i query_words(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
}

AVX2_INLINE __m128i halves(__m256i x) {
    return _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

AVX2_INLINE void store4(int32_t *out, __m256i a, __m256i b, __m256i c, __m256i d) {
    const __m256i abcd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    _mm_storeu_si128((__m128i *)(void *)out, halves(abcd));
}

AVX2 void vex_lvq_sums_avx2(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                            size_t bytes, int32_t *out) {
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint8_t *const *r = rows + i;
        __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
        for (size_t k = 0; k < bytes; k += 16) {
            const __m256i q = query_words(query + k);
            a = _mm256_add_epi32(a, _mm256_madd_epi16(row_words(r[0] + k), q));
            b = _mm256_add_epi32(b, _mm256_madd_epi16(row_words(r[1] + k), q));
            c = _mm256_add_epi32(c, _mm256_madd_epi16(row_words(r[2] + k), q));
            d = _mm256_add_epi32(d, _mm256_madd_epi16(row_words(r[3] + k), q));
        }
        store4(out + i, a, b, c, d);
    }
    for (; i < n; i++) {
        __m256i a = _mm256_setzero_si256(), b = a;
        for (size_t k = 0; k < bytes; k += 32) {
            a = _mm256_add_epi32(a,
                                 _mm256_madd_epi16(row_words(rows[i] + k), query_words(query + k)));
            b = _mm256_add_epi32(
                b, _mm256_madd_epi16(row_words(rows[i] + k + 16), query_words(query + k + 16)));
        }
        int32_t sums[4];
        const __m256i zero = _mm256_setzero_si256();
        store4(sums, _mm256_add_epi32(a, b), zero, zero, zero);
        out[i] = sums[0];
    }
}

/* 16-bit sums of two products: 2 * 15 * 128 at most; to be added up for two of them. */
AVX2_INLINE __m256i short_words(const uint8_t *row, __m256i low, __m256i high) {
    const __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)row);
    const __m256i mask = _mm256_set1_epi8(15);
    return _mm256_add_epi16(
        _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), low),
        _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 4), mask), high));
}

AVX2 void vex_short_sums_avx2(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                              size_t bytes, int32_t *out) {
    const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i++) {
        __m256i a = zero;
        for (size_t k = 0; k < bytes; k += 32) {
            const int8_t *q = query + k / 64 * 128 + k % 64;
            const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)q);
            const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(q + 64));
            a = _mm256_add_epi32(a, _mm256_madd_epi16(short_words(rows[i] + k, low, high), ones));
        }
        int32_t sums[4];
        store4(sums, a, zero, zero, zero);
        out[i] = sums[0];
    }
}

AVX2 void vex_lvq_finish_avx2(const vex_code_query *query, const vex_lvq_group *group, uint32_t n,
                              float *out) {
    lvq_finish(query, group, n, out);
}

/* ---- short rows, on all levels ---- */

/* Four tails at a time: what is the same of each side by side. */
void vex_short_finish_x86(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                          const int32_t *restrict sums, float *restrict out) {
    const short_terms terms = vex_short_terms(query);
    const size_t at = query->codes->short_stride - VEX_CODE_TAIL_BYTES;
    const __m128 all = _mm_set1_ps(terms.all), a = _mm_set1_ps(terms.a);
    const __m128 b = _mm_set1_ps(terms.b), c = _mm_set1_ps(terms.c), most = _mm_set1_ps(FLT_MAX);
    for (uint32_t i = 0; i < n; i += 4) {
        const uint32_t left = n - i < 4 ? n - i : 4;
        __m128 tails[4], d;
        for (uint32_t j = 0; j < 4; j++) { /* the last one again where there are no more */
            tails[j] =
                _mm_loadu_ps((const float *)(const void *)(rows[j < left ? i + j : n - 1] + at));
        }
        _MM_TRANSPOSE4_PS(tails[0], tails[1], tails[2], tails[3]); /* s, lo, s_sum, more */
        const __m128i integers = _mm_loadu_si128((const __m128i *)(const void *)(sums + i));
        const __m128 products = _mm_mul_ps(tails[0], _mm_mul_ps(_mm_cvtepi32_ps(integers), c));
        const __m128 dot =
            _mm_add_ps(_mm_mul_ps(tails[1], a), _mm_add_ps(_mm_mul_ps(tails[2], b), products));
        d = _mm_sub_ps(_mm_add_ps(tails[3], all), dot);
        d = _mm_max_ps(_mm_min_ps(d, most), _mm_sub_ps(_mm_setzero_ps(), most)); /* NaN: most */
        if (left == 4) {
            _mm_storeu_ps(out + i, d);
        } else {
            float some[4];
            _mm_storeu_ps(some, d);
            memcpy(out + i, some, left * sizeof *some);
        }
    }
}

/* ---- AVX-512 VNNI ---- */

VNNI_INLINE __m512i fold(__m512i sum, const uint8_t *row, __m512i query) {
    return _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row), query);
}

/* Transposes while it adds, first within quarters. */
VNNI_INLINE void store4_wide(int32_t *out, __m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i abcd =
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
    const __m128i quarter =
        _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    _mm_storeu_si128((__m128i *)(void *)out, quarter);
}

VNNI void vex_lvq_sums_vnni(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                            size_t bytes, int32_t *out) {
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint8_t *const *r = rows + i;
        __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
        for (size_t k = 0; k < bytes; k += 64) {
            const __m512i q = _mm512_loadu_si512(query + k);
            a = fold(a, r[0] + k, q);
            b = fold(b, r[1] + k, q);
            c = fold(c, r[2] + k, q);
            d = fold(d, r[3] + k, q);
        }
        store4_wide(out + i, a, b, c, d);
    }
    for (; i < n; i++) {
        __m512i a = _mm512_setzero_si512(), b = a;
        size_t k = 0;
        for (; k + 128 <= bytes; k += 128) {
            a = fold(a, rows[i] + k, _mm512_loadu_si512(query + k));
            b = fold(b, rows[i] + k + 64, _mm512_loadu_si512(query + k + 64));
        }
        if (k < bytes) {
            a = fold(a, rows[i] + k, _mm512_loadu_si512(query + k));
        }
        out[i] = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
    }
}

VNNI_INLINE __m512i fold_short(__m512i sum, const uint8_t *row, __m512i low, __m512i high) {
    const __m512i codes = _mm512_loadu_si512(row), mask = _mm512_set1_epi8(15);
    sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(codes, mask), low);
    return _mm512_dpbusd_epi32(sum, _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask), high);
}

VNNI void vex_short_sums_vnni(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                              size_t bytes, int32_t *out) {
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint8_t *const *r = rows + i;
        __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
        for (size_t k = 0; k < bytes; k += 64) {
            const __m512i low = _mm512_loadu_si512(query + 2 * k);
            const __m512i high = _mm512_loadu_si512(query + 2 * k + 64);
            a = fold_short(a, r[0] + k, low, high);
            b = fold_short(b, r[1] + k, low, high);
            c = fold_short(c, r[2] + k, low, high);
            d = fold_short(d, r[3] + k, low, high);
        }
        store4_wide(out + i, a, b, c, d);
    }
    for (; i < n; i++) {
        __m512i a = _mm512_setzero_si512();
        for (size_t k = 0; k < bytes; k += 64) {
            a = fold_short(a, rows[i] + k, _mm512_loadu_si512(query + 2 * k),
                           _mm512_loadu_si512(query + 2 * k + 64));
        }
        out[i] = _mm512_reduce_add_epi32(a);
    }
}

VNNI void vex_lvq_finish_avx512(const vex_code_query *query, const vex_lvq_group *group, uint32_t n,
                                float *out) {
    lvq_finish(query, group, n, out);
}

#endif
