/*
 * t_faults_threads.c - power failures while several threads write to one collection and share syncs
 * (crash_states.h).  Each thread has a history of its own; what is found must hold a prefix of each,
 * with all that the thread was told.
 */
#include "tests/crash_states.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>

#define WRITES 12

static const char *const prefixes[CRASH_COLLECTIONS] = {"a", "b", "c"};

typedef struct writer {
    crash_world *world;
    vex_collection *collection;
    int history;
    vex_status status;
    pthread_t thread;
} writer;

static void *write_some(void *argument) {
    writer *w = argument;
    for (int i = 0; i < WRITES && w->status == VEX_OK; i++) {
        crash_state *next = crash_begin(w->world, w->history);
        next->exists = true;
        w->status = crash_write_one(w->collection, prefixes[w->history], i, next);
        if (w->status == VEX_OK) {
            crash_acknowledge(w->world, w->history);
        }
        if (i == WRITES / 2 && w->history == 0 && w->status == VEX_OK) {
            w->status = vex_collection_flush(w->collection);
        }
    }
    return NULL;
}

static vex_status work(crash_world *world) {
    writer writers[CRASH_COLLECTIONS];
    vex_status status = vex_collection_create(world->db, crash_uuid(0), VEX_SPACE_L2);
    if (status == VEX_OK) {
        status = vex_collection_open(world->db, crash_uuid(0), &world->open[0]);
    }
    for (int i = 0; i < CRASH_COLLECTIONS && status == VEX_OK; i++) {
        writers[i] = (writer){.world = world, .collection = world->open[0], .history = i};
        CHECK_EQ(pthread_create(&writers[i].thread, NULL, write_some, &writers[i]), 0);
    }
    for (int i = 0; i < CRASH_COLLECTIONS && status == VEX_OK; i++) {
        CHECK_EQ(pthread_join(writers[i].thread, NULL), 0);
    }
    for (int i = 0; i < CRASH_COLLECTIONS && status == VEX_OK; i++) {
        status = writers[i].status;
    }
    return status;
}

/* The records of each thread; "absent" when there are none, as before the first. */
static void split(char texts[CRASH_COLLECTIONS][CRASH_TEXT]) {
    char all[CRASH_TEXT];
    memcpy(all, texts[0], sizeof all);
    for (int i = 0; i < CRASH_COLLECTIONS; i++) {
        texts[i][0] = '\0';
    }
    for (char *word = strtok(all, " "); word != NULL; word = strtok(NULL, " ")) {
        int i = word[0] - 'a';
        if (strcmp(word, "absent") != 0 && i >= 0 && i < CRASH_COLLECTIONS) {
            strcat(strcat(texts[i], word), " ");
        }
    }
    for (int i = 0; i < CRASH_COLLECTIONS; i++) {
        if (texts[i][0] == '\0') {
            snprintf(texts[i], CRASH_TEXT, "absent");
        }
    }
}

static void run(uint32_t without, crash_figures *figures) {
    bool full = getenv("VEXFS_FAULTS") != NULL;
    memset(figures, 0, sizeof *figures);
    for (int round = 0; round < (full ? 20 : 2); round++) {
        crash_states(&(crash_plan){.name = "threads",
                                   .work = work,
                                   .split = split,
                                   .options = {.busy_timeout_ms = 5000},
                                   .sparse = true,
                                   .exhaustive = full ? 60 : 6,
                                   .samples = full ? 20 : 2,
                                   .without = without},
                     test_random(), figures);
    }
    if (full && without == 0) {
        printf("%-32s %5llu runs %7llu operations %9llu images %8llu distinct\n", "threads",
               (unsigned long long)figures->runs, (unsigned long long)figures->operations,
               (unsigned long long)figures->images, (unsigned long long)figures->distinct);
    }
}

TEST(faults_states_of_threads) {
    static crash_figures figures;
    run(0, &figures);
    if (figures.violations > 0) {
        test_failed(__FILE__, __LINE__, "%s", figures.why);
    }
}

TEST(faults_control_threads_without_syncs) {
    static crash_figures figures;
    run(CRASH_WAL_SYNC, &figures);
    CHECK(figures.violations > 0);
}
