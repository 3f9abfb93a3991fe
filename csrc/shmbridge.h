/* The shared memory of one child, and all functions on it. Python shares the part in declarations.h.
 *
 * One POSIX shared-memory object per child holds two rings: posteriors travel from the parent to the child,
 * error signals travel back. Each ring has one producer and one consumer.
 *
 *   object   0 ┌───────────────────────────────────────────────┐
 *              │ child's doorbell                              │ the child sleeps here
 *        4 kB  ├───────────────────────────────────────────────┤
 *              │ posteriors ring:    tail line │ head line     │ only the producer writes the tail,
 *              │ error-signal ring:  tail line │ head line     │ only the consumer the head
 *        8 kB  ├───────────────────────────────────────────────┤
 *              │ posteriors ring:    records                   │
 *              ├───────────────────────────────────────────────┤
 *              │ error-signal ring:  records                   │
 *              └───────────────────────────────────────────────┘
 *
 * The parent's doorbell lies in an object of its own: a process sleeps at one doorbell only, and the parent waits
 * for all its children at once.
 *
 * Positions are 64-bit byte counts that only increase. A record starts at position % capacity and is contiguous;
 * declarations.h shows its layout. If it does not fit before the end of the ring, a padding record fills the end.
 *
 * The peer can write any bytes. Positions and headers are copied once, checked against private state, and only then
 * used. A ring end remembers the first invalid value (shmb_ring_problem).
 *
 * Thread-safety: every function of a ring end locks that end's private mutex, so that any thread may finalize an
 * array. Any number of threads may ring a doorbell; one at a time may wait at it.
 */
#ifndef SHMBRIDGE_H
#define SHMBRIDGE_H

#include <stddef.h>
#include <stdint.h>

#include "declarations.h"

/* A record as one process sees it. */
typedef struct {
    uint64_t position; /* identifies the record in commit, abort and release */
    uint64_t sequence;
    double loss;
    uint64_t states;
    uint32_t kind;
    uint32_t status;
    uint32_t dtype;
    uint32_t name_length;
    uint32_t rows;
    uint32_t columns;
    char *name;   /* in shared memory, without a terminator: copy it before checking it */
    void *matrix; /* in shared memory */
} shmb_record;

/* How long a doorbell's waiter has waited, in nanoseconds of the monotonic clock. Private to its process. */
typedef struct {
    int64_t typical; /* moving average */
    int64_t start;   /* of the current wait; 0 outside of waits */
    int64_t max_spin;
    int64_t spin_end;  /* of the current wait, if its spin should have seen the news; else 0 */
    int64_t pause;     /* the duration of the last pause of spins */
    int64_t pause_end; /* when it ends, or ended */
    _Atomic int64_t total; /* of all finished waits; any thread may read it */
} shmb_waits;

/* --- memory.c */

/* Take a reference. */
void shmb_memory_retain(shmb_memory *memory);

/* --- doorbell.c */

void shmb_doorbell_retain(shmb_doorbell *doorbell);
/* Wake the waiter, if it sleeps and waits for what an end of this role (shmb_role) publishes. */
void shmb_doorbell_ring(shmb_doorbell *doorbell, uint32_t role);

/* The steps of shmb_spin and shmb_sleep. */

shmb_waits *shmb_doorbell_waits(shmb_doorbell *doorbell);
/* Return whether a ring or poke left a token, and take it. */
int shmb_doorbell_take_token(shmb_doorbell *doorbell);
/* Set the roles (shmb_role, combined by |) for which shmb_doorbell_ring must wake the waiter; 0 for none. */
void shmb_doorbell_announce(shmb_doorbell *doorbell, uint32_t roles);
/* Sleep until a token arrives (SHMB_OK), until the monotonic deadline (SHMB_TIMED_OUT; negative: none), or until a
 * signal arrives (SHMB_INTERRUPTED). */
int shmb_doorbell_sleep(shmb_doorbell *doorbell, int64_t deadline_ns);

/* --- ring.c */

int shmb_ring_role(shmb_ring_end *end);
void shmb_ring_retain(shmb_ring_end *end);
void shmb_ring_free(shmb_ring_end *end);
/* Return whether this end has news: a record to receive, or a head that moved since the last claim. */
int shmb_ring_has_news(shmb_ring_end *end);

/* Producer. The consumer receives records in the order of their claims; they may be committed in any order. */

/* Claim a record. Reads kind, dtype, rows, columns, sequence and name_length; sets position, name and matrix. */
int shmb_ring_claim(shmb_ring_end *end, shmb_record *record, const char *name);
int shmb_ring_commit(shmb_ring_end *end, uint64_t position, uint32_t status, double loss, uint64_t states);
int shmb_ring_abort(shmb_ring_end *end, uint64_t position);
/* Return whether there is an open claim; set sequence, name_length and name to those of the oldest. */
int shmb_ring_oldest_open(shmb_ring_end *end, shmb_record *record);
/* Count an array that views the open claim. The ring does not reuse the space of an anchored claim, even after an
 * abort, or a commit and release. */
int shmb_ring_anchor(shmb_ring_end *end, uint64_t position);
void shmb_ring_unanchor(shmb_ring_end *end, uint64_t position);

/* Consumer. Records arrive in order and may be released in any order. */

int shmb_ring_receive(shmb_ring_end *end, shmb_record *record);
void shmb_ring_release(shmb_ring_end *end, uint64_t position);

/* --- allocation.c: numpy allocates an array in a claim (NEP 49) */

/* Return a PyDataMem_Handler that passes all other allocations to default_handler. */
const void *shmb_allocation_handler(const void *default_handler);
/* Use `matrix` of the claim at `position` for this thread's next allocation of exactly `size` bytes, instead of the
 * claim expected before. The claim is anchored until numpy frees the allocation. If `in_place` is 0, the allocation
 * stays elsewhere, and is only observed. */
void shmb_allocation_expect(shmb_ring_end *end, uint64_t position, void *matrix, uint64_t size, int in_place);
/* Expect no allocation any more, if this thread expects one in this claim. */
void shmb_allocation_cancel(shmb_ring_end *end, uint64_t position);
/* Return whether this thread still expects an allocation in this claim. */
int shmb_allocation_is_expected(shmb_ring_end *end, uint64_t position);
/* Return whether the allocation that this claim expected lives. */
int shmb_allocation_lives(shmb_ring_end *end, uint64_t position);
/* Commit the claim when numpy frees the allocation in it. Return 0 if there is none. */
int shmb_allocation_commit_when_freed(shmb_ring_end *end, uint64_t position, double loss);
/* Undo that. Return 0 if the allocation was freed, and the claim committed. */
int shmb_allocation_take_back(shmb_ring_end *end, uint64_t position);

/* --- copy.c */

/* Copy a strided rows x columns matrix of any float dtype into float32 rows. Strides are in bytes and may be
 * negative; target_stride separates rows, whose elements are contiguous. check is a shmb_check. use_second_thread
 * shares large matrices with a second thread. Returns -1, or the index (row * columns + column) of the first invalid
 * value, at which the copy stops. */
int64_t shmb_copy(float *target, int64_t target_stride, const void *source, uint32_t dtype, uint64_t rows,
                  uint64_t columns, int64_t row_stride, int64_t column_stride, uint32_t check,
                  int use_second_thread);
/* Return the index of the first invalid value, or -1. check is a shmb_check, but not SHMB_CHECK_NOTHING. */
int64_t shmb_find_invalid(const float *values, uint64_t count, uint32_t check);
/* Return the sum of the exponentials, with a relative error of at most 0.4 %. Exponents are limited to +-87. */
float shmb_sum_of_exponentials(const float *values, uint64_t count);

#endif
