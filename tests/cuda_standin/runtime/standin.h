/* A stand-in for CUDA's runtime library, for machines without a device.
 *
 * The device's memory is memory of this process. Each stream is a thread that runs its tasks in order, with a delay:
 * code that does not wait for a task reads the old memory. The library has the functions that torch calls; all others
 * abort with their name.
 */
#pragma once

#include <cuda_runtime_api.h>

#include <stdatomic.h>
#include <stddef.h>

/* Counts of operations since the start, for the tests. */
typedef struct {
    _Atomic long to_host_pinned;
    _Atomic long to_host_pageable;
    _Atomic long to_device_pinned;
    _Atomic long to_device_pageable;
    _Atomic long registered;
    _Atomic long unregistered;
} standin_counts;

extern standin_counts standin_count;

/* Return `error`, and store it as the last error, as CUDA does. */
cudaError_t standin_fail(cudaError_t error);

/* Make the stream run `run(argument)` after its earlier tasks. It then frees `argument`, which is from malloc. */
void standin_enqueue(cudaStream_t stream, void (*run)(void *argument), void *argument);

/* Wait until the stream has run all its tasks. */
void standin_drain(cudaStream_t stream);

/* Like calloc(1, size), but abort if there is no memory. */
void *standin_allocate(size_t size);
