/* The compiler macros that CUDA's headers need, for any compiler. */
#pragma once

#define __host__
#define __device__
#define __device_builtin__
#define __cudart_builtin__
#define __builtin_align__(bytes) __attribute__((aligned(bytes)))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __location__(where)
#define CUDARTAPI
#define CUDARTAPI_CDECL
