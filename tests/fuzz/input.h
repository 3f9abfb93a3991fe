/* Reads the fuzzer's bytes from the front as numbers; zeros after the end. */
#ifndef INPUT_H
#define INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A condition that must hold for every input. libFuzzer treats abort() as a finding. */
#define MUST(condition)                                                                                 \
    do {                                                                                                \
        if (!(condition)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #condition);     \
            abort();                                                                                    \
        }                                                                                               \
    } while (0)

typedef struct {
    const uint8_t *at;
    size_t left;
} fuzz_input;

static inline uint64_t read_bytes(fuzz_input *input, size_t count) {
    uint64_t number = 0;
    size_t available = count < input->left ? count : input->left;
    if (available > 0)
        memcpy(&number, input->at, available);
    input->at += available;
    input->left -= available;
    return number;
}

static inline uint8_t read_byte(fuzz_input *input) { return (uint8_t)read_bytes(input, 1); }

/* One byte encodes a small number, two a number at which sizes overflow, nine any number. */
static inline uint64_t read_number(fuzz_input *input) {
    static const uint64_t limits[] = {
        UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 63, (uint64_t)1 << 63, INT64_MAX, UINT32_MAX,
        (uint64_t)UINT32_MAX + 1, (uint64_t)1 << 31, (uint64_t)1 << 60, 4096, 4097, 8192,
    };
    uint8_t first = read_byte(input);
    if (first < 250)
        return first;
    if (first < 253)
        return limits[read_byte(input) % (sizeof limits / sizeof *limits)];
    return read_bytes(input, 8);
}

#endif
