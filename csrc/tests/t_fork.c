/*
 * t_fork.c - forks (db/fork.c): what they hold, what they share, that source and fork never see each
 * other's writes, and that space comes back with the last who uses it.
 *
 * Power failures and failing calls around a fork are in t_faults_states.c and t_faults_calls.c.
 */
#include "tests/crash_kit.h"

#include "base/mem.h"
#include "base/msgpack.h"
#include "db/db.h"
#include "io/vfs_fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define DIR(n) CRASH_PATH "/collections/0" #n "000000000000000000000000000000/"

static vex_vfs *new_disk(void) {
    vex_vfs *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    return files;
}

static void begin(crash_world *world, vex_vfs *files, const char *script) {
    memset(world, 0, sizeof *world);
    world->files = files;
    world->options.busy_timeout_ms = 5000;
    CHECK_OK(crash_open(world));
    CHECK_OK(crash_run(world, script, NULL));
}

static void check_all(crash_world *world) {
    char expected[CRASH_TEXT], found[CRASH_TEXT];
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (world->open[c] == NULL) {
            continue;
        }
        crash_text(&world->history[c].states[world->history[c].n], expected);
        CHECK_OK(crash_describe(world->open[c], found));
        if (strcmp(found, expected) != 0) {
            test_failed(__FILE__, __LINE__, "collection %d holds %s, expected %s", c, found,
                        expected);
        }
    }
}

/* Do one step after the other; all collections hold what they should after each. */
static void run_checked(crash_world *world, const char *script) {
    char step[32];
    for (const char *text = script + strspn(script, " "); *text != '\0';) {
        size_t len = strcspn(text, " ");
        snprintf(step, sizeof step, "%.*s", (int)len, text);
        CHECK_OK(crash_run(world, step, NULL));
        check_all(world);
        text += len + strspn(text + len, " ");
    }
}

static uint64_t inode_of(vex_vfs *files, const char *path) {
    vex_file_stat stat;
    return files->path_stat(files, path, &stat) == VEX_OK ? stat.inode : 0;
}

static uint64_t forks_of(vex_collection *collection) {
    uint64_t n = UINT64_MAX;
    CHECK_OK(vex_collection_count_forks(collection, &n));
    return n;
}

/* ---- what they hold ---- */

#define HISTORY                                                                                    \
    "C0 A0,0,4 N1,0 A0,4,2 U1,0,2 X0,1,1 F0 A1,9,1 D1 N1,0 U0,0,2 X1,4,1 F1 A0,10,2 N2,1 V1 F0 "   \
    "V0 X2,0,3 P2,5,1 R A2,20,1 F2 X1,0,9 V1 D0 N0,2 A0,30,1 D2 R U0,5,1 V0"

TEST(fork_goes_its_own_way) {
    static crash_world world;
    vex_vfs *files = new_disk();
    begin(&world, files, "");
    run_checked(&world, HISTORY);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(fork_of_a_database_in_memory) {
    static crash_world world;
    memset(&world, 0, sizeof world);
    CHECK_OK(vex_db_open(NULL, NULL, &world.db)); /* reopening would lose it: no R */
    run_checked(&world, "C0 A0,0,4 N1,0 A0,4,2 U1,0,2 X0,1,1 F0 A1,9,1 D1 N1,0 U0,0,2 X1,4,1 F1 "
                        "A0,10,2 N2,1 V1 F0 V0 X2,0,3 P2,5,1 A2,20,1 F2 D0 N0,2 A0,30,1 D2 V0");
    CHECK_EQ(forks_of(world.open[0]), 1); /* the other: 0 has the uuid that the line began with */
    crash_close(&world);
}

static uint64_t second_boot(vex_vfs *vfs) {
    (void)vfs;
    return 2;
}

TEST(fork_without_a_head) { /* of what was never written, and after a new start of the machine */
    static crash_world world;
    vex_vfs *files = new_disk();
    begin(&world, files, "C0 N1,0 A1,0,3 A0,1,1");
    check_all(&world);
    crash_close(&world);
    files->boot_id = second_boot;
    CHECK_OK(crash_open(&world));
    run_checked(&world, "N2,1 X1,0,1 A2,5,1 R A2,6,1");
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(fork_counts_its_line) {
    static crash_world world;
    vex_vfs *files = new_disk();
    begin(&world, files, "C0 A0,0,1");
    CHECK_EQ(forks_of(world.open[0]), 0);
    CHECK_OK(crash_run(&world, "N1,0 N2,1", NULL));
    for (int c = 0; c < 3; c++) {
        CHECK_EQ(forks_of(world.open[c]), 2);
    }
    CHECK_OK(crash_run(&world, "A1,5,1 F1 D2 R", NULL));
    CHECK_EQ(forks_of(world.open[0]), 1);
    CHECK_OK(crash_run(&world, "D0 C2", NULL));
    CHECK_EQ(forks_of(world.open[1]),
             1); /* that the first is gone does not make it less of a fork */
    CHECK_EQ(forks_of(world.open[2]), 0);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(fork_refuses) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_db *reader = NULL;
    vex_collection *read = NULL;
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY};
    begin(&world, files, "C0 C1 A0,0,1 A1,7,1");
    CHECK_STATUS(vex_collection_fork(world.open[0], crash_uuid(1)), VEX_ERR_EXISTS);
    CHECK_STATUS(vex_collection_fork(world.open[0], crash_uuid(0)), VEX_ERR_EXISTS);
    check_all(&world);
    CHECK_OK(vex_db_open(CRASH_PATH, &options, &reader));
    CHECK_OK(vex_collection_open(reader, crash_uuid(0), &read));
    CHECK_STATUS(vex_collection_fork(read, crash_uuid(2)), VEX_ERR_READ_ONLY);
    CHECK_OK(vex_collection_close(read));
    CHECK_OK(vex_db_close(reader));
    vex_collection *dropped = NULL;
    CHECK_OK(vex_collection_open(world.db, crash_uuid(1), &dropped));
    CHECK_OK(crash_run(&world, "D1", NULL));
    CHECK_STATUS(vex_collection_fork(dropped, crash_uuid(2)), VEX_ERR_NOT_FOUND);
    CHECK_OK(vex_collection_close(dropped));
    crash_close(&world);
    char left[512];
    crash_leftovers(files, left, sizeof left);
    CHECK(left[0] == '\0');
    vex_vfs_memory_destroy(files);
}

/* ---- what they share ---- */

static void check_shared(vex_vfs *files, const char *name, bool expected) {
    char from[VEX_PATH_MAX], to[VEX_PATH_MAX];
    CHECK_OK(vex_path_join(from, DIR(1), name));
    CHECK_OK(vex_path_join(to, DIR(2), name));
    uint64_t a = inode_of(files, from), b = inode_of(files, to);
    if (b == 0 || (a == b) != expected) {
        test_failed(__FILE__, __LINE__, "%s has the inodes %llu and %llu", name,
                    (unsigned long long)a, (unsigned long long)b);
    }
}

TEST(fork_shares_files_and_logs) {
    static crash_world world;
    vex_vfs *files = new_disk();
    begin(&world, files, "C0 A0,0,4 F0 X0,1,1 A0,5,1 F0 A0,6,2 N1,0 A0,8,1 A1,9,1");
    check_shared(files, "vec-000000000001.vxv", true);
    check_shared(files, "pay-000000000002.vxp", true);
    check_shared(files, "wal-0000000003", true);  /* what was not in files */
    check_shared(files, "wal-0000000004", false); /* where each goes on */
    CHECK_EQ(world.open[0]->known.wal_number, 4);
    CHECK_OK(crash_run(&world, "D1 N1,0 D1 N1,0", NULL)); /* without a write no log is begun */
    CHECK_EQ(world.open[0]->known.wal_number, 5);
    check_all(&world);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(fork_copies_where_there_are_no_links) {
    static crash_world world;
    static const int reasons[] = {EPERM, EXDEV, EMLINK, ENOTSUP};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        vex_vfs *files = new_disk(), *fault = NULL;
        CHECK_OK(vex_vfs_fault_create(files, &fault));
        begin(&world, fault, "C0 A0,0,4 F0 X0,1,1 A0,5,1");
        vex_vfs_fault_only(fault, VEX_FAULT_LINK, "");
        vex_vfs_fault_arm(fault, 1, reasons[i], true, false);
        run_checked(&world, "N1,0 A0,8,1 U1,0,2 F1");
        CHECK(vex_vfs_fault_calls(fault) > 0);
        check_shared(files, "vec-000000000001.vxv", false);
        vex_vfs_fault_arm(fault, 0, 0, false, false);
        run_checked(&world, "R A1,9,1");
        crash_close(&world);
        vex_vfs_fault_destroy(fault);
        vex_vfs_memory_destroy(files);
    }
}

TEST(
    fork_flushes_many_logs) { /* whoever forks after every write does not collect logs without end */
    static crash_world world;
    vex_vfs *files = new_disk();
    begin(&world, files, "C0");
    for (uint32_t i = 0; i < 3 * VEX_LOGS_MAX; i++) {
        crash_state ignored = {0};
        CHECK_OK(crash_write_one(world.open[0], "m", (int)(i % 30), &ignored));
        CHECK_OK(vex_collection_fork(world.open[0], crash_uuid(1)));
        CHECK_OK(vex_collection_drop(world.db, crash_uuid(1)));
        if (i % 7 == 0) {
            CHECK_OK(vex_db_wait_idle(world.db, 20000));
        }
    }
    CHECK_OK(vex_db_wait_idle(world.db, 20000));
    CHECK(world.open[0]->known.wal_number - world.open[0]->manifest.wal_first < VEX_LOGS_MAX);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(fork_that_was_killed_is_removed) {
    static crash_world world;
    vex_vfs *files = new_disk();
    char left[512];
    begin(&world, files, "C0 A0,0,2 F0");
    CHECK_OK(files->dir_create(files, CRASH_PATH
                               "/collections/02000000000000000000000000000000" VEX_FORKING_SUFFIX));
    CHECK_OK(files->path_link(files, DIR(1) "vec-000000000001.vxv",
                              CRASH_PATH
                              "/collections/02000000000000000000000000000000" VEX_FORKING_SUFFIX
                              "/vec-000000000001.vxv"));
    crash_leftovers(files, left, sizeof left);
    CHECK(left[0] != '\0');
    run_checked(&world, "R N1,0 A1,5,1");
    crash_leftovers(files, left, sizeof left);
    CHECK(left[0] == '\0');
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* ---- a thousand ---- */

#define MEMBERS 12 /* that live at a time */

typedef struct member {
    uint8_t uuid[16];
    vex_collection *open;
    crash_state state;
} member;

typedef struct space { /* bytes of a tree, each file once however many names it has */
    vex_vfs *files;
    const char *path;
    uint64_t bytes, names;
    uint64_t inodes[4000];
    size_t n;
} space;

static vex_status add_space(void *context, const char *name) {
    space *s = context;
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    const char *parent = s->path;
    VEX_TRY(vex_path_join(path, parent, name));
    VEX_TRY(s->files->path_stat(s->files, path, &stat));
    if (stat.is_directory) {
        s->path = path;
        vex_status status = s->files->dir_list(s->files, path, add_space, s);
        s->path = parent;
        return status;
    }
    s->names++;
    for (size_t i = 0; i < s->n; i++) {
        if (s->inodes[i] == stat.inode) {
            return VEX_OK;
        }
    }
    CHECK(s->n < sizeof s->inodes / sizeof *s->inodes);
    s->inodes[s->n++] = stat.inode;
    s->bytes += stat.size;
    return VEX_OK;
}

static uint64_t space_of(vex_vfs *files, uint64_t *names) {
    static space s;
    s = (space){.files = files, .path = CRASH_PATH};
    CHECK_OK(files->dir_list(files, CRASH_PATH, add_space, &s));
    if (names != NULL) {
        *names = s.names;
    }
    return s.bytes;
}

static void change_member(member *m, int number) {
    char id[8];
    vex_buf ids = {0};
    crash_state *state = &m->state;
    switch (test_random_below(6)) {
    case 0:
        CHECK_OK(vex_collection_flush(m->open));
        return;
    case 1: /* delete a record */
        if (state->n == 0) {
            return;
        }
        uint32_t row = test_random_below(state->n);
        snprintf(id, sizeof id, "%s", state->rows[row].id);
        CHECK_OK(vex_mp_put_array(&ids, 1));
        CHECK_OK(vex_mp_put_str(&ids, id, strlen(id)));
        CHECK_OK(
            vex_delete(m->open, &(vex_selection){.ids = ids.data, .ids_len = ids.len}, -1, NULL));
        vex_buf_clear(&ids);
        state->n--;
        memmove(&state->rows[row], &state->rows[row + 1], (state->n - row) * sizeof state->rows[0]);
        return;
    default:
        CHECK_OK(crash_write_one(m->open, "m", number % 40, state));
    }
}

static void check_member(const member *m) {
    char expected[CRASH_TEXT], found[CRASH_TEXT];
    crash_text(&m->state, expected);
    CHECK_OK(crash_describe(m->open, found));
    if (strcmp(found, expected) != 0) {
        test_failed(__FILE__, __LINE__, "a fork holds %s, expected %s", found, expected);
    }
}

static void drop_member(vex_db *db, member *m) {
    CHECK_OK(vex_collection_drop(db, m->uuid));
    CHECK_OK(vex_collection_close(m->open));
    m->open = NULL;
}

TEST(fork_a_thousand_times) {
    static crash_world world;
    static member members[MEMBERS];
    memset(members, 0, sizeof members);
    vex_vfs *files = new_disk();
    begin(&world, files, "");
    const uint64_t empty = space_of(files, NULL);
    members[0] = (member){.uuid = {99}, .state.exists = true};
    CHECK_OK(vex_collection_create(world.db, members[0].uuid, VEX_SPACE_L2));
    CHECK_OK(vex_collection_open(world.db, members[0].uuid, &members[0].open));
    for (uint32_t fork = 1; fork <= 1000; fork++) {
        member *from = &members[test_random_below(MEMBERS)], *to;
        if (from->open == NULL) {
            from = &members[0];
        }
        do {
            to = &members[test_random_below(MEMBERS)];
        } while (to == from || to == &members[0]);
        if (to->open != NULL) {
            drop_member(world.db, to);
        }
        *to = (member){.state = from->state};
        memcpy(to->uuid, &fork, sizeof fork);
        to->uuid[15] = 1;
        CHECK_OK(vex_collection_fork(from->open, to->uuid));
        CHECK_OK(vex_collection_open(world.db, to->uuid, &to->open));
        check_member(to);
        for (uint32_t i = test_random_below(4); i > 0; i--) {
            member *m = &members[test_random_below(MEMBERS)];
            if (m->open != NULL) {
                change_member(m, (int)test_random_below(1000));
                check_member(m);
            }
        }
        check_member(from);
    }
    for (int i = 1; i < MEMBERS; i++) {
        if (members[i].open != NULL) {
            check_member(&members[i]);
            drop_member(world.db, &members[i]);
        }
    }
    check_member(&members[0]);
    CHECK_OK(vex_collection_compact(members[0].open, 0));
    CHECK_OK(vex_db_wait_idle(world.db, 20000));
    uint64_t names = 0;
    CHECK(space_of(files, &names) < empty + (256u << 10)); /* one small collection and its log */
    CHECK(names < 20);
    drop_member(world.db, &members[0]);
    CHECK_EQ(space_of(files, NULL), empty);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

/* ---- beside writers ---- */

#define WRITES 300

typedef struct adder {
    vex_collection *collection;
    atomic_int begun, done;
    atomic_bool failed;
} adder;

static void *add_one_by_one(void *argument) {
    adder *a = argument;
    for (int i = 0; i < WRITES && !atomic_load(&a->failed); i++) {
        crash_state ignored = {0};
        atomic_store(&a->begun, i + 1);
        if (crash_write_one(a->collection, "w", i, &ignored) != VEX_OK ||
            (i % 40 == 39 && vex_collection_flush(a->collection) != VEX_OK)) {
            atomic_store(&a->failed, true);
        }
        atomic_store(&a->done, i + 1);
    }
    return NULL;
}

TEST(fork_beside_writers_is_of_one_moment) {
    static crash_world world;
    static adder adding;
    const char *path = test_directory();
    vex_collection *fork = NULL;
    pthread_t thread;
    adding = (adder){0};
    memset(&world, 0, sizeof world);
    const vex_db_options options = {.durability = VEX_DURABILITY_OFF, .memtable_rows = 30};
    CHECK_OK(vex_db_open(path, &options, &world.db));
    CHECK_OK(vex_collection_create(world.db, crash_uuid(0), VEX_SPACE_L2));
    CHECK_OK(vex_collection_open(world.db, crash_uuid(0), &adding.collection));
    CHECK(pthread_create(&thread, NULL, add_one_by_one, &adding) == 0);
    vex_status status = VEX_OK;
    bool fits = true, over = false;
    for (uint32_t n = 0; status == VEX_OK && fits && !over; n++) {
        uint8_t uuid[16] = {200};
        vex_result *result = NULL;
        memcpy(uuid + 1, &n, sizeof n);
        over = atomic_load(&adding.done) == WRITES || atomic_load(&adding.failed);
        int least = atomic_load(&adding.done);
        status = vex_collection_fork(adding.collection, uuid);
        int most = atomic_load(&adding.begun);
        status = status == VEX_OK ? vex_collection_open(world.db, uuid, &fork) : status;
        status =
            status == VEX_OK ? vex_get(fork, NULL, 0, -1, VEX_INCLUDE_VECTORS, &result) : status;
        if (status == VEX_OK) {
            int rows = (int)result->n_rows;
            fits = rows >= least && rows <= most;
            for (int i = 0; i < rows && fits; i++) {
                fits = result->vectors[2 * i] >= 0 && i == (int)(result->vectors[2 * i]);
            }
            vex_result_free(result);
            status = vex_collection_drop(world.db, uuid);
            (void)vex_collection_close(fork);
        }
    }
    atomic_store(&adding.failed, atomic_load(&adding.failed) || status != VEX_OK);
    pthread_join(thread, NULL);
    CHECK_OK(status);
    CHECK(fits);
    CHECK(!atomic_load(&adding.failed));
    CHECK_OK(vex_collection_close(adding.collection));
    CHECK_OK(vex_db_close(world.db));
}
