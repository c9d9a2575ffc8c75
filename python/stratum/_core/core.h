/* core.h - what the files of the extension share.
 *
 * The extension is the only place that includes Python.h.  It turns Python objects into values and
 * attribute trees (values.c), walks skrub's DataOps (capture.c), and lets the engine call Python
 * operators (execute.c).  The module's single state is process-wide, because a host's release function
 * has no argument for it and NumPy cannot be loaded in a second interpreter anyway.
 */
#ifndef STRATUM_CORE_H
#define STRATUM_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "stratum/cv.h"
#include "stratum/graph.h"
#include "stratum/lower.h"
#include "stratum/run.h"
#include "stratum/store.h"

/* Python functions that the engine calls; set once by stratum.hosts through configure(). */
#define CORE_HOOKS(X)                                                                                        \
    X(encode)    /* (obj) -> bytes | None */                                                                 \
    X(describe)  /* (obj) -> str */                                                                          \
    X(spec)      /* (impl) -> (kind, op, fields, flags) */                                                   \
    X(choice)    /* (choice or match) -> (kind, -1, fields, 0) */                                            \
    X(estimator) /* (estimator) -> None (nothing to evaluate inside) or (template, params) */                \
    X(build)     /* (template, params) -> estimator */                                                       \
    X(flags)     /* (estimator) -> int */                                                                    \
    X(seed)      /* (impl, estimator) -> int */                                                              \
    X(match)     /* (match, value) -> index */                                                               \
    X(protect)   /* (value) -> a private copy for code that might change it */                               \
    X(before)    /* (threads) -> None; before a node runs on a worker */

typedef struct core_state {
#define CORE_HOOK_FIELD(name) PyObject *name;
    CORE_HOOKS(CORE_HOOK_FIELD)
#undef CORE_HOOK_FIELD
    PyTypeObject *data_op, *choice_type, *match_type, *estimator_type;
    PyObject *engine_error;
} core_state;

extern core_state core;

/* -- Types --------------------------------------------------------------------------------- */

typedef struct GraphObject {
    PyObject_HEAD st_graph *g;
    struct core_op **ops;
    size_t n_ops;
    PyObject *values; /* id(object) -> capsule of its value, for the length of a batch */
} GraphObject;

/* An operator that a Python function runs; `op.data` points back here. */
typedef struct core_op {
    st_op op;
    PyObject *func, *name, *brief;
    GraphObject *graph; /* borrowed: the graph outlives its nodes */
} core_op;

typedef struct RefObject {
    PyObject_HEAD GraphObject *graph;
    st_ref ref;
} RefObject;

typedef struct ExprObject {
    PyObject_HEAD GraphObject *graph;
    st_attr *attr;
} ExprObject;

/* Marks an object as a leaf: never looked into; enc: bytes, None (ask the host) or False (identity). */
typedef struct LeafObject {
    PyObject_HEAD PyObject *obj, *enc;
} LeafObject;

typedef struct FailedObject {
    PyObject_HEAD PyObject *error;
    RefObject *at;
} FailedObject;

typedef struct PlanObject {
    PyObject_HEAD GraphObject *graph;
    st_plan *plan;
    st_lower_ops ops;
    PyObject *index; /* id(object) -> entry */
    PyObject *keep;  /* the objects, so that ids stay theirs */
    PyObject *made;  /* NULL, or what gives the origin of nodes that come from a DataOp's impl */
} PlanObject;

typedef struct ScopeObject {
    PyObject_HEAD PlanObject *plan;
    st_scope *scope; /* owned unless `owner` is set */
    PyObject *owner; /* the CV or Scope that keeps what this one needs */
} ScopeObject;

typedef struct RunObject {
    PyObject_HEAD GraphObject *graph;
    st_run *run;
    PyObject *recall;    /* NULL or a Recall */
    PyObject *interrupt; /* what a node on the calling thread raised that is no Exception */
    int64_t gave_back;   /* when freed memory last went back to the system; 0: not yet */
} RunObject;

typedef struct CVObject {
    PyObject_HEAD PlanObject *plan;
    ScopeObject *base;
    st_cv *cv;
    st_cv_ops ops;
    PyObject *modes, *ticket; /* callables */
} CVObject;

typedef struct ExecObject {
    PyObject_HEAD st_exec *x; /* NULL once the node has returned */
    GraphObject *graph;
} ExecObject;

typedef struct StoreObject {
    PyObject_HEAD st_store *store;
} StoreObject;

extern PyTypeObject Graph_Type, Ref_Type, Expr_Type, Leaf_Type, Failed_Type, Plan_Type, Scope_Type, Run_Type,
    CV_Type, Exec_Type, Front_Type, Recall_Type, Store_Type;

/* -- values.c ------------------------------------------------------------------------------ */

/* Raise the Python exception of an engine error; always NULL. */
PyObject *core_gate(PyObject *module, PyObject *level);
PyObject *core_raise(int rc, const st_error *err);
/* Keep forks apart from the queue of released objects; once, at import. */
int core_guard_fork(void);
/* Release the objects that the engine let go of; the GIL is held. */
void core_drain(void);
/* A value for `obj` (new reference).  `enc`: NULL asks the host and remembers the answer in `values`
 * (may be NULL); Py_False means identity. */
st_value *core_value(PyObject *values, PyObject *obj, PyObject *enc);
PyObject *core_object(const st_value *v); /* borrowed */

typedef struct core_slots {
    PyObject *index; /* id(object) -> position among the children; NULL: no slots allowed */
} core_slots;

/* Python object -> attribute tree; Refs and Exprs become what they stand for. */
st_attr *core_to_attr(GraphObject *g, PyObject *o, const core_slots *slots, int depth);
/* Attribute tree -> Python object, with `in` for slots. */
PyObject *core_from_attr(const st_attr *t, PyObject *const *in, size_t n_in);
PyObject *core_ref(GraphObject *g, st_ref r);    /* retains the node */
PyObject *core_expr(GraphObject *g, st_attr *t); /* retains t */
/* What `o` (Ref, Expr, anything else: a leaf) stands for, as an expression (new reference). */
st_attr *core_as_expr(GraphObject *g, PyObject *o);
int core_refs(PyObject *seq, st_ref **out, Py_ssize_t *n);

/* -- capture.c, execute.c ------------------------------------------------------------------ */

extern const st_lower_host core_lower_host;
int core_capture(PlanObject *p, PyObject *root, uint32_t *index);
int core_exec(st_exec *x, st_error *err);
/* Leave / enter Python around calls that may run nodes. */
PyThreadState *core_leave(void);
void core_enter(PyThreadState *outer);
/* Raise (on the driving thread) what an operator raised there to end the run; false: nothing. */
bool core_interrupted(void);

/* -- reuse.c ------------------------------------------------------------------------------- */

/* What a run recalls; the caller holds `recall` (a Recall) for as long as the run. */
void core_set_recall(st_run *r, PyObject *recall);

/* Tell a Recall (NULL is fine) what the process takes: what is kept shrinks to the room that there is. */
void core_fit_recall(PyObject *recall);

/* -- store.c ------------------------------------------------------------------------------- */

/* Make the types that Store answers with ready; -1 with an exception. */
int core_ready_store(void);

/* -- native_text.c ------------------------------------------------------------------------- */

/* Add the functions for text to the module; -1 with an exception. */
int st_py_add_native_text(PyObject *module);

/* -- native_encode.c ----------------------------------------------------------------------- */

/* Add the functions for encoders to the module; -1 with an exception. */
int st_py_add_native_encode(PyObject *module);

#endif
