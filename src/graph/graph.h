/* graph.h - the insides of attributes and nodes, for src/graph/ and the layers above; not installed. */
#ifndef ST_GRAPH_INTERNAL_H
#define ST_GRAPH_INTERNAL_H

#include "../base/internal.h"
#include "stratum/graph.h"

#include <pthread.h>
#include <stdatomic.h>

struct st_attr {
    atomic_size_t refs;
    const st_alloc *alloc;
    uint8_t type;
    bool has_refs, plain;
    uint16_t depth;
    size_t n; /* items or bytes */
    st_hash hash;
    union {
        int64_t i;
        double f;
        st_value *v;
        st_ref ref;
        st_attr **items;
        char *s;
    } u;
};

struct st_task; /* src/run: a node's part in the run under way */

struct st_node {
    st_graph *graph;
    atomic_size_t refs;
    uint64_t id;
    const st_op *op;
    st_attr *attr;
    st_ref *in;
    size_t n_in;
    st_hash structure, meaning;
    atomic_uint flags; /* interning may add to those of a node that is being run */
    bool plain;
    st_value *origin;
    st_meta meta;         /* guarded by the graph's lock */
    st_value **bound;     /* n_out values or NULL; guarded by the graph's lock */
    struct st_task *task; /* guarded by the run's lock */
    uint64_t mark;        /* last walk that met the node; guarded by the graph's lock */
    st_node *next_dead;
};

struct st_graph {
    const st_alloc *alloc;
    pthread_mutex_t lock; /* a leaf: nothing is called while it is held but the allocator */
    /* guarded by lock: */
    st_node **table; /* open addressing; NULL empty, GRAVE deleted */
    size_t cap, used, n;
    uint64_t next_id, walk, asked, shared;
    st_node *dead; /* nodes whose last reference went while another was being freed */
    bool reaping;
    bool has_run; /* a run is under way */
};

/* Some output has a value bound to it. */
bool st_node_is_bound(st_node *n);

#define ST_GRAVE ((st_node *)(uintptr_t)1)

#endif
