/* Ends this process with another one: a Sprint with its trainer, whatever the Sprint is doing.
 *
 * Python's threads cannot do it: Sprint holds the GIL while it computes, or hangs, in its own code.
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
} guard;

static void *run(void *argument) {
    guard own = *(guard *)argument;
    free(argument);
    struct pollfd process = {.fd = own.pidfd, .events = POLLIN, .revents = 0};
    int ready;
    do
        ready = poll(&process, 1, -1);
    while (ready < 0 && errno == EINTR);
    if (ready == 1 && process.revents & POLLIN) { /* else somebody closed the descriptor */
        struct timespec left = {.tv_sec = own.grace_ms / 1000, .tv_nsec = own.grace_ms % 1000 * 1000000L};
        while (nanosleep(&left, &left) < 0 && errno == EINTR)
            ;
        _exit(1);
    }
    return NULL;
}

int shmb_end_with(int pidfd, int grace_ms) {
    guard *own = malloc(sizeof *own);
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (own == NULL)
        return ENOMEM;
    own->grace_ms = grace_ms;
    own->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
    if (own->pidfd < 0) {
        int error = errno;
        free(own);
        return error;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* Signals are for Sprint's own threads. */
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
