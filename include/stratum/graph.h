/* stratum/graph.h - attributes, operators, nodes and the hash-consed graph.
 *
 * A graph is a set of nodes; a node is an operator, an attribute tree and its inputs.  Asking for a
 * node that exists returns that node, so common subexpressions are one node from the start.  Equality
 * is structural and typed; the 128-bit hash only finds candidates.
 *
 * Threads: nodes and attributes are immutable once made and may be read from any thread; st_graph_*
 * functions lock the graph themselves.  Memory: everything is counted; "new" and "intern" return a
 * reference that the caller releases.  All walks are iterative: depth costs no stack.
 */
#ifndef STRATUM_GRAPH_H
#define STRATUM_GRAPH_H

#include "stratum/value.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct st_node st_node;
typedef struct st_graph st_graph;

/* One output of a node. */
typedef struct st_ref {
    st_node *node;
    uint32_t port;
} st_ref;

/* -- Attributes ---------------------------------------------------------------------------- */

/* Typed trees.  1, 1.0 and True differ; 0.0 and -0.0 differ; NaNs compare by their bits.
 * ST_SLOT stands for a node's i-th input, ST_REF for an output of a node (in expressions that are not
 * yet interned: interning turns each ST_REF into an ST_SLOT). */
/* clang-format never comes to rest on this list. */
/* clang-format off */
#define ST_ATTR_TYPES(X) \
    X(ST_NONE, "none") X(ST_BOOL, "bool") X(ST_INT, "int") X(ST_FLOAT, "float") \
    X(ST_STR, "str") X(ST_BYTES, "bytes") X(ST_VALUE, "value") X(ST_LIST, "list") \
    X(ST_TUPLE, "tuple") X(ST_SET, "set") X(ST_FROZENSET, "frozenset") X(ST_DICT, "dict") \
    X(ST_SLICE, "slice") X(ST_SLOT, "slot") X(ST_REF, "ref")
/* clang-format on */

typedef enum st_attr_type {
#define ST_ATTR_ENUM(name, text) name,
    ST_ATTR_TYPES(ST_ATTR_ENUM)
#undef ST_ATTR_ENUM
        ST_N_ATTR_TYPES
} st_attr_type;

/* Containers may nest this deep; deeper trees are ST_ELIMIT. */
#define ST_ATTR_MAX_DEPTH 200

typedef struct st_attr st_attr;

ST_API int st_attr_none(const st_alloc *a, st_attr **out) ST_USE;
ST_API int st_attr_bool(const st_alloc *a, bool v, st_attr **out) ST_USE;
ST_API int st_attr_int(const st_alloc *a, int64_t v, st_attr **out) ST_USE;
ST_API int st_attr_float(const st_alloc *a, double v, st_attr **out) ST_USE;
ST_API int st_attr_str(const st_alloc *a, const char *s, size_t n, st_attr **out) ST_USE;
ST_API int st_attr_bytes(const st_alloc *a, const void *p, size_t n, st_attr **out) ST_USE;
ST_API int st_attr_value(const st_alloc *a, st_value *v, st_attr **out) ST_USE; /* retains v */
ST_API int st_attr_slot(const st_alloc *a, uint32_t i, st_attr **out) ST_USE;
ST_API int st_attr_ref(const st_alloc *a, st_ref r, st_attr **out) ST_USE; /* retains r.node */
/* A container of `n` items (ST_DICT: keys and values alternate; ST_SLICE: start, stop, step); the
 * items are retained.  Order is kept and counts, for sets too (the host gives them in encoded order). */
ST_API int st_attr_seq(const st_alloc *a, st_attr_type type, st_attr *const *items, size_t n,
                       st_attr **out) ST_USE;

ST_API st_attr *st_attr_retain(st_attr *t);
ST_API void st_attr_release(st_attr *t);

ST_API st_attr_type st_attr_type_of(const st_attr *t);
ST_API size_t st_attr_len(const st_attr *t);              /* items of a container, bytes of a string */
ST_API st_attr *st_attr_item(const st_attr *t, size_t i); /* borrowed */
ST_API int64_t st_attr_as_int(const st_attr *t);          /* bool, int, slot */
ST_API double st_attr_as_float(const st_attr *t);
ST_API const char *st_attr_as_str(const st_attr *t); /* str, bytes; NUL-terminated */
ST_API st_value *st_attr_as_value(const st_attr *t); /* borrowed */
ST_API st_ref st_attr_as_ref(const st_attr *t);      /* borrowed */
ST_API bool st_attr_has_refs(const st_attr *t);      /* a slot or ref somewhere inside */
ST_API bool st_attr_is_plain(const st_attr *t);      /* no value without an encoding inside */
ST_API st_hash st_attr_hash(const st_attr *t);
ST_API bool st_attr_equal(const st_attr *a, const st_attr *b);

/* Copy of `t` with every slot i replaced by by[i] (borrowed; NULL keeps the slot). */
ST_API int st_attr_substitute(const st_alloc *a, st_attr *t, st_attr *const *by, size_t n,
                              st_attr **out) ST_USE;

/* -- Operators ----------------------------------------------------------------------------- */

/* What is known of an operator, as bits; rules ask for a property, never for a name. */
enum {
    ST_P_ROW_LOCAL = 1 << 0,     /* output row i depends on input row i alone */
    ST_P_STATELESS = 1 << 1,     /* nothing is learnt from the input */
    ST_P_DETERMINISTIC = 1 << 2, /* equal inputs give equal outputs */
    ST_P_KEEPS_ORDER = 1 << 3,   /* rows keep their order */
    ST_P_HOLDS_GIL = 1 << 4,     /* runs under the host's lock most of its time */
    ST_P_THREAD_SAFE = 1 << 5,   /* may run on any worker; otherwise on the calling thread alone */
    ST_P_OPAQUE = 1 << 6,        /* user code: gets private copies of what others read */
    ST_P_TAKES_ROWS = 1 << 7,    /* selects rows: what follows differs between folds */
    ST_P_TOLERANT = 1 << 8,      /* runs although inputs failed: it is told which */
    ST_P_EXPANDS = 1 << 9,       /* answers with a subgraph instead of a value */
    ST_P_CHOOSES = 1 << 10,      /* input 0 says which one of the other inputs is wanted */
    ST_P_FITS = 1 << 11,         /* learns a state */
    ST_P_NESTS = 1 << 12,        /* may itself wait for other nodes */
};

typedef enum st_tier { ST_ABSTRACT, ST_LOGICAL, ST_PHYSICAL } st_tier;

/* How far an implementation's result may be from the reference's. */
typedef enum st_exactness { ST_IDENTICAL, ST_EQUIVALENT, ST_APPROXIMATE } st_exactness;

typedef struct st_exec st_exec;

/* Compute a node; see stratum/run.h for st_exec.  0 or an error code with `err` filled. */
typedef int (*st_exec_fn)(st_exec *x, st_error *err);

/* An operator: one row of a table.  `version` is part of every key. */
typedef struct st_op {
    const char *name;
    uint32_t version;
    uint32_t props;
    uint32_t n_out;
    st_tier tier;
    const char *brief;
    st_exec_fn exec; /* default implementation; NULL: only registered ones */
    void *data;      /* for exec */
} st_op;

/* -- Nodes --------------------------------------------------------------------------------- */

enum {
    ST_N_VARIES = 1 << 0,   /* depends on a choice of rows */
    ST_N_CALLER = 1 << 1,   /* runs on the calling thread alone */
    ST_N_FREE = 1 << 2,     /* known not to hold the host's lock for long */
    ST_N_UNSHARED = 1 << 3, /* drawn from a global generator: not kept across runs */
    ST_N_SMALL = 1 << 4,    /* so little work that threads cost more than they bring */
    ST_N_ONCE = 1 << 5,     /* belongs to one creation, or is made of what does: nobody asks for it again */
};

/* What is known or guessed of a node's output; `sure` runs from 0 (nothing known) to 1 (measured). */
typedef struct st_meta {
    double rows, cols, bytes, seconds;
    float sure;
} st_meta;

ST_API const st_op *st_node_op(const st_node *n);
ST_API uint64_t st_node_id(const st_node *n); /* unique in its graph, grows with age */
ST_API st_attr *st_node_attr(const st_node *n);
ST_API size_t st_node_n_in(const st_node *n);
ST_API st_ref st_node_in(const st_node *n, size_t i);
ST_API uint32_t st_node_flags(const st_node *n);
/* Structure: what the node is now.  Meaning: the key of what it computes as it was captured and
 * lowered, before rewrites; a rule that makes a node states the meaning of it. */
ST_API st_hash st_node_structure(const st_node *n);
ST_API st_hash st_node_meaning(const st_node *n);
/* Made only of encodable parts, so that the keys mean the same in another process. */
ST_API bool st_node_is_plain(const st_node *n);
ST_API st_value *st_node_origin(const st_node *n); /* borrowed; what made it first, for messages */
ST_API st_meta st_node_meta(const st_node *n);
ST_API void st_node_set_meta(st_node *n, st_meta m);
ST_API st_node *st_node_retain(st_node *n);
ST_API void st_node_release(st_node *n);

/* A value kept with a node (a preview, a cached result): later runs take it instead of computing.
 * Bind replaces; unbind forgets, and only if `v` is what is bound (NULL: whatever it is). */
ST_API int st_node_bind(st_node *n, uint32_t port, st_value *v) ST_USE;
ST_API void st_node_unbind(st_node *n, uint32_t port, st_value *v);
ST_API st_value *st_node_bound(st_node *n, uint32_t port); /* retained, or NULL */

/* -- Graphs -------------------------------------------------------------------------------- */

ST_API int st_graph_new(const st_alloc *a, st_graph **out) ST_USE;
ST_API void st_graph_free(st_graph *g); /* every node must have been released */
ST_API const st_alloc *st_graph_alloc(const st_graph *g);

/* The node `op(expr)`: `expr` is an attribute tree with ST_REF leaves, which become the inputs in the
 * order in which they are met.  `flags`: ST_N_* beyond what follows from op and inputs.  `origin`
 * (may be NULL) is no part of the key. */
ST_API int st_graph_intern(st_graph *g, const st_op *op, st_attr *expr, uint32_t flags, st_value *origin,
                           st_node **out, st_error *err) ST_USE;
/* The same with the meaning stated by a rule. */
ST_API int st_graph_intern_as(st_graph *g, const st_op *op, st_attr *expr, uint32_t flags, st_value *origin,
                              st_hash meaning, st_node **out, st_error *err) ST_USE;

typedef struct st_graph_stats {
    size_t nodes;    /* alive */
    uint64_t asked;  /* calls of intern */
    uint64_t shared; /* of which were answered with a node that existed */
} st_graph_stats;
ST_API st_graph_stats st_graph_get_stats(st_graph *g);

/* Well-formed: slots match inputs, inputs are older than the node, keys are what the parts hash to,
 * ports exist, the table finds every node.  ST_EVERIFY names the first breach. */
ST_API int st_graph_verify(st_graph *g, st_error *err) ST_USE;

/* Text sinks: called with pieces of text; a non-zero answer stops and is returned. */
typedef int (*st_sink)(void *ud, const char *text, size_t n);

/* The nodes that `roots` need, inputs first, a line each. */
ST_API int st_graph_print(st_graph *g, const st_ref *roots, size_t n, st_sink sink, void *ud) ST_USE;
/* The same as a DOT digraph. */
ST_API int st_graph_dot(st_graph *g, const st_ref *roots, size_t n, st_sink sink, void *ud) ST_USE;

/* The canonical encoding of one node (operator, version, attributes, keys of the inputs). */
ST_API int st_node_encode(st_node *n, st_sink sink, void *ud) ST_USE;

/* The nodes that `roots` need in an order in which inputs come first; `*out` is borrowed nodes in an
 * array from the graph's allocator. */
ST_API int st_graph_order(st_graph *g, const st_ref *roots, size_t n, st_node ***out, size_t *n_out) ST_USE;

#ifdef __cplusplus
}
#endif
#endif
