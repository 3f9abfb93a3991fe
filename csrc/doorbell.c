/* The semaphore that says "look again".
 *
 * A counting semaphore of our own over a futex, not POSIX's sem_t: glibc aborts the process where a peer has
 * overwritten that, and lays it out as it likes, while Sprint's C library may be another than the trainer's. Here,
 * whatever the peer writes is a number of tokens: it can cost a look too many, or a wake-up too few.
 */
#define _GNU_SOURCE
#include "shmbridge.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What lies in shared memory. `waiting` spares both sides the system call while nobody sleeps. */
typedef struct {
    _Alignas(64) _Atomic uint32_t tokens;
    _Alignas(64) _Atomic uint32_t waiting;
} shared_doorbell;

struct shmb_doorbell {
    shmb_memory *memory;
    shared_doorbell *shared;
    shmb_waits waits;
    atomic_uint count; /* the ring ends that ring it hold on to it */
};

enum { TOKENS_MAX = 1024 }; /* pokes that nobody waits for must not pile up */

_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "a futex is a plain 32-bit word");

shmb_doorbell *shmb_doorbell_open(shmb_memory *memory, uint64_t offset, int create) {
    shared_doorbell *shared = shmb_memory_at(memory, offset, sizeof *shared);
    if (shared == NULL || offset % _Alignof(shared_doorbell) != 0)
        return NULL;
    shmb_doorbell *doorbell = malloc(sizeof *doorbell);
    if (doorbell == NULL)
        return NULL;
    if (create) {
        atomic_init(&shared->tokens, 0);
        atomic_init(&shared->waiting, 0);
    }
    shmb_memory_retain(memory);
    doorbell->memory = memory;
    doorbell->shared = shared;
    doorbell->waits = (shmb_waits){.typical = 0};
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

shmb_waits *shmb_doorbell_waits(shmb_doorbell *doorbell) {
    return &doorbell->waits;
}

void shmb_doorbell_poke(shmb_doorbell *doorbell) {
    _Atomic uint32_t *tokens = &doorbell->shared->tokens;
    /* The news is to be seen by whoever takes a token, also where there are so many that none is added. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(tokens) < TOKENS_MAX)
        atomic_fetch_add(tokens, 1);
    syscall(SYS_futex, tokens, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void shmb_doorbell_ring(shmb_doorbell *doorbell) {
    _Atomic uint32_t *waiting = &doorbell->shared->waiting;
    /* The fence orders the publishing of a position before the look at `waiting`; the waiter sets
     * `waiting` before it looks at the position. One of the two sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(waiting, memory_order_relaxed) != 0 && atomic_exchange(waiting, 0) != 0)
        shmb_doorbell_poke(doorbell);
}

int shmb_doorbell_take_token(shmb_doorbell *doorbell) {
    _Atomic uint32_t *tokens = &doorbell->shared->tokens;
    uint32_t there = atomic_load_explicit(tokens, memory_order_relaxed);
    while (there != 0) {
        uint32_t left = there <= TOKENS_MAX ? there - 1 : 0; /* more than can be: the peer wrote it */
        if (atomic_compare_exchange_weak(tokens, &there, left))
            return 1;
    }
    return 0;
}

void shmb_doorbell_announce(shmb_doorbell *doorbell, int waiting) {
    atomic_store(&doorbell->shared->waiting, (uint32_t)waiting);
    atomic_thread_fence(memory_order_seq_cst); /* before the last look at the rings: see shmb_doorbell_ring */
}

int shmb_doorbell_sleep(shmb_doorbell *doorbell, int64_t deadline_ns) {
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                             .tv_nsec = (long)(deadline_ns % 1000000000)};
    while (!shmb_doorbell_take_token(doorbell)) {
        /* Returns at once where there is a token by now. The time is an absolute, monotonic one. */
        long failed = syscall(SYS_futex, &doorbell->shared->tokens, FUTEX_WAIT_BITSET, 0,
                              deadline_ns < 0 ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
        if (failed && errno == EINTR)
            return SHMB_INTERRUPTED;
        if (failed && errno == ETIMEDOUT)
            return SHMB_TIMED_OUT;
    }
    return SHMB_OK;
}
