/* Datagrams and connections of the Internet, a part of the accelerator: see
accelerator.python_recvfrom,
 * accelerator.python_sendto and accelerator.accept.
 */
#include "_accelerator.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The addresses that datagrams came from lately. Making a Python address of the system's, and the
 * system's of Python's for the answer, costs more than the two system calls together; so each
 * sender that is remembered gets one tuple, and that very tuple stands for its address in sendto().
 *
 * A place in the table is chosen by the system's address; `place_of` leads from a tuple to it, and
 * may be wrong, but not about the last sender: what counts is whether the tuple that is there is
 * the same object. As the table holds it, no other object has its address in memory meanwhile. */
#define REMEMBERED 1024
#define TUPLE_BITS 12

union internet_address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

/* What the system writes an address to. A descriptor's number may mean a socket of another family
 * than the socket object says, so there is room for every family; `local` is a Unix socket's path. */
union any_address {
    struct sockaddr any;
    struct sockaddr_storage storage;
    struct sockaddr_un local;
    union internet_address internet;
};

static struct sender {
    PyObject *tuple;
    socklen_t size;
    union internet_address address;
} senders[REMEMBERED];

static unsigned short place_of[1 << TUPLE_BITS];

/* Return whether the `size` bytes at `address` are a complete address of the Internet: those are
 * remembered, and no other is looked into. */
static int
is_internet_address(const union any_address *address, socklen_t size)
{
    if (size == sizeof(struct sockaddr_in))
        return address->any.sa_family == AF_INET;
    if (size == sizeof(struct sockaddr_in6))
        return address->any.sa_family == AF_INET6;
    return 0;
}

/* The size is that of an address of the Internet. */
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

/* An address of another family, as the socket module gives it: None for none, the path of a Unix
 * socket, else the number of the family and the first bytes. `size` is what the system says, which
 * may be more than there was room for. */
static PyObject *
make_foreign_address(const union any_address *address, socklen_t size)
{
    const size_t start = offsetof(struct sockaddr_un, sun_path);
    union any_address known;

    if (size == 0)
        Py_RETURN_NONE;
    if (size > sizeof known)
        size = sizeof known;
    memset(&known, 0, sizeof known);
    memcpy(&known, address, size);
    if (known.any.sa_family == AF_UNIX) {
        const char *path = (const char *)&known + start;
        size_t length = size > start ? size - start : 0;

#ifdef __linux__
        if (length > 0 && path[0] == '\0')  /* The name of a socket that no file stands for. */
            return PyBytes_FromStringAndSize(path, (Py_ssize_t)length);
#endif
        return PyUnicode_DecodeFSDefaultAndSize(path, (Py_ssize_t)strnlen(path, length));
    }
    return Py_BuildValue("(iy#)", (int)known.any.sa_family, known.any.sa_data,
                         (Py_ssize_t)sizeof known.any.sa_data);
}

/* The address as the socket module gives it: a host and a port, and of IPv6 the flow and the scope. */
static PyObject *
make_address(const union any_address *address, socklen_t size)
{
    const union internet_address *known = &address->internet;
    char host[INET6_ADDRSTRLEN];

    if (!is_internet_address(address, size))
        return make_foreign_address(address, size);
    if (known->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &known->four.sin_addr, host, sizeof host);
        return Py_BuildValue("(si)", host, ntohs(known->four.sin_port));
    }
    inet_ntop(AF_INET6, &known->six.sin6_addr, host, sizeof host);
    return Py_BuildValue("(siII)", host, ntohs(known->six.sin6_port),
                         ntohl(known->six.sin6_flowinfo), known->six.sin6_scope_id);
}

static PyObject *
address_of_sender(const union any_address *address, socklen_t size)
{
    unsigned short place;
    struct sender *sender;
    PyObject *tuple, *forgotten;

    if (!is_internet_address(address, size))
        return make_foreign_address(address, size);
    place = place_of_address(&address->internet, size);
    sender = &senders[place];
    if (sender->tuple != NULL && sender->size == size &&
        memcmp(&sender->address, &address->internet, size) == 0) {
        *place_of_tuple(sender->tuple) = place;
        Py_INCREF(sender->tuple);
        return sender->tuple;
    }
    /* Objects are made here, so that the collector may run a finalizer which receives as well: the
     * place is looked at again afterwards. */
    tuple = make_address(address, size);
    if (tuple == NULL)
        return NULL;
    forgotten = sender->tuple;
    Py_INCREF(tuple);
    sender->tuple = tuple;
    sender->size = size;
    memcpy(&sender->address, &address->internet, size);
    *place_of_tuple(tuple) = place;
    Py_XDECREF(forgotten);
    return tuple;
}

static PyObject *fileno_name;

int
accelerator_prepare_internet(void)
{
    fileno_name = PyUnicode_InternFromString("fileno");
    return fileno_name != NULL ? 0 : -1;
}

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

PyObject *
accelerator_recvfrom(PyObject *Py_UNUSED(module), PyObject *sock)
{
    union any_address address;
    socklen_t size;
    ssize_t received;
    enum verdict verdict;
    PyObject *data, *sender, *pair;
    int fd;

    if (descriptor_of_socket(sock, &fd) < 0)
        return NULL;
    for (;;) {
        size = sizeof address;
        received = recvfrom(fd, accelerator_receive_buffer, RECEIVE_SIZE, MSG_DONTWAIT,
                            &address.any, &size);
        if (received >= 0)
            break;
        verdict = accelerator_judge_errno();
        if (verdict == NOT_NOW)
            Py_RETURN_NONE;
        if (verdict == FAILED)
            return NULL;
    }
    data = PyBytes_FromStringAndSize(accelerator_receive_buffer, received);
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

PyObject *
accelerator_sendto(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    const struct sockaddr *address = NULL;
    union internet_address copy;
    socklen_t size = 0;
    Py_buffer view;
    ssize_t sent;
    enum verdict verdict;
    int fd;

    if (accelerator_check_count("sendto", nargs, 3) < 0)
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
        verdict = sent < 0 ? accelerator_judge_errno() : NOT_NOW;
    } while (verdict == TRY_AGAIN);
    PyBuffer_Release(&view);
    if (verdict == FAILED)
        return NULL;
    return PyLong_FromLong(sent >= 0);
}

#ifdef SOCK_NONBLOCK

/* Accept a connection whose descriptor does not block and is close-on-exec; -1 with errno set. */
static int
accept_one(int fd, union any_address *address, socklen_t *size)
{
    int accepted, flags;

    *size = sizeof *address;
    accepted = accept4(fd, &address->any, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted >= 0 || (errno != ENOSYS && errno != EPERM))
        return accepted;
    /* The filter of a sandbox may not know the call. (Or a firewall forbids the connection.) */
    *size = sizeof *address;
    accepted = accept(fd, &address->any, size);
    if (accepted >= 0) {
        flags = fcntl(accepted, F_GETFL);
        if (flags < 0 || fcntl(accepted, F_SETFL, flags | O_NONBLOCK) < 0 ||
            fcntl(accepted, F_SETFD, FD_CLOEXEC) < 0) {
            int reason = errno;

            close(accepted);
            errno = reason;
            return -1;
        }
    }
    return accepted;
}

/* Accept a connection of the Internet: (descriptor, address), or None. */
PyObject *
accelerator_accept(PyObject *Py_UNUSED(module), PyObject *argument)
{
    union any_address address;
    socklen_t size;
    enum verdict verdict;
    PyObject *peer, *pair;
    int fd, accepted;

    if (accelerator_descriptor_of(argument, &fd) < 0)
        return NULL;
    do {
        accepted = accept_one(fd, &address, &size);
        verdict = accepted < 0 ? accelerator_judge_errno() : NOT_NOW;
    } while (verdict == TRY_AGAIN);
    if (verdict == FAILED)
        return NULL;
    if (accepted < 0)
        Py_RETURN_NONE;
    peer = make_address(&address, size);
    pair = peer != NULL ? Py_BuildValue("(iN)", accepted, peer) : NULL;
    if (pair == NULL)
        close(accepted);
    return pair;
}

#endif
