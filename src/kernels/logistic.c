/* logistic.c - see logistic.h.  Memory: from the caller's allocator, given back before returning.
 *
 * exp and log are series of our own on eight lanes: libm's take 20 ns a row, which would be as long as
 * reading the row, and the bits of vector libraries differ between processors.
 */
#include "kernels/logistic.h"

#include "base/internal.h"
#include "kernels/parallel.h"

#include <math.h>

enum {
    BLOCK = 32, /* rows that are in the first cache together (110 columns: 28 KiB) */
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

typedef struct job {
    const st_logistic *in;
    const double *coef;
    size_t p, k, chunks;
    double *sums; /* a chunk: k rows of p + 1 of the gradient, the loss */
    double *room; /* a worker: rows as doubles */
} job;

/* raw[r * k + c] of `n` rows, with the eight lanes along a row; four rows share the loads of a coefficient.
 * Rows beyond the last are the last one again. */
ST_INLINE void products(const job *j, const double *const *row, size_t n, double *restrict raw)
{
    size_t p = j->p, k = j->k;
    for (size_t r = 0; r < n; r += 4) {
        const double *x0 = row[r], *x1 = row[r + 1], *x2 = row[r + 2], *x3 = row[r + 3];
        for (size_t c = 0; c < k; c++) {
            const double *w = j->coef + c * (p + 1);
            st_v8 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, v, x;
            size_t i = 0;
            for (; i + ST_LANES <= p; i += ST_LANES) {
                st_v8_load(&v, w + i);
                st_v8_load(&x, x0 + i);
                s0 += v * x;
                st_v8_load(&x, x1 + i);
                s1 += v * x;
                st_v8_load(&x, x2 + i);
                s2 += v * x;
                st_v8_load(&x, x3 + i);
                s3 += v * x;
            }
            double d[4] = {st_v8_sum(&s0), st_v8_sum(&s1), st_v8_sum(&s2), st_v8_sum(&s3)};
            for (; i < p; i++) {
                d[0] += w[i] * x0[i];
                d[1] += w[i] * x1[i];
                d[2] += w[i] * x2[i];
                d[3] += w[i] * x3[i];
            }
            for (size_t q = 0; q < 4; q++)
                raw[(r + q) * k + c] = d[q] + w[p];
        }
    }
}

/* Two classes: raw becomes the gradient of each row, the losses are added up row after row. */
ST_INLINE double two_classes(const job *j, size_t at, size_t n, double *restrict raw)
{
    const st_logistic *in = j->in;
    double sum = 0, target[BLOCK + ST_LANES] = {0};
    memcpy(target, in->target + at, n * sizeof *target);
    for (size_t r = 0; r < n; r += ST_LANES) {
        st_v8 z, y, zero = {0};
        st_v8_load(&z, raw + r);
        st_v8_load(&y, target + r);
        st_m8 negative = z < 0.0;
        st_v8 minus = -z, below, above;
        choose(&below, &negative, &z, &minus); /* -|z| */
        choose(&above, &negative, &zero, &z);
        exp8(&below);
        st_v8 one = below + 1.0, error = below - (one - 1.0), log = one, p = 1.0 / one;
        log8(&log);
        log += error / one;
        st_v8 loss = log + (above - y * z), q = below / one;
        choose(&p, &negative, &q, &p);
        p -= y;
        for (size_t i = 0; i < ST_LANES && r + i < n; i++) {
            double w = in->weight ? in->weight[at + r + i] : 1.0;
            sum += w * loss[i];
            raw[r + i] = w * p[i];
        }
    }
    return sum;
}

/* Several classes: the same, with the largest value taken out before exp. */
ST_INLINE double many_classes(const job *j, size_t at, size_t n, double *restrict raw)
{
    const st_logistic *in = j->in;
    size_t k = j->k;
    double sum = 0;
    for (size_t r = 0; r < n; r++) {
        double *z = raw + r * k, top = z[0], total = 0, w = in->weight ? in->weight[at + r] : 1.0;
        size_t y = (size_t)in->target[at + r], c;
        for (c = 1; c < k; c++)
            if (z[c] > top) top = z[c];
        double own = z[y] - top;
        for (c = 0; c < k; c++)
            z[c] -= top;
        st_v8 v;
        for (c = 0; c + ST_LANES <= k; c += ST_LANES) {
            st_v8_load(&v, z + c);
            exp8(&v);
            st_v8_store(z + c, &v);
        }
        if (c < k) {
            v = (st_v8){0};
            memcpy(&v, z + c, (k - c) * sizeof *z);
            exp8(&v);
            memcpy(z + c, &v, (k - c) * sizeof *z);
        }
        for (c = 0; c < k; c++)
            total += z[c];
        v = (st_v8){0} + total;
        log8(&v);
        sum += w * (v[0] - own);
        for (c = 0; c < k; c++)
            z[c] = w * (z[c] / total - (c == y ? 1.0 : 0.0));
    }
    return sum;
}

/* gradient += rows' raw, one row after the other, four with one load of the gradient. */
ST_INLINE void backwards(const job *j, const double *const *row, size_t n, const double *restrict raw,
                         double *restrict gradient)
{
    size_t p = j->p, k = j->k;
    for (size_t r = 0; r < n; r += 4) {
        const double *x0 = row[r], *x1 = row[r + 1], *x2 = row[r + 2], *x3 = row[r + 3];
        for (size_t c = 0; c < k; c++) {
            double *g = gradient + c * (p + 1);
            double g0 = raw[r * k + c], g1 = raw[(r + 1) * k + c], g2 = raw[(r + 2) * k + c],
                   g3 = raw[(r + 3) * k + c];
            size_t i = 0;
            st_v8 s, x;
            for (; i + ST_LANES <= p; i += ST_LANES) {
                st_v8_load(&s, g + i);
                st_v8_load(&x, x0 + i);
                s += g0 * x;
                st_v8_load(&x, x1 + i);
                s += g1 * x;
                st_v8_load(&x, x2 + i);
                s += g2 * x;
                st_v8_load(&x, x3 + i);
                s += g3 * x;
                st_v8_store(g + i, &s);
            }
            for (; i < p; i++)
                g[i] = (((g[i] + g0 * x0[i]) + g1 * x1[i]) + g2 * x2[i]) + g3 * x3[i];
            g[p] = (((g[p] + g0) + g1) + g2) + g3;
        }
    }
}

ST_CLONES static void rows_of_chunk(const job *j, size_t begin, size_t end, double *restrict room,
                                    double *restrict sums)
{
    const st_dense *x = &j->in->x;
    double *raw = room, *wide = room + (BLOCK + ST_LANES) * j->k;
    const double *row[BLOCK + 4];
    for (size_t at = begin; at < end; at += BLOCK) {
        size_t n = end - at < BLOCK ? end - at : BLOCK, padded = (n + 3) / 4 * 4;
        for (size_t r = 0; r < n; r++) {
            const char *p = x->data + (ptrdiff_t)(at + r) * x->row;
            if (x->type == ST_F64)
                row[r] = (const double *)(const void *)p;
            else {
                double *to = wide + r * j->p;
                const float *from = (const float *)(const void *)p;
                for (size_t i = 0; i < j->p; i++)
                    to[i] = (double)from[i];
                row[r] = to;
            }
        }
        for (size_t r = n; r < padded; r++)
            row[r] = row[n - 1];
        products(j, row, padded, raw);
        memset(raw + padded * j->k, 0, ST_LANES * sizeof *raw); /* two_classes reads eight at a time */
        sums[j->k * (j->p + 1)] += j->k == 1 ? two_classes(j, at, n, raw) : many_classes(j, at, n, raw);
        memset(raw + n * j->k, 0, (padded - n) * j->k * sizeof *raw);
        backwards(j, row, padded, raw, sums);
    }
}

static void chunk(void *ud, size_t c, unsigned worker)
{
    const job *j = ud;
    size_t n = j->in->x.rows, size = j->k * (j->p + 1) + 1;
    double *sums = j->sums + c * size;
    double *room = j->room + (size_t)worker * ((BLOCK + ST_LANES) * j->k + BLOCK * j->p);
    memset(sums, 0, size * sizeof *sums);
    rows_of_chunk(j, st_block_at(n, c, j->chunks), st_block_at(n, c + 1, j->chunks), room, sums);
}

int st_logistic_loss(const st_alloc *a, const st_logistic *in, const double *coef, unsigned threads,
                     double *loss, double *gradient)
{
    job j = {.in = in, .coef = coef, .p = in->x.cols, .k = in->classes};
    size_t size = j.k * (j.p + 1) + 1;
    j.chunks = st_blocks(in->x.rows, LEAST_ROWS, MOST_CHUNKS);
    if (threads < 1) threads = 1;
    if (threads > ST_MAX_THREADS) threads = ST_MAX_THREADS;
    if (threads > j.chunks) threads = (unsigned)j.chunks;
    j.sums = st_mem_new(a, j.chunks * size * sizeof(double));
    j.room = st_mem_new(a, threads * ((BLOCK + ST_LANES) * j.k + BLOCK * j.p) * sizeof(double));
    int rc = j.sums && j.room ? ST_OK : ST_ENOMEM;
    if (rc == ST_OK) {
        st_parallel(threads, j.chunks, chunk, &j);
        for (size_t c = 1; c < j.chunks; c++)
            for (size_t i = 0; i < size; i++)
                j.sums[i] += j.sums[c * size + i];
        *loss = j.sums[size - 1];
        memcpy(gradient, j.sums, (size - 1) * sizeof *gradient);
        for (size_t c = 0; c < j.k && !in->intercept; c++)
            gradient[c * (j.p + 1) + j.p] = 0;
    }
    st_mem_free(a, j.sums);
    st_mem_free(a, j.room);
    return rc;
}
