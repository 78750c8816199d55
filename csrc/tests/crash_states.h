/*
 * crash_states.h - all that a power failure may leave of a workload, recovered and looked at.
 *
 * A plan runs its script on a recording vfs.  For each prefix of the trace it makes the images that
 * a power failure may leave there: all combinations of fates when these are at most `exhaustive`,
 * else some that are made by rule (nothing, everything, all but one, only one, one torn) and
 * `samples` at random.  Each image is recovered once (those of equal hash are the same); what is
 * found must lie within what was acknowledged and what was begun at that moment.
 *
 * Second generation: the recovery of every `second`-th image is recorded as well, and images of
 * its trace are recovered in turn.
 *
 * Killed processes: with `kill_every` the script is run again and again, killed before every
 * `kill_every`-th operation; the next process reopens what the page cache holds, writes, and only
 * then the power fails.
 *
 * Of a pair, each process is killed in its turn while the other lives and goes on, and both.
 *
 * Failed syncs: with `fail_every`, the same with every `fail_every`-th sync of a file failing, once,
 * in place of the killing.
 *
 * Controls: a plan may take one safeguard away, and must find violations then.
 */
#ifndef VEX_TESTS_CRASH_STATES_H
#define VEX_TESTS_CRASH_STATES_H

#include "tests/crash_kit.h"

#include "io/crash_disk.h"

/* Syncs that may be taken away: they are lies, then. */
#define CRASH_WAL_SYNC 1u
#define CRASH_WAL_HEADER_SYNC 2u
#define CRASH_WAL_DIR_SYNC 4u
#define CRASH_FILE_SYNC 8u
#define CRASH_FILE_DIR_SYNC 16u
#define CRASH_MANIFEST_SYNC 32u
#define CRASH_MANIFEST_DIR_SYNC 64u
#define CRASH_PARENT_SYNC 128u   /* of any other directory                                       */
#define CRASH_BACKUP_SYNC 2048u  /* of any file of a backup, and no other                         */
#define CRASH_BACKUP_DIR_SYNC 4096u /* of any directory of a backup                               */
#define CRASH_TRANSACTION_SYNC 8192u  /* of the file of a transaction                             */
#define CRASH_TRANSACTION_DIR_SYNC 16384u /* of the database's directory, for that                */
/* Others. */
#define CRASH_UNLINK_EARLY 256u  /* what a commit replaces goes before the commit is durable      */
#define CRASH_NO_FRAME_CHECK 512u /* checksums of log frames fit whatever the bytes               */
#define CRASH_NO_MANIFEST_CHECK 1024u /* the same of manifests                                    */

typedef struct crash_plan {
    const char *name, *script;
    /* In place of a script: work on the database, which is open; and how what is found becomes one
     * text per history, when these are not those of collections. */
    vex_status (*work)(crash_world *world);
    void (*split)(char texts[CRASH_COLLECTIONS][CRASH_TEXT]);
    bool backup;        /* the script makes one, which is history 2                              */
    bool only_backup;   /* the database itself promises nothing (durability off)                  */
    vex_db_options options;
    bool pair;          /* of processes, the other with these options                            */
    vex_db_options other;
    uint64_t exhaustive;
    uint32_t samples;
    bool sparse;        /* only prefixes that a sync, or nothing, follows: there most is pending   */
    uint32_t second, second_samples;
    uint32_t kill_every, fail_every;
    uint32_t without;   /* CRASH_*: safeguards taken away                                        */
    uint64_t most;      /* distinct images at most; 0: any number                                */
} crash_plan;

typedef struct crash_figures {
    uint64_t operations, images, distinct, second, runs, violations;
    char why[CRASH_WHY + 512];   /* of the first violation                                       */
} crash_figures;

/* Adds to the figures.  Stops at the first violation, whose story is in `why`. */
void crash_states(const crash_plan *plan, uint64_t seed, crash_figures *figures);

/* The kind of sync that an operation of the trace is: CRASH_*_SYNC, or 0. */
uint32_t crash_barrier(const vex_trace *trace, size_t i);
/* The order of operations without CRASH_UNLINK_EARLY's safeguard. */
void crash_unlink_early(const vex_trace *trace, size_t *order);
/* Give logs or manifests checksums that fit. */
void crash_fit(vex_vfs *files, uint32_t without);

#endif
