/* Signals that a batch system sends to each process of a job step: for the trainer, not for Sprint.
 *
 * They get a handler that does nothing. Unlike SIG_IGN, it ends with exec, so that programs which Sprint starts are
 * ended as usual.
 */
#define _POSIX_C_SOURCE 200809L
#include "shmbridge.h"

#include <pthread.h>
#include <signal.h>

static const int signals[] = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
enum { COUNT = sizeof signals / sizeof *signals };

static _Thread_local sigset_t mask_before_fork;

static void do_nothing(int number) {
    (void)number;
}

static void replace(void (*old)(int), void (*new)(int)) {
    for (int i = 0; i < COUNT; i++) {
        struct sigaction found, action = {.sa_handler = new, .sa_flags = SA_RESTART};
        sigemptyset(&action.sa_mask);
        if (sigaction(signals[i], NULL, &found) == 0 && !(found.sa_flags & SA_SIGINFO) && found.sa_handler == old)
            sigaction(signals[i], &action, NULL);
    }
}

void shmb_signals_ignore(void) {
    replace(SIG_DFL, do_nothing);
}

void shmb_signals_before_fork(void) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < COUNT; i++)
        sigaddset(&set, signals[i]);
    pthread_sigmask(SIG_BLOCK, &set, &mask_before_fork);
}

void shmb_signals_after_fork(int in_child) {
    if (in_child)
        replace(do_nothing, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &mask_before_fork, NULL);
}
