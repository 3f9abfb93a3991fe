/* A stand-in for CUDA's runtime library, for machines without a device.
 *
 * The device's memory is memory of this process. Each stream is a thread that does what it is given one after the
 * other, and late: whoever does not wait for it sees what was there before. Only what torch calls is here; the rest
 * says so when it is called.
 */
#pragma once

#include <cuda_runtime_api.h>

#include <stdatomic.h>
#include <stddef.h>

/* What was done since the start, for the tests to look at. */
typedef struct {
    _Atomic long to_host_pinned;
    _Atomic long to_host_pageable;
    _Atomic long to_device_pinned;
    _Atomic long to_device_pageable;
    _Atomic long registered;
    _Atomic long unregistered;
} standin_counts;

extern standin_counts standin_count;

/* Say `error` to the caller, and to whoever asks for the last error, as CUDA does. */
cudaError_t standin_fail(cudaError_t error);

/* Have the stream do `run(argument)` after all that it has been given; `argument` is from malloc, and freed then. */
void standin_enqueue(cudaStream_t stream, void (*run)(void *argument), void *argument);

/* Wait until the stream has done all that it has been given. */
void standin_drain(cudaStream_t stream);

/* malloc, or the end of the process. */
void *standin_allocate(size_t size);
