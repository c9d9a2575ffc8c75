/* driver.h - what the fuzz targets share: reading a byte program, and a main for compilers without
 * libFuzzer.
 *
 * A target defines LLVMFuzzerTestOneInput.  With -DFUZZ_LIBFUZZER (and -fsanitize=fuzzer) libFuzzer
 * drives it.  Otherwise the program takes
 *
 *     fuzz_x [number [seed]]    that many random inputs, from a seed that is printed
 *     fuzz_x -f FILE...         these inputs
 */
#ifndef ST_FUZZ_DRIVER_H
#define ST_FUZZ_DRIVER_H

#include "stratum/graph.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define UNUSED __attribute__((unused))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Asked for by UBSan when a program starts: undefined behaviour ends it, where it would be told and passed.
 */
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "halt_on_error=1:print_stacktrace=1"; }

#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* -- The program: bytes, read from the front; zeros after the end ---------------------------- */

typedef struct program {
    const uint8_t *p;
    size_t left;
} program;

static UNUSED unsigned byte(program *b)
{
    if (!b->left) return 0;
    b->left--;
    return *b->p++;
}

static UNUSED uint64_t word(program *b)
{
    uint64_t w = 0;
    for (int i = 0; i < 8; i++)
        w |= (uint64_t)byte(b) << (8 * i);
    return w;
}

/* -- Memory: counted ------------------------------------------------------------------------- */

static atomic_long blocks; /* threads of the library allocate, too */

static void *count_resize(void *ud, void *p, size_t n)
{
    (void)ud;
    void *q = realloc(p, n);
    CHECK(q != NULL);
    if (!p) atomic_fetch_add(&blocks, 1);
    return q;
}

static void count_release(void *ud, void *p)
{
    (void)ud;
    atomic_fetch_sub(&blocks, 1);
    free(p);
}

static const st_alloc counting = {count_resize, count_release, NULL};

/* -- Values: single bytes ---------------------------------------------------------------------- */

static UNUSED int describe_byte(void *obj, char *buf, size_t n)
{
    snprintf(buf, n, "byte\n\"%u\"", *(const uint8_t *)obj);
    return ST_OK;
}

static const st_host byte_host = {"byte", free, describe_byte, NULL};

static UNUSED st_value *byte_value(unsigned x, bool encoded)
{
    uint8_t *p = malloc(1);
    st_value *v;
    CHECK(p != NULL);
    *p = (uint8_t)x;
    CHECK(st_value_new(&counting, &byte_host, p, encoded ? p : NULL, encoded, &v) == ST_OK);
    return v;
}

/* -- Attribute trees ---------------------------------------------------------------------------- */

/* A random tree; its leaves may be refs to one of `n` nodes, or slots. */
static UNUSED st_attr *attr(program *b, st_node *const *nodes, size_t n, bool slots, unsigned depth)
{
    st_attr *t = NULL;
    unsigned k = byte(b);
    switch (k % 14) {
    case 0: CHECK(st_attr_none(&counting, &t) == ST_OK); return t;
    case 1: CHECK(st_attr_bool(&counting, k >> 4 & 1, &t) == ST_OK); return t;
    case 2: CHECK(st_attr_int(&counting, (int64_t)(k & 16 ? word(b) : byte(b)), &t) == ST_OK); return t;
    case 3: {
        uint64_t w = word(b);
        double d;
        memcpy(&d, &w, 8);
        CHECK(st_attr_float(&counting, d, &t) == ST_OK);
        return t;
    }
    case 4:
    case 5: {
        char s[300] = "";
        size_t len = byte(b);
        for (size_t i = 0; i < len; i++)
            s[i] = (char)byte(b);
        if (k % 14 == 4)
            CHECK(st_attr_str(&counting, s, len, &t) == ST_OK);
        else
            CHECK(st_attr_bytes(&counting, s, len, &t) == ST_OK);
        return t;
    }
    case 6: {
        st_value *v = byte_value(byte(b), k >> 4 & 1);
        CHECK(st_attr_value(&counting, v, &t) == ST_OK);
        st_value_release(v);
        return t;
    }
    case 7:
        if (slots) {
            CHECK(st_attr_slot(&counting, byte(b) % 5, &t) == ST_OK);
            return t;
        }
        break;
    default: break;
    }
    if (n && k % 14 < 10) {
        st_node *m = nodes[byte(b) % n];
        CHECK(st_attr_ref(&counting, (st_ref){m, byte(b) % 3}, &t) == ST_OK);
        return t;
    }
    static const st_attr_type types[] = {ST_LIST, ST_TUPLE, ST_SET, ST_FROZENSET, ST_DICT, ST_SLICE};
    st_attr_type type = types[(k >> 4) % 6];
    st_attr *items[8] = {NULL};
    size_t len = depth > 12 || !b->left ? 0 : byte(b) % 9;
    for (size_t i = 0; i < len; i++)
        items[i] = attr(b, nodes, n, slots, depth + 1);
    int rc = st_attr_seq(&counting, type, items, len, &t);
    CHECK(rc == ST_OK || rc == ST_EINVAL);
    for (size_t i = 0; i < len; i++)
        st_attr_release(items[i]);
    if (rc != ST_OK) CHECK(st_attr_none(&counting, &t) == ST_OK);
    return t;
}

/* -- Driving ---------------------------------------------------------------------------------- */

#ifndef FUZZ_LIBFUZZER
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

int main(int argc, char **argv)
{
    static uint8_t buf[1 << 16];
    if (argc > 1 && strcmp(argv[1], "-f") == 0) {
        for (int i = 2; i < argc; i++) {
            FILE *f = fopen(argv[i], "rb");
            CHECK(f != NULL);
            size_t n = fread(buf, 1, sizeof buf, f);
            fclose(f);
            LLVMFuzzerTestOneInput(buf, n);
        }
        return 0;
    }
    long number = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    printf("%ld inputs, seed %llu\n", number, (unsigned long long)seed);
    fflush(stdout);
    for (long i = 0; i < number; i++) {
        uint64_t state = seed + (uint64_t)i;
        size_t n = next_random(&state) % (i % 50 == 0 ? 4096 : 256);
        /* bytes of few values on half of the inputs: equal parts meet more often */
        uint64_t mask = next_random(&state) % 2 ? 0xFF : 0x1F;
        for (size_t k = 0; k < n; k++)
            buf[k] = (uint8_t)(next_random(&state) & mask);
        LLVMFuzzerTestOneInput(buf, n);
    }
    return 0;
}
#endif

#endif
