/*
 * crash_kit.h - work on a database as a script, what it must have left, and whether it has.
 *
 * A script is a list of steps, each a letter and the digit of a collection:
 *   C create   N fork, with ",source"   D drop   O open anew (close, then open)   F flush   V compact   Z reindex   G graph: wait for it
 *   A add   U upsert   P update   X delete       with ",first,n": the records r<first> and on
 *   Y upsert one record that no other step writes
 *   E reembed: other vectors for all records
 *   T a transaction over all collections that are there: delete r<first>, then upsert n records from it on
 *   R close and reopen the database   W wait until the background is idle   S see K
 *   K (durability normal) what was written to the collection is on the disk now
 *   H have the other process's next delayed sync stall, without the lease; L let it go on
 *   B back everything up, once: an event of history 2, whose state is then that of collection 0
 * With a + before it, a step is one of another process, which has the database open meanwhile.
 * What a record holds follows from its id and the step, so every step leaves a state that is known
 * beforehand: a text with everything in the collection, in order ("absent" when there is none).
 *
 * Steps that change a collection are its events.  The history of a collection is the list of its
 * states after each event.  A world marks in its trace when an event begins and when it is
 * acknowledged; at any time the state found must be one after an event in [acknowledged, begun].
 */
#ifndef VEX_TESTS_CRASH_KIT_H
#define VEX_TESTS_CRASH_KIT_H

#include "tests/harness.h"

#include "io/vfs_trace.h"

#define CRASH_PATH "/db"
#define CRASH_BACKUP "/backup" /* made under another name, and renamed when it is whole           */
#define CRASH_COLLECTIONS 3
#define CRASH_EVENTS 40
#define CRASH_TEXT 2048
#define CRASH_ROWS 48
#define CRASH_OTHER 0.5f /* what E adds to the vectors of records */

/* Marks: value is collection * 256 + event. */
#define CRASH_BEGUN 1
#define CRASH_ACKED 2

typedef struct crash_state {
    bool exists;
    uint32_t together;          /* number of the transaction that made it, in all collections; or 0 */
    uint32_t n;
    struct {
        char id[8];
        int number, document; /* document -1: none */
        bool other;           /* the vector is one of E */
    } rows[CRASH_ROWS];
} crash_state;

typedef struct crash_history {
    crash_state states[CRASH_EVENTS + 1]; /* after each event; the first: before any              */
    uint32_t n;                           /* events                                               */
    uint32_t acked;
} crash_history;

/* A process other than the one whose turn it is. */
typedef struct crash_process {
    struct crash_elsewhere *elsewhere;
    vex_vfs *files;
    vex_db_options options;
    bool unsynced;
    vex_db *db;
    vex_collection *open[CRASH_COLLECTIONS];
} crash_process;

typedef struct crash_world {
    vex_vfs *files;             /* what the database is opened on                                 */
    vex_vfs *trace;             /* gets the marks; NULL: nobody                                   */
    vex_db_options options;
    bool unsynced;              /* durability normal: only K, and a clean end, promise something  */
    vex_db *db;
    vex_collection *open[CRASH_COLLECTIONS];
    crash_process *other;       /* of a pair; or NULL                                             */
    crash_history history[CRASH_COLLECTIONS];
    uint32_t steps;             /* done                                                           */
    char step[24];              /* the last one begun                                             */
} crash_world;

const uint8_t *crash_uuid(int collection);
void crash_text(const crash_state *state, char out[CRASH_TEXT]);
/* What the open collection holds, as such a text. */
vex_status crash_describe(vex_collection *collection, char out[CRASH_TEXT]);

/* A result of whole records as such a text. */
void crash_text_of(const vex_result *result, char out[CRASH_TEXT]);

/* Open the database and all collections that are there. */
vex_status crash_open(crash_world *world);
/* Close everything; statuses do not matter. */
void crash_close(crash_world *world);

/* Have the world another process, with options of its own; and have it no more, once all is closed. */
void crash_pair_begin(crash_world *world, vex_db_options options);
void crash_pair_end(crash_world *world);
/* It is the other's turn. */
void crash_swap(crash_world *world);
/* The files of who is to be killed: of a pair the other process, the first, or both (NULL). */
const vex_vfs *crash_victim(const crash_world *world, uint64_t kill);
/* Who was killed lets go of everything.  Of a pair it may be one: then it is the other's turn. */
void crash_bury(crash_world *world, const vex_vfs *victim);
/* Close the process whose turn it is, and no other. */
void crash_close_one(crash_world *world);
vex_status crash_hold(crash_world *world);
void crash_let_go(crash_world *world);
/* Does a sync of the other stall? */
bool crash_is_held(const crash_world *world);

/* An event of a history begins (the state is to be filled in, and what it is about done then), and
 * is acknowledged.  Threads may have a history each. */
crash_state *crash_begin(crash_world *world, int history);
void crash_acknowledge(crash_world *world, int history);
/* Write one record "<prefix><number>"; the state changes as it must. */
vex_status crash_write_one(vex_collection *collection, const char *prefix, int number,
                           crash_state *state);

/* Do the steps of `script` from *at on; stops at the first that fails, *at is then where it is. */
vex_status crash_run(crash_world *world, const char *script, const char **at);

/* The bounds between which the state of each collection must be. */
typedef struct crash_bounds {
    uint32_t low[CRASH_COLLECTIONS], high[CRASH_COLLECTIONS];
} crash_bounds;
void crash_bounds_of(const vex_trace *trace, size_t n, crash_bounds *out);

/* A write that changes nothing, but makes the log ready for the next. */
vex_status crash_take_over(vex_collection *collection);

/* Does every collection have what each transaction did, or none of them?  `events`: where they are. */
bool crash_is_together(const crash_history history[CRASH_COLLECTIONS],
                       const int events[CRASH_COLLECTIONS]);

/* The event whose state is `text`, the last one of [low, high]; -1 when it is none of them. */
int crash_event_of(const crash_history *history, const char *text, uint32_t low, uint32_t high);

/* What collection 0 of the backup holds, or why that cannot be told; "absent" when there is no backup. */
void crash_look_at_backup(vex_vfs *files, char out[CRASH_TEXT]);

#define CRASH_WHY 10000
/* Recover the files, look at everything, write, look again.  The texts found come back in
 * `found`.  False, and the reason, when something is wrong whatever the history. */
bool crash_recover(vex_vfs *files, const vex_db_options *options,
                   char found[CRASH_COLLECTIONS][CRASH_TEXT], char why[CRASH_WHY]);

/* Write to every collection that is there, flush, write; make one when there is none, but not that
 * whose history is the backup's. */
void crash_go_on(crash_world *world, bool backup);

/* The names left in the database's directories that have no business there; "" when all is well. */
void crash_leftovers(vex_vfs *files, char *out, size_t size);

#endif
