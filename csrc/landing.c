/* The error signal lands in the ring: the array that numpy allocates on Sprint's behalf is the claimed record.
 *
 * numpy (NEP 49) lets a handler allocate its arrays' data. Ours hands out the matrix of a claim for the one
 * allocation that was announced, and leaves any other to the handler that was there before. Both come back
 * through our free, whenever that may be, in whatever thread.
 */
#include "shmbridge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* numpy's PyDataMem_Handler, version 1: part of its ABI since 1.22. */
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

/* An allocation that is a claim's matrix. */
typedef struct landed {
    struct landed *next;
    shmb_ring_end *end;
    uint64_t position;
    void *pointer;
    size_t size;
} landed;

static _Thread_local landed expected; /* in this thread; end is NULL: nothing is */
static pthread_key_t thread_end; /* whose destructor forgets what is expected in a thread that ends */
static int has_thread_end;

static const allocator *other; /* that of the handler that was there before */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static landed *all; /* few: results that Sprint or its user's code still hold */
static atomic_uint n_landed;

static void put(landed *item) {
    pthread_mutex_lock(&mutex);
    item->next = all;
    all = item;
    pthread_mutex_unlock(&mutex);
    atomic_fetch_add(&n_landed, 1);
}

static void *land(size_t size) {
    if (expected.end == NULL || expected.size != size)
        return NULL;
    landed *item = malloc(sizeof *item);
    if (item == NULL || shmb_ring_anchor(expected.end, expected.position) != SHMB_OK) {
        free(item);
        return NULL;
    }
    *item = expected; /* with the hold on the ring end */
    expected.end = NULL;
    put(item);
    return item->pointer;
}

/* Takes the allocation out of the list; NULL where it is none of ours. */
static landed *take(void *pointer) {
    if (pointer == NULL || atomic_load(&n_landed) == 0)
        return NULL;
    pthread_mutex_lock(&mutex);
    landed **link = &all;
    while (*link != NULL && (*link)->pointer != pointer)
        link = &(*link)->next;
    landed *item = *link;
    if (item != NULL) {
        *link = item->next;
        atomic_fetch_sub(&n_landed, 1);
    }
    pthread_mutex_unlock(&mutex);
    return item;
}

static void give_back(landed *item) {
    shmb_ring_unanchor(item->end, item->position, item->pointer);
    shmb_ring_free(item->end);
    free(item);
}

static void *handler_malloc(void *context, size_t size) {
    (void)context;
    void *pointer = land(size);
    return pointer != NULL ? pointer : other->malloc(other->context, size);
}

static void *handler_calloc(void *context, size_t count, size_t size) {
    (void)context;
    return other->calloc(other->context, count, size);
}

static void handler_free(void *context, void *pointer, size_t size) {
    (void)context;
    landed *item = take(pointer);
    if (item != NULL)
        give_back(item);
    else
        other->free(other->context, pointer, size);
}

static void *handler_realloc(void *context, void *pointer, size_t size) {
    (void)context;
    landed *item = take(pointer);
    if (item == NULL)
        return other->realloc(other->context, pointer, size);
    void *copy = other->malloc(other->context, size);
    if (copy == NULL) {
        put(item); /* realloc that fails leaves the old memory as it was */
        return NULL;
    }
    memcpy(copy, pointer, size < item->size ? size : item->size);
    give_back(item);
    return copy;
}

static mem_handler handler = {
    .name = "shmbridge",
    .version = 1,
    .allocator = {NULL, handler_malloc, handler_calloc, handler_realloc, handler_free},
};

const void *shmb_landing_handler(const void *default_handler) {
    other = &((const mem_handler *)default_handler)->allocator;
    return &handler;
}

static void forget(void *unused) {
    (void)unused;
    shmb_ring_free(expected.end);
    expected.end = NULL;
}

static void make_thread_end(void) {
    has_thread_end = pthread_key_create(&thread_end, forget) == 0;
}

void shmb_landing_expect(shmb_ring_end *end, uint64_t position, void *matrix, uint64_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_thread_end);
    if (has_thread_end) /* else the memory of a thread that ends too early stays mapped */
        pthread_setspecific(thread_end, &expected);
    forget(NULL);
    shmb_ring_retain(end);
    expected = (landed){.end = end, .position = position, .pointer = matrix, .size = (size_t)size};
}

void shmb_landing_stop(shmb_ring_end *end, uint64_t position) {
    if (expected.end == end && expected.position == position)
        forget(NULL);
}
