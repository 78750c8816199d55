/*
 * pool.c - see pool.h.
 *
 * Jobs live on their callers' stacks and wait in a list, from the front of which idle threads join
 * them.  A caller that has no parts left takes its job out of the list and waits for those that
 * are still at one.
 */
#include "base/pool.h"

#include <stdatomic.h>

#include "base/poison.h"

struct vex_pool_job {
    vex_pool_job *next;
    vex_pool_body body;
    void *context;
    uint32_t parts;
    _Atomic uint64_t taken;
    atomic_bool stop;
    uint32_t wanted, active; /* threads that may still join; that have joined and are not through */
    vex_error error;         /* of the first that failed; code VEX_OK: none                       */
};

static struct {
    pthread_mutex_t mu;
    pthread_cond_t work, done;
    vex_pool_job *jobs;
    pthread_t threads[VEX_POOL_THREADS_MAX];
    uint32_t n;
    bool stopping;
} pool = {.mu = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};
static pthread_once_t watching = PTHREAD_ONCE_INIT;

/* In the child of fork() none of the threads is there, and whatever they held is held for ever. */
static void forget_threads(void) {
    pthread_mutex_init(&pool.mu, NULL);
    pthread_cond_init(&pool.work, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.jobs = NULL;
    pool.n = 0;
    pool.stopping = false;
}

static void watch_forks(void) {
    (void)pthread_atfork(NULL, NULL, forget_threads);
}

bool vex_pool_next(vex_pool_job *job, uint32_t *part) {
    if (atomic_load_explicit(&job->stop, memory_order_relaxed)) {
        return false;
    }
    uint64_t taken = atomic_fetch_add_explicit(&job->taken, 1, memory_order_relaxed);
    if (taken >= job->parts) {
        return false;
    }
    *part = (uint32_t)taken;
    return true;
}

/* Under mu. */
static void take_out(const vex_pool_job *job) {
    for (vex_pool_job **at = &pool.jobs; *at != NULL; at = &(*at)->next) {
        if (*at == job) {
            *at = job->next;
            return;
        }
    }
}

/* Without mu; enters it. */
static void work_on(vex_pool_job *job) {
    vex_status status = job->body(job->context, job);
    if (status != VEX_OK) {
        atomic_store_explicit(&job->stop, true, memory_order_relaxed);
    }
    pthread_mutex_lock(&pool.mu);
    if (status != VEX_OK && job->error.code == VEX_OK) {
        job->error = *vex_last_error();
        job->error.code = status;
    }
}

static void *serve(void *unused) {
    (void)unused;
    pthread_mutex_lock(&pool.mu);
    while (!pool.stopping) {
        vex_pool_job *job = pool.jobs;
        if (job == NULL) {
            pthread_cond_wait(&pool.work, &pool.mu);
            continue;
        }
        job->active++;
        if (--job->wanted == 0) {
            take_out(job);
        }
        pthread_mutex_unlock(&pool.mu);
        work_on(job);
        if (--job->active == 0) {
            pthread_cond_broadcast(&pool.done);
        }
    }
    pthread_mutex_unlock(&pool.mu);
    return NULL;
}

/* Under mu: threads for the job, as far as they can be had. */
static void invite(vex_pool_job *job, uint32_t helpers) {
    while (pool.n < helpers && pthread_create(&pool.threads[pool.n], NULL, serve, NULL) == 0) {
        pool.n++;
    }
    job->wanted = helpers < pool.n ? helpers : pool.n;
    if (job->wanted == 0) {
        return;
    }
    vex_pool_job **last = &pool.jobs;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = job;
    for (uint32_t i = 0; i < job->wanted; i++) {
        pthread_cond_signal(&pool.work);
    }
}

vex_status vex_pool_run(uint32_t parts, uint32_t threads, vex_pool_body body, void *context) {
    vex_pool_job job = {.body = body, .context = context, .parts = parts};
    uint32_t most = threads < VEX_POOL_THREADS_MAX ? threads : VEX_POOL_THREADS_MAX;
    most = most < parts ? most : parts;
    pthread_once(&watching, watch_forks);
    if (most > 1) {
        pthread_mutex_lock(&pool.mu);
        if (!pool.stopping) {
            invite(&job, most - 1);
        }
        pthread_mutex_unlock(&pool.mu);
    }
    work_on(&job);
    if (job.wanted > 0) {
        take_out(&job);
    }
    while (job.active > 0) {
        pthread_cond_wait(&pool.done, &pool.mu);
    }
    pthread_mutex_unlock(&pool.mu);
    return job.error.code == VEX_OK ? VEX_OK : vex_fail_again(&job.error);
}

void vex_pool_stop(void) {
    pthread_mutex_lock(&pool.mu);
    const uint32_t n = pool.stopping ? 0 : pool.n;
    pool.stopping = pool.stopping || n > 0;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mu);
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(pool.threads[i], NULL);
    }
    if (n > 0) {
        pthread_mutex_lock(&pool.mu);
        pool.n = 0;
        pool.stopping = false;
        pthread_mutex_unlock(&pool.mu);
    }
}

uint32_t vex_pool_threads(void) {
    pthread_mutex_lock(&pool.mu);
    const uint32_t n = pool.n;
    pthread_mutex_unlock(&pool.mu);
    return n;
}
