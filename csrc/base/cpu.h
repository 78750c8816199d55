/*
 * cpu.h - what this processor can do, found once at run time.
 */
#ifndef VEX_BASE_CPU_H
#define VEX_BASE_CPU_H

#include <stdbool.h>
#include <stdint.h>

typedef struct vex_cpu_features {
    bool sse42;    /* CRC32 instruction                                                        */
    bool avx2_fma; /* AVX2, FMA and F16C, enabled by the operating system                      */
    bool avx512;   /* F, BW, DQ, VL                                                            */
    bool avx512_vnni;
    bool few_far_requests; /* prefetching to the second-level cache only has no more requests wait
                      * at once than to the first (Intel)                                        */
    bool neon; /* always on AArch64                                                        */
    bool arm_crc32;
    bool arm_dotprod;
} vex_cpu_features;

const vex_cpu_features *vex_cpu(void);
/* Processors that are online, at least 1. */
uint32_t vex_cpu_count(void);
/* Let the calling thread, a helper's, give way to others. */
void vex_thread_give_way(void);

#endif
