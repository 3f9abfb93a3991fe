/* In-place allocation: the array that numpy allocates for Sprint's error signal is the claimed record.
 *
 * NEP 49 lets a handler allocate the data of numpy's arrays. This one returns the matrix of a claim for the expected
 * allocation, and passes all others to the handler that was set before. Any thread may free either kind at any time.
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

/* An allocation in a claim's matrix. */
typedef struct allocation {
    struct allocation *next;
    shmb_ring_end *end;
    uint64_t position;
    void *pointer;
    size_t size;
} allocation;

static _Thread_local allocation expected; /* end is NULL if this thread expects none */
static pthread_key_t thread_end;          /* its destructor cancels the expectation of a thread that ends */
static int has_thread_end;

static const allocator *other; /* of the handler that was set before */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static allocation *all; /* a short list: the results that Sprint or its user's code still holds */
static atomic_uint n_allocations;

static void add(allocation *item) {
    pthread_mutex_lock(&mutex);
    item->next = all;
    all = item;
    pthread_mutex_unlock(&mutex);
    atomic_fetch_add(&n_allocations, 1);
}

/* Return the expected matrix, or NULL if this is not the expected allocation. */
static void *allocate_in_ring(size_t size) {
    if (expected.end == NULL || expected.size != size)
        return NULL;
    allocation *item = malloc(sizeof *item);
    if (item == NULL || shmb_ring_anchor(expected.end, expected.position) != SHMB_OK) {
        free(item);
        return NULL;
    }
    *item = expected; /* moves the reference to the ring end */
    expected.end = NULL;
    add(item);
    return item->pointer;
}

/* Remove the allocation from the list. Returns NULL if the pointer is not in a ring. */
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

static void free_in_ring(allocation *item) {
    shmb_ring_unanchor(item->end, item->position);
    shmb_ring_free(item->end);
    free(item);
}

static void *handler_malloc(void *context, size_t size) {
    (void)context;
    void *pointer = allocate_in_ring(size);
    return pointer != NULL ? pointer : other->malloc(other->context, size);
}

static void *handler_calloc(void *context, size_t count, size_t size) {
    (void)context;
    return other->calloc(other->context, count, size);
}

static void handler_free(void *context, void *pointer, size_t size) {
    (void)context;
    allocation *item = take_out(pointer);
    if (item != NULL)
        free_in_ring(item);
    else
        other->free(other->context, pointer, size);
}

static void *handler_realloc(void *context, void *pointer, size_t size) {
    (void)context;
    allocation *item = take_out(pointer);
    if (item == NULL)
        return other->realloc(other->context, pointer, size);
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

void shmb_allocation_expect(shmb_ring_end *end, uint64_t position, void *matrix, uint64_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_thread_end);
    if (has_thread_end) /* without it, the memory of a thread that ends too early stays mapped */
        pthread_setspecific(thread_end, &expected);
    cancel(NULL);
    shmb_ring_retain(end);
    expected = (allocation){.end = end, .position = position, .pointer = matrix, .size = (size_t)size};
}

void shmb_allocation_cancel(shmb_ring_end *end, uint64_t position) {
    if (expected.end == end && expected.position == position)
        cancel(NULL);
}
