/*
 * index_internal.h - what the parts of a collection's index share.  All of it is called by the
 * builder, with index.mu held, except for releasing.
 */
#ifndef VEX_DB_INDEX_INTERNAL_H
#define VEX_DB_INDEX_INTERNAL_H

#include "db/db.h"

/* ---- index.c ---- */
/* Do without the graph, and its files: it will be built anew. */
vex_status vex_index_forget(vex_collection *collection);
vex_status vex_index_graph_create(vex_graph *graph,
                                  vex_index_graph **out); /* takes the graph      */
void vex_index_graph_release(vex_index_graph *owner);     /* NULL is fine         */
/* Takes its own reference of the file. */
vex_status vex_index_add_file(vex_index_graph *owner, vex_vecfile *file, uint32_t *first);
/* A view of the first n files of the graph. */
vex_status vex_index_make_view(vex_index_graph *owner, uint32_t n, vex_index_view **out);
/* Searches that begin now see this view (taken over; NULL: no graph). */
void vex_index_publish(vex_collection *collection, vex_index_view *view);
vex_vecfile *vex_index_file_of(const vex_snapshot *snapshot, uint64_t file_no);
/* Has the file codes of the collection's kind, as far as is known good ones? */
bool vex_index_usable(const vex_snapshot *snapshot, const vex_vecfile *file);
/* Is the file in the graph, all of it? */
bool vex_index_has_file(const vex_index_view *view, uint64_t file_no); /* view NULL: no           */
vex_status vex_index_codes(const vex_snapshot *snapshot, vex_codes *codes);

/* ---- index_build.c ---- */
/* Are the codes of a file as they were written?  Reads all of them, once. */
bool vex_index_codes_sound(vex_vecfile *file);
/* Check the rest of a graph that was mapped; without one that is damaged the next is built. */
vex_status vex_index_verify(vex_collection *collection, const vex_index_view *view);
/* Map the newest saved graph, if it is not the one in use and is of these files. */
vex_status vex_index_load(vex_collection *collection, vex_snapshot *snapshot);
/* The same, if more of the rows are in it than in the one in use.  *loaded: it was, and is in use now. */
vex_status vex_index_load_more(vex_collection *collection, vex_snapshot *snapshot, bool *loaded);
/* Put a copy in memory in the place of a graph that is mapped: it is to be changed.  When its file is not
 * there any more there is none, and it will be built. */
vex_status vex_index_copy(vex_collection *collection, vex_snapshot *snapshot);
/* May memory be taken for what could be read where it is mapped?  Not for a tree in memory, and not when
 * memory is limited. */
bool vex_index_may_hold(const vex_collection *collection);
/* One step towards links and code rows in large pages, which walks read fastest. */
vex_status vex_index_hold(vex_collection *collection, const vex_index_view *view,
                          vex_snapshot *snapshot);
#define VEX_INDEX_QUERIES_HELD 64u /* calls: sooner it would not pay */
/* The first file that the graph has not, and that can be in it; NULL: none. */
vex_vecfile *vex_index_next_file(const vex_index_view *view, const vex_snapshot *snapshot);
/* Live rows that can be in a graph. */
uint64_t vex_index_rows(const vex_snapshot *snapshot);
/* One more file for the graph, which is created with the first one. */
vex_status vex_index_begin_file(vex_collection *collection, const vex_index_view *view,
                                const vex_snapshot *snapshot, vex_vecfile *file);
/* Go on inserting the first file that the view has not; when it is in, it is seen. */
vex_status vex_index_insert_slice(vex_collection *collection, const vex_index_view *view);

/* Go on sweeping; false: there is nothing to sweep. */
bool vex_index_needs_sweep(vex_index *index, const vex_index_view *view);
vex_status vex_index_sweep_slice(vex_collection *collection, const vex_index_view *view);

/* ---- index_turn.c ---- */
typedef struct vex_index_lack {
    uint64_t rows, bytes; /* of files that can be in the graph, and are not; bytes of code rows   */
} vex_index_lack;
vex_index_lack vex_index_lack_of(const vex_index_view *view, const vex_snapshot *snapshot);
/* Before rows are inserted.  *wait: not now, since another process is at it, or what one saved was just
 * loaded.  Else they are to be inserted here. */
vex_status vex_index_await_turn(vex_collection *collection, const vex_index_view *view,
                                vex_snapshot *snapshot, bool *wait);
/* There was work, and may be more soon: the turn goes on for a while, if there is one. */
void vex_index_keep_turn(vex_collection *collection);
/* There is none; when the while is over, others may have the turn. */
void vex_index_end_turn(vex_collection *collection);

/* ---- index_remap.c ---- */
/* Are files gone, or too many rows dead? */
bool vex_index_needs_remap(const vex_index *index, const vex_index_view *view,
                           const vex_snapshot *snapshot);
/* Does it keep the space of files that are not of the collection any more? */
bool vex_index_holds_gone(const vex_index_view *view, const vex_snapshot *snapshot);
/* VEX_ERR_BUSY when it had to give way. */
vex_status vex_index_remap(vex_collection *collection, const vex_index_view *view,
                           const vex_snapshot *snapshot);

/* ---- index_save.c ---- */
/* Number of the newest graph file; 0: none. */
vex_status vex_index_newest_file(vex_db *db, const char *dir, uint64_t *number);
/* Is there more in the graph than in its file? */
bool vex_index_may_write(const vex_collection *collection, const vex_index_view *view);
vex_status vex_index_write(vex_collection *collection, const vex_index_view *view);
/* In memory, where nothing else does: give the graph a file, for forks to share. */
vex_status vex_index_store(vex_collection *collection);
/* Remove all graph files, if there may be some: the graph is not of these rows any more. */
vex_status vex_index_remove_files(vex_collection *collection);

#endif
