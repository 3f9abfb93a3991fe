/* Fuzz target: shmb_copy and shmb_find_nan, held against a loop over single elements.
 *
 * Input: flags (the source's dtype is among them), rows, columns, padding of target rows, sign and size of both
 * strides, then the source's bytes. The source and target are blocks of exactly the size that strides and shape need,
 * so that ASan sees a byte too many.
 * The copy with two threads starts at 4 million elements and is left to the unit tests.
 */
#include "input.h"

#include "shmbridge.h"

#include <math.h>

/* What IEEE 754 says of a binary16; copy.c does it with a multiplication. */
static float from_binary16(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent == 0 ? ldexp(fraction, -24)
                                       : ldexp(1024 + fraction, exponent - 25);
    return (float)(bits & 0x8000 ? -magnitude : magnitude);
}

static float element(const unsigned char *from, uint32_t dtype) {
    double wide;
    float value;
    uint16_t half;
    uint32_t bits;
    switch (dtype) {
    case SHMB_FLOAT64:
        memcpy(&wide, from, sizeof wide);
        return (float)wide;
    case SHMB_FLOAT16:
        memcpy(&half, from, sizeof half);
        return from_binary16(half);
    case SHMB_BFLOAT16:
        memcpy(&half, from, sizeof half);
        bits = (uint32_t)half << 16;
        memcpy(&value, &bits, sizeof value);
        return value;
    default:
        memcpy(&value, from, sizeof value);
        return value;
    }
}

/* The lowest byte that a strided matrix touches, and how many bytes it spans. */
static int64_t lowest(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
    int64_t low = 0;
    if (row_stride < 0)
        low += (rows - 1) * row_stride;
    if (column_stride < 0)
        low += (columns - 1) * column_stride;
    return low;
}

static int64_t extent(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride, int64_t item) {
    if (rows == 0 || columns == 0)
        return 0;
    return (rows - 1) * llabs(row_stride) + (columns - 1) * llabs(column_stride) + item;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input input = {data, size};
    uint8_t flags = read_byte(&input);
    static const uint32_t dtypes[] = {SHMB_FLOAT32, SHMB_FLOAT64, SHMB_FLOAT16, SHMB_BFLOAT16};
    static const int64_t items[] = {4, 8, 2, 2};
    int which = (flags & 1) + 2 * (flags >> 7);
    uint32_t dtype = dtypes[which];
    int64_t item = items[which];
    int look = (flags & 2) != 0;
    int64_t rows = read_byte(&input) % 8;
    int64_t columns = read_byte(&input);
    if (columns > 250) { /* longer than a block of the search for NaN */
        rows %= 3;
        columns += 1800;
    } else if (!(flags & 4))
        columns %= 16;
    int64_t target_stride = 4 * (columns + read_byte(&input) % 4);
    int64_t column_stride = (int8_t)read_byte(&input);
    int64_t row_stride = (int16_t)read_bytes(&input, 2) % 600;
    if (flags & 8)
        column_stride = item;
    if (flags & 16)
        row_stride = columns * item;
    if (flags & 32) {
        column_stride = -column_stride;
        row_stride = -row_stride;
    }

    size_t source_size = (size_t)extent(rows, columns, row_stride, column_stride, item);
    size_t target_size = rows == 0 ? 0 : (size_t)((rows - 1) * target_stride + 4 * columns);
    size_t odd = flags & 64 ? 1 : 0;
    unsigned char *block = malloc(source_size + odd), *target = malloc(target_size);
    uint8_t fill = read_byte(&input);
    for (size_t i = 0; i < source_size + odd; i++)
        block[i] = input.left ? read_byte(&input) : (uint8_t)(fill + i);
    const unsigned char *source = block + odd - (source_size ? lowest(rows, columns, row_stride, column_stride) : 0);
    memset(target, 0xA5, target_size);

    int64_t nan = shmb_copy((float *)(void *)target, target_stride, source, dtype, (uint64_t)rows, (uint64_t)columns,
                            row_stride, column_stride, look, 0);
    int64_t first = -1;
    for (int64_t i = 0; i < rows * columns; i++) {
        const unsigned char *from = source + i / columns * row_stride + i % columns * column_stride;
        float expected = element(from, dtype), found;
        if (first < 0 && expected != expected)
            first = i;
        memcpy(&found, target + i / columns * target_stride + i % columns * 4, sizeof found);
        if (!look || first < 0)
            MUST((expected != expected && found != found) || memcmp(&expected, &found, sizeof found) == 0);
    }
    MUST(nan == (look ? first : -1));
    for (int64_t row = 0; row + 1 < rows; row++) /* between the rows of the target nothing is written */
        for (int64_t i = 4 * columns; i < target_stride; i++)
            MUST(target[row * target_stride + i] == 0xA5);
    free(block);
    free(target);
    return 0;
}
