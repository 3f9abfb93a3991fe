/* The semaphore that says "look again". */
#define _GNU_SOURCE
#include "shmbridge.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* What lies in shared memory. `waiting` spares both sides the system call while nobody sleeps. */
typedef struct {
    sem_t semaphore;
    _Alignas(64) atomic_uint waiting;
} shared_doorbell;

struct shmb_doorbell {
    shmb_memory *memory;
    shared_doorbell *shared;
    int64_t typical_wait_ns;
    atomic_uint count; /* the ring ends that ring it hold on to it */
};

enum { TOKENS_MAX = 1024 }; /* pokes that nobody waits for must not make the semaphore overflow */

shmb_doorbell *shmb_doorbell_open(shmb_memory *memory, uint64_t offset, int create) {
    shared_doorbell *shared = shmb_memory_at(memory, offset, sizeof *shared);
    if (shared == NULL || offset % _Alignof(shared_doorbell) != 0)
        return NULL;
    shmb_doorbell *doorbell = malloc(sizeof *doorbell);
    if (doorbell == NULL)
        return NULL;
    if (create) {
        sem_init(&shared->semaphore, 1, 0);
        atomic_init(&shared->waiting, 0);
    }
    shmb_memory_retain(memory);
    doorbell->memory = memory;
    doorbell->shared = shared;
    doorbell->typical_wait_ns = 0;
    atomic_init(&doorbell->count, 1);
    return doorbell;
}

void shmb_doorbell_retain(shmb_doorbell *doorbell) {
    atomic_fetch_add_explicit(&doorbell->count, 1, memory_order_relaxed);
}

void shmb_doorbell_free(shmb_doorbell *doorbell) {
    if (doorbell == NULL || atomic_fetch_sub_explicit(&doorbell->count, 1, memory_order_acq_rel) != 1)
        return;
    shmb_memory_free(doorbell->memory);
    free(doorbell);
}

void shmb_doorbell_poke(shmb_doorbell *doorbell) {
    int tokens = 0;
    if (sem_getvalue(&doorbell->shared->semaphore, &tokens) == 0 && tokens < TOKENS_MAX)
        sem_post(&doorbell->shared->semaphore);
}

void shmb_doorbell_ring(shmb_doorbell *doorbell) {
    atomic_uint *waiting = &doorbell->shared->waiting;
    /* The fence orders the publishing of a position before the look at `waiting`; the waiter sets
     * `waiting` before it looks at the position. One of the two sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(waiting, memory_order_relaxed) != 0 && atomic_exchange(waiting, 0) != 0)
        sem_post(&doorbell->shared->semaphore);
}

int64_t *shmb_doorbell_typical_wait(shmb_doorbell *doorbell) {
    return &doorbell->typical_wait_ns;
}

int shmb_doorbell_take_token(shmb_doorbell *doorbell) {
    return sem_trywait(&doorbell->shared->semaphore) == 0;
}

void shmb_doorbell_announce(shmb_doorbell *doorbell, int waiting) {
    atomic_store(&doorbell->shared->waiting, (unsigned)waiting);
    atomic_thread_fence(memory_order_seq_cst); /* before the last look at the rings: see shmb_doorbell_ring */
}

int shmb_doorbell_sleep(shmb_doorbell *doorbell, int64_t deadline_ns) {
    sem_t *semaphore = &doorbell->shared->semaphore;
    int failed;
    if (deadline_ns < 0) {
        failed = sem_wait(semaphore);
    } else {
        struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                                 .tv_nsec = (long)(deadline_ns % 1000000000)};
        failed = sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
    }
    if (!failed)
        return SHMB_OK;
    return errno == EINTR ? SHMB_INTERRUPTED : errno == ETIMEDOUT ? SHMB_TIMED_OUT : SHMB_CORRUPT;
}
