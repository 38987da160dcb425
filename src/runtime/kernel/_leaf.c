/* The C leaf: the operations of leaf.py, with the same contracts.
 *
 * Every function here has a twin in Python in leaf.py, which says what it does; the test suite runs
 * with either. What earns a place here is what Python can only do with an exception, a copy or a
 * page fault on the hot path.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/epoll.h>
#include <sys/syscall.h>
#endif

/* In _leaf_room.c. */
PyObject *make_room_type(void);

#define RECEIVE_SIZE 65536
#define MAX_EVENTS 1024
#define MAX_WAIT 86400.0

/* One receive buffer for the process: it is only touched with the GIL held, so that no two receives
 * overlap, and it stays in the cache and mapped, where a fresh 64 KiB object a read would not. */
static char receive_buffer[RECEIVE_SIZE];

static int
check_count(const char *name, Py_ssize_t got, Py_ssize_t wanted)
{
    if (got == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes exactly %zd arguments (%zd given)", name, wanted, got);
    return -1;
}

/* What to do about a failed system call. */
enum verdict { NOT_NOW, TRY_AGAIN, FAILED };

static enum verdict
judge_errno(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return NOT_NOW;
    if (errno == EINTR)
        return PyErr_CheckSignals() < 0 ? FAILED : TRY_AGAIN;
    PyErr_SetFromErrno(PyExc_OSError);
    return FAILED;
}

static int
descriptor_of(PyObject *argument, int *fd)
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

static PyObject *
leaf_step(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *outcome = NULL;
    PyObject *wrapped;
    PySendResult how;

    if (check_count("step", nargs, 2) < 0 || PyContext_Enter(args[1]) < 0)
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
receive(int fd, size_t size)
{
    ssize_t received;
    enum verdict verdict;

    for (;;) {
        /* The descriptor does not block, so the GIL is kept: giving it up costs more than the call,
         * and the buffer is everybody's. */
        received = read(fd, receive_buffer, size);
        if (received >= 0)
            return PyBytes_FromStringAndSize(receive_buffer, received);
        verdict = judge_errno();
        if (verdict == NOT_NOW)
            Py_RETURN_NONE;
        if (verdict == FAILED)
            return NULL;
    }
}

static PyObject *
leaf_recv(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd;

    if (descriptor_of(argument, &fd) < 0)
        return NULL;
    return receive(fd, RECEIVE_SIZE);
}

static PyObject *
leaf_recv_some(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    long size;
    int fd;

    if (check_count("recv_some", nargs, 2) < 0 || descriptor_of(args[0], &fd) < 0)
        return NULL;
    size = PyLong_AsLong(args[1]);
    if (size == -1 && PyErr_Occurred())
        return NULL;
    if (size < 1 || size > RECEIVE_SIZE) {
        PyErr_Format(PyExc_ValueError, "recv_some() takes 1 to %d bytes, not %ld", RECEIVE_SIZE,
                     size);
        return NULL;
    }
    return receive(fd, (size_t)size);
}

static PyObject *
leaf_send(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer view;
    ssize_t sent;
    enum verdict verdict;
    int fd;

    if (check_count("send", nargs, 2) < 0 || descriptor_of(args[0], &fd) < 0)
        return NULL;
    if (PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    do {
        sent = write(fd, view.buf, (size_t)view.len);
        verdict = sent < 0 ? judge_errno() : NOT_NOW;
    } while (verdict == TRY_AGAIN);
    PyBuffer_Release(&view);
    if (verdict == FAILED)
        return NULL;
    return PyLong_FromSsize_t(sent < 0 ? 0 : sent);
}

/* The addresses that datagrams came from lately. Making a Python address of the system's, and the
 * system's of Python's for the answer, costs more than the two system calls together; so each sender
 * that is remembered gets one tuple, and that very tuple stands for its address in sendto().
 *
 * A place in the table is chosen by the system's address; `place_of` leads from a tuple to it, and
 * may be wrong, but not about the last sender: what counts is whether the tuple that is there is the
 * same object. As the table holds it, no other object has its address in memory meanwhile. */
#define REMEMBERED 1024
#define TUPLE_BITS 12

union internet_address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static struct sender {
    PyObject *tuple;
    socklen_t size;
    union internet_address address;
} senders[REMEMBERED];

static unsigned short place_of[1 << TUPLE_BITS];

static unsigned short
place_of_address(const union internet_address *address, socklen_t size)
{
    uint32_t words[sizeof *address / sizeof(uint32_t)];
    uint32_t hash = 2166136261u;
    size_t i;

    memcpy(words, address, size);
    for (i = 0; i < size / sizeof(uint32_t); i++)
        hash = (hash ^ words[i]) * 0x9e3779b1u;
    return (unsigned short)((hash ^ hash >> 16) % REMEMBERED);
}

static unsigned short *
place_of_tuple(PyObject *tuple)
{
    return &place_of[(uint64_t)(uintptr_t)tuple * 0x9e3779b97f4a7c15u >> (64 - TUPLE_BITS)];
}

/* The address as the socket module gives it: a host and a port, and of IPv6 the flow and the scope. */
static PyObject *
make_address(const union internet_address *address)
{
    char host[INET6_ADDRSTRLEN];

    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->four.sin_addr, host, sizeof host);
        return Py_BuildValue("(si)", host, ntohs(address->four.sin_port));
    }
    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->six.sin6_addr, host, sizeof host);
        return Py_BuildValue("(siII)", host, ntohs(address->six.sin6_port),
                             ntohl(address->six.sin6_flowinfo), address->six.sin6_scope_id);
    }
    PyErr_SetString(PyExc_ValueError, "recvfrom() takes a socket of AF_INET or AF_INET6");
    return NULL;
}

static PyObject *
address_of_sender(const union internet_address *address, socklen_t size)
{
    unsigned short place = place_of_address(address, size);
    struct sender *sender = &senders[place];
    PyObject *tuple, *forgotten;

    if (sender->tuple != NULL && sender->size == size &&
        memcmp(&sender->address, address, size) == 0) {
        *place_of_tuple(sender->tuple) = place;
        Py_INCREF(sender->tuple);
        return sender->tuple;
    }
    tuple = make_address(address);
    if (tuple == NULL)
        return NULL;
    forgotten = sender->tuple;
    Py_INCREF(tuple);
    sender->tuple = tuple;
    sender->size = size;
    sender->address = *address;
    *place_of_tuple(tuple) = place;
    Py_XDECREF(forgotten);
    return tuple;
}

static PyObject *fileno_name;

/* The descriptor of a socket object, asked for each time, since the socket may have been closed. */
static int
descriptor_of_socket(PyObject *sock, int *fd)
{
    PyObject *number = PyObject_CallMethodNoArgs(sock, fileno_name);
    long value;

    if (number == NULL)
        return -1;
    value = PyLong_AsLong(number);
    Py_DECREF(number);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value < 0 || value > INT_MAX) {
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    *fd = (int)value;
    return 0;
}

static PyObject *
leaf_recvfrom(PyObject *Py_UNUSED(module), PyObject *sock)
{
    union internet_address address;
    socklen_t size;
    ssize_t received;
    enum verdict verdict;
    PyObject *data, *sender, *pair;
    int fd;

    if (descriptor_of_socket(sock, &fd) < 0)
        return NULL;
    for (;;) {
        size = sizeof address;
        received = recvfrom(fd, receive_buffer, RECEIVE_SIZE, MSG_DONTWAIT, &address.any, &size);
        if (received >= 0)
            break;
        verdict = judge_errno();
        if (verdict == NOT_NOW)
            Py_RETURN_NONE;
        if (verdict == FAILED)
            return NULL;
    }
    data = PyBytes_FromStringAndSize(receive_buffer, received);
    if (data == NULL)
        return NULL;
    sender = address_of_sender(&address, size);
    if (sender == NULL) {
        Py_DECREF(data);
        return NULL;
    }
    pair = PyTuple_New(2);
    if (pair == NULL) {
        Py_DECREF(data);
        Py_DECREF(sender);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, data);
    PyTuple_SET_ITEM(pair, 1, sender);
    return pair;
}

static PyObject *
leaf_sendto(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    const struct sockaddr *address = NULL;
    union internet_address copy;
    socklen_t size = 0;
    Py_buffer view;
    ssize_t sent;
    enum verdict verdict;
    int fd;

    if (check_count("sendto", nargs, 3) < 0)
        return NULL;
    if (args[2] != Py_None) {
        struct sender *sender = &senders[*place_of_tuple(args[2])];

        if (sender->tuple != args[2])
            return PyLong_FromLong(-1);
        /* A signal handler or the buffer's owner may have the sender forgotten meanwhile. */
        copy = sender->address;
        size = sender->size;
        address = &copy.any;
    }
    if (PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    if (descriptor_of_socket(args[0], &fd) < 0) {
        PyBuffer_Release(&view);
        return NULL;
    }
    do {
        sent = sendto(fd, view.buf, (size_t)view.len, MSG_DONTWAIT, address, size);
        verdict = sent < 0 ? judge_errno() : NOT_NOW;
    } while (verdict == TRY_AGAIN);
    PyBuffer_Release(&view);
    if (verdict == FAILED)
        return NULL;
    return PyLong_FromLong(sent >= 0);
}

#ifdef SOCK_NONBLOCK

/* Accept a connection of the Internet: (descriptor, address), or None. */
static PyObject *
leaf_accept(PyObject *Py_UNUSED(module), PyObject *argument)
{
    union internet_address address;
    socklen_t size;
    enum verdict verdict;
    PyObject *peer, *pair;
    int fd, accepted;

    if (descriptor_of(argument, &fd) < 0)
        return NULL;
    do {
        size = sizeof address;
        accepted = accept4(fd, &address.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        verdict = accepted < 0 ? judge_errno() : NOT_NOW;
    } while (verdict == TRY_AGAIN);
    if (verdict == FAILED)
        return NULL;
    if (accepted < 0)
        Py_RETURN_NONE;
    peer = make_address(&address);
    pair = peer != NULL ? Py_BuildValue("(iN)", accepted, peer) : NULL;
    if (pair == NULL)
        close(accepted);
    return pair;
}

#endif

#ifdef __linux__

/* How many polls that do not wait may pass before one of them gives the GIL up all the same, so that
 * a loop that is never idle starves no other thread. */
#define POLLS_PER_RELEASE 64

/* Wait up to `seconds`; negative: no limit. A kernel that has epoll_pwait2 (Linux 5.11) waits to the
 * nanosecond; an older one to the next millisecond. */
static int
wait_for_events(int fd, struct epoll_event *events, double seconds)
{
#ifdef SYS_epoll_pwait2
    static int missing;

    if (seconds > 0 && !missing) {
        struct {
            long long tv_sec;
            long long tv_nsec;
        } limit;
        int count;

        limit.tv_sec = (long long)seconds;
        limit.tv_nsec = (long long)ceil((seconds - (double)limit.tv_sec) * 1e9);
        if (limit.tv_nsec > 999999999)
            limit.tv_nsec = 999999999;
        count = (int)syscall(SYS_epoll_pwait2, fd, events, MAX_EVENTS, &limit, NULL, 0);
        if (count >= 0 || errno != ENOSYS)
            return count;
        missing = 1;
    }
#endif
    return epoll_wait(fd, events, MAX_EVENTS, seconds < 0 ? -1 : (int)ceil(seconds * 1e3));
}

/* The function that epoll_wait() makes: `self` is the epoll descriptor. */
static PyObject *
wait_on_epoll(PyObject *self, PyObject *timeout)
{
    /* On the stack: another thread's loop may wait while this one has given up the GIL, or while a
     * finalizer runs between the objects that are made below. */
    struct epoll_event events[MAX_EVENTS];
    static unsigned int polls;
    PyObject *list;
    double seconds;
    int fd, count, i;

    fd = (int)PyLong_AsLong(self);
    seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    if (seconds > MAX_WAIT)
        seconds = MAX_WAIT;
    if (seconds == 0.0 && ++polls % POLLS_PER_RELEASE != 0) {
        count = epoll_wait(fd, events, MAX_EVENTS, 0);
        if (count >= 0 && PyErr_CheckSignals() < 0)
            return NULL;
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
    list = PyList_New(count);
    for (i = 0; list != NULL && i < count; i++) {
        PyObject *pair = Py_BuildValue("(iI)", events[i].data.fd, events[i].events);
        if (pair == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

static PyMethodDef wait_on_epoll_def = {
    "wait", wait_on_epoll, METH_O, "Wait for events, up to so many seconds; negative: no limit."};

static PyObject *
leaf_epoll_wait(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd;

    if (descriptor_of(argument, &fd) < 0)
        return NULL;
    return PyCFunction_New(&wait_on_epoll_def, argument);
}

#endif /* __linux__ */

static PyMethodDef leaf_methods[] = {
    {"step", (PyCFunction)(void (*)(void))leaf_step, METH_FASTCALL, "See leaf.python_step."},
    {"recv", leaf_recv, METH_O, "See leaf.python_recv."},
    {"recv_some", (PyCFunction)(void (*)(void))leaf_recv_some, METH_FASTCALL,
     "See leaf.python_recv_some."},
    {"send", (PyCFunction)(void (*)(void))leaf_send, METH_FASTCALL, "See leaf.python_send."},
    {"recvfrom", leaf_recvfrom, METH_O, "See leaf.python_recvfrom."},
    {"sendto", (PyCFunction)(void (*)(void))leaf_sendto, METH_FASTCALL, "See leaf.python_sendto."},
#ifdef SOCK_NONBLOCK
    {"accept", leaf_accept, METH_O, "See leaf.accept."},
#endif
#ifdef __linux__
    {"epoll_wait", leaf_epoll_wait, METH_O, "See leaf.python_epoll_wait."},
#endif
    {NULL, NULL, 0, NULL}};

static PyModuleDef leaf_module = {
    PyModuleDef_HEAD_INIT, "runtime.kernel._leaf", "The C leaf: see runtime/kernel/leaf.py.", -1,
    leaf_methods};

PyMODINIT_FUNC
PyInit__leaf(void)
{
    PyObject *module, *room_type;

    fileno_name = PyUnicode_InternFromString("fileno");
    if (fileno_name == NULL)
        return NULL;
    module = PyModule_Create(&leaf_module);
    if (module == NULL)
        return NULL;
    room_type = make_room_type();
    if (room_type == NULL || PyModule_AddObject(module, "Room", room_type) < 0) {
        Py_XDECREF(room_type);
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
