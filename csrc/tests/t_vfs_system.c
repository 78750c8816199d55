/*
 * t_vfs_system.c - conveniences over a vfs, what only real files show, threads and fork, and
 * failures on demand.
 */
#include "tests/vfs_suite.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- conveniences ---- */

TEST(path_join) {
    char out[VEX_PATH_MAX];
    CHECK_OK(vex_path_join(out, "a", "b"));
    CHECK(strcmp(out, "a/b") == 0);
    CHECK_OK(vex_path_join(out, "a/", "b"));
    CHECK(strcmp(out, "a/b") == 0);
    CHECK_OK(vex_path_join(out, "/", "b"));
    CHECK(strcmp(out, "/b") == 0);
    CHECK_OK(vex_path_join(out, "", "b"));
    CHECK(strcmp(out, "b") == 0);
    static char longest[VEX_PATH_MAX];
    memset(longest, 'x', VEX_PATH_MAX - 3);
    CHECK_OK(vex_path_join(out, "d", longest)); /* with the final zero exactly VEX_PATH_MAX */
    CHECK_EQ(strlen(out), VEX_PATH_MAX - 1);
    CHECK_STATUS(vex_path_join(out, "dd", longest), VEX_ERR_TOO_BIG);
}

VFS_TEST(write_atomic) {
    CHECK_OK(vex_file_write_atomic(vfs, root, "f", "one", 3, true));
    check_content(vfs, in(root, "f"), "one");
    make(vfs, in(root, "f.tmp"), "a leftover that is longer than the new content");
    CHECK_OK(vex_file_write_atomic(vfs, root, "f", "two!", 4, false));
    check_content(vfs, in(root, "f"), "two!");
    CHECK(!exists(vfs, in(root, "f.tmp")));
    CHECK_OK(vex_file_write_atomic(vfs, root, "f", "", 0, true));
    check_content(vfs, in(root, "f"), "");
    CHECK_STATUS(vex_file_write_atomic(vfs, in(root, "no"), "f", "x", 1, true), VEX_ERR_NOT_FOUND);
    /* the error survives the cleaning up after it */
    CHECK_OK(vfs->dir_create(vfs, in(root, "d")));
    CHECK(vex_file_write_atomic(vfs, root, "d", "x", 1, true) != VEX_OK);
    CHECK_EQ(vex_last_error()->sys_errno, EISDIR);
    CHECK(!exists(vfs, in(root, "d.tmp")));
}

VFS_TEST(remove_all) {
    CHECK_OK(vex_dir_remove_all(vfs, in(root, "none")));
    char path[VEX_PATH_MAX];
    CHECK_OK(vex_path_join(path, root, "top"));
    CHECK_OK(vfs->dir_create(vfs, path));
    for (int depth = 0; depth < 60; depth++) {
        for (int i = 0; i < 5; i++) {
            char name[32];
            snprintf(name, sizeof name, "f%d", i);
            make(vfs, in(path, name), "x");
            snprintf(name, sizeof name, "empty%d", i);
            CHECK_OK(vfs->dir_create(vfs, in(path, name)));
        }
        CHECK_OK(vfs->dir_create(vfs, in(path, "second")));
        make(vfs, in(path, "second/f"), "x");
        CHECK_OK(vex_path_join(path, path, "deeper"));
        CHECK_OK(vfs->dir_create(vfs, path));
    }
    make(vfs, in(root, "sibling"), "stays");
    CHECK_OK(vex_path_join(path, root, "top/"));
    CHECK_OK(vex_dir_remove_all(vfs, path));
    CHECK(!exists(vfs, in(root, "top")));
    check_content(vfs, in(root, "sibling"), "stays");
    CHECK(vex_dir_remove_all(vfs, in(root, "sibling")) != VEX_OK); /* not a directory */
    check_content(vfs, in(root, "sibling"), "stays");
}

VFS_TEST(paths_too_long) {
    static char path[VEX_PATH_MAX + 10];
    snprintf(path, sizeof path, "%s/", root);
    memset(path + strlen(path), 'x', sizeof path - 1 - strlen(path));
    CHECK_STATUS(vex_dir_remove_all(vfs, path), VEX_ERR_TOO_BIG);
    path[VEX_PATH_MAX - 4] = '\0'; /* no room for .tmp */
    CHECK_STATUS(vex_file_write_atomic(vfs, root, path + strlen(root) + 1, "x", 1, false),
                 VEX_ERR_TOO_BIG);
    CHECK_STATUS(vfs->dir_sync(vfs, in(root, "none")), VEX_ERR_NOT_FOUND);
}

TEST(posix_remove_all_leaves_link_targets_alone) {
    vex_vfs *vfs = vex_vfs_posix();
    const char *root = test_directory();
    CHECK_OK(vfs->dir_create(vfs, in(root, "kept")));
    make(vfs, in(root, "kept/f"), "kept");
    CHECK_OK(vfs->dir_create(vfs, in(root, "top")));
    CHECK_EQ(symlink(in(root, "kept"), in(root, "top/link")), 0);
    CHECK_EQ(symlink("/nonexistent", in(root, "top/dangling")), 0);
    CHECK_OK(vex_dir_remove_all(vfs, in(root, "top")));
    CHECK(!exists(vfs, in(root, "top")));
    check_content(vfs, in(root, "kept/f"), "kept");
}

#ifdef __linux__
/* In a child: lock the file, tell that it is done, and keep the lock until the parent hangs up. */
static void hold_lock(vex_vfs *vfs, const char *path, int ready, int over) {
    vex_file *file = NULL;
    bool locked = false;
    char byte = 0;
    if (vfs->file_open(vfs, path, VEX_FILE_WRITE, &file) == VEX_OK &&
        vfs->file_try_lock(vfs, file, &locked) == VEX_OK && locked && write(ready, "x", 1) == 1) {
        (void)!read(over, &byte, 1);
    }
    _exit(0);
}

TEST(posix_lock_holder) {
    vex_vfs *vfs = vex_vfs_posix();
    const char *path = in(test_directory(), "lock");
    vex_lock_holder holder = {.pid = 1};
    vex_find_lock_holder(path, &holder); /* there is no such file */
    CHECK_EQ(holder.pid, 0);
    vex_file *file = open_file(vfs, path, VEX_FILE_CREATE);
    bool locked = false;
    CHECK_OK(vfs->file_try_lock(vfs, file, &locked));
    vex_find_lock_holder(path, &holder); /* we have it: no other process */
    CHECK_EQ(holder.pid, 0);
    vfs->file_close(vfs, file);

    int ready[2], over[2];
    CHECK(pipe(ready) == 0 && pipe(over) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(over[1]);
        hold_lock(vfs, path, ready[1], over[0]);
    }
    char byte, own_name[sizeof holder.name] = "";
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    vex_find_lock_holder(path, &holder);
    CHECK_EQ(holder.pid, child);
    FILE *comm = fopen("/proc/self/comm", "r"); /* the child has our name */
    CHECK(comm != NULL && fscanf(comm, "%31s", own_name) == 1);
    fclose(comm);
    CHECK(strcmp(holder.name, own_name) == 0);
    close(over[1]);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    vex_find_lock_holder(path, &holder);
    CHECK_EQ(holder.pid, 0);
    close(ready[0]);
    close(ready[1]);
    close(over[0]);
}
#endif

TEST(environment) {
    CHECK_EQ(setenv("VEXFS_TEST_VARIABLE", "value", 1), 0);
    CHECK(strcmp(vex_environment("VEXFS_TEST_VARIABLE"), "value") == 0);
    unsetenv("VEXFS_TEST_VARIABLE");
    CHECK(vex_environment("VEXFS_TEST_VARIABLE") == NULL);
}

/* ---- what only real files show ---- */

TEST(posix_file_size_limit_is_no_space) {
    vex_vfs *vfs = vex_vfs_posix();
    const char *path = in(test_directory(), "f");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) { /* in a child: the limit cannot be taken back */
        struct rlimit limit = {4096, 4096};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        static char bytes[10000];
        vex_iovec part = {bytes, sizeof bytes};
        vex_file *file;
        bool good = vfs->file_open(vfs, path, VEX_FILE_CREATE, &file) == VEX_OK &&
                    vfs->file_write(vfs, file, &part, 1, 0) == VEX_ERR_NO_SPACE &&
                    vex_last_error()->sys_errno == EFBIG;
        _exit(good ? 0 : 1);
    }
    int result;
    CHECK_EQ(waitpid(child, &result, 0), child);
    CHECK_EQ(result, 0);
    CHECK_EQ(size_of(vfs, path), 4096); /* the part that fitted was written before the failure */
}

TEST(posix_permission) {
    vex_vfs *vfs = vex_vfs_posix();
    const char *path = in(test_directory(), "f");
    make(vfs, path, "x");
    CHECK_EQ(chmod(path, 0), 0);
    vex_file *file;
    if (geteuid() == 0) { /* root may everything: only directories refuse to be linked */
        CHECK_STATUS(vfs->path_link(vfs, test_directory(), in(test_directory(), "g")),
                     VEX_ERR_PERMISSION);
    } else {
        CHECK_STATUS(vfs->file_open(vfs, path, VEX_FILE_READ, &file), VEX_ERR_PERMISSION);
        CHECK_EQ(vex_last_error()->sys_errno, EACCES);
    }
}

TEST(posix_descriptors_stay_above_stderr) {
    const char *path = in(test_directory(), "f");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        vex_vfs *vfs = vex_vfs_posix();
        vex_file *file;
        close(0);
        close(2);
        vex_iovec part = {"data", 4};
        bool good = vfs->file_open(vfs, path, VEX_FILE_CREATE, &file) == VEX_OK &&
                    vfs->file_write(vfs, file, &part, 1, 0) == VEX_OK && write(2, "stray", 5) < 0 &&
                    errno == EBADF;
        _exit(good ? 0 : 1);
    }
    int result;
    CHECK_EQ(waitpid(child, &result, 0), child);
    CHECK_EQ(result, 0);
    check_content(vex_vfs_posix(), path, "data");
}

TEST(posix_descriptors_run_out) {
    const char *path = in(test_directory(), "f");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        vex_vfs *vfs = vex_vfs_posix();
        vex_file *file;
        struct rlimit limit = {16, 16};
        setrlimit(RLIMIT_NOFILE, &limit);
        vex_status status = VEX_OK;
        for (int i = 0; i < 20 && status == VEX_OK; i++) {
            status = vfs->file_open(vfs, path, VEX_FILE_CREATE, &file);
        }
        bool good = status == VEX_ERR_IO && vex_last_error()->sys_errno == EMFILE &&
                    strstr(vex_last_error()->message, "ulimit -n") != NULL;
        _exit(good ? 0 : 1);
    }
    int result;
    CHECK_EQ(waitpid(child, &result, 0), child);
    CHECK_EQ(result, 0);
}

/* ---- threads and fork ---- */

typedef struct worker {
    vex_vfs *vfs;
    char directory[VEX_PATH_MAX];
    int rounds;
    _Atomic bool stop;
    bool good;
} worker;

/* Its own files in a shared directory: create, fill, map, rename over, check, remove. */
static void *work(void *context) {
    worker *w = context;
    vex_vfs *vfs = w->vfs;
    char path[VEX_PATH_MAX], name[32];
    snprintf(name, sizeof name, "w%p", context);
    w->good = vex_path_join(path, w->directory, name) == VEX_OK;
    for (int i = 0; i < w->rounds && w->good && !atomic_load(&w->stop); i++) {
        char text[64], found[64];
        size_t len = (size_t)snprintf(text, sizeof text, "%s round %d", name, i);
        const uint8_t *map = NULL;
        vex_file *file = NULL;
        w->good = vex_file_write_atomic(vfs, w->directory, name, text, len, false) == VEX_OK &&
                  vfs->file_open(vfs, path, VEX_FILE_WRITE, &file) == VEX_OK &&
                  vfs->file_map(vfs, file, len, &map) == VEX_OK &&
                  vex_file_read_exact(vfs, file, path, found, len, 0) == VEX_OK &&
                  memcmp(found, text, len) == 0 && memcmp(map, text, len) == 0;
        if (map != NULL) {
            vfs->file_unmap(vfs, map, len);
        }
        vfs->file_close(vfs, file);
    }
    w->good = w->good && vfs->path_remove(vfs, path) == VEX_OK;
    return NULL;
}

VFS_TEST(threads) {
    static worker workers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        workers[i].vfs = vfs;
        workers[i].rounds = 200;
        snprintf(workers[i].directory, VEX_PATH_MAX, "%s", root);
        CHECK_EQ(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(workers[i].good);
    }
    names list = {.stop_at = 0};
    CHECK_OK(vfs->dir_list(vfs, root, note_name, &list));
    CHECK_EQ(list.n, 0);
}

#if !defined(__SANITIZE_THREAD__) /* which counts the parent's threads as leaks of the child */

TEST(memory_forked_child_can_go_on) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    static worker busy;
    busy.vfs = vfs;
    busy.rounds = INT32_MAX;
    atomic_store(&busy.stop, false);
    snprintf(busy.directory, VEX_PATH_MAX, "/");
    make(vfs, "/f", "kept");
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, work, &busy), 0); /* holds the lock now and then */
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(20); /* a deadlock becomes a failure */
            char found[4];
            vex_file *file;
            bool good = vfs->file_open(vfs, "/f", VEX_FILE_WRITE, &file) == VEX_OK &&
                        vex_file_read_exact(vfs, file, "/f", found, 4, 0) == VEX_OK &&
                        memcmp(found, "kept", 4) == 0 &&
                        vfs->file_truncate(vfs, file, 100) == VEX_OK;
            _exit(good ? 0 : 1);
        }
        int result;
        CHECK_EQ(waitpid(child, &result, 0), child);
        CHECK_EQ(result, 0);
    }
    atomic_store(&busy.stop, true);
    pthread_join(thread, NULL);
    CHECK(busy.good);
    check_content(vfs, "/f", "kept");
    vex_vfs_memory_destroy(vfs);
}

#endif

TEST(memory_trees_are_separate) {
    vex_vfs *a, *b;
    vex_file_stat in_a, in_b;
    CHECK_OK(vex_vfs_memory_create(&a));
    CHECK_OK(vex_vfs_memory_create(&b));
    CHECK(a->is_volatile && !vex_vfs_posix()->is_volatile);
    make(a, "f", "A"); /* a missing slash is supplied */
    CHECK(!exists(b, "/f"));
    make(b, "/f", "B");
    check_content(a, "/f", "A");
    CHECK_OK(a->path_stat(a, "/", &in_a));
    CHECK_OK(b->path_stat(b, "/", &in_b));
    CHECK(in_a.device != in_b.device);
    CHECK(a->dir_remove(a, "/") != VEX_OK);
    CHECK(a->path_rename(a, "/", "/x") != VEX_OK);
    CHECK_STATUS(a->dir_create(a, "/.."), VEX_ERR_EXISTS);
    vex_vfs_memory_destroy(a);
    vex_vfs_memory_destroy(b);
    vex_vfs_memory_destroy(NULL);
}

#ifdef VEX_TESTING

/* ---- failures on demand ---- */

TEST(memory_runs_out_of_memory_cleanly) {
    for (uint64_t nth = 1;; nth++) {
        resources before = resources_now();
        vex_vfs *vfs = NULL;
        vex_file *file = NULL;
        static char bytes[10000];
        vex_iovec part = {bytes, sizeof bytes};
        vex_mem_fail_at(nth, false);
        vex_status status = vex_vfs_memory_create(&vfs);
        if (status == VEX_OK) {
            status = vfs->dir_create(vfs, "/d");
        }
        if (status == VEX_OK) {
            status = vfs->file_open(vfs, "/d/f", VEX_FILE_CREATE, &file);
        }
        if (status == VEX_OK) {
            status = vfs->file_write(vfs, file, &part, 1, 0);
        }
        if (status == VEX_OK) {
            status = vfs->path_link(vfs, "/d/f", "/g");
        }
        if (status == VEX_OK) {
            status = vfs->path_rename(vfs, "/g", "/d/h");
        }
        if (status == VEX_OK) {
            status = vex_dir_remove_all(vfs, "/d");
        }
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        if (vfs != NULL) {
            vfs->file_close(vfs, file);
        }
        vex_vfs_memory_destroy(vfs);
        check_resources(before);
        if (status == VEX_OK) {
            CHECK(nth > 8); /* there were that many allocations to fail */
            return;
        }
    }
}

VFS_TEST(faults_hit_the_chosen_call) {
    vex_vfs *fault;
    vex_file *file;
    CHECK_OK(vex_vfs_fault_create(vfs, &fault));
    CHECK_OK(fault->file_open(fault, in(root, "f"), VEX_FILE_CREATE, &file));
    CHECK_EQ(vex_vfs_fault_calls(fault), 1);
    vex_vfs_fault_arm(fault, 2, EDQUOT, false, true);
    vex_iovec parts[] = {{"abc", 3}, {"defgh", 5}};
    CHECK_OK(fault->file_write(fault, file, parts, 2, 0));
    CHECK_STATUS(fault->file_write(fault, file, parts, 2, 8), VEX_ERR_NO_SPACE);
    CHECK_EQ(vex_last_error()->sys_errno, EDQUOT);
    CHECK(strcmp(vex_last_error()->path, in(root, "f")) == 0);
    CHECK_OK(fault->file_sync(fault, file));
    check_content(fault, in(root, "f"), "abcdefghabcd"); /* half of the second write */
    vex_vfs_fault_arm(fault, 1, EACCES, true, false);
    CHECK_STATUS(fault->file_sync(fault, file), VEX_ERR_PERMISSION);
    CHECK_STATUS(fault->file_truncate(fault, file, 0), VEX_ERR_PERMISSION);
    CHECK_STATUS(fault->path_remove(fault, in(root, "f")), VEX_ERR_PERMISSION);
    CHECK_EQ(vex_vfs_fault_calls(fault), 3);
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(fault->path_remove(fault, in(root, "f")));
    fault->file_close(fault, file);
    vex_vfs_fault_destroy(fault);
}

static vex_status list_nothing(void *context, const char *name) {
    (void)context;
    (void)name;
    return VEX_OK;
}

/* Every kind of call, one after the other; stops at the first that fails. */
static vex_status call_everything(vex_vfs *vfs, const char *root, vex_file *file) {
    char bytes[4] = "abc";
    vex_iovec part = {bytes, 3};
    vex_file_stat found;
    const uint8_t *map = NULL;
    vex_disk_space space;
    bool locked;
    size_t got;
    VEX_TRY(vfs->file_write(vfs, file, &part, 1, 0));
    VEX_TRY(vfs->file_read(vfs, file, bytes, 3, 0, &got));
    VEX_TRY(vfs->file_allocate(vfs, file, 0, 100));
    VEX_TRY(vfs->file_truncate(vfs, file, 3));
    VEX_TRY(vfs->file_sync(vfs, file));
    VEX_TRY(vfs->file_sync_data(vfs, file));
    VEX_TRY(vfs->file_stat(vfs, file, &found));
    VEX_TRY(vfs->file_try_lock(vfs, file, &locked));
    vfs->file_unlock(vfs, file);
    VEX_TRY(vfs->file_map(vfs, file, 3, &map));
    vfs->file_unmap(vfs, map, 3);
    VEX_TRY(vfs->dir_create(vfs, in(root, "d")));
    VEX_TRY(vfs->path_link(vfs, in(root, "f"), in(root, "g")));
    VEX_TRY(vfs->path_rename(vfs, in(root, "g"), in(root, "h")));
    VEX_TRY(vfs->path_stat(vfs, in(root, "h"), &found));
    VEX_TRY(vfs->path_remove(vfs, in(root, "h")));
    VEX_TRY(vfs->dir_list(vfs, root, list_nothing, NULL));
    VEX_TRY(vfs->dir_sync(vfs, root));
    VEX_TRY(vfs->dir_remove(vfs, in(root, "d")));
    VEX_TRY(vfs->disk_space(vfs, root, &space));
    return vfs->random_bytes(vfs, bytes, 3);
}

VFS_TEST(every_call_can_be_failed) {
    vex_vfs *fault;
    CHECK_OK(vex_vfs_fault_create(vfs, &fault));
    vex_file *file = open_file(fault, in(root, "f"), VEX_FILE_CREATE);
    vex_vfs_fault_arm(fault, 0, EIO, false, false);
    CHECK_OK(call_everything(fault, root, file));
    uint64_t calls = vex_vfs_fault_calls(fault);
    CHECK_EQ(calls, 19);
    for (uint64_t nth = 1; nth <= calls; nth++) {
        vex_vfs_fault_arm(fault, nth, EIO, false, false);
        CHECK_STATUS(call_everything(fault, root, file), VEX_ERR_IO);
        CHECK_EQ(vex_vfs_fault_calls(fault), nth);
        vex_vfs_fault_arm(fault, 0, 0, false, false);
        const char *leftovers[] = {"g", "h"};
        for (int i = 0; i < 2; i++) {
            vex_status status = vfs->path_remove(vfs, in(root, leftovers[i]));
            CHECK(status == VEX_OK || status == VEX_ERR_NOT_FOUND);
        }
        CHECK_OK(vex_dir_remove_all(vfs, in(root, "d")));
    }
    fault->file_close(fault, file);
    vex_vfs_fault_destroy(fault);
}

VFS_TEST(copy_file) {
    make(vfs, in(root, "f"), "content");
    CHECK_OK(vex_file_copy(vfs, in(root, "f"), in(root, "g"), UINT64_MAX, true));
    check_content(vfs, in(root, "g"), "content");
    CHECK_OK(
        vex_file_copy(vfs, in(root, "f"), in(root, "g"), 4, false)); /* in place of the other */
    check_content(vfs, in(root, "g"), "cont");
    CHECK_OK(vex_file_copy(vfs, in(root, "f"), in(root, "g"), 0, true));
    check_content(vfs, in(root, "g"), "");
    CHECK_STATUS(vex_file_copy(vfs, in(root, "f"), in(root, "g"), 8, true), VEX_ERR_CORRUPT);
    CHECK(!exists(vfs, in(root, "g")));
    CHECK_STATUS(vex_file_copy(vfs, in(root, "no"), in(root, "g"), 1, true), VEX_ERR_NOT_FOUND);
    CHECK(!exists(vfs, in(root, "g")));
    const size_t large = ((size_t)2 << 20) + 5; /* of several steps */
    char *text = vex_malloc(large + 1);
    CHECK(text != NULL);
    for (size_t i = 0; i < large; i++) {
        text[i] = (char)('a' + i % 23);
    }
    text[large] = '\0';
    CHECK_OK(vex_file_write_atomic(vfs, root, "f", text, large, false));
    CHECK_OK(vex_file_copy(vfs, in(root, "f"), in(root, "g"), UINT64_MAX, false));
    vex_file *file = NULL;
    const uint8_t *map = NULL;
    CHECK_OK(vfs->file_open(vfs, in(root, "g"), VEX_FILE_READ, &file));
    CHECK_OK(vfs->file_map(vfs, file, large, &map));
    CHECK(memcmp(map, text, large) == 0);
    vfs->file_unmap(vfs, map, large);
    vfs->file_close(vfs, file);
    vex_free(text);
}

VFS_TEST(copy_file_leaves_nothing_behind) {
    vex_vfs *fault;
    CHECK_OK(vex_vfs_fault_create(vfs, &fault));
    make(vfs, in(root, "f"), "content");
    /* open, open, truncate, read, write, sync */
    for (uint64_t nth = 1; nth <= 6; nth++) {
        vex_vfs_fault_arm(fault, nth, ENOSPC, false, true);
        CHECK_STATUS(vex_file_copy(fault, in(root, "f"), in(root, "g"), UINT64_MAX, true),
                     VEX_ERR_NO_SPACE);
        CHECK(!exists(vfs, in(root, "g")));
    }
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(vex_file_copy(fault, in(root, "f"), in(root, "g"), UINT64_MAX, true));
    CHECK_EQ(vex_vfs_fault_calls(fault), 6);
    vex_vfs_fault_destroy(fault);
}

VFS_TEST(write_atomic_is_atomic_under_every_fault) {
    vex_vfs *fault;
    CHECK_OK(vex_vfs_fault_create(vfs, &fault));
    for (int persistent = 0; persistent < 2; persistent++) {
        /* open, truncate, write, sync, rename, sync of the directory */
        for (uint64_t nth = 1; nth <= 6; nth++) {
            CHECK_OK(vex_file_write_atomic(vfs, root, "f", "before", 6, false));
            vex_vfs_fault_arm(fault, nth, ENOSPC, persistent != 0, true);
            vex_status status = vex_file_write_atomic(fault, root, "f", "after!", 6, true);
            CHECK_STATUS(status, VEX_ERR_NO_SPACE);
            CHECK(strstr(vex_last_error()->message, "free some space") != NULL);
            check_content(vfs, in(root, "f"), nth < 6 ? "before" : "after!");
            CHECK_EQ(exists(vfs, in(root, "f.tmp")), persistent && nth > 1 && nth < 6);
            if (persistent && nth > 1 && nth < 6) {
                CHECK_OK(vfs->path_remove(vfs, in(root, "f.tmp")));
            }
        }
    }
    vex_vfs_fault_arm(fault, 0, 0, false, false);
    CHECK_OK(vex_file_write_atomic(fault, root, "f", "after!", 6, true));
    CHECK_EQ(vex_vfs_fault_calls(fault), 6);
    vex_vfs_fault_destroy(fault);
}

VFS_TEST(remove_all_reports_every_fault) {
    vex_vfs *fault;
    CHECK_OK(vex_vfs_fault_create(vfs, &fault));
    for (uint64_t nth = 1;; nth++) {
        CHECK_OK(vex_dir_remove_all(vfs, in(root, "d")));
        CHECK_OK(vfs->dir_create(vfs, in(root, "d")));
        CHECK_OK(vfs->dir_create(vfs, in(root, "d/e")));
        make(vfs, in(root, "d/f"), "x");
        make(vfs, in(root, "d/e/f"), "x");
        vex_vfs_fault_arm(fault, nth, EIO, true, false);
        vex_status status = vex_dir_remove_all(fault, in(root, "d"));
        if (status == VEX_OK) {
            CHECK(nth > 6);
            CHECK(!exists(vfs, in(root, "d")));
            break;
        }
        CHECK_EQ(vex_last_error()->sys_errno, EIO);
        CHECK(exists(vfs, in(root, "d")));
    }
    vex_vfs_fault_destroy(fault);
}

#endif
