/*
 * t_backup.c - backups of databases that are in use (db/backup.c): what they hold, what they share,
 * that they never change, at which moment they were made, and every call failing on the way.
 *
 * Power failures around a backup are in t_faults_states.c.
 */
#include "tests/crash_kit.h"

#include "base/mem.h"
#include "db/db.h"
#include "io/vfs_fault.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define TO "/copy"
#define FIRST TO "/collections/01000000000000000000000000000000"
#define FILLED "C0 C1 A0,0,4 F0 A0,4,4 X0,1,2 F0 U0,0,2 A1,0,3 X1,1,1"

/* ---- a database in a tree in memory, taken for a disk ---- */

static vex_vfs *new_disk(void) {
    vex_vfs *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    return files;
}

static void fill(crash_world *world, vex_vfs *files, const char *script) {
    memset(world, 0, sizeof *world);
    world->files = files;
    world->options.busy_timeout_ms = 5000;
    CHECK_OK(crash_open(world));
    CHECK_OK(crash_run(world, script, NULL));
}

static void run(crash_world *world, const char *script) {
    CHECK_OK(crash_run(world, script, NULL));
}

/* All collections that are open. */
static uint32_t items_of(const crash_world *world, vex_backup_item items[CRASH_COLLECTIONS]) {
    uint32_t n = 0;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (world->open[c] != NULL) {
            memcpy(items[n++].uuid, crash_uuid(c), 16);
        }
    }
    return n;
}

static vex_status back_up_with(const crash_world *world, vex_db *db, uint32_t flags, uint64_t most,
                               vex_backup_result *result) {
    vex_backup_item items[CRASH_COLLECTIONS];
    uint32_t n = items_of(world, items);
    return vex_db_backup(db, TO, flags, most, items, n, result);
}

static vex_backup_result back_up(const crash_world *world, uint32_t flags) {
    vex_backup_result result = {0};
    CHECK_OK(back_up_with(world, world->db, flags, 0, &result));
    return result;
}

static void check_text(vex_db *db, const crash_world *world, int c) {
    char expected[CRASH_TEXT], found[CRASH_TEXT];
    vex_collection *collection = NULL;
    crash_text(&world->history[c].states[world->history[c].n], expected);
    CHECK_OK(vex_collection_open(db, crash_uuid(c), &collection));
    CHECK_OK(crash_describe(collection, found));
    CHECK_OK(vex_collection_close(collection));
    if (strcmp(found, expected) != 0) {
        test_failed(__FILE__, __LINE__, "the backup of collection %d holds %s, expected %s", c,
                    found, expected);
    }
}

/* The copy holds what `world` holds now, opened for reading and then for writing. */
static void check_copy(vex_vfs *files, const crash_world *world) {
    vex_vfs *before = vex_db_test_files;
    vex_db_test_files = files;
    for (int writable = 0; writable < 2; writable++) {
        const vex_db_options options = {.flags =
                                            writable ? VEX_OPEN_NO_CREATE : VEX_OPEN_READ_ONLY};
        vex_db *db = NULL;
        CHECK_OK(vex_db_open(TO, &options, &db));
        for (int c = 0; c < CRASH_COLLECTIONS; c++) {
            if (world->open[c] != NULL) {
                check_text(db, world, c);
            }
        }
        CHECK_OK(vex_db_close(db));
    }
    vex_db_test_files = before;
}

/* ---- all bytes below a directory, as one number ---- */

typedef struct digest {
    vex_vfs *files;
    const char *path;
    uint64_t sum;
    uint32_t n_files;
} digest;

static vex_status add_entry(void *context, const char *name) {
    digest *d = context;
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    VEX_TRY(vex_path_join(path, d->path, name));
    VEX_TRY(d->files->path_stat(d->files, path, &stat));
    if (stat.is_directory) {
        digest inner = {.files = d->files, .path = path};
        VEX_TRY(d->files->dir_list(d->files, path, add_entry, &inner));
        d->sum += inner.sum;
        d->n_files += inner.n_files;
        return VEX_OK;
    }
    vex_file *file = NULL;
    uint64_t hash = 14695981039346656037ULL;
    uint8_t *bytes = vex_malloc((size_t)stat.size + 1);
    CHECK(bytes != NULL);
    VEX_TRY(d->files->file_open(d->files, path, VEX_FILE_READ, &file));
    CHECK_OK(vex_file_read_exact(d->files, file, path, bytes, (size_t)stat.size, 0));
    d->files->file_close(d->files, file);
    for (size_t i = 0; i < stat.size + strlen(path); i++) {
        uint8_t byte = i < stat.size ? bytes[i] : (uint8_t)path[i - stat.size];
        hash = (hash ^ byte) * 1099511628211ULL;
    }
    vex_free(bytes);
    d->sum += hash;
    d->n_files++;
    return VEX_OK;
}

static digest digest_of(vex_vfs *files, const char *path) {
    digest d = {.files = files, .path = path};
    CHECK_OK(files->dir_list(files, path, add_entry, &d));
    return d;
}

static uint64_t inode_of(vex_vfs *files, const char *path) {
    vex_file_stat stat;
    return files->path_stat(files, path, &stat) == VEX_OK ? stat.inode : 0;
}

/* ---- what a backup holds, and shares ---- */

TEST(backup_holds_everything) {
    static crash_world world;
    vex_vfs *files = new_disk();
    fill(&world, files, FILLED);
    vex_backup_result result = back_up(&world, 0);
    CHECK(result.linked_files == 4 && result.copied_files > 2);
    CHECK_EQ(inode_of(files, TO "/LOCK") + inode_of(files, FIRST "/head"), 0);
    check_copy(files, &world);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(backup_shares_only_what_never_changes) {
    static crash_world world;
    static const char source[] = CRASH_PATH "/collections/01000000000000000000000000000000/";
    static const char *const names[] = {"vec-000000000001.vxv", "pay-000000000002.vxp",
                                        "wal-0000000003", "manifest-00000000000000000003"};
    for (int copy = 0; copy < 2; copy++) {
        vex_vfs *files = new_disk();
        fill(&world, files, FILLED);
        vex_backup_result result = back_up(&world, copy ? VEX_BACKUP_COPY : 0);
        CHECK_EQ(result.linked_files, copy ? 0 : 4);
        for (int i = 0; i < 4; i++) {
            char from[VEX_PATH_MAX], to[VEX_PATH_MAX];
            CHECK_OK(vex_path_join(from, source, names[i]));
            CHECK_OK(vex_path_join(to, FIRST, names[i]));
            CHECK(inode_of(files, from) != 0 && inode_of(files, to) != 0);
            bool shared = inode_of(files, from) == inode_of(files, to);
            CHECK_EQ(shared, !copy && i < 2);
        }
        check_copy(files, &world);
        crash_close(&world);
        vex_vfs_memory_destroy(files);
    }
}

static uint64_t second_boot(vex_vfs *vfs) {
    (void)vfs;
    return 2;
}

TEST(backup_never_changes) {
    static crash_world world;
    vex_vfs *files = new_disk();
    fill(&world, files, FILLED);
    (void)back_up(&world, 0);
    const digest before = digest_of(files, TO);
    run(&world, "A0,20,3 U0,0,4 X1,0,1 F0 V0 A0,30,1 R A0,31,1");
    CHECK_EQ(digest_of(files, TO).sum, before.sum);
    world.db->vfs->boot_id = second_boot; /* the log is written again, in place */
    run(&world, "R A0,32,1 A1,9,1 D1");
    CHECK_EQ(digest_of(files, TO).sum, before.sum);
    CHECK_EQ(digest_of(files, TO).n_files, before.n_files);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(backup_without_a_head) { /* after a new start of the machine; and of what was never written */
    static crash_world world;
    vex_vfs *files = new_disk();
    fill(&world, files, FILLED " C2");
    crash_close(&world);
    files->boot_id = second_boot;
    CHECK_OK(crash_open(&world));
    (void)back_up(&world, 0);
    check_copy(files, &world);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(backup_ends_its_log) { /* so that a damaged last record is no torn one */
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_file *file = NULL;
    vex_file_stat stat;
    vex_db *db = NULL;
    vex_collection *collection = NULL;
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY};
    fill(&world, files, "C0 A0,0,3");
    (void)back_up(&world, 0);
    static const char log[] = FIRST "/wal-0000000001";
    CHECK_OK(files->path_stat(files, log, &stat));
    CHECK_OK(files->file_open(files, log, VEX_FILE_WRITE, &file));
    CHECK_OK(files->file_write(files, file, &(vex_iovec){"!", 1}, 1, stat.size - 60));
    files->file_close(files, file);
    vex_db_test_files = files;
    CHECK_OK(vex_db_open(TO, &options, &db));
    CHECK_STATUS(vex_collection_open(db, crash_uuid(0), &collection), VEX_ERR_CORRUPT);
    CHECK_OK(vex_db_close(db));
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* ---- ahead of time ---- */

TEST(backup_ahead_of_time) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_backup_result counted = {0}, first = {0}, rest = {0};
    fill(&world, files, FILLED);
    CHECK_OK(back_up_with(&world, world.db, VEX_BACKUP_AHEAD | VEX_BACKUP_COPY, 0, &counted));
    CHECK(counted.left_bytes > 0 && counted.copied_files == 0);
    CHECK_OK(back_up_with(&world, world.db, VEX_BACKUP_AHEAD | VEX_BACKUP_COPY, 1, &first));
    CHECK_EQ(first.copied_files, 1); /* a file is never split */
    CHECK_EQ(first.left_bytes + first.copied_bytes, counted.left_bytes);
    CHECK_OK(back_up_with(&world, world.db, VEX_BACKUP_AHEAD | VEX_BACKUP_COPY, UINT64_MAX, &rest));
    CHECK_EQ(rest.copied_bytes, first.left_bytes);
    run(&world, "V0 A0,40,2"); /* none of these files is listed any more */
    (void)back_up(&world, VEX_BACKUP_COPY);
    vex_manifest manifest = {0};
    CHECK_OK(vex_manifest_read(files, FIRST, world.db->uuid, world.open[0]->manifest.generation,
                               &manifest));
    CHECK(!vex_manifest_has_leftovers(files, FIRST, &manifest));
    vex_manifest_clear(&manifest);
    check_copy(files, &world);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* ---- without locks ---- */

static crash_world
    *meddling; /* merges the files between a reader's look at the manifest and its link */
static vex_status (*real_link)(vex_vfs *vfs, const char *from, const char *to);

static vex_status meddle_then_link(vex_vfs *vfs, const char *from, const char *to) {
    crash_world *world = meddling;
    meddling = NULL;
    if (world != NULL) {
        run(world, "V0 A0,50,1");
    }
    return real_link(vfs, from, to);
}

TEST(backup_of_a_reader_starts_again_when_files_vanish) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_db *reader = NULL;
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY};
    vex_backup_result result = {0};
    fill(&world, files, FILLED);
    CHECK_OK(vex_db_open(CRASH_PATH, &options, &reader));
    real_link = files->path_link;
    files->path_link = meddle_then_link;
    meddling = &world;
    CHECK_OK(back_up_with(&world, reader, 0, 0, &result));
    CHECK(meddling == NULL);
    check_copy(files, &world);
    CHECK_OK(vex_db_close(reader));
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* ---- one moment ---- */

#define WRITERS 3
#define MOMENTS 20

typedef struct writer {
    pthread_t thread;
    vex_collection *first, *second;
    char prefix[2];
    atomic_bool *stop;
} writer;

/* The second collection gets what the first got before, and was told so. */
static void *write_both(void *argument) {
    const writer *w = argument;
    for (int i = 0; !atomic_load(w->stop); i++) {
        crash_state ignored = {0};
        CHECK_OK(crash_write_one(w->first, w->prefix, i, &ignored));
        CHECK_OK(crash_write_one(w->second, w->prefix, i, &ignored));
    }
    return NULL;
}

static uint64_t lsn_of(vex_collection *collection) {
    vex_collection_info info;
    CHECK_OK(vex_collection_get_info(collection, &info));
    return info.lsn;
}

TEST(backup_is_of_one_moment) {
    static crash_world world;
    vex_vfs *files = new_disk();
    fill(&world, files, "C0 C1");
    writer writers[WRITERS];
    atomic_bool stop = false;
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (writer){.first = world.open[0], .second = world.open[1], .stop = &stop};
        writers[i].prefix[0] = (char)('a' + i);
        CHECK_EQ(pthread_create(&writers[i].thread, NULL, write_both, &writers[i]), 0);
    }
    for (int i = 0; i < MOMENTS; i++) {
        vex_backup_item items[CRASH_COLLECTIONS];
        vex_backup_result result;
        uint32_t n = items_of(&world, items);
        uint64_t acknowledged = lsn_of(world.open[1]);
        CHECK_OK(vex_dir_remove_all(files, TO));
        CHECK_OK(vex_db_backup(world.db, TO, 0, 0, items, n, &result));
        CHECK(items[1].lsn >= acknowledged);
        CHECK(items[0].lsn >= items[1].lsn && items[0].lsn <= items[1].lsn + WRITERS);
        while (lsn_of(world.open[1]) == items[1].lsn) { /* writers go on */
            sched_yield();
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < WRITERS; i++) {
        CHECK_EQ(pthread_join(writers[i].thread, NULL), 0);
    }
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* ---- where links cannot be made ---- */

TEST(backup_copies_where_it_cannot_link) {
    static crash_world world;
    static const int reasons[] = {EXDEV, EPERM, EMLINK, ENOTSUP, ENOSYS};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        vex_vfs *files = new_disk(), *fault = NULL;
        CHECK_OK(vex_vfs_fault_create(files, &fault));
        fill(&world, fault, FILLED);
        vex_vfs_fault_only(fault, VEX_FAULT_LINK, TO);
        vex_vfs_fault_arm(fault, 1, reasons[i], true, false);
        vex_backup_result result = back_up(&world, 0);
        CHECK_EQ(vex_vfs_fault_calls(fault), 4);
        CHECK(result.linked_files == 0 && result.copied_files > 4);
        check_copy(fault, &world);
        crash_close(&world);
        vex_vfs_fault_destroy(fault);
        vex_vfs_memory_destroy(files);
    }
}

/* ---- refusals ---- */

TEST(backup_refusals) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_db *memory = NULL;
    vex_backup_item item = {{9}, 0, 0};
    vex_backup_result result;
    CHECK_OK(vex_db_open(NULL, NULL, &memory));
    CHECK_STATUS(vex_db_backup(memory, TO, 0, 0, &item, 1, &result), VEX_ERR_INVALID);
    CHECK_OK(vex_db_close(memory));
    fill(&world, files, FILLED);
    CHECK_STATUS(vex_db_backup(world.db, TO, 4, 0, &item, 1, &result), VEX_ERR_INVALID);
    CHECK_STATUS(vex_db_backup(world.db, "", 0, 0, &item, 1, &result), VEX_ERR_INVALID);
    CHECK_STATUS(vex_db_backup(world.db, TO, 0, 0, &item, 1, &result), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vex_db_backup(world.db, "/no/such", 0, 0, &item, 1, &result), VEX_ERR_NOT_FOUND);
    CHECK_OK(vex_dir_remove_all(files, TO));
    CHECK_OK(files->path_remove(
        files, CRASH_PATH "/collections/01000000000000000000000000000000/vec-000000000001.vxv"));
    CHECK_STATUS(back_up_with(&world, world.db, 0, 0, &result), VEX_ERR_CORRUPT);
    CHECK(strstr(vex_last_error()->path, "vec-000000000001.vxv") != NULL);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* ---- everything that can fail ---- */

typedef struct mode {
    uint32_t kinds; /* 0: allocations */
    int sys_errno;
    bool persistent;
} mode;

static bool is_expected(const mode *m, vex_status status) {
    switch (m->kinds == 0 ? ENOMEM : m->sys_errno) {
    case ENOSPC:
        return status == VEX_ERR_NO_SPACE;
    case EACCES:
        return status == VEX_ERR_PERMISSION;
    case ENOMEM:
        return status == VEX_ERR_NO_MEMORY;
    default:
        return status == VEX_ERR_IO;
    }
}

/* True when the fault was met. */
static bool fail_one(const mode *m, uint64_t nth, bool read_only) {
    static crash_world world;
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    vex_vfs *files = new_disk(), *fault = NULL;
    vex_db *db = NULL;
    vex_backup_result result;
    CHECK_OK(vex_vfs_fault_create(files, &fault));
    fill(&world, fault, FILLED);
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY};
    CHECK_OK(vex_db_open(CRASH_PATH, read_only ? &options : &world.options, &db));
    const digest before = digest_of(files, CRASH_PATH);
    vex_vfs_fault_only(fault, m->kinds, "");
    if (m->kinds == 0) {
        vex_mem_fail_at(nth, m->persistent);
    } else {
        vex_vfs_fault_arm(fault, nth, m->sys_errno, m->persistent, true);
    }
    vex_status status = back_up_with(&world, db, 0, 0, &result);
    bool met = m->kinds == 0 ? vex_mem_fail_left() == 0 : vex_vfs_fault_calls(fault) >= nth;
    vex_mem_fail_at(0, false);
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    if (status != VEX_OK && !is_expected(m, status)) {
        test_failed(__FILE__, __LINE__, "call %llu, errno %d: %s: %s: %s", (unsigned long long)nth,
                    m->sys_errno, vex_status_name(status), vex_last_error()->path,
                    vex_last_error()->message);
    }
    CHECK(met || status == VEX_OK);
    CHECK_EQ(digest_of(files, CRASH_PATH).sum, before.sum); /* the original is as it was */
    if (status != VEX_OK) { /* a second attempt starts anew; or goes on, if only memory was short */
        CHECK_OK(m->kinds == 0 ? VEX_OK : vex_dir_remove_all(files, TO));
        CHECK_OK(back_up_with(&world, db, 0, 0, &result));
    }
    check_copy(files, &world);
    run(&world, "A0,60,1 F0"); /* no lock was forgotten */
    CHECK_OK(vex_db_close(db));
    crash_close(&world);
    vex_vfs_fault_destroy(fault);
    vex_vfs_memory_destroy(files);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), blocks);
    return met;
}

static void sweep(const mode *m) {
    bool full = getenv("VEXFS_FAULTS") != NULL;
    uint32_t step = full ? 1 : 7;
    uint64_t failed = 0;
    for (int read_only = 0; read_only < 2; read_only++) {
        uint64_t nth = 1 + test_random_below(step);
        while (fail_one(m, nth, read_only)) {
            nth += 1 + test_random_below(2 * step - 1);
            failed++;
        }
        CHECK(nth > 10);
    }
    if (full) {
        printf("backup, errno %d of kinds %u%s: %llu calls failed\n", m->sys_errno,
               (unsigned)m->kinds, m->persistent ? ", persistent" : "", (unsigned long long)failed);
    }
}

TEST(faults_backup_calls) {
    sweep(&(mode){VEX_FAULT_ALL, EIO, false});
    sweep(&(mode){VEX_FAULT_ALL, EIO, true});
    sweep(&(mode){VEX_FAULT_ALL, EACCES, false});
    sweep(&(mode){VEX_FAULT_ALL, EMFILE, true});
}
TEST(faults_backup_space) {
    sweep(&(mode){VEX_FAULT_WRITE | VEX_FAULT_SYNC, ENOSPC, false});
    sweep(&(mode){VEX_FAULT_WRITE | VEX_FAULT_SYNC, ENOSPC, true});
}
TEST(faults_backup_allocations) {
    sweep(&(mode){0, 0, false});
    sweep(&(mode){0, 0, true});
}
