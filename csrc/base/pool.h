/*
 * pool.h - the process's threads for work of many parts: batches of queries.
 *
 * The caller works too, and others join while there is work, so a job never waits for a thread to
 * come free, and all of it is done when no thread can be had.  Threads start with the first job
 * that wants them, sleep between jobs, and end with vex_pool_stop().  After fork() the child has
 * none, and starts its own.
 */
#ifndef VEX_BASE_POOL_H
#define VEX_BASE_POOL_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define VEX_POOL_THREADS_MAX 256u

typedef struct vex_pool_job vex_pool_job;

/* What each thread of a job does: set up, take parts until there are none, clean up.  The first
 * failure ends the job: vex_pool_next() says that there are no more. */
typedef vex_status (*vex_pool_body)(void *context, vex_pool_job *job);
/* The next part, each number below `parts` once; false: none is left. */
bool vex_pool_next(vex_pool_job *job, uint32_t *part);

/* Run `body` on the calling thread and on up to threads - 1 others.  Returns when all are through,
 * with the first failure, which is then the caller's last error. */
vex_status vex_pool_run(uint32_t parts, uint32_t threads, vex_pool_body body, void *context);

/* End the threads.  Jobs that run are done by their callers; later ones start threads anew. */
void vex_pool_stop(void);
/* Threads that there are, besides those of callers. */
uint32_t vex_pool_threads(void);

#endif
