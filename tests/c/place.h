/* Unnamed shared memory, with one ring and a doorbell for each of its ends. */
#ifndef PLACE_H
#define PLACE_H

#include "check.h"
#include "shmbridge.h"

#include <sys/mman.h>
#include <unistd.h>

enum { CONSUMER_BELL = 0, PRODUCER_BELL = 1024, LINES = 4096, HEAD = 4096 + SHMB_HEAD_OFFSET, RECORDS = 8192 };

static inline shmb_memory *create_memory(uint64_t capacity) {
    int descriptor = memfd_create("shmbridge-test", MFD_CLOEXEC);
    CHECK(descriptor >= 0);
    CHECK(ftruncate(descriptor, (off_t)(RECORDS + capacity)) == 0);
    shmb_memory *memory = shmb_memory_map(descriptor, RECORDS + capacity);
    CHECK(memory != NULL);
    close(descriptor);
    return memory;
}

static inline int wait_for_news(shmb_doorbell *bell, shmb_ring_end **ends, size_t n_ends, int64_t spin_ns,
                                int64_t timeout_ns) {
    return shmb_spin(bell, ends, n_ends, spin_ns) == SHMB_OK ? SHMB_OK : shmb_sleep(bell, ends, n_ends, timeout_ns);
}

#endif
