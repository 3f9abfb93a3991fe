/* A minimal test framework for the C tests. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #condition); \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

#define CHECK_EQUAL(found, expected)                                                              \
    do {                                                                                          \
        unsigned long long found_ = (unsigned long long)(found);                                  \
        unsigned long long expected_ = (unsigned long long)(expected);                            \
        if (found_ != expected_) {                                                                \
            fprintf(stderr, "%s:%d: %s: %s is %llu, not %llu\n", __FILE__, __LINE__, __func__,    \
                    #found, found_, expected_);                                                   \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

#endif
