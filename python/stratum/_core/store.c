/* store.c - the store on disk, for Python.
 *
 * A Store wraps st_store; every call that may touch the disk releases the GIL. What is loaded comes as Parts:
 * buffers on the file's private mapping, which lives as long as one of them. Writing to a Part changes this
 * process's pages alone.
 */
#include "core.h"

typedef struct BlobObject {
    PyObject_HEAD st_blob *blob;
} BlobObject;

typedef struct PartObject {
    PyObject_HEAD BlobObject *blob;
    void *data;
    Py_ssize_t len;
} PartObject;

typedef struct ClaimObject {
    PyObject_HEAD st_claim *claim;
    StoreObject *store;
} ClaimObject;

/* -- Blobs and their parts ----------------------------------------------------------------- */

static void Blob_dealloc(BlobObject *self)
{
    st_blob_free(self->blob);
    PyObject_Free(self);
}

static PyTypeObject Blob_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Blob",
    .tp_basicsize = sizeof(BlobObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The mapping of an entry of a store.",
    .tp_dealloc = (destructor)Blob_dealloc,
};

static void Part_dealloc(PartObject *self)
{
    Py_XDECREF(self->blob);
    PyObject_Free(self);
}

static int Part_getbuffer(PartObject *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->data, self->len, 0, flags);
}

static Py_ssize_t Part_len(PartObject *self) { return self->len; }

static PyBufferProcs Part_buffer = {(getbufferproc)Part_getbuffer, NULL};
static PySequenceMethods Part_sequence = {.sq_length = (lenfunc)Part_len};
static PyTypeObject Part_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Part",
    .tp_basicsize = sizeof(PartObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Bytes of an entry of a store, where the file is mapped: a buffer that may be written to.",
    .tp_dealloc = (destructor)Part_dealloc,
    .tp_as_buffer = &Part_buffer,
    .tp_as_sequence = &Part_sequence,
};

/* -- The store ----------------------------------------------------------------------------- */

static PyObject *Store_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    static char *names[] = {"folder", "max_bytes", "read_only", "build", "sync", NULL};
    PyObject *folder = NULL;
    unsigned long long max_bytes = 0;
    int read_only = 0, sync = 1;
    const char *build = "";
    if (!PyArg_ParseTupleAndKeywords(args, kwds, "O&|Kpsp", names, PyUnicode_FSConverter, &folder, &max_bytes,
                                     &read_only, &build, &sync))
        return NULL;
    StoreObject *self = (StoreObject *)type->tp_alloc(type, 0);
    if (self) {
        st_store_options o = {
            .max_bytes = max_bytes, .read_only = read_only, .no_sync = !sync, .build = build};
        st_error err = {0};
        const char *dir = PyBytes_AS_STRING(folder);
        int rc;
        Py_BEGIN_ALLOW_THREADS rc = st_store_open(st_alloc_default(), dir, &o, &self->store, &err);
        Py_END_ALLOW_THREADS if (rc != ST_OK)
        {
            self->store = NULL;
            Py_CLEAR(self);
            core_raise(rc, &err);
        }
    }
    Py_DECREF(folder);
    return (PyObject *)self;
}

static void Store_dealloc(StoreObject *self)
{
    st_store *s = self->store;
    self->store = NULL;
    Py_BEGIN_ALLOW_THREADS if (s) st_store_close(s);
    Py_END_ALLOW_THREADS Py_TYPE(self)->tp_free((PyObject *)self);
}

static int as_key(PyObject *o, st_hash *key)
{
    if (!PyBytes_CheckExact(o) || PyBytes_GET_SIZE(o) != sizeof *key) {
        PyErr_SetString(PyExc_TypeError, "a key is 16 bytes");
        return -1;
    }
    memcpy(key, PyBytes_AS_STRING(o), sizeof *key);
    return 0;
}

static PyObject *key_bytes(st_hash key) { return PyBytes_FromStringAndSize((const char *)&key, sizeof key); }

static PyObject *Store_refresh(StoreObject *self, PyObject *unused)
{
    (void)unused;
    st_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_store_refresh(self->store, &err);
    Py_END_ALLOW_THREADS return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, &err);
}

static PyObject *Store_knows(StoreObject *self, PyObject *arg)
{
    st_hash key;
    if (as_key(arg, &key) < 0) return NULL;
    return PyBool_FromLong(st_store_knows(self->store, key));
}

/* get(key, encoding) -> (parts, seconds, kind, own) or None */
static PyObject *Store_get(StoreObject *self, PyObject *args)
{
    PyObject *k, *enc;
    st_hash key;
    if (!PyArg_ParseTuple(args, "OS", &k, &enc) || as_key(k, &key) < 0) return NULL;
    st_blob *b = NULL;
    st_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS rc =
        st_store_get(self->store, key, PyBytes_AS_STRING(enc), (size_t)PyBytes_GET_SIZE(enc), &b, &err);
    Py_END_ALLOW_THREADS if (rc == ST_ENOTFOUND) Py_RETURN_NONE;
    if (rc != ST_OK) return core_raise(rc, &err);
    BlobObject *blob = PyObject_New(BlobObject, &Blob_Type);
    if (!blob) {
        st_blob_free(b);
        return NULL;
    }
    blob->blob = b;
    PyObject *parts = PyList_New((Py_ssize_t)b->n_parts);
    for (size_t i = 0; parts && i < b->n_parts; i++) {
        PartObject *p = PyObject_New(PartObject, &Part_Type);
        if (!p) {
            Py_CLEAR(parts);
            break;
        }
        p->blob = (BlobObject *)Py_NewRef(blob);
        p->data = b->parts[i].data;
        p->len = (Py_ssize_t)b->parts[i].len;
        PyList_SET_ITEM(parts, (Py_ssize_t)i, (PyObject *)p);
    }
    PyObject *out =
        parts ? Py_BuildValue("NdIO", parts, b->seconds, (unsigned)b->kind, b->own ? Py_True : Py_False)
              : NULL;
    Py_DECREF(blob);
    return out;
}

/* put(key, encoding, label, seconds, kind, parts) */
static PyObject *Store_put(StoreObject *self, PyObject *args)
{
    PyObject *k, *enc, *seq;
    const char *label;
    double seconds;
    unsigned kind;
    st_hash key;
    if (!PyArg_ParseTuple(args, "OSsdIO", &k, &enc, &label, &seconds, &kind, &seq) || as_key(k, &key) < 0)
        return NULL;
    PyObject *fast = PySequence_Fast(seq, "parts are a sequence of buffers");
    if (!fast) return NULL;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(fast), made = 0;
    Py_buffer *views = PyMem_Calloc((size_t)n + 1, sizeof *views);
    st_part *parts = PyMem_Calloc((size_t)n + 1, sizeof *parts);
    st_error err = {0};
    int rc = ST_ENOMEM;
    if (views && parts) {
        for (; made < n; made++) {
            if (PyObject_GetBuffer(PySequence_Fast_GET_ITEM(fast, made), &views[made], PyBUF_SIMPLE) < 0)
                break;
            parts[made] = (st_part){views[made].buf, (size_t)views[made].len};
        }
        if (made == n) {
            st_store_item item = {.key = key,
                                  .enc = PyBytes_AS_STRING(enc),
                                  .enc_len = (size_t)PyBytes_GET_SIZE(enc),
                                  .label = label,
                                  .seconds = seconds,
                                  .kind = kind,
                                  .n_parts = (size_t)n,
                                  .parts = parts};
            Py_BEGIN_ALLOW_THREADS rc = st_store_put(self->store, &item, &err);
            Py_END_ALLOW_THREADS
        }
    }
    for (Py_ssize_t i = 0; i < made; i++)
        PyBuffer_Release(&views[i]);
    PyMem_Free(views);
    PyMem_Free(parts);
    Py_DECREF(fast);
    if (PyErr_Occurred()) return NULL;
    return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, &err);
}

static PyObject *Store_remove(StoreObject *self, PyObject *arg)
{
    st_hash key;
    st_error err = {0};
    if (as_key(arg, &key) < 0) return NULL;
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_store_remove(self->store, key, &err);
    Py_END_ALLOW_THREADS if (rc == ST_OK || rc == ST_ENOTFOUND) return PyBool_FromLong(rc == ST_OK);
    return core_raise(rc, &err);
}

/* -- Claims -------------------------------------------------------------------------------- */

static void release_claim(ClaimObject *self)
{
    st_claim *c = self->claim;
    self->claim = NULL;
    Py_BEGIN_ALLOW_THREADS if (c) st_store_unclaim(c);
    Py_END_ALLOW_THREADS
}

static void Claim_dealloc(ClaimObject *self)
{
    release_claim(self);
    Py_XDECREF(self->store);
    PyObject_Free(self);
}

static PyObject *Claim_end(ClaimObject *self, PyObject *unused)
{
    (void)unused;
    release_claim(self);
    Py_RETURN_NONE;
}

static PyMethodDef Claim_methods[] = {{"end", (PyCFunction)Claim_end, METH_NOARGS, "Give it back."},
                                      {NULL, NULL, 0, NULL}};
static PyTypeObject Claim_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Claim",
    .tp_basicsize = sizeof(ClaimObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The right to compute what a key stands for.",
    .tp_dealloc = (destructor)Claim_dealloc,
    .tp_methods = Claim_methods,
};

/* claim(key, wait_ms) -> Claim, or None if somebody else has it */
static PyObject *Store_claim(StoreObject *self, PyObject *args)
{
    PyObject *k;
    int wait_ms;
    st_hash key;
    if (!PyArg_ParseTuple(args, "Oi", &k, &wait_ms) || as_key(k, &key) < 0) return NULL;
    ClaimObject *c = PyObject_New(ClaimObject, &Claim_Type);
    if (!c) return NULL;
    c->claim = NULL;
    c->store = (StoreObject *)Py_NewRef(self);
    st_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_store_claim(self->store, key, wait_ms, &c->claim, &err);
    Py_END_ALLOW_THREADS if (rc == ST_OK) return (PyObject *)c;
    c->claim = NULL;
    Py_DECREF(c);
    if (rc == ST_ELIMIT) Py_RETURN_NONE;
    return core_raise(rc, &err);
}

/* -- Looking after it ---------------------------------------------------------------------- */

static PyObject *as_dict(const st_store_info *info)
{
    PyObject *key = key_bytes(info->key);
    return key ? Py_BuildValue("{s:N,s:s,s:d,s:K,s:K,s:L,s:L,s:I}", "key", key, "label", info->label,
                               "seconds", info->seconds, "bytes", (unsigned long long)info->bytes, "hits",
                               (unsigned long long)info->hits, "created", (long long)info->created, "used",
                               (long long)info->used, "kind", (unsigned)info->kind)
               : NULL;
}

static int append_info(void *ud, const st_store_info *info)
{
    PyObject *d = as_dict(info);
    int rc = d ? PyList_Append(ud, d) : -1;
    Py_XDECREF(d);
    return rc < 0 ? ST_EHOST : ST_OK;
}

/* entries(prefix="") (the GIL is held: the list is made on the way) */
static PyObject *Store_entries(StoreObject *self, PyObject *args)
{
    const char *prefix = "";
    st_error err = {0};
    if (!PyArg_ParseTuple(args, "|s", &prefix)) return NULL;
    PyObject *list = PyList_New(0);
    int rc = !list     ? ST_ENOMEM
             : *prefix ? st_store_find(self->store, prefix, append_info, list, &err)
                       : st_store_each(self->store, append_info, list, &err);
    if (rc == ST_OK) return list;
    Py_XDECREF(list);
    return core_raise(rc, &err);
}

static PyObject *Store_encoding(StoreObject *self, PyObject *arg)
{
    st_hash key;
    void *enc = NULL;
    size_t n = 0;
    st_error err = {0};
    if (as_key(arg, &key) < 0) return NULL;
    int rc = st_store_encoding(self->store, key, &enc, &n, &err);
    if (rc == ST_ENOTFOUND) Py_RETURN_NONE;
    if (rc != ST_OK) return core_raise(rc, &err);
    PyObject *out = PyBytes_FromStringAndSize(enc, (Py_ssize_t)n);
    st_alloc_default()->release(st_alloc_default()->ud, enc);
    return out;
}

static PyObject *Store_stats(StoreObject *self, PyObject *unused)
{
    (void)unused;
    st_store_stats s = {0};
    st_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_store_get_stats(self->store, &s, &err);
    Py_END_ALLOW_THREADS if (rc != ST_OK) return core_raise(rc, &err);
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:d}", "entries", (unsigned long long)s.entries,
                         "bytes", (unsigned long long)s.bytes, "hits", (unsigned long long)s.hits, "misses",
                         (unsigned long long)s.misses, "puts", (unsigned long long)s.puts, "damaged",
                         (unsigned long long)s.damaged, "removed", (unsigned long long)s.removed,
                         "seconds_saved", s.seconds_saved);
}

static PyObject *Store_gc(StoreObject *self, PyObject *arg)
{
    unsigned long long max_bytes = PyLong_AsUnsignedLongLong(arg);
    if (PyErr_Occurred()) return NULL;
    uint64_t freed = 0;
    st_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_store_gc(self->store, max_bytes, &freed, &err);
    Py_END_ALLOW_THREADS return rc == ST_OK ? PyLong_FromUnsignedLongLong(freed) : core_raise(rc, &err);
}

static void append_damage(void *ud, const st_store_info *info, const char *why)
{
    PyObject *d = as_dict(info), *t = d ? Py_BuildValue("(Ns)", d, why) : NULL;
    if (t) PyList_Append(ud, t); /* an exception stays set: the caller looks */
    Py_XDECREF(t);
}

static PyObject *Store_verify(StoreObject *self, PyObject *unused)
{
    (void)unused;
    st_error err = {0};
    size_t damaged = 0;
    PyObject *list = PyList_New(0);
    if (!list) return NULL;
    int rc = st_store_verify(self->store, append_damage, list, &damaged, &err);
    if (rc == ST_OK && !PyErr_Occurred()) return list;
    Py_DECREF(list);
    return core_raise(rc, &err);
}

static PyObject *Store_clear(StoreObject *self, PyObject *unused)
{
    (void)unused;
    st_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_store_clear(self->store, &err);
    Py_END_ALLOW_THREADS return rc == ST_OK ? Py_NewRef(Py_None) : core_raise(rc, &err);
}

static PyObject *Store_get_text(StoreObject *self, void *what)
{
    const char *s =
        *(const char *)what == 'f' ? st_store_folder(self->store) : st_store_index_kind(self->store);
    return *(const char *)what == 'f' ? PyUnicode_DecodeFSDefault(s) : PyUnicode_FromString(s);
}

static PyObject *Store_get_flag(StoreObject *self, void *what)
{
    return PyBool_FromLong(*(const char *)what == 'o' ? st_store_own(self->store)
                                                      : st_store_read_only(self->store));
}

static PyMethodDef Store_methods[] = {
    {"refresh", (PyCFunction)Store_refresh, METH_NOARGS, "See what other processes added and removed."},
    {"knows", (PyCFunction)Store_knows, METH_O, "Whether the index has a key."},
    {"get", (PyCFunction)Store_get, METH_VARARGS,
     "get(key, encoding): (parts, seconds, kind, own), or None."},
    {"put", (PyCFunction)Store_put, METH_VARARGS, "put(key, encoding, label, seconds, kind, parts)"},
    {"remove", (PyCFunction)Store_remove, METH_O, "Take an entry out; whether there was one."},
    {"claim", (PyCFunction)Store_claim, METH_VARARGS,
     "claim(key, wait_ms): the right to compute it, or None."},
    {"entries", (PyCFunction)Store_entries, METH_VARARGS, "entries(prefix=''): a dict for each entry."},
    {"encoding", (PyCFunction)Store_encoding, METH_O, "What a key stands for, or None."},
    {"stats", (PyCFunction)Store_stats, METH_NOARGS, "Counters."},
    {"gc", (PyCFunction)Store_gc, METH_O, "Shrink to so many bytes; how many were freed."},
    {"verify", (PyCFunction)Store_verify, METH_NOARGS,
     "Read everything; [(entry, why)] of what was damaged."},
    {"clear", (PyCFunction)Store_clear, METH_NOARGS, "Take everything out."},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef Store_getset[] = {
    {"folder", (getter)Store_get_text, NULL, "Where it is.", "f"},
    {"index", (getter)Store_get_text, NULL, "What its index is.", "i"},
    {"own", (getter)Store_get_flag, NULL, "Whether nobody but this user may write to it.", "o"},
    {"read_only", (getter)Store_get_flag, NULL, "Whether nothing can be put.", "r"},
    {NULL, NULL, NULL, NULL, NULL}};
PyTypeObject Store_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Store",
    .tp_basicsize = sizeof(StoreObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Store(folder, max_bytes=0, read_only=False, build='', sync=True): results on disk.",
    .tp_new = Store_new,
    .tp_dealloc = (destructor)Store_dealloc,
    .tp_methods = Store_methods,
    .tp_getset = Store_getset,
};

int core_ready_store(void)
{
    return PyType_Ready(&Blob_Type) < 0 || PyType_Ready(&Part_Type) < 0 || PyType_Ready(&Claim_Type) < 0 ? -1
                                                                                                         : 0;
}
