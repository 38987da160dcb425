/* Direct calls: shorter ways to call functions written in C, and to end an iteration.
 *
 * setup.py includes this file in the C that mypyc writes. mypyc calls an object that is not a
 * compiled function through PyObject_Vectorcall(), which finds the function in C in several steps,
 * and counts the depth of recursion. The hot path calls only a few functions and methods written in
 * C: those that append to the ready queue and take from it, copy and enter a context, run a
 * coroutine, read the clock. They are called here without a detour.
 */
#ifndef RUNTIME_DIRECT_CALLS_H
#define RUNTIME_DIRECT_CALLS_H

#include <Python.h>

#if PY_VERSION_HEX < 0x030D0000
typedef _PyCFunctionFast PyCFunctionFast;
#endif

/* Call `function` with positional arguments only: a drop-in for PyObject_Vectorcall(). */
static PyObject *
call_directly(PyObject *function, PyObject *const *args, size_t count)
{
    if (PyCFunction_CheckExact(function)) {
        PyCFunction found = PyCFunction_GET_FUNCTION(function);
        PyObject *self = PyCFunction_GET_SELF(function);

        switch (PyCFunction_GET_FLAGS(function)) {
        case METH_NOARGS:
            if (count == 0)
                return found(self, NULL);
            break;
        case METH_O:
            if (count == 1)
                return found(self, args[0]);
            break;
        case METH_FASTCALL:
            return ((PyCFunctionFast)(void (*)(void))found)(self, args, (Py_ssize_t)count);
        default:
            break;
        }
    }
    return PyObject_Vectorcall(function, args, count, NULL);
}

/* Only calls with a constant number of plain positional arguments: a method call has a flag. */
#define CALL_DIRECTLY(function, args, count, names)                                             \
    ((names) == 0 && (size_t)(count) < 8 ? call_directly(function, args, (size_t)(count))        \
                                         : PyObject_Vectorcall(function, args, count, names))

/* Call args[1] with the arguments after it in the context args[0], as Context.run() does. */
static inline PyObject *
run_in_context(PyObject *const *args, size_t count)
{
    PyObject *result;

    if (PyContext_Enter(args[0]) < 0)
        return NULL;
    /* args[1] precedes the arguments, so that a bound method can put its object there. */
    result = PyObject_Vectorcall(args[1], args + 2, (count - 2) | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                 NULL);
    if (PyContext_Exit(args[0]) < 0)
        Py_CLEAR(result);
    return result;
}

/* Make the tuple of `*args`. */
static inline PyObject *
tuple_of(PyObject *const *items, size_t count)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);

    for (size_t i = 0; tuple != NULL && i < count; i++)
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, Py_NewRef(items[i]));
    return tuple;
}

/* Make an object without calling __init__, as type.__new__(type) does: args[0] is the type. */
static inline PyObject *
new_bare(PyObject *const *args, size_t Py_UNUSED(count))
{
    PyTypeObject *type = (PyTypeObject *)args[0];
    PyObject *nothing = PyTuple_New(0);
    PyObject *made = nothing != NULL ? type->tp_new(type, nothing, NULL) : NULL;

    Py_XDECREF(nothing);
    return made;
}

/* Raise StopIteration with a result. From CPython 3.12 on, PyErr_SetObject() makes the object as well,
 * and then looks for the exception that is being handled, to be its context. */
static inline void
raise_stop_iteration(PyObject *result)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);

    if (stop != NULL)
        PyErr_SetRaisedException(stop);
#else
    CPyGen_SetStopIterationValue(result);
#endif
}

/* Resume a generator for the interpreter, whose `await` uses tp_iternext. The end of the iteration
 * is an exception that holds the result; but if the result is None, there may be none. */
static inline PyObject *
next_by_send(PyObject *generator, sendfunc send)
{
    PyObject *result = NULL;

    switch (send(generator, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        if (result != Py_None)
            raise_stop_iteration(result);
        Py_DECREF(result);
        return NULL;
    default:
        return NULL;
    }
}

/* Return an object that an iterator yields; None is its end, which needs no exception. */
static inline PyObject *
yielded_or_end(PyObject *yielded)
{
    if (yielded == Py_None) {
        Py_DECREF(yielded);
        return NULL;
    }
    return yielded;
}

#endif
