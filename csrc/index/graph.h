/*
 * graph.h - a navigable graph (HNSW) over code rows: approximate nearest neighbours.
 *
 * NODES  A node is a row of one of the graph's *sources*: immutable arrays of code rows (lvq.h).
 * Node ids are uint32; a source of n rows has ids first..first+n-1, where `first` is a multiple
 * of VEX_GRAPH_PAGE; ids in gaps are never inserted.  Rows are borrowed: they must not change
 * or go away while the graph lives.  Row order of ids decides ties.
 *
 * LINKS  Level 0: up to 2M neighbours, nearest first when last pruned.  Level l >= 1: up to M; a
 * node has level >= l with probability M^-l, drawn from a hash of (seed, id).  Rows with equal
 * code rows share one place in the graph: the first is its *representative*, the others
 * *duplicates* chained to it in id order.  Searches return them all.
 *
 * THREADS  Searches (vex_graph_search and the readers of statistics) run at any time beside each
 * other, beside inserting and beside repair; they take no lock on nodes.  Inserting threads may
 * be many.  Adding sources: one thread, beside anything.  Repair, remap, save: not while
 * inserting.  A scratch belongs to one thread at a time.
 * Records of links never move.  Writers change a record under its spin bit and with atomic
 * stores; a searcher that reads half of an old and half of a new list reads valid ids only, for
 * it skips ids that were added after it began.  No node is linked to before its own lists on all
 * its levels are written.
 *
 * DETERMINISM  Inserted by one thread, the same rows in the same order give the same graph, on
 * every SIMD level for LVQ8 rows.  By short rows (vex_graph_hold_rows) it is another than without.
 */
#ifndef VEX_INDEX_GRAPH_H
#define VEX_INDEX_GRAPH_H

#include "base/mem.h"
#include "index/lvq.h"
#include "io/vfs.h"
#include "store/container.h"
#include "store/manifest.h"

#define VEX_GRAPH_PAGE 1024u          /* rows per page of the id space                           */
#define VEX_GRAPH_IDS_MAX 0x40000000u /* ids are below this                                      */
#define VEX_GRAPH_M_MAX 1024u
#define VEX_GRAPH_NONE UINT32_MAX

typedef struct vex_graph vex_graph;
typedef struct vex_graph_scratch vex_graph_scratch;

typedef struct vex_graph_params {
    vex_codes codes;
    uint32_t m;               /* 2..VEX_GRAPH_M_MAX                                               */
    uint32_t ef_construction; /* 1..65535; at least m is used                                     */
    uint64_t seed;
    float phi; /* ip on uneven norms (vex_codes_uneven): > 0, above every norm, as
                               * 1.1 times the largest; grows by itself.  Else 0.  It makes search
                               * one of the nearest, but where few rows are much longer than the
                               * others 0 finds more: vex_graph_choose_phi decides                */
} vex_graph_params;

typedef struct vex_graph_source {
    uint64_t file_no;
    uint32_t rows, first; /* ids first .. first + rows - 1                                    */
} vex_graph_source;

/* The phi for these n code rows: 0 for other spaces, for even norms, and where a sample of 3000 rows
 * is found better without.  Takes two builds over the sample, about half a second. */
vex_status vex_graph_choose_phi(const vex_graph_params *params, const void *rows, uint32_t n,
                                float *phi);

vex_status vex_graph_create(const vex_graph_params *params, vex_graph **out);
void vex_graph_destroy(vex_graph *graph);                             /* NULL is fine */
const vex_graph_params *vex_graph_get_params(const vex_graph *graph); /* as created or loaded     */

/* Make n rows (codes.stride bytes apart) known; they are not inserted by that.  VEX_ERR_TOO_BIG
 * when the ids run out. */
vex_status vex_graph_add_source(vex_graph *graph, uint64_t file_no, const void *rows, uint32_t n,
                                uint32_t *first);
/* One thread: not beside vex_graph_add_source. */
uint32_t vex_graph_sources(const vex_graph *graph, const vex_graph_source **out);
/* Copy the rows of sources that were not offered before to large pages, which walks read up to twice
 * as fast: of those with 2 MiB or more, and at most `most` bytes in all.  Of all sources make short rows
 * (lvq.h) to walk by, where they serve and `most` allows it.  One thread, beside anything
 * but adding sources.  VEX_ERR_NO_MEMORY: the rest stays where it is. */
vex_status vex_graph_hold_rows(vex_graph *graph, uint64_t most);
/* Were all sources offered? */
bool vex_graph_holds_rows(vex_graph *graph);
/* Ids are below this. */
uint32_t vex_graph_end(const vex_graph *graph);
/* Nodes that are inserted. */
uint64_t vex_graph_inserted(const vex_graph *graph);
/* Is the node inserted (linked or chained)? */
bool vex_graph_has(const vex_graph *graph, uint32_t id);
const void *vex_graph_row(const vex_graph *graph, uint32_t id);
/* Do searches walk by short rows? */
bool vex_graph_has_shorts(const vex_graph *graph);

/* ---- inserting ---- */

/* A range of ids to insert, worked on by any number of threads. */
typedef struct vex_graph_batch {
    _Atomic uint64_t next; /* first id that no thread took yet                                */
    uint32_t end;
    _Atomic bool stop; /* set by anyone: workers return after the node they are at        */
    bool (*pause)(void *context); /* may be NULL; asked before each node, true: stop              */
    void *context;
} vex_graph_batch;

/* [first, first + n) must lie in one source; else inserting is VEX_ERR_INVALID. */
void vex_graph_batch_init(vex_graph_batch *batch, uint32_t first, uint32_t n);
/* Insert ids of the batch until none is left or it was stopped; ids already inserted are skipped,
 * so a stopped batch may be started again.  A failure (no memory) stops all workers; the graph
 * stays sound, the id that failed is not inserted.  Many threads may call it for one batch. */
vex_status vex_graph_insert_batch(vex_graph *graph, vex_graph_batch *batch);
/* The same by `threads` threads: the caller's, and others that give way to the rest of the process.
 * Returns when all are done. */
vex_status vex_graph_insert_by(vex_graph *graph, vex_graph_batch *batch, uint32_t threads);
/* Insert all of a range. */
vex_status vex_graph_insert(vex_graph *graph, uint32_t first, uint32_t n, uint32_t threads);

/* ---- searching ---- */

typedef struct vex_graph_hit {
    float distance; /* by code rows, or by short rows                                   */
    uint32_t id;
} vex_graph_hit;

typedef struct vex_graph_search_args {
    const float *query;      /* dim floats                                                       */
    uint32_t ef;             /* 1..: how many different rows to find                             */
    const uint64_t *allowed; /* bitmap over ids below allowed_end: rows that may be found, no ids
                               * of none; the walk goes through all.  NULL: all                   */
    uint32_t allowed_end;    /* ids from here on are not allowed (with a bitmap)                 */
    uint32_t n_allowed;      /* bits set; decides how the walk keeps its candidates, and whether
                               * there is one: few are looked at one by one, if by short rows     */
    uint64_t budget;         /* stop after that many distances (0: no limit)                     */
} vex_graph_search_args;

typedef struct vex_graph_found {
    const vex_graph_hit
        *hits; /* by (distance, id); ef rows that differ, and ef more equal to these,
                                * at most; valid until the scratch's next use                     */
    uint32_t n;
    uint64_t distances, hops;
    bool exhausted; /* the budget ended the walk, or damage: search exactly instead    */
    bool by_short;  /* distances are those of short rows: vex_graph_sharpen            */
} vex_graph_found;

/* Scratches are kept by the graph and given out again, so repeated searches do not allocate. */
vex_status vex_graph_scratch_acquire(vex_graph *graph, vex_graph_scratch **out);
void vex_graph_scratch_release(vex_graph *graph, vex_graph_scratch *scratch); /* NULL is fine     */

/* The ef nearest rows, approximately.  May find fewer than min(ef, n_allowed) (not all is linked,
 * or not well): a caller that must not return too few goes exact then.  Adds to
 * VEX_STAT_DISTANCES.  Not stopped by damage: every id found is below vex_graph_end(). */
vex_status vex_graph_search(vex_graph *graph, vex_graph_scratch *scratch,
                            const vex_graph_search_args *args, vex_graph_found *out);

/* The distances of n hits of the scratch's last search by code rows, and their order by these, to
 * hits[].  Code rows are much nearer to the vectors than short rows, whose errors may be larger than
 * what lies between the hits.  Adds to VEX_STAT_DISTANCES. */
vex_status vex_graph_sharpen(vex_graph *graph, vex_graph_scratch *scratch, vex_graph_hit *hits,
                             uint32_t n);

/* Exact distances of n <= 64 nodes: out[i] of ids[i].  Cheapest when all are prefetched first. */
typedef vex_status (*vex_exact_distances)(void *context, const uint32_t *ids, uint32_t n,
                                          float *out);

typedef struct vex_rerank_stats {
    uint32_t exact; /* exact distances computed                                         */
    float delta;    /* largest |exact - approximate| seen                               */
    bool settled;   /* false: `further` was not enough, the errors are too large        */
} vex_rerank_stats;

/* The k nearest of `pool` (by (distance, id), as found) by exact distance, to out[k] by (distance,
 * id); *n_out = min(k, n).  Exact distances are computed for max(k + 10, 1.5 k) hits, then on while
 * the next could still be among the best by twice the largest error seen; not at all where even
 * the one that is `further` on could.  NaN sorts last. */
vex_status vex_rerank(const vex_graph_hit *pool, uint32_t n, uint32_t k, uint32_t further,
                      vex_exact_distances exact, void *context, vex_graph_hit *out, uint32_t *n_out,
                      vex_rerank_stats *stats);

/* ---- state ---- */

typedef struct vex_graph_stats {
    uint32_t ids, linked, duplicates; /* ids: vex_graph_end(); linked without duplicates          */
    uint32_t entry, max_level;        /* entry VEX_GRAPH_NONE when empty                          */
    uint64_t edges, upper_edges;      /* on level 0, above                                        */
    uint64_t bytes;                   /* vex_graph_bytes                                          */
    float phi;                        /* as grown                                                 */
} vex_graph_stats;

/* Memory held, without the rows and what searches keep. */
uint64_t vex_graph_bytes(const vex_graph *graph);
/* What copies of rows take besides (vex_graph_hold_rows). */
uint64_t vex_graph_held_bytes(vex_graph *graph);
/* Memory of scratches that no search has at the moment; and free them. */
uint64_t vex_graph_idle_bytes(vex_graph *graph);
void vex_graph_free_idle(vex_graph *graph);
/* Goes through all nodes. */
void vex_graph_get_stats(const vex_graph *graph, vex_graph_stats *out);

/* Walk level 0 from the entry: how many linked nodes are not reached. */
vex_status vex_graph_unreachable(const vex_graph *graph, uint32_t *out);

typedef struct vex_graph_repair_stats {
    uint32_t found, left;   /* nodes out of reach before and after                              */
    uint32_t passes, edges; /* edges added                                                      */
} vex_graph_repair_stats;

/* Give every linked node that cannot be reached a way in.  To be called after inserting and before
 * the graph is saved; more than 1 % found says that the graph should be built anew, except for ip
 * without phi: there short rows are nobody's neighbours by themselves. */
vex_status vex_graph_repair(vex_graph *graph, vex_graph_repair_stats *out);

/* Search for each linked node of the batch (any range of ids) by its own row, with fewer candidates
 * than searches have by default, and give those that are not found links from where the search
 * ended: reached is not yet found.  Costs a fourth of inserting.  By `threads` threads, as
 * inserting; not beside it.  *links: how many were added; when they are many, some took the place of
 * ways to others, and sweeping again finds those. */
vex_status vex_graph_sweep_by(vex_graph *graph, vex_graph_batch *batch, uint32_t threads,
                              uint64_t *links);

/* A graph over other sources, for compaction: `fresh` is an empty graph with all its sources
 * added; node i of `old` becomes old_to_new[i] (VEX_GRAPH_NONE: dead; ids from n_old on: dead too).
 * Live links are kept, nodes that lost some are healed with what lay behind the dead, those that lost
 * more than a fourth search for neighbours, too, and the result is repaired.  With half of the rows
 * dead that costs about as much as building anew.  By `pace.threads`; VEX_ERR_BUSY when
 * `pace.pause` said so.  VEX_ERR_INVALID for a table that names an id twice or of no source.
 * On failure `fresh` is to be destroyed. */
typedef struct vex_graph_pace {
    uint32_t threads;
    bool (*pause)(void *context); /* may be NULL; asked all the time, true: give up               */
    void *context;
} vex_graph_pace;
vex_status vex_graph_remap(const vex_graph *old, const uint32_t *old_to_new, uint32_t n_old,
                           const vex_graph_pace *pace, vex_graph *fresh);

/* ---- files ---- */

/* Write the graph as a container file of kind VEX_KIND_GRAPH (graph_format.h), number file_no.  The
 * caller syncs the directory. */
vex_status vex_graph_save(const vex_graph *graph, vex_vfs *vfs, const char *dir,
                          const uint8_t uuid[16], uint64_t file_no, uint64_t lsn_lo,
                          uint64_t lsn_hi, bool sync, vex_file_entry *entry);

/* The code rows of a vector file, which must have `rows` of them; NULL: no such file. */
typedef const void *(*vex_graph_rows_of)(void *context, uint64_t file_no, uint32_t rows);

/* How many rows the graph in a file has, those included that share the place of an equal row; 0 when
 * `knows` does not know one of its sources.  Reads no links. */
typedef bool (*vex_graph_knows)(void *context, uint64_t file_no, uint32_t rows);
vex_status vex_graph_count_stored(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                                  uint64_t file_no, vex_graph_knows knows, void *context,
                                  uint64_t *rows);

/* Everything is checked: damage is VEX_ERR_CORRUPT, a source that rows_of does not know or a
 * different space, dimension or kind of codes VEX_ERR_NOT_FOUND; either way the graph can be built
 * anew.  A loaded graph can be inserted into.  `codes` is what the rows are; `entry` what the file
 * must be, NULL: whatever is valid. */
vex_status vex_graph_load(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t file_no,
                          const vex_file_entry *entry, const vex_codes *codes,
                          vex_graph_rows_of rows_of, void *context, vex_graph **out);
/* The same, but the graph reads its links where they are mapped: it takes about no memory of its own and
 * is there at once, and nothing can be inserted into, repaired or swept.  Keeps the file mapped.
 * Links are not checked yet: searches check what they meet, and are `exhausted` where that is damaged;
 * for anything else the graph must have been verified. */
vex_status vex_graph_map(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t file_no,
                         const vex_file_entry *entry, const vex_codes *codes,
                         vex_graph_rows_of rows_of, void *context, vex_graph **out);
/* Check all that was not checked when the graph was mapped; beside searches, which are quicker from then
 * on.  VEX_ERR_CORRUPT: it is to be built anew. */
vex_status vex_graph_verify(vex_graph *graph);
bool vex_graph_is_verified(const vex_graph *graph); /* or was not mapped */
bool vex_graph_is_mapped(const vex_graph *graph);
/* Of a graph that is mapped; else NULL. */
const vex_container *vex_graph_file(const vex_graph *graph);

#endif
