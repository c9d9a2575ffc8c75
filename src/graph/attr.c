/* attr.c - typed attribute trees: immutable, counted, with their hash computed when they are made.
 *
 * Depth is bounded (ST_ATTR_MAX_DEPTH), so that the few recursive walks here cannot overflow a stack.
 * A tree's hash covers type tags, lengths and order: [1], (1,), 1, True and 1.0 all differ.
 */
#include "graph.h"

#include <math.h>

static int attr_new(const st_alloc *a, st_attr_type type, st_attr **out)
{
    st_attr *t = st_mem_zero(a, sizeof *t);
    if (!t) return ST_ENOMEM;
    atomic_init(&t->refs, 1);
    t->alloc = a;
    t->type = (uint8_t)type;
    t->plain = true;
    *out = t;
    return ST_OK;
}

static st_hash hash_word(st_attr_type type, uint64_t w)
{
    unsigned char buf[9];
    buf[0] = (unsigned char)type;
    memcpy(buf + 1, &w, 8);
    return st_hash_bytes(buf, sizeof buf, 3);
}

int st_attr_none(const st_alloc *a, st_attr **out)
{
    ST_TRY(attr_new(a, ST_NONE, out));
    (*out)->hash = hash_word(ST_NONE, 0);
    return ST_OK;
}

int st_attr_bool(const st_alloc *a, bool v, st_attr **out)
{
    ST_TRY(attr_new(a, ST_FAULT(2) ? ST_INT : ST_BOOL, out));
    (*out)->u.i = v;
    (*out)->hash = hash_word((*out)->type, v);
    return ST_OK;
}

int st_attr_int(const st_alloc *a, int64_t v, st_attr **out)
{
    if (ST_FAULT(1) && v == -2) v = -1; /* what Python's hash() does to -2 */
    ST_TRY(attr_new(a, ST_INT, out));
    (*out)->u.i = v;
    (*out)->hash = hash_word(ST_INT, (uint64_t)v);
    return ST_OK;
}

int st_attr_float(const st_alloc *a, double v, st_attr **out)
{
    if (ST_FAULT(3) && v == 0.0) v = 0.0 * 0.0; /* loses the sign of zero */
    uint64_t w;
    memcpy(&w, &v, 8);
    if (ST_FAULT(3) && v == 0.0) w = 0;
    ST_TRY(attr_new(a, ST_FLOAT, out));
    memcpy(&(*out)->u.f, &w, 8);
    (*out)->hash = hash_word(ST_FLOAT, w);
    return ST_OK;
}

static int attr_text(const st_alloc *a, st_attr_type type, const void *p, size_t n, st_attr **out)
{
    st_attr *t;
    ST_TRY(attr_new(a, type, &t));
    t->u.s = st_mem_new(a, n + 1);
    if (!t->u.s) {
        st_mem_free(a, t);
        return ST_ENOMEM;
    }
    if (n) memcpy(t->u.s, p, n);
    t->u.s[n] = 0;
    t->n = n;
    t->hash = st_hash_bytes(p, n, 16 + (uint64_t)type);
    *out = t;
    return ST_OK;
}

int st_attr_str(const st_alloc *a, const char *s, size_t n, st_attr **out)
{
    return attr_text(a, ST_STR, s, n, out);
}

int st_attr_bytes(const st_alloc *a, const void *p, size_t n, st_attr **out)
{
    return attr_text(a, ST_BYTES, p, n, out);
}

int st_attr_value(const st_alloc *a, st_value *v, st_attr **out)
{
    ST_TRY(attr_new(a, ST_VALUE, out));
    (*out)->u.v = st_value_retain(v);
    (*out)->plain = st_value_encoded(v);
    (*out)->hash = st_hash_mix(hash_word(ST_VALUE, 0), st_value_hash(v));
    return ST_OK;
}

int st_attr_slot(const st_alloc *a, uint32_t i, st_attr **out)
{
    ST_TRY(attr_new(a, ST_SLOT, out));
    (*out)->u.i = i;
    (*out)->has_refs = true;
    (*out)->hash = hash_word(ST_SLOT, i);
    return ST_OK;
}

int st_attr_ref(const st_alloc *a, st_ref r, st_attr **out)
{
    ST_TRY(attr_new(a, ST_REF, out));
    (*out)->u.ref.node = st_node_retain(r.node);
    (*out)->u.ref.port = r.port;
    (*out)->has_refs = true;
    (*out)->plain = st_node_is_plain(r.node);
    (*out)->hash = st_hash_mix(hash_word(ST_REF, r.port), st_node_structure(r.node));
    return ST_OK;
}

static bool is_container(unsigned type)
{
    return type == ST_LIST || type == ST_TUPLE || type == ST_SET || type == ST_FROZENSET || type == ST_DICT ||
           type == ST_SLICE;
}

int st_attr_seq(const st_alloc *a, st_attr_type type, st_attr *const *items, size_t n, st_attr **out)
{
    if (!is_container(type) || (type == ST_DICT && n % 2) || (type == ST_SLICE && n != 3)) return ST_EINVAL;
    unsigned depth = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i]->depth > depth) depth = items[i]->depth;
    if (depth + 1 > ST_ATTR_MAX_DEPTH) return ST_ELIMIT;
    st_attr *t;
    ST_TRY(attr_new(a, type, &t));
    t->depth = (uint16_t)(depth + 1);
    t->u.items = st_mem_new(a, n * sizeof *t->u.items);
    st_hash *hs = st_mem_new(a, (n + 1) * sizeof *hs);
    if (!t->u.items || !hs) {
        st_mem_free(a, hs);
        st_mem_free(a, t->u.items);
        st_mem_free(a, t);
        return ST_ENOMEM;
    }
    t->n = n;
    for (size_t i = 0; i < n; i++) {
        t->u.items[i] = st_attr_retain(items[i]);
        t->has_refs |= items[i]->has_refs;
        t->plain &= items[i]->plain;
        hs[i] = items[i]->hash;
    }
    hs[n] = hash_word(type, n);
    t->hash = st_hash_bytes(hs, (n + 1) * sizeof *hs, 5);
    st_mem_free(a, hs);
    *out = t;
    return ST_OK;
}

st_attr *st_attr_retain(st_attr *t)
{
    if (t) atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void st_attr_release(st_attr *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1) return;
    if (is_container(t->type)) {
        for (size_t i = 0; i < t->n; i++)
            st_attr_release(t->u.items[i]);
        st_mem_free(t->alloc, t->u.items);
    } else if (t->type == ST_STR || t->type == ST_BYTES) {
        st_mem_free(t->alloc, t->u.s);
    } else if (t->type == ST_VALUE) {
        st_value_release(t->u.v);
    } else if (t->type == ST_REF) {
        st_node_release(t->u.ref.node); /* chains of nodes are reaped iteratively there */
    }
    st_mem_free(t->alloc, t);
}

st_attr_type st_attr_type_of(const st_attr *t) { return (st_attr_type)t->type; }
size_t st_attr_len(const st_attr *t) { return t->n; }
st_attr *st_attr_item(const st_attr *t, size_t i) { return t->u.items[i]; }
int64_t st_attr_as_int(const st_attr *t) { return t->u.i; }
double st_attr_as_float(const st_attr *t) { return t->u.f; }
const char *st_attr_as_str(const st_attr *t) { return t->u.s; }
st_value *st_attr_as_value(const st_attr *t) { return t->u.v; }
st_ref st_attr_as_ref(const st_attr *t) { return t->u.ref; }
bool st_attr_has_refs(const st_attr *t) { return t->has_refs; }
bool st_attr_is_plain(const st_attr *t) { return t->plain; }
st_hash st_attr_hash(const st_attr *t) { return t->hash; }

bool st_attr_equal(const st_attr *a, const st_attr *b)
{
    if (a == b) return true;
    if (a->type != b->type || a->n != b->n || !st_hash_eq(a->hash, b->hash)) return false;
    switch ((st_attr_type)a->type) {
    case ST_NONE: return true;
    case ST_BOOL:
    case ST_INT:
    case ST_SLOT: return a->u.i == b->u.i;
    case ST_FLOAT: return memcmp(&a->u.f, &b->u.f, 8) == 0;
    case ST_STR:
    case ST_BYTES: return memcmp(a->u.s, b->u.s, a->n) == 0;
    case ST_VALUE: return st_value_equal(a->u.v, b->u.v);
    case ST_REF: return a->u.ref.node == b->u.ref.node && a->u.ref.port == b->u.ref.port;
    default:
        for (size_t i = 0; i < a->n; i++)
            if (!st_attr_equal(a->u.items[i], b->u.items[i])) return false;
        return true;
    }
}

int st_attr_substitute(const st_alloc *a, st_attr *t, st_attr *const *by, size_t n, st_attr **out)
{
    if (!t->has_refs || t->type == ST_REF) {
        *out = st_attr_retain(t);
        return ST_OK;
    }
    if (t->type == ST_SLOT) {
        size_t i = (size_t)t->u.i;
        *out = st_attr_retain(i < n && by[i] ? by[i] : t);
        return ST_OK;
    }
    st_attr **items = st_mem_zero(a, t->n * sizeof *items);
    if (!items) return ST_ENOMEM;
    int rc = ST_OK;
    size_t i = 0;
    for (; i < t->n && rc == ST_OK; i++)
        rc = st_attr_substitute(a, t->u.items[i], by, n, &items[i]);
    if (rc == ST_OK) rc = st_attr_seq(a, (st_attr_type)t->type, items, t->n, out);
    for (size_t k = 0; k < i; k++)
        st_attr_release(items[k]);
    st_mem_free(a, items);
    return rc;
}
