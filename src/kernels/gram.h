/* gram.h - means and products of columns: what linear models need of their data, in one pass.
 *
 * For src/native and the extension.  The products are those of the columns of X and Y side by side
 * (q = x.cols + y.cols of them), weighted and centred, computed without a centred copy: the copy is most of
 * the time of scikit-learn's Ridge (66,667 x 110: 26 of 45 ms).
 */
#ifndef ST_KERNELS_GRAM_H
#define ST_KERNELS_GRAM_H

#include "kernels/dense.h"
#include "stratum/base.h"

typedef struct st_gram_in {
    st_dense x, y;        /* equally many rows */
    const double *weight; /* one a row, not negative; NULL: ones */
    bool center;
} st_gram_in;

typedef struct st_gram_out {
    double *mean;    /* q: weighted means; zeros without `center` */
    double *product; /* q x q, symmetric: sum of w (a - mean_a) (b - mean_b) */
    double weight;   /* sum of the weights */
} st_gram_out;

/* Fill `out`, whose arrays are the caller's.  ST_OK or ST_ENOMEM.  Numbers that are not finite come out as
 * products that are not finite. */
int st_gram(const st_alloc *a, const st_gram_in *in, unsigned threads, st_gram_out *out) ST_USE;

#endif
