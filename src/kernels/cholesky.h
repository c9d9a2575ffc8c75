/* cholesky.h - a symmetric positive definite system, for as many unknowns as a linear model has columns.
 *
 * For src/native and the extension.  One thread, rows of the factor by dot products: below 256 unknowns it
 * is no slower than LAPACK's potrf, whose threads wait for each other (measured on a busy machine, 110
 * unknowns: 0.15 ms against up to 200), and its bits are ours.
 */
#ifndef ST_KERNELS_CHOLESKY_H
#define ST_KERNELS_CHOLESKY_H

#include "kernels/dense.h"
#include "stratum/base.h"

/* Solve a x = b for each of `k` right sides (rows of `b`, which become the solutions).  `a` is n x n with
 * the factor in its lower half afterwards; its upper half is not read.  ST_EINVAL: not positive definite. */
int st_cholesky_solve(double *a, size_t n, double *b, size_t k) ST_USE;

#endif
