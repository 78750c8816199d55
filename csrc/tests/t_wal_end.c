/*
 * t_wal_end.c - where a log ends for who goes on with it: closed, or written where nothing was reserved.
 */
#include "tests/wal_suite.h"

/* A power failure may leave the second record that was added behind a CLOSE frame, and not the first, which
 * took the frame's place.  Who goes on there with a record of its length would bring the other back. */
TEST(wal_closed_means_that_the_file_ends) {
    log_image image = {0};
    bool clean = false, sealed = false;
    CHECK_OK(vex_vfs_memory_create(&image.vfs));
    vex_wal_writer *writer = create_log(image.vfs, "/", 1);
    CHECK_OK(try_append(writer, 1, 50));
    const uint64_t end = vex_wal_end(writer);
    CHECK_OK(vex_wal_seal(writer));
    vex_wal_writer_close(writer);
    CHECK_OK(vex_wal_check_end(image.vfs, "/", log_uuid, 1, end, 1, &clean, &sealed));
    CHECK(clean && sealed);
    uint8_t closing[64] = {0};
    image_load(&image);
    CHECK(image.len > end && image.len - end <= sizeof closing);
    memcpy(closing, image.bytes + end, image.len - end);
    free(image.bytes);

    CHECK_OK(vex_wal_resume(image.vfs, "/", log_uuid, 1, end, 1, 1, &writer));
    CHECK_OK(try_append(writer, 2, 50));
    const uint64_t second = vex_wal_end(writer);
    CHECK_OK(try_append(writer, 3, 50));
    vex_wal_writer_close(writer);
    image_load(&image);
    memset(image.bytes + end, 0, (size_t)(second - end));
    memcpy(image.bytes + end, closing, sizeof closing);
    CHECK(second - end >= sizeof closing);
    image_store(&image, image.len);
    CHECK_OK(vex_wal_check_end(image.vfs, "/", log_uuid, 1, end, 1, &clean, &sealed));
    CHECK(!clean && !sealed);
    image_free(&image);
}

static vex_status allocate_never(vex_vfs *vfs, vex_file *file, uint64_t offset, uint64_t len) {
    (void)vfs;
    (void)file;
    (void)offset;
    (void)len;
    return VEX_FAIL(VEX_ERR_PERMISSION, "injected fault: cannot allocate");
}

/* Where nothing can be reserved, giving back what was cuts nothing that was written. */
TEST(wal_is_written_where_nothing_can_be_reserved) {
    vex_vfs *vfs = NULL;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    vfs->file_allocate = allocate_never;
    vex_wal_writer *writer = create_log(vfs, "/", 1);
    for (uint64_t lsn = 1; lsn <= 20; lsn++) {
        (void)vex_wal_make_room(writer, 5000, 16 << 10);
        CHECK_OK(try_append(writer, lsn, 5000));
    }
    vex_wal_writer_close(writer);
    vex_wal_reader *reader = open_log(vfs, "/");
    for (uint64_t lsn = 1; lsn <= 20; lsn++) {
        expect_record(reader, lsn, 5000);
    }
    expect_step(reader, VEX_WAL_END);
    vex_wal_reader_close(reader);
    vex_vfs_memory_destroy(vfs);
}
