/*
 * t_db.c - the engine through its public functions: writes, reads, reopening, sealing.
 */
#include "db/db.h"
#include "tests/db_kit.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- one story, told in memory, on disk, and with every write sealed into files ---- */

static void story(const char *path, uint32_t memtable_rows, bool flush_each, bool reopen_each) {
    vex_db *db = open_db(path, memtable_rows);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
#define PAUSE()                                                                                    \
    do {                                                                                           \
        if (flush_each) {                                                                          \
            CHECK_OK(vex_collection_flush(collection));                                            \
        }                                                                                          \
        if (reopen_each) {                                                                         \
            CHECK_OK(vex_collection_close(collection));                                            \
            CHECK_OK(vex_db_close(db));                                                            \
            db = open_db(path, memtable_rows);                                                     \
            collection = open_collection(db, VEX_SPACE_L2);                                        \
        }                                                                                          \
    } while (0)
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    PAUSE();
    CHECK_EQ(count(collection), 3);
    check_ids(collection, NULL, "a,b,c");
    check_query(collection, 1, 0.1f, 2, "a,c");

    const row again[] = {{"b", 9, 9, "ignored", 9}, {"d", 2, 2, "fourth", 4}};
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, again, 2, true));
    PAUSE();
    check_ids(collection, NULL, "a,b,c,d");
    check_query(collection, 0, 1, 1, "b");

    const row moved[] = {{"a", 5, 5, NULL, INT64_MIN}, {"nobody", 0, 0, NULL, 7}};
    CHECK_OK(write_rows(collection, VEX_WRITE_UPDATE, moved, 2, true));
    PAUSE();
    CHECK_EQ(count(collection), 4);
    check_query(collection, 5, 5, 2, "a,d");

    const row annotated[] = {{"c", 0, 0, NULL, 30}};
    CHECK_OK(write_rows(collection, VEX_WRITE_UPDATE, annotated, 1, false));
    PAUSE();
    vex_buf filter = {0};
    vex_selection selection = filter_number(&filter, VEX_F_GT, 2);
    check_ids(collection, &selection, "c,d");
    vex_buf_clear(&filter);

    delete_id(collection, "b", 1);
    delete_id(collection, "b", 0);
    PAUSE();
    check_ids(collection, NULL, "a,c,d");
    const row reborn[] = {{"b", 0, 0, "back", 8}, {"a", 0, 2, NULL, 11}};
    CHECK_OK(write_rows(collection, VEX_WRITE_UPSERT, reborn, 2, true));
    PAUSE();
    check_ids(collection, NULL, "a,c,d,b");
    check_query(collection, 0, 2, 4, "a,c,d,b"); /* d and b tie */
    filter = (vex_buf){0};
    selection = filter_number(&filter, VEX_F_LE, 8);
    uint64_t deleted = 0;
    CHECK_OK(vex_delete(collection, &selection, 1, &deleted));
    CHECK_EQ(deleted, 1); /* d comes before b */
    vex_buf_clear(&filter);
    PAUSE();
    check_ids(collection, NULL, "a,c,b");
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
#undef PAUSE
}

TEST(db_story_in_memory) {
    story(NULL, 0, false, false);
    story(NULL, 0, true, false);
}
TEST(db_story_on_disk) {
    story(test_directory(), 0, false, false);
}
TEST(db_story_reopened) {
    story(test_directory(), 0, false, true);
}
TEST(db_story_sealed) {
    story(test_directory(), 0, true, false);
}
TEST(db_story_sealed_and_reopened) {
    story(test_directory(), 0, true, true);
}
TEST(db_story_with_background_sealing) {
    story(test_directory(), 1, false, true);
}

TEST(db_in_memory_outlives_its_handles) {
    vex_db *db = open_db(NULL, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    CHECK_OK(vex_collection_close(collection));
    collection = open_collection(db, VEX_SPACE_L2);
    check_ids(collection, NULL, "a,b,c");
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_collection_drop(db, uuid));
    collection = open_collection(db, VEX_SPACE_L2);
    CHECK_EQ(count(collection), 0);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_bad_input_changes_nothing) {
    vex_db *db = open_db(NULL, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_COSINE);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    const row twice[] = {{"x", 0, 1, NULL, 1}, {"x", 0, 2, NULL, 2}};
    CHECK_STATUS(write_rows(collection, VEX_WRITE_ADD, twice, 2, true), VEX_ERR_INVALID);
    const row infinite[] = {{"x", 0, 1.0f / 0.0f, NULL, 1}};
    CHECK_STATUS(write_rows(collection, VEX_WRITE_ADD, infinite, 1, true), VEX_ERR_NOT_FINITE);
    CHECK_STATUS(write_rows(collection, VEX_WRITE_ADD, three, 1, false), VEX_ERR_INVALID);
    const float query[3] = {0};
    vex_result *result = NULL;
    CHECK_STATUS(vex_query(collection, NULL, query, 1, 3, 1, NULL, 0, &result), VEX_ERR_DIMENSION);
    CHECK(strstr(vex_last_error()->message, "dimension of 2, got 3") != NULL);
    CHECK_STATUS(vex_delete(collection, NULL, -1, NULL), VEX_ERR_INVALID);
    const uint8_t garbage[] = {0xc1, 0xff};
    const vex_selection bad = {.filter = garbage, .filter_len = sizeof garbage};
    CHECK_STATUS(vex_get(collection, &bad, 0, -1, 0, &result), VEX_ERR_INVALID);
    CHECK_EQ(count(collection), 3);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_drop_and_list) {
    const char *path = test_directory();
    vex_db *db = open_db(path, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_STATUS(vex_collection_create(db, uuid, VEX_SPACE_L2), VEX_ERR_EXISTS);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    uint8_t *uuids = NULL;
    uint32_t n = 0;
    CHECK_OK(vex_collection_list(db, &uuids, &n));
    CHECK_EQ(n, 1);
    CHECK(memcmp(uuids, uuid, 16) == 0);
    vex_bytes_free(uuids);
    CHECK_OK(vex_collection_drop(db, uuid));
    uint64_t rows = 0;
    CHECK_STATUS(vex_count(collection, NULL, &rows), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(write_rows(collection, VEX_WRITE_ADD, three, 3, true), VEX_ERR_NOT_FOUND);
    CHECK_STATUS(vex_collection_drop(db, uuid), VEX_ERR_NOT_FOUND);
    vex_collection *fresh = open_collection(db, VEX_SPACE_IP);
    CHECK_EQ(count(fresh), 0);
    CHECK_OK(vex_collection_close(fresh));
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_opened_twice_shares_one_engine) {
    const char *path = test_directory();
    vex_db *one = open_db(path, 0), *two = open_db(path, 0);
    vex_collection *first = open_collection(one, VEX_SPACE_L2);
    vex_collection *second = open_collection(two, VEX_SPACE_L2);
    CHECK_OK(write_rows(first, VEX_WRITE_ADD, three, 3, true));
    CHECK_EQ(count(second), 3);
    CHECK_OK(vex_collection_close(first));
    CHECK_OK(vex_db_close(one));
    CHECK_EQ(count(second), 3);
    CHECK_OK(vex_collection_close(second));
    CHECK_OK(vex_db_close(two));
}

TEST(db_read_only_reader_follows_writer) {
    const char *path = test_directory();
    vex_db *writer = open_db(path, 0);
    vex_collection *writing = open_collection(writer, VEX_SPACE_L2);
    CHECK_OK(write_rows(writing, VEX_WRITE_ADD, three, 1, true));
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY};
    vex_db *reader = NULL;
    vex_collection *reading = NULL;
    CHECK_OK(vex_db_open(path, &options, &reader));
    CHECK_OK(vex_collection_open(reader, uuid, &reading));
    check_ids(reading, NULL, "a");
    CHECK_OK(write_rows(writing, VEX_WRITE_ADD, three, 2, true));
    check_ids(reading, NULL, "a,b");
    CHECK_OK(vex_collection_flush(writing));
    check_ids(reading, NULL, "a,b");
    CHECK_OK(write_rows(writing, VEX_WRITE_ADD, three, 3, true));
    delete_id(writing, "a", 1);
    check_ids(reading, NULL, "b,c");
    CHECK_STATUS(write_rows(reading, VEX_WRITE_ADD, three, 3, true), VEX_ERR_READ_ONLY);
    CHECK_OK(vex_collection_close(reading));
    CHECK_OK(vex_db_close(reader));
    CHECK_OK(vex_collection_close(writing));
    CHECK_OK(vex_db_close(writer));
}

TEST(db_reader_notices_that_a_collection_was_dropped) {
    const char *path = test_directory();
    vex_db *writer = open_db(path, 0);
    vex_collection *writing = open_collection(writer, VEX_SPACE_L2);
    CHECK_OK(write_rows(writing, VEX_WRITE_ADD, three, 3, true));
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY};
    vex_db *reader = NULL;
    vex_collection *reading = NULL;
    CHECK_OK(vex_db_open(path, &options, &reader));
    CHECK_OK(vex_collection_open(reader, uuid, &reading));
    CHECK_EQ(count(reading), 3);
    CHECK_OK(vex_collection_drop(writer, uuid));
    uint64_t n = 0;
    CHECK_STATUS(vex_count(reading, NULL, &n), VEX_ERR_NOT_FOUND);
    CHECK_OK(vex_collection_close(reading));
    CHECK_OK(vex_db_close(reader));
    CHECK_OK(vex_collection_close(writing));
    CHECK_OK(vex_db_close(writer));
}

/* Run `body` in a forked child that inherited the handles; its exit code must be 0. */
static void in_child(void (*body)(vex_collection *), vex_collection *collection) {
    vex_fork_prepare();
    pid_t child = fork();
    if (child == 0) {
        vex_fork_child();
        body(collection);
        _exit(0);
    }
    vex_fork_parent();
    int how = 0;
    CHECK(waitpid(child, &how, 0) == child);
    CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

static void child_writes(vex_collection *collection) {
    uint64_t n = 0;
    const row one[] = {{"child", 7, 7, "from the child", 1}};
    if (vex_count(collection, NULL, &n) != VEX_OK || n != 3 ||
        write_rows(collection, VEX_WRITE_ADD, one, 1, true) != VEX_OK ||
        vex_count(collection, NULL, &n) != VEX_OK || n != 4) {
        _exit(3);
    }
}

TEST(db_forked_child_reads_and_writes) {
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    in_child(child_writes, collection);
    check_ids(collection, NULL, "a,b,c,child");
    const row one[] = {{"parent", 8, 8, NULL, 1}};
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, one, 1, true));
    check_ids(collection, NULL, "a,b,c,child,parent");
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_forked_child_of_memory_database_has_a_copy) {
    vex_db *db = open_db(NULL, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    in_child(child_writes, collection);
    check_ids(collection, NULL, "a,b,c");
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_fork_without_protocol_is_refused) {
    vex_db *db = open_db(NULL, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    pid_t child = fork();
    if (child == 0) {
        uint64_t n = 0;
        _exit(vex_count(collection, NULL, &n) == VEX_ERR_FORKED ? 0 : 1);
    }
    int how = 0;
    CHECK(waitpid(child, &how, 0) == child);
    CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_refuses_foreign_directories) {
    char path[1024];
    vex_db *db = NULL;
    snprintf(path, sizeof path, "%s/chroma.sqlite3", test_directory());
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fclose(file);
    CHECK_STATUS(vex_db_open(test_directory(), NULL, &db), VEX_ERR_FOREIGN);
    CHECK_STATUS(vex_db_open(path, NULL, &db), VEX_ERR_FOREIGN);
    snprintf(path, sizeof path, "%s/missing", test_directory());
    const vex_db_options read_only = {.flags = VEX_OPEN_READ_ONLY};
    CHECK_STATUS(vex_db_open(path, &read_only, &db), VEX_ERR_NOT_FOUND);
}

TEST(db_simple_requests) {
    vex_db *db = open_db(NULL, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    const float vectors[] = {0, 0, 3, 4, 1, 1};
    const uint64_t ids[] = {10, 20, UINT64_MAX};
    const vexfs_batch_insert_request insert = {
        .vectors = vectors, .count = 3, .dimensions = 2, .ids = ids, .flags = VEX_WRITE_ADD};
    CHECK_OK(vex_batch_insert_simple(collection, &insert));
    float distances[3] = {0};
    uint64_t found[3] = {0};
    vexfs_vector_search_request search = {.query = vectors,
                                          .dimensions = 2,
                                          .k = 3,
                                          .search_type = VEX_SPACE_L2,
                                          .results = distances,
                                          .result_ids = found};
    CHECK_OK(vex_search_simple(collection, &search));
    CHECK_EQ(search.result_count, 3);
    CHECK(found[0] == 10 && found[1] == UINT64_MAX && found[2] == 20);
    CHECK(distances[0] == 0 && distances[1] == 2 && distances[2] == 25);
    search.search_type = VEX_SPACE_IP;
    CHECK_STATUS(vex_search_simple(collection, &search), VEX_ERR_INVALID);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

/* ---- damage ---- */

/* Path of the only file in the collection's directory whose name begins with `prefix`. */
static const char *find_file(const char *prefix) {
    static char path[1024];
    char directory[512];
    snprintf(directory, sizeof directory, "%s/collections/0102030405060708090a0b0c0d0e0f10",
             test_directory());
    DIR *entries = opendir(directory);
    CHECK(entries != NULL);
    path[0] = '\0';
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        }
    }
    closedir(entries);
    CHECK(path[0] != '\0');
    return path;
}

static void make_sealed(void) {
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    CHECK_OK(vex_collection_flush(collection));
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_damaged_vectors_are_noticed) {
    make_sealed();
    const char *path = find_file("vec-");
    vexfs_vector_file_info info;
    CHECK_OK(vex_file_info(path, &info));
    FILE *file = fopen(path, "r+");
    CHECK(file != NULL && fseek(file, (long)info.data_offset, SEEK_SET) == 0);
    int byte = fgetc(file);
    CHECK(fseek(file, (long)info.data_offset, SEEK_SET) == 0 && fputc(byte ^ 1, file) != EOF);
    fclose(file);
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = NULL;
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    CHECK_EQ(count(collection), 3);
    const float query[2] = {0, 0};
    vex_result *result = NULL;
    CHECK_STATUS(vex_query(collection, NULL, query, 1, 2, 1, NULL, 0, &result), VEX_ERR_CORRUPT);
    CHECK(strstr(vex_last_error()->path, "vec-") != NULL);
    CHECK_STATUS(vex_get(collection, NULL, 0, -1, VEX_INCLUDE_VECTORS, &result), VEX_ERR_CORRUPT);
    CHECK_OK(vex_get(collection, NULL, 0, -1, VEX_INCLUDE_DOCUMENTS, &result));
    vex_result_free(result);
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_missing_files_are_damage) {
    const char *prefixes[] = {"vec-", "pay-", "manifest-"};
    for (int i = 0; i < 3; i++) {
        make_sealed();
        CHECK(remove(find_file(prefixes[i])) == 0);
        vex_db *db = open_db(test_directory(), 0);
        vex_collection *collection = NULL;
        CHECK_STATUS(vex_collection_open(db, uuid, &collection), VEX_ERR_CORRUPT);
        CHECK(strstr(vex_last_error()->message, "missing") != NULL);
        CHECK_OK(vex_collection_drop(db, uuid));
        CHECK_OK(vex_db_close(db));
    }
}

TEST(db_missing_superblock_is_damage) {
    char path[1024];
    make_sealed();
    snprintf(path, sizeof path, "%s/VEXFS", test_directory());
    CHECK(remove(path) == 0);
    vex_db *db = NULL;
    CHECK_STATUS(vex_db_open(test_directory(), NULL, &db), VEX_ERR_CORRUPT);
}

TEST(db_swapped_directory_is_damage) {
    char from[1024], to[1024];
    static const uint8_t other[16] = {9};
    make_sealed();
    snprintf(from, sizeof from, "%s/collections/0102030405060708090a0b0c0d0e0f10",
             test_directory());
    snprintf(to, sizeof to, "%s/collections/09000000000000000000000000000000", test_directory());
    CHECK(rename(from, to) == 0);
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = NULL;
    CHECK_STATUS(vex_collection_open(db, other, &collection), VEX_ERR_CORRUPT);
    CHECK_OK(vex_db_close(db));
}

/* ---- somebody else moves our files ---- */

/* Put another file in the place of one of the locks, or none; and the right one back. */
static void take_away(const char *name, bool replace) {
    char path[1024], away[1040];
    snprintf(path, sizeof path, "%s/%s", test_directory(), name);
    snprintf(away, sizeof away, "%s.away", path);
    CHECK(rename(path, away) == 0);
    if (replace) {
        FILE *file = fopen(path, "w");
        CHECK(file != NULL && fclose(file) == 0);
    }
}

static void give_back_file(const char *name) {
    char path[1024], away[1040];
    snprintf(path, sizeof path, "%s/%s", test_directory(), name);
    snprintf(away, sizeof away, "%s.away", path);
    CHECK(rename(away, path) == 0);
}

static void child_is_refused(vex_collection *collection) {
    const row one[] = {{"child", 7, 7, "from the child", 1}};
    if (write_rows(collection, VEX_WRITE_ADD, one, 1, true) != VEX_ERR_IO) {
        _exit(3);
    }
}

static void without_lease(bool written_before, bool replace) {
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    if (!written_before) { /* the lock was told apart when the database was opened */
        CHECK_OK(vex_collection_close(collection));
        CHECK_OK(vex_db_close(db));
        db = open_db(test_directory(), 0);
        CHECK_OK(vex_collection_open(db, uuid, &collection));
    }
    uint64_t before = count(collection);
    take_away("LOCK", replace);
    CHECK_STATUS(write_rows(collection, VEX_WRITE_UPSERT, three, 3, true), VEX_ERR_IO);
    CHECK(strstr(vex_last_error()->message, "was removed or replaced while") != NULL);
    in_child(child_is_refused, collection);
    CHECK_EQ(count(collection), before);
    give_back_file("LOCK");
    CHECK_OK(write_rows(collection, VEX_WRITE_UPSERT, three, 3, true));
    check_ids(collection, NULL, "a,b,c");
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

TEST(db_writes_nothing_when_its_lock_is_another_file) {
    for (unsigned i = 0; i < 4; i++) {
        without_lease(i & 1, i & 2);
    }
}

TEST(db_flushes_nothing_when_its_lock_is_another_file) {
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    CHECK_OK(write_rows(collection, VEX_WRITE_ADD, three, 3, true));
    take_away("MAINT", true);
    CHECK_STATUS(vex_collection_flush(collection), VEX_ERR_IO);
    vex_collection_info info = {0};
    CHECK_OK(vex_collection_get_info(collection, &info));
    CHECK_EQ(info.vector_files, 0);
    give_back_file("MAINT");
    CHECK_OK(vex_collection_flush(collection));
    check_ids(collection, NULL, "a,b,c");
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

/* ---- the lease is left free for others ---- */

static uint64_t told_ms, slept_ms;

static uint64_t tell_ms(vex_vfs *vfs) {
    (void)vfs;
    return told_ms;
}

static void sleep_told(vex_vfs *vfs, uint32_t ms) {
    (void)vfs;
    told_ms += ms;
    slept_ms += ms;
}

/* Have the lease for `held` milliseconds, then take it again `pause` later: how long that waits. */
static uint64_t wait_after(vex_db *db, uint64_t held, uint64_t pause) {
    CHECK_OK(vex_lease_acquire(db));
    told_ms += held;
    vex_lease_release(db);
    told_ms += pause;
    slept_ms = 0;
    CHECK_OK(vex_lease_acquire(db));
    vex_lease_release(db);
    return slept_ms;
}

TEST(db_lease_is_left_free_after_it_was_held_for_long) {
    vex_vfs files = *vex_vfs_posix();
    files.clock_ms = tell_ms;
    files.sleep_ms = sleep_told;
    vex_db_test_files = &files;
    vex_db *db = open_db(test_directory(), 0);
    vex_db_test_files = NULL;
    CHECK_EQ(wait_after(db, 5, 0), 0);
    CHECK_EQ(wait_after(db, 40, 0), 3);
    CHECK_EQ(wait_after(db, 5, 0), 0);  /* once */
    CHECK_EQ(wait_after(db, 40, 4), 0); /* it was free meanwhile */
    CHECK_OK(vex_lease_acquire(db));
    told_ms += 40;
    vex_lease_release(db);
    slept_ms = 0;
    CHECK_OK(vex_lease_try(db)); /* waits for nothing */
    vex_lease_release(db);
    CHECK_EQ(slept_ms, 0);
    CHECK_OK(vex_db_close(db));
}
