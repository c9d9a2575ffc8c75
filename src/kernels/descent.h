/* descent.h - coordinate descent for the elastic net, on products of columns.
 *
 * For src/native and the extension.  The iterates, stopping rule, dual gap and safe screening are those of
 * scikit-learn's solver (its documentation cites Friedman 2010, Fercoq 2015, Massias 2018), up to rounding;
 * a pass over the coordinates costs p * p and does not see the rows.
 */
#ifndef ST_KERNELS_DESCENT_H
#define ST_KERNELS_DESCENT_H

#include "kernels/dense.h"
#include "stratum/base.h"

typedef struct st_descent {
    const double *product; /* X'X */
    size_t p, pitch;       /* columns of X; doubles from row to row of `product` */
    const double *target;  /* X'y */
    double square;         /* y'y */
    double alpha, beta;    /* weights of |w| and of w'w / 2, times the number of rows */
    double tol;            /* of changes; times y'y: of the gap */
    uint32_t max_iter;
    bool positive;
    double gap;      /* out: the gap at the end */
    uint32_t n_iter; /* out: passes over the coordinates; 0 where none was needed */
    bool converged;  /* out */
} st_descent;

/* Improve `w` (p values, where to begin).  ST_OK or ST_ENOMEM; not to converge is no failure. */
int st_descend(const st_alloc *a, st_descent *d, double *w) ST_USE;

#endif
