/* Ring of records in native memory, a part of the accelerator. The contract is that of
 * ring.PythonRing.
 */
#include "_accelerator.h"

#include <stdint.h>
#include <time.h>

#define MOST_RECORDS (1 << 24)
#define WAKE 1

typedef struct {
    int64_t time;
    int64_t kind;
    uint64_t address;
    int64_t number;
} Record;

typedef struct {
    PyObject_HEAD
    Record *records;
    uint64_t capacity;
    /* The number of records so far, including those that were overwritten. */
    uint64_t count;
    PyObject *append;
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
    ring->records = PyMem_Calloc((size_t)capacity, sizeof(Record));
    if (ring->records == NULL) {
        Py_DECREF(ring);
        return PyErr_NoMemory();
    }
    ring->capacity = (uint64_t)capacity;
    ring->append = Py_NewRef(append);
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

static void
add(Ring *ring, int64_t kind, PyObject *object, int64_t number)
{
    Record *record = &ring->records[ring->count++ % ring->capacity];
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    record->time = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    record->kind = kind;
    record->address = (uint64_t)(uintptr_t)object;
    record->number = number;
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
    add((Ring *)self, kind, args[1], number);
    Py_RETURN_NONE;
}

static PyObject *
ring_wake(PyObject *self, PyObject *runnable)
{
    Ring *ring = (Ring *)self;
    PyObject *append = ring->append, *result;

    if (append == NULL) {
        PyErr_SetString(PyExc_ValueError, "the ready queue of this ring was released");
        return NULL;
    }
    add(ring, WAKE, runnable, 0);
    Py_INCREF(append);
    result = PyObject_CallOneArg(append, runnable);
    Py_DECREF(append);
    return result;
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
    {"wake", ring_wake, METH_O, "See ring.PythonRing.wake."},
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
