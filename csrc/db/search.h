/*
 * search.h - the k nearest rows of a snapshot: by the graph where there is one and it pays, else
 * exactly; what the graph does not have is always searched exactly.
 *
 * PLAN  A filter that leaves m of the N rows of the graph makes a walk collect about D N / m
 * distances (D = those of a walk without a filter); reading the m rows costs m / c, where c rows are
 * read in the time of a distance of a walk (4 by code rows of bytes, else 1).  They meet at
 * sqrt(c D N): below it the rows are read, above it the graph is walked, never for more than m
 * distances.  A walk that finds fewer rows than there are is done again exactly.  Where walks have
 * short rows, only few rows are read; of more the graph looks at each by its short row, as long as
 * that is less than walking (graph_search.c).  Many queries at once share the reading of code rows,
 * which pays for some more rows.
 */
#ifndef VEX_DB_SEARCH_H
#define VEX_DB_SEARCH_H

#include "db/index.h"
#include "db/scan.h"

typedef struct vex_search {
    vex_scan scan;                  /* what is searched for, and where the hits go                */
    const vex_index_view *view;     /* NULL: no graph                                             */
    uint32_t k, ef, threads;        /* threads: at least 1                                        */
    uint32_t flags;                 /* VEX_QUERY_*                                                */
    bool fetch;                     /* read the vectors of what a walk finds from their files, not
                                     * through mappings: under a memory limit                     */
    vex_query_plan *plan;           /* what was done is added: all but times and `rows`           */
} vex_search;

/* Errors: CORRUPT, NO_MEMORY. */
vex_status vex_search_run(vex_search *search);

#endif
