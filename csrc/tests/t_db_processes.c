/*
 * t_db_processes.c - several processes on one database, with one that dies, or whose disk fails, at a
 * place that no signal would find.
 *
 * Each process is a child that does what the test asks it for, over a socket: it has a vfs of real
 * files that can be told to end the process instead of writing the head, or to fail every sync.
 */
#include "base/hash.h"
#include "db/db.h"

#include "tests/db_kit.h" /* whose type is called like parameters of the engine's headers */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- in the child ---- */

static vex_vfs watched;
static const vex_file *head;
static int head_writes_left = -1; /* the one after these ends the process */
static bool syncs_fail;
static atomic_bool syncs_stall;
static atomic_bool is_stalled; /* until there is a file `go` in the directory */
static char go_path[VEX_PATH_MAX];
static int paused_at = -1; /* the test's socket; flushes stop before their first file */

static vex_status watched_open(vex_vfs *vfs, const char *path, vex_file_mode mode, vex_file **out) {
    if (paused_at >= 0 && mode == VEX_FILE_CREATE && strstr(path, "/vec-") != NULL) {
        char request[64] = "";
        (void)!write(paused_at, "paused", 6);
        (void)!read(paused_at, request, sizeof request - 1);
        (void)sscanf(request, "go on, and die at head write %d", &head_writes_left);
        paused_at = -1;
    }
    VEX_TRY(vex_vfs_posix()->file_open(vfs, path, mode, out));
    size_t len = strlen(path);
    if (len > 5 && strcmp(path + len - 5, "/head") == 0) {
        head = *out;
    }
    return VEX_OK;
}

static vex_status watched_write(vex_vfs *vfs, vex_file *file, const vex_iovec *parts,
                                uint32_t n_parts, uint64_t offset) {
    if (file == head && head_writes_left >= 0 && head_writes_left-- == 0) {
        _exit(0);
    }
    return vex_vfs_posix()->file_write(vfs, file, parts, n_parts, offset);
}

static vex_status watched_sync(vex_vfs *vfs, vex_file *file) {
    if (syncs_stall) {
        atomic_store(&is_stalled, true);
        while (access(go_path, F_OK) != 0) {
            vfs->sleep_ms(vfs, 1);
        }
    }
    return syncs_fail ? VEX_FAIL_AT(VEX_ERR_IO, "the log", 0, EIO, "injected fault: cannot sync")
                      : vex_vfs_posix()->file_sync_data(vfs, file);
}

static vex_db *db;
static vex_collection *collection;

static const char *open_all(const char *directory, uint32_t durability) {
    const vex_db_options options = {
        .busy_timeout_ms = 5000, .durability = durability, .index_rows = 1000};
    vex_status status = vex_db_open(directory, &options, &db);
    if (status == VEX_OK) {
        status = vex_collection_create(db, uuid, VEX_SPACE_L2);
        status = status == VEX_ERR_EXISTS ? VEX_OK : status;
    }
    return vex_status_name(status == VEX_OK ? vex_collection_open(db, uuid, &collection) : status);
}

static const char *close_all(void) {
    vex_collection_close(collection);
    return vex_status_name(vex_db_close(db));
}

static const char *get_ids(void) {
    vex_result *result = NULL;
    vex_status status = vex_get(collection, NULL, 0, -1, VEX_INCLUDE_DOCUMENTS, &result);
    if (status != VEX_OK) {
        return vex_status_name(status);
    }
    const char *ids = ids_of(result);
    vex_result_free(result);
    return ids;
}

static const char *add_many(uint64_t first) {
    enum { MANY = VEX_INDEX_TAIL_ROWS };
    static float vectors[2 * MANY];
    static uint64_t ids[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        ids[i] = first + i;
        vectors[2 * (size_t)i] = (float)ids[i];
    }
    const vexfs_batch_insert_request request = {
        .vectors = vectors, .count = MANY, .dimensions = 2, .ids = ids, .flags = VEX_WRITE_ADD};
    return vex_status_name(vex_batch_insert_simple(collection, &request));
}

/* Rows that are in memory, or out of the graph, after a while in which nothing is asked for. */
static const char *left_later(bool in_memory) {
    static char text[24];
    uint64_t left = 1;
    for (int ms = 0; ms < 20000 && left > 0; ms += 20) {
        vex_collection_info info = {0};
        watched.sleep_ms(&watched, 20);
        (void)vex_collection_get_info(collection, &info);
        left = in_memory ? info.memtable_rows : info.unindexed_rows;
    }
    snprintf(text, sizeof text, "%llu", (unsigned long long)left);
    return text;
}

static const char *query_and_follow(void) {
    const float query[2] = {1, 2};
    vex_result *result = NULL;
    vex_status status = vex_query(collection, NULL, query, 1, 2, 5, NULL, 0, &result);
    vex_result_free(result);
    return status == VEX_OK ? left_later(false) : vex_status_name(status);
}

static float place_of(uint64_t id, uint32_t d) {
    return (float)(vex_mix64(id * 64 + d) >> 40);
}

/* Gives all records, which have numbers as ids from 0 on, vectors of `dimension`. */
static const char *reembed(uint32_t dimension) {
    uint32_t changed = 1;
    vex_collection_info info = {0};
    vex_status status = vex_collection_get_info(collection, &info);
    float *vectors = malloc((info.rows * dimension + 1) * sizeof *vectors);
    for (uint64_t i = 0; i < info.rows * dimension; i++) {
        vectors[i] = place_of(i / dimension, (uint32_t)(i % dimension));
    }
    const vex_reembed_request request = {info.lsn, info.rows, vectors, dimension};
    status = status == VEX_OK ? vex_collection_reembed(collection, &request, &changed) : status;
    free(vectors);
    return status == VEX_OK && changed ? "changed" : vex_status_name(status);
}

/* How many of some records are found by their vectors. */
static const char *find(uint32_t dimension) {
    enum { FOUND_MAX = 200 };
    static char text[24];
    static float query[64];
    uint32_t found = 0;
    for (uint64_t id = 0; id < FOUND_MAX; id++) {
        vex_result *result = NULL;
        for (uint32_t d = 0; d < dimension; d++) {
            query[d] = place_of(id, d);
        }
        vex_status status = vex_query(collection, NULL, query, 1, dimension, 1, NULL, 0, &result);
        if (status != VEX_OK) {
            return vex_status_name(status);
        }
        found += result->n_rows == 1 && result->distances[0] == 0;
        vex_result_free(result);
    }
    snprintf(text, sizeof text, "%u", (unsigned)found);
    return text;
}

static const char *answer(const char *request, const char *directory, int socket) {
    if (strcmp(request, "open") == 0) {
        return open_all(directory, VEX_DURABILITY_FULL);
    } else if (strcmp(request, "open with delayed syncs") == 0) {
        return open_all(directory, VEX_DURABILITY_NORMAL);
    } else if (strcmp(request, "open without syncs") == 0) {
        return open_all(directory, VEX_DURABILITY_OFF);
    } else if (strcmp(request, "take the lease") == 0) {
        return vex_status_name(vex_lease_acquire(db));
    } else if (strcmp(request, "give the lease back") == 0) {
        vex_lease_release(db);
        return "yes";
    } else if (strcmp(request, "let a sync stall") == 0) {
        syncs_stall = true;
        for (int ms = 0; ms < 3000 && !atomic_load(&is_stalled); ms++) {
            watched.sleep_ms(&watched, 1);
        }
        syncs_stall = false;
        return atomic_load(&is_stalled) ? "yes" : "nothing is to be synced";
    } else if (strcmp(request, "close") == 0) {
        return close_all();
    } else if (strcmp(request, "flush") == 0) {
        return vex_status_name(vex_collection_flush(collection));
    } else if (strcmp(request, "get") == 0) {
        return get_ids();
    } else if (strncmp(request, "add many ", 9) == 0) {
        return add_many(strtoull(request + 9, NULL, 10));
    } else if (strncmp(request, "reembed ", 8) == 0) {
        return reembed((uint32_t)strtoul(request + 8, NULL, 10));
    } else if (strncmp(request, "find ", 5) == 0) {
        return find((uint32_t)strtoul(request + 5, NULL, 10));
    } else if (strcmp(request, "wait for the graph") == 0) {
        return vex_status_name(vex_collection_wait_index(collection, 20000));
    } else if (strcmp(request, "query, and follow the graph") == 0) {
        return query_and_follow();
    } else if (strcmp(request, "flush what is due") == 0) {
        return left_later(true);
    } else if (sscanf(request, "die at head write %d", &head_writes_left) == 1) {
        return "yes";
    } else if (strcmp(request, "pause flushes") == 0) {
        paused_at = socket;
        return "yes";
    } else if (strcmp(request, "let syncs fail") == 0) {
        syncs_fail = true;
        return "yes";
    } else if (strcmp(request, "let syncs succeed") == 0) {
        syncs_fail = false;
        return "yes";
    }
    const row one = {request + strlen("add "), 1, 2, "document", 3};
    return vex_status_name(write_rows(collection, VEX_WRITE_ADD, &one, 1, true));
}

static void serve(int requests, const char *directory) {
    char request[64];
    CHECK_OK(vex_path_join(go_path, directory, "go"));
    watched = *vex_vfs_posix();
    watched.file_open = watched_open;
    watched.file_write = watched_write;
    watched.file_sync = watched_sync;
    watched.file_sync_data = watched_sync;
    vex_db_test_files = &watched;
    for (;;) {
        ssize_t len = read(requests, request, sizeof request - 1);
        if (len <= 0) {
            _exit(0); /* without closing anything, as a killed process does */
        }
        request[len] = '\0';
        const char *text = answer(request, directory, requests);
        if (write(requests, text, strlen(text)) < 0) {
            _exit(1);
        }
    }
}

/* ---- in the test ---- */

typedef struct process {
    pid_t pid;
    int socket;
} process;

static process start(void) {
    int ends[2];
    const char *directory = test_directory();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    process started = {.pid = fork(), .socket = ends[0]};
    CHECK(started.pid >= 0);
    if (started.pid == 0) {
        close(ends[0]);
        serve(ends[1], directory);
    }
    close(ends[1]);
    return started;
}

/* What the process answers; "" when it died of it. */
static const char *ask(const process *p, const char *request) {
    static char text[4096];
    CHECK(write(p->socket, request, strlen(request)) > 0);
    ssize_t len = read(p->socket, text, sizeof text - 1);
    text[len > 0 ? len : 0] = '\0';
    return text;
}

static void end(const process *p) {
    close(p->socket);
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
}

#define CHECK_ANSWER(p, request, expected)                                                         \
    do {                                                                                           \
        const char *check_answer_ = ask(&(p), request);                                            \
        if (strcmp(check_answer_, expected) != 0) {                                                \
            test_failed(__FILE__, __LINE__, "%s: %s, expected %s", request, check_answer_,         \
                        expected);                                                                 \
        }                                                                                          \
    } while (0)

/* Has a flush killed between its manifest and the head, and what it replaced removed by the next who
 * opens; `a` knows nothing of it. */
static void flush_and_die(const process *a) {
    process flushing = start(), opening = start();
    CHECK_ANSWER(flushing, "open", "VEX_OK");
    CHECK_ANSWER(flushing, "die at head write 2", "yes"); /* opening the log, sealing it, then */
    CHECK_ANSWER(flushing, "flush", "");
    end(&flushing);
    CHECK_ANSWER(*a, "get", "a");
    CHECK_ANSWER(opening, "open", "VEX_OK");
    CHECK_ANSWER(opening, "get", "a");
    end(&opening);
}

static void check_from_elsewhere(const char *expected) {
    process other = start();
    CHECK_ANSWER(other, "open", "VEX_OK");
    CHECK_ANSWER(other, "get", expected);
    CHECK_ANSWER(other, "close", "VEX_OK");
    end(&other);
}

TEST(db_processes_a_writer_goes_on_after_a_flush_that_was_killed_elsewhere) {
    process a = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "add a", "VEX_OK");
    flush_and_die(&a);
    CHECK_ANSWER(a, "add b", "VEX_OK");
    CHECK_ANSWER(a, "get", "a,b");
    check_from_elsewhere("a,b");
    end(&a);
    check_from_elsewhere("a,b");
}

TEST(db_processes_a_reader_writes_after_a_flush_that_was_killed_elsewhere) {
    process first = start(), a = start();
    CHECK_ANSWER(first, "open", "VEX_OK");
    CHECK_ANSWER(first, "add a", "VEX_OK");
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "get", "a");
    end(&first);
    flush_and_die(&a);
    CHECK_ANSWER(a, "add b", "VEX_OK"); /* not to the log that the flush has left behind */
    check_from_elsewhere("a,b");
    CHECK_ANSWER(a, "flush", "VEX_OK");
    end(&a);
    check_from_elsewhere("a,b");
}

TEST(db_processes_flushes_go_by_the_newest_manifest) {
    process a = start(), b = start(), c = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "add a", "VEX_OK");
    CHECK_ANSWER(a, "pause flushes", "yes");
    CHECK_ANSWER(a, "flush", "paused"); /* its log is sealed */
    CHECK_ANSWER(b, "open", "VEX_OK");
    CHECK_ANSWER(b, "add b", "VEX_OK"); /* so b writes the log that follows */
    CHECK_ANSWER(a, "go on, and die at head write 1", "");
    end(&a);
    CHECK_ANSWER(c, "open", "VEX_OK"); /* it knows of the manifest, b does not */
    CHECK_ANSWER(c, "get", "a,b");
    CHECK_ANSWER(b, "add d", "VEX_OK");
    CHECK_ANSWER(b, "flush", "VEX_OK");
    CHECK_ANSWER(c, "get", "a,b,d");
    CHECK_ANSWER(c, "add e", "VEX_OK");
    CHECK_ANSWER(c, "flush", "VEX_OK");
    CHECK_ANSWER(b, "get", "a,b,d,e");
    end(&b);
    end(&c);
    check_from_elsewhere("a,b,d,e");
}

TEST(db_processes_a_failed_sync_hides_nothing) {
    process a = start(), b = start(), c = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(b, "open", "VEX_OK");
    CHECK_ANSWER(c, "open", "VEX_OK");
    CHECK_ANSWER(a, "add a", "VEX_OK");
    CHECK_ANSWER(a, "let syncs fail", "yes");
    CHECK_ANSWER(a, "add x", "VEX_ERR_IO");
    CHECK_ANSWER(a, "add y", "VEX_ERR_POISONED");
    CHECK_ANSWER(a, "get", "a");
    CHECK_ANSWER(b, "get",
                 "a,x"); /* no head tells of a; the log holds x, which counts from now on */
    CHECK_ANSWER(c, "get", "a,x");
    CHECK_ANSWER(a, "get", "a,x"); /* it does not write, but reads */
    CHECK_ANSWER(c, "add c", "VEX_OK");
    CHECK_ANSWER(b, "get", "a,x,c");
    CHECK_ANSWER(a, "get", "a,x,c");
    CHECK_ANSWER(a, "let syncs succeed", "yes");
    CHECK_ANSWER(a, "close", "VEX_OK");
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "add d", "VEX_OK");
    end(&a);
    CHECK_ANSWER(b, "get", "a,x,c,d");
    end(&b);
    end(&c);
    check_from_elsewhere("a,x,c,d");
}

TEST(db_processes_what_cannot_be_made_durable_is_not_shown) {
    process a = start(), b = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "add a", "VEX_OK");
    CHECK_ANSWER(a, "die at head write 0", "yes");
    CHECK_ANSWER(a, "add b", ""); /* logged, not acknowledged */
    end(&a);
    CHECK_ANSWER(b, "let syncs fail", "yes");
    CHECK_ANSWER(b, "open", "VEX_ERR_IO");
    CHECK_ANSWER(b, "let syncs succeed", "yes");
    CHECK_ANSWER(b, "open", "VEX_OK");
    CHECK_ANSWER(b, "get", "a,b");
    CHECK_ANSWER(b, "add c", "VEX_OK");
    end(&b);
    check_from_elsewhere("a,b,c");
}

/* Another process flushed what was due here, but not what was written meanwhile. */
TEST(db_processes_what_another_flush_left_is_flushed) {
    process a = start(), b = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(b, "open", "VEX_OK");
    CHECK_ANSWER(b, "add many 0", "VEX_OK");
    CHECK_ANSWER(b, "pause flushes", "yes");
    CHECK_ANSWER(b, "flush", "paused");
    CHECK_ANSWER(a, "add many 10000", "VEX_OK");
    CHECK_ANSWER(b, "go on, and die at head write 99", "VEX_OK");
    CHECK_ANSWER(a, "flush what is due", "0");
    end(&a);
    end(&b);
}

/* Who only reads learns of rows for its graph by querying. */
TEST(db_processes_a_reader_has_a_graph_of_what_others_write) {
    process a = start(), b = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "add many 0", "VEX_OK");
    CHECK_ANSWER(a, "flush", "VEX_OK");
    CHECK_ANSWER(a, "query, and follow the graph", "0");
    CHECK_ANSWER(b, "open", "VEX_OK");
    CHECK_ANSWER(b, "add many 10000", "VEX_OK");
    CHECK_ANSWER(b, "flush", "VEX_OK");
    CHECK_ANSWER(a, "query, and follow the graph", "0");
    end(&a);
    end(&b);
}

/* ---- other vectors ---- */

/* Its graph, and those that it loads, are of the dimension that the collection has. */
TEST(db_processes_graphs_follow_other_vectors) {
    process a = start(), b = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "add many 0", "VEX_OK");
    CHECK_ANSWER(a, "reembed 30", "VEX_OK");
    CHECK_ANSWER(a, "wait for the graph", "VEX_OK");
    CHECK_ANSWER(b, "open", "VEX_OK");
    CHECK_ANSWER(b, "find 30", "200");
    for (uint32_t dimension = 3; dimension <= 60; dimension += 19) {
        char reembeds[24], finds[24];
        snprintf(reembeds, sizeof reembeds, "reembed %u", (unsigned)dimension);
        snprintf(finds, sizeof finds, "find %u", (unsigned)dimension);
        CHECK_ANSWER(a, reembeds, "VEX_OK");
        CHECK_ANSWER(b, finds, "200");
        CHECK_ANSWER(b, "wait for the graph", "VEX_OK");
        CHECK_ANSWER(b, finds, "200");
        CHECK_ANSWER(a, "wait for the graph", "VEX_OK");
        CHECK_ANSWER(a, finds, "200");
    }
    end(&a);
    end(&b);
}

/* Between manifest and head, say: who has the log open does not add vectors of the old kind. */
TEST(db_processes_other_vectors_of_a_killed_process) {
    bool refused = false;
    process a = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "add a", "VEX_OK");
    for (int writes = 0; writes < 4 && !refused; writes++) {
        process b = start();
        char dies[32], adds[20], ids[32];
        snprintf(dies, sizeof dies, "die at head write %d", writes);
        CHECK_ANSWER(a, "flush", "VEX_OK"); /* its log is empty, and open */
        CHECK_ANSWER(b, "open", "VEX_OK");
        CHECK_ANSWER(b, dies, "yes");
        CHECK_ANSWER(b, "reembed 7", "");
        end(&b);
        snprintf(adds, sizeof adds, "add %d", writes);
        const char *answer = ask(&a, adds);
        refused = strcmp(answer, "VEX_ERR_DIMENSION") == 0;
        CHECK(refused || strcmp(answer, "VEX_OK") == 0);
        snprintf(ids, sizeof ids, "%s", ask(&a, "get"));
        check_from_elsewhere(ids);
    }
    CHECK(refused);
    end(&a);
}

/* ---- delayed syncs ---- */

/* Has `a` add a record whose sync, without the lease, does not end before there is a file `go`; `b` has
 * the lease then. */
static void stall(const process *a, const process *b) {
    char text[64];
    bool stalled = false;
    CHECK_ANSWER(*a, "open with delayed syncs", "VEX_OK");
    CHECK_ANSWER(*b, "open", "VEX_OK");
    for (int attempt = 0; attempt < 20 && !stalled; attempt++) {
        snprintf(text, sizeof text, "add a%d", attempt);
        CHECK_ANSWER(*a, text, "VEX_OK");
        CHECK_ANSWER(*b, "take the lease", "VEX_OK"); /* maybe the log has just been synced */
        stalled = strcmp(ask(a, "let a sync stall"), "yes") == 0;
        if (!stalled) {
            CHECK_ANSWER(*b, "give the lease back", "yes");
        }
    }
    CHECK(stalled);
}

/* `a` does not answer while it syncs; then `expected`. */
static void ask_and_let_go(const process *a, const char *request, const char *expected) {
    char go[VEX_PATH_MAX], text[64] = "";
    CHECK(write(a->socket, request, strlen(request)) > 0);
    CHECK_EQ(poll(&(struct pollfd){.fd = a->socket, .events = POLLIN}, 1, 200), 0);
    CHECK_OK(vex_path_join(go, test_directory(), "go"));
    close(open(go, O_CREAT | O_WRONLY, 0600));
    CHECK(read(a->socket, text, sizeof text - 1) > 0);
    if (strstr(text, expected) == NULL) {
        test_failed(__FILE__, __LINE__, "%s: %s, expected %s", request, text, expected);
    }
    CHECK_EQ(unlink(go), 0);
}

static void check_end_of_ids(const char *expected) {
    process other = start();
    CHECK_ANSWER(other, "open", "VEX_OK");
    const char *ids = ask(&other, "get");
    if (strlen(ids) < strlen(expected) ||
        strcmp(ids + strlen(ids) - strlen(expected), expected) != 0) {
        test_failed(__FILE__, __LINE__, "ids are %s, expected ...%s", ids, expected);
    }
    end(&other);
}

static void remove_file(const char *name) {
    char path[VEX_PATH_MAX], directory[VEX_PATH_MAX], hex[33];
    for (int i = 0; i < 16; i++) {
        snprintf(hex + 2 * (size_t)i, 3, "%02x", uuid[i]);
    }
    CHECK_OK(vex_path_join(directory, test_directory(), "collections"));
    CHECK_OK(vex_path_join(path, directory, hex));
    CHECK_OK(vex_path_join(directory, path, name));
    CHECK_EQ(unlink(directory), 0);
}

/* A sync that waited for the lease for too long goes on without it: another process may write meanwhile. */
TEST(db_processes_a_log_that_is_being_synced_is_not_closed) {
    process a = start(), b = start();
    stall(&a, &b);
    CHECK_ANSWER(b, "add b", "VEX_OK");
    CHECK_ANSWER(b, "give the lease back", "yes");
    ask_and_let_go(&a, "get", ",b");
    CHECK_ANSWER(a, "add c", "VEX_OK");
    end(&a);
    end(&b);
    check_end_of_ids(",b,c");
}

/* A log that another process has closed meanwhile is not added to, because it is being synced. */
TEST(db_processes_a_log_that_was_closed_during_a_sync_is_left) {
    process a = start(), b = start();
    stall(&a, &b);
    CHECK_ANSWER(b, "give the lease back", "yes");
    CHECK_ANSWER(b, "pause flushes", "yes");
    CHECK_ANSWER(b, "flush", "paused"); /* with another log begun */
    CHECK_ANSWER(b, "go on, and die at head write 0", "");
    end(&b);
    ask_and_let_go(&a, "add c", "VEX_OK");
    CHECK_ANSWER(a, "add d", "VEX_OK");
    end(&a);
    check_end_of_ids(",c,d");
    remove_file("head"); /* as after a restart of the machine: the logs tell alone */
    check_end_of_ids(",c,d");
}

/* Without syncs no CLOSE frame tells that another log has begun. */
TEST(db_processes_a_log_begun_by_who_does_not_sync_is_the_newest) {
    process a = start(), b = start();
    CHECK_ANSWER(a, "open", "VEX_OK");
    CHECK_ANSWER(a, "add a", "VEX_OK");
    CHECK_ANSWER(b, "open without syncs", "VEX_OK");
    CHECK_ANSWER(b, "pause flushes", "yes");
    CHECK_ANSWER(b, "flush", "paused");
    CHECK_ANSWER(a, "add b", "VEX_OK");
    CHECK_ANSWER(b, "go on, and die at head write 99", "VEX_OK");
    CHECK_ANSWER(b, "add c", "VEX_OK");
    CHECK_ANSWER(a, "get", "a,b,c");
    end(&a);
    end(&b);
    remove_file("head");
    check_from_elsewhere("a,b,c");
}
