/* graph.c - nodes and the hash-consing table.
 *
 * The table holds nodes weakly: the last release takes a node out.  Releasing a node releases its
 * inputs; a chain of 100,000 nodes must not need 100,000 stack frames, so the nodes whose count
 * reaches zero while another is being freed wait in a list (`dead`) that the outermost release drains.
 *
 * Order of locks: the graph's lock is a leaf.  Freeing attributes and values happens outside it, as
 * they may call a host's release.
 */
#include "graph.h"

#include <math.h>

int st_graph_new(const st_alloc *a, st_graph **out)
{
    st_graph *g = st_mem_zero(a, sizeof *g);
    if (!g) return ST_ENOMEM;
    g->alloc = a;
    g->cap = 64;
    g->table = st_mem_zero(a, g->cap * sizeof *g->table);
    if (!g->table) {
        st_mem_free(a, g);
        return ST_ENOMEM;
    }
    if (pthread_mutex_init(&g->lock, NULL)) {
        st_mem_free(a, g->table);
        st_mem_free(a, g);
        return ST_ESYSTEM;
    }
    g->next_id = 1;
    *out = g;
    return ST_OK;
}

void st_graph_free(st_graph *g)
{
    if (!g) return;
    pthread_mutex_destroy(&g->lock);
    st_mem_free(g->alloc, g->table);
    st_mem_free(g->alloc, g);
}

const st_alloc *st_graph_alloc(const st_graph *g) { return g->alloc; }

/* -- The table ----------------------------------------------------------------------------- */

static size_t home(const st_graph *g, st_hash h) { return (size_t)h.lo & (g->cap - 1); }

static void table_put(st_graph *g, st_node *n)
{
    size_t i = home(g, n->structure);
    while (g->table[i] && g->table[i] != ST_GRAVE)
        i = (i + 1) & (g->cap - 1);
    if (!g->table[i]) g->used++;
    g->table[i] = n;
    g->n++;
}

static void table_remove(st_graph *g, const st_node *n)
{
    size_t i = home(g, n->structure);
    while (g->table[i] != n)
        i = (i + 1) & (g->cap - 1);
    g->table[i] = ST_GRAVE;
    g->n--;
}

static int table_grow(st_graph *g)
{
    if ((g->used + 1) * 4 < g->cap * 3) return ST_OK;
    size_t cap = g->cap;
    if ((g->n + 1) * 2 > cap) cap *= 2; /* else many graves: same size, swept */
    st_node **t = st_mem_zero(g->alloc, cap * sizeof *t);
    if (!t) return ST_ENOMEM;
    st_node **old = g->table;
    size_t old_cap = g->cap;
    g->table = t;
    g->cap = cap;
    g->used = g->n = 0;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i] && old[i] != ST_GRAVE) table_put(g, old[i]);
    st_mem_free(g->alloc, old);
    return ST_OK;
}

/* -- Counting ------------------------------------------------------------------------------ */

st_node *st_node_retain(st_node *n)
{
    if (n) atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
    return n;
}

static void node_free(st_node *n)
{
    st_graph *g = n->graph;
    for (size_t i = 0; i < n->n_in; i++)
        st_node_release(n->in[i].node);
    st_attr_release(n->attr);
    st_value_release(n->origin);
    if (n->bound)
        for (uint32_t p = 0; p < n->op->n_out; p++)
            st_value_release(n->bound[p]);
    st_mem_free(g->alloc, n->bound);
    st_mem_free(g->alloc, n->in);
    st_mem_free(g->alloc, n);
}

void st_node_release(st_node *n)
{
    if (!n) return;
    st_graph *g = n->graph;
    /* Fast path: not the last one.  The last decrement happens under the lock, so that intern cannot
     * hand out a node that is about to go. */
    size_t c = atomic_load_explicit(&n->refs, memory_order_relaxed);
    while (c > 1)
        if (atomic_compare_exchange_weak_explicit(&n->refs, &c, c - 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return;
    pthread_mutex_lock(&g->lock);
    if (atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel) != 1) {
        pthread_mutex_unlock(&g->lock);
        return;
    }
    table_remove(g, n);
    n->next_dead = g->dead;
    g->dead = n;
    if (g->reaping) { /* an outer release, here or on another thread, drains the list */
        pthread_mutex_unlock(&g->lock);
        return;
    }
    g->reaping = true;
    while (g->dead) {
        st_node *d = g->dead;
        g->dead = d->next_dead;
        pthread_mutex_unlock(&g->lock);
        node_free(d);
        pthread_mutex_lock(&g->lock);
    }
    g->reaping = false;
    pthread_mutex_unlock(&g->lock);
}

/* -- Interning ----------------------------------------------------------------------------- */

typedef struct collector {
    const st_graph *g;
    const st_alloc *a;
    ST_VEC(st_ref) in;
    size_t *index, cap; /* open addressing: 1 + the position in `in`; only for many inputs */
} collector;

/* A few inputs are compared one by one; a node may have tens of thousands. */
#define FEW 16

static size_t ref_home(const collector *c, st_ref r)
{
    uint64_t h = (r.node->id * UINT64_C(0x9E3779B97F4A7C15)) ^ (r.port * UINT64_C(0xD6E8FEB86659FD93));
    return (size_t)(h ^ (h >> 29)) & (c->cap - 1);
}

static void index_put(collector *c, size_t i)
{
    size_t h = ref_home(c, c->in.v[i]);
    while (c->index[h])
        h = (h + 1) & (c->cap - 1);
    c->index[h] = i + 1;
}

/* The position of `r` among the inputs, which it joins if new. */
static int position(collector *c, st_ref r, size_t *out)
{
    size_t i = 0;
    if (c->index) {
        size_t h = ref_home(c, r);
        for (; c->index[h]; h = (h + 1) & (c->cap - 1)) {
            i = c->index[h] - 1;
            if (c->in.v[i].node == r.node && c->in.v[i].port == r.port) {
                *out = i;
                return ST_OK;
            }
        }
        i = c->in.n;
    } else {
        while (i < c->in.n && (c->in.v[i].node != r.node || c->in.v[i].port != r.port))
            i++;
    }
    *out = i;
    if (i < c->in.n) return ST_OK;
    if (c->in.n >= UINT32_MAX) return ST_ELIMIT;
    ST_TRY(st_vec_reserve(c->a, &c->in, 1));
    if (c->in.n >= FEW && (c->in.n + 1) * 2 > c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 8 * FEW;
        size_t *t = st_mem_zero(c->a, cap * sizeof *t);
        if (!t) return ST_ENOMEM;
        st_mem_free(c->a, c->index);
        c->index = t;
        c->cap = cap;
        for (size_t k = 0; k < c->in.n; k++)
            index_put(c, k);
    }
    c->in.v[c->in.n++] = r;
    if (c->index) index_put(c, i);
    return ST_OK;
}

/* `t` with refs turned into slots, collecting distinct refs in the order met (left to right). */
static int collect(collector *c, st_attr *t, st_attr **out)
{
    if (!t->has_refs) {
        *out = st_attr_retain(t);
        return ST_OK;
    }
    if (t->type == ST_SLOT) return ST_EINVAL;
    if (t->type == ST_REF) {
        size_t i;
        if (t->u.ref.node->graph != c->g || t->u.ref.port >= t->u.ref.node->op->n_out) return ST_EINVAL;
        ST_TRY(position(c, t->u.ref, &i));
        return st_attr_slot(c->a, (uint32_t)i, out);
    }
    st_attr **items = st_mem_zero(c->a, t->n * sizeof *items);
    if (!items) return ST_ENOMEM;
    int rc = ST_OK;
    size_t i = 0;
    for (; i < t->n && rc == ST_OK; i++)
        rc = collect(c, t->u.items[i], &items[i]);
    if (rc == ST_OK) rc = st_attr_seq(c->a, (st_attr_type)t->type, items, t->n, out);
    for (size_t k = 0; k < i; k++)
        st_attr_release(items[k]);
    st_mem_free(c->a, items);
    return rc;
}

static st_hash key_of(const st_alloc *a, const st_op *op, const st_attr *attr, const st_ref *in, size_t n_in,
                      bool meaning, bool *oom)
{
    size_t n = n_in + 2;
    st_hash small[16], *hs = n <= 16 ? small : st_mem_new(a, n * sizeof *hs);
    if (!hs) {
        *oom = true;
        return (st_hash){0, 0};
    }
    hs[0] = st_hash_bytes(op->name, strlen(op->name), 100 + op->version);
    hs[1] = attr->hash;
    for (size_t i = 0; i < n_in; i++) {
        const st_node *m = in[i].node;
        hs[i + 2] = meaning ? m->meaning : m->structure;
        hs[i + 2].hi += in[i].port * UINT64_C(0x9E3779B97F4A7C15);
    }
    st_hash h = st_hash_bytes(hs, n * sizeof *hs, 7);
    if (hs != small) st_mem_free(a, hs);
    return h;
}

static bool same_node(const st_node *n, const st_op *op, const st_attr *attr, const st_ref *in, size_t n_in)
{
    if (n->op != op || n->n_in != n_in) return false;
    for (size_t i = 0; i < n_in; i++)
        if (n->in[i].node != in[i].node || n->in[i].port != in[i].port) return false;
    return st_attr_equal(n->attr, attr);
}

static int intern(st_graph *g, const st_op *op, st_attr *expr, uint32_t flags, st_value *origin,
                  const st_hash *meaning, st_node **out, st_error *err)
{
    collector c = {.g = g, .a = g->alloc};
    st_attr *attr = NULL;
    st_node *fresh = NULL;
    int rc = collect(&c, expr, &attr);
    if (rc != ST_OK) {
        st_fail(err, rc, "cannot make a %s node: %s", op->name, st_code_text(rc));
        goto done;
    }
    bool oom = false;
    st_hash key = key_of(g->alloc, op, attr, c.in.v, c.in.n, false, &oom);
    st_hash mean = meaning ? *meaning : key_of(g->alloc, op, attr, c.in.v, c.in.n, true, &oom);
    fresh = st_mem_zero(g->alloc, sizeof *fresh);
    if (oom || !fresh) {
        rc = st_fail(err, ST_ENOMEM, "out of memory while making a %s node", op->name);
        goto done;
    }
    pthread_mutex_lock(&g->lock);
    g->asked++;
    size_t i = home(g, key);
    for (; g->table[i]; i = (i + 1) & (g->cap - 1)) {
        st_node *n = g->table[i];
        if (n == ST_GRAVE || !st_hash_eq(n->structure, key)) continue;
        if (!same_node(n, op, attr, c.in.v, c.in.n)) continue;
        atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
        atomic_fetch_or_explicit(&n->flags, flags & (ST_N_CALLER | ST_N_UNSHARED | ST_N_ONCE),
                                 memory_order_relaxed);
        g->shared++;
        pthread_mutex_unlock(&g->lock);
        *out = n;
        goto done;
    }
    rc = table_grow(g);
    if (rc != ST_OK) {
        pthread_mutex_unlock(&g->lock);
        st_fail(err, rc, "out of memory while making a %s node", op->name);
        goto done;
    }
    st_node *n = fresh;
    fresh = NULL;
    n->graph = g;
    atomic_init(&n->refs, 1);
    n->id = g->next_id++;
    n->op = op;
    n->attr = attr;
    n->in = c.in.v;
    n->n_in = c.in.n;
    n->structure = key;
    n->meaning = mean;
    n->plain = attr->plain;
    flags |= op->props & ST_P_TAKES_ROWS ? ST_N_VARIES : 0u;
    n->meta = (st_meta){NAN, NAN, NAN, NAN, 0};
    for (size_t k = 0; k < n->n_in; k++) {
        st_node_retain(n->in[k].node);
        n->plain &= n->in[k].node->plain;
        flags |= n->in[k].node->flags & (ST_N_VARIES | ST_N_ONCE);
    }
    atomic_init(&n->flags, flags);
    n->origin = st_value_retain(origin);
    table_put(g, n);
    pthread_mutex_unlock(&g->lock);
    attr = NULL;
    c.in.v = NULL;
    *out = n;
done:
    st_attr_release(attr);
    st_mem_free(g->alloc, c.in.v);
    st_mem_free(g->alloc, c.index);
    st_mem_free(g->alloc, fresh);
    return rc;
}

int st_graph_intern(st_graph *g, const st_op *op, st_attr *expr, uint32_t flags, st_value *origin,
                    st_node **out, st_error *err)
{
    return intern(g, op, expr, flags, origin, NULL, out, err);
}

int st_graph_intern_as(st_graph *g, const st_op *op, st_attr *expr, uint32_t flags, st_value *origin,
                       st_hash meaning, st_node **out, st_error *err)
{
    return intern(g, op, expr, flags, origin, &meaning, out, err);
}

st_graph_stats st_graph_get_stats(st_graph *g)
{
    pthread_mutex_lock(&g->lock);
    st_graph_stats s = {g->n, g->asked, g->shared};
    pthread_mutex_unlock(&g->lock);
    return s;
}

/* -- Reading nodes ------------------------------------------------------------------------- */

const st_op *st_node_op(const st_node *n) { return n->op; }
uint64_t st_node_id(const st_node *n) { return n->id; }
st_attr *st_node_attr(const st_node *n) { return n->attr; }
size_t st_node_n_in(const st_node *n) { return n->n_in; }
st_ref st_node_in(const st_node *n, size_t i) { return n->in[i]; }
uint32_t st_node_flags(const st_node *n) { return n->flags; }
st_hash st_node_structure(const st_node *n) { return n->structure; }
st_hash st_node_meaning(const st_node *n) { return n->meaning; }
bool st_node_is_plain(const st_node *n) { return n->plain; }
st_value *st_node_origin(const st_node *n) { return n->origin; }

st_meta st_node_meta(const st_node *n)
{
    pthread_mutex_lock(&n->graph->lock);
    st_meta m = n->meta;
    pthread_mutex_unlock(&n->graph->lock);
    return m;
}

void st_node_set_meta(st_node *n, st_meta m)
{
    pthread_mutex_lock(&n->graph->lock);
    n->meta = m;
    pthread_mutex_unlock(&n->graph->lock);
}

int st_node_bind(st_node *n, uint32_t port, st_value *v)
{
    st_graph *g = n->graph;
    if (port >= n->op->n_out) return ST_EINVAL;
    pthread_mutex_lock(&g->lock);
    if (!n->bound) n->bound = st_mem_zero(g->alloc, n->op->n_out * sizeof *n->bound);
    st_value *old = NULL;
    int rc = n->bound ? ST_OK : ST_ENOMEM;
    if (rc == ST_OK) {
        old = n->bound[port];
        n->bound[port] = st_value_retain(v);
    }
    pthread_mutex_unlock(&g->lock);
    st_value_release(old);
    return rc;
}

void st_node_unbind(st_node *n, uint32_t port, st_value *v)
{
    st_graph *g = n->graph;
    st_value *old = NULL;
    pthread_mutex_lock(&g->lock);
    if (n->bound && port < n->op->n_out && (!v || n->bound[port] == v)) {
        old = n->bound[port];
        n->bound[port] = NULL;
    }
    pthread_mutex_unlock(&g->lock);
    st_value_release(old);
}

bool st_node_is_bound(st_node *n)
{
    bool any = false;
    pthread_mutex_lock(&n->graph->lock);
    for (uint32_t p = 0; n->bound && p < n->op->n_out; p++)
        any |= n->bound[p] != NULL;
    pthread_mutex_unlock(&n->graph->lock);
    return any;
}

st_value *st_node_bound(st_node *n, uint32_t port)
{
    st_graph *g = n->graph;
    pthread_mutex_lock(&g->lock);
    st_value *v = n->bound && port < n->op->n_out ? st_value_retain(n->bound[port]) : NULL;
    pthread_mutex_unlock(&g->lock);
    return v;
}

/* -- Walks --------------------------------------------------------------------------------- */

int st_graph_order(st_graph *g, const st_ref *roots, size_t n, st_node ***out, size_t *n_out)
{
    struct frame {
        st_node *n;
        size_t i;
    };
    ST_VEC(struct frame) stack = {0};
    ST_VEC(st_node *) order = {0};
    int rc = ST_OK;
    pthread_mutex_lock(&g->lock);
    uint64_t walk = ++g->walk;
    for (size_t r = 0; r < n && rc == ST_OK; r++) {
        if (roots[r].node->mark == walk) continue;
        roots[r].node->mark = walk;
        rc = st_vec_reserve(g->alloc, &stack, 1);
        if (rc != ST_OK) break;
        stack.v[stack.n++] = (struct frame){roots[r].node, 0};
        while (stack.n && rc == ST_OK) {
            struct frame *f = &stack.v[stack.n - 1];
            if (f->i < f->n->n_in) {
                st_node *m = f->n->in[f->i++].node;
                if (m->mark == walk) continue;
                m->mark = walk;
                rc = st_vec_reserve(g->alloc, &stack, 1);
                if (rc == ST_OK) stack.v[stack.n++] = (struct frame){m, 0};
            } else {
                rc = st_vec_reserve(g->alloc, &order, 1);
                if (rc == ST_OK) order.v[order.n++] = f->n;
                stack.n--;
            }
        }
    }
    pthread_mutex_unlock(&g->lock);
    st_vec_free(g->alloc, &stack);
    if (rc != ST_OK) {
        st_vec_free(g->alloc, &order);
        return rc;
    }
    *out = order.v;
    *n_out = order.n;
    return ST_OK;
}

static int check_slots(const st_attr *t, size_t n_in, unsigned char *seen)
{
    if (!t->has_refs) return ST_OK;
    if (t->type == ST_REF) return ST_EVERIFY;
    if (t->type == ST_SLOT) {
        if (t->u.i < 0 || (size_t)t->u.i >= n_in) return ST_EVERIFY;
        seen[t->u.i] = 1;
        return ST_OK;
    }
    for (size_t i = 0; i < t->n; i++)
        ST_TRY(check_slots(t->u.items[i], n_in, seen));
    return ST_OK;
}

int st_graph_verify(st_graph *g, st_error *err)
{
    int rc = ST_OK;
    pthread_mutex_lock(&g->lock);
    size_t alive = 0;
    for (size_t i = 0; i < g->cap && rc == ST_OK; i++) {
        st_node *n = g->table[i];
        if (!n || n == ST_GRAVE) continue;
        alive++;
        unsigned long long id = (unsigned long long)n->id;
        unsigned char *seen = st_mem_zero(g->alloc, n->n_in + 1);
        if (!seen) {
            rc = st_fail(err, ST_ENOMEM, "out of memory while verifying");
            break;
        }
        if (check_slots(n->attr, n->n_in, seen) != ST_OK)
            rc = st_fail(err, ST_EVERIFY, "node %llu (%s): a slot names no input", id, n->op->name);
        for (size_t k = 0; k < n->n_in && rc == ST_OK; k++) {
            const st_node *m = n->in[k].node;
            if (!seen[k])
                rc = st_fail(err, ST_EVERIFY, "node %llu (%s): input %zu is not used", id, n->op->name, k);
            else if (m->graph != g || m->id >= n->id)
                rc = st_fail(err, ST_EVERIFY, "node %llu (%s): input %zu is not older than it", id,
                             n->op->name, k);
            else if (n->in[k].port >= m->op->n_out)
                rc = st_fail(err, ST_EVERIFY, "node %llu (%s): input %zu has no port %u", id, n->op->name, k,
                             (unsigned)n->in[k].port);
        }
        st_mem_free(g->alloc, seen);
        if (rc != ST_OK) break;
        bool oom = false;
        st_hash key = key_of(g->alloc, n->op, n->attr, n->in, n->n_in, false, &oom);
        if (oom)
            rc = st_fail(err, ST_ENOMEM, "out of memory while verifying");
        else if (!st_hash_eq(key, n->structure))
            rc = st_fail(err, ST_EVERIFY, "node %llu (%s): its key is stale", id, n->op->name);
        else {
            size_t h = home(g, key);
            while (g->table[h] && g->table[h] != n)
                h = (h + 1) & (g->cap - 1);
            if (g->table[h] != n)
                rc = st_fail(err, ST_EVERIFY, "node %llu (%s): the table does not find it", id, n->op->name);
        }
    }
    if (rc == ST_OK && alive != g->n)
        rc = st_fail(err, ST_EVERIFY, "the table counts %zu nodes but holds %zu", g->n, alive);
    pthread_mutex_unlock(&g->lock);
    return rc;
}
