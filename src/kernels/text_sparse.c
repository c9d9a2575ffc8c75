/* text_sparse.c - what is done to the sparse matrices that text becomes.
 *
 * Sums are taken in stored order with every product rounded (no fused multiply-add: the build says
 * -ffp-contract=off), rows or columns are what threads share out: bits depend neither on the processor nor
 * on the number of threads, and are those of the loops in SciPy and scikit-learn that these stand for.
 */
#include "kernels/text.h"

#include "kernels/parallel.h"

#include <math.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) &&      \
    !defined(__SANITIZE_ADDRESS__)
#define ST_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define ST_CLONES
#endif

/* -- Sharing out ----------------------------------------------------------------------------------------- */

/* Rows [*from, *to) of a part, shared out so that each has about as many entries. */
static void share_rows(size_t n_rows, const int32_t *indptr, int part, int n_parts, size_t *from, size_t *to)
{
    size_t bound[2];
    for (int e = 0; e < 2; e++) {
        int64_t want = ((int64_t)indptr[n_rows] + (int64_t)n_rows) * (part + e) / n_parts;
        size_t lo = 0, hi = n_rows;
        while (lo < hi) {
            size_t mid = (lo + hi) / 2;
            if ((int64_t)indptr[mid] + (int64_t)mid < want)
                lo = mid + 1;
            else
                hi = mid;
        }
        bound[e] = part + e == n_parts ? n_rows : lo;
    }
    *from = bound[0];
    *to = bound[1];
}

/* -- Sorting a row --------------------------------------------------------------------------------------- */

void st_sort_keys(uint64_t *v, uint64_t *tmp, size_t n, int bits)
{
    if (n <= 32) { /* measured: insertion is faster up to about here */
        for (size_t i = 1; i < n; i++) {
            uint64_t x = v[i];
            size_t j = i;
            for (; j > 0 && v[j - 1] > x; j--)
                v[j] = v[j - 1];
            v[j] = x;
        }
        return;
    }
    /* short rows: adding up 256 counters would cost more than moving the entries */
    int digit = n < 600 ? 6 : 8;
    uint32_t mask = (1u << digit) - 1;
    uint64_t *from = v, *to = tmp;
    for (int shift = 32; shift < 32 + bits; shift += digit) {
        uint32_t count[256];
        memset(count, 0, (mask + 1) * sizeof *count);
        for (size_t i = 0; i < n; i++)
            count[from[i] >> shift & mask]++;
        uint32_t sum = 0;
        for (size_t d = 0; d <= mask; d++) {
            uint32_t c = count[d];
            count[d] = sum;
            sum += c;
        }
        for (size_t i = 0; i < n; i++)
            to[count[from[i] >> shift & mask]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != v) memcpy(v, from, n * sizeof *v);
}

/* -- Sparse times dense ---------------------------------------------------------------------------------- */

typedef float v8 __attribute__((vector_size(32), aligned(4)));

#define BLOCK 40 /* five vectors stay in registers; what follows is done in single vectors */
#define AHEAD 12 /* entries: a row of Q is fetched this long before it is read */

/* The first k columns, in blocks; Q has rows of `ld` floats, ld a multiple of 8. */
ST_CLONES static void rows_times(size_t from, size_t to, size_t k, size_t ld, const int32_t *indptr,
                                 const int32_t *index, const float *data, const float *Q, float *Y)
{
    size_t limit = (size_t)indptr[to];
    for (size_t c = 0; c < k;) {
        if (k - c > 32) {
            for (size_t r = from; r < to; r++) {
                v8 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0};
                for (size_t e = (size_t)indptr[r]; e < (size_t)indptr[r + 1]; e++) {
                    if (e + AHEAD < limit) {
                        const float *next = Q + (size_t)index[e + AHEAD] * ld + c;
                        __builtin_prefetch(next);
                        __builtin_prefetch(next + 16);
                        __builtin_prefetch(next + 32);
                    }
                    const v8 *q = (const v8 *)(Q + (size_t)index[e] * ld + c);
                    float x = data[e];
                    s0 += q[0] * x;
                    s1 += q[1] * x;
                    s2 += q[2] * x;
                    s3 += q[3] * x;
                    s4 += q[4] * x;
                }
                float out[BLOCK];
                memcpy(out, &s0, 32);
                memcpy(out + 8, &s1, 32);
                memcpy(out + 16, &s2, 32);
                memcpy(out + 24, &s3, 32);
                memcpy(out + 32, &s4, 32);
                memcpy(Y + r * k + c, out, (k - c < BLOCK ? k - c : BLOCK) * sizeof(float));
            }
            c += BLOCK;
        } else if (k - c > 8) {
            for (size_t r = from; r < to; r++) {
                v8 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
                for (size_t e = (size_t)indptr[r]; e < (size_t)indptr[r + 1]; e++) {
                    if (e + AHEAD < limit) {
                        const float *next = Q + (size_t)index[e + AHEAD] * ld + c;
                        __builtin_prefetch(next);
                        __builtin_prefetch(next + 16);
                    }
                    const v8 *q = (const v8 *)(Q + (size_t)index[e] * ld + c);
                    float x = data[e];
                    s0 += q[0] * x;
                    s1 += q[1] * x;
                    s2 += q[2] * x;
                    s3 += q[3] * x;
                }
                float out[32];
                memcpy(out, &s0, 32);
                memcpy(out + 8, &s1, 32);
                memcpy(out + 16, &s2, 32);
                memcpy(out + 24, &s3, 32);
                memcpy(Y + r * k + c, out, (k - c < 32 ? k - c : 32) * sizeof(float));
            }
            c += 32;
        } else {
            for (size_t r = from; r < to; r++) {
                v8 s = {0};
                for (size_t e = (size_t)indptr[r]; e < (size_t)indptr[r + 1]; e++)
                    s += *(const v8 *)(Q + (size_t)index[e] * ld + c) * data[e];
                float out[8];
                memcpy(out, &s, 32);
                memcpy(Y + r * k + c, out, (k - c) * sizeof(float));
            }
            c += 8;
        }
    }
}

typedef struct dense_job {
    size_t n_rows, k, ld;
    const int32_t *indptr, *index;
    const float *data, *Q;
    float *Y;
} dense_job;

static void dense_part(void *arg, int part, int n_parts)
{
    const dense_job *j = arg;
    size_t from, to;
    share_rows(j->n_rows, j->indptr, part, n_parts, &from, &to);
    if (to > from) rows_times(from, to, j->k, j->ld, j->indptr, j->index, j->data, j->Q, j->Y);
}

int st_csr_dense(const st_alloc *a, size_t n_rows, size_t n_cols, size_t k, const int32_t *indptr,
                 const int32_t *index, const float *data, const float *Q, float *Y, int n_threads)
{
    if (!n_rows || !k) return ST_OK;
    /* the blocks read past k: columns are padded, where Q does not happen to fit */
    size_t ld = k / BLOCK * BLOCK, rest = k - ld;
    ld += rest > 32 ? BLOCK : rest > 8 ? 32 : rest ? 8 : 0;
    float *padded = NULL;
    if (ld != k) {
        padded = st_mem_new(a, n_cols * ld * sizeof *padded);
        if (!padded) return ST_ENOMEM;
        for (size_t r = 0; r < n_cols; r++) {
            memcpy(padded + r * ld, Q + r * k, k * sizeof *Q);
            memset(padded + r * ld + k, 0, (ld - k) * sizeof *Q);
        }
        Q = padded;
    }
    dense_job job = {n_rows, k, ld, indptr, index, data, Q, Y};
    /* measured: below some 50,000 products of 40 a second thread costs more than it brings */
    st_fork((size_t)indptr[n_rows] * k > 2000000 ? n_threads : 1, dense_part, &job);
    st_mem_free(a, padded);
    return ST_OK;
}

/* -- Transposition --------------------------------------------------------------------------------------- */

typedef struct transpose_job {
    size_t n_rows, n_cols;
    const int32_t *indptr, *index;
    const float *data;
    int32_t *indptr_t, *index_t, *next;
    float *data_t;
} transpose_job;

/* Each thread reads everything and writes the columns that are its own. */
static void transpose_part(void *arg, int part, int n_parts)
{
    const transpose_job *j = arg;
    size_t from, to;
    share_rows(j->n_cols, j->indptr_t, part, n_parts, &from, &to);
    uint32_t first = (uint32_t)from, width = (uint32_t)(to - from);
    for (size_t r = 0; r < j->n_rows; r++)
        for (int32_t e = j->indptr[r]; e < j->indptr[r + 1]; e++) {
            uint32_t c = (uint32_t)j->index[e];
            if (c - first >= width) continue;
            int32_t at = j->next[c]++;
            j->index_t[at] = (int32_t)r;
            j->data_t[at] = j->data[e];
        }
}

int st_csr_transpose(const st_alloc *a, size_t n_rows, size_t n_cols, const int32_t *indptr,
                     const int32_t *index, const float *data, int32_t *indptr_t, int32_t *index_t,
                     float *data_t, int n_threads)
{
    int32_t *next = st_mem_zero(a, (n_cols + 1) * sizeof *next);
    if (!next) return ST_ENOMEM;
    size_t nnz = (size_t)indptr[n_rows];
    for (size_t e = 0; e < nnz; e++)
        next[index[e]]++;
    int32_t sum = 0;
    for (size_t c = 0; c < n_cols; c++) {
        int32_t count = next[c];
        indptr_t[c] = next[c] = sum;
        sum += count;
    }
    indptr_t[n_cols] = sum;
    transpose_job job = {n_rows, n_cols, indptr, index, data, indptr_t, index_t, next, data_t};
    st_fork(nnz > 500000 ? n_threads : 1, transpose_part, &job);
    st_mem_free(a, next);
    return ST_OK;
}

/* -- Rows by code ---------------------------------------------------------------------------------------- */

typedef struct take_job {
    size_t n, k;
    const uint32_t *codes;
    const float *rows;
    float *out;
} take_job;

/* Rows in stretches that fit the cache, so that the columns are written in turns of a page. */
static void take_part(void *arg, int part, int n_parts)
{
    const take_job *j = arg;
    size_t from = j->n * (size_t)part / (size_t)n_parts, to = j->n * ((size_t)part + 1) / (size_t)n_parts;
    for (size_t at = from; at < to; at += 1024) {
        size_t stop = at + 1024 < to ? at + 1024 : to;
        for (size_t c = 0; c < j->k; c++) {
            float *out = j->out + c * j->n;
            const float *rows = j->rows + c;
            if (j->codes)
                for (size_t r = at; r < stop; r++)
                    out[r] = rows[(size_t)j->codes[r] * j->k];
            else
                for (size_t r = at; r < stop; r++)
                    out[r] = rows[r * j->k];
        }
    }
}

void st_take_columns(size_t n, size_t k, const uint32_t *codes, const float *rows, float *out, int n_threads)
{
    take_job job = {n, k, codes, rows, out};
    st_fork(n * k > 300000 ? n_threads : 1, take_part, &job);
}

/* -- tf-idf ---------------------------------------------------------------------------------------------- */

#define TFIDF(SUFFIX, T, ABS)                                                                                \
    typedef struct tfidf_##SUFFIX {                                                                          \
        size_t n_rows;                                                                                       \
        const int32_t *indptr, *index;                                                                       \
        T *data;                                                                                             \
        const T *idf;                                                                                        \
        int norm;                                                                                            \
    } tfidf_##SUFFIX;                                                                                        \
    static void tfidf_part_##SUFFIX(void *arg, int part, int n_parts)                                        \
    {                                                                                                        \
        const tfidf_##SUFFIX *j = arg;                                                                       \
        size_t from, to;                                                                                     \
        share_rows(j->n_rows, j->indptr, part, n_parts, &from, &to);                                         \
        for (size_t r = from; r < to; r++) {                                                                 \
            size_t first = (size_t)j->indptr[r], last = (size_t)j->indptr[r + 1];                            \
            if (j->idf)                                                                                      \
                for (size_t e = first; e < last; e++)                                                        \
                    j->data[e] *= j->idf[j->index[e]];                                                       \
            if (!j->norm) continue;                                                                          \
            double sum = 0;                                                                                  \
            if (j->norm == 1)                                                                                \
                for (size_t e = first; e < last; e++)                                                        \
                    sum += fabs((double)j->data[e]);                                                         \
            else                                                                                             \
                for (size_t e = first; e < last; e++) {                                                      \
                    T square = j->data[e] * j->data[e];                                                      \
                    sum += (double)square;                                                                   \
                }                                                                                            \
            if (sum == 0) continue;                                                                          \
            if (j->norm == 2) sum = sqrt(sum);                                                               \
            for (size_t e = first; e < last; e++)                                                            \
                j->data[e] = (T)((double)j->data[e] / sum);                                                  \
        }                                                                                                    \
    }                                                                                                        \
    void st_csr_tfidf_##SUFFIX(size_t n_rows, const int32_t *indptr, const int32_t *index, T *data,          \
                               const T *idf, int norm, int n_threads)                                        \
    {                                                                                                        \
        if (!n_rows) return;                                                                                 \
        tfidf_##SUFFIX job = {n_rows, indptr, index, data, idf, norm};                                       \
        st_fork(indptr[n_rows] > 200000 ? n_threads : 1, tfidf_part_##SUFFIX, &job);                         \
    }

TFIDF(f64, double, fabs)
TFIDF(f32, float, fabsf)

/* -- Variance -------------------------------------------------------------------------------------------- */

typedef struct variance_job {
    size_t n_rows, n_cols;
    const int32_t *indptr;
    const float *data;
    float *out;
} variance_job;

static void variance_part(void *arg, int part, int n_parts)
{
    const variance_job *j = arg;
    size_t from, to;
    share_rows(j->n_cols, j->indptr, part, n_parts, &from, &to);
    double n = (double)j->n_rows;
    for (size_t c = from; c < to; c++) {
        size_t first = (size_t)j->indptr[c], last = (size_t)j->indptr[c + 1], stored = 0;
        double mean = 0, weight = n, nonzero = 0, fix = 0, var = 0;
        for (size_t e = first; e < last; e++) {
            double x = (double)j->data[e];
            if (isnan(x)) {
                weight -= 1;
                continue;
            }
            mean += x;
            nonzero += 1;
            stored++;
        }
        mean /= weight;
        for (size_t e = first; e < last; e++) {
            double x = (double)j->data[e];
            if (isnan(x)) continue;
            double diff = x - mean;
            fix += diff;
            var += diff * diff;
        }
        bool zeros = weight != (double)stored;
        if (zeros) fix -= (weight - nonzero) * mean;
        fix = fix * fix / weight;
        if (zeros) var += (weight - nonzero) * (mean * mean);
        j->out[c] = (float)((var - fix) / weight);
    }
}

void st_csc_variance(size_t n_rows, size_t n_cols, const int32_t *indptr, const float *data, float *out,
                     int n_threads)
{
    variance_job job = {n_rows, n_cols, indptr, data, out};
    st_fork(indptr[n_cols] > 500000 ? n_threads : 1, variance_part, &job);
}
