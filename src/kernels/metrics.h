/* metrics.h - sums and ranks behind scores of predictions.
 *
 * For src/native and the extension.  Arrays belong to the caller and lie together; any thread may call, and
 * each call runs on its own thread alone: 100,000 rows take less than making a second thread is worth, but
 * for ranks.  Numbers that are not finite come out as results that are not, or are refused: the callers
 * leave them to the original.
 */
#ifndef ST_KERNELS_METRICS_H
#define ST_KERNELS_METRICS_H

#include "kernels/dense.h"
#include "stratum/base.h"

typedef struct st_residuals {
    double weight, mean;      /* sum of the weights; mean of y */
    double squares, absolute; /* sums of w (y - p)^2 and w |y - p| */
    double spread;            /* sum of w (y - mean)^2 */
} st_residuals;

/* What y and its prediction p differ by; w is NULL for ones. */
void st_metric_residuals(size_t n, const double *y, const double *p, const double *w, st_residuals *out);

typedef struct st_ranking {
    double positives, negatives; /* weights */
    double area;                 /* below the ROC curve */
    double precision;            /* the average one, by steps of the recall */
} st_ranking;

/* What scores say of which rows are positive (not 0).  Equal scores, both zeros too, are one threshold.
 * Weights are not negative (NULL: ones, and the area is that of whole numbers, rounded once).
 * ST_EUNSUPPORTED: a score that is not finite.  Without positives or negatives the ratios are NaN. */
int st_metric_ranking(const st_alloc *a, size_t n, const double *score, const uint8_t *positive,
                      const double *w, st_ranking *out) ST_USE;

/* counts[k x k]: rows (their weights) of each pair of labels low + i and low + j.  False for labels outside.
 */
bool st_metric_pairs(size_t n, const int64_t *a, const int64_t *b, int64_t low, size_t k, const double *w,
                     double *counts) ST_USE;

/* out[r] = x[r, codes[r]]; with one column what is given is that of code 1, and code 0 has what is missing
 * from 1.  False where a number is outside 0 to 1, a row adds up to anything else than 1 (by 1e-8), or a code
 * is none. */
bool st_metric_picked(const st_dense *x, const uint32_t *codes, double *out) ST_USE;

#endif
