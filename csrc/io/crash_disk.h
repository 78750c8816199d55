/*
 * crash_disk.h - what a power failure may leave of the files of a trace (io/vfs_trace.h); only in
 * builds with VEX_TESTING.
 *
 * A disk holds what is durable, and the operations of the trace that nothing made durable yet.
 * Each of these has a fate; an image is the durable state with the pending operations applied, in
 * their order, as their fates say.  Nothing orders two operations but a sync, so every combination
 * of fates may happen.  What is assumed of the medium:
 *   - fsync makes a file's bytes and its size durable, not its name; fdatasync the same; fsync of
 *     a directory makes all changes of its names durable
 *   - after a failed fsync the pages count as clean: later syncs do not make these changes durable,
 *     though any part of them may be on the disk.  Only writing them again helps
 *   - renaming is atomic: both names change or neither
 *   - the state of a name is one that it had since its directory was synced
 *   - a write is absent, whole, or torn: the size may come without bytes (zeros then); each sector
 *     of 512 bytes is new or as before; and one sector, in flight when the power went, may hold
 *     anything where the write changes it.  Bytes outside of the write, and bytes that it does not
 *     change, stay: writing the same bytes again is safe (power-safe overwrite)
 */
#ifndef VEX_IO_CRASH_DISK_H
#define VEX_IO_CRASH_DISK_H

#include "io/vfs_trace.h"

typedef struct vex_disk vex_disk;

/* A disk with the files of `vfs`, all durable. */
vex_status vex_disk_create(vex_vfs *vfs, vex_disk **out);
void vex_disk_destroy(vex_disk *disk); /* NULL is fine */

/* Perform an operation; the disk keeps pointers to it.  `lying`: a sync that does nothing. */
vex_status vex_disk_step(vex_disk *disk, const vex_trace_op *op, bool lying);

/* The operations without a certain fate. */
size_t vex_disk_pending(const vex_disk *disk);
const vex_trace_op *vex_disk_pending_op(const vex_disk *disk, size_t i);

/* Fates: the first two for every operation, the others for writes of at least a byte.  TORN_A and
 * TORN_B are two draws from the seed: a prefix or some of the sectors, one of them garbage. */
#define VEX_FATE_ABSENT 0
#define VEX_FATE_WHOLE 1
#define VEX_FATE_ZEROS 2 /* the size, but no bytes                                               */
#define VEX_FATE_TORN_A 3
#define VEX_FATE_TORN_B 4
#define VEX_FATES 5
uint32_t vex_disk_fates(const vex_disk *disk, size_t i);

/* The files after a power failure with these fates (one per pending operation). */
typedef struct vex_image vex_image;
vex_status vex_disk_image(const vex_disk *disk, const uint8_t *fates, uint64_t seed,
                          vex_image **out);
void vex_image_destroy(vex_image *image); /* NULL is fine */
uint64_t vex_image_hash(const vex_image *image); /* of all names and bytes                        */

/* Put the files into an empty vfs. */
vex_status vex_image_store(const vex_image *image, vex_vfs *vfs);

#endif
