/* What Python sees of shmbridge.h, without what only a preprocessor or a reader needs; the compiler holds the
 * two against each other when the module is built. */
enum shmb_constants {
    SHMB_ABI = ...,
    SHMB_ALIGNMENT = ...,
    SHMB_HEADER_SIZE = ...,
    SHMB_NAME_MAX = ...,
    SHMB_PAGE = ...,
    SHMB_STACK_SIGNAL = ...,
};

enum shmb_result {
    SHMB_OK = 0,
    SHMB_EMPTY,
    SHMB_FULL,
    SHMB_HELD,
    SHMB_TOO_LARGE,
    SHMB_CORRUPT,
    SHMB_DISOWNED,
    SHMB_BAD_SPAN,
    SHMB_NO_MEMORY,
    SHMB_INTERRUPTED,
    SHMB_TIMED_OUT,
};

enum shmb_role { SHMB_PRODUCER = 1, SHMB_CONSUMER = 2 };

enum shmb_kind {
    SHMB_PADDING = 1,
    SHMB_POSTERIORS = 2,
    SHMB_ERROR_SIGNAL = 3,
    SHMB_AUTOMATON_REQUEST = 4,
    SHMB_AUTOMATON = 5,
    SHMB_FEATURES = 6,
    SHMB_SCORES = 7,
};

enum shmb_status {
    SHMB_ANSWERED = 0,
    SHMB_SKIPPED = 1,
    SHMB_FAILED = 2,
};

enum shmb_dtype {
    SHMB_FLOAT32 = 1,
    SHMB_UINT32 = 2,
    SHMB_UINT8 = 3,
    SHMB_FLOAT64 = 4,
    SHMB_FLOAT16 = 5,
    SHMB_BFLOAT16 = 6,
};

typedef struct shmb_memory shmb_memory;
typedef struct shmb_doorbell shmb_doorbell;
typedef struct shmb_ring_end shmb_ring_end;

shmb_memory *shmb_memory_map(int descriptor, uint64_t size);
void shmb_memory_free(shmb_memory *memory);
void *shmb_memory_at(shmb_memory *memory, uint64_t offset, uint64_t length);

shmb_doorbell *shmb_doorbell_open(shmb_memory *memory, uint64_t offset, int create);
void shmb_doorbell_free(shmb_doorbell *doorbell);

void shmb_doorbell_poke(shmb_doorbell *doorbell);

int shmb_spin(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t max_spin_ns);
int shmb_sleep(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t timeout_ns);
int64_t shmb_waited(shmb_doorbell *doorbell);

shmb_ring_end *shmb_ring_open(shmb_memory *memory, uint64_t control_offset, uint64_t data_offset,
                              uint64_t capacity, int role, shmb_doorbell *peer_doorbell);

void shmb_ring_disown(shmb_ring_end *end);

const char *shmb_ring_problem(shmb_ring_end *end, uint64_t *value, uint64_t *limit);

uint64_t shmb_record_size(uint32_t dtype, uint64_t rows, uint64_t columns, uint64_t name_length);

uint64_t shmb_ring_released(shmb_ring_end *end);
uint64_t shmb_ring_used(shmb_ring_end *end);

int shmb_end_with(int pidfd, int grace_ms);
