/*
 * rerank.c - exact distances for the head of a pool, as far down as the errors seen so far call
 * for.
 */
#include "index/graph.h"

#include <math.h>

#include "base/poison.h"

#define STEP 4u
#define MARGIN 2.0f /* errors to come may be larger than those seen, by so much */
#define GROUP 64u
#define FEWEST 12u /* errors of fewer rows tell too little of those to come */

typedef struct rerank {
    const vex_graph_hit *pool;
    vex_graph_hit *out; /* the best n, by (distance, id) */
    uint32_t n, k;
    vex_exact_distances exact;
    void *context;
    float delta;
} rerank;

static bool is_before(vex_graph_hit a, vex_graph_hit b) {
    if (a.distance != b.distance && !isnan(a.distance) && !isnan(b.distance)) {
        return a.distance < b.distance;
    }
    if (isnan(a.distance) != isnan(b.distance)) {
        return isnan(b.distance);
    }
    return a.id < b.id;
}

static void put(rerank *r, vex_graph_hit hit) {
    if (r->n == r->k) {
        if (!is_before(hit, r->out[r->n - 1])) {
            return;
        }
        r->n--;
    }
    uint32_t at = r->n++;
    for (; at > 0 && is_before(hit, r->out[at - 1]); at--) {
        r->out[at] = r->out[at - 1];
    }
    r->out[at] = hit;
}

/* pool[from..to) */
static vex_status compute(rerank *r, uint32_t from, uint32_t to) {
    uint32_t ids[GROUP];
    float distances[GROUP];
    for (uint32_t i = from; i < to; i += GROUP) {
        const uint32_t n = to - i < GROUP ? to - i : GROUP;
        for (uint32_t j = 0; j < n; j++) {
            ids[j] = r->pool[i + j].id;
        }
        VEX_TRY(r->exact(r->context, ids, n, distances));
        for (uint32_t j = 0; j < n; j++) {
            const float off = fabsf(distances[j] - r->pool[i + j].distance);
            r->delta = off > r->delta ? off : r->delta; /* NaN is no error to learn from */
            put(r, (vex_graph_hit){distances[j], ids[j]});
        }
    }
    return VEX_OK;
}

/* Could the next hit be among the best? */
static bool wants(const rerank *r, uint32_t next) {
    return !(r->pool[next].distance - MARGIN * r->delta > r->out[r->n - 1].distance);
}

vex_status vex_rerank(const vex_graph_hit *pool, uint32_t n, uint32_t k, uint32_t further,
                      vex_exact_distances exact, void *context, vex_graph_hit *out, uint32_t *n_out,
                      vex_rerank_stats *stats) {
    rerank r = {.pool = pool, .out = out, .k = k, .exact = exact, .context = context};
    const uint64_t more = (uint64_t)k + k / 4 + 2, first = more > FEWEST ? more : FEWEST;
    uint32_t done = k == 0 ? 0 : first < n ? (uint32_t)first : n;
    VEX_TRY(compute(&r, 0, done));
    const bool settled = k == 0 || n - done <= further || !wants(&r, done + further);
    while (settled && k > 0 && done < n && wants(&r, done)) {
        const uint32_t to = n - done < STEP ? n : done + STEP;
        VEX_TRY(compute(&r, done, to));
        done = to;
    }
    *n_out = r.n;
    if (stats != NULL) {
        *stats = (vex_rerank_stats){.exact = done, .delta = r.delta, .settled = settled};
    }
    return VEX_OK;
}
