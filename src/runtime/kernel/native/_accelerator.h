/* Declarations shared by the files of the C accelerator. */
#ifndef RUNTIME_ACCELERATOR_H
#define RUNTIME_ACCELERATOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>

#define RECEIVE_SIZE (64 * 1024)
#define LARGE_RECEIVE_SIZE (256 * 1024)

/* One receive buffer for the process. It is used only with the GIL held, so that no two receives
 * overlap. It stays in the processor's cache and mapped, unlike a new object of that size for each
 * read. */
extern char accelerator_receive_buffer[LARGE_RECEIVE_SIZE];

/* How to proceed after a failed system call. */
enum verdict { NOT_NOW, TRY_AGAIN, FAILED };

/* Return the verdict for errno. If it is FAILED, an exception is set. */
enum verdict accelerator_judge_errno(void);

/* An operation has failed, and an exception is set. If the descriptor is simulated, clear it and
 * return the result of the simulator's method, or its exception; otherwise return NULL. Only failed
 * operations come here. */
__attribute__((cold, noinline)) PyObject *
accelerator_simulate(const char *method, PyObject *const *args, Py_ssize_t nargs);

/* The same for a method whose only argument is the descriptor. */
__attribute__((cold, noinline)) PyObject *
accelerator_simulate_on(const char *method, int fd);

/* Both return 0, or -1 with an exception set. They are in the header so that they are inlined. */
static inline int
accelerator_check_count(const char *name, Py_ssize_t got, Py_ssize_t wanted)
{
    if (got == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes exactly %zd arguments (%zd given)", name, wanted, got);
    return -1;
}

static inline int
accelerator_descriptor_of(PyObject *argument, int *fd)
{
    long value = PyLong_AsLong(argument);

    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value < 0 || value > INT_MAX) {
        PyErr_Format(PyExc_ValueError, "%ld is not a file descriptor", value);
        return -1;
    }
    *fd = (int)value;
    return 0;
}

/* In _accelerator_receive_target.c. */
PyObject *accelerator_make_receive_target_type(void);

/* In _accelerator_ring.c. */
PyObject *accelerator_make_ring_type(void);

/* In _accelerator_internet.c. */
int accelerator_prepare_internet(void);
PyObject *accelerator_recvfrom(PyObject *module, PyObject *sock);
PyObject *accelerator_sendto(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *accelerator_accept(PyObject *module, PyObject *argument);

/* In _accelerator_epoll.c. */
PyObject *accelerator_epoll_wait(PyObject *module, PyObject *argument);
PyObject *accelerator_epoll_modify(PyObject *module, PyObject *argument);

#endif
