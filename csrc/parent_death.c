/* Exit when the parent is gone: Sprint after its trainer, whatever Sprint is doing.
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
    int pidfd; /* or -1 */
    int pipe;
    int grace_ms;
} parent_watch;

enum { LOWEST = 3 }; /* descriptor: Sprint writes to 1 and 2 even if they were closed */

/* Block until the parent has ended or its end of the pipe is closed. Returns 0 if other code closed both descriptors. */
static int wait_for_end(const parent_watch *own) {
    struct pollfd ends[] = {
        {.fd = own->pidfd, .events = POLLIN, .revents = 0},
        {.fd = own->pipe, .events = 0, .revents = 0}, /* not the data, only the end, which poll always reports */
    };
    while (ends[0].fd >= 0 || ends[1].fd >= 0) {
        if (poll(ends, 2, -1) < 0) {
            if (errno != EINTR)
                return 0;
            continue;
        }
        if (ends[0].revents & POLLIN || ends[1].revents & POLLHUP)
            return 1;
        for (int i = 0; i < 2; i++)
            if (ends[i].revents)
                ends[i].fd = -1;
    }
    return 0;
}

static void *run(void *argument) {
    parent_watch own = *(parent_watch *)argument;
    free(argument);
    if (wait_for_end(&own)) {
        struct timespec left = {.tv_sec = own.grace_ms / 1000, .tv_nsec = own.grace_ms % 1000 * 1000000L};
        while (nanosleep(&left, &left) < 0 && errno == EINTR)
            ;
        _exit(1);
    }
    return NULL;
}

static void close_all(const parent_watch *own) {
    if (own->pidfd >= 0)
        close(own->pidfd);
    if (own->pipe >= 0)
        close(own->pipe);
}

int shmb_exit_with_parent(int pidfd, int pipe, int grace_ms) {
    parent_watch *own = malloc(sizeof *own);
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (own == NULL)
        return ENOMEM;
    own->grace_ms = grace_ms;
    own->pipe = -1;
    own->pidfd = pidfd < 0 ? -1 : fcntl(pidfd, F_DUPFD_CLOEXEC, LOWEST);
    if (pidfd < 0 || own->pidfd >= 0)
        own->pipe = fcntl(pipe, F_DUPFD_CLOEXEC, LOWEST);
    if (own->pipe < 0) {
        int error = errno;
        close_all(own);
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
        close_all(own);
        free(own);
    }
    return failed;
}
