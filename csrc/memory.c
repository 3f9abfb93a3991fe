/* A reference-counted mapping of the shared-memory object. */
#define _GNU_SOURCE /* MAP_POPULATE */
#include "shmbridge.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

struct shmb_memory {
    unsigned char *address;
    uint64_t size;
    atomic_uint count;
};

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
