/*
 * vexfs.h - the only public header of the vexfs_chroma engine, and its manual.
 *
 * MODEL
 *   A *database* (vex_db) is a directory, or nothing at all when it lives in memory.
 *   A *collection* (vex_collection) is a set of records named by a 16-byte uuid.
 *   A *record* has an id (UTF-8, 1..65535 bytes, unique in its collection), one float32
 *   vector, and optionally a document (UTF-8), metadata (a MessagePack map) and a uri (UTF-8).
 *   Every record also has a `seq`: its place in insertion order.  It never changes while the
 *   record lives; updates and upserts keep it.  All orders and all ties are by seq.
 *
 * THREADS AND PROCESSES
 *   Every function may be called from any thread at any time, except that a handle must not be
 *   used after the call that closes it returned.  Reads never wait for writes: each read works
 *   on one immutable snapshot.  One directory may be open in many processes: reads see what any
 *   process committed before the call; writes take turns.  fork() is safe: a child goes on with
 *   the handles it inherited, as a process of its own.
 *
 * DURABILITY (per database)
 *   VEX_DURABILITY_FULL    a write returns after its log record is on stable storage (default)
 *   VEX_DURABILITY_NORMAL  a write returns after the log record was handed to the operating
 *                          system: survives a killed process; reaches the disk within 50 ms
 *   VEX_DURABILITY_OFF     nothing is ever synced: for tests and loads that can be repeated; a
 *                          stricter opening later does not make up for it
 *   A batch (one vex_write or vex_delete call) is atomic in all three modes.
 *
 * ERRORS
 *   Fallible functions return VEX_OK (0) or a negative vex_status.  vex_last_error() then tells
 *   what failed, where, and what to do.  Outputs are written on success only.
 *
 * OWNERSHIP
 *   Inputs are borrowed for the length of the call.  A vex_result belongs to the caller and is
 *   given back with vex_result_free(); pointers inside it live as long as it does.
 *
 * NUMBERS
 *   Vectors are C-contiguous float32, row after row, finite.  Distances are float32:
 *     VEX_SPACE_L2      sum (x-q)^2               (squared Euclidean)
 *     VEX_SPACE_IP      1 - x.q
 *     VEX_SPACE_COSINE  1 - x.q/(|x||q|)          (1 when either vector is zero)
 *     VEX_SPACE_L1      sum |x-q|                 (Manhattan)
 */
#ifndef VEXFS_H
#define VEXFS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi:begin -- everything between the markers is also the cffi definition: plain declarations
 * and integer constants only. */

typedef int32_t vex_status;

#define VEX_OK 0
/* caller's arguments */
#define VEX_ERR_INVALID -101     /* an argument is malformed; the message says which            */
#define VEX_ERR_DIMENSION -102   /* vector length differs from the collection's                 */
#define VEX_ERR_NOT_FINITE -103  /* NaN or infinity in a vector to store                        */
#define VEX_ERR_EXISTS -104      /* a collection of that uuid exists                            */
#define VEX_ERR_NOT_FOUND -105   /* no database there, no such collection, or no such id where
                                    one is required; never a file lost from either: CORRUPT     */
#define VEX_ERR_TOO_BIG -106     /* a size passes a stated limit                                */
/* state */
#define VEX_ERR_CLOSED -201      /* the handle was closed                                       */
#define VEX_ERR_BUSY -202        /* another process holds the database past busy_timeout_ms     */
#define VEX_ERR_READ_ONLY -203   /* the database was opened read-only, or lies on such media    */
#define VEX_ERR_POISONED -204    /* an earlier write failed half-way; reopen to write again     */
#define VEX_ERR_FORKED -205      /* handle inherited through a fork() without vex_fork_prepare()*/
/* operating system */
#define VEX_ERR_IO -301          /* a system call failed; sys_errno says how                    */
#define VEX_ERR_NO_SPACE -302    /* the disk or the quota is full, or this write would leave too
                                    little for deleting; nothing stored was lost                */
#define VEX_ERR_PERMISSION -303  /* EACCES, EPERM                                               */
/* stored data */
#define VEX_ERR_CORRUPT -401     /* damaged bytes, or a file that belongs to the database is
                                    missing: path and offset say where                          */
#define VEX_ERR_VERSION -402     /* written by a later release; upgrade vexfs_chroma            */
#define VEX_ERR_FOREIGN -403     /* the directory holds something that is not a vexfs database  */
/* resources */
#define VEX_ERR_NO_MEMORY -501
#define VEX_ERR_CODEC -502       /* no usable zstd provider is registered                       */
#define VEX_ERR_REGEX -503       /* the registered regex provider refused a pattern             */

typedef struct vex_error {
    vex_status code;
    int32_t sys_errno;      /* errno of the failed system call, else 0                          */
    uint64_t offset;        /* byte offset of the damage in `path`, else 0                      */
    char path[512];         /* file concerned, else ""                                          */
    char message[512];      /* one sentence or two: what, where, what to do                     */
} vex_error;

/* The error of the last failed call in this thread.  Never NULL. */
const vex_error *vex_last_error(void);

/* Name of a status, e.g. "VEX_ERR_CORRUPT"; "VEX_ERR_?" when unknown. */
const char *vex_status_name(vex_status status);

/* Version of the engine ("0.1.0") and of the on-disk format (major, minor). */
const char *vex_version(void);
void vex_format_version(uint16_t *major, uint16_t *minor);

/* ---- process-wide services ------------------------------------------------------------- */

/* zstd, as functions over one-shot frames (RFC 8878).  They may be called from any thread, many
 * at a time, and the provider stays in use until the process ends.
 * compress/decompress return the produced size, or SIZE_MAX on failure; a failed compress makes
 * the engine store the bytes as they are.  `dict` may be NULL; the same dictionary comes with
 * many calls, so a provider that digests it first should keep the digest and find it again by
 * comparing the bytes (addresses are reused).  train writes a dictionary and returns its size,
 * or 0 when it cannot.  bound and train may be NULL (libzstd's formula; no dictionaries).
 * `version` is libzstd's ZSTD_VERSION_NUMBER, at least 10400. */
typedef struct vex_codec_provider {
    const char *name;
    uint32_t version;
    void *context;
    size_t (*bound)(void *context, size_t raw_len);
    size_t (*compress)(void *context, void *dst, size_t dst_len, const void *src, size_t src_len,
                       const void *dict, size_t dict_len, int level);
    size_t (*decompress)(void *context, void *dst, size_t dst_len, const void *src,
                         size_t src_len, const void *dict, size_t dict_len);
    size_t (*train)(void *context, void *dict, size_t dict_len, const void *samples,
                    const size_t *sample_lens, uint32_t n_samples);
} vex_codec_provider;

/* Register the process's codec (copied).  NULL: store everything uncompressed.  A round trip is
 * tried first; VEX_ERR_CODEC when it fails.  Segments written compressed need a codec to read. */
vex_status vex_set_codec(const vex_codec_provider *provider);
const char *vex_codec_name(void); /* "store" when none is registered */

/* Addresses of libzstd's own functions, from whichever library is loaded in the process and stays
 * loaded; see vex_set_codec_native.  All are needed but the last two. */
typedef struct vex_zstd_symbols {
    uint32_t version;                                        /* ZSTD_versionNumber()             */
    void *create_cctx, *free_cctx, *compress_using_dict;     /* ZSTD_createCCtx, ...             */
    void *create_dctx, *free_dctx, *decompress_using_dict;
    void *create_cdict, *free_cdict, *compress_using_cdict;  /* ZSTD_createCDict, ...            */
    void *create_ddict, *free_ddict, *decompress_using_ddict;
    void *compress_bound, *is_error;
    void *train_from_buffer, *train_is_error;                /* ZDICT_..., may be NULL           */
} vex_zstd_symbols;

/* Register a codec made of libzstd addresses; one context per thread, no locks, no GIL. */
vex_status vex_set_codec_native(const vex_zstd_symbols *symbols, const char *name);

/* Regular expressions for DOC_REGEX filter leaves.  compile returns a handle or NULL (refused);
 * match sets out[i] to 1 when text i contains a match, else 0; returns 0, or -1 on failure. */
typedef struct vex_regex_provider {
    void *context;
    void *(*compile)(void *context, const char *pattern, size_t pattern_len);
    int (*match)(void *context, void *handle, const char *const *texts, const size_t *text_lens,
                 uint32_t n_texts, uint8_t *out);
    void (*release)(void *context, void *handle);
} vex_regex_provider;

vex_status vex_set_regex(const vex_regex_provider *provider);

/* SIMD level in use: "scalar", "avx2", "avx512" or "neon".  Chosen once by CPU detection, or by
 * the environment variable VEXFS_SIMD (unknown or unsupported value: VEX_ERR_INVALID here and
 * scalar kernels everywhere). */
vex_status vex_simd_level(const char **name);

/* ---- database ------------------------------------------------------------------------------ */

typedef struct vex_db vex_db;
typedef struct vex_collection vex_collection;

#define VEX_DURABILITY_FULL 0
#define VEX_DURABILITY_NORMAL 1
#define VEX_DURABILITY_OFF 2

#define VEX_OPEN_READ_ONLY 1 /* never write, take no lock; works on read-only media            */
#define VEX_OPEN_NO_CREATE 2 /* VEX_ERR_NOT_FOUND when there is no database yet                 */

typedef struct vex_db_options {
    uint32_t durability;
    uint32_t flags;               /* VEX_OPEN_*                                                 */
    uint32_t busy_timeout_ms;     /* how long a write waits for another process that is writing;
                                     0: not at all, BUSY at once (other threads of this process
                                     are always waited for)                                     */
    uint32_t memtable_rows;       /* seal a memtable at this many rows;  0 = 50,000             */
    uint64_t memtable_bytes;      /* ... or this many bytes;             0 = 64 MiB             */
    uint32_t index_rows;          /* build graphs from this many rows;   0 = 10,000;
                                     UINT32_MAX: never                                          */
    uint32_t index_threads;       /* that build one;                     0 = one per core       */
    uint32_t quantization;        /* VEX_QUANTIZE_*: code rows of the files written from now on */
    uint64_t memory_limit;        /* bytes to stay below, as far as that is possible;  0: none  */
} vex_db_options;

/* What graphs are built and walked on.  Results always have exact distances; the choice is about
 * memory, speed and which rows a walk meets.
 *   AUTO  8 bits per element where a sample of each file shows that it is enough to find the
 *         nearest, else 16 bits, else float32
 *   SQ8   8 bits with a scale per vector (LVQ, Aguerrebere et al. 2023);  NONE  float32;
 *   F16   binary16: only ever chosen by AUTO
 * One collection has one kind; the background rewrites files that have another. */
#define VEX_QUANTIZE_AUTO 0
#define VEX_QUANTIZE_SQ8 1
#define VEX_QUANTIZE_F16 2
#define VEX_QUANTIZE_NONE 3

/* Open (and create) the database directory `path`; NULL opens a new in-memory database that
 * dies with its last handle.  `options` NULL: all zeros.  One directory opened twice in a process
 * shares one engine (by device and inode), unless one opening is read-only.  Then the options of
 * the first count, but a stricter durability of a later one holds from then on, for all handles.
 * Errors: FOREIGN, VERSION, CORRUPT, PERMISSION, READ_ONLY, NOT_FOUND, IO, NO_SPACE. */
vex_status vex_db_open(const char *path, const vex_db_options *options, vex_db **out);

/* Give the handle back.  The last handle waits for running flushes, syncs the logs and frees
 * memory, maps and descriptors.  Collections must be closed first; those still open are closed
 * with it.  Every acknowledged write is safe whether or not this is ever called. */
vex_status vex_db_close(vex_db *db);

/* The 16 bytes that tell this database from all others, for files beside the engine's. */
void vex_db_uuid(const vex_db *db, uint8_t *out);

/* 1 when it takes no writes: opened read-only, on media that cannot be written, or with something of a
 * later release that only readers may meet. */
int32_t vex_db_is_read_only(const vex_db *db);

typedef struct vex_stats {
    uint64_t heap_bytes, heap_blocks;      /* small allocations                                 */
    uint64_t bulk_bytes, bulk_maps;        /* large anonymous mappings (huge-page advised)      */
    uint64_t bulk_maps_total;              /* ... made since the process started                */
    uint64_t mapped_bytes, mapped_files;   /* segment files mapped read-only                    */
    uint64_t open_files;
    uint64_t distances;                    /* distances computed since the process started      */
    uint64_t wal_bytes, wal_syncs;         /* log bytes written, fdatasync calls                */
    uint64_t segments_written, blocks_read;
    uint64_t damaged_parts;                /* derived parts of files (for filters) found
                                              damaged and done without: answers come from the
                                              rows, slower; check the disk                      */
    uint64_t segment_bytes;                /* bytes of segment files written, by flushes and
                                              compactions                                       */
    uint64_t compactions, compacted_bytes; /* merges committed, and the bytes of their files    */
    uint64_t given_back_bytes;             /* of mapped files that nobody used for a while, or that
                                              were above the limit, in memory or not            */
    uint64_t rows_fetched;                 /* vectors read from files, not through a mapping    */
    uint64_t graphs_unloaded;
    uint64_t block_hits, block_misses;     /* blocks of documents and metadata that scattered reads
                                              found decoded, or had to decode                   */
    uint64_t filter_hits, filter_misses;   /* filters over a file whose matches were still known */
    uint64_t lease_wait_us;                /* writes waiting for the lease: for other processes */
    uint64_t writer_wait_us;               /* ... for other writers of the collection           */
    uint64_t wal_sync_us;                  /* time of wal_syncs                                 */
} vex_stats;

/* Process-wide counters. */
void vex_get_stats(vex_stats *out);

/* Which other process has a lock on a file, for messages: an error of status VEX_ERR_BUSY names it. */
typedef struct vex_lock_holder {
    int64_t pid;            /* 0: none has, or the system does not tell                         */
    char name[32];          /* of its program, "" when not known                                */
} vex_lock_holder;
void vex_find_lock_holder(const char *path, vex_lock_holder *out);

/* fork(): call prepare before it (waits until no call is running in any thread, then holds new
 * ones), and afterwards parent or child in the respective process.  The child then goes on with
 * all handles, as a process of its own.  Without them, calls on inherited handles fail with
 * VEX_ERR_FORKED. */
void vex_fork_prepare(void);
void vex_fork_parent(void);
void vex_fork_child(void);

/* ---- collections ---------------------------------------------------------------------------- */

#define VEX_SPACE_L2 0
#define VEX_SPACE_IP 1
#define VEX_SPACE_COSINE 2
#define VEX_SPACE_L1 3

/* Create the empty collection `uuid` (16 bytes).  VEX_ERR_EXISTS when it is there already. */
vex_status vex_collection_create(vex_db *db, const uint8_t *uuid, uint32_t space);

/* Make the new collection `uuid` a fork of `source`: it has its records as of now (whatever was
 * acknowledged before the call, and whole batches), and both go their own ways from then on.  Files are
 * shared, the graph, too, so neither time nor space depends on how many records there are; where the file
 * system has no hard links they are copied.  In memory, rows that are not in files are flushed first.
 * Writers wait for as long as it takes.  A crash leaves the whole fork or none.  VEX_ERR_EXISTS. */
vex_status vex_collection_fork(vex_collection *source, const uint8_t *uuid);
/* How many forks there are in its line: of the collection that the first fork was of, and of these; the
 * same whichever of them is asked.  Forks that were dropped do not count. */
vex_status vex_collection_count_forks(vex_collection *collection, uint64_t *out);

/* Open it.  Handles are counted; each needs its vex_collection_close(). */
vex_status vex_collection_open(vex_db *db, const uint8_t *uuid, vex_collection **out);
vex_status vex_collection_close(vex_collection *collection);

/* Delete the collection and its files at once.  Other handles on it get VEX_ERR_NOT_FOUND. */
vex_status vex_collection_drop(vex_db *db, const uint8_t *uuid);

/* The uuids present, 16 bytes each, in ascending order; free with vex_bytes_free(). */
vex_status vex_collection_list(vex_db *db, uint8_t **uuids, uint32_t *n);
void vex_bytes_free(void *bytes);

typedef struct vex_collection_info {
    uint64_t rows;             /* live records                                                  */
    uint64_t lsn;              /* number of committed batches                                   */
    uint64_t next_seq;
    uint64_t memtable_rows;    /* vector rows not yet in a segment                              */
    uint64_t memtable_bytes;
    uint64_t disk_bytes;       /* files of the newest manifest, and the log                     */
    uint32_t dimension;        /* 0 until the first write with vectors                          */
    uint32_t space;
    uint32_t vector_files, payload_files;
    uint64_t indexed_rows;     /* rows, dead ones too, of files that are in the graph           */
    uint64_t unindexed_rows;   /* live rows that a search reads: in memory, or in other files   */
    uint64_t index_bytes;      /* memory of the graph, or size of its mapped file               */
    uint32_t quantization;     /* VEX_QUANTIZE_* of the code rows, 0: there are none            */
    uint32_t index_rows;       /* a graph is built from this many rows on                       */
    uint64_t raw_document_bytes, stored_document_bytes;   /* over sealed segments               */
    uint64_t raw_metadata_bytes, stored_metadata_bytes;
} vex_collection_info;

vex_status vex_collection_get_info(vex_collection *collection, vex_collection_info *out);

/* What the files of a collection take and hold; no lock is taken, no vector or document read. */
typedef struct vex_collection_usage {
    uint64_t generation;       /* of the newest manifest                                        */
    uint64_t vector_bytes, payload_bytes, tombstone_bytes, log_bytes, graph_bytes;
    uint64_t other_bytes, leftover_bytes; /* manifest, head; what no manifest lists             */
    uint64_t vector_rows, dead_vector_rows, payload_rows, dead_payload_rows; /* in files        */
    uint64_t code_bytes;       /* of the vector files: their code rows, which searches read     */
    uint64_t graph_rows;       /* in the stored graph, dead ones too; 0: there is none of these files */
} vex_collection_usage;

vex_status vex_collection_get_usage(vex_collection *collection, vex_collection_usage *out);

/* The graph of a collection (HNSW, Malkov and Yashunin 2016), which is built in the background once
 * `rows` rows are in files.  Searches use it as far as it is built and search the rest exactly. */
typedef struct vex_index_options {
    uint32_t rows;             /* as index_rows of vex_db_options                               */
    uint32_t m;                /* links per node and level; level 0 has twice as many;  2..1024 */
    uint32_t ef_construction;  /* candidates when inserting;  1..65535                          */
    uint32_t ef;               /* candidates when searching;  1..                               */
} vex_index_options;

/* m and ef_construction take effect for a graph that is built anew.  0 leaves a value as it is. */
vex_status vex_collection_set_index(vex_collection *collection, const vex_index_options *options);

#define VEX_INDEX_FLUSH 1      /* what is in memory, too, if the collection is large enough          */
#define VEX_INDEX_TAIL_ROWS 2000 /* so many rows in memory do not stay out of a graph for long       */

/* Have the background load the graph that is stored, or build on it, without waiting for a query
 * that would have it do so. */
vex_status vex_collection_start_index(vex_collection *collection, uint32_t flags);
/* Have everything that is written by now in the graph: start with VEX_INDEX_FLUSH, then wait until
 * nothing is left to do in the background.  timeout_ms as for vex_collection_wait_idle; flushing
 * takes as long as it takes. */
vex_status vex_collection_wait_index(vex_collection *collection, uint32_t timeout_ms);

/* Have another space (l2, ip or cosine; not from or to l1), or the same, and the graph built anew, with the
 * parameters that were set last.  Takes as long whatever the number of rows, as the space is a word in the
 * manifest; a crash leaves the old space or the new one.  Until the graph is there searches read all rows.
 * Reads and writes go on: each is by one of the two spaces. */
vex_status vex_collection_reindex(vex_collection *collection, uint32_t space);

/* Other vectors for all records, as of `lsn` (of vex_collection_info). */
typedef struct vex_reembed_request {
    uint64_t lsn;
    uint64_t n;                /* number of records                                             */
    const float *vectors;      /* float32[n][dimension], in the order in which vex_get returns all records */
    uint32_t dimension;        /* which may be another one than before                          */
} vex_reembed_request;

/* Put them in the place of the old ones, all at once: readers, and other processes, see only old vectors or
 * only new ones, as does whoever opens the collection after a crash.  *changed: the collection was written
 * after `lsn`, and nothing was done.  Needs room on the disk for new vectors beside the old ones, and 32 bytes
 * of memory per record.  INVALID: another number of vectors, or an element that is not finite. */
vex_status vex_collection_reembed(vex_collection *collection, const vex_reembed_request *request,
                                  uint32_t *changed);

typedef struct vex_index_check {
    uint64_t linked;           /* rows in the graph, each with links of its own                 */
    uint64_t duplicates;       /* ... with the place of an equal row                            */
    uint64_t unreachable;      /* linked rows that no walk from the entry reaches               */
    uint64_t links;            /* on the lowest level                                           */
    uint32_t max_level;
    uint32_t m;                /* as it was built                                               */
} vex_index_check;

/* Walk the whole graph.  All zeros when there is none. */
vex_status vex_collection_check_index(vex_collection *collection, vex_index_check *out);

/* Metadata keys ever written, as a MessagePack map key -> bit mask of types
 * (1 bool, 2 int, 4 float, 8 string, 16/32/64/128 list of these, 256 sparse vector).
 * Free with vex_bytes_free(). */
vex_status vex_collection_keys(vex_collection *collection, uint8_t **msgpack, size_t *len);

/* What collections have in memory now.  Where files are kept in memory (path NULL), those are counted
 * whole, and are part of the allocated bytes of vex_stats; else they are mappings beside these. */
typedef struct vex_collection_memory {
    uint64_t collections;                 /* how many it is the sum of                          */
    uint64_t memtable_bytes, graph_bytes; /* allocated: rows that are not in files; links       */
    uint64_t search_bytes, cache_bytes;   /* ... for searches; results of filters, ids          */
    uint64_t vector_bytes, code_bytes;    /* pages of files: vectors, and what graphs read      */
    uint64_t key_bytes, document_bytes;   /* ... ids and numbers of rows; documents, metadata   */
    uint64_t column_bytes, text_bytes;    /* ... what filters read                              */
    uint64_t link_bytes;                  /* ... links, of a graph that nothing was added to    */
    uint64_t held_bytes;                  /* allocated: copies of what graphs read              */
    uint64_t mapped_bytes;                /* all bytes of the files, in memory or not           */
} vex_collection_memory;

vex_status vex_collection_get_memory(vex_collection *collection, vex_collection_memory *out);
vex_status vex_db_get_memory(vex_db *db, vex_collection_memory *out); /* of all that are open   */

/* Give back what can be had again: graphs (saved first, if need be), caches, pages of mapped files.  Reads
 * and writes may go on, and have the same results; the next query loads the graph again.  A collection
 * that nobody uses for two seconds gives back the pages of its vectors, documents and metadata by
 * itself.  In memory (path NULL) only caches can be had again. */
vex_status vex_collection_unload(vex_collection *collection);
vex_status vex_db_unload(vex_db *db); /* all that are open */

/* Seal the memtable into segment files and wait until they are committed. */
vex_status vex_collection_flush(vex_collection *collection);

/* Flush, then rewrite all segment files that hold dead rows, and merge the rest into the fewest:
 * afterwards the files hold what is alive and nothing else (vectors up to 1 GiB a file, documents
 * and metadata up to 128 MiB a file before compression).  The background does this by and by, file
 * by file, as it pays off; this does all of it, now.  Files stay small in proportion to the disk.
 * Needs free space for one new file; on a full disk files are rewritten one by one, those that need
 * the least first, and VEX_ERR_NO_SPACE says that dead rows remain; a failure loses nothing.  Reads and writes go on.  `flags` 0. */
vex_status vex_collection_compact(vex_collection *collection, uint32_t flags);

/* Wait until no background work (flush, compaction, delayed sync) is wanted or running in this
 * process, for one collection or for all that are open.  timeout_ms UINT32_MAX: for ever.
 * VEX_ERR_BUSY when the time is over; work that keeps failing (a full disk) counts as wanted. */
vex_status vex_collection_wait_idle(vex_collection *collection, uint32_t timeout_ms);
vex_status vex_db_wait_idle(vex_db *db, uint32_t timeout_ms);

/* ---- backup ----------------------------------------------------------------------------------
 *
 * A backup is a database: the files that the newest manifests list, linked where that is possible
 * (then they share their bytes, and later damage of the medium), and the logs up to where they are
 * committed, copied.  All collections are as of one moment, for which writers of all processes have
 * to wait: everything acknowledged before the call is there, and whole batches only.  Flushes and
 * merges wait until the logs are copied.  A database that is open read-only takes no locks: each
 * collection is then as of a moment of its own.  Names (a higher layer's catalog) are the caller's. */
typedef struct vex_backup_item {
    uint8_t uuid[16];          /* in: a collection to back up                                   */
    uint64_t lsn, generation;  /* out: its last batch in the backup, its manifest               */
} vex_backup_item;

#define VEX_BACKUP_COPY 1      /* copy everything, link nothing                                 */
#define VEX_BACKUP_AHEAD 2     /* files alone, and no lock: what a later call need not do       */

typedef struct vex_backup_result {
    uint64_t linked_files, linked_bytes, copied_files, copied_bytes;
    uint64_t left_bytes;       /* AHEAD: of files that are not in the backup yet                */
    uint64_t held_ms, one_moment; /* how long writers had to wait; 0: no moment of all          */
} vex_backup_result;

/* Make `dest`, whose parent exists, a backup of these n collections.  It may be there, empty or with
 * what earlier calls for the same backup made, which is not made again.  AHEAD copies no further file
 * after `most_bytes` (0: only counts).  VEX_OK: all of it is on stable storage, its name, too.  After a
 * failure it is worth nothing.  INVALID: in memory; CORRUPT: a file of the original is missing. */
vex_status vex_db_backup(vex_db *db, const char *dest, uint32_t flags, uint64_t most_bytes,
                         vex_backup_item *items, uint32_t n, vex_backup_result *out);

/* ---- writes ---------------------------------------------------------------------------------- */

#define VEX_WRITE_ADD 0    /* records whose id exists are left alone                            */
#define VEX_WRITE_UPDATE 1 /* records whose id does not exist are ignored                       */
#define VEX_WRITE_UPSERT 2

/* Metadata values: bool, int64, float64, string, list of one of them (or empty), or ext type 1
 * (sparse vector: u32 n, n*u32 ascending indices, n*f32 values, little-endian; then optionally
 * MessagePack array of n token strings).  ADD replaces nothing; UPDATE and UPSERT of a present
 * record merge by key, where nil deletes the key.  A nil document, metadata map or uri leaves the
 * stored one unchanged.  What is the same as before, bit for bit, is not written again.  A record
 * without any metadata key has the map nil, or the empty map when it was written as an empty map. */
typedef struct vex_write_request {
    uint32_t op;            /* VEX_WRITE_*                                                      */
    uint32_t n;             /* records                                                          */
    uint32_t dimension;     /* of `vectors`; 0 when vectors is NULL                             */
    uint32_t flags;         /* 0                                                                */
    const float *vectors;   /* n * dimension, or NULL (UPDATE only: vectors unchanged)          */
    const uint8_t *records; /* MessagePack [ids, documents|nil, metadatas|nil, uris|nil], each an
                               array of n; entries of the last three may be nil                 */
    size_t records_len;
} vex_write_request;

/* Write one batch, atomically.  ids must be unique within it (VEX_ERR_INVALID).
 * `changed` (may be NULL) receives how many records were inserted or changed. */
vex_status vex_write(vex_collection *collection, const vex_write_request *request,
                     uint64_t *changed);

/* ---- selection --------------------------------------------------------------------------------
 *
 * A selection is an optional list of ids AND an optional filter.
 *   ids     MessagePack array of strings, or NULL for all
 *   filter  MessagePack expression, or NULL.  Every node is an array whose first item is the
 *           operator:
 *     [VEX_F_AND, [node...]]  [VEX_F_OR, [node...]]       two or more nodes, 64 levels at most
 *     [VEX_F_EQ|NE|GT|GE|LT|LE, key, scalar]
 *     [VEX_F_IN|NIN, key, [scalar...]]
 *     [VEX_F_CONTAINS|NOT_CONTAINS, key, scalar]          membership in list metadata
 *     [VEX_F_EXISTS|NOT_EXISTS, key]                      the record has a value under the key
 *     [VEX_F_TEXT_CONTAINS|TEXT_STARTS, key, text]        a string has, begins with, the text
 *     [VEX_F_TEXT_ICONTAINS|TEXT_ISTARTS|TEXT_IEQ, key, text]   the same, or equality, by case
 *           folding (full, of Unicode); TEXT_NOT_... of all five: the opposite
 *     [VEX_F_DOC_CONTAINS|DOC_NOT_CONTAINS, text]         case-sensitive substring
 *     [VEX_F_DOC_ICONTAINS|DOC_NOT_ICONTAINS, text]       substring by case folding
 *     [VEX_F_DOC_REGEX|DOC_NOT_REGEX, pattern]
 *     [VEX_F_DOC_REGEX|DOC_NOT_REGEX, pattern, required]  the same, faster: `required`, a node
 *           of DOC_[NOT_][I]CONTAINS, AND and OR (8 levels), must hold for every document that
 *           the pattern matches; others are not shown to the regex provider
 *     [VEX_F_ID_IN|ID_NOT_IN, [id...]]
 *   Types never mix, but int and float compare by value (1 == 1.0, 2.5 != 2, exact up to 2^63).
 *   GT, GE, LT and LE take a number, or a string: strings are in the order of their code points.
 *   NE, NIN, and the NOT_ forms are true for records without the key/document.
 *   Scalar operators other than NE/NIN, and TEXT_ ones other than TEXT_NOT_, are never true for a
 *   list value; CONTAINS never for a scalar.  In lists, ints and floats do not mix. */
#define VEX_F_AND 1
#define VEX_F_OR 2
#define VEX_F_EQ 16
#define VEX_F_NE 17
#define VEX_F_GT 18
#define VEX_F_GE 19
#define VEX_F_LT 20
#define VEX_F_LE 21
#define VEX_F_IN 22
#define VEX_F_NIN 23
#define VEX_F_CONTAINS 24
#define VEX_F_NOT_CONTAINS 25
#define VEX_F_EXISTS 26
#define VEX_F_NOT_EXISTS 27
#define VEX_F_DOC_CONTAINS 32
#define VEX_F_DOC_NOT_CONTAINS 33
#define VEX_F_DOC_REGEX 34
#define VEX_F_DOC_NOT_REGEX 35
#define VEX_F_DOC_ICONTAINS 36
#define VEX_F_DOC_NOT_ICONTAINS 37
#define VEX_F_ID_IN 48
#define VEX_F_ID_NOT_IN 49
#define VEX_F_TEXT_CONTAINS 64
#define VEX_F_TEXT_NOT_CONTAINS 65
#define VEX_F_TEXT_STARTS 66
#define VEX_F_TEXT_NOT_STARTS 67
#define VEX_F_TEXT_ICONTAINS 68
#define VEX_F_TEXT_NOT_ICONTAINS 69
#define VEX_F_TEXT_ISTARTS 70
#define VEX_F_TEXT_NOT_ISTARTS 71
#define VEX_F_TEXT_IEQ 72
#define VEX_F_TEXT_NOT_IEQ 73

typedef struct vex_selection {
    const uint8_t *ids;
    size_t ids_len;
    const uint8_t *filter;
    size_t filter_len;
} vex_selection;

/* Delete the selected records (NULL ids and filter: VEX_ERR_INVALID), the first `limit` in
 * insertion order when limit >= 0.  `deleted` (may be NULL) counts them. */
vex_status vex_delete(vex_collection *collection, const vex_selection *selection, int64_t limit,
                      uint64_t *deleted);

/* A step of a transaction: vex_write of `write`, or, when that is NULL, vex_delete of `selection`. */
typedef struct vex_step {
    vex_collection *collection;
    const vex_write_request *write;
    const vex_selection *selection;
    int64_t limit;
    uint64_t changed;          /* out: records inserted, changed or deleted by this step         */
} vex_step;

/* All steps, in their order, or none: whatever fails, and whenever the process or the machine dies.
 * Collections are of `db`, in any order, and each as often as wanted; a step sees what those before it
 * did, but a deletion by filter or with a limit must be the first of its collection (VEX_ERR_INVALID).
 * Readers see all of a collection's steps at once, and one collection a moment before another.  A failure
 * to write a log after the transaction is stored (VEX_ERR_IO, VEX_ERR_NO_SPACE, VEX_ERR_POISONED) leaves
 * it to the next writer of any process, which carries it out before anything else. */
vex_status vex_transact(vex_db *db, vex_step *steps, uint32_t n);

/* Number of selected records; selection NULL = all. */
vex_status vex_count(vex_collection *collection, const vex_selection *selection, uint64_t *out);

/* What selected records have under metadata keys (MessagePack array of strings).  Values are bools,
 * ints, floats and strings, and those in lists, which count once for a record; 1 and 1.0 are two
 * values, -0.0 is 0.0.  Their order: false, true, numbers by value, strings by code point.
 *   KEYS    no values                         RANGE   the least and the greatest, if any
 *   VALUES  all, ascending                    COUNTS  all, those that most records have first, ties
 *                                                     ascending
 * The answer is a MessagePack array with, for each key, [records that have anything under it, bit mask
 * of types as vex_collection_keys tells them, number of values, values, counts], of the last two at most
 * `limit` (< 0: all); counts of RANGE mean nothing.  Free with vex_bytes_free(). */
#define VEX_AGGREGATE_KEYS 0
#define VEX_AGGREGATE_RANGE 1
#define VEX_AGGREGATE_VALUES 2
#define VEX_AGGREGATE_COUNTS 3

vex_status vex_aggregate(vex_collection *collection, const vex_selection *selection, uint32_t kind,
                         const uint8_t *keys, size_t keys_len, int64_t limit, uint8_t **msgpack,
                         size_t *len);

/* ---- reads ------------------------------------------------------------------------------------ */

#define VEX_INCLUDE_DOCUMENTS 1
#define VEX_INCLUDE_METADATAS 2
#define VEX_INCLUDE_URIS 4
#define VEX_INCLUDE_VECTORS 8
#define VEX_INCLUDE_SEQS 16

typedef struct vex_result {
    uint32_t n_queries;           /* 1 for vex_get                                              */
    uint32_t n_rows;              /* over all queries                                           */
    uint32_t dimension;
    uint32_t include;             /* what was asked for                                         */
    const uint32_t *row_counts;   /* n_queries entries, summing to n_rows                       */
    const float *distances;       /* n_rows (vex_query), else NULL                              */
    const float *vectors;         /* n_rows * dimension, or NULL when not included              */
    const uint64_t *seqs;         /* n_rows, or NULL when not included                          */
    const uint8_t *records;       /* MessagePack [ids, documents|nil, metadatas|nil, uris|nil]  */
    size_t records_len;
} vex_result;

/* Selected records in insertion order, after skipping `offset`, at most `limit` (< 0: all). */
vex_status vex_get(vex_collection *collection, const vex_selection *selection, uint64_t offset,
                   int64_t limit, uint32_t include, vex_result **out);

/* The order of records: by insertion, or by what they have under a metadata key: bools, then numbers by
 * value, then strings by code point, and ties by insertion.  Records that have no such value, or a
 * list, come last in both directions. */
typedef struct vex_order {
    const uint8_t *key;        /* NULL: by insertion                                              */
    size_t key_len;
    const uint8_t *after;      /* `last` of an earlier call in this order: only records that come
                                  after that one, which need not be there any more; NULL: all     */
    size_t after_len;
    uint32_t descending;       /* 1: values (without a key: insertion) descending                 */
} vex_order;

/* Selected records in an order, after skipping `offset`, at most `limit` (< 0: all).  *last is the place
 * of the last of them, to be given back with vex_bytes_free(); NULL when there are none. */
vex_status vex_get_ordered(vex_collection *collection, const vex_selection *selection,
                           const vex_order *order, uint64_t offset, int64_t limit, uint32_t include,
                           vex_result **out, uint8_t **last, size_t *last_len);

/* The k nearest selected records of each of n queries (n * dimension float32), nearest first,
 * ties by seq: min(k, selected) rows each.  An id of the selection that does not exist is
 * VEX_ERR_NOT_FOUND unless a filter is given too.  An empty collection that never had a vector
 * accepts any dimension and finds nothing.  Where there is a graph the search is approximate, but
 * distances are exact and rows are never fewer.  `options` may be NULL. */
#define VEX_QUERY_EXACT 1      /* never by the graph                                              */
#define VEX_QUERY_GRAPH 2      /* by the graph even where reading all rows is faster: for tests   */

/* How a call was answered.  Numbers are sums over its queries unless they say otherwise. */
typedef struct vex_query_plan {
    uint32_t why;              /* VEX_PLAN_*                                                      */
    uint32_t ef;               /* candidates of a walk, as asked for or what k needs (with codes
                                  of 8 bits an eighth more are kept); 0 when none was made        */
    uint32_t quantization;     /* what the graph's distances read: VEX_QUANTIZE_*                 */
    uint32_t read_again;       /* queries whose walk found too few or took too long: then all
                                  rows were read                                                  */
    uint64_t rows;             /* that may be found, whichever the query: selected and alive      */
    uint64_t graph_rows;       /* of these, in the graph                                          */
    uint64_t walk_distances, walk_hops; /* no hops: each row that may be found was looked at      */
    uint64_t exact_distances;  /* of what walks found                                             */
    uint64_t read_rows;        /* read one after the other                                        */
    uint64_t select_us, search_us, fetch_us; /* time: selection, search, making the result        */
} vex_query_plan;

#define VEX_PLAN_NO_VECTORS 0  /* nothing can be found: no vectors, or none selected              */
#define VEX_PLAN_WALK 1        /* the graph was walked; what is not in it was read                */
/* All rows that may be found were read, because ... */
#define VEX_PLAN_ASKED 2       /* VEX_QUERY_EXACT                                                 */
#define VEX_PLAN_NO_GRAPH 3    /* there is no graph (yet)                                         */
#define VEX_PLAN_FEW_ROWS 4    /* they are so few that reading them is faster                     */
#define VEX_PLAN_LARGE_K 5     /* so many are wanted that a walk would meet about all             */
#define VEX_PLAN_NOT_FINITE 6  /* a query has NaN or infinity                                     */

typedef struct vex_query_options {
    uint32_t flags;            /* VEX_QUERY_*                                                     */
    uint32_t ef;               /* candidates of a search by the graph; 0: the collection's        */
    vex_query_plan *plan;      /* receives how it was done; NULL: not wanted                      */
    uint32_t threads;          /* at most so many share the queries; 0: VEXFS_THREADS, or as many
                                  as there are processors.  One query is one thread's             */
} vex_query_options;

vex_status vex_query(vex_collection *collection, const vex_selection *selection,
                     const float *queries, uint32_t n, uint32_t dimension, uint32_t k,
                     const vex_query_options *options, uint32_t include, vex_result **out);

void vex_result_free(vex_result *result);

/* ---- ranked search ---------------------------------------------------------------------------
 *
 * A search selects records, ranks them by an expression, may keep some of each group, and returns a
 * part of what is left, lowest score first (NaN last), ties by seq.  It is a MessagePack array
 *   [ids|nil, filter|nil, program|nil, group|nil, offset, limit (-1: all), include]
 * ids and filter as in a selection (ids that do not exist are ignored), include VEX_INCLUDE_*.
 *
 * program  array of steps of a stack machine, which leave one value: a number (float32) for each of
 *   some records, and maybe a default for all others.  Results are the records of that value; nil:
 *   all that are selected, in insertion order, with scores 0, 1, ... after offset and limit.
 *     [VEX_R_VAL, number]                     no records; the default is the number
 *     [VEX_R_NEAREST, vector, LEAF]           the nearest records, with their distances; the vector
 *                                             is float32, little-endian, as a bin
 *     [VEX_R_SPARSE, key, vector, idf, LEAF]  1 - the dot product with the sparse vectors under a
 *           metadata key, of records that share an index with this one (ext type 1); idf true: each
 *           number of the query is scaled by ln(1 + (n - nt + .5) / (nt + .5)) first, n records,
 *           nt of which have the index
 *     [VEX_R_TEXT, text, k1, b, LEAF]         1 - the BM25 score of the document (k1 >= 0, 0 <= b <= 1;
 *           usually 1.2, 0.75), of records that have a word of the text
 *   LEAF = limit, default|nil, by_rank: so many records at most; by_rank true: 0, 1, ... in order
 *   instead of the measure
 *     [VEX_R_ADD] SUB MUL DIV MAX MIN         of the two topmost values, for the records of either
 *           when both have a default, of the one without when one has, of both when none has
 *     [VEX_R_ABS] EXP LOG                     of the topmost value
 *   At most 65,536 steps, 1,024 leaves, 64 values on the stack (VEX_ERR_TOO_BIG).
 * group  [[key, ...], VEX_GROUP_LOWEST|HIGHEST, [key|nil, ...], k]: of the records with the same
 *   values under the first keys, the k with the lowest or highest values under the others (nil: the
 *   score), ties by score and seq.  In order: none, bools, ints, floats, strings, sparse vectors,
 *   lists.  Needs a program. */
#define VEX_R_VAL 1
#define VEX_R_NEAREST 2
#define VEX_R_SPARSE 3
#define VEX_R_TEXT 4
#define VEX_R_ADD 16
#define VEX_R_SUB 17
#define VEX_R_MUL 18
#define VEX_R_DIV 19
#define VEX_R_MAX 20
#define VEX_R_MIN 21
#define VEX_R_ABS 32
#define VEX_R_EXP 33
#define VEX_R_LOG 34
#define VEX_GROUP_LOWEST 0
#define VEX_GROUP_HIGHEST 1

/* Do n searches (a MessagePack array of so many) on one state of the collection.  results[i]: of
 * search i, with scores as distances. */
vex_status vex_search_ranked(vex_collection *collection, const uint8_t *searches, size_t len,
                             uint32_t n, vex_result **results);

/* One distance by the kernels in use (VEX_SPACE_*); for tests and reference. */
float vex_distance(uint32_t space, const float *x, const float *y, uint32_t dimension);

/* ---- checking and repairing ------------------------------------------------------------------
 * What `vexctl check` and `vexctl repair` are made of; both see to names, locks and renames
 * themselves.  Files are read one by one, whatever is damaged; nothing is written.  `path` is the
 * database, `database` and `collection` are 16-byte uuids.  Reports are MessagePack, to be given
 * back with vex_bytes_free(). */

typedef struct vex_check vex_check;
#define VEX_CHECK_DEEP 1       /* every byte that has a checksum, and every row                  */

typedef struct vex_check_progress {
    uint64_t files, bytes, rows;   /* examined so far; rows: living records                       */
    uint64_t expected_bytes;       /* of all files, as far as it is known                         */
    uint64_t lsn;                  /* batches ever committed: 0: nothing was ever written         */
    uint32_t more;                 /* there is more to do                                         */
    uint32_t gone;                 /* the collection was deleted meanwhile: nothing was found     */
} vex_check_progress;

/* The database uuid by the superblock; by the newest manifest of a collection; and a new superblock. */
vex_status vex_check_superblock(const char *path, uint8_t *database);
vex_status vex_check_owner(const char *path, const uint8_t *collection, uint8_t *database);
vex_status vex_repair_superblock(const char *path, const uint8_t *database);

/* The file of a transaction that is not carried out yet: *there 0 when there is none.  VEX_ERR_CORRUPT,
 * VEX_ERR_FOREIGN, VEX_ERR_VERSION: nobody can write to the database while it is there. */
vex_status vex_check_transaction(const char *path, const uint8_t *database, uint32_t *there);

/* Examine a collection, beside writers, too: each step a file or so, until there is no `more`.
 * take_findings: array of [damage, file, offset, text], and forgets them; files below `path`. */
vex_status vex_check_open(const char *path, const uint8_t *database, const uint8_t *collection,
                          uint32_t flags, vex_check **out);
vex_status vex_check_step(vex_check *check, vex_check_progress *progress);
vex_status vex_check_take_findings(vex_check *check, uint8_t **msgpack, size_t *len);
void vex_check_close(vex_check *check); /* NULL is fine */

typedef struct vex_salvage vex_salvage;

typedef struct vex_salvage_info {
    uint64_t records, bytes;   /* that can be read, in part at least; bytes of files read         */
    uint32_t dimension, space; /* 0: no vectors; space UINT32_MAX: not known                      */
    uint32_t manifest_lost;
} vex_salvage_info;

/* Find out what can be read of a collection that nobody has open. */
vex_status vex_salvage_open(const char *path, const uint8_t *database, const uint8_t *collection,
                            vex_salvage **out);
void vex_salvage_get_info(const vex_salvage *salvage, vex_salvage_info *out);
/* The next records in order of insertion, at most n, as vex_write takes them; fewer when some turn
 * out to be lost; *more 0: these were the last. */
vex_status vex_salvage_next(vex_salvage *salvage, uint32_t n, vex_result **out, uint32_t *more);
/* What is lost as found so far: array of [what, id | nil, count, file, offset, why], and forgets it.
 * what: "record", "document", "metadata", "uri", "batch", "deletion"; count 0: not known. */
vex_status vex_salvage_take_losses(vex_salvage *salvage, uint8_t **msgpack, size_t *len);
void vex_salvage_close(vex_salvage *salvage); /* NULL is fine */
/* Have who has the collection open notice that its directory is another one from now on. */
vex_status vex_salvage_announce(const char *path, const uint8_t *collection);

/* ---- fixed-layout requests --------------------------------------------------------------------
 * Thin doors to the functions above, for callers that want flat structs.  Sizes and offsets are
 * part of the ABI and checked at compile time.  Ids are the u64 numbers that
 * vex_batch_insert_simple was given, stored as their decimal text. */

#define VEX_ELEMENT_F32 0
#define VEX_ELEMENT_F16 1
#define VEX_ELEMENT_U8 2

typedef struct vexfs_vector_file_info { /* 40 bytes */
    uint32_t dimensions;
    uint32_t element_type;      /* VEX_ELEMENT_* as stored                                      */
    uint32_t vector_count;
    uint32_t storage_format;    /* major format version                                         */
    uint64_t data_offset;       /* of the first vector in the file                              */
    uint64_t index_offset;      /* of the section table                                         */
    uint32_t compression_type;  /* 0: none                                                      */
    uint32_t alignment_bytes;   /* of data_offset                                               */
} vexfs_vector_file_info;

typedef struct vexfs_vector_search_request { /* 48 bytes */
    const float *query;
    uint32_t dimensions;
    uint32_t k;
    uint32_t search_type;       /* VEX_SPACE_*; must equal the collection's space               */
    float *results;             /* k distances                                                  */
    uint64_t *result_ids;       /* k ids                                                        */
    uint32_t result_count;      /* out                                                          */
} vexfs_vector_search_request;

typedef struct vexfs_batch_insert_request { /* 32 bytes */
    const float *vectors;
    uint32_t count;
    uint32_t dimensions;
    const uint64_t *ids;
    uint32_t flags;             /* VEX_WRITE_ADD or VEX_WRITE_UPSERT                            */
} vexfs_batch_insert_request;

/* Describe the vector file at `path`. */
vex_status vex_file_info(const char *path, vexfs_vector_file_info *out);
vex_status vex_search_simple(vex_collection *collection, vexfs_vector_search_request *request);
vex_status vex_batch_insert_simple(vex_collection *collection,
                                   const vexfs_batch_insert_request *request);

/* cffi:end */

#ifdef __cplusplus
}
#endif
#endif /* VEXFS_H */
