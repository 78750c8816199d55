/*
 * index.h - the graph of a collection: built in the background over its vector files, one graph
 * for all of them, and saved beside them.
 *
 * The graph is derived data.  A file belongs to it once all its rows are inserted; what does not
 * (yet) belong is searched exactly, so results are always complete.  Files without code rows
 * never belong.  No graph is built below `index_rows` rows, and none for l1.
 *
 * STEPS  vex_index_step() is called by the worker again and again, between its other work, and does
 * a slice: map the saved graph (the first query does that, too), check it, copy it when there is
 * something to insert, check the codes it stands on, insert rows for 50 ms by some threads, repair, remap it after files were replaced or a fifth of its rows died, sweep it, save it.
 *
 * SWEEPING  When all rows are in, searches for new rows by themselves show whether they are found;
 * for all rows, after a sixteenth was inserted since the last time, and again when much was
 * relinked.
 *
 * THE TAIL, rows that are not in the graph, is bounded.  Rows stay in memory for a second at most
 * once there are VEX_TAIL_ROWS of them (db/commit.c), and when files of VEX_TAIL_BYTES of codes wait
 * for the graph, writers go on at the speed of the builder (vex_index_wait_for_builder).
 *
 * PROCESSES  One inserts, the others load what it saved (index_turn.c).
 *
 * FILES  graph files are numbered by themselves and named by no manifest: whoever opens the
 * collection takes the newest one whose files all exist, and else builds anew.  Read-only, the
 * newest is looked for again and again, as the graph cannot be extended there.
 */
#ifndef VEX_DB_INDEX_H
#define VEX_DB_INDEX_H

#include "index/graph.h"
#include "store/snapshot.h"

#include <pthread.h>

/* A graph and the files it stands on; the files stay mapped as long as it lives. */
typedef struct vex_index_graph {
    atomic_uint refs;
    vex_graph *graph;
    vex_vecfile **files; /* by source; the builder's alone                                   */
    uint32_t n_files;
} vex_index_graph;

typedef struct vex_index_source {
    vex_vecfile *file;
    uint32_t first; /* node of row 0                                                    */
} vex_index_source;

/* What searches see: the files that are wholly in the graph.  Immutable. */
typedef struct vex_index_view {
    atomic_uint refs;
    vex_index_graph *owner;
    uint32_t n, end; /* sources; nodes from `end` on are of files not yet in it          */
    vex_index_source sources[];
} vex_index_view;

vex_index_view *vex_index_view_acquire(vex_index_view *view); /* NULL is fine */
void vex_index_view_release(vex_index_view *view);            /* NULL is fine */

#define VEX_TAIL_ROWS ((uint32_t)VEX_INDEX_TAIL_ROWS)
#define VEX_TAIL_BYTES ((uint64_t)128 << 20)
#define VEX_WAIT_BYTES ((uint64_t)16 << 20) /* read in a millisecond or two */
#define VEX_WAIT_MS 60000u /* in which as many are inserted, about */

typedef struct vex_index {
    pthread_mutex_t mu; /* the builder's state: everything but `view` and atomics           */
    vex_index_options options;
    atomic_uint rows_min; /* options.rows                                                     */
    atomic_bool load_tried;
    atomic_uint_least64_t look_ms; /* read-only: when to look for a newer graph                  */
    uint64_t loaded;     /* number of the graph file that `view` is of; 0: of none           */
    uint64_t passed;     /* a graph file that is no better than `view`...                    */
    uint64_t passed_at;  /* ... by the files of this generation                              */
    atomic_uint queries; /* by the graph, until it is worth having in large pages             */
    bool no_files;       /* there is no graph file, as far as this process knows             */
    pthread_mutex_t turnstile; /* writers that wait for the builder, one by one                   */
    atomic_uint_least64_t waiting_bytes; /* codes of files that are not in the graph              */
    atomic_uint_least64_t inserted;      /* rows, since the collection was opened                 */
    atomic_uint ef;        /* of searches: options.ef                                          */
    vex_index_view *view;  /* guarded by the collection's publish_mu; NULL: no graph           */
    vex_graph_batch batch; /* of the file after those in the view, when building               */
    bool building;
    vex_file *turn; /* `head`, locked; NULL: no turn, or nothing can be locked */
    bool has_turn;  /* other processes wait for what this one inserts (index_turn.c)... */
    atomic_uint_least64_t turn_ends_ms; /* ... even if that is nothing, until then; 0: no turn */
    uint64_t wait_bytes;  /* they do while their graphs lack no more code rows than these ... */
    uint64_t patience_ms; /* ... and so long at most, that is, ...                            */
    uint64_t patience_ends_ms; /* ... until then; 0: they do not wait */
    atomic_uint_least64_t seen; /* generation of the newest files that a step has looked at      */
    uint32_t dead_at_remap; /* dead rows that the last remap could not shed                     */
    uint64_t unsaved;       /* rows inserted or swept since it was saved                        */
    uint64_t refused;       /* as many were unsaved when the disk had no room: not tried again
                                 before there are more, or at closing                             */
    uint32_t swept;         /* nodes below it were found by themselves (vex_graph_sweep_by)...  */
    uint64_t changed;       /* ... before so many others were inserted                          */
    uint64_t sweep_links;   /* added since `swept` was 0                                        */
    uint32_t sweeps;        /* of all nodes, one after the other                                */
} vex_index;

#endif
