/* squash.h - columns centred, scaled and softly clipped, as skrub's SquashingScaler writes them.
 *
 * For the extension.  Nothing here allocates; matrices are the caller's.
 */
#ifndef ST_KERNELS_SQUASH_H
#define ST_KERNELS_SQUASH_H

#include "kernels/dense.h"
#include "stratum/base.h"

/* A number x of a column becomes z / sqrt(1 + (z / limit)^2) for z = (x - center) / by * times + plus; an
 * infinity becomes the limit with its sign; NaN stays.  Each step is rounded to the type of the matrix, so
 * that `by` or `times` of 1 and `plus` of -0.0 leave no trace; `plus` of 0.0 with `times` of 0 makes 0.0. */
typedef struct st_squash {
    const double *center, *by, *times, *plus; /* one a column */
    double limit;                             /* positive, a number of the type */
} st_squash;

/* Write `x` changed to `out`, which has the type of `x`, rows together and `out_row` bytes apart, and shares
 * no memory with it.  `lost`: whether a finite number has left the range of the type on its way (the original
 * warns of that).  Results do not depend on `threads`. */
void st_columns_squash(const st_dense *x, const st_squash *s, unsigned threads, char *out, ptrdiff_t out_row,
                       bool *lost);

#endif
