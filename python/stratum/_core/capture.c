/* capture.c - from skrub's DataOps to a plan, and the callbacks that lowering needs.
 *
 * The walk is a loop over frames: each DataOp, choice, match and estimator-with-choices is visited once,
 * its fields scanned for others, and added to the plan after them.  What an object is made of is told by
 * the host's `spec` and `choice` functions; the order of the fields is the order of evaluation.
 */
#include "core.h"

typedef struct frame {
    PyObject *obj;      /* the object that is captured */
    PyObject *what;     /* (kind, op, fields, flags) */
    PyObject *children; /* list of objects in the order met */
    Py_ssize_t next;
} frame;

typedef struct walk {
    PlanObject *p;
    frame *stack;
    size_t n, cap;
    PyObject *running; /* ids on the stack */
    PyObject *plain;   /* ids of estimators with nothing inside */
} walk;

#define MAX_DEPTH 150

/* Append the visitable objects in `o` to `out`. */
static int scan(walk *w, PyObject *o, PyObject *out, int depth)
{
    if (o == Py_None || PyBool_Check(o) || PyLong_Check(o) || PyFloat_Check(o) || PyUnicode_Check(o))
        return 0;
    if (depth > MAX_DEPTH) {
        PyErr_SetString(core.engine_error, "containers are nested too deeply");
        return -1;
    }
    if (PyList_CheckExact(o) || PyTuple_CheckExact(o)) {
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(o); i++)
            if (scan(w, PySequence_Fast_GET_ITEM(o, i), out, depth + 1) < 0) return -1;
        return 0;
    }
    if (PyDict_CheckExact(o)) {
        PyObject *k, *v;
        Py_ssize_t pos = 0;
        while (PyDict_Next(o, &pos, &k, &v))
            if (scan(w, v, out, depth + 1) < 0) return -1;
        return 0;
    }
    if (PySlice_Check(o)) {
        PySliceObject *s = (PySliceObject *)o;
        return scan(w, s->start, out, depth + 1) < 0 || scan(w, s->stop, out, depth + 1) < 0 ||
                       scan(w, s->step, out, depth + 1) < 0
                   ? -1
                   : 0;
    }
    if (Py_IS_TYPE(o, &PySet_Type) || PyFrozenSet_CheckExact(o)) {
        PyObject *it = PyObject_GetIter(o), *x;
        if (!it) return -1;
        int rc = 0;
        while (rc == 0 && (x = PyIter_Next(it))) {
            rc = scan(w, x, out, depth + 1);
            Py_DECREF(x);
        }
        Py_DECREF(it);
        return PyErr_Occurred() ? -1 : rc;
    }
    if (PyObject_TypeCheck(o, core.data_op) || PyObject_TypeCheck(o, core.choice_type) ||
        PyObject_TypeCheck(o, core.match_type))
        return PyList_Append(out, o);
    if (PyObject_TypeCheck(o, core.estimator_type)) {
        PyObject *id = PyLong_FromVoidPtr(o);
        int plain = id ? PySet_Contains(w->plain, id) : -1;
        Py_XDECREF(id);
        if (plain) return plain < 0 ? -1 : 0;
        return PyList_Append(out, o);
    }
    return 0;
}

/* What `o` is made of; None for an estimator with nothing to evaluate inside. */
static PyObject *describe(PyObject *o)
{
    if (PyObject_TypeCheck(o, core.data_op)) {
        PyObject *impl = PyObject_GetAttrString(o, "_skrub_impl");
        PyObject *r = impl ? PyObject_CallOneArg(core.spec, impl) : NULL;
        Py_XDECREF(impl);
        return r;
    }
    if (PyObject_TypeCheck(o, core.estimator_type)) return PyObject_CallOneArg(core.estimator, o);
    return PyObject_CallOneArg(core.choice, o);
}

static int push(walk *w, PyObject *o, bool *plain)
{
    *plain = false;
    PyObject *id = PyLong_FromVoidPtr(o);
    if (!id) return -1;
    int running = PySet_Contains(w->running, id);
    if (running) {
        if (running > 0) PyErr_SetString(core.engine_error, "the DataOp contains itself");
        Py_DECREF(id);
        return -1;
    }
    PyObject *what = describe(o);
    if (what == Py_None) {
        *plain = true;
        int rc = PySet_Add(w->plain, id);
        /* ids are only good while the object lives */
        if (rc == 0) rc = PyList_Append(w->p->keep, o);
        Py_DECREF(what);
        Py_DECREF(id);
        return rc;
    }
    int rc = what ? PySet_Add(w->running, id) : -1;
    Py_DECREF(id);
    if (rc < 0) {
        Py_XDECREF(what);
        return -1;
    }
    if (!PyTuple_Check(what) || PyTuple_GET_SIZE(what) != 4) {
        PyErr_SetString(PyExc_TypeError, "a spec is (kind, op, fields, flags)");
        Py_DECREF(what);
        return -1;
    }
    PyObject *children = PyList_New(0);
    if (!children || scan(w, PyTuple_GET_ITEM(what, 2), children, 0) < 0) {
        Py_XDECREF(children);
        Py_DECREF(what);
        return -1;
    }
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 32;
        frame *s = PyMem_Realloc(w->stack, cap * sizeof *s);
        if (!s) {
            Py_DECREF(children);
            Py_DECREF(what);
            PyErr_NoMemory();
            return -1;
        }
        w->stack = s;
        w->cap = cap;
    }
    w->stack[w->n++] = (frame){Py_NewRef(o), what, children, 0};
    return 0;
}

static int entry_of(PlanObject *p, PyObject *o, int64_t *index)
{
    PyObject *id = PyLong_FromVoidPtr(o);
    PyObject *at = id ? PyDict_GetItemWithError(p->index, id) : NULL;
    Py_XDECREF(id);
    *index = at ? (int64_t)PyLong_AsLongLong(at) : -1;
    return PyErr_Occurred() ? -1 : 0;
}

/* All children of the frame on top are in the plan: add it. */
static int add(walk *w)
{
    frame *f = &w->stack[w->n - 1];
    PlanObject *p = w->p;
    Py_ssize_t n = PyList_GET_SIZE(f->children);
    int rc = -1;
    uint32_t index;
    st_error err = {0};
    st_attr *fields = NULL;
    st_value *origin = NULL;
    PyObject *slots = PyDict_New(), *source = NULL;
    uint32_t *kids = PyMem_Calloc((size_t)n + 1, sizeof *kids);
    if (!slots || !kids) goto done;
    size_t k = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *c = PyList_GET_ITEM(f->children, i);
        int64_t e;
        if (entry_of(p, c, &e) < 0) goto done;
        if (e < 0) continue; /* an estimator that turned out plain */
        PyObject *id = PyLong_FromVoidPtr(c), *pos = PyLong_FromSize_t(k);
        int has = id && pos ? PyDict_Contains(slots, id) : -1;
        if (has == 0) {
            kids[k++] = (uint32_t)e;
            has = PyDict_SetItem(slots, id, pos) < 0 ? -1 : 0;
        }
        Py_XDECREF(id);
        Py_XDECREF(pos);
        if (has < 0) goto done;
    }
    core_slots cs = {slots};
    fields = core_to_attr(p->graph, PyTuple_GET_ITEM(f->what, 2), &cs, 0);
    if (!fields) goto done;
    long kind = PyLong_AsLong(PyTuple_GET_ITEM(f->what, 0));
    long op = PyLong_AsLong(PyTuple_GET_ITEM(f->what, 1));
    unsigned long flags = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(f->what, 3));
    if (PyErr_Occurred()) goto done;
    if (op >= (long)p->graph->n_ops) {
        PyErr_SetString(PyExc_ValueError, "a spec names an operator that is not registered");
        goto done;
    }
    source = PyObject_TypeCheck(f->obj, core.data_op) ? PyObject_GetAttrString(f->obj, "_skrub_impl")
                                                      : Py_NewRef(f->obj);
    if (source && p->made && PyObject_TypeCheck(f->obj, core.data_op))
        Py_SETREF(source, PyObject_CallOneArg(p->made, source));
    if (!source) goto done;
    origin = core_value(NULL, source, Py_False);
    if (!origin) goto done;
    int code = st_plan_add(p->plan, (st_cap_kind)kind, op < 0 ? NULL : &p->graph->ops[op]->op, fields, kids,
                           k, (uint32_t)flags, origin, &index, &err);
    if (code != ST_OK) {
        core_raise(code, &err);
        goto done;
    }
    PyObject *id = PyLong_FromVoidPtr(f->obj), *at = PyLong_FromUnsignedLong(index);
    rc = id && at && PyDict_SetItem(p->index, id, at) == 0 && PyList_Append(p->keep, f->obj) == 0 &&
                 PySet_Discard(w->running, id) >= 0
             ? 0
             : -1;
    Py_XDECREF(id);
    Py_XDECREF(at);
done:
    st_attr_release(fields);
    st_value_release(origin);
    PyMem_Free(kids);
    Py_XDECREF(slots);
    Py_XDECREF(source);
    if (rc < 0 && !PyErr_Occurred()) PyErr_NoMemory();
    return rc;
}

static void pop(walk *w)
{
    frame *f = &w->stack[--w->n];
    Py_CLEAR(f->what);
    Py_CLEAR(f->children);
    Py_CLEAR(f->obj);
}

int core_capture(PlanObject *p, PyObject *root, uint32_t *index)
{
    walk w = {.p = p, .running = PySet_New(NULL), .plain = PySet_New(NULL)};
    int rc = w.running && w.plain ? 0 : -1;
    int64_t e = -1;
    bool plain;
    if (rc == 0) rc = entry_of(p, root, &e);
    if (rc == 0 && e < 0) {
        rc = push(&w, root, &plain);
        if (rc == 0 && plain) {
            PyErr_SetString(PyExc_TypeError, "there is nothing to capture in this object");
            rc = -1;
        }
    }
    while (rc == 0 && w.n) {
        frame *f = &w.stack[w.n - 1];
        if (f->next < PyList_GET_SIZE(f->children)) {
            PyObject *c = PyList_GET_ITEM(f->children, f->next++);
            rc = entry_of(p, c, &e);
            if (rc == 0 && e < 0) rc = push(&w, c, &plain);
        } else {
            rc = add(&w);
            if (rc == 0) pop(&w);
        }
    }
    while (w.n)
        pop(&w);
    PyMem_Free(w.stack);
    Py_XDECREF(w.running);
    Py_XDECREF(w.plain);
    if (rc == 0) {
        rc = entry_of(p, root, &e);
        *index = (uint32_t)e;
    }
    return rc;
}

/* -- Callbacks of lowering; the GIL is held ------------------------------------------------ */

static int host_build(void *ud, st_value *template_, st_attr *params, st_value **out, st_error *err)
{
    PlanObject *p = ud;
    PyObject *d = core_from_attr(params, NULL, 0);
    PyObject *r = d ? PyObject_CallFunctionObjArgs(core.build, core_object(template_), d, NULL) : NULL;
    Py_XDECREF(d);
    if (r) *out = core_value(p->graph->values, r, NULL);
    Py_XDECREF(r);
    return r && *out ? ST_OK : st_fail(err, ST_EHOST, "building an estimator failed");
}

static int host_flags(void *ud, st_value *estimator, uint32_t *flags, st_error *err)
{
    (void)ud;
    PyObject *r = PyObject_CallOneArg(core.flags, core_object(estimator));
    *flags = r ? (uint32_t)PyLong_AsUnsignedLong(r) : 0;
    Py_XDECREF(r);
    return PyErr_Occurred() ? st_fail(err, ST_EHOST, "asking about an estimator failed") : ST_OK;
}

static int host_seed(void *ud, st_value *origin, st_value *estimator, int64_t *seed, st_error *err)
{
    (void)ud;
    PyObject *r = PyObject_CallFunctionObjArgs(core.seed, core_object(origin), core_object(estimator), NULL);
    *seed = r ? PyLong_AsLongLong(r) : 0;
    Py_XDECREF(r);
    return PyErr_Occurred() ? st_fail(err, ST_EHOST, "drawing a seed failed") : ST_OK;
}

static int host_match(void *ud, st_value *origin, st_attr *value, size_t *index, st_error *err)
{
    (void)ud;
    PyObject *v = core_from_attr(value, NULL, 0);
    PyObject *r = v ? PyObject_CallFunctionObjArgs(core.match, core_object(origin), v, NULL) : NULL;
    *index = r ? PyLong_AsSize_t(r) : 0;
    Py_XDECREF(v);
    Py_XDECREF(r);
    return PyErr_Occurred() ? st_fail(err, ST_EHOST, "matching a choice failed") : ST_OK;
}

const st_lower_host core_lower_host = {NULL, host_build, host_flags, host_seed, host_match};
