/*
 * t_transaction.c - transactions of several threads: one after the other, as there is one file.
 *
 * What a power failure leaves of them is in t_faults_states.c.
 */
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

static void *transact(void *argument) {
    const worker *w = argument;
    const float vector[2] = {1, 2};
    for (int round = 0; round < ROUNDS; round++) {
        char id[16];
        vex_buf records = {0};
        snprintf(id, sizeof id, "r%d", round);
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
        CHECK_OK(vex_transact(w->db, steps, 2));
        CHECK(steps[0].changed == 1 && steps[1].changed == 1);
        vex_buf_clear(&records);
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
