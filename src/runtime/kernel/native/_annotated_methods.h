/* Annotated methods: methods in C that answer typing.get_type_hints() and inspect.signature().
 *
 * setup.py includes this file in the C that mypyc writes. There a method is a method_descriptor,
 * which has a docstring and the names of the parameters, and cannot have annotations. An annotated
 * method is a method_descriptor that also has the attributes of the Python function from which it
 * was compiled. It calls the same C function in the same way.
 *
 * The attributes come from the definition of the function, which is in the library as text: the
 * first access to one of them compiles it, as a function without a body. The annotations are strings
 * then, as in the interpreted build. inspect takes any callable with these attributes for a Python
 * function; the functions of Cython rely on that too.
 */
#ifndef RUNTIME_ANNOTATED_METHODS_H
#define RUNTIME_ANNOTATED_METHODS_H

#include <Python.h>

#include <stddef.h>
#include <string.h>

struct annotation {
    PyTypeObject **type;
    const char *name;
    /* "def NAME(PARAMETERS) -> TYPE: ..." */
    const char *definition;
};

typedef struct {
    PyMethodDescrObject method;
    const struct annotation *annotation;
    PyObject *globals;
    /* The function without a body; NULL until the first access. */
    PyObject *function;
} AnnotatedMethod;

/* Return the function without a body, as a borrowed reference. */
static PyObject *annotated_method_function(AnnotatedMethod *self)
{
    if (self->function == NULL) {
        PyCompilerFlags flags = {
            .cf_flags = CO_FUTURE_ANNOTATIONS,
            .cf_feature_version = PY_MINOR_VERSION,
        };
        PyObject *defined = PyDict_New();
        PyObject *none = NULL, *function = NULL;
        if (defined != NULL)
            none = PyRun_StringFlags(
                self->annotation->definition, Py_file_input, self->globals, defined, &flags);
        if (none != NULL)
            function = PyMapping_GetItemString(defined, self->annotation->name);
        Py_XDECREF(none);
        Py_XDECREF(defined);
        if (function == NULL)
            return NULL;
        /* Another thread may have been faster. */
        if (self->function == NULL)
            self->function = function;
        else
            Py_DECREF(function);
    }
    return self->function;
}

static PyObject *annotated_method_get(PyObject *self, void *attribute)
{
    PyObject *function = annotated_method_function((AnnotatedMethod *)self);
    return function != NULL ? PyObject_GetAttrString(function, attribute) : NULL;
}

/* Return the docstring, which follows the signature in the text that CPython keeps. */
static PyObject *annotated_method_doc(PyObject *self, void *unused)
{
    static const char end[] = "\n--\n\n";
    const char *written = ((AnnotatedMethod *)self)->method.d_method->ml_doc;
    const char *doc = written != NULL ? strstr(written, end) : NULL;
    if (doc == NULL || doc[sizeof(end) - 1] == '\0')
        Py_RETURN_NONE;
    return PyUnicode_FromString(doc + sizeof(end) - 1);
}

/* Return None: inspect would prefer this text, which has no annotations, to the attributes. */
static PyObject *annotated_method_text_signature(PyObject *self, void *unused)
{
    Py_RETURN_NONE;
}

static int annotated_method_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((AnnotatedMethod *)self)->globals);
    Py_VISIT(((AnnotatedMethod *)self)->function);
    return PyMethodDescr_Type.tp_traverse(self, visit, arg);
}

static void annotated_method_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(((AnnotatedMethod *)self)->globals);
    Py_CLEAR(((AnnotatedMethod *)self)->function);
    /* The base's deallocator expects a tracked object. */
    PyObject_GC_Track(self);
    PyMethodDescr_Type.tp_dealloc(self);
}

/* Functions have __type_params__ from Python 3.12 on, __annotate__ from 3.14 on: before that, asking
 * for them is an AttributeError. */
static PyGetSetDef annotated_method_attributes[] = {
    {"__annotate__", annotated_method_get, NULL, NULL, "__annotate__"},
    {"__annotations__", annotated_method_get, NULL, NULL, "__annotations__"},
    {"__code__", annotated_method_get, NULL, NULL, "__code__"},
    {"__defaults__", annotated_method_get, NULL, NULL, "__defaults__"},
    {"__doc__", annotated_method_doc, NULL, NULL, NULL},
    {"__globals__", annotated_method_get, NULL, NULL, "__globals__"},
    {"__kwdefaults__", annotated_method_get, NULL, NULL, "__kwdefaults__"},
    {"__module__", annotated_method_get, NULL, NULL, "__module__"},
    {"__text_signature__", annotated_method_text_signature, NULL, NULL, NULL},
    {"__type_params__", annotated_method_get, NULL, NULL, "__type_params__"},
    {NULL, NULL, NULL, NULL, NULL},
};

/* METHOD_DESCRIPTOR lets the interpreter call a method without making a bound one. */
static PyTypeObject AnnotatedMethod_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "runtime.annotated_method",
    .tp_basicsize = sizeof(AnnotatedMethod),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
        | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_dealloc = annotated_method_dealloc,
    .tp_traverse = annotated_method_traverse,
    .tp_vectorcall_offset = offsetof(AnnotatedMethod, method.vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_getset = annotated_method_attributes,
};

/* Return an annotated method that calls what `plain` calls. */
static PyObject *annotated_method_new(
    PyMethodDescrObject *plain, const struct annotation *annotation, PyObject *globals)
{
    AnnotatedMethod *self = (AnnotatedMethod *)PyType_GenericAlloc(&AnnotatedMethod_Type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(plain->d_common.d_type);
    self->method.d_common.d_type = plain->d_common.d_type;
    Py_INCREF(plain->d_common.d_name);
    self->method.d_common.d_name = plain->d_common.d_name;
    Py_XINCREF(plain->d_common.d_qualname);
    self->method.d_common.d_qualname = plain->d_common.d_qualname;
    self->method.d_method = plain->d_method;
    self->method.vectorcall = plain->vectorcall;
    self->annotation = annotation;
    Py_INCREF(globals);
    self->globals = globals;
    return (PyObject *)self;
}

/* Annotate the methods of a module's classes. The entry after the last one has no type. */
static int annotate_methods(const struct annotation *annotation, PyObject *globals)
{
    if (annotation->type == NULL)
        return 0;
    /* Set here and not above: PyMethodDescr_Type belongs to the interpreter. */
    AnnotatedMethod_Type.tp_base = &PyMethodDescr_Type;
    AnnotatedMethod_Type.tp_descr_get = PyMethodDescr_Type.tp_descr_get;
    if (PyType_Ready(&AnnotatedMethod_Type) < 0)
        return -1;
    for (; annotation->type != NULL; annotation++) {
        PyObject *type = (PyObject *)*annotation->type;
        PyObject *plain = PyObject_GetAttrString(type, annotation->name);
        int result = plain != NULL ? 0 : -1;
        if (plain != NULL && Py_IS_TYPE(plain, &PyMethodDescr_Type)) {
            PyObject *annotated
                = annotated_method_new((PyMethodDescrObject *)plain, annotation, globals);
            result = annotated != NULL
                ? PyObject_SetAttrString(type, annotation->name, annotated) : -1;
            Py_XDECREF(annotated);
        }
        Py_XDECREF(plain);
        if (result < 0)
            return -1;
    }
    return 0;
}

#endif
