/*
 * near_tile_neon.c - the products of near_batch.h for AArch64 with the dot product extension.
 *
 * The extension multiplies numbers of one signedness, so rows become signed by taking 128 off, and
 * 128 times the sum of the query is added again.
 */
#include "index/near_tile.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#include "base/poison.h"

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))

DOTPROD void vex_near_dots_dotprod(const uint8_t *rows, size_t stride, uint32_t n,
                                   const int8_t *packed, uint32_t quads, uint32_t panels,
                                   int32_t *dots) {
    const size_t lanes = (size_t)panels * VEX_NEAR_LANES;
    for (size_t lane = 0; lane < lanes; lane += 4) {
        const int8_t *queries =
            packed + lane / VEX_NEAR_LANES * quads * 64 + lane % VEX_NEAR_LANES * 4;
        int32x4_t moved = vdupq_n_s32(0);
        for (uint32_t i = 0; i < quads; i++) {
            moved = vdotq_s32(moved, vld1q_s8(queries + (size_t)i * 64), vdupq_n_s8(1));
        }
        moved = vshlq_n_s32(moved, 7);
        for (uint32_t r = 0; r < n; r++) {
            int32x4_t sum = moved;
            for (uint32_t i = 0; i < quads; i++) {
                uint32_t quad;
                memcpy(&quad, rows + r * stride + (size_t)i * 4, sizeof quad);
                const int8x16_t row = vreinterpretq_s8_u32(vdupq_n_u32(quad ^ 0x80808080u));
                sum = vdotq_s32(sum, row, vld1q_s8(queries + (size_t)i * 64));
            }
            vst1q_s32(dots + r * lanes + lane, sum);
        }
    }
}

#endif
