/* values.c - Python objects as values and attribute trees, and back.
 *
 * A value owns one reference to its object.  The engine may drop a value on any thread, with or without
 * the GIL and deep inside its own calls, so a release only puts the object into a queue; whoever holds
 * the GIL next drains it.
 */
#include "core.h"

#include <pthread.h>

core_state core;

/* -- The queue of released objects --------------------------------------------------------- */

static pthread_mutex_t released_lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct {
    PyObject **v;
    size_t n, cap;
} released; /* guarded by released_lock */

/* A fork must not happen while another thread holds the queue's lock: the child could never take it. */
static void fork_prepare(void) { pthread_mutex_lock(&released_lock); }
static void fork_done(void) { pthread_mutex_unlock(&released_lock); }

int core_guard_fork(void) { return pthread_atfork(fork_prepare, fork_done, fork_done); }

static void host_release(void *obj)
{
    pthread_mutex_lock(&released_lock);
    if (released.n == released.cap) {
        size_t cap = released.cap ? 2 * released.cap : 64;
        PyObject **v = realloc(released.v, cap * sizeof *v);
        if (!v) { /* leak one object rather than touch it without the GIL */
            pthread_mutex_unlock(&released_lock);
            return;
        }
        released.v = v;
        released.cap = cap;
    }
    released.v[released.n++] = obj;
    pthread_mutex_unlock(&released_lock);
}

void core_drain(void)
{
    for (;;) {
        PyObject *some[64];
        size_t n = 0;
        pthread_mutex_lock(&released_lock);
        while (released.n && n < 64)
            some[n++] = released.v[--released.n];
        pthread_mutex_unlock(&released_lock);
        if (!n) return;
        for (size_t i = 0; i < n; i++)
            Py_DECREF(some[i]); /* may run any destructor; no lock is held */
    }
}

static int host_describe(void *obj, char *buf, size_t n)
{
    /* Printing happens under the GIL: see Graph.print. */
    PyObject *s = core.describe ? PyObject_CallOneArg(core.describe, obj) : NULL;
    const char *c = s ? PyUnicode_AsUTF8(s) : NULL;
    if (!c) {
        PyErr_Clear(); /* a description is a courtesy: the type's name has to do */
        snprintf(buf, n, "<%s>", Py_TYPE((PyObject *)obj)->tp_name);
    } else {
        snprintf(buf, n, "%s", c);
        size_t k = strlen(buf);
        while (k && ((unsigned char)buf[k - 1] & 0xC0) == 0x80)
            k--; /* a cut character goes whole */
        if (k && (unsigned char)buf[k - 1] >= 0xC0 && strlen(c) >= n) buf[k - 1] = 0;
    }
    Py_XDECREF(s);
    return ST_OK;
}

static const st_host python_host = {"python", host_release, host_describe, NULL};

PyObject *core_object(const st_value *v) { return st_value_object(v); }

PyObject *core_raise(int rc, const st_error *err)
{
    if (PyErr_Occurred()) return NULL;
    if (rc == ST_ENOMEM) return PyErr_NoMemory();
    const char *text = err && err->code ? err->message : st_code_text(rc);
    PyErr_SetString(core.engine_error ? core.engine_error : PyExc_RuntimeError, text);
    return NULL;
}

/* -- Values -------------------------------------------------------------------------------- */

static void value_capsule_free(PyObject *c) { st_value_release(PyCapsule_GetPointer(c, "st_value")); }

st_value *core_value(PyObject *values, PyObject *obj, PyObject *enc)
{
    st_value *v = NULL;
    PyObject *key = NULL, *got = NULL;
    bool remember = values && !enc;
    if (remember) {
        key = PyLong_FromVoidPtr(obj);
        if (!key) return NULL;
        PyObject *c = PyDict_GetItemWithError(values, key);
        if (c) {
            v = st_value_retain(PyCapsule_GetPointer(c, "st_value"));
            Py_DECREF(key);
            return v;
        }
        if (PyErr_Occurred()) goto fail;
    }
    if (!enc || enc == Py_None) {
        got = core.encode ? PyObject_CallOneArg(core.encode, obj) : Py_NewRef(Py_None);
        if (!got) goto fail;
        enc = got;
    }
    const char *bytes = NULL;
    Py_ssize_t n = 0;
    if (PyBytes_Check(enc)) {
        bytes = PyBytes_AS_STRING(enc);
        n = PyBytes_GET_SIZE(enc);
    }
    if (st_value_new(st_alloc_default(), &python_host, obj, bytes, (size_t)n, &v) != ST_OK) {
        PyErr_NoMemory();
        goto fail;
    }
    Py_INCREF(obj);
    if (remember) {
        PyObject *c = PyCapsule_New(st_value_retain(v), "st_value", value_capsule_free);
        int rc = c ? PyDict_SetItem(values, key, c) : -1;
        if (!c) st_value_release(v);
        Py_XDECREF(c);
        if (rc < 0) goto fail;
    }
    Py_XDECREF(got);
    Py_XDECREF(key);
    return v;
fail:
    st_value_release(v);
    Py_XDECREF(got);
    Py_XDECREF(key);
    return NULL;
}

/* -- Attribute trees ----------------------------------------------------------------------- */

#define MAX_DEPTH 150  /* below ST_ATTR_MAX_DEPTH: operators put trees into tuples of their own */
#define LONG_CONST 256 /* longer containers of constants stay whole */

static int by_hash(const void *a, const void *b)
{
    st_hash x = st_attr_hash(*(st_attr *const *)a), y = st_attr_hash(*(st_attr *const *)b);
    if (x.hi != y.hi) return x.hi < y.hi ? -1 : 1;
    return x.lo < y.lo ? -1 : x.lo > y.lo;
}

static bool visitable(PyObject *o)
{
    return (core.data_op && PyObject_TypeCheck(o, core.data_op)) ||
           (core.choice_type && PyObject_TypeCheck(o, core.choice_type)) ||
           (core.match_type && PyObject_TypeCheck(o, core.match_type)) ||
           (core.estimator_type && PyObject_TypeCheck(o, core.estimator_type)) || Py_IS_TYPE(o, &Ref_Type) ||
           Py_IS_TYPE(o, &Expr_Type) || Py_IS_TYPE(o, &Leaf_Type);
}

static bool is_container(PyObject *o)
{
    return PyList_CheckExact(o) || PyTuple_CheckExact(o) || PyDict_CheckExact(o) ||
           PyFrozenSet_CheckExact(o) || Py_IS_TYPE(o, &PySet_Type) || PySlice_Check(o);
}

/* True for a flat container of nothing but plain objects. */
static bool all_constant(PyObject *o)
{
    if (!PyList_CheckExact(o) && !PyTuple_CheckExact(o)) return false;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *x = PySequence_Fast_GET_ITEM(o, i);
        if (is_container(x) || visitable(x)) return false;
    }
    return true;
}

static st_attr *leaf_attr(GraphObject *g, PyObject *o, PyObject *enc)
{
    st_value *v = core_value(g->values, o, enc);
    st_attr *t = NULL;
    if (!v) return NULL;
    if (st_attr_value(st_graph_alloc(g->g), v, &t) != ST_OK) PyErr_NoMemory();
    st_value_release(v);
    return t;
}

st_attr *core_to_attr(GraphObject *g, PyObject *o, const core_slots *slots, int depth)
{
    const st_alloc *a = st_graph_alloc(g->g);
    st_attr *t = NULL;
    int rc = ST_OK;
    if (o == Py_None) {
        rc = st_attr_none(a, &t);
    } else if (PyBool_Check(o)) {
        rc = st_attr_bool(a, o == Py_True, &t);
    } else if (PyLong_CheckExact(o)) {
        int over;
        long long i = PyLong_AsLongLongAndOverflow(o, &over);
        if (over) return leaf_attr(g, o, NULL);
        rc = st_attr_int(a, i, &t);
    } else if (PyFloat_CheckExact(o)) {
        rc = st_attr_float(a, PyFloat_AS_DOUBLE(o), &t);
    } else if (PyUnicode_CheckExact(o)) {
        Py_ssize_t n;
        const char *s = PyUnicode_AsUTF8AndSize(o, &n);
        if (!s) { /* a lone surrogate has no UTF-8 */
            PyErr_Clear();
            return leaf_attr(g, o, NULL);
        }
        rc = st_attr_str(a, s, (size_t)n, &t);
    } else if (PyBytes_CheckExact(o)) {
        rc = st_attr_bytes(a, PyBytes_AS_STRING(o), (size_t)PyBytes_GET_SIZE(o), &t);
    } else if (Py_IS_TYPE(o, &Ref_Type)) {
        rc = st_attr_ref(a, ((RefObject *)o)->ref, &t);
    } else if (Py_IS_TYPE(o, &Expr_Type)) {
        return st_attr_retain(((ExprObject *)o)->attr);
    } else if (Py_IS_TYPE(o, &Leaf_Type)) {
        LeafObject *l = (LeafObject *)o;
        return leaf_attr(g, l->obj, l->enc == Py_None ? NULL : l->enc);
    } else if (slots && slots->index && visitable(o)) {
        PyObject *key = PyLong_FromVoidPtr(o);
        PyObject *at = key ? PyDict_GetItemWithError(slots->index, key) : NULL;
        Py_XDECREF(key);
        if (at) {
            rc = st_attr_slot(a, (uint32_t)PyLong_AsUnsignedLong(at), &t);
        } else {
            if (PyErr_Occurred()) return NULL;
            return leaf_attr(g, o, NULL); /* an estimator with nothing to evaluate inside */
        }
    } else if (is_container(o)) {
        if (depth > MAX_DEPTH) {
            PyErr_SetString(core.engine_error, "containers are nested too deeply");
            return NULL;
        }
        if ((PyList_CheckExact(o) || PyTuple_CheckExact(o)) && PySequence_Fast_GET_SIZE(o) > LONG_CONST &&
            all_constant(o))
            return leaf_attr(g, o, NULL);
        st_attr_type type;
        PyObject *seq = NULL; /* items as a fast sequence */
        if (PyList_CheckExact(o) || PyTuple_CheckExact(o)) {
            type = PyList_CheckExact(o) ? ST_LIST : ST_TUPLE;
            seq = PySequence_Tuple(o); /* a copy: the list may change while hosts are asked */
        } else if (PyDict_CheckExact(o)) {
            type = ST_DICT;
            seq = PyList_New(0);
            PyObject *k, *v;
            Py_ssize_t pos = 0;
            while (seq && PyDict_Next(o, &pos, &k, &v))
                if (PyList_Append(seq, k) < 0 || PyList_Append(seq, v) < 0) Py_CLEAR(seq);
        } else if (PySlice_Check(o)) {
            PySliceObject *s = (PySliceObject *)o;
            type = ST_SLICE;
            seq = PyTuple_Pack(3, s->start, s->stop, s->step);
        } else {
            type = PyFrozenSet_CheckExact(o) ? ST_FROZENSET : ST_SET;
            seq = PySequence_List(o);
        }
        if (!seq) return NULL;
        Py_ssize_t n = PySequence_Fast_GET_SIZE(seq);
        st_attr **items = PyMem_Calloc((size_t)n + 1, sizeof *items);
        if (!items) {
            Py_DECREF(seq);
            PyErr_NoMemory();
            return NULL;
        }
        bool ok = true;
        for (Py_ssize_t i = 0; i < n && ok; i++) {
            items[i] = core_to_attr(g, PySequence_Fast_GET_ITEM(seq, i), slots, depth + 1);
            ok = items[i] != NULL;
        }
        if (ok && (type == ST_SET || type == ST_FROZENSET)) qsort(items, (size_t)n, sizeof *items, by_hash);
        if (ok) rc = st_attr_seq(a, type, items, (size_t)n, &t);
        for (Py_ssize_t i = 0; i < n; i++)
            st_attr_release(items[i]);
        PyMem_Free(items);
        Py_DECREF(seq);
        if (!ok) return NULL;
    } else {
        return leaf_attr(g, o, NULL);
    }
    if (rc != ST_OK) {
        core_raise(rc, NULL);
        return NULL;
    }
    return t;
}

PyObject *core_from_attr(const st_attr *t, PyObject *const *in, size_t n_in)
{
    st_attr_type type = st_attr_type_of(t);
    switch (type) {
    case ST_NONE: Py_RETURN_NONE;
    case ST_BOOL: return PyBool_FromLong((long)st_attr_as_int(t));
    case ST_INT: return PyLong_FromLongLong(st_attr_as_int(t));
    case ST_FLOAT: return PyFloat_FromDouble(st_attr_as_float(t));
    case ST_STR: return PyUnicode_DecodeUTF8(st_attr_as_str(t), (Py_ssize_t)st_attr_len(t), NULL);
    case ST_BYTES: return PyBytes_FromStringAndSize(st_attr_as_str(t), (Py_ssize_t)st_attr_len(t));
    case ST_VALUE: {
        PyObject *o = core_object(st_attr_as_value(t));
        if (PyList_CheckExact(o)) return PySequence_List(o); /* a long literal: everyone gets its own */
        return Py_NewRef(o);
    }
    case ST_SLOT: {
        size_t i = (size_t)st_attr_as_int(t);
        if (i >= n_in || !in[i]) {
            PyErr_SetString(core.engine_error, "an operator asks for an input that it has not");
            return NULL;
        }
        return Py_NewRef(in[i]);
    }
    case ST_REF: PyErr_SetString(core.engine_error, "an expression is not a constant"); return NULL;
    default: break;
    }
    size_t n = st_attr_len(t);
    if (type == ST_DICT) {
        PyObject *d = PyDict_New();
        for (size_t i = 0; d && i + 1 < n; i += 2) {
            PyObject *k = core_from_attr(st_attr_item(t, i), in, n_in);
            PyObject *v = k ? core_from_attr(st_attr_item(t, i + 1), in, n_in) : NULL;
            if (!v || PyDict_SetItem(d, k, v) < 0) Py_CLEAR(d);
            Py_XDECREF(k);
            Py_XDECREF(v);
        }
        return d;
    }
    PyObject *seq = type == ST_TUPLE ? PyTuple_New((Py_ssize_t)n) : PyList_New((Py_ssize_t)n);
    for (size_t i = 0; seq && i < n; i++) {
        PyObject *x = core_from_attr(st_attr_item(t, i), in, n_in);
        if (!x)
            Py_CLEAR(seq);
        else if (type == ST_TUPLE)
            PyTuple_SET_ITEM(seq, (Py_ssize_t)i, x);
        else
            PyList_SET_ITEM(seq, (Py_ssize_t)i, x);
    }
    if (!seq || type == ST_TUPLE || type == ST_LIST) return seq;
    PyObject *out = NULL;
    if (type == ST_SET)
        out = PySet_New(seq);
    else if (type == ST_FROZENSET)
        out = PyFrozenSet_New(seq);
    else if (type == ST_SLICE)
        out = PySlice_New(PyList_GET_ITEM(seq, 0), PyList_GET_ITEM(seq, 1), PyList_GET_ITEM(seq, 2));
    Py_DECREF(seq);
    return out;
}

PyObject *core_ref(GraphObject *g, st_ref r)
{
    RefObject *o = PyObject_New(RefObject, &Ref_Type);
    if (!o) return NULL;
    o->graph = (GraphObject *)Py_NewRef(g);
    o->ref = (st_ref){st_node_retain(r.node), r.port};
    return (PyObject *)o;
}

PyObject *core_expr(GraphObject *g, st_attr *t)
{
    if (st_attr_type_of(t) == ST_REF) return core_ref(g, st_attr_as_ref(t));
    ExprObject *o = PyObject_New(ExprObject, &Expr_Type);
    if (!o) return NULL;
    o->graph = (GraphObject *)Py_NewRef(g);
    o->attr = st_attr_retain(t);
    return (PyObject *)o;
}

st_attr *core_as_expr(GraphObject *g, PyObject *o)
{
    if (Py_IS_TYPE(o, &Ref_Type) || Py_IS_TYPE(o, &Expr_Type) || Py_IS_TYPE(o, &Leaf_Type))
        return core_to_attr(g, o, NULL, 0);
    return leaf_attr(g, o, NULL); /* a value from outside stays the object that it is */
}

int core_refs(PyObject *seq, st_ref **out, Py_ssize_t *n)
{
    PyObject *fast = PySequence_Fast(seq, "a sequence of refs is needed");
    if (!fast) return -1;
    *n = PySequence_Fast_GET_SIZE(fast);
    *out = PyMem_Calloc((size_t)*n + 1, sizeof **out);
    for (Py_ssize_t i = 0; *out && i < *n; i++) {
        PyObject *o = PySequence_Fast_GET_ITEM(fast, i);
        if (!Py_IS_TYPE(o, &Ref_Type)) {
            PyErr_Format(PyExc_TypeError, "a Ref is needed, got %s", Py_TYPE(o)->tp_name);
            PyMem_Free(*out);
            *out = NULL;
        } else {
            (*out)[i] = ((RefObject *)o)->ref;
        }
    }
    Py_DECREF(fast);
    if (!*out && !PyErr_Occurred()) PyErr_NoMemory();
    return *out ? 0 : -1;
}
