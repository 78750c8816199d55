/*
 * crash_pair.c - two processes in one script (crash_kit.h).
 *
 * They are in one process of the system, and in two for the engine: it tells directories apart by
 * device and inode, and what the other one opens has another device.  Its clock is faster, so that it
 * does not wait for the lease for long; and its syncs can be held, as those of a slow disk.
 */
#include "tests/crash_kit.h"

#include "base/mem.h"
#include "db/db.h"

#include <stdatomic.h>

#define OTHER_CLOCK 25 /* a second passes in 40 ms */
#define HOLD_TRIES 200

struct crash_elsewhere {
    vex_vfs files; /* what the engine holds; the rest is that of `inner` */
    vex_vfs *inner;
    atomic_bool hold, is_held;
};

static vex_vfs *inner_of(vex_vfs *files) {
    return ((struct crash_elsewhere *)(void *)files)->inner;
}

static vex_status other_file_stat(vex_vfs *files, vex_file *file, vex_file_stat *out) {
    VEX_TRY(inner_of(files)->file_stat(files, file, out));
    out->device++;
    return VEX_OK;
}

static vex_status other_path_stat(vex_vfs *files, const char *path, vex_file_stat *out) {
    VEX_TRY(inner_of(files)->path_stat(files, path, out));
    out->device++;
    return VEX_OK;
}

static uint64_t other_clock_ms(vex_vfs *files) {
    return inner_of(files)->clock_ms(files) * OTHER_CLOCK;
}

static vex_status other_sync_data(vex_vfs *files, vex_file *file) {
    struct crash_elsewhere *e = (struct crash_elsewhere *)(void *)files;
    while (atomic_load(&e->hold)) {
        atomic_store(&e->is_held, true);
        files->sleep_ms(files, 1);
    }
    return e->inner->file_sync_data(files, file);
}

void crash_pair_begin(crash_world *world, vex_db_options options) {
    struct crash_elsewhere *e = vex_calloc(1, sizeof *e);
    crash_process *other = vex_calloc(1, sizeof *other);
    CHECK(e != NULL && other != NULL);
    e->inner = world->files;
    e->files = *world->files;
    e->files.file_stat = other_file_stat;
    e->files.path_stat = other_path_stat;
    e->files.clock_ms = other_clock_ms;
    e->files.file_sync_data = other_sync_data;
    *other = (crash_process){.elsewhere = e, .files = &e->files, .options = options};
    other->options.busy_timeout_ms = world->options.busy_timeout_ms * OTHER_CLOCK;
    other->unsynced = options.durability == VEX_DURABILITY_NORMAL;
    world->other = other;
}

void crash_pair_end(crash_world *world) {
    if (world->other != NULL) {
        vex_free(world->other->elsewhere);
        vex_free(world->other);
        world->other = NULL;
    }
}

void crash_swap(crash_world *world) {
    crash_process *other = world->other;
    const crash_process was = *other;
    other->files = world->files;
    other->options = world->options;
    other->unsynced = world->unsynced;
    other->db = world->db;
    memcpy(other->open, world->open, sizeof other->open);
    world->files = was.files;
    world->options = was.options;
    world->unsynced = was.unsynced;
    world->db = was.db;
    memcpy(world->open, was.open, sizeof world->open);
}

/* The other process waits for the lease before it syncs, and after a second it does without. */
vex_status crash_hold(crash_world *world) {
    struct crash_elsewhere *e = world->other->elsewhere;
    VEX_TRY(vex_lease_acquire(world->db));
    atomic_store(&e->is_held, false);
    atomic_store(&e->hold, true);
    for (int i = 0; i < HOLD_TRIES && !atomic_load(&e->is_held); i++) {
        world->files->sleep_ms(world->files, 1);
    }
    if (!atomic_load(&e->is_held)) { /* it was synced before */
        atomic_store(&e->hold, false);
    }
    vex_lease_release(world->db);
    return VEX_OK;
}

void crash_let_go(crash_world *world) {
    if (world->other != NULL) {
        atomic_store(&world->other->elsewhere->hold, false);
    }
}

bool crash_is_held(const crash_world *world) {
    return atomic_load(&world->other->elsewhere->hold);
}

/* ---- kills ---- */

const vex_vfs *crash_victim(const crash_world *world, uint64_t kill) {
    return world->other == NULL || kill % 3 == 2 ? NULL
           : kill % 3 == 0                       ? &world->other->elsewhere->files
                                                 : world->files;
}

void crash_bury(crash_world *world, const vex_vfs *victim) {
    if (victim == NULL) {
        crash_close(world);
    } else {
        crash_let_go(world);
        if (world->files != victim) {
            crash_swap(world);
        }
        crash_close_one(world);
        crash_swap(world);
    }
    vex_vfs_trace_kill_at(world->trace, UINT64_MAX, NULL);
}
