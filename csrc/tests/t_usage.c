/*
 * t_usage.c - what the files of a collection take (db/usage.c): every byte in one sum, by the newest
 * manifest, and no failing call that makes the numbers wrong.
 */
#include "tests/crash_kit.h"

#include "base/mem.h"
#include "db/db.h"
#include "io/vfs_fault.h"

#include <errno.h>

#define DIRECTORY CRASH_PATH "/collections/01000000000000000000000000000000"

static void fill(crash_world *world, vex_vfs *files, const char *script) {
    memset(world, 0, sizeof *world);
    world->files = files;
    CHECK_OK(crash_open(world));
    CHECK_OK(crash_run(world, script, NULL));
}

static vex_vfs *new_disk(void) {
    vex_vfs *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    return files;
}

static void put_file(vex_vfs *files, const char *name, size_t size) {
    static const char bytes[512];
    CHECK_OK(vex_file_write_atomic(files, DIRECTORY, name, bytes, size, false));
}

typedef struct total {
    vex_vfs *files;
    uint64_t bytes;
} total;

static vex_status add_size(void *context, const char *name) {
    total *t = context;
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    VEX_TRY(vex_path_join(path, DIRECTORY, name));
    VEX_TRY(t->files->path_stat(t->files, path, &stat));
    t->bytes += stat.size;
    return VEX_OK;
}

static uint64_t sum(const vex_collection_usage *u) {
    return u->vector_bytes + u->payload_bytes + u->tombstone_bytes + u->log_bytes + u->graph_bytes +
           u->other_bytes + u->leftover_bytes;
}

TEST(usage_counts_every_byte_once) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_collection_usage usage;
    fill(&world, files, "C0 A0,0,6 F0 A0,6,2 X0,1,2 F0 U0,0,2 A0,9,1");
    CHECK_OK(vex_collection_get_usage(world.open[0], &usage));
    CHECK_EQ(usage.generation, 3);
    CHECK_EQ(usage.leftover_bytes, 0);
    CHECK_EQ(usage.graph_bytes + usage.graph_rows, 0);
    CHECK(usage.vector_bytes > 0 && usage.payload_bytes > 0 && usage.tombstone_bytes > 0);
    CHECK(usage.log_bytes > 0 && usage.other_bytes > 0);
    CHECK_EQ(usage.vector_rows, 8);
    CHECK_EQ(usage.dead_vector_rows, 3); /* r1, r2, and r0, whose newest row is in memory */
    CHECK_EQ(usage.payload_rows, 8);
    CHECK_EQ(usage.dead_payload_rows, 3);
    put_file(files, "vec-000000000099.vxv", 300);
    put_file(files, "manifest-00000000000000000001", 10);
    put_file(files, "wal-0000000001", 5);
    put_file(files, "gra-000000000001.vxg", 77); /* no graph at all */
    CHECK_OK(vex_collection_get_usage(world.open[0], &usage));
    CHECK_EQ(usage.leftover_bytes, 315);
    CHECK_EQ(usage.graph_bytes, 77);
    CHECK_EQ(usage.graph_rows, 0);
    total all = {.files = files};
    CHECK_OK(files->dir_list(files, DIRECTORY, add_size, &all));
    CHECK_EQ(sum(&usage), all.bytes);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(usage_knows_whose_graph_is_stored) {
    static crash_world world;
    vex_vfs *files = new_disk();
    vex_collection_usage usage;
    memset(&world, 0, sizeof world);
    world.files = files;
    world.options = (vex_db_options){.index_rows = 6, .index_threads = 1};
    CHECK_OK(crash_open(&world));
    CHECK_OK(crash_run(&world, "C0 A0,0,20 F0 G0 R", NULL));
    CHECK_OK(vex_collection_get_usage(world.open[0], &usage));
    CHECK_EQ(usage.graph_rows, 20);
    CHECK(usage.graph_bytes > 0);
    world.options.index_rows = UINT32_MAX;
    CHECK_OK(crash_run(&world, "R X0,0,10 V0", NULL)); /* other files */
    CHECK_OK(vex_collection_get_usage(world.open[0], &usage));
    CHECK_EQ(usage.graph_rows, 0);
    CHECK_EQ(usage.vector_rows, 10);
    crash_close(&world);
    vex_vfs_memory_destroy(files);
}

TEST(usage_fails_or_is_right) {
    static crash_world world;
    for (uint64_t nth = 1;; nth++) {
        vex_vfs *files = new_disk(), *fault = NULL;
        vex_collection_usage right, found;
        CHECK_OK(vex_vfs_fault_create(files, &fault));
        fill(&world, fault, "C0 A0,0,6 F0 X0,1,2 F0");
        CHECK_OK(vex_collection_get_usage(world.open[0], &right));
        vex_vfs_fault_arm(fault, nth, EIO, false, false);
        vex_status status = vex_collection_get_usage(world.open[0], &found);
        bool met = vex_vfs_fault_calls(fault) >= nth;
        vex_vfs_fault_arm(fault, 0, 0, false, false);
        CHECK(status == VEX_ERR_IO ||
              (status == VEX_OK && memcmp(&right, &found, sizeof right) == 0));
        crash_close(&world);
        vex_vfs_fault_destroy(fault);
        vex_vfs_memory_destroy(files);
        if (!met) {
            CHECK(nth > 8);
            return;
        }
    }
}
