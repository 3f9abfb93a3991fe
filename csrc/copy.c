/* Matrices into and out of the ring: one pass that converts to float32 and looks for NaN on the way. */
#include "shmbridge.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum {
    BLOCK = 2048,                 /* floats: looked at while they are in the nearest cache, then copied */
    PARALLEL_FROM = 4 * 1024 * 1024, /* floats; below this, a second thread costs more than it saves */
};

/* Compiled for newer processors as well; which one runs is chosen when the library is loaded. Sanitizers and other
 * compilers do not go along with that. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

typedef struct {
    unsigned char *target;
    const unsigned char *source;
    int64_t target_stride; /* of rows, in bytes; their elements are contiguous */
    int64_t row_stride;
    int64_t column_stride;
    uint64_t rows;
    uint64_t columns;
    uint32_t dtype;
    int look; /* for NaN */
    int64_t nan; /* result: index of the first NaN, or -1 */
} copy_job;

WIDE static int any_nan(const float *values, size_t count) {
    size_t half = count / 2;
    int found = count % 2 != 0 && values[count - 1] != values[count - 1];
    for (size_t i = 0; i < half; i++) /* unordered: one of the two is NaN, or both are. One comparison for two. */
        found |= isunordered(values[i], values[half + i]);
    return found;
}

int64_t shmb_find_nan(const float *values, uint64_t count) {
    for (uint64_t start = 0; start < count; start += BLOCK) {
        size_t length = (size_t)(count - start < BLOCK ? count - start : BLOCK);
        if (!any_nan(values + start, length))
            continue;
        for (size_t i = 0; i < length; i++)
            if (values[start + i] != values[start + i])
                return (int64_t)(start + i);
    }
    return -1;
}

static int64_t copy_contiguous(float *target, const unsigned char *source, uint64_t count, int look) {
    if (!look) {
        memcpy(target, source, count * sizeof(float));
        return -1;
    }
    for (uint64_t start = 0; start < count; start += BLOCK) {
        size_t length = (size_t)(count - start < BLOCK ? count - start : BLOCK);
        memcpy(target + start, source + start * sizeof(float), length * sizeof(float));
        if (any_nan(target + start, length))
            return (int64_t)start + shmb_find_nan(target + start, length);
    }
    return -1;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The upper half of a float32. */
static float from_bfloat16(uint16_t bits) {
    return from_bits((uint32_t)bits << 16);
}

/* 5 bits of exponent, biased by 15, and 10 of fraction. In the place of a float32's, whose bias is 127, they stand
 * for 2^-112 of the value, denormal numbers too; what was infinite or NaN is to be so again. */
static float from_float16(uint16_t bits) {
    float magnitude = from_bits((uint32_t)(bits & 0x7fff) << 13) * 0x1p112f;
    uint32_t wide;
    memcpy(&wide, &magnitude, sizeof wide);
    wide |= magnitude >= 0x1p16f ? 0x7f800000u : 0;
    return from_bits(wide | (uint32_t)(bits & 0x8000) << 16);
}

/* One loop for each dtype and, so that it is done many at a time, another where the elements are contiguous. */
#define CONVERT(name, type, convert)                                                                     \
    WIDE static void name(float *target, const unsigned char *source, uint64_t count, int64_t stride) { \
        type value;                                                                                      \
        if (stride == (int64_t)sizeof value)                                                             \
            for (uint64_t i = 0; i < count; i++) {                                                       \
                memcpy(&value, source + i * sizeof value, sizeof value);                                 \
                target[i] = convert(value);                                                              \
            }                                                                                            \
        else                                                                                             \
            for (uint64_t i = 0; i < count; i++) {                                                       \
                memcpy(&value, source + (int64_t)i * stride, sizeof value);                              \
                target[i] = convert(value);                                                              \
            }                                                                                            \
    }

CONVERT(convert_float32, float, (float))
CONVERT(convert_float64, double, (float))
CONVERT(convert_float16, uint16_t, from_float16)
CONVERT(convert_bfloat16, uint16_t, from_bfloat16)

static int64_t copy_converted(float *target, const unsigned char *source, uint32_t dtype, uint64_t count,
                              int64_t stride, int look) {
    for (uint64_t start = 0; start < count; start += BLOCK) {
        uint64_t length = count - start < BLOCK ? count - start : BLOCK;
        const unsigned char *from = source + (int64_t)start * stride;
        if (dtype == SHMB_FLOAT32)
            convert_float32(target + start, from, length, stride);
        else if (dtype == SHMB_FLOAT64)
            convert_float64(target + start, from, length, stride);
        else if (dtype == SHMB_FLOAT16)
            convert_float16(target + start, from, length, stride);
        else
            convert_bfloat16(target + start, from, length, stride);
        if (look && any_nan(target + start, length))
            return (int64_t)start + shmb_find_nan(target + start, length);
    }
    return -1;
}

static void run(copy_job *job) {
    int64_t row_bytes = (int64_t)(job->columns * sizeof(float));
    int contiguous = job->dtype == SHMB_FLOAT32 && job->column_stride == (int64_t)sizeof(float);
    job->nan = -1;
    if (contiguous && job->row_stride == row_bytes && job->target_stride == row_bytes) {
        job->nan = copy_contiguous((float *)(void *)job->target, job->source, job->rows * job->columns,
                                   job->look);
        return;
    }
    for (uint64_t row = 0; row < job->rows; row++) {
        const unsigned char *from = job->source + (int64_t)row * job->row_stride;
        float *to = (float *)(void *)(job->target + (int64_t)row * job->target_stride);
        int64_t nan = contiguous ? copy_contiguous(to, from, job->columns, job->look)
                                 : copy_converted(to, from, job->dtype, job->columns, job->column_stride, job->look);
        if (nan >= 0) {
            job->nan = (int64_t)(row * job->columns) + nan;
            return;
        }
    }
}

static void *run_in_thread(void *job) {
    run(job);
    return NULL;
}

int64_t shmb_copy(float *target, int64_t target_stride, const void *source, uint32_t dtype, uint64_t rows,
                  uint64_t columns, int64_t row_stride, int64_t column_stride, int look, int two_threads) {
    copy_job first = {
        .target = (unsigned char *)target,
        .source = source,
        .target_stride = target_stride,
        .row_stride = row_stride,
        .column_stride = column_stride,
        .rows = rows,
        .columns = columns,
        .dtype = dtype,
        .look = look,
    };
    copy_job second = first;
    uint64_t half = rows / 2;
    pthread_t thread;
    second.rows = rows - half;
    second.target += (int64_t)half * target_stride;
    second.source += (int64_t)half * row_stride;
    if (!two_threads || rows * columns < PARALLEL_FROM ||
        pthread_create(&thread, NULL, run_in_thread, &second) != 0) {
        run(&first);
        return first.nan;
    }
    first.rows = half;
    run(&first);
    pthread_join(thread, NULL);
    return first.nan >= 0 || second.nan < 0 ? first.nan : (int64_t)(half * columns) + second.nan;
}
