/* One end of a single-producer, single-consumer ring; positions are C11 atomics. */
#include "shmbridge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* In shared memory. Only one process writes each of the two. */
typedef struct {
    _Alignas(SHMB_HEAD_OFFSET) _Atomic uint64_t tail;
    _Alignas(SHMB_HEAD_OFFSET) _Atomic uint64_t head;
} shared_lines;

_Static_assert(offsetof(shared_lines, head) == SHMB_HEAD_OFFSET, "Python reads the head there");
_Static_assert(sizeof(shmb_record_header) == SHMB_HEADER_SIZE, "the header is one cache line");

/* A claimed or received part of the ring that this end still uses. */
typedef struct {
    uint64_t start;
    uint64_t size;
    uint64_t sequence;
    uint32_t name_length;
    uint32_t finished; /* producer: committed or aborted; consumer: released */
    uint32_t anchors;  /* producer: the number of arrays that view it */
} span;

/* The spans in use, oldest first: a circular queue whose length is a power of two. */
typedef struct {
    span *items;
    size_t first;
    size_t count;
    size_t length;
} span_queue;

/* The number of claims for which a full ring influences whether an empty one restarts. */
enum { RECENT_CLAIMS = 1000 };

struct shmb_ring_end {
    pthread_mutex_t mutex;
    shmb_memory *memory;
    shared_lines *lines;
    unsigned char *data;
    uint64_t capacity;
    int role;
    shmb_doorbell *peer_doorbell;
    atomic_uint count; /* references: arrays in the ring hold some */
    atomic_int disowned;
    /* Atomic because shmb_ring_has_news and shmb_ring_released read them without the mutex. */
    _Atomic uint64_t next;      /* position of the next record to claim or receive */
    _Atomic uint64_t peer;      /* the peer's position when this end last loaded it */
    _Atomic uint64_t published; /* this end's position, as the peer sees it */
    span_queue spans;
    int recently_full; /* producer: the number of coming claims for which a claim without room is recent */
    int is_corrupt;    /* permanent: later values from the peer are not trusted either */
    const char *problem;
    uint64_t problem_value;
    uint64_t problem_limit;
};

/* --- spans */

static span *span_at(span_queue *queue, size_t index) {
    return &queue->items[(queue->first + index) & (queue->length - 1)];
}

static int reserve_spans(span_queue *queue, size_t more) {
    if (queue->count + more <= queue->length)
        return 1;
    size_t length = queue->length * 2;
    span *items = malloc(length * sizeof *items);
    if (items == NULL)
        return 0;
    for (size_t i = 0; i < queue->count; i++)
        items[i] = *span_at(queue, i);
    free(queue->items);
    queue->items = items;
    queue->first = 0;
    queue->length = length;
    return 1;
}

static void push_span(span_queue *queue, span item) {
    queue->count++;
    *span_at(queue, queue->count - 1) = item;
}

static void pop_span(span_queue *queue) {
    queue->first = (queue->first + 1) & (queue->length - 1);
    queue->count--;
}

/* Return the index of the first span that starts at or after the position. */
static size_t index_from(span_queue *queue, uint64_t position) {
    size_t low = 0, high = queue->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (span_at(queue, middle)->start < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static span *find_span(span_queue *queue, uint64_t start) {
    size_t index = index_from(queue, start);
    if (index == queue->count || span_at(queue, index)->start != start)
        return NULL;
    return span_at(queue, index);
}

/* --- common to both roles */

static uint64_t get(_Atomic uint64_t *value) {
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void set(_Atomic uint64_t *value, uint64_t to) {
    atomic_store_explicit(value, to, memory_order_relaxed);
}

static int corrupt(shmb_ring_end *end, const char *problem, uint64_t value, uint64_t limit) {
    end->is_corrupt = 1;
    end->problem = problem;
    end->problem_value = value;
    end->problem_limit = limit;
    return SHMB_CORRUPT;
}

static uint64_t round_up(uint64_t size) {
    return (size + SHMB_ALIGNMENT - 1) / SHMB_ALIGNMENT * SHMB_ALIGNMENT;
}

static uint64_t item_size(uint32_t dtype) {
    switch (dtype) {
    case SHMB_FLOAT32:
    case SHMB_UINT32: return 4;
    case SHMB_UINT8: return 1;
    default: return 0;
    }
}

uint64_t shmb_record_size(uint32_t dtype, uint64_t rows, uint64_t columns, uint64_t name_length) {
    uint64_t matrix = 0;
    if (item_size(dtype) == 0 || rows > UINT32_MAX || columns > UINT32_MAX || name_length > SHMB_NAME_MAX)
        return 0;
    /* rows * columns < 2^64, but its size in bytes, rounded up, may exceed that */
    matrix = rows * columns;
    if (matrix > (UINT64_MAX >> 4))
        return 0;
    return SHMB_HEADER_SIZE + round_up(name_length) + round_up(matrix * item_size(dtype));
}

/* Return the position up to which all spans are finished. The published ones are: search after them. */
static uint64_t finished_position(shmb_ring_end *end) {
    for (size_t i = index_from(&end->spans, get(&end->published)); i < end->spans.count; i++) {
        span *item = span_at(&end->spans, i);
        if (!item->finished)
            return item->start;
    }
    return get(&end->next);
}

static void publish(shmb_ring_end *end, uint64_t position) {
    if (position == get(&end->published))
        return;
    set(&end->published, position);
    atomic_store_explicit(end->role == SHMB_PRODUCER ? &end->lines->tail : &end->lines->head, position,
                          memory_order_release);
    if (end->peer_doorbell != NULL)
        shmb_doorbell_ring(end->peer_doorbell, (uint32_t)end->role);
}

static void fill_pointers(shmb_ring_end *end, shmb_record *record) {
    unsigned char *at = end->data + record->position % end->capacity;
    record->name = (char *)at + SHMB_HEADER_SIZE;
    record->matrix = at + SHMB_HEADER_SIZE + round_up(record->name_length);
}

static int enter(shmb_ring_end *end) {
    if (atomic_load_explicit(&end->disowned, memory_order_relaxed))
        return 0; /* a thread that does not exist in the fork may hold the mutex */
    pthread_mutex_lock(&end->mutex);
    return 1;
}

static int leave(shmb_ring_end *end, int result) {
    pthread_mutex_unlock(&end->mutex);
    return result;
}

shmb_ring_end *shmb_ring_open(shmb_memory *memory, uint64_t control_offset, uint64_t data_offset,
                              uint64_t capacity, int role, shmb_doorbell *peer_doorbell) {
    shared_lines *lines = shmb_memory_at(memory, control_offset, sizeof *lines);
    unsigned char *data = shmb_memory_at(memory, data_offset, capacity);
    if (lines == NULL || data == NULL || capacity == 0 || capacity % SHMB_ALIGNMENT != 0 ||
        data_offset % SHMB_ALIGNMENT != 0 || control_offset % _Alignof(shared_lines) != 0 ||
        (role != SHMB_PRODUCER && role != SHMB_CONSUMER))
        return NULL;
    shmb_ring_end *end = calloc(1, sizeof *end);
    if (end == NULL)
        return NULL;
    end->spans.length = 16;
    end->spans.items = malloc(end->spans.length * sizeof *end->spans.items);
    if (end->spans.items == NULL) {
        free(end);
        return NULL;
    }
    pthread_mutex_init(&end->mutex, NULL);
    atomic_init(&end->count, 1);
    shmb_memory_retain(memory);
    end->memory = memory;
    end->lines = lines;
    end->data = data;
    end->capacity = capacity;
    end->role = role;
    end->peer_doorbell = peer_doorbell;
    if (peer_doorbell != NULL)
        shmb_doorbell_retain(peer_doorbell);
    end->problem = "no problem";
    return end;
}

int shmb_ring_role(shmb_ring_end *end) {
    return end->role;
}

void shmb_ring_retain(shmb_ring_end *end) {
    atomic_fetch_add_explicit(&end->count, 1, memory_order_relaxed);
}

void shmb_ring_free(shmb_ring_end *end) {
    if (end == NULL || atomic_fetch_sub_explicit(&end->count, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&end->mutex);
    shmb_doorbell_free(end->peer_doorbell);
    shmb_memory_free(end->memory);
    free(end->spans.items);
    free(end);
}

void shmb_ring_disown(shmb_ring_end *end) {
    atomic_store(&end->disowned, 1);
}

const char *shmb_ring_problem(shmb_ring_end *end, uint64_t *value, uint64_t *limit) {
    *value = end->problem_value;
    *limit = end->problem_limit;
    return end->problem;
}

int shmb_ring_has_news(shmb_ring_end *end) {
    if (end->role == SHMB_CONSUMER)
        return atomic_load_explicit(&end->lines->tail, memory_order_acquire) != get(&end->next);
    return atomic_load_explicit(&end->lines->head, memory_order_acquire) != get(&end->peer);
}

static uint64_t used_size(shmb_ring_end *end) {
    return end->spans.count ? get(&end->next) - span_at(&end->spans, 0)->start : 0;
}

uint64_t shmb_ring_used(shmb_ring_end *end) {
    if (!enter(end))
        return 0;
    uint64_t used = used_size(end);
    leave(end, SHMB_OK);
    return used;
}

uint64_t shmb_ring_released(shmb_ring_end *end) {
    return end->role == SHMB_PRODUCER ? get(&end->peer) : get(&end->published);
}

/* --- producer */

static int load_head(shmb_ring_end *end) {
    if (end->is_corrupt)
        return SHMB_CORRUPT;
    uint64_t head = atomic_load_explicit(&end->lines->head, memory_order_acquire);
    if (head < get(&end->peer) || head > get(&end->published) || head % SHMB_ALIGNMENT != 0)
        return corrupt(end, "the consumer's head is outside the published records", head, get(&end->published));
    set(&end->peer, head);
    /* Space becomes free in order, and only after the last array on this side is gone. */
    while (end->spans.count > 0) {
        span *oldest = span_at(&end->spans, 0);
        if (!oldest->finished || oldest->anchors > 0 || oldest->start + oldest->size > head)
            break;
        pop_span(&end->spans);
    }
    return SHMB_OK;
}

static void write_padding(shmb_ring_end *end, uint64_t start, uint64_t size) {
    shmb_record_header header = {.position = start, .size = size, .kind = SHMB_PADDING};
    memcpy(end->data + start % end->capacity, &header, sizeof header);
}

static void pad_to_end(shmb_ring_end *end, uint64_t next, uint64_t size) {
    write_padding(end, next, size);
    push_span(&end->spans, (span){.start = next, .size = size, .finished = 1});
    set(&end->next, next + size);
}

/* Return the result for a claim without room: FULL if the consumer can make room, HELD if only this end can.
 * Publish padding before the oldest open claim now, so that the consumer can skip it. */
static int no_room(shmb_ring_end *end) {
    end->recently_full = RECENT_CLAIMS;
    publish(end, finished_position(end));
    return get(&end->peer) == get(&end->published) ? SHMB_HELD : SHMB_FULL;
}

/* Return whether a claim of this size restarts an empty ring at its beginning, so that small records stay in
 * cache. The consumer skips the padding only when it receives this record; until then, later claims have only the
 * space before `offset`. If a claim found no room recently, that space must suffice for a second record of this
 * size. */
static int restarts_at_beginning(const shmb_ring_end *end, uint64_t used, uint64_t offset, uint64_t size) {
    return used == 0 && offset != 0 && size <= (end->recently_full > 0 ? offset / 2 : offset);
}

static int claim(shmb_ring_end *end, shmb_record *record, const char *name) {
    uint64_t size = shmb_record_size(record->dtype, record->rows, record->columns, record->name_length);
    if (size == 0 || size > end->capacity)
        return SHMB_TOO_LARGE;
    int loaded = load_head(end);
    if (loaded != SHMB_OK)
        return loaded;
    if (!reserve_spans(&end->spans, 2))
        return SHMB_NO_MEMORY;

    uint64_t next = get(&end->next);
    uint64_t used = used_size(end);
    uint64_t offset = next % end->capacity;
    uint64_t to_end = end->capacity - offset;
    int wraps = size > to_end || restarts_at_beginning(end, used, offset, size);
    if (end->recently_full > 0)
        end->recently_full--;
    if (wraps) {
        if (used + to_end > end->capacity)
            return no_room(end);
        if (used + to_end + size > end->capacity) {
            /* The record fits at the beginning after the consumer has skipped the padding. */
            pad_to_end(end, next, to_end);
            return no_room(end);
        }
        pad_to_end(end, next, to_end);
        next += to_end;
    } else if (used + size > end->capacity) {
        return no_room(end);
    }

    shmb_record_header header = {
        .position = next,
        .size = size,
        .sequence = record->sequence,
        .kind = record->kind,
        .dtype = record->dtype,
        .name_length = record->name_length,
        .rows = record->rows,
        .columns = record->columns,
    };
    record->position = next;
    fill_pointers(end, record);
    memcpy(end->data + next % end->capacity, &header, sizeof header);
    if (record->name_length > 0)
        memcpy(record->name, name, record->name_length);
    push_span(&end->spans, (span){
        .start = next, .size = size, .sequence = record->sequence, .name_length = record->name_length});
    set(&end->next, next + size);
    return SHMB_OK;
}

int shmb_ring_claim(shmb_ring_end *end, shmb_record *record, const char *name) {
    if (!enter(end))
        return SHMB_DISOWNED;
    return leave(end, claim(end, record, name));
}

static span *open_claim(shmb_ring_end *end, uint64_t position) {
    span *item = find_span(&end->spans, position);
    return item == NULL || item->finished ? NULL : item;
}

int shmb_ring_commit(shmb_ring_end *end, uint64_t position, uint32_t status, double loss, uint64_t states) {
    if (!enter(end))
        return SHMB_DISOWNED;
    span *item = open_claim(end, position);
    if (item == NULL)
        return leave(end, SHMB_BAD_SPAN);
    shmb_record_header *header = (shmb_record_header *)(void *)(end->data + position % end->capacity);
    header->status = status;
    header->loss = loss;
    header->states = states;
    item->finished = 1;
    publish(end, finished_position(end));
    return leave(end, SHMB_OK);
}

int shmb_ring_abort(shmb_ring_end *end, uint64_t position) {
    if (!enter(end))
        return SHMB_DISOWNED;
    span *item = open_claim(end, position);
    if (item == NULL)
        return leave(end, SHMB_BAD_SPAN);
    write_padding(end, item->start, item->size);
    item->finished = 1;
    publish(end, finished_position(end));
    return leave(end, SHMB_OK);
}

int shmb_ring_oldest_open(shmb_ring_end *end, shmb_record *record) {
    if (!enter(end))
        return 0;
    size_t index = 0;
    while (index < end->spans.count && span_at(&end->spans, index)->finished)
        index++;
    int found = index < end->spans.count;
    if (found) {
        const span *item = span_at(&end->spans, index);
        record->sequence = item->sequence;
        record->name_length = item->name_length;
        record->name = (char *)end->data + item->start % end->capacity + SHMB_HEADER_SIZE;
    }
    leave(end, SHMB_OK);
    return found;
}

int shmb_ring_anchor(shmb_ring_end *end, uint64_t position) {
    if (!enter(end))
        return SHMB_DISOWNED;
    span *item = open_claim(end, position);
    if (item == NULL)
        return leave(end, SHMB_BAD_SPAN);
    item->anchors++;
    return leave(end, SHMB_OK);
}

void shmb_ring_unanchor(shmb_ring_end *end, uint64_t position) {
    if (!enter(end))
        return;
    span *item = find_span(&end->spans, position);
    if (item != NULL && item->anchors > 0)
        item->anchors--;
    leave(end, SHMB_OK);
}

/* --- consumer */

static int load_tail(shmb_ring_end *end) {
    if (end->is_corrupt)
        return SHMB_CORRUPT;
    uint64_t tail = atomic_load_explicit(&end->lines->tail, memory_order_acquire);
    if (tail < get(&end->peer) || tail - get(&end->published) > end->capacity || tail % SHMB_ALIGNMENT != 0)
        return corrupt(end, "the producer's tail is outside the ring", tail,
                       get(&end->published) + end->capacity);
    set(&end->peer, tail);
    return SHMB_OK;
}

static int check_header(shmb_ring_end *end, const shmb_record_header *header, uint64_t next) {
    uint64_t available = get(&end->peer) - next;
    uint64_t to_end = end->capacity - next % end->capacity;
    uint64_t max_size = available < to_end ? available : to_end;
    if (header->position != next)
        return corrupt(end, "a record does not name its own position", header->position, next);
    if (header->size < SHMB_HEADER_SIZE || header->size > max_size || header->size % SHMB_ALIGNMENT != 0)
        return corrupt(end, "a record's size does not fit into the published bytes", header->size, max_size);
    if (header->kind == SHMB_PADDING)
        return SHMB_OK;
    if (header->kind > SHMB_SCORES || header->kind == 0)
        return corrupt(end, "a record has an unknown kind", header->kind, SHMB_SCORES);
    if (header->status > SHMB_FAILED)
        return corrupt(end, "a record has an unknown status", header->status, SHMB_FAILED);
    if (item_size(header->dtype) == 0)
        return corrupt(end, "a record has an unknown dtype", header->dtype, SHMB_UINT8);
    if (header->name_length > SHMB_NAME_MAX)
        return corrupt(end, "a record's segment name is too long", header->name_length, SHMB_NAME_MAX);
    uint64_t size = shmb_record_size(header->dtype, header->rows, header->columns, header->name_length);
    if (header->size != size)
        return corrupt(end, "a record's size is not that of its name and matrix", header->size, size);
    return SHMB_OK;
}

static void release_in_order(shmb_ring_end *end) {
    while (end->spans.count > 0 && span_at(&end->spans, 0)->finished)
        pop_span(&end->spans);
    publish(end, end->spans.count ? span_at(&end->spans, 0)->start : get(&end->next));
}

static int receive(shmb_ring_end *end, shmb_record *record) {
    int loaded = load_tail(end);
    if (loaded != SHMB_OK)
        return loaded;
    for (;;) {
        uint64_t next = get(&end->next);
        if (next == get(&end->peer))
            return SHMB_EMPTY;
        if (!reserve_spans(&end->spans, 1))
            return SHMB_NO_MEMORY;
        /* The copy makes the checked values the used ones. Positions are multiples of 64, so a published byte
         * implies a whole header. */
        shmb_record_header header;
        memcpy(&header, end->data + next % end->capacity, sizeof header);
        int checked = check_header(end, &header, next);
        if (checked != SHMB_OK)
            return checked;
        push_span(&end->spans, (span){.start = next, .size = header.size, .finished = header.kind == SHMB_PADDING});
        set(&end->next, next + header.size);
        if (header.kind == SHMB_PADDING) {
            release_in_order(end);
            continue;
        }
        record->position = next;
        record->sequence = header.sequence;
        record->loss = header.loss;
        record->states = header.states;
        record->kind = header.kind;
        record->status = header.status;
        record->dtype = header.dtype;
        record->name_length = header.name_length;
        record->rows = header.rows;
        record->columns = header.columns;
        fill_pointers(end, record);
        return SHMB_OK;
    }
}

int shmb_ring_receive(shmb_ring_end *end, shmb_record *record) {
    if (!enter(end))
        return SHMB_DISOWNED;
    return leave(end, receive(end, record));
}

void shmb_ring_release(shmb_ring_end *end, uint64_t position) {
    if (!enter(end))
        return;
    span *item = find_span(&end->spans, position);
    if (item != NULL && end->role == SHMB_CONSUMER) {
        item->finished = 1;
        release_in_order(end);
    }
    leave(end, SHMB_OK);
}
