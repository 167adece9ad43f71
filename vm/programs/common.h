// What all programs of this folder share: random numbers and a digest that are the same everywhere, and the size argument.
//
// Results must not depend on the machine or the C library: no `long double`, no `sin`, `exp` and the like (libraries
// differ in the last bit), no contraction of products and sums (-ffp-contract=off), no order of equal elements in `qsort`,
// no two random numbers among the arguments of one call.
#ifndef COMMON_H
#define COMMON_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Says what is wrong and ends the program with exit code 1.
_Noreturn static inline void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

// Memory that is there, or the end of the program.
static inline void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die("no memory for %zu times %zu bytes", count, size);
    return memory;
}

// The first argument as a number from 1 to `most`; `usual` without one.
static inline size_t size_argument(int argc, char **argv, size_t usual, size_t most) {
    if (argc < 2) return usual;
    char *end;
    unsigned long size = strtoul(argv[1], &end, 10);
    if (argc > 2 || *end || size < 1 || size > most) die("usage: %s [SIZE]   SIZE from 1 to %zu", argv[0], most);
    return size;
}

// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
static uint64_t random_state = 0x9e3779b97f4a7c15;

static inline uint64_t random_u64(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1d;
}

static inline uint32_t random_below(uint32_t bound) {
    return (uint32_t)((random_u64() >> 32) * bound >> 32);
}

// From 0 up to but not 1, in steps of 2^-53.
static inline double random_unit(void) {
    return (double)(random_u64() >> 11) * 0x1p-53;
}

// FNV-1a, 64 bits: over bytes, and over whole words where there are many.
static uint64_t digest = 0xcbf29ce484222325;

static inline void absorb(const void *bytes, size_t len) {
    for (const uint8_t *byte = bytes; len--; byte++) digest = (digest ^ *byte) * 0x100000001b3;
}

static inline void absorb_u64(uint64_t word) {
    digest = (digest ^ word) * 0x100000001b3;
    digest ^= digest >> 29;
}

static inline void absorb_f64(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    absorb_u64(bits);
}

// The last line of every program; the value is for `main` to return.
static inline int print_digest(void) {
    printf("digest %016" PRIx64 "\n", digest);
    return fflush(stdout) == 0 ? 0 : 1;
}

#endif
