/*
 * near_tile.h - the kernels of each SIMD level for near_batch.c alone.
 */
#ifndef VEX_INDEX_NEAR_TILE_H
#define VEX_INDEX_NEAR_TILE_H

#include "index/near_batch.h"

void vex_near_dots_scalar(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                          uint32_t quads, uint32_t panels, int32_t *dots);
void vex_near_test_scalar(const vex_near_block *block, const vex_near_panel *panel,
                          const int32_t *dots, uint32_t lanes, uint16_t *passed);
#if defined(__x86_64__)
void vex_near_dots_avx2(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                        uint32_t quads, uint32_t panels, int32_t *dots);
void vex_near_test_avx2(const vex_near_block *block, const vex_near_panel *panel,
                        const int32_t *dots, uint32_t lanes, uint16_t *passed);
void vex_near_dots_vnni(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                        uint32_t quads, uint32_t panels, int32_t *dots);
void vex_near_test_vnni(const vex_near_block *block, const vex_near_panel *panel,
                        const int32_t *dots, uint32_t lanes, uint16_t *passed);
#elif defined(__aarch64__)
void vex_near_dots_dotprod(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                           uint32_t quads, uint32_t panels, int32_t *dots);
#endif

#endif
