/*
 * t_lvq_choose.c - which kind of code rows serves some vectors.
 */
#include "index/lvq.h"

#include "tests/harness.h"

#include <stdlib.h>

typedef struct made {
    const float *vectors;
    uint32_t dim;
} made;

static void source_of(void *context, uint32_t i, float *x) {
    const made *m = context;
    memcpy(x, m->vectors + (size_t)i * m->dim, m->dim * sizeof *x);
}

static vex_codes_choice choice_for(const float *vectors, uint32_t n, uint32_t dim, uint32_t space) {
    made m = {vectors, dim};
    vex_codes_choice first, second;
    CHECK_OK(vex_codes_choose(space, dim, VEX_CODE_LVQ8, n, source_of, &m, 7, &first));
    CHECK_OK(vex_codes_choose(space, dim, VEX_CODE_LVQ8, n, source_of, &m, 7, &second));
    CHECK(memcmp(&first, &second, sizeof first) == 0);
    return first;
}

TEST(lvq_choice) {
    enum { N = 1500, DIM = 48 };
    float *vectors = malloc((size_t)N * DIM * sizeof *vectors);
    for (size_t i = 0; i < (size_t)N * DIM; i++) {
        vectors[i] = test_random_float();
    }
    for (uint32_t space = 0; space < 3; space++) {
        const vex_codes_choice c = choice_for(vectors, N, DIM, space);
        CHECK_EQ(c.kind, VEX_CODE_LVQ8);
        CHECK_EQ(c.lvq8.queries, 128); /* it is clear */
        CHECK(c.lvq8.need_max <= 15);
        CHECK_EQ(c.lvq8.rows, N);
        CHECK_EQ(c.f16.queries, 0);
        CHECK(c.lvq8.need_p99 >= 10 && c.lvq8.need_p99 <= 30);
        CHECK(c.lvq8.error_max > 0 && c.lvq8.error_max < 0.3);
    }
    /* One dimension hides the others from eight bits, not from eleven ... */
    for (int i = 0; i < N; i++) {
        vectors[i * DIM] = 300.0f;
    }
    const vex_codes_choice hidden = choice_for(vectors, N, DIM, VEX_SPACE_L2);
    CHECK_EQ(hidden.kind, VEX_CODE_F16);
    CHECK_EQ(hidden.lvq8.queries, 256);
    CHECK(hidden.f16.queries > 0);
    /* ... or is out of their range ... */
    for (int i = 0; i < N; i++) {
        vectors[i * DIM] = 300000.0f;
    }
    CHECK_EQ(choice_for(vectors, N, DIM, VEX_SPACE_L2).kind, VEX_CODE_F32);
    /* ... or all of them hide what differs. */
    for (size_t i = 0; i < (size_t)N * DIM; i++) {
        vectors[i] = 1000.0f + 0.01f * test_random_float();
    }
    CHECK_EQ(choice_for(vectors, N, DIM, VEX_SPACE_L2).kind, VEX_CODE_F32);
    /* Equal rows need no pool beyond k. */
    for (size_t i = 0; i < (size_t)N * DIM; i++) {
        vectors[i] = (float)(i % DIM);
    }
    CHECK_EQ(choice_for(vectors, N, DIM, VEX_SPACE_L2).kind, VEX_CODE_LVQ8);
    for (uint32_t n = 0; n < 14; n++) {
        CHECK_EQ(choice_for(vectors, n, DIM, VEX_SPACE_COSINE).kind, VEX_CODE_LVQ8);
    }
    vex_codes_choice unused;
    made m = {vectors, DIM};
    CHECK_STATUS(vex_codes_choose(VEX_SPACE_L1, DIM, VEX_CODE_LVQ8, 3, source_of, &m, 7, &unused),
                 VEX_ERR_INVALID);
    free(vectors);
}
