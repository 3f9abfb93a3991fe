/* Copy matrices into and out of the ring: one pass converts to float32 and checks the values. */
#include "shmbridge.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

enum {
    BLOCK = 4096, /* floats: fits into the first-level cache, so that the check reads no memory again */
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
    uint32_t check;  /* a shmb_check */
    int64_t invalid; /* result: index of the first invalid value, or -1 */
} copy_job;

WIDE static int any_nan(const float *values, size_t count) {
    size_t half = count / 2;
    int found = count % 2 != 0 && values[count - 1] != values[count - 1];
    for (size_t i = 0; i < half; i++) /* one comparison checks two values: unordered means that one is NaN */
        found |= isunordered(values[i], values[half + i]);
    return found;
}

/* Return whether there may be a NaN or +inf: also for finite values whose sum is not finite. */
WIDE static int any_nan_or_inf(const float *values, size_t count) {
    size_t quarter = count / 4;
    int found = 0;
    for (size_t i = 4 * quarter; i < count; i++)
        found |= !islessequal(values[i], FLT_MAX);
    for (size_t i = 0; i < quarter; i++) { /* one comparison checks four values: a sum keeps NaN and +inf */
        float sum = (values[i] + values[quarter + i]) + (values[2 * quarter + i] + values[3 * quarter + i]);
        found |= !islessequal(sum, FLT_MAX);
    }
    return found;
}

static int is_invalid(float value, uint32_t check) {
    return check == SHMB_CHECK_NAN ? value != value : !islessequal(value, FLT_MAX);
}

int64_t shmb_find_invalid(const float *values, uint64_t count, uint32_t check) {
    for (uint64_t start = 0; start < count; start += BLOCK) {
        size_t length = (size_t)(count - start < BLOCK ? count - start : BLOCK);
        if (!(check == SHMB_CHECK_NAN ? any_nan : any_nan_or_inf)(values + start, length))
            continue;
        for (size_t i = 0; i < length; i++)
            if (is_invalid(values[start + i], check))
                return (int64_t)(start + i);
    }
    return -1;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Add the exponentials. 2^x is 2^floor(x) times a parabola in the rest. x is limited as an integer, which the compiler
 * can vectorize. */
WIDE static void add_exponentials(float *restrict sums, const float *restrict values, uint64_t count) {
    const uint32_t lowest = 0xC2FC0000u; /* -126; of two negative floats, the lower one has larger bits */
    const int32_t highest = 0x42FE0000;  /* 127 */
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits = to_bits(values[i] * 1.44269504f); /* times log2(e) */
        bits = bits < lowest ? bits : lowest;
        int32_t limited = (int32_t)bits;
        limited = limited < highest ? limited : highest;
        float x = from_bits((uint32_t)limited) + 127.0f;
        int32_t whole = (int32_t)x; /* x is positive, so that this rounds down */
        float rest = x - (float)whole;
        sums[i] += from_bits((uint32_t)whole << 23) * (1.0f + rest * (0.6565f + rest * 0.3435f));
    }
}

float shmb_sum_of_exponentials(const float *values, uint64_t count) {
    enum { LANES = 64 };
    float sums[LANES] = {0}, sum = 0;
    for (uint64_t start = 0; start < count; start += LANES)
        add_exponentials(sums, values + start, count - start < LANES ? count - start : LANES);
    for (int i = 0; i < LANES; i++)
        sum += sums[i];
    return sum;
}

static int64_t copy_contiguous(float *target, const unsigned char *source, uint64_t count, uint32_t check) {
    if (check == SHMB_CHECK_NOTHING) {
        memcpy(target, source, count * sizeof(float));
        return -1;
    }
    for (uint64_t start = 0; start < count; start += BLOCK) {
        size_t length = (size_t)(count - start < BLOCK ? count - start : BLOCK);
        memcpy(target + start, source + start * sizeof(float), length * sizeof(float));
        int64_t invalid = shmb_find_invalid(target + start, length, check);
        if (invalid >= 0)
            return (int64_t)start + invalid;
    }
    return -1;
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
                              int64_t stride, uint32_t check) {
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
        int64_t invalid = check == SHMB_CHECK_NOTHING ? -1 : shmb_find_invalid(target + start, length, check);
        if (invalid >= 0)
            return (int64_t)start + invalid;
    }
    return -1;
}

static void run(copy_job *job) {
    int64_t row_bytes = (int64_t)(job->columns * sizeof(float));
    int contiguous = job->dtype == SHMB_FLOAT32 && job->column_stride == (int64_t)sizeof(float);
    job->invalid = -1;
    if (contiguous && job->row_stride == row_bytes && job->target_stride == row_bytes) {
        job->invalid = copy_contiguous((float *)(void *)job->target, job->source, job->rows * job->columns,
                                       job->check);
        return;
    }
    for (uint64_t row = 0; row < job->rows; row++) {
        const unsigned char *from = job->source + (int64_t)row * job->row_stride;
        float *to = (float *)(void *)(job->target + (int64_t)row * job->target_stride);
        int64_t invalid = contiguous ? copy_contiguous(to, from, job->columns, job->check)
                                     : copy_converted(to, from, job->dtype, job->columns, job->column_stride,
                                                      job->check);
        if (invalid >= 0) {
            job->invalid = (int64_t)(row * job->columns) + invalid;
            return;
        }
    }
}

static void *run_in_thread(void *job) {
    run(job);
    return NULL;
}

int64_t shmb_copy(float *target, int64_t target_stride, const void *source, uint32_t dtype, uint64_t rows,
                  uint64_t columns, int64_t row_stride, int64_t column_stride, uint32_t check,
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
        .check = check,
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
        return first.invalid;
    }
    first.rows = half;
    run(&first);
    pthread_join(thread, NULL);
    return first.invalid >= 0 || second.invalid < 0 ? first.invalid : (int64_t)(half * columns) + second.invalid;
}
