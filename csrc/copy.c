/* One pass that copies posteriors into the ring and looks for NaN on the way. */
#include "shmbridge.h"

#include <string.h>

enum { BLOCK = 2048 }; /* floats: looked at while they are in the nearest cache, then copied */

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

static int64_t copy_contiguous(float *target, const unsigned char *source, uint64_t count) {
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

int64_t shmb_copy_checked(float *target, const void *source, uint32_t dtype, uint64_t rows, uint64_t columns,
                          int64_t row_stride, int64_t column_stride) {
    const unsigned char *bytes = source;
    int is_double = dtype == SHMB_FLOAT64;
    int64_t row_bytes = (int64_t)(columns * sizeof(float));
    int contiguous = !is_double && column_stride == (int64_t)sizeof(float);
    if (contiguous && row_stride == row_bytes)
        return copy_contiguous(target, bytes, rows * columns);
    for (uint64_t row = 0; row < rows; row++) {
        const unsigned char *from = bytes + (int64_t)row * row_stride;
        float *to = target + row * columns;
        int64_t nan = contiguous ? copy_contiguous(to, from, columns)
                                 : copy_strided(to, from, is_double, columns, column_stride);
        if (nan >= 0)
            return (int64_t)(row * columns) + nan;
    }
    return -1;
}
