/*
 * t_takeover.c - logs that cannot simply be gone on with: shared ones, ones left over, and those of which
 * a failed sync has taken records that were shown.
 */
#include "tests/crash_kit.h"
#include "tests/wal_suite.h"

#include "db/db.h"
#include "io/vfs_fault.h"

#include <errno.h>
#include <stdatomic.h>

#define DIR(n) CRASH_PATH "/collections/0" #n "000000000000000000000000000000"

static vex_vfs *new_disk(void) {
    vex_vfs *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    return files;
}

static void begin(crash_world *world, vex_vfs *files, const char *script) {
    memset(world, 0, sizeof *world);
    world->files = files;
    world->options.busy_timeout_ms = 5000;
    CHECK_OK(crash_open(world));
    CHECK_OK(crash_run(world, script, NULL));
}

static void check_holds(vex_collection *collection, const char *expected) {
    char found[CRASH_TEXT];
    CHECK_OK(crash_describe(collection, found));
    if (strcmp(found, expected) != 0) {
        test_failed(__FILE__, __LINE__, "found %s, expected %s", found, expected);
    }
}

static void check_all(crash_world *world) {
    char expected[CRASH_TEXT];
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (world->open[c] != NULL) {
            crash_text(&world->history[c].states[world->history[c].n], expected);
            check_holds(world->open[c], expected);
        }
    }
}

/* ---- shared logs ---- */

/* The newest log that is left is a file of fork and source: what one adds the other must not see. */
static void lose_own_log(const char *own_log, const char *head) {
    static crash_world world;
    static const uint32_t modes[] = {VEX_DURABILITY_FULL, VEX_DURABILITY_OFF};
    for (int i = 0; i < 2; i++) {
        vex_vfs *files = new_disk();
        begin(&world, files, "C0 A0,0,2 A0,2,1 N1,0");
        crash_close(&world);
        CHECK_OK(files->path_remove(files, own_log));
        (void)files->path_remove(files, head);
        world.options.durability = modes[i];
        CHECK_OK(crash_open(&world));
        CHECK_OK(crash_run(&world, "A1,9,1 A0,8,1 U0,0,1 X1,1,1", NULL));
        check_all(&world);
        CHECK_OK(crash_run(&world, "R A1,10,1 F0 U0,1,1 R", NULL));
        check_all(&world);
        crash_close(&world);
        vex_vfs_memory_destroy(files);
    }
}

TEST(takeover_fork_without_its_own_log) {
    lose_own_log(DIR(2) "/wal-0000000002", DIR(2) "/head");
}
TEST(takeover_source_without_its_own_log) {
    lose_own_log(DIR(1) "/wal-0000000002", DIR(1) "/head");
}

/* ---- left over ---- */

static vex_status write_behind_an_empty_log(uint64_t first_lsn) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_wal_writer *writer = NULL;
    uint8_t lineage[16];
    begin(&world, files, "C0 A0,0,1 A0,1,1");
    memcpy(lineage, world.open[0]->manifest.lineage, sizeof lineage);
    crash_close(&world);
    CHECK_OK(vex_wal_create(files, DIR(1), lineage, 2, first_lsn, true, &writer));
    vex_wal_writer_close(writer);
    CHECK_OK(crash_open(&world));
    check_all(&world);
    vex_status status = crash_run(&world, "A0,2,1", NULL);
    if (status == VEX_OK) {
        check_all(&world);
        CHECK_OK(crash_run(&world, "R A0,3,1 R", NULL));
        check_all(&world);
    }
    crash_close(&world);
    vex_vfs_memory_destroy(files);
    return status;
}

TEST(takeover_an_empty_log_that_was_left_is_replaced) {
    CHECK_OK(write_behind_an_empty_log(2)); /* its writer went on in the log before */
    CHECK_OK(write_behind_an_empty_log(3)); /* in turn */
    CHECK_STATUS(write_behind_an_empty_log(4), VEX_ERR_CORRUPT); /* record 3 is missing */
}

/* ---- failed syncs ---- */

TEST(takeover_a_log_whose_name_is_not_durable_is_taken_back) {
    vex_vfs *files = new_disk(), *fault = NULL;
    vex_wal_writer *writer = NULL;
    vex_file_stat stat;
    CHECK_OK(vex_vfs_fault_create(files, &fault));
    for (int persistent = 0; persistent < 2; persistent++) {
        vex_vfs_fault_only(fault, VEX_FAULT_SYNC, "");
        vex_vfs_fault_arm(fault, 2, EIO, persistent != 0, false); /* the directory's */
        CHECK_STATUS(vex_wal_create(fault, "/", log_uuid, 1, 1, true, &writer),
                     persistent ? VEX_ERR_POISONED : VEX_ERR_IO);
        CHECK_STATUS(files->path_stat(files, "/wal-0000000001", &stat), VEX_ERR_NOT_FOUND);
    }
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(files);
}

static bool is_void(vex_vfs *files, const char *path) {
    static const uint8_t zeros[64];
    uint8_t raw[64] = {1};
    vex_file *file = NULL;
    size_t got = 0;
    CHECK_OK(files->file_open(files, path, VEX_FILE_READ, &file));
    CHECK_OK(files->file_read(files, file, raw, sizeof raw, 0, &got));
    files->file_close(files, file);
    return got == sizeof raw && memcmp(raw, zeros, sizeof raw) == 0;
}

TEST(takeover_after_a_closing_that_failed) {
    static crash_world world;
    vex_vfs *files = new_disk(), *fault = NULL;
    CHECK_OK(vex_vfs_fault_create(files, &fault));
    begin(&world, fault, "C0 A0,0,2");
    vex_vfs_fault_only(fault, VEX_FAULT_SYNC, "wal-");
    vex_vfs_fault_arm(fault, 1, EIO, true, false);
    crash_close(&world);
    CHECK(vex_vfs_fault_calls(fault) > 0);
    CHECK(is_void(files, DIR(1) "/head"));
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(crash_open(&world));
    CHECK_OK(crash_run(&world, "A0,5,1 R", NULL));
    check_all(&world);
    crash_close(&world);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(files);
}

static void write_zeros(vex_vfs *files, const char *path, uint64_t from, uint64_t to) {
    static const uint8_t zeros[4096];
    vex_file *file = NULL;
    CHECK(to - from <= sizeof zeros);
    CHECK_OK(files->file_open(files, path, VEX_FILE_WRITE, &file));
    const vex_iovec part = {zeros, (size_t)(to - from)};
    CHECK_OK(files->file_write(files, file, &part, 1, from));
    files->file_close(files, file);
}

/* What a sync of a log does. */
static atomic_bool syncs_fail, syncs_void_the_head;
static atomic_uint n_syncs;

static atomic_int drop_at; /* see below: what is synced cannot be dropped */

static vex_status watched_sync(vex_vfs *vfs, vex_file *file) {
    (void)file;
    drop_at = 0;
    atomic_fetch_add(&n_syncs, 1);
    if (atomic_exchange(&syncs_void_the_head, false)) {
        write_zeros(vfs, DIR(1) "/head", 0, 64);
    }
    return atomic_load(&syncs_fail) ? VEX_FAIL(VEX_ERR_IO, "injected fault: cannot sync") : VEX_OK;
}

static vex_vfs *watched_disk(void) {
    vex_vfs *files = new_disk();
    files->file_sync_data = watched_sync;
    atomic_store(&syncs_fail, false);
    atomic_store(&n_syncs, 0);
    return files;
}

static void end_pair(crash_world *world, vex_vfs *files) {
    crash_close(world);
    crash_pair_end(world);
    vex_vfs_memory_destroy(files);
}

/* A process that syncs later has shown others a record, and then the sync fails and the system drops its
 * pages.  The next record has the number and the length of the one that is lost. */
static void lose_a_record(crash_world *world, vex_vfs *files, char before[CRASH_TEXT]) {
    uint64_t from = 0;
    char text[CRASH_TEXT];
    begin(world, files, "C0 A0,0,1");
    world->steps = 20; /* from now on numbers are of one length */
    crash_pair_begin(world, (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
    CHECK_OK(crash_run(world, "+A0,1,1", NULL));
    for (int attempt = 0; attempt < 20 && !crash_is_held(world); attempt++) {
        CHECK_OK(crash_run(world, "L0 +W0", NULL));
        world->steps += world->steps % 2;
        CHECK_OK(crash_describe(world->open[0], before));
        from = world->open[0]->known.wal_end;
        snprintf(text, sizeof text, "+U0,%d,1 H0", 10 + attempt); /* of one length, all */
        CHECK_OK(crash_run(world, text, NULL));
    }
    CHECK(crash_is_held(world));
    CHECK_OK(crash_describe(world->open[0], text));
    CHECK(strcmp(before, text) != 0);
    atomic_store(&syncs_fail, true);
    CHECK_OK(crash_run(world, "L0", NULL));
    (void)crash_run(world, "+W0", NULL);
    CHECK(world->other->open[0]->poisoned);
    atomic_store(&syncs_fail, false);
    write_zeros(files, DIR(1) "/wal-0000000001", from, world->open[0]->known.wal_end);
    world->steps += world->steps % 2; /* an odd number: no document, as the lost one had none */
}

TEST(takeover_a_lost_record_is_shown_no_longer) {
    static crash_world world;
    char text[CRASH_TEXT];
    vex_vfs *files = watched_disk();
    lose_a_record(&world, files, text);
    CHECK_OK(crash_run(&world, "U0,39,1", NULL));
    snprintf(text + strlen(text), 32, "r39=%u ", (unsigned)world.steps);
    check_holds(world.open[0], text);
    check_holds(world.other->open[0], text);
    crash_close(&world);
    CHECK_OK(crash_open(&world));
    check_holds(world.open[0], text);
    end_pair(&world, files);
}

static void build_on_a_lost_record(bool void_head, bool closed) {
    static crash_world world;
    char text[CRASH_TEXT];
    vex_vfs *files = watched_disk();
    lose_a_record(&world, files, text);
    crash_swap(&world); /* another process finds out that it is lost */
    crash_close_one(&world);
    crash_swap(&world);
    CHECK_OK(crash_run(&world, "+U0,39,1", NULL));
    snprintf(text + strlen(text), 32, "r39=%u ", (unsigned)world.steps);
    world.steps++;
    if (closed) { /* its log is all durable, and says so */
        crash_swap(&world);
        crash_close_one(&world);
        crash_swap(&world);
    }
    if (void_head) {
        write_zeros(files, DIR(1) "/head", 0, 64);
    }
    CHECK_OK(crash_run(&world, "U0,38,1", NULL)); /* by who knows the lost one only */
    snprintf(text + strlen(text), 32, "r38=%u ", (unsigned)world.steps);
    check_holds(world.open[0], text);
    CHECK_OK(crash_run(&world, "+W0", NULL));
    check_holds(world.other->open[0], text);
    crash_close(&world);
    CHECK_OK(crash_open(&world));
    check_holds(world.open[0], text);
    end_pair(&world, files);
}

TEST(takeover_a_lost_record_is_not_built_on) {
    build_on_a_lost_record(false, false);
    build_on_a_lost_record(true, false); /* another sync failed meanwhile */
    build_on_a_lost_record(true, true);
}

static vex_vfs *slow_files; /* of that test: whose turn it is changes meanwhile */

static void *fail_and_let_go(void *context) {
    slow_files->sleep_ms(slow_files, 50);
    atomic_store(&syncs_fail, true);
    crash_let_go(context);
    return NULL;
}

/* A writer waits for a sync of another thread, since it is to follow another process. */
TEST(takeover_a_sync_that_was_waited_for_fails) {
    static crash_world world;
    pthread_t thread;
    vex_vfs *files = watched_disk();
    begin(&world, files, "C0 A0,0,1");
    crash_pair_begin(&world, (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
    for (int attempt = 0; attempt < 20 && !crash_is_held(&world); attempt++) {
        CHECK_OK(crash_run(&world, "L0 +W0 +U0,1,1 H0", NULL));
    }
    CHECK(crash_is_held(&world));
    CHECK_OK(crash_run(&world, "U0,2,1", NULL)); /* the other is behind */
    slow_files = files;
    CHECK_EQ(pthread_create(&thread, NULL, fail_and_let_go, &world), 0);
    CHECK_STATUS(crash_run(&world, "+U0,3,1", NULL), VEX_ERR_POISONED);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    atomic_store(&syncs_fail, false);
    end_pair(&world, files);
}

/* What reads the log and what writes it are never both open: the former would be believed later. */
TEST(takeover_a_head_that_cannot_be_read) {
    static crash_world world;
    vex_vfs *files = new_disk(), *fault = NULL;
    CHECK_OK(vex_vfs_fault_create(files, &fault));
    begin(&world, fault, "C0 A0,0,1");
    vex_vfs_fault_only(fault, VEX_FAULT_OTHER, "/head");
    for (uint64_t nth = 1; nth < 12; nth++) {
        CHECK_OK(crash_run(&world, "R", NULL));
        vex_vfs_fault_arm(fault, nth, EIO, false, false);
        (void)crash_take_over(world.open[0]);
        vex_vfs_fault_arm(fault, 0, 0, false, false);
        CHECK(world.open[0]->wal == NULL || world.open[0]->tail == NULL);
        CHECK_OK(crash_run(&world, "R U0,0,1", NULL));
        check_all(&world);
    }
    crash_close(&world);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(files);
}

/* Another process's sync fails while a write is under way: its head must not vouch for what is lost. */
TEST(takeover_a_head_that_was_voided_meanwhile_stays_void) {
    static crash_world world;
    vex_vfs *files = watched_disk();
    begin(&world, files, "C0 A0,0,1");
    crash_pair_begin(&world, (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
    atomic_store(&syncs_void_the_head, true);
    CHECK_OK(crash_run(&world, "A0,1,1", NULL));
    CHECK(!atomic_load(&syncs_void_the_head) && is_void(files, DIR(1) "/head"));
    CHECK_OK(crash_run(&world, "+W0", NULL)); /* who opens it settles the log */
    CHECK(!is_void(files, DIR(1) "/head"));
    check_all(&world);
    CHECK_OK(crash_run(&world, "+A0,2,1 A0,3,1", NULL));
    check_all(&world);
    end_pair(&world, files);
}

/* Nobody else knows of a record that is to be synced later. */
TEST(takeover_a_log_is_synced_before_another_goes_on_in_it) {
    static crash_world world;
    static const char *const ways[] = {"", "F0 A0,3,1 "};
    for (int i = 0; i < 2; i++) {
        vex_vfs *files = watched_disk();
        char script[64], ignored[CRASH_TEXT];
        begin(&world, files, "C0");
        crash_close(&world);
        atomic_store(&n_syncs, 0);
        world.options.durability = VEX_DURABILITY_OFF;
        CHECK_OK(crash_open(&world));
        crash_pair_begin(&world, (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
        snprintf(script, sizeof script, "+A0,1,1 A0,2,1 %s", ways[i]);
        CHECK_OK(crash_run(&world, script, NULL));
        CHECK_OK(crash_describe(world.other->open[0], ignored));
        CHECK_OK(crash_run(&world, "+W0", NULL));
        CHECK(atomic_load(&n_syncs) > 0);
        end_pair(&world, files);
    }
}

/* True when the flush could not take its manifest back; its files must be there then. */
static bool fail_a_flush(uint64_t nth_sync) {
    static crash_world world;
    vex_vfs *files = new_disk(), *fault = NULL;
    vex_file_stat stat;
    CHECK_OK(vex_vfs_fault_create(files, &fault));
    begin(&world, fault, "C0 A0,0,2");
    vex_vfs_fault_only(fault, VEX_FAULT_SYNC, "");
    vex_vfs_fault_arm(fault, nth_sync, EIO, true, false);
    vex_status status = vex_collection_flush(world.open[0]);
    bool half_way =
        status == VEX_ERR_POISONED && strstr(vex_last_error()->path, "manifest-") != NULL;
    if (half_way) { /* another process may know the manifest: all are to look anew */
        CHECK(is_void(files, DIR(1) "/head"));
        CHECK_OK(files->path_stat(files, DIR(1) "/vec-000000000001.vxv", &stat));
    }
    CHECK_STATUS(files->path_stat(files, DIR(1) "/manifest-00000000000000000002", &stat),
                 status == VEX_OK ? VEX_OK : VEX_ERR_NOT_FOUND);
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(crash_run(&world, "R A0,5,1", NULL));
    check_all(&world);
    crash_close(&world);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(files);
    return half_way;
}

/* A manifest whose name could not be taken back may be there again after a power failure. */
TEST(takeover_files_of_a_flush_stay_while_their_manifest_may_come_back) {
    int n = 0;
    for (uint64_t nth = 1; nth < 12; nth++) {
        n += fail_a_flush(nth);
    }
    CHECK_EQ(n, 1);
}

/* A collection that the background still holds is not opened once more when another process dropped it. */
TEST(takeover_what_another_process_dropped_is_not_opened) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_collection *first = NULL, *again = NULL;
    begin(&world, files, "C0 A0,0,1");
    crash_pair_begin(&world, (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
    CHECK_OK(crash_run(&world, "+A0,1,1", NULL));
    CHECK_OK(vex_collection_open(world.other->db, crash_uuid(0), &first));
    CHECK_OK(crash_run(&world, "D0", NULL));
    CHECK_STATUS(vex_collection_open(world.other->db, crash_uuid(0), &again), VEX_ERR_NOT_FOUND);
    CHECK_OK(vex_collection_close(first));
    crash_close(&world);
    crash_pair_end(&world);
    vex_vfs_memory_destroy(files);
}

/* ---- pages that the system drops while somebody reads ---- */

/* The n-th opening of the log in a mode is the moment. */
static vex_file_mode drop_mode;
static uint64_t drop_from, drop_to;
static vex_status (*plain_open)(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out);

static vex_status dropping_open(vex_vfs *vfs, const char *path, vex_file_mode mode,
                                vex_file **out) {
    if (mode == drop_mode && strstr(path, "/wal-") != NULL && drop_at > 0 && --drop_at == 0) {
        write_zeros(vfs, DIR(1) "/wal-0000000001", drop_from, drop_to);
        write_zeros(vfs, DIR(1) "/head", 0, 64);
    }
    return plain_open(vfs, path, mode, out);
}

/* A record that was never synced is dropped when another process opens the log for the n-th time: that one
 * shows it or not, but what it writes then stays, and nothing is told as damage. */
static void drop_while_opening(vex_file_mode mode, int n, bool torn) {
    static crash_world world;
    char before[CRASH_TEXT], after[CRASH_TEXT], text[CRASH_TEXT + 32];
    vex_vfs *files = watched_disk();
    plain_open = files->file_open;
    begin(&world, files, "C0 A0,0,2");
    crash_pair_begin(&world, (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
    CHECK_OK(crash_describe(world.open[0], before));
    drop_from = world.open[0]->known.wal_end;
    CHECK_OK(crash_run(&world, "+U0,10,1", NULL));
    CHECK_OK(crash_describe(world.open[0], after));
    drop_to = world.open[0]->known.wal_end;
    crash_close_one(&world);
    if (torn) { /* a writer died in the log */
        vex_file *log = NULL;
        const vex_iovec part = {"half", 4};
        CHECK_OK(files->file_open(files, DIR(1) "/wal-0000000001", VEX_FILE_WRITE, &log));
        CHECK_OK(files->file_write(files, log, &part, 1, drop_to));
        files->file_close(files, log);
    }
    drop_mode = mode;
    drop_at = n;
    files->file_open = dropping_open;
    files->file_sync = watched_sync;
    CHECK_OK(crash_open(&world));
    CHECK_OK(crash_run(&world, "U0,20,1", NULL));
    files->file_open = plain_open;
    CHECK_OK(crash_describe(world.open[0], text));
    snprintf(before + strlen(before), 32, "r20=%u/d%u ", world.steps, world.steps);
    snprintf(after + strlen(after), 32, "r20=%u/d%u ", world.steps, world.steps);
    CHECK(strcmp(text, before) == 0 || strcmp(text, after) == 0);
    check_holds(world.other->open[0], text); /* which knows the record that may be gone */
    crash_close(&world);
    CHECK_OK(crash_open(&world));
    check_holds(world.open[0], text);
    crash_close(&world);
    end_pair(&world, files);
}

TEST(takeover_pages_are_dropped_meanwhile) {
    for (int n = 1; n <= 12; n++) {
        for (int torn = 0; torn < 2; torn++) {
            drop_while_opening(VEX_FILE_READ, n, torn != 0);
            drop_while_opening(VEX_FILE_WRITE, n, torn != 0);
        }
    }
}

static uint64_t second_boot(vex_vfs *vfs) {
    (void)vfs;
    return 2;
}

/* Else every read would look at the log, until somebody writes. */
TEST(takeover_opening_after_a_restart_writes_a_head) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_head head;
    bool valid = false;
    begin(&world, files, "C0 A0,0,2");
    crash_close(&world);
    files->boot_id = second_boot;
    CHECK_OK(crash_open(&world));
    CHECK_OK(vex_head_read(files, world.open[0]->head_file, crash_uuid(0), &head, &valid));
    CHECK(valid && vex_head_equal(&head, &world.open[0]->known));
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* A log that cannot be written again is not tried with every read. */
TEST(takeover_that_fails_is_left_to_the_next_write) {
    static crash_world world;
    char ignored[CRASH_TEXT];
    vex_vfs *files = new_disk(), *fault = NULL;
    CHECK_OK(vex_vfs_fault_create(files, &fault));
    begin(&world, fault, "C0 A0,0,2");
    write_zeros(files, DIR(1) "/head", 0, 64);
    vex_vfs_fault_only(fault, VEX_FAULT_WRITE | VEX_FAULT_SYNC, "wal-");
    vex_vfs_fault_arm(fault, 1, EIO, true, false);
    CHECK_OK(crash_describe(world.open[0], ignored));
    const uint64_t calls = vex_vfs_fault_calls(fault);
    CHECK(calls > 0);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(crash_describe(world.open[0], ignored));
    }
    CHECK_EQ(vex_vfs_fault_calls(fault), calls);
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(crash_run(&world, "A0,5,1", NULL));
    check_all(&world);
    crash_close(&world);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(files);
}
