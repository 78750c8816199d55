/*
 * t_index_turn.c - one process inserts into the graph, the others load what it saved.  The test holds
 * the turn in the place of another process.
 */
#include "db/index_internal.h"
#include "tests/index_kit.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOK_MS = 500 };

static const char *file_of(const char *path, const char *name) {
    static char file[VEX_PATH_MAX + 300];
    (void)snprintf(file, sizeof file, "%s/collections/0102030405060708090a0b0c0d0e0f10/%s", path,
                   name);
    return file;
}

static int hold_turn(const char *path) {
    int head = open(file_of(path, "head"), O_RDWR | O_CLOEXEC);
    CHECK(head >= 0);
    int held = flock(head, LOCK_EX | LOCK_NB);
    for (int ms = 0; ms < 20000 && held != 0;
         ms += 20) { /* who is done gives it back after a while */
        usleep(20000);
        held = flock(head, LOCK_EX | LOCK_NB);
    }
    CHECK_EQ(held, 0);
    return head;
}

static void check_all(vex_collection *collection, uint64_t rows) {
    CHECK_EQ(indexed(collection), rows);
    CHECK_EQ(info_of(collection).unindexed_rows, 0);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98);
}

TEST(index_turn_is_waited_for) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    check_all(collection, 2000);
    int turn = hold_turn(path);
    insert(collection, 2000, 1000, VEX_WRITE_ADD);
    CHECK_STATUS(vex_collection_wait_index(collection, LOOK_MS), VEX_ERR_BUSY);
    CHECK_EQ(info_of(collection).unindexed_rows, 1000);
    CHECK(recall(collection, NULL, 40, 10) >= 0.98); /* what is not in the graph is read */
    close(turn);
    check_all(collection, 3000);
    close(hold_turn(path));
    close_all(db, collection);
}

/* They are sooner inserted than a file is loaded. */
TEST(index_turn_is_not_waited_for_with_few_rows) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 4000, VEX_WRITE_ADD);
    check_all(collection, 4000);
    int turn = hold_turn(path);
    insert(collection, 4000, 10, VEX_WRITE_ADD);
    check_all(collection, 4010);
    close(turn);
    close_all(db, collection);
}

/* Searches would feel them. */
TEST(index_turn_is_not_waited_for_with_many_rows) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    check_all(collection, 2000);
    collection->index.wait_bytes = 1000;
    int turn = hold_turn(path);
    insert(collection, 2000, 1000, VEX_WRITE_ADD);
    check_all(collection, 3000);
    close(turn);
    close_all(db, collection);
}

/* Whoever has it may be stopped. */
TEST(index_turn_is_not_waited_for_for_ever) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    check_all(collection, 2000);
    collection->index.patience_ms = 300;
    int turn = hold_turn(path);
    insert(collection, 2000, 1000, VEX_WRITE_ADD);
    check_all(collection, 3000);
    close(turn);
    close_all(db, collection);
}

/* Its forks do not keep it. */
TEST(index_turn_is_of_one_process) {
    const char *path = test_directory();
    int ends[2];
    char end_of_parent;
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    check_all(collection, 2000);
    CHECK_EQ(pipe(ends), 0);
    vex_fork_prepare();
    const pid_t child = fork();
    if (child == 0) {
        vex_fork_child();
        close(ends[1]);
        _exit((int)read(ends[0], &end_of_parent, 1));
    }
    vex_fork_parent();
    close_all(db, collection);
    close(hold_turn(path));
    close(ends[0]);
    close(ends[1]);
    int status = 1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

/* Have the builder leave the collection alone, and the turn to the test. */
static void stop_building(vex_collection *collection) {
    vex_vfs *vfs = collection->db->vfs;
    pthread_mutex_lock(&collection->index.mu);
    vex_index_drop_turn(collection);
    atomic_store(&collection->index_after_ms, vfs->clock_ms(vfs) + WAIT_MS);
    pthread_mutex_unlock(&collection->index.mu);
    CHECK_OK(vex_collection_wait_idle(collection, WAIT_MS)); /* of a step that waited for `mu` */
}

static void go_on_building(vex_collection *collection) {
    atomic_store(&collection->index_after_ms, 0);
    vex_index_want(collection);
}

/* In the place of the builder: does the process wait? */
static bool waits(vex_collection *collection) {
    bool wait = false;
    vex_vfs *vfs = collection->db->vfs;
    pthread_mutex_lock(&collection->index.mu);
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    CHECK(view != NULL);
    CHECK_OK(vex_index_await_turn(collection, view, snapshot, &wait));
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
    atomic_store(&collection->index_after_ms, vfs->clock_ms(vfs) + WAIT_MS);
    pthread_mutex_unlock(&collection->index.mu);
    return wait;
}

/* Who would have to copy the graph looks again before it takes the turn. */
TEST(index_turn_is_left_to_who_has_the_graph_in_memory) {
    const char *path = test_directory();
    make_centres();
    for (int mapped = 0; mapped < 2; mapped++) {
        vex_db *db = open_indexed(path);
        vex_collection *collection = NULL;
        if (mapped) {
            CHECK_OK(vex_collection_open(db, uuid, &collection));
        } else {
            collection = open_collection(db, VEX_SPACE_L2);
            insert(collection, 0, 2000, VEX_WRITE_ADD);
        }
        CHECK_EQ(indexed(collection), mapped ? 3000 : 2000);
        stop_building(collection);
        insert(collection, mapped ? 3000 : 2000, 1000, VEX_WRITE_ADD);
        CHECK_OK(vex_collection_flush(collection));
        CHECK_EQ(waits(collection), mapped);
        CHECK_EQ(collection->index.has_turn, !mapped);
        CHECK(!waits(collection));
        CHECK(collection->index.has_turn);
        go_on_building(collection);
        check_all(collection, mapped ? 4000 : 3000);
        close_all(db, collection);
    }
}

/* Nobody feels what is not in the graph. */
TEST(index_turn_is_waited_for_longer_without_queries) {
    const char *path = test_directory();
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    check_all(collection, 2000);
    int turn = hold_turn(path);
    stop_building(collection);
    insert(collection, 2000, 1000, VEX_WRITE_ADD);
    CHECK_OK(vex_collection_flush(collection));
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    const uint64_t bytes = vex_index_lack_of(view, snapshot).bytes;
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
    collection->index.wait_bytes = bytes / 2;
    atomic_store(&collection->index.queries, 0);
    CHECK(waits(collection));
    atomic_store(&collection->index.queries, 1);
    CHECK(!waits(collection));
    atomic_store(&collection->index.queries, 0);
    collection->index.wait_bytes = bytes / 5;
    CHECK(!waits(collection));
    close(turn);
    go_on_building(collection);
    check_all(collection, 3000);
    close_all(db, collection);
}

/* The first graph file is put back, as if another process had saved the second just now. */
TEST(index_turn_loads_what_was_saved_elsewhere) {
    const char *path = test_directory();
    char saved[VEX_PATH_MAX + 300], first[VEX_PATH_MAX + 300], hidden[VEX_PATH_MAX + 310];
    make_centres();
    vex_db *db = open_indexed(path);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    insert(collection, 0, 2000, VEX_WRITE_ADD);
    check_all(collection, 2000);
    (void)snprintf(first, sizeof first, "%s", graph_file(path));
    (void)snprintf(saved, sizeof saved, "%s", file_of(path, "first"));
    CHECK_EQ(link(first, saved), 0);
    insert(collection, 2000, 1000, VEX_WRITE_ADD);
    check_all(collection, 3000);
    close_all(db, collection);
    (void)snprintf(hidden, sizeof hidden, "%s.hidden", graph_file(path));
    (void)snprintf(saved, sizeof saved, "%s", graph_file(path));
    CHECK_EQ(rename(saved, hidden), 0);
    CHECK_EQ(rename(file_of(path, "first"), first), 0);

    db = open_indexed(path);
    CHECK_OK(vex_collection_open(db, uuid, &collection));
    int turn = hold_turn(path);
    CHECK_STATUS(vex_collection_wait_index(collection, LOOK_MS), VEX_ERR_BUSY);
    CHECK_EQ(info_of(collection).indexed_rows, 2000);
    atomic_store(&collection->index.queries, 7);
    CHECK_EQ(rename(hidden, saved), 0);
    CHECK_EQ(indexed(collection), 3000);
    CHECK_EQ(atomic_load(&collection->index.queries), 0); /* none has asked this graph yet */
    check_all(collection, 3000);
    CHECK_EQ(atomic_load(&collection->index.inserted), 0);
    close(turn);
    close_all(db, collection);
}
