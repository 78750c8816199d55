/*
 * t_salvage.c - checking and salvaging collections whose files are damaged anywhere: nothing crashes or
 * leaks, damage is found, and what is salvaged is right.
 */
#include "tests/crash_states.h"

#include "base/mem.h"
#include "base/msgpack.h"
#include "db/db.h"
#include "store/superblock.h"

#define SCRIPT "C0 A0,0,6 F0 X0,1,2 U0,0,1 F0 A0,8,3 X0,9,1 P0,8,1"
#define COLLECTION CRASH_PATH "/collections/01000000000000000000000000000000"

#ifdef __SANITIZE_THREAD__
#define SPARSER 16u
#else
#define SPARSER 1u
#endif

static vex_vfs *make_files(char expected[CRASH_TEXT], uint8_t database[16]) {
    static crash_world world;
    vex_superblock super;
    memset(&world, 0, sizeof world);
    CHECK_OK(vex_vfs_memory_create(&world.files));
    world.files->is_volatile = false;
    world.options = (vex_db_options){.busy_timeout_ms = 5000, .index_rows = UINT32_MAX};
    CHECK_OK(crash_open(&world));
    CHECK_OK(crash_run(&world, SCRIPT, NULL));
    crash_close(&world);
    crash_text(&world.history[0].states[world.history[0].n], expected);
    CHECK_OK(vex_superblock_read(world.files, CRASH_PATH, &super));
    memcpy(database, super.uuid, 16);
    return world.files;
}

/* ---- looking ---- */

/* Check everything; returns how many findings are damage. */
static uint32_t check_damage(vex_vfs *files, const uint8_t database[16], uint32_t flags) {
    vex_check *check = NULL;
    vex_check_progress progress = {.more = 1};
    uint8_t *blob = NULL;
    size_t len = 0;
    uint32_t damage = 0;
    vex_db_test_files = files;
    CHECK_OK(vex_check_open(CRASH_PATH, database, crash_uuid(0), flags, &check));
    while (progress.more) {
        CHECK_OK(vex_check_step(check, &progress));
    }
    CHECK_OK(vex_check_take_findings(check, &blob, &len));
    vex_check_close(check);
    vex_db_test_files = NULL;
    vex_mp_reader reader = vex_mp_reader_make(blob, len);
    uint32_t n = vex_mp_next(&reader).count;
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(vex_mp_next(&reader).count, 4);
        damage += vex_mp_next(&reader).boolean;
        for (int k = 0; k < 3; k++) {
            vex_mp_skip(&reader);
        }
    }
    CHECK(!vex_mp_bad(&reader) && vex_mp_at_end(&reader));
    vex_bytes_free(blob);
    return damage;
}

/* Salvage all; the result is the caller's, *losses how much is lost. */
static vex_result *salvage_all(vex_vfs *files, const uint8_t database[16], uint32_t *losses) {
    vex_salvage *salvage = NULL;
    vex_salvage_info info;
    vex_result *result = NULL;
    uint8_t *blob = NULL;
    size_t len = 0;
    uint32_t more = 1;
    vex_db_test_files = files;
    CHECK_OK(vex_salvage_open(CRASH_PATH, database, crash_uuid(0), &salvage));
    vex_salvage_get_info(salvage, &info);
    CHECK_OK(vex_salvage_next(salvage, 1000, &result, &more));
    CHECK_EQ(more, 0);
    CHECK(result->n_rows <= info.records);
    CHECK_OK(vex_salvage_take_losses(salvage, &blob, &len));
    vex_mp_reader reader = vex_mp_reader_make(blob, len);
    *losses = vex_mp_next(&reader).count;
    vex_bytes_free(blob);
    vex_salvage_close(salvage);
    vex_db_test_files = NULL;
    return result;
}

/* Every vector that is given out is one that was written (crash_kit.c says how they look). */
static void check_vectors(const vex_result *result) {
    for (uint32_t row = 0; row < result->n_rows; row++) {
        const float *vector = result->vectors + (size_t)row * result->dimension;
        CHECK(vector[0] == (float)(int)vector[0] && vector[0] >= 0);
        CHECK(vector[1] == (float)((int)vector[0] % 7));
    }
}

/* ---- damaging ---- */

static vex_vfs *copy_files(vex_vfs *files) {
    vex_disk *disk = NULL;
    vex_image *image = NULL;
    vex_vfs *copy = NULL;
    CHECK_OK(vex_vfs_memory_create(&copy));
    copy->is_volatile = false;
    CHECK_OK(vex_disk_create(files, &disk));
    CHECK_OK(vex_disk_image(disk, NULL, 0, &image));
    CHECK_OK(vex_image_store(image, copy));
    vex_image_destroy(image);
    vex_disk_destroy(disk);
    return copy;
}

static void change(vex_vfs *files, const char *path, uint64_t at, size_t len, bool one_bit) {
    vex_file *file = NULL;
    uint8_t bytes[64];
    size_t got = 0;
    CHECK_OK(files->file_open(files, path, VEX_FILE_WRITE, &file));
    CHECK_OK(files->file_read(files, file, bytes, len, at, &got));
    for (size_t i = 0; i < got; i++) {
        const uint32_t bit = 1u << test_random_below(8), more = 1 + test_random_below(255);
        bytes[i] = (uint8_t)(one_bit ? bytes[i] ^ bit : bytes[i] + more);
    }
    const vex_iovec part = {bytes, got};
    CHECK_OK(files->file_write(files, file, &part, 1, at));
    files->file_close(files, file);
}

typedef struct damaging {
    vex_vfs *files;
    uint8_t database[16];
    char expected[CRASH_TEXT];
    bool one_bit;
    uint32_t tried, lost;
} damaging;

static bool begins_with(const char *name, const char *with) {
    return strncmp(name, with, strlen(with)) == 0;
}

static void try_place(damaging *d, const char *name, const char *path, uint64_t at) {
    vex_vfs *files = copy_files(d->files);
    uint32_t losses = 0;
    char found[CRASH_TEXT];
    const bool told = !begins_with(name, "wal-") && !begins_with(name, "head");
    change(files, path, at, d->one_bit ? 1 : 1 + test_random_below(60), d->one_bit);
    uint32_t damage = check_damage(files, d->database, VEX_CHECK_DEEP);
    (void)check_damage(files, d->database, 0);
    vex_result *result = salvage_all(files, d->database, &losses);
    check_vectors(result);
    if (d->one_bit && told) {
        crash_text_of(result, found);
        if (damage == 0 || losses > 0 || strcmp(found, d->expected) != 0) {
            test_failed(__FILE__, __LINE__, "byte %llu of %s: %u findings, %u losses, %s, not %s",
                        (unsigned long long)at, name, damage, losses, found, d->expected);
        }
    } else if (told && damage == 0) {
        test_failed(__FILE__, __LINE__, "byte %llu of %s: not found", (unsigned long long)at, name);
    }
    d->tried++;
    d->lost += losses > 0;
    vex_result_free(result);
    vex_vfs_memory_destroy(files);
}

static vex_status damage_file(void *context, const char *name) {
    damaging *d = context;
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    VEX_TRY(vex_path_join(path, COLLECTION, name));
    VEX_TRY(d->files->path_stat(d->files, path, &stat));
    const uint32_t size = stat.size > 12000 ? 12000 : (uint32_t)stat.size;
    const uint32_t step = (1 + size / 60) * SPARSER;
    for (uint32_t at = test_random_below(step); at < size; at += step) {
        try_place(d, name, path, at);
    }
    return VEX_OK;
}

static damaging damage_all(bool one_bit) {
    damaging d = {.one_bit = one_bit};
    d.files = make_files(d.expected, d.database);
    CHECK_OK(d.files->dir_list(d.files, COLLECTION, damage_file, &d));
    vex_vfs_memory_destroy(d.files);
    d.files = NULL;
    return d;
}

TEST(salvage_of_a_sound_collection) {
    char expected[CRASH_TEXT], found[CRASH_TEXT];
    uint8_t database[16];
    uint32_t losses = 1;
    vex_vfs *files = make_files(expected, database);
    CHECK_EQ(check_damage(files, database, VEX_CHECK_DEEP), 0);
    CHECK_EQ(check_damage(files, database, 0), 0);
    vex_result *result = salvage_all(files, database, &losses);
    crash_text_of(result, found);
    CHECK(strcmp(found, expected) == 0);
    CHECK_EQ(losses, 0);
    vex_result_free(result);
    vex_vfs_memory_destroy(files);
}

/* Somebody creates the collection between two looks at its directory. */
static vex_status (*list_directory)(vex_vfs *, const char *, vex_list_visitor, void *);
static uint32_t lists;

static vex_status list_nothing_first(vex_vfs *vfs, const char *path, vex_list_visitor visit,
                                     void *context) {
    return lists++ == 0 ? VEX_OK : list_directory(vfs, path, visit, context);
}

TEST(check_of_a_collection_that_is_just_created) {
    char expected[CRASH_TEXT];
    uint8_t database[16];
    vex_vfs *files = make_files(expected, database);
    list_directory = files->dir_list;
    files->dir_list = list_nothing_first;
    lists = 0;
    CHECK_EQ(check_damage(files, database, VEX_CHECK_DEEP), 0);
    CHECK(lists > 2);
    vex_vfs_memory_destroy(files);
}

TEST(salvage_puts_a_flipped_bit_right) {
    CHECK(damage_all(true).tried > 200 / SPARSER);
}

TEST(salvage_of_more_damage) {
    damaging d = damage_all(false);
    CHECK(d.tried > 200 / SPARSER);
    CHECK(d.lost > 0);
}

/* With any file gone nothing crashes, and something is told. */
static vex_status remove_file(void *context, const char *name) {
    damaging *d = context;
    char path[VEX_PATH_MAX];
    uint32_t losses = 0;
    VEX_TRY(vex_path_join(path, COLLECTION, name));
    vex_vfs *files = copy_files(d->files);
    CHECK_OK(files->path_remove(files, path));
    uint32_t damage = check_damage(files, d->database, VEX_CHECK_DEEP);
    vex_result *result = salvage_all(files, d->database, &losses);
    check_vectors(result);
    if (!begins_with(name, "head")) {
        CHECK(damage > 0);
        CHECK(losses > 0);
    }
    vex_result_free(result);
    vex_vfs_memory_destroy(files);
    return VEX_OK;
}

TEST(salvage_without_a_file) {
    damaging d = {0};
    d.files = make_files(d.expected, d.database);
    CHECK_OK(d.files->dir_list(d.files, COLLECTION, remove_file, &d));
    vex_vfs_memory_destroy(d.files);
}
