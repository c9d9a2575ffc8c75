/* native_numeric.c - numeric kernels for stratum.native.
 *
 * Called by python/stratum/native alone (linear.py, scalers.py, impute.py, metrics.py), which has checked
 * shapes and values before; types, lengths and overlaps that would break memory are checked here again.
 * Matrices come through the buffer protocol, float64 or float32, with any strides; results go into arrays
 * of the caller's.  The GIL is released around every kernel.
 */
#include "core.h"
#include "native_numeric.h"

#include "kernels/cholesky.h"
#include "kernels/descent.h"
#include "kernels/gram.h"
#include "kernels/logistic.h"

/* -- Arguments ----------------------------------------------------------------------------- */

enum { MOST_BUFFERS = 8 };

typedef struct buffers {
    Py_buffer b[MOST_BUFFERS];
    int n;
} buffers;

static PyObject *drop(buffers *bs, PyObject *result)
{
    while (bs->n > 0)
        PyBuffer_Release(&bs->b[--bs->n]);
    return result;
}

/* A matrix of one or two dimensions; one dimension is a column. */
static bool matrix(buffers *bs, PyObject *o, st_dense *out)
{
    Py_buffer *b = &bs->b[bs->n];
    if (PyObject_GetBuffer(o, b, PyBUF_STRIDES | PyBUF_FORMAT) < 0) return false;
    bs->n++;
    const char *format = b->format ? b->format : "B";
    bool d = strcmp(format, "d") == 0, f = strcmp(format, "f") == 0;
    if ((!d && !f) || (b->ndim != 1 && b->ndim != 2)) {
        PyErr_Format(PyExc_TypeError, "a float64 or float32 array of one or two dimensions is wanted, not %s",
                     format);
        return false;
    }
    *out = (st_dense){.data = b->buf,
                      .rows = (size_t)b->shape[0],
                      .cols = b->ndim == 2 ? (size_t)b->shape[1] : 1,
                      .row = b->strides[0],
                      .col = b->ndim == 2 ? b->strides[1] : b->itemsize,
                      .type = d ? ST_F64 : ST_F32};
    return true;
}

/* `n` doubles that lie together; None is NULL where that is allowed. */
static bool doubles(buffers *bs, PyObject *o, size_t n, bool writable, bool or_none, double **out)
{
    *out = NULL;
    if (or_none && o == Py_None) return true;
    Py_buffer *b = &bs->b[bs->n];
    if (PyObject_GetBuffer(o, b, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return false;
    bs->n++;
    if (!b->format || strcmp(b->format, "d") != 0 || (size_t)b->len != n * sizeof(double)) {
        PyErr_Format(PyExc_ValueError, "%zu float64 values are wanted", n);
        return false;
    }
    *out = b->buf;
    return true;
}

static PyObject *done(buffers *bs, int rc)
{
    drop(bs, NULL);
    if (rc == ST_ENOMEM) return PyErr_NoMemory();
    if (rc != ST_OK) {
        PyErr_SetString(PyExc_ValueError, st_code_text(rc));
        return NULL;
    }
    Py_RETURN_NONE;
}

/* -- Kernels ------------------------------------------------------------------------------- */

static PyObject *numeric_gram(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *y, *weight, *mean, *product;
    int center;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "OOOpIOO", &x, &y, &weight, &center, &threads, &mean, &product)) return NULL;
    buffers bs = {.n = 0};
    st_gram_in in = {.center = center};
    st_gram_out out;
    double *w;
    if (!matrix(&bs, x, &in.x) || !matrix(&bs, y, &in.y)) return drop(&bs, NULL);
    size_t q = in.x.cols + in.y.cols;
    if (in.x.rows != in.y.rows || in.x.rows == 0 || q > 1 << 15) {
        PyErr_SetString(PyExc_ValueError, "shapes do not go together");
        return drop(&bs, NULL);
    }
    if (!doubles(&bs, weight, in.x.rows, false, true, &w) || !doubles(&bs, mean, q, true, false, &out.mean) ||
        !doubles(&bs, product, q * q, true, false, &out.product))
        return drop(&bs, NULL);
    in.weight = w;
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_gram(st_alloc_default(), &in, threads, &out);
    Py_END_ALLOW_THREADS if (rc == ST_OK)
    {
        drop(&bs, NULL);
        return PyFloat_FromDouble(out.weight);
    }
    return done(&bs, rc);
}

static PyObject *numeric_solve(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *a, *b;
    unsigned n, k;
    if (!PyArg_ParseTuple(args, "OIOI", &a, &n, &b, &k)) return NULL;
    buffers bs = {.n = 0};
    double *pa, *pb;
    if (!doubles(&bs, a, (size_t)n * n, true, false, &pa) ||
        !doubles(&bs, b, (size_t)n * k, true, false, &pb))
        return drop(&bs, NULL);
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_cholesky_solve(pa, n, pb, k);
    Py_END_ALLOW_THREADS drop(&bs, NULL);
    return PyBool_FromLong(rc == ST_OK);
}

static PyObject *numeric_descend(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *product, *w;
    unsigned p, at;
    st_descent d = {0};
    int positive;
    if (!PyArg_ParseTuple(args, "OIIOdddIp", &product, &p, &at, &w, &d.alpha, &d.beta, &d.tol, &d.max_iter,
                          &positive))
        return NULL;
    buffers bs = {.n = 0};
    st_dense m;
    double *values;
    if (!matrix(&bs, product, &m)) return drop(&bs, NULL);
    if (m.type != ST_F64 || m.cols != m.rows || m.col != (ptrdiff_t)sizeof(double) ||
        m.row != (ptrdiff_t)(m.cols * sizeof(double)) || p < 1 || p > at || at >= m.cols) {
        PyErr_SetString(PyExc_ValueError, "a square of products with the target behind is wanted");
        return drop(&bs, NULL);
    }
    if (!doubles(&bs, w, p, true, false, &values)) return drop(&bs, NULL);
    d.product = (const double *)(const void *)m.data;
    d.p = p;
    d.pitch = m.cols;
    d.target = d.product + (size_t)at * m.cols;
    d.square = d.target[at];
    d.positive = positive;
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_descend(st_alloc_default(), &d, values);
    Py_END_ALLOW_THREADS if (rc != ST_OK) return done(&bs, rc);
    drop(&bs, NULL);
    return Py_BuildValue("dIO", d.gap, (unsigned)d.n_iter, d.converged ? Py_True : Py_False);
}

static PyObject *numeric_logistic(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *target, *weight, *coef, *gradient;
    int intercept;
    unsigned threads, classes;
    if (!PyArg_ParseTuple(args, "OOOIOpIO", &x, &target, &weight, &classes, &coef, &intercept, &threads,
                          &gradient))
        return NULL;
    buffers bs = {.n = 0};
    st_logistic in = {.classes = classes, .intercept = intercept};
    double *t, *w, *c, *g, loss;
    if (!matrix(&bs, x, &in.x)) return drop(&bs, NULL);
    ptrdiff_t item = in.x.type == ST_F64 ? (ptrdiff_t)sizeof(double) : (ptrdiff_t)sizeof(float);
    size_t size = classes * (in.x.cols + 1);
    if (classes < 1 || classes > 1 << 15 || in.x.rows == 0 || (in.x.col != item && in.x.cols > 1)) {
        PyErr_SetString(PyExc_ValueError, "rows that lie together are wanted");
        return drop(&bs, NULL);
    }
    if (!doubles(&bs, target, in.x.rows, false, false, &t) ||
        !doubles(&bs, weight, in.x.rows, false, true, &w) || !doubles(&bs, coef, size, false, false, &c) ||
        !doubles(&bs, gradient, size, true, false, &g))
        return drop(&bs, NULL);
    in.target = t;
    in.weight = w;
    int rc = ST_OK;
    Py_BEGIN_ALLOW_THREADS if (classes > 1) for (size_t i = 0; i < in.x.rows; i++)
        if (!(t[i] >= 0 && t[i] < (double)classes)) rc = ST_EINVAL;
    if (rc == ST_OK) rc = st_logistic_loss(st_alloc_default(), &in, c, threads, &loss, g);
    Py_END_ALLOW_THREADS if (rc != ST_OK) return done(&bs, rc);
    drop(&bs, NULL);
    return PyFloat_FromDouble(loss);
}

static PyMethodDef methods[] = {
    {"numeric_gram", numeric_gram, METH_VARARGS,
     "numeric_gram(x, y, weight, center, threads, mean, product) -> sum of the weights"},
    {"numeric_solve", numeric_solve, METH_VARARGS,
     "numeric_solve(a, n, b, k) -> whether a is positive definite; rows of b become the solutions"},
    {"numeric_descend", numeric_descend, METH_VARARGS,
     "numeric_descend(product, p, at, w, alpha, beta, tol, max_iter, positive) -> (gap, n_iter, converged)"},
    {"numeric_logistic", numeric_logistic, METH_VARARGS,
     "numeric_logistic(x, target, weight, classes, coef, intercept, threads, gradient) -> loss"},
    {NULL, NULL, 0, NULL}};

int st_py_add_native_numeric(PyObject *module) { return PyModule_AddFunctions(module, methods); }
