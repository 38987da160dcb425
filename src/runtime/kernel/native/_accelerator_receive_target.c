/* Memory for bytes that are to be received, a part of the accelerator. The contract is that of
 * accelerator.PythonReceiveTarget.
 *
 * The memory is that of a bytes object, which is written to before Python code can reach it. take()
 * returns it, and raises an error while there is a view through which it could still be written to.
 * So no Python code ever sees the bytes object change.
 */
#include "_accelerator.h"

typedef struct {
    PyObject_HEAD
    PyObject *bytes;
    Py_ssize_t exports;
} ReceiveTarget;

static PyObject *
receive_target_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t size;
    ReceiveTarget *target;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "ReceiveTarget() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "n:ReceiveTarget", &size))
        return NULL;
    if (size < 1) {
        PyErr_Format(PyExc_ValueError, "ReceiveTarget() expected a size of at least 1 byte, got %zd", size);
        return NULL;
    }
    target = (ReceiveTarget *)type->tp_alloc(type, 0);
    if (target == NULL)
        return NULL;
    target->bytes = PyBytes_FromStringAndSize(NULL, size);
    if (target->bytes == NULL) {
        Py_DECREF(target);
        return NULL;
    }
    return (PyObject *)target;
}

static void
receive_target_dealloc(ReceiveTarget *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->bytes);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
receive_target_is_taken(ReceiveTarget *self)
{
    if (self->bytes != NULL)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the bytes of this target were taken");
    return 1;
}

static int
receive_target_getbuffer(ReceiveTarget *self, Py_buffer *view, int flags)
{
    if (receive_target_is_taken(self)) {
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
receive_target_releasebuffer(ReceiveTarget *self, Py_buffer *Py_UNUSED(view))
{
    self->exports--;
}

static PyObject *
receive_target_view(ReceiveTarget *self, PyObject *args)
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
receive_target_take(ReceiveTarget *self, PyObject *argument)
{
    Py_ssize_t size = PyLong_AsSsize_t(argument);
    PyObject *bytes;

    if ((size == -1 && PyErr_Occurred()) || receive_target_is_taken(self))
        return NULL;
    if (size < 0 || size > PyBytes_GET_SIZE(self->bytes)) {
        PyErr_Format(PyExc_ValueError, "take() expected 0 to %zd bytes, got %zd",
                     PyBytes_GET_SIZE(self->bytes), size);
        return NULL;
    }
    if (self->exports) {
        PyErr_SetString(PyExc_BufferError, "a view of this target is still in use");
        return NULL;
    }
    bytes = self->bytes;
    self->bytes = NULL;
    if (size < PyBytes_GET_SIZE(bytes))
        _PyBytes_Resize(&bytes, size);
    return bytes;
}

static PyMethodDef receive_target_methods[] = {
    {"view", (PyCFunction)receive_target_view, METH_VARARGS, "See accelerator.PythonReceiveTarget.view."},
    {"take", (PyCFunction)receive_target_take, METH_O, "See accelerator.PythonReceiveTarget.take."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot receive_target_slots[] = {{Py_tp_new, receive_target_new},
                                   {Py_tp_dealloc, receive_target_dealloc},
                                   {Py_tp_methods, receive_target_methods},
                                   {Py_bf_getbuffer, receive_target_getbuffer},
                                   {Py_bf_releasebuffer, receive_target_releasebuffer},
                                   {Py_tp_doc, "See accelerator.PythonReceiveTarget."},
                                   {0, NULL}};

static PyType_Spec receive_target_spec = {"runtime.kernel.native._accelerator.ReceiveTarget", sizeof(ReceiveTarget), 0, Py_TPFLAGS_DEFAULT,
                                receive_target_slots};

PyObject *
accelerator_make_receive_target_type(void)
{
    return PyType_FromSpec(&receive_target_spec);
}
