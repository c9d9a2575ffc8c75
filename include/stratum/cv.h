/* stratum/cv.h - cross-validation and searches lowered to nodes.
 *
 * A st_cv is the work of one search or cross-validation on a plan: candidates (outcomes for choices) times
 * folds (row indices).  Lowering makes, for each pair, a fit on the training rows and a score on the test
 * rows (and the training rows where asked), all as plain nodes: a transformer that several candidates
 * share is one node per fold, a prediction that several scorers need is one node.
 *
 * Threads and memory as in stratum/lower.h.  What is added is retained; refs and scopes that are answered
 * are borrowed and live as long as the st_cv.
 */
#ifndef STRATUM_CV_H
#define STRATUM_CV_H

#include "stratum/lower.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct st_cv st_cv;

typedef struct st_cv_ops {
    const st_op *take;  /* (data, rows) -> those rows */
    const st_op *score; /* (fit, spec, modes, predictions, state, X, y, scorers, ticket, held) */
} st_cv_ops;

/* Methods that scorers call, as bits; the names are the reference's modes. */
#define ST_SCORE_MODES(X) X(predict) X(predict_proba) X(decision_function) X(score)
enum { ST_SCORE_N_MODES = 4 };

typedef struct st_cv_host {
    void *ud;
    /* Which methods the scorers will call on a model of this estimator (NULL: not known before it runs):
     * bits in the order of ST_SCORE_MODES.  What is called beyond them is computed on demand. */
    int (*modes)(void *ud, st_value *estimator, uint32_t *modes, st_error *err);
    /* What the score node of (candidate, fold, on training rows) needs to ask for more; *out stays NULL
     * where the modes are complete. */
    int (*ticket)(void *ud, size_t candidate, size_t fold, bool train, st_value **out, st_error *err);
} st_cv_host;

/* `base` gives bindings and flags that every scope inherits.  `x`, `y`: the entries marked so, or -1. */
ST_API int st_cv_new(st_plan *p, uint32_t root, const st_scope *base, uint32_t scope_flags,
                     int64_t subsample_seed, int64_t x, int64_t y, const st_cv_ops *ops,
                     const st_cv_host *host, st_cv **out) ST_USE;
ST_API void st_cv_free(st_cv *c);

/* All rows; `y` may be NULL. */
ST_API int st_cv_data(st_cv *c, st_attr *x, st_attr *y) ST_USE;
/* How scores are made: handed to every score node.  `scorers` (an entry, or -1): its field 1 holds scorers
 * that are themselves part of the plan, evaluated on the scored rows. */
ST_API int st_cv_scoring(st_cv *c, st_attr *spec, int64_t scorers, bool train_scores) ST_USE;
ST_API int st_cv_add_fold(st_cv *c, st_attr *train, st_attr *test) ST_USE;
/* A candidate: entry `entries[i]` has outcome `outcomes[i]`. */
ST_API int st_cv_add_candidate(st_cv *c, const uint32_t *entries, st_attr *const *outcomes, size_t n) ST_USE;
ST_API size_t st_cv_n_folds(const st_cv *c);
ST_API size_t st_cv_n_candidates(const st_cv *c);

/* Make the nodes of every candidate and fold.  `wanted` (NULL: all): one byte a candidate, only those where
 * it is not zero; may be called again for others, when no more folds are added. */
ST_API int st_cv_lower(st_cv *c, const unsigned char *wanted, st_error *err) ST_USE;

typedef enum st_cv_part { ST_CV_FIT, ST_CV_TEST, ST_CV_TRAIN } st_cv_part;
/* The nodes of a pair after st_cv_lower (node: NULL, scope: NULL if the candidate was not wanted). */
ST_API st_ref st_cv_ref(const st_cv *c, size_t candidate, size_t fold, st_cv_part part);
ST_API st_scope *st_cv_scope(const st_cv *c, size_t candidate, size_t fold);

/* One evaluation beyond those: candidate `candidate` in `mode`; `x`/`y` replace the data (NULL: all rows),
 * `fitted` as in st_scope_new.  The scope belongs to the st_cv. */
ST_API int st_cv_evaluate(st_cv *c, size_t candidate, const char *mode, st_attr *x, st_attr *y,
                          st_scope *fitted, st_scope **scope, st_ref *value, st_error *err) ST_USE;

#ifdef __cplusplus
}
#endif
#endif
