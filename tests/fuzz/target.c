/* Target of libFuzzer: an interpreter with the accelerator built in, which runs each input as a program
 * (see programs.py). The accelerator is compiled with the fuzzer's instrumentation, so that programs
 * with new coverage are kept and mutated. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

PyMODINIT_FUNC PyInit__accelerator(void);

static PyObject *run, *accelerator;

int
LLVMFuzzerInitialize(int *Py_UNUSED(argc), char ***Py_UNUSED(argv))
{
    PyObject *programs;

    if (PyImport_AppendInittab("_accelerator", PyInit__accelerator) < 0)
        abort();
    Py_InitializeEx(0);
    signal(SIGPIPE, SIG_IGN);  /* The interpreter ignores the signal when it runs as a program. */
    accelerator = PyImport_ImportModule("_accelerator");
    programs = PyImport_ImportModule("tests.fuzz.programs");
    run = programs != NULL ? PyObject_GetAttrString(programs, "run") : NULL;
    if (accelerator == NULL || run == NULL) {
        PyErr_Print();
        abort();
    }
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *result = PyObject_CallFunction(run, "Oy#", accelerator, (const char *)data,
                                             (Py_ssize_t)size);

    if (result == NULL) {
        PyErr_Print();
        abort();
    }
    Py_DECREF(result);
    return 0;
}
