"""Build of the package: the modules that mypyc compiles, and the accelerator.

The metadata of the package are in pyproject.toml. A module that cannot be compiled is installed as
Python, with a warning, so that the package also works without a compiler.

Environment variables:

``RUNTIME_PURE=1``
    compiles nothing; the build then needs neither mypy nor a compiler.
``RUNTIME_REQUIRE_COMPILED=1``
    ends the installation with an error if a module or the accelerator cannot be compiled.
``RUNTIME_ACCELERATOR_ONLY=1``
    compiles the C accelerator and leaves the modules interpreted. For development and tests.
``RUNTIME_SANITIZE=address,undefined``
    compiles with these sanitizers; AddressSanitizer must then be preloaded. For tests.
``RUNTIME_UNKNOWN_PYTHON=1``
    installs on a Python that is newer than the newest tested version.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# A module is compiled if its code runs for every wake-up, timer or byte. It stays interpreted if it
# has a public `async def` (`inspect` does not recognise a compiled coroutine, and Python does not
# warn if it is never awaited), if it defines a class that programs subclass, subscript or refer to
# weakly (a compiled class supports none of these), or if its code runs rarely. Small modules that
# every program needs are compiled as well if compiled modules import them first: they are then
# initialized in memory, without a search for a file, and the program starts faster. The idioms of
# compiled modules are explained in src/runtime/kernel/native/mypyc.py.
COMPILED = (
    "src/runtime/kernel/arguments/advice.py",
    "src/runtime/kernel/arguments/callables.py",
    "src/runtime/kernel/arguments/file_descriptors.py",
    "src/runtime/kernel/arguments/seconds.py",
    "src/runtime/kernel/arguments/sizes.py",
    "src/runtime/kernel/compat/task_factory.py",
    "src/runtime/kernel/daemons.py",
    "src/runtime/kernel/diagnostics/durations.py",
    "src/runtime/kernel/diagnostics/step_sampler.py",
    "src/runtime/kernel/handles.py",
    "src/runtime/kernel/timers.py",
    "src/runtime/kernel/joined_writes.py",
    "src/runtime/kernel/write_buffer.py",
    "src/runtime/kernel/watcher.py",
    "src/runtime/kernel/kept_registrations.py",
    "src/runtime/kernel/poller.py",
    "src/runtime/kernel/scope_state.py",
    "src/runtime/kernel/scheduler.py",
    "src/runtime/kernel/future.py",
    "src/runtime/kernel/task.py",
    "src/runtime/kernel/scopes.py",
    "src/runtime/kernel/sleep_future.py",
    "src/runtime/kernel/descriptors.py",
    "src/runtime/kernel/observed_turns.py",
    "src/runtime/kernel/lifetime/recovery.py",
    "src/runtime/kernel/core.py",
    "src/runtime/kernel/recorded_turns.py",
    "src/runtime/net/connection/layers.py",
    "src/runtime/net/connection/receive_buffer.py",
    "src/runtime/net/connection/stream_socket.py",
    "src/runtime/net/connection/stream_adapter.py",
    "src/runtime/net/connection/protocol_adapter.py",
    "src/runtime/net/connection/tls.py",
    "src/runtime/net/connection/transport_pair.py",
    "src/runtime/net/datagrams/batch_size.py",
    "src/runtime/net/datagrams/datagram_socket.py",
    "src/runtime/net/datagrams/receive_queue.py",
    "src/runtime/net/sockets/calls.py",
    "src/runtime/sync/gather_core.py",
    "src/runtime/sync/group_core.py",
    "src/runtime/sync/timeout_core.py",
    "src/runtime/simulation/random_numbers.py",
    "src/runtime/simulation/choices.py",
    "src/runtime/simulation/choosers.py",
    "src/runtime/simulation/schedule.py",
    "src/runtime/system/pipe_ends.py",
    "src/runtime/system/read_end.py",
    "src/runtime/system/write_end.py",
)

# -g0: debugging information would contain the paths of the machine that builds.
ACCELERATOR = Extension(
    "runtime.kernel.native._accelerator",
    [
        f"src/runtime/kernel/native/_accelerator{part}.c"
        for part in ("", "_epoll", "_internet", "_receive_target", "_ring")
    ],
    depends=["src/runtime/kernel/native/_accelerator.h"],
    extra_compile_args=["-g0"],
)

MYPY = "mypy>=2.4,<2.5"

# The compiled modules share one library, which is inside the package under this name.
GROUP = "runtime._compiled"

# The separator between the signature and the docstring in the documentation of a C function.
SIGNATURE_END = r"\n--\n\n"


def wanted(variable: str) -> bool:
    """Return whether an environment variable is set, and neither empty nor 0."""
    return os.environ.get(variable, "0") not in {"", "0"}


def has_compiler() -> bool:
    """Return whether the C compiler that setuptools would use can be found."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(shlex.split(command)[0]) is not None


def warn(what: str, why: object) -> None:
    """Warn on stderr that a part was not compiled, and that the installation still works.

    Raises SystemExit if the environment variable RUNTIME_REQUIRE_COMPILED is set.
    """
    if wanted("RUNTIME_REQUIRE_COMPILED"):
        sys.exit(f"runtime: {what} not compiled, and RUNTIME_REQUIRE_COMPILED is set: {why}")
    lines = (
        f"{what} not compiled: {why}",
        "The Python version of this part is installed: everything works, but slower.",
        "Set RUNTIME_PURE=1 to build without this warning, or RUNTIME_REQUIRE_COMPILED=1 to fail.",
    )
    for line in lines:
        print(f"WARNING (runtime): {line}", file=sys.stderr, flush=True)


OLDEST = (3, 11)
# The newest Python that the test suite ran on.
NEWEST = (3, 15)


def check_interpreter(version: tuple[int, ...] = sys.version_info[:2]) -> None:
    """End the installation with a message if this Python is too old, or newer than those tested."""
    running = ".".join(map(str, version))
    if version < OLDEST:
        sys.exit(f"runtime needs Python {'.'.join(map(str, OLDEST))} or newer; this is {running}.")
    if version > NEWEST and not wanted("RUNTIME_UNKNOWN_PYTHON"):
        sys.exit(
            f"This version of runtime was tested up to Python {'.'.join(map(str, NEWEST))}; this "
            f"is {running}. Look for a newer version of runtime, or set RUNTIME_UNKNOWN_PYTHON=1 "
            "to install it all the same."
        )


check_interpreter()

PLATFORM_COMPILES = sys.implementation.name == "cpython" and sys.platform != "win32"
PURE = wanted("RUNTIME_PURE") or not PLATFORM_COMPILES
ACCELERATOR_ONLY = wanted("RUNTIME_ACCELERATOR_ONLY")


def module_name(path: str) -> str:
    """Return the dotted name of the module in a file below src."""
    return ".".join(Path(path).relative_to("src").with_suffix("").parts)


# Their sources are added by translate(), which runs only if the build gets to these extensions.
NATIVE = [Extension(name, sources=[]) for name in (f"{GROUP}__mypyc", *map(module_name, COMPILED))]


SANITIZERS = os.environ.get("RUNTIME_SANITIZE", "")


def sanitize(extension: Extension) -> None:
    """Add the sanitizers of RUNTIME_SANITIZE, if any, to the compiler flags of ``extension``."""
    if not SANITIZERS:
        return
    flags = [f"-fsanitize={SANITIZERS}", "-fno-omit-frame-pointer"]
    if "undefined" in SANITIZERS:
        flags += ["-fsanitize=float-cast-overflow", "-fno-sanitize-recover=all"]
    extension.extra_compile_args = [*extension.extra_compile_args, *flags, "-O1", "-g"]
    extension.extra_link_args = [*extension.extra_link_args, *flags]


sanitize(ACCELERATOR)


def translate() -> None:
    """Translate the modules of COMPILED to C with mypyc, and add the sources to NATIVE."""
    from mypyc.build import mypycify  # Only installed if modules are to be compiled.

    translated = mypycify(
        [
            # Only the types of these modules have to be right here, and only for this Python. The
            # types of other modules, and superfluous ignores, are checked by `make lint`.
            "--follow-imports=silent",
            "--no-warn-unused-ignores",
            "--no-warn-unreachable",
            *COMPILED,
        ],
        opt_level="3",
        debug_level="0",  # As for ACCELERATOR.
        group_name=GROUP,
    )
    library = next(
        Path(part) for one in translated for part in one.sources if "__native_" in str(part)
    )
    mend(library)
    mend_header(library.with_suffix(".h"))
    complete = {extension.name: extension for extension in translated}
    for extension in NATIVE:
        vars(extension).update(vars(complete[extension.name]))
        # mypyc turns warnings into errors; a compiler with new warnings must not fail the build.
        extension.extra_compile_args.append("-Wno-error")
        sanitize(extension)


def mend(source: Path) -> None:
    """Apply corrections to the C code that mypyc has written: see the functions below.

    Raises RuntimeError if a correction does not fit the code, which another mypyc has written then.
    """
    repairs = (
        with_loaders,
        with_files,
        with_lasting_globals,
        with_stores_that_exchange,
        with_paths_of_sources,
        with_weak_references,
        with_safe_free_lists,
        with_direct_calls,
        with_direct_arguments,
        with_known_owners,
        with_cheap_ends,
        with_docstrings,
        with_annotations,
    )
    _repair(source, repairs)


def mend_header(source: Path) -> None:
    """Correct, as ``mend`` does, the header that declares the structures of the objects."""
    _repair(source, (with_weak_reference_lists,))


def _repair(source: Path, repairs: tuple[Callable[[str], str], ...]) -> None:
    text = source.read_text()
    for repair in repairs:
        try:
            text = repair(text)
        except ValueError as error:
            raise RuntimeError(
                f"{source} has another form than mypyc {MYPY} gives it: {error}"
            ) from None
    source.write_text(text)


def with_loaders(text: str) -> str:
    """Let the import system set the ``__loader__`` of each module.

    mypyc makes a ``__loader__`` for each module. Its path is wrong, since the library is inside the
    package. And it is not the same object as ``__spec__.loader``, about which Python 3.15 warns for
    every frame of a traceback. If there is none, the import system sets its own.
    """
    pattern = r"(rv = CPyImport_SetDunderAttrs\((\w+),[^;]*\);)\n"
    without = r'\1\n    if (rv == 0) rv = PyObject_SetAttrString(\2, "__loader__", Py_None);\n'
    text, count = re.subn(pattern, without, text)
    if count != len(COMPILED):
        raise ValueError(f"it sets the attributes of {count} modules, not {len(COMPILED)}")
    return text


FILE_BESIDE_PACKAGE = r"""
/* Return the path of the library as if it were beside the package, and not inside it. */
static PyObject *beside_package(PyObject *file)
{
    static PyObject *moved = NULL;

    if (moved == NULL && file != NULL && PyUnicode_Check(file)) {
        Py_ssize_t size = PyUnicode_GetLength(file);
        Py_ssize_t name = PyUnicode_FindChar(file, '/', 0, size, -1);
        Py_ssize_t folder = name > 0 ? PyUnicode_FindChar(file, '/', 0, name, -1) : -1;
        PyObject *above = folder >= 0 ? PyUnicode_Substring(file, 0, folder) : NULL;
        PyObject *last = folder >= 0 ? PyUnicode_Substring(file, name, size) : NULL;
        moved = above != NULL && last != NULL ? PyUnicode_Concat(above, last) : NULL;
        Py_XDECREF(above);
        Py_XDECREF(last);
        if (moved == NULL)
            PyErr_Clear();
    }
    return moved != NULL ? moved : file;
}

#define CPyImport_SetDunderAttrs(module, name, file, suffix, is_package) \
    CPyImport_SetDunderAttrs(module, name, beside_package(file), suffix, is_package)
#define CPyImport_ImportNative(a, b, c, d, e, f, g, file, suffix, is_package) \
    CPyImport_ImportNative(a, b, c, d, e, f, g, beside_package(file), suffix, is_package)
"""


def with_files(text: str) -> str:
    """Correct the ``__file__`` of modules that other compiled modules import directly, in C.

    mypyc appends the full name of the module to the folder of the library, and expects the library
    beside the package. Here it is inside the package.
    """
    if "CPyImport_ImportNative(" not in text:
        raise ValueError("it imports its modules in another way")
    return after_includes(text, FILE_BESIDE_PACKAGE)


def after_includes(text: str, addition: str) -> str:
    """Return the C code ``text`` with ``addition`` after its includes."""
    includes = list(re.finditer(r"^#include .*\n", text, re.MULTILINE))
    if not includes:
        raise ValueError("it includes nothing")
    place = includes[-1].end()
    return text[:place] + addition + text[place:]


def with_lasting_globals(text: str) -> str:
    """Keep the globals of each module alive.

    A Python function holds a reference to the globals of its module; a function of mypyc does not.
    When the interpreter ends, it deallocates modules, and then runs the finalizers of objects that
    are still alive, which may call compiled functions. If such a function raises an exception, it
    uses the globals to add a frame to the traceback, and would read freed memory.
    """
    pattern = r"\n( *)(CPyStatic_\w+___globals) = PyModule_GetDict\(\w+\);(?=\n)"
    text, count = re.subn(pattern, r"\g<0>\n\1Py_XINCREF(\2);", text)
    if count != len(COMPILED):
        raise ValueError(f"it takes the globals of {count} modules, not {len(COMPILED)}")
    return text


def with_stores_that_exchange(text: str) -> str:
    """Release the old object of an attribute only after the new one is stored.

    mypyc releases the old object first. This may run a finalizer, and if the finalizer uses the
    same attribute, it finds a deallocated object there, and may release it a second time. Integers
    need no such care: to release one runs no code.
    """
    slot = r"(?:\(\(\w+ \*\)\w+\)|self)->\w+"
    pattern = (
        rf"^( *)(?:if \({slot} != NULL\) \{{\n *)?CPy_DECREF\(({slot})\);\n"
        rf"(?: *\}}\n)? *({slot}) = (\w+);\n"
    )

    def exchange(store: re.Match[str]) -> str:
        indent, released, target, value = store.groups()
        if released != target:
            raise ValueError(f"it releases {released} and stores into {target}")
        lines = (
            "{",
            f"    PyObject *replaced = {target};",
            f"    {target} = {value};",
            "    CPy_XDECREF(replaced);",
            "}",
        )
        return "".join(f"{indent}{line}\n" for line in lines)

    # From the start of a line: otherwise each of its leading blanks would be tried.
    text, count = re.subn(pattern, exchange, text, flags=re.MULTILINE)
    left = re.findall(r"\bCPy_\w*DECREF\([^;\n]*->[^;\n]*\);", text, re.IGNORECASE)
    if left or not count:
        raise ValueError(f"after {count} stores into attributes, this is left: {left[:3]}")
    print(f"mended {count} stores into attributes", flush=True)
    return text


PATHS_OF_SOURCES = r"""
/* The path for each module, by its globals, which are never freed: see with_lasting_globals(). */
#define MOST_MODULES 256
static struct {
    PyObject *globals;
    const char *path;
} known_sources[MOST_MODULES];

/* Return the path of a module's source, in the folder of the module; `path` if it is not known. */
static const char *path_of_source(const char *path, PyObject *globals)
{
    PyObject *type, *value, *traceback;
    const char *name = strrchr(path, '/');
    const char *found = NULL;
    size_t place = ((size_t)globals >> 4) % MOST_MODULES;
    size_t left = MOST_MODULES;

    if (globals == NULL || name == NULL)
        return path;
    for (; left > 0 && known_sources[place].globals != NULL; left--) {
        if (known_sources[place].globals == globals)
            return known_sources[place].path;
        place = (place + 1) % MOST_MODULES;
    }
    if (left == 0)
        return path;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *module = PyDict_GetItemString(globals, "__file__");
    if (module != NULL && PyUnicode_Check(module)) {
        Py_ssize_t size = PyUnicode_GetLength(module);
        Py_ssize_t end = PyUnicode_FindChar(module, '/', 0, size, -1);
        PyObject *folder = end >= 0 ? PyUnicode_Substring(module, 0, end) : NULL;
        /* Never released, since the text of the path is used from now on. */
        PyObject *source = folder != NULL ? PyUnicode_FromFormat("%U%s", folder, name) : NULL;
        Py_XDECREF(folder);
        found = source != NULL ? PyUnicode_AsUTF8(source) : NULL;
    }
    if (found != NULL) {
        known_sources[place].path = found;
        known_sources[place].globals = globals;
    }
    PyErr_Restore(type, value, traceback);
    return found != NULL ? found : path;
}

#define CPy_AddTraceback(path, function, line, globals) \
    CPy_AddTraceback(path_of_source(path, globals), function, line, globals)
#define CPy_TypeErrorTraceback(path, function, line, globals, expected, value) \
    CPy_TypeErrorTraceback(path_of_source(path, globals), function, line, globals, expected, value)
#define CPy_AttributeError(path, function, type, name, line, globals) \
    CPy_AttributeError(path_of_source(path, globals), function, type, name, line, globals)
"""


def with_paths_of_sources(text: str) -> str:
    """Name the installed source file in the frames of compiled functions.

    mypyc writes the path at the time of the build, "src/runtime/...", into the code. Where the
    package is installed there is no such file, so that tracebacks would not show lines of code.
    """
    if 'CPy_AddTraceback("src/runtime/' not in text:
        raise ValueError("it adds no frames to tracebacks")
    return after_includes(text, PATHS_OF_SOURCES)


WEAKLY_REFERABLE = (
    ("handles", "Handle"),
    ("handles", "ThreadsafeHandle"),
    ("timers", "TimerHandle"),
)
"""Compiled classes whose objects support weak references, and their subclasses."""


def with_weak_reference_lists(text: str) -> str:
    """Add the field for weak references to the structures of some classes.

    The field is at the same offset in each, since a subclass begins with the layout of its base.
    """
    for module, name in WEAKLY_REFERABLE:
        first = "    PyObject_HEAD\n    CPyVTableItem *vtable;\n"
        end = f"}} runtime___kernel___{module}___{name}Object;"
        begin = text.rfind(first, 0, text.find(end))
        place = begin + len(first)
        if begin < 0 or "typedef" in text[place : text.find(end)]:
            raise ValueError(f"its {name} is another one")
        text = text[:place] + "    PyObject *weak_references;\n" + text[place:]
    return text


def with_weak_references(text: str) -> str:
    """Make the objects of some classes support weak references, which mypyc's classes do not."""
    for module, name in WEAKLY_REFERABLE:
        owner = f"{module}___{name}"
        structure = f"runtime___kernel___{owner}Object"
        size = f".tp_basicsize = sizeof({structure}),\n"
        dealloc = rf"{owner}_dealloc\({structure} \*self\)\n *{{\n *PyObject_GC_UnTrack\(self\);\n"
        clear = "if (self->weak_references != NULL) PyObject_ClearWeakRefs((PyObject *)self);\n"
        text, count = re.subn(dealloc, rf"\g<0>{clear}", text)
        if text.count(size) != 1 or count != 1:
            raise ValueError(f"its {name} is another one")
        offset = f".tp_weaklistoffset = offsetof({structure}, weak_references),\n"
        text = text.replace(size, size + offset)
    return text


def with_safe_free_lists(text: str) -> str:
    """Put a deallocated object into the free list of its class only when it has been cleared.

    mypyc puts it there first. Clearing it may run a finalizer, and if the finalizer makes an object
    of the same class, it would get the object that is still being cleared.
    """
    pattern = (
        r"(?m)^( *)if \((\w+_free_instance) == NULL\) \{\n *\2 = self;\n"
        r"((?:.*;\n)*?) *return;\n *\}\n"
        r"((?:.*\n){2}) *(Py_TYPE\(self\)->tp_free\(\(PyObject \*\)self\);\n)"
    )

    def reorder(dealloc: re.Match[str]) -> str:
        indent, free_instance, fields, clear, free = dealloc.groups()
        lines = fields.splitlines()
        reset = [line for line in lines if not line.lstrip().startswith(("Py_CLEAR", "CPyTagged"))]
        if "_clear((PyObject *)self);" not in clear:
            raise ValueError(f"it clears the object for {free_instance} in another way")
        block = "\n".join([f"{indent}    {free_instance} = self;", *reset])
        condition = f"if ({free_instance} == NULL) {{"
        return f"{clear}{indent}{condition}\n{block}\n{indent}}} else\n{indent}    {free}"

    text, count = re.subn(pattern, reorder, text)
    if count != len(re.findall(r"\b\w+_free_instance = self;", text)) or count == 0:
        raise ValueError("it fills its free lists in another way")
    return text


DIRECT_CALLS = "src/runtime/kernel/native/_direct_calls.h"


def with_direct_calls(text: str) -> str:
    """Call functions in C without the detour of a vectorcall: the header explains how.

    ``_bare_future`` and ``_bare_task`` are ``__new__``, which would take a tuple of its arguments.
    ``_run_in`` is ``Context.run``.
    """
    text = text.replace("PyObject_Vectorcall(", "CALL_DIRECTLY(")
    for alias, function in (
        ("core____bare_\\w+", "new_bare"),
        ("handles____run_in", "run_in_context"),
    ):
        pattern = (
            rf"((cpy_r_r\d+) = CPyStatic_{alias};\n(?:.*\n)*?.*)"
            r"CALL_DIRECTLY\(\2, (\w+), (\d), 0\)"
        )
        text, count = re.subn(pattern, rf"\1{function}(\3, \4)", text)
        if count != 2:
            raise ValueError(f"it calls {alias} {count} times, not twice")
    return after_includes(text, Path(DIRECT_CALLS).read_text())


def with_direct_arguments(text: str) -> str:
    """Take positional arguments directly in methods that have ``*args``, options or both.

    mypyc does this only for other methods. Its general parser, which reads a format, takes a tenth
    of a ``call_soon``.
    """
    pattern = (
        r'parser = \{"%?(O+)(?:\|\$O+)?:\w+", kwlist, 0\};\n(?:.*;\n)+?'
        r"( *)if \(!CPyArg_ParseStackAndKeywords\(args, nargs, kwnames, &parser, (.*)\)\) \{\n"
    )

    def take(wrapper: re.Match[str]) -> str:
        required, indent, targets = wrapper.groups()
        count = len(required)
        names = [name.lstrip("&") for name in targets.split(", ")]
        star = options = "NULL"
        if "%" in wrapper[0][: wrapper[0].index("kwlist")]:
            star, options, *names = names
        lines = [f"{name} = args[{place}];" for place, name in enumerate(names[:count])]
        if star != "NULL":
            lines.append(f"{star} = tuple_of(args + {count}, nargs - {count});")
            lines.append(f"if ({star} == NULL) return NULL;")
        if options != "NULL":
            lines.append(f"{options} = PyDict_New();")
            lines.append(f"if ({options} == NULL) return NULL;")
        if star != "NULL" and options != "NULL":
            raise ValueError("a method has both *args and **options")
        relation = "==" if star == "NULL" else ">="
        body = "".join(f"{indent}    {line}\n" for line in lines)
        call = wrapper[0].rindex(f"{indent}if (!CPyArg")
        return (
            f"{wrapper[0][:call]}{indent}if (kwnames == NULL && nargs {relation} {count}) {{\n"
            f"{body}{indent}}} else {wrapper[0][call:].lstrip()}"
        )

    text, count = re.subn(pattern, take, text)
    if count == 0:
        raise ValueError("it parses arguments in another way")
    return text


def with_known_owners(text: str) -> str:
    """Do not check the type of ``self`` in the function behind a method.

    The method descriptor, which calls the function, has checked it. Objects of the interpreted
    subclasses, such as ``Task``, make each check a search of the bases of their class.
    """
    pattern = (
        r"(?m)^( *)if \(likely\(PyObject_TypeCheck\(obj_self, CPyType_\w+\)\)\)\n"
        r" *arg_self = obj_self;\n *else \{\n.*\n *goto fail;\n *\}\n"
    )
    text, count = re.subn(pattern, r"\1arg_self = obj_self;\n", text)
    if count == 0:
        raise ValueError("it checks the type of self in another way")
    return text


def with_cheap_ends(text: str) -> str:
    """End the iteration of a generator or a sleep without an exception if its result is None.

    ``await`` takes the end of an iteration without an exception for the result None. Most futures
    that the package itself awaits end with None.
    """
    pattern = (
        r"(static PyTypeObject CPyType_(\w+_gen)_template_ = \{\n)((?:.*\n)*?)"
        r" *\.tp_iternext = \w+,\n"
    )
    text, count = re.subn(
        pattern,
        r"static PyObject *next_of_\2(PyObject *self)\n{\n"
        r"    return next_by_send(self, CPyDunder_am_send\2);\n}\n\n"
        r"\1\3    .tp_iternext = next_of_\2,\n",
        text,
    )
    if count == 0:
        raise ValueError("it has no generators")
    pattern = (
        r"(static PyTypeObject CPyType_sleep_future___SleepFuture_template_ = \{\n)((?:.*\n)*?)"
        r" *\.tp_iternext = \w+,\n"
    )
    text, count = re.subn(
        pattern,
        r"static PyObject *next_of_sleep_future(PyObject *self)\n{\n"
        r"    return yielded_or_end(CPyDef_sleep_future___SleepFuture____resume(self));\n}\n\n"
        r"\1\2    .tp_iternext = next_of_sleep_future,\n",
        text,
    )
    if count != 1:
        raise ValueError("its SleepFuture is not an iterator")
    return text


Edits = dict[int, tuple[int, str]]
"""Replacements of parts of a text: the begin of each part, its end, and the new text."""


def with_docstrings(text: str) -> str:
    """Add the docstrings of classes, functions and properties; mypyc writes only signatures."""
    edits: Edits = {}
    for path in COMPILED:
        module = Path(path).stem
        for node in ast.parse(Path(path).read_text()).body:
            if isinstance(node, ast.ClassDef):
                _document_class(text, edits, module, node)
            elif isinstance(node, ast.FunctionDef):
                _document(text, edits, f"(PyCFunction)CPyPy_{module}___{node.name},", node)
    parts = []
    done = 0
    for begin, (end, replacement) in sorted(edits.items()):
        parts += [text[done:begin], replacement]
        done = end
    return "".join([*parts, text[done:]])


def _document_class(text: str, edits: Edits, module: str, node: ast.ClassDef) -> None:
    prefix = f"{module}___{node.name}"
    _document(text, edits, f"PyTypeObject CPyType_{prefix}_template_ = {{", node)
    for method in node.body:
        if isinstance(method, ast.FunctionDef):
            decorators = [one.id for one in method.decorator_list if isinstance(one, ast.Name)]
            if "property" in decorators:
                _document(text, edits, f"(getter){prefix}_get_{method.name},", method)
            else:
                _document(text, edits, f"(PyCFunction)CPyPy_{prefix}___{method.name},", method)


def c_text(text: str) -> str:
    """Return the text as it is written between quotation marks in C."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _document(text: str, edits: Edits, marker: str, node: ast.ClassDef | ast.FunctionDef) -> None:
    """Add the edit that puts the docstring of ``node`` into the C code after ``marker``."""
    docstring = ast.get_docstring(node)
    if docstring is None:
        return
    escaped = c_text(docstring)
    begin = text.find(marker)
    end = text.find("}", begin)
    signature = text.rfind(SIGNATURE_END, begin, end)
    if signature >= 0:
        place = signature + len(SIGNATURE_END)
        edit = place, escaped
    else:
        # A property has a NULL for its documentation, and a second one for a closure. A class
        # without a signature has PyDoc_STR(NULL), inside which another PyDoc_STR does no harm.
        last = text.rfind("NULL", begin, end)
        place = text.rfind("NULL", begin, last) if marker.startswith("(getter)") else last
        edit = place + len("NULL"), f'PyDoc_STR("{escaped}")'
    if begin >= 0 and place >= 0:
        edits[place] = edit
    elif not node.name.startswith("_"):
        raise ValueError(f"there is no place for the docstring of {marker}")


ANNOTATED = (
    ("handles", "Runnable"),
    ("scheduler", "Scheduler"),
    ("core", "LoopCore"),
    ("future", "FutureCore"),
    ("task", "TaskCore"),
    ("group_core", "GroupCore"),
    ("timeout_core", "TimeoutCore"),
)
"""Compiled classes whose public methods have the annotations of their sources.

They are bases of ``Loop``, ``Future``, ``Task``, ``TaskGroup`` and ``Timeout``, and no object is
of one of them itself. This is why their annotations cost nothing: CPython's faster instructions for
calls of methods in C take only a method whose type is exactly ``method_descriptor``, and only an
object whose type is exactly the class that defines the method. For ``Handle`` the second holds:
with annotations, ``handle.cancelled()`` would take a third more instructions on CPython 3.11.
"""

ANNOTATED_METHODS = "src/runtime/kernel/native/_annotated_methods.h"


def with_annotations(text: str) -> str:
    """Give the methods of some classes their annotations, which mypyc leaves out.

    The header explains how. Each module annotates its methods at the end of its import.
    """
    tables = [Path(ANNOTATED_METHODS).read_text()]
    for path in COMPILED:
        module = Path(path).stem
        owners = [name for owner, name in ANNOTATED if owner == module]
        entries = []
        for node in ast.parse(Path(path).read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name in owners:
                owners.remove(node.name)
                entries += _annotations(module, node)
        if owners:
            raise ValueError(f"there is no class {module}.{owners[0]}")
        if entries:
            entries.append("{NULL, NULL, NULL},")
            table = "\n".join(f"    {entry}" for entry in entries)
            tables.append(
                f"static const struct annotation {module}_annotations[] = {{\n{table}\n}};\n"
            )
            pattern = (
                rf"(?<=char result = CPyDef_{module}_____top_level__\(\);\n)"
                r"( *)if \(result == 2\)(?=\n *goto fail;)"
            )
            annotated = (
                rf"\1if (result == 2\n\1    || annotate_methods({module}_annotations,"
                rf" CPyStatic_{module}___globals) < 0)"
            )
            text, count = re.subn(pattern, annotated, text)
            if count != 1:
                raise ValueError(f"it imports {module} in another way")
    return after_includes(text, "\n".join(["", *tables]))


def _annotations(module: str, node: ast.ClassDef) -> list[str]:
    """Return an entry of the table for each public method of a class."""
    entries = []
    for method in node.body:
        if (
            isinstance(method, ast.FunctionDef)
            and not method.name.startswith("_")
            and not method.decorator_list
        ):
            method.body = [ast.Expr(ast.Constant(...))]
            definition = c_text(ast.unparse(method))
            entries.append(f'{{&CPyType_{module}___{node.name}, "{method.name}", "{definition}"}},')
    return entries


class BuildPackage(build_py):
    """Copies the Python files into a folder without files of an earlier build.

    A compiled module of an earlier build would be installed, and would be imported in place of its
    current source.
    """

    def run(self) -> None:
        """Empty the folder, and copy the files."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "runtime"), ignore_errors=True)
        super().run()


class BuildExtensions(build_ext):
    """Builds the compiled modules and the accelerator; leaves out the ones that fail to build."""

    def run(self) -> None:
        """Remove the products of an earlier build from the source tree, and build."""
        if self.inplace:
            for product in Path("src/runtime").rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
                product.unlink()
        super().run()

    def build_extensions(self) -> None:
        """Translate and build the modules, all or none of them, and the accelerator."""
        asked_for = self.extensions
        self.extensions = []
        if NATIVE[0] in asked_for:
            try:
                translate()
            except (Exception, SystemExit) as error:  # mypyc exits if it finds a type error.
                warn("the kernel's modules were", f"mypyc failed, see above ({error!r})")
            else:
                self.extensions += self._build_all(NATIVE, "the kernel's modules were")
        self.extensions += self._build_all([ACCELERATOR], "the C accelerator was")

    def _build_all(self, extensions: list[Extension], what: str) -> list[Extension]:
        """Build ``extensions``; return them, or an empty list if any of them fails.

        In that case the extensions that were built are removed again: without the library that they
        share, they would hide their own sources, and fail on import.
        """
        try:
            for extension in extensions:
                self.build_extension(extension)
        except Exception as error:
            warn(what, error)
            for extension in extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            return []
        return extensions


class BuildWheel(bdist_wheel):
    """Builds the wheel: one for any platform if all compilations have failed."""

    def run(self) -> None:
        """Build the package, check whether extensions were compiled, and make the wheel."""
        self.run_command("build")
        self.skip_build = True  # Otherwise everything would be compiled a second time.
        if not self.get_finalized_command("build_ext").extensions:
            self.distribution.ext_modules = []
            self.root_is_pure = True
        super().run()


if PURE and wanted("RUNTIME_REQUIRE_COMPILED"):
    sys.exit(
        "runtime: RUNTIME_REQUIRE_COMPILED is set, but so is RUNTIME_PURE, or nothing can be "
        "compiled on this platform."
    )

if not PURE and not has_compiler():
    warn("the kernel's modules and the C accelerator were", "no C compiler was found")
    PURE = True

EXTENSIONS = [] if PURE else [ACCELERATOR] if ACCELERATOR_ONLY else [*NATIVE, ACCELERATOR]

setup(
    # A requirement of the build, not of the package: see [build-system] in pyproject.toml.
    setup_requires=[MYPY] if NATIVE[0] in EXTENSIONS else [],
    ext_modules=EXTENSIONS,
    cmdclass={
        "bdist_wheel": BuildWheel,
        "build_ext": BuildExtensions,
        "build_py": BuildPackage,
    },
)
