/*
 * t_db_compact.c - whole databases that merge their files: how many stay, what comes back to the
 * disk, what happens when it fails.
 */
#include "db/compact_plan.h"
#include "db/db.h"
#include "io/vfs_fault.h"
#include "tests/db_kit.h"

#include <errno.h>
#include <stdlib.h>

#define WIDE 32u /* dimension of the large records */
#define FOR_EVER UINT32_MAX

/* Records `first` and following, with a vector and a document that follow from number and version. */
static void write_wide(vex_collection *collection, uint32_t op, uint32_t first, uint32_t n,
                       uint32_t version) {
    vex_buf records = {0};
    float *vectors = malloc((size_t)n * WIDE * sizeof *vectors);
    char text[80];
    CHECK_OK(vex_mp_put_array(&records, 4));
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "record-%u", (unsigned)(first + i));
        put_text(&records, text);
        for (uint32_t d = 0; d < WIDE; d++) {
            vectors[(size_t)i * WIDE + d] = (float)(first + i) + 0.37f * (float)(d + version);
        }
    }
    CHECK_OK(vex_mp_put_array(&records, n));
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "text %u of version %u", (unsigned)(first + i),
                 (unsigned)version);
        put_text(&records, text);
    }
    CHECK_OK(vex_mp_put_nil(&records));
    CHECK_OK(vex_mp_put_nil(&records));
    const vex_write_request request = {.op = op,
                                       .n = n,
                                       .dimension = WIDE,
                                       .vectors = vectors,
                                       .records = records.data,
                                       .records_len = records.len};
    CHECK_OK(vex_write(collection, &request, NULL));
    vex_buf_clear(&records);
    free(vectors);
}

/* All records, the vector of each of the given version. */
static void check_wide(vex_collection *collection, uint32_t n, uint32_t version) {
    vex_result *result = NULL;
    CHECK_OK(
        vex_get(collection, NULL, 0, -1, VEX_INCLUDE_DOCUMENTS | VEX_INCLUDE_VECTORS, &result));
    CHECK_EQ(result->n_rows, n);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(result->vectors[(size_t)i * WIDE + 1] == (float)i + 0.37f * (float)(1 + version));
    }
    vex_result_free(result);
}

static void delete_range(vex_collection *collection, uint32_t first, uint32_t n) {
    vex_buf ids = {0};
    char id[32];
    uint64_t deleted = 0;
    CHECK_OK(vex_mp_put_array(&ids, n));
    for (uint32_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "record-%u", (unsigned)(first + i));
        put_text(&ids, id);
    }
    const vex_selection selection = {.ids = ids.data, .ids_len = ids.len};
    CHECK_OK(vex_delete(collection, &selection, -1, &deleted));
    CHECK_EQ(deleted, n);
    vex_buf_clear(&ids);
}

static vex_collection_info info_of(vex_collection *collection) {
    vex_collection_info info;
    CHECK_OK(vex_collection_get_info(collection, &info));
    return info;
}

typedef struct sum {
    vex_vfs *vfs;
    const char *dir;
    uint64_t bytes, files;
} sum;

static vex_status add_size(void *context, const char *name) {
    sum *s = context;
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    VEX_TRY(vex_path_join(path, s->dir, name));
    VEX_TRY(s->vfs->path_stat(s->vfs, path, &stat));
    s->bytes += stat.size;
    s->files++;
    return VEX_OK;
}

/* What the collection's directory holds. */
static sum disk_of(const vex_collection *collection) {
    sum s = {.vfs = collection->db->vfs, .dir = collection->dir};
    CHECK_OK(s.vfs->dir_list(s.vfs, s.dir, add_size, &s));
    return s;
}

static void close_both(vex_collection *collection, vex_db *db) {
    CHECK_OK(vex_collection_close(collection));
    CHECK_OK(vex_db_close(db));
}

/* ---- few files ---- */

static uint32_t most_files(uint64_t rows) {
    uint32_t tiers = 1;
    for (; rows >= VEX_COMPACT_FANOUT; rows /= VEX_COMPACT_FANOUT) {
        tiers++;
    }
    return tiers * (VEX_COMPACT_FANOUT - 1);
}

static void few_files(const char *path) {
    vex_db *db = open_db(path, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    uint32_t rows = 0;
    for (uint32_t flush = 0; flush < 250; flush++) {
        write_wide(collection, VEX_WRITE_ADD, rows, 7, 1);
        rows += 7;
        CHECK_OK(vex_collection_flush(collection));
        if (flush % 50 == 49) {
            CHECK_OK(vex_collection_wait_idle(collection, FOR_EVER));
            vex_collection_info info = info_of(collection);
            CHECK(info.vector_files <= most_files(rows));
            CHECK(info.payload_files <= most_files(rows));
            CHECK_EQ(info.memtable_rows, 0);
        }
    }
    check_wide(collection, rows, 1);
    vex_collection_info info = info_of(collection); /* the worker may have merged all by chance */
    uint64_t merges = vex_stat_get(VEX_STAT_COMPACTIONS);
    merges += info.vector_files > 1 || info.payload_files > 1;
    CHECK_OK(vex_collection_compact(collection, 0));
    CHECK_EQ(vex_stat_get(VEX_STAT_COMPACTIONS), merges);
    CHECK_EQ(info_of(collection).vector_files, 1);
    CHECK_EQ(info_of(collection).payload_files, 1);
    check_wide(collection, rows, 1);
    CHECK_OK(vex_collection_compact(collection, 0)); /* nothing left to do */
    CHECK_EQ(vex_stat_get(VEX_STAT_COMPACTIONS), merges);
    CHECK_STATUS(vex_collection_compact(collection, 1), VEX_ERR_INVALID);
    close_both(collection, db);
    if (path != NULL) {
        db = open_db(path, 0);
        collection = open_collection(db, VEX_SPACE_L2);
        check_wide(collection, rows, 1);
        sum disk = disk_of(collection);
        CHECK_EQ(disk.files, 5); /* manifest, head, log, vectors, payloads */
        close_both(collection, db);
    }
}

TEST(db_compact_few_files_on_disk) {
    few_files(test_directory());
}
TEST(db_compact_few_files_in_memory) {
    few_files(NULL);
}

/* A row is written once per factor of four between the first file and the last. */
TEST(db_compact_write_amplification) {
    vex_db *db = open_db(NULL, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    uint64_t before = vex_stat_get(VEX_STAT_SEGMENT_BYTES);
    uint64_t merged = vex_stat_get(VEX_STAT_COMPACTED_BYTES);
    for (uint32_t i = 0; i < 64; i++) {
        write_wide(collection, VEX_WRITE_ADD, i * 256, 256, 1);
        CHECK_OK(vex_collection_flush(collection));
        CHECK_OK(vex_collection_wait_idle(collection, FOR_EVER));
    }
    uint64_t all = vex_stat_get(VEX_STAT_SEGMENT_BYTES) - before;
    merged = vex_stat_get(VEX_STAT_COMPACTED_BYTES) - merged;
    CHECK(merged < all);
    CHECK(merged <= 3 * (all - merged)); /* 256 -> 1,024 -> 4,096 -> 16,384 */
    CHECK_EQ(info_of(collection).vector_files, 1);
    close_both(collection, db);
}

/* ---- the disk is given back ---- */

/* Enough records for a graph, and few enough for a sanitizer: they lie on a line, through which walks
 * take long. */
static void give_back(bool close_at_once) {
    const char *path = test_directory();
    vex_db *db = open_db(path, 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    for (uint32_t i = 0; i < 5; i++) {
        write_wide(collection, VEX_WRITE_ADD, i * 2200, 2200, 1);
        CHECK_OK(vex_collection_flush(collection));
    }
    CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
    CHECK(disk_of(collection).bytes > 2 << 20);
    for (uint32_t i = 0; i < 11; i++) {
        delete_range(collection, i * 1000, 1000);
    }
    if (close_at_once) {
        close_both(collection, db);
        db = open_db(path, 0);
        collection = open_collection(db, VEX_SPACE_L2);
    } else {
        CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
    }
    CHECK_EQ(count(collection), 0);
    CHECK(disk_of(collection).bytes <= 1 << 19);
    CHECK_EQ(info_of(collection).vector_files, 0);
    close_both(collection, db);
}

TEST(db_compact_gives_back_deleted_rows) {
    give_back(false);
}
TEST(db_compact_gives_back_deleted_rows_at_close) {
    give_back(true);
}

/* More than a fifth dead: written again, without them. */
TEST(db_compact_rewrites_files_with_dead_rows) {
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    write_wide(collection, VEX_WRITE_ADD, 0, 20000, 1);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
    uint64_t full = disk_of(collection).bytes;
    delete_range(collection, 16200, 3800); /* under a fifth */
    CHECK_OK(vex_collection_flush(collection));
    CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
    CHECK(disk_of(collection).bytes >= full);
    delete_range(collection, 10000, 6200);
    CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
    CHECK(disk_of(collection).bytes < full * 6 / 10);
    check_wide(collection, 10000, 1);
    close_both(collection, db);
}

/* The same records loaded again and again, each time different. */
TEST(db_compact_repeated_upserts) {
    vex_db *db = open_db(test_directory(), 0);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    write_wide(collection, VEX_WRITE_UPSERT, 0, 4000, 0);
    CHECK_OK(vex_collection_flush(collection));
    uint64_t once = disk_of(collection).bytes;
    for (uint32_t hour = 1; hour < 60; hour++) {
        write_wide(collection, VEX_WRITE_UPSERT, 0, 4000, hour);
        if (hour % 20 == 0) {
            CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
            CHECK(disk_of(collection).bytes <= 2 * once);
        }
    }
    CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
    CHECK(disk_of(collection).bytes <= 2 * once);
    check_wide(collection, 4000, 59);
    close_both(collection, db);
}

/* ---- writes that change nothing ---- */

TEST(db_compact_same_upserts_write_nothing) {
    for (int flushed = 0; flushed < 2; flushed++) {
        vex_db *db = open_db(NULL, 0);
        vex_collection *collection = open_collection(db, VEX_SPACE_L2);
        const row changed[] = {{"a", 1, 0, "other", 1}, {"b", 0, 1, NULL, 2}, {"c", 1, 1, NULL, 4}};
        CHECK_OK(write_rows(collection, VEX_WRITE_UPSERT, three, 3, true));
        if (flushed) {
            CHECK_OK(vex_collection_flush(collection));
        }
        vex_collection_info before = info_of(collection);
        CHECK_OK(write_rows(collection, VEX_WRITE_UPSERT, three, 3, true));
        CHECK_OK(write_rows(collection, VEX_WRITE_UPDATE, three, 3, false));
        CHECK_EQ(info_of(collection).lsn, before.lsn);
        CHECK_OK(write_rows(collection, VEX_WRITE_UPSERT, changed, 3, true));
        vex_collection_info after = info_of(collection);
        CHECK_EQ(after.lsn, before.lsn + 1);
        CHECK_EQ(after.memtable_rows, before.memtable_rows); /* no vector is new */
        const vex_snapshot *latest = collection->latest;
        CHECK_EQ(latest->mems[latest->n_mems - 1].n_payloads, flushed ? 2 : 5);
        const row minus[] = {{"b", -0.0f, 1, NULL, 2}};
        CHECK_OK(write_rows(collection, VEX_WRITE_UPSERT, minus, 1, true)); /* not 0.0 */
        CHECK_EQ(info_of(collection).memtable_rows, before.memtable_rows + 1);
        check_ids(collection, NULL, "a,b,c");
        close_both(collection, db);
    }
}

/* ---- flushes in the middle of a merge ---- */

static vex_collection *written_meanwhile;

/* Called between the look at the manifest and the first byte: a batch that makes a flush due, and
 * one that only the flush's tombstones tell of. */
static vex_status write_meanwhile(vex_vfs *vfs, const char *path, vex_disk_space *out) {
    (void)vfs;
    (void)path;
    out->size = out->left = UINT64_MAX;
    if (written_meanwhile != NULL) {
        vex_collection *collection = written_meanwhile;
        written_meanwhile = NULL;
        write_wide(collection, VEX_WRITE_UPSERT, 0, 60, 5);
        delete_range(collection, 100, 20);
    }
    return VEX_OK;
}

static void flush_meanwhile(bool kill_all) {
    vex_vfs *memory = NULL, *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &files));
    files->is_volatile = false;
    files->disk_space = write_meanwhile;
    vex_db_test_files = files;
    vex_db *db = open_db("/db", 50);
    vex_collection *collection = open_collection(db, VEX_SPACE_L2);
    uint32_t old = kill_all ? 60 : 90;
    for (uint32_t i = 0; i < 60; i += 30) { /* three files: the background leaves them alone */
        write_wide(collection, VEX_WRITE_ADD, i, 30, 6);
        CHECK_OK(vex_collection_flush(collection));
    }
    if (!kill_all) {
        write_wide(collection, VEX_WRITE_ADD, 60, 30, 6);
    }
    write_wide(collection, VEX_WRITE_ADD, 100, 20, 1);
    CHECK_OK(vex_collection_flush(collection));
    CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
    uint64_t generation = collection->manifest.generation;
    written_meanwhile = collection;
    CHECK_OK(vex_collection_compact(collection, 0));
    CHECK(written_meanwhile == NULL);
    CHECK(collection->manifest.generation >= generation + 2); /* a flush, and the merge */
    CHECK_OK(vex_db_wait_idle(db, FOR_EVER));
    CHECK_EQ(info_of(collection).memtable_rows, 0);
    CHECK_EQ(count(collection), old);
    close_both(collection, db);
    db = open_db("/db", 50);
    collection = open_collection(db, VEX_SPACE_L2);
    CHECK_EQ(count(collection), old);
    vex_result *result = NULL;
    CHECK_OK(vex_get(collection, NULL, 0, -1, VEX_INCLUDE_VECTORS, &result));
    for (uint32_t i = 0; i < old; i++) {
        uint32_t version = i < 60 ? 5 : 6;
        CHECK(result->vectors[(size_t)i * WIDE + 1] == (float)i + 0.37f * (float)(1 + version));
    }
    vex_result_free(result);
    CHECK_OK(vex_collection_compact(collection, 0));
    CHECK_EQ(info_of(collection).vector_files, 1);
    CHECK_EQ(info_of(collection).payload_files, 1);
    CHECK_EQ(disk_of(collection).files, 5);
    close_both(collection, db);
    vex_db_test_files = NULL;
    vex_vfs_fault_destroy(files);
    vex_vfs_memory_destroy(memory);
}

TEST(db_compact_flushes_meanwhile) {
    flush_meanwhile(false);
}
TEST(db_compact_flushes_what_replaces_all_rows_meanwhile) {
    flush_meanwhile(true);
}

/* ---- others on the same directory ---- */

TEST(db_compact_under_a_reader_of_another_process) {
    const char *path = test_directory();
    const vex_db_options reading = {.flags = VEX_OPEN_READ_ONLY};
    vex_db *db = open_db(path, 0), *other = NULL;
    vex_collection *collection = open_collection(db, VEX_SPACE_L2), *seen = NULL;
    write_wide(collection, VEX_WRITE_ADD, 0, 50, 1);
    CHECK_OK(vex_db_open(path, &reading, &other)); /* an engine of its own */
    CHECK_OK(vex_collection_open(other, uuid, &seen));
    for (uint32_t i = 1; i < 30; i++) {
        write_wide(collection, VEX_WRITE_ADD, i * 50, 50, 1);
        CHECK_OK(vex_collection_flush(collection));
        if (i % 7 == 0) {
            CHECK_OK(vex_collection_compact(collection, 0));
        }
        check_wide(seen, (i + 1) * 50, 1);
        CHECK_OK(vex_db_wait_idle(other, FOR_EVER)); /* it only looks for a graph */
        CHECK_STATUS(vex_collection_compact(seen, 0), VEX_ERR_READ_ONLY);
    }
    close_both(seen, other);
    close_both(collection, db);
}

/* ---- failures ---- */

typedef struct stage {
    vex_vfs *memory, *fault;
    vex_db *db;
    vex_collection *collection;
} stage;

static void open_stage(stage *s) {
    s->db = open_db("/db", 0);
    s->collection = open_collection(s->db, VEX_SPACE_L2);
}

static void begin_stage(stage *s) {
    CHECK_OK(vex_vfs_memory_create(&s->memory));
    CHECK_OK(vex_vfs_fault_create(s->memory, &s->fault));
    s->fault->is_volatile = false;
    vex_vfs_fault_only(s->fault, VEX_FAULT_ALL, "");
    vex_db_test_files = s->fault;
    open_stage(s);
}

static void end_stage(stage *s) {
    close_both(s->collection, s->db);
    vex_db_test_files = NULL;
    vex_vfs_fault_destroy(s->fault);
    vex_vfs_memory_destroy(s->memory);
}

/* Three files, too few for the background, with dead rows in them and deaths in the log. */
static void fill_stage(stage *s) {
    for (uint32_t i = 0; i < 3; i++) {
        write_wide(s->collection, VEX_WRITE_UPSERT, i * 30, 40, 1);
        CHECK_OK(vex_collection_flush(s->collection));
    }
    write_wide(s->collection, VEX_WRITE_UPSERT, 20, 30, 0);
    write_wide(s->collection, VEX_WRITE_UPSERT, 20, 30, 1);
}

/* The N-th call of a vacuum fails, or from then on all: as if the process had died there. */
static bool fail_vacuum(uint64_t nth, int sys_errno, bool persistent, bool reboot) {
    stage s;
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    begin_stage(&s);
    fill_stage(&s);
    vex_vfs_fault_arm(s.fault, nth, sys_errno, persistent, sys_errno == ENOSPC);
    vex_status status = vex_collection_compact(s.collection, 0);
    bool met = vex_vfs_fault_calls(s.fault) >= nth;
    CHECK(met || status == VEX_OK);
    CHECK(status == VEX_OK || status == VEX_ERR_POISONED ||
          status == (sys_errno == ENOSPC ? VEX_ERR_NO_SPACE : VEX_ERR_IO));
    if (!reboot) {
        vex_vfs_fault_arm(s.fault, 0, 0, false, false);
        check_wide(s.collection, 100, 1);
    }
    close_both(s.collection, s.db); /* in case of a reboot nothing that it does gets through */
    vex_vfs_fault_arm(s.fault, 0, 0, false, false);
    if (reboot) {
        (void)s.memory->path_remove(s.memory,
                                    "/db/collections/0102030405060708090a0b0c0d0e0f10/head");
    }
    open_stage(&s);
    check_wide(s.collection, 100, 1);
    CHECK_OK(vex_collection_compact(s.collection, 0));
    CHECK_EQ(info_of(s.collection).vector_files, 1);
    CHECK_EQ(info_of(s.collection).payload_files, 1);
    CHECK_EQ(disk_of(s.collection).files, 5);
    check_wide(s.collection, 100, 1);
    end_stage(&s);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), blocks);
    return met;
}

#ifdef __SANITIZE_THREAD__
#define STEP 9
#else
#define STEP 1
#endif

static void fail_every_call(int sys_errno, bool persistent, bool reboot) {
    uint64_t nth = 1;
    for (; fail_vacuum(nth, sys_errno, persistent, reboot); nth += STEP) {
        CHECK(nth < 2000);
    }
    CHECK(nth > 30);
}

TEST(db_compact_any_call_fails_once) {
    fail_every_call(EIO, false, false);
}
TEST(db_compact_dies_at_any_call) {
    fail_every_call(EIO, true, true);
}
TEST(db_compact_everything_fails_for_a_while) {
    fail_every_call(EIO, true, false);
}
TEST(db_compact_disk_full) {
    fail_every_call(ENOSPC, true, false);
}

/* A full disk: the background leaves everything as it is, waits, and makes up for it later. */
TEST(db_compact_waits_for_a_full_disk) {
    stage s;
    begin_stage(&s);
    vex_vfs_fault_only(s.fault, VEX_FAULT_WRITE, "/vec-000000000009"); /* the merged file */
    vex_vfs_fault_arm(s.fault, 1, ENOSPC, true, true);
    for (uint32_t i = 0; i < 4; i++) {
        write_wide(s.collection, VEX_WRITE_ADD, i * 20, 20, 1);
        CHECK_OK(vex_collection_flush(s.collection));
    }
    CHECK_STATUS(vex_collection_wait_idle(s.collection, 100), VEX_ERR_BUSY);
    CHECK_EQ(info_of(s.collection).vector_files, 4);
    uint64_t tries = vex_vfs_fault_calls(s.fault);
    CHECK_STATUS(vex_db_wait_idle(s.db, 100), VEX_ERR_BUSY);
    CHECK(vex_vfs_fault_calls(s.fault) <=
          tries + 6); /* not a busy loop: one more attempt at most */
    check_wide(s.collection, 80, 1);
    vex_vfs_fault_arm(s.fault, 0, 0, false, false);
    CHECK_OK(vex_collection_wait_idle(s.collection, FOR_EVER));
    CHECK_EQ(info_of(s.collection).vector_files, 1);
    check_wide(s.collection, 80, 1);
    end_stage(&s);
}

static vex_status no_space_left(vex_vfs *vfs, const char *path, vex_disk_space *out) {
    (void)vfs;
    (void)path;
    out->size = (uint64_t)1 << 40;
    out->left = 4096;
    return VEX_OK;
}

TEST(db_compact_looks_for_space_first) {
    stage s;
    begin_stage(&s);
    fill_stage(&s);
    vex_status (*real)(vex_vfs *, const char *, vex_disk_space *) = s.fault->disk_space;
    s.fault->disk_space = no_space_left;
    CHECK_OK(vex_collection_flush(s.collection));
    uint64_t written = vex_stat_get(VEX_STAT_SEGMENT_BYTES);
    CHECK_STATUS(vex_collection_compact(s.collection, 0), VEX_ERR_NO_SPACE);
    CHECK_EQ(vex_stat_get(VEX_STAT_SEGMENT_BYTES), written);
    s.fault->disk_space = real;
    CHECK_OK(vex_collection_compact(s.collection, 0));
    check_wide(s.collection, 100, 1);
    end_stage(&s);
}
