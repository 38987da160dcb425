/* Room for bytes that are to be received, a part of the accelerator: see accelerator.PythonRoom.
 *
 * It is a bytes object that is written to before anybody sees it. take() hands it out, and refuses
 * while there is a view that could still be written to; so nobody sees it change.
 */
#include "_accelerator.h"

typedef struct {
    PyObject_HEAD
    PyObject *bytes;
    Py_ssize_t exports;
} Room;

static PyObject *
room_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t size;
    Room *room;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "Room() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "n:Room", &size))
        return NULL;
    if (size < 1) {
        PyErr_Format(PyExc_ValueError, "Room() takes a size of at least 1 byte, not %zd", size);
        return NULL;
    }
    room = (Room *)type->tp_alloc(type, 0);
    if (room == NULL)
        return NULL;
    room->bytes = PyBytes_FromStringAndSize(NULL, size);
    if (room->bytes == NULL) {
        Py_DECREF(room);
        return NULL;
    }
    return (PyObject *)room;
}

static void
room_dealloc(Room *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->bytes);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
room_is_taken(Room *self)
{
    if (self->bytes != NULL)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the bytes of this room were taken");
    return 1;
}

static int
room_getbuffer(Room *self, Py_buffer *view, int flags)
{
    if (room_is_taken(self)) {
        view->obj = NULL;
        return -1;
    }
    if (PyBuffer_FillInfo(view, (PyObject *)self, PyBytes_AS_STRING(self->bytes),
                          PyBytes_GET_SIZE(self->bytes), 0, flags) < 0)
        return -1;
    self->exports++;
    return 0;
}

static void
room_releasebuffer(Room *self, Py_buffer *Py_UNUSED(view))
{
    self->exports--;
}

static PyObject *
room_view(Room *self, PyObject *args)
{
    PyObject *whole, *part;
    Py_ssize_t start, stop;

    if (!PyArg_ParseTuple(args, "nn:view", &start, &stop))
        return NULL;
    whole = PyMemoryView_FromObject((PyObject *)self);
    if (whole == NULL)
        return NULL;
    part = PySequence_GetSlice(whole, start, stop);
    Py_DECREF(whole);
    return part;
}

static PyObject *
room_take(Room *self, PyObject *argument)
{
    Py_ssize_t size = PyLong_AsSsize_t(argument);
    PyObject *bytes;

    if ((size == -1 && PyErr_Occurred()) || room_is_taken(self))
        return NULL;
    if (size < 0 || size > PyBytes_GET_SIZE(self->bytes)) {
        PyErr_Format(PyExc_ValueError, "take() takes 0 to %zd bytes, not %zd",
                     PyBytes_GET_SIZE(self->bytes), size);
        return NULL;
    }
    if (self->exports) {
        PyErr_SetString(PyExc_BufferError, "a view of this room is still in use");
        return NULL;
    }
    bytes = self->bytes;
    self->bytes = NULL;
    if (size < PyBytes_GET_SIZE(bytes))
        _PyBytes_Resize(&bytes, size);
    return bytes;
}

static PyMethodDef room_methods[] = {
    {"view", (PyCFunction)room_view, METH_VARARGS, "See accelerator.PythonRoom.view."},
    {"take", (PyCFunction)room_take, METH_O, "See accelerator.PythonRoom.take."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot room_slots[] = {{Py_tp_new, room_new},
                                   {Py_tp_dealloc, room_dealloc},
                                   {Py_tp_methods, room_methods},
                                   {Py_bf_getbuffer, room_getbuffer},
                                   {Py_bf_releasebuffer, room_releasebuffer},
                                   {Py_tp_doc, "See accelerator.PythonRoom."},
                                   {0, NULL}};

static PyType_Spec room_spec = {"runtime.kernel.native._accelerator.Room", sizeof(Room), 0, Py_TPFLAGS_DEFAULT,
                                room_slots};

PyObject *
accelerator_make_receive_target_type(void)
{
    return PyType_FromSpec(&room_spec);
}
