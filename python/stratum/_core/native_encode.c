/* native_encode.c - distinct values of columns and the matrices of encoders, for stratum.native.
 *
 * Called by python/stratum/native alone (encoders.py, dates.py), which has made the arrays; sizes and
 * codes are checked here again.  The GIL is released where no Python object is looked at.
 */
#include "core.h"

#include "native/encode.h"

static PyObject *encode_raise(int rc)
{
    if (rc == ST_ENOMEM) return PyErr_NoMemory();
    PyErr_SetString(PyExc_ValueError, st_code_text(rc));
    return NULL;
}

/* Whether an error only says that the column is none for the kernel. */
static bool declines(int rc) { return rc == ST_ELIMIT || rc == ST_EUNSUPPORTED; }

static bool refuse(const char *what)
{
    PyErr_SetString(PyExc_ValueError, what);
    return false;
}

/* -- Distinct values ------------------------------------------------------------------------------------- */

/* encode_numbers(values, codes uint32, first uint64) -> how many; None: more than there is room for in
 * `first`, both zeros, or another type. */
static PyObject *encode_numbers(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *values;
    Py_buffer codes, first, v;
    if (!PyArg_ParseTuple(args, "Ow*w*", &values, &codes, &first)) return NULL;
    PyObject *result = NULL;
    if (PyObject_GetBuffer(values, &v, PyBUF_STRIDES | PyBUF_FORMAT) == 0) {
        const char *format = v.format ? v.format : "B";
        bool floats = strcmp(format, "d") == 0 || strcmp(format, "f") == 0;
        size_t size = (size_t)v.itemsize, n = v.ndim == 1 ? (size_t)v.shape[0] : 0, found = 0;
        if (v.ndim != 1 || (size_t)codes.len / 4 < n) {
            refuse("one dimension, and room for the codes");
        } else if (strlen(format) != 1 || (!floats && !strchr("?bBhHiIlLqQ", format[0]))) {
            result = Py_NewRef(Py_None);
        } else {
            int rc;
            Py_BEGIN_ALLOW_THREADS rc =
                st_encode_numbers(st_alloc_default(), v.buf, v.strides[0], n, size, floats,
                                  (size_t)first.len / 8, codes.buf, first.buf, &found);
            Py_END_ALLOW_THREADS if (declines(rc)) result = Py_NewRef(Py_None);
            else result = rc == ST_OK ? PyLong_FromSize_t(found) : encode_raise(rc);
        }
        PyBuffer_Release(&v);
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&first);
    return result;
}

static PyObject *strings_of(const st_terms *t)
{
    PyObject *list = PyList_New((Py_ssize_t)t->n);
    for (size_t i = 0; list && i < t->n; i++) {
        PyObject *s = PyUnicode_DecodeUTF8((const char *)t->bytes + t->off[i],
                                           (Py_ssize_t)(t->off[i + 1] - t->off[i]), "surrogatepass");
        if (!s) Py_CLEAR(list);
        if (list) PyList_SET_ITEM(list, (Py_ssize_t)i, s);
    }
    return list;
}

/* Where the rows of a stream's arrays go, one array after the other. */
typedef struct filling {
    size_t n, at;    /* rows that there is room for, and are there */
    void *to;        /* uint32_t codes, or int64_t times */
    st_terms *terms; /* of strings */
    size_t most, n_nulls;
    const st_date_layout *layout; /* of dates */
} filling;

/* The place of an array's rows, or ST_EINVAL where there is no room. */
static int make_room(filling *f, const struct ArrowArray *array, size_t *from)
{
    if (array->length < 0 || (size_t)array->length > f->n - f->at) return ST_EINVAL;
    *from = f->at;
    f->at += (size_t)array->length;
    return ST_OK;
}

static int fill_codes(void *ud, const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    filling *f = ud;
    size_t from;
    ST_TRY(make_room(f, array, &from));
    return st_encode_arrow(f->terms, schema, array, f->most, (uint32_t *)f->to + from, &f->n_nulls);
}

static int fill_times(void *ud, const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    filling *f = ud;
    size_t from;
    ST_TRY(make_room(f, array, &from));
    return st_encode_arrow_dates(f->layout, schema, array, (int64_t *)f->to + from);
}

static int fill(filling *f, struct ArrowArrayStream *stream, st_arrow_fn fn)
{
    ST_TRY(st_arrow_each(stream, fn, f));
    return f->at == f->n ? ST_OK : ST_EINVAL;
}

static int read_strings(filling *f, struct ArrowArrayStream *stream)
{
    ST_TRY(fill(f, stream, fill_codes));
    uint32_t *codes = f->to;
    for (size_t r = 0; f->n_nulls && r < f->n; r++)
        if (codes[r] == ST_NO_CODE) codes[r] = (uint32_t)f->terms->n;
    return ST_OK;
}

/* encode_arrow(capsule of __arrow_c_stream__, codes uint32, most) -> (strings, nulls), a null having the
 * number after the last string; None: no strings, or more than `most`. */
static PyObject *encode_arrow(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *capsule;
    Py_buffer codes;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "Ow*n", &capsule, &codes, &most)) return NULL;
    PyObject *result = NULL;
    struct ArrowArrayStream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");
    if (stream) {
        st_terms t = {0};
        filling f = {
            .n = (size_t)codes.len / 4, .to = codes.buf, .terms = &t, .most = most < 0 ? 0 : (size_t)most};
        int rc;
        /* the producer may need the GIL between arrays: it takes it itself */
        Py_BEGIN_ALLOW_THREADS rc = st_terms_init(&t, st_alloc_default(), 0);
        if (rc == ST_OK) rc = read_strings(&f, stream);
        Py_END_ALLOW_THREADS if (declines(rc)) result = Py_NewRef(Py_None);
        else if (rc != ST_OK) encode_raise(rc);
        else
        {
            PyObject *strings = strings_of(&t);
            result = strings ? Py_BuildValue("Nn", strings, (Py_ssize_t)f.n_nulls) : NULL;
        }
        st_terms_free(&t);
    }
    PyBuffer_Release(&codes);
    return result;
}

/* encode_dates(capsule of __arrow_c_stream__, format, out int64) -> whether all rows are null or dates in
 * this format, which then are in `out`: microseconds since 1970, the least number for null */
static PyObject *encode_dates(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *capsule;
    const char *format;
    Py_ssize_t len;
    Py_buffer out;
    if (!PyArg_ParseTuple(args, "Os#w*", &capsule, &format, &len, &out)) return NULL;
    PyObject *result = NULL;
    st_date_layout layout;
    struct ArrowArrayStream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");
    if (stream && !st_date_layout_read(&layout, format, (size_t)len)) {
        result = Py_NewRef(Py_False);
    } else if (stream) {
        int rc;
        filling f = {.n = (size_t)out.len / 8, .to = out.buf, .layout = &layout};
        /* the producer may need the GIL between arrays: it takes it itself */
        Py_BEGIN_ALLOW_THREADS rc = fill(&f, stream, fill_times);
        Py_END_ALLOW_THREADS if (rc == ST_OK || declines(rc)) result = PyBool_FromLong(rc == ST_OK);
        else encode_raise(rc);
    }
    PyBuffer_Release(&out);
    return result;
}

typedef struct looking {
    const st_terms *some;
    bool found;
} looking;

/* ST_ECANCELED once it is found: no more arrays are asked for. */
static int look(void *ud, const struct ArrowSchema *schema, const struct ArrowArray *array)
{
    looking *l = ud;
    ST_TRY(st_encode_arrow_among(l->some, schema, array, &l->found));
    return l->found ? ST_ECANCELED : ST_OK;
}

/* encode_among(capsule of __arrow_c_stream__, list of str) -> whether a row may be one of them or white
 * space; None: no strings on either side */
static PyObject *encode_among(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *capsule, *list;
    if (!PyArg_ParseTuple(args, "OO!", &capsule, &PyList_Type, &list)) return NULL;
    struct ArrowArrayStream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");
    if (!stream) return NULL;
    st_terms some = {0};
    int rc = st_terms_init(&some, st_alloc_default(), (size_t)PyList_GET_SIZE(list));
    for (Py_ssize_t i = 0; rc == ST_OK && i < PyList_GET_SIZE(list); i++) {
        PyObject *s = PyList_GET_ITEM(list, i);
        Py_ssize_t len;
        uint32_t id;
        const char *p = PyUnicode_CheckExact(s) ? PyUnicode_AsUTF8AndSize(s, &len) : NULL;
        PyErr_Clear(); /* a lone surrogate, or no memory: not a list for the kernel */
        rc = p ? st_terms_add(&some, (const uint8_t *)p, (size_t)len, &id) : ST_EUNSUPPORTED;
    }
    looking l = {.some = &some};
    if (rc == ST_OK) {
        /* the producer may need the GIL between arrays: it takes it itself */
        Py_BEGIN_ALLOW_THREADS rc = st_arrow_each(stream, look, &l);
        Py_END_ALLOW_THREADS
    }
    st_terms_free(&some);
    if (rc == ST_OK || rc == ST_ECANCELED) return PyBool_FromLong(l.found);
    return declines(rc) ? Py_NewRef(Py_None) : encode_raise(rc);
}

/* date_parts(times int64, units of a second, parts as bytes, out float32, threads) */
static PyObject *date_parts(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer times, names, out;
    long long per_second;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "y*Ly*w*I", &times, &per_second, &names, &out, &threads)) return NULL;
    size_t n = (size_t)times.len / 8, k = (size_t)names.len;
    st_date_part parts[16];
    bool ok = (k > 0 && k <= 16 && (size_t)out.len / 4 / k >= n) || refuse("parts");
    ok = ok && ((per_second > 0 && per_second <= 1000000000) || refuse("units"));
    for (size_t i = 0; ok && i < k; i++) {
        parts[i] = (st_date_part)((const uint8_t *)names.buf)[i];
        if (((const uint8_t *)names.buf)[i] > ST_DAY_OF_YEAR) ok = refuse("parts");
    }
    if (ok) {
        Py_BEGIN_ALLOW_THREADS st_dates_parts(n, times.buf, per_second, k, parts, out.buf, threads);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&times);
    PyBuffer_Release(&names);
    PyBuffer_Release(&out);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

/* date_midnight(times int64, units of a second) -> whether there is no other time of day */
static PyObject *date_midnight(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer times;
    long long per_second;
    if (!PyArg_ParseTuple(args, "y*L", &times, &per_second)) return NULL;
    bool ok = (per_second > 0 && per_second <= 1000000000) || refuse("units");
    bool midnight = ok && st_dates_midnight((size_t)times.len / 8, times.buf, per_second);
    PyBuffer_Release(&times);
    return ok ? PyBool_FromLong(midnight) : NULL;
}

enum { LINES = 1024 };

typedef struct seen {
    PyObject *o;
    uint32_t code;
} seen;

/* Whether an object compares with its like and with nothing of the user's in between. */
static bool plain(PyObject *o)
{
    return PyUnicode_CheckExact(o) || PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyBool_Check(o) ||
           o == Py_None;
}

/* encode_objects(array of objects, codes uint32, most) -> the distinct objects, equal ones being one and all
 * NaN too; None: more than `most`, or others than str, int, float, bool and None.
 *
 * An object that was the last one of its line in a small cache is not looked up: in columns that were read
 * from files or taken from a list of categories equal strings are one object.  Measured on 100,000 rows of 20
 * strings: 0.25 ms, a lookup for each row 1.5. */
static PyObject *encode_objects(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *values;
    Py_buffer codes, v;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "Ow*n", &values, &codes, &most)) return NULL;
    if (PyObject_GetBuffer(values, &v, PyBUF_STRIDES | PyBUF_FORMAT) < 0) {
        PyBuffer_Release(&codes);
        return NULL;
    }
    PyObject *found = PyList_New(0), *numbers = PyDict_New();
    seen *lines = PyMem_Calloc(LINES, sizeof *lines);
    uint32_t nan = ST_NO_CODE;
    bool ok = found && numbers, other = false;
    if (ok && !lines) {
        PyErr_NoMemory();
        ok = false;
    }
    if (ok && (v.ndim != 1 || !v.format || strcmp(v.format, "O") != 0 || codes.len / 4 < v.shape[0]))
        ok = refuse("objects in one dimension, and room for the codes");
    for (Py_ssize_t r = 0; ok && !other && r < v.shape[0]; r++) {
        PyObject *o;
        memcpy(&o, (const char *)v.buf + r * v.strides[0], sizeof o);
        seen *line = &lines[((uintptr_t)o >> 4) * 0x9E3779B97F4A7C15u >> 54];
        uint32_t code = line->code;
        if (line->o != o) {
            if (!o || !plain(o)) {
                other = true;
                break;
            }
            bool is_nan = PyFloat_CheckExact(o) && PyFloat_AS_DOUBLE(o) != PyFloat_AS_DOUBLE(o);
            PyObject *known = is_nan ? NULL : PyDict_GetItemWithError(numbers, o);
            code = is_nan ? nan : ST_NO_CODE;
            if (known) {
                code = (uint32_t)PyLong_AsUnsignedLong(known);
            } else if (PyErr_Occurred()) {
                ok = false;
                break;
            }
            if (code == ST_NO_CODE) {
                Py_ssize_t n = PyList_GET_SIZE(found);
                if (n >= most) {
                    other = true;
                    break;
                }
                code = (uint32_t)n;
                if (is_nan) {
                    nan = code;
                } else {
                    PyObject *number = PyLong_FromSsize_t(n);
                    ok = number && PyDict_SetItem(numbers, o, number) == 0;
                    Py_XDECREF(number);
                }
                ok = ok && PyList_Append(found, o) == 0;
            }
            *line = (seen){o, code};
        }
        ((uint32_t *)codes.buf)[r] = code;
    }
    PyMem_Free(lines);
    Py_XDECREF(numbers);
    PyBuffer_Release(&v);
    PyBuffer_Release(&codes);
    if (ok && !other) return found;
    Py_XDECREF(found);
    return ok ? Py_NewRef(Py_None) : NULL;
}

/* -- Rows ------------------------------------------------------------------------------------------------ */

/* Whether all codes are below k. */
static bool below(const Py_buffer *codes, size_t n, size_t k)
{
    if ((size_t)codes->len / 4 < n) return refuse("too few codes");
    const uint32_t *c = codes->buf;
    uint32_t bad = 0, limit = k > UINT32_MAX ? UINT32_MAX : (uint32_t)k;
    for (size_t r = 0; r < n; r++)
        bad |= (uint32_t)(c[r] >= limit);
    return !bad || refuse("a code without a value");
}

/* encode_count(codes, counts int64) */
static PyObject *encode_count(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer codes, counts;
    if (!PyArg_ParseTuple(args, "y*w*", &codes, &counts)) return NULL;
    size_t n = (size_t)codes.len / 4, k = (size_t)counts.len / 8;
    bool ok = below(&codes, n, k);
    if (ok) {
        Py_BEGIN_ALLOW_THREADS st_encode_count(n, codes.buf, k, counts.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&counts);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

/* encode_take(codes, size, values, out, at, step): out[at + r * step] = values[codes[r]], in items of `size`
 */
static PyObject *encode_take(PyObject *mod, PyObject *args)
{
    (void)mod;
    Py_buffer codes, values, out;
    Py_ssize_t size, at, step;
    if (!PyArg_ParseTuple(args, "y*ny*w*nn", &codes, &size, &values, &out, &at, &step)) return NULL;
    Py_ssize_t n = codes.len / 4;
    bool ok = (size == 1 || size == 2 || size == 4 || size == 8) || refuse("size of items");
    ok = ok && ((at >= 0 && step > 0 && (n == 0 || at + (n - 1) * step < out.len / size)) || refuse("out"));
    ok = ok && below(&codes, (size_t)n, (size_t)(values.len / size));
    if (ok) {
        Py_BEGIN_ALLOW_THREADS st_encode_take((size_t)n, codes.buf, (size_t)size, values.buf,
                                              (char *)out.buf + at * size, step * size);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&values);
    PyBuffer_Release(&out);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

/* The features of a one-hot matrix: codes and columns of each, from two tuples. */
typedef struct features {
    Py_buffer *b;
    st_feature *v;
    Py_ssize_t n, held;
} features;

static void features_drop(features *f)
{
    while (f->held > 0)
        PyBuffer_Release(&f->b[--f->held]);
    PyMem_Free(f->b);
    PyMem_Free(f->v);
}

static bool features_take(features *f, PyObject *codes, PyObject *columns, size_t n_rows, Py_ssize_t width)
{
    *f = (features){.n = PyTuple_GET_SIZE(codes)};
    if (PyTuple_GET_SIZE(columns) != f->n) return refuse("codes and columns");
    f->b = PyMem_Calloc((size_t)(2 * f->n + 1), sizeof *f->b);
    f->v = PyMem_Calloc((size_t)(f->n + 1), sizeof *f->v);
    if (!f->b || !f->v) {
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t i = 0; i < f->n; i++) {
        Py_buffer *c = &f->b[f->held], *m = c + 1;
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(codes, i), c, PyBUF_C_CONTIGUOUS) < 0) return false;
        f->held++;
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(columns, i), m, PyBUF_C_CONTIGUOUS) < 0) return false;
        f->held++;
        if (!below(c, n_rows, (size_t)m->len / 4)) return false;
        for (Py_ssize_t k = 0; k < m->len / 4; k++)
            if (((int32_t *)m->buf)[k] >= width) return refuse("a column that is not there");
        f->v[i] = (st_feature){c->buf, m->buf};
    }
    return true;
}

/* encode_dense(codes of each feature, columns of each, n rows, n columns, one, out, threads) */
static PyObject *encode_dense(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *codes, *columns;
    Py_ssize_t n, width;
    Py_buffer one, out;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "O!O!nny*w*I", &PyTuple_Type, &codes, &PyTuple_Type, &columns, &n, &width,
                          &one, &out, &threads))
        return NULL;
    features f = {0};
    Py_ssize_t size = one.len;
    bool ok = ((size == 1 || size == 2 || size == 4 || size == 8) && n >= 0 && width >= 0 &&
               (width == 0 || out.len / size / width >= n)) ||
              refuse("sizes");
    ok = ok && features_take(&f, codes, columns, (size_t)n, width);
    if (ok) {
        Py_BEGIN_ALLOW_THREADS st_encode_dense((size_t)n, (size_t)f.n, f.v, (size_t)width, (size_t)size,
                                               one.buf, out.buf, threads);
        Py_END_ALLOW_THREADS
    }
    features_drop(&f);
    PyBuffer_Release(&one);
    PyBuffer_Release(&out);
    if (!ok) return NULL;
    Py_RETURN_NONE;
}

/* encode_csr(codes, columns, n columns, indptr int32, index int32, threads) -> entries, for which `index` has
 * room if it has for an entry of each row and feature; None: more than 32 bits count */
static PyObject *encode_csr(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *codes, *columns;
    Py_ssize_t width;
    Py_buffer indptr, index;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "O!O!nw*w*I", &PyTuple_Type, &codes, &PyTuple_Type, &columns, &width, &indptr,
                          &index, &threads))
        return NULL;
    features f = {0};
    int rc = ST_OK;
    Py_ssize_t n = indptr.len / 4 - 1;
    bool ok = n >= 0 || refuse("indptr");
    ok = ok && features_take(&f, codes, columns, (size_t)n, width);
    ok = ok && (f.n == 0 || index.len / 4 / f.n >= n || refuse("index"));
    if (ok) {
        Py_BEGIN_ALLOW_THREADS rc = st_encode_layout((size_t)n, (size_t)f.n, f.v, indptr.buf);
        if (rc == ST_OK) st_encode_index((size_t)n, (size_t)f.n, f.v, indptr.buf, index.buf, threads);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = NULL;
    if (ok) result = rc == ST_OK ? PyLong_FromLong(((int32_t *)indptr.buf)[n]) : Py_NewRef(Py_None);
    features_drop(&f);
    PyBuffer_Release(&indptr);
    PyBuffer_Release(&index);
    return result;
}

/* -- Registration ---------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"encode_numbers", encode_numbers, METH_VARARGS, "Number the distinct numbers of a column."},
    {"encode_arrow", encode_arrow, METH_VARARGS, "Number the distinct strings of an Arrow column."},
    {"encode_objects", encode_objects, METH_VARARGS, "Number the distinct objects of a column."},
    {"encode_dates", encode_dates, METH_VARARGS, "Read the dates of an Arrow column."},
    {"encode_among", encode_among, METH_VARARGS, "Whether strings of an Arrow column are among some."},
    {"date_parts", date_parts, METH_VARARGS, "The parts of dates, as float32."},
    {"date_midnight", date_midnight, METH_VARARGS, "Whether all times of day are midnight."},
    {"encode_count", encode_count, METH_VARARGS, "Rows of each code."},
    {"encode_take", encode_take, METH_VARARGS, "Values by code."},
    {"encode_dense", encode_dense, METH_VARARGS, "Set the ones of a one-hot matrix."},
    {"encode_csr", encode_csr, METH_VARARGS, "The entries of a sparse one-hot matrix."},
    {NULL, NULL, 0, NULL}};

int st_py_add_native_encode(PyObject *module) { return PyModule_AddFunctions(module, methods); }
