/* The semaphore at which a process sleeps until another one has news.
 *
 * A counting semaphore over a futex, because POSIX's sem_t does not fit: glibc aborts the process if the peer has
 * overwritten one, and its layout may differ between the C libraries of Sprint and the trainer. Here any value that
 * the peer writes is a number of tokens: at worst it causes a spurious wake-up or a missing one.
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

/* In shared memory. `waiting` saves both sides the system call while no process sleeps. */
typedef struct {
    _Alignas(64) _Atomic uint32_t tokens;
    _Alignas(64) _Atomic uint32_t waiting;
} shared_doorbell;

struct shmb_doorbell {
    shmb_memory *memory;
    shared_doorbell *shared;
    shmb_waits waits;
    atomic_uint count; /* references: the ring ends that ring it hold one each */
};

/* ThreadSanitizer does not model fences. A read-modify-write of a word that both sides access orders the same. */
#if defined(__SANITIZE_THREAD__)
#define FENCE(doorbell, order) atomic_fetch_add(&(doorbell)->shared->waiting, 0)
#else
#define FENCE(doorbell, order) atomic_thread_fence(order)
#endif

enum { TOKENS_MAX = 1024 }; /* bounds the tokens of pokes without a waiter */

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
    /* The process that takes a token must see the news, even if the maximum is reached and none is added. */
    FENCE(doorbell, memory_order_seq_cst);
    if (atomic_load(tokens) < TOKENS_MAX)
        atomic_fetch_add(tokens, 1);
    syscall(SYS_futex, tokens, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void shmb_doorbell_ring(shmb_doorbell *doorbell, uint32_t role) {
    _Atomic uint32_t *waiting = &doorbell->shared->waiting;
    /* The fence orders the store of a position before the load of `waiting`; the waiter stores `waiting` before it
     * loads the position. At least one of them sees the other's store. */
    FENCE(doorbell, memory_order_seq_cst);
    if ((atomic_load_explicit(waiting, memory_order_relaxed) & role) != 0 && atomic_exchange(waiting, 0) != 0)
        shmb_doorbell_poke(doorbell);
}

int shmb_doorbell_take_token(shmb_doorbell *doorbell) {
    _Atomic uint32_t *tokens = &doorbell->shared->tokens;
    uint32_t count = atomic_load_explicit(tokens, memory_order_relaxed);
    while (count != 0) {
        uint32_t left = count <= TOKENS_MAX ? count - 1 : 0; /* the peer wrote an impossible number */
        if (atomic_compare_exchange_weak(tokens, &count, left)) {
            /* A poke that found the maximum added no token, so this process must see its news. */
            FENCE(doorbell, memory_order_seq_cst);
            return 1;
        }
    }
    return 0;
}

void shmb_doorbell_announce(shmb_doorbell *doorbell, uint32_t roles) {
    atomic_store(&doorbell->shared->waiting, roles);
    FENCE(doorbell, memory_order_seq_cst); /* before the last check of the rings: see shmb_doorbell_ring */
}

int shmb_doorbell_sleep(shmb_doorbell *doorbell, int64_t deadline_ns) {
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                             .tv_nsec = (long)(deadline_ns % 1000000000)};
    while (!shmb_doorbell_take_token(doorbell)) {
        /* Returns at once if a token has arrived. The timeout is an absolute time of the monotonic clock. */
        long failed = syscall(SYS_futex, &doorbell->shared->tokens, FUTEX_WAIT_BITSET, 0,
                              deadline_ns < 0 ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
        if (failed && errno == EINTR)
            return SHMB_INTERRUPTED;
        if (failed && errno == ETIMEDOUT)
            return SHMB_TIMED_OUT;
    }
    return SHMB_OK;
}
