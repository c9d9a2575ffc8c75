/* logistic.h - loss and gradient of logistic regression in one pass over the rows.
 *
 * For src/native and the extension.  A block of rows is read once and is still in the first cache when the
 * gradient needs it; scikit-learn reads all rows twice, with products of BLAS on either side.
 */
#ifndef ST_KERNELS_LOGISTIC_H
#define ST_KERNELS_LOGISTIC_H

#include "kernels/dense.h"
#include "stratum/base.h"

typedef struct st_logistic {
    st_dense x;           /* the columns of a row lie together */
    const double *target; /* two classes: 0 or 1; more: the class's number */
    const double *weight; /* one a row; NULL: ones */
    size_t classes;       /* rows of coefficients: 1 for two classes */
    bool intercept;
} st_logistic;

/* Sums over the rows: the loss, and its gradient.  `coef` and `gradient` have `classes` rows of x.cols
 * values and one for the intercept (which is there in any case, and 0 in the gradient without one).
 * ST_OK or ST_ENOMEM. */
int st_logistic_loss(const st_alloc *a, const st_logistic *in, const double *coef, unsigned threads,
                     double *loss, double *gradient) ST_USE;

/* exp(x) for x <= 0 (0 below -708), and log(x) for normal x > 0, as the loss has them: within 2 units in
 * the last place.  For the tests. */
void st_exp8(st_v8 *x);
void st_log8(st_v8 *x);

#endif
