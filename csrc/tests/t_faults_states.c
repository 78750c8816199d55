/*
 * t_faults_states.c - power failures at every moment of some workloads (crash_states.h), and what
 * becomes of them when a safeguard is missing: then the enumeration must find a violation, or it
 * would not find a mistake either.
 *
 * `make faults` sets VEXFS_FAULTS: many more images, figures printed.
 */
#include "tests/crash_states.h"

#include <stdlib.h>

#define ADDS "C0 A0,0,2 A0,2,2 R F0 A0,4,1 U0,1,2 F0 X0,0,1"
#define CHANGES                                                                                    \
    "C0 A0,0,3 U0,2,3 P0,0,4 X0,1,2 F0 U0,0,2 P0,3,1 X0,0,1 A0,8,2 R X0,8,1 F0 P0,2,3 X0,2,1 "     \
    "U0,2,1 A0,8,1"
#define MERGES                                                                                     \
    "C0 A0,0,3 F0 A0,3,3 F0 X0,1,2 A0,6,3 F0 V0 U0,0,2 X0,4,1 F0 V0 A0,9,1 R V0 X0,0,12 V0 A0,0,1"
#define DROPS "C0 A0,0,3 F0 A0,3,1 D0 C0 A0,1,2 F0 U0,1,1 R D0 C0 D0 C0 A0,0,1 R X0,0,1 D0"
#define SEVERAL "C0 C1 A0,0,2 A1,0,2 F0 C2 A2,0,1 U1,1,2 A0,2,1 F1 D2 X1,0,1 R A0,3,1 F0 A1,3,1 C2"
#define GRAPHS "C0 A0,0,10 F0 G0 A0,10,8 F0 G0 X0,0,4 U0,5,3 F0 G0 R G0"
#define WORKER "C0 A0,0,4 W A0,4,2 A0,6,4 X0,2,5 W U0,0,4 R W A0,12,4 C1 A1,0,9 W X0,0,20 W"
#define NORMAL                                                                                     \
    "C0 A0,0,2 U0,1,2 K0 A0,3,1 X0,0,1 F0 A0,5,1 P0,5,1 K0 U0,1,1 R A0,7,1 U0,0,1 V0 X0,1,1 K0"

#define FORKS                                                                                      \
    "C0 A0,0,3 N1,0 A0,3,1 U1,0,2 F0 X0,1,1 N2,0 X2,0,1 A1,8,1 F1 V1 D0 A2,9,1 R N0,1 U0,0,1 F2 "  \
    "D1 N1,2 A2,3,2 P1,9,1 V2 F0 D2 X1,0,2"
#define BACKUP                                                                                     \
    "C0 C1 A0,0,3 F0 A0,3,2 A1,0,1 U0,0,2 F0 X0,1,1 B2 U0,0,3 A1,1,1 F0 V0 X0,2,1 A0,8,1 R A0,9,1"

#define TOGETHER                                                                                   \
    "C0 C1 A0,0,3 T0,1,2 A1,4,1 F0 T0,3,2 X1,3,1 C2 T0,0,2 V0 T0,2,1 R T0,5,2 D1 T0,0,3 A0,9,1"

/* Who syncs at once and who does it later, both at work; the latter's syncs stall while the former
 * writes, flushes, merges, forks. */
#define PAIR                                                                                       \
    "C0 A0,0,2 +A0,2,1 H0 U0,0,1 L0 +U0,1,2 H0 F0 L0 A0,4,1 +X0,0,1 H0 A0,5,1 F0 L0 +A0,6,1 +F0 "  \
    "X0,1,1 +U0,2,1 H0 V0 L0 +K0 A0,8,1 R +A0,9,1 A0,3,1 +V0 +U0,3,1 U0,0,1 +A0,10,1"
#define PAIR_FORKS                                                                                 \
    "C0 A0,0,2 +A0,2,1 H0 N1,0 L0 +A0,3,1 +A1,4,1 H1 A0,5,1 N2,1 L0 +U1,0,1 +U2,1,1 F0 A2,6,1 "    \
    "D1 +O1 +N1,2 +X2,0,1 A2,7,1 O1 U1,2,1 +A1,8,1"
#define PAIR_REEMBEDS                                                                              \
    "C0 A0,0,2 +A0,2,1 H0 E0 L0 +U0,1,1 A0,4,1 +E0 X0,0,1 +A0,5,1 H0 E0 F0 L0 +E0 U0,2,2 +K0 R "   \
    "+Y0 E0 +A0,8,1"

static bool is_full(void) {
    return getenv("VEXFS_FAULTS") != NULL;
}

/* Only the worker is something for ThreadSanitizer, under which all is slow. */
#ifdef __SANITIZE_THREAD__
#define ONLY_THREADS true
#else
#define ONLY_THREADS false
#endif

static void run(const char *name, const crash_plan *given) {
    static crash_figures figures; /* large */
    crash_plan plan = *given;
    if (ONLY_THREADS && given->options.memtable_rows == 0) {
        return;
    }
    plan.name = name;
    plan.most = ONLY_THREADS ? 300 : 0;
    plan.options.busy_timeout_ms = 5000;
    memset(&figures, 0, sizeof figures);
    crash_states(&plan, test_random(), &figures);
    if (is_full() || getenv("VEXFS_SHOW")) {
        printf(
            "%-32s %5llu runs %7llu operations %9llu images %8llu distinct %8llu of recoveries\n",
            name, (unsigned long long)figures.runs, (unsigned long long)figures.operations,
            (unsigned long long)figures.images, (unsigned long long)figures.distinct,
            (unsigned long long)figures.second);
        fflush(stdout);
    }
    if (figures.violations > 0) {
        test_failed(__FILE__, __LINE__, "%s", figures.why);
    }
}

/* The first generation, the second, what follows kills and failed syncs. */
static void run_all(const char *name, const char *script, vex_db_options options) {
    char title[64];
    crash_plan plan = {.script = script, .backup = strchr(script, 'B') != NULL, .options = options};
    if (!is_full()) { /* some images, and the recoveries of some */
        plan.sparse = true;
        plan.exhaustive = plan.samples = 2;
        plan.second = 1200;
        run(name, &plan);
        return;
    }
    plan.exhaustive = 160;
    plan.samples = 60;
    run(name, &plan);
    plan.exhaustive = plan.samples = 0;
    plan.second = 29;
    plan.second_samples = 3;
    snprintf(title, sizeof title, "%s, recoveries", name);
    run(title, &plan);
    plan.second = 0;
    plan.sparse = true;
    plan.kill_every = 3;
    snprintf(title, sizeof title, "%s, killed", name);
    run(title, &plan);
    plan.kill_every = 0;
    plan.fail_every = 1;
    plan.samples = 10;
    snprintf(title, sizeof title, "%s, syncs fail", name);
    run(title, &plan);
}

TEST(faults_states_of_adds) {
    run_all("adds", ADDS, (vex_db_options){0});
}
TEST(faults_states_of_changes) {
    run_all("changes", CHANGES, (vex_db_options){0});
}
TEST(faults_states_of_merges) {
    run_all("merges", MERGES, (vex_db_options){0});
}
TEST(faults_states_of_drops) {
    run_all("drops", DROPS, (vex_db_options){0});
}
TEST(faults_states_of_several_collections) {
    run_all("several collections", SEVERAL, (vex_db_options){0});
}
TEST(faults_states_of_graphs) {
    run("graphs", &(crash_plan){.script = GRAPHS,
                                .options = {.index_rows = 6, .index_threads = 1},
                                .samples = is_full() ? 6 : 0,
                                .sparse = !is_full()});
}
TEST(faults_states_of_the_worker) {
    run_all("worker", WORKER, (vex_db_options){.memtable_rows = 3});
}
TEST(faults_states_of_durability_normal) {
    run_all("durability normal", NORMAL, (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
}
TEST(faults_states_of_reindexing) {
    run_all("reindexing", "C0 A0,0,3 Z0 F0 Z0 A0,3,1 U0,0,1 Z0 F0 X0,1,1 R Z0 A0,5,1 V0 Z0",
            (vex_db_options){0});
}
TEST(faults_states_of_reembedding) {
    run_all("reembedding", "C0 E0 A0,0,3 E0 A0,3,1 U0,0,1 E0 X0,1,1 R E0 A0,5,1 N1,0 E1 V0 E0 Y0",
            (vex_db_options){0});
}
TEST(faults_states_of_reembedding_with_durability_normal) {
    run_all("reembedding, durability normal", "C0 A0,0,2 E0 K0 U0,1,2 E0 X0,0,1 K0",
            (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
}
TEST(faults_states_of_forks) {
    run_all("forks", FORKS, (vex_db_options){0});
}
TEST(faults_states_of_forks_with_durability_normal) {
    run_all("forks, durability normal",
            "C0 A0,0,2 N1,0 A0,3,1 U1,0,1 K1 N2,1 F1 R D2 N2,0 K0 X2,0,1 K2",
            (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
}
TEST(faults_states_of_transactions) {
    run_all("transactions", TOGETHER, (vex_db_options){0});
}
TEST(faults_states_of_transactions_with_durability_normal) {
    run_all("transactions, durability normal",
            "C0 C1 A0,0,2 A1,0,1 T0,0,2 A0,4,1 U1,0,1 T0,1,2 F0 A0,6,1 T0,2,1 R T0,0,1",
            (vex_db_options){.durability = VEX_DURABILITY_NORMAL});
}
TEST(faults_states_of_backups) {
    run_all("backups", BACKUP, (vex_db_options){0});
}
TEST(faults_states_of_backups_with_durability_off) { /* the backup is safe all the same */
    run("backups, durability off", &(crash_plan){.script = "C0 A0,0,3 F0 A0,3,2 U0,0,1 B2",
                                                 .backup = true,
                                                 .only_backup = true,
                                                 .options = {.durability = VEX_DURABILITY_OFF},
                                                 .exhaustive = 20,
                                                 .samples = is_full() ? 60 : 5});
}

static void run_pair(const char *name, const char *script, uint32_t first, uint32_t other) {
    char title[64];
    crash_plan plan = {.script = script,
                       .options = {.durability = first},
                       .pair = true,
                       .other = {.durability = other},
                       .sparse = true,
                       .exhaustive = 2,
                       .samples = 2};
    if (is_full()) {
        plan.sparse = false;
        plan.exhaustive = 60;
        plan.samples = 30;
    }
    run(name, &plan);
    plan.sparse = true;
    plan.exhaustive = plan.samples = 2;
    plan.kill_every = is_full() ? 2 : 13;
    snprintf(title, sizeof title, "%s, killed", name);
    run(title, &plan);
    plan.kill_every = 0;
    plan.fail_every = is_full() ? 1 : 7;
    plan.samples = 10;
    snprintf(title, sizeof title, "%s, syncs fail", name);
    run(title, &plan);
}

TEST(faults_states_of_a_pair) {
    run_pair("a pair", PAIR, VEX_DURABILITY_FULL, VEX_DURABILITY_NORMAL);
}
TEST(faults_states_of_a_pair_that_reembeds) {
    run_pair("a pair that reembeds", PAIR_REEMBEDS, VEX_DURABILITY_FULL, VEX_DURABILITY_NORMAL);
}
TEST(faults_states_of_a_pair_that_forks) {
    run_pair("a pair that forks", PAIR_FORKS, VEX_DURABILITY_FULL, VEX_DURABILITY_NORMAL);
}

/* Small, so that each place has its turn in every run of the tests: names that a killed process left
 * for durable, and records that a failed sync did. */
TEST(faults_states_of_every_kill) {
    run("every kill",
        &(crash_plan){.script = "C0 A0,0,2 F0 X0,0,1 D0 C0", .sparse = true, .kill_every = 1});
}
TEST(faults_states_of_every_kill_of_a_fork) {
    run("every kill of a fork", &(crash_plan){.script = "C0 A0,0,2 F0 X0,0,1 N1,0 X1,1,1",
                                              .sparse = true,
                                              .kill_every = 1});
}
TEST(faults_states_of_every_kill_of_a_transaction) {
    run("every kill of a transaction",
        &(crash_plan){.script = "C0 C1 A0,0,2 T0,0,2 F1 T0,1,1", .sparse = true, .kill_every = 1});
}
TEST(faults_states_of_every_failing_sync_of_a_transaction) {
    run("every failing sync of a transaction",
        &(crash_plan){
            .script = "C0 C1 A0,0,1 T0,0,2 T0,1,1", .sparse = true, .samples = 2, .fail_every = 1});
}
TEST(faults_states_of_every_failing_sync) {
    static const uint32_t modes[] = {VEX_DURABILITY_FULL, VEX_DURABILITY_NORMAL};
    for (int i = 0; i < 2; i++) {
        run("every failing sync", &(crash_plan){.script = "C0 A0,0,1 W A0,1,1 U0,0,1 W F0 A0,2,1 W",
                                                .options = {.durability = modes[i]},
                                                .sparse = true,
                                                .samples = 2,
                                                .fail_every = 1});
    }
}

/* ---- controls ---- */

static void must_fail(const char *script, uint32_t without, uint32_t kill_every) {
    static crash_figures figures;
    const crash_plan plan = {.name = "control",
                             .script = script,
                             .backup = strchr(script, 'B') != NULL,
                             .options = {.busy_timeout_ms = 5000},
                             .exhaustive = 20,
                             .samples = 10,
                             .kill_every = kill_every,
                             .without = without};
    memset(&figures, 0, sizeof figures);
    crash_states(&plan, test_random(), &figures);
    if (is_full()) {
        printf("without %4u: %llu images, then %.300s\n", (unsigned)without,
               (unsigned long long)figures.images, figures.why);
    }
    CHECK(figures.violations > 0);
}

TEST(faults_control_log_is_not_synced) {
    must_fail(ADDS, CRASH_WAL_SYNC, 0);
}
TEST(faults_control_log_header_is_not_synced) {
    must_fail(ADDS, CRASH_WAL_HEADER_SYNC, 0);
}
TEST(faults_control_log_name_is_not_synced) {
    must_fail(ADDS, CRASH_WAL_DIR_SYNC, 0);
}
TEST(faults_control_files_are_not_synced) {
    must_fail(ADDS, CRASH_FILE_SYNC, 0);
    must_fail(MERGES, CRASH_FILE_SYNC, 0);
}
TEST(faults_control_file_names_are_not_synced) {
    must_fail(ADDS, CRASH_FILE_DIR_SYNC, 0);
}
TEST(faults_control_manifest_is_not_synced) {
    must_fail(ADDS, CRASH_MANIFEST_SYNC, 0);
}
TEST(faults_control_manifest_name_is_not_synced) {
    must_fail(ADDS, CRASH_MANIFEST_DIR_SYNC, 0);
}
TEST(faults_control_other_directories_are_not_synced) {
    must_fail(ADDS, CRASH_PARENT_SYNC, 0);
}
TEST(faults_control_names_of_a_fork_are_not_synced) {
    must_fail("C0 A0,0,2 F0 R N1,0", CRASH_PARENT_SYNC, 0);
}
TEST(faults_control_unlinked_before_the_commit_is_durable) {
    must_fail(ADDS, CRASH_UNLINK_EARLY, 0);
    must_fail(MERGES, CRASH_UNLINK_EARLY, 0);
}
TEST(faults_control_transaction_is_not_synced) {
    must_fail(TOGETHER, CRASH_TRANSACTION_SYNC, 0);
}
TEST(faults_control_name_of_a_transaction_is_not_synced) {
    must_fail(TOGETHER, CRASH_TRANSACTION_DIR_SYNC, 0);
}
TEST(faults_control_files_of_a_backup_are_not_synced) {
    must_fail(BACKUP, CRASH_BACKUP_SYNC, 0);
}
TEST(faults_control_names_of_a_backup_are_not_synced) {
    must_fail(BACKUP, CRASH_BACKUP_DIR_SYNC, 0);
}
TEST(faults_control_frames_are_not_checked) {
    must_fail(ADDS, CRASH_NO_FRAME_CHECK, 0);
}
