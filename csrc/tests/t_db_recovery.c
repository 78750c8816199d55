/*
 * t_db_recovery.c - what crashes and closings leave in a directory, and what opening makes of it.
 */
#include "store/container.h"
#include "tests/db_kit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIRECTORY "collections/0102030405060708090a0b0c0d0e0f10"

/* Path of something in the database; good until the fourth next call. */
static const char *in_db(const char *name) {
    static char paths[4][1024];
    static int next;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", test_directory(), name);
    return paths[next];
}

static bool exists(const char *name) {
    struct stat found;
    return stat(in_db(name), &found) == 0;
}

static void make_file(const char *name) {
    FILE *file = fopen(in_db(name), "w");
    CHECK(file != NULL && fputs("half of it", file) >= 0);
    fclose(file);
}

static void make_directory(const char *name) {
    CHECK(mkdir(in_db(name), 0777) == 0);
}

static void close_all(vex_collection *collection, vex_db *db) {
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

/* ---- creations that were interrupted ---- */

#define UNFINISHED "collections/00000000000000000000000000000001"
#define EMPTY "collections/00000000000000000000000000000002"
#define SOMETHING_ELSE "collections/00000000000000000000000000000003"
#define LATER "collections/00000000000000000000000000000004"
#define FIRST_TMP "/manifest-00000000000000000001.tmp"

static void make_unfinished(void) {
    CHECK_OK(vex_db_close(open_db(test_directory(), 0)));
    make_directory(UNFINISHED);
    make_file(UNFINISHED FIRST_TMP);
    make_directory(EMPTY);
    make_directory(SOMETHING_ELSE);
    make_file(SOMETHING_ELSE FIRST_TMP);
    make_file(SOMETHING_ELSE "/notes.txt");
    make_directory(LATER);
    make_file(LATER "/manifest-00000000000000000002.tmp");
    make_directory("collections/mine");
}

TEST(db_unfinished_collections_are_removed) {
    make_unfinished();
    const vex_db_options read_only = {.flags = VEX_OPEN_READ_ONLY};
    static const uint8_t unfinished[16] = {[15] = 1};
    vex_db *db = NULL;
    vex_collection *collection = NULL;
    CHECK_OK(vex_db_open(test_directory(), &read_only, &db));
    CHECK_STATUS(vex_collection_open(db, unfinished, &collection), VEX_ERR_NOT_FOUND);
    CHECK_OK(vex_db_close(db));
    CHECK(exists(UNFINISHED FIRST_TMP) && exists(EMPTY));

    CHECK_OK(vex_db_close(open_db(test_directory(), 0)));
    CHECK(!exists(UNFINISHED) && !exists(EMPTY));
    CHECK(exists(SOMETHING_ELSE FIRST_TMP) && exists(SOMETHING_ELSE "/notes.txt"));
    CHECK(exists(LATER "/manifest-00000000000000000002.tmp"));
    CHECK(exists("collections/mine"));
}

/* Whoever creates a collection holds the lock. */
TEST(db_collections_being_created_are_left_alone) {
    make_unfinished();
    int lock = open(in_db("LOCK"), O_RDWR | O_CLOEXEC);
    CHECK(lock >= 0 && flock(lock, LOCK_EX) == 0);
    CHECK_OK(vex_db_close(open_db(test_directory(), 0)));
    CHECK(exists(UNFINISHED FIRST_TMP) && exists(EMPTY));
    close(lock);
    CHECK_OK(vex_db_close(open_db(test_directory(), 0)));
    CHECK(!exists(UNFINISHED) && !exists(EMPTY));
}

/* ---- files of flushes and writes that were interrupted ---- */

static void open_and_close(void) {
    vex_collection *collection = NULL;
    vex_db *db = open_db(test_directory(), 0);
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    close_all(collection, db);
}

TEST(db_unfinished_files_are_removed) {
    static const char *const names[] = {
        DIRECTORY "/vec-000000000007.vxv.tmp",
        DIRECTORY "/pay-000000000008.vxp.tmp",
        DIRECTORY "/manifest-00000000000000000009.tmp",
        DIRECTORY "/wal-0000000003.tmp",
    };
    vex_db *db = open_db(test_directory(), 0);
    close_all(open_collection(db, VEX_SPACE_L2), db);
    for (int i = 0; i < 4; i++) {
        make_file(names[i]);
    }
    int lock = open(in_db("LOCK"), O_RDWR | O_CLOEXEC);
    CHECK(lock >= 0 && flock(lock, LOCK_EX) == 0);
    open_and_close();
    for (int i = 0; i < 4; i++) { /* somebody may be beginning a log: that needs the lock */
        CHECK_EQ(exists(names[i]), i == 3);
    }
    close(lock);
    open_and_close();
    CHECK(!exists(names[3]));
}

/* ---- opening alone ---- */

static uint32_t entries(const char *directory, char *names, size_t size) {
    uint32_t n = 0;
    DIR *found = opendir(directory);
    CHECK(found != NULL);
    size_t at = 0;
    for (struct dirent *entry; (entry = readdir(found)) != NULL; n++) {
        at += (size_t)snprintf(names + at, size - at, "%s ", entry->d_name);
    }
    closedir(found);
    return n - 2;
}

TEST(db_opening_a_collection_makes_no_file) {
    char names[1024];
    vex_db *db = open_db(test_directory(), 0);
    close_all(open_collection(db, VEX_SPACE_L2), db);
    db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_EQ(count(collection), 0);
    close_all(collection, db);
    if (entries(in_db(DIRECTORY), names, sizeof names) != 1) {
        test_failed(__FILE__, __LINE__, "there are %s", names);
    }
}

TEST(db_reader_notices_that_an_unwritten_collection_was_dropped) {
    vex_db *writer = open_db(test_directory(), 0), *reader = NULL;
    close_all(open_collection(writer, VEX_SPACE_L2), NULL);
    const vex_db_options read_only = {.flags = VEX_OPEN_READ_ONLY};
    vex_collection *reading = NULL;
    CHECK_OK(vex_db_open(test_directory(), &read_only, &reader));
    CHECK_OK(vex_collection_open(reader, uuid, &reading));
    CHECK_EQ(count(reading), 0);
    CHECK_OK(vex_collection_drop(writer, uuid));
    uint64_t n = 0;
    CHECK_STATUS(vex_count(reading, NULL, &n), VEX_ERR_NOT_FOUND);
    close_all(reading, reader);
    CHECK_OK(vex_db_close(writer));
}

/* ---- the log after a clean close ---- */

static long size_of(const char *name) {
    struct stat found;
    CHECK(stat(in_db(name), &found) == 0);
    return (long)found.st_size;
}

static void xor_byte(const char *name, long at) {
    FILE *file = fopen(in_db(name), "r+");
    CHECK(file != NULL && fseek(file, at, SEEK_SET) == 0);
    int byte = fgetc(file);
    CHECK(byte != EOF && fseek(file, at, SEEK_SET) == 0 && fputc(byte ^ 4, file) != EOF);
    fclose(file);
}

/* What a reboot does to the head: it counts no longer. */
static void reboot(void) {
    CHECK(remove(in_db(DIRECTORY "/head")) == 0);
}

static void write_and_close(const row *rows, uint32_t n) {
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, rows, n, true));
    close_all(collection, db);
}

static void check_reopened(const char *expected) {
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    check_ids(collection, NULL, expected);
    close_all(collection, db);
}

#define LOG DIRECTORY "/wal-0000000001"
#define CLOSE_FRAME 40

TEST(db_damage_of_the_last_record_is_told) {
    write_and_close(three, 1);
    write_and_close(three, 2);
    reboot();
    xor_byte(LOG, size_of(LOG) - CLOSE_FRAME - 1);
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = NULL;
    CHECK_STATUS(vex_collection_open(db, uuid, &collection), VEX_ERR_CORRUPT);
    CHECK(strstr(vex_last_error()->path, "wal-") != NULL);
    CHECK_OK(vex_db_close(db));
}

TEST(db_missing_log_is_damage) {
    vex_collection *collection = NULL;
    write_and_close(three, 1);
    vex_db *db = open_db(test_directory(), 0);
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    CHECK_OK(vex_collection_flush(collection));
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 2, true));
    close_all(collection, db);
    reboot();
    CHECK(remove(in_db(DIRECTORY "/wal-0000000002")) == 0);
    db = open_db(test_directory(), 0);
    CHECK_STATUS(vex_collection_open(db, uuid, &collection), VEX_ERR_CORRUPT);
    CHECK(strstr(vex_last_error()->path, "wal-0000000002") != NULL);
    CHECK_OK(vex_db_close(db));
}

/* The mark itself holds no data: without it the log ends all the same. */
TEST(db_a_damaged_or_missing_mark_loses_nothing) {
    write_and_close(three, 2);
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            xor_byte(LOG, size_of(LOG) - CLOSE_FRAME + 9);
        } else {
            CHECK(truncate(in_db(LOG), size_of(LOG) - 8) == 0);
        }
        reboot();
        check_reopened(i == 0 ? "a,b" : "a,b,c");
        write_and_close(three, 3); /* over the rest of the mark */
        check_reopened("a,b,c");
    }
}

TEST(db_goes_on_behind_a_clean_close) {
    for (uint32_t n = 1; n <= 3; n++) {
        write_and_close(three, n);
        CHECK(size_of(LOG) < 2000);
        check_reopened(n == 1 ? "a" : n == 2 ? "a,b" : "a,b,c");
        if (n == 2) {
            reboot();
        }
    }
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    delete_id(collection, "b", 1);
    CHECK_OK(vex_collection_flush(collection));
    close_all(collection, db);
    CHECK_EQ(size_of(DIRECTORY "/wal-0000000002"), 64 + CLOSE_FRAME);
    reboot();
    check_reopened("a,c");
}

TEST(db_reading_after_a_clean_close_writes_nothing) {
    struct stat before[2], after[2];
    static const char *const names[2] = {LOG, DIRECTORY "/head"};
    write_and_close(three, 3);
    for (int i = 0; i < 2; i++) {
        CHECK(stat(in_db(names[i]), &before[i]) == 0);
    }
    open_and_close();
    check_reopened("a,b,c");
    for (int i = 0; i < 2; i++) {
        CHECK(stat(in_db(names[i]), &after[i]) == 0);
        CHECK(after[i].st_size == before[i].st_size);
        CHECK(memcmp(&after[i].st_mtim, &before[i].st_mtim, sizeof after[i].st_mtim) == 0);
    }
}

/* ThreadSanitizer loses count of threads that forked children start, and ends these. */
#ifndef __SANITIZE_THREAD__
/* Runs in a child that goes on as a process of its own, and closes while the parent goes on. */
static void add_and_close(vex_db *db, vex_collection *collection, const row *one) {
    pid_t child;
    vex_fork_prepare();
    if ((child = fork()) == 0) {
        vex_fork_child();
        bool fine = write_rows(collection, VEX_WRITE_ADD, one, 1, true) == VEX_OK &&
                    vex_collection_close(collection) == VEX_OK && vex_db_close(db) == VEX_OK;
        _exit(fine ? 0 : 1);
    }
    vex_fork_parent();
    int how = 0;
    CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

TEST(db_one_process_closes_while_another_goes_on) {
    static const row more[] = {{"d", 4, 4, NULL, 4}, {"e", 5, 5, NULL, 5}};
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 1, true));
    add_and_close(db, collection, &three[1]);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true)); /* over the mark */
    add_and_close(db, collection, &more[0]);
    CHECK_OK(vex_collection_flush(collection)); /* another log from a marked one */
    add_and_close(db, collection, &more[1]);
    check_ids(collection, NULL, "a,b,c,d,e");
    close_all(collection, db); /* "e" is not ours: no mark of ours */
    check_reopened("a,b,c,d,e");
    reboot();
    check_reopened("a,b,c,d,e");
}
#endif

/* ---- damage of what can be done without ---- */

/* Where the metadata columns of the only payload file lie. */
static uint64_t find_columns(uint64_t *len) {
    vex_container file;
    CHECK_OK(vex_container_open(vex_vfs_posix(), in_db(DIRECTORY), NULL, VEX_KIND_PAYLOAD, 2, NULL,
                                &file));
    const vex_section *section = vex_container_find(&file, VEX_SECTION_COLUMNS);
    CHECK(section != NULL);
    uint64_t offset = section->offset;
    *len = section->len;
    vex_container_close(&file);
    return offset;
}

TEST(db_damaged_columns_are_done_without) {
    for (int i = 0; i < 2; i++) {
        uint64_t len = 0;
        vex_db *db = open_db(test_directory(), 0);
        vex_collection *collection = open_collection(db, VEX_SPACE_L2);
        CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
        CHECK_OK(vex_collection_flush(collection));
        close_all(collection, db);
        uint64_t at = find_columns(&len);
        /* the first column, or the header: found at the first use, or when the file is opened */
        xor_byte(DIRECTORY "/pay-000000000002.vxp", (long)(at + (i == 0 ? 36 : 5)));

        vex_stats before, after;
        vex_get_stats(&before);
        db = open_db(test_directory(), 0);
        CHECK_OK(vex_collection_open(db, uuid, &collection));
        for (int again = 0; again < 3; again++) {
            vex_buf filter = {0};
            vex_selection selection = filter_number(&filter, VEX_F_GT, 1);
            check_ids(collection, &selection, "b,c");
            vex_buf_clear(&filter);
        }
        vex_get_stats(&after);
        CHECK_EQ(after.damaged_parts, before.damaged_parts + 1);
        CHECK_OK(vex_collection_close(collection));
        CHECK_OK(vex_collection_drop(db, uuid));
        CHECK_OK(vex_db_close(db));
    }
}

/* ---- openings that share one engine ---- */

TEST(db_the_stricter_durability_holds_for_all) {
    const vex_db_options off = {.durability = VEX_DURABILITY_OFF}, full = {0};
    vex_db *loose = NULL, *strict = NULL;
    CHECK_OK(vex_db_open(test_directory(), &off, &loose));
    vex_collection *collection = open_collection(loose, VEX_SPACE_L2);
    uint64_t before = vex_stat_get(VEX_STAT_WAL_SYNCS);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 1, true));
    CHECK_EQ(vex_stat_get(VEX_STAT_WAL_SYNCS), before);
    CHECK_OK(vex_db_open(test_directory(), &full, &strict));
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 2, true));
    CHECK_EQ(vex_stat_get(VEX_STAT_WAL_SYNCS), before + 1);
    CHECK_OK(vex_db_close(strict));
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    CHECK_EQ(vex_stat_get(VEX_STAT_WAL_SYNCS), before + 2);
    close_all(collection, loose);
}

/* No waiting for other processes; but threads, and so calls, of this one are no obstacle. */
TEST(db_busy_timeout_of_zero) {
    vex_db *db = NULL;
    CHECK_OK(vex_db_open(test_directory(), &(vex_db_options){0}, &db));
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 1, true));
    int lock = open(in_db("LOCK"), O_RDWR | O_CLOEXEC);
    CHECK(lock >= 0 && flock(lock, LOCK_EX) == 0);
    CHECK_STATUS(write_rows(collection, VEX_WRITE_ADD, three, 2, true), VEX_ERR_BUSY);
    CHECK_EQ(count(collection), 1);
    close(lock);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 2, true));
    close_all(collection, db);
}

/* ---- files of another collection under this one's names ---- */

#define OTHER "collections/2a000000000000000000000000000000"

static void replace_file(const char *to, const char *from) {
    char bytes[4096];
    FILE *in = fopen(in_db(from), "rb"), *out = fopen(in_db(to), "wb");
    CHECK(in != NULL && out != NULL);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;) {
        CHECK_EQ(fwrite(bytes, 1, n, out), n);
    }
    CHECK(fclose(in) == 0 && fclose(out) == 0);
}

static void make_two_collections(void) {
    static const uint8_t other[16] = {42};
    write_and_close(three, 3);
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = NULL;
    CHECK_OK(vex_collection_create(db, other, VEX_SPACE_L2));
    CHECK_OK(vex_collection_open(db, other, &collection));
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 1, true));
    close_all(collection, db);
}

TEST(db_log_of_another_collection_is_refused) {
    make_two_collections();
    replace_file(LOG, OTHER "/wal-0000000001");
    replace_file(DIRECTORY "/head", OTHER "/head");
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = NULL;
    CHECK_STATUS(vex_collection_open(db, uuid, &collection), VEX_ERR_CORRUPT);
    CHECK(strstr(vex_last_error()->message, "another log under this name") != NULL);
    CHECK_OK(vex_db_close(db));
}

TEST(db_head_of_another_collection_does_not_count) {
    make_two_collections();
    replace_file(DIRECTORY "/head", OTHER "/head");
    check_reopened("a,b,c");
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, &(row){"d", 2, 2, NULL, 4}, 1, true));
    close_all(collection, db);
    check_reopened("a,b,c,d");
}

/* ---- a batch that was logged, but not acknowledged ---- */

/* A writer that was killed before it told others where its last record ends. */
static void kill_before_acknowledging(const row *one) {
    write_and_close(three, 2);
    replace_file("head-before", DIRECTORY "/head");
    write_and_close(one, 1);
    CHECK(truncate(in_db(LOG), size_of(LOG) - CLOSE_FRAME) == 0);
    replace_file(DIRECTORY "/head", "head-before");
}

static const row late = {"d", 2, 2, "of the killed writer", 4};

TEST(db_opening_settles_what_a_killed_writer_logged) {
    kill_before_acknowledging(&late);
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    check_ids(collection, NULL, "a,b,d"); /* from the first read on, so nobody adds it for absent */
    close_all(collection, db);
    CHECK(size_of(DIRECTORY "/head") > 0);
    check_reopened("a,b,d");
}

TEST(db_opening_cuts_what_a_killed_writer_logged_in_part) {
    kill_before_acknowledging(&late);
    xor_byte(LOG, size_of(LOG) - 1);
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    check_ids(collection, NULL, "a,b");
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, &late, 1, true));
    check_ids(collection, NULL, "a,b,d");
    close_all(collection, db);
    reboot();
    check_reopened("a,b,d");
}

TEST(db_read_only_sees_acknowledged_batches_alone) {
    kill_before_acknowledging(&late);
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY};
    vex_db *db = NULL;
    vex_collection *collection = NULL;
    CHECK_OK(vex_db_open(test_directory(), &options, &db));
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    check_ids(collection, NULL, "a,b");
    close_all(collection, db);
    check_reopened("a,b,d");
}
