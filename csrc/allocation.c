/* In-place allocation: the array that numpy allocates for Sprint's error signal is the claimed record.
 *
 * NEP 49 lets a handler allocate the data of numpy's arrays. This one returns the matrix of a claim for the expected
 * allocation, and passes all others to the handler that was set before. Any thread may free either kind at any time.
 *
 * An array whose record is sent must not be written any more. So the record is sent when numpy frees the array.
 */
#include "shmbridge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* numpy's PyDataMem_Handler, version 1, which is part of its ABI since 1.22. */
typedef struct {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *pointer, size_t size);
    void (*free)(void *context, void *pointer, size_t size);
} allocator;

typedef struct {
    char name[127];
    uint8_t version;
    allocator allocator;
} mem_handler;

/* The allocation that a claim expected. */
typedef struct allocation {
    struct allocation *next;
    shmb_ring_end *end;
    uint64_t position;
    void *pointer; /* the claim's matrix, or memory of the other handler */
    size_t size;
    int in_place;
    int commits; /* the claim when it is freed, with this loss */
    double loss;
} allocation;

static _Thread_local allocation expected; /* end is NULL if this thread expects none */
static pthread_key_t thread_end;          /* its destructor cancels the expectation of a thread that ends */
static int has_thread_end;

static const allocator *other; /* of the handler that was set before */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static allocation *all; /* a short list: what Sprint or its user's code still holds */
static atomic_uint n_allocations;

static void add(allocation *item) {
    pthread_mutex_lock(&mutex);
    item->next = all;
    all = item;
    pthread_mutex_unlock(&mutex);
    atomic_fetch_add(&n_allocations, 1);
}

/* Return the memory of the expected allocation, or NULL if this is not the expected one. */
static void *allocate_expected(size_t size) {
    if (expected.end == NULL || expected.size != size)
        return NULL;
    allocation *item = malloc(sizeof *item);
    if (item == NULL)
        return NULL;
    *item = expected;
    if (!item->in_place)
        item->pointer = other->malloc(other->context, size);
    if (item->pointer == NULL || (item->in_place && shmb_ring_anchor(item->end, item->position) != SHMB_OK)) {
        free(item);
        return NULL;
    }
    expected.end = NULL; /* the item has its reference to the ring end */
    add(item);
    return item->pointer;
}

/* Remove the allocation from the list. Returns NULL if no claim expected it. */
static allocation *take_out(void *pointer) {
    if (pointer == NULL || atomic_load(&n_allocations) == 0)
        return NULL;
    pthread_mutex_lock(&mutex);
    allocation **link = &all;
    while (*link != NULL && (*link)->pointer != pointer)
        link = &(*link)->next;
    allocation *item = *link;
    if (item != NULL) {
        *link = item->next;
        atomic_fetch_sub(&n_allocations, 1);
    }
    pthread_mutex_unlock(&mutex);
    return item;
}

/* Free an allocation that is in place, and send its record if that waited for it. */
static void free_in_ring(allocation *item) {
    shmb_ring_unanchor(item->end, item->position);
    if (item->commits)
        shmb_ring_commit(item->end, item->position, SHMB_ANSWERED, item->loss, 0);
    shmb_ring_free(item->end);
    free(item);
}

static void free_elsewhere(allocation *item) {
    other->free(other->context, item->pointer, item->size);
    shmb_ring_free(item->end);
    free(item);
}

/* Return the allocation that this claim expected, if it lives. Requires the mutex. */
static allocation *find(const shmb_ring_end *end, uint64_t position) {
    allocation *item = all;
    while (item != NULL && (item->end != end || item->position != position))
        item = item->next;
    return item;
}

static void *handler_malloc(void *context, size_t size) {
    (void)context;
    void *pointer = allocate_expected(size);
    return pointer != NULL ? pointer : other->malloc(other->context, size);
}

static void *handler_calloc(void *context, size_t count, size_t size) {
    (void)context;
    return other->calloc(other->context, count, size);
}

static void handler_free(void *context, void *pointer, size_t size) {
    (void)context;
    allocation *item = take_out(pointer);
    if (item == NULL)
        other->free(other->context, pointer, size);
    else if (item->in_place)
        free_in_ring(item);
    else
        free_elsewhere(item);
}

static void *handler_realloc(void *context, void *pointer, size_t size) {
    (void)context;
    allocation *item = take_out(pointer);
    if (item == NULL)
        return other->realloc(other->context, pointer, size);
    if (!item->in_place) {
        void *moved = other->realloc(other->context, pointer, size);
        if (moved != NULL) {
            item->pointer = moved;
            item->size = size;
        }
        add(item);
        return moved;
    }
    void *copy = other->malloc(other->context, size);
    if (copy == NULL) {
        add(item); /* a failed realloc leaves the old memory unchanged */
        return NULL;
    }
    memcpy(copy, pointer, size < item->size ? size : item->size);
    free_in_ring(item);
    return copy;
}

static mem_handler handler = {
    .name = "shmbridge",
    .version = 1,
    .allocator = {NULL, handler_malloc, handler_calloc, handler_realloc, handler_free},
};

const void *shmb_allocation_handler(const void *default_handler) {
    other = &((const mem_handler *)default_handler)->allocator;
    return &handler;
}

static void cancel(void *unused) {
    (void)unused;
    shmb_ring_free(expected.end);
    expected.end = NULL;
}

static void make_thread_end(void) {
    has_thread_end = pthread_key_create(&thread_end, cancel) == 0;
}

void shmb_allocation_expect(shmb_ring_end *end, uint64_t position, void *matrix, uint64_t size, int in_place) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_thread_end);
    if (has_thread_end) /* without it, the memory of a thread that ends too early stays mapped */
        pthread_setspecific(thread_end, &expected);
    cancel(NULL);
    shmb_ring_retain(end);
    expected = (allocation){
        .end = end, .position = position, .pointer = matrix, .size = (size_t)size, .in_place = in_place};
}

void shmb_allocation_cancel(shmb_ring_end *end, uint64_t position) {
    if (expected.end == end && expected.position == position)
        cancel(NULL);
}

int shmb_allocation_is_expected(shmb_ring_end *end, uint64_t position) {
    return expected.end == end && expected.position == position;
}

int shmb_allocation_lives(shmb_ring_end *end, uint64_t position) {
    if (atomic_load(&n_allocations) == 0)
        return 0;
    pthread_mutex_lock(&mutex);
    int lives = find(end, position) != NULL;
    pthread_mutex_unlock(&mutex);
    return lives;
}

int shmb_allocation_commit_when_freed(shmb_ring_end *end, uint64_t position, double loss) {
    pthread_mutex_lock(&mutex);
    allocation *item = find(end, position);
    int found = item != NULL && item->in_place;
    if (found) {
        item->commits = 1;
        item->loss = loss;
    }
    pthread_mutex_unlock(&mutex);
    return found;
}

int shmb_allocation_take_back(shmb_ring_end *end, uint64_t position) {
    if (atomic_load(&n_allocations) == 0)
        return 0;
    pthread_mutex_lock(&mutex);
    allocation *item = find(end, position);
    int found = item != NULL && item->commits;
    if (found)
        item->commits = 0;
    pthread_mutex_unlock(&mutex);
    return found;
}
