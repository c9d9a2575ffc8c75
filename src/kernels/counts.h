/* counts.h - sums of rows by class: what naive Bayes learns of its data, in one pass.
 *
 * For src/native and the extension.  Each sum goes one row after the other, whatever the number of threads:
 * for sparse matrices that is scikit-learn's own order, and counts that are whole have no other sum.
 */
#ifndef ST_KERNELS_COUNTS_H
#define ST_KERNELS_COUNTS_H

#include "stratum/base.h"

typedef enum st_count_type { ST_COUNT_F64, ST_COUNT_F32, ST_COUNT_I64, ST_COUNT_I32 } st_count_type;

typedef struct st_counts_in {
    const char *data; /* dense, or the numbers of a CSR matrix */
    st_count_type type;
    size_t rows, cols;
    ptrdiff_t row, col;          /* dense: strides in bytes */
    const void *indptr, *column; /* CSR: where rows begin (rows + 1) and the columns; NULL: dense */
    size_t stored;               /* CSR: how many numbers and columns there are */
    bool wide;                   /* CSR: both are of 64 bits, not 32 */
    const uint32_t *codes;       /* the class of each row */
    size_t classes;
    const double *weight; /* one a row; NULL: ones */
} st_counts_in;

/* What was met among the numbers. */
enum {
    ST_COUNTS_BAD = 1,       /* below zero, infinite or NaN: sums mean nothing */
    ST_COUNTS_FRACTIONS = 2, /* not whole, or beyond 2**51 */
};

/* sums[classes x cols]: of the rows of each class, times their weights.  The array is the caller's.  ST_OK,
 * ST_ENOMEM, or ST_EINVAL for a class, a column or a row that is not there. */
int st_counts(const st_alloc *a, const st_counts_in *in, unsigned threads, double *sums, int *met) ST_USE;

#endif
