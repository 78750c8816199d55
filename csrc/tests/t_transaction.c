/*
 * t_transaction.c - transactions of several threads, one after the other, as there is one file; and what
 * fails on their way.
 *
 * What a power failure leaves of them is in t_faults_states.c.
 */
#include "db/commit.h"
#include "db/db.h"
#include "db/transaction.h"

#include "tests/db_kit.h"

#include <pthread.h>
#include <sched.h>

#define PAIRS 2
#define ROUNDS 60

static vex_vfs *files;
static vex_status (*rename_path)(vex_vfs *, const char *, const char *);
static vex_status (*remove_path)(vex_vfs *, const char *);
static atomic_int there, most, stored;

static bool is_transaction(const char *path) {
    const size_t len = strlen(path), end = strlen("/" VEX_TRANSACTION_NAME);
    return len > end && strcmp(path + len - end, "/" VEX_TRANSACTION_NAME) == 0;
}

/* Counts files that have been stored and not been removed; lets others run before that. */
static vex_status rename_counted(vex_vfs *vfs, const char *from, const char *to) {
    if (is_transaction(to)) {
        const int now = atomic_fetch_add(&there, 1) + 1;
        atomic_store(&most, now > atomic_load(&most) ? now : atomic_load(&most));
        atomic_fetch_add(&stored, 1);
    }
    return rename_path(vfs, from, to);
}

static vex_status remove_counted(vex_vfs *vfs, const char *path) {
    if (is_transaction(path)) {
        vfs->sleep_ms(vfs, 1);
        atomic_fetch_sub(&there, 1);
    }
    return remove_path(vfs, path);
}

typedef struct worker {
    vex_db *db;
    vex_collection *collections[2];
    pthread_t thread;
} worker;

static const uint8_t *uuid_of(int i) {
    static uint8_t uuids[2 * PAIRS][16];
    uuids[i][0] = (uint8_t)(i + 1);
    return uuids[i];
}

/* Add a record to both collections. */
static vex_status add_to_both(const worker *w, int number) {
    const float vector[2] = {1, 2};
    char id[16];
    vex_buf records = {0};
    snprintf(id, sizeof id, "r%d", number);
    CHECK_OK(vex_mp_put_array(&records, 4));
    CHECK_OK(vex_mp_put_array(&records, 1));
    put_text(&records, id);
    for (int column = 1; column < 4; column++) {
        put_text(&records, NULL);
    }
    const vex_write_request request = {.op = VEX_WRITE_ADD,
                                       .n = 1,
                                       .dimension = 2,
                                       .vectors = vector,
                                       .records = records.data,
                                       .records_len = records.len};
    vex_step steps[2] = {{.collection = w->collections[0], .write = &request},
                         {.collection = w->collections[1], .write = &request}};
    const vex_status status = vex_transact(w->db, steps, 2);
    CHECK(status != VEX_OK || (steps[0].changed == 1 && steps[1].changed == 1));
    vex_buf_clear(&records);
    return status;
}

static void *transact(void *argument) {
    for (int round = 0; round < ROUNDS; round++) {
        CHECK_OK(add_to_both(argument, round));
    }
    return NULL;
}

TEST(transactions_of_threads_do_not_share_the_file) {
    worker workers[PAIRS];
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    rename_path = files->path_rename;
    remove_path = files->path_remove;
    files->path_rename = rename_counted;
    files->path_remove = remove_counted;
    atomic_store(&most, 0);
    atomic_store(&stored, 0);
    vex_db_test_files = files;
    vex_db *db = open_db("/db", 0);
    for (int i = 0; i < 2 * PAIRS; i++) {
        workers[i / 2].db = db;
        CHECK_OK(vex_collection_create(db, uuid_of(i), VEX_SPACE_L2));
        CHECK_OK(vex_collection_open(db, uuid_of(i), &workers[i / 2].collections[i % 2]));
    }
    for (int i = 0; i < PAIRS; i++) {
        CHECK_EQ(pthread_create(&workers[i].thread, NULL, transact, &workers[i]), 0);
    }
    for (int i = 0; i < PAIRS; i++) {
        CHECK_EQ(pthread_join(workers[i].thread, NULL), 0);
    }
    CHECK_EQ(atomic_load(&stored), PAIRS * ROUNDS);
    CHECK_EQ(atomic_load(&most), 1);
    CHECK_EQ(atomic_load(&there), 0);
    for (int i = 0; i < 2 * PAIRS; i++) {
        CHECK_EQ(count(workers[i / 2].collections[i % 2]), ROUNDS);
        CHECK_OK(vex_collection_close(workers[i / 2].collections[i % 2]));
    }
    CHECK_OK(vex_db_close(db));
    vex_db_test_files = NULL;
    vex_vfs_memory_destroy(files);
}

/* ---- what fails ---- */

static vex_status (*sync_data)(vex_vfs *, vex_file *);
static int syncs_left; /* the one after these fails */

static vex_status sync_some(vex_vfs *vfs, vex_file *file) {
    return syncs_left-- == 0 ? VEX_FAIL(VEX_ERR_IO, "injected fault: cannot sync")
                             : sync_data(vfs, file);
}

static void open_both(worker *w, bool create) {
    w->db = open_db("/db", 0);
    for (int i = 0; i < 2; i++) {
        if (create) {
            CHECK_OK(vex_collection_create(w->db, uuid_of(i), VEX_SPACE_L2));
        }
        CHECK_OK(vex_collection_open(w->db, uuid_of(i), &w->collections[i]));
    }
}

static void close_both(worker *w) {
    CHECK_OK(vex_collection_close(w->collections[0]));
    CHECK_OK(vex_collection_close(w->collections[1]));
    CHECK_OK(vex_db_close(w->db));
}

TEST(transactions_are_not_shown_in_part_when_a_log_cannot_be_synced) {
    worker w;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    sync_data = files->file_sync_data;
    files->file_sync_data = sync_some;
    vex_db_test_files = files;
    syncs_left = -1;
    open_both(&w, true);
    CHECK_OK(add_to_both(&w, 0));
    uint64_t rows = 1;
    bool failed = true;
    for (int n = 0; failed; n++) {
        syncs_left = n;
        failed = add_to_both(&w, n + 1) != VEX_OK;
        syncs_left = -1;
        CHECK_EQ(count(w.collections[0]), count(w.collections[1]));
        CHECK(!failed || count(w.collections[0]) == rows);
        close_both(&w);
        open_both(&w, false);
        CHECK_EQ(count(w.collections[0]), count(w.collections[1]));
        CHECK(count(w.collections[0]) >= rows);
        rows = count(w.collections[0]);
        CHECK(failed ? n < 20 : n >= 2); /* each log, at least */
    }
    close_both(&w);
    vex_db_test_files = NULL;
    vex_vfs_memory_destroy(files);
}

TEST(transactions_larger_than_a_log_takes_are_refused_before_they_are_stored) {
    worker w;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    vex_db_test_files = files;
    open_both(&w, true);
    CHECK_OK(add_to_both(&w, 0));
    vex_change_test_max = 16;
    CHECK_EQ(add_to_both(&w, 1), VEX_ERR_TOO_BIG);
    vex_change_test_max = 0;
    CHECK_OK(add_to_both(&w, 2));
    CHECK_EQ(count(w.collections[0]), 2);
    CHECK_EQ(count(w.collections[1]), 2);
    close_both(&w);
    vex_db_test_files = NULL;
    vex_vfs_memory_destroy(files);
}
