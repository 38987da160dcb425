/* Ring of records in native memory, a part of the accelerator. The contract is that of
 * ring.PythonRing.
 */
#include "_accelerator.h"

#include <stdint.h>
#include <time.h>

#define MOST_RECORDS (1 << 24)

/* The kinds of records that the functions below make: see ring.py. */
enum { WAKE = 1, STEP = 2, CALL = 3, POLL = 5, TURN = 6, TIMER = 10, TIMER_CANCELLED = 11 };

/* Number of codes that the ring remembers: a power of 2. */
#define CODES 256

typedef struct {
    int64_t time;
    int64_t kind;
    uint64_t address;
    int64_t number;
} Record;

typedef struct {
    PyObject_HEAD
    Record *records;
    /* The place of the next record, and the end of the memory. */
    Record *next;
    Record *end;
    uint64_t capacity;
    /* The number of records so far, including those that were overwritten. */
    uint64_t count;
    /* The time of the last record; and whether nothing has run since, so that it is still valid. */
    int64_t time;
    int is_time_valid;
    PyObject *append;
    /* The function behind `append` and its object, if it is a method in C with one argument. */
    PyCFunction append_directly;
    PyObject *queue;
    /* Addresses of known codes, for comparison only. The caller of learn() keeps the codes alive. */
    void *codes[CODES];
} Ring;

static PyObject *
ring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t capacity;
    PyObject *append;
    Ring *ring;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "Ring() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "nO:Ring", &capacity, &append))
        return NULL;
    if (capacity < 1 || capacity > MOST_RECORDS) {
        PyErr_Format(PyExc_ValueError, "capacity must be from 1 to %d records, got %zd", MOST_RECORDS,
                     capacity);
        return NULL;
    }
    ring = (Ring *)type->tp_alloc(type, 0);
    if (ring == NULL)
        return NULL;
    /* Not set to zero, which would take up the memory at once: only written records are read. */
    ring->records = PyMem_New(Record, (size_t)capacity);
    if (ring->records == NULL) {
        Py_DECREF(ring);
        return PyErr_NoMemory();
    }
    ring->next = ring->records;
    ring->end = ring->records + capacity;
    ring->capacity = (uint64_t)capacity;
    ring->append = Py_NewRef(append);
    if (PyCFunction_CheckExact(append) && PyCFunction_GET_FLAGS(append) == METH_O) {
        ring->append_directly = PyCFunction_GET_FUNCTION(append);
        ring->queue = PyCFunction_GET_SELF(append); /* `append` keeps it alive. */
    }
    return (PyObject *)ring;
}

static int
ring_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Ring *)self)->append);
    return 0;
}

static int
ring_clear(PyObject *self)
{
    ((Ring *)self)->append_directly = NULL;
    Py_CLEAR(((Ring *)self)->append);
    return 0;
}

static void
ring_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    ring_clear(self);
    PyMem_Free(((Ring *)self)->records);
    type->tp_free(self);
    Py_DECREF(type);
}

static inline int64_t
read_clock(Ring *ring)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return ring->time = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void
add(Ring *ring, int64_t time, int64_t kind, PyObject *object, int64_t number)
{
    Record *record = ring->next++;

    record->time = time;
    record->kind = kind;
    record->address = (uint64_t)(uintptr_t)object;
    record->number = number;
    ring->count++;
    if (ring->next == ring->end)
        ring->next = ring->records;
}

/* The time at which a step, a call or a poll begins: directly after a turn() it is that of the turn. */
static inline int64_t
begin(Ring *ring)
{
    if (ring->is_time_valid) {
        ring->is_time_valid = 0;
        return ring->time;
    }
    return read_clock(ring);
}

static PyObject *
ring_note(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    long long kind, number;

    if (accelerator_check_count("note", nargs, 3) < 0)
        return NULL;
    kind = PyLong_AsLongLong(args[0]);
    number = PyLong_AsLongLong(args[2]);
    if ((kind == -1 || number == -1) && PyErr_Occurred())
        return NULL;
    add((Ring *)self, read_clock((Ring *)self), kind, args[1], number);
    Py_RETURN_NONE;
}

static PyObject *
ring_poll(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    add((Ring *)self, begin((Ring *)self), POLL, Py_None, 0);
    Py_RETURN_NONE;
}

static PyObject *
ring_turn(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    Ring *ring = (Ring *)self;

    add(ring, read_clock(ring), TURN, Py_None, 0);
    ring->is_time_valid = 1;
    Py_RETURN_NONE;
}

static PyObject *
ring_step(PyObject *self, PyObject *task)
{
    add((Ring *)self, begin((Ring *)self), STEP, task, 0);
    Py_RETURN_NONE;
}

/* Return the address that identifies the code of a function, method or type; NULL if there is none. */
static inline void *
code_of(PyObject *callback)
{
    if (PyMethod_Check(callback))
        callback = PyMethod_GET_FUNCTION(callback);
    if (PyFunction_Check(callback))
        return PyFunction_GET_CODE(callback);
    if (PyCFunction_Check(callback))
        return ((PyCFunctionObject *)callback)->m_ml;
    return PyType_Check(callback) ? callback : NULL;
}

static inline void **
place_of(Ring *ring, void *code)
{
    return &ring->codes[((uintptr_t)code >> 5) % CODES];
}

static PyObject *
ring_call(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Ring *ring = (Ring *)self;
    void *code;

    if (accelerator_check_count("call", nargs, 2) < 0)
        return NULL;
    code = code_of(args[1]);
    if (code == NULL || *place_of(ring, code) != code)
        Py_RETURN_FALSE;
    add(ring, begin(ring), CALL, args[0], (int64_t)(uintptr_t)code);
    Py_RETURN_TRUE;
}

static PyObject *
ring_learn(PyObject *self, PyObject *callback)
{
    void *code = code_of(callback);

    if (code != NULL)
        *place_of((Ring *)self, code) = code;
    return PyLong_FromLongLong((int64_t)(uintptr_t)code);
}

/* Add an entry to the ready queue, and a record of that. */
static PyObject *
append(Ring *ring, int64_t kind, PyObject *runnable)
{
    PyObject *function = ring->append, *result;

    if (function == NULL) {
        PyErr_SetString(PyExc_ValueError, "the ready queue of this ring was released");
        return NULL;
    }
    add(ring, read_clock(ring), kind, runnable, 0);
    if (ring->append_directly != NULL)
        return ring->append_directly(ring->queue, runnable);
    Py_INCREF(function);
    result = PyObject_CallOneArg(function, runnable);
    Py_DECREF(function);
    return result;
}

static PyObject *
ring_wake(PyObject *self, PyObject *runnable)
{
    return append((Ring *)self, WAKE, runnable);
}

static PyObject *
ring_fire(PyObject *self, PyObject *timer)
{
    return append((Ring *)self, TIMER, timer);
}

static PyObject *
ring_cancel(PyObject *self, PyObject *timer)
{
    add((Ring *)self, read_clock((Ring *)self), TIMER_CANCELLED, timer, 0);
    Py_RETURN_NONE;
}

static PyObject *
ring_dump(PyObject *self, PyObject *Py_UNUSED(argument))
{
    Ring *ring = (Ring *)self;
    uint64_t kept = ring->count < ring->capacity ? ring->count : ring->capacity;
    uint64_t first = (ring->count - kept) % ring->capacity;
    uint64_t at_end = kept < ring->capacity - first ? kept : ring->capacity - first;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(kept * sizeof(Record)));
    char *to;

    if (bytes == NULL)
        return NULL;
    to = PyBytes_AS_STRING(bytes);
    memcpy(to, &ring->records[first], at_end * sizeof(Record));
    memcpy(to + at_end * sizeof(Record), ring->records, (kept - at_end) * sizeof(Record));
    return bytes;
}

static PyObject *
ring_count(PyObject *self, PyObject *Py_UNUSED(argument))
{
    return PyLong_FromUnsignedLongLong(((Ring *)self)->count);
}

static PyMethodDef ring_methods[] = {
    {"note", (PyCFunction)(void (*)(void))ring_note, METH_FASTCALL, "See ring.PythonRing.note."},
    {"poll", ring_poll, METH_O, "See ring.PythonRing.poll."},
    {"turn", ring_turn, METH_O, "See ring.PythonRing.turn."},
    {"step", ring_step, METH_O, "See ring.PythonRing.step."},
    {"call", (PyCFunction)(void (*)(void))ring_call, METH_FASTCALL, "See ring.PythonRing.call."},
    {"learn", ring_learn, METH_O, "See ring.PythonRing.learn."},
    {"wake", ring_wake, METH_O, "See ring.PythonRing.wake."},
    {"fire", ring_fire, METH_O, "See ring.PythonRing.fire."},
    {"cancel", ring_cancel, METH_O, "See ring.PythonRing.cancel."},
    {"dump", ring_dump, METH_NOARGS, "See ring.PythonRing.dump."},
    {"count", ring_count, METH_NOARGS, "See ring.PythonRing.count."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot ring_slots[] = {{Py_tp_new, ring_new},
                                   {Py_tp_dealloc, ring_dealloc},
                                   {Py_tp_traverse, ring_traverse},
                                   {Py_tp_clear, ring_clear},
                                   {Py_tp_methods, ring_methods},
                                   {Py_tp_doc, "See ring.PythonRing."},
                                   {0, NULL}};

static PyType_Spec ring_spec = {"runtime.kernel.native._accelerator.Ring", sizeof(Ring), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, ring_slots};

PyObject *
accelerator_make_ring_type(void)
{
    return PyType_FromSpec(&ring_spec);
}
