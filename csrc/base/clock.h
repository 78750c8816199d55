/*
 * clock.h - how long something took, for counters; what decides anything goes by the vfs's clock.
 */
#ifndef VEX_BASE_CLOCK_H
#define VEX_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Microseconds since some moment; the clock pauses with the machine. */
static inline uint64_t vex_now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

#endif
