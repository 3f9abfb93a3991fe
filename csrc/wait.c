/* Wait for news in any of several rings: spin briefly, then sleep at the doorbell. */
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

static void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

enum {
    YIELD_AFTER_NS = 20000,    /* from then on, let other threads run on this core during the spin */
    MARGIN_NS = 20000,         /* a spin lasts twice the typical wait plus this */
    MIN_SPIN_NS = 5000,        /* if waits are typically too long to spin for */
    MAX_SPIN_NS = 1000000000,  /* eight times this does not overflow */
    GAP_NS = 500000,           /* a spin that did not run for so long shares its core with another process */
    LONG_SPIN_NS = 100000,     /* longer than a sleeping peer needs to wake and answer */
    SHORT_SLEEP_NS = 50000,    /* a sleep this short after a long spin: the peer needed this core */
    FIRST_PAUSE_NS = 10000000, /* of spins; it doubles if the next reason comes soon after its end */
    MAX_PAUSE_NS = 1000000000,
    SOON_NS = 50000000,        /* plus twice the last pause */
};

/* Return how long to spin. A sleeper needs 25 to 50 us to wake, but a spinner keeps a core busy: spin only if news
 * typically arrives within max_spin_ns. */
static int64_t spin_limit(int64_t typical, int64_t max_spin_ns) {
    int64_t limit = 2 * typical + MARGIN_NS;
    if (max_spin_ns <= 0)
        return 0;
    return limit <= 2 * max_spin_ns ? (limit < max_spin_ns ? limit : max_spin_ns) : MIN_SPIN_NS;
}

/* Update the moving average, and return the time. A long wait is capped in the average, so that spinning resumes a
 * few short waits later. */
static int64_t end_wait(shmb_waits *waits) {
    int64_t now = now_ns();
    int64_t passed = now - waits->start;
    int64_t counted = passed < 8 * waits->max_spin ? passed : 8 * waits->max_spin;
    waits->typical += (counted - waits->typical) / 4;
    waits->start = 0;
    atomic_fetch_add_explicit(&waits->total, passed, memory_order_relaxed);
    return now;
}

static int was_paused_recently(const shmb_waits *waits, int64_t now) {
    return now - waits->pause_end < 2 * waits->pause + SOON_NS;
}

/* Sleep at once in the coming waits. On a busy machine, a spin takes the core that the peer needs, and the scheduler
 * returns to a spinner milliseconds later than to a sleeper. After the pause, a spin tries again. */
static void pause_spins(shmb_waits *waits, int64_t now) {
    if (!was_paused_recently(waits, now))
        waits->pause = FIRST_PAUSE_NS;
    else
        waits->pause = waits->pause < MAX_PAUSE_NS / 2 ? 2 * waits->pause : MAX_PAUSE_NS;
    waits->pause_end = now + waits->pause;
}

/* Note that a spin ended without news. `ran` is when it last ran before `now`. */
static void end_spin(shmb_waits *waits, int64_t ran, int64_t now) {
    int is_long = now - waits->start >= LONG_SPIN_NS;
    if (now - ran >= GAP_NS || (is_long && was_paused_recently(waits, now)))
        pause_spins(waits, now);
    else if (is_long)
        waits->spin_end = now;
}

int shmb_spin(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t max_spin_ns) {
    shmb_waits *waits = shmb_doorbell_waits(doorbell);
    max_spin_ns = max_spin_ns < 0 ? 0 : max_spin_ns > MAX_SPIN_NS ? MAX_SPIN_NS : max_spin_ns;
    waits->start = now_ns();
    waits->max_spin = max_spin_ns;
    waits->spin_end = 0;
    int64_t limit = waits->start < waits->pause_end ? 0 : spin_limit(waits->typical, max_spin_ns);
    int64_t ran = waits->start;
    for (;;) {
        for (int i = 0; i < 32; i++) {
            if (any_news(ends, n_ends) || shmb_doorbell_take_token(doorbell)) {
                int64_t now = end_wait(waits);
                if (now - ran >= GAP_NS)
                    pause_spins(waits, now);
                return SHMB_OK;
            }
            if (limit == 0)
                return SHMB_EMPTY;
            cpu_relax();
        }
        int64_t now = now_ns();
        int64_t passed = now - waits->start;
        if (now - ran >= GAP_NS || passed >= limit) {
            end_spin(waits, ran, now);
            return SHMB_EMPTY;
        }
        ran = now;
        if (passed >= YIELD_AFTER_NS)
            sched_yield();
    }
}

/* Return the roles of the peers' ends that publish what the waiter looks for. */
static uint32_t awaited_roles(shmb_ring_end **ends, size_t n_ends) {
    uint32_t roles = 0;
    for (size_t i = 0; i < n_ends; i++)
        roles |= shmb_ring_role(ends[i]) == SHMB_CONSUMER ? SHMB_PRODUCER : SHMB_CONSUMER;
    return roles;
}

int shmb_sleep(shmb_doorbell *doorbell, shmb_ring_end **ends, size_t n_ends, int64_t timeout_ns) {
    shmb_waits *waits = shmb_doorbell_waits(doorbell);
    int64_t now = now_ns();
    int64_t deadline = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? -1 : now + timeout_ns;
    shmb_doorbell_announce(doorbell, awaited_roles(ends, n_ends));
    int result = any_news(ends, n_ends) ? SHMB_OK : shmb_doorbell_sleep(doorbell, deadline);
    /* A ringer that saw this waiter just before leaves a token: the next wait returns at once. */
    shmb_doorbell_announce(doorbell, 0);
    if (waits->start != 0) {
        now = end_wait(waits);
        if (waits->spin_end != 0 && now - waits->spin_end < SHORT_SLEEP_NS)
            pause_spins(waits, now);
    }
    return result;
}

int64_t shmb_waited(shmb_doorbell *doorbell) {
    return atomic_load_explicit(&shmb_doorbell_waits(doorbell)->total, memory_order_relaxed);
}
