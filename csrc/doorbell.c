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

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int any_news(shmb_ring_end **ends, size_t n_ends) {
    for (size_t i = 0; i < n_ends; i++)
        if (shmb_ring_has_news(ends[i]))
            return 1;
    return 0;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* True when there is news or a poke within the time. */
static int spin(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t spin_ns) {
    int64_t end = spin_ns > 0 ? now_ns() + spin_ns : 0;
    for (;;) {
        for (int i = 0; i < 32; i++) {
            if (any_news(ends, n_ends) || sem_trywait(&doorbell->shared->semaphore) == 0)
                return 1;
            if (spin_ns <= 0)
                return 0;
            relax();
        }
        if (now_ns() >= end)
            return 0;
    }
}

static int sleep_until(sem_t *semaphore, int64_t deadline) {
    if (deadline < 0)
        return sem_wait(semaphore);
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000), .tv_nsec = (long)(deadline % 1000000000)};
    return sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
}

int shmb_doorbell_wait(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t spin_ns,
                       int64_t timeout_ns) {
    if (spin(doorbell, ends, n_ends, spin_ns))
        return SHMB_OK;
    int64_t deadline = timeout_ns < 0 ? -1 : now_ns() + timeout_ns;
    atomic_store(&doorbell->shared->waiting, 1);
    atomic_thread_fence(memory_order_seq_cst);
    int result = SHMB_OK;
    if (!any_news(ends, n_ends) && sleep_until(&doorbell->shared->semaphore, deadline) != 0)
        result = errno == EINTR ? SHMB_INTERRUPTED : errno == ETIMEDOUT ? SHMB_TIMED_OUT : SHMB_CORRUPT;
    /* A ringer that saw `waiting` just before this leaves a token; the next wait returns at once, once. */
    atomic_store(&doorbell->shared->waiting, 0);
    return result;
}
