/*
 * t_worker.c - what the background threads do while something else fails, or takes long (db/worker.c).
 */
#include "tests/crash_kit.h"

#include "db/db.h"
#include "io/vfs_fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIR(n) CRASH_PATH "/collections/0" #n "000000000000000000000000000000"
#define PATIENCE_MS 20000

static vex_vfs *new_disk(void) {
    vex_vfs *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    return files;
}

static void begin(crash_world *world, vex_vfs *files, vex_db_options options, const char *script) {
    memset(world, 0, sizeof *world);
    world->files = files;
    world->options = options;
    world->options.busy_timeout_ms = 5000;
    CHECK_OK(crash_open(world));
    CHECK_OK(crash_run(world, script, NULL));
}

static bool is_flushed(const vex_collection *collection) {
    return collection->manifest.generation > 1;
}

static bool is_synced(const vex_collection *collection) {
    return vex_wal_synced_end(collection->wal) == vex_wal_end(collection->wal);
}

/* Wait for what the background is to do with a collection. */
static void wait_until(vex_collection *collection, bool (*is_done)(const vex_collection *)) {
    vex_vfs *vfs = collection->db->vfs;
    bool done = false;
    for (int ms = 0; ms < PATIENCE_MS && !done; ms++) {
        vfs->sleep_ms(vfs, 1);
        pthread_mutex_lock(&collection->write_mu);
        done = is_done(collection);
        pthread_mutex_unlock(&collection->write_mu);
    }
    CHECK(done);
}

TEST(worker_a_flush_that_fails_holds_up_no_other_collection) {
    static crash_world world;
    vex_vfs *files = new_disk(), *fault = NULL;
    CHECK_OK(vex_vfs_fault_create(files, &fault));
    begin(&world, fault, (vex_db_options){.memtable_rows = 3}, "C0 C1");
    vex_vfs_fault_only(fault, VEX_FAULT_WRITE, DIR(2) "/vec-"); /* of who was opened last */
    vex_vfs_fault_arm(fault, 1, EIO, true, false);
    CHECK_OK(crash_run(&world, "A1,0,4", NULL));
    while (vex_vfs_fault_calls(fault) == 0) {
        files->sleep_ms(files, 1);
    }
    CHECK_OK(crash_run(&world, "A0,0,4", NULL));
    wait_until(world.open[0], is_flushed);
    CHECK(!is_flushed(world.open[1]));
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    wait_until(world.open[1], is_flushed); /* tried again */
    crash_close(&world);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(files);
}

static atomic_bool is_slow, is_waiting;
static vex_status (*plain_open)(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out);

static vex_status slow_open(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out) {
    if (strstr(path, "/vec-") != NULL && mode == VEX_FILE_CREATE) {
        while (atomic_load(&is_slow)) {
            atomic_store(&is_waiting, true);
            vfs->sleep_ms(vfs, 1);
        }
    }
    return plain_open(vfs, path, mode, out);
}

TEST(worker_a_long_flush_delays_no_sync) {
    static crash_world world;
    vex_vfs *files = new_disk();
    plain_open = files->file_open;
    files->file_open = slow_open;
    atomic_store(&is_slow, true);
    atomic_store(&is_waiting, false);
    begin(&world, files, (vex_db_options){.memtable_rows = 3, .durability = VEX_DURABILITY_NORMAL},
          "C0 A0,0,4");
    while (!atomic_load(&is_waiting)) {
        files->sleep_ms(files, 1);
    }
    CHECK_OK(crash_run(&world, "A0,5,1", NULL));
    wait_until(world.open[0], is_synced);
    CHECK(!is_flushed(world.open[0]));
    atomic_store(&is_slow, false);
    wait_until(world.open[0], is_flushed);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

static crash_world written;
static atomic_bool is_failing;
static vex_status (*plain_rename)(vex_vfs *vfs, const char *from, const char *to);

/* A record comes while a flush is under way, whose commit then fails. */
static vex_status writing_open(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out) {
    if (atomic_load(&is_failing) && strstr(path, "/vec-") != NULL && mode == VEX_FILE_CREATE) {
        CHECK_OK(crash_run(&written, "A0,9,1", NULL));
    }
    return plain_open(vfs, path, mode, out);
}

static vex_status failing_rename(vex_vfs *vfs, const char *from, const char *to) {
    return atomic_load(&is_failing) && strstr(to, "/manifest-") != NULL
               ? VEX_FAIL_AT(VEX_ERR_IO, to, 0, EIO, "injected fault: cannot rename")
               : plain_rename(vfs, from, to);
}

TEST(worker_what_was_acknowledged_is_synced_after_a_commit_that_failed) {
    vex_vfs *files = new_disk();
    plain_open = files->file_open;
    plain_rename = files->path_rename;
    files->file_open = writing_open;
    files->path_rename = failing_rename;
    atomic_store(&is_failing, false);
    begin(&written, files, (vex_db_options){.durability = VEX_DURABILITY_NORMAL}, "C0 A0,0,4 W");
    atomic_store(&is_failing, true);
    CHECK_STATUS(vex_collection_flush(written.open[0]), VEX_ERR_IO);
    atomic_store(&is_failing, false);
    CHECK(written.open[0]->poisoned);
    wait_until(written.open[0], is_synced);
    CHECK_OK(crash_run(&written, "R A0,10,1", NULL));
    crash_close(&written);
    vex_vfs_memory_destroy(files);
}

static atomic_bool is_busy;
static vex_status (*plain_sync)(vex_vfs *vfs, vex_file *file);

static vex_status slow_sync(vex_vfs *vfs, vex_file *file) {
    vfs->sleep_ms(vfs, 2);
    return plain_sync(vfs, file);
}

static void *write_all_the_time(void *collection) {
    while (atomic_load(&is_busy)) {
        crash_state ignored = {0};
        CHECK_OK(crash_write_one(collection, "m", 1, &ignored));
    }
    return NULL;
}

TEST(worker_syncs_all_in_turn) {
    static crash_world world;
    pthread_t thread;
    vex_vfs *files = new_disk();
    plain_sync = files->file_sync_data;
    files->file_sync_data = slow_sync;
    begin(&world, files, (vex_db_options){.durability = VEX_DURABILITY_NORMAL}, "C0 C1 A0,0,1 W");
    atomic_store(&is_busy, true);
    CHECK_EQ(pthread_create(&thread, NULL, write_all_the_time, world.open[1]), 0);
    for (int i = 0; i < 3; i++) { /* the other was opened last, and is looked at first */
        CHECK_OK(crash_run(&world, "U0,0,1", NULL));
        wait_until(world.open[0], is_synced);
    }
    atomic_store(&is_busy, false);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* The parent's worker does not live in the child, whatever it was asked for. */
TEST(worker_of_a_forked_child_syncs) {
    static crash_world world;
    int status = -1;
    vex_vfs *files = new_disk();
    begin(&world, files, (vex_db_options){.durability = VEX_DURABILITY_NORMAL, .memtable_bytes = 1},
          "C0 A0,0,1 W");
    CHECK_OK(crash_run(&world, "A0,5,1", NULL));
    atomic_store(&world.open[0]->sync_wanted, true);
    atomic_store(&world.open[0]->flush_wanted, true);
    vex_fork_prepare();
    const pid_t child = fork();
    if (child == 0) {
        vex_fork_child();
        bool fine = crash_run(&world, "A0,1,1", NULL) == VEX_OK;
        for (int ms = 0; ms < PATIENCE_MS && fine && !is_synced(world.open[0]); ms++) {
            files->sleep_ms(files, 1);
        }
        _exit(fine && is_synced(world.open[0]) ? 0 : 1);
    }
    vex_fork_parent();
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    CHECK_OK(vex_db_wait_idle(world.db, PATIENCE_MS));
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

static void *write_some(void *collection) {
    for (int i = 0; i < 4; i++) {
        crash_state ignored = {0};
        CHECK_OK(crash_write_one(collection, "m", i, &ignored));
    }
    return NULL;
}

static void *end_slowness(void *disk) {
    vex_vfs *files = disk;
    files->sleep_ms(files, 50);
    atomic_store(&is_slow, false);
    return NULL;
}

/* The writer waits for the worker, the worker for the fork, the fork for the writer. */
TEST(worker_a_fork_does_not_wait_for_a_writer_that_is_held_back) {
    static crash_world world;
    pthread_t writer, ending;
    vex_vfs *files = new_disk();
    plain_open = files->file_open;
    files->file_open = slow_open;
    atomic_store(&is_slow, true);
    atomic_store(&is_waiting, false);
    begin(&world, files, (vex_db_options){.memtable_bytes = 1}, "C0 A0,0,1");
    while (!atomic_load(&is_waiting)) {
        files->sleep_ms(files, 1);
    }
    CHECK_EQ(pthread_create(&writer, NULL, write_some, world.open[0]), 0);
    files->sleep_ms(files, 20);
    CHECK_EQ(pthread_create(&ending, NULL, end_slowness, files), 0);
    vex_fork_prepare();
    vex_fork_parent();
    CHECK_EQ(pthread_join(writer, NULL), 0);
    CHECK_EQ(pthread_join(ending, NULL), 0);
    CHECK_OK(vex_db_wait_idle(world.db, PATIENCE_MS));
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}
