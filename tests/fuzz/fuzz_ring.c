/* Fuzz target: both ends of one ring, driven by the input, with an honest or a hostile peer.
 *
 * Input: byte 0, bit 0: whether the peer is hostile; byte 1: capacity; then calls (see `one_call`). If bit 7 of a
 * call's first byte is set, the peer interrupts the call: it acts after a given number of accesses to shared memory.
 * So the input alone determines every race.
 *
 * An honest peer is the other end, called correctly: no call may return SHMB_CORRUPT, and every record must arrive
 * whole and in order. A hostile peer writes bytes of the input to any shared location. All shared memory except
 * doorbells, lines and records is poisoned, so that ASan detects accesses to it.
 */
#define _GNU_SOURCE
#include "input.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Called at each access of the tested code to shared memory: the peer may act. */
static void touch(const volatile void *address);
#undef atomic_load_explicit
#undef atomic_store_explicit
#define atomic_load_explicit(pointer, order) (touch(pointer), *(pointer))
#define atomic_store_explicit(pointer, value, order) \
    do {                                             \
        *(pointer) = (value);                        \
        touch(pointer);                              \
    } while (0)
#define memcpy(to, from, size) (touch(to), touch(from), memcpy(to, from, size), touch(to), touch(from))
#define syscall(...) (touch(NULL), syscall(__VA_ARGS__))

#include "../../csrc/doorbell.c"
#include "../../csrc/memory.c"
#include "../../csrc/ring.c"
#include "../../csrc/wait.c"

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef memcpy
#undef syscall

enum {
    CONSUMER_BELL = 0,
    PRODUCER_BELL = 1024,
    LINES = 4096,
    HEAD = LINES + SHMB_HEAD_OFFSET,
    RECORDS = 8192,
    CAPACITY_MAX = 128 * 64,
    SIZE = RECORDS + CAPACITY_MAX + 4096,
    BLOCKS = CAPACITY_MAX / 64,
    CLAIMS = 4 * BLOCKS, /* the maximum per run */
    CALLS = 400,         /* the maximum per run */
};

/* The uses of a block of 64 bytes. */
enum { WRITING = 1, IN_FLIGHT = 2, READING = 4 };

typedef struct {
    shmb_record record;
    uint64_t size;
    uint32_t status;
    double loss;
    uint32_t anchors;
    enum { OPEN, COMMITTED, ABORTED } state;
} sent_record;

typedef struct {
    shmb_record record;
    uint64_t size;
    size_t claim; /* its index, if the peer is honest */
} held_record;

static struct {
    fuzz_input input;
    int hostile;
    uint64_t capacity;
    shmb_memory *memory;
    unsigned char *bytes;
    shmb_doorbell *consumer_bell, *producer_bell;
    shmb_ring_end *producer, *consumer;
    sent_record claims[CLAIMS];
    size_t n_claims, first_in_flight; /* the latter is the index of the next record to receive */
    held_record held[BLOCKS];
    size_t n_held;
    unsigned char blocks[BLOCKS];
    int producer_corrupt, consumer_corrupt;
    /* the interruption of the current call */
    int busy; /* the roles that are in a call; the other role interrupts */
    int armed, countdown, interrupted;
    uint64_t touches, touches_max;
} run_state;

#define S run_state

static uint64_t number_at(uint64_t offset) {
    uint64_t number;
    memcpy(&number, S.bytes + offset, sizeof number);
    return number;
}

static void put(uint64_t offset, uint64_t number, size_t size) { memcpy(S.bytes + offset, &number, size); }

/* --- the blocks in use */

static uint64_t offset_of(const shmb_record *record) {
    return (uint64_t)((unsigned char *)record->name - SHMB_HEADER_SIZE - (S.bytes + RECORDS));
}

/* Check that the record and its parts lie in the ring. Returns its size. */
static uint64_t check_pointers(const shmb_record *record) {
    uint64_t size = shmb_record_size(record->dtype, record->rows, record->columns, record->name_length);
    uint64_t offset = offset_of(record);
    MUST(size >= SHMB_HEADER_SIZE && size <= S.capacity);
    MUST(offset % SHMB_ALIGNMENT == 0 && offset <= S.capacity && size <= S.capacity - offset);
    MUST(offset == record->position % S.capacity);
    uint64_t before = (uint64_t)((char *)record->matrix - record->name);
    MUST(record->name_length <= before && before < record->name_length + SHMB_ALIGNMENT);
    uint64_t item = record->dtype == SHMB_UINT8 ? 1 : 4;
    MUST(record->rows == 0 ||
         record->columns <= (size - SHMB_HEADER_SIZE - before) / item / record->rows);
    return size;
}

static void set_blocks(const shmb_record *record, uint64_t size, int free_of, int set_to, int clear) {
    uint64_t first = offset_of(record) / 64;
    for (uint64_t i = first; i < first + size / 64; i++) {
        MUST((S.blocks[i] & free_of) == 0);
        S.blocks[i] = (unsigned char)((S.blocks[i] | set_to) & ~clear);
    }
}

/* --- content: a function of the record's sequence number */

static uint64_t matrix_size(const shmb_record *record) {
    return (uint64_t)record->rows * record->columns * (record->dtype == SHMB_UINT8 ? 1 : 4);
}

static void check_content(const shmb_record *record, uint64_t sequence) {
    const unsigned char *matrix = record->matrix;
    for (uint64_t i = 0; i < record->name_length; i++)
        MUST(record->name[i] == (char)(sequence + i));
    for (uint64_t i = 0; i < matrix_size(record); i++)
        MUST(matrix[i] == (unsigned char)(sequence * 7 + i));
}

static void read_all(const shmb_record *record) {
    volatile unsigned char sink = 0;
    for (uint64_t i = 0; i < record->name_length; i++)
        sink ^= (unsigned char)record->name[i];
    for (uint64_t i = 0; i < matrix_size(record); i++)
        sink ^= ((unsigned char *)record->matrix)[i];
    (void)sink;
}

/* --- calls of both ends */

static void begin_call(int role) {
    S.busy |= role;
    S.touches = 0;
}

static void end_call(int role) { S.busy &= ~role; }

static sent_record *pick_claim(void) {
    size_t index = read_byte(&S.input);
    return S.n_claims == 0 ? NULL : &S.claims[S.n_claims - 1 - index % S.n_claims];
}

static void call_claim(void) {
    if (S.n_claims == CLAIMS)
        return;
    static char name[SHMB_NAME_MAX];
    uint8_t op = read_byte(&S.input);
    sent_record *sent = &S.claims[S.n_claims];
    *sent = (sent_record){.record = {.sequence = S.n_claims,
                                     .kind = SHMB_POSTERIORS + op % 4,
                                     .dtype = op / 4 % 8 == 7 ? SHMB_FLOAT64 : SHMB_FLOAT32 + op / 4 % 3,
                                     .rows = (uint32_t)read_number(&S.input),
                                     .columns = (uint32_t)read_number(&S.input)}};
    shmb_record *record = &sent->record;
    if (op & 128)
        record->name_length = (uint32_t)read_number(&S.input);
    for (uint64_t i = 0; i < record->name_length && i < sizeof name; i++)
        name[i] = (char)(record->sequence + i);
    uint64_t size = shmb_record_size(record->dtype, record->rows, record->columns, record->name_length);
    int was_corrupt = S.producer_corrupt;
    begin_call(SHMB_PRODUCER);
    int result = shmb_ring_claim(S.producer, record, name);
    end_call(SHMB_PRODUCER);

    MUST((result == SHMB_TOO_LARGE) == (size == 0 || size > S.capacity));
    if (result == SHMB_TOO_LARGE)
        return;
    MUST(result == SHMB_OK || result == SHMB_FULL || result == SHMB_HELD || result == SHMB_CORRUPT);
    if (result == SHMB_CORRUPT) {
        MUST(S.hostile);
        S.producer_corrupt = 1;
        return;
    }
    MUST(!was_corrupt);
    if (result == SHMB_OK) {
        MUST(check_pointers(record) == size);
        sent->size = size;
        set_blocks(record, size, S.hostile ? WRITING : WRITING | IN_FLIGHT | READING, WRITING, 0);
        for (uint64_t i = 0; i < matrix_size(record); i++)
            ((unsigned char *)record->matrix)[i] = (unsigned char)(record->sequence * 7 + i);
        S.n_claims++;
    } else if (!S.hostile && !S.interrupted) {
        int kept = 0; /* whether the producer itself keeps space */
        for (size_t i = 0; i < S.n_claims; i++)
            kept |= S.claims[i].state == OPEN || S.claims[i].anchors > 0;
        MUST((result == SHMB_HELD) == (number_at(LINES) == number_at(HEAD)));
        MUST(result == SHMB_FULL || kept);
    }
}

static void finish_claim(sent_record *sent, int commit) {
    /* Updated before the call, because an interrupting consumer may receive the record during it. */
    int was_open = sent->state == OPEN;
    if (was_open) {
        sent->state = commit ? COMMITTED : ABORTED;
        set_blocks(&sent->record, sent->size, 0, commit && !S.hostile ? IN_FLIGHT : 0,
                   sent->anchors == 0 ? WRITING : 0);
        sent->status = read_byte(&S.input) % 3;
        sent->loss = (double)read_byte(&S.input);
    }
    begin_call(SHMB_PRODUCER);
    int result = commit ? shmb_ring_commit(S.producer, sent->record.position, sent->status, sent->loss, 7)
                        : shmb_ring_abort(S.producer, sent->record.position);
    end_call(SHMB_PRODUCER);
    MUST(result == (was_open ? SHMB_OK : SHMB_BAD_SPAN));
}

static void call_anchor(sent_record *sent) {
    begin_call(SHMB_PRODUCER);
    int result = shmb_ring_anchor(S.producer, sent->record.position);
    end_call(SHMB_PRODUCER);
    MUST(result == (sent->state == OPEN ? SHMB_OK : SHMB_BAD_SPAN));
    if (result == SHMB_OK) {
        sent->anchors++;
        set_blocks(&sent->record, sent->size, 0, WRITING, 0);
    }
}

static void call_unanchor(sent_record *sent) {
    if (sent->anchors > 0) {
        if (sent->state != ABORTED && !S.hostile) /* an abort overwrites only the header */
            check_content(&sent->record, sent->record.sequence);
        sent->anchors--;
        if (sent->anchors == 0 && sent->state != OPEN)
            set_blocks(&sent->record, sent->size, 0, 0, WRITING);
    }
    begin_call(SHMB_PRODUCER);
    shmb_ring_unanchor(S.producer, sent->record.position);
    end_call(SHMB_PRODUCER);
}

static int next_in_flight(void) {
    while (S.first_in_flight < S.n_claims && S.claims[S.first_in_flight].state == ABORTED)
        S.first_in_flight++;
    return S.first_in_flight < S.n_claims && S.claims[S.first_in_flight].state == COMMITTED;
}

static int call_receive(void) {
    if (S.n_held == BLOCKS)
        return SHMB_EMPTY;
    int expected = next_in_flight(), was_corrupt = S.consumer_corrupt;
    shmb_record record = {0};
    begin_call(SHMB_CONSUMER);
    int result = shmb_ring_receive(S.consumer, &record);
    end_call(SHMB_CONSUMER);

    MUST(result == SHMB_OK || result == SHMB_EMPTY || result == SHMB_CORRUPT);
    if (result == SHMB_CORRUPT) {
        uint64_t value, limit;
        MUST(S.hostile);
        MUST(strlen(shmb_ring_problem(S.consumer, &value, &limit)) > 20);
        S.consumer_corrupt = 1;
        return result;
    }
    MUST(!was_corrupt);
    MUST(S.hostile || S.interrupted || (result == SHMB_OK) == expected);
    if (result != SHMB_OK)
        return result;
    held_record *held = &S.held[S.n_held++];
    *held = (held_record){.record = record, .size = check_pointers(&record)};
    MUST(held->size == get(&S.consumer->next) - record.position);
    set_blocks(&record, held->size, READING, READING, S.hostile ? 0 : IN_FLIGHT);
    read_all(&record);
    if (!S.hostile) {
        MUST(next_in_flight());
        const sent_record *sent = &S.claims[S.first_in_flight];
        held->claim = S.first_in_flight++;
        MUST(record.position == sent->record.position && record.matrix == sent->record.matrix);
        MUST(record.sequence == sent->record.sequence && record.kind == sent->record.kind);
        MUST(record.dtype == sent->record.dtype && record.rows == sent->record.rows);
        MUST(record.columns == sent->record.columns && record.name_length == sent->record.name_length);
        MUST(record.status == sent->status && record.loss == sent->loss && record.states == 7);
        check_content(&record, record.sequence);
    }
    return result;
}

static void call_release(size_t index) {
    if (S.n_held == 0)
        return;
    index %= S.n_held;
    held_record held = S.held[index];
    S.held[index] = S.held[--S.n_held];
    read_all(&held.record);
    if (!S.hostile)
        check_content(&held.record, held.record.sequence);
    set_blocks(&held.record, held.size, 0, 0, READING);
    begin_call(SHMB_CONSUMER);
    shmb_ring_release(S.consumer, held.record.position);
    end_call(SHMB_CONSUMER);
}

static void call_with_wild_position(void) {
    uint64_t position = read_number(&S.input) * (read_byte(&S.input) % 2 ? 64 : 1);
    for (size_t i = 0; i < S.n_held; i++)
        if (S.held[i].record.position == position)
            return; /* a regular release */
    for (size_t i = 0; i < S.n_claims; i++)
        if (S.claims[i].record.position == position)
            return;
    MUST(shmb_ring_commit(S.producer, position, 0, 0, 0) == SHMB_BAD_SPAN);
    MUST(shmb_ring_abort(S.producer, position) == SHMB_BAD_SPAN);
    shmb_ring_unanchor(S.producer, position);
    shmb_ring_release(S.producer, position);
    shmb_ring_release(S.consumer, position);
}

static void call_wait(void) {
    uint8_t op = read_byte(&S.input);
    int64_t duration = (int64_t)read_number(&S.input);
    shmb_doorbell *bell = op & 1 ? S.consumer_bell : S.producer_bell;
    shmb_ring_end *ends[] = {S.consumer, S.producer};
    size_t n_ends = op / 2 % 3;
    int result;
    begin_call(SHMB_PRODUCER | SHMB_CONSUMER);
    S.touches_max = UINT64_MAX; /* bounded by time */
    if (op & 8) {
        int wakes = n_ends > 0 && any_news(ends, n_ends);
        wakes |= number_at(op & 1 ? CONSUMER_BELL : PRODUCER_BELL) % ((uint64_t)1 << 32) != 0;
        /* Without a bound only if something must wake it, which a hostile peer could revert. */
        int must_wake = wakes && !S.hostile && !S.armed;
        int64_t timeout = must_wake ? duration : duration % 1000 < 0 ? 0 : duration % 1000;
        do
            result = shmb_sleep(bell, ends, n_ends, timeout);
        while (result == SHMB_INTERRUPTED); /* libFuzzer has a timer */
        MUST(result == SHMB_OK || result == SHMB_TIMED_OUT);
        MUST(!must_wake || result == SHMB_OK);
    } else {
        result = shmb_spin(bell, ends, n_ends, duration);
        MUST(result == SHMB_OK || result == SHMB_EMPTY);
    }
    S.touches_max = 16 * BLOCKS + 100;
    end_call(SHMB_PRODUCER | SHMB_CONSUMER);
}

static void call_doorbell(void) {
    uint8_t op = read_byte(&S.input);
    shmb_doorbell *bell = op & 1 ? S.consumer_bell : S.producer_bell;
    begin_call(SHMB_PRODUCER | SHMB_CONSUMER);
    switch (op / 2 % 4) {
    case 0: shmb_doorbell_ring(bell, op & 8 ? SHMB_PRODUCER : SHMB_CONSUMER); break;
    case 1: shmb_doorbell_poke(bell); break;
    case 2: shmb_doorbell_announce(bell, op / 8 % 4); break;
    default: shmb_doorbell_take_token(bell);
    }
    end_call(SHMB_PRODUCER | SHMB_CONSUMER);
}

static void call_with_wild_offsets(void) {
    uint64_t offset = read_number(&S.input), length = read_number(&S.input), data = read_number(&S.input);
    if (read_byte(&S.input) % 2) {
        offset *= 64;
        data *= 64;
        length *= 64;
    }
    void *found = shmb_memory_at(S.memory, offset, length);
    int is_inside = (unsigned __int128)offset + length <= SIZE;
    MUST(is_inside ? found == S.bytes + offset : found == NULL);
    shmb_doorbell_free(shmb_doorbell_open(S.memory, offset, 0));
    shmb_ring_end *end = shmb_ring_open(S.memory, offset, data, length, SHMB_CONSUMER, S.producer_bell);
    MUST(end == NULL || ((unsigned __int128)data + length <= SIZE && offset <= SIZE - 256));
    shmb_ring_free(end);
    uint32_t dtype = SHMB_FLOAT32 + (uint32_t)(data % 3);
    uint64_t size = shmb_record_size(dtype, offset, length, data);
    if (size != 0) {
        unsigned __int128 matrix = (unsigned __int128)offset * length * (dtype == SHMB_UINT8 ? 1 : 4);
        MUST(size == 64 + (matrix + 63) / 64 * 64 + (data + 63) / 64 * 64);
    }
}

static void check_figures(void) {
    uint64_t used[] = {shmb_ring_used(S.producer), shmb_ring_used(S.consumer)};
    for (int i = 0; i < 2; i++)
        MUST(used[i] % 64 == 0 && used[i] <= S.capacity);
    uint64_t released = shmb_ring_released(S.producer);
    MUST(released % 64 == 0 && released <= get(&S.producer->published));
    MUST(S.hostile || (released <= shmb_ring_released(S.consumer) && number_at(HEAD) <= number_at(LINES)));
}

/* --- the hostile peer */

static const struct {
    size_t offset, size;
} fields[] = {
    {offsetof(shmb_record_header, position), 8}, {offsetof(shmb_record_header, size), 8},
    {offsetof(shmb_record_header, sequence), 8}, {offsetof(shmb_record_header, loss), 8},
    {offsetof(shmb_record_header, kind), 4},     {offsetof(shmb_record_header, status), 4},
    {offsetof(shmb_record_header, dtype), 4},    {offsetof(shmb_record_header, name_length), 4},
    {offsetof(shmb_record_header, rows), 4},     {offsetof(shmb_record_header, columns), 4},
};

/* Write a valid header at the producer's tail, but possibly change one field. */
static void send_forged_record(uint8_t op) {
    uint64_t tail = number_at(LINES), at = RECORDS + tail % S.capacity;
    if (tail % 64 != 0)
        return;
    shmb_record_header header = {.position = tail,
                            .size = 64,
                            .kind = op & 32 ? SHMB_PADDING : SHMB_POSTERIORS,
                            .dtype = SHMB_FLOAT32 + op / 8 % 3};
    header.rows = (uint32_t)read_number(&S.input);
    header.columns = (uint32_t)read_number(&S.input);
    if (op & 64)
        header.name_length = (uint32_t)read_number(&S.input);
    header.size = shmb_record_size(header.dtype, header.rows, header.columns, header.name_length);
    if (op & 128) {
        uint8_t field = read_byte(&S.input) % (sizeof fields / sizeof *fields);
        uint64_t number = read_number(&S.input);
        memcpy((char *)&header + fields[field].offset, &number, fields[field].size);
    }
    memcpy(S.bytes + at, &header, sizeof header);
    uint64_t to_end = S.capacity - tail % S.capacity;
    put(LINES, tail + (header.size < to_end ? header.size : to_end), 8);
}

static void be_hostile(void) {
    uint8_t op = read_byte(&S.input);
    int8_t steps;
    switch (op % 8) {
    case 0:
    case 1:
        steps = (int8_t)read_byte(&S.input);
        put(op % 8 ? HEAD : LINES, number_at(op % 8 ? HEAD : LINES) + 64 * (uint64_t)(int64_t)steps, 8);
        break;
    case 2: put(op & 8 ? HEAD : LINES, read_number(&S.input), 8); break;
    case 3:
    case 4: send_forged_record(op); break;
    case 5: {
        /* often the header that the consumer reads now or next */
        uint64_t block = op & 8 ? get(&S.consumer->next) % S.capacity / 64
                                  : read_byte(&S.input) % (S.capacity / 64);
        uint8_t field = read_byte(&S.input) % (sizeof fields / sizeof *fields);
        put(RECORDS + 64 * block + fields[field].offset, read_number(&S.input), fields[field].size);
        break;
    }
    case 6: S.bytes[RECORDS + read_bytes(&S.input, 2) % S.capacity] = read_byte(&S.input); break;
    default:
        put((op & 8 ? CONSUMER_BELL : PRODUCER_BELL) + (op & 16 ? 64u : 0u), read_number(&S.input), 4);
    }
}

/* --- the input as calls */

static void call_of_producer(uint8_t op) {
    sent_record *sent;
    switch (op % 5) {
    case 0: call_claim(); return;
    case 1:
    case 2:
        sent = pick_claim();
        if (sent != NULL)
            finish_claim(sent, op % 5 == 1);
        return;
    case 3:
        sent = pick_claim();
        if (sent != NULL)
            call_anchor(sent);
        return;
    default:
        sent = pick_claim();
        if (sent != NULL)
            call_unanchor(sent);
    }
}

static void call_of_consumer(uint8_t op) {
    if (op % 2)
        call_receive();
    else
        call_release(read_byte(&S.input));
}

static void arm(void) {
    uint8_t byte = read_byte(&S.input);
    S.armed = 1;
    S.countdown = byte % 32;
}

static void touch(const volatile void *address) {
    const volatile unsigned char *byte = address;
    if (address != NULL && (byte < S.bytes || byte >= S.bytes + SIZE))
        return;
    MUST(++S.touches < S.touches_max); /* more would suggest an endless call */
    if (!S.armed || S.countdown-- > 0)
        return;
    S.armed = 0;
    S.interrupted = 1;
    if (S.hostile) {
        be_hostile();
        if (read_byte(&S.input) & 128)
            arm();
        return;
    }
    uint64_t touches = S.touches;
    if (S.busy == SHMB_PRODUCER)
        for (uint8_t calls = read_byte(&S.input) % 4 + 1; calls > 0; calls--)
            call_of_consumer(read_byte(&S.input));
    else if (S.busy == SHMB_CONSUMER)
        for (uint8_t calls = read_byte(&S.input) % 4 + 1; calls > 0; calls--)
            call_of_producer(read_byte(&S.input));
    S.touches = touches;
}

static void one_call(void) {
    uint8_t op = read_byte(&S.input);
    S.interrupted = 0;
    if (op & 128)
        arm();
    op &= 127;
    switch (op % 16) {
    case 0: case 1: case 2: case 3: case 4: call_of_producer(op % 16); break;
    case 5: case 6: case 7: call_of_consumer(op); break;
    case 8: call_wait(); break;
    case 9: call_doorbell(); break;
    case 10: call_with_wild_position(); break;
    case 11: call_with_wild_offsets(); break;
    case 12: check_figures(); break;
    default:
        if (S.hostile)
            be_hostile();
        else
            call_of_producer(op / 16);
    }
    S.armed = 0;
}

/* --- a run */

static void open_all(int descriptor) {
    S.memory = shmb_memory_map(descriptor, SIZE);
    MUST(S.memory != NULL);
    S.bytes = shmb_memory_at(S.memory, 0, SIZE);
    memset(S.bytes, 0, SIZE);
    S.touches_max = 16 * BLOCKS + 100;
    ASAN_POISON_MEMORY_REGION(S.bytes, SIZE);
    ASAN_UNPOISON_MEMORY_REGION(S.bytes + CONSUMER_BELL, 128);
    ASAN_UNPOISON_MEMORY_REGION(S.bytes + PRODUCER_BELL, 128);
    ASAN_UNPOISON_MEMORY_REGION(S.bytes + LINES, 256);
    ASAN_UNPOISON_MEMORY_REGION(S.bytes + RECORDS, S.capacity);
    S.consumer_bell = shmb_doorbell_open(S.memory, CONSUMER_BELL, 1);
    S.producer_bell = shmb_doorbell_open(S.memory, PRODUCER_BELL, 1);
    S.producer = shmb_ring_open(S.memory, LINES, RECORDS, S.capacity, SHMB_PRODUCER, S.consumer_bell);
    S.consumer = shmb_ring_open(S.memory, LINES, RECORDS, S.capacity, SHMB_CONSUMER, S.producer_bell);
    MUST(S.producer != NULL && S.consumer != NULL);
}

/* Frees the memory first, because the others hold references to it. */
static void close_all(void) {
    ASAN_UNPOISON_MEMORY_REGION(S.bytes, SIZE);
    shmb_memory_free(S.memory);
    shmb_doorbell_free(S.consumer_bell);
    shmb_doorbell_free(S.producer_bell);
    MUST(S.bytes[0] == S.bytes[0]); /* still mapped */
    shmb_ring_free(S.producer);
    shmb_ring_free(S.consumer);
}

/* Check that a record of the ring's full size passes after both sides have released everything. */
static void check_that_all_space_is_freed(void) {
    S.interrupted = 0;
    for (size_t i = 0; i < S.n_claims; i++) {
        if (S.claims[i].state == OPEN)
            finish_claim(&S.claims[i], i % 2);
        while (S.claims[i].anchors > 0)
            call_unanchor(&S.claims[i]);
    }
    do
        while (S.n_held > 0)
            call_release(0);
    while (call_receive() == SHMB_OK);
    MUST(!next_in_flight() && shmb_ring_used(S.consumer) == 0);
    shmb_record record = {.kind = SHMB_POSTERIORS, .dtype = SHMB_UINT8, .rows = 1,
                          .columns = (uint32_t)(S.capacity - SHMB_HEADER_SIZE)};
    int result = shmb_ring_claim(S.producer, &record, "");
    if (result != SHMB_OK) { /* padding was sent ahead */
        MUST(result == SHMB_FULL && call_receive() == SHMB_EMPTY);
        result = shmb_ring_claim(S.producer, &record, "");
    }
    MUST(result == SHMB_OK && check_pointers(&record) == S.capacity);
    MUST(shmb_ring_used(S.producer) == S.capacity);
}

static void check_disowned(void) {
    shmb_record record = {.kind = SHMB_POSTERIORS, .dtype = SHMB_UINT8};
    uint64_t tail = number_at(LINES), head = number_at(HEAD);
    shmb_ring_disown(S.producer);
    shmb_ring_disown(S.consumer);
    MUST(shmb_ring_claim(S.producer, &record, "") == SHMB_DISOWNED);
    MUST(shmb_ring_receive(S.consumer, &record) == SHMB_DISOWNED);
    for (size_t i = 0; i < S.n_claims; i++) {
        MUST(shmb_ring_commit(S.producer, S.claims[i].record.position, 0, 0, 0) == SHMB_DISOWNED);
        shmb_ring_unanchor(S.producer, S.claims[i].record.position);
    }
    for (size_t i = 0; i < S.n_held; i++)
        shmb_ring_release(S.consumer, S.held[i].record.position);
    MUST(number_at(LINES) == tail && number_at(HEAD) == head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int descriptor = -1;
    if (descriptor < 0) {
        descriptor = memfd_create("shmbridge-fuzz", MFD_CLOEXEC);
        MUST(descriptor >= 0 && ftruncate(descriptor, SIZE) == 0);
    }
    memset(&S, 0, offsetof(__typeof__(S), claims));
    memset(&S.n_claims, 0, sizeof S - offsetof(__typeof__(S), n_claims));
    S.input = (fuzz_input){data, size};
    uint8_t flags = read_byte(&S.input);
    S.hostile = flags & 1;
    S.capacity = 64 * (1 + (uint64_t)read_byte(&S.input) % BLOCKS);
    open_all(descriptor);
    for (int i = 0; i < CALLS && S.input.left > 0; i++)
        one_call();
    check_figures();
    if (flags & 2)
        check_disowned();
    else if (!S.hostile)
        check_that_all_space_is_freed();
    close_all();
    return 0;
}
