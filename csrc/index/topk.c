/*
 * topk.c - the k best hits, as a max-heap: hits[0] is the one to be driven out next.
 */
#include "index/flat.h"

#include "base/mem.h"

#include "base/poison.h"

#define FIRST_HITS 16u

static inline bool is_nan(float x) {
    return x != x;
}

/* Does a come before b in the result? */
static inline bool before(const vex_hit *a, const vex_hit *b) {
    if (a->distance < b->distance) {
        return true;
    }
    if (a->distance > b->distance) {
        return false;
    }
    if (is_nan(a->distance) != is_nan(b->distance)) {
        return is_nan(b->distance);
    }
    return a->seq < b->seq;
}

static vex_status reserve(vex_topk *top, size_t n) {
    void *hits = top->hits;
    VEX_TRY(vex_grow(&hits, &top->capacity, n, sizeof(vex_hit)));
    top->hits = hits;
    return VEX_OK;
}

vex_status vex_topk_init(vex_topk *top, uint32_t k) {
    *top = (vex_topk){.k = k};
    return reserve(top, k < FIRST_HITS ? k : FIRST_HITS);
}

void vex_topk_clear(vex_topk *top) {
    vex_free(top->hits);
    *top = (vex_topk){.k = top->k};
}

/* Put `hit` at the free place i or below, where no child is worse than it. */
static void sift_down(vex_hit *hits, uint32_t n, uint32_t i, vex_hit hit) {
    for (;;) {
        const uint64_t left = 2 * (uint64_t)i + 1;
        if (left >= n) {
            break;
        }
        uint32_t child = (uint32_t)left;
        if (child + 1 < n && before(&hits[child], &hits[child + 1])) {
            child++;
        }
        if (!before(&hit, &hits[child])) {
            break;
        }
        hits[i] = hits[child];
        i = child;
    }
    hits[i] = hit;
}

static void sift_up(vex_hit *hits, uint32_t i, vex_hit hit) {
    while (i > 0 && before(&hits[(i - 1) / 2], &hit)) {
        hits[i] = hits[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    hits[i] = hit;
}

vex_status vex_topk_push(vex_topk *top, vex_hit hit) {
    if (top->n < top->k) {
        VEX_TRY(reserve(top, (size_t)top->n + 1));
        sift_up(top->hits, top->n++, hit);
    } else if (top->k > 0 && before(&hit, &top->hits[0])) {
        sift_down(top->hits, top->n, 0, hit);
    }
    return VEX_OK;
}

void vex_topk_sort(vex_topk *top) {
    for (uint32_t n = top->n; n > 1; n--) {
        const vex_hit last = top->hits[n - 1];
        top->hits[n - 1] = top->hits[0];
        sift_down(top->hits, n - 1, 0, last);
    }
}
