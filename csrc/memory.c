/* The shared-memory object, and a reference-counted mapping of it. */
#define _GNU_SOURCE /* MAP_POPULATE, syscall */
#include "shmbridge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Constants of the kernel that the C library may be too old for. */
enum {
    CLOSE_ON_EXEC = 1,
    ALLOW_SEALING = 2,
    NOEXEC_SEAL = 8, /* since Linux 6.3; with vm.memfd_noexec=2, the kernel refuses memory without it */
    ADD_SEALS = 1033,
    SEAL_SEAL = 1,
    SEAL_SHRINK = 2,
    SEAL_GROW = 4,
};

struct shmb_memory {
    unsigned char *address;
    uint64_t size;
    atomic_uint count;
};

int shmb_memory_create(void) {
    /* The system call, because many Pythons are built for a C library without memfd_create. */
    long descriptor = syscall(SYS_memfd_create, "shmbridge", CLOSE_ON_EXEC | ALLOW_SEALING | NOEXEC_SEAL);
    if (descriptor < 0 && errno == EINVAL)
        descriptor = syscall(SYS_memfd_create, "shmbridge", CLOSE_ON_EXEC | ALLOW_SEALING);
    if (descriptor < 0)
        return -1;
    if (fchmod((int)descriptor, S_IRUSR | S_IWUSR) < 0) {
        int error = errno;
        close((int)descriptor);
        errno = error;
        return -1;
    }
    return (int)descriptor;
}

int shmb_memory_seal(int descriptor) {
    return fcntl(descriptor, ADD_SEALS, SEAL_SEAL | SEAL_SHRINK | SEAL_GROW);
}

shmb_memory *shmb_memory_map(int descriptor, uint64_t size) {
    shmb_memory *memory = malloc(sizeof *memory);
    if (memory == NULL)
        return NULL;
    /* The pages are already reserved; MAP_POPULATE only saves the page faults. */
    void *address =
        mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, 0);
    if (address == MAP_FAILED) {
        free(memory);
        return NULL;
    }
    memory->address = address;
    memory->size = size;
    atomic_init(&memory->count, 1);
    return memory;
}

void shmb_memory_retain(shmb_memory *memory) {
    atomic_fetch_add_explicit(&memory->count, 1, memory_order_relaxed);
}

void shmb_memory_free(shmb_memory *memory) {
    if (memory == NULL || atomic_fetch_sub_explicit(&memory->count, 1, memory_order_acq_rel) != 1)
        return;
    munmap(memory->address, (size_t)memory->size);
    free(memory);
}

void *shmb_memory_at(shmb_memory *memory, uint64_t offset, uint64_t length) {
    if (offset > memory->size || length > memory->size - offset)
        return NULL;
    return memory->address + offset;
}
