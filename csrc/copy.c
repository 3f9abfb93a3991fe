/* Copy matrices into and out of the ring: one pass converts to float32 and checks for NaN. */
#include "shmbridge.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum {
    BLOCK = 2048, /* floats: fits into the first-level cache, so that the check for NaN reads no memory again */
    PARALLEL_FROM = 4 * 1024 * 1024, /* floats: below this, a second thread costs more than it saves */
};

/* Also compile for processors with AVX2; the loader selects the version. Sanitizers and other compilers do not
 * support that. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

typedef struct {
    unsigned char *target;
    const unsigned char *source;
    int64_t target_stride; /* in bytes, between rows, whose elements are contiguous */
    int64_t row_stride;
    int64_t column_stride;
    uint64_t rows;
    uint64_t columns;
    uint32_t dtype;
    int check_nan;
    int64_t nan; /* result: index of the first NaN, or -1 */
} copy_job;

WIDE static int any_nan(const float *values, size_t count) {
    size_t half = count / 2;
    int found = count % 2 != 0 && values[count - 1] != values[count - 1];
    for (size_t i = 0; i < half; i++) /* one comparison checks two values: unordered means that one is NaN */
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

static int64_t copy_contiguous(float *target, const unsigned char *source, uint64_t count, int check_nan) {
    if (!check_nan) {
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

/* A bfloat16 is the upper half of a float32. */
static float from_bfloat16(uint16_t bits) {
    return from_bits((uint32_t)bits << 16);
}

/* A float16 has 5 exponent bits, biased by 15, and 10 fraction bits. As those of a float32, whose bias is 127, they
 * mean 2^-112 of the value, also for denormal numbers. Infinities and NaN need their exponent restored. */
static float from_float16(uint16_t bits) {
    float magnitude = from_bits((uint32_t)(bits & 0x7fff) << 13) * 0x1p112f;
    uint32_t wide;
    memcpy(&wide, &magnitude, sizeof wide);
    wide |= magnitude >= 0x1p16f ? 0x7f800000u : 0;
    return from_bits(wide | (uint32_t)(bits & 0x8000) << 16);
}

/* Two loops per dtype: the one over contiguous elements is vectorized. */
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
                              int64_t stride, int check_nan) {
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
        if (check_nan && any_nan(target + start, length))
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
                                   job->check_nan);
        return;
    }
    for (uint64_t row = 0; row < job->rows; row++) {
        const unsigned char *from = job->source + (int64_t)row * job->row_stride;
        float *to = (float *)(void *)(job->target + (int64_t)row * job->target_stride);
        int64_t nan = contiguous ? copy_contiguous(to, from, job->columns, job->check_nan)
                                 : copy_converted(to, from, job->dtype, job->columns, job->column_stride,
                                                  job->check_nan);
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
                  uint64_t columns, int64_t row_stride, int64_t column_stride, int check_nan,
                  int use_second_thread) {
    copy_job first = {
        .target = (unsigned char *)target,
        .source = source,
        .target_stride = target_stride,
        .row_stride = row_stride,
        .column_stride = column_stride,
        .rows = rows,
        .columns = columns,
        .dtype = dtype,
        .check_nan = check_nan,
    };
    copy_job second = first;
    uint64_t half = rows / 2;
    pthread_t thread;
    second.rows = rows - half;
    second.target += (int64_t)half * target_stride;
    second.source += (int64_t)half * row_stride;
    if (!use_second_thread || rows * columns < PARALLEL_FROM ||
        pthread_create(&thread, NULL, run_in_thread, &second) != 0) {
        run(&first);
        return first.nan;
    }
    first.rows = half;
    run(&first);
    pthread_join(thread, NULL);
    return first.nan >= 0 || second.nan < 0 ? first.nan : (int64_t)(half * columns) + second.nan;
}
