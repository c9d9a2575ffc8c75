/* reuse.c - what runs recall: values in memory, and what a store on disk knows.
 *
 * A Recall belongs to an engine.  The scheduler asks it, without the GIL, whether an output is known, and
 * has it loaded: from the cache in memory here, otherwise by the Python function `load`.  What was computed
 * it hands to the Python function `offer`, which says what becomes of it.  Keys are the meanings of nodes
 * mixed with the settings that results depend on; the encodings of both are compared on a hit.
 *
 * Who owns what: a Recall outlives the runs that it is set for (the engine holds both); values are retained
 * by the cache.
 */
#include "core.h"

#include "stratum/cache.h"

#define PORT_STEP UINT64_C(0x9E3779B97F4A7C15)

typedef struct RecallObject {
    PyObject_HEAD GraphObject *graph;
    st_cache *cache;
    PyObject *settings; /* bytes */
    st_hash settings_hash;
    StoreObject *store; /* or NULL */
    PyObject *load, *offer;
    double worth;
    uint64_t sample, round; /* every so many-th key is not known, others in each run; 0: all are */
} RecallObject;

typedef struct text {
    char *v;
    size_t n, cap;
    char small[512];
} text;

static int text_sink(void *ud, const char *p, size_t n)
{
    text *t = ud;
    if (t->n + n > t->cap) {
        size_t cap = 2 * (t->n + n);
        char *v = t->v == t->small ? malloc(cap) : realloc(t->v, cap);
        if (!v) return ST_ENOMEM;
        if (t->v == t->small) memcpy(v, t->small, t->n);
        t->v = v;
        t->cap = cap;
    }
    memcpy(t->v + t->n, p, n);
    t->n += n;
    return ST_OK;
}

static void text_free(text *t)
{
    if (t->v != t->small) free(t->v);
}

static st_hash key_of(const RecallObject *self, const st_node *n, uint32_t port)
{
    st_hash h = st_hash_mix(self->settings_hash, st_node_meaning(n));
    h.hi += (port + UINT64_C(1)) * PORT_STEP;
    return h;
}

/* What the key stands for: settings, the node's encoding, the port. */
static int encode(const RecallObject *self, st_node *n, uint32_t port, text *t)
{
    t->v = t->small;
    t->n = 0;
    t->cap = sizeof t->small;
    int rc = text_sink(t, PyBytes_AS_STRING(self->settings), (size_t)PyBytes_GET_SIZE(self->settings));
    if (rc == ST_OK) rc = st_node_encode(n, text_sink, t);
    unsigned char end[5] = {'P', (unsigned char)port, (unsigned char)(port >> 8), (unsigned char)(port >> 16),
                            (unsigned char)(port >> 24)};
    if (rc == ST_OK) rc = text_sink(t, (const char *)end, sizeof end);
    return rc;
}

/* -- What the scheduler calls -------------------------------------------------------------- */

static bool recall_knows(void *ud, const st_node *n, uint32_t port)
{
    RecallObject *self = ud;
    st_hash key = key_of(self, n, port);
    if (self->sample && (key.hi + self->round) % self->sample == 0) return false;
    return st_cache_knows(self->cache, key) || (self->store && st_store_knows(self->store->store, key));
}

static st_value *from_memory(RecallObject *self, st_node *n, uint32_t port)
{
    text t;
    st_value *v = NULL;
    if (encode(self, n, port, &t) == ST_OK) v = st_cache_get(self->cache, key_of(self, n, port), t.v, t.n);
    text_free(&t);
    return v;
}

static int recall_load(void *ud, st_node *n, uint32_t port, st_value **out)
{
    RecallObject *self = ud;
    *out = from_memory(self, n, port);
    if (*out) return ST_OK;
    if (!self->store) return ST_EHOST;
    core_enter(NULL);
    PyObject *ref = core_ref(self->graph, (st_ref){n, port});
    PyObject *found = ref ? PyObject_CallOneArg(self->load, ref) : NULL; /* (value,) or None */
    if (found && PyTuple_CheckExact(found) && PyTuple_GET_SIZE(found) == 1)
        *out = core_value(NULL, PyTuple_GET_ITEM(found, 0), Py_False);
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(self->load); /* the node is computed; but it is a fault of ours */
    Py_XDECREF(found);
    Py_XDECREF(ref);
    core_drain();
    core_leave();
    return *out ? ST_OK : ST_EHOST;
}

static bool recall_offer(void *ud, st_exec *x, double seconds, double again, double *load)
{
    RecallObject *self = ud;
    bool kept = false;
    core_enter(NULL);
    PyObject *ref = core_ref(self->graph, (st_ref){x->node, 0});
    PyObject *values = PyTuple_New((Py_ssize_t)x->op->n_out);
    for (uint32_t p = 0; values && p < x->op->n_out; p++)
        PyTuple_SET_ITEM(values, (Py_ssize_t)p, Py_NewRef(x->out[p] ? core_object(x->out[p]) : Py_None));
    PyObject *answer =
        ref && values ? PyObject_CallFunction(self->offer, "OOdd", ref, values, seconds, again) : NULL;
    if (answer && answer != Py_None) {
        *load = PyFloat_AsDouble(answer);
        kept = !PyErr_Occurred();
    }
    if (PyErr_Occurred()) PyErr_WriteUnraisable(self->offer);
    Py_XDECREF(answer);
    Py_XDECREF(values);
    Py_XDECREF(ref);
    core_drain();
    core_leave();
    return kept;
}

void core_set_recall(st_run *r, PyObject *recall)
{
    RecallObject *self = (RecallObject *)recall;
    st_recall c = {self, recall_knows, recall_load, recall_offer, self->worth};
    st_run_set_recall(r, &c);
}

/* -- Memory -------------------------------------------------------------------------------- */

#ifdef __linux__
/* A line of /proc/self/status, in bytes; 0: it is not there. */
static size_t status(const char *name)
{
    char line[256];
    unsigned long long kib = 0;
    size_t k = strlen(name);
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) return 0;
    while (!kib && fgets(line, sizeof line, f))
        if (strncmp(line, name, k) == 0) kib = strtoull(line + k, NULL, 10);
    fclose(f);
    return (size_t)kib * 1024;
}
#else
static size_t status(const char *name)
{
    (void)name;
    return 0;
}
#endif

void core_fit_recall(PyObject *recall)
{
    RecallObject *self = (RecallObject *)recall;
    if (self && self->cache) st_cache_fit(self->cache, status("VmRSS:"));
}

/* -- The Python type ----------------------------------------------------------------------- */

static PyObject *Recall_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"graph", "settings", "max_bytes", "load", "offer", NULL};
    GraphObject *g;
    PyObject *settings, *load, *offer;
    Py_ssize_t max_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "O!SnOO", names, &Graph_Type, &g, &settings, &max_bytes,
                                     &load, &offer))
        return NULL;
    if (max_bytes < 0) return PyErr_Format(PyExc_ValueError, "max_bytes must not be negative");
    RecallObject *self = (RecallObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->graph = (GraphObject *)Py_NewRef(g);
    self->settings = Py_NewRef(settings);
    self->load = Py_NewRef(load);
    self->offer = Py_NewRef(offer);
    self->settings_hash = st_hash_bytes(PyBytes_AS_STRING(settings), (size_t)PyBytes_GET_SIZE(settings), 11);
    int rc = st_cache_new(st_alloc_default(), (size_t)max_bytes, &self->cache);
    if (rc != ST_OK) {
        Py_DECREF(self);
        return core_raise(rc, NULL);
    }
    st_cache_fit(self->cache, status("VmHWM:"));
    return (PyObject *)self;
}

static int Recall_traverse(RecallObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->graph);
    Py_VISIT(self->load);
    Py_VISIT(self->offer);
    return 0;
}

static int Recall_clear(RecallObject *self)
{
    st_cache_free(self->cache);
    self->cache = NULL;
    Py_CLEAR(self->load);
    Py_CLEAR(self->offer);
    Py_CLEAR(self->settings);
    Py_CLEAR(self->store);
    Py_CLEAR(self->graph);
    return 0;
}

static void Recall_dealloc(RecallObject *self)
{
    PyObject_GC_UnTrack(self);
    Recall_clear(self);
    core_drain();
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static RefObject *as_ref(PyObject *o)
{
    if (Py_IS_TYPE(o, &Ref_Type)) return (RefObject *)o;
    PyErr_Format(PyExc_TypeError, "a Ref is needed, got %s", Py_TYPE(o)->tp_name);
    return NULL;
}

static PyObject *Recall_set_settings(RecallObject *self, PyObject *settings)
{
    if (!PyBytes_CheckExact(settings)) return PyErr_Format(PyExc_TypeError, "settings are bytes");
    PyObject *old = self->settings;
    self->settings = Py_NewRef(settings);
    self->settings_hash = st_hash_bytes(PyBytes_AS_STRING(settings), (size_t)PyBytes_GET_SIZE(settings), 11);
    Py_DECREF(old);
    Py_RETURN_NONE;
}

static PyObject *Recall_set_worth(RecallObject *self, PyObject *arg)
{
    double worth = PyFloat_AsDouble(arg);
    if (PyErr_Occurred()) return NULL;
    self->worth = worth;
    Py_RETURN_NONE;
}

static PyObject *Recall_set_sample(RecallObject *self, PyObject *arg)
{
    unsigned long n = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    self->sample = n;
    self->round++;
    Py_RETURN_NONE;
}

static PyObject *Recall_set_store(RecallObject *self, PyObject *store)
{
    if (store != Py_None && !Py_IS_TYPE(store, &Store_Type))
        return PyErr_Format(PyExc_TypeError, "a Store is needed, got %s", Py_TYPE(store)->tp_name);
    StoreObject *old = self->store;
    self->store = store == Py_None ? NULL : (StoreObject *)Py_NewRef(store);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyObject *Recall_key(RecallObject *self, PyObject *arg)
{
    RefObject *r = as_ref(arg);
    if (!r) return NULL;
    st_hash h = key_of(self, r->ref.node, r->ref.port);
    return PyBytes_FromStringAndSize((const char *)&h, sizeof h);
}

static PyObject *Recall_encoding(RecallObject *self, PyObject *arg)
{
    RefObject *r = as_ref(arg);
    if (!r) return NULL;
    text t;
    int rc = encode(self, r->ref.node, r->ref.port, &t);
    PyObject *out = rc == ST_OK ? PyBytes_FromStringAndSize(t.v, (Py_ssize_t)t.n) : core_raise(rc, NULL);
    text_free(&t);
    return out;
}

static PyObject *Recall_get(RecallObject *self, PyObject *arg)
{
    RefObject *r = as_ref(arg);
    if (!r) return NULL;
    st_value *v = from_memory(self, r->ref.node, r->ref.port);
    if (!v) Py_RETURN_NONE;
    PyObject *out = PyTuple_Pack(1, core_object(v));
    st_value_release(v);
    return out;
}

static PyObject *Recall_put(RecallObject *self, PyObject *args)
{
    PyObject *ref, *obj;
    Py_ssize_t bytes;
    double seconds;
    if (!PyArg_ParseTuple(args, "OOnd", &ref, &obj, &bytes, &seconds)) return NULL;
    RefObject *r = as_ref(ref);
    if (!r) return NULL;
    text t;
    int rc = encode(self, r->ref.node, r->ref.port, &t);
    st_value *v = rc == ST_OK ? core_value(NULL, obj, Py_False) : NULL;
    if (v)
        rc = st_cache_put(self->cache, key_of(self, r->ref.node, r->ref.port), t.v, t.n, v,
                          bytes > 0 ? (size_t)bytes : 0, seconds);
    st_value_release(v);
    text_free(&t);
    core_drain();
    if (PyErr_Occurred()) return NULL;
    if (rc != ST_OK && rc != ST_ELIMIT) return core_raise(rc, NULL);
    return PyBool_FromLong(rc == ST_OK);
}

static PyObject *Recall_limit(RecallObject *self, PyObject *args)
{
    Py_ssize_t most, floor;
    if (!PyArg_ParseTuple(args, "nn", &most, &floor)) return NULL;
    if (most < 0 || floor < 0) return PyErr_Format(PyExc_ValueError, "a limit must not be negative");
    st_cache_set_limit(self->cache, (size_t)most, (size_t)floor);
    core_fit_recall((PyObject *)self);
    core_drain();
    Py_RETURN_NONE;
}

static PyObject *Recall_forget(RecallObject *self, PyObject *unused)
{
    (void)unused;
    st_cache_clear(self->cache);
    core_drain();
    Py_RETURN_NONE;
}

static PyObject *Recall_stats(RecallObject *self, PyObject *unused)
{
    (void)unused;
    st_cache_stats s = st_cache_get_stats(self->cache);
    return Py_BuildValue("{s:n,s:n,s:n,s:K,s:K,s:K,s:K,s:K,s:d}", "entries", (Py_ssize_t)s.entries, "bytes",
                         (Py_ssize_t)s.bytes, "max_bytes", (Py_ssize_t)s.max_bytes, "hits",
                         (unsigned long long)s.hits, "misses", (unsigned long long)s.misses, "put",
                         (unsigned long long)s.put, "refused", (unsigned long long)s.refused, "evicted",
                         (unsigned long long)s.evicted, "saved", s.saved);
}

static PyMethodDef Recall_methods[] = {
    {"set_settings", (PyCFunction)Recall_set_settings, METH_O, "What results depend on besides the nodes."},
    {"set_worth", (PyCFunction)Recall_set_worth, METH_O, "Seconds below which nothing is offered."},
    {"set_sample", (PyCFunction)Recall_set_sample, METH_O,
     "Every so many-th key is computed as if it were not known; 0: none. Not during a run."},
    {"set_store", (PyCFunction)Recall_set_store, METH_O,
     "Where else to look; None: nowhere. Not during a run."},
    {"key", (PyCFunction)Recall_key, METH_O, "Key of an output (16 bytes)."},
    {"encoding", (PyCFunction)Recall_encoding, METH_O, "What the key stands for."},
    {"get", (PyCFunction)Recall_get, METH_O, "(value,) from memory, or None."},
    {"put", (PyCFunction)Recall_put, METH_VARARGS, "put(ref, value, bytes, seconds): whether it is kept."},
    {"limit", (PyCFunction)Recall_limit, METH_VARARGS,
     "limit(most, floor): bytes that may be kept in memory; more than the floor only below the process's "
     "peak."},
    {"forget", (PyCFunction)Recall_forget, METH_NOARGS, "Let go of all values in memory."},
    {"stats", (PyCFunction)Recall_stats, METH_NOARGS, "Counters of the memory."},
    {NULL, NULL, 0, NULL}};
PyTypeObject Recall_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Recall",
    .tp_basicsize = sizeof(RecallObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Recall(graph, settings, max_bytes, load, offer): results that outlive a run.",
    .tp_new = Recall_new,
    .tp_dealloc = (destructor)Recall_dealloc,
    .tp_traverse = (traverseproc)Recall_traverse,
    .tp_clear = (inquiry)Recall_clear,
    .tp_methods = Recall_methods,
};
