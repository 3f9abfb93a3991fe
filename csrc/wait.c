/* Waiting for news in any of several rings: spin briefly, then sleep at the doorbell. */
#define _GNU_SOURCE /* clock_gettime */
#include "shmbridge.h"

#include <time.h>

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int any_news(shmb_ring_end **ends, size_t n_ends) {
    for (size_t i = 0; i < n_ends; i++)
        if (shmb_ring_has_news(ends[i]))
            return 1;
    return 0;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* True when there is news or a token within the time. */
static int spin(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t spin_ns) {
    int64_t end = spin_ns > 0 ? now_ns() + spin_ns : 0;
    for (;;) {
        for (int i = 0; i < 32; i++) {
            if (any_news(ends, n_ends) || shmb_doorbell_take_token(doorbell))
                return 1;
            if (spin_ns <= 0)
                return 0;
            relax();
        }
        if (now_ns() >= end)
            return 0;
    }
}

int shmb_wait(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t spin_ns, int64_t timeout_ns) {
    if (spin(doorbell, ends, n_ends, spin_ns))
        return SHMB_OK;
    int64_t deadline = timeout_ns < 0 ? -1 : now_ns() + timeout_ns;
    shmb_doorbell_announce(doorbell, 1);
    int result = any_news(ends, n_ends) ? SHMB_OK : shmb_doorbell_sleep(doorbell, deadline);
    /* A ringer that saw us just before this leaves a token; the next wait returns at once, once. */
    shmb_doorbell_announce(doorbell, 0);
    return result;
}
