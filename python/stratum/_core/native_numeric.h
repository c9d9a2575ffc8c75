/* native_numeric.h - what module.c needs of native_numeric.c. */
#ifndef STRATUM_NATIVE_NUMERIC_H
#define STRATUM_NATIVE_NUMERIC_H

#include <Python.h>

/* Add the functions of the numeric kernels to the extension; 0, or -1 with an exception. */
int st_py_add_native_numeric(PyObject *module);

#endif
