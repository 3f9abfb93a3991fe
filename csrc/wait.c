/* Waiting for news in any of several rings: spin briefly, then sleep at the doorbell. */
#define _GNU_SOURCE /* clock_gettime */
#include "shmbridge.h"

#include <sched.h>
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

enum {
    POLITE_NS = 20000,  /* after this long, let others run on this core while we spin */
    MARGIN_NS = 20000,  /* spin for twice the typical wait, and this */
    HASTY_NS = 5000,    /* where waits are typically long, only look again for as long as this */
};

/* How long to spin: bounded, and only where news typically comes before it would be over. A sleeper takes 25 to
 * 50 us to wake; a spinner keeps a core busy. */
static int64_t spin_limit(int64_t typical, int64_t max_spin_ns) {
    int64_t wanted = 2 * typical + MARGIN_NS;
    if (max_spin_ns <= 0)
        return 0;
    return wanted <= 2 * max_spin_ns ? (wanted < max_spin_ns ? wanted : max_spin_ns) : HASTY_NS;
}

/* True when there is news or a token before the time is over. */
static int spin(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t start, int64_t limit) {
    for (;;) {
        for (int i = 0; i < 32; i++) {
            if (any_news(ends, n_ends) || shmb_doorbell_take_token(doorbell))
                return 1;
            if (limit == 0)
                return 0;
            relax();
        }
        int64_t passed = now_ns() - start;
        if (passed >= limit)
            return 0;
        if (passed >= POLITE_NS)
            sched_yield();
    }
}

static int sleep_for_news(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t deadline) {
    shmb_doorbell_announce(doorbell, 1);
    int result = any_news(ends, n_ends) ? SHMB_OK : shmb_doorbell_sleep(doorbell, deadline);
    /* A ringer that saw us just before this leaves a token; the next wait returns at once, once. */
    shmb_doorbell_announce(doorbell, 0);
    return result;
}

int shmb_wait(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t max_spin_ns,
              int64_t timeout_ns) {
    int64_t start = now_ns();
    int64_t *typical = shmb_doorbell_typical_wait(doorbell);
    int result = SHMB_OK;
    if (!spin(doorbell, ends, n_ends, start, spin_limit(*typical, max_spin_ns)))
        result = sleep_for_news(doorbell, ends, n_ends, timeout_ns < 0 ? -1 : start + timeout_ns);
    /* A moving average; a single long wait counts for no more than what stops the spinning after a few. */
    int64_t passed = now_ns() - start;
    *typical += ((passed < 8 * max_spin_ns ? passed : 8 * max_spin_ns) - *typical) / 4;
    return result;
}
