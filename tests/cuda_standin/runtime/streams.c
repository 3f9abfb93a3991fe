/* Streams and events. They guarantee the requested order and nothing else. */
#define _GNU_SOURCE
#include "standin.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct task {
    void (*run)(void *);
    void *argument;
    struct task *next;
} task;

struct CUstream_st {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    task *first, *last;
    unsigned long given, done;
    unsigned seed;
};

/* `recorded` counts the records of the event, `reached` those that its stream has reached. */
struct CUevent_st {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned long recorded, reached;
};

enum { MAX_DELAY_US = 2000 }; /* before each task */

static struct CUstream_st *default_stream;
static pthread_once_t started = PTHREAD_ONCE_INIT;
static pid_t owner;
static unsigned n_streams;

void *standin_allocate(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL)
        abort();
    return memory;
}

static void *work(void *argument) {
    struct CUstream_st *stream = argument;
    for (;;) {
        pthread_mutex_lock(&stream->mutex);
        while (stream->first == NULL)
            pthread_cond_wait(&stream->changed, &stream->mutex);
        task *next = stream->first;
        stream->first = next->next;
        pthread_mutex_unlock(&stream->mutex);
        usleep((unsigned)rand_r(&stream->seed) % MAX_DELAY_US);
        next->run(next->argument);
        free(next->argument);
        free(next);
        pthread_mutex_lock(&stream->mutex);
        stream->done++;
        pthread_cond_broadcast(&stream->changed);
        pthread_mutex_unlock(&stream->mutex);
    }
    return NULL;
}

static struct CUstream_st *create(void) {
    struct CUstream_st *stream = standin_allocate(sizeof *stream);
    pthread_mutex_init(&stream->mutex, NULL);
    pthread_cond_init(&stream->changed, NULL);
    stream->seed = __atomic_add_fetch(&n_streams, 1, __ATOMIC_RELAXED);
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, stream) != 0)
        abort();
    pthread_detach(thread);
    return stream;
}

static void start(void) {
    owner = getpid();
    default_stream = create();
}

static struct CUstream_st *known(cudaStream_t stream) {
    pthread_once(&started, start);
    if (getpid() != owner) {
        fprintf(stderr, "stand-in for CUDA: used in a fork, in which CUDA does not work\n");
        abort();
    }
    return stream == NULL || stream == cudaStreamLegacy ? default_stream : stream;
}

void standin_enqueue(cudaStream_t to, void (*run)(void *), void *argument) {
    struct CUstream_st *stream = known(to);
    task *added = standin_allocate(sizeof *added);
    *added = (task){.run = run, .argument = argument};
    pthread_mutex_lock(&stream->mutex);
    if (stream->first == NULL)
        stream->first = added;
    else
        stream->last->next = added;
    stream->last = added;
    stream->given++;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
}

void standin_drain(cudaStream_t which) {
    struct CUstream_st *stream = known(which);
    pthread_mutex_lock(&stream->mutex);
    for (unsigned long given = stream->given; stream->done < given;)
        pthread_cond_wait(&stream->changed, &stream->mutex);
    pthread_mutex_unlock(&stream->mutex);
}

/* All streams are like torch's and never wait for the default stream. They exist until the process ends. */
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    (void)flags, (void)priority;
    known(NULL);
    *stream = create();
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    standin_drain(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t which) {
    struct CUstream_st *stream = known(which);
    pthread_mutex_lock(&stream->mutex);
    int busy = stream->done < stream->given;
    pthread_mutex_unlock(&stream->mutex);
    return busy ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) { /* users of other streams synchronize those themselves */
    standin_drain(NULL);
    return cudaSuccess;
}

typedef struct {
    cudaHostFn_t function;
    void *argument;
} host_function;

static void call(void *argument) {
    host_function *host = argument;
    host->function(host->argument);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument) {
    host_function *host = standin_allocate(sizeof *host);
    *host = (host_function){function, argument};
    standin_enqueue(stream, call, host);
    return cudaSuccess;
}

/* An event is never freed, because enqueued tasks may still point to it. */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    (void)flags;
    *event = standin_allocate(sizeof **event);
    pthread_mutex_init(&(*event)->mutex, NULL);
    pthread_cond_init(&(*event)->changed, NULL);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    (void)event;
    return cudaSuccess;
}

typedef struct {
    struct CUevent_st *event;
    unsigned long time;
} moment;

static void reach(void *argument) {
    moment *now = argument;
    pthread_mutex_lock(&now->event->mutex);
    if (now->event->reached < now->time) /* it may be recorded on several streams */
        now->event->reached = now->time;
    pthread_cond_broadcast(&now->event->changed);
    pthread_mutex_unlock(&now->event->mutex);
}

static void await(void *argument) {
    moment *then = argument;
    pthread_mutex_lock(&then->event->mutex);
    while (then->event->reached < then->time)
        pthread_cond_wait(&then->event->changed, &then->event->mutex);
    pthread_mutex_unlock(&then->event->mutex);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    moment *now = standin_allocate(sizeof *now);
    pthread_mutex_lock(&event->mutex);
    *now = (moment){event, ++event->recorded};
    pthread_mutex_unlock(&event->mutex);
    standin_enqueue(stream, reach, now);
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    (void)flags;
    return cudaEventRecord(event, stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    (void)flags;
    moment *then = standin_allocate(sizeof *then);
    pthread_mutex_lock(&event->mutex);
    *then = (moment){event, event->recorded};
    pthread_mutex_unlock(&event->mutex);
    standin_enqueue(stream, await, then);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    pthread_mutex_lock(&event->mutex);
    int busy = event->reached < event->recorded;
    pthread_mutex_unlock(&event->mutex);
    return busy ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    moment then = {event, event->recorded};
    await(&then);
    return cudaSuccess;
}
