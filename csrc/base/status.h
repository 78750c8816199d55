/*
 * status.h - status codes with a thread-local explanation.
 *
 * A function that can fail returns vex_status.  The place that finds the problem calls
 * VEX_FAIL(), which fills the thread's vex_error and yields the code; everybody above hands the
 * code on with VEX_TRY() and frees what it holds at one `done:` label.  Outputs are written on
 * success only.
 */
#ifndef VEX_BASE_STATUS_H
#define VEX_BASE_STATUS_H

#include "include/vexfs.h"

/* Record an error of this thread and return `code`.  printf-style message. */
vex_status vex_fail(vex_status code, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* The same about a file: `offset` is where the damage is; `sys_errno` 0 when none. */
vex_status vex_fail_at(vex_status code, const char *path, uint64_t offset, int sys_errno,
                       const char *format, ...) __attribute__((format(printf, 5, 6), cold));

/* Put "prefix: " before the message of the error just recorded; returns `code`. */
vex_status vex_fail_context(vex_status code, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* Say where the error just recorded is, whose finder could not know it; returns `code`. */
vex_status vex_fail_place(vex_status code, const char *path, uint64_t offset)
    __attribute__((cold));

/* Make an error that another thread recorded this thread's; returns its code. */
vex_status vex_fail_again(const vex_error *error) __attribute__((cold));

#define VEX_FAIL vex_fail
#define VEX_FAIL_AT vex_fail_at

/* Return early with the status of `expression` when it failed. */
#define VEX_TRY(expression)                                                                        \
    do {                                                                                           \
        vex_status vex_try_ = (expression);                                                        \
        if (vex_try_ != VEX_OK) {                                                                  \
            return vex_try_;                                                                       \
        }                                                                                          \
    } while (0)

/* Set `status` (a local) and jump to `done:` when `expression` failed. */
#define VEX_TRY_DONE(status, expression)                                                           \
    do {                                                                                           \
        (status) = (expression);                                                                   \
        if ((status) != VEX_OK) {                                                                  \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

#define VEX_LIKELY(x) __builtin_expect(!!(x), 1)
#define VEX_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define VEX_UNUSED __attribute__((unused))

#endif
