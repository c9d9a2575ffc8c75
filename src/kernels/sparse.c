/* sparse.c - see sparse.h.
 *
 * Columns of the dense matrices go in strips of up to five vectors of eight, which stay in registers while a
 * row's entries pass by; rows of the dense matrix are fetched some entries ahead.  SciPy adds to the row in
 * memory at every entry.  Strips have equal widths (64 columns: 4 + 4 vectors, not 5 + 3).
 *
 * A'y adds to rows of z in the order of A's rows, as SciPy does: with more rows than columns z is what fits
 * the cache (100,000 x 5,000, 40 vectors: a turned copy of A, whose rows gather from y, takes 1.6 times as
 * long).  Threads divide the strips: each sum stays whole.
 *
 * A'(A q) in one pass holds nothing of A's height: a row's products are in registers when they are added to
 * z.  Each stretch of rows has a z of its own, so that bits do not depend on threads.
 */
#include "kernels/sparse.h"

#include "base/internal.h"
#include "kernels/parallel.h"

enum {
    AHEAD = 12, /* entries */
    MOST = 5,   /* vectors of a strip */
    PARTS = 16, /* stretches of rows, at most */
};

/* Bytes of all z together. */
#define MOST_BYTES ((size_t)64 << 20)
/* Products below which a second thread costs more than it brings (as in text_sparse.c). */
#define FEW_PRODUCTS 2000000

typedef float st_f8 __attribute__((vector_size(32)));

static size_t item(const st_csr *m) { return m->type == ST_F64 ? sizeof(double) : sizeof(float); }

/* Where part b of n begins, so that each has about as many entries. */
static size_t part_at(const st_csr *m, size_t b, size_t n)
{
    if (b == n) return m->rows;
    uint64_t want = ((uint64_t)m->indptr[m->rows] + m->rows) * b / n;
    size_t lo = 0, hi = m->rows;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if ((uint64_t)m->indptr[mid] + mid < want)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The number of vectors of the strip that begins with vector `at` of `all`, of strips of at most `most`. */
static int strip(size_t at, size_t all, size_t most)
{
    size_t left = all - at, strips = (left + most - 1) / most;
    return (int)((left + strips - 1) / strips);
}

#define EACH(i, N) _Pragma("GCC unroll 5") for (int i = 0; i < (N); i++)

/* sum[N] += the entries of row r times their rows of q. */
#define GATHER(T, V, N)                                                                                      \
    V sum[N], v;                                                                                             \
    EACH(i, N) sum[i] = (V){0};                                                                              \
    for (size_t e = (size_t)m->indptr[r]; e < (size_t)m->indptr[r + 1]; e++) {                               \
        if (e + AHEAD < limit) {                                                                             \
            const T *next = q + (size_t)m->index[e + AHEAD] * ld;                                            \
            EACH(i, N) __builtin_prefetch(next + 8 * i);                                                     \
        }                                                                                                    \
        const T *at = q + (size_t)m->index[e] * ld;                                                          \
        T x = data[e];                                                                                       \
        EACH(i, N)                                                                                           \
        {                                                                                                    \
            memcpy(&v, at + 8 * i, sizeof v);                                                                \
            sum[i] += v * x;                                                                                 \
        }                                                                                                    \
    }

/* z += the entries of row r times sum[N]. */
#define SCATTER(T, V, N)                                                                                     \
    for (size_t e = (size_t)m->indptr[r]; e < (size_t)m->indptr[r + 1]; e++) {                               \
        if (e + AHEAD < limit) {                                                                             \
            const T *next = z + (size_t)m->index[e + AHEAD] * ld;                                            \
            EACH(i, N) __builtin_prefetch(next + 8 * i, 1);                                                  \
        }                                                                                                    \
        T *at = z + (size_t)m->index[e] * ld, x = data[e];                                                   \
        EACH(i, N)                                                                                           \
        {                                                                                                    \
            memcpy(&v, at + 8 * i, sizeof v);                                                                \
            v += sum[i] * x;                                                                                 \
            memcpy(at + 8 * i, &v, sizeof v);                                                                \
        }                                                                                                    \
    }

#define STRIP(S, T, V, N)                                                                                    \
    ST_INLINE void times_##S##N(const st_csr *m, size_t from, size_t to, const T *q, size_t ld, T *y,        \
                                size_t pitch, size_t keep)                                                   \
    {                                                                                                        \
        const T *data = m->data;                                                                             \
        size_t limit = (size_t)m->indptr[to];                                                                \
        for (size_t r = from; r < to; r++) {                                                                 \
            GATHER(T, V, N)                                                                                  \
            V out[N]; /* (a copy: what is addressed by a size that varies is kept in memory) */              \
            EACH(i, N) out[i] = sum[i];                                                                      \
            memcpy(y + r * pitch, out, keep * sizeof *y);                                                    \
        }                                                                                                    \
    }                                                                                                        \
    ST_INLINE void back_##S##N(const st_csr *m, const T *y, size_t pitch, size_t keep, T *z, size_t ld)      \
    {                                                                                                        \
        const T *data = m->data;                                                                             \
        size_t limit = (size_t)m->indptr[m->rows];                                                           \
        for (size_t r = 0; r < m->rows; r++) {                                                               \
            V in[N] = {0}, sum[N], v;                                                                        \
            memcpy(in, y + r * pitch, keep * sizeof *y);                                                     \
            EACH(i, N) sum[i] = in[i];                                                                       \
            SCATTER(T, V, N)                                                                                 \
        }                                                                                                    \
    }

#define STRIPS(S, T, V)                                                                                      \
    STRIP(S, T, V, 1)                                                                                        \
    STRIP(S, T, V, 2)                                                                                        \
    STRIP(S, T, V, 3)                                                                                        \
    STRIP(S, T, V, 4)                                                                                        \
    STRIP(S, T, V, 5)                                                                                        \
    /* Rows [from, to) of y, k numbers each; `ld`: of q, a multiple of eight. */                             \
    ST_CLONES static void rows_times_##S(const st_csr *m, size_t from, size_t to, const T *q, size_t ld,     \
                                         size_t k, T *y)                                                     \
    {                                                                                                        \
        for (size_t c = 0; c < ld;) {                                                                        \
            int n = strip(c / 8, ld / 8, MOST);                                                              \
            size_t width = 8 * (size_t)n, keep = k - c < width ? k - c : width;                              \
            switch (n) {                                                                                     \
            case 1: times_##S##1(m, from, to, q + c, ld, y + c, k, keep); break;                             \
            case 2: times_##S##2(m, from, to, q + c, ld, y + c, k, keep); break;                             \
            case 3: times_##S##3(m, from, to, q + c, ld, y + c, k, keep); break;                             \
            case 4: times_##S##4(m, from, to, q + c, ld, y + c, k, keep); break;                             \
            default: times_##S##5(m, from, to, q + c, ld, y + c, k, keep);                                   \
            }                                                                                                \
            c += width;                                                                                      \
        }                                                                                                    \
    }                                                                                                        \
    /* n vectors of all rows from column c on. */                                                            \
    ST_CLONES static void all_back_##S(const st_csr *m, int n, size_t c, const T *y, size_t k, T *z,         \
                                       size_t ld)                                                            \
    {                                                                                                        \
        size_t width = 8 * (size_t)n, keep = k - c < width ? k - c : width;                                  \
        switch (n) {                                                                                         \
        case 1: back_##S##1(m, y + c, k, keep, z + c, ld); break;                                            \
        case 2: back_##S##2(m, y + c, k, keep, z + c, ld); break;                                            \
        case 3: back_##S##3(m, y + c, k, keep, z + c, ld); break;                                            \
        case 4: back_##S##4(m, y + c, k, keep, z + c, ld); break;                                            \
        default: back_##S##5(m, y + c, k, keep, z + c, ld);                                                  \
        }                                                                                                    \
    }

STRIPS(d, double, st_v8)
STRIPS(f, float, st_f8)

#define TWICE(N)                                                                                             \
    ST_INLINE void twice_##N(const st_csr *m, size_t from, size_t to, const double *q, size_t ld, double *z) \
    {                                                                                                        \
        const double *data = m->data;                                                                        \
        size_t limit = (size_t)m->indptr[to];                                                                \
        for (size_t r = from; r < to; r++) {                                                                 \
            GATHER(double, st_v8, N)                                                                         \
            SCATTER(double, st_v8, N)                                                                        \
        }                                                                                                    \
    }

TWICE(1)
TWICE(2)
TWICE(3)
TWICE(4)
TWICE(5)

ST_CLONES static void rows_twice(const st_csr *m, size_t from, size_t to, const double *q, size_t ld,
                                 double *z)
{
    for (size_t c = 0; c < ld;) {
        int n = strip(c / 8, ld / 8, MOST);
        switch (n) {
        case 1: twice_1(m, from, to, q + c, ld, z + c); break;
        case 2: twice_2(m, from, to, q + c, ld, z + c); break;
        case 3: twice_3(m, from, to, q + c, ld, z + c); break;
        case 4: twice_4(m, from, to, q + c, ld, z + c); break;
        default: twice_5(m, from, to, q + c, ld, z + c);
        }
        c += 8 * (size_t)n;
    }
}

typedef struct product {
    const st_csr *m;
    size_t k, ld, parts;
    size_t strip; /* st_csr_back: vectors of one, at most */
    const void *q;
    void *to;
    char *sums; /* st_csr_back, st_csr_twice: z with rows of ld, one a part */
} product;

/* q with rows of ld numbers: itself, or a copy in *padded; false: no memory. */
static bool pad(const st_alloc *a, product *p, const void *q, void **padded)
{
    *padded = NULL;
    p->q = q;
    if (p->ld == p->k) return true;
    size_t n = item(p->m), rows = p->m->cols;
    char *to = *padded = st_mem_new(a, rows * p->ld * n);
    if (!to) return false;
    for (size_t r = 0; r < rows; r++) {
        memcpy(to + r * p->ld * n, (const char *)q + r * p->k * n, p->k * n);
        memset(to + (r * p->ld + p->k) * n, 0, (p->ld - p->k) * n);
    }
    p->q = to;
    return true;
}

static unsigned workers(const st_csr *m, size_t k, unsigned threads)
{
    return threads > 1 && (size_t)m->indptr[m->rows] * k > FEW_PRODUCTS ? threads : 1;
}

static void times_part(void *ud, size_t b, unsigned worker)
{
    (void)worker;
    const product *p = ud;
    size_t from = part_at(p->m, b, p->parts), to = part_at(p->m, b + 1, p->parts);
    if (to <= from) return;
    if (p->m->type == ST_F64)
        rows_times_d(p->m, from, to, p->q, p->ld, p->k, p->to);
    else
        rows_times_f(p->m, from, to, p->q, p->ld, p->k, p->to);
}

int st_csr_times(const st_alloc *a, const st_csr *m, size_t k, const void *q, unsigned threads, void *y)
{
    if (m->rows == 0 || k == 0) return ST_OK;
    product p = {.m = m, .k = k, .ld = (k + 7) / 8 * 8, .to = y};
    void *padded;
    if (!pad(a, &p, q, &padded)) return ST_ENOMEM;
    threads = workers(m, k, threads);
    p.parts = threads > 1 ? (size_t)threads * 2 : 1; /* (twice as many, for threads that begin late) */
    st_parallel(threads, p.parts, times_part, &p);
    st_mem_free(a, padded);
    return ST_OK;
}

static void back_strip(void *ud, size_t b, unsigned worker)
{
    (void)worker;
    const product *p = ud;
    size_t at = 0;
    int n = strip(0, p->ld / 8, p->strip);
    for (; b > 0; b--) {
        at += (size_t)n;
        n = strip(at, p->ld / 8, p->strip);
    }
    if (p->m->type == ST_F64)
        all_back_d(p->m, n, 8 * at, p->q, p->k, (double *)(void *)p->sums, p->ld);
    else
        all_back_f(p->m, n, 8 * at, p->q, p->k, (float *)(void *)p->sums, p->ld);
}

int st_csr_back(const st_alloc *a, const st_csr *m, size_t k, const void *y, unsigned threads, void *z)
{
    if (m->cols == 0 || k == 0) return ST_OK;
    size_t n = item(m);
    product p = {.m = m, .k = k, .ld = (k + 7) / 8 * 8, .q = y, .to = z};
    char *padded = NULL;
    if (p.ld != k) {
        padded = st_mem_new(a, m->cols * p.ld * n);
        if (!padded) return ST_ENOMEM;
    }
    p.sums = padded ? padded : z;
    memset(p.sums, 0, m->cols * p.ld * n);
    size_t vectors = p.ld / 8;
    threads = workers(m, k, threads);
    p.strip = (vectors + threads - 1) / threads;
    if (p.strip > MOST) p.strip = MOST;
    st_parallel(threads, (vectors + p.strip - 1) / p.strip, back_strip, &p);
    for (size_t r = 0; padded && r < m->cols; r++)
        memcpy((char *)z + r * k * n, padded + r * p.ld * n, k * n);
    st_mem_free(a, padded);
    return ST_OK;
}

static void twice_part(void *ud, size_t b, unsigned worker)
{
    (void)worker;
    const product *p = ud;
    double *z = (double *)(void *)p->sums + b * p->m->cols * p->ld;
    memset(z, 0, p->m->cols * p->ld * sizeof *z);
    size_t from = part_at(p->m, b, p->parts), to = part_at(p->m, b + 1, p->parts);
    if (to > from) rows_twice(p->m, from, to, p->q, p->ld, z);
}

/* A stretch of rows of z: the parts added up in their order. */
static void add_part(void *ud, size_t b, unsigned worker)
{
    (void)worker;
    const product *p = ud;
    size_t from = st_block_at(p->m->cols, b, PARTS), to = st_block_at(p->m->cols, b + 1, PARTS);
    size_t square = p->m->cols * p->ld;
    for (size_t r = from; r < to; r++) {
        double *at = (double *)(void *)p->sums + r * p->ld;
        for (size_t part = 1; part < p->parts; part++)
            for (size_t c = 0; c < p->ld; c++)
                at[c] += at[part * square + c];
        memcpy((double *)p->to + r * p->k, at, p->k * sizeof *at);
    }
}

int st_csr_twice(const st_alloc *a, const st_csr *m, size_t k, const double *q, unsigned threads, double *z)
{
    if (m->type != ST_F64) return ST_EINVAL;
    if (m->cols == 0 || k == 0) return ST_OK;
    product p = {.m = m, .k = k, .ld = (k + 7) / 8 * 8, .to = z};
    size_t nnz = (size_t)m->indptr[m->rows], square = m->cols * p.ld;
    /* zeroing and adding up a z is to be little beside what is added to it */
    size_t most = MOST_BYTES / (square * sizeof *z);
    p.parts = nnz / (4 * m->cols);
    if (p.parts > most) p.parts = most;
    if (p.parts > PARTS) p.parts = PARTS;
    if (p.parts < 1) p.parts = 1;
    void *padded;
    if (!pad(a, &p, q, &padded)) return ST_ENOMEM;
    p.sums = st_mem_new(a, p.parts * square * sizeof *z);
    if (p.sums) {
        threads = workers(m, k, threads);
        st_parallel(threads, p.parts, twice_part, &p);
        st_parallel(p.parts > 1 ? threads : 1, PARTS, add_part, &p);
    }
    int rc = p.sums ? ST_OK : ST_ENOMEM;
    st_mem_free(a, p.sums);
    st_mem_free(a, padded);
    return rc;
}

typedef struct turn {
    const st_csr *m;
    int32_t *indptr, *index, *next;
    void *data;
} turn;

/* Each thread reads all indices, and writes the columns that are its own. */
static void turn_part(void *ud, int part, int n_parts)
{
    const turn *t = ud;
    const st_csr *m = t->m;
    st_csr turned = {.rows = m->cols, .cols = m->rows, .indptr = t->indptr};
    size_t from = part_at(&turned, (size_t)part, (size_t)n_parts),
           to = part_at(&turned, (size_t)part + 1, (size_t)n_parts);
    uint32_t first = (uint32_t)from, width = (uint32_t)(to - from);
    for (size_t r = 0; r < m->rows; r++)
        for (int32_t e = m->indptr[r]; e < m->indptr[r + 1]; e++) {
            uint32_t c = (uint32_t)m->index[e];
            if (c - first >= width) continue;
            int32_t at = t->next[c]++;
            t->index[at] = (int32_t)r;
            if (m->type == ST_F64)
                ((double *)t->data)[at] = ((const double *)m->data)[e];
            else
                ((float *)t->data)[at] = ((const float *)m->data)[e];
        }
}

int st_csr_turned(const st_alloc *a, const st_csr *m, unsigned threads, int32_t *indptr, int32_t *index,
                  void *data)
{
    int32_t *next = st_mem_zero(a, (m->cols + 1) * sizeof *next);
    if (!next) return ST_ENOMEM;
    size_t nnz = (size_t)m->indptr[m->rows];
    for (size_t e = 0; e < nnz; e++)
        next[m->index[e]]++;
    int32_t sum = 0;
    for (size_t c = 0; c < m->cols; c++) {
        int32_t count = next[c];
        indptr[c] = next[c] = sum;
        sum += count;
    }
    indptr[m->cols] = sum;
    turn t = {m, indptr, index, next, data};
    st_fork(nnz > 500000 ? (int)(threads < ST_MAX_THREADS ? threads : ST_MAX_THREADS) : 1, turn_part, &t);
    st_mem_free(a, next);
    return ST_OK;
}
