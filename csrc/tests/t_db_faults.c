/*
 * t_db_faults.c - a whole database on a file system that fails.
 *
 * A short program opens a database, writes, flushes, closes and reopens.  It runs again and again
 * with the N-th system call failing, until it comes through without meeting the fault: once or
 * from then on, of every kind or of one.  Whatever fails, errors are those of the system or
 * POISONED; what was acknowledged is there, the batch that failed is there whole or not at all;
 * and when the fault is gone, the next write works, at the latest after reopening.
 */
#include "db/db.h"
#include "io/vfs_fault.h"
#include "tests/db_kit.h"

#include <errno.h>

#define PATH "/some/db"
#define OPS 13
#define LAST "last" /* the record that every upsert changes */

typedef struct faults {
    uint32_t kinds;
    int sys_errno;
    bool persistent, short_write;
    bool reboot;    /* the head does not survive */
    uint32_t burst; /* calls in a row, 0 = 1 */
} faults;

typedef struct world {
    const faults *mode;
    uint64_t nth;
    vex_vfs *memory, *fault;
    vex_db *db;
    vex_collection *collection;
    bool armed;
    bool failed;        /* since the last opening: POISONED is in order                   */
    bool done[OPS + 2]; /* operations acknowledged, or found done                         */
    int candidate;      /* the one that poisoned the writer since the last opening, or -1 */
    int unknown[4];     /* such of earlier openings, undecided until something is written */
    uint32_t n_unknown;
} world;

/* ---- what the records must be ---- */

/* Every fourth operation deletes the record of the first of the four. */
static bool is_delete(int op) {
    return op % 4 == 3;
}

static bool is_done(const world *w, int op, uint32_t subset) {
    if (op < 0 || op >= OPS + 2) {
        return false;
    }
    bool done = w->done[op];
    for (uint32_t i = 0; i < w->n_unknown; i++) {
        done = done || (w->unknown[i] == op && (subset >> i & 1));
    }
    return done || (w->candidate == op && (subset >> w->n_unknown & 1));
}

/* The records when of the operations of unknown fate those in `subset` were done. */
static void expected_text(const world *w, uint32_t subset, char *out, size_t size) {
    int last = -1, first = -1;
    size_t at = 0;
    for (int op = 0; op < OPS + 2; op++) {
        if (is_done(w, op, subset) && !is_delete(op)) {
            first = first < 0 ? op : first;
            last = op;
        }
    }
    out[0] = '\0';
    for (int op = first; op >= 0 && op < OPS + 2; op++) {
        bool dead = op % 4 == 0 && is_done(w, op + 3, subset);
        if (is_done(w, op, subset) && !is_delete(op) && !dead) {
            at += (size_t)snprintf(out + at, size - at, "r%d=%d ", op, op);
        }
        if (op == first) { /* LAST was born with the first, behind it */
            at += (size_t)snprintf(out + at, size - at, LAST "=%d ", last);
        }
    }
}

/* "id=number " of every record, where the number is in its metadata and its vector. */
static vex_status describe(vex_collection *collection, char *out, size_t size) {
    vex_result *result = NULL;
    VEX_TRY(vex_get(collection, NULL, 0, -1, VEX_INCLUDE_METADATAS | VEX_INCLUDE_VECTORS, &result));
    vex_mp_reader ids = vex_mp_reader_make(result->records, result->records_len);
    (void)vex_mp_next(&ids);
    (void)vex_mp_next(&ids);
    vex_mp_reader metadatas = ids;
    for (uint32_t i = 0; i < result->n_rows; i++) {
        (void)vex_mp_next(&metadatas);
    }
    (void)vex_mp_next(&metadatas); /* nil: the documents */
    (void)vex_mp_next(&metadatas);
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < result->n_rows; i++) {
        vex_mp_value id = vex_mp_next(&ids);
        (void)vex_mp_next(&metadatas);
        (void)vex_mp_next(&metadatas);
        long long number = (long long)vex_mp_next(&metadatas).integer;
        bool agree = result->vectors[2 * i] == (float)number;
        at += (size_t)snprintf(out + at, size - at, "%.*s=%lld%s ", (int)id.len,
                               (const char *)id.bytes, number, agree ? "" : "!");
    }
    vex_result_free(result);
    return VEX_OK;
}

#define FAIL(w, ...)                                                                               \
    do {                                                                                           \
        char what_[2048];                                                                          \
        snprintf(what_, sizeof what_, __VA_ARGS__);                                                \
        test_failed(__FILE__, __LINE__, "kinds %u errno %d%s%s%s, call %llu: %s",                  \
                    (unsigned)(w)->mode->kinds, (w)->mode->sys_errno,                              \
                    (w)->mode->persistent ? " persistent" : "",                                    \
                    (w)->mode->short_write ? " short" : "", (w)->mode->reboot ? " reboot" : "",    \
                    (unsigned long long)(w)->nth, what_);                                          \
    } while (0)

/* Did a call fail as it may?  Nothing may, without a fault. */
static void check_failure(world *w, const char *what, vex_status status) {
    vex_status system = w->mode->sys_errno == ENOSPC ? VEX_ERR_NO_SPACE : VEX_ERR_IO;
    bool fine = status == VEX_ERR_POISONED ? w->failed || w->armed : w->armed && status == system;
    if (!fine) {
        FAIL(w, "%s: %s: %s", what, vex_status_name(status), vex_last_error()->message);
    }
    w->failed = true;
}

/* The records must be those acknowledged, perhaps with operations whose fate is unknown.  Once
 * something was written behind those, it is decided. */
static void check_records(world *w, bool decided) {
    char found[512], expected[512];
    vex_status status = describe(w->collection, found, sizeof found);
    if (status != VEX_OK) {
        check_failure(w, "reading", status);
        return;
    }
    uint32_t subset = 0, n_subsets = 1u << (w->n_unknown + (w->candidate >= 0));
    for (; subset < n_subsets; subset++) {
        expected_text(w, subset, expected, sizeof expected);
        if (strcmp(found, expected) == 0) {
            break;
        }
    }
    if (subset == n_subsets) {
        expected_text(w, 0, expected, sizeof expected);
        FAIL(w, "the records are %s, expected %s", found, expected);
    }
    for (uint32_t i = 0; decided && i < w->n_unknown; i++) {
        w->done[w->unknown[i]] = subset >> i & 1;
    }
    w->n_unknown = decided ? 0 : w->n_unknown;
}

/* ---- the program ---- */

static void arm(world *w, bool on) {
    w->armed = on;
    vex_vfs_fault_arm(w->fault, on ? w->nth : 0, w->mode->sys_errno, w->mode->persistent,
                      w->mode->short_write);
}

static void close_world(world *w) {
    CHECK_OK(vex_collection_close(w->collection));
    CHECK_OK(vex_db_close(w->db));
    w->collection = NULL;
    w->db = NULL;
    w->failed = false;
    if (w->candidate >= 0) {
        CHECK(w->n_unknown < 4);
        w->unknown[w->n_unknown++] = w->candidate;
        w->candidate = -1;
    }
    if (w->mode->reboot) {
        (void)w->memory->path_remove(w->memory,
                                     PATH "/collections/0102030405060708090a0b0c0d0e0f10/head");
    }
}

/* False when the fault prevents it. */
static bool open_world(world *w) {
    const vex_db_options options = {.durability = VEX_DURABILITY_FULL};
    if (w->collection != NULL) {
        return true;
    }
    vex_status status = w->db == NULL ? vex_db_open(PATH, &options, &w->db) : VEX_OK;
    if (status == VEX_OK) {
        status = vex_collection_create(w->db, uuid, VEX_SPACE_L2);
        status = status == VEX_ERR_EXISTS ? VEX_OK : status;
    }
    if (status == VEX_OK) {
        status = vex_collection_open(w->db, uuid, &w->collection);
    }
    if (status != VEX_OK) {
        check_failure(w, "opening", status);
        return false;
    }
    check_records(w, false);
    return true;
}

static vex_status try_op(world *w, int op) {
    char id[16];
    if (is_delete(op)) {
        vex_buf ids = {0};
        snprintf(id, sizeof id, "r%d", op - 3);
        CHECK_OK(vex_mp_put_array(&ids, 1));
        put_text(&ids, id);
        const vex_selection selection = {.ids = ids.data, .ids_len = ids.len};
        vex_status status = vex_delete(w->collection, &selection, -1, NULL);
        vex_buf_clear(&ids);
        return status;
    }
    snprintf(id, sizeof id, "r%d", op);
    const row rows[] = {{id, (float)op, 1, NULL, op}, {LAST, (float)op, 0, "document", op}};
    return write_rows(w->collection, VEX_WRITE_UPSERT, rows, 2, true);
}

static vex_status do_op(world *w, int op) {
    if (!open_world(w)) {
        return VEX_ERR_CLOSED;
    }
    vex_status status = try_op(w, op);
    if (status == VEX_OK) {
        w->done[op] = true;
    } else {
        check_failure(w, "writing", status);
        if (w->collection->poisoned && w->candidate < 0) { /* else it was taken back, or refused */
            w->candidate = op;
        }
    }
    check_records(w, status == VEX_OK);
    return status;
}

static void do_flush(world *w) {
    if (open_world(w)) {
        vex_status status = vex_collection_flush(w->collection);
        if (status != VEX_OK) {
            check_failure(w, "flushing", status);
        }
        check_records(w, false);
    }
}

static void run_program(world *w) {
    for (int op = 0; op < OPS; op++) {
        (void)do_op(w, op);
        if (op == 3 || op == 5 || op == 11) {
            do_flush(w);
        }
        if (op == 6 || op == 11) {
            close_world(w);
        }
    }
}

/* ---- afterwards ---- */

static vex_status look_for_tmp(void *context, const char *name) {
    size_t len = strlen(name);
    if (len > 4 && strcmp(name + len - 4, ".tmp") == 0) {
        snprintf(context, 64, "%s", name);
    }
    return VEX_OK;
}

/* The fault is gone: everything works again. */
static void check_healed(world *w) {
    vex_status status = do_op(w, OPS); /* a failure: refused, because the fault poisoned it */
    if (status == VEX_ERR_POISONED) {
        close_world(w);
        status = do_op(w, OPS);
    }
    CHECK_OK(status);
    close_world(w);
    CHECK(open_world(w));
    do_flush(w);
    CHECK_OK(do_op(w, OPS + 1));
    close_world(w);
    CHECK(open_world(w));
    vex_collection_info info;
    CHECK_OK(vex_collection_get_info(w->collection, &info));
    CHECK_EQ(info.memtable_rows, 2); /* the flush left nothing but what came after it */
    char left[64] = "";
    CHECK_OK(w->memory->dir_list(w->memory, PATH "/collections/0102030405060708090a0b0c0d0e0f10",
                                 look_for_tmp, left));
    if (left[0] != '\0') {
        FAIL(w, "%s was left over", left);
    }
    close_world(w);
}

static void begin_world(world *w, const faults *mode) {
    *w = (world){.mode = mode, .candidate = -1};
    CHECK_OK(vex_vfs_memory_create(&w->memory));
    CHECK_OK(vex_vfs_fault_create(w->memory, &w->fault));
    w->fault->is_volatile = false; /* a disk to the engine: it outlives the database */
    vex_vfs_fault_only(w->fault, mode->kinds, "");
    vex_vfs_fault_burst(w->fault, mode->burst ? mode->burst : 1);
    vex_db_test_files = w->fault;
}

static void end_world(world *w) {
    vex_db_test_files = NULL;
    vex_vfs_fault_destroy(w->fault);
    vex_vfs_memory_destroy(w->memory);
}

/* True when the program met the fault. */
static bool run_world(const faults *mode, uint64_t nth, bool close_first) {
    world w;
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    begin_world(&w, mode);
    w.nth = nth;
    arm(&w, true);
    run_program(&w);
    if (close_first) {
        close_world(&w);
    }
    bool met = vex_vfs_fault_calls(w.fault) >= nth;
    arm(&w, false);
    check_healed(&w);
    end_world(&w);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), blocks);
    return met;
}

/* One thread's program is nothing for ThreadSanitizer, and slow under it. */
#ifdef __SANITIZE_THREAD__
#define STEP 9
#else
#define STEP 1
#endif

static void run_all(const faults *mode) {
    uint64_t nth = 1;
    for (; run_world(mode, nth, nth % 2 == 0); nth += STEP) {
        CHECK(nth < 5000);
    }
    CHECK(nth > 10); /* there was something to fail */
}

TEST(db_faults_any_call_fails_once) {
    run_all(&(faults){.kinds = VEX_FAULT_ALL, .sys_errno = EIO});
}
TEST(db_faults_any_call_fails_once_and_reboot) {
    run_all(
        &(faults){.kinds = VEX_FAULT_ALL, .sys_errno = EIO, .short_write = true, .reboot = true});
}
TEST(db_faults_everything_fails) {
    run_all(&(faults){.kinds = VEX_FAULT_ALL, .sys_errno = EIO, .persistent = true});
}
TEST(db_faults_disk_full_once) {
    run_all(&(faults){.kinds = VEX_FAULT_WRITE, .sys_errno = ENOSPC, .short_write = true});
}
TEST(db_faults_disk_full) {
    run_all(&(faults){
        .kinds = VEX_FAULT_WRITE, .sys_errno = ENOSPC, .persistent = true, .short_write = true});
}
TEST(db_faults_disk_full_and_reboot) {
    run_all(&(faults){.kinds = VEX_FAULT_WRITE,
                      .sys_errno = ENOSPC,
                      .persistent = true,
                      .short_write = true,
                      .reboot = true});
}
TEST(db_faults_syncs_fail) {
    run_all(&(faults){.kinds = VEX_FAULT_SYNC, .sys_errno = EIO, .persistent = true});
}
TEST(db_faults_syncs_fail_and_reboot) {
    run_all(
        &(faults){.kinds = VEX_FAULT_SYNC, .sys_errno = EIO, .persistent = true, .reboot = true});
}
/* What a failed commit or rotation left cannot be taken back either. */
TEST(db_faults_a_sync_and_what_makes_up_for_it_fail) {
    run_all(&(faults){.kinds = VEX_FAULT_SYNC | VEX_FAULT_REMOVE, .sys_errno = EIO, .burst = 2});
}
TEST(db_faults_any_three_calls_fail) {
    run_all(&(faults){.kinds = VEX_FAULT_ALL, .sys_errno = EIO, .burst = 3});
}
TEST(db_faults_any_three_calls_fail_and_reboot) {
    run_all(&(faults){.kinds = VEX_FAULT_ALL, .sys_errno = EIO, .reboot = true, .burst = 3});
}
TEST(db_faults_renames_fail) {
    run_all(&(faults){.kinds = VEX_FAULT_RENAME, .sys_errno = ENOSPC, .persistent = true});
}

/* Flushes that fail one after the other pile up sealed memtables, up to a limit: writes go on, and
 * the first flush that works takes them all. */
TEST(db_faults_of_many_flushes_are_made_up_for) {
    static const char *const parts[] = {"/vec-", "/pay-", "/manifest-00000000000000000002"};
    for (int i = 0; i < 3; i++) {
        world w;
        const faults mode = {
            .kinds = VEX_FAULT_WRITE, .sys_errno = ENOSPC, .persistent = true, .reboot = i == 2};
        begin_world(&w, &mode);
        CHECK(open_world(&w));
        vex_vfs_fault_only(w.fault, VEX_FAULT_WRITE, parts[i]);
        w.nth = 1;
        arm(&w, true);
        for (int op = 0; op < VEX_MEMTABLES_MAX + 4; op++) {
            CHECK_OK(do_op(&w, op));
            CHECK_STATUS(vex_collection_flush(w.collection), VEX_ERR_NO_SPACE);
        }
        arm(&w, false);
        CHECK_OK(vex_collection_flush(w.collection));
        CHECK_OK(vex_collection_flush(w.collection));
        vex_collection_info info;
        CHECK_OK(vex_collection_get_info(w.collection, &info));
        CHECK_EQ(info.memtable_rows, 0);
        check_records(&w, false);
        check_healed(&w);
        end_world(&w);
    }
}
