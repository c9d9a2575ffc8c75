/* front.c - what stands in the place of a library's function, without a frame of its own.
 *
 * A Front calls a Python function of the package. When that raises, the frames of the package are taken
 * out of the traceback (and of those of its causes), so that a script's traceback shows the script and the
 * libraries, as without. That has to be done here: a Python function that does it would add its own frame
 * again on the way out. An error of the engine itself keeps its frames.
 *
 * Attributes are the function's, and in a class it binds like one.
 *
 * A Front may have a level and the library's own function: that one is called instead, as if the Front were
 * not there, in threads whose gate is lower. So a method that has been replaced for the engine's threads
 * costs everyone else some nanoseconds and no frame (warnings count frames).
 *
 * The function may also decide itself: where it returns the library's own, that is called with the same
 * arguments, again without a frame of the package below it; where it returns a pair of that and another
 * function, the latter is called with the result afterwards, or with nothing when there was an error.
 */
#include "core.h"
#include <stddef.h>

typedef struct FrontObject {
    PyObject_HEAD PyObject *func, *home; /* the function; how file names of the package begin */
    PyObject *otherwise;                 /* or NULL */
    int level;
    vectorcallfunc call;
} FrontObject;

static _Thread_local int gate_level; /* of this thread: the engine's workers and evaluations raise it */

PyObject *core_gate(PyObject *module, PyObject *arg)
{
    (void)module;
    long level = PyLong_AsLong(arg);
    if (level == -1 && PyErr_Occurred()) return NULL;
    if (level < 0 || level > 9)
        return PyErr_Format(PyExc_ValueError, "a level is from 0 to 9, not %ld", level);
    int before = gate_level;
    gate_level = (int)level;
    return PyLong_FromLong(before);
}

static bool ours(PyTracebackObject *tb, PyObject *home)
{
    PyCodeObject *code = PyFrame_GetCode(tb->tb_frame);
    Py_ssize_t found = PyUnicode_Tailmatch(code->co_filename, home, 0, PY_SSIZE_T_MAX, -1);
    Py_DECREF(code);
    if (found < 0) PyErr_Clear();
    return found > 0;
}

/* The traceback without frames of the package (new reference or NULL); entries are unlinked in place. */
static PyObject *without_ours(PyObject *traceback, PyObject *home)
{
    while (traceback && traceback != Py_None && ours((PyTracebackObject *)traceback, home)) {
        PyObject *next = Py_XNewRef((PyObject *)((PyTracebackObject *)traceback)->tb_next);
        Py_DECREF(traceback);
        traceback = next;
    }
    PyTracebackObject *at = (PyTracebackObject *)traceback;
    while (at && at->tb_next) {
        if (ours(at->tb_next, home)) {
            PyTracebackObject *gone = at->tb_next;
            at->tb_next = (PyTracebackObject *)Py_XNewRef((PyObject *)gone->tb_next);
            Py_DECREF(gone);
        } else {
            at = at->tb_next;
        }
    }
    return traceback;
}

static void clean(PyObject *exc, PyObject *home, int depth)
{
    if (!exc || exc == Py_None || depth > 16 || PyErr_GivenExceptionMatches(exc, core.engine_error)) return;
    PyObject *tb = without_ours(PyException_GetTraceback(exc), home);
    if (PyException_SetTraceback(exc, tb ? tb : Py_None) < 0) PyErr_Clear();
    Py_XDECREF(tb);
    PyObject *cause = PyException_GetCause(exc), *context = PyException_GetContext(exc);
    clean(cause, home, depth + 1);
    if (context != cause) clean(context, home, depth + 1);
    Py_XDECREF(cause);
    Py_XDECREF(context);
}

/* The library's own function in the place of `answer` (stolen), which asked for it; or `answer`. */
static PyObject *instead(FrontObject *f, PyObject *answer, PyObject *const *args, size_t n, PyObject *names)
{
    if (!f->otherwise) return answer;
    bool tells = PyTuple_CheckExact(answer) && PyTuple_GET_SIZE(answer) == 2 &&
                 PyTuple_GET_ITEM(answer, 0) == f->otherwise;
    if (answer != f->otherwise && !tells) return answer;
    PyObject *result = PyObject_Vectorcall(f->otherwise, args, n, names);
    if (tells) {
        PyObject *type, *exc, *tb;
        PyErr_Fetch(&type, &exc, &tb);
        PyObject *told = result ? PyObject_CallOneArg(PyTuple_GET_ITEM(answer, 1), result)
                                : PyObject_CallNoArgs(PyTuple_GET_ITEM(answer, 1));
        if (told)
            PyErr_Restore(type, exc, tb);
        else if (result)
            Py_CLEAR(result); /* its error stands */
        else {
            PyErr_WriteUnraisable(PyTuple_GET_ITEM(answer, 1));
            PyErr_Restore(type, exc, tb);
        }
        Py_XDECREF(told);
    }
    Py_DECREF(answer);
    return result;
}

static PyObject *Front_call(PyObject *self, PyObject *const *args, size_t n, PyObject *names)
{
    FrontObject *f = (FrontObject *)self;
    if (f->otherwise && gate_level < f->level) return PyObject_Vectorcall(f->otherwise, args, n, names);
    PyObject *result = PyObject_Vectorcall(f->func, args, n, names);
    if (result) result = instead(f, result, args, n, names);
    if (result) return result;
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *exc = PyErr_GetRaisedException();
    clean(exc, f->home, 0);
    PyErr_SetRaisedException(exc);
#else
    PyObject *type, *exc, *tb;
    PyErr_Fetch(&type, &exc, &tb);
    PyErr_NormalizeException(&type, &exc, &tb);
    if (exc && tb) PyException_SetTraceback(exc, tb);
    Py_XDECREF(tb);
    clean(exc, f->home, 0);
    PyErr_Restore(type, exc, exc ? PyException_GetTraceback(exc) : NULL);
#endif
    return NULL;
}

static PyObject *Front_new(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
    PyObject *func, *home, *otherwise = NULL;
    int level = 0;
    if (kwds && PyDict_GET_SIZE(kwds)) return PyErr_Format(PyExc_TypeError, "Front() takes no keywords");
    if (!PyArg_ParseTuple(args, "OU|Oi", &func, &home, &otherwise, &level)) return NULL;
    FrontObject *f = (FrontObject *)type->tp_alloc(type, 0);
    if (!f) return NULL;
    f->func = Py_NewRef(func);
    f->home = Py_NewRef(home);
    f->otherwise = Py_XNewRef(otherwise);
    f->level = level;
    f->call = Front_call;
    return (PyObject *)f;
}

static int Front_traverse(FrontObject *f, visitproc visit, void *arg)
{
    Py_VISIT(f->func);
    Py_VISIT(f->otherwise);
    return 0;
}

static int Front_clear(FrontObject *f)
{
    Py_CLEAR(f->func);
    Py_CLEAR(f->otherwise);
    return 0;
}

static void Front_dealloc(FrontObject *f)
{
    PyObject_GC_UnTrack(f);
    Front_clear(f);
    Py_CLEAR(f->home);
    Py_TYPE(f)->tp_free((PyObject *)f);
}

static PyObject *Front_getattro(PyObject *self, PyObject *name)
{
    /* the type's own methods for Python's protocols; everything else is the function's */
    if (PyUnicode_Check(name) && (PyUnicode_CompareWithASCIIString(name, "__class__") == 0 ||
                                  PyUnicode_CompareWithASCIIString(name, "__reduce_ex__") == 0 ||
                                  PyUnicode_CompareWithASCIIString(name, "__reduce__") == 0 ||
                                  PyUnicode_CompareWithASCIIString(name, "__call__") == 0 ||
                                  PyUnicode_CompareWithASCIIString(name, "__get__") == 0))
        return PyObject_GenericGetAttr(self, name);
    return PyObject_GetAttr(((FrontObject *)self)->func, name);
}

static PyObject *Front_get(PyObject *self, PyObject *obj, PyObject *type)
{
    (void)type;
    return obj && obj != Py_None ? PyMethod_New(self, obj) : Py_NewRef(self);
}

static PyObject *Front_repr(FrontObject *f) { return PyObject_Repr(f->func); }

/* Pickled like a function: by its name. */
static PyObject *Front_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyObject_GetAttrString(((FrontObject *)self)->func, "__qualname__");
}

static PyMethodDef Front_methods[] = {{"__reduce__", Front_reduce, METH_NOARGS, "By its name."},
                                      {NULL, NULL, 0, NULL}};

PyTypeObject Front_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "stratum._core.Front",
    .tp_basicsize = sizeof(FrontObject),
    .tp_flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_doc = "A function without a frame of the package in tracebacks.",
    .tp_new = Front_new,
    .tp_dealloc = (destructor)Front_dealloc,
    .tp_traverse = (traverseproc)Front_traverse,
    .tp_clear = (inquiry)Front_clear,
    .tp_vectorcall_offset = offsetof(FrontObject, call),
    .tp_call = PyVectorcall_Call,
    .tp_getattro = Front_getattro,
    .tp_descr_get = Front_get,
    .tp_repr = (reprfunc)Front_repr,
    .tp_methods = Front_methods,
};
