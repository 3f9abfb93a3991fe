/* The shared memory of one instance, and what may be done with it.
 *
 * One POSIX object per instance holds two rings: posteriors run from the parent to the child, error
 * signals run back. Each ring has one producer and one consumer.
 *
 *   object   0 ┌───────────────────────────────────────────────┐
 *              │ child's doorbell                              │ where the child sleeps
 *        4 kB  ├───────────────────────────────────────────────┤
 *              │ posteriors ring:    tail line │ head line     │ tail: written by the producer only
 *              │ error-signal ring:  tail line │ head line     │ head: written by the consumer only
 *        8 kB  ├───────────────────────────────────────────────┤
 *              │ posteriors ring:    records                   │
 *              ├───────────────────────────────────────────────┤
 *              │ error-signal ring:  records                   │
 *              └───────────────────────────────────────────────┘
 *   The parent's doorbell lies in an object of its own: a process can sleep in one place only,
 *   and the parent of many children sleeps in one for all of them.
 *
 *   record   0 ┌──────────┬──────────┬──────────┬──────────────┐
 *              │ position │ size     │ sequence │ loss         │ 8 bytes each
 *           32 ├──────────┼──────────┼──────────┼──────────────┤
 *              │ states   │ kind │ status │ dtype │ name length│ 8, then 4 bytes each, then
 *              │          │ rows │ columns (4 bytes each)      │
 *           64 ├──────────┴────────────────────────────────────┤
 *              │ segment name, UTF-8, filled up to 64          │
 *              ├───────────────────────────────────────────────┤
 *              │ matrix, rows x columns, C order, filled to 64 │
 *              └───────────────────────────────────────────────┘
 *
 * Positions are 64-bit byte counts that only grow; a record lies at position % capacity and is
 * contiguous. Where it would not fit before the end of the ring, a padding record fills the end.
 *
 * Nothing that the peer can write is trusted: positions and headers are copied once, checked
 * against private state, and only then used. What was found wrong is kept (shmb_ring_problem).
 *
 * Thread-safety: every function of a ring end takes that end's private mutex, so that an array's
 * finaliser may run in any thread. A doorbell may be rung by many, and waited at by one thread.
 */
#ifndef SHMBRIDGE_H
#define SHMBRIDGE_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

enum shmb_constants {
    SHMB_ABI = 2,          /* grows whenever anything in the diagrams above, or a kind of record, changes */
    SHMB_ALIGNMENT = 64,   /* of records and matrices */
    SHMB_HEADER_SIZE = 64,
    SHMB_NAME_MAX = 4096,  /* bytes of UTF-8 */
    SHMB_PAGE = 4096,
    SHMB_STACK_SIGNAL = SIGUSR1, /* a child that gets it writes its stacks and ends */
};

enum shmb_result {
    SHMB_OK = 0,
    SHMB_EMPTY,       /* receive: no record */
    SHMB_FULL,        /* claim: no room now */
    SHMB_HELD,        /* claim: no room until this side gives some back: the consumer has released all it got */
    SHMB_TOO_LARGE,   /* claim: no room ever */
    SHMB_CORRUPT,     /* the peer wrote what cannot be: see shmb_ring_problem */
    SHMB_DISOWNED,    /* this process is a fork of the one that owns the end */
    SHMB_BAD_SPAN,    /* no such claim, or no such received record */
    SHMB_NO_MEMORY,
    SHMB_INTERRUPTED, /* wait: a signal arrived */
    SHMB_TIMED_OUT,
};

enum shmb_role { SHMB_PRODUCER = 1, SHMB_CONSUMER = 2 };

enum shmb_kind {
    SHMB_PADDING = 1,
    SHMB_POSTERIORS = 2,
    SHMB_ERROR_SIGNAL = 3,
    SHMB_AUTOMATON_REQUEST = 4,
    SHMB_AUTOMATON = 5,
    SHMB_FEATURES = 6, /* of Sprint, which asks for their scores: in the error-signal ring */
    SHMB_SCORES = 7,   /* the answer, of the parent: in the posteriors ring */
};

enum shmb_status {
    SHMB_ANSWERED = 0,
    SHMB_SKIPPED = 1, /* Sprint gave no error signal; the record has no matrix */
    SHMB_FAILED = 2,  /* the child's Python raised; the matrix is the report, JSON as uint8 */
};

/* Of records: the first three. Of what shmb_copy takes: the floats. */
enum shmb_dtype {
    SHMB_FLOAT32 = 1,
    SHMB_UINT32 = 2,
    SHMB_UINT8 = 3,
    SHMB_FLOAT64 = 4,
    SHMB_FLOAT16 = 5,
    SHMB_BFLOAT16 = 6,
};

/* A record as one process sees it. */
typedef struct {
    uint64_t position; /* names the record in commit, abort and release */
    uint64_t sequence;
    double loss;
    uint64_t states; /* of an automaton; of features: the labels for which scores are asked */
    uint32_t kind;
    uint32_t status;
    uint32_t dtype;
    uint32_t name_length;
    uint32_t rows;
    uint32_t columns;
    char *name;   /* in shared memory, not terminated: copy it before you look at it */
    void *matrix; /* in shared memory */
} shmb_record;

typedef struct shmb_memory shmb_memory;
typedef struct shmb_doorbell shmb_doorbell;
typedef struct shmb_ring_end shmb_ring_end;

/* How long the waiter of a doorbell has waited, in nanoseconds of the monotonic clock. Private to its process. */
typedef struct {
    int64_t typical; /* moving average */
    int64_t start;   /* of the wait that is under way; 0: none */
    int64_t max_spin;
    _Atomic int64_t total; /* of all waits that are over; any thread may read it */
} shmb_waits;

/* --- memory.c: a mapping, counted: it is unmapped when the last ring end and doorbell are freed. */

/* Maps the object; NULL and errno where that fails. */
shmb_memory *shmb_memory_map(int descriptor, uint64_t size);
void shmb_memory_free(shmb_memory *memory);
/* The bytes from offset on, or NULL where offset + length lies outside the mapping. Takes no count. */
void *shmb_memory_at(shmb_memory *memory, uint64_t offset, uint64_t length);
void shmb_memory_retain(shmb_memory *memory);

/* --- doorbell.c */

/* Opens the doorbell at the offset; `create` writes it first. NULL where it lies outside. */
shmb_doorbell *shmb_doorbell_open(shmb_memory *memory, uint64_t offset, int create);
void shmb_doorbell_retain(shmb_doorbell *doorbell);
void shmb_doorbell_free(shmb_doorbell *doorbell);
/* Wakes the waiter if there is one: for news that it will see in a ring when it looks again. */
void shmb_doorbell_ring(shmb_doorbell *doorbell);
/* Wakes the waiter, or lets the next wait return at once: for news from anywhere else. */
void shmb_doorbell_poke(shmb_doorbell *doorbell);
/* The steps of shmb_spin and shmb_sleep. take_token: whether somebody rang or poked. announce: whether a sleeper is
 * to be woken. sleep: until a token comes (SHMB_OK), the monotonic deadline (never, if negative; SHMB_TIMED_OUT) or
 * a signal (SHMB_INTERRUPTED). */
shmb_waits *shmb_doorbell_waits(shmb_doorbell *doorbell);
int shmb_doorbell_take_token(shmb_doorbell *doorbell);
void shmb_doorbell_announce(shmb_doorbell *doorbell, int waiting);
int shmb_doorbell_sleep(shmb_doorbell *doorbell, int64_t deadline_ns);

/* --- ring.c */

/* One process' end of the ring whose tail and head lines lie at control_offset and whose records lie at
 * data_offset. peer_doorbell is rung when there is news for the peer; it may be NULL. NULL where the
 * geometry is impossible or memory is short. */
shmb_ring_end *shmb_ring_open(shmb_memory *memory, uint64_t control_offset, uint64_t data_offset,
                              uint64_t capacity, int role, shmb_doorbell *peer_doorbell);
int shmb_ring_role(shmb_ring_end *end);
void shmb_ring_retain(shmb_ring_end *end);
void shmb_ring_free(shmb_ring_end *end);
/* After a fork, in the child: every further use returns SHMB_DISOWNED and changes nothing. */
void shmb_ring_disown(shmb_ring_end *end);
/* What was wrong when SHMB_CORRUPT was returned: a sentence, the value found and the limit. */
const char *shmb_ring_problem(shmb_ring_end *end, uint64_t *value, uint64_t *limit);
/* The size of a record in the ring; 0 where it overflows or the dtype is unknown. */
uint64_t shmb_record_size(uint32_t dtype, uint64_t rows, uint64_t columns, uint64_t name_length);

/* Producer. claim: in kind, dtype, rows, columns, sequence, name_length; out position, name, matrix.
 * Claims may be committed in any order; the consumer sees them in the order of their claiming. */
int shmb_ring_claim(shmb_ring_end *end, shmb_record *record, const char *name);
int shmb_ring_commit(shmb_ring_end *end, uint64_t position, uint32_t status, double loss, uint64_t states);
int shmb_ring_abort(shmb_ring_end *end, uint64_t position);
/* The oldest claim that is neither committed nor aborted: whether there is one, its sequence number and name. */
int shmb_ring_oldest_open(shmb_ring_end *end, shmb_record *record);
/* An array views the open claim, or no longer does: the space of an anchored claim is not used again, even when it
 * was aborted, or committed and released. The last argument of unanchor is ignored: it lets cffi call
 * this as the destructor of the matrix. */
int shmb_ring_anchor(shmb_ring_end *end, uint64_t position);
void shmb_ring_unanchor(shmb_ring_end *end, uint64_t position, void *matrix);

/* Consumer. Records are received in order and may be released in any. */
int shmb_ring_receive(shmb_ring_end *end, shmb_record *record);
void shmb_ring_release(shmb_ring_end *end, uint64_t position, void *matrix);
/* The position up to which the consumer has released, as this end knows. */
uint64_t shmb_ring_released(shmb_ring_end *end);
/* Bytes between the oldest record that is in use and the next position, at this end. */
uint64_t shmb_ring_used(shmb_ring_end *end);
/* Whether there is news at this end: a record to receive, or that the peer moved since the last claim. */
int shmb_ring_has_news(shmb_ring_end *end);

/* --- wait.c: to wait is to spin, then to sleep, then to look; each may be in vain.
 * They are two functions so that Python handles a signal that came while it spun before it sleeps. */

/* Returns SHMB_OK when one of the ends has news (a record, or room) or somebody poked; SHMB_EMPTY when neither came
 * within the time. That is max_spin_ns at most, and little where waits have typically been long of late. */
int shmb_spin(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t max_spin_ns);
/* Sleeps until then: SHMB_OK; SHMB_TIMED_OUT after timeout_ns (never, if negative); SHMB_INTERRUPTED. */
int shmb_sleep(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t timeout_ns);
/* For how long this doorbell has been waited at in all, in nanoseconds. */
int64_t shmb_waited(shmb_doorbell *doorbell);

/* --- guard.c */

/* From now on this process ends, with exit code 1, at the latest so many milliseconds after that of the pidfd. The
 * descriptor may be closed afterwards. Returns 0, or the number of the error. */
int shmb_end_with(int pidfd, int grace_ms);

/* --- landing.c: numpy allocates its array in the ring (NEP 49) */

/* A PyDataMem_Handler for numpy. Other allocations than the one that was announced go to the default one. */
const void *shmb_landing_handler(const void *default_handler);
/* The next allocation in this thread of exactly `size` bytes is to be `matrix`, that of the claim at `position`;
 * what this thread expected before is forgotten. The claim is then anchored until numpy frees the allocation. */
void shmb_landing_expect(shmb_ring_end *end, uint64_t position, void *matrix, uint64_t size);
/* No longer, if it is this claim's that this thread expects. */
void shmb_landing_stop(shmb_ring_end *end, uint64_t position);

/* --- copy.c */

/* Copies a strided rows x columns matrix of any float dtype into float32 rows. Strides are in bytes and may
 * be negative; those of the target are of its rows, whose elements are contiguous. Large matrices are shared with a
 * second thread, if wanted. Returns -1, or where it is to look for NaN, the index (row * columns + column) of the
 * first; the copy is then not complete. */
int64_t shmb_copy(float *target, int64_t target_stride, const void *source, uint32_t dtype, uint64_t rows,
                  uint64_t columns, int64_t row_stride, int64_t column_stride, int look, int two_threads);
/* The index of the first NaN, or -1. */
int64_t shmb_find_nan(const float *values, uint64_t count);

#endif
