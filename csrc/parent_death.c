/* Exit when another process exits: Sprint after its trainer, whatever Sprint is doing.
 *
 * A Python thread cannot do this, because Sprint holds the GIL while it computes, or hangs, in its own code.
 */
#define _GNU_SOURCE
#include "shmbridge.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int pidfd;
    int grace_ms;
} parent_watch;

static void *run(void *argument) {
    parent_watch own = *(parent_watch *)argument;
    free(argument);
    struct pollfd process = {.fd = own.pidfd, .events = POLLIN, .revents = 0};
    int ready;
    do
        ready = poll(&process, 1, -1);
    while (ready < 0 && errno == EINTR);
    if (ready == 1 && process.revents & POLLIN) { /* false if other code closed the descriptor */
        struct timespec left = {.tv_sec = own.grace_ms / 1000, .tv_nsec = own.grace_ms % 1000 * 1000000L};
        while (nanosleep(&left, &left) < 0 && errno == EINTR)
            ;
        _exit(1);
    }
    return NULL;
}

int shmb_exit_with_pidfd(int pidfd, int grace_ms) {
    parent_watch *own = malloc(sizeof *own);
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (own == NULL)
        return ENOMEM;
    own->grace_ms = grace_ms;
    own->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3); /* not one of the standard ones, even if they are closed */
    if (own->pidfd < 0) {
        int error = errno;
        free(own);
        return error;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* Leave signals to Sprint's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, &attributes, run, own);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failed) {
        close(own->pidfd);
        free(own);
    }
    return failed;
}
