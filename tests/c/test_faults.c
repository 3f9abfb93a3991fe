/* Each malloc and system call of csrc fails once: an error is returned, nothing is leaked, and work continues.
 *
 * The linker replaces the calls (--wrap, see the Makefile). A scenario is repeated: in its n-th run the n-th call fails,
 * until a run has no n-th call. Takes no arguments; prints what has failed and how often.
 */
#define _GNU_SOURCE
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static int fail_at;    /* the number of calls until one fails; 0: none does */
static int error;      /* errno of the failure */
static int has_failed; /* in this run */
static int memory_blocks, mappings; /* that csrc has not freed */

static struct {
    const char *name;
    int count;
} failures[16];

static int fails(const char *name) {
    if (fail_at == 0 || --fail_at > 0)
        return 0;
    has_failed = 1;
    errno = error;
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        if (failures[i].name == NULL || strcmp(failures[i].name, name) == 0) {
            failures[i].name = name;
            failures[i].count++;
            return 1;
        }
    }
    CHECK(!"there is room for the name");
    return 1;
}

/* --- replaced calls; the linker resolves __real_x to x */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void __real_free(void *pointer);
void *__real_mmap(void *address, size_t size, int protection, int flags, int descriptor, off_t offset);
int __real_munmap(void *address, size_t size);
int __real_fchmod(int descriptor, mode_t mode);
int __real_fcntl(int descriptor, int command, ...);
long __real_syscall(long number, ...);
int __real_poll(struct pollfd *descriptors, nfds_t count, int timeout);
int __real_nanosleep(const struct timespec *duration, struct timespec *left);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);

void *__wrap_malloc(size_t size) {
    void *pointer = fails("malloc") ? NULL : __real_malloc(size);
    memory_blocks += pointer != NULL;
    return pointer;
}

void *__wrap_calloc(size_t count, size_t size) {
    void *pointer = fails("calloc") ? NULL : __real_calloc(count, size);
    memory_blocks += pointer != NULL;
    return pointer;
}

void __wrap_free(void *pointer) {
    memory_blocks -= pointer != NULL;
    __real_free(pointer);
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int descriptor, off_t offset) {
    void *mapping = fails("mmap") ? MAP_FAILED : __real_mmap(address, size, protection, flags, descriptor, offset);
    mappings += mapping != MAP_FAILED;
    return mapping;
}

int __wrap_munmap(void *address, size_t size) {
    mappings--;
    return __real_munmap(address, size);
}

int __wrap_fchmod(int descriptor, mode_t mode) { return fails("fchmod") ? -1 : __real_fchmod(descriptor, mode); }

int __wrap_fcntl(int descriptor, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    int argument = va_arg(arguments, int);
    va_end(arguments);
    return fails("fcntl") ? -1 : __real_fcntl(descriptor, command, argument);
}

long __wrap_syscall(long number, ...) {
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    return fails(number == SYS_futex ? "futex" : "memfd_create") ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int __wrap_poll(struct pollfd *descriptors, nfds_t count, int timeout) {
    return fails("poll") ? -1 : __real_poll(descriptors, count, timeout);
}

int __wrap_nanosleep(const struct timespec *duration, struct timespec *left) {
    return fails("nanosleep") ? -1 : __real_nanosleep(duration, left);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    return fails("pthread_create") ? error : __real_pthread_create(thread, attributes, run, argument);
}

/* --- scenarios: each returns whether it succeeded */

enum { CAPACITY = 64 * 200, MANY = 100 };

/* With EINVAL, the first memfd_create is repeated without the flag that old kernels do not have. */
static int creates_and_seals(void) {
    int descriptor = shmb_memory_create();
    if (descriptor < 0) {
        CHECK_EQUAL(errno, error);
        return 0;
    }
    struct stat status;
    CHECK(fstat(descriptor, &status) == 0);
    CHECK_EQUAL(status.st_mode & 0777, 0600);
    CHECK(ftruncate(descriptor, 4096) == 0);
    int sealed = shmb_memory_seal(descriptor) == 0;
    CHECK_EQUAL(ftruncate(descriptor, 0) == 0, !sealed);
    close(descriptor);
    return sealed || error == EINVAL;
}

static shmb_record record_of(uint64_t sequence) {
    return (shmb_record){.kind = SHMB_POSTERIORS, .dtype = SHMB_UINT8, .sequence = sequence};
}

/* The queues of spans grow on both sides. A claim or receive that fails is repeated, and nothing is lost. */
static int passes_records(shmb_ring_end *producer, shmb_ring_end *consumer) {
    uint64_t positions[MANY];
    int succeeded = 1;
    for (uint64_t i = 0; i < MANY; i++) {
        shmb_record record = record_of(i);
        int result;
        while ((result = shmb_ring_claim(producer, &record, "")) == SHMB_NO_MEMORY)
            succeeded = 0;
        CHECK_EQUAL(result, SHMB_OK);
        positions[i] = record.position;
    }
    for (int i = 0; i < MANY; i++)
        CHECK_EQUAL(shmb_ring_commit(producer, positions[i], 0, 0, 0), SHMB_OK);
    for (uint64_t i = 0; i < MANY; i++) {
        shmb_record record;
        int result;
        while ((result = shmb_ring_receive(consumer, &record)) == SHMB_NO_MEMORY)
            succeeded = 0;
        CHECK_EQUAL(result, SHMB_OK);
        CHECK_EQUAL(record.sequence, i);
        positions[i] = record.position;
    }
    for (int i = 0; i < MANY; i++)
        shmb_ring_release(consumer, positions[i]);
    CHECK_EQUAL(shmb_ring_used(consumer), 0);
    return succeeded;
}

static int descriptor_of_ring;

static int opens_and_passes_records(void) {
    int succeeded = 0;
    shmb_memory *memory = shmb_memory_map(descriptor_of_ring, RECORDS + CAPACITY);
    if (memory == NULL)
        return 0;
    shmb_doorbell *bell = shmb_doorbell_open(memory, CONSUMER_BELL, 1);
    if (bell != NULL) {
        memset(shmb_memory_at(memory, LINES, RECORDS - LINES), 0, RECORDS - LINES);
        shmb_ring_end *producer = shmb_ring_open(memory, LINES, RECORDS, CAPACITY, SHMB_PRODUCER, bell);
        shmb_ring_end *consumer = shmb_ring_open(memory, LINES, RECORDS, CAPACITY, SHMB_CONSUMER, NULL);
        if (producer != NULL && consumer != NULL)
            succeeded = passes_records(producer, consumer);
        shmb_ring_free(producer);
        shmb_ring_free(consumer);
    }
    shmb_doorbell_free(bell);
    shmb_memory_free(memory);
    return succeeded;
}

/* A wake that fails loses nothing: the token is there. A sleep that is interrupted or late says so. */
static int sleeps(void) {
    shmb_memory *memory = shmb_memory_map(descriptor_of_ring, RECORDS + CAPACITY);
    shmb_doorbell *bell = memory == NULL ? NULL : shmb_doorbell_open(memory, CONSUMER_BELL, 1);
    int result = SHMB_NO_MEMORY;
    if (bell != NULL) {
        shmb_doorbell_poke(bell);
        CHECK_EQUAL(shmb_sleep(bell, NULL, 0, -1), SHMB_OK);
        result = shmb_sleep(bell, NULL, 0, 1000000);
        CHECK(!has_failed || error != EINTR || result == SHMB_INTERRUPTED || result == SHMB_TIMED_OUT);
        CHECK(has_failed || result == SHMB_TIMED_OUT);
    }
    shmb_doorbell_free(bell);
    shmb_memory_free(memory);
    return result == SHMB_TIMED_OUT;
}

/* Without a second thread, the first copies all. */
static int copies(void) {
    enum { ROWS = 4096, COLUMNS = 1100 };
    static float source[ROWS * COLUMNS], target[ROWS * COLUMNS];
    source[ROWS * COLUMNS - 1] = 7;
    memset(target, 0, sizeof target);
    CHECK(shmb_copy(target, COLUMNS * 4, source, SHMB_FLOAT32, ROWS, COLUMNS, COLUMNS * 4, 4, 1, 1) == -1);
    CHECK(target[ROWS * COLUMNS - 1] == 7);
    return 1;
}

/* numpy's PyDataMem_Handler, as in allocation.c. */
typedef struct {
    char name[127];
    uint8_t version;
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *pointer, size_t size);
    void (*free)(void *context, void *pointer, size_t size);
} mem_handler;

static void *default_malloc(void *context, size_t size) { return (void)context, malloc(size); }
static void default_free(void *context, void *pointer, size_t size) { (void)context, (void)size, free(pointer); }
static const mem_handler default_handler = {.malloc = default_malloc, .free = default_free};

/* An array that cannot be allocated in the ring is allocated elsewhere. */
static int allocates_in_place(void) {
    enum { SIZE = 4096 };
    const mem_handler *handler = shmb_allocation_handler(&default_handler);
    shmb_memory *memory = shmb_memory_map(descriptor_of_ring, RECORDS + CAPACITY);
    if (memory == NULL)
        return 0;
    memset(shmb_memory_at(memory, LINES, RECORDS - LINES), 0, RECORDS - LINES);
    shmb_ring_end *producer = shmb_ring_open(memory, LINES, RECORDS, CAPACITY, SHMB_PRODUCER, NULL);
    int is_in_place = 0;
    if (producer != NULL) {
        shmb_record record = {.kind = SHMB_ERROR_SIGNAL, .dtype = SHMB_UINT8, .rows = 1, .columns = SIZE};
        CHECK_EQUAL(shmb_ring_claim(producer, &record, ""), SHMB_OK);
        shmb_allocation_expect(producer, record.position, record.matrix, SIZE, 1);
        void *pointer = handler->malloc(NULL, SIZE);
        is_in_place = pointer == record.matrix;
        CHECK(pointer != NULL);
        memset(pointer, 1, SIZE);
        shmb_allocation_cancel(producer, record.position);
        CHECK_EQUAL(shmb_ring_abort(producer, record.position), SHMB_OK);
        handler->free(NULL, pointer, SIZE);
        shmb_ring_free(producer);
    }
    shmb_memory_free(memory);
    return is_in_place;
}

static int waits_at_a_latch(void) {
    uint32_t latch = 0;
    int result = shmb_latch_wait(&latch, 1000000);
    CHECK(result == SHMB_TIMED_OUT || (has_failed && result == SHMB_INTERRUPTED));
    shmb_latch_open(&latch);
    CHECK_EQUAL(shmb_latch_wait(&latch, -1), SHMB_OK);
    return 1;
}

static sem_t exited;

/* The thread that ends the process with its parent only ends itself here. */
_Noreturn void __wrap__exit(int status) {
    CHECK_EQUAL(status, 1);
    sem_post(&exited);
    pthread_exit(NULL);
}

static int lowest_free_descriptor(void) {
    int descriptor = dup(0);
    CHECK(descriptor >= 0 && close(descriptor) == 0);
    return descriptor;
}

static int exits_with_parent(void) {
    int parent[2], quiet[2], lowest = lowest_free_descriptor();
    CHECK(pipe(parent) == 0 && pipe(quiet) == 0);
    int result = shmb_exit_with_parent(quiet[0], parent[0], 0);
    CHECK(close(parent[1]) == 0);
    if (result == 0)
        while (sem_wait(&exited) != 0)
            CHECK_EQUAL(errno, EINTR);
    else
        CHECK(has_failed && (result == error || result == ENOMEM));
    CHECK(close(parent[0]) == 0 && close(quiet[0]) == 0 && close(quiet[1]) == 0);
    CHECK(result == 0 || lowest_free_descriptor() == lowest);
    return result == 0;
}

/* Run the scenario until all of its calls have failed once. */
static void check(int (*scenario)(void), int error_number, int may_succeed) {
    for (int n = 1;; n++) {
        int blocks = memory_blocks, maps = mappings;
        error = error_number;
        fail_at = n;
        has_failed = 0;
        int succeeded = scenario();
        fail_at = 0;
        CHECK(succeeded == !has_failed || may_succeed);
        CHECK_EQUAL(memory_blocks, blocks);
        CHECK_EQUAL(mappings, maps);
        if (!has_failed) {
            CHECK(n > 1 && succeeded);
            return;
        }
    }
}

int main(void) {
    descriptor_of_ring = memfd_create("shmbridge-test", MFD_CLOEXEC);
    CHECK(descriptor_of_ring >= 0 && ftruncate(descriptor_of_ring, RECORDS + CAPACITY) == 0);
    check(creates_and_seals, EMFILE, 0);
    check(creates_and_seals, EINVAL, 1);
    check(opens_and_passes_records, ENOMEM, 0);
    check(sleeps, EINTR, 1);
    check(sleeps, ETIMEDOUT, 1);
    check(sleeps, EAGAIN, 1);
    check(copies, EAGAIN, 1);
    check(allocates_in_place, ENOMEM, 0);
    check(waits_at_a_latch, EINTR, 1);
    CHECK(sem_init(&exited, 0, 0) == 0);
    check(exits_with_parent, EINTR, 1);
    for (size_t i = 0; i < sizeof failures / sizeof *failures && failures[i].name != NULL; i++)
        printf("%s failed %d times\n", failures[i].name, failures[i].count);
    return 0;
}
