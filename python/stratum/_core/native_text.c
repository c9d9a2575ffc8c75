/* native_text.c - string columns, their n-grams and sparse matrices for stratum.native.
 *
 * Arrays come as buffers that the caller has made (NumPy's, C-contiguous, of the types said below): sizes are
 * checked here, types by stratum/native/text.py, the only caller.  The GIL is released around everything but
 * the making of Python objects.
 */
#include "core.h"

#include "native/text.h"

static PyObject *text_raise(int rc)
{
    switch (rc) {
    case ST_ENOMEM: return PyErr_NoMemory();
    case ST_ELIMIT: PyErr_SetString(PyExc_OverflowError, "too large for 32-bit indices"); break;
    case ST_EUNSUPPORTED: PyErr_SetString(PyExc_NotImplementedError, "not a column of strings"); break;
    default: PyErr_SetString(PyExc_ValueError, st_code_text(rc));
    }
    return NULL;
}

/* Whether a buffer has room for n items. */
static bool room(const Py_buffer *b, size_t n, size_t size)
{
    if ((size_t)b->len / size >= n) return true;
    PyErr_SetString(PyExc_ValueError, "buffer too small");
    return false;
}

static PyObject *to_str(const uint8_t *p, size_t len)
{
    size_t i = 0;
    while (i < len && p[i] < 0x80)
        i++;
    if (i < len) return PyUnicode_DecodeUTF8((const char *)p, (Py_ssize_t)len, "surrogatepass");
    PyObject *s = PyUnicode_New((Py_ssize_t)len, 127);
    if (s && len) memcpy(PyUnicode_1BYTE_DATA(s), p, len);
    return s;
}

static PyObject *term_str(const st_terms *t, size_t i)
{
    return to_str(t->bytes + t->off[i], (size_t)(t->off[i + 1] - t->off[i]));
}

/* -- UTF-8 of a str, surrogates and all ------------------------------------------------------------------ */

typedef struct utf8 {
    uint8_t *own;
    size_t cap;
} utf8;

/* The bytes of s: its own where it is ASCII, else in the scratch; -1 with MemoryError. */
static int utf8_of(utf8 *u, PyObject *s, const uint8_t **p, size_t *len)
{
    if (PyUnicode_READY(s) < 0) return -1;
    size_t n = (size_t)PyUnicode_GET_LENGTH(s);
    if (PyUnicode_IS_ASCII(s)) {
        *p = (const uint8_t *)PyUnicode_DATA(s);
        *len = n;
        return 0;
    }
    if (4 * n > u->cap) {
        uint8_t *more = PyMem_Realloc(u->own, 4 * n);
        if (!more) {
            PyErr_NoMemory();
            return -1;
        }
        u->own = more;
        u->cap = 4 * n;
    }
    int kind = PyUnicode_KIND(s);
    const void *data = PyUnicode_DATA(s);
    uint8_t *q = u->own;
    for (size_t i = 0; i < n; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, (Py_ssize_t)i);
        if (c < 0x80) {
            *q++ = (uint8_t)c;
        } else if (c < 0x800) {
            *q++ = (uint8_t)(0xC0 | c >> 6);
            *q++ = (uint8_t)(0x80 | (c & 63));
        } else if (c < 0x10000) {
            *q++ = (uint8_t)(0xE0 | c >> 12);
            *q++ = (uint8_t)(0x80 | (c >> 6 & 63));
            *q++ = (uint8_t)(0x80 | (c & 63));
        } else {
            *q++ = (uint8_t)(0xF0 | c >> 18);
            *q++ = (uint8_t)(0x80 | (c >> 12 & 63));
            *q++ = (uint8_t)(0x80 | (c >> 6 & 63));
            *q++ = (uint8_t)(0x80 | (c & 63));
        }
    }
    *p = u->own;
    *len = (size_t)(q - u->own);
    return 0;
}

/* str itself, or NumPy's; other subclasses may have methods of their own. */
static bool plain_str(PyObject *o)
{
    return PyUnicode_CheckExact(o) || (PyUnicode_Check(o) && strcmp(Py_TYPE(o)->tp_name, "numpy.str_") == 0);
}

/* -- Vocabulary ------------------------------------------------------------------------------------------ */

typedef struct VocabularyObject {
    PyObject_HEAD st_terms terms;
    int32_t *columns;
} VocabularyObject;

static void Vocabulary_dealloc(VocabularyObject *self)
{
    st_terms_free(&self->terms);
    PyMem_Free(self->columns);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *Vocabulary_columns(VocabularyObject *self, PyObject *arg)
{
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) return NULL;
    bool ok = room(&b, self->terms.n, sizeof(int32_t));
    if (ok) memcpy(b.buf, self->columns, self->terms.n * sizeof(int32_t));
    PyBuffer_Release(&b);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

static Py_ssize_t Vocabulary_len(VocabularyObject *self) { return (Py_ssize_t)self->terms.n; }

static PyMethodDef Vocabulary_methods[] = {
    {"columns", (PyCFunction)Vocabulary_columns, METH_O, "Write the column of each term (int32)."},
    {NULL, NULL, 0, NULL}};
static PySequenceMethods Vocabulary_sequence = {.sq_length = (lenfunc)Vocabulary_len};
static PyTypeObject Vocabulary_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.TextVocabulary",
    .tp_basicsize = sizeof(VocabularyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Terms to look for.",
    .tp_dealloc = (destructor)Vocabulary_dealloc,
    .tp_methods = Vocabulary_methods,
    .tp_as_sequence = &Vocabulary_sequence,
};

/* {str: column}; None where keys are no strings or values no columns. */
static PyObject *text_vocabulary(PyObject *mod, PyObject *arg)
{
    (void)mod;
    if (!PyDict_Check(arg)) {
        PyErr_SetString(PyExc_TypeError, "a dict is needed");
        return NULL;
    }
    VocabularyObject *self = PyObject_New(VocabularyObject, &Vocabulary_Type);
    if (!self) return NULL;
    size_t n = (size_t)PyDict_Size(arg);
    self->terms = (st_terms){0};
    self->columns = PyMem_Malloc((n ? n : 1) * sizeof(int32_t));
    int rc = self->columns ? st_terms_init(&self->terms, st_alloc_default(), n) : ST_ENOMEM;
    utf8 scratch = {0};
    PyObject *key, *value;
    Py_ssize_t at = 0;
    bool plain = true;
    while (rc == ST_OK && plain && PyDict_Next(arg, &at, &key, &value)) {
        const uint8_t *p;
        size_t len;
        uint32_t id;
        long column = PyLong_CheckExact(value) ? PyLong_AsLong(value) : -1;
        if (column == -1 && !PyLong_CheckExact(value)) {
            PyObject *index = PyNumber_Index(value); /* NumPy's whole numbers */
            if (index) {
                column = PyLong_AsLong(index);
                Py_DECREF(index);
            }
        }
        PyErr_Clear(); /* not a number, or too large a one: told by the range */
        plain = plain_str(key) && column >= 0 && column < INT32_MAX;
        if (!plain) break;
        if (utf8_of(&scratch, key, &p, &len) < 0) {
            PyErr_Clear();
            rc = ST_ENOMEM;
            break;
        }
        rc = st_terms_add(&self->terms, p, len, &id);
        if (rc == ST_OK) self->columns[id] = (int32_t)column;
    }
    PyMem_Free(scratch.own);
    if (rc == ST_OK && plain) return (PyObject *)self;
    Py_DECREF(self);
    if (rc != ST_OK) return text_raise(rc);
    Py_RETURN_NONE;
}

/* -- Columns --------------------------------------------------------------------------------------------- */

typedef struct ColumnObject {
    PyObject_HEAD st_column c;
} ColumnObject;

static PyTypeObject Column_Type;

static ColumnObject *column_new(size_t expect)
{
    ColumnObject *self = PyObject_New(ColumnObject, &Column_Type);
    if (!self) return NULL;
    int rc = st_column_init(&self->c, st_alloc_default(), expect);
    if (rc == ST_OK) return self;
    Py_DECREF(self);
    text_raise(rc);
    return NULL;
}

static void Column_dealloc(ColumnObject *self)
{
    st_column_free(&self->c);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Items of a list; None where one is neither a str nor, with `nulls`, None, NaN or one of theirs. */
static PyObject *text_from_list(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *list, *nulls;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &list, &nulls)) return NULL;
    ColumnObject *self = column_new((size_t)PyList_GET_SIZE(list));
    if (!self) return NULL;
    utf8 scratch = {0};
    int rc = ST_OK;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list) && rc == ST_OK; i++) {
        PyObject *o = PyList_GET_ITEM(list, i);
        if (plain_str(o)) {
            const uint8_t *p;
            size_t len;
            if (utf8_of(&scratch, o, &p, &len) < 0) {
                PyErr_Clear();
                rc = ST_ENOMEM;
                break;
            }
            rc = st_column_add(&self->c, p, len);
            continue;
        }
        bool null = false;
        if (nulls != Py_None) {
            null = o == Py_None || (PyFloat_CheckExact(o) && PyFloat_AS_DOUBLE(o) != PyFloat_AS_DOUBLE(o));
            for (Py_ssize_t k = 0; !null && PyTuple_Check(nulls) && k < PyTuple_GET_SIZE(nulls); k++)
                null = PyTuple_GET_ITEM(nulls, k) == o;
        }
        rc = null ? st_column_add_null(&self->c) : ST_EUNSUPPORTED;
    }
    PyMem_Free(scratch.own);
    if (rc == ST_OK) return (PyObject *)self;
    Py_DECREF(self);
    if (rc != ST_EUNSUPPORTED) return text_raise(rc);
    Py_RETURN_NONE;
}

static int add_array(void *column, const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    return st_column_add_arrow(column, schema, array);
}

/* The capsule of __arrow_c_stream__, or the pair of __arrow_c_array__; None where it holds no strings. */
static PyObject *text_from_arrow(PyObject *mod, PyObject *arg)
{
    (void)mod;
    ColumnObject *self = column_new(0);
    if (!self) return NULL;
    int rc;
    if (PyTuple_Check(arg) && PyTuple_GET_SIZE(arg) == 2) {
        const struct ArrowSchema *schema = PyCapsule_GetPointer(PyTuple_GET_ITEM(arg, 0), "arrow_schema");
        const struct ArrowArray *array =
            schema ? PyCapsule_GetPointer(PyTuple_GET_ITEM(arg, 1), "arrow_array") : NULL;
        if (!array) goto failed;
        Py_BEGIN_ALLOW_THREADS rc = st_column_add_arrow(&self->c, schema, array);
        Py_END_ALLOW_THREADS
    } else {
        struct ArrowArrayStream *stream = PyCapsule_GetPointer(arg, "arrow_array_stream");
        if (!stream) goto failed;
        /* the producer may need the GIL between arrays: it takes it itself */
        Py_BEGIN_ALLOW_THREADS rc = st_arrow_each(stream, add_array, &self->c);
        Py_END_ALLOW_THREADS
    }
    if (rc == ST_OK) return (PyObject *)self;
    Py_DECREF(self);
    if (rc != ST_EUNSUPPORTED) return text_raise(rc);
    Py_RETURN_NONE;
failed:
    Py_DECREF(self);
    return NULL;
}

static PyObject *Column_strings(ColumnObject *self, PyObject *u)
{
    (void)u;
    PyObject *list = PyList_New((Py_ssize_t)self->c.strings.n);
    for (size_t i = 0; list && i < self->c.strings.n; i++) {
        PyObject *s = term_str(&self->c.strings, i);
        if (!s) Py_CLEAR(list);
        if (list) PyList_SET_ITEM(list, (Py_ssize_t)i, s);
    }
    return list;
}

/* A column with other strings in their places (two may have become one). */
static PyObject *Column_mapped(ColumnObject *self, PyObject *list)
{
    const st_column *from = &self->c;
    if (!PyList_Check(list) || (size_t)PyList_GET_SIZE(list) != from->strings.n) {
        PyErr_SetString(PyExc_ValueError, "a list with a str for each string is needed");
        return NULL;
    }
    ColumnObject *out = column_new(from->codes.n);
    uint32_t *map = PyMem_Malloc((from->strings.n + 1) * sizeof *map);
    utf8 scratch = {0};
    int rc = map && out ? ST_OK : ST_ENOMEM;
    for (size_t i = 0; i < from->strings.n && rc == ST_OK; i++) {
        PyObject *s = PyList_GET_ITEM(list, (Py_ssize_t)i);
        const uint8_t *p = NULL;
        size_t len = 0;
        if (!plain_str(s))
            rc = ST_EUNSUPPORTED;
        else if (utf8_of(&scratch, s, &p, &len) < 0)
            rc = ST_ENOMEM;
        else
            rc = st_column_number(&out->c, p, len, &map[i]);
    }
    for (size_t r = 0; r < from->codes.n && rc == ST_OK; r++)
        rc = st_column_repeat(&out->c, map[from->codes.v[r]]);
    PyMem_Free(scratch.own);
    PyMem_Free(map);
    if (rc == ST_OK) {
        out->c.n_nulls = from->n_nulls;
        return (PyObject *)out;
    }
    Py_XDECREF(out);
    PyErr_Clear();
    return text_raise(rc);
}

static PyObject *Column_codes(ColumnObject *self, PyObject *arg)
{
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) return NULL;
    bool ok = room(&b, self->c.codes.n, sizeof(uint32_t));
    if (ok && self->c.codes.n) memcpy(b.buf, self->c.codes.v, self->c.codes.n * sizeof(uint32_t));
    PyBuffer_Release(&b);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

static PyObject *Column_counts(ColumnObject *self, PyObject *arg)
{
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) return NULL;
    bool ok = room(&b, self->c.counts.n, sizeof(int64_t));
    if (ok && self->c.counts.n) memcpy(b.buf, self->c.counts.v, self->c.counts.n * sizeof(int64_t));
    PyBuffer_Release(&b);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

#define COLUMN_SIZE(name, expr)                                                                              \
    static PyObject *Column_##name(ColumnObject *self, void *u)                                              \
    {                                                                                                        \
        (void)u;                                                                                             \
        return PyLong_FromSize_t(expr);                                                                      \
    }
COLUMN_SIZE(n_rows, self->c.codes.n)
COLUMN_SIZE(n_distinct, self->c.strings.n)
COLUMN_SIZE(n_nulls, self->c.n_nulls)
COLUMN_SIZE(n_bytes, self->c.strings.n_bytes)
COLUMN_SIZE(ascii, (size_t)self->c.ascii)
COLUMN_SIZE(surrogates, (size_t)self->c.surrogates)

static PyGetSetDef Column_getset[] = {
    {"n_rows", (getter)Column_n_rows, NULL, "Rows.", NULL},
    {"n_distinct", (getter)Column_n_distinct, NULL, "Distinct strings.", NULL},
    {"n_nulls", (getter)Column_n_nulls, NULL, "Rows that are null.", NULL},
    {"n_bytes", (getter)Column_n_bytes, NULL, "Bytes of the distinct strings.", NULL},
    {"ascii", (getter)Column_ascii, NULL, "Whether all strings are ASCII.", NULL},
    {"surrogates", (getter)Column_surrogates, NULL, "Whether a string holds a lone surrogate.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyMethodDef Column_methods[] = {
    {"strings", (PyCFunction)Column_strings, METH_NOARGS, "The distinct strings."},
    {"mapped", (PyCFunction)Column_mapped, METH_O, "The column with other strings in their places."},
    {"codes", (PyCFunction)Column_codes, METH_O, "Write the number of each row's string (uint32)."},
    {"counts", (PyCFunction)Column_counts, METH_O, "Write the rows of each string (int64)."},
    {NULL, NULL, 0, NULL}};
static PyTypeObject Column_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.TextColumn",
    .tp_basicsize = sizeof(ColumnObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A column of strings: distinct ones, and their number in each row.",
    .tp_dealloc = (destructor)Column_dealloc,
    .tp_methods = Column_methods,
    .tp_getset = Column_getset,
};

/* -- Counts ---------------------------------------------------------------------------------------------- */

typedef struct CountsObject {
    PyObject_HEAD st_counts c;
    ColumnObject *column;
    VocabularyObject *given; /* or NULL */
} CountsObject;

static PyTypeObject Counts_Type;

static void Counts_dealloc(CountsObject *self)
{
    st_counts_free(&self->c);
    Py_XDECREF(self->column);
    Py_XDECREF(self->given);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* text_count(column, analyzer, min_n, max_n, min_word, lowercase, stop, given, n_threads) */
static PyObject *text_count(PyObject *mod, PyObject *args)
{
    (void)mod;
    ColumnObject *column;
    PyObject *stop, *given;
    int analyzer, lowercase, n_threads;
    unsigned int min_n, max_n, min_word;
    if (!PyArg_ParseTuple(args, "O!iIIIpOOi", &Column_Type, &column, &analyzer, &min_n, &max_n, &min_word,
                          &lowercase, &stop, &given, &n_threads))
        return NULL;
    if ((stop != Py_None && !Py_IS_TYPE(stop, &Vocabulary_Type)) ||
        (given != Py_None && !Py_IS_TYPE(given, &Vocabulary_Type)) || analyzer < 0 || analyzer > ST_WORD ||
        !min_n) {
        PyErr_SetString(PyExc_ValueError, "text_count: invalid argument");
        return NULL;
    }
    st_text_spec spec = {(st_analyzer)analyzer,
                         min_n,
                         max_n,
                         min_word,
                         lowercase != 0,
                         stop == Py_None ? NULL : &((VocabularyObject *)stop)->terms};
    const st_terms *terms = given == Py_None ? NULL : &((VocabularyObject *)given)->terms;
    CountsObject *self = PyObject_New(CountsObject, &Counts_Type);
    if (!self) return NULL;
    self->c = (st_counts){0};
    self->column = (ColumnObject *)Py_NewRef((PyObject *)column);
    self->given = given == Py_None ? NULL : (VocabularyObject *)Py_NewRef(given);
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_count(&self->c, st_alloc_default(), &column->c, &spec, terms, n_threads);
    Py_END_ALLOW_THREADS if (rc == ST_OK) return (PyObject *)self;
    Py_DECREF(self);
    return text_raise(rc);
}

static PyObject *Counts_documents(CountsObject *self, PyObject *arg)
{
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) return NULL;
    bool ok = room(&b, self->c.terms->n, sizeof(int64_t));
    if (ok && self->c.terms->n) memcpy(b.buf, self->c.rows, self->c.terms->n * sizeof(int64_t));
    PyBuffer_Release(&b);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

static PyObject *Counts_totals(CountsObject *self, PyObject *arg)
{
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) return NULL;
    bool ok = room(&b, self->c.terms->n, sizeof(int64_t));
    if (ok) st_counts_totals(&self->c, self->column->c.counts.v, b.buf);
    PyBuffer_Release(&b);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

static PyObject *Counts_order(CountsObject *self, PyObject *args)
{
    Py_buffer b;
    int n_threads, rc = ST_OK;
    if (!PyArg_ParseTuple(args, "w*i", &b, &n_threads)) return NULL;
    bool ok = room(&b, self->c.terms->n, sizeof(uint32_t));
    if (ok) {
        Py_BEGIN_ALLOW_THREADS rc = st_terms_sort(self->c.terms, b.buf, n_threads);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&b);
    if (!ok) return NULL;
    if (rc != ST_OK) return text_raise(rc);
    Py_RETURN_NONE;
}

/* {term: column} in the order of first sight, without the terms whose column is negative. */
static PyObject *Counts_vocabulary(CountsObject *self, PyObject *arg)
{
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_C_CONTIGUOUS) < 0) return NULL;
    PyObject *dict = room(&b, self->c.terms->n, sizeof(int32_t)) ? PyDict_New() : NULL;
    const int32_t *map = b.buf;
    for (size_t i = 0; dict && i < self->c.terms->n; i++) {
        if (map[i] < 0) continue;
        PyObject *key = term_str(self->c.terms, i), *value = PyLong_FromLong(map[i]);
        if (!key || !value || PyDict_SetItem(dict, key, value) < 0) Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    PyBuffer_Release(&b);
    return dict;
}

/* hashed(n_features, columns int32, signs int8): scikit-learn's FeatureHasher for each term */
static PyObject *Counts_hashed(CountsObject *self, PyObject *args)
{
    Py_buffer columns, signs;
    int n_features;
    if (!PyArg_ParseTuple(args, "iw*w*", &n_features, &columns, &signs)) return NULL;
    size_t n = self->c.terms->n;
    bool ok = n_features > 0 && room(&columns, n, 4) && room(&signs, n, 1);
    if (ok) {
        const st_terms *t = self->c.terms;
        for (size_t i = 0; i < n; i++) {
            int32_t h = (int32_t)st_murmur3(t->bytes + t->off[i], (size_t)(t->off[i + 1] - t->off[i]), 0);
            int32_t column =
                h == INT32_MIN ? (INT32_MAX - (n_features - 1)) % n_features : (h < 0 ? -h : h) % n_features;
            ((int32_t *)columns.buf)[i] = column;
            ((int8_t *)signs.buf)[i] = h >= 0 ? 1 : -1;
        }
    }
    PyBuffer_Release(&columns);
    PyBuffer_Release(&signs);
    if (!ok) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "n_features");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* layout(map int32, indptr int32) -> entries */
static PyObject *Counts_layout(CountsObject *self, PyObject *args)
{
    Py_buffer map, indptr;
    if (!PyArg_ParseTuple(args, "y*w*", &map, &indptr)) return NULL;
    bool ok = room(&map, self->c.terms->n, 4) && room(&indptr, self->c.n_texts + 1, 4);
    int rc = ST_OK;
    int32_t n = 0;
    if (ok) {
        Py_BEGIN_ALLOW_THREADS rc = st_counts_layout(&self->c, map.buf, indptr.buf);
        if (rc == ST_OK) n = ((int32_t *)indptr.buf)[self->c.n_texts];
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&map);
    PyBuffer_Release(&indptr);
    if (!ok) return NULL;
    return rc == ST_OK ? PyLong_FromLong(n) : text_raise(rc);
}

/* rows(map, sign|None, order, sort, binary, table|None, idf|None, norm, number, indptr, index, data, threads)
 */
static PyObject *Counts_rows(CountsObject *self, PyObject *args)
{
    Py_buffer map = {0}, sign = {0}, table = {0}, idf = {0}, indptr = {0}, index = {0}, data = {0};
    int order, sort, binary, norm, number, n_threads, rc = ST_OK;
    if (!PyArg_ParseTuple(args, "y*z*ippz*z*iiw*w*w*i", &map, &sign, &order, &sort, &binary, &table, &idf,
                          &norm, &number, &indptr, &index, &data, &n_threads))
        return NULL;
    size_t n = self->c.terms->n;
    bool ok = room(&map, n, 4) && room(&indptr, self->c.n_texts + 1, 4) && (!sign.buf || room(&sign, n, 1));
    if (ok) {
        size_t nnz = (size_t)((int32_t *)indptr.buf)[self->c.n_texts];
        ok = room(&index, nnz, 4) &&
             room(&data, nnz, number == ST_I32 || number == ST_F32 ? (size_t)4 : (size_t)8) &&
             (!table.buf || room(&table, (size_t)st_counts_max(&self->c) + 1, 8));
        for (size_t i = 0; ok && idf.buf && i < n; i++)
            if (((int32_t *)map.buf)[i] >= idf.len / 8) ok = room(&idf, SIZE_MAX / 8, 8);
    }
    if (ok) {
        st_rows_spec spec = {map.buf,     sign.buf,         (st_order)order,       sort != 0,
                             binary != 0, table.buf,        (size_t)table.len / 8, idf.buf,
                             norm,        (st_number)number};
        Py_BEGIN_ALLOW_THREADS rc =
            st_counts_rows(&self->c, &spec, indptr.buf, index.buf, data.buf, n_threads);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&map);
    if (sign.obj) PyBuffer_Release(&sign);
    if (table.obj) PyBuffer_Release(&table);
    if (idf.obj) PyBuffer_Release(&idf);
    PyBuffer_Release(&indptr);
    PyBuffer_Release(&index);
    PyBuffer_Release(&data);
    if (!ok) return NULL;
    if (rc != ST_OK) return text_raise(rc);
    Py_RETURN_NONE;
}

static PyObject *Counts_max(CountsObject *self, PyObject *u)
{
    (void)u;
    return PyLong_FromUnsignedLong(st_counts_max(&self->c));
}

static PyObject *Counts_n_terms(CountsObject *self, void *u)
{
    (void)u;
    return PyLong_FromSize_t(self->c.terms->n);
}

static PyGetSetDef Counts_getset[] = {{"n_terms", (getter)Counts_n_terms, NULL, "Terms.", NULL},
                                      {NULL, NULL, NULL, NULL, NULL}};
static PyMethodDef Counts_methods[] = {
    {"documents", (PyCFunction)Counts_documents, METH_O, "Write the rows that have each term (int64)."},
    {"totals", (PyCFunction)Counts_totals, METH_O, "Write how often each term occurs (int64)."},
    {"order", (PyCFunction)Counts_order, METH_VARARGS, "Write the terms' numbers in sorted order (uint32)."},
    {"vocabulary", (PyCFunction)Counts_vocabulary, METH_O, "{term: column}."},
    {"hashed", (PyCFunction)Counts_hashed, METH_VARARGS, "Write column and sign of each term."},
    {"layout", (PyCFunction)Counts_layout, METH_VARARGS, "Write indptr; returns the entries."},
    {"rows", (PyCFunction)Counts_rows, METH_VARARGS, "Write the entries of a row a distinct string."},
    {"max", (PyCFunction)Counts_max, METH_NOARGS, "The largest count."},
    {NULL, NULL, 0, NULL}};
static PyTypeObject Counts_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.TextCounts",
    .tp_basicsize = sizeof(CountsObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The terms of each distinct string, counted.",
    .tp_dealloc = (destructor)Counts_dealloc,
    .tp_methods = Counts_methods,
    .tp_getset = Counts_getset,
};

/* -- Sparse matrices ------------------------------------------------------------------------------------- */

/* Whether indptr and index are those of a matrix with n_cols columns; with ValueError if not. */
static bool sound(const Py_buffer *indptr, const Py_buffer *index, const Py_buffer *data, size_t size,
                  size_t n_cols)
{
    size_t n_rows = (size_t)indptr->len / 4;
    const int32_t *p = indptr->buf;
    bool ok = n_rows > 0 && p[0] == 0;
    for (size_t r = 1; ok && r < n_rows; r++)
        ok = p[r] >= p[r - 1];
    size_t nnz = ok ? (size_t)p[n_rows - 1] : 0;
    ok = ok && (size_t)index->len / 4 >= nnz && (size_t)data->len / size >= nnz;
    const int32_t *i = index->buf;
    uint32_t limit = (uint32_t)n_cols, bad = 0;
    if (ok)
        for (size_t e = 0; e < nnz; e++)
            bad |= (uint32_t)i[e] >= limit;
    if (ok && !bad) return true;
    PyErr_SetString(PyExc_ValueError, "not a sparse matrix");
    return false;
}

/* text_expand(codes, item size, indptr, index, data, indptr out, index out, data out, threads); with None in
 * place of the last outputs: write indptr only and return the entries */
static PyObject *text_expand(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer codes = {0}, indptr = {0}, index = {0}, data = {0}, ptr = {0}, index_out = {0}, data_out = {0};
    int size, n_threads, rc = ST_OK;
    if (!PyArg_ParseTuple(args, "y*iy*y*y*w*z*z*i", &codes, &size, &indptr, &index, &data, &ptr, &index_out,
                          &data_out, &n_threads))
        return NULL;
    size_t n = (size_t)codes.len / 4;
    uint32_t rows = (uint32_t)((size_t)indptr.len / 4);
    bool ok = size > 0 && room(&ptr, n + 1, 4) && sound(&indptr, &index, &data, (size_t)size, INT32_MAX);
    for (size_t r = 0; ok && r < n; r++)
        if (((uint32_t *)codes.buf)[r] + 1 >= rows) ok = room(&indptr, SIZE_MAX / 4, 4);
    if (ok && !index_out.buf) rc = st_rows_expand_layout(n, codes.buf, indptr.buf, ptr.buf);
    int32_t nnz = ok && rc == ST_OK ? ((int32_t *)ptr.buf)[n] : 0;
    if (ok && index_out.buf) {
        ok = !index_out.readonly && data_out.buf && !data_out.readonly && room(&index_out, (size_t)nnz, 4) &&
             room(&data_out, (size_t)nnz, (size_t)size);
        if (ok) {
            Py_BEGIN_ALLOW_THREADS st_rows_expand(n, codes.buf, (size_t)size, indptr.buf, index.buf, data.buf,
                                                  ptr.buf, index_out.buf, data_out.buf, n_threads);
            Py_END_ALLOW_THREADS
        } else if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "outputs must be writable");
        }
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&indptr);
    PyBuffer_Release(&index);
    PyBuffer_Release(&data);
    PyBuffer_Release(&ptr);
    if (index_out.obj) PyBuffer_Release(&index_out);
    if (data_out.obj) PyBuffer_Release(&data_out);
    if (!ok) return NULL;
    return rc == ST_OK ? PyLong_FromLong(nnz) : text_raise(rc);
}

/* text_tfidf(indptr, index, data, idf|None, norm, double, n_cols, threads): in place */
static PyObject *text_tfidf(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer indptr, index, data, idf;
    int norm, wide, n_threads;
    Py_ssize_t n_cols;
    if (!PyArg_ParseTuple(args, "y*y*w*z*ipni", &indptr, &index, &data, &idf, &norm, &wide, &n_cols,
                          &n_threads))
        return NULL;
    size_t size = wide ? 8 : 4, n_rows = (size_t)indptr.len / 4 - 1;
    bool ok =
        sound(&indptr, &index, &data, size, (size_t)n_cols) && (!idf.buf || room(&idf, (size_t)n_cols, size));
    if (ok) {
        Py_BEGIN_ALLOW_THREADS if (wide)
            st_csr_tfidf_f64(n_rows, indptr.buf, index.buf, data.buf, idf.buf, norm, n_threads);
        else st_csr_tfidf_f32(n_rows, indptr.buf, index.buf, data.buf, idf.buf, norm, n_threads);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&indptr);
    PyBuffer_Release(&index);
    PyBuffer_Release(&data);
    if (idf.obj) PyBuffer_Release(&idf);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

/* csr_dense(indptr, index, data, n_cols, k, Q, Y, threads): Y = A Q */
static PyObject *csr_dense(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer indptr, index, data, Q, Y;
    Py_ssize_t n_cols, k;
    int n_threads, rc = ST_OK;
    if (!PyArg_ParseTuple(args, "y*y*y*nny*w*i", &indptr, &index, &data, &n_cols, &k, &Q, &Y, &n_threads))
        return NULL;
    size_t n_rows = (size_t)indptr.len / 4 - 1;
    bool ok = n_cols >= 0 && k >= 0 && sound(&indptr, &index, &data, 4, (size_t)n_cols) &&
              room(&Q, (size_t)(n_cols * k), 4) && room(&Y, n_rows * (size_t)k, 4);
    if (ok) {
        Py_BEGIN_ALLOW_THREADS rc = st_csr_dense(st_alloc_default(), n_rows, (size_t)n_cols, (size_t)k,
                                                 indptr.buf, index.buf, data.buf, Q.buf, Y.buf, n_threads);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&indptr);
    PyBuffer_Release(&index);
    PyBuffer_Release(&data);
    PyBuffer_Release(&Q);
    PyBuffer_Release(&Y);
    if (!ok) return NULL;
    if (rc != ST_OK) return text_raise(rc);
    Py_RETURN_NONE;
}

/* csr_transpose(indptr, index, data, n_cols, indptr out, index out, data out, threads) */
static PyObject *csr_transpose(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer indptr, index, data, ptr_t, index_t, data_t;
    Py_ssize_t n_cols;
    int n_threads, rc = ST_OK;
    if (!PyArg_ParseTuple(args, "y*y*y*nw*w*w*i", &indptr, &index, &data, &n_cols, &ptr_t, &index_t, &data_t,
                          &n_threads))
        return NULL;
    size_t n_rows = (size_t)indptr.len / 4 - 1;
    bool ok = n_cols >= 0 && sound(&indptr, &index, &data, 4, (size_t)n_cols);
    if (ok) {
        size_t nnz = (size_t)((int32_t *)indptr.buf)[n_rows];
        ok = room(&ptr_t, (size_t)n_cols + 1, 4) && room(&index_t, nnz, 4) && room(&data_t, nnz, 4);
    }
    if (ok) {
        Py_BEGIN_ALLOW_THREADS rc =
            st_csr_transpose(st_alloc_default(), n_rows, (size_t)n_cols, indptr.buf, index.buf, data.buf,
                             ptr_t.buf, index_t.buf, data_t.buf, n_threads);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&indptr);
    PyBuffer_Release(&index);
    PyBuffer_Release(&data);
    PyBuffer_Release(&ptr_t);
    PyBuffer_Release(&index_t);
    PyBuffer_Release(&data_t);
    if (!ok) return NULL;
    if (rc != ST_OK) return text_raise(rc);
    Py_RETURN_NONE;
}

/* csc_variance(n_rows, indptr, data, out, threads) */
static PyObject *csc_variance(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer indptr, data, out;
    Py_ssize_t n_rows;
    int n_threads;
    if (!PyArg_ParseTuple(args, "ny*y*w*i", &n_rows, &indptr, &data, &out, &n_threads)) return NULL;
    size_t n_cols = (size_t)indptr.len / 4 - 1;
    bool ok = room(&data, (size_t)((int32_t *)indptr.buf)[n_cols], 4) && room(&out, n_cols, 4);
    if (ok) {
        Py_BEGIN_ALLOW_THREADS st_csc_variance((size_t)n_rows, n_cols, indptr.buf, data.buf, out.buf,
                                               n_threads);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&indptr);
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

/* take_columns(n, k, codes|None, rows, out, threads): float32 rows by code, written column after column */
static PyObject *take_columns(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer codes, rows, out;
    Py_ssize_t n, k;
    int n_threads;
    if (!PyArg_ParseTuple(args, "nnz*y*w*i", &n, &k, &codes, &rows, &out, &n_threads)) return NULL;
    bool ok =
        n >= 0 && k >= 0 && room(&out, (size_t)(n * k), 4) && (!codes.buf || room(&codes, (size_t)n, 4));
    size_t n_rows = k ? (size_t)rows.len / 4 / (size_t)k : 0;
    for (Py_ssize_t r = 0; ok && codes.buf && r < n; r++)
        if (((uint32_t *)codes.buf)[r] >= n_rows) ok = room(&rows, SIZE_MAX / 4, 4);
    if (ok && !codes.buf) ok = room(&rows, (size_t)(n * k), 4);
    if (ok) {
        Py_BEGIN_ALLOW_THREADS st_take_columns((size_t)n, (size_t)k, codes.buf, rows.buf, out.buf, n_threads);
        Py_END_ALLOW_THREADS
    }
    if (codes.obj) PyBuffer_Release(&codes);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&out);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

/* -- Registration ---------------------------------------------------------------------------------------- */

static PyMethodDef text_methods[] = {
    {"text_vocabulary", text_vocabulary, METH_O, "Terms to look for, from a dict."},
    {"text_from_list", text_from_list, METH_VARARGS, "A column from a list of str."},
    {"text_from_arrow", text_from_arrow, METH_O, "A column from an Arrow capsule."},
    {"text_count", text_count, METH_VARARGS, "Count the n-grams of a column."},
    {"text_expand", text_expand, METH_VARARGS, "Rows of a sparse matrix by code."},
    {"text_tfidf", text_tfidf, METH_VARARGS, "tf-idf of a sparse matrix, in place."},
    {"csr_dense", csr_dense, METH_VARARGS, "Sparse times dense, float32."},
    {"csr_transpose", csr_transpose, METH_VARARGS, "CSR to CSC, float32."},
    {"csc_variance", csc_variance, METH_VARARGS, "Variance of each column."},
    {"take_columns", take_columns, METH_VARARGS, "Rows by code, column after column."},
    {NULL, NULL, 0, NULL}};

int st_py_add_native_text(PyObject *module)
{
    if (PyType_Ready(&Vocabulary_Type) < 0 || PyType_Ready(&Column_Type) < 0 ||
        PyType_Ready(&Counts_Type) < 0)
        return -1;
    return PyModule_AddFunctions(module, text_methods);
}
