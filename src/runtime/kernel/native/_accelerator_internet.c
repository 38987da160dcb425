/* Datagrams and connections of the Internet, a part of the accelerator. The contracts are those of
 * accelerator.python_recvfrom, accelerator.python_sendto and accelerator.accept.
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

/* The table of recent senders of datagrams. A server that answers each datagram would convert the
 * sender's address to a Python tuple, and the tuple back to an address; the two conversions cost
 * more than the two system calls. So each sender in the table has one tuple, which recvfrom()
 * returns each time, and sendto() recognises this tuple object, and uses the address beside it.
 *
 * The place of a sender in the table is a hash of its address. `place_of` is a second table, from a
 * hash of the tuple's location in memory to that place. Two tuples may have the same hash, so that
 * an entry of `place_of` may be out of date, but never that of the last sender. So sendto()
 * compares the tuple in the table with its argument, as objects. The comparison is safe because the
 * table holds a reference: no other object can be at the same location. */
#define REMEMBERED 1024
#define TUPLE_BITS 12

union internet_address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

/* The memory that the system writes an address to. The descriptor may be a socket of another family
 * than the Python object says, so this is large enough for every family; `local` is the address of
 * a Unix socket. */
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

/* Return whether the `size` bytes at `address` are a complete Internet address. Only such addresses
 * are kept in the table. */
static int
is_internet_address(const union any_address *address, socklen_t size)
{
    if (size == sizeof(struct sockaddr_in))
        return address->any.sa_family == AF_INET;
    if (size == sizeof(struct sockaddr_in6))
        return address->any.sa_family == AF_INET6;
    return 0;
}

/* Return the place of an Internet address in the table; `size` is a size of such addresses. */
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

/* Return an address of another family in the form of the socket module: None if there is none, the
 * path of a Unix socket, else the number of the family and the first bytes. `size` is the size that
 * the system reports, which may be more than it could write. */
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
        if (length > 0 && path[0] == '\0')  /* An abstract name, for which there is no file. */
            return PyBytes_FromStringAndSize(path, (Py_ssize_t)length);
#endif
        return PyUnicode_DecodeFSDefaultAndSize(path, (Py_ssize_t)strnlen(path, length));
    }
    return Py_BuildValue("(iy#)", (int)known.any.sa_family, known.any.sa_data,
                         (Py_ssize_t)sizeof known.any.sa_data);
}

/* Return an IPv4 address as text. Many connections come from the same host: they share its text. */
static PyObject *
text_of_host(struct in_addr address)
{
    static PyObject *last;
    static struct in_addr last_address;
    char host[INET_ADDRSTRLEN];

    if (last == NULL || last_address.s_addr != address.s_addr) {
        inet_ntop(AF_INET, &address, host, sizeof host);
        PyObject *text = PyUnicode_FromString(host);
        if (text == NULL)
            return NULL;
        Py_XSETREF(last, text);
        last_address = address;
    }
    Py_INCREF(last);
    return last;
}

/* Return the address in the form of the socket module: host, port, and for IPv6 flow and scope. */
static PyObject *
make_address(const union any_address *address, socklen_t size)
{
    const union internet_address *known = &address->internet;
    char host[INET6_ADDRSTRLEN];

    if (!is_internet_address(address, size))
        return make_foreign_address(address, size);
    if (known->any.sa_family == AF_INET)
        return Py_BuildValue("(Ni)", text_of_host(known->four.sin_addr),
                             ntohs(known->four.sin_port));
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
    /* This allocates, so that the garbage collector may run a finalizer that receives a datagram
     * and changes the place: read `sender->tuple` only afterwards. */
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

/* Get the descriptor of a socket object. It is not kept, since the socket may be closed. */
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
            return accelerator_simulate_on("recvfrom", fd);
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

/* Send through a simulated descriptor after the system has refused to, and release the buffer. */
__attribute__((cold, noinline)) static PyObject *
simulate_sendto(int fd, Py_buffer *view, int has_address)
{
    PyObject *args[3];
    PyObject *sent = NULL;
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    args[0] = PyLong_FromLong(fd);
    args[1] = PyBytes_FromStringAndSize(view->buf, view->len);
    args[2] = has_address ? Py_True : Py_False;
    PyBuffer_Release(view);
    if (args[0] != NULL && args[1] != NULL) {
        PyErr_Restore(type, value, traceback);
        sent = accelerator_simulate("sendto", args, 3);
    }
    else {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    return sent;
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
        /* A copy, since the Python code that runs below (the exporter of the buffer, fileno(), a
         * signal handler) may receive a datagram, whose sender takes the place in the table. */
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
    if (verdict == FAILED)
        return simulate_sendto(fd, &view, address != NULL);
    PyBuffer_Release(&view);
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
    /* The system call filter of a sandbox may not know accept4(). (EPERM also comes from a
     * firewall, and then accept() fails as well.) */
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

/* Accept an Internet connection; return (descriptor, address), or None. */
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
        return accelerator_simulate_on("accept", fd);
    if (accepted < 0)
        Py_RETURN_NONE;
    peer = make_address(&address, size);
    pair = peer != NULL ? Py_BuildValue("(iN)", accepted, peer) : NULL;
    if (pair == NULL)
        close(accepted);
    return pair;
}

#endif
