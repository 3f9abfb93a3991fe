/* An event that happens once, for threads of one process.
 *
 * The locks of Python's threading module may stay held if a signal handler raises while a thread waits. Here the wait
 * is one system call, which leaves nothing behind.
 */
#define _GNU_SOURCE
#include "shmbridge.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "a futex is a plain 32-bit word");

void shmb_latch_open(uint32_t *latch) {
    atomic_store((_Atomic uint32_t *)latch, 1);
    syscall(SYS_futex, latch, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

int shmb_latch_wait(uint32_t *latch, int64_t timeout_ns) {
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000), .tv_nsec = (long)(timeout_ns % 1000000000)};
    while (atomic_load((_Atomic uint32_t *)latch) == 0) {
        long failed = syscall(SYS_futex, latch, FUTEX_WAIT_PRIVATE, 0, timeout_ns < 0 ? NULL : &timeout, NULL, 0);
        if (failed && errno == EINTR)
            return SHMB_INTERRUPTED;
        if (failed && errno == ETIMEDOUT)
            return SHMB_TIMED_OUT;
    }
    return SHMB_OK;
}
