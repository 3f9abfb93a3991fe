/* Matrices into and out of the ring: one pass that converts to float32 and looks for NaN on the way. */
#include "shmbridge.h"

#include <pthread.h>
#include <string.h>

enum {
    BLOCK = 2048,                 /* floats: looked at while they are in the nearest cache, then copied */
    PARALLEL_FROM = 4 * 1024 * 1024, /* floats; below this, a second thread costs more than it saves */
};

typedef struct {
    unsigned char *target;
    const unsigned char *source;
    int64_t target_stride; /* of rows, in bytes; their elements are contiguous */
    int64_t row_stride;
    int64_t column_stride;
    uint64_t rows;
    uint64_t columns;
    int is_double;
    int look; /* for NaN */
    int64_t nan; /* result: index of the first NaN, or -1 */
} copy_job;

static int any_nan(const float *values, size_t count) {
    int found = 0;
    for (size_t i = 0; i < count; i++)
        found |= values[i] != values[i];
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

static int64_t copy_strided(float *target, const unsigned char *source, int is_double, uint64_t count,
                            int64_t stride) {
    int found = 0;
    if (is_double)
        for (uint64_t i = 0; i < count; i++) {
            double value;
            memcpy(&value, source + (int64_t)i * stride, sizeof value);
            target[i] = (float)value;
            found |= value != value;
        }
    else
        for (uint64_t i = 0; i < count; i++) {
            float value;
            memcpy(&value, source + (int64_t)i * stride, sizeof value);
            target[i] = value;
            found |= value != value;
        }
    return found ? shmb_find_nan(target, count) : -1;
}

static void run(copy_job *job) {
    int64_t row_bytes = (int64_t)(job->columns * sizeof(float));
    int contiguous = !job->is_double && job->column_stride == (int64_t)sizeof(float);
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
                                 : copy_strided(to, from, job->is_double, job->columns, job->column_stride);
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
        .is_double = dtype == SHMB_FLOAT64,
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
