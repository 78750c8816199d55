/*
 * graph_pool.c - the nearest nodes of a walk: keys in ascending order.
 */
#include "base/bytes.h"
#include "index/dist.h"
#include "index/graph_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/poison.h"

#define BLOCK 8u /* keys that are moved at once */

/* Room for whole blocks. */
vex_status graph_pool_reserve(vex_graph_scratch *s, size_t n) {
    void *pool = s->pool;
    VEX_TRY(vex_grow(&pool, &s->pool_capacity, vex_align_up(n, BLOCK), sizeof *s->pool));
    s->pool = pool;
    return VEX_OK;
}

uint32_t graph_pool_place(const uint64_t *pool, uint32_t n, uint64_t key) {
    const uint64_t *base = pool;
    while (n > 0) { /* no branch depends on the keys: a mask, for compilers take ?: as one */
        const uint32_t half = n / 2;
        base += (n - half) & (0 - (uint32_t)(base[half] < key));
        n = half;
    }
    return (uint32_t)(base - pool);
}

uint32_t graph_pool_take_plain(uint64_t *pool, uint32_t *held, uint32_t ef, const uint64_t *keys,
                               uint32_t n_keys) {
    uint32_t n = *held, first = ef;
    for (uint32_t i = 0; i < n_keys; i++) {
        if (n == ef && keys[i] > pool[n - 1]) {
            continue;
        }
        const uint32_t place = graph_pool_place(pool, n, keys[i]);
        n += n < ef;
        memmove(pool + place + 1, pool + place, (n - 1 - place) * sizeof *pool);
        pool[place] = keys[i];
        first = place < first ? place : first;
    }
    *held = n;
    return first;
}

#if defined(__x86_64__)

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define WIDE_MOST 192u /* longer pools take more time to go through than to move a part of */

/* Every key becomes the lesser of itself and of what comes from the left: the larger of the key there
 * and the new one.  So what is less stays, the new key takes its place, and the rest moves on. */
AVX512 uint32_t graph_pool_take_avx512(uint64_t *pool, uint32_t *held, uint32_t ef,
                                       const uint64_t *keys, uint32_t n_keys) {
    if (ef > WIDE_MOST) {
        return graph_pool_take_plain(pool, held, ef, keys, n_keys);
    }
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < n_keys; i++) {
        least = keys[i] < least ? keys[i] : least;
    }
    const uint32_t room = ef - *held, more = n_keys < room ? n_keys : room;
    const uint32_t first = n_keys > 0 ? graph_pool_place(pool, *held, least) : ef;
    const uint32_t begin = first / BLOCK * BLOCK; /* what is before stays */
    const uint32_t end = (uint32_t)vex_align_up(*held + more, BLOCK);
    for (uint32_t i = *held; i < end; i++) {
        pool[i] = UINT64_MAX;
    }
    *held += more;
    for (uint32_t i = 0; i < n_keys; i++) {
        const __m512i key = _mm512_set1_epi64((long long)keys[i]);
        __m512i before = _mm512_setzero_si512(); /* as if: below the key */
        for (uint32_t at = begin; at < end; at += BLOCK) {
            const __m512i block = _mm512_loadu_si512(pool + at);
            const __m512i left = _mm512_alignr_epi64(block, before, BLOCK - 1);
            _mm512_storeu_si512(pool + at, _mm512_min_epu64(block, _mm512_max_epu64(left, key)));
            before = block;
        }
    }
    return first;
}

#endif

graph_pool_taker graph_pool_best_taker(void) {
#if defined(__x86_64__)
    if (strcmp(vex_kernels_get()->name, "avx512") == 0) {
        return graph_pool_take_avx512;
    }
#endif
    return graph_pool_take_plain;
}
