/* stratum/lower.h - captured pipelines and their lowering to functional nodes.
 *
 * A *plan* is a captured pipeline: one entry per captured operation, children first.  It still has
 * choices, modes ("fit", "predict", ...) and estimators that hold their own state.  A *scope* is one way
 * of evaluating it: a mode, values for variables (or for X and y: the rows of a fold), an outcome for
 * each choice, and, unless the mode fits, the scope in which it was fitted.  st_lower() turns an entry
 * in a scope into an expression over nodes of the graph: fitting becomes `fit(estimator, X, y) ->
 * (output, state)`, applying becomes `call(state, X)`, conditions become nodes that choose.  Equal work of
 * two scopes is the same node, because the graph is hash-consed.
 *
 * Threads: a plan and its scopes belong to one thread at a time.  Memory: a plan keeps what it was
 * given; scopes keep their plan; expressions are counted.
 */
#ifndef STRATUM_LOWER_H
#define STRATUM_LOWER_H

#include "stratum/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct st_plan st_plan;
typedef struct st_scope st_scope;

/* -- Captured entries ---------------------------------------------------------------------- */

/* kind, layout of `fields` (a tuple whose slots name children) */
#define ST_CAP_KINDS(X)                                                                                      \
    X(ST_CAP_VAR, "var")                     /* (name, value or None, has value, becomes default) */         \
    X(ST_CAP_VALUE, "value")                 /* (value,) */                                                  \
    X(ST_CAP_COMPUTE, "compute")             /* the fields of the operation, in evaluation order */          \
    X(ST_CAP_APPLY, "apply")                 /* see ST_APPLY_* */                                            \
    X(ST_CAP_APPLIED, "applied")             /* (apply,): the fitted estimator */                            \
    X(ST_CAP_CONCAT, "concat")               /* (first, others, axis): remembers its output columns */       \
    X(ST_CAP_FREEZE, "freeze")               /* (target,): the value it had when fitted */                   \
    X(ST_CAP_IF, "if")                       /* (condition, if true, if false) */                            \
    X(ST_CAP_MATCH, "match")                 /* (query, keys tuple, targets tuple, default, has default) */  \
    X(ST_CAP_PASS, "pass")                   /* (target, ...): its value is the target's */                  \
    X(ST_CAP_MODE, "mode")                   /* (): the mode as a string */                                  \
    X(ST_CAP_ASK_SUBSAMPLE, "ask-subsample") /* (): whether subsampling is on */                             \
    X(ST_CAP_SUBSAMPLE, "subsample")         /* (target, n, how) */                                          \
    X(ST_CAP_CHOICE, "choice")               /* (chosen index or None, list of outcomes) */                  \
    X(ST_CAP_NUMBER, "number")               /* (default, chosen value or None) */                           \
    X(ST_CAP_CHOICE_MATCH, "choice-match")   /* (choice, list: a result for each outcome) */                 \
    X(ST_CAP_ESTIMATOR, "estimator")         /* (template, parameters): parameters hold entries */

typedef enum st_cap_kind {
#define ST_CAP_ENUM(name, text) name,
    ST_CAP_KINDS(ST_CAP_ENUM)
#undef ST_CAP_ENUM
        ST_N_CAP_KINDS
} st_cap_kind;

/* Fields of ST_CAP_APPLY. */
enum {
    ST_APPLY_X,
    ST_APPLY_ESTIMATOR,
    ST_APPLY_Y,
    ST_APPLY_COLS,
    ST_APPLY_EXCLUDE,
    ST_APPLY_NO_WRAP,
    ST_APPLY_ALLOW_REJECT,
    ST_APPLY_UNSUPERVISED,
    ST_APPLY_KWARGS,
    ST_APPLY_NO_CACHE,
    ST_APPLY_N
};

/* What the host says of an estimator. */
enum {
    ST_EST_TRANSFORM = 1 << 0,
    ST_EST_FIT_TRANSFORM = 1 << 1,
    ST_EST_PREDICT = 1 << 2,
    ST_EST_LIBRARY = 1 << 3,  /* known, thread-safe between instances */
    ST_EST_FREE = 1 << 4,     /* releases the host's lock while it works */
    ST_EST_UNSEEDED = 1 << 5, /* would draw from the global generator */
    ST_EST_ONCE = 1 << 6,     /* another fit may give something else: ST_N_ONCE */
};

/* Callbacks; called without any engine lock held. */
typedef struct st_lower_host {
    void *ud;
    /* An unfitted estimator: `template` with `params` (a constant dict) set. */
    int (*build)(void *ud, st_value *template_, st_attr *params, st_value **out, st_error *err);
    int (*flags)(void *ud, st_value *estimator, uint32_t *flags, st_error *err);
    /* A seed for an unseeded estimator that `origin` creates. */
    int (*seed)(void *ud, st_value *origin, st_value *estimator, int64_t *seed, st_error *err);
    /* Which result of a choice-match belongs to a value given from outside. */
    int (*match)(void *ud, st_value *origin, st_attr *value, size_t *index, st_error *err);
} st_lower_host;

/* The operators that lowering makes; the host provides what runs them. */
typedef struct st_lower_ops {
    const st_op *fit;        /* (method, estimator, X, y, ...) -> output, state */
    const st_op *call;       /* (mode, inner, state, X, y, ...) -> value */
    const st_op *applied;    /* (state,) -> the estimator */
    const st_op *concat_fit; /* (first, others, axis) -> output, columns */
    const st_op *concat;     /* (first, others, axis, columns) -> output */
    const st_op *select;     /* (condition, keys or None, has default, options) -> the option's value */
    const st_op *build;      /* (template, params) -> estimator */
    const st_op *constant;   /* (value,) -> value */
    const st_op *missing;    /* (kind, text) -> fails as a missing variable or state does */
    const st_op *subsample;  /* (target, n, how, active, seed) -> rows */
} st_lower_ops;

ST_API int st_plan_new(st_graph *g, const st_lower_ops *ops, const st_lower_host *host, st_plan **out) ST_USE;
ST_API void st_plan_free(st_plan *p);
ST_API st_graph *st_plan_graph(const st_plan *p);

/* Append an entry; children are indices of earlier entries, named by slots in `fields`.  `op`: for
 * ST_CAP_COMPUTE.  `flags`: ST_N_* for its nodes. */
ST_API int st_plan_add(st_plan *p, st_cap_kind kind, const st_op *op, st_attr *fields,
                       const uint32_t *children, size_t n, uint32_t flags, st_value *origin, uint32_t *index,
                       st_error *err) ST_USE;
ST_API size_t st_plan_len(const st_plan *p);
ST_API st_cap_kind st_plan_kind(const st_plan *p, uint32_t i);
ST_API st_value *st_plan_origin(const st_plan *p, uint32_t i); /* borrowed */
ST_API st_attr *st_plan_fields(const st_plan *p, uint32_t i);  /* borrowed */
ST_API size_t st_plan_children(const st_plan *p, uint32_t i, const uint32_t **children);

/* -- Scopes -------------------------------------------------------------------------------- */

/* SMALL: the data are so few that nodes are marked ST_N_SMALL. */
enum { ST_SCOPE_USE_VALUES = 1, ST_SCOPE_SUBSAMPLE = 2, ST_SCOPE_SMALL = 4 };

/* `fitted` (may be NULL) is the scope whose states are applied; it must outlive the new one. */
ST_API int st_scope_new(st_plan *p, const char *mode, uint32_t flags, int64_t subsample_seed,
                        st_scope *fitted, st_scope **out) ST_USE;
ST_API void st_scope_free(st_scope *s);
/* Make room for entries that the plan got since the scope was made. */
ST_API int st_scope_extend(st_scope *s) ST_USE;
/* The value of entry `i` given from outside (an environment, a fold). */
ST_API int st_scope_bind(st_scope *s, uint32_t i, st_attr *expr) ST_USE;
/* The outcome of choice `i`: an index, or the value of a number. */
ST_API int st_scope_choose(st_scope *s, uint32_t i, st_attr *outcome) ST_USE;
/* Bindings and outcomes of `from`, a scope of the same plan. */
ST_API int st_scope_inherit(st_scope *s, const st_scope *from) ST_USE;

/* The expression of entry `i`: a constant, a tree or a single ref.  Borrowed from the scope. */
ST_API int st_lower(st_scope *s, uint32_t i, st_attr **expr, st_error *err) ST_USE;
/* The expression of one field of entry `i`.  The caller releases it. */
ST_API int st_lower_field(st_scope *s, uint32_t i, size_t field, st_attr **expr, st_error *err) ST_USE;
/* The same as one ref; constants become constant nodes.  The ref is borrowed from the scope. */
ST_API int st_lower_ref(st_scope *s, uint32_t i, st_ref *out, st_error *err) ST_USE;
/* The state that entry `i` has after lowering in `s` (borrowed; NULL: none). */
ST_API st_attr *st_scope_state(const st_scope *s, uint32_t i);
/* The expression that st_lower made for `i`, if it was met. */
ST_API st_attr *st_scope_value(const st_scope *s, uint32_t i);
/* The first apply that is met from entry `i` down, following chosen outcomes; -1: none, -2: out of
 * memory. */
ST_API int64_t st_scope_first_apply(st_scope *s, uint32_t i);

#ifdef __cplusplus
}
#endif
#endif
