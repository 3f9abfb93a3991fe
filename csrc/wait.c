/* Waiting for news in any of several rings: spin briefly, then sleep at the doorbell. */
#define _GNU_SOURCE /* clock_gettime */
#include "shmbridge.h"

#include <sched.h>
#include <stdatomic.h>
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
    LONGEST_NS = 1000000000, /* nobody spins longer; and eight times this is no overflow */
};

/* How long to spin: bounded, and only where news typically comes before it would be over. A sleeper takes 25 to
 * 50 us to wake; a spinner keeps a core busy. */
static int64_t spin_limit(int64_t typical, int64_t max_spin_ns) {
    int64_t wanted = 2 * typical + MARGIN_NS;
    if (max_spin_ns <= 0)
        return 0;
    return wanted <= 2 * max_spin_ns ? (wanted < max_spin_ns ? wanted : max_spin_ns) : HASTY_NS;
}

/* A moving average; a single long wait counts for no more than what stops the spinning after a few. */
static void end_wait(shmb_waits *waits) {
    int64_t passed = now_ns() - waits->start;
    int64_t counted = passed < 8 * waits->max_spin ? passed : 8 * waits->max_spin;
    waits->typical += (counted - waits->typical) / 4;
    waits->start = 0;
    atomic_fetch_add_explicit(&waits->total, passed, memory_order_relaxed);
}

int shmb_spin(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t max_spin_ns) {
    shmb_waits *waits = shmb_doorbell_waits(doorbell);
    max_spin_ns = max_spin_ns < 0 ? 0 : max_spin_ns > LONGEST_NS ? LONGEST_NS : max_spin_ns;
    int64_t limit = spin_limit(waits->typical, max_spin_ns);
    waits->start = now_ns();
    waits->max_spin = max_spin_ns;
    for (;;) {
        for (int i = 0; i < 32; i++) {
            if (any_news(ends, n_ends) || shmb_doorbell_take_token(doorbell)) {
                end_wait(waits);
                return SHMB_OK;
            }
            if (limit == 0)
                return SHMB_EMPTY;
            relax();
        }
        int64_t passed = now_ns() - waits->start;
        if (passed >= limit)
            return SHMB_EMPTY;
        if (passed >= POLITE_NS)
            sched_yield();
    }
}

int shmb_sleep(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t timeout_ns) {
    shmb_waits *waits = shmb_doorbell_waits(doorbell);
    int64_t now = now_ns();
    int64_t deadline = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? -1 : now + timeout_ns;
    shmb_doorbell_announce(doorbell, 1);
    int result = any_news(ends, n_ends) ? SHMB_OK : shmb_doorbell_sleep(doorbell, deadline);
    /* A ringer that saw us just before this leaves a token; the next wait returns at once, once. */
    shmb_doorbell_announce(doorbell, 0);
    if (waits->start != 0)
        end_wait(waits);
    return result;
}

int64_t shmb_waited(shmb_doorbell *doorbell) {
    return atomic_load_explicit(&shmb_doorbell_waits(doorbell)->total, memory_order_relaxed);
}
