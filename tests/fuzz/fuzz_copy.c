/* Fuzz target: shmb_copy and shmb_find_invalid, compared with a loop over single elements.
 *
 * Input: flags (including the source's dtype), rows, columns, padding of target rows, sign and size of both strides,
 * then the source's bytes. The source and target blocks have exactly the size that strides and shape need, so that
 * ASan detects each access beyond them. The unit tests cover the copy with two threads, which starts at 4 million
 * elements.
 */
#include "input.h"

#include "shmbridge.h"

#include <math.h>

/* By the definition in IEEE 754; copy.c uses a multiplication. */
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

/* The offset of the lowest byte of a strided matrix. */
static int64_t lowest(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
    int64_t low = 0;
    if (row_stride < 0)
        low += (rows - 1) * row_stride;
    if (column_stride < 0)
        low += (columns - 1) * column_stride;
    return low;
}

/* The number of bytes from the lowest to the highest. */
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
    int64_t rows = read_byte(&input) % 8;
    int64_t columns = read_byte(&input);
    if (columns > 250) { /* makes rows longer than a block of the check */
        rows %= 3;
        columns += 3900;
    } else if (!(flags & 4))
        columns %= 16;
    uint8_t more = read_byte(&input);
    int64_t target_stride = 4 * (columns + more % 4);
    uint32_t check = !(flags & 2) ? SHMB_CHECK_NOTHING : more & 128 ? SHMB_CHECK_NAN : SHMB_CHECK_NAN_INF;
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

    int64_t invalid = shmb_copy((float *)(void *)target, target_stride, source, dtype, (uint64_t)rows, (uint64_t)columns,
                                row_stride, column_stride, check, 0);
    int64_t first = -1;
    for (int64_t i = 0; i < rows * columns; i++) {
        const unsigned char *from = source + i / columns * row_stride + i % columns * column_stride;
        float expected = element(from, dtype), found;
        if (first < 0 && (expected != expected || (check == SHMB_CHECK_NAN_INF && expected == INFINITY)))
            first = i;
        memcpy(&found, target + i / columns * target_stride + i % columns * 4, sizeof found);
        if (check == SHMB_CHECK_NOTHING || first < 0)
            MUST((expected != expected && found != found) || memcmp(&expected, &found, sizeof found) == 0);
    }
    MUST(invalid == (check == SHMB_CHECK_NOTHING ? -1 : first));
    for (int64_t row = 0; row + 1 < rows; row++) /* the gaps between target rows stay unchanged */
        for (int64_t i = 4 * columns; i < target_stride; i++)
            MUST(target[row * target_stride + i] == 0xA5);
    free(block);
    free(target);
    return 0;
}
