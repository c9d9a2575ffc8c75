/* lower.c - from captured entries to functional nodes (see stratum/lower.h).
 *
 * The walk visits entries in the order in which the reference evaluates them, because two things depend
 * on that order: which error is reported when several nodes fail (the first), and whether an estimator
 * is the last of its pipeline (an apply that is met while another one waits for it transforms instead of
 * predicting).  It is a loop over frames, never a recursion: a chain of 100,000 entries is nothing.
 *
 * A frame's work list has the children to visit and, for the branches of a condition, marks where a
 * guard opens and closes: a state made inside a branch exists only if the branch was taken when
 * fitting.  A pass after the walk, from the roots down, finds for each entry with a state under which
 * conditions it was needed; its state is then itself a choice between the state and "missing".  (One
 * pass over the entries: branches that share their entries do not multiply.)
 */
#include "../graph/graph.h"
#include "stratum/lower.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct entry {
    st_cap_kind kind;
    const st_op *op;
    st_attr *fields;
    uint32_t *children;
    size_t n;
    uint32_t flags;
    bool stateful; /* it, or something below it, learns when fitted */
    st_value *origin;
} entry;

/* An estimator that was built or asked about: asked once for all folds and candidates. */
typedef struct known {
    st_attr *key;
    st_value *built;
    uint32_t flags;
} known;

struct st_plan {
    st_graph *g;
    const st_alloc *a;
    st_lower_ops ops;
    st_lower_host host;
    ST_VEC(entry) e;
    known *known; /* open addressing on the key's hash; cap is a power of two */
    size_t known_n, known_cap;
};

typedef struct slot {
    st_attr *value, *state; /* NULL: not met, no state */
    st_attr *raw_state;     /* the state without its guard */
    bool running, inner;
} slot;

struct st_scope {
    st_plan *p;
    st_scope *fitted;
    size_t n, room; /* entries of the plan that the scope knows; places in the arrays below */
    char mode[24];
    bool fits;        /* "fit" in mode, or preview */
    bool conditional; /* a condition was met while fitting */
    uint32_t flags;
    int64_t seed;
    st_attr **bound, **outcome;
    slot *slots;
    ST_VEC(uint32_t) roots; /* entries that were asked for */
};

/* -- Plans --------------------------------------------------------------------------------- */

int st_plan_new(st_graph *g, const st_lower_ops *ops, const st_lower_host *host, st_plan **out)
{
    st_plan *p = st_mem_zero(g->alloc, sizeof *p);
    if (!p) return ST_ENOMEM;
    p->g = g;
    p->a = g->alloc;
    p->ops = *ops;
    p->host = *host;
    *out = p;
    return ST_OK;
}

void st_plan_free(st_plan *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->e.n; i++) {
        st_attr_release(p->e.v[i].fields);
        st_value_release(p->e.v[i].origin);
        st_mem_free(p->a, p->e.v[i].children);
    }
    for (size_t i = 0; i < p->known_cap; i++) {
        st_attr_release(p->known[i].key);
        st_value_release(p->known[i].built);
    }
    st_mem_free(p->a, p->known);
    st_vec_free(p->a, &p->e);
    st_mem_free(p->a, p);
}

static int slots_below(const st_attr *t, size_t n)
{
    if (!t->has_refs) return ST_OK;
    if (t->type == ST_REF) return ST_EINVAL;
    if (t->type == ST_SLOT) return (size_t)t->u.i < n ? ST_OK : ST_EINVAL;
    for (size_t i = 0; i < t->n; i++)
        ST_TRY(slots_below(t->u.items[i], n));
    return ST_OK;
}

static const size_t min_fields[ST_N_CAP_KINDS] = {
    [ST_CAP_VAR] = 4,          [ST_CAP_VALUE] = 1,     [ST_CAP_APPLY] = ST_APPLY_N,
    [ST_CAP_APPLIED] = 1,      [ST_CAP_CONCAT] = 3,    [ST_CAP_FREEZE] = 1,
    [ST_CAP_IF] = 3,           [ST_CAP_MATCH] = 5,     [ST_CAP_PASS] = 1,
    [ST_CAP_SUBSAMPLE] = 3,    [ST_CAP_CHOICE] = 2,    [ST_CAP_NUMBER] = 2,
    [ST_CAP_CHOICE_MATCH] = 2, [ST_CAP_ESTIMATOR] = 2,
};

static bool is_seq(const st_attr *t) { return t->type == ST_TUPLE || t->type == ST_LIST; }
static bool is_flag(const st_attr *t) { return t->type == ST_BOOL || (ST_FAULT(2) && t->type == ST_INT); }

/* What the walk takes for granted of the fields of a kind. */
static bool well_formed(const st_plan *p, st_cap_kind kind, const st_attr *fields, const uint32_t *children)
{
    st_attr *const *f = fields->u.items;
    switch (kind) {
    case ST_CAP_VAR: return is_flag(f[2]) && is_flag(f[3]);
    case ST_CAP_APPLIED: return f[0]->type == ST_SLOT;
    case ST_CAP_MATCH: return is_seq(f[1]) && is_seq(f[2]) && f[1]->n == f[2]->n && is_flag(f[4]);
    case ST_CAP_CHOICE:
        return is_seq(f[1]) && f[1]->n > 0 &&
               (f[0]->type == ST_NONE ||
                (f[0]->type == ST_INT && f[0]->u.i >= 0 && (size_t)f[0]->u.i < f[1]->n));
    case ST_CAP_CHOICE_MATCH: {
        if (f[0]->type != ST_SLOT || !is_seq(f[1])) return false;
        const entry *c = &p->e.v[children[f[0]->u.i]];
        return c->kind == ST_CAP_CHOICE && c->fields->u.items[1]->n == f[1]->n;
    }
    case ST_CAP_ESTIMATOR: return f[0]->type == ST_VALUE;
    default: return true;
    }
}

int st_plan_add(st_plan *p, st_cap_kind kind, const st_op *op, st_attr *fields, const uint32_t *children,
                size_t n, uint32_t flags, st_value *origin, uint32_t *index, st_error *err)
{
    if ((unsigned)kind >= ST_N_CAP_KINDS || fields->type != ST_TUPLE || fields->n < min_fields[kind])
        return st_fail(err, ST_EINVAL, "captured entry of kind %d has %zu fields", (int)kind, fields->n);
    if ((kind == ST_CAP_COMPUTE) != (op != NULL))
        return st_fail(err, ST_EINVAL, "captured entry of kind %d: operator missing or not wanted",
                       (int)kind);
    for (size_t i = 0; i < n; i++)
        if (children[i] >= p->e.n)
            return st_fail(err, ST_ECYCLE, "captured entry %zu names child %u, which comes later", p->e.n,
                           (unsigned)children[i]);
    if (slots_below(fields, n) != ST_OK)
        return st_fail(err, ST_EINVAL, "captured entry %zu: a slot names no child", p->e.n);
    if (!well_formed(p, kind, fields, children))
        return st_fail(err, ST_EINVAL, "captured entry %zu: its fields are not those of kind %d", p->e.n,
                       (int)kind);
    if (p->e.n >= UINT32_MAX) return st_fail(err, ST_ELIMIT, "too many captured entries");
    int rc = st_vec_reserve(p->a, &p->e, 1);
    uint32_t *copy = rc == ST_OK ? st_mem_new(p->a, n * sizeof *copy) : NULL;
    if (!copy) return st_fail(err, ST_ENOMEM, "out of memory while capturing");
    if (n) memcpy(copy, children, n * sizeof *copy);
    bool stateful = kind == ST_CAP_APPLY || kind == ST_CAP_CONCAT || kind == ST_CAP_FREEZE;
    for (size_t i = 0; i < n; i++)
        stateful |= p->e.v[children[i]].stateful;
    p->e.v[p->e.n] =
        (entry){kind, op, st_attr_retain(fields), copy, n, flags, stateful, st_value_retain(origin)};
    *index = (uint32_t)p->e.n++;
    return ST_OK;
}

st_graph *st_plan_graph(const st_plan *p) { return p->g; }
size_t st_plan_len(const st_plan *p) { return p->e.n; }
st_cap_kind st_plan_kind(const st_plan *p, uint32_t i) { return p->e.v[i].kind; }
st_value *st_plan_origin(const st_plan *p, uint32_t i) { return p->e.v[i].origin; }
st_attr *st_plan_fields(const st_plan *p, uint32_t i) { return p->e.v[i].fields; }

size_t st_plan_children(const st_plan *p, uint32_t i, const uint32_t **children)
{
    *children = p->e.v[i].children;
    return p->e.v[i].n;
}

/* What is known of `key`, made if new; the pointer is good until the next call. */
static int known_get(st_plan *p, st_attr *key, known **out, bool *fresh)
{
    if ((p->known_n + 1) * 2 > p->known_cap) {
        size_t cap = p->known_cap ? p->known_cap * 2 : 16;
        known *t = st_mem_zero(p->a, cap * sizeof *t);
        if (!t) return ST_ENOMEM;
        for (size_t i = 0; i < p->known_cap; i++) {
            if (!p->known[i].key) continue;
            size_t h = (size_t)p->known[i].key->hash.lo & (cap - 1);
            while (t[h].key)
                h = (h + 1) & (cap - 1);
            t[h] = p->known[i];
        }
        st_mem_free(p->a, p->known);
        p->known = t;
        p->known_cap = cap;
    }
    size_t h = (size_t)key->hash.lo & (p->known_cap - 1);
    while (p->known[h].key && !st_attr_equal(p->known[h].key, key))
        h = (h + 1) & (p->known_cap - 1);
    *fresh = !p->known[h].key;
    *out = &p->known[h];
    return ST_OK;
}

/* -- Scopes -------------------------------------------------------------------------------- */

int st_scope_new(st_plan *p, const char *mode, uint32_t flags, int64_t subsample_seed, st_scope *fitted,
                 st_scope **out)
{
    size_t n = p->e.n;
    if (strlen(mode) >= sizeof((st_scope *)0)->mode) return ST_EINVAL;
    st_scope *s = st_mem_zero(p->a, sizeof *s);
    if (!s) return ST_ENOMEM;
    s->p = p;
    s->n = s->room = n;
    s->fitted = fitted;
    snprintf(s->mode, sizeof s->mode, "%s", mode);
    s->fits = strstr(mode, "fit") != NULL || strcmp(mode, "preview") == 0;
    s->flags = s->fits ? flags : flags & ~(uint32_t)ST_SCOPE_SUBSAMPLE; /* only fitting subsamples */
    s->seed = subsample_seed;
    s->bound = st_mem_zero(p->a, n * sizeof *s->bound);
    s->outcome = st_mem_zero(p->a, n * sizeof *s->outcome);
    s->slots = st_mem_zero(p->a, n * sizeof *s->slots);
    if (!s->bound || !s->outcome || !s->slots) {
        st_mem_free(p->a, s->bound);
        st_mem_free(p->a, s->outcome);
        st_mem_free(p->a, s->slots);
        st_mem_free(p->a, s);
        return ST_ENOMEM;
    }
    *out = s;
    return ST_OK;
}

static void slot_clear(slot *k)
{
    st_attr_release(k->value);
    st_attr_release(k->state);
    st_attr_release(k->raw_state);
    *k = (slot){0};
}

void st_scope_free(st_scope *s)
{
    if (!s) return;
    st_plan *p = s->p;
    for (size_t i = 0; i < s->n; i++) {
        st_attr_release(s->bound[i]);
        st_attr_release(s->outcome[i]);
        slot_clear(&s->slots[i]);
    }
    st_vec_free(p->a, &s->roots);
    st_mem_free(p->a, s->bound);
    st_mem_free(p->a, s->outcome);
    st_mem_free(p->a, s->slots);
    st_mem_free(p->a, s);
}

/* `*v` with room for `m` items instead of `n`, the new ones zero. */
static int grow(const st_alloc *a, void **v, size_t n, size_t m, size_t size)
{
    char *p = a->resize(a->ud, *v, m * size);
    if (!p) return ST_ENOMEM;
    memset(p + n * size, 0, (m - n) * size);
    *v = p;
    return ST_OK;
}

int st_scope_extend(st_scope *s)
{
    size_t n = s->n, m = s->p->e.n, room = m + m / 2; /* room to spare: a plan grows an entry at a time */
    if (m <= s->room) {
        s->n = m;
        return ST_OK;
    }
    ST_TRY(grow(s->p->a, (void **)&s->bound, n, room, sizeof *s->bound));
    ST_TRY(grow(s->p->a, (void **)&s->outcome, n, room, sizeof *s->outcome));
    ST_TRY(grow(s->p->a, (void **)&s->slots, n, room, sizeof *s->slots));
    s->room = room;
    s->n = m;
    return ST_OK;
}

static void set_attr(st_attr **where, st_attr *t)
{
    st_attr *old = *where;
    *where = st_attr_retain(t);
    st_attr_release(old);
}

int st_scope_bind(st_scope *s, uint32_t i, st_attr *expr)
{
    if (i >= s->n) return ST_EINVAL;
    set_attr(&s->bound[i], expr);
    return ST_OK;
}

int st_scope_choose(st_scope *s, uint32_t i, st_attr *outcome)
{
    if (i >= s->n) return ST_EINVAL;
    const entry *e = &s->p->e.v[i];
    if (e->kind == ST_CAP_CHOICE) {
        size_t n = e->fields->u.items[1]->n;
        if (outcome->type != ST_INT || outcome->u.i < 0 || (size_t)outcome->u.i >= n) return ST_EINVAL;
    } else if (e->kind != ST_CAP_NUMBER) {
        return ST_EINVAL;
    }
    set_attr(&s->outcome[i], outcome);
    return ST_OK;
}

int st_scope_inherit(st_scope *s, const st_scope *from)
{
    if (s->p != from->p) return ST_EINVAL;
    for (size_t i = 0; i < s->n && i < from->n; i++) {
        if (from->bound[i]) set_attr(&s->bound[i], from->bound[i]);
        if (from->outcome[i]) set_attr(&s->outcome[i], from->outcome[i]);
    }
    return ST_OK;
}

st_attr *st_scope_state(const st_scope *s, uint32_t i) { return i < s->n ? s->slots[i].state : NULL; }
st_attr *st_scope_value(const st_scope *s, uint32_t i) { return i < s->n ? s->slots[i].value : NULL; }

/* -- The walk ------------------------------------------------------------------------------ */

/* A work item: a child, or a mark. */
typedef enum mark { VISIT, GUARD, UNGUARD } mark;

typedef struct work {
    mark what;
    uint32_t i; /* child index in the plan; the option's number for GUARD */
} work;

typedef struct frame {
    uint32_t i;
    size_t from, next, to; /* its part of the work list */
    bool applies;
} frame;

typedef struct walk {
    st_scope *s;
    st_plan *p;
    st_error *err;
    ST_VEC(frame) stack;
    ST_VEC(work) work;
    size_t applying; /* applies on the stack */
} walk;

static int add_work(walk *w, mark what, uint32_t i)
{
    ST_TRY(st_vec_reserve(w->p->a, &w->work, 1));
    w->work.v[w->work.n].what = what;
    w->work.v[w->work.n++].i = i;
    return ST_OK;
}

/* Visit the children that slots of `t` name, left to right. */
static int add_slots(walk *w, const entry *e, const st_attr *t)
{
    if (!t->has_refs) return ST_OK;
    if (t->type == ST_SLOT) return add_work(w, VISIT, e->children[t->u.i]);
    for (size_t i = 0; i < t->n; i++)
        ST_TRY(add_slots(w, e, t->u.items[i]));
    return ST_OK;
}

static st_attr *field(const entry *e, size_t i) { return e->fields->u.items[i]; }

static const st_attr *dict_get(const st_attr *d, const char *key)
{
    if (d->type != ST_DICT) return NULL;
    for (size_t i = 0; i + 1 < d->n; i += 2)
        if (d->u.items[i]->type == ST_STR && strcmp(d->u.items[i]->u.s, key) == 0) return d->u.items[i + 1];
    return NULL;
}

/* The outcome of a choice in this scope. */
static size_t outcome_of(const st_scope *s, uint32_t i)
{
    const entry *e = &s->p->e.v[i];
    if (s->outcome[i] && !ST_FAULT(5)) {
        size_t k = (size_t)s->outcome[i]->u.i;
        return ST_FAULT(4) ? (k + 1) % field(e, 1)->n : k;
    }
    bool preview = strcmp(s->mode, "preview") == 0;
    if (preview || field(e, 0)->type == ST_NONE) return 0;
    return (size_t)field(e, 0)->u.i;
}

/* The result of a choice-match in this scope. */
static int result_of(walk *w, const entry *e, size_t *k)
{
    uint32_t c = e->children[field(e, 0)->u.i];
    st_attr *given = w->s->bound[c];
    *k = given ? 0 : outcome_of(w->s, c);
    if (ST_FAULT(10)) *k = (*k + 1) % field(e, 1)->n; /* planted: another branch */
    if (given) ST_TRY(w->p->host.match(w->p->host.ud, e->origin, given, k, w->err));
    return *k < field(e, 1)->n ? ST_OK : st_fail(w->err, ST_EINVAL, "a choice has no outcome %zu", *k);
}

static int kwargs_work(walk *w, const entry *e, const char *const *methods)
{
    const st_attr *kw = field(e, ST_APPLY_KWARGS);
    for (; *methods; methods++) {
        const st_attr *t = dict_get(kw, *methods);
        if (t) ST_TRY(add_slots(w, e, t));
    }
    return ST_OK;
}

/* The methods whose keyword arguments an apply may need. */
static void kwarg_methods(const st_scope *s, bool inner, const char *out[5])
{
    size_t n = 0;
    if (s->fits) {
        out[n++] = "fit";
        out[n++] = "fit_transform";
    } else {
        if (!inner && strcmp(s->mode, "transform") != 0) out[n++] = s->mode;
        out[n++] = "transform";
    }
    if (inner || s->fits || strcmp(s->mode, "predict") != 0) out[n++] = "predict";
    out[n] = NULL;
}

static bool wants_y(const walk *w, const entry *e, bool inner)
{
    const st_attr *un = field(e, ST_APPLY_UNSUPERVISED);
    if (w->s->fits) return !(is_flag(un) && un->u.i);
    return !inner && strcmp(w->s->mode, "score") == 0;
}

/* List what entry `i` needs, in the reference's order. */
static int list_work(walk *w, uint32_t i, bool inner)
{
    st_scope *s = w->s;
    const entry *e = &w->p->e.v[i];
    switch (e->kind) {
    case ST_CAP_VAR:
    case ST_CAP_MODE:
    case ST_CAP_ASK_SUBSAMPLE:
    case ST_CAP_NUMBER:
    case ST_N_CAP_KINDS: return ST_OK;
    case ST_CAP_VALUE:
    case ST_CAP_PASS:
    case ST_CAP_APPLIED: return add_slots(w, e, field(e, 0));
    case ST_CAP_FREEZE: return s->fits || ST_FAULT(12) ? add_slots(w, e, field(e, 0)) : ST_OK;
    case ST_CAP_COMPUTE:
    case ST_CAP_CONCAT:
    case ST_CAP_SUBSAMPLE: return add_slots(w, e, e->fields);
    case ST_CAP_ESTIMATOR: return add_slots(w, e, field(e, 1));
    case ST_CAP_CHOICE: return add_slots(w, e, field(e, 1)->u.items[outcome_of(s, i)]);
    case ST_CAP_CHOICE_MATCH: {
        size_t k;
        ST_TRY(add_slots(w, e, field(e, 0)));
        ST_TRY(result_of(w, e, &k));
        return add_slots(w, e, field(e, 1)->u.items[k]);
    }
    case ST_CAP_IF:
        ST_TRY(add_slots(w, e, field(e, 0)));
        for (uint32_t k = 0; k < 2; k++) {
            ST_TRY(add_work(w, GUARD, k));
            ST_TRY(add_slots(w, e, field(e, 1 + k)));
            ST_TRY(add_work(w, UNGUARD, k));
        }
        return ST_OK;
    case ST_CAP_MATCH: {
        ST_TRY(add_slots(w, e, field(e, 0)));
        size_t n = field(e, 2)->n;
        for (uint32_t k = 0; k <= n; k++) {
            const st_attr *t = k < n ? field(e, 2)->u.items[k] : field(e, 3);
            if (k == n && !field(e, 4)->u.i) break;
            ST_TRY(add_work(w, GUARD, k));
            ST_TRY(add_slots(w, e, t));
            ST_TRY(add_work(w, UNGUARD, k));
        }
        return ST_OK;
    }
    case ST_CAP_APPLY: {
        const char *methods[5];
        kwarg_methods(s, inner, methods);
        if (s->fits) ST_TRY(add_slots(w, e, field(e, ST_APPLY_ESTIMATOR)));
        ST_TRY(add_slots(w, e, field(e, ST_APPLY_X)));
        if (wants_y(w, e, inner)) ST_TRY(add_slots(w, e, field(e, ST_APPLY_Y)));
        if (s->fits)
            for (size_t f = ST_APPLY_COLS; f <= ST_APPLY_ALLOW_REJECT; f++)
                ST_TRY(add_slots(w, e, field(e, f)));
        ST_TRY(add_slots(w, e, field(e, ST_APPLY_NO_CACHE)));
        return kwargs_work(w, e, methods);
    }
    }
    return ST_EINVAL;
}

/* `t` (a field of entry `i`) with the children's expressions put in. */
static int expr_of(walk *w, const entry *e, st_attr *t, st_attr **out)
{
    if (!t->has_refs) {
        *out = st_attr_retain(t);
        return ST_OK;
    }
    st_attr *small[16] = {0}, **by = e->n <= 16 ? small : st_mem_new(w->p->a, e->n * sizeof *by);
    if (!by) return ST_ENOMEM;
    for (size_t k = 0; k < e->n; k++)
        by[k] = w->s->slots[e->children[k]].value;
    int rc = st_attr_substitute(w->p->a, t, by, e->n, out);
    if (by != small) st_mem_free(w->p->a, by);
    return rc;
}

/* A tuple of `n` parts, which it takes over (releases), also when it fails or a part is NULL. */
static int tuple_of(walk *w, st_attr **parts, size_t n, st_attr **out)
{
    int rc = ST_OK;
    for (size_t i = 0; i < n; i++)
        if (!parts[i]) rc = ST_ENOMEM;
    if (rc == ST_OK) rc = st_attr_seq(w->p->a, ST_TUPLE, parts, n, out);
    for (size_t i = 0; i < n; i++)
        st_attr_release(parts[i]);
    return rc;
}

/* The node op(expr), as a ref expression to one of its ports; takes over `expr`. */
static int make_node(walk *w, const st_op *op, st_attr *expr, uint32_t flags, st_value *origin, uint32_t port,
                     st_attr **out, st_attr **out2)
{
    st_node *n;
    if (w->s->flags & ST_SCOPE_SMALL) flags |= ST_N_SMALL;
    int rc = st_graph_intern(w->p->g, op, expr, flags, origin, &n, w->err);
    st_attr_release(expr);
    if (rc != ST_OK) return rc;
    rc = st_attr_ref(w->p->a, (st_ref){n, port}, out);
    if (rc == ST_OK && out2) {
        rc = st_attr_ref(w->p->a, (st_ref){n, port + 1}, out2);
        if (rc != ST_OK) {
            st_attr_release(*out);
            *out = NULL;
        }
    }
    st_node_release(n);
    return rc;
}

static st_attr *text(walk *w, const char *s)
{
    st_attr *t = NULL;
    return st_attr_str(w->p->a, s, strlen(s), &t) == ST_OK ? t : NULL;
}

static st_attr *flag(walk *w, bool b)
{
    st_attr *t = NULL;
    return st_attr_bool(w->p->a, b, &t) == ST_OK ? t : NULL;
}

static st_attr *none(walk *w)
{
    st_attr *t = NULL;
    return st_attr_none(w->p->a, &t) == ST_OK ? t : NULL;
}

static st_attr *number(walk *w, int64_t i)
{
    st_attr *t = NULL;
    return st_attr_int(w->p->a, i, &t) == ST_OK ? t : NULL;
}

/* A node that fails the way the reference fails when something is not there. */
static int make_missing(walk *w, const char *kind, st_attr *what, st_value *origin, st_attr **out)
{
    st_attr *parts[2] = {text(w, kind), st_attr_retain(what)}, *expr;
    ST_TRY(tuple_of(w, parts, 2, &expr));
    return make_node(w, w->p->ops.missing, expr, 0, origin, 0, out, NULL);
}

static int missing_attribute(walk *w, const char *what, st_value *origin, st_attr **out)
{
    st_attr *t = text(w, what);
    if (!t) return ST_ENOMEM;
    int rc = make_missing(w, "attribute", t, origin, out);
    st_attr_release(t);
    return rc;
}

/* `t` as a ref: constants and trees become a constant node. */
static int as_ref(walk *w, st_attr *t, st_attr **out)
{
    if (t->type == ST_REF) {
        *out = st_attr_retain(t);
        return ST_OK;
    }
    st_attr *parts[1] = {st_attr_retain(t)}, *expr;
    ST_TRY(tuple_of(w, parts, 1, &expr));
    return make_node(w, w->p->ops.constant, expr, 0, NULL, 0, out, NULL);
}

/* select(cond, keys, has default, options); takes over nothing. */
static int make_select(walk *w, st_attr *cond, st_attr *keys, st_attr *has_default, st_attr *const *options,
                       size_t n, st_value *origin, st_attr **out)
{
    st_attr *list = NULL, **refs = st_mem_zero(w->p->a, n * sizeof *refs);
    if (!refs) return ST_ENOMEM;
    int rc = ST_OK;
    for (size_t k = 0; k < n && rc == ST_OK; k++)
        rc = as_ref(w, options[k], &refs[k]);
    if (rc == ST_OK) rc = st_attr_seq(w->p->a, ST_LIST, refs, n, &list);
    for (size_t k = 0; k < n; k++)
        st_attr_release(refs[k]);
    st_mem_free(w->p->a, refs);
    if (rc != ST_OK) return rc;
    st_attr *c = NULL;
    rc = as_ref(w, cond, &c); /* the condition is input 0 */
    if (rc != ST_OK) {
        st_attr_release(list);
        return rc;
    }
    st_attr *parts[4] = {c, st_attr_retain(keys), st_attr_retain(has_default), list}, *expr;
    ST_TRY(tuple_of(w, parts, 4, &expr));
    return make_node(w, w->p->ops.select, expr, 0, origin, 0, out, NULL);
}

/* The state that entry `i` was fitted to; a node that fails if it was not. */
static int state_of(walk *w, uint32_t i, const char *lack, st_attr **out)
{
    /* While fitting, what asks for a state has just had it made: no condition stands between. */
    const st_scope *f = w->s->fits ? w->s : w->s->fitted;
    st_attr *t = !f || i >= f->n ? NULL : w->s->fits ? f->slots[i].raw_state : f->slots[i].state;
    if (t) {
        *out = st_attr_retain(t);
        return ST_OK;
    }
    return missing_attribute(w, lack, w->p->e.v[i].origin, out);
}

#define NO_ESTIMATOR "'Apply' object has no attribute 'estimator_'"
#define NO_COLUMNS "'Concat' object has no attribute 'all_outputs_'"
#define NO_FROZEN "'FreezeAfterFit' object has no attribute 'value_'"

/* What is known of a constant estimator expression. */
static int estimator_flags(walk *w, st_attr *est, uint32_t *flags)
{
    bool fresh;
    known *k;
    ST_TRY(known_get(w->p, est, &k, &fresh));
    if (fresh) {
        uint32_t f = 0;
        if (est->type == ST_VALUE) ST_TRY(w->p->host.flags(w->p->host.ud, est->u.v, &f, w->err));
        ST_TRY(known_get(w->p, est, &k, &fresh)); /* the host may have called back */
        if (fresh) {
            k->key = st_attr_retain(est);
            w->p->known_n++;
        }
        k->flags = f;
    }
    *flags = k->flags;
    return ST_OK;
}

/* The keyword arguments of `methods` that are not None, as a dict; None if there are none. */
static int make_kwargs(walk *w, const entry *e, const char *const *methods, st_attr **out)
{
    st_attr *items[8];
    size_t n = 0;
    int rc = ST_OK;
    for (; *methods && rc == ST_OK; methods++) {
        const st_attr *t = dict_get(field(e, ST_APPLY_KWARGS), *methods);
        if (!t || t->type == ST_NONE) continue;
        items[n] = text(w, *methods);
        if (!items[n]) {
            rc = ST_ENOMEM;
            break;
        }
        st_attr *x = NULL;
        rc = expr_of(w, e, (st_attr *)t, &x);
        if (rc != ST_OK) {
            st_attr_release(items[n]);
            break;
        }
        items[n + 1] = x;
        n += 2;
    }
    if (rc == ST_OK) rc = n ? st_attr_seq(w->p->a, ST_DICT, items, n, out) : st_attr_none(w->p->a, out);
    for (size_t i = 0; i < n; i++)
        st_attr_release(items[i]);
    return rc;
}

/* The flags that a node takes from the node of its state. */
static uint32_t state_flags(const st_attr *state)
{
    if (state->type != ST_REF) return ST_N_CALLER;
    return state->u.ref.node->flags & (ST_N_CALLER | ST_N_FREE);
}

static int make_call(walk *w, const entry *e, const char *mode, bool inner, st_attr *state, bool with_y,
                     const char *const *methods, st_attr **out)
{
    st_attr *x = NULL, *y = NULL, *nc = NULL, *kw = NULL, *expr;
    int rc = expr_of(w, e, field(e, ST_APPLY_X), &x);
    if (rc == ST_OK) rc = with_y ? expr_of(w, e, field(e, ST_APPLY_Y), &y) : st_attr_none(w->p->a, &y);
    if (rc == ST_OK) rc = expr_of(w, e, field(e, ST_APPLY_NO_CACHE), &nc);
    if (rc == ST_OK) rc = make_kwargs(w, e, methods, &kw);
    st_attr *parts[7] = {text(w, mode), flag(w, inner), st_attr_retain(state), x, y, nc, kw};
    int rc2 = tuple_of(w, parts, 7, &expr);
    if (rc != ST_OK) {
        if (rc2 == ST_OK) st_attr_release(expr);
        return rc;
    }
    if (rc2 != ST_OK) return rc2;
    return make_node(w, w->p->ops.call, expr, state_flags(state), e->origin, 0, out, NULL);
}

static int make_apply(walk *w, const entry *e, bool inner, uint32_t i, st_attr **value, st_attr **state)
{
    st_scope *s = w->s;
    const char *methods[5];
    if (!s->fits) {
        st_attr *st = NULL;
        ST_TRY(state_of(w, i, NO_ESTIMATOR, &st));
        kwarg_methods(s, inner, methods);
        int rc =
            make_call(w, e, inner ? "transform" : s->mode, inner, st, wants_y(w, e, inner), methods, value);
        st_attr_release(st);
        return rc;
    }
    st_attr *est = NULL;
    ST_TRY(expr_of(w, e, field(e, ST_APPLY_ESTIMATOR), &est));
    uint32_t f = 0;
    bool fixed = est->type == ST_VALUE;
    int rc = fixed ? estimator_flags(w, est, &f) : ST_OK;
    if (rc != ST_OK) {
        st_attr_release(est);
        return rc;
    }
    bool whole = strcmp(s->mode, "fit") == 0 && !inner; /* only fit() is asked for */
    bool predictor =
        fixed && !(f & ST_EST_FIT_TRANSFORM) && ((f & ST_EST_PREDICT) || !(f & ST_EST_TRANSFORM));
    /* A predictor is fitted by one node and applied by another, so that "fit", "fit_transform" and a
     * preview share the fit. */
    const char *method = whole || predictor ? "fit" : "fit_transform";
    const char *fit_only[] = {"fit", NULL};
    if (!predictor) kwarg_methods(s, inner, methods);
    st_attr *parts[13] = {0}, *expr = NULL;
    parts[0] = text(w, method);
    parts[1] = est;
    rc = expr_of(w, e, field(e, ST_APPLY_X), &parts[2]);
    if (rc == ST_OK)
        rc = wants_y(w, e, inner) ? expr_of(w, e, field(e, ST_APPLY_Y), &parts[3])
                                  : st_attr_none(w->p->a, &parts[3]);
    parts[4] = st_attr_retain(field(e, ST_APPLY_UNSUPERVISED));
    for (size_t k = 0; k < 4 && rc == ST_OK; k++)
        rc = expr_of(w, e, field(e, ST_APPLY_COLS + k), &parts[5 + k]);
    if (rc == ST_OK) rc = expr_of(w, e, field(e, ST_APPLY_NO_CACHE), &parts[9]);
    if (rc == ST_OK) rc = make_kwargs(w, e, predictor ? fit_only : methods, &parts[10]);
    if (rc == ST_OK) {
        if (f & ST_EST_UNSEEDED) {
            int64_t seed = 0;
            rc = w->p->host.seed(w->p->host.ud, e->origin, est->u.v, &seed, w->err);
            parts[11] = number(w, seed);
        } else {
            parts[11] = none(w);
        }
    }
    parts[12] = flag(w, s->flags & ST_SCOPE_SUBSAMPLE);
    int rc2 = tuple_of(w, parts, 13, &expr);
    if (rc != ST_OK || rc2 != ST_OK) {
        if (rc2 == ST_OK) st_attr_release(expr);
        return rc != ST_OK ? rc : rc2;
    }
    uint32_t nf = (f & ST_EST_LIBRARY ? 0u : ST_N_CALLER) | (f & ST_EST_FREE ? ST_N_FREE : 0u);
    if (!fixed || f & ST_EST_ONCE) nf |= ST_N_ONCE;
    st_attr *out = NULL, *st = NULL;
    ST_TRY(make_node(w, w->p->ops.fit, expr, nf, e->origin, 0, &out, &st));
    if (predictor && !whole) {
        st_attr_release(out);
        const char *predict_only[] = {"predict", NULL};
        out = NULL;
        rc = make_call(w, e, "transform", true, st, false, predict_only, &out);
        if (rc != ST_OK) {
            st_attr_release(st);
            return rc;
        }
    }
    *value = out;
    *state = st;
    return ST_OK;
}

static int make_estimator(walk *w, const entry *e, st_attr **value)
{
    st_attr *params = NULL, *expr;
    ST_TRY(expr_of(w, e, field(e, 1), &params));
    st_attr *parts[2] = {st_attr_retain(field(e, 0)), params};
    ST_TRY(tuple_of(w, parts, 2, &expr));
    if (expr->has_refs) return make_node(w, w->p->ops.build, expr, 0, e->origin, 0, value, NULL);
    known *k;
    bool fresh;
    int rc = known_get(w->p, expr, &k, &fresh);
    if (rc == ST_OK && fresh) {
        st_value *v = NULL;
        rc = w->p->host.build(w->p->host.ud, field(e, 0)->u.v, expr->u.items[1], &v, w->err);
        if (rc == ST_OK) rc = known_get(w->p, expr, &k, &fresh); /* the host may have called back */
        if (rc == ST_OK && fresh) {
            k->key = st_attr_retain(expr);
            k->built = v;
            w->p->known_n++;
        } else {
            st_value_release(v);
        }
    }
    if (rc == ST_OK) rc = st_attr_value(w->p->a, k->built, value);
    st_attr_release(expr);
    return rc;
}

static int make_var(walk *w, const entry *e, st_attr **value)
{
    bool preview = strcmp(w->s->mode, "preview") == 0;
    bool has = field(e, 2)->u.i, becomes = field(e, 3)->u.i;
    if (has && (preview || becomes || (w->s->flags & ST_SCOPE_USE_VALUES))) {
        *value = st_attr_retain(field(e, 1));
        return ST_OK;
    }
    return make_missing(w, "variable", field(e, 0), e->origin, value);
}

/* Everything that entry `i` needs has been met: make its value (and state). */
static int make(walk *w, uint32_t i, bool inner)
{
    st_scope *s = w->s;
    st_plan *p = w->p;
    const entry *e = &p->e.v[i];
    st_attr *value = NULL, *state = NULL, *expr = NULL;
    int rc = ST_EINVAL;
    switch (e->kind) {
    case ST_CAP_VAR: rc = make_var(w, e, &value); break;
    case ST_CAP_VALUE:
    case ST_CAP_PASS: rc = expr_of(w, e, field(e, 0), &value); break;
    case ST_CAP_COMPUTE:
        rc = expr_of(w, e, e->fields, &expr);
        if (rc == ST_OK) rc = make_node(w, e->op, expr, e->flags, e->origin, 0, &value, NULL);
        break;
    case ST_CAP_APPLY: rc = make_apply(w, e, inner, i, &value, &state); break;
    case ST_CAP_APPLIED: {
        st_attr *st = NULL;
        rc = state_of(w, e->children[field(e, 0)->u.i], NO_ESTIMATOR, &st);
        if (rc != ST_OK) break;
        st_attr *parts[1] = {st};
        rc = tuple_of(w, parts, 1, &expr);
        if (rc == ST_OK) rc = make_node(w, p->ops.applied, expr, 0, e->origin, 0, &value, NULL);
        break;
    }
    case ST_CAP_CONCAT:
        rc = expr_of(w, e, e->fields, &expr);
        if (rc != ST_OK) break;
        if (s->fits) {
            rc = make_node(w, p->ops.concat_fit, expr, 0, e->origin, 0, &value, &state);
        } else {
            st_attr *parts[4] = {st_attr_retain(expr->u.items[0]), st_attr_retain(expr->u.items[1]),
                                 st_attr_retain(expr->u.items[2]), NULL};
            st_attr_release(expr);
            expr = NULL;
            rc = state_of(w, i, NO_COLUMNS, &parts[3]);
            int rc2 = tuple_of(w, parts, 4, &expr);
            if (rc == ST_OK) rc = rc2;
            if (rc == ST_OK) rc = make_node(w, p->ops.concat, expr, 0, e->origin, 0, &value, NULL);
        }
        break;
    case ST_CAP_FREEZE:
        if (s->fits || ST_FAULT(12)) { /* planted: a frozen value is computed again */
            rc = expr_of(w, e, field(e, 0), &value);
            state = st_attr_retain(value);
        } else {
            rc = state_of(w, i, NO_FROZEN, &value);
        }
        break;
    case ST_CAP_IF:
    case ST_CAP_MATCH: {
        bool is_if = e->kind == ST_CAP_IF;
        size_t n = is_if ? 2 : field(e, 2)->n + (field(e, 4)->u.i ? 1 : 0);
        st_attr *cond = NULL, *keys = is_if ? none(w) : st_attr_retain(field(e, 1));
        st_attr *has = is_if ? flag(w, false) : st_attr_retain(field(e, 4));
        st_attr **options = st_mem_zero(p->a, n * sizeof *options);
        rc = keys && has && options ? expr_of(w, e, field(e, 0), &cond) : ST_ENOMEM;
        for (size_t k = 0; k < n && rc == ST_OK; k++) {
            st_attr *t = is_if ? field(e, 1 + k) : k < field(e, 2)->n ? field(e, 2)->u.items[k] : field(e, 3);
            rc = expr_of(w, e, t, &options[k]);
        }
        if (rc == ST_OK) rc = make_select(w, cond, keys, has, options, n, e->origin, &value);
        for (size_t k = 0; options && k < n; k++)
            st_attr_release(options[k]);
        st_mem_free(p->a, options);
        st_attr_release(cond);
        st_attr_release(keys);
        st_attr_release(has);
        break;
    }
    case ST_CAP_MODE:
        value = text(w, ST_FAULT(13) && !s->fits ? "fit_transform" : s->mode);
        rc = value ? ST_OK : ST_ENOMEM;
        break;
    case ST_CAP_ASK_SUBSAMPLE:
        value = flag(w, s->flags & ST_SCOPE_SUBSAMPLE);
        rc = value ? ST_OK : ST_ENOMEM;
        break;
    case ST_CAP_SUBSAMPLE: {
        rc = expr_of(w, e, e->fields, &expr);
        if (rc != ST_OK) break;
        bool active = s->flags & ST_SCOPE_SUBSAMPLE;
        st_attr *parts[5] = {st_attr_retain(expr->u.items[0]), st_attr_retain(expr->u.items[1]),
                             st_attr_retain(expr->u.items[2]), flag(w, active),
                             active ? number(w, s->seed) : none(w)};
        st_attr_release(expr);
        expr = NULL;
        rc = tuple_of(w, parts, 5, &expr);
        if (rc == ST_OK) rc = make_node(w, p->ops.subsample, expr, 0, e->origin, 0, &value, NULL);
        break;
    }
    case ST_CAP_CHOICE: rc = expr_of(w, e, field(e, 1)->u.items[outcome_of(s, i)], &value); break;
    case ST_CAP_NUMBER: {
        bool preview = strcmp(s->mode, "preview") == 0;
        st_attr *t = s->outcome[i] ? s->outcome[i] : field(e, 1);
        value = st_attr_retain(preview || t->type == ST_NONE ? field(e, 0) : t);
        rc = ST_OK;
        break;
    }
    case ST_CAP_CHOICE_MATCH: {
        size_t k = 0;
        rc = result_of(w, e, &k);
        if (rc == ST_OK) rc = expr_of(w, e, field(e, 1)->u.items[k], &value);
        break;
    }
    case ST_CAP_ESTIMATOR: rc = make_estimator(w, e, &value); break;
    case ST_N_CAP_KINDS: break;
    }
    if (rc != ST_OK) {
        st_attr_release(value);
        st_attr_release(state);
        return rc;
    }
    slot *k = &s->slots[i];
    slot_clear(k);
    k->value = value;
    k->inner = inner;
    k->raw_state = state;
    k->state = st_attr_retain(state);
    return ST_OK;
}

static int push(walk *w, uint32_t i)
{
    st_scope *s = w->s;
    if (s->slots[i].value) return ST_OK; /* met already */
    if (s->bound[i]) {
        slot_clear(&s->slots[i]);
        s->slots[i].value = st_attr_retain(s->bound[i]);
        return ST_OK;
    }
    if (s->slots[i].running) return st_fail(w->err, ST_ECYCLE, "captured entry %u needs itself", (unsigned)i);
    ST_TRY(st_vec_reserve(w->p->a, &w->stack, 1));
    st_cap_kind kind = w->p->e.v[i].kind;
    bool applies = kind == ST_CAP_APPLY;
    s->conditional |= s->fits && (kind == ST_CAP_IF || kind == ST_CAP_MATCH);
    size_t from = w->work.n;
    ST_TRY(list_work(w, i, w->applying > 0));
    s->slots[i].running = true;
    w->stack.v[w->stack.n++] = (frame){i, from, from, w->work.n, applies};
    w->applying += applies;
    return ST_OK;
}

static int walk_to(walk *w, uint32_t root)
{
    ST_TRY(st_vec_reserve(w->p->a, &w->s->roots, 1));
    w->s->roots.v[w->s->roots.n++] = root;
    ST_TRY(push(w, root));
    while (w->stack.n) {
        frame *f = &w->stack.v[w->stack.n - 1];
        if (f->next < f->to) {
            work x = w->work.v[f->next++];
            if (x.what == VISIT) ST_TRY(push(w, x.i));
            continue;
        }
        uint32_t i = f->i;
        w->work.n = f->from;
        w->applying -= f->applies;
        w->stack.n--;
        w->s->slots[i].running = false;
        ST_TRY(make(w, i, w->applying > 0));
    }
    return ST_OK;
}

/* -- States made inside branches ----------------------------------------------------------- */

/* An entry is needed always, or if one of its terms holds: entry `i`, a condition, is needed and takes
 * option `k`.  An entry inherits the terms of what needs it without a condition. */
typedef struct term {
    uint32_t i, k;
} term;

typedef struct need {
    bool always;
    ST_VEC(term) terms;
    st_attr *expr; /* of conditions: "it is needed" as an expression; NULL: always */
} need;

typedef struct needs {
    st_attr *yes, *no;
    need *of;          /* for each entry */
    uint32_t *options; /* for each entry: options of the condition at hand that visit it, and */
    uint32_t *last;    /* 1 + the last of them */
} needs;

static size_t n_options(const entry *e)
{
    return e->kind == ST_CAP_IF      ? 2
           : e->kind == ST_CAP_MATCH ? field(e, 2)->n + (field(e, 4)->u.i ? 1 : 0)
                                     : 0;
}

/* select(cond, [a, b]) */
static int either(walk *w, st_attr *cond, st_attr *a, st_attr *b, st_value *origin, st_attr **out)
{
    st_attr *options[2] = {a, b}, *keys = none(w), *has = flag(w, false);
    int rc = keys && has ? make_select(w, cond, keys, has, options, 2, origin, out) : ST_ENOMEM;
    st_attr_release(keys);
    st_attr_release(has);
    return rc;
}

static int inherit(walk *w, need *to, const need *from)
{
    to->always |= from->always;
    if (to->always) return ST_OK;
    ST_TRY(st_vec_reserve(w->p->a, &to->terms, from->terms.n));
    for (size_t x = 0; x < from->terms.n; x++)
        to->terms.v[to->terms.n++] = from->terms.v[x];
    return ST_OK;
}

static int by_entry(const void *a, const void *b)
{
    const term *x = a, *y = b;
    return x->i != y->i ? (x->i < y->i ? -1 : 1) : x->k != y->k ? (x->k < y->k ? -1 : 1) : 0;
}

/* Each term once; what every option of a condition needs is needed whenever the condition is. */
static int settle(walk *w, needs *d, need *q)
{
    bool again = !q->always;
    while (again && q->terms.n) {
        again = false;
        qsort(q->terms.v, q->terms.n, sizeof *q->terms.v, by_entry);
        size_t n = 0;
        for (size_t x = 0; x < q->terms.n; x++)
            if (!n || by_entry(&q->terms.v[n - 1], &q->terms.v[x]) != 0) q->terms.v[n++] = q->terms.v[x];
        q->terms.n = n;
        for (size_t x = 0, to; x < q->terms.n; x = to) {
            uint32_t i = q->terms.v[x].i;
            for (to = x; to < q->terms.n && q->terms.v[to].i == i;)
                to++;
            if (to - x < n_options(&w->p->e.v[i])) continue;
            memmove(q->terms.v + x, q->terms.v + to, (q->terms.n - to) * sizeof *q->terms.v);
            q->terms.n -= to - x;
            ST_TRY(inherit(w, q, &d->of[i]));
            again = !q->always;
            break;
        }
    }
    return ST_OK;
}

/* "Entry `t.i` is needed, and its condition takes option `t.k`". */
static int term_expr(walk *w, needs *d, term t, st_attr **out)
{
    const entry *e = &w->p->e.v[t.i];
    bool is_if = e->kind == ST_CAP_IF;
    size_t n = n_options(e);
    st_attr *cond = NULL, *taken = NULL, *keys = is_if ? none(w) : st_attr_retain(field(e, 1));
    st_attr *has = is_if ? flag(w, false) : st_attr_retain(field(e, 4));
    st_attr **options = st_mem_new(w->p->a, n * sizeof *options);
    int rc = keys && has && options ? expr_of(w, e, field(e, 0), &cond) : ST_ENOMEM;
    for (size_t k = 0; rc == ST_OK && k < n; k++)
        options[k] = k == t.k ? d->yes : d->no;
    if (rc == ST_OK) rc = make_select(w, cond, keys, has, options, n, e->origin, &taken);
    if (rc == ST_OK) {
        st_attr *outer = d->of[t.i].expr;
        if (outer)
            rc = either(w, outer, taken, d->no, e->origin, out);
        else
            *out = st_attr_retain(taken);
    }
    st_attr_release(taken);
    st_attr_release(cond);
    st_attr_release(keys);
    st_attr_release(has);
    st_mem_free(w->p->a, options);
    return rc;
}

/* "`q` is needed"; NULL: always. */
static int need_expr(walk *w, needs *d, const need *q, st_value *origin, st_attr **out)
{
    *out = NULL;
    if (q->always) return ST_OK;
    st_attr *all = NULL;
    int rc = ST_OK;
    for (size_t x = q->terms.n; rc == ST_OK && x > 0; x--) { /* any of them, looked at from the first on */
        st_attr *one = NULL, *next = NULL;
        rc = term_expr(w, d, q->terms.v[x - 1], &one);
        if (rc == ST_OK && all) {
            rc = either(w, one, d->yes, all, origin, &next);
            st_attr_release(one);
            one = next;
        }
        st_attr_release(all);
        all = one;
    }
    if (rc != ST_OK) st_attr_release(all);
    if (rc == ST_OK) *out = all;
    return rc;
}

/* Entry `i` is needed: so are its children, perhaps under more conditions. */
static int needs_below(walk *w, needs *d, uint32_t i)
{
    size_t n = n_options(&w->p->e.v[i]);
    w->work.n = 0;
    ST_TRY(list_work(w, i, w->s->slots[i].inner));
    for (size_t x = 0; n && x < w->work.n; x++) {
        uint32_t c = w->work.v[x].i;
        if (w->work.v[x].what == VISIT) d->options[c] = d->last[c] = 0;
    }
    uint32_t option = 0; /* 1 + the one whose part of the list this is */
    for (size_t x = 0; n && x < w->work.n; x++) {
        uint32_t c = w->work.v[x].i;
        if (w->work.v[x].what != VISIT) {
            option = w->work.v[x].what == GUARD ? c + 1 : 0;
        } else if (option && d->last[c] != option) {
            d->last[c] = option;
            d->options[c]++;
        }
    }
    for (size_t x = 0; x < w->work.n; x++) {
        work k = w->work.v[x];
        need *q = &d->of[k.i];
        if (k.what != VISIT) {
            option = k.what == GUARD ? k.i + 1 : 0;
        } else if (!w->p->e.v[k.i].stateful || q->always) {
            continue;
        } else if (!option || d->options[k.i] == n) {
            ST_TRY(inherit(w, q, &d->of[i]));
        } else {
            ST_TRY(st_vec_reserve(w->p->a, &q->terms, 1));
            q->terms.v[q->terms.n++] = (term){i, option - 1};
        }
    }
    return ST_OK;
}

/* Give every state that only some branches make its conditions.  Children come before parents in a
 * plan, so one pass from the last entry down meets each entry after all that need it. */
static int guard_states(walk *w)
{
    st_scope *s = w->s;
    const st_alloc *a = w->p->a;
    needs d = {flag(w, true), flag(w, false), st_mem_zero(a, s->n * sizeof *d.of),
               st_mem_zero(a, s->n * sizeof *d.options), st_mem_zero(a, s->n * sizeof *d.last)};
    int rc = d.yes && d.no && d.of && d.options && d.last ? ST_OK : ST_ENOMEM;
    for (size_t i = 0; rc == ST_OK && i < s->roots.n; i++)
        d.of[s->roots.v[i]].always = true;
    for (size_t i = s->n; rc == ST_OK && i > 0; i--) {
        uint32_t k = (uint32_t)(i - 1);
        slot *q = &s->slots[k];
        need *here = &d.of[k];
        const entry *e = &w->p->e.v[k];
        if (!e->stateful || !q->value || s->bound[k] || !(here->always || here->terms.n)) continue;
        rc = settle(w, &d, here);
        if (rc == ST_OK) rc = needs_below(w, &d, k);
        if (rc == ST_OK && n_options(e)) rc = need_expr(w, &d, here, e->origin, &here->expr);
        if (rc != ST_OK || !q->raw_state) continue;
        st_attr *state = NULL, *cond = NULL, *absent = NULL;
        rc = need_expr(w, &d, here, e->origin, &cond);
        if (rc == ST_OK && !cond) {
            state = st_attr_retain(q->raw_state);
        } else if (rc == ST_OK) {
            const char *lack = e->kind == ST_CAP_APPLY    ? NO_ESTIMATOR
                               : e->kind == ST_CAP_CONCAT ? NO_COLUMNS
                                                          : NO_FROZEN;
            rc = missing_attribute(w, lack, e->origin, &absent);
            if (rc == ST_OK) rc = either(w, cond, q->raw_state, absent, e->origin, &state);
        }
        st_attr_release(absent);
        st_attr_release(cond);
        if (rc == ST_OK) {
            st_attr_release(q->state);
            q->state = state;
        }
    }
    for (size_t i = 0; d.of && i < s->n; i++) {
        st_vec_free(a, &d.of[i].terms);
        st_attr_release(d.of[i].expr);
    }
    st_mem_free(a, d.of);
    st_mem_free(a, d.options);
    st_mem_free(a, d.last);
    st_attr_release(d.yes);
    st_attr_release(d.no);
    w->work.n = 0;
    return rc;
}

static void walk_end(walk *w, int rc)
{
    if (rc != ST_OK)
        for (size_t i = 0; i < w->stack.n; i++)
            w->s->slots[w->stack.v[i].i].running = false;
    st_vec_free(w->p->a, &w->stack);
    st_vec_free(w->p->a, &w->work);
}

int st_lower(st_scope *s, uint32_t i, st_attr **expr, st_error *err)
{
    if (i >= s->n) return st_fail(err, ST_EINVAL, "no captured entry %u", (unsigned)i);
    walk w = {.s = s, .p = s->p, .err = err};
    int rc = walk_to(&w, i);
    if (rc == ST_OK && s->conditional) rc = guard_states(&w);
    walk_end(&w, rc);
    if (rc != ST_OK) {
        if (err && !err->code) st_fail(err, rc, "lowering failed: %s", st_code_text(rc));
        return rc;
    }
    *expr = s->slots[i].value;
    return ST_OK;
}

int st_lower_field(st_scope *s, uint32_t i, size_t f, st_attr **expr, st_error *err)
{
    if (i >= s->n || f >= s->p->e.v[i].fields->n) return st_fail(err, ST_EINVAL, "no such field");
    const entry *e = &s->p->e.v[i];
    walk w = {.s = s, .p = s->p, .err = err};
    int rc = add_slots(&w, e, field(e, f));
    size_t n = w.work.n;
    uint32_t *todo = rc == ST_OK ? st_mem_new(s->p->a, n * sizeof *todo) : NULL;
    if (!todo) rc = ST_ENOMEM;
    for (size_t k = 0; rc == ST_OK && k < n; k++)
        todo[k] = w.work.v[k].i;
    w.work.n = 0;
    for (size_t k = 0; k < n && rc == ST_OK; k++)
        rc = walk_to(&w, todo[k]);
    st_mem_free(s->p->a, todo);
    if (rc == ST_OK && s->conditional) rc = guard_states(&w);
    if (rc == ST_OK) rc = expr_of(&w, e, field(e, f), expr);
    walk_end(&w, rc);
    if (rc != ST_OK && err && !err->code) st_fail(err, rc, "lowering failed: %s", st_code_text(rc));
    return rc;
}

int st_lower_ref(st_scope *s, uint32_t i, st_ref *out, st_error *err)
{
    st_attr *t, *r = NULL;
    ST_TRY(st_lower(s, i, &t, err));
    walk w = {.s = s, .p = s->p, .err = err};
    ST_TRY(as_ref(&w, t, &r));
    /* The scope keeps the ref alive: the value's slot now holds it. */
    if (r != t) set_attr(&s->slots[i].value, r);
    st_attr_release(r);
    *out = s->slots[i].value->u.ref;
    return ST_OK;
}

int64_t st_scope_first_apply(st_scope *s, uint32_t root)
{
    st_plan *p = s->p;
    ST_VEC(uint32_t) stack = {0};
    if (root >= s->n) return -1;
    bool *seen = st_mem_zero(p->a, s->n * sizeof *seen);
    int64_t found = -1;
    int rc = seen ? st_vec_reserve(p->a, &stack, 1) : ST_ENOMEM;
    if (rc == ST_OK) stack.v[stack.n++] = root;
    while (stack.n) {
        uint32_t i = stack.v[--stack.n];
        if (seen[i]) continue;
        seen[i] = true;
        const entry *e = &p->e.v[i];
        if (e->kind == ST_CAP_APPLY) {
            found = i;
            break;
        }
        walk w = {.s = s, .p = p};
        st_attr *t = e->fields;
        if (e->kind == ST_CAP_CHOICE) t = field(e, 1)->u.items[outcome_of(s, i)];
        rc = add_slots(&w, e, t);
        if (rc == ST_OK) rc = st_vec_reserve(p->a, &stack, w.work.n);
        for (size_t k = w.work.n; rc == ST_OK && k > 0; k--)
            stack.v[stack.n++] = w.work.v[k - 1].i;
        st_vec_free(p->a, &w.work);
        if (rc != ST_OK) break;
    }
    st_mem_free(p->a, seen);
    st_vec_free(p->a, &stack);
    return rc == ST_OK ? found : -2;
}
