/* columns.h - what scalers and imputers need: sums, limits, order statistics of columns; columns rewritten.
 *
 * For src/native and the extension.  NaN is a missing value: nothing counts it.  One of the two strides of a
 * matrix is that of its numbers (rows or columns lie together): anything else is ST_EINVAL.  A sum depends on
 * which of the two it is, by rounding; nothing depends on the processor or the number of threads.
 */
#ifndef ST_KERNELS_COLUMNS_H
#define ST_KERNELS_COLUMNS_H

#include "kernels/dense.h"
#include "stratum/base.h"

/* Each array has one value a column.  With infinities, or squares that overflow, values are not finite. */
typedef struct st_column_sums {
    double *count, *mean; /* numbers that are not NaN; 0 / 0 where there are none */
    double *variance;     /* mean squared distance from the mean */
} st_column_sums;

int st_columns_sums(const st_alloc *a, const st_dense *x, unsigned threads, const st_column_sums *out) ST_USE;

/* Smallest and largest; infinity and minus infinity where there are none. */
int st_columns_limits(const st_alloc *a, const st_dense *x, unsigned threads, double *least,
                      double *most) ST_USE;

/* For each column and each of `k` fractions q: the numbers around place q (n - 1) of the n that are not NaN,
 * and n: below[i * cols + j], above[...], count[j].  NaN where there are none. */
int st_columns_ranks(const st_alloc *a, const st_dense *x, unsigned threads, const double *q, size_t k,
                     double *below, double *above, double *count) ST_USE;

/* The most frequent number of each column, the smallest of several; NaN where there is none. */
int st_columns_mode(const st_alloc *a, const st_dense *x, unsigned threads, double *mode) ST_USE;

typedef enum st_rewrite {
    ST_SUB_DIV, /* (x - a) / b */
    ST_SUB,     /* x - a */
    ST_DIV,     /* x / b */
    ST_MUL_ADD, /* x * a + b */
    ST_FILL,    /* a where x is NaN */
    ST_N_REWRITES
} st_rewrite;

/* Write `x` changed to `out` (same shape and type, strides of the same order; may be `x` itself).  Each step
 * is rounded to the type.  `infinite`: whether there is an infinity in `x`. */
int st_columns_rewrite(const st_dense *x, st_rewrite how, const double *a, const double *b, unsigned threads,
                       char *out, ptrdiff_t out_row, ptrdiff_t out_col, bool *infinite) ST_USE;

/* One step of a product of columns: to[k] = from[k] * x[feature], for k below n. */
typedef struct st_product_step {
    int64_t from, n, feature, to;
} st_product_step;

/* Rows of `width` numbers: 1 (with `bias`), the row of `x`, then the steps.  `finite`: whether `x` is. */
int st_columns_products(const st_dense *x, bool bias, const st_product_step *steps, size_t n_steps,
                        size_t width, unsigned threads, char *out, bool *finite) ST_USE;

#endif
