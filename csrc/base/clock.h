/*
 * clock.h - lengths of time: how long something took, and how long to wait.  What decides what counts
 * goes by the vfs's clock.
 */
#ifndef VEX_BASE_CLOCK_H
#define VEX_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* Microseconds since some moment; the clock pauses with the machine. */
static inline uint64_t vex_now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* Waiting for conditions must not go by the time of day, which may be set back. */
#ifdef __APPLE__
#define VEX_WAIT_CLOCK CLOCK_REALTIME /* there is no other for conditions                         */
#else
#define VEX_WAIT_CLOCK CLOCK_MONOTONIC
#endif

static inline void vex_cond_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, VEX_WAIT_CLOCK);
#endif
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* In so many ms, for pthread_cond_timedwait() on a condition that vex_cond_init() made. */
static inline struct timespec vex_from_now(uint64_t ms) {
    struct timespec until;
    clock_gettime(VEX_WAIT_CLOCK, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    return until;
}

#endif
