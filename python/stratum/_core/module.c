/* module.c - the types of stratum._core and the module itself. */
#include "core.h"
#include "native_numeric.h"

#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* -- Leaf, Failed, Expr -------------------------------------------------------------------- */

static PyObject *Leaf_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"obj", "enc", NULL};
    PyObject *obj, *enc = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "O|O", names, &obj, &enc)) return NULL;
    LeafObject *l = PyObject_New(LeafObject, type);
    if (!l) return NULL;
    l->obj = Py_NewRef(obj);
    l->enc = Py_NewRef(enc);
    return (PyObject *)l;
}

static void Leaf_dealloc(LeafObject *l)
{
    Py_XDECREF(l->obj);
    Py_XDECREF(l->enc);
    PyObject_Free(l);
}

PyTypeObject Leaf_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Leaf",
    .tp_basicsize = sizeof(LeafObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Leaf(obj, enc=None): an object that is never looked into.",
    .tp_new = Leaf_new,
    .tp_dealloc = (destructor)Leaf_dealloc,
};

static void Failed_dealloc(FailedObject *f)
{
    Py_XDECREF(f->error);
    Py_XDECREF(f->at);
    PyObject_Free(f);
}

static PyObject *Failed_get_error(FailedObject *f, void *u)
{
    (void)u;
    return Py_NewRef(f->error);
}

static PyObject *Failed_get_at(FailedObject *f, void *u)
{
    (void)u;
    return Py_NewRef(f->at ? (PyObject *)f->at : Py_None);
}

static PyGetSetDef Failed_getset[] = {{"error", (getter)Failed_get_error, NULL, "The exception.", NULL},
                                      {"at", (getter)Failed_get_at, NULL, "The node that raised it.", NULL},
                                      {NULL, NULL, NULL, NULL, NULL}};
PyTypeObject Failed_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Failed",
    .tp_basicsize = sizeof(FailedObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "What a tolerant operator gets in place of an input that failed.",
    .tp_dealloc = (destructor)Failed_dealloc,
    .tp_getset = Failed_getset,
};

static void Expr_dealloc(ExprObject *e)
{
    st_attr_release(e->attr);
    Py_DECREF(e->graph);
    PyObject_Free(e);
    core_drain();
}

static PyObject *Expr_const(ExprObject *e, PyObject *u)
{
    (void)u;
    return core_from_attr(e->attr, NULL, 0);
}

static PyObject *Expr_get_is_const(ExprObject *e, void *u)
{
    (void)u;
    return PyBool_FromLong(!st_attr_has_refs(e->attr));
}

static PyMethodDef Expr_methods[] = {
    {"const", (PyCFunction)Expr_const, METH_NOARGS, "The object, if no node is needed for it."},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef Expr_getset[] = {
    {"is_const", (getter)Expr_get_is_const, NULL, "Whether no node is needed for it.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};
PyTypeObject Expr_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Expr",
    .tp_basicsize = sizeof(ExprObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A constant, or a tree with refs in it.",
    .tp_dealloc = (destructor)Expr_dealloc,
    .tp_methods = Expr_methods,
    .tp_getset = Expr_getset,
};

/* -- Ref ----------------------------------------------------------------------------------- */

static void Ref_dealloc(RefObject *r)
{
    st_node_release(r->ref.node);
    Py_DECREF(r->graph);
    PyObject_Free(r);
    core_drain();
}

static PyObject *Ref_port(RefObject *r, PyObject *arg)
{
    unsigned long p = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    if (p >= st_node_op(r->ref.node)->n_out) return PyErr_Format(PyExc_IndexError, "no port %lu", p);
    return core_ref(r->graph, (st_ref){r->ref.node, (uint32_t)p});
}

static PyObject *Ref_bind(RefObject *r, PyObject *obj)
{
    st_value *v = core_value(NULL, obj, Py_False);
    if (!v) return NULL;
    int rc = st_node_bind(r->ref.node, r->ref.port, v);
    st_value_release(v);
    core_drain();
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, NULL);
}

static PyObject *Ref_unbind(RefObject *r, PyObject *obj)
{
    st_value *v = st_node_bound(r->ref.node, r->ref.port);
    if (v && (obj == Py_None || core_object(v) == obj)) st_node_unbind(r->ref.node, r->ref.port, v);
    st_value_release(v);
    core_drain();
    Py_RETURN_NONE;
}

/* (value,) or None, as None may itself be bound */
static PyObject *Ref_bound(RefObject *r, PyObject *u)
{
    (void)u;
    st_value *v = st_node_bound(r->ref.node, r->ref.port);
    PyObject *o = v ? PyTuple_Pack(1, core_object(v)) : Py_NewRef(Py_None);
    st_value_release(v);
    return o;
}

static PyObject *Ref_richcompare(PyObject *a, PyObject *b, int op)
{
    if (!Py_IS_TYPE(a, &Ref_Type) || !Py_IS_TYPE(b, &Ref_Type) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    st_ref x = ((RefObject *)a)->ref, y = ((RefObject *)b)->ref;
    bool eq = x.node == y.node && x.port == y.port;
    return PyBool_FromLong(op == Py_EQ ? eq : !eq);
}

static Py_hash_t Ref_hash(RefObject *r) { return (Py_hash_t)(st_node_id(r->ref.node) * 8 + r->ref.port); }

static int append_bytes(void *ud, const char *text, size_t n)
{
    PyObject *s = PyBytes_FromStringAndSize(text, (Py_ssize_t)n);
    int rc = s ? PyList_Append(ud, s) : -1;
    Py_XDECREF(s);
    return rc < 0 ? ST_EHOST : ST_OK;
}

static PyObject *encoding_of(st_node *n)
{
    PyObject *list = PyList_New(0), *out = NULL, *empty = PyBytes_FromStringAndSize(NULL, 0);
    if (list && empty && st_node_encode(n, append_bytes, list) == ST_OK)
        out = PyObject_CallMethod(empty, "join", "O", list);
    Py_XDECREF(list);
    Py_XDECREF(empty);
    return out;
}

/* The arguments with which the node was made, Refs in the place of its inputs. */
static PyObject *args_of(RefObject *r)
{
    size_t n = st_node_n_in(r->ref.node), made = 0;
    PyObject **in = PyMem_Calloc(n + 1, sizeof *in), *out = NULL;
    if (!in) return PyErr_NoMemory();
    while (made < n && (in[made] = core_ref(r->graph, st_node_in(r->ref.node, made))))
        made++;
    if (made == n) out = core_from_attr(st_node_attr(r->ref.node), in, n);
    for (size_t i = 0; i < made; i++)
        Py_DECREF(in[i]);
    PyMem_Free(in);
    return out;
}

static PyObject *Ref_get(RefObject *r, void *what)
{
    const st_node *n = r->ref.node;
    switch (*(const char *)what) {
    case 'i': return PyLong_FromUnsignedLongLong(st_node_id(n));
    case 'o': return PyUnicode_FromString(st_node_op(n)->name);
    case 'f': return PyLong_FromUnsignedLong(st_node_flags(n));
    case 'p': return PyLong_FromUnsignedLong(r->ref.port);
    case 'P': return PyBool_FromLong(st_node_is_plain(n));
    case 'm': {
        st_hash h = st_node_meaning(n);
        return PyBytes_FromStringAndSize((const char *)&h, sizeof h);
    }
    case 's': {
        st_hash h = st_node_structure(n);
        return PyBytes_FromStringAndSize((const char *)&h, sizeof h);
    }
    case 'e': return encoding_of(r->ref.node);
    case 'a': return args_of(r);
    case 'g': {
        st_value *v = st_node_origin(n);
        return Py_NewRef(v ? core_object(v) : Py_None);
    }
    default: {
        PyObject *t = PyTuple_New((Py_ssize_t)st_node_n_in(n));
        for (size_t i = 0; t && i < st_node_n_in(n); i++) {
            PyObject *x = core_ref(r->graph, st_node_in(n, i));
            if (!x)
                Py_CLEAR(t);
            else
                PyTuple_SET_ITEM(t, (Py_ssize_t)i, x);
        }
        return t;
    }
    }
}

static PyMethodDef Ref_methods[] = {
    {"at", (PyCFunction)Ref_port, METH_O, "The same node's output `port`."},
    {"bind", (PyCFunction)Ref_bind, METH_O, "Keep a value with the node."},
    {"unbind", (PyCFunction)Ref_unbind, METH_O, "Forget the value if it is this object (None: any)."},
    {"bound", (PyCFunction)Ref_bound, METH_NOARGS, "(value,) or None."},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef Ref_getset[] = {
    {"id", (getter)Ref_get, NULL, "Number of the node in its graph.", "i"},
    {"op", (getter)Ref_get, NULL, "Name of the operator.", "o"},
    {"flags", (getter)Ref_get, NULL, "Flags of the node.", "f"},
    {"port", (getter)Ref_get, NULL, "Which output.", "p"},
    {"plain", (getter)Ref_get, NULL, "Whether its keys mean the same in another process.", "P"},
    {"meaning", (getter)Ref_get, NULL, "Key of what it computes (16 bytes).", "m"},
    {"structure", (getter)Ref_get, NULL, "Key of what it is (16 bytes).", "s"},
    {"encoding", (getter)Ref_get, NULL,
     "What its meaning is the key of: operator, attributes, meanings of the inputs.", "e"},
    {"origin", (getter)Ref_get, NULL, "What made it first.", "g"},
    {"inputs", (getter)Ref_get, NULL, "Refs of its inputs.", "n"},
    {"args", (getter)Ref_get, NULL, "What it was made of, with Refs for its inputs.", "a"},
    {NULL, NULL, NULL, NULL, NULL}};
PyTypeObject Ref_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Ref",
    .tp_basicsize = sizeof(RefObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "One output of a node.",
    .tp_dealloc = (destructor)Ref_dealloc,
    .tp_methods = Ref_methods,
    .tp_getset = Ref_getset,
    .tp_richcompare = Ref_richcompare,
    .tp_hash = (hashfunc)Ref_hash,
};

/* -- Graph --------------------------------------------------------------------------------- */

static PyObject *Graph_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    (void)args;
    (void)kwds;
    GraphObject *self = (GraphObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->values = PyDict_New();
    int rc = self->values ? st_graph_new(st_alloc_default(), &self->g) : ST_ENOMEM;
    if (rc != ST_OK) {
        Py_DECREF(self);
        return core_raise(rc, NULL);
    }
    return (PyObject *)self;
}

static void Graph_dealloc(GraphObject *self)
{
    Py_CLEAR(self->values);
    core_drain();
    st_graph_free(self->g);
    for (size_t i = 0; i < self->n_ops; i++) {
        Py_DECREF(self->ops[i]->func);
        Py_DECREF(self->ops[i]->name);
        Py_DECREF(self->ops[i]->brief);
        PyMem_Free(self->ops[i]);
    }
    PyMem_Free(self->ops);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *Graph_op(GraphObject *self, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"name", "func", "props", "n_out", "version", "brief", NULL};
    PyObject *name, *func, *brief = NULL;
    unsigned int props = 0, n_out = 1, version = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "UO|IIIU", names, &name, &func, &props, &n_out, &version,
                                     &brief))
        return NULL;
    core_op **ops = PyMem_Realloc(self->ops, (self->n_ops + 1) * sizeof *ops);
    if (!ops) return PyErr_NoMemory();
    self->ops = ops;
    core_op *op = PyMem_Calloc(1, sizeof *op);
    if (!op) return PyErr_NoMemory();
    brief = brief ? Py_NewRef(brief) : PyUnicode_FromString("");
    const char *text = brief ? PyUnicode_AsUTF8(brief) : NULL, *n = PyUnicode_AsUTF8(name);
    if (!text || !n) {
        Py_XDECREF(brief);
        PyMem_Free(op);
        return NULL;
    }
    op->func = Py_NewRef(func);
    op->name = Py_NewRef(name);
    op->brief = brief;
    op->graph = self;
    op->op = (st_op){n, version, props, n_out, ST_PHYSICAL, text, core_exec, op};
    self->ops[self->n_ops] = op;
    return PyLong_FromSize_t(self->n_ops++);
}

static const st_op *graph_op(GraphObject *g, PyObject *i)
{
    size_t k = PyLong_AsSize_t(i);
    if (PyErr_Occurred()) return NULL;
    if (k >= g->n_ops) {
        PyErr_SetString(PyExc_IndexError, "no such operator");
        return NULL;
    }
    return &g->ops[k]->op;
}

static PyObject *Graph_node(GraphObject *self, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"op", "args", "flags", "origin", NULL};
    PyObject *opn, *tuple, *origin = Py_None;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "OO!|IO", names, &opn, &PyTuple_Type, &tuple, &flags,
                                     &origin))
        return NULL;
    const st_op *op = graph_op(self, opn);
    if (!op) return NULL;
    st_attr *t = core_to_attr(self, tuple, NULL, 0);
    if (!t) return NULL;
    st_value *v = NULL;
    if (origin != Py_None && !(v = core_value(NULL, origin, Py_False))) {
        st_attr_release(t);
        return NULL;
    }
    st_error err = {0};
    st_node *n;
    int rc = st_graph_intern(self->g, op, t, flags, v, &n, &err);
    st_attr_release(t);
    st_value_release(v);
    if (rc != ST_OK) return core_raise(rc, &err);
    PyObject *r = core_ref(self, (st_ref){n, 0});
    st_node_release(n);
    return r;
}

static PyObject *Graph_stats(GraphObject *self, PyObject *u)
{
    (void)u;
    st_graph_stats s = st_graph_get_stats(self->g);
    return Py_BuildValue("{s:n,s:K,s:K}", "nodes", (Py_ssize_t)s.nodes, "asked", (unsigned long long)s.asked,
                         "shared", (unsigned long long)s.shared);
}

static PyObject *Graph_verify(GraphObject *self, PyObject *u)
{
    (void)u;
    st_error err = {0};
    int rc = st_graph_verify(self->g, &err);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, &err);
}

static PyObject *Graph_forget(GraphObject *self, PyObject *u)
{
    (void)u;
    PyDict_Clear(self->values);
    core_drain();
    Py_RETURN_NONE;
}

static int append_text(void *ud, const char *text, size_t n)
{
    PyObject *s = PyUnicode_DecodeUTF8(text, (Py_ssize_t)n, "replace");
    int rc = s ? PyList_Append(ud, s) : -1;
    Py_XDECREF(s);
    return rc < 0 ? ST_EHOST : ST_OK;
}

static PyObject *print_with(GraphObject *self, PyObject *seq,
                            int (*how)(st_graph *, const st_ref *, size_t, st_sink, void *))
{
    st_ref *refs;
    Py_ssize_t n;
    if (core_refs(seq, &refs, &n) < 0) return NULL;
    PyObject *list = PyList_New(0), *out = NULL, *empty = PyUnicode_FromString("");
    int rc = list && empty ? how(self->g, refs, (size_t)n, append_text, list) : ST_ENOMEM;
    PyMem_Free(refs);
    if (rc == ST_OK)
        out = PyUnicode_Join(empty, list);
    else
        core_raise(rc, NULL);
    Py_XDECREF(list);
    Py_XDECREF(empty);
    return out;
}

static PyObject *Graph_print(GraphObject *self, PyObject *seq)
{
    return print_with(self, seq, st_graph_print);
}
static PyObject *Graph_dot(GraphObject *self, PyObject *seq) { return print_with(self, seq, st_graph_dot); }

static PyObject *Graph_order(GraphObject *self, PyObject *seq)
{
    st_ref *refs;
    Py_ssize_t n;
    if (core_refs(seq, &refs, &n) < 0) return NULL;
    st_node **order = NULL;
    size_t m = 0;
    int rc = st_graph_order(self->g, refs, (size_t)n, &order, &m);
    PyMem_Free(refs);
    if (rc != ST_OK) return core_raise(rc, NULL);
    PyObject *list = PyList_New((Py_ssize_t)m);
    for (size_t i = 0; list && i < m; i++) {
        PyObject *r = core_ref(self, (st_ref){order[i], 0});
        if (!r)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, r);
    }
    st_alloc_default()->release(NULL, order);
    return list;
}

static PyMethodDef Graph_methods[] = {
    {"op", (PyCFunction)(void (*)(void))Graph_op, METH_VARARGS | METH_KEYWORDS,
     "Register an operator; its number."},
    {"node", (PyCFunction)(void (*)(void))Graph_node, METH_VARARGS | METH_KEYWORDS, "The node op(*args)."},
    {"stats", (PyCFunction)Graph_stats, METH_NOARGS, "Nodes alive, asked for, shared."},
    {"verify", (PyCFunction)Graph_verify, METH_NOARGS, "Raise if the graph is not well formed."},
    {"forget", (PyCFunction)Graph_forget, METH_NOARGS, "Forget the encodings of this batch."},
    {"print", (PyCFunction)Graph_print, METH_O, "The nodes that refs need, a line each."},
    {"dot", (PyCFunction)Graph_dot, METH_O, "The same as DOT."},
    {"order", (PyCFunction)Graph_order, METH_O, "The nodes that refs need, inputs first."},
    {NULL, NULL, 0, NULL}};
PyTypeObject Graph_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Graph",
    .tp_basicsize = sizeof(GraphObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A hash-consed graph and its operators.",
    .tp_new = Graph_new,
    .tp_dealloc = (destructor)Graph_dealloc,
    .tp_methods = Graph_methods,
};

/* -- Plan ---------------------------------------------------------------------------------- */

static PyObject *Plan_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    (void)kwds;
    GraphObject *g;
    PyObject *ops, *made = NULL;
    if (!PyArg_ParseTuple(args, "O!O!|O", &Graph_Type, &g, &PyDict_Type, &ops, &made)) return NULL;
    PlanObject *self = (PlanObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->graph = (GraphObject *)Py_NewRef(g);
    self->index = PyDict_New();
    self->keep = PyList_New(0);
    self->made = Py_XNewRef(made);
    struct {
        const char *name;
        const st_op **where;
    } want[] = {{"fit", &self->ops.fit},         {"call", &self->ops.call},
                {"applied", &self->ops.applied}, {"concat_fit", &self->ops.concat_fit},
                {"concat", &self->ops.concat},   {"select", &self->ops.select},
                {"build", &self->ops.build},     {"constant", &self->ops.constant},
                {"missing", &self->ops.missing}, {"subsample", &self->ops.subsample}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        PyObject *k = PyDict_GetItemString(ops, want[i].name);
        if (!k) PyErr_Format(PyExc_KeyError, "operator %s is missing", want[i].name);
        *want[i].where = k ? graph_op(g, k) : NULL;
        if (!*want[i].where) {
            Py_DECREF(self);
            return NULL;
        }
    }
    st_lower_host host = core_lower_host;
    host.ud = self;
    int rc = self->index && self->keep ? st_plan_new(g->g, &self->ops, &host, &self->plan) : ST_ENOMEM;
    if (rc != ST_OK) {
        Py_DECREF(self);
        return core_raise(rc, NULL);
    }
    return (PyObject *)self;
}

static void Plan_dealloc(PlanObject *self)
{
    st_plan_free(self->plan);
    Py_XDECREF(self->index);
    Py_XDECREF(self->keep);
    Py_XDECREF(self->made);
    core_drain();
    Py_XDECREF(self->graph);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *Plan_capture(PlanObject *self, PyObject *obj)
{
    uint32_t i;
    /* A capture makes many objects and no garbage: the collector would walk them all again and again
     * (measured on 20,000 nodes: two thirds of the time). */
    int collects = PyGC_Disable();
    int rc = core_capture(self, obj, &i);
    if (collects) PyGC_Enable();
    return rc < 0 ? NULL : PyLong_FromUnsignedLong(i);
}

static PyObject *Plan_index_of(PlanObject *self, PyObject *obj)
{
    PyObject *id = PyLong_FromVoidPtr(obj);
    PyObject *at = id ? PyDict_GetItemWithError(self->index, id) : NULL;
    Py_XDECREF(id);
    if (!at && PyErr_Occurred()) return NULL;
    return Py_NewRef(at ? at : Py_None);
}

static Py_ssize_t Plan_len(PlanObject *self) { return (Py_ssize_t)st_plan_len(self->plan); }

/* [(kind, origin)] in order, from entry `start` on */
static PyObject *Plan_entries(PlanObject *self, PyObject *args)
{
    Py_ssize_t start = 0;
    if (!PyArg_ParseTuple(args, "|n", &start)) return NULL;
    size_t n = st_plan_len(self->plan), from = start < 0 ? 0 : (size_t)start;
    if (from > n) from = n;
    PyObject *list = PyList_New((Py_ssize_t)(n - from));
    for (size_t i = from; list && i < n; i++) {
        st_value *o = st_plan_origin(self->plan, (uint32_t)i);
        PyObject *t =
            Py_BuildValue("(iO)", (int)st_plan_kind(self->plan, (uint32_t)i), o ? core_object(o) : Py_None);
        if (!t)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)(i - from), t);
    }
    return list;
}

/* The entries that entry i names, each once. */
static PyObject *Plan_children(PlanObject *self, PyObject *arg)
{
    unsigned long i = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    if (i >= st_plan_len(self->plan)) return PyErr_Format(PyExc_IndexError, "no entry %lu", i);
    const uint32_t *children;
    size_t n = st_plan_children(self->plan, (uint32_t)i, &children);
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t k = 0; list && k < n; k++) {
        PyObject *o = PyLong_FromUnsignedLong(children[k]);
        if (!o)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)k, o);
    }
    return list;
}

static PySequenceMethods Plan_seq = {.sq_length = (lenfunc)Plan_len};
static PyMethodDef Plan_methods[] = {
    {"capture", (PyCFunction)Plan_capture, METH_O, "Capture a DataOp with all that it needs; its entry."},
    {"index_of", (PyCFunction)Plan_index_of, METH_O, "The entry of a captured object, or None."},
    {"entries", (PyCFunction)Plan_entries, METH_VARARGS,
     "entries(start=0): [(kind, object)] of the entries from there on."},
    {"children", (PyCFunction)Plan_children, METH_O, "The entries that entry i names, each once."},
    {NULL, NULL, 0, NULL}};
PyTypeObject Plan_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Plan",
    .tp_basicsize = sizeof(PlanObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Plan(graph, ops[, origin_of]): a captured pipeline.",
    .tp_new = Plan_new,
    .tp_dealloc = (destructor)Plan_dealloc,
    .tp_methods = Plan_methods,
    .tp_as_sequence = &Plan_seq,
};

/* -- Scope --------------------------------------------------------------------------------- */

static PyObject *Scope_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"plan", "mode", "flags", "seed", "fitted", NULL};
    PlanObject *plan;
    const char *mode;
    unsigned int flags = 0;
    long long seed = 0;
    PyObject *fitted = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "O!s|ILO", names, &Plan_Type, &plan, &mode, &flags, &seed,
                                     &fitted))
        return NULL;
    if (fitted != Py_None && !Py_IS_TYPE(fitted, &Scope_Type))
        return PyErr_Format(PyExc_TypeError, "fitted must be a Scope");
    ScopeObject *self = (ScopeObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->plan = (PlanObject *)Py_NewRef(plan);
    st_scope *f = fitted == Py_None ? NULL : ((ScopeObject *)fitted)->scope;
    int rc = st_scope_new(plan->plan, mode, flags, seed, f, &self->scope);
    if (rc != ST_OK) {
        self->scope = NULL;
        Py_DECREF(self);
        return core_raise(rc, NULL);
    }
    /* not borrowed, but what it applies must outlive it */
    if (f) {
        PyObject *t = PyTuple_Pack(1, fitted);
        self->owner = t;
        if (!t) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static PyObject *borrowed_scope(PlanObject *plan, st_scope *s, PyObject *owner)
{
    ScopeObject *o = (ScopeObject *)Scope_Type.tp_alloc(&Scope_Type, 0);
    if (!o) return NULL;
    o->plan = (PlanObject *)Py_NewRef(plan);
    o->scope = s;
    o->owner = Py_NewRef(owner); /* a CV: it frees the scope */
    return (PyObject *)o;
}

static void Scope_dealloc(ScopeObject *self)
{
    if (self->scope && (!self->owner || PyTuple_Check(self->owner))) st_scope_free(self->scope);
    Py_XDECREF(self->owner);
    Py_XDECREF(self->plan);
    core_drain();
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *Scope_bind(ScopeObject *self, PyObject *args)
{
    unsigned int i;
    PyObject *o;
    if (!PyArg_ParseTuple(args, "IO", &i, &o)) return NULL;
    st_attr *t = core_as_expr(self->plan->graph, o);
    if (!t) return NULL;
    int rc = st_scope_bind(self->scope, i, t);
    st_attr_release(t);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, NULL);
}

static PyObject *Scope_choose(ScopeObject *self, PyObject *args)
{
    unsigned int i;
    PyObject *o;
    if (!PyArg_ParseTuple(args, "IO", &i, &o)) return NULL;
    st_attr *t = core_to_attr(self->plan->graph, o, NULL, 0);
    if (!t) return NULL;
    int rc = st_scope_choose(self->scope, i, t);
    st_attr_release(t);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, NULL);
}

static PyObject *Scope_extend(ScopeObject *self, PyObject *u)
{
    (void)u;
    int rc = st_scope_extend(self->scope);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, NULL);
}

static PyObject *Scope_ref(ScopeObject *self, PyObject *arg)
{
    unsigned long i = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    st_error err = {0};
    st_ref r;
    int rc = st_lower_ref(self->scope, (uint32_t)i, &r, &err);
    return rc == ST_OK ? core_ref(self->plan->graph, r) : core_raise(rc, &err);
}

static PyObject *Scope_expr(ScopeObject *self, PyObject *arg)
{
    unsigned long i = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    st_error err = {0};
    st_attr *t;
    int rc = st_lower(self->scope, (uint32_t)i, &t, &err);
    return rc == ST_OK ? core_expr(self->plan->graph, t) : core_raise(rc, &err);
}

static PyObject *Scope_field(ScopeObject *self, PyObject *args)
{
    unsigned int i, f;
    if (!PyArg_ParseTuple(args, "II", &i, &f)) return NULL;
    st_error err = {0};
    st_attr *t;
    int rc = st_lower_field(self->scope, i, f, &t, &err);
    if (rc != ST_OK) return core_raise(rc, &err);
    PyObject *o = core_expr(self->plan->graph, t);
    st_attr_release(t);
    return o;
}

static PyObject *Scope_state(ScopeObject *self, PyObject *arg)
{
    unsigned long i = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    st_attr *t = st_scope_state(self->scope, (uint32_t)i);
    return t ? core_expr(self->plan->graph, t) : Py_NewRef(Py_None);
}

static PyObject *Scope_value(ScopeObject *self, PyObject *arg)
{
    unsigned long i = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    st_attr *t = st_scope_value(self->scope, (uint32_t)i);
    return t ? core_expr(self->plan->graph, t) : Py_NewRef(Py_None);
}

static PyObject *Scope_first_apply(ScopeObject *self, PyObject *arg)
{
    unsigned long i = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    int64_t k = st_scope_first_apply(self->scope, (uint32_t)i);
    return k < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(k);
}

static PyMethodDef Scope_methods[] = {
    {"bind", (PyCFunction)Scope_bind, METH_VARARGS, "Entry i has this value."},
    {"choose", (PyCFunction)Scope_choose, METH_VARARGS, "Choice i has this outcome."},
    {"extend", (PyCFunction)Scope_extend, METH_NOARGS, "Make room for entries that the plan got since."},
    {"ref", (PyCFunction)Scope_ref, METH_O, "The value of entry i as a Ref."},
    {"expr", (PyCFunction)Scope_expr, METH_O, "The value of entry i as a Ref or Expr."},
    {"field", (PyCFunction)Scope_field, METH_VARARGS, "One field of entry i as a Ref or Expr."},
    {"state", (PyCFunction)Scope_state, METH_O, "The state of entry i, or None."},
    {"value", (PyCFunction)Scope_value, METH_O, "What entry i was lowered to, or None."},
    {"first_apply", (PyCFunction)Scope_first_apply, METH_O, "The first apply from entry i down, or None."},
    {NULL, NULL, 0, NULL}};
PyTypeObject Scope_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Scope",
    .tp_basicsize = sizeof(ScopeObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Scope(plan, mode, flags=0, seed=0, fitted=None): one way of evaluating a plan.",
    .tp_new = Scope_new,
    .tp_dealloc = (destructor)Scope_dealloc,
    .tp_methods = Scope_methods,
};

/* -- CV ------------------------------------------------------------------------------------ */

static int cv_modes(void *ud, st_value *estimator, uint32_t *modes, st_error *err)
{
    CVObject *self = ud;
    PyObject *r = PyObject_CallOneArg(self->modes, estimator ? core_object(estimator) : Py_None);
    *modes = r ? (uint32_t)PyLong_AsUnsignedLong(r) : 0;
    Py_XDECREF(r);
    return PyErr_Occurred() ? st_fail(err, ST_EHOST, "asking a scorer failed") : ST_OK;
}

static int cv_ticket(void *ud, size_t cand, size_t fold, bool train, st_value **out, st_error *err)
{
    CVObject *self = ud;
    PyObject *r = PyObject_CallFunction(self->ticket, "nni", (Py_ssize_t)cand, (Py_ssize_t)fold, (int)train);
    *out = r && r != Py_None ? core_value(NULL, r, Py_False) : NULL;
    Py_XDECREF(r);
    return PyErr_Occurred() ? st_fail(err, ST_EHOST, "asking a scorer failed") : ST_OK;
}

static PyObject *CV_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"plan", "root", "base",  "flags", "seed",   "x",
                            "y",    "take", "score", "modes", "ticket", NULL};
    PlanObject *plan;
    ScopeObject *base;
    unsigned int root, flags;
    long long seed, x, y;
    PyObject *take, *score, *modes, *ticket;
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "O!IO!ILLLOOOO", names, &Plan_Type, &plan, &root,
                                     &Scope_Type, &base, &flags, &seed, &x, &y, &take, &score, &modes,
                                     &ticket))
        return NULL;
    CVObject *self = (CVObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->plan = (PlanObject *)Py_NewRef(plan);
    self->base = (ScopeObject *)Py_NewRef(base);
    self->modes = Py_NewRef(modes);
    self->ticket = Py_NewRef(ticket);
    self->ops.take = graph_op(plan->graph, take);
    self->ops.score = self->ops.take ? graph_op(plan->graph, score) : NULL;
    st_cv_host host = {self, cv_modes, cv_ticket};
    int rc = self->ops.score
                 ? st_cv_new(plan->plan, root, base->scope, flags, seed, x, y, &self->ops, &host, &self->cv)
                 : ST_EINVAL;
    if (rc != ST_OK) {
        Py_DECREF(self);
        return core_raise(rc, NULL);
    }
    return (PyObject *)self;
}

static int CV_traverse(CVObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->modes);
    Py_VISIT(self->ticket);
    return 0;
}

static int CV_clear(CVObject *self)
{
    Py_CLEAR(self->modes);
    Py_CLEAR(self->ticket);
    return 0;
}

static void CV_dealloc(CVObject *self)
{
    PyObject_GC_UnTrack(self);
    st_cv_free(self->cv);
    CV_clear(self);
    Py_XDECREF(self->base);
    Py_XDECREF(self->plan);
    core_drain();
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *CV_data(CVObject *self, PyObject *args)
{
    PyObject *x, *y;
    if (!PyArg_ParseTuple(args, "OO", &x, &y)) return NULL;
    st_attr *tx = core_as_expr(self->plan->graph, x);
    st_attr *ty = tx && y != Py_None ? core_as_expr(self->plan->graph, y) : NULL;
    int rc = tx && (ty || y == Py_None) ? st_cv_data(self->cv, tx, ty) : ST_EHOST;
    st_attr_release(tx);
    st_attr_release(ty);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, NULL);
}

static PyObject *CV_scoring(CVObject *self, PyObject *args)
{
    PyObject *spec;
    long long scorers;
    int train;
    if (!PyArg_ParseTuple(args, "OLp", &spec, &scorers, &train)) return NULL;
    st_attr *t = core_to_attr(self->plan->graph, spec, NULL, 0);
    int rc = t ? st_cv_scoring(self->cv, t, scorers, train) : ST_EHOST;
    st_attr_release(t);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, NULL);
}

static PyObject *CV_add_fold(CVObject *self, PyObject *args)
{
    PyObject *train, *test;
    if (!PyArg_ParseTuple(args, "OO", &train, &test)) return NULL;
    st_attr *a = core_as_expr(self->plan->graph, train),
            *b = a ? core_as_expr(self->plan->graph, test) : NULL;
    int rc = b ? st_cv_add_fold(self->cv, a, b) : ST_EHOST;
    st_attr_release(a);
    st_attr_release(b);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, NULL);
}

/* add_candidate([(entry, outcome), ...]) */
static PyObject *CV_add_candidate(CVObject *self, PyObject *seq)
{
    PyObject *fast = PySequence_Fast(seq, "a sequence of (entry, outcome) is needed");
    if (!fast) return NULL;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(fast), made = 0;
    uint32_t *entries = PyMem_Calloc((size_t)n + 1, sizeof *entries);
    st_attr **outcomes = PyMem_Calloc((size_t)n + 1, sizeof *outcomes);
    int rc = entries && outcomes ? ST_OK : ST_ENOMEM;
    for (; rc == ST_OK && made < n; made++) {
        unsigned int e;
        PyObject *o;
        if (!PyArg_ParseTuple(PySequence_Fast_GET_ITEM(fast, made), "IO", &e, &o)) {
            rc = ST_EHOST;
            break;
        }
        entries[made] = e;
        outcomes[made] = core_to_attr(self->plan->graph, o, NULL, 0);
        if (!outcomes[made]) {
            rc = ST_EHOST;
            break;
        }
    }
    if (rc == ST_OK) rc = st_cv_add_candidate(self->cv, entries, outcomes, (size_t)n);
    for (Py_ssize_t i = 0; i < made; i++)
        st_attr_release(outcomes[i]);
    PyMem_Free(entries);
    PyMem_Free(outcomes);
    Py_DECREF(fast);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, NULL);
}

/* lower(wanted=None): one byte for each candidate, not zero where it is wanted */
static PyObject *CV_lower(CVObject *self, PyObject *args)
{
    Py_buffer wanted = {0};
    if (!PyArg_ParseTuple(args, "|z*", &wanted)) return NULL;
    if (wanted.buf && (size_t)wanted.len != st_cv_n_candidates(self->cv)) {
        PyBuffer_Release(&wanted);
        return PyErr_Format(PyExc_ValueError, "a byte for each candidate is needed");
    }
    st_error err = {0};
    int rc = st_cv_lower(self->cv, wanted.buf, &err);
    if (wanted.buf) PyBuffer_Release(&wanted);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, &err);
}

/* refs(part) -> list, candidate-major; part 0 fit, 1 test, 2 train */
static PyObject *CV_refs(CVObject *self, PyObject *arg)
{
    long part = PyLong_AsLong(arg);
    if (PyErr_Occurred()) return NULL;
    size_t nc = st_cv_n_candidates(self->cv), nf = st_cv_n_folds(self->cv);
    PyObject *list = PyList_New((Py_ssize_t)(nc * nf));
    for (size_t i = 0; list && i < nc * nf; i++) {
        st_ref r = st_cv_ref(self->cv, i / nf, i % nf, (st_cv_part)part);
        PyObject *o = r.node ? core_ref(self->plan->graph, r) : Py_NewRef(Py_None);
        if (!o)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, o);
    }
    return list;
}

static PyObject *CV_scope(CVObject *self, PyObject *args)
{
    Py_ssize_t c, f;
    if (!PyArg_ParseTuple(args, "nn", &c, &f)) return NULL;
    if (c < 0 || f < 0 || (size_t)c >= st_cv_n_candidates(self->cv) || (size_t)f >= st_cv_n_folds(self->cv))
        return PyErr_Format(PyExc_IndexError, "no such pair");
    st_scope *s = st_cv_scope(self->cv, (size_t)c, (size_t)f);
    if (!s) return PyErr_Format(PyExc_IndexError, "the pair was not lowered");
    return borrowed_scope(self->plan, s, (PyObject *)self);
}

/* evaluate(candidate, mode, x, y, fitted) -> (scope, ref); x None: all rows */
static PyObject *CV_evaluate(CVObject *self, PyObject *args)
{
    Py_ssize_t c;
    const char *mode;
    PyObject *x, *y, *fitted;
    if (!PyArg_ParseTuple(args, "nsOOO", &c, &mode, &x, &y, &fitted)) return NULL;
    if (fitted != Py_None && !Py_IS_TYPE(fitted, &Scope_Type))
        return PyErr_Format(PyExc_TypeError, "fitted must be a Scope");
    st_attr *tx = x == Py_None ? NULL : core_as_expr(self->plan->graph, x);
    st_attr *ty = y == Py_None ? NULL : core_as_expr(self->plan->graph, y);
    st_error err = {0};
    st_scope *s;
    st_ref r;
    int rc = PyErr_Occurred()
                 ? ST_EHOST
                 : st_cv_evaluate(self->cv, (size_t)c, mode, tx, ty,
                                  fitted == Py_None ? NULL : ((ScopeObject *)fitted)->scope, &s, &r, &err);
    st_attr_release(tx);
    st_attr_release(ty);
    if (rc != ST_OK) return core_raise(rc, &err);
    PyObject *so = borrowed_scope(self->plan, s, (PyObject *)self), *ro = core_ref(self->plan->graph, r);
    PyObject *out = so && ro ? PyTuple_Pack(2, so, ro) : NULL;
    Py_XDECREF(so);
    Py_XDECREF(ro);
    return out;
}

static PyMethodDef CV_methods[] = {
    {"data", (PyCFunction)CV_data, METH_VARARGS, "All rows of X and y."},
    {"scoring", (PyCFunction)CV_scoring, METH_VARARGS, "scoring(spec, scorers_entry, train)"},
    {"add_fold", (PyCFunction)CV_add_fold, METH_VARARGS, "add_fold(train, test)"},
    {"add_candidate", (PyCFunction)CV_add_candidate, METH_O, "add_candidate([(entry, outcome), ...])"},
    {"lower", (PyCFunction)CV_lower, METH_VARARGS,
     "lower(wanted=None): make the nodes of every candidate and fold, or of those wanted now."},
    {"refs", (PyCFunction)CV_refs, METH_O, "refs(part): fits (0), test scores (1), train scores (2)."},
    {"scope", (PyCFunction)CV_scope, METH_VARARGS, "scope(candidate, fold): where it was fitted."},
    {"evaluate", (PyCFunction)CV_evaluate, METH_VARARGS, "evaluate(candidate, mode, x, y, fitted)"},
    {NULL, NULL, 0, NULL}};
PyTypeObject CV_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.CV",
    .tp_basicsize = sizeof(CVObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A search or cross-validation of a plan.",
    .tp_new = CV_new,
    .tp_dealloc = (destructor)CV_dealloc,
    .tp_traverse = (traverseproc)CV_traverse,
    .tp_clear = (inquiry)CV_clear,
    .tp_methods = CV_methods,
};

/* -- Run ----------------------------------------------------------------------------------- */

static PyObject *Run_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    (void)kwds;
    GraphObject *g;
    PyObject *recall = Py_None;
    int n;
    if (!PyArg_ParseTuple(args, "O!i|O", &Graph_Type, &g, &n, &recall)) return NULL;
    if (recall != Py_None && !Py_IS_TYPE(recall, &Recall_Type))
        return PyErr_Format(PyExc_TypeError, "a Recall is needed, got %s", Py_TYPE(recall)->tp_name);
    RunObject *self = (RunObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->graph = (GraphObject *)Py_NewRef(g);
    int rc = st_run_new(g->g, n, &self->run);
    if (rc != ST_OK) {
        Py_DECREF(self);
        return core_raise(rc, NULL);
    }
    if (recall != Py_None) {
        self->recall = Py_NewRef(recall);
        core_set_recall(self->run, recall);
    }
    return (PyObject *)self;
}

static bool open_run(RunObject *self)
{
    if (self->run) return true;
    PyErr_SetString(core.engine_error, "the run is closed");
    return false;
}

static PyObject *Run_close(RunObject *self, PyObject *u)
{
    (void)u;
    st_run *r = self->run;
    self->run = NULL;
    if (r) {
        PyThreadState *outer = core_leave();
        st_run_free(r);
        core_enter(outer);
    }
    core_drain();
    Py_RETURN_NONE;
}

static void Run_dealloc(RunObject *self)
{
    PyObject *r = Run_close(self, NULL);
    Py_XDECREF(r);
    Py_XDECREF(self->interrupt);
    Py_XDECREF(self->recall);
    Py_XDECREF(self->graph);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *Run_demand(RunObject *self, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"refs", "root", NULL};
    PyObject *seq;
    int root = 0;
    if (!open_run(self) || !PyArg_ParseTupleAndKeywords(args, kwds, "O|p", names, &seq, &root)) return NULL;
    st_ref *refs;
    Py_ssize_t n;
    if (core_refs(seq, &refs, &n) < 0) return NULL;
    st_error err = {0};
    int rc = st_run_demand(self->run, refs, NULL, (size_t)n, root, &err);
    PyMem_Free(refs);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, &err);
}

/* demand with a wave for each ref */
static PyObject *Run_demand_waves(RunObject *self, PyObject *args)
{
    PyObject *seq, *ws;
    if (!open_run(self) || !PyArg_ParseTuple(args, "OO", &seq, &ws)) return NULL;
    st_ref *refs;
    Py_ssize_t n;
    if (core_refs(seq, &refs, &n) < 0) return NULL;
    int *waves = PyMem_Calloc((size_t)n + 1, sizeof *waves);
    PyObject *fast = PySequence_Fast(ws, "waves must be a sequence");
    int rc = waves && fast && PySequence_Fast_GET_SIZE(fast) == n ? ST_OK : ST_EINVAL;
    for (Py_ssize_t i = 0; rc == ST_OK && i < n; i++)
        waves[i] = (int)PyLong_AsLong(PySequence_Fast_GET_ITEM(fast, i));
    st_error err = {0};
    if (rc == ST_OK && !PyErr_Occurred()) rc = st_run_demand(self->run, refs, waves, (size_t)n, false, &err);
    PyMem_Free(waves);
    PyMem_Free(refs);
    Py_XDECREF(fast);
    return rc == ST_OK && !PyErr_Occurred() ? Py_NewRef(Py_None) : core_raise(rc, &err);
}

static PyObject *Run_worker(RunObject *self, PyObject *name)
{
    if (!open_run(self)) return NULL;
    st_run *r = self->run;
    Py_INCREF(self);
    st_run_retain(r); /* close() may come before this thread gets to work */
    PyThreadState *outer = core_leave();
    st_worker_run(r, name);
    st_run_release(r);
    core_enter(outer);
    core_drain();
    Py_DECREF(self);
    Py_RETURN_NONE;
}

/* How often freed memory goes back to the system. Every thread allocates from an arena of its own, and what
 * a fold leaves in one is of no use to the others: two preprocessings and four models on 100,000 rows peaked
 * at 1,322 MiB without this and at 1,049 with it, in the same time. */
#define GIVE_BACK_NS 200000000LL

static void give_back(RunObject *self)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now = (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
    if (now - self->gave_back <= GIVE_BACK_NS) return;
    self->gave_back = now;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    core_fit_recall(
        self->recall); /* (what it lets go of is freed when somebody has the GIL, and goes back next time) */
}

static int run_poll(void *ud)
{
    RunObject *self = ud;
    core_enter(NULL);
    core_drain();
    int stop = PyErr_CheckSignals() < 0;
    core_leave();
    give_back(self);
    return stop;
}

static PyObject *Run_next(RunObject *self, PyObject *arg)
{
    long ms = PyLong_AsLong(arg);
    if (PyErr_Occurred() || !open_run(self)) return NULL;
    st_error err = {0};
    PyThreadState *outer = core_leave();
    int64_t i = st_run_next(self->run, run_poll, self, (int)ms, &err);
    core_enter(outer);
    core_drain();
    if (PyErr_Occurred() || core_interrupted()) return NULL;
    if (i < 0 && err.code == ST_ECANCELED) {
        PyErr_SetString(core.engine_error, "canceled");
        return NULL;
    }
    return PyLong_FromLongLong(i);
}

/* root(i) -> (True, value) | (False, exception, node) */
static PyObject *Run_root(RunObject *self, PyObject *arg)
{
    size_t i = PyLong_AsSize_t(arg);
    if (PyErr_Occurred() || !open_run(self)) return NULL;
    st_value *v, *e;
    st_node *at;
    st_error err = {0};
    PyObject *out = NULL;
    int rc = st_run_root(self->run, i, &v, &e, &at, &err);
    if (rc == ST_OK) {
        out = PyTuple_Pack(2, Py_True, core_object(v));
    } else {
        PyObject *node = at ? core_ref(self->graph, (st_ref){at, 0}) : Py_NewRef(Py_None);
        PyObject *exc = e ? Py_NewRef(core_object(e))
                          : PyObject_CallFunction(rc == ST_ENOMEM ? PyExc_MemoryError : core.engine_error,
                                                  "s", err.code ? err.message : st_code_text(rc));
        if (node && exc) out = PyTuple_Pack(3, Py_False, exc, node);
        Py_XDECREF(node);
        Py_XDECREF(exc);
    }
    st_value_release(v);
    st_value_release(e);
    return out;
}

static void keep_free(PyObject *c)
{
    PyObject *run = PyCapsule_GetContext(c);
    st_keep *k = PyCapsule_GetPointer(c, "st_keep");
    if (((RunObject *)run)->run && k) st_run_unkeep(((RunObject *)run)->run, k);
    Py_DECREF(run);
}

static PyObject *Run_keep(RunObject *self, PyObject *seq)
{
    if (!open_run(self)) return NULL;
    st_ref *refs;
    Py_ssize_t n;
    if (core_refs(seq, &refs, &n) < 0) return NULL;
    st_keep *k;
    int rc = st_run_keep(self->run, refs, (size_t)n, &k);
    PyMem_Free(refs);
    if (rc != ST_OK) return core_raise(rc, NULL);
    PyObject *c = PyCapsule_New(k, "st_keep", keep_free);
    if (!c) {
        st_run_unkeep(self->run, k);
        return NULL;
    }
    PyCapsule_SetContext(c, Py_NewRef(self));
    return c;
}

static PyObject *Run_share(RunObject *self, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"refs", "everything", NULL};
    PyObject *seq;
    int everything = 0;
    if (!open_run(self) || !PyArg_ParseTupleAndKeywords(args, kwds, "O|p", names, &seq, &everything))
        return NULL;
    st_ref *refs;
    Py_ssize_t n;
    if (core_refs(seq, &refs, &n) < 0) return NULL;
    double *s = PyMem_Calloc((size_t)n + 1, sizeof *s);
    int rc = !s           ? ST_ENOMEM
             : everything ? st_run_share_all(self->run, refs, (size_t)n, s)
                          : st_run_share(self->run, refs, (size_t)n, s);
    PyObject *list = rc == ST_OK ? PyList_New(n) : core_raise(rc, NULL);
    for (Py_ssize_t i = 0; list && i < n; i++)
        PyList_SET_ITEM(list, i, PyFloat_FromDouble(s[i]));
    PyMem_Free(s);
    PyMem_Free(refs);
    return list;
}

static PyObject *Run_stats(RunObject *self, PyObject *u)
{
    (void)u;
    if (!open_run(self)) return NULL;
    st_run_stats s = st_run_get_stats(self->run);
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:d,s:d}", "tasks", (unsigned long long)s.tasks,
                         "executed", (unsigned long long)s.executed, "reused", (unsigned long long)s.reused,
                         "failed", (unsigned long long)s.failed, "recomputed",
                         (unsigned long long)s.recomputed, "recalled", (unsigned long long)s.recalled,
                         "recall_seconds", s.recall_seconds, "seconds", s.seconds);
}

typedef struct profile {
    GraphObject *g;
    PyObject *list;
} profile;

static int profile_each(void *ud, st_node *n, double seconds, bool failed)
{
    profile *p = ud;
    PyObject *r = core_ref(p->g, (st_ref){n, 0});
    PyObject *t = r ? Py_BuildValue("(NdO)", r, seconds, failed ? Py_True : Py_False) : NULL;
    int rc = t ? PyList_Append(p->list, t) : -1;
    Py_XDECREF(t);
    return rc < 0 ? ST_EHOST : ST_OK;
}

static PyObject *Run_profile(RunObject *self, PyObject *u)
{
    (void)u;
    if (!open_run(self)) return NULL;
    profile p = {self->graph, PyList_New(0)};
    if (p.list && st_run_profile(self->run, profile_each, &p) != ST_OK) Py_CLEAR(p.list);
    return p.list;
}

static int held_each(void *ud, st_ref ref, uint32_t readers, st_value *v)
{
    profile *p = ud;
    PyObject *r = core_ref(p->g, ref);
    PyObject *t = r ? Py_BuildValue("(NIO)", r, (unsigned)readers, core_object(v)) : NULL;
    int rc = t ? PyList_Append(p->list, t) : -1;
    Py_XDECREF(t);
    return rc < 0 ? ST_EHOST : ST_OK;
}

static PyObject *Run_held(RunObject *self, PyObject *u)
{
    (void)u;
    if (!open_run(self)) return NULL;
    profile p = {self->graph, PyList_New(0)};
    if (p.list && st_run_held(self->run, held_each, &p) != ST_OK) Py_CLEAR(p.list);
    return p.list;
}

static PyObject *Run_cancel(RunObject *self, PyObject *u)
{
    (void)u;
    if (!open_run(self)) return NULL;
    st_run_cancel(self->run);
    Py_RETURN_NONE;
}

static void stuck_each(void *ud, st_node *n, void *worker)
{
    profile *p = ud;
    core_enter(NULL);
    PyObject *r = core_ref(p->g, (st_ref){n, 0});
    PyObject *t = r ? Py_BuildValue("(NO)", r, worker ? (PyObject *)worker : Py_None) : NULL;
    if (t) PyList_Append(p->list, t);
    Py_XDECREF(t);
    PyErr_Clear();
    core_leave();
}

/* settle(ms) -> [(node, worker)] of what is still running */
static PyObject *Run_settle(RunObject *self, PyObject *arg)
{
    long ms = PyLong_AsLong(arg);
    if (PyErr_Occurred() || !open_run(self)) return NULL;
    profile p = {self->graph, PyList_New(0)};
    if (!p.list) return NULL;
    PyThreadState *outer = core_leave();
    st_run_settle(self->run, (int)ms, stuck_each, &p);
    core_enter(outer);
    core_drain();
    return p.list;
}

static PyMethodDef Run_methods[] = {
    {"demand", (PyCFunction)(void (*)(void))Run_demand, METH_VARARGS | METH_KEYWORDS,
     "demand(refs, root=False)"},
    {"demand_waves", (PyCFunction)Run_demand_waves, METH_VARARGS, "demand_waves(refs, waves)"},
    {"worker", (PyCFunction)Run_worker, METH_O, "Enter as a worker until the run ends."},
    {"next", (PyCFunction)Run_next, METH_O, "next(poll_ms): the next root that is final, or -1."},
    {"root", (PyCFunction)Run_root, METH_O, "(True, value) or (False, exception, node)."},
    {"keep", (PyCFunction)Run_keep, METH_O, "Keep what does not depend on rows; released with the answer."},
    {"share", (PyCFunction)(void (*)(void))Run_share, METH_VARARGS | METH_KEYWORDS,
     "Seconds spent for each ref, shared work divided."},
    {"stats", (PyCFunction)Run_stats, METH_NOARGS, "Counters."},
    {"profile", (PyCFunction)Run_profile, METH_NOARGS, "[(node, seconds, failed)] of what was executed."},
    {"held", (PyCFunction)Run_held, METH_NOARGS, "[(ref, readers, value)] of what is held now."},
    {"cancel", (PyCFunction)Run_cancel, METH_NOARGS, "Drop what has not begun."},
    {"settle", (PyCFunction)Run_settle, METH_O, "Wait for what runs; what is left is abandoned."},
    {"close", (PyCFunction)Run_close, METH_NOARGS, "End the run."},
    {NULL, NULL, 0, NULL}};
PyTypeObject Run_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Run",
    .tp_basicsize = sizeof(RunObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Run(graph, n_threads)",
    .tp_new = Run_new,
    .tp_dealloc = (destructor)Run_dealloc,
    .tp_methods = Run_methods,
};

/* -- The module ---------------------------------------------------------------------------- */

static PyObject *core_hash128(PyObject *mod, PyObject *arg)
{
    (void)mod;
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_C_CONTIGUOUS) < 0) return NULL;
    st_hash h;
    Py_BEGIN_ALLOW_THREADS h = st_hash_bytes(b.buf, (size_t)b.len, 0);
    Py_END_ALLOW_THREADS PyBuffer_Release(&b);
    return PyBytes_FromStringAndSize((const char *)&h, sizeof h);
}

static PyObject *core_configure(PyObject *mod, PyObject *args, PyObject *kwds)
{
    (void)mod;
    static char *names[] = {
#define CORE_HOOK_NAME(name) #name,
        CORE_HOOKS(CORE_HOOK_NAME)
#undef CORE_HOOK_NAME
            "data_op",
        "choice_type", "match_type", "estimator_type", NULL};
    PyObject *v[32] = {0};
    /* every argument is required: a hook that is missing would only show much later */
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "OOOOOOOOOOOO!O!O!O!", names, &v[0], &v[1], &v[2], &v[3],
                                     &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &PyType_Type, &v[11],
                                     &PyType_Type, &v[12], &PyType_Type, &v[13], &PyType_Type, &v[14]))
        return NULL;
    size_t i = 0;
#define CORE_HOOK_SET(name) Py_XSETREF(core.name, Py_NewRef(v[i++]));
    CORE_HOOKS(CORE_HOOK_SET)
#undef CORE_HOOK_SET
    Py_XSETREF(core.data_op, (PyTypeObject *)Py_NewRef(v[i++]));
    Py_XSETREF(core.choice_type, (PyTypeObject *)Py_NewRef(v[i++]));
    Py_XSETREF(core.match_type, (PyTypeObject *)Py_NewRef(v[i++]));
    Py_XSETREF(core.estimator_type, (PyTypeObject *)Py_NewRef(v[i++]));
    Py_RETURN_NONE;
}

static PyObject *core_version(PyObject *mod, PyObject *u)
{
    (void)mod;
    (void)u;
    return PyUnicode_FromString(st_version());
}

static PyMethodDef module_methods[] = {
    {"gate", core_gate, METH_O,
     "Set this thread's level for functions that have one; returns the one before."},
    {"hash128", core_hash128, METH_O, "128-bit hash of a contiguous buffer."},
    {"configure", (PyCFunction)(void (*)(void))core_configure, METH_VARARGS | METH_KEYWORDS,
     "Set the host's functions."},
    {"version", core_version, METH_NOARGS, "Version of libstratum."},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT, "_core", "The engine.", -1, module_methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void)
{
    PyObject *m = PyModule_Create(&module_def);
    if (!m) return NULL;
    if (core_ready_store() < 0) {
        Py_DECREF(m);
        return NULL;
    }
    if (core_guard_fork() != 0) {
        Py_DECREF(m);
        PyErr_SetString(PyExc_OSError, "pthread_atfork failed");
        return NULL;
    }
    struct {
        const char *name;
        PyTypeObject *type;
    } types[] = {{"Graph", &Graph_Type}, {"Ref", &Ref_Type},       {"Expr", &Expr_Type},
                 {"Leaf", &Leaf_Type},   {"Failed", &Failed_Type}, {"Plan", &Plan_Type},
                 {"Scope", &Scope_Type}, {"CV", &CV_Type},         {"Run", &Run_Type},
                 {"Exec", &Exec_Type},   {"Front", &Front_Type},   {"Recall", &Recall_Type},
                 {"Store", &Store_Type}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (PyType_Ready(types[i].type) < 0 ||
            PyModule_AddObjectRef(m, types[i].name, (PyObject *)types[i].type) < 0) {
            Py_DECREF(m);
            return NULL;
        }
    }
    core.engine_error = PyErr_NewExceptionWithDoc("stratum.EngineError", "The engine refused or failed.",
                                                  PyExc_RuntimeError, NULL);
    if (!core.engine_error || PyModule_AddObjectRef(m, "EngineError", core.engine_error) < 0) {
        Py_DECREF(m);
        return NULL;
    }
    static const struct {
        const char *name;
        long v;
    } constants[] = {
#define CORE_KIND(name, text) {#name, name},
        ST_CAP_KINDS(CORE_KIND)
#undef CORE_KIND
            {"ROW_LOCAL", ST_P_ROW_LOCAL},
        {"STATELESS", ST_P_STATELESS},
        {"DETERMINISTIC", ST_P_DETERMINISTIC},
        {"KEEPS_ORDER", ST_P_KEEPS_ORDER},
        {"HOLDS_GIL", ST_P_HOLDS_GIL},
        {"THREAD_SAFE", ST_P_THREAD_SAFE},
        {"OPAQUE", ST_P_OPAQUE},
        {"TAKES_ROWS", ST_P_TAKES_ROWS},
        {"TOLERANT", ST_P_TOLERANT},
        {"EXPANDS", ST_P_EXPANDS},
        {"CHOOSES", ST_P_CHOOSES},
        {"FITS", ST_P_FITS},
        {"NESTS", ST_P_NESTS},
        {"N_CALLER", ST_N_CALLER},
        {"N_FREE", ST_N_FREE},
        {"N_UNSHARED", ST_N_UNSHARED},
        {"N_SMALL", ST_N_SMALL},
        {"N_ONCE", ST_N_ONCE},
        {"N_VARIES", ST_N_VARIES},
        {"SCOPE_USE_VALUES", ST_SCOPE_USE_VALUES},
        {"SCOPE_SUBSAMPLE", ST_SCOPE_SUBSAMPLE},
        {"SCOPE_SMALL", ST_SCOPE_SMALL},
        {"EST_TRANSFORM", ST_EST_TRANSFORM},
        {"EST_FIT_TRANSFORM", ST_EST_FIT_TRANSFORM},
        {"EST_PREDICT", ST_EST_PREDICT},
        {"EST_LIBRARY", ST_EST_LIBRARY},
        {"EST_FREE", ST_EST_FREE},
        {"EST_UNSEEDED", ST_EST_UNSEEDED},
        {"EST_ONCE", ST_EST_ONCE},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(m, constants[i].name, constants[i].v) < 0) {
            Py_DECREF(m);
            return NULL;
        }
    if (st_py_add_native_text(m) < 0 || st_py_add_native_numeric(m) < 0 || st_py_add_native_encode(m) < 0) {
        Py_DECREF(m);
        return NULL;
    }
    return m;
}
