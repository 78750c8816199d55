/*
 * near_tile_x86.c - the kernels of near_batch.h for AVX2 and for AVX-512 with VNNI.
 *
 * A row's four bytes are broadcast to all lanes and meet the same four elements of the queries
 * there.  AVX2 has no product of bytes that does not saturate, so it takes elements by pairs, as
 * 16-bit integers.
 */
#include "index/near_tile.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

#include "base/poison.h"

#define UNROLL _Pragma("GCC unroll 8")

/* ---- AVX-512 VNNI ---- */

#define VNNI_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2"
#define VNNI __attribute__((target(VNNI_FEATURES)))
#define VNNI_INLINE static inline __attribute__((always_inline, target(VNNI_FEATURES)))
#define VNNI_ROWS 8

VNNI_INLINE int quad_at(const uint8_t *from) {
    int quad;
    memcpy(&quad, from, sizeof quad);
    return quad;
}

/* n_rows and n_panels are constants at every call: the sums are registers. */
VNNI_INLINE void dots_of(const uint8_t *rows, size_t stride, const int8_t *packed, uint32_t quads,
                         const int n_rows, const int n_panels, int32_t *out) {
    __m512i sums[VNNI_ROWS][2];
    UNROLL for (int r = 0; r < n_rows; r++) {
        UNROLL for (int p = 0; p < n_panels; p++) {
            sums[r][p] = _mm512_setzero_si512();
        }
    }
    const size_t panel = (size_t)quads * 64;
    for (uint32_t i = 0; i < quads; i++) {
        __m512i query[2];
        UNROLL for (int p = 0; p < n_panels; p++) {
            query[p] = _mm512_loadu_si512(packed + (size_t)p * panel + (size_t)i * 64);
        }
        UNROLL for (int r = 0; r < n_rows; r++) {
            const __m512i row =
                _mm512_set1_epi32(quad_at(rows + (size_t)r * stride + (size_t)i * 4));
            UNROLL for (int p = 0; p < n_panels; p++) {
                sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], row, query[p]);
            }
        }
    }
    UNROLL for (int r = 0; r < n_rows; r++) {
        UNROLL for (int p = 0; p < n_panels; p++) {
            _mm512_storeu_si512(out + (r * n_panels + p) * (int)VEX_NEAR_LANES, sums[r][p]);
        }
    }
}

VNNI void vex_near_dots_vnni(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                             uint32_t quads, uint32_t panels, int32_t *dots) {
    const size_t lanes = (size_t)panels * VEX_NEAR_LANES;
    uint32_t r = 0;
    for (; r + VNNI_ROWS <= n; r += VNNI_ROWS) {
        if (panels == 2) {
            dots_of(rows + r * stride, stride, packed, quads, VNNI_ROWS, 2, dots + r * lanes);
        } else {
            dots_of(rows + r * stride, stride, packed, quads, VNNI_ROWS, 1, dots + r * lanes);
        }
    }
    for (; r < n; r++) {
        if (panels == 2) {
            dots_of(rows + r * stride, stride, packed, quads, 1, 2, dots + r * lanes);
        } else {
            dots_of(rows + r * stride, stride, packed, quads, 1, 1, dots + r * lanes);
        }
    }
}

VNNI void vex_near_test_vnni(const vex_near_block *block, const vex_near_panel *panel,
                             const int32_t *dots, uint32_t lanes, uint16_t *passed) {
    const __m512 step = _mm512_loadu_ps(panel->step), error = _mm512_loadu_ps(panel->row_error),
                 low = _mm512_loadu_ps(panel->low), middle = _mm512_loadu_ps(panel->middle),
                 own = _mm512_loadu_ps(panel->own_error),
                 rounding = _mm512_loadu_ps(panel->rounding), limit = _mm512_loadu_ps(panel->limit);
    for (uint32_t r = 0; r < block->n; r++) {
        const __m512 dot = _mm512_cvtepi32_ps(_mm512_loadu_si512(dots + (size_t)r * lanes));
        __m512 v = _mm512_fmadd_ps(dot, step, error);
        v = _mm512_fmadd_ps(v, _mm512_set1_ps(block->s[r]), _mm512_set1_ps(block->norm2[r]));
        __m512 w = _mm512_mul_ps(_mm512_set1_ps(block->most[r]), rounding);
        v = _mm512_fmadd_ps(_mm512_set1_ps(block->low[r]), low, v);
        w = _mm512_fmadd_ps(_mm512_set1_ps(block->length[r]), own, w);
        v = _mm512_fmadd_ps(_mm512_set1_ps(block->sum[r]), middle, v);
        passed[r] = (uint16_t)_mm512_cmp_ps_mask(_mm512_add_ps(v, w), limit, _CMP_NGT_UQ);
    }
}

VNNI_INLINE __m512 absolute(__m512 x) {
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x);
}

/* near_seed(), which compilers do not see as vectors. */
VNNI void vex_near_seed_vnni(const vex_near_block *b, const vex_near_panel *p, const int32_t *dots,
                             uint32_t lanes, uint32_t k, float *kept) {
    const __m512 step = _mm512_loadu_ps(p->step), row_error = _mm512_loadu_ps(p->row_error),
                 base = _mm512_loadu_ps(p->base), slack = _mm512_loadu_ps(p->slack),
                 relative = _mm512_set1_ps((float)NEAR_RELATIVE),
                 infinity = _mm512_set1_ps(INFINITY);
    for (uint32_t r = 0; r < b->n; r++) {
        const __m512 dot = _mm512_cvtepi32_ps(_mm512_loadu_si512(dots + (size_t)r * lanes));
        const __m512 s = _mm512_set1_ps(b->s[r]), norm2 = _mm512_set1_ps(b->norm2[r]);
        __m512 error = _mm512_mul_ps(s, row_error);
        __m512 middle = _mm512_fmadd_ps(_mm512_mul_ps(dot, step), s, norm2);
        error = _mm512_fmadd_ps(_mm512_set1_ps(b->length[r]), _mm512_loadu_ps(p->own_error), error);
        error = _mm512_fmadd_ps(_mm512_set1_ps(b->most[r]), _mm512_loadu_ps(p->rounding), error);
        error = absolute(error);
        middle = _mm512_fmadd_ps(_mm512_set1_ps(b->low[r]), _mm512_loadu_ps(p->low), middle);
        middle = _mm512_fmadd_ps(_mm512_set1_ps(b->sum[r]), _mm512_loadu_ps(p->middle), middle);
        middle = _mm512_add_ps(middle, base);
        __m512 upper = _mm512_fmadd_ps(error, _mm512_set1_ps(1.0001f), slack);
        upper = _mm512_fmadd_ps(_mm512_add_ps(absolute(middle), error), relative, upper);
        upper = _mm512_fmadd_ps(norm2, _mm512_set1_ps((float)NEAR_ABSOLUTE), upper);
        upper = _mm512_add_ps(middle, upper);
        upper = _mm512_min_ps(upper, infinity); /* NaN: the second */
        for (uint32_t i = 0; i < k; i++) {
            const __m512 at = _mm512_loadu_ps(kept + (size_t)i * VEX_NEAR_LANES);
            _mm512_storeu_ps(kept + (size_t)i * VEX_NEAR_LANES, _mm512_min_ps(upper, at));
            upper = _mm512_max_ps(upper, at);
        }
    }
}

/* As encode_range() of lvq.c, element by element. */
VNNI void vex_near_encode_vnni(const float *x, uint32_t dim, float norm2, uint32_t stride,
                               uint8_t *row) {
    const uint32_t whole = dim / 16 * 16;
    const __mmask16 rest = (__mmask16)((1u << (dim % 16)) - 1);
    __m512 least = _mm512_set1_ps(x[0]), largest = least;
    __m512i sum = _mm512_setzero_si512();
    for (uint32_t i = 0; i < dim; i += 16) {
        const __m512 v = _mm512_mask_loadu_ps(least, i < whole ? (__mmask16)0xFFFF : rest, x + i);
        least = _mm512_min_ps(least, v);
        largest = _mm512_max_ps(largest, v);
    }
    vex_code_tail tail = {.lo = _mm512_reduce_min_ps(least), .norm2 = norm2};
    tail.s = (float)(((double)_mm512_reduce_max_ps(largest) - (double)tail.lo) / 255.0);
    const __m512 low = _mm512_set1_ps(tail.lo), half = _mm512_set1_ps(0.5f),
                 inverse = _mm512_set1_ps(tail.s > 0 ? 1 / tail.s : 0);
    for (uint32_t i = 0; i < dim; i += 16) {
        const __mmask16 there = i < whole ? (__mmask16)0xFFFF : rest;
        __m512 v = _mm512_maskz_loadu_ps(there, x + i);
        v = _mm512_add_ps(_mm512_mul_ps(_mm512_sub_ps(v, low), inverse), half);
        v = _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), _mm512_set1_ps(255));
        const __m512i code = _mm512_maskz_cvttps_epi32(there, v);
        sum = _mm512_add_epi32(sum, code);
        _mm512_mask_cvtepi32_storeu_epi8(row + i, there, code);
    }
    tail.sum = (uint32_t)_mm512_reduce_add_epi32(sum);
    memcpy(row + stride - VEX_CODE_TAIL_BYTES, &tail, sizeof tail);
}

/* ---- AVX2 ---- */

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2,fma")))
#define AVX2_ROWS 4

/* Elements 4 i .. 4 i + 3 of 8 lanes, as the pairs (0, 1) and (2, 3) of each. */
typedef struct pairs {
    __m256i first, second;
} pairs;

AVX2_INLINE pairs query_pairs(const int8_t *from) {
    const __m256i quads = _mm256_loadu_si256((const __m256i *)(const void *)from);
    /* Within each lane: bytes 0, 1 and bytes 2, 3, to where they become 16 bits wide by a shift. */
    const __m256i low = _mm256_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13,
                                         -1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    const __m256i high =
        _mm256_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1, 2, -1, 3,
                         -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15);
    return (pairs){_mm256_srai_epi16(_mm256_shuffle_epi8(quads, low), 8),
                   _mm256_srai_epi16(_mm256_shuffle_epi8(quads, high), 8)};
}

AVX2_INLINE void dots8(const uint8_t *rows, size_t stride, const int8_t *packed, uint32_t quads,
                       const int n_rows, size_t lanes, int32_t *out) {
    __m256i sums[AVX2_ROWS];
    UNROLL for (int r = 0; r < n_rows; r++) {
        sums[r] = _mm256_setzero_si256();
    }
    for (uint32_t i = 0; i < quads; i++) {
        const pairs query = query_pairs(packed + (size_t)i * 64);
        UNROLL for (int r = 0; r < n_rows; r++) {
            const uint8_t *x = rows + (size_t)r * stride + (size_t)i * 4;
            const int first = (int)(x[0] | (uint32_t)x[1] << 16);
            const int second = (int)(x[2] | (uint32_t)x[3] << 16);
            const __m256i a = _mm256_madd_epi16(_mm256_set1_epi32(first), query.first);
            const __m256i b = _mm256_madd_epi16(_mm256_set1_epi32(second), query.second);
            sums[r] = _mm256_add_epi32(sums[r], _mm256_add_epi32(a, b));
        }
    }
    UNROLL for (int r = 0; r < n_rows; r++) {
        _mm256_storeu_si256((__m256i *)(void *)(out + (size_t)r * lanes), sums[r]);
    }
}

AVX2 void vex_near_dots_avx2(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                             uint32_t quads, uint32_t panels, int32_t *dots) {
    const size_t lanes = (size_t)panels * VEX_NEAR_LANES;
    for (uint32_t half = 0; half < 2 * panels; half++) {
        const int8_t *queries = packed + (size_t)(half / 2) * quads * 64 + (half % 2) * 32;
        int32_t *out = dots + half * 8;
        uint32_t r = 0;
        for (; r + AVX2_ROWS <= n; r += AVX2_ROWS) {
            dots8(rows + r * stride, stride, queries, quads, AVX2_ROWS, lanes, out + r * lanes);
        }
        for (; r < n; r++) {
            dots8(rows + r * stride, stride, queries, quads, 1, lanes, out + r * lanes);
        }
    }
}

AVX2_INLINE uint32_t test8(const vex_near_block *block, uint32_t r, const vex_near_panel *panel,
                           const int32_t *dots, uint32_t at) {
    const __m256 dot =
        _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(dots + at)));
    __m256 v = _mm256_fmadd_ps(dot, _mm256_loadu_ps(panel->step + at),
                               _mm256_loadu_ps(panel->row_error + at));
    v = _mm256_fmadd_ps(v, _mm256_set1_ps(block->s[r]), _mm256_set1_ps(block->norm2[r]));
    __m256 w = _mm256_mul_ps(_mm256_set1_ps(block->most[r]), _mm256_loadu_ps(panel->rounding + at));
    v = _mm256_fmadd_ps(_mm256_set1_ps(block->low[r]), _mm256_loadu_ps(panel->low + at), v);
    w = _mm256_fmadd_ps(_mm256_set1_ps(block->length[r]), _mm256_loadu_ps(panel->own_error + at),
                        w);
    v = _mm256_fmadd_ps(_mm256_set1_ps(block->sum[r]), _mm256_loadu_ps(panel->middle + at), v);
    return (uint32_t)_mm256_movemask_ps(
        _mm256_cmp_ps(_mm256_add_ps(v, w), _mm256_loadu_ps(panel->limit + at), _CMP_NGT_UQ));
}

AVX2 void vex_near_test_avx2(const vex_near_block *block, const vex_near_panel *panel,
                             const int32_t *dots, uint32_t lanes, uint16_t *passed) {
    for (uint32_t r = 0; r < block->n; r++, dots += lanes) {
        passed[r] =
            (uint16_t)(test8(block, r, panel, dots, 0) | test8(block, r, panel, dots, 8) << 8);
    }
}

AVX2 void vex_near_seed_avx2(const vex_near_block *block, const vex_near_panel *panel,
                             const int32_t *dots, uint32_t lanes, uint32_t k, float *kept) {
    near_seed(block, panel, dots, lanes, k, kept);
}

#endif
