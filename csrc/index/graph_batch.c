/*
 * graph_batch.c - going through a range of ids by several threads.
 */
#include "base/cpu.h"
#include "index/graph_internal.h"

#include "base/poison.h"

#define THREADS_MAX 256u

typedef struct worker {
    vex_graph *graph;
    vex_graph_batch *batch;
    graph_visit visit;
    void *context;
    pthread_t thread;
    vex_status status;
    char message[sizeof((vex_error *)0)->message];
} worker;

void vex_graph_batch_init(vex_graph_batch *batch, uint32_t first, uint32_t n) {
    *batch = (vex_graph_batch){.end = first + n};
    atomic_init(&batch->next, first);
    atomic_init(&batch->stop, false);
}

static vex_status visit_all(const worker *w) {
    vex_graph_batch *batch = w->batch;
    vex_graph_scratch *s = NULL;
    vex_status status = vex_graph_scratch_acquire(w->graph, &s);
    while (status == VEX_OK && !atomic_load_explicit(&batch->stop, memory_order_relaxed)) {
        if (batch->pause != NULL && batch->pause(batch->context)) {
            atomic_store_explicit(&batch->stop, true, memory_order_relaxed);
            break;
        }
        const uint64_t id = atomic_fetch_add_explicit(&batch->next, 1, memory_order_relaxed);
        if (id >= batch->end) {
            break;
        }
        status = w->visit(w->context, s, (uint32_t)id);
    }
    if (status != VEX_OK) {
        atomic_store_explicit(&batch->stop, true, memory_order_relaxed);
    }
    vex_graph_scratch_release(w->graph, s);
    return status;
}

static void *run(void *argument) {
    worker *w = argument;
    vex_thread_give_way();
    w->status = visit_all(w);
    if (w->status != VEX_OK) {
        memcpy(w->message, vex_last_error()->message, sizeof w->message);
    }
    return NULL;
}

vex_status graph_for_batch(vex_graph *graph, vex_graph_batch *batch, uint32_t threads,
                           graph_visit visit, void *context) {
    const worker own = {.graph = graph, .batch = batch, .visit = visit, .context = context};
    const uint32_t more = (threads > THREADS_MAX ? THREADS_MAX : threads > 0 ? threads : 1) - 1;
    worker *workers = more > 0 ? vex_calloc(more, sizeof *workers) : NULL;
    uint32_t started = 0;
    for (; workers != NULL && started < more; started++) {
        workers[started] = own;
        if (pthread_create(&workers[started].thread, NULL, run, &workers[started]) != 0) {
            break; /* those that run do it all */
        }
    }
    vex_status status = visit_all(&own);
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        if (status == VEX_OK && workers[i].status != VEX_OK) {
            status = VEX_FAIL(workers[i].status, "%s", workers[i].message);
        }
    }
    vex_free(workers);
    return status;
}
