/* Memory of the "device", pinned memory, and copies between them. */
#define _GNU_SOURCE
#include "standin.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
static const size_t DEVICE_MEMORY = (size_t)4 << 30;

typedef enum { PAGEABLE, DEVICE, ALLOCATED, REGISTERED } kind;

typedef struct range {
    char *start;
    size_t size;
    kind kind;
    struct range *next;
} range;

standin_counts standin_count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of `ranges` */
static range *ranges;

/* Add a range. Returns 0 if it overlaps with another one. */
static int add(void *start, size_t size, kind kind) {
    range *added = standin_allocate(sizeof *added);
    *added = (range){start, size, kind, NULL};
    pthread_mutex_lock(&mutex);
    int overlaps = 0;
    for (range *other = ranges; other != NULL; other = other->next)
        overlaps |= other->start < added->start + size && added->start < other->start + other->size;
    if (overlaps) {
        free(added);
    } else {
        added->next = ranges;
        ranges = added;
    }
    pthread_mutex_unlock(&mutex);
    return !overlaps;
}

/* Remove the range. Returns its size, or 0 if there is none of this kind at the address. */
static size_t take_out(void *start, kind kind) {
    size_t size = 0;
    pthread_mutex_lock(&mutex);
    for (range **at = &ranges; *at != NULL; at = &(*at)->next)
        if ((*at)->start == start && (*at)->kind == kind) {
            range *found = *at;
            *at = found->next;
            size = found->size;
            free(found);
            break;
        }
    pthread_mutex_unlock(&mutex);
    return size;
}

static kind kind_of(const void *address) {
    kind found = PAGEABLE;
    pthread_mutex_lock(&mutex);
    for (range *other = ranges; other != NULL; other = other->next)
        if (other->start <= (const char *)address && (const char *)address < other->start + other->size)
            found = other->kind;
    pthread_mutex_unlock(&mutex);
    return found;
}

static int is_mapped(void *start, size_t size) {
    uintptr_t first = (uintptr_t)start & ~(uintptr_t)(PAGE - 1);
    size_t n_pages = ((uintptr_t)start + size - first + PAGE - 1) / PAGE;
    unsigned char *resident = standin_allocate(n_pages);
    int mapped = mincore((void *)first, n_pages * PAGE, resident) == 0;
    free(resident);
    return mapped;
}

static cudaError_t allocate(void **start, size_t size, kind kind) {
    if (size > DEVICE_MEMORY)
        return standin_fail(cudaErrorMemoryAllocation);
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return standin_fail(cudaErrorMemoryAllocation);
    memset(mapped, 0xff, size); /* NaN, which exposes reads of unwritten memory */
    add(mapped, size, kind);
    *start = mapped;
    return cudaSuccess;
}

static cudaError_t release(void *start, kind kind) {
    size_t size = take_out(start, kind);
    if (size == 0)
        return standin_fail(cudaErrorInvalidValue);
    munmap(start, size);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **start, size_t size) { return allocate(start, size, DEVICE); }

cudaError_t cudaFree(void *start) {
    if (start == NULL) /* torch initializes CUDA with this call */
        return cudaSuccess;
    cudaDeviceSynchronize();
    return release(start, DEVICE);
}

cudaError_t cudaHostAlloc(void **start, size_t size, unsigned flags) {
    (void)flags;
    return allocate(start, size, ALLOCATED);
}

cudaError_t cudaFreeHost(void *start) { return release(start, ALLOCATED); }

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    *available = *total = DEVICE_MEMORY;
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *start, size_t size, unsigned flags) {
    (void)flags;
    if (start == NULL || size == 0 || !is_mapped(start, size))
        return standin_fail(cudaErrorInvalidValue);
    if (!add(start, size, REGISTERED))
        return standin_fail(cudaErrorHostMemoryAlreadyRegistered);
    standin_count.registered++;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *start) {
    size_t size = take_out(start, REGISTERED);
    if (size == 0)
        return standin_fail(cudaErrorHostMemoryNotRegistered);
    if (!is_mapped(start, size)) {
        fprintf(stderr, "stand-in for CUDA: %zu bytes at %p were unmapped while they were registered\n", size, start);
        abort();
    }
    standin_count.unregistered++;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *address) {
    kind kind = kind_of(address);
    memset(attributes, 0, sizeof *attributes);
    attributes->type = kind == PAGEABLE ? cudaMemoryTypeUnregistered
                       : kind == DEVICE ? cudaMemoryTypeDevice
                                        : cudaMemoryTypeHost;
    attributes->devicePointer = kind == PAGEABLE ? NULL : (void *)(uintptr_t)address;
    attributes->hostPointer = kind == DEVICE ? NULL : (void *)(uintptr_t)address;
    return cudaSuccess;
}

typedef struct {
    char *to;
    const char *from;
    size_t to_pitch, from_pitch, width, height;
} copy;

static void do_copy(void *argument) {
    copy *task = argument;
    for (size_t row = 0; row < task->height; row++)
        memcpy(task->to + row * task->to_pitch, task->from + row * task->from_pitch, task->width);
}

/* Like CUDA, wait for copies from and to pageable memory, but not for others. */
cudaError_t cudaMemcpy2DAsync(
    void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
    enum cudaMemcpyKind direction, cudaStream_t stream) {
    (void)direction;
    kind to_kind = kind_of(to), from_kind = kind_of(from);
    copy *task = standin_allocate(sizeof *task);
    *task = (copy){to, from, to_pitch, from_pitch, width, height};
    standin_enqueue(stream, do_copy, task);
    if (to_kind == DEVICE && from_kind == DEVICE)
        return cudaSuccess;
    if (to_kind == DEVICE)
        from_kind == PAGEABLE ? standin_count.to_device_pageable++ : standin_count.to_device_pinned++;
    else
        to_kind == PAGEABLE ? standin_count.to_host_pageable++ : standin_count.to_host_pinned++;
    if (to_kind == PAGEABLE || from_kind == PAGEABLE)
        standin_drain(stream);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t size, enum cudaMemcpyKind direction, cudaStream_t stream) {
    return cudaMemcpy2DAsync(to, size, from, size, size, 1, direction, stream);
}

typedef struct {
    void *start;
    int value;
    size_t size;
} fill;

static void do_fill(void *argument) {
    fill *task = argument;
    memset(task->start, task->value, task->size);
}

cudaError_t cudaMemsetAsync(void *start, int value, size_t size, cudaStream_t stream) {
    fill *task = standin_allocate(sizeof *task);
    *task = (fill){start, value, size};
    standin_enqueue(stream, do_fill, task);
    return cudaSuccess;
}
