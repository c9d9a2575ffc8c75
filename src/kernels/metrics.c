/* metrics.c - see metrics.h.  Memory: from the caller's allocator, given back before returning.
 *
 * Ranks: positives and negatives are sorted apart, by keys that order as the scores do, and then merged: so
 * an unweighted key carries nothing along.  Sorted by digits, the upper half of their bits first: what is
 * then left to exchange is little, unless scores lie very close together; then the lower half is sorted by
 * digits as well.  Of 100,000 scores a digit takes 0.12 ms, so that three of six are worth it.
 */
#include "kernels/metrics.h"

#include "base/internal.h"

#include <math.h>

enum {
    BLOCK = 2048, /* rows whose sums are one sum: keeps the error of long ones small */
    DIGIT = 11,   /* bits */
    DIGITS = 6,   /* of a key */
    UPPER = 3,    /* that are sorted at first */
    KINDS = 1 << DIGIT,
};

/* -- Residuals ------------------------------------------------------------------------------ */

ST_INLINE void weigh(st_v8 *v, const double *w, size_t i) /* w is NULL for ones */
{
    if (!w) return;
    st_v8 weight;
    st_v8_load(&weight, w + i);
    *v *= weight;
}

/* Sums of w, w y, w d^2 and w |d| of a whole number of vectors. */
ST_INLINE void first_sums(size_t from, size_t to, const double *y, const double *p, const double *w,
                          double sums[4])
{
    st_v8 s[4] = {{0}};
    for (size_t i = from; i < to; i += ST_LANES) {
        st_v8 a, b, one = {0};
        one += 1.0;
        st_v8_load(&a, y + i);
        st_v8_load(&b, p + i);
        b = a - b;
        st_v8 square = b * b, size;
        st_m8 bits;
        memcpy(&bits, &b, sizeof bits);
        bits &= INT64_MAX;
        memcpy(&size, &bits, sizeof size);
        weigh(&one, w, i);
        weigh(&a, w, i);
        weigh(&square, w, i);
        weigh(&size, w, i);
        s[0] += one;
        s[1] += a;
        s[2] += square;
        s[3] += size;
    }
    for (int k = 0; k < 4; k++)
        sums[k] += st_v8_sum(&s[k]);
}

ST_INLINE double second_sum(size_t from, size_t to, const double *y, const double *w, double mean)
{
    st_v8 s = {0};
    for (size_t i = from; i < to; i += ST_LANES) {
        st_v8 a;
        st_v8_load(&a, y + i);
        a -= mean;
        a *= a;
        weigh(&a, w, i);
        s += a;
    }
    return st_v8_sum(&s);
}

ST_CLONES void st_metric_residuals(size_t n, const double *y, const double *p, const double *w,
                                   st_residuals *out)
{
    double sums[4] = {0}, spread = 0;
    size_t whole = n / ST_LANES * ST_LANES;
    for (size_t from = 0; from < whole; from += BLOCK) {
        size_t to = whole - from < BLOCK ? whole : from + BLOCK;
        double of_block[4] = {0};
        if (w)
            first_sums(from, to, y, p, w, of_block);
        else
            first_sums(from, to, y, p, NULL, of_block);
        for (int k = 0; k < 4; k++)
            sums[k] += of_block[k];
    }
    for (size_t i = whole; i < n; i++) {
        double weight = w ? w[i] : 1, d = y[i] - p[i];
        sums[0] += weight;
        sums[1] += weight * y[i];
        sums[2] += weight * (d * d);
        sums[3] += weight * fabs(d);
    }
    double mean = sums[1] / sums[0];
    for (size_t from = 0; from < whole; from += BLOCK) {
        size_t to = whole - from < BLOCK ? whole : from + BLOCK;
        spread += w ? second_sum(from, to, y, w, mean) : second_sum(from, to, y, NULL, mean);
    }
    for (size_t i = whole; i < n; i++)
        spread += (w ? w[i] : 1) * ((y[i] - mean) * (y[i] - mean));
    *out = (st_residuals){
        .weight = sums[0], .mean = mean, .squares = sums[2], .absolute = sums[3], .spread = spread};
}

/* -- Ranks ---------------------------------------------------------------------------------- */

typedef struct ranked {
    uint64_t key;
    double weight;
} ranked;

/* The highest score has the lowest key; false for one that is not finite. */
ST_INLINE bool key_of(double score, uint64_t *key)
{
    if (!isfinite(score)) return false;
    score += 0.0; /* one zero */
    uint64_t bits;
    memcpy(&bits, &score, sizeof bits);
    *key = bits >> 63 ? bits : ~bits & (UINT64_MAX >> 1);
    return true;
}

/* `n` items of `size` bytes (known to the compiler) that begin with their key, sorted by some digits of
 * (key - low) >> shift; the result is in `items` or in `spare`: the one that it is in comes back. */
ST_INLINE char *by_digits(char *items, char *spare, size_t n, size_t size, uint64_t low, int shift,
                          int digits, uint32_t (*counts)[KINDS])
{
    memset(counts, 0, (size_t)digits * sizeof *counts);
    uint64_t key = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(&key, items + i * size, sizeof key);
        key = (key - low) >> shift;
        for (int d = 0; d < digits; d++)
            counts[d][key >> (d * DIGIT) & (KINDS - 1)]++;
    }
    for (int d = 0; d < digits; d++) {
        uint32_t at = 0;
        if (counts[d][key >> (d * DIGIT) & (KINDS - 1)] == n) continue; /* all have the same */
        for (size_t k = 0; k < KINDS; k++) {
            uint32_t many = counts[d][k];
            counts[d][k] = at;
            at += many;
        }
        for (size_t i = 0; i < n; i++) {
            uint64_t of;
            memcpy(&of, items + i * size, sizeof of);
            memcpy(spare + counts[d][(of - low) >> shift >> (d * DIGIT) & (KINDS - 1)]++ * size,
                   items + i * size, size);
        }
        char *turn = items;
        items = spare;
        spare = turn;
    }
    return items;
}

/* Exchange what is left to exchange; false where that is much. */
ST_INLINE bool settled(char *items, size_t n, size_t size)
{
    size_t moves = 0;
    for (size_t i = 1; i < n; i++) {
        ranked one, before;
        memcpy(&one, items + i * size, size);
        memcpy(&before, items + (i - 1) * size, size);
        if (one.key >= before.key) continue;
        size_t k = i;
        for (; k > 0; k--) {
            memcpy(&before, items + (k - 1) * size, size);
            if (before.key <= one.key) break;
            memcpy(items + k * size, &before, size);
            moves++;
        }
        memcpy(items + k * size, &one, size);
        if (moves > n) return false;
    }
    return true;
}

/* Items in order, in `items` or in `spare`. */
ST_INLINE char *sorted_as(char *items, char *spare, size_t n, size_t size, uint32_t (*counts)[KINDS])
{
    uint64_t low = UINT64_MAX, high = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key;
        memcpy(&key, items + i * size, sizeof key);
        low = key < low ? key : low;
        high = key > high ? key : high;
    }
    if (n < 2 || low == high) return items;
    int bits = 64 - __builtin_clzll(high - low), shift = bits > UPPER * DIGIT ? bits - UPPER * DIGIT : 0;
    char *at = by_digits(items, spare, n, size, low, shift, UPPER, counts);
    if (shift == 0 || settled(at, n, size)) return at;
    return by_digits(at, at == items ? spare : items, n, size, low, 0, DIGITS, counts);
}

/* Positives and negatives merged, threshold by threshold, from the highest on. */
ST_INLINE void merged(const char *pos, size_t n_pos, const char *neg, size_t n_neg, size_t size,
                      st_ranking *out)
{
    double yes = 0, no = 0, twice = 0, area = 0, precision = 0;
    uint64_t whole = 0, seen = 0;
    size_t i = 0, j = 0;
    while (i < n_pos || j < n_neg) {
        uint64_t a = 0, b = 0, at;
        if (size == sizeof(uint64_t)) { /* rows that share their score with none that matters: no guesses */
            const uint64_t *p = (const uint64_t *)(const void *)pos, *q = (const uint64_t *)(const void *)neg;
            while (i + 1 < n_pos && j < n_neg) {
                a = p[i];
                b = q[j];
                if (a == b || a == p[i + 1]) break;
                size_t higher = a < b;
                whole += (higher - 1) & (2 * i);
                i += higher;
                double share = (double)(int64_t)i / (double)(int64_t)(i + j + !higher);
                j += !higher;
                precision += (double)(int64_t)higher * share;
            }
            seen = i;
            yes = (double)i;
            no = (double)j;
        }
        a = b = 0;
        if (i < n_pos) memcpy(&a, pos + i * size, sizeof a);
        if (j < n_neg) memcpy(&b, neg + j * size, sizeof b);
        at = j >= n_neg || (i < n_pos && a < b) ? a : b;
        double more_yes = 0, more_no = 0;
        size_t i0 = i, j0 = j;
        ranked one;
        for (; i < n_pos; i++) {
            memcpy(&one, pos + i * size, size);
            if (one.key != at) break;
            more_yes += size == sizeof one ? one.weight : 1;
        }
        for (; j < n_neg; j++) {
            memcpy(&one, neg + j * size, size);
            if (one.key != at) break;
            more_no += size == sizeof one ? one.weight : 1;
        }
        /* (twice the area: below 2**64 for fewer than 2**32 rows) */
        whole += (uint64_t)(j - j0) * (2 * seen + (i - i0));
        seen += i - i0;
        twice += more_no * (2 * yes + more_yes);
        yes += more_yes;
        no += more_no;
        if (more_yes > 0) precision += more_yes * (yes / (yes + no));
    }
    area = size == sizeof(ranked) ? twice : (double)whole;
    *out = (st_ranking){
        .positives = yes, .negatives = no, .area = area / 2 / (yes * no), .precision = precision / yes};
}

ST_INLINE int ranking_as(const st_alloc *a, size_t n, const double *score, const uint8_t *positive,
                         const double *w, size_t size, st_ranking *out)
{
    size_t n_pos = 0, n_neg = 0;
    for (size_t i = 0; i < n; i++)
        n_pos += positive[i] != 0;
    uint32_t (*counts)[KINDS] = st_mem_new(a, DIGITS * sizeof *counts + 2 * n * size);
    if (!counts) return ST_ENOMEM;
    char *pos = (char *)(counts + DIGITS), *neg = pos + n_pos * size, *spare = pos + n * size;
    size_t want = n_pos;
    n_pos = 0;
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        ranked one = {.weight = w ? w[i] : 1};
        good &= key_of(score[i], &one.key);
        bool yes = positive[i] != 0;
        memcpy(yes ? pos + n_pos * size : neg + n_neg * size, &one, size);
        n_pos += yes;
        n_neg += !yes;
        if (n_pos > want) break; /* (somebody has changed them) */
    }
    if (good) {
        char *p = sorted_as(pos, spare, n_pos, size, counts);
        char *q = sorted_as(neg, spare + want * size, n_neg, size, counts);
        merged(p, n_pos, q, n_neg, size, out);
    }
    st_mem_free(a, counts);
    return good ? ST_OK : ST_EUNSUPPORTED;
}

int st_metric_ranking(const st_alloc *a, size_t n, const double *score, const uint8_t *positive,
                      const double *w, st_ranking *out)
{
    if (n > UINT32_MAX) return ST_EUNSUPPORTED;
    return w ? ranking_as(a, n, score, positive, w, sizeof(ranked), out)
             : ranking_as(a, n, score, positive, NULL, sizeof(uint64_t), out);
}

/* -- Labels and probabilities --------------------------------------------------------------- */

bool st_metric_pairs(size_t n, const int64_t *a, const int64_t *b, int64_t low, size_t k, const double *w,
                     double *counts)
{
    memset(counts, 0, k * k * sizeof *counts);
    for (size_t r = 0; r < n; r++) {
        uint64_t i = (uint64_t)a[r] - (uint64_t)low, j = (uint64_t)b[r] - (uint64_t)low;
        if (i >= k || j >= k) return false;
        counts[i * k + j] += w ? w[r] : 1;
    }
    return true;
}

bool st_metric_picked(const st_dense *x, const uint32_t *codes, double *out)
{
    size_t k = x->cols;
    bool good = true;
    for (size_t r = 0; r < x->rows; r++) {
        double sum = 0, picked = NAN;
        for (size_t j = 0; j < k; j++) {
            double v = st_dense_at(x, r, j);
            good &= v >= 0 && v <= 1;
            sum += v;
            picked = codes[r] == j ? v : picked;
        }
        if (k == 1) {
            picked = codes[r] == 0 ? 1 - sum : codes[r] == 1 ? sum : (double)NAN;
            sum = 1;
        }
        good &= fabs(sum - 1) <= 1e-8 && !isnan(picked);
        out[r] = picked;
    }
    return good;
}
