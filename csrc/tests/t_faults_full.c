/*
 * t_faults_full.c - whole databases on disks (vfs_small.h) of every size, from one that holds nothing to
 * one that holds all that a script writes.
 *
 * A script (crash_kit.h) goes on whatever is refused.  A refusal says NO_SPACE, where, and what to do;
 * it changes nothing and poisons nothing.  Where the engine can see how full the disk is, it refuses
 * only what makes the database larger: deleting, dropping, flushing, merging and opening always work,
 * give space back, and the space can be used again.  A quota, which it cannot see, may refuse more.
 * In the end all that was acknowledged is there, and no memory is lost.
 */
#include "tests/crash_kit.h"

#include "base/mem.h"
#include "db/db.h"
#include "io/vfs_small.h"

#include <stdlib.h>

#define WITHOUT_LIMIT UINT64_MAX
#define EMPTY_BYTES                                                                                \
    4096u /* more than what a collection without records takes                      */

static const char *const scripts[] = {
    "C0 A0,0,6 F0 U0,0,3 P0,3,3 X0,1,2 F0 A0,8,4 V0 R A0,12,3 X0,0,2 V0 A0,15,3 O0 U0,8,2",
    "C0 C1 A0,0,4 A1,0,4 F0 U1,1,2 F1 D0 C0 A0,1,3 F0 C2 A2,0,5 X1,0,1 D2 V1 R A1,4,1 A0,4,1 D1",
    "C0 A0,0,40 F0 U0,0,20 F0 P0,10,20 F0 X0,0,30 V0 A0,40,8 V0 X0,35,4 V0 R A0,0,10 X0,44,4",
    "C0 C1 A0,0,4 A1,0,4 T0,0,3 F0 X1,0,1 T0,2,2 F1 X0,3,1 V0 T0,1,3 R T0,4,2 T0,1,0 D1 A0,9,1 "
    "T0,2,0 C2 X0,0,3 T0,3,0",
};
/* With graphs, which are saved when there is room. */
static const char *const graph_script =
    "C0 A0,0,20 F0 G0 X0,3,2 A0,20,10 F0 G0 U0,6,6 F0 R G0 V0 G0";
#define N_SCRIPTS ((int)(sizeof scripts / sizeof scripts[0]))

typedef struct trial {
    const char *script;
    uint64_t size;
    bool quota; /* the engine cannot see how full it is */
    crash_world *world;
    vex_vfs *disk;
    uint32_t refused;
    bool wrote; /* a write with vectors was acknowledged */
} trial;

#define FAIL(t, ...)                                                                               \
    do {                                                                                           \
        char what_[8000];                                                                          \
        snprintf(what_, sizeof what_, __VA_ARGS__);                                                \
        test_failed(__FILE__, __LINE__, "%s of %llu bytes, script %s, step %u (%s): %s",           \
                    (t)->quota ? "quota" : "disk", (unsigned long long)(t)->size, (t)->script,     \
                    (t)->world->steps, (t)->world->step, what_);                                   \
    } while (0)

/* ---- what a refusal must be like ---- */

static bool grows(const trial *t) {
    const char *step = t->world->step;
    const bool only_deletes = step[0] == 'T' && strcmp(step + strlen(step) - 2, ",0") == 0;
    return strchr("AUPYCT", step[0]) != NULL && !only_deletes;
}

/* The history goes back to what was acknowledged, and that must be there. */
static void check_contents(trial *t) {
    crash_world *world = t->world;
    char text[CRASH_TEXT];
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        crash_history *history = &world->history[c];
        vex_collection *opened = NULL;
        snprintf(text, sizeof text, "absent");
        if (world->open[c] != NULL && crash_describe(world->open[c], text) != VEX_OK) {
            FAIL(t, "reading collection %d: %s", c, vex_last_error()->message);
        }
        if (world->open[c] == NULL &&
            vex_collection_open(world->db, crash_uuid(c), &opened) != VEX_ERR_NOT_FOUND) {
            FAIL(t, "collection %d is there", c);
        }
        if (world->open[c] != NULL && world->open[c]->poisoned) {
            FAIL(t, "collection %d is poisoned", c);
        }
        if (crash_event_of(history, text, history->acked, history->acked) < 0) {
            FAIL(t, "collection %d holds %s", c, text);
        }
        history->n = history->acked;
    }
}

static void check_refusal(trial *t, vex_status status) {
    const vex_error *error = vex_last_error();
    if (status != VEX_ERR_NO_SPACE || strstr(error->path, CRASH_PATH) == NULL ||
        strstr(error->message, "free some space") == NULL) {
        FAIL(t, "%s: %s (%s)", vex_status_name(status), error->message, error->path);
    }
    if (t->world->step[0] == 'D' || (!t->quota && !grows(t))) {
        FAIL(t, "refused: %s (%s)", error->message, error->path);
    }
    t->refused++;
}

/* One step after the other, whatever is refused. */
static void run_script(trial *t, const char *script) {
    for (const char *at = script; *at != '\0';) {
        vex_status status = crash_run(t->world, at, &at);
        if (status == VEX_OK) {
            return;
        }
        if (status != VEX_ERR_CLOSED) { /* of a collection that was refused */
            check_refusal(t, status);
        }
        check_contents(t);
        at += strcspn(at, " ");
    }
}

/* A step that the disk must have room for. */
static void must_run(trial *t, const char *step) {
    vex_status status = crash_run(t->world, step, NULL);
    if (status != VEX_OK) {
        FAIL(t, "%s: %s (%s)", vex_status_name(status), vex_last_error()->message,
             vex_last_error()->path);
    }
}

/* ---- afterwards ---- */

/* Not a byte is free: everything opens and is there. */
static void check_opens_when_full(trial *t) {
    crash_close(t->world);
    vex_vfs_small_resize(t->disk, vex_vfs_small_used(t->disk));
    if (crash_open(t->world) != VEX_OK) {
        FAIL(t, "opening on a full disk: %s", vex_last_error()->message);
    }
    check_contents(t);
    vex_vfs_small_resize(t->disk, t->size);
}

static void each_open(trial *t, const char *format) {
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (t->world->open[c] != NULL) {
            char step[24];
            snprintf(step, sizeof step, format, c);
            must_run(t, step);
        }
    }
}

static uint32_t n_open(const trial *t) {
    uint32_t n = 0;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        n += t->world->open[c] != NULL;
    }
    return n;
}

/* Deleting gives all space back, and then there is room again. */
static void check_reuse(trial *t) {
    each_open(t, "X%d,0,48");
    each_open(t, "V%d");
    crash_close(t->world);
    if (crash_open(t->world) != VEX_OK) {
        FAIL(t, "opening: %s", vex_last_error()->message);
    }
    if (vex_vfs_small_used(t->disk) > (1 + n_open(t)) * EMPTY_BYTES) {
        FAIL(t, "%llu bytes are used without records",
             (unsigned long long)vex_vfs_small_used(t->disk));
    }
    if (t->wrote && t->world->open[0] != NULL) {
        must_run(t, "A0,0,4");
    }
    check_contents(t);
}

static void check_drops_when_full(trial *t) {
    vex_vfs_small_resize(t->disk, vex_vfs_small_used(t->disk));
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (t->world->open[c] != NULL) {
            char step[16];
            uint64_t before = vex_vfs_small_used(t->disk);
            snprintf(step, sizeof step, "D%d", c);
            must_run(t, step);
            CHECK(vex_vfs_small_used(t->disk) < before);
        }
    }
}

static void check_recovers(trial *t) {
    static char found[CRASH_COLLECTIONS][CRASH_TEXT], why[CRASH_WHY];
    crash_close(t->world);
    vex_vfs_small_resize(t->disk, WITHOUT_LIMIT);
    if (!crash_recover(t->disk, &t->world->options, found, why)) {
        FAIL(t, "%.5000s", why);
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        const crash_history *history = &t->world->history[c];
        if (crash_event_of(history, found[c], history->acked, history->acked) < 0) {
            FAIL(t, "in the end collection %d holds %.2000s", c, found[c]);
        }
    }
}

/* ---- all sizes ---- */

static void run_trial(trial *t) {
    if (crash_open(t->world) != VEX_OK) {
        snprintf(t->world->step, sizeof t->world->step, "C, opening");
        check_refusal(t, vex_last_error()->code);
        return;
    }
    run_script(t, t->script);
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        t->wrote = t->wrote || t->world->history[c].acked > 1;
    }
    if (t->world->db == NULL) {
        FAIL(t, "it could not be opened again");
    }
    check_contents(t);
    check_opens_when_full(t);
    if (!t->quota) {
        check_reuse(t);
    }
    if (t->size % 2 == 0) {
        check_drops_when_full(t);
    }
}

/* How much was refused, and the most that was used. */
static uint32_t try_size(const char *script, uint64_t size, bool quota, uint32_t index_rows,
                         uint64_t *most) {
    static crash_world world;
    trial t = {.script = script, .size = size, .quota = quota, .world = &world};
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    vex_vfs *files = NULL;
    memset(&world, 0, sizeof world);
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false; /* a disk to the engine */
    CHECK_OK(vex_vfs_small_create(files, size, &t.disk));
    vex_vfs_small_hide(t.disk, quota);
    world.files = t.disk;
    world.options =
        (vex_db_options){.busy_timeout_ms = 5000, .index_rows = index_rows, .index_threads = 1};
    run_trial(&t);
    *most = vex_vfs_small_most(t.disk);
    check_recovers(&t);
    vex_vfs_small_destroy(t.disk);
    vex_vfs_memory_destroy(files);
    if (vex_stat_get(VEX_STAT_HEAP_BLOCKS) != blocks) {
        FAIL(&t, "memory leaks");
    }
    return t.refused;
}

/* From nothing to enough; every few bytes in `make faults`. */
static void sweep(const char *script, bool quota, uint32_t index_rows) {
    bool full = getenv("VEXFS_FAULTS") != NULL;
    uint32_t step = full ? 61 : 2500;
#ifdef __SANITIZE_THREAD__
    step *= 8;
#endif
    uint64_t enough = 0, most, refused = 0, tried = 0;
    CHECK_EQ(try_size(script, WITHOUT_LIMIT - 1, quota, index_rows, &enough), 0);
    for (uint64_t size = test_random_below(step); size < enough;
         size += 1 + test_random_below(2 * step - 1)) {
        refused += try_size(script, size, quota, index_rows, &most);
        tried++;
    }
    CHECK(refused > 0);
    if (full) {
        printf("%s: %llu sizes up to %llu bytes, %llu steps refused\n", quota ? "quotas" : "disks",
               (unsigned long long)tried, (unsigned long long)enough, (unsigned long long)refused);
        fflush(stdout);
    }
}

TEST(faults_full_disk) {
    for (int i = 0; i < N_SCRIPTS; i++) {
        sweep(scripts[i], false, 0);
    }
}

TEST(faults_full_quota) {
    for (int i = 0; i < N_SCRIPTS; i++) {
        sweep(scripts[i], true, 0);
    }
}

TEST(faults_full_disk_of_graphs) {
    sweep(graph_script, false, 6);
}

/* A history holds only so many events: begin anew with what is there. */
static void forget(trial *t) {
    crash_history *history = &t->world->history[0];
    check_contents(t);
    history->states[0] = history->states[history->acked];
    history->n = history->acked = 0;
}

/* Others take the last byte: what the log keeps reserved is enough to delete, one by one. */
TEST(faults_full_by_others) {
    static crash_world world;
    trial t = {.script = "(others)", .size = WITHOUT_LIMIT, .world = &world};
    vex_vfs *files = NULL;
    memset(&world, 0, sizeof world);
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    CHECK_OK(vex_vfs_small_create(files, WITHOUT_LIMIT, &t.disk));
    world.files = t.disk;
    world.options = (vex_db_options){.busy_timeout_ms = 5000};
    CHECK_OK(crash_open(&world));
    must_run(&t, "C0");
    /* the log is reserved in steps: come to the end of one */
    for (int i = 0; i < 30; i++) {
        must_run(&t, i % 2 == 0 ? "A0,0,48" : "X0,4,44");
        forget(&t);
    }
    vex_vfs_small_hide(t.disk, true);
    vex_vfs_small_resize(t.disk, vex_vfs_small_used(t.disk));
    for (int refused = 0; refused < 2;) { /* what is left of the step */
        vex_status status = crash_run(&world, "U0,0,48", NULL);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_SPACE);
        refused += status != VEX_OK;
        forget(&t);
    }
    for (int i = 47; i > 0; i--) {
        char step[24];
        snprintf(step, sizeof step, "X0,%d,1", i);
        must_run(&t, step);
        forget(&t);
    }
    must_run(&t, "D0");
    check_recovers(&t);
    vex_vfs_small_destroy(t.disk);
    vex_vfs_memory_destroy(files);
}

/* ---- the disk itself ---- */

static vex_status write_at(vex_vfs *vfs, vex_file *file, uint64_t offset, size_t len) {
    static const uint8_t bytes[1000];
    const vex_iovec part = {bytes, len};
    return vfs->file_write(vfs, file, &part, 1, offset);
}

TEST(full_disk_accounts) {
    vex_vfs *files = NULL, *disk = NULL;
    vex_file *file = NULL, *other = NULL;
    vex_file_stat stat;
    const uint8_t *map = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    CHECK_OK(vex_vfs_small_create(files, 2 * VEX_SMALL_NAME + 1000, &disk));
    CHECK_OK(disk->file_open(disk, "/a", VEX_FILE_CREATE, &file));
    CHECK_OK(write_at(disk, file, 0, 600));
    CHECK_OK(write_at(disk, file, 100, 500)); /* over what is there */
    CHECK_EQ(vex_vfs_small_used(disk), VEX_SMALL_NAME + 600);
    CHECK_STATUS(write_at(disk, file, 500, 1000), VEX_ERR_NO_SPACE);
    CHECK_OK(disk->file_stat(disk, file, &stat));
    CHECK_EQ(stat.size, VEX_SMALL_NAME + 1000); /* what fitted */
    CHECK_STATUS(disk->file_allocate(disk, file, 0, 2000), VEX_ERR_NO_SPACE);
    CHECK_STATUS(disk->file_truncate(disk, file, 2000), VEX_ERR_NO_SPACE);
    CHECK_STATUS(disk->dir_create(disk, "/d"), VEX_ERR_NO_SPACE);
    CHECK_OK(disk->file_truncate(disk, file, 300));
    CHECK_OK(disk->path_link(disk, "/a", "/b"));
    CHECK_STATUS(disk->file_open(disk, "/c", VEX_FILE_CREATE, &other), VEX_OK);
    CHECK_EQ(vex_vfs_small_used(disk), 3 * VEX_SMALL_NAME + 300);
    CHECK_OK(write_at(disk, other, 0, 50));
    CHECK_OK(disk->path_rename(disk, "/c", "/b")); /* replaces a name of a file that has another */
    CHECK_EQ(vex_vfs_small_used(disk), 2 * VEX_SMALL_NAME + 350);
    CHECK_OK(disk->file_map(disk, file, 300, &map));
    CHECK_OK(disk->path_remove(disk, "/a"));
    CHECK_EQ(vex_vfs_small_used(disk), VEX_SMALL_NAME + 350); /* open and mapped */
    disk->file_close(disk, file);
    CHECK_EQ(vex_vfs_small_used(disk), VEX_SMALL_NAME + 350);
    disk->file_unmap(disk, map, 300);
    CHECK_EQ(vex_vfs_small_used(disk), VEX_SMALL_NAME + 50);
    disk->file_close(disk, other);
    CHECK_OK(disk->path_remove(disk, "/b"));
    CHECK_EQ(vex_vfs_small_used(disk), 0);
    CHECK_EQ(vex_vfs_small_refused(disk), 4);
    vex_vfs_small_destroy(disk);
    vex_vfs_memory_destroy(files);
}
