/* execute.c - the engine calls Python operators.
 *
 * Every thread that enters the engine keeps its own Python thread state (thread-local here) and swaps it
 * in for each host node: that costs 0.1 microseconds, where PyGILState_Ensure costs some seven and would
 * lose thread-local settings.
 */
#include "core.h"

static _Thread_local PyThreadState *mine; /* saved while this thread is inside the engine */

PyThreadState *core_leave(void)
{
    PyThreadState *outer = mine;
    mine = PyEval_SaveThread();
    return outer;
}

void core_enter(PyThreadState *outer)
{
    PyEval_RestoreThread(mine);
    mine = outer;
}

static PyObject *failed(GraphObject *g, PyObject *error, st_node *at)
{
    FailedObject *f = PyObject_New(FailedObject, &Failed_Type);
    if (!f) return NULL;
    f->error = Py_NewRef(error);
    f->at = at ? (RefObject *)core_ref(g, (st_ref){at, 0}) : NULL;
    return (PyObject *)f;
}

/* The exception being raised, normalised, with its traceback (new reference). */
static PyObject *take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb) PyException_SetTraceback(value, tb);
    Py_XDECREF(type);
    Py_XDECREF(tb);
    return value;
#endif
}

/* What ends the run: a BaseException that is no Exception, raised by an operator on the driving thread. */
static _Thread_local PyObject *interrupt;

bool core_interrupted(void)
{
    if (!interrupt) return false;
    PyObject *exc = interrupt;
    interrupt = NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_DECREF(exc);
    return true;
}

int core_exec(st_exec *x, st_error *err)
{
    PyEval_RestoreThread(mine);
    PyThreadState *self = mine;
    core_drain();
    const st_op *op = x->op;
    core_op *own = op->data;
    GraphObject *g = own->graph;
    st_value *origin = st_node_origin(x->node);
    bool guarded = (op->props & ST_P_OPAQUE) || (st_node_flags(x->node) & ST_N_CALLER);
    PyObject *small[24], **in = x->n_in <= 24 ? small : PyMem_Calloc(x->n_in, sizeof *in);
    PyObject *args = NULL, *full = NULL, *result = NULL;
    ExecObject *e = NULL;
    int rc = ST_OK;
    size_t made = 0;
    for (; in && made < x->n_in; made++) {
        in[made] = NULL;
        if ((op->props & ST_P_CHOOSES) && made > 0) continue;
        if (x->in[made]) {
            PyObject *o = core_object(x->in[made]);
            in[made] = guarded && x->in_shared[made] ? PyObject_CallOneArg(core.protect, o) : Py_NewRef(o);
            if (!in[made]) break;
        } else if (x->in_error[made] || (op->props & ST_P_TOLERANT)) {
            PyObject *error = x->in_error[made] ? core_object(x->in_error[made]) : Py_None;
            in[made] = failed(g, error, st_run_failed_at(x->run, st_node_in(x->node, made).node));
            if (!in[made]) break;
        }
    }
    if (in && made == x->n_in) {
        if (op->props & ST_P_CHOOSES) { /* (condition, keys, has default); the options are not there yet */
            const st_attr *t = st_node_attr(x->node);
            args = PyTuple_New(3);
            for (size_t i = 0; args && i < 3; i++) {
                PyObject *o = core_from_attr(st_attr_item(t, i), in, x->n_in);
                if (!o)
                    Py_CLEAR(args);
                else
                    PyTuple_SET_ITEM(args, (Py_ssize_t)i, o);
            }
        } else {
            args = core_from_attr(st_node_attr(x->node), in, x->n_in);
        }
    }
    for (size_t i = 0; in && i < made; i++)
        Py_XDECREF(in[i]); /* the arguments hold them now; nothing else does */
    if (in != small) PyMem_Free(in);
    if (args && x->worker && core.before) {
        PyObject *r = PyObject_CallFunction(core.before, "i", x->threads);
        if (!r) Py_CLEAR(args);
        Py_XDECREF(r);
    }
    if (args) e = PyObject_New(ExecObject, &Exec_Type);
    if (e) {
        e->x = x;
        e->graph = (GraphObject *)Py_NewRef(g);
        Py_ssize_t n = PyTuple_GET_SIZE(args);
        full = PyTuple_New(n + 2);
        if (full) {
            PyTuple_SET_ITEM(full, 0, Py_NewRef(e));
            PyTuple_SET_ITEM(full, 1, Py_NewRef(origin ? core_object(origin) : Py_None));
            for (Py_ssize_t i = 0; i < n; i++)
                PyTuple_SET_ITEM(full, i + 2, Py_NewRef(PyTuple_GET_ITEM(args, i)));
        }
        Py_CLEAR(args);
    }
    if (full) {
        result = PyObject_CallObject(own->func, full);
        Py_DECREF(full);
    }
    if (result && !x->becomes.node && !(op->props & ST_P_CHOOSES)) {
        if (op->n_out == 1) {
            x->out[0] = core_value(NULL, result, Py_False);
        } else if (PyTuple_CheckExact(result) && PyTuple_GET_SIZE(result) == (Py_ssize_t)op->n_out) {
            for (uint32_t p = 0; p < op->n_out; p++)
                x->out[p] = core_value(NULL, PyTuple_GET_ITEM(result, p), Py_False);
        } else {
            PyErr_Format(core.engine_error, "operator %s must return %u values", op->name,
                         (unsigned)op->n_out);
        }
    }
    Py_XDECREF(result);
    if (PyErr_Occurred()) {
        PyObject *exc = take_exception();
        rc = st_fail(err, ST_EHOST, "%s: %s", op->name, Py_TYPE(exc)->tp_name);
        if (!x->worker && !PyErr_GivenExceptionMatches(exc, PyExc_Exception)) {
            st_run_cancel(x->run);
            if (!interrupt) interrupt = Py_NewRef(exc);
        }
        x->error = core_value(NULL, exc, Py_False);
        Py_DECREF(exc);
        PyErr_Clear();
    }
    if (e) {
        e->x = NULL;
        Py_DECREF(e);
    }
    core_drain();
    mine = self;
    PyEval_SaveThread();
    return rc;
}

/* -- Exec: a running node, as its operator sees it ----------------------------------------- */

static void Exec_dealloc(ExecObject *self)
{
    Py_XDECREF(self->graph);
    PyObject_Free(self);
}

static bool alive(ExecObject *self)
{
    if (self->x) return true;
    PyErr_SetString(core.engine_error, "the node has returned already");
    return false;
}

static PyObject *Exec_become(ExecObject *self, PyObject *ref)
{
    if (!alive(self)) return NULL;
    if (!Py_IS_TYPE(ref, &Ref_Type)) return PyErr_Format(PyExc_TypeError, "become() needs a Ref");
    st_ref r = ((RefObject *)ref)->ref;
    st_node_retain(r.node);
    self->x->becomes = r;
    Py_RETURN_NONE;
}

static PyObject *Exec_choose(ExecObject *self, PyObject *arg)
{
    if (!alive(self)) return NULL;
    size_t k = PyLong_AsSize_t(arg);
    if (PyErr_Occurred()) return NULL;
    /* which option -> which input: equal options are one input */
    const st_attr *options = st_attr_item(st_node_attr(self->x->node), 3);
    if (k >= st_attr_len(options)) return PyErr_Format(PyExc_IndexError, "no option %zu", k);
    self->x->choice = (size_t)st_attr_as_int(st_attr_item(options, k));
    Py_RETURN_NONE;
}

static PyObject *Exec_nested(ExecObject *self, PyObject *ref)
{
    if (!alive(self)) return NULL;
    if (!Py_IS_TYPE(ref, &Ref_Type)) return PyErr_Format(PyExc_TypeError, "nested() needs a Ref");
    st_value *v = NULL, *error = NULL;
    st_error err = {0};
    st_run *run = self->x->run;
    void *worker = self->x->worker;
    PyThreadState *outer = core_leave();
    int rc = st_run_nested(run, ((RefObject *)ref)->ref, worker, &v, &error, &err);
    core_enter(outer);
    PyObject *out = NULL;
    if (rc == ST_OK) {
        out = Py_NewRef(core_object(v));
    } else if (error) {
        PyObject *exc = core_object(error);
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    } else {
        core_raise(rc, &err);
    }
    st_value_release(v);
    st_value_release(error);
    core_drain();
    return out;
}

static PyObject *Exec_failed_at(ExecObject *self, PyObject *ref)
{
    if (!alive(self)) return NULL;
    if (!Py_IS_TYPE(ref, &Ref_Type)) return PyErr_Format(PyExc_TypeError, "failed_at() needs a Ref");
    st_node *at = st_run_failed_at(self->x->run, ((RefObject *)ref)->ref.node);
    return at ? core_ref(self->graph, (st_ref){at, 0}) : Py_NewRef(Py_None);
}

static PyObject *Exec_demand(ExecObject *self, PyObject *args)
{
    PyObject *seq, *waves = Py_None;
    if (!alive(self) || !PyArg_ParseTuple(args, "O|O", &seq, &waves)) return NULL;
    st_ref *refs;
    Py_ssize_t n;
    if (core_refs(seq, &refs, &n) < 0) return NULL;
    st_error err = {0};
    int rc = st_run_demand(self->x->run, refs, NULL, (size_t)n, false, &err);
    PyMem_Free(refs);
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, &err);
}

/* An operator gets its inputs as they are (unless it runs code of users): it asks by the object. */
static PyObject *Exec_readers(ExecObject *self, PyObject *value)
{
    if (!alive(self)) return NULL;
    st_exec *x = self->x;
    for (size_t i = 0; i < x->n_in; i++)
        if (x->in[i] && core_object(x->in[i]) == value) return PyLong_FromUnsignedLong(st_run_readers(x, i));
    return PyLong_FromLong(0);
}

static PyObject *Exec_tell(ExecObject *self, PyObject *unused)
{
    (void)unused;
    if (!alive(self)) return NULL;
    self->x->telling = true;
    Py_RETURN_NONE;
}

static PyObject *Exec_get_threads(ExecObject *self, void *unused)
{
    (void)unused;
    return alive(self) ? PyLong_FromLong(self->x->threads) : NULL;
}

static PyObject *Exec_get_graph(ExecObject *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->graph);
}

static PyObject *Exec_get_ref(ExecObject *self, void *unused)
{
    (void)unused;
    return alive(self) ? core_ref(self->graph, (st_ref){self->x->node, 0}) : NULL;
}

static PyMethodDef Exec_methods[] = {
    {"become", (PyCFunction)Exec_become, METH_O, "The node's value is this ref's."},
    {"choose", (PyCFunction)Exec_choose, METH_O, "Option k is wanted."},
    {"nested", (PyCFunction)Exec_nested, METH_O, "Compute a ref now."},
    {"failed_at", (PyCFunction)Exec_failed_at, METH_O, "The node whose error reached a ref, or None."},
    {"demand", (PyCFunction)Exec_demand, METH_VARARGS, "Compute refs in this run."},
    {"tell", (PyCFunction)Exec_tell, METH_NOARGS, "It said something that its value does not hold."},
    {"readers", (PyCFunction)Exec_readers, METH_O,
     "How many have yet to read an input, this node among them; 0 for what is none."},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef Exec_getset[] = {
    {"threads", (getter)Exec_get_threads, NULL, "Threads that the node may use.", NULL},
    {"ref", (getter)Exec_get_ref, NULL, "The node itself.", NULL},
    {"graph", (getter)Exec_get_graph, NULL, "The graph of the node.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};
PyTypeObject Exec_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Exec",
    .tp_basicsize = sizeof(ExecObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A running node, as its operator sees it.",
    .tp_dealloc = (destructor)Exec_dealloc,
    .tp_methods = Exec_methods,
    .tp_getset = Exec_getset,
};
