/* The only device, errors, and the driver functions that torch calls. */
#include "standin.h"

#include <stdio.h>
#include <string.h>

enum { MAJOR = 9, MINOR = 0, WARP = 32, MULTIPROCESSORS = 8, THREADS_OF_A_BLOCK = 1024, VERSION = 13000 };

static _Thread_local cudaError_t last_error;

cudaError_t standin_fail(cudaError_t error) {
    last_error = error;
    return error;
}

cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

const char *cudaGetErrorString(cudaError_t error) {
    static _Thread_local char text[sizeof "error 2147483647 of the stand-in for CUDA"];
    snprintf(text, sizeof text, "error %d of the stand-in for CUDA", (int)error);
    return text;
}

const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : standin_fail(cudaErrorInvalidDevice); }

cudaError_t cudaDriverGetVersion(int *version) {
    *version = VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    (void)device;
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "stand-in");
    properties->major = MAJOR;
    properties->minor = MINOR;
    properties->warpSize = WARP;
    properties->multiProcessorCount = MULTIPROCESSORS;
    properties->maxThreadsPerBlock = THREADS_OF_A_BLOCK;
    properties->maxThreadsPerMultiProcessor = 2 * THREADS_OF_A_BLOCK;
    for (int axis = 0; axis < 3; axis++) {
        properties->maxThreadsDim[axis] = THREADS_OF_A_BLOCK;
        properties->maxGridSize[axis] = 65535;
    }
    size_t available;
    return cudaMemGetInfo(&available, &properties->totalGlobalMem);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    (void)device;
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? MAJOR
             : attribute == cudaDevAttrWarpSize             ? WARP
             : attribute == cudaDevAttrMultiProcessorCount  ? MULTIPROCESSORS
             : attribute == cudaDevAttrMaxThreadsPerBlock   ? THREADS_OF_A_BLOCK
                                                            : 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = *greatest = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    (void)stream;
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(
    cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id, cudaGraph_t *graph,
    const cudaGraphNode_t **dependencies, const cudaGraphEdgeData **edges, size_t *n_dependencies) {
    (void)id, (void)graph, (void)dependencies, (void)edges, (void)n_dependencies;
    return cudaStreamIsCapturing(stream, status);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    *mode = cudaStreamCaptureModeGlobal;
    return cudaSuccess;
}

/* The driver: before torch queries whether memory is pinned, it queries whether the device was used. */
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    (void)device;
    *flags = 0;
    *active = 1;
    return 0;
}

int cuCtxGetCurrent(void **context) {
    static int only;
    *context = &only;
    return 0;
}

static int unavailable(void) { return cudaErrorNotSupported; }

cudaError_t cudaGetDriverEntryPointByVersion(
    const char *symbol, void **function, unsigned version, unsigned long long flags,
    enum cudaDriverEntryPointQueryResult *result) {
    (void)version, (void)flags;
    *(int (**)(void))function = unavailable;
    if (strcmp(symbol, "cuDevicePrimaryCtxGetState") == 0)
        *(int (**)(int, unsigned *, int *))function = cuDevicePrimaryCtxGetState;
    if (result != NULL)
        *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
