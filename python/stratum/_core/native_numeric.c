/* native_numeric.c - numeric kernels for stratum.native.
 *
 * Called by python/stratum/native alone (linear.py, scalers.py, impute.py, bayes.py, metrics.py,
 * decomposition.py), which has checked shapes and values before; types, lengths and overlaps that would break
 * memory are checked here again. Matrices come through the buffer protocol, float64 or float32, with any
 * strides; results go into arrays of the caller's.  The GIL is released around every kernel.
 */
#include "core.h"
#include "native_numeric.h"

#include "kernels/cholesky.h"
#include "kernels/columns.h"
#include "kernels/counts.h"
#include "kernels/descend_logistic.h"
#include "kernels/descent.h"
#include "kernels/gram.h"
#include "kernels/logistic.h"
#include "kernels/metrics.h"
#include "kernels/sparse.h"
#include "kernels/squash.h"

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

/* `n` items of one of the formats, which lie together; their number where `n` is NULL before. */
static const Py_buffer *line(buffers *bs, PyObject *o, const char *formats, const size_t *n, bool writable)
{
    Py_buffer *b = &bs->b[bs->n];
    if (PyObject_GetBuffer(o, b, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return NULL;
    bs->n++;
    const char *format = b->format ? b->format : "B";
    if (b->ndim != 1 || !*format || format[1] || !strchr(formats, *format) ||
        (n && (size_t)b->shape[0] != *n)) {
        PyErr_Format(PyExc_ValueError,
                     "as many items as in the other arrays are wanted, of a format among \"%s\"", formats);
        return NULL;
    }
    return b;
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
    Py_BEGIN_ALLOW_THREADS if (classes > 1) for (size_t i = 0; i < in.x.rows;
                                                 i++) if (!(t[i] >= 0 && t[i] < (double)classes)) rc =
        ST_EINVAL;
    if (rc == ST_OK) rc = st_logistic_loss(st_alloc_default(), &in, c, threads, &loss, g);
    Py_END_ALLOW_THREADS if (rc != ST_OK) return done(&bs, rc);
    drop(&bs, NULL);
    return PyFloat_FromDouble(loss);
}

/* Ridge for several penalties: the same products, the same solution as numeric_solve's each. */
static PyObject *numeric_ridges(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *product, *penalty, *coef, *solved;
    unsigned p, at;
    if (!PyArg_ParseTuple(args, "OIIOOO", &product, &p, &at, &penalty, &coef, &solved)) return NULL;
    buffers bs = {.n = 0};
    st_dense m;
    if (!matrix(&bs, product, &m)) return drop(&bs, NULL);
    if (m.type != ST_F64 || m.cols != m.rows || m.col != (ptrdiff_t)sizeof(double) ||
        m.row != (ptrdiff_t)(m.cols * sizeof(double)) || p < 1 || p > at || at >= m.cols) {
        PyErr_SetString(PyExc_ValueError, "a square of products with the target behind is wanted");
        return drop(&bs, NULL);
    }
    const Py_buffer *alphas = line(&bs, penalty, "d", NULL, false);
    if (!alphas) return drop(&bs, NULL);
    size_t k = (size_t)alphas->shape[0];
    double *w;
    if (!doubles(&bs, coef, k * p, true, false, &w)) return drop(&bs, NULL);
    const Py_buffer *flags = line(&bs, solved, "?", &k, true);
    if (!flags) return drop(&bs, NULL);
    const double *from = (const double *)(const void *)m.data, *alpha = alphas->buf;
    double *gram = PyMem_Malloc((size_t)p * p * sizeof *gram);
    if (!gram) return done(&bs, ST_ENOMEM);
    Py_BEGIN_ALLOW_THREADS for (size_t i = 0; i < k; i++)
    {
        for (size_t r = 0; r < p; r++)
            memcpy(gram + r * p, from + r * m.cols, p * sizeof *gram);
        for (size_t r = 0; r < p; r++)
            gram[r * p + r] += alpha[i];
        memcpy(w + i * p, from + (size_t)at * m.cols, p * sizeof *w);
        ((bool *)flags->buf)[i] = st_cholesky_solve(gram, p, w + i * p, 1) == ST_OK;
    }
    Py_END_ALLOW_THREADS PyMem_Free(gram);
    return done(&bs, ST_OK);
}

/* Logistic regression for several penalties; n_iter[i] is -1 where the i-th did not converge. */
static PyObject *numeric_logistic_fits(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *target, *weight, *penalty, *coef, *steps;
    int intercept;
    unsigned threads, classes, max_iter;
    double tol;
    if (!PyArg_ParseTuple(args, "OOOIpIOdIOO", &x, &target, &weight, &classes, &intercept, &threads, &penalty,
                          &tol, &max_iter, &coef, &steps))
        return NULL;
    buffers bs = {.n = 0};
    st_logistic in = {.classes = classes, .intercept = intercept};
    double *t, *w, *to;
    if (!matrix(&bs, x, &in.x)) return drop(&bs, NULL);
    ptrdiff_t item = in.x.type == ST_F64 ? (ptrdiff_t)sizeof(double) : (ptrdiff_t)sizeof(float);
    size_t size = classes * (in.x.cols + 1);
    if (classes < 1 || classes > 1 << 15 || in.x.rows == 0 || (in.x.col != item && in.x.cols > 1)) {
        PyErr_SetString(PyExc_ValueError, "rows that lie together are wanted");
        return drop(&bs, NULL);
    }
    const Py_buffer *cs = line(&bs, penalty, "d", NULL, false);
    if (!cs) return drop(&bs, NULL);
    size_t k = (size_t)cs->shape[0];
    if (!doubles(&bs, target, in.x.rows, false, false, &t) ||
        !doubles(&bs, weight, in.x.rows, false, true, &w) || !doubles(&bs, coef, k * size, true, false, &to))
        return drop(&bs, NULL);
    const Py_buffer *n_iter = line(&bs, steps, "lq", &k, true);
    if (!n_iter) return drop(&bs, NULL);
    in.target = t;
    in.weight = w;
    int rc = ST_OK;
    Py_BEGIN_ALLOW_THREADS if (classes > 1) for (size_t i = 0; i < in.x.rows; i++)
    {
        if (!(t[i] >= 0 && t[i] < (double)classes)) rc = ST_EINVAL;
    }
    for (size_t i = 0; i < k && rc == ST_OK; i++) {
        st_logistic_fit fit = {.c = ((const double *)cs->buf)[i], .tol = tol, .max_iter = max_iter};
        rc = st_logistic_descend(st_alloc_default(), &in, threads, &fit, to + i * size);
        ((int64_t *)n_iter->buf)[i] = fit.converged ? (int64_t)fit.n_iter : -1;
    }
    Py_END_ALLOW_THREADS return done(&bs, rc);
}

/* A matrix that is written to, of the shape and type of another one. */
static bool like(buffers *bs, PyObject *o, const st_dense *x, st_dense *out)
{
    Py_buffer *b = &bs->b[bs->n];
    if (PyObject_GetBuffer(o, b, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE) < 0) return false;
    bs->n++;
    if (!b->format || strcmp(b->format, x->type == ST_F64 ? "d" : "f") != 0 || b->ndim != 2 ||
        (size_t)b->shape[0] != x->rows || (size_t)b->shape[1] != x->cols) {
        PyErr_SetString(PyExc_ValueError, "an array of the same shape and type is wanted");
        return false;
    }
    *out = (st_dense){
        .data = b->buf, .rows = x->rows, .cols = x->cols, .row = b->strides[0], .col = b->strides[1]};
    return true;
}

static PyObject *numeric_sums(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *count, *mean, *variance;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "OIOOO", &x, &threads, &count, &mean, &variance)) return NULL;
    buffers bs = {.n = 0};
    st_dense m;
    st_column_sums out;
    if (!matrix(&bs, x, &m) || !doubles(&bs, count, m.cols, true, false, &out.count) ||
        !doubles(&bs, mean, m.cols, true, false, &out.mean) ||
        !doubles(&bs, variance, m.cols, true, false, &out.variance))
        return drop(&bs, NULL);
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_columns_sums(st_alloc_default(), &m, threads, &out);
    Py_END_ALLOW_THREADS return done(&bs, rc);
}

static PyObject *numeric_limits(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *least, *most;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "OIOO", &x, &threads, &least, &most)) return NULL;
    buffers bs = {.n = 0};
    st_dense m;
    double *l, *u;
    if (!matrix(&bs, x, &m) || !doubles(&bs, least, m.cols, true, false, &l) ||
        !doubles(&bs, most, m.cols, true, false, &u))
        return drop(&bs, NULL);
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_columns_limits(st_alloc_default(), &m, threads, l, u);
    Py_END_ALLOW_THREADS return done(&bs, rc);
}

static PyObject *numeric_ranks(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *q, *below, *above, *count;
    unsigned threads, k;
    if (!PyArg_ParseTuple(args, "OIOIOOO", &x, &threads, &q, &k, &below, &above, &count)) return NULL;
    buffers bs = {.n = 0};
    st_dense m;
    double *pq, *lo, *hi, *n;
    if (!matrix(&bs, x, &m) || !doubles(&bs, q, k, false, false, &pq) ||
        !doubles(&bs, below, k * m.cols, true, false, &lo) ||
        !doubles(&bs, above, k * m.cols, true, false, &hi) || !doubles(&bs, count, m.cols, true, false, &n))
        return drop(&bs, NULL);
    for (unsigned i = 0; i < k; i++)
        if (!(pq[i] >= 0 && pq[i] <= 1)) {
            PyErr_SetString(PyExc_ValueError, "fractions are between 0 and 1");
            return drop(&bs, NULL);
        }
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_columns_ranks(st_alloc_default(), &m, threads, pq, k, lo, hi, n);
    Py_END_ALLOW_THREADS return done(&bs, rc);
}

static PyObject *numeric_mode(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *mode;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "OIO", &x, &threads, &mode)) return NULL;
    buffers bs = {.n = 0};
    st_dense m;
    double *out;
    if (!matrix(&bs, x, &m) || !doubles(&bs, mode, m.cols, true, false, &out)) return drop(&bs, NULL);
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_columns_mode(st_alloc_default(), &m, threads, out);
    Py_END_ALLOW_THREADS return done(&bs, rc);
}

static PyObject *numeric_rewrite(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *a, *b, *to;
    unsigned threads, how;
    if (!PyArg_ParseTuple(args, "OIOOIO", &x, &how, &a, &b, &threads, &to)) return NULL;
    buffers bs = {.n = 0};
    st_dense m, out;
    double *pa, *pb;
    if (!matrix(&bs, x, &m) || !like(&bs, to, &m, &out) || !doubles(&bs, a, m.cols, false, false, &pa) ||
        !doubles(&bs, b, m.cols, false, false, &pb))
        return drop(&bs, NULL);
    bool infinite = false;
    int rc = how < ST_N_REWRITES ? ST_OK : ST_EINVAL;
    Py_BEGIN_ALLOW_THREADS if (rc == ST_OK) rc = st_columns_rewrite(
        &m, (st_rewrite)how, pa, pb, threads, (char *)(uintptr_t)out.data, out.row, out.col, &infinite);
    Py_END_ALLOW_THREADS if (rc != ST_OK) return done(&bs, rc);
    drop(&bs, NULL);
    return PyBool_FromLong(infinite);
}

static PyObject *numeric_squash(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *center, *by, *times, *plus, *to;
    unsigned threads;
    double limit;
    if (!PyArg_ParseTuple(args, "OOOOOdIO", &x, &center, &by, &times, &plus, &limit, &threads, &to))
        return NULL;
    buffers bs = {.n = 0};
    st_dense m, out;
    double *p[4];
    if (!matrix(&bs, x, &m) || !like(&bs, to, &m, &out) ||
        !doubles(&bs, center, m.cols, false, false, &p[0]) ||
        !doubles(&bs, by, m.cols, false, false, &p[1]) || !doubles(&bs, times, m.cols, false, false, &p[2]) ||
        !doubles(&bs, plus, m.cols, false, false, &p[3]))
        return drop(&bs, NULL);
    /* (a single column has no stride that matters but that of its rows) */
    if (m.cols > 1 && out.col != (ptrdiff_t)(m.type == ST_F64 ? sizeof(double) : sizeof(float))) {
        PyErr_SetString(PyExc_ValueError, "rows of the result must lie together");
        return drop(&bs, NULL);
    }
    st_squash s = {.center = p[0], .by = p[1], .times = p[2], .plus = p[3], .limit = limit};
    bool lost = false;
    Py_BEGIN_ALLOW_THREADS st_columns_squash(&m, &s, threads, (char *)(uintptr_t)out.data, out.row, &lost);
    Py_END_ALLOW_THREADS drop(&bs, NULL);
    return PyBool_FromLong(lost);
}

static PyObject *numeric_products(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *to;
    Py_buffer steps;
    int bias;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "Opy*IO", &x, &bias, &steps, &threads, &to)) return NULL;
    buffers bs = {.n = 0};
    st_dense m;
    bool good = matrix(&bs, x, &m);
    Py_buffer *b = &bs.b[bs.n];
    if (good) good = PyObject_GetBuffer(to, b, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE) == 0;
    if (good) {
        bs.n++;
        if (b->ndim != 2 || (size_t)b->shape[0] != m.rows || !b->format ||
            strcmp(b->format, m.type == ST_F64 ? "d" : "f") != 0) {
            PyErr_SetString(PyExc_ValueError, "as many rows of the same type are wanted");
            good = false;
        }
    }
    bool finite = true;
    int rc = ST_OK;
    if (good) {
        Py_BEGIN_ALLOW_THREADS rc =
            st_columns_products(&m, bias, steps.buf, (size_t)steps.len / sizeof(st_product_step),
                                (size_t)b->shape[1], threads, b->buf, &finite);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&steps);
    if (!good) return drop(&bs, NULL);
    if (rc != ST_OK) return done(&bs, rc);
    drop(&bs, NULL);
    return PyBool_FromLong(finite);
}

static bool count_type(const Py_buffer *b, st_count_type *out)
{
    const char *format = b->format ? b->format : "B";
    if (format[0] == '\0' || format[1] != '\0') return false;
    bool whole = strchr("ilq", format[0]) != NULL;
    if (!whole && !strchr("df", format[0])) return false;
    *out = !whole             ? format[0] == 'd' ? ST_COUNT_F64 : ST_COUNT_F32
           : b->itemsize == 8 ? ST_COUNT_I64
                              : ST_COUNT_I32;
    return true;
}

/* Where the data is dense, `indptr` and `column` are None, and its shape says `cols`. */
static PyObject *numeric_counts(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *data, *indptr, *column, *codes, *weight, *out;
    Py_ssize_t cols;
    unsigned threads, classes;
    if (!PyArg_ParseTuple(args, "OOOnOIOIO", &data, &indptr, &column, &cols, &codes, &classes, &weight,
                          &threads, &out))
        return NULL;
    buffers bs = {.n = 0};
    st_counts_in in = {.classes = classes};
    bool dense = indptr == Py_None;
    Py_buffer *b = &bs.b[0];
    if (PyObject_GetBuffer(data, b, PyBUF_STRIDES | PyBUF_FORMAT) < 0) return NULL;
    bs.n++;
    if (!count_type(b, &in.type) || b->ndim != (dense ? 2 : 1) || cols < 0 ||
        (dense ? b->shape[1] != cols : b->shape[0] > 0 && b->strides[0] != b->itemsize)) {
        PyErr_SetString(PyExc_ValueError, "a matrix of floats or of 32 or 64 bit integers is wanted");
        return drop(&bs, NULL);
    }
    in.data = b->buf;
    in.cols = (size_t)cols;
    if (dense) {
        in.rows = (size_t)b->shape[0];
        in.row = b->strides[0];
        in.col = b->strides[1];
    } else {
        in.stored = (size_t)b->shape[0];
        const Py_buffer *at = line(&bs, indptr, "ilq", NULL, false);
        const Py_buffer *where = at ? line(&bs, column, "ilq", &in.stored, false) : NULL;
        if (!where) return drop(&bs, NULL);
        if (at->itemsize != where->itemsize || at->shape[0] < 1) {
            PyErr_SetString(PyExc_ValueError, "indices of one type are wanted");
            return drop(&bs, NULL);
        }
        in.rows = (size_t)at->shape[0] - 1;
        in.indptr = at->buf;
        in.column = where->buf;
        in.wide = at->itemsize == 8;
    }
    const Py_buffer *c = line(&bs, codes, "I", &in.rows, false);
    double *w, *sums;
    if (!c || !doubles(&bs, weight, in.rows, false, true, &w) ||
        !doubles(&bs, out, in.classes * in.cols, true, false, &sums))
        return drop(&bs, NULL);
    in.codes = c->buf;
    in.weight = w;
    int met = 0, rc;
    Py_BEGIN_ALLOW_THREADS rc = st_counts(st_alloc_default(), &in, threads, sums, &met);
    Py_END_ALLOW_THREADS if (rc != ST_OK) return done(&bs, rc);
    drop(&bs, NULL);
    return PyLong_FromLong(met);
}

static PyObject *metric_residuals(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *y, *p, *weight;
    if (!PyArg_ParseTuple(args, "OOO", &y, &p, &weight)) return NULL;
    buffers bs = {.n = 0};
    const Py_buffer *a = line(&bs, y, "d", NULL, false);
    if (!a) return drop(&bs, NULL);
    size_t n = (size_t)a->shape[0];
    double *b, *w;
    if (!doubles(&bs, p, n, false, false, &b) || !doubles(&bs, weight, n, false, true, &w))
        return drop(&bs, NULL);
    st_residuals r;
    Py_BEGIN_ALLOW_THREADS st_metric_residuals(n, a->buf, b, w, &r);
    Py_END_ALLOW_THREADS drop(&bs, NULL);
    return Py_BuildValue("ddddd", r.weight, r.mean, r.squares, r.absolute, r.spread);
}

static PyObject *metric_ranking(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *score, *positive, *weight;
    if (!PyArg_ParseTuple(args, "OOO", &score, &positive, &weight)) return NULL;
    buffers bs = {.n = 0};
    const Py_buffer *s = line(&bs, score, "d", NULL, false);
    if (!s) return drop(&bs, NULL);
    size_t n = (size_t)s->shape[0];
    const Py_buffer *p = line(&bs, positive, "?", &n, false);
    double *w;
    if (!p || !doubles(&bs, weight, n, false, true, &w)) return drop(&bs, NULL);
    st_ranking r;
    int rc;
    Py_BEGIN_ALLOW_THREADS rc = st_metric_ranking(st_alloc_default(), n, s->buf, p->buf, w, &r);
    Py_END_ALLOW_THREADS if (rc == ST_EUNSUPPORTED)
    {
        drop(&bs, NULL);
        Py_RETURN_NONE;
    }
    if (rc != ST_OK) return done(&bs, rc);
    drop(&bs, NULL);
    return Py_BuildValue("dddd", r.positives, r.negatives, r.area, r.precision);
}

static PyObject *metric_pairs(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *a, *b, *weight, *counts;
    long long low;
    unsigned k;
    if (!PyArg_ParseTuple(args, "OOLIOO", &a, &b, &low, &k, &weight, &counts)) return NULL;
    buffers bs = {.n = 0};
    const Py_buffer *l = line(&bs, a, "lq", NULL, false);
    if (!l) return drop(&bs, NULL);
    size_t n = (size_t)l->shape[0];
    const Py_buffer *r = line(&bs, b, "lq", &n, false);
    double *w, *out;
    if (!r || !doubles(&bs, weight, n, false, true, &w) ||
        !doubles(&bs, counts, (size_t)k * k, true, false, &out))
        return drop(&bs, NULL);
    bool good;
    Py_BEGIN_ALLOW_THREADS good = st_metric_pairs(n, l->buf, r->buf, low, k, w, out);
    Py_END_ALLOW_THREADS drop(&bs, NULL);
    return PyBool_FromLong(good);
}

static PyObject *metric_picked(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *x, *codes, *to;
    if (!PyArg_ParseTuple(args, "OOO", &x, &codes, &to)) return NULL;
    buffers bs = {.n = 0};
    st_dense m;
    double *out;
    if (!matrix(&bs, x, &m)) return drop(&bs, NULL);
    const Py_buffer *c = line(&bs, codes, "I", &m.rows, false);
    if (!c || !doubles(&bs, to, m.rows, true, false, &out)) return drop(&bs, NULL);
    bool good;
    Py_BEGIN_ALLOW_THREADS good = st_metric_picked(&m, c->buf, out);
    Py_END_ALLOW_THREADS drop(&bs, NULL);
    return PyBool_FromLong(good);
}

/* A CSR matrix of doubles or floats; its indices are looked at by `sound`. */
static bool csr(buffers *bs, PyObject *indptr, PyObject *index, PyObject *data, Py_ssize_t cols, st_csr *out)
{
    const Py_buffer *at = line(bs, indptr, "i", NULL, false);
    const Py_buffer *where = at ? line(bs, index, "i", NULL, false) : NULL;
    if (!where) return false;
    size_t stored = (size_t)where->shape[0];
    const Py_buffer *what = line(bs, data, "df", &stored, false);
    if (!what) return false;
    if (at->shape[0] < 1 || cols < 0 || cols > INT32_MAX || stored > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "shapes do not go together");
        return false;
    }
    *out = (st_csr){.rows = (size_t)at->shape[0] - 1,
                    .cols = (size_t)cols,
                    .indptr = at->buf,
                    .index = where->buf,
                    .data = what->buf,
                    .type = what->itemsize == sizeof(double) ? ST_F64 : ST_F32};
    return true;
}

/* Whether rows follow each other, end within what is stored, and have columns that there are. */
static bool sound(const st_csr *m, size_t stored)
{
    if (m->indptr[0] != 0) return false;
    for (size_t r = 0; r < m->rows; r++)
        if (m->indptr[r + 1] < m->indptr[r]) return false;
    size_t nnz = (size_t)m->indptr[m->rows];
    if (nnz > stored) return false;
    uint32_t limit = (uint32_t)m->cols, bad = 0;
    for (size_t e = 0; e < nnz; e++)
        bad |= (uint32_t)m->index[e] >= limit;
    return !bad;
}

/* `n` numbers of the matrix's type, which lie together. */
static bool numbers(buffers *bs, PyObject *o, size_t n, const st_csr *m, bool writable, void **out)
{
    Py_buffer *b = &bs->b[bs->n];
    if (PyObject_GetBuffer(o, b, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return false;
    bs->n++;
    size_t size = m->type == ST_F64 ? sizeof(double) : sizeof(float);
    if (!b->format || strcmp(b->format, m->type == ST_F64 ? "d" : "f") != 0 || (size_t)b->len != n * size) {
        PyErr_Format(PyExc_ValueError, "%zu values of the type of the matrix are wanted", n);
        return false;
    }
    *out = b->buf;
    return true;
}

enum { TIMES, BACK, TWICE };

static PyObject *product(PyObject *args, int which)
{
    PyObject *indptr, *index, *data, *q, *out;
    Py_ssize_t cols;
    unsigned k, threads;
    if (!PyArg_ParseTuple(args, "OOOnIOIO", &indptr, &index, &data, &cols, &k, &q, &threads, &out))
        return NULL;
    buffers bs = {.n = 0};
    st_csr m;
    void *from, *to;
    if (!csr(&bs, indptr, index, data, cols, &m)) return drop(&bs, NULL);
    size_t stored = (size_t)bs.b[1].shape[0];
    if (!numbers(&bs, q, (which == BACK ? m.rows : m.cols) * k, &m, false, &from) ||
        !numbers(&bs, out, (which == TIMES ? m.rows : m.cols) * k, &m, true, &to))
        return drop(&bs, NULL);
    int rc = ST_EINVAL;
    Py_BEGIN_ALLOW_THREADS if (sound(&m, stored)) rc =
        which == TIMES  ? st_csr_times(st_alloc_default(), &m, k, from, threads, to)
        : which == BACK ? st_csr_back(st_alloc_default(), &m, k, from, threads, to)
                        : st_csr_twice(st_alloc_default(), &m, k, from, threads, to);
    Py_END_ALLOW_THREADS return done(&bs, rc);
}

static PyObject *sparse_times(PyObject *mod, PyObject *args)
{
    (void)mod;
    return product(args, TIMES);
}

static PyObject *sparse_back(PyObject *mod, PyObject *args)
{
    (void)mod;
    return product(args, BACK);
}

static PyObject *sparse_twice(PyObject *mod, PyObject *args)
{
    (void)mod;
    return product(args, TWICE);
}

static PyObject *sparse_turned(PyObject *mod, PyObject *args)
{
    (void)mod;
    PyObject *indptr, *index, *data, *at, *where, *what;
    Py_ssize_t cols;
    unsigned threads;
    if (!PyArg_ParseTuple(args, "OOOnIOOO", &indptr, &index, &data, &cols, &threads, &at, &where, &what))
        return NULL;
    buffers bs = {.n = 0};
    st_csr m;
    void *values;
    if (!csr(&bs, indptr, index, data, cols, &m)) return drop(&bs, NULL);
    size_t stored = (size_t)bs.b[1].shape[0], columns = m.cols + 1;
    const Py_buffer *to = line(&bs, at, "i", &columns, true);
    const Py_buffer *rows = to ? line(&bs, where, "i", &stored, true) : NULL;
    if (!rows || !numbers(&bs, what, stored, &m, true, &values)) return drop(&bs, NULL);
    int rc = ST_EINVAL;
    Py_BEGIN_ALLOW_THREADS if (sound(&m, stored)) rc =
        st_csr_turned(st_alloc_default(), &m, threads, to->buf, rows->buf, values);
    Py_END_ALLOW_THREADS return done(&bs, rc);
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
    {"numeric_ridges", numeric_ridges, METH_VARARGS,
     "numeric_ridges(product, p, at, alpha, coef, done): solutions of (product + alpha) w = target"},
    {"numeric_logistic_fits", numeric_logistic_fits, METH_VARARGS,
     "numeric_logistic_fits(x, target, weight, classes, intercept, threads, c, tol, max_iter, coef, n_iter)"},
    {"numeric_sums", numeric_sums, METH_VARARGS, "numeric_sums(x, threads, count, mean, variance)"},
    {"numeric_limits", numeric_limits, METH_VARARGS, "numeric_limits(x, threads, least, most)"},
    {"numeric_ranks", numeric_ranks, METH_VARARGS, "numeric_ranks(x, threads, q, k, below, above, count)"},
    {"numeric_mode", numeric_mode, METH_VARARGS, "numeric_mode(x, threads, mode)"},
    {"numeric_rewrite", numeric_rewrite, METH_VARARGS,
     "numeric_rewrite(x, how, a, b, threads, out) -> whether there is an infinity"},
    {"numeric_squash", numeric_squash, METH_VARARGS,
     "numeric_squash(x, center, by, times, plus, limit, threads, out) -> whether a number left the range"},
    {"numeric_products", numeric_products, METH_VARARGS,
     "numeric_products(x, bias, steps, threads, out) -> whether all is finite"},
    {"numeric_counts", numeric_counts, METH_VARARGS,
     "numeric_counts(data, indptr, column, cols, codes, classes, weight, threads, out) -> what was met"},
    {"sparse_times", sparse_times, METH_VARARGS,
     "sparse_times(indptr, index, data, cols, k, q, threads, out)"},
    {"sparse_back", sparse_back, METH_VARARGS, "sparse_back(indptr, index, data, cols, k, y, threads, out)"},
    {"sparse_twice", sparse_twice, METH_VARARGS,
     "sparse_twice(indptr, index, data, cols, k, q, threads, out)"},
    {"sparse_turned", sparse_turned, METH_VARARGS,
     "sparse_turned(indptr, index, data, cols, threads, indptr out, index out, data out)"},
    {"metric_residuals", metric_residuals, METH_VARARGS,
     "metric_residuals(y, predicted, weight) -> (weight, mean, squares, absolute, spread)"},
    {"metric_ranking", metric_ranking, METH_VARARGS,
     "metric_ranking(score, positive, weight) -> (positives, negatives, area, precision), or None"},
    {"metric_pairs", metric_pairs, METH_VARARGS,
     "metric_pairs(a, b, low, k, weight, counts) -> whether all labels are among them"},
    {"metric_picked", metric_picked, METH_VARARGS,
     "metric_picked(x, codes, out) -> whether rows are probabilities"},
    {NULL, NULL, 0, NULL}};

int st_py_add_native_numeric(PyObject *module) { return PyModule_AddFunctions(module, methods); }
