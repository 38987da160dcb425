/* System calls of epoll, a part of the accelerator. The contracts are those of
 * accelerator.python_epoll_wait, wait_meter.WaitMeter and accelerator.python_epoll_modify.
 */
#include "_accelerator.h"

#ifdef __linux__
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 1024
#define MAX_WAIT 86400.0

/* A poll that does not wait keeps the GIL. One in POLLS_PER_CHECK gives it to a thread that has
 * waited for longer than the switch interval, as the interpreter does between instructions: the
 * tasks of a loop that is never idle may all be compiled, and run none. */
#define POLLS_PER_CHECK 16

/* As in buckets.py: eight buckets for each power of two, counted in nanoseconds. */
#define BUCKETS 320
#define SUB_BUCKET_BITS 3
#define BILLION 1000000000
/* wait_meter.TICK */
#define TICK (BILLION / 100)

/* Times and durations in nanoseconds. A time is 0 if there is none. */
typedef struct {
    PyObject_HEAD
    int fd;
    PyObject *tick;
    int64_t next_tick;
    int64_t began;
    int64_t waiting_since;
    int64_t ran;
    int64_t waited;
    /* The end of the last poll, or the beginning of the run. */
    int64_t stamp;
    int64_t lag_count;
    int64_t lag_sum;
    int64_t lag_most;
    uint64_t lags[BUCKETS];
} WaitMeter;

static int64_t
monotonic_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * BILLION + now.tv_nsec;
}

static void
note_lag(WaitMeter *self, int64_t now)
{
    int64_t lag = now - self->stamp;
    int octave = 63 - SUB_BUCKET_BITS - __builtin_clzll((uint64_t)lag | 1 << SUB_BUCKET_BITS);
    int64_t bucket = ((int64_t)octave << SUB_BUCKET_BITS) + (lag >> octave);

    if (self->stamp == 0)
        return;
    self->lags[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    self->lag_count++;
    self->lag_sum += lag;
    if (lag > self->lag_most)
        self->lag_most = lag;
}

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

/* Call the function of set_tick(), if enough time has passed. */
static int
call_tick(WaitMeter *self, int64_t now)
{
    PyObject *tick = self->tick, *time, *result;

    self->next_tick = now + TICK;
    if (tick == NULL)
        return 0;
    time = PyFloat_FromDouble((double)now / BILLION);
    if (time == NULL)
        return -1;
    Py_INCREF(tick);
    result = PyObject_CallOneArg(tick, time);
    Py_DECREF(tick);
    Py_DECREF(time);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* A Python function without instructions of its own: only its call matters. */
static PyObject *empty_function;

static int
make_empty_function(void)
{
    /* Trace functions, and code that describes stacks, read the name of the module. */
    PyObject *names = Py_BuildValue("{ss}", "__name__", "runtime.kernel.native._accelerator");
    PyObject *result;

    if (names == NULL)
        return -1;
    result = PyRun_String("def check_switch_interval(): pass", Py_file_input, names, names);
    if (result != NULL) {
        Py_DECREF(result);
        empty_function = Py_XNewRef(PyDict_GetItemString(names, "check_switch_interval"));
    }
    Py_DECREF(names);
    return empty_function == NULL ? -1 : 0;
}

/* Let the interpreter give the GIL to a thread that asks for it, which it does when a function
 * begins. It then waits until that thread has it.
 *
 * To release the GIL and to take it again would not do. It wakes a thread that waits up, but that
 * takes longer than a poll: the thread finds the GIL taken, and waits for a whole switch interval
 * before it asks for it. A loop that polls more often than that would starve the thread. */
static int
check_switch_interval(void)
{
    PyObject *result = PyObject_CallNoArgs(empty_function);

    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The function that epoll_wait() makes: `self` is a WaitMeter. */
static PyObject *
wait_on_epoll(PyObject *self, PyObject *timeout)
{
    WaitMeter *meter = (WaitMeter *)self;
    /* Not static: the loop of another thread may wait while this one has released the GIL, or while
     * a finalizer runs when the objects below are made. */
    struct epoll_event events[MAX_EVENTS];
    static unsigned int polls;
    PyObject *list;
    double seconds;
    int64_t now;
    int count, reason, i;

    seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "a timeout must be a number of seconds, got NaN");
        return NULL;
    }
    if (seconds > MAX_WAIT)
        seconds = MAX_WAIT;
    if (seconds == 0.0) {
        /* Before the call that returns events: these would be lost if a signal handler raised. */
        if (PyErr_CheckSignals() < 0 ||
            (++polls % POLLS_PER_CHECK == 0 && check_switch_interval() < 0))
            return NULL;
        count = epoll_wait(meter->fd, events, MAX_EVENTS, 0);
        reason = errno;
        now = monotonic_time();
        note_lag(meter, now);
    }
    else {
        int fd = meter->fd;
        int64_t started = monotonic_time();

        note_lag(meter, started);
        meter->waiting_since = started;
        Py_BEGIN_ALLOW_THREADS
        count = wait_for_events(fd, events, seconds);
        reason = errno;
        Py_END_ALLOW_THREADS
        now = monotonic_time();
        meter->waited += now - started;
        meter->waiting_since = 0;
    }
    meter->stamp = now;
    if (now >= meter->next_tick && call_tick(meter, now) < 0)
        return NULL;
    if (count < 0) {
        if (reason == EINTR)
            return PyErr_CheckSignals() < 0 ? NULL : PyList_New(0);
        errno = reason;
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

static PyObject *
meter_end_run(PyObject *object, PyObject *Py_UNUSED(argument))
{
    WaitMeter *self = (WaitMeter *)object;

    if (self->began != 0) {
        int64_t now = monotonic_time();

        note_lag(self, now);
        self->ran += now - self->began;
        self->began = self->stamp = 0;
    }
    Py_RETURN_NONE;
}

static PyObject *
meter_begin_run(PyObject *object, PyObject *argument)
{
    WaitMeter *self = (WaitMeter *)object;

    Py_DECREF(meter_end_run(object, argument)); /* None: never the last reference. */
    self->began = self->stamp = monotonic_time();
    Py_RETURN_NONE;
}

static PyObject *
meter_set_tick(PyObject *object, PyObject *tick)
{
    WaitMeter *self = (WaitMeter *)object;
    PyObject *previous = self->tick;

    self->tick = tick == Py_None ? NULL : Py_NewRef(tick);
    Py_XDECREF(previous);
    Py_RETURN_NONE;
}

static PyObject *
meter_figures(PyObject *object, PyObject *Py_UNUSED(argument))
{
    WaitMeter *self = (WaitMeter *)object;
    int64_t now = monotonic_time();
    int64_t ran = self->ran + (self->began != 0 ? now - self->began : 0);
    int64_t waited = self->waited + (self->waiting_since != 0 ? now - self->waiting_since : 0);

    return Py_BuildValue("(ddLddy#)", (double)ran / BILLION, (double)waited / BILLION,
                         (long long)self->lag_count, (double)self->lag_sum / BILLION,
                         (double)self->lag_most / BILLION, (const char *)self->lags,
                         (Py_ssize_t)sizeof self->lags);
}

static PyObject *
meter_close(PyObject *object, PyObject *Py_UNUSED(argument))
{
    return meter_set_tick(object, Py_None);
}

static int
meter_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((WaitMeter *)object)->tick);
    return 0;
}

static int
meter_clear(PyObject *object)
{
    Py_CLEAR(((WaitMeter *)object)->tick);
    return 0;
}

static void
meter_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    meter_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef meter_methods[] = {
    {"begin_run", meter_begin_run, METH_NOARGS, "See wait_meter.WaitMeter.begin_run."},
    {"end_run", meter_end_run, METH_NOARGS, "See wait_meter.WaitMeter.end_run."},
    {"set_tick", meter_set_tick, METH_O, "See wait_meter.WaitMeter.set_tick."},
    {"figures", meter_figures, METH_NOARGS, "See wait_meter.WaitMeter.figures."},
    {"close", meter_close, METH_NOARGS, "See wait_meter.WaitMeter.close."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot meter_slots[] = {{Py_tp_dealloc, meter_dealloc},
                                    {Py_tp_traverse, meter_traverse},
                                    {Py_tp_clear, meter_clear},
                                    {Py_tp_methods, meter_methods},
                                    {Py_tp_doc, "See wait_meter.WaitMeter."},
                                    {0, NULL}};

static PyType_Spec meter_spec = {
    "runtime.kernel.native._accelerator.WaitMeter", sizeof(WaitMeter), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, meter_slots};

static PyTypeObject *meter_type;

static PyMethodDef wait_on_epoll_def = {
    "wait", wait_on_epoll, METH_O, "Wait for events, up to so many seconds; negative: no limit."};

PyObject *
accelerator_epoll_wait(PyObject *Py_UNUSED(module), PyObject *argument)
{
    PyObject *meter, *function;
    int fd;

    if (accelerator_descriptor_of(argument, &fd) < 0)
        return NULL;
    if (empty_function == NULL && make_empty_function() < 0)
        return NULL;
    if (meter_type == NULL) {
        meter_type = (PyTypeObject *)PyType_FromSpec(&meter_spec);
        if (meter_type == NULL)
            return NULL;
    }
    meter = meter_type->tp_alloc(meter_type, 0);
    if (meter == NULL)
        return NULL;
    ((WaitMeter *)meter)->fd = fd;
    function = PyCFunction_New(&wait_on_epoll_def, meter);
    Py_DECREF(meter);
    return function;
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
    PyObject *number, *function;

    if (fd < 0)
        return NULL;
    /* An int as `self`: reading it runs no Python code. */
    number = PyLong_FromLong(fd);
    if (number == NULL)
        return NULL;
    function = PyCFunction_New(&modify_in_epoll_def, number);
    Py_DECREF(number);
    return function;
}

#endif /* __linux__ */
