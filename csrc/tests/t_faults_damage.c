/*
 * t_faults_damage.c - changed bytes in any file of a closed database: an error that says so, or the
 * right answer; and what becomes of it without checksums, or when a tombstone is lost: then wrong
 * answers must be seen, or nothing here would see one.
 */
#include "tests/crash_states.h"

#include "base/mem.h"
#include "store/manifest.h"
#include "store/superblock.h"
#include "store/tombs.h"

#include <stdlib.h>

#define GRAPH_SCRIPT "C0 A0,0,20 F0 G0 X0,3,2 F0 G0"
#define SCRIPT "C0 A0,0,6 F0 X0,1,2 U0,0,1 F0 A0,8,3 X0,9,1 P0,8,1"
#define COLLECTION CRASH_PATH "/collections/01000000000000000000000000000000"

#ifdef __SANITIZE_THREAD__
#define SPARSER 16u
#else
#define SPARSER 1u
#endif

static uint64_t another_boot(vex_vfs *vfs) {
    (void)vfs;
    return 2;
}

static vex_vfs *new_files(void) {
    vex_vfs *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    return files;
}

static const vex_db_options options = {
    .busy_timeout_ms = 5000, .index_rows = 6, .index_threads = 1};

/* A database after a script, closed, and what it holds. */
static vex_vfs *make_files(const char *script, char expected[CRASH_TEXT]) {
    static crash_world world;
    memset(&world, 0, sizeof world);
    world.files = new_files();
    world.options = options;
    CHECK_OK(crash_open(&world));
    CHECK_OK(crash_run(&world, script, NULL));
    crash_close(&world);
    crash_text(&world.history[0].states[world.history[0].n], expected);
    return world.files;
}

static vex_vfs *copy_files(vex_vfs *files) {
    vex_disk *disk = NULL;
    vex_image *image = NULL;
    vex_vfs *copy = new_files();
    CHECK_OK(vex_disk_create(files, &disk));
    CHECK_OK(vex_disk_image(disk, NULL, 0, &image));
    CHECK_OK(vex_image_store(image, copy));
    vex_image_destroy(image);
    vex_disk_destroy(disk);
    copy->boot_id = another_boot;
    return copy;
}

static bool tells_damage(vex_status status) {
    return status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION || status == VEX_ERR_FOREIGN;
}

/* Is it an error, or right? */
static bool is_told_or_right(vex_vfs *files, const char *expected, char why[CRASH_WHY]) {
    static crash_world world;
    char found[CRASH_TEXT] = "absent";
    memset(&world, 0, sizeof world);
    world.files = files;
    world.options = options;
    vex_status status = crash_open(&world);
    if (status == VEX_OK && world.open[0] != NULL) {
        status = crash_describe(world.open[0], found);
    }
    snprintf(why, CRASH_WHY, "%s: %s: found %s, expected %s", vex_status_name(status),
             vex_last_error()->message, found, expected);
    crash_close(&world);
    return status == VEX_OK ? strcmp(found, expected) == 0 : tells_damage(status);
}

static void change_byte(vex_vfs *files, const char *path, uint64_t at, uint8_t change) {
    vex_file *file = NULL;
    uint8_t byte;
    size_t got = 0;
    CHECK_OK(files->file_open(files, path, VEX_FILE_WRITE, &file));
    CHECK_OK(files->file_read(files, file, &byte, 1, at, &got));
    byte ^= change;
    const vex_iovec part = {&byte, 1};
    CHECK_OK(files->file_write(files, file, &part, 1, at));
    files->file_close(files, file);
}

typedef struct damage {
    vex_vfs *files;
    const char *dir, *expected;
    const char *only; /* names that begin so */
    uint32_t without; /* checksums that fit all the same */
    uint64_t tried, wrong;
} damage;

static vex_status damage_file(void *context, const char *name) {
    damage *d = context;
    char path[VEX_PATH_MAX], why[CRASH_WHY];
    vex_file_stat stat;
    VEX_TRY(vex_path_join(path, d->dir, name));
    VEX_TRY(d->files->path_stat(d->files, path, &stat));
    if (stat.is_directory || strncmp(name, d->only, strlen(d->only)) != 0) {
        return VEX_OK;
    }
    uint64_t step = (stat.size > 2000 ? 7 + stat.size / 2000 : 1) * (d->without == 0 ? SPARSER : 1);
    for (uint64_t at = test_random_below((uint32_t)step); at < stat.size; at += step) {
        vex_vfs *files = copy_files(d->files);
        uint8_t change = (uint8_t)(1 + test_random_below(255));
        change_byte(files, path, at, change);
        crash_fit(files, d->without);
        bool fine = is_told_or_right(files, d->expected, why);
        vex_vfs_memory_destroy(files);
        d->tried++;
        d->wrong += !fine;
        if (!fine && d->without == 0) {
            test_failed(__FILE__, __LINE__, "byte %llu of %s changed by %u: %s",
                        (unsigned long long)at, path, (unsigned)change, why);
        }
    }
    return VEX_OK;
}

static damage try_damage(const char *dir, const char *only, uint32_t without) {
    char expected[CRASH_TEXT];
    damage d = {
        .files = make_files(SCRIPT, expected), .dir = dir, .only = only, .without = without};
    d.expected = expected;
    CHECK_OK(d.files->dir_list(d.files, dir, damage_file, &d));
    vex_vfs_memory_destroy(d.files);
    d.files = NULL;
    d.expected = NULL;
    return d;
}

TEST(faults_damage_is_told_or_harmless) {
    CHECK(try_damage(COLLECTION, "", 0).tried > 1000 / SPARSER);
    CHECK(try_damage(CRASH_PATH, "VEXFS", 0).tried > 90 / SPARSER);
}

TEST(faults_control_manifests_are_not_checked) {
    CHECK(try_damage(COLLECTION, "manifest-", CRASH_NO_MANIFEST_CHECK).wrong > 0);
}

TEST(faults_control_logs_are_not_checked) {
    CHECK(try_damage(COLLECTION, "wal-", CRASH_NO_FRAME_CHECK).wrong > 0);
}

/* ---- a lost tombstone ---- */

/* The tombstones without the first; the manifest agrees with what is left. */
static void lose_tombstone(vex_vfs *files, vex_file_entry *entry, const uint8_t *database) {
    vex_tombs *tombs = NULL, *fewer = NULL;
    bool was_live, lost = false;
    CHECK_OK(vex_tombs_read(files, COLLECTION, database, entry, &tombs));
    CHECK_OK(vex_tombs_create(tombs->rows, &fewer));
    for (uint32_t row = 0; row < tombs->rows; row++) {
        bool dead = vex_tombs_dead(tombs, row);
        if (dead && lost) {
            CHECK_OK(vex_tombs_kill(&fewer, row, &was_live));
        }
        lost = lost || dead;
    }
    CHECK_OK(vex_tombs_write(fewer, files, COLLECTION, database, entry->tombs_file_no,
                             entry->lsn_hi, false, entry));
    vex_tombs_release(tombs);
    vex_tombs_release(fewer);
}

TEST(faults_control_a_tombstone_is_lost) {
    char expected[CRASH_TEXT], why[CRASH_WHY];
    vex_vfs *files = make_files(SCRIPT, expected);
    vex_superblock super;
    vex_manifest manifest = {0};
    uint64_t generation = 0;
    uint32_t changed = 0;
    CHECK_OK(vex_superblock_read(files, CRASH_PATH, &super));
    CHECK_OK(vex_manifest_newest(files, COLLECTION, &generation));
    CHECK_OK(vex_manifest_read(files, COLLECTION, super.uuid, generation, &manifest));
    CHECK(is_told_or_right(files, expected, why));
    for (uint32_t i = 0; i < manifest.n_files; i++) {
        if (manifest.files[i].tombs_file_no != 0) {
            lose_tombstone(files, &manifest.files[i], super.uuid);
            changed++;
        }
    }
    CHECK_EQ(changed, 2); /* of its vector and of its payload: one record is back */
    manifest.live_rows++;
    CHECK_OK(vex_manifest_write(files, COLLECTION, super.uuid, &manifest, false));
    vex_manifest_clear(&manifest);
    CHECK(!is_told_or_right(files, expected, why));
    vex_vfs_memory_destroy(files);
}

/* ---- graphs ---- */

static vex_status find_graph(void *context, const char *name) {
    uint64_t number;
    return vex_file_number(name, VEX_KIND_GRAPH, &number) ? vex_path_join(context, COLLECTION, name)
                                                          : VEX_OK;
}

/* Whatever is in a graph file: it is loaded or made anew, and nothing fails. */
TEST(faults_damage_of_graphs_is_repaired) {
    static crash_world world;
    char expected[CRASH_TEXT], found[CRASH_TEXT];
    vex_vfs *files = make_files(GRAPH_SCRIPT, expected);
    vex_file_stat stat;
    char path[VEX_PATH_MAX] = "";
    CHECK_OK(files->dir_list(files, COLLECTION, find_graph, path));
    CHECK_OK(files->path_stat(files, path, &stat));
    for (uint32_t i = 0; i < 120 / SPARSER; i++) {
        /* half of it at the beginning: what says what the rest is */
        uint64_t at = i % 2 ? test_random_below((uint32_t)stat.size) : test_random_below(400);
        uint8_t change = (uint8_t)(1 + test_random_below(255));
        vex_vfs *damaged = copy_files(files);
        change_byte(damaged, path, at, change);
        memset(&world, 0, sizeof world);
        world.files = damaged;
        world.options = options;
        vex_status status = crash_open(&world);
        status = status == VEX_OK ? crash_run(&world, "G0 Y0 G0", NULL) : status;
        status = status == VEX_OK ? crash_describe(world.open[0], found) : status;
        crash_close(&world);
        vex_vfs_memory_destroy(damaged);
        if (status != VEX_OK || strncmp(found, expected, strlen(expected)) != 0) {
            test_failed(__FILE__, __LINE__, "byte %llu changed by %u: %s: %s: found %s",
                        (unsigned long long)at, (unsigned)change, vex_status_name(status),
                        vex_last_error()->message, found);
        }
    }
    vex_vfs_memory_destroy(files);
}
