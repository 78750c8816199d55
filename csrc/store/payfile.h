/*
 * payfile.h - an immutable file of payload rows, mapped read-only.
 *
 * INFO { u32 rows, u32 0, u64 raw_document_bytes, u64 raw_metadata_bytes }, SEQS, IDS, ID_INDEX,
 * DOCUMENTS, METADATA, URIS (block columns; left out when every value is absent), and sections
 * of plug-ins (typed metadata columns; later postings and text indexes): this layer stores
 * them without knowing them.
 */
#ifndef VEX_STORE_PAYFILE_H
#define VEX_STORE_PAYFILE_H

#include "codec/block.h"
#include "store/annex.h"
#include "store/batch.h"
#include "store/container.h"
#include "store/memo.h"

#include <stdatomic.h>

/* A section made from the rows of a payload file by a higher layer.  Derived data: build() may
 * leave `out` empty, and load() may refuse damaged bytes: then the section counts as missing.
 * A failing build() fails the file. */
typedef struct vex_section_plugin {
    uint32_t section_kind;
    vex_status (*build)(const vex_payload *rows, uint32_t n, vex_buf *out);
    vex_status (*load)(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                       uint64_t offset, void **state);
    void (*unload)(void *state);
} vex_section_plugin;

#define VEX_PLUGINS_MAX 8
/* Register (a static object) before the first payload file is written or opened; again for the
 * same section kind is fine. */
vex_status vex_payfile_register(const vex_section_plugin *plugin);

typedef struct vex_payfile {
    atomic_uint refs;
    vex_container container;
    uint32_t rows;
    const uint64_t *seqs;
    const uint32_t *id_offsets; /* rows + 1                                                */
    const uint8_t *id_bytes;
    uint64_t id_bytes_len;
    const uint64_t *id_hashes; /* ascending                                               */
    const uint32_t *id_rows;   /* row of each hash                                        */
    uint64_t *id_filter;       /* see vex_payfile_may_have                                */
    uint32_t id_filter_words;
    bool has_documents, has_metadata, has_uris;
    vex_block_column documents, metadata, uris;
    void *plugin_state[VEX_PLUGINS_MAX];
    vex_memo memo;         /* of higher layers                                        */
    vex_annexes annexes;   /* theirs, too                                             */
    _Atomic uint64_t twin; /* theirs: number of a vector file with the same seqs, 0: ? */
    uint64_t raw_document_bytes, raw_metadata_bytes, stored_document_bytes, stored_metadata_bytes;
} vex_payfile;

/* How a long write goes on: `pause` (NULL: none) is called again and again while it lasts, and
 * its failure ends the write. */
typedef struct vex_pace {
    int level; /* VEX_BLOCK_LEVEL_*                                       */
    vex_status (*pause)(void *context);
    void *context;
} vex_pace;

/* Rows strictly ascending by seq, n >= 1; ids unique within the file.  Fills *entry except for
 * tombstones.  The caller syncs the directory. */
vex_status vex_payfile_write(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             uint64_t file_no, const vex_payload *rows, uint32_t n, uint64_t lsn_lo,
                             uint64_t lsn_hi, bool sync, vex_file_entry *entry);
vex_status vex_payfile_write_paced(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                                   uint64_t file_no, const vex_payload *rows, uint32_t n,
                                   uint64_t lsn_lo, uint64_t lsn_hi, bool sync,
                                   const vex_pace *pace, vex_file_entry *entry);
/* Checks everything that identifies rows; documents, metadata and uris when they are read. */
vex_status vex_payfile_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                            const vex_file_entry *entry, vex_payfile **out);
/* Read the whole file again and check it, decoding every block: VEX_ERR_CORRUPT. */
vex_status vex_payfile_verify(const vex_payfile *file);
/* The same without the checksums of the file. */
vex_status vex_payfile_verify_rows(const vex_payfile *file);
vex_payfile *vex_payfile_acquire(vex_payfile *file);
void vex_payfile_release(vex_payfile *file); /* NULL is fine */

uint32_t vex_payfile_find_seq(const vex_payfile *file, uint64_t seq); /* or UINT32_MAX      */

/* Bits of one filter word that an id with this hash has set. */
static inline uint64_t vex_id_filter_bits(uint64_t hash) {
    return 1ULL << (hash & 63) | 1ULL << (hash >> 6 & 63) | 1ULL << (hash >> 12 & 63) |
           1ULL << (hash >> 18 & 63);
}
static inline uint32_t vex_id_filter_word(uint64_t hash, uint32_t n_words) {
    return (uint32_t)((unsigned __int128)hash * n_words >> 64);
}
/* May an id with this hash be in the file?  One look into a Bloom filter in memory (16 bits per
 * row, about 1 in 100 wrong guesses): a new id must be looked for in every file, and walking
 * their indexes would cost ten cache misses each. */
static inline bool vex_payfile_may_have(const vex_payfile *file, uint64_t hash) {
    uint64_t bits = vex_id_filter_bits(hash);
    return (file->id_filter[vex_id_filter_word(hash, file->id_filter_words)] & bits) == bits;
}
/* Row of an id (hash = vex_hash64 of it), or UINT32_MAX.  Offsets are checked: CORRUPT. */
vex_status vex_payfile_find_id(const vex_payfile *file, const void *id, size_t len, uint64_t hash,
                               uint32_t *row);
/* Its decoded blocks leave the cache of the process. */
void vex_payfile_forget_blocks(const vex_payfile *file);
/* Borrowed from the mapping. */
vex_status vex_payfile_id(const vex_payfile *file, uint32_t row, const uint8_t **id, size_t *len);
/* State of the plug-in that registered section_kind, or NULL. */
void *vex_payfile_plugin(const vex_payfile *file, uint32_t section_kind);

/* Reads whole rows; keeps the last decoded blocks.  One per thread and call. */
typedef struct vex_payload_reader {
    const vex_payfile *file;
    vex_block_reader documents, metadata, uris;
} vex_payload_reader;

#define VEX_PAYLOAD_DOCUMENT 1u
#define VEX_PAYLOAD_METADATA 2u
#define VEX_PAYLOAD_URI 4u

void vex_payload_reader_init(vex_payload_reader *reader, const vex_payfile *file);
/* Read documents and metadata by the cache of decoded blocks: see vex_block_reader_share. */
void vex_payload_reader_share(vex_payload_reader *reader);
void vex_payload_reader_clear(vex_payload_reader *reader);
/* seq and id always; `parts` says what else; pointers valid until the next call. */
vex_status vex_payload_read(vex_payload_reader *reader, uint32_t row, uint32_t parts,
                            vex_payload *out);

#endif
