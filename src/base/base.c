/* base.c - error texts, the default allocator, growing arrays and the 128-bit hash.
 *
 * The hash reads eight 64-bit lanes of a 64-byte stripe; a lane's step (xor-multiply-rotate-multiply)
 * is a bijection of the lane for a fixed word, so that no input word is lost.  Speed matters where
 * frames are hashed whole: one multiply chain a lane and eight independent lanes keep the multiplier
 * busy.  It is not keyed and must not stand alone where an adversary chooses the input.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef ST_VERSION_STRING
#define ST_VERSION_STRING "0.1.0"
#endif

const char *st_version(void) { return ST_VERSION_STRING; }

const char *st_code_text(int code)
{
    static const char *const texts[] = {
#define ST_CODE_TEXT(name, text) text,
        ST_CODES(ST_CODE_TEXT)
#undef ST_CODE_TEXT
    };
    return code >= 0 && code < ST_N_CODES ? texts[code] : "unknown code";
}

int st_fail(st_error *err, int code, const char *fmt, ...)
{
    if (err) {
        err->code = code;
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
    }
    return code;
}

static void *default_resize(void *ud, void *p, size_t n)
{
    (void)ud;
    return realloc(p, n);
}

static void default_release(void *ud, void *p)
{
    (void)ud;
    free(p);
}

const st_alloc *st_alloc_default(void)
{
    static const st_alloc a = {default_resize, default_release, NULL};
    return &a;
}

int st_vec_grow_(const st_alloc *a, void **v, size_t *cap, size_t need, size_t size)
{
    size_t n = *cap ? *cap : 8;
    while (n < need) {
        if (n > SIZE_MAX / 2) return ST_ENOMEM;
        n *= 2;
    }
    if (n > SIZE_MAX / size) return ST_ENOMEM;
    void *p = a->resize(a->ud, *v, n * size);
    if (!p) return ST_ENOMEM;
    *v = p;
    *cap = n;
    return ST_OK;
}

#ifdef ST_PLANT
int st_planted(void)
{
    const char *s = getenv("ST_PLANT");
    return s ? atoi(s) : 0;
}
#endif

/* -- Hash ---------------------------------------------------------------------------------- */

#define P1 UINT64_C(0x9E3779B97F4A7C15) /* 2^64 / golden ratio */
#define P2 UINT64_C(0xD6E8FEB86659FD93)
#define P3 UINT64_C(0xA0761D6478BD642F)

static inline uint64_t rotl(uint64_t x, int r) { return (x << r) | (x >> (64 - r)); }

static inline uint64_t read64(const unsigned char *p)
{
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

static inline uint64_t step(uint64_t lane, uint64_t w) { return rotl((lane ^ w) * P2, 29) * P1 + w; }

static inline uint64_t avalanche(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xBEA225F9EB34556D);
    x ^= x >> 29;
    x *= UINT64_C(0xBEA225F9EB34556D);
    x ^= x >> 32;
    return x;
}

st_hash st_hash_bytes(const void *data, size_t n, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t l[8];
    for (int i = 0; i < 8; i++)
        l[i] = avalanche(seed + (uint64_t)i * P3 + P1);
    size_t left = n;
    for (; left >= 64; left -= 64, p += 64)
        for (int i = 0; i < 8; i++)
            l[i] = step(l[i], read64(p + 8 * i));
    if (left) {
        unsigned char tail[64] = {0};
        memcpy(tail, p, left);
        for (int i = 0; i < 8; i++)
            l[i] = step(l[i], read64(tail + 8 * i));
    }
    /* Two different folds of all eight lanes and the length: neither half can be had from the other. */
    uint64_t a = avalanche((uint64_t)n + P1), b = avalanche((uint64_t)n ^ P3);
    for (int i = 0; i < 8; i++) {
        a = rotl(a ^ avalanche(l[i]), 23) * P1;
        b = rotl(b + avalanche(l[7 - i] ^ P2), 37) * P3;
    }
    st_hash h = {avalanche(a), avalanche(b)};
    return h;
}

st_hash st_hash_mix(st_hash a, st_hash b)
{
    uint64_t w[4] = {a.lo, a.hi, b.lo, b.hi};
    uint64_t x = P1, y = P3;
    for (int i = 0; i < 4; i++) {
        x = step(x, w[i]);
        y = step(y, rotl(w[i], 17));
    }
    st_hash h = {avalanche(x), avalanche(y)};
    return h;
}
