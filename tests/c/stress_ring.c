/* Two ends under load, with random sizes and sleeps. Checks every byte and every sequence number.
 *
 *   stress_ring COUNT [threads|processes] [CAPACITY] [SEED]
 *
 * The producer keeps some claims open, commits them out of order and aborts some; the consumer keeps some
 * records and releases them out of order. "processes" forks, and each process has one end. "threads" does the
 * same in one process, for ThreadSanitizer. A sleep of 20 seconds counts as a lost wake-up.
 */
#define _GNU_SOURCE
#include "place.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

enum { MAX_OPEN = 4, MAX_HELD = 6 };

static uint64_t count, capacity, seed;
static shmb_memory *memory;
static shmb_doorbell *consumer_bell, *producer_bell;
static shmb_ring_end *producer, *consumer;

/* splitmix64 */
static uint64_t mix(uint64_t value) {
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

static uint64_t next_random(uint64_t *state) { return mix(++*state); }

/* Both ends derive the properties of a record from its sequence number. */
static uint32_t columns_of(uint64_t sequence) {
    uint64_t random = mix(seed ^ sequence);
    uint64_t max_columns = capacity - SHMB_HEADER_SIZE - 64; /* leaves room for a name of up to 64 bytes */
    if (random % 64 == 0)
        return (uint32_t)((random >> 8) % (max_columns + 1));
    return (uint32_t)((random >> 8) % (max_columns / 8 + 1));
}

static uint32_t name_length_of(uint64_t sequence) { return (uint32_t)(mix(seed ^ ~sequence) % 65); }
static int is_aborted(uint64_t sequence) { return mix(seed + sequence) % 32 == 0; }

/* Write a pattern that depends on the sequence number, eight bytes at a time. */
static void fill(unsigned char *to, uint64_t length, uint64_t sequence) {
    uint64_t word = mix(sequence), i = 0;
    for (; i + 8 <= length; i += 8, word += 0x0101010101010101u)
        memcpy(to + i, &word, 8);
    for (; i < length; i++)
        to[i] = (unsigned char)(word + i);
}

static int is_filled(const unsigned char *from, uint64_t length, uint64_t sequence) {
    uint64_t word = mix(sequence), i = 0, found, difference = 0;
    for (; i + 8 <= length; i += 8, word += 0x0101010101010101u) {
        memcpy(&found, from + i, 8);
        difference |= found ^ word;
    }
    for (; i < length; i++)
        difference |= from[i] ^ (unsigned char)(word + i);
    return difference == 0;
}

static void wait_for(const char *what, shmb_doorbell *bell, shmb_ring_end *end, uint64_t *random) {
    /* Mostly without spinning, because sleeps are harder to get right. */
    int64_t spin_ns = next_random(random) % 4 == 0 ? 5000 : 0;
    int result = wait_for_news(bell, &end, 1, spin_ns, 20000000000);
    if (result == SHMB_TIMED_OUT) {
        fprintf(stderr, "a wake-up was lost: waited for %s\n", what);
        exit(1);
    }
    CHECK(result == SHMB_OK || result == SHMB_INTERRUPTED);
}

static void finish(const shmb_record *claim) {
    if (is_aborted(claim->sequence))
        CHECK_EQUAL(shmb_ring_abort(producer, claim->position), SHMB_OK);
    else
        CHECK_EQUAL(shmb_ring_commit(producer, claim->position, claim->sequence % 3, (double)claim->sequence,
                                     ~claim->sequence),
                    SHMB_OK);
}

static void *produce(void *unused) {
    shmb_record open[MAX_OPEN];
    unsigned char name[64];
    size_t n_open = 0;
    uint64_t random = seed + 1, n_waits = 0;
    for (uint64_t sequence = 0; sequence < count;) {
        shmb_record record = {.kind = SHMB_POSTERIORS + sequence % 4, .dtype = SHMB_UINT8, .rows = 1};
        record.sequence = sequence;
        record.columns = columns_of(sequence);
        record.name_length = name_length_of(sequence);
        fill(name, record.name_length, ~sequence);
        int result = n_open < MAX_OPEN ? shmb_ring_claim(producer, &record, (char *)name) : SHMB_HELD;
        if (result == SHMB_OK) {
            fill(record.matrix, record.columns, sequence);
            open[n_open++] = record;
            sequence++;
        } else if (result == SHMB_FULL) {
            n_waits++;
            wait_for("room", producer_bell, producer, &random);
        } else {
            CHECK_EQUAL(result, SHMB_HELD);
            CHECK(n_open > 0);
        }
        /* A held ring has room only after the oldest claim is sent: finish all. */
        int all = result == SHMB_HELD;
        while (n_open > 0 && (all || next_random(&random) % 2)) {
            size_t which = next_random(&random) % n_open;
            finish(&open[which]);
            open[which] = open[--n_open];
        }
    }
    while (n_open > 0)
        finish(&open[--n_open]);
    fprintf(stderr, "producer: %llu waits\n", (unsigned long long)n_waits);
    return unused;
}

static void check(const shmb_record *record) {
    uint64_t sequence = record->sequence;
    CHECK_EQUAL(record->kind, SHMB_POSTERIORS + sequence % 4);
    CHECK_EQUAL(record->status, sequence % 3);
    CHECK(record->loss == (double)sequence);
    CHECK_EQUAL(record->states, ~sequence);
    CHECK_EQUAL(record->rows, 1);
    CHECK_EQUAL(record->columns, columns_of(sequence));
    CHECK_EQUAL(record->name_length, name_length_of(sequence));
    CHECK(is_filled((unsigned char *)record->name, record->name_length, ~sequence));
    CHECK(is_filled(record->matrix, record->columns, sequence));
}

static void *consume(void *unused) {
    shmb_record held[MAX_HELD];
    size_t n_held = 0;
    uint64_t random = seed + 2, n_waits = 0, expected = 0;
    for (;;) {
        while (expected < count && is_aborted(expected))
            expected++;
        if (expected == count)
            break;
        shmb_record record;
        int result = shmb_ring_receive(consumer, &record);
        if (result == SHMB_OK) {
            CHECK_EQUAL(record.sequence, expected);
            expected++;
            check(&record);
            held[n_held++] = record;
        } else if (result == SHMB_CORRUPT) {
            uint64_t value, limit;
            const char *problem = shmb_ring_problem(consumer, &value, &limit);
            fprintf(stderr, "%s (%llu, %llu)\n", problem, (unsigned long long)value, (unsigned long long)limit);
            exit(1);
        } else {
            CHECK_EQUAL(result, SHMB_EMPTY);
        }
        int all = result == SHMB_EMPTY;
        while (n_held > 0 && (all || n_held == MAX_HELD || next_random(&random) % 2)) {
            size_t which = next_random(&random) % n_held;
            check(&held[which]); /* not overwritten meanwhile */
            shmb_ring_release(consumer, held[which].position);
            held[which] = held[--n_held];
        }
        if (result == SHMB_EMPTY) {
            n_waits++;
            wait_for("a record", consumer_bell, consumer, &random);
        }
    }
    while (n_held > 0) {
        n_held--;
        shmb_ring_release(consumer, held[n_held].position);
    }
    fprintf(stderr, "consumer: %llu waits\n", (unsigned long long)n_waits);
    return unused;
}

int main(int n_arguments, char **arguments) {
    count = n_arguments > 1 ? strtoull(arguments[1], NULL, 0) : 1000000;
    int threads = n_arguments > 2 && strcmp(arguments[2], "threads") == 0;
    capacity = n_arguments > 3 ? strtoull(arguments[3], NULL, 0) : 8192;
    seed = n_arguments > 4 ? strtoull(arguments[4], NULL, 0) : 1;
    memory = create_memory(capacity);
    consumer_bell = shmb_doorbell_open(memory, CONSUMER_BELL, 1);
    producer_bell = shmb_doorbell_open(memory, PRODUCER_BELL, 1);
    producer = shmb_ring_open(memory, LINES, RECORDS, capacity, SHMB_PRODUCER, consumer_bell);
    consumer = shmb_ring_open(memory, LINES, RECORDS, capacity, SHMB_CONSUMER, producer_bell);
    CHECK(producer != NULL && consumer != NULL);
    int failed = 0;
    if (threads) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, consume, NULL) == 0);
        produce(NULL);
        CHECK(pthread_join(thread, NULL) == 0);
    } else {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            consume(NULL);
            exit(0);
        }
        produce(NULL);
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    shmb_ring_free(producer);
    shmb_ring_free(consumer);
    shmb_doorbell_free(consumer_bell);
    shmb_doorbell_free(producer_bell);
    shmb_memory_free(memory);
    if (!failed)
        printf("%llu records passed\n", (unsigned long long)count);
    return failed;
}
