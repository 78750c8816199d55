/*
 * t_wal_salvage.c - what is whole in a damaged log is found, and nothing else.
 */
#include "tests/wal_suite.h"

#define N 40u

static size_t len_of(uint64_t lsn) {
    return lsn % 7 == 0 ? 3000 + lsn : 40 + lsn * 3;
}

/* A log of N records, the last of them not yet durable unless it is sealed. */
static log_image make_log(bool sealed, size_t ends[N + 1]) {
    log_image image = {0};
    CHECK_OK(vex_vfs_memory_create(&image.vfs));
    vex_wal_writer *writer = create_log(image.vfs, "/", 1);
    ends[0] = 64;
    for (uint64_t lsn = 1; lsn <= N; lsn++) {
        CHECK_OK(try_append(writer, lsn, len_of(lsn)));
        ends[lsn] = (size_t)vex_wal_end(writer);
        if (lsn < N) {
            CHECK_OK(vex_wal_sync_to(writer, vex_wal_end(writer)));
        }
    }
    if (sealed) {
        CHECK_OK(vex_wal_seal(writer));
    }
    vex_wal_writer_close(writer);
    image_load(&image);
    return image;
}

static vex_wal_survey salvage(const log_image *image, bool newest) {
    vex_wal_survey survey;
    CHECK_OK(vex_wal_salvage(image->vfs, "/", log_uuid, 1, newest, &survey));
    uint64_t before = 0;
    for (size_t i = 0; i < survey.n_records; i++) {
        const vex_wal_found *found = &survey.records[i];
        CHECK(found->lsn > before && found->lsn <= N);
        const vex_wal_body body = {found->body.data, found->body.len};
        check_body(found->lsn, &body, len_of(found->lsn));
        before = found->lsn;
    }
    return survey;
}

TEST(wal_salvage_of_a_sound_log) {
    size_t ends[N + 1];
    for (int sealed = 0; sealed < 2; sealed++) {
        log_image image = make_log(sealed, ends);
        vex_wal_survey survey = salvage(&image, true);
        CHECK_EQ(survey.n_records, N);
        CHECK_EQ(survey.n_gaps, 0);
        CHECK(!survey.header_damaged);
        vex_wal_survey_clear(&survey);
        image_free(&image);
    }
}

/* A record that had been durable is missed, and those behind it are found. */
TEST(wal_salvage_goes_on_behind_damage) {
    size_t ends[N + 1];
    log_image image = make_log(true, ends);
    for (uint64_t lsn = 1; lsn <= N; lsn++) {
        size_t at = ends[lsn - 1] + test_random_below((uint32_t)(ends[lsn] - ends[lsn - 1]));
        uint8_t change = (uint8_t)(1 + test_random_below(255));
        image.bytes[at] ^= change;
        image_store(&image, image.len);
        vex_wal_survey survey = salvage(&image, true);
        CHECK_EQ(survey.n_records, N - 1);
        CHECK_EQ(survey.n_gaps, 1);
        CHECK_EQ(survey.gaps[0].offset, ends[lsn - 1]);
        CHECK_EQ(survey.gaps[0].lsn_from, lsn);
        CHECK_EQ(survey.gaps[0].lsn_to, lsn + 1);
        vex_wal_survey_clear(&survey);
        image.bytes[at] ^= change;
    }
    image_free(&image);
}

/* What nobody says was durable is torn off, in the newest log. */
TEST(wal_salvage_ends_at_a_torn_record) {
    size_t ends[N + 1];
    log_image image = make_log(false, ends);
    image.bytes[ends[N - 1] + 50] ^= 1;
    image_store(&image, image.len);
    vex_wal_survey survey = salvage(&image, true);
    CHECK_EQ(survey.n_records, N - 1);
    CHECK_EQ(survey.n_gaps, 0);
    vex_wal_survey_clear(&survey);
    survey = salvage(&image, false);
    CHECK_EQ(survey.n_records, N - 1);
    CHECK_EQ(survey.n_gaps, 1);
    CHECK_EQ(survey.gaps[0].lsn_to, 0);
    vex_wal_survey_clear(&survey);
    image_free(&image);
}

TEST(wal_salvage_without_a_header) {
    size_t ends[N + 1];
    log_image image = make_log(true, ends);
    memset(image.bytes, 0x5a, 64);
    image_store(&image, image.len);
    vex_wal_survey survey = salvage(&image, true);
    CHECK(survey.header_damaged);
    CHECK_EQ(survey.n_records, N);
    CHECK_EQ(survey.n_gaps, 0);
    vex_wal_survey_clear(&survey);
    memset(image.bytes + 64, 0x5a, 100); /* and without its first record */
    image_store(&image, image.len);
    survey = salvage(&image, true);
    CHECK(survey.n_records >= N - 2);
    CHECK_EQ(survey.n_gaps, 1);
    vex_wal_survey_clear(&survey);
    image_store(&image, 40);
    survey = salvage(&image, true);
    CHECK(survey.header_damaged);
    CHECK_EQ(survey.n_records, 0);
    vex_wal_survey_clear(&survey);
    image_free(&image);
}

/* Whatever is in the file, only records that were written are found. */
TEST(wal_salvage_of_random_damage) {
    size_t ends[N + 1];
    log_image image = make_log(true, ends);
    uint8_t *original = malloc(image.len);
    memcpy(original, image.bytes, image.len);
    for (uint32_t i = 0; i < 150; i++) {
        memcpy(image.bytes, original, image.len);
        for (uint32_t k = test_random_below(6); k > 0; k--) {
            size_t at = test_random_below((uint32_t)ends[N]);
            size_t len = 1 + test_random_below(200);
            for (size_t b = at; b < at + len && b < image.len; b++) {
                image.bytes[b] = (uint8_t)test_random();
            }
        }
        size_t cut = i % 3 == 0 ? test_random_below((uint32_t)image.len) : 0;
        image_store(&image, image.len - cut);
        vex_wal_survey survey = salvage(&image, i % 2 == 0);
        vex_wal_survey_clear(&survey);
    }
    free(original);
    image_free(&image);
}
