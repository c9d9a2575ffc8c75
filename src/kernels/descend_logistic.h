/* descend_logistic.h - logistic regression fitted whole: loss, L-BFGS and its line search in one call.
 *
 * For the extension, where many candidates differ in nothing but the penalty.  SciPy's minimiser asks for the
 * loss through Python: on 67 rows of 10 columns that is 0.5 ms a fit, in which the loss takes 0.03.
 *
 * The steps are those of SciPy's "L-BFGS-B" without bounds (ten pairs, the line search of More and Thuente
 * with the same constants, the same tests of convergence), rounded in another order: where it converges it
 * ends within the optimiser's own tolerance of where SciPy ends.  Whatever is unusual (a step that is given
 * up, too many steps) is answered with "not converged": the caller then asks SciPy.
 */
#ifndef ST_KERNELS_DESCEND_LOGISTIC_H
#define ST_KERNELS_DESCEND_LOGISTIC_H

#include "kernels/logistic.h"

typedef struct st_logistic_fit {
    double c;          /* inverse of the penalty's strength, as scikit-learn has it */
    double tol;        /* the largest entry of the gradient to end with */
    uint32_t max_iter; /* not converged when so many steps were made */
    /* what came of it: */
    uint32_t n_iter;
    bool converged;
} st_logistic_fit;

/* Fit from zeros.  `coef` (the caller's): in->classes rows of x.cols values and the intercept; not to be used
 * unless `converged`.  ST_OK or ST_ENOMEM.  Any thread may call. */
int st_logistic_descend(const st_alloc *a, const st_logistic *in, unsigned threads, st_logistic_fit *fit,
                        double *coef) ST_USE;

#endif
