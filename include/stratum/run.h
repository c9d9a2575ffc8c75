/* stratum/run.h - running: workers, values in flight, failures, cancellation.
 *
 * A run computes nodes on threads that the caller provides: any thread may enter st_worker_run(), and
 * the thread that drives the run (st_run_next) also executes the nodes that must stay on it.  A value is
 * freed with its last reader.  A failing node fails what needs it and nothing else; when several inputs
 * of a node fail, the node's error is that of the first one in input order, so that errors do not depend
 * on timing.
 *
 * Lock order: no operator, host function or poll is called while the run's lock is held.
 */
#ifndef STRATUM_RUN_H
#define STRATUM_RUN_H

#include "stratum/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct st_run st_run;

/* What an operator's exec function sees. */
struct st_exec {
    st_run *run;
    st_node *node;
    const st_op *op;
    size_t n_in;
    st_value *const *in;            /* NULL where the input failed (tolerant operators) or is not wanted */
    st_value *const *in_error;      /* the error object of a failed input (tolerant operators), else NULL */
    const unsigned char *in_shared; /* others read this value too */
    st_value **out;                 /* to fill: op->n_out values, references owned by the engine after */
    st_value *error;                /* to fill on ST_EHOST: the host's error object */
    st_ref becomes;                 /* operators that expand: the node whose value is this one's (retained) */
    size_t choice;                  /* operators that choose: which of the inputs from 1 on is wanted */
    int threads;                    /* threads that this node may use inside */
    bool telling;                   /* to set: it said something (a warning) that its value does not hold */
    void *worker;                   /* what st_worker_run was given; NULL on the driving thread */
};

/* `n_threads` threads are going to enter; with 0 the driving thread executes everything.  (With more it
 * executes only the nodes that must stay on it, so that it can always answer a poll.)  A graph has one
 * run at a time (else ST_EUNSUPPORTED); the next one may begin when this one was freed. */
ST_API int st_run_new(st_graph *g, int n_threads, st_run **out) ST_USE;
/* Ends the run: nodes not begun are dropped, workers return.  Values are released.  A worker that is
 * still inside a node keeps what it needs and frees it when it comes back. */
ST_API void st_run_free(st_run *r);

/* What was computed before, in another run or process.  A node is asked for here before its inputs are.
 * Nodes that are not plain, expand or choose, or belong to one creation (ST_N_ONCE) never are. */
typedef struct st_recall {
    void *ud;
    /* Whether an output can be had.  Called under the run's lock: it looks into memory only, at once. */
    bool (*knows)(void *ud, const st_node *n, uint32_t port);
    /* The output, or an error code: then the node is computed after all.  Called on any thread. */
    int (*load)(void *ud, st_node *n, uint32_t port, st_value **out);
    /* A node was computed, in `seconds`; without what is kept it would take `again` seconds to have it once
     * more.  Whether it is kept, and then the seconds that loading it takes.  Not called if `again` is less
     * than `worth`, nor for what said something, or was made of what did. */
    bool (*offer)(void *ud, st_exec *x, double seconds, double again, double *load);
    double worth;
} st_recall;
/* Before the first demand; copied. */
ST_API void st_run_set_recall(st_run *r, const st_recall *recall);

/* Keep a run's memory for a thread that has yet to enter: without it, a run that was freed in between is
 * gone when the thread arrives.  Release it after st_worker_run has returned. */
ST_API st_run *st_run_retain(st_run *r);
ST_API void st_run_release(st_run *r);

/* A thread enters and executes nodes until the run ends (at once, if it has ended). */
ST_API void st_worker_run(st_run *r, void *worker);

/* Ask for `n` values.  `waves`: smaller ones are worked on first (NULL: all 0).  With `root` each gets an
 * index (in order of asking) that st_run_next answers; without, they are only computed on the way. */
ST_API int st_run_demand(st_run *r, const st_ref *refs, const int *waves, size_t n, bool root,
                         st_error *err) ST_USE;

/* Called now and then on the driving thread; non-zero cancels the run. */
typedef int (*st_poll)(void *ud);

/* Drive until another root is final: its index, or -1 when every root was answered (or after a
 * cancellation, with err->code ST_ECANCELED).  `poll` is called at least every `poll_ms`. */
ST_API int64_t st_run_next(st_run *r, st_poll poll, void *ud, int poll_ms, st_error *err);

/* From inside an operator (ST_P_NESTS): compute `ref` now, helping with other nodes meanwhile. */
ST_API int st_run_nested(st_run *r, st_ref ref, void *worker, st_value **value, st_value **error,
                         st_error *err) ST_USE;

/* The value or error of a root (retained); ST_EHOST with the error object, ST_ECANCELED.  `at`: the
 * node that failed (borrowed until the run is freed). */
ST_API int st_run_root(st_run *r, size_t index, st_value **value, st_value **error, st_node **at,
                       st_error *err);
/* The node that made an error which reached `n`; NULL if it did not fail. */
ST_API st_node *st_run_failed_at(st_run *r, st_node *n);

/* From inside an operator: how many readers input `i` has that have yet to read it, this node among them. */
ST_API uint32_t st_run_readers(const st_exec *x, size_t i);

/* Wait for running nodes after a cancellation, at most `ms`; answers how many are still inside one.
 * `stuck` (may be NULL) is called with each such node. */
ST_API size_t st_run_settle(st_run *r, int ms, void (*stuck)(void *ud, st_node *n, void *worker), void *ud);
ST_API void st_run_cancel(st_run *r);
ST_API bool st_run_canceled(st_run *r);

/* Keep the values that do not depend on a choice of rows but are read by nodes which do, so that what
 * comes later (a refit) finds them.  Released with st_run_unkeep. */
typedef struct st_keep st_keep;
ST_API int st_run_keep(st_run *r, const st_ref *refs, size_t n, st_keep **out) ST_USE;
ST_API void st_run_unkeep(st_run *r, st_keep *k);

/* Seconds spent for each of `n` refs on nodes that depend on rows; what several share is divided among
 * them, and what was answered once is not answered again. */
ST_API int st_run_share(st_run *r, const st_ref *refs, size_t n, double *seconds) ST_USE;
/* The same for all nodes that the refs need, whether they depend on rows or not. */
ST_API int st_run_share_all(st_run *r, const st_ref *refs, size_t n, double *seconds) ST_USE;

typedef struct st_run_stats {
    uint64_t tasks;    /* nodes that were asked for */
    uint64_t executed; /* of which were executed */
    uint64_t reused;   /* of which had a bound value */
    uint64_t failed;
    uint64_t recomputed; /* executed again because their value had been freed */
    uint64_t recalled;   /* loaded instead of computed */
    double recall_seconds;
    double seconds; /* spent inside nodes, over all threads */
} st_run_stats;
ST_API st_run_stats st_run_get_stats(st_run *r);
/* How often and how long each executed node ran: calls `each` for every one. */
ST_API int st_run_profile(st_run *r, int (*each)(void *ud, st_node *n, double seconds, bool failed),
                          void *ud);
/* What is held at this moment, for tools: calls `each` for every output that is there, with the number of
 * its readers that have yet to read it. The value is retained during the call. */
ST_API int st_run_held(st_run *r, int (*each)(void *ud, st_ref ref, uint32_t readers, st_value *v), void *ud);

#ifdef __cplusplus
}
#endif
#endif
