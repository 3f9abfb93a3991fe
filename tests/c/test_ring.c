/* Unit tests of one ring with both ends in one process. Takes no arguments; prints the number of passed tests. */
#define _GNU_SOURCE
#include "place.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { CAPACITY = 1024 };

static shmb_memory *memory;
static shmb_doorbell *consumer_bell, *producer_bell;
static shmb_ring_end *producer, *consumer;
static uint64_t sequence, expected_sequence;

static void open_ring(uint64_t capacity) {
    memory = create_memory(capacity);
    consumer_bell = shmb_doorbell_open(memory, CONSUMER_BELL, 1);
    producer_bell = shmb_doorbell_open(memory, PRODUCER_BELL, 1);
    producer = shmb_ring_open(memory, LINES, RECORDS, capacity, SHMB_PRODUCER, consumer_bell);
    consumer = shmb_ring_open(memory, LINES, RECORDS, capacity, SHMB_CONSUMER, producer_bell);
    CHECK(producer != NULL && consumer != NULL);
    sequence = expected_sequence = 0;
}

static void close_ring(void) {
    /* Freed first, because the others hold references to it. */
    shmb_memory_free(memory);
    shmb_doorbell_free(consumer_bell);
    shmb_doorbell_free(producer_bell);
    shmb_ring_free(producer);
    shmb_ring_free(consumer);
}

static void reopen_ring(void) {
    close_ring();
    open_ring(CAPACITY);
}

static unsigned char *bytes_at(uint64_t offset) {
    return shmb_memory_at(memory, offset, 1);
}

static uint64_t number_at(uint64_t offset) {
    uint64_t number;
    memcpy(&number, bytes_at(offset), sizeof number);
    return number;
}

static void put_number(uint64_t offset, uint64_t number) {
    memcpy(bytes_at(offset), &number, sizeof number);
}

static uint64_t tail(void) { return number_at(LINES); }
static uint64_t head(void) { return number_at(HEAD); }

/* Claim and fill a record of `size` bytes, including the header. */
static int claim(shmb_record *record, uint64_t size) {
    *record = (shmb_record){.kind = SHMB_POSTERIORS, .dtype = SHMB_UINT8, .rows = 1, .sequence = sequence};
    record->columns = (uint32_t)(size - SHMB_HEADER_SIZE);
    int result = shmb_ring_claim(producer, record, "");
    if (result == SHMB_OK) {
        memset(record->matrix, (int)(sequence % 251), record->columns);
        sequence++;
    }
    return result;
}

static uint64_t offset_of(const shmb_record *record) {
    return (uint64_t)((unsigned char *)record->matrix - SHMB_HEADER_SIZE - bytes_at(RECORDS));
}

static void commit(const shmb_record *record) {
    CHECK_EQUAL(shmb_ring_commit(producer, record->position, SHMB_ANSWERED, 0.5, 3), SHMB_OK);
}

static uint64_t send(uint64_t size) {
    shmb_record record;
    CHECK_EQUAL(claim(&record, size), SHMB_OK);
    uint64_t offset = offset_of(&record);
    commit(&record);
    return offset;
}

static shmb_record receive(uint64_t size) {
    shmb_record record;
    CHECK_EQUAL(shmb_ring_receive(consumer, &record), SHMB_OK);
    CHECK_EQUAL(record.sequence, expected_sequence);
    expected_sequence++;
    CHECK_EQUAL(record.columns + SHMB_HEADER_SIZE, size);
    const unsigned char *content = record.matrix;
    for (uint32_t i = 0; i < record.columns; i++)
        CHECK_EQUAL(content[i], record.sequence % 251);
    return record;
}

static void release(const shmb_record *record) { shmb_ring_release(consumer, record->position); }

static void take(uint64_t size) {
    shmb_record record = receive(size);
    release(&record);
}

static void check_empty(void) {
    shmb_record record;
    CHECK_EQUAL(shmb_ring_receive(consumer, &record), SHMB_EMPTY);
}

static void check_claim(uint64_t size, int result) {
    shmb_record record;
    CHECK_EQUAL(claim(&record, size), result);
}

/* --- the end of the ring */

static void a_record_that_ends_exactly_at_the_end_needs_no_padding(void) {
    CHECK_EQUAL(send(768), 0);
    CHECK_EQUAL(send(256), 768);
    CHECK_EQUAL(tail(), 1024);
    take(768);
    take(256);
    CHECK_EQUAL(head(), 1024);
}

static void a_record_64_bytes_too_long_wraps_behind_padding(void) {
    send(512);
    send(320);
    take(512);
    CHECK_EQUAL(send(256), 0);
    CHECK_EQUAL(tail(), 1280);
    take(320);
    CHECK_EQUAL(head(), 832);
    take(256);
    CHECK_EQUAL(head(), 1280);
}

static void padding_is_sent_ahead_of_a_record_that_must_wait(void) {
    send(256);
    send(576);
    take(256);
    check_claim(320, SHMB_FULL);
    CHECK_EQUAL(tail(), 1024);
    check_claim(320, SHMB_FULL);
    CHECK_EQUAL(tail(), 1024);
    take(576);
    check_empty();
    CHECK_EQUAL(head(), 1024);
    CHECK_EQUAL(send(320), 0);
    take(320);
}

static void padding_never_overwrites_unreleased_records(void) {
    send(512);
    send(448);
    take(512);
    send(64);
    send(256); /* at the beginning; the records from 512 on are in use */
    uint64_t before = tail();
    check_claim(320, SHMB_FULL);
    CHECK_EQUAL(tail(), before);
    take(448);
    take(64);
    take(256);
}

static void insufficient_space_after_the_wrap_is_full(void) {
    send(256);
    send(512);
    take(256);
    check_claim(512, SHMB_FULL);
    check_claim(512, SHMB_FULL);
    take(512);
    check_empty();
    CHECK_EQUAL(send(512), 0);
    take(512);
}

static void the_full_capacity_passes_from_any_offset(void) {
    for (uint64_t offset = 64; offset < CAPACITY; offset += 64) {
        send(offset);
        take(offset);
        check_claim(CAPACITY, SHMB_FULL);
        check_empty();
        CHECK_EQUAL(send(CAPACITY), 0);
        check_claim(64, SHMB_FULL);
        take(CAPACITY);
    }
}

static void an_empty_ring_restarts_at_its_beginning(void) {
    for (int i = 0; i < 10; i++) {
        CHECK_EQUAL(send(256), 0);
        take(256);
    }
    CHECK_EQUAL(head(), 9 * CAPACITY + 256);
}

static void a_full_ring_has_room_after_the_oldest_release(void) {
    for (int i = 0; i < 4; i++)
        send(256);
    check_claim(64, SHMB_FULL);
    shmb_record first = receive(256), second = receive(256);
    release(&second);
    check_claim(64, SHMB_FULL);
    release(&first);
    CHECK_EQUAL(send(512), 0);
    take(256);
    take(256);
    take(512);
    check_empty();
}

/* --- claims */

static void claims_arrive_in_the_order_of_claiming(void) {
    shmb_record claims[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(claim(&claims[i], 192), SHMB_OK);
    for (int i = 3; i > 0; i--) {
        commit(&claims[i]);
        check_empty();
    }
    commit(&claims[0]);
    for (int i = 0; i < 4; i++)
        take(192);
}

static void the_consumer_skips_aborted_claims(void) {
    shmb_record claims[3];
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(claim(&claims[i], 192), SHMB_OK);
    CHECK_EQUAL(shmb_ring_abort(producer, claims[1].position), SHMB_OK);
    CHECK_EQUAL(shmb_ring_abort(producer, claims[1].position), SHMB_BAD_SPAN);
    CHECK_EQUAL(shmb_ring_commit(producer, claims[1].position, 0, 0, 0), SHMB_BAD_SPAN);
    CHECK_EQUAL(shmb_ring_abort(producer, claims[0].position), SHMB_OK);
    commit(&claims[2]);
    expected_sequence = 2;
    take(192);
    CHECK_EQUAL(head(), tail());
}

static void an_anchored_claim_keeps_its_space(void) {
    shmb_record anchored;
    CHECK_EQUAL(claim(&anchored, 512), SHMB_OK);
    CHECK_EQUAL(shmb_ring_anchor(producer, anchored.position), SHMB_OK);
    CHECK_EQUAL(shmb_ring_anchor(producer, anchored.position), SHMB_OK);
    CHECK_EQUAL(shmb_ring_commit(producer, anchored.position, 0, 0, 0), SHMB_OK);
    take(512);
    send(512);
    take(512);
    check_claim(64, SHMB_HELD);
    shmb_ring_unanchor(producer, anchored.position);
    check_claim(64, SHMB_HELD);
    shmb_ring_unanchor(producer, anchored.position);
    CHECK_EQUAL(shmb_ring_anchor(producer, anchored.position + 64), SHMB_BAD_SPAN);
    CHECK_EQUAL(send(1024), 0);
    take(1024);
}

static void space_that_only_the_producer_can_free_is_held(void) {
    shmb_record open;
    send(256);
    send(128);
    CHECK_EQUAL(claim(&open, 256), SHMB_OK);
    check_claim(640, SHMB_FULL);
    take(256);
    take(128);
    check_claim(640, SHMB_HELD); /* the padding cannot be published before the open claim */
    commit(&open);
    check_claim(640, SHMB_FULL);
    take(256);
    check_empty();
    CHECK_EQUAL(send(640), 0);
    take(640);
}

static void padding_before_an_open_claim_is_sent_ahead_of_a_claim_without_room(void) {
    send(512);
    take(512);
    shmb_record first;
    CHECK_EQUAL(claim(&first, 128), SHMB_OK); /* restarts behind 512 bytes of padding */
    CHECK_EQUAL(offset_of(&first), 0);
    CHECK_EQUAL(tail(), 512);
    check_claim(512, SHMB_FULL);
    CHECK_EQUAL(tail(), 1024);
    check_empty();
    shmb_record second;
    CHECK_EQUAL(claim(&second, 512), SHMB_OK);
    commit(&second);
    commit(&first);
    take(128);
    take(512);
}

static void many_spans_stay_in_order(void) {
    close_ring();
    open_ring(64 * 500);
    shmb_record records[500];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 500; i++)
            CHECK_EQUAL(claim(&records[i], 64), SHMB_OK);
        for (int i = 499; i >= 0; i--)
            commit(&records[i]);
        for (int i = 0; i < 500; i++)
            records[i] = receive(64);
        for (int i = 0; i < 500; i++)
            release(&records[(i * 7) % 500]);
        CHECK_EQUAL(shmb_ring_used(consumer), 0);
        CHECK_EQUAL(head(), tail());
    }
}

static void spans_stay_in_order_while_their_queue_grows(void) {
    close_ring();
    open_ring(64 * 200);
    send(64);
    for (int i = 0; i < 11; i++) { /* moves the queue's start; the ring is never empty, so it does not restart */
        send(64);
        take(64);
    }
    shmb_record records[40];
    for (int i = 0; i < 40; i++)
        CHECK_EQUAL(claim(&records[i], 64), SHMB_OK);
    for (int i = 0; i < 40; i++)
        commit(&records[(i * 7) % 40]);
    take(64);
    for (int i = 0; i < 40; i++)
        records[i] = receive(64);
    for (int i = 0; i < 40; i++)
        release(&records[(i * 3) % 40]);
    CHECK_EQUAL(head(), tail());
    CHECK_EQUAL(shmb_ring_used(consumer), 0);
}

/* --- sizes */

static void invalid_sizes_are_too_large(void) {
    CHECK_EQUAL(shmb_record_size(SHMB_FLOAT32, 1, 16, 1), 192);
    CHECK_EQUAL(shmb_record_size(SHMB_FLOAT32, 1, 1, SHMB_NAME_MAX + 1), 0);
    CHECK_EQUAL(shmb_record_size(SHMB_FLOAT64, 1, 1, 0), 0);
    CHECK_EQUAL(shmb_record_size(SHMB_FLOAT32, UINT32_MAX, UINT32_MAX, 0), 0);
    CHECK_EQUAL(shmb_record_size(SHMB_FLOAT32, UINT64_MAX, UINT64_MAX, UINT64_MAX), 0);
    CHECK_EQUAL(shmb_record_size(SHMB_UINT8, (uint64_t)UINT32_MAX + 1, 1, 0), 0);
    check_claim(CAPACITY + 64, SHMB_TOO_LARGE);
    shmb_record record = {.kind = SHMB_POSTERIORS, .dtype = SHMB_FLOAT32, .rows = UINT32_MAX, .columns = UINT32_MAX};
    CHECK_EQUAL(shmb_ring_claim(producer, &record, ""), SHMB_TOO_LARGE);
    CHECK_EQUAL(tail(), 0);
}

/* --- a peer that writes invalid values */

static void check_corrupt(uint64_t value, uint64_t limit) {
    shmb_record record;
    uint64_t found_value, found_limit;
    CHECK_EQUAL(shmb_ring_receive(consumer, &record), SHMB_CORRUPT);
    CHECK(strlen(shmb_ring_problem(consumer, &found_value, &found_limit)) > 20);
    CHECK_EQUAL(found_value, value);
    CHECK_EQUAL(found_limit, limit);
    CHECK_EQUAL(head(), 0);
}

static void invalid_positions_are_corrupt(void) {
    const uint64_t tails[] = {1, 63, CAPACITY + 64, UINT64_MAX, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        reopen_ring();
        put_number(LINES, tails[i]);
        check_corrupt(tails[i], CAPACITY);
    }
    const uint64_t heads[] = {1, 64, 128, UINT64_MAX - 63, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        reopen_ring();
        put_number(HEAD, heads[i]);
        check_claim(64, SHMB_CORRUPT);
    }
}

static void a_tail_that_goes_backwards_is_corrupt(void) {
    shmb_record record;
    for (uint64_t backwards = 0; backwards < 256; backwards += 64) {
        reopen_ring();
        send(128);
        send(128);
        shmb_record held = receive(128);
        put_number(LINES, backwards);
        CHECK_EQUAL(shmb_ring_receive(consumer, &record), SHMB_CORRUPT);
        release(&held);
        CHECK_EQUAL(head(), 128);
    }
}

static void invalid_headers_are_corrupt(void) {
    const uint64_t sizes[] = {0, 1, 63, 65, 384, UINT64_MAX - 63};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        reopen_ring();
        send(320);
        put_number(RECORDS + 8, sizes[i]);
        check_corrupt(sizes[i], 320);
    }
    reopen_ring();
    send(320);
    put_number(RECORDS, 64);
    check_corrupt(64, 0);
}

static void a_corrupt_ring_stays_corrupt_after_the_peer_repairs_it(void) {
    shmb_record held, record, open;
    send(128);
    send(128);
    CHECK_EQUAL(claim(&open, 128), SHMB_OK);
    held = receive(128);
    put_number(LINES, 1);
    CHECK_EQUAL(shmb_ring_receive(consumer, &record), SHMB_CORRUPT);
    put_number(LINES, 256);
    CHECK_EQUAL(shmb_ring_receive(consumer, &record), SHMB_CORRUPT);
    release(&held);
    CHECK_EQUAL(shmb_ring_receive(consumer, &record), SHMB_CORRUPT);
    put_number(HEAD, 1);
    check_claim(64, SHMB_CORRUPT);
    put_number(HEAD, 128);
    check_claim(64, SHMB_CORRUPT);
    CHECK_EQUAL(shmb_ring_abort(producer, open.position), SHMB_OK);
}

static void random_headers_never_lead_to_a_record_outside_the_ring(void) {
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        close_ring();
        open_ring(CAPACITY);
        uint64_t words[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (int j = 0; j < 8; j++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            uint64_t dice = state >> 60;
            words[j] = dice < 4 ? state : dice < 8 ? state % 17 * 64 : (state % 6) << 32 | (state >> 32) % 6;
        }
        if (state % 2)
            words[0] = 0;
        memcpy(bytes_at(RECORDS), words, sizeof words);
        put_number(LINES, 64 * (state % 17));
        shmb_record record;
        while (shmb_ring_receive(consumer, &record) == SHMB_OK) {
            unsigned char *begin = record.matrix;
            uint64_t size = shmb_record_size(record.dtype, record.rows, record.columns, 0) - SHMB_HEADER_SIZE;
            CHECK(begin >= bytes_at(RECORDS) && size <= CAPACITY);
            CHECK((uint64_t)(begin - bytes_at(RECORDS)) + size <= CAPACITY);
        }
    }
}

/* --- others */

static void a_disowned_end_does_nothing(void) {
    shmb_record record, open;
    send(128);
    CHECK_EQUAL(claim(&open, 128), SHMB_OK);
    shmb_ring_disown(producer);
    shmb_ring_disown(consumer);
    check_claim(64, SHMB_DISOWNED);
    CHECK_EQUAL(shmb_ring_receive(consumer, &record), SHMB_DISOWNED);
    CHECK_EQUAL(shmb_ring_commit(producer, open.position, 0, 0, 0), SHMB_DISOWNED);
    CHECK_EQUAL(shmb_ring_abort(producer, open.position), SHMB_DISOWNED);
    shmb_ring_unanchor(producer, open.position);
    shmb_ring_release(consumer, 0);
    CHECK_EQUAL(tail(), 128);
    CHECK_EQUAL(head(), 0);
}

static void invalid_offsets_are_refused(void) {
    CHECK(shmb_ring_open(memory, LINES, RECORDS, 0, SHMB_PRODUCER, NULL) == NULL);
    CHECK(shmb_ring_open(memory, LINES, RECORDS, 100, SHMB_PRODUCER, NULL) == NULL);
    CHECK(shmb_ring_open(memory, LINES, RECORDS, CAPACITY + 64, SHMB_PRODUCER, NULL) == NULL);
    CHECK(shmb_ring_open(memory, LINES, UINT64_MAX - 63, 64, SHMB_PRODUCER, NULL) == NULL);
    CHECK(shmb_ring_open(memory, UINT64_MAX - 127, RECORDS, 64, SHMB_PRODUCER, NULL) == NULL);
    CHECK(shmb_ring_open(memory, LINES + 64, RECORDS, 64, SHMB_PRODUCER, NULL) == NULL);
    CHECK(shmb_ring_open(memory, LINES, RECORDS, 64, 3, NULL) == NULL);
    CHECK(shmb_doorbell_open(memory, RECORDS + CAPACITY, 1) == NULL);
    CHECK(shmb_doorbell_open(memory, 8, 1) == NULL);
}

static void a_doorbell_wakes_only_for_news_and_pokes(void) {
    CHECK_EQUAL(wait_for_news(consumer_bell, &consumer, 1, 0, 1000000), SHMB_TIMED_OUT);
    CHECK_EQUAL(wait_for_news(consumer_bell, &consumer, 1, 100000, 1000000), SHMB_TIMED_OUT);
    shmb_doorbell_poke(consumer_bell);
    CHECK_EQUAL(wait_for_news(consumer_bell, &consumer, 1, 0, -1), SHMB_OK);
    CHECK_EQUAL(wait_for_news(consumer_bell, &consumer, 1, 0, 0), SHMB_TIMED_OUT);
    send(64);
    CHECK_EQUAL(wait_for_news(consumer_bell, &consumer, 1, 0, -1), SHMB_OK);
    take(64);
    CHECK_EQUAL(wait_for_news(consumer_bell, &consumer, 1, 0, 0), SHMB_TIMED_OUT);
    for (int i = 0; i < 10000; i++)
        shmb_doorbell_poke(consumer_bell);
    int tokens = 0;
    while (shmb_doorbell_take_token(consumer_bell))
        tokens++;
    CHECK(tokens >= 1 && tokens <= 1024);
}

static void a_spin_of_any_length_is_bounded(void) {
    const int64_t lengths[] = {INT64_MAX, INT64_MAX / 2 + 1, INT64_MIN, -1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        CHECK_EQUAL(shmb_spin(consumer_bell, &consumer, 1, lengths[i]), SHMB_EMPTY);
        shmb_doorbell_poke(consumer_bell);
        CHECK_EQUAL(shmb_spin(consumer_bell, &consumer, 1, lengths[i]), SHMB_OK);
        shmb_waits *waits = shmb_doorbell_waits(consumer_bell);
        CHECK(waits->typical >= 0);
    }
}

/* A wait whose sleep ends right after its spin, as if the peer needed the core. */
static void wait_with_a_short_sleep(void) {
    CHECK_EQUAL(shmb_spin(consumer_bell, &consumer, 1, 0), SHMB_EMPTY); /* a real spin would note gaps of its own */
    shmb_doorbell_waits(consumer_bell)->spin_end = INT64_MAX / 2;
    shmb_doorbell_poke(consumer_bell);
    CHECK_EQUAL(shmb_sleep(consumer_bell, &consumer, 1, -1), SHMB_OK);
}

static void spins_pause_if_the_peer_needs_the_core(void) {
    shmb_waits *waits = shmb_doorbell_waits(consumer_bell);
    wait_with_a_short_sleep();
    CHECK(waits->pause_end > 0);
    int64_t first = waits->pause;
    waits->pause_end = INT64_MAX / 2;
    CHECK_EQUAL(shmb_spin(consumer_bell, &consumer, 1, 200000), SHMB_EMPTY);
    CHECK(waits->spin_end == 0); /* it did not spin */
    wait_with_a_short_sleep();
    CHECK(waits->pause == 2 * first);
    for (int i = 0; i < 20; i++)
        wait_with_a_short_sleep();
    CHECK(waits->pause == 1000000000);
    waits->pause_end = 0; /* long ago */
    wait_with_a_short_sleep();
    CHECK(waits->pause == first);
}

static void ringing_without_a_waiter_leaves_no_token(void) {
    for (int i = 0; i < 1000; i++)
        shmb_doorbell_ring(consumer_bell, SHMB_PRODUCER);
    CHECK(!shmb_doorbell_take_token(consumer_bell));
    shmb_doorbell_announce(consumer_bell, 1);
    for (int i = 0; i < 1000; i++)
        shmb_doorbell_ring(consumer_bell, SHMB_PRODUCER);
    CHECK(shmb_doorbell_take_token(consumer_bell));
    CHECK(!shmb_doorbell_take_token(consumer_bell));
}

static void the_copy_converts_and_finds_the_first_invalid_value(void) {
    enum { ROWS = 7, COLUMNS = 3001 };
    static float source[ROWS * COLUMNS + 1], target[ROWS * COLUMNS];
    static double doubles[ROWS * COLUMNS];
    for (int nan = -1; nan < ROWS * COLUMNS; nan += 1 + nan / 7 + (nan > 0)) {
        for (int i = 0; i < ROWS * COLUMNS; i++)
            doubles[i] = source[i] = i == nan ? NAN : (float)-i;
        CHECK(shmb_find_invalid(source, ROWS * COLUMNS, SHMB_CHECK_NAN) == nan);
        CHECK(shmb_find_invalid(source, ROWS * COLUMNS, SHMB_CHECK_NAN_INF) == nan);
        CHECK(shmb_copy(target, COLUMNS * 4, source, SHMB_FLOAT32, ROWS, COLUMNS, COLUMNS * 4, 4, SHMB_CHECK_NAN, 0) == nan);
        CHECK(nan >= 0 || memcmp(source, target, sizeof target) == 0);
        memset(target, 0, sizeof target);
        CHECK(shmb_copy(target, COLUMNS * 4, doubles, SHMB_FLOAT64, ROWS, COLUMNS, COLUMNS * 8, 8, SHMB_CHECK_NAN, 0) == nan);
        CHECK(nan >= 0 || memcmp(source, target, sizeof target) == 0);
    }
    /* one byte off, transposed, and backwards */
    unsigned char *odd = (unsigned char *)source + 1;
    for (int i = 0; i < 6; i++)
        memcpy(odd + 4 * i, &(float){(float)i}, 4);
    CHECK(shmb_copy(target, 8, odd, SHMB_FLOAT32, 3, 2, 4, 12, SHMB_CHECK_NAN, 0) == -1);
    CHECK(target[0] == 0 && target[1] == 3 && target[2] == 1 && target[5] == 5);
    CHECK(shmb_copy(target, 12, odd + 20, SHMB_FLOAT32, 2, 3, -12, -4, SHMB_CHECK_NAN, 0) == -1);
    CHECK(target[0] == 5 && target[5] == 0);
    CHECK(shmb_copy(target, 20, odd, SHMB_FLOAT32, 0, 5, 20, 4, SHMB_CHECK_NAN, 0) == -1);
    /* without a check, NaN is copied like any value */
    doubles[0] = NAN, doubles[1] = 2, doubles[2] = 3;
    CHECK(shmb_copy(target, 4, doubles, SHMB_FLOAT64, 3, 1, 8, 8, SHMB_CHECK_NOTHING, 0) == -1);
    CHECK(isnan(target[0]) && target[1] == 2 && target[2] == 3);
}

static void the_check_distinguishes_infinities_from_large_numbers(void) {
    enum { COUNT = 9001 };
    static float values[COUNT];
    for (int i = 0; i < COUNT; i++)
        values[i] = i % 3 == 0 ? FLT_MAX : i % 3 == 1 ? -INFINITY : -FLT_MAX;
    CHECK(shmb_find_invalid(values, COUNT, SHMB_CHECK_NAN_INF) == -1);
    for (int i = 0; i < COUNT; i += 1 + i / 5) {
        float before = values[i];
        values[i] = INFINITY;
        CHECK(shmb_find_invalid(values, COUNT, SHMB_CHECK_NAN_INF) == i);
        CHECK(shmb_find_invalid(values, COUNT, SHMB_CHECK_NAN) == -1);
        values[i] = NAN;
        CHECK(shmb_find_invalid(values, COUNT, SHMB_CHECK_NAN_INF) == i);
        CHECK(shmb_find_invalid(values, COUNT, SHMB_CHECK_NAN) == i);
        values[i] = before;
    }
}

static void the_sum_of_exponentials_is_accurate_and_limited(void) {
    float values[200];
    for (int count = 0; count <= 200; count++) {
        double sum = 0;
        for (int i = 0; i < count; i++)
            sum += exp(values[i] = (float)((i * 37) % 100) / 4 - 20);
        float found = shmb_sum_of_exponentials(values, (uint64_t)count);
        CHECK(fabs(found - sum) <= 0.004 * sum);
    }
    const float extremes[] = {-INFINITY, -1e30f, -88, 88, 1e30f, FLT_MAX, INFINITY};
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) {
        float found = shmb_sum_of_exponentials(extremes + i, 1);
        CHECK(extremes[i] < 0 ? found >= 0 && found < 1e-30f : found > 1e30f);
    }
}

int main(void) {
    void (*const tests[])(void) = {
        a_record_that_ends_exactly_at_the_end_needs_no_padding,
        a_record_64_bytes_too_long_wraps_behind_padding,
        padding_is_sent_ahead_of_a_record_that_must_wait,
        padding_never_overwrites_unreleased_records,
        insufficient_space_after_the_wrap_is_full,
        the_full_capacity_passes_from_any_offset,
        an_empty_ring_restarts_at_its_beginning,
        a_full_ring_has_room_after_the_oldest_release,
        claims_arrive_in_the_order_of_claiming,
        the_consumer_skips_aborted_claims,
        an_anchored_claim_keeps_its_space,
        space_that_only_the_producer_can_free_is_held,
        padding_before_an_open_claim_is_sent_ahead_of_a_claim_without_room,
        many_spans_stay_in_order,
        spans_stay_in_order_while_their_queue_grows,
        invalid_sizes_are_too_large,
        invalid_positions_are_corrupt,
        a_tail_that_goes_backwards_is_corrupt,
        invalid_headers_are_corrupt,
        a_corrupt_ring_stays_corrupt_after_the_peer_repairs_it,
        random_headers_never_lead_to_a_record_outside_the_ring,
        a_disowned_end_does_nothing,
        invalid_offsets_are_refused,
        a_doorbell_wakes_only_for_news_and_pokes,
        a_spin_of_any_length_is_bounded,
        spins_pause_if_the_peer_needs_the_core,
        ringing_without_a_waiter_leaves_no_token,
        the_copy_converts_and_finds_the_first_invalid_value,
        the_check_distinguishes_infinities_from_large_numbers,
        the_sum_of_exponentials_is_accurate_and_limited,
    };
    size_t n_tests = sizeof tests / sizeof *tests;
    for (size_t i = 0; i < n_tests; i++) {
        open_ring(CAPACITY);
        tests[i]();
        close_ring();
    }
    printf("%zu tests passed\n", n_tests);
    return 0;
}
