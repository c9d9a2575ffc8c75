/* logistic.c - see logistic.h.  Memory: from the caller's allocator, given back before returning.
 *
 * exp and log are series of our own on eight lanes: libm's take 20 ns a row, which would be as long as
 * reading the row, and the bits of vector libraries differ between processors.
 *
 * A block of rows stays in the first cache between the two products that it takes part in.  Each of them
 * keeps in registers what it adds up: lanes of some rows and classes on the way there, eight columns each of
 * some classes on the way back.  How many those are does not show in the bits, and is chosen for the
 * processor.  The last vector of a row ends with it and overlaps the one before, with coefficients of zero.
 * Lines of the next block are asked for between the computations: without that, waiting for memory is half of
 * the time.
 */
#include "kernels/logistic.h"

#include "base/internal.h"
#include "kernels/parallel.h"

#include <math.h>

enum {
    BLOCK = 64,          /* rows at most that are taken together */
    BLOCK_BYTES = 16384, /* of the first cache for them */
    GROUP = 8,           /* rows are padded to a multiple of this many */
    LEAST_ROWS = 1024,
    MOST_CHUNKS = 64,
};

/* -- exp and log --------------------------------------------------------------------------- */

ST_INLINE void choose(st_v8 *to, const st_m8 *mask, const st_v8 *yes, const st_v8 *no)
{
    st_m8 y, n;
    memcpy(&y, yes, sizeof y);
    memcpy(&n, no, sizeof n);
    y = (y & *mask) | (n & ~*mask);
    memcpy(to, &y, sizeof y);
}

/* x = k ln 2 + r; e^r by its series up to r^13 (|r| <= 0.347: what is left is below 2^-57). */
ST_INLINE void exp8(st_v8 *x)
{
    const double round = 0x1.8p52;
    st_v8 zero = {0}, v = *x;
    st_m8 gone = v < -708.0;
    choose(&v, &gone, &zero, &v);
    st_v8 k = v * 1.4426950408889634 + round;
    st_m8 bits;
    memcpy(&bits, &k, sizeof bits);
    k -= round;
    /* ln 2 in two parts, the first short enough for k * part to be exact */
    st_v8 r = v - k * 0x1.62e42feep-1;
    r -= k * 0x1.a39ef35793c76p-33;
    st_v8 s = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
    s = s * r + 1.0 / 39916800.0;
    s = s * r + 1.0 / 3628800.0;
    s = s * r + 1.0 / 362880.0;
    s = s * r + 1.0 / 40320.0;
    s = s * r + 1.0 / 5040.0;
    s = s * r + 1.0 / 720.0;
    s = s * r + 1.0 / 120.0;
    s = s * r + 1.0 / 24.0;
    s = s * r + 1.0 / 6.0;
    s = s * r + 0.5;
    s = s * (r * r) + r + 1.0;
    /* 2^k: the low bits of the rounded sum are k */
    bits = (bits << 52) + ((int64_t)1023 << 52);
    st_v8 scale;
    memcpy(&scale, &bits, sizeof scale);
    s *= scale;
    choose(x, &gone, &zero, &s);
}

/* x = 2^k m with m in [0.707, 1.414]; log m = 2 atanh((m - 1) / (m + 1)) by its series. */
ST_INLINE void log8(st_v8 *x)
{
    st_m8 bits;
    memcpy(&bits, x, sizeof bits);
    const int64_t half = 0x3fe6a09e667f3bcd; /* bits of sqrt(1/2) */
    st_m8 k = (bits - half) >> 52;
    bits -= k << 52;
    st_v8 m, e;
    memcpy(&m, &bits, sizeof m);
    const int64_t magic = 0x4338000000000000; /* bits of 1.5 * 2^52 */
    st_m8 kb = k + magic;
    memcpy(&e, &kb, sizeof e);
    e -= 0x1.8p52;
    st_v8 f = m - 1.0, s = f / (m + 1.0), z = s * s;
    st_v8 t = z * (1.0 / 23.0) + 1.0 / 21.0;
    t = t * z + 1.0 / 19.0;
    t = t * z + 1.0 / 17.0;
    t = t * z + 1.0 / 15.0;
    t = t * z + 1.0 / 13.0;
    t = t * z + 1.0 / 11.0;
    t = t * z + 1.0 / 9.0;
    t = t * z + 1.0 / 7.0;
    t = t * z + 1.0 / 5.0;
    t = t * z + 1.0 / 3.0;
    /* 2 s = f - s f, so that the large part is exact */
    t = f - s * (f - 2.0 * z * t);
    *x = e * 0x1.62e42feep-1 + (t + e * 0x1.a39ef35793c76p-33);
}

void st_exp8(st_v8 *x) { exp8(x); }
void st_log8(st_v8 *x) { log8(x); }

/* -- Rows ---------------------------------------------------------------------------------- */

typedef struct job job;

/* Where the vectors of a row begin: at 8 v, but the last one at `last`. */
struct job {
    const st_logistic *in;
    size_t p, k, chunks;
    size_t vectors, pitch, last, block;
    double *coef; /* classes: the vectors, then the intercept in a vector of its own */
    double *sums; /* a chunk: as `coef` for the gradient, then the loss */
    double *room; /* a worker */
    size_t room_each;
    bool copied; /* rows are short, or floats: they are copied, padded with zeros */
    void (*rows)(const job *, size_t begin, size_t end, double *room, double *sums);
};

/* What a group of rows of a block needs beside X. */
typedef struct strip {
    const double *const *row;
    size_t rows, vectors, pitch, last;
    const char *next; /* lines of the next block, asked for on the way */
    size_t step;
} strip;

/* The sums of the lanes of R vectors in the order of st_v8_sum, plus `more`. */
ST_INLINE void fold(st_v8 *acc, size_t n, double more, double *to)
{
    size_t left = n;
    for (int step = 0; step < 3; step++) {
        size_t half = left > 1 ? left / 2 : 1;
        for (size_t i = 0; i < half; i++) {
            st_v8 a = acc[left > 1 ? 2 * i : 0], b = acc[left > 1 ? 2 * i + 1 : 0];
            if (step == 0)
                acc[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
                         __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
            else if (step == 1)
                acc[i] = __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13) +
                         __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15);
            else
                acc[i] = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
                         __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
        }
        left = half;
    }
    st_v8 sum = acc[0] + more;
    memcpy(to, &sum, n * sizeof *to);
}

/* raw[c * BLOCK + r] of all rows, R at a time, and C classes. */
#define FORTH(name, attribute, R, C)                                                                         \
    attribute static inline void name(strip *s, const double *restrict coef, double *restrict raw)           \
    {                                                                                                        \
        const char *next = s->next;                                                                          \
        for (size_t r0 = 0; r0 < s->rows; r0 += (R)) {                                                       \
            st_v8 acc[C][R], x[R];                                                                           \
            const double *row[R];                                                                            \
            _Pragma("GCC unroll 32") for (int i = 0; i < (R) * (C); i++) acc[i / (R)][i % (R)] = (st_v8){0}; \
            _Pragma("GCC unroll 32") for (int r = 0; r < (R); r++) row[r] = s->row[r0 + (size_t)r];          \
            for (size_t v = 0; v < s->vectors; v++) {                                                        \
                size_t at = v + 1 < s->vectors ? v * ST_LANES : s->last;                                     \
                _Pragma("GCC unroll 32") for (int r = 0; r < (R); r++) st_v8_load(&x[r], row[r] + at);       \
                _Pragma("GCC unroll 32") for (int r = 0; r < (R) / 2; r++, next += s->step)                  \
                    __builtin_prefetch(next, 0, 2);                                                          \
                _Pragma("GCC unroll 32") for (int c = 0; c < (C); c++)                                       \
                {                                                                                            \
                    st_v8 w;                                                                                 \
                    st_v8_load(&w, coef + (size_t)c * s->pitch + v * ST_LANES);                              \
                    _Pragma("GCC unroll 32") for (int r = 0; r < (R); r++) acc[c][r] += w * x[r];            \
                }                                                                                            \
            }                                                                                                \
            _Pragma("GCC unroll 32") for (int c = 0; c < (C); c++)                                           \
                fold(acc[c], (R), coef[(size_t)c * s->pitch + s->vectors * ST_LANES], raw + c * BLOCK + r0); \
        }                                                                                                    \
        s->next = next;                                                                                      \
    }

/* gradient += rows' raw, one row after the other: N vectors of columns from v on, and C classes. */
#define BACK(name, attribute, N, C)                                                                          \
    attribute static inline void name(strip *s, size_t v, const double *restrict raw,                        \
                                      double *restrict gradient)                                             \
    {                                                                                                        \
        size_t end = v + (N) < s->vectors ? (v + (N) - 1) * ST_LANES : s->last;                              \
        double *to = gradient + v * ST_LANES;                                                                \
        const char *next = s->next;                                                                          \
        st_v8 acc[C][N], x[N];                                                                               \
        _Pragma("GCC unroll 32") for (int i = 0; i < (N) * (C); i++)                                         \
            st_v8_load(&acc[i / (N)][i % (N)], to + (size_t)(i / (N)) * s->pitch + i % (N) * ST_LANES);      \
        for (size_t r = 0; r < s->rows; r++) {                                                               \
            const double *row = s->row[r];                                                                   \
            _Pragma("GCC unroll 32") for (int n = 0; n < (N) - 1; n++)                                       \
                st_v8_load(&x[n], row + (v + (size_t)n) * ST_LANES);                                         \
            st_v8_load(&x[(N) - 1], row + end);                                                              \
            _Pragma("GCC unroll 32") for (int n = 0; n < (N) / 2; n++, next += s->step)                      \
                __builtin_prefetch(next, 0, 2);                                                              \
            _Pragma("GCC unroll 32") for (int c = 0; c < (C); c++)                                           \
            {                                                                                                \
                double by = raw[(size_t)c * BLOCK + r];                                                      \
                _Pragma("GCC unroll 32") for (int n = 0; n < (N); n++) acc[c][n] += by * x[n];               \
            }                                                                                                \
        }                                                                                                    \
        _Pragma("GCC unroll 32") for (int i = 0; i < (N) * (C); i++)                                         \
            st_v8_store(to + (size_t)(i / (N)) * s->pitch + i % (N) * ST_LANES, &acc[i / (N)][i % (N)]);     \
        s->next = next;                                                                                      \
    }

/* C classes there and back: R rows, and N, then M, then one vector at a time. */
#define CLASSES(name, attribute, C, R, N, M)                                                                 \
    FORTH(name##_forth, attribute, R, C)                                                                     \
    BACK(name##_back_n, attribute, N, C)                                                                     \
    BACK(name##_back_m, attribute, M, C)                                                                     \
    BACK(name##_back_1, attribute, 1, C)                                                                     \
    attribute static void name(strip *s, bool back, const double *coef, double *raw, double *gradient)       \
    {                                                                                                        \
        size_t v = 0;                                                                                        \
        if (!back) {                                                                                         \
            name##_forth(s, coef, raw);                                                                      \
            return;                                                                                          \
        }                                                                                                    \
        for (; v + (N) <= s->vectors; v += (N))                                                              \
            name##_back_n(s, v, raw, gradient);                                                              \
        for (; v + (M) <= s->vectors; v += (M))                                                              \
            name##_back_m(s, v, raw, gradient);                                                              \
        for (; v < s->vectors; v++)                                                                          \
            name##_back_1(s, v, raw, gradient);                                                              \
        for (size_t c = 0; c < (C); c++) {                                                                   \
            double *at = gradient + c * s->pitch + s->vectors * ST_LANES, sum = *at;                         \
            for (size_t r = 0; r < s->rows; r++)                                                             \
                sum += raw[c * BLOCK + r];                                                                   \
            *at = sum;                                                                                       \
        }                                                                                                    \
    }

/* Two classes: raw becomes the gradient of each row, the losses are added up in lanes. */
ST_INLINE void two_classes(const double *restrict target, const double *restrict weight, size_t n,
                           double *restrict raw, st_v8 *sum)
{
    for (size_t r = 0; r < n; r += ST_LANES) {
        st_v8 z, y, w, zero = {0};
        st_v8_load(&z, raw + r);
        st_v8_load(&y, target + r);
        st_v8_load(&w, weight + r);
        st_m8 negative = z < 0.0;
        st_v8 minus = -z, below, above;
        choose(&below, &negative, &z, &minus); /* -|z| */
        choose(&above, &negative, &zero, &z);
        exp8(&below);
        st_v8 one = below + 1.0, error = below - (one - 1.0), log = one, p = 1.0 / one, q = below * p;
        log8(&log);
        log += error * p;
        *sum += w * (log + (above - y * z));
        choose(&p, &negative, &q, &p);
        p = w * (p - y);
        st_v8_store(raw + r, &p);
    }
}

/* Several classes: the same, with the largest value taken out before exp. */
ST_INLINE void many_classes(const double *restrict target, const double *restrict weight, size_t n, size_t k,
                            double *restrict raw, st_v8 *sum)
{
    for (size_t r = 0; r < n; r += ST_LANES, raw += ST_LANES) {
        st_v8 top, y, w, z, own = {0}, total = {0}, one = (st_v8){0} + 1.0, zero = {0};
        st_v8_load(&y, target + r);
        st_v8_load(&w, weight + r);
        st_v8_load(&top, raw);
        for (size_t c = 1; c < k; c++) {
            st_v8_load(&z, raw + c * BLOCK);
            st_m8 more = z > top;
            choose(&top, &more, &z, &top);
        }
        for (size_t c = 0; c < k; c++) {
            st_v8_load(&z, raw + c * BLOCK);
            z -= top;
            st_m8 is = y == (double)c;
            choose(&own, &is, &z, &own);
            exp8(&z);
            total += z;
            st_v8_store(raw + c * BLOCK, &z);
        }
        one /= total;
        for (size_t c = 0; c < k; c++) {
            st_v8_load(&z, raw + c * BLOCK);
            st_m8 is = y == (double)c;
            st_v8 off = zero + 1.0;
            choose(&off, &is, &off, &zero);
            z = w * (z * one - off);
            st_v8_store(raw + c * BLOCK, &z);
        }
        log8(&total);
        *sum += w * (total - own);
    }
}

/* All that happens to the rows of a chunk; `classes` takes up to `most` classes there or back. */
ST_INLINE void rows_of_chunk(const job *j, size_t begin, size_t end, double *restrict room,
                             double *restrict sums, size_t most,
                             void (*classes)(strip *, size_t, bool, const double *, double *, double *))
{
    const st_dense *x = &j->in->x;
    double *raw = room, *target = raw + j->k * BLOCK, *weight = target + BLOCK, *wide = weight + BLOCK;
    const double *row[BLOCK];
    strip s = {.row = row, .vectors = j->vectors, .pitch = j->pitch, .last = j->last};
    st_v8 sum = {0};
    size_t width = j->p * (x->type == ST_F64 ? sizeof(double) : sizeof(float));
    bool dense = x->row > 0 && (size_t)x->row < 2 * width;
    for (size_t at = begin; at < end; at += j->block) {
        size_t n = end - at < j->block ? end - at : j->block;
        s.rows = (n + GROUP - 1) / GROUP * GROUP;
        for (size_t r = 0; r < s.rows; r++) {
            /* rows beyond the last are the last one again, without weight */
            size_t i = at + (r < n ? r : n - 1);
            const char *p = x->data + (ptrdiff_t)i * x->row;
            target[r] = j->in->target[i];
            weight[r] = r >= n ? 0 : j->in->weight ? j->in->weight[i] : 1;
            row[r] = (const double *)(const void *)p;
            if (!j->copied) continue;
            double *to = wide + r * j->vectors * ST_LANES;
            for (size_t c = 0; c < j->p; c++)
                to[c] = x->type == ST_F64 ? row[r][c] : (double)((const float *)(const void *)p)[c];
            row[r] = to;
        }
        s.next = x->data + (ptrdiff_t)(at + n) * x->row;
        s.step = dense && at + n < end ? ST_LINE : 0;
        if (s.step == 0) s.next = (const char *)row[0];
        for (size_t c = 0; c < j->k; c += most)
            classes(&s, j->k - c < most ? j->k - c : most, false, j->coef + c * j->pitch, raw + c * BLOCK,
                    NULL);
        if (j->k == 1)
            two_classes(target, weight, s.rows, raw, &sum);
        else
            many_classes(target, weight, s.rows, j->k, raw, &sum);
        for (size_t c = 0; c < j->k; c += most)
            classes(&s, j->k - c < most ? j->k - c : most, true, NULL, raw + c * BLOCK, sums + c * j->pitch);
    }
    sums[j->k * j->pitch] = st_v8_sum(&sum);
}

#define LEVEL(name, attribute, most)                                                                         \
    attribute static void name(const job *j, size_t begin, size_t end, double *room, double *sums)           \
    {                                                                                                        \
        rows_of_chunk(j, begin, end, room, sums, most, name##_classes);                                      \
    }

CLASSES(base_1, , 1, 2, 2, 2)
static void rows_base_classes(strip *s, size_t n, bool back, const double *coef, double *raw, double *g)
{
    (void)n;
    base_1(s, back, coef, raw, g);
}
LEVEL(rows_base, , 1)

#if defined(__x86_64__) && defined(__GNUC__) && !defined(ST_BASELINE)
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512dq,avx512vl")))
CLASSES(avx2_1, AVX2, 1, 4, 6, 2)
CLASSES(avx2_2, AVX2, 2, 2, 3, 2)
CLASSES(avx2_3, AVX2, 3, 2, 2, 1)
AVX2 static void rows_avx2_classes(strip *s, size_t n, bool back, const double *coef, double *raw, double *g)
{
    (n == 1 ? avx2_1 : n == 2 ? avx2_2 : avx2_3)(s, back, coef, raw, g);
}
LEVEL(rows_avx2, AVX2, 3)
CLASSES(avx512_1, AVX512, 1, 8, 8, 2)
CLASSES(avx512_2, AVX512, 2, 8, 8, 2)
CLASSES(avx512_3, AVX512, 3, 4, 7, 2)
CLASSES(avx512_4, AVX512, 4, 4, 5, 2)
CLASSES(avx512_5, AVX512, 5, 4, 5, 2)
AVX512 static void rows_avx512_classes(strip *s, size_t n, bool back, const double *coef, double *raw,
                                       double *g)
{
    (n == 1   ? avx512_1
     : n == 2 ? avx512_2
     : n == 3 ? avx512_3
     : n == 4 ? avx512_4
              : avx512_5)(s, back, coef, raw, g);
}
LEVEL(rows_avx512, AVX512, 5)
#endif

static void choose_level(job *j)
{
    j->rows = rows_base;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(ST_BASELINE)
    if (__builtin_cpu_supports("avx2")) j->rows = rows_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        j->rows = rows_avx512;
#endif
}

static void chunk(void *ud, size_t c, unsigned worker)
{
    const job *j = ud;
    size_t n = j->in->x.rows, size = j->k * j->pitch + ST_LANES;
    double *sums = j->sums + c * size;
    memset(sums, 0, size * sizeof *sums);
    j->rows(j, st_block_at(n, c, j->chunks), st_block_at(n, c + 1, j->chunks),
            j->room + (size_t)worker * j->room_each, sums);
}

/* Coefficients in vectors; those that the last one shares with the one before are zeros there. */
static void lay_out(job *j, const double *coef)
{
    size_t shared = (j->vectors - 1) * ST_LANES - j->last;
    memset(j->coef, 0, j->k * j->pitch * sizeof *j->coef);
    for (size_t c = 0; c < j->k; c++) {
        const double *from = coef + c * (j->p + 1);
        double *to = j->coef + c * j->pitch;
        for (size_t i = 0; i < j->p; i++)
            to[i < (j->vectors - 1) * ST_LANES ? i : i + shared] = from[i];
        to[j->vectors * ST_LANES] = from[j->p];
    }
}

static void hand_out(const job *j, double *gradient)
{
    size_t shared = (j->vectors - 1) * ST_LANES - j->last;
    for (size_t c = 0; c < j->k; c++) {
        const double *from = j->sums + c * j->pitch;
        double *to = gradient + c * (j->p + 1);
        for (size_t i = 0; i < j->p; i++)
            to[i] = from[i < (j->vectors - 1) * ST_LANES ? i : i + shared];
        to[j->p] = j->in->intercept ? from[j->vectors * ST_LANES] : 0;
    }
}

int st_logistic_loss(const st_alloc *a, const st_logistic *in, const double *coef, unsigned threads,
                     double *loss, double *gradient)
{
    job j = {.in = in, .p = in->x.cols, .k = in->classes};
    j.copied = in->x.type == ST_F32 || j.p < ST_LANES;
    j.vectors = j.p > 0 ? (j.p + ST_LANES - 1) / ST_LANES : 1;
    j.last = j.copied ? (j.vectors - 1) * ST_LANES : j.p - ST_LANES;
    j.pitch = (j.vectors + 1) * ST_LANES;
    j.block = BLOCK_BYTES / (j.vectors * ST_LANES * sizeof(double)) / GROUP * GROUP;
    j.block = j.block < GROUP ? GROUP : j.block > BLOCK ? BLOCK : j.block;
    j.chunks = st_blocks(in->x.rows, LEAST_ROWS, MOST_CHUNKS);
    j.room_each = (j.k + 2) * BLOCK + (j.copied ? j.block * j.vectors * ST_LANES : 0);
    choose_level(&j);
    if (threads < 1) threads = 1;
    if (threads > ST_MAX_THREADS) threads = ST_MAX_THREADS;
    if (threads > j.chunks) threads = (unsigned)j.chunks;
    size_t size = j.k * j.pitch + ST_LANES;
    /* vectors on cache lines */
    size_t n_sums = j.chunks * size, n_room = threads * j.room_each;
    void *block = st_mem_new(a, (n_sums + n_room + j.k * j.pitch) * sizeof(double) + sizeof(st_v8));
    if (!block) return ST_ENOMEM;
    j.sums = (double *)(((uintptr_t)block + sizeof(st_v8) - 1) / sizeof(st_v8) * sizeof(st_v8));
    j.coef = j.sums + n_sums;
    j.room = j.coef + j.k * j.pitch;
    memset(j.room, 0, n_room * sizeof *j.room); /* copied rows are padded with zeros */
    lay_out(&j, coef);
    st_parallel(threads, j.chunks, chunk, &j);
    for (size_t c = 1; c < j.chunks; c++)
        for (size_t i = 0; i <= j.k * j.pitch; i++)
            j.sums[i] += j.sums[c * size + i];
    *loss = j.sums[j.k * j.pitch];
    hand_out(&j, gradient);
    st_mem_free(a, block);
    return ST_OK;
}
