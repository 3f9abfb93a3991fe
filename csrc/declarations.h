/* The constants, the record layout and the functions that Python shares with C.
 *
 * Both the compiler and cffi read this file, so it has no preprocessor lines: include shmbridge.h instead.
 */

enum shmb_constants {
    SHMB_ABI = 3,           /* increases when a diagram or enum here or in shmbridge.h changes */
    SHMB_ALIGNMENT = 64,    /* of records and matrices, in bytes */
    SHMB_HEADER_SIZE = 64,  /* bytes */
    SHMB_NAME_MAX = 4096,   /* bytes of UTF-8 */
    SHMB_PAGE = 4096,       /* bytes */
    SHMB_HEAD_OFFSET = 128, /* from a ring's tail to its head; processors fetch cache lines in pairs */
    SHMB_STACK_SIGNAL = 42, /* a real-time signal; a child that receives it prints its stacks and ends */
};

enum shmb_result {
    SHMB_OK = 0,
    SHMB_EMPTY,       /* receive: no record */
    SHMB_FULL,        /* claim: no room until the consumer releases records */
    SHMB_HELD,        /* claim: the consumer has released everything; this end holds the rest of the ring */
    SHMB_TOO_LARGE,   /* claim: the record does not fit even into an empty ring */
    SHMB_CORRUPT,     /* the peer wrote an invalid value: see shmb_ring_problem */
    SHMB_DISOWNED,    /* this process is a fork of the owner of the ring end */
    SHMB_BAD_SPAN,    /* no such open claim */
    SHMB_NO_MEMORY,
    SHMB_INTERRUPTED, /* sleep: a signal arrived */
    SHMB_TIMED_OUT,   /* sleep */
};

enum shmb_role { SHMB_PRODUCER = 1, SHMB_CONSUMER = 2 };

enum shmb_kind {
    SHMB_PADDING = 1,
    SHMB_POSTERIORS = 2,
    SHMB_ERROR_SIGNAL = 3,
    SHMB_AUTOMATON_REQUEST = 4,
    SHMB_AUTOMATON = 5,
    SHMB_FEATURES = 6, /* Sprint requests scores for them, in the error-signal ring */
    SHMB_SCORES = 7,   /* the parent's answer, in the posteriors ring */
};

enum shmb_status {
    SHMB_ANSWERED = 0,
    SHMB_SKIPPED = 1, /* Sprint returned no error signal; the matrix is empty */
    SHMB_FAILED = 2,  /* the child raised a Python exception; the matrix is the report, JSON as uint8 */
};

/* Records use the first three, shmb_copy the floats. */
enum shmb_dtype {
    SHMB_FLOAT32 = 1,
    SHMB_UINT32 = 2,
    SHMB_UINT8 = 3,
    SHMB_FLOAT64 = 4,
    SHMB_FLOAT16 = 5,
    SHMB_BFLOAT16 = 6,
};

/* Which values of a matrix are invalid. */
enum shmb_check {
    SHMB_CHECK_NOTHING = 0,
    SHMB_CHECK_NAN = 1,     /* scores */
    SHMB_CHECK_NAN_INF = 2, /* posteriors: also plus infinity, but not minus infinity */
};

/* A record in a ring:
 *
 *          0 ┌──────────┬──────────┬──────────┬──────────────┐
 *            │ position │ size     │ sequence │ loss         │ 8 bytes each
 *         32 ├──────────┼──────────┴──────────┴──────────────┤
 *            │ states   │ kind │ status │ dtype │ name length │ 8, then 4 bytes each
 *         56 ├──────────┼──────────┬─────────────────────────┘
 *            │ rows     │ columns  │ 4 bytes each
 *         64 ├──────────┴──────────┴─────────────────────────┐
 *            │ segment name, UTF-8, padded to 64 bytes       │
 *            ├───────────────────────────────────────────────┤
 *            │ matrix, rows x columns, C order, padded to 64 │
 *            └───────────────────────────────────────────────┘
 */
typedef struct {
    uint64_t position; /* its own */
    uint64_t size;     /* of the whole record, in bytes */
    uint64_t sequence;
    double loss;
    uint64_t states; /* automata: the number of states; features: the number of labels to score */
    uint32_t kind;
    uint32_t status;
    uint32_t dtype;
    uint32_t name_length;
    uint32_t rows;
    uint32_t columns;
} shmb_record_header;

typedef struct shmb_memory shmb_memory;
typedef struct shmb_doorbell shmb_doorbell;
typedef struct shmb_ring_end shmb_ring_end;

/* --- memory.c: the shared-memory object, and a reference-counted mapping of it. Ring ends and doorbells hold
 * references to the mapping. */

/* Create an empty object without a name (a memfd), for this user only. Returns its descriptor, or -1 and sets
 * errno. */
int shmb_memory_create(void);
/* Forbid all processes to change the object's size, for good. Returns 0, or -1 and sets errno. */
int shmb_memory_seal(int descriptor);
/* Map the object. Returns NULL and sets errno if that fails. */
shmb_memory *shmb_memory_map(int descriptor, uint64_t size);
/* Drop a reference; the last one unmaps the object. */
void shmb_memory_free(shmb_memory *memory);
/* Return the address of `offset`, or NULL if offset + length lies outside the mapping. Takes no reference. */
void *shmb_memory_at(shmb_memory *memory, uint64_t offset, uint64_t length);

/* --- doorbell.c */

/* Open the doorbell at the offset; `create` initializes it first. Returns NULL if it lies outside the mapping. */
shmb_doorbell *shmb_doorbell_open(shmb_memory *memory, uint64_t offset, int create);
void shmb_doorbell_free(shmb_doorbell *doorbell);
/* Wake the waiter, or make its next wait return at once: for events that no ring shows. */
void shmb_doorbell_poke(shmb_doorbell *doorbell);

/* --- ring.c */

/* Open one end of the ring whose tail and head lie at control_offset and whose records start at data_offset.
 * The end rings peer_doorbell, which may be NULL, when it publishes a position. Returns NULL if the geometry is
 * invalid or memory is short. */
shmb_ring_end *shmb_ring_open(shmb_memory *memory, uint64_t control_offset, uint64_t data_offset,
                              uint64_t capacity, int role, shmb_doorbell *peer_doorbell);
/* Call it in the child of a fork: from then on all calls return SHMB_DISOWNED and change nothing. */
void shmb_ring_disown(shmb_ring_end *end);
/* Return the reason for SHMB_CORRUPT, with the value found and the limit. */
const char *shmb_ring_problem(shmb_ring_end *end, uint64_t *value, uint64_t *limit);
/* Return the size of a record in the ring, or 0 if it overflows or the dtype is not valid in records. */
uint64_t shmb_record_size(uint32_t dtype, uint64_t rows, uint64_t columns, uint64_t name_length);
/* Return the position up to which the consumer has released, as far as this end knows. */
uint64_t shmb_ring_released(shmb_ring_end *end);
/* Return the bytes from this end's oldest record in use to its next position. */
uint64_t shmb_ring_used(shmb_ring_end *end);

/* --- wait.c: spin, then sleep. Both may return spuriously: check the rings, and wait again.
 * They are separate calls so that Python handles a signal that arrives during the spin before the sleep. */

/* Spin for at most max_spin_ns, and for less if recent waits were typically long. Returns SHMB_OK when an end
 * has news (a record, or room) or the doorbell was poked, else SHMB_EMPTY. */
int shmb_spin(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t max_spin_ns);
/* Sleep until the same (SHMB_OK), until timeout_ns have passed (SHMB_TIMED_OUT; negative: no limit), or until a
 * signal arrives (SHMB_INTERRUPTED). */
int shmb_sleep(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t timeout_ns);
/* Return the total duration of all finished waits at this doorbell, in nanoseconds. */
int64_t shmb_waited(shmb_doorbell *doorbell);

/* --- signals.c */

/* Do nothing at SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2, except those that are handled already. */
void shmb_signals_ignore(void);
/* Call these in the thread that forks: the child of the fork is ended by these signals, as by default. */
void shmb_signals_before_fork(void);
void shmb_signals_after_fork(int in_child);

/* --- parent_death.c */

/* Make this process exit, with code 1, grace_ms after the process of the pidfd exits, or after the last writer of
 * the pipe has closed it. The pidfd may be -1. The caller may close both descriptors afterwards. Returns 0 or an
 * errno value. */
int shmb_exit_with_parent(int pidfd, int pipe, int grace_ms);

/* --- latch.c: an event that happens once, for threads of this process; a word that is 0 at first */

/* Let all waiters return, now and later. */
void shmb_latch_open(uint32_t *latch);
/* Wait until it is open (SHMB_OK), until timeout_ns have passed (SHMB_TIMED_OUT; negative: no limit), or until a
 * signal arrives (SHMB_INTERRUPTED). */
int shmb_latch_wait(uint32_t *latch, int64_t timeout_ns);

/* --- path_sums.c: sums over all paths of automata, on the CPU */

/* Automata of a batch. A node is a state entered, or left, with one label; a path visits one node for each frame. Nodes
 * and labels of a sequence are contiguous. Weights are natural logarithms of probabilities; -inf forbids. */
typedef struct {
    const int64_t *node_begin;  /* (batch + 1) */
    const double *initial;      /* (node): weight of a path that begins there */
    const double *final;        /* (node): weight of a path that ends there */
    const int64_t *in_begin;    /* (node + 1): the incoming arcs of each node */
    const int64_t *in_nodes;    /* (arc): where they come from */
    const double *in_weights;   /* (arc) */
    const int64_t *out_begin;   /* (node + 1): the outgoing arcs of each node, the same arcs */
    const int64_t *out_nodes;   /* (arc): where they lead */
    const double *out_weights;  /* (arc) */
    const int64_t *label_begin; /* (batch + 1) */
    const int64_t *labels;      /* (used label): columns of the scores */
    const int64_t *node_label;  /* (node): which of the used labels of its sequence */
} shmb_path_graph;

/* Scores (time,batch,label). Strides count elements. */
typedef struct {
    const void *values;
    int is_double; /* else float */
    int64_t time_stride;
    int64_t batch_stride;
    int64_t label_stride;
    int64_t batch;
    const int64_t *lengths; /* (batch), each at least 1 */
} shmb_path_scores;

/* Store ln of the sum over all paths of each sequence: -inf if it has no path, NaN if a score that it uses is NaN or plus
 * infinity. Unless NULL, `occupations` has dtype and strides of the scores, and gets the probability that a path emits the
 * label in the frame; what no path can emit stays as it is. Trusts all arguments. Returns SHMB_OK or SHMB_NO_MEMORY. */
int shmb_sum_paths(const shmb_path_graph *graph, const shmb_path_scores *scores, double *log_sums,
                   void *occupations, int threads);
