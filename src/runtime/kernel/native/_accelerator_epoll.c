/* System calls of epoll, a part of the accelerator. The contracts are those of
 * accelerator.python_epoll_wait and accelerator.python_epoll_modify.
 */
#include "_accelerator.h"

#ifdef __linux__
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_EVENTS 1024
#define MAX_WAIT 86400.0

/* A poll that does not wait keeps the GIL. But one in POLLS_PER_RELEASE releases it, so that a loop
 * that is never idle does not starve other threads. */
#define POLLS_PER_RELEASE 64

static int
wait_milliseconds(int fd, struct epoll_event *events, double seconds)
{
    return epoll_wait(fd, events, MAX_EVENTS, seconds < 0 ? -1 : (int)ceil(seconds * 1e3));
}

/* Wait up to `seconds`; negative: no limit. The precision is a nanosecond with epoll_pwait2 (Linux
 * 5.11 and later), else a millisecond, rounded up. */
static int
wait_for_events(int fd, struct epoll_event *events, double seconds)
{
#ifdef SYS_epoll_pwait2
    /* Atomic, since loops in several threads read and write this without the GIL. */
    static int refused;

    if (seconds > 0 && !__atomic_load_n(&refused, __ATOMIC_RELAXED)) {
        struct {
            long long tv_sec;
            long long tv_nsec;
        } limit;
        int count, reason;

        limit.tv_sec = (long long)seconds;
        limit.tv_nsec = (long long)ceil((seconds - (double)limit.tv_sec) * 1e9);
        if (limit.tv_nsec > 999999999)
            limit.tv_nsec = 999999999;
        count = (int)syscall(SYS_epoll_pwait2, fd, events, MAX_EVENTS, &limit, NULL, 0);
        if (count >= 0 || errno == EINTR)
            return count;
        /* Either the kernel does not have this call, or the system call filter of a sandbox refuses
         * it, with an error that depends on the sandbox; or the descriptor is bad. Try the old
         * call: if it does not fail with the same error, never try the new one again. */
        reason = errno;
        count = wait_milliseconds(fd, events, seconds);
        if (count >= 0 || errno != reason)
            __atomic_store_n(&refused, 1, __ATOMIC_RELAXED);
        return count;
    }
#endif
    return wait_milliseconds(fd, events, seconds);
}

static PyObject *
event_pair(const struct epoll_event *event)
{
    PyObject *fd = PyLong_FromLong(event->data.fd);
    PyObject *mask = PyLong_FromUnsignedLong(event->events);
    PyObject *pair = fd != NULL && mask != NULL ? PyTuple_New(2) : NULL;

    if (pair == NULL) {
        Py_XDECREF(fd);
        Py_XDECREF(mask);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, fd);
    PyTuple_SET_ITEM(pair, 1, mask);
    return pair;
}

/* The function that epoll_wait() makes: `self` is the epoll descriptor. */
static PyObject *
wait_on_epoll(PyObject *self, PyObject *timeout)
{
    /* Not static: the loop of another thread may wait while this one has released the GIL, or while
     * a finalizer runs when the objects below are made. */
    struct epoll_event events[MAX_EVENTS];
    static unsigned int polls;
    PyObject *list;
    double seconds;
    int fd, count, i;

    fd = (int)PyLong_AsLong(self);
    seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "a timeout must be a number of seconds, got NaN");
        return NULL;
    }
    if (seconds > MAX_WAIT)
        seconds = MAX_WAIT;
    if (seconds == 0.0 && ++polls % POLLS_PER_RELEASE != 0) {
        /* Before the call that returns events: these would be lost if a signal handler raised. */
        if (PyErr_CheckSignals() < 0)
            return NULL;
        count = epoll_wait(fd, events, MAX_EVENTS, 0);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        count = wait_for_events(fd, events, seconds);
        Py_END_ALLOW_THREADS
    }
    if (count < 0) {
        if (errno == EINTR)
            return PyErr_CheckSignals() < 0 ? NULL : PyList_New(0);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    /* If there is no memory for the list, these events are lost, but Poller.poll() arms all
     * one-shot registrations again. */
    list = PyList_New(count);
    for (i = 0; list != NULL && i < count; i++) {
        PyObject *pair = event_pair(&events[i]);
        if (pair == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

static PyMethodDef wait_on_epoll_def = {
    "wait", wait_on_epoll, METH_O, "Wait for events, up to so many seconds; negative: no limit."};

/* Make a function whose `self` is a descriptor: an int, since reading it runs no Python code. */
static PyObject *
function_of(PyMethodDef *definition, int fd)
{
    PyObject *number = PyLong_FromLong(fd);
    PyObject *function;

    if (number == NULL)
        return NULL;
    function = PyCFunction_New(definition, number);
    Py_DECREF(number);
    return function;
}

PyObject *
accelerator_epoll_wait(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd;

    if (accelerator_descriptor_of(argument, &fd) < 0)
        return NULL;
    return function_of(&wait_on_epoll_def, fd);
}

/* The function that epoll_modify() makes: `self` is the epoll descriptor. The system call returns
 * at once, so the GIL is kept. */
static PyObject *
modify_in_epoll(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct epoll_event event = {0};
    unsigned long mask;
    int fd;

    if (accelerator_check_count("modify", nargs, 2) < 0 ||
        accelerator_descriptor_of(args[0], &fd) < 0)
        return NULL;
    mask = PyLong_AsUnsignedLong(args[1]);
    if (mask == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    event.events = (uint32_t)mask;
    event.data.fd = fd;
    return PyBool_FromLong(epoll_ctl((int)PyLong_AsLong(self), EPOLL_CTL_MOD, fd, &event) == 0);
}

static PyMethodDef modify_in_epoll_def = {
    "modify", (PyCFunction)(void (*)(void))modify_in_epoll, METH_FASTCALL,
    "Watch other events on a descriptor; return whether epoll knows it."};

PyObject *
accelerator_epoll_modify(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd = PyObject_AsFileDescriptor(argument);

    return fd >= 0 ? function_of(&modify_in_epoll_def, fd) : NULL;
}

#endif /* __linux__ */
