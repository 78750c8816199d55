/*
 * micro_snapshots.c - how a reader gets at the state it reads, with a writer that publishes a new one
 * now and then: a mutex held only to count a reference (what the engine does), a read lock held
 * for the whole read, and no lock at all while it lasts (an epoch that the writer waits for).
 */
#include "tests/micro/micro.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define READERS 2u
#define READS 200000u
#define WRITE_EVERY_US 50
#define READ_STEPS 40u /* a read that takes about as long as a look-up by id */

typedef struct state {
    atomic_uint refs;
    uint64_t words[64];
} state;

typedef enum scheme { COUNTED, READ_LOCK, EPOCHS } scheme;

typedef struct shared {
    scheme scheme;
    pthread_mutex_t mu;
    pthread_rwlock_t lock;
    state *_Atomic published;
    atomic_uint_fast64_t epoch;
    struct {
        _Alignas(64) atomic_uint_fast64_t in; /* epoch of the read that is going on, 0: none */
    } readers[READERS];
    atomic_bool done;
    atomic_uint_fast64_t writes;
} shared;

typedef struct reader {
    shared *shared;
    uint32_t number;
    uint64_t sum;
} reader;

static uint64_t read_state(const state *s, uint64_t seed) {
    uint64_t sum = seed;
    for (uint32_t i = 0; i < READ_STEPS; i++) {
        sum = sum * 31 + s->words[sum % 64];
    }
    return sum;
}

static void release(state *s) {
    if (atomic_fetch_sub(&s->refs, 1) == 1) {
        free(s);
    }
}

static state *new_state(uint64_t seed) {
    state *s = micro_room(sizeof *s);
    atomic_store(&s->refs, 1);
    for (uint32_t i = 0; i < 64; i++) {
        s->words[i] = seed + i;
    }
    return s;
}

static void read_once(reader *r) {
    shared *s = r->shared;
    state *now;
    switch (s->scheme) {
    case COUNTED:
        pthread_mutex_lock(&s->mu);
        now = atomic_load(&s->published);
        atomic_fetch_add(&now->refs, 1);
        pthread_mutex_unlock(&s->mu);
        r->sum = read_state(now, r->sum);
        release(now);
        break;
    case READ_LOCK:
        pthread_rwlock_rdlock(&s->lock);
        r->sum = read_state(atomic_load(&s->published), r->sum);
        pthread_rwlock_unlock(&s->lock);
        break;
    default:
        atomic_store(&s->readers[r->number].in, atomic_load(&s->epoch));
        r->sum = read_state(atomic_load(&s->published), r->sum);
        atomic_store_explicit(&s->readers[r->number].in, 0, memory_order_release);
        break;
    }
}

static void *read_many(void *context) {
    for (uint32_t i = 0; i < READS; i++) {
        read_once(context);
    }
    return NULL;
}

static void wait_for_epoch(shared *s) {
    const uint64_t next = atomic_fetch_add(&s->epoch, 1) + 1;
    for (uint32_t i = 0; i < READERS; i++) {
        uint64_t in;
        while ((in = atomic_load(&s->readers[i].in)) != 0 && in < next) {
        }
    }
}

static void publish(shared *s, state *next) {
    state *old;
    if (s->scheme == READ_LOCK) {
        pthread_rwlock_wrlock(&s->lock);
    } else {
        pthread_mutex_lock(&s->mu);
    }
    old = atomic_exchange(&s->published, next);
    if (s->scheme == READ_LOCK) {
        pthread_rwlock_unlock(&s->lock);
    } else {
        pthread_mutex_unlock(&s->mu);
    }
    if (s->scheme == EPOCHS) {
        wait_for_epoch(s);
    }
    release(old);
}

static void *write_many(void *context) {
    shared *s = context;
    for (uint64_t i = 1; !atomic_load(&s->done); i++) {
        const struct timespec pause = {0, WRITE_EVERY_US * 1000};
        publish(s, new_state(i));
        atomic_fetch_add(&s->writes, 1);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void read_beside_a_writer(void *context) {
    shared *s = context;
    pthread_t writer, threads[READERS];
    reader readers[READERS];
    atomic_store(&s->done, false);
    pthread_create(&writer, NULL, write_many, s);
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i] = (reader){s, i, i};
        pthread_create(&threads[i], NULL, read_many, &readers[i]);
    }
    for (uint32_t i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        micro_use(&readers[i].sum);
    }
    atomic_store(&s->done, true);
    pthread_join(writer, NULL);
}

void micro_snapshots(void) {
    static const char *const names[] = {"a mutex to count a reference", "a read lock for the read",
                                        "epochs, no lock"};
    for (int i = 0; i < 3; i++) {
        shared s = {.scheme = (scheme)i,
                    .mu = PTHREAD_MUTEX_INITIALIZER,
                    .lock = PTHREAD_RWLOCK_INITIALIZER};
        atomic_store(&s.published, new_state(0));
        atomic_store(&s.epoch, 1);
        const double seconds = micro_time(read_beside_a_writer, &s);
        micro_report("snapshots", names[i], seconds / READS / READERS * 1e9, "ns a read");
        release(atomic_load(&s.published));
    }
}
