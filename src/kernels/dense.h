/* dense.h - how numeric kernels see a matrix, and the vectors that they compute with.
 *
 * For the files of src/kernels and for those that call them.  Nothing here allocates or owns memory.
 *
 * Bits must depend neither on the processor nor on the number of threads.  So: sums over rows go one row
 * after the other inside a block of rows whose limits depend on the shape alone; blocks are added in their
 * order; sums along a row have eight lanes on every processor (a vector of eight is split by the compiler
 * where registers are narrower) that are added in one fixed order.  The build has -ffp-contract=off.
 */
#ifndef ST_KERNELS_DENSE_H
#define ST_KERNELS_DENSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum st_real { ST_F64, ST_F32 } st_real;

/* A matrix that belongs to somebody else.  Strides are in bytes and may be negative. */
typedef struct st_dense {
    const char *data;
    size_t rows, cols;
    ptrdiff_t row, col;
    st_real type;
} st_dense;

#define ST_LANES 8
#define ST_LINE 64 /* bytes of a line of the cache */

/* Eight doubles, and the masks that comparing them gives. */
typedef double st_v8 __attribute__((vector_size(64)));
typedef int64_t st_m8 __attribute__((vector_size(64)));

#define ST_INLINE static inline __attribute__((always_inline))

/* One body, compiled for each level of the processor.  clang's spelling of the levels came late: there
 * the baseline serves.  ST_BASELINE: the tests compile the kernels once more, to compare bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) &&      \
    !defined(ST_BASELINE)
#define ST_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define ST_CLONES
#endif

ST_INLINE void st_v8_load(st_v8 *to, const double *from) { memcpy(to, from, sizeof *to); }
ST_INLINE void st_v8_store(double *to, const st_v8 *from) { memcpy(to, from, sizeof *from); }

/* Eight floats, widened. */
ST_INLINE void st_v8_widen(st_v8 *to, const float *from)
{
    for (int i = 0; i < ST_LANES; i++)
        (*to)[i] = (double)from[i];
}

/* The lanes, added in halves: the order is part of the result. */
ST_INLINE double st_v8_sum(const st_v8 *v)
{
    double a = (*v)[0] + (*v)[4], b = (*v)[1] + (*v)[5], c = (*v)[2] + (*v)[6], d = (*v)[3] + (*v)[7];
    return (a + c) + (b + d);
}

/* The number at p, which need not be aligned. */
ST_INLINE double st_real_at(const char *p, st_real type)
{
    if (type == ST_F64) {
        double v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    float v;
    memcpy(&v, p, sizeof v);
    return (double)v;
}

ST_INLINE double st_dense_at(const st_dense *m, size_t i, size_t j)
{
    return st_real_at(m->data + (ptrdiff_t)i * m->row + (ptrdiff_t)j * m->col, m->type);
}

/* The product of two vectors with the eight lanes. */
ST_INLINE double st_dot(const double *a, const double *b, size_t n)
{
    st_v8 sum = {0}, x, y;
    size_t i = 0;
    for (; i + ST_LANES <= n; i += ST_LANES) {
        st_v8_load(&x, a + i);
        st_v8_load(&y, b + i);
        sum += x * y;
    }
    double s = st_v8_sum(&sum);
    for (; i < n; i++)
        s += a[i] * b[i];
    return s;
}

/* How many blocks `rows` are cut into, so that sums do not know how many threads there are: at least
 * `least` rows in one, at most `most` blocks. */
ST_INLINE size_t st_blocks(size_t rows, size_t least, size_t most)
{
    size_t n = (rows + least - 1) / least;
    return n < 1 ? 1 : n > most ? most : n;
}

/* Where block b of n begins. */
ST_INLINE size_t st_block_at(size_t rows, size_t b, size_t n)
{
    size_t each = rows / n, more = rows % n;
    return b * each + (b < more ? b : more);
}

#endif
