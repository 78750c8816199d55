/*
 * t_faults_calls.c - the workloads of t_faults_states.c with every system call and every allocation
 * failing in turn.
 *
 * A script runs until its N-th call fails, once (then it goes on) or from then on (then it ends).
 * Each failure must have the right code; a write that failed without poisoning the collection has
 * changed nothing; a poisoned collection takes no writes.  When the fault is gone and everything was
 * closed, recovery finds what was acknowledged, and of what was not all or nothing (crash_kit.h).
 * No memory is lost on the way.
 */
#include "tests/crash_kit.h"

#include "base/mem.h"
#include "db/db.h"
#include "io/vfs_fault.h"

#include <errno.h>
#include <stdlib.h>

static const char *const scripts[] = {
    "C0 A0,0,2 A0,2,2 R F0 A0,4,1 U0,1,2 F0 X0,0,1",
    "C0 A0,0,3 U0,2,3 P0,0,4 X0,1,2 F0 U0,0,2 P0,3,1 R X0,0,1 F0 A0,8,1",
    "C0 A0,0,3 F0 A0,3,3 F0 X0,1,2 A0,6,3 F0 V0 U0,0,2 X0,4,1 R V0 X0,0,12 V0 A0,0,1",
    "C0 A0,0,3 F0 A0,3,1 D0 C0 A0,1,2 F0 R D0 C0 D0 C0 A0,0,1",
    "C0 A0,0,3 F0 N1,0 A0,3,1 N2,0 U1,0,2 X2,0,1 F1 D0 R N0,2 A0,8,1 F2 D1 A2,9,1",
    "C0 A0,0,3 Z0 F0 Z0 A0,3,1 U0,0,1 Z0 F0 R Z0 A0,5,1",
    "C0 C1 A0,0,2 A1,0,2 F0 C2 A2,0,1 U1,1,2 F1 D2 X1,0,1 R A0,3,1 A1,3,1",
    "C0 C1 A0,0,2 T0,0,2 F0 A1,3,1 T0,1,2 R T0,2,1 X1,0,1 A0,3,1",
};
#define N_SCRIPTS ((int)(sizeof scripts / sizeof scripts[0]))

typedef struct faults {
    const char *name;
    uint32_t kinds; /* VEX_FAULT_*; 0: allocations */
    int sys_errno;
    bool persistent, short_write;
} faults;

typedef struct trial {
    const faults *mode;
    const char *script;
    uint64_t nth;
    crash_world *world;
    vex_vfs *fault;
    bool armed;
} trial;

#define FAIL(t, ...)                                                                               \
    do {                                                                                           \
        char what_[6000];                                                                          \
        snprintf(what_, sizeof what_, __VA_ARGS__);                                                \
        vex_mem_fail_at(0, false);                                                                 \
        test_failed(__FILE__, __LINE__, "%s%s%s, call %llu, script %s, step %u (%s): %s",          \
                    (t)->mode->name, (t)->mode->persistent ? " persistent" : "",                   \
                    (t)->mode->short_write ? " short" : "", (unsigned long long)(t)->nth,          \
                    (t)->script, (t)->world->steps, (t)->world->step, what_);                      \
    } while (0)

static void arm(trial *t, bool on) {
    const faults *mode = t->mode;
    t->armed = on;
    if (mode->kinds == 0) {
        vex_mem_fail_at(on ? t->nth : 0, mode->persistent);
    } else {
        vex_vfs_fault_arm(t->fault, on ? t->nth : 0, mode->sys_errno, mode->persistent,
                          mode->short_write);
    }
}

static bool was_met(const trial *t) {
    return t->mode->kinds == 0 ? vex_mem_fail_left() == 0 : vex_vfs_fault_calls(t->fault) >= t->nth;
}

/* The code that a failure must have. */
static bool is_expected(const trial *t, vex_status status) {
    switch (t->mode->kinds == 0 ? ENOMEM : t->mode->sys_errno) {
    case ENOSPC:
    case EDQUOT:
        return status == VEX_ERR_NO_SPACE;
    case EACCES:
    case EROFS: /* a database that cannot be written is opened for reading */
        return status == VEX_ERR_PERMISSION || status == VEX_ERR_READ_ONLY;
    case ENOMEM:
        return status == VEX_ERR_NO_MEMORY;
    default:
        return status == VEX_ERR_IO;
    }
}

static bool is_poisoned(const crash_world *world) {
    bool found = false;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        found = found || (world->open[c] != NULL && world->open[c]->poisoned);
    }
    return found;
}

/* Nothing is acknowledged behind a failed sync. */
static void check_refuses(trial *t) {
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        vex_collection *collection = t->world->open[c];
        if (collection != NULL && collection->poisoned) {
            crash_history history = t->world->history[c];
            char step[16];
            snprintf(step, sizeof step, "Y%d", c);
            vex_status status = crash_run(t->world, step, NULL);
            t->world->history[c] = history;
            if (status != VEX_ERR_POISONED) {
                FAIL(t, "a poisoned collection writes: %s", vex_status_name(status));
            }
        }
    }
}

/* After a failure that poisoned nothing: which of the possible states is it?  The history ends there.
 * A write has changed nothing. */
static void settle(trial *t) {
    crash_world *world = t->world;
    char text[CRASH_TEXT];
    if (world->db == NULL) {
        return;
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        crash_history *history = &world->history[c];
        if (world->open[c] == NULL || strchr("CD", world->step[0]) != NULL) {
            continue;
        }
        vex_status status = crash_describe(world->open[c], text);
        if (status != VEX_OK) {
            FAIL(t, "reading after the fault: %s", vex_status_name(status));
        }
        if (crash_event_of(history, text, history->acked, history->acked) < 0) {
            FAIL(t, "after a failed step collection %d holds %s", c, text);
        }
        history->n = history->acked;
    }
}

/* A create or a drop that failed: did it happen?  Opening anew tells. */
static void settle_names(trial *t) {
    crash_world *world = t->world;
    char text[CRASH_TEXT];
    crash_close(world);
    vex_status status = crash_open(world);
    if (status != VEX_OK) {
        FAIL(t, "opening after the fault: %s: %s", vex_status_name(status),
             vex_last_error()->message);
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        crash_history *history = &world->history[c];
        snprintf(text, sizeof text, "absent");
        if (world->open[c] != NULL) {
            CHECK_OK(crash_describe(world->open[c], text));
        }
        int event = crash_event_of(history, text, history->acked, history->n);
        if (event < 0) {
            FAIL(t, "after the fault collection %d holds %s", c, text);
        }
        history->n = history->acked = (uint32_t)event;
    }
}

/* A step failed.  True: go on with the next. */
static bool after_failure(trial *t, vex_status status) {
    bool poisoned = is_poisoned(t->world);
    if (status == VEX_ERR_CLOSED) { /* of a collection that a failed step did not make */
        return true;
    }
    if (!is_expected(t, status) && status != VEX_ERR_POISONED) {
        FAIL(t, "%s: %s: %s", vex_status_name(status), vex_last_error()->path,
             vex_last_error()->message);
    }
    arm(t, false);
    if (poisoned) {
        check_refuses(t);
        return false;
    }
    if (t->mode->persistent || status == VEX_ERR_READ_ONLY || status == VEX_ERR_POISONED) {
        return false;
    }
    if (t->world->db == NULL || strchr("CDR", t->world->step[0]) != NULL) {
        settle_names(t);
    } else {
        settle(t);
    }
    return true;
}

static void run_script(trial *t) {
    const char *at = t->script;
    vex_status status = crash_open(t->world);
    if (status != VEX_OK && !after_failure(t, status)) {
        return;
    }
    while (*at != '\0') {
        status = crash_run(t->world, at, &at);
        if (status == VEX_OK || !after_failure(t, status)) {
            return;
        }
        at += strcspn(at, " ");
    }
}

static uint64_t another_boot(vex_vfs *vfs) {
    (void)vfs;
    return 2;
}

/* What was logged but not acknowledged is unseen until the log is taken over: have that done. */
static void take_over(trial *t, vex_vfs *files) {
    static crash_world world;
    memset(&world, 0, sizeof world);
    world.files = files;
    world.options = t->world->options;
    vex_status status = crash_open(&world);
    for (int c = 0; c < CRASH_COLLECTIONS && status == VEX_OK; c++) {
        status = world.open[c] != NULL ? crash_take_over(world.open[c]) : VEX_OK;
    }
    crash_close(&world);
    if (status != VEX_OK) {
        FAIL(t, "writing after the fault: %s: %s", vex_status_name(status),
             vex_last_error()->message);
    }
}

static void check_recovery(trial *t, vex_vfs *files) {
    static char found[CRASH_COLLECTIONS][CRASH_TEXT], why[CRASH_WHY];
    if (files->boot_id != another_boot) {
        take_over(t, files);
    }
    if (!crash_recover(files, &t->world->options, found, why)) {
        FAIL(t, "%.5000s", why);
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        const crash_history *history = &t->world->history[c];
        if (crash_event_of(history, found[c], history->acked, history->n) < 0) {
            FAIL(t, "collection %d holds %s; event %u of %u was acknowledged", c, found[c],
                 history->acked, history->n);
        }
    }
}

/* True when the fault was met. */
static bool try_one(const faults *mode, const char *script, uint64_t nth) {
    static crash_world world;
    trial t = {.mode = mode, .script = script, .nth = nth, .world = &world};
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    vex_vfs *files = NULL;
    memset(&world, 0, sizeof world);
    CHECK_OK(vex_vfs_memory_create(&files));
    CHECK_OK(vex_vfs_fault_create(files, &t.fault));
    files->is_volatile = t.fault->is_volatile = false; /* a disk to the engine */
    vex_vfs_fault_only(t.fault, mode->kinds, "");
    world.files = t.fault;
    world.options.busy_timeout_ms = 5000;
    arm(&t, true);
    run_script(&t);
    bool met = !t.armed || was_met(&t);
    if (nth % 2 == 0) {
        arm(&t, false);
    }
    crash_close(&world); /* closing may meet the fault, too */
    arm(&t, false);
    if (nth % 3 == 0) {
        files->boot_id = another_boot;
    }
    check_recovery(&t, files);
    vex_vfs_fault_destroy(t.fault);
    vex_vfs_memory_destroy(files);
    if (vex_stat_get(VEX_STAT_HEAP_BLOCKS) != blocks) {
        FAIL(&t, "memory leaks");
    }
    return met;
}

/* Every call in `make faults`, else some. */
static void sweep(const faults *mode) {
    bool full = getenv("VEXFS_FAULTS") != NULL;
    uint32_t step = full ? 1 : mode->kinds == 0 ? 60 : 12;
#ifdef __SANITIZE_THREAD__
    step *= 20;
#endif
    uint64_t tried = 0;
    for (int i = 0; i < N_SCRIPTS; i++) {
        uint64_t nth = 1 + test_random_below(step);
        for (; try_one(mode, scripts[i], nth); nth += 1 + test_random_below(2 * step - 1)) {
            tried++;
        }
        CHECK(nth > 10);
    }
    if (full) {
        printf("%-12s%s%s: %llu calls failed\n", mode->name, mode->persistent ? " persistent" : "",
               mode->short_write ? " short" : "", (unsigned long long)tried);
        fflush(stdout);
    }
}

TEST(faults_calls_eio) {
    sweep(&(faults){"EIO", VEX_FAULT_ALL, EIO, false, true});
    sweep(&(faults){"EIO", VEX_FAULT_ALL, EIO, true, false});
}
TEST(faults_calls_eio_of_syncs) {
    sweep(&(faults){"EIO of syncs", VEX_FAULT_SYNC, EIO, false, false});
    sweep(&(faults){"EIO of syncs", VEX_FAULT_SYNC, EIO, true, false});
}
TEST(faults_calls_enospc) {
    uint32_t kinds = VEX_FAULT_WRITE | VEX_FAULT_RENAME | VEX_FAULT_SYNC;
    sweep(&(faults){"ENOSPC", kinds, ENOSPC, false, true});
    sweep(&(faults){"ENOSPC", kinds, ENOSPC, true, true});
    sweep(&(faults){"ENOSPC", kinds, ENOSPC, true, false});
}
TEST(faults_calls_edquot) {
    uint32_t kinds = VEX_FAULT_WRITE | VEX_FAULT_RENAME;
    sweep(&(faults){"EDQUOT", kinds, EDQUOT, false, true});
    sweep(&(faults){"EDQUOT", kinds, EDQUOT, true, false});
}
TEST(faults_calls_eacces) {
    sweep(&(faults){"EACCES", VEX_FAULT_ALL & ~VEX_FAULT_SYNC, EACCES, false, false});
    sweep(&(faults){"EACCES", VEX_FAULT_ALL & ~VEX_FAULT_SYNC, EACCES, true, false});
}
TEST(faults_calls_erofs) {
    uint32_t kinds = VEX_FAULT_WRITE | VEX_FAULT_RENAME | VEX_FAULT_REMOVE;
    sweep(&(faults){"EROFS", kinds, EROFS, false, false});
    sweep(&(faults){"EROFS", kinds, EROFS, true, false});
}
TEST(faults_calls_emfile) {
    sweep(&(faults){"EMFILE", VEX_FAULT_ALL, EMFILE, false, false});
    sweep(&(faults){"EMFILE", VEX_FAULT_ALL, EMFILE, true, false});
}
TEST(faults_calls_enomem) {
    sweep(&(faults){"ENOMEM", VEX_FAULT_ALL, ENOMEM, false, false});
    sweep(&(faults){"ENOMEM", VEX_FAULT_ALL, ENOMEM, true, false});
}
TEST(faults_allocations) {
    sweep(&(faults){.name = "allocation"});
    sweep(&(faults){.name = "allocation", .persistent = true});
}
