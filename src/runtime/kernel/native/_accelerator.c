/* The C accelerator: the operations of accelerator.py, with the same contracts.
 *
 * Every function here has a fallback in accelerator.py, whose docstring is the contract of both;
 * the test suite runs with either. An operation belongs here if Python can do it only with an
 * exception, a copy or a page fault on the hot path.
 */
#include "_accelerator.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

char accelerator_receive_buffer[LARGE_RECEIVE_SIZE];

enum verdict
accelerator_judge_errno(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return NOT_NOW;
    if (errno == EINTR)
        return PyErr_CheckSignals() < 0 ? FAILED : TRY_AGAIN;
    PyErr_SetFromErrno(PyExc_OSError);
    return FAILED;
}

/* The object that performs operations on simulated descriptors, or NULL: see
 * accelerator.set_simulator. */
static PyObject *simulator;

static PyObject *
accelerator_set_simulator(PyObject *Py_UNUSED(module), PyObject *argument)
{
    PyObject *before = simulator;

    simulator = argument == Py_None ? NULL : Py_NewRef(argument);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

PyObject *
accelerator_simulate(const char *method, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *type, *value, *traceback, *function, *result = NULL;

    if (simulator == NULL)
        return NULL;
    PyErr_Fetch(&type, &value, &traceback);
    function = PyObject_GetAttrString(simulator, method);
    if (function != NULL) {
        result = PyObject_Vectorcall(function, args, (size_t)nargs, NULL);
        Py_DECREF(function);
    }
    if (result == Py_NotImplemented) {
        Py_DECREF(result);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return result;
}

PyObject *
accelerator_simulate_on(const char *method, int fd)
{
    PyObject *number = PyLong_FromLong(fd);
    PyObject *result = number != NULL ? accelerator_simulate(method, &number, 1) : NULL;

    Py_XDECREF(number);
    return result;
}

/* Receive from a simulated descriptor after the system has refused to. */
__attribute__((cold, noinline)) static PyObject *
simulate_receive(int fd, size_t size)
{
    PyObject *args[2] = {PyLong_FromLong(fd), PyLong_FromSize_t(size)};
    PyObject *received = NULL;

    if (args[0] != NULL && args[1] != NULL)
        received = accelerator_simulate("recv", args, 2);
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    return received;
}

static PyObject *
accelerator_step(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *outcome = NULL;
    PyObject *wrapped;
    PySendResult how;

    if (accelerator_check_count("step", nargs, 2) < 0 || PyContext_Enter(args[1]) < 0)
        return NULL;
    how = PyIter_Send(args[0], Py_None, &outcome);
    if (PyContext_Exit(args[1]) < 0) {
        Py_XDECREF(outcome);
        return NULL;
    }
    if (how == PYGEN_RETURN) {
        wrapped = PyTuple_New(1);
        if (wrapped == NULL) {
            Py_DECREF(outcome);
            return NULL;
        }
        PyTuple_SET_ITEM(wrapped, 0, outcome);
        return wrapped;
    }
    if (how == PYGEN_NEXT && PyTuple_Check(outcome)) {
        wrapped = PyList_New(1);
        if (wrapped == NULL) {
            Py_DECREF(outcome);
            return NULL;
        }
        PyList_SET_ITEM(wrapped, 0, outcome);
        return wrapped;
    }
    return outcome;
}

static PyObject *
accelerator_call(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *result;

    if (accelerator_check_count("call", nargs, 4) < 0 || PyContext_Enter(args[0]) < 0)
        return NULL;
    /* args[2] is the object and args[3] its argument, in the order that a method call needs. */
    result = PyObject_VectorcallMethod(args[1], args + 2, 2, NULL);
    if (PyContext_Exit(args[0]) < 0) {
        Py_XDECREF(result);
        return NULL;
    }
    return result;
}

/* The descriptor does not block, so the GIL is kept: to release it would cost more than the call,
 * and would let other threads use the shared buffer. For a socket, recv() is faster than read(). */
static PyObject *
receive(int fd, size_t size, int is_socket)
{
    ssize_t received;
    enum verdict verdict;

    for (;;) {
        received = is_socket ? recv(fd, accelerator_receive_buffer, size, 0)
                             : read(fd, accelerator_receive_buffer, size);
        if (received >= 0)
            return PyBytes_FromStringAndSize(accelerator_receive_buffer, received);
        verdict = accelerator_judge_errno();
        if (verdict == NOT_NOW)
            Py_RETURN_NONE;
        if (verdict == FAILED)
            return simulate_receive(fd, size);
    }
}

static PyObject *
receive_from(PyObject *argument, size_t size, int is_socket)
{
    int fd;

    if (accelerator_descriptor_of(argument, &fd) < 0)
        return NULL;
    return receive(fd, size, is_socket);
}

static PyObject *
accelerator_recv(PyObject *Py_UNUSED(module), PyObject *argument)
{
    return receive_from(argument, RECEIVE_SIZE, 1);
}

static PyObject *
accelerator_recv_large(PyObject *Py_UNUSED(module), PyObject *argument)
{
    return receive_from(argument, LARGE_RECEIVE_SIZE, 1);
}

static PyObject *
accelerator_read(PyObject *Py_UNUSED(module), PyObject *argument)
{
    return receive_from(argument, RECEIVE_SIZE, 0);
}

static PyObject *
accelerator_recv_some(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    long size;
    int fd;

    if (accelerator_check_count("recv_some", nargs, 2) < 0 ||
        accelerator_descriptor_of(args[0], &fd) < 0)
        return NULL;
    size = PyLong_AsLong(args[1]);
    if (size == -1 && PyErr_Occurred())
        return NULL;
    if (size < 1 || size > LARGE_RECEIVE_SIZE) {
        PyErr_Format(PyExc_ValueError, "recv_some() expected 1 to %d bytes, got %ld",
                     LARGE_RECEIVE_SIZE, size);
        return NULL;
    }
    return receive(fd, (size_t)size, 1);
}

static PyObject *
send_to(const char *name, PyObject *const *args, Py_ssize_t nargs, int is_socket)
{
    Py_buffer view;
    ssize_t sent;
    enum verdict verdict;
    int fd;

    if (accelerator_check_count(name, nargs, 2) < 0 || accelerator_descriptor_of(args[0], &fd) < 0)
        return NULL;
    if (PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    do {
        sent = is_socket ? send(fd, view.buf, (size_t)view.len, MSG_NOSIGNAL)
                         : write(fd, view.buf, (size_t)view.len);
        verdict = sent < 0 ? accelerator_judge_errno() : NOT_NOW;
    } while (verdict == TRY_AGAIN);
    PyBuffer_Release(&view);
    if (verdict == FAILED)
        return accelerator_simulate("send", args, 2);
    return PyLong_FromSsize_t(sent < 0 ? 0 : sent);
}

static PyObject *
accelerator_send(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    return send_to("send", args, nargs, 1);
}

static PyObject *
accelerator_write(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    return send_to("write", args, nargs, 0);
}

static PyMethodDef accelerator_methods[] = {
    {"step", (PyCFunction)(void (*)(void))accelerator_step, METH_FASTCALL,
     "See accelerator.python_step."},
    {"call", (PyCFunction)(void (*)(void))accelerator_call, METH_FASTCALL,
     "See accelerator.python_call."},
    {"recv", accelerator_recv, METH_O, "See accelerator.python_recv."},
    {"recv_large", accelerator_recv_large, METH_O, "See accelerator.python_recv_large."},
    {"read", accelerator_read, METH_O, "See accelerator.python_read."},
    {"recv_some", (PyCFunction)(void (*)(void))accelerator_recv_some, METH_FASTCALL,
     "See accelerator.python_recv_some."},
    {"send", (PyCFunction)(void (*)(void))accelerator_send, METH_FASTCALL,
     "See accelerator.python_send."},
    {"write", (PyCFunction)(void (*)(void))accelerator_write, METH_FASTCALL,
     "See accelerator.python_write."},
    {"recvfrom", accelerator_recvfrom, METH_O, "See accelerator.python_recvfrom."},
    {"sendto", (PyCFunction)(void (*)(void))accelerator_sendto, METH_FASTCALL,
     "See accelerator.python_sendto."},
    {"set_simulator", accelerator_set_simulator, METH_O, "See accelerator.set_simulator."},
#ifdef SOCK_NONBLOCK
    {"accept", accelerator_accept, METH_O, "See accelerator.accept."},
#endif
#ifdef __linux__
    {"epoll_wait", accelerator_epoll_wait, METH_O, "See accelerator.python_epoll_wait."},
    {"epoll_modify", accelerator_epoll_modify, METH_O, "See accelerator.python_epoll_modify."},
#endif
    {NULL, NULL, 0, NULL}};

static PyModuleDef accelerator_module = {
    PyModuleDef_HEAD_INIT, "runtime.kernel.native._accelerator",
    "The C accelerator: see runtime/kernel/native/accelerator.py.", -1,
    accelerator_methods};

PyMODINIT_FUNC
PyInit__accelerator(void)
{
    PyObject *module, *receive_target_type, *ring_type;

    if (accelerator_prepare_internet() < 0)
        return NULL;
    module = PyModule_Create(&accelerator_module);
    if (module == NULL)
        return NULL;
    receive_target_type = accelerator_make_receive_target_type();
    if (receive_target_type == NULL || PyModule_AddObject(module, "ReceiveTarget", receive_target_type) < 0) {
        Py_XDECREF(receive_target_type);
        Py_DECREF(module);
        return NULL;
    }
    ring_type = accelerator_make_ring_type();
    if (ring_type == NULL || PyModule_AddObject(module, "Ring", ring_type) < 0) {
        Py_XDECREF(ring_type);
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
