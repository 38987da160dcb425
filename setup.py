"""The build: the modules that mypyc compiles, the accelerator, and a build without a compiler.

Everything else about the package is in pyproject.toml. Nothing here is needed to run the package:
whatever cannot be compiled is installed as the Python that it is, with a warning.

Environment variables:

``RUNTIME_PURE=1``
    compiles nothing; neither mypy nor a compiler is asked for.
``RUNTIME_REQUIRE_COMPILED=1``
    ends the installation with an error where something that was to be compiled cannot be.
``RUNTIME_ACCELERATOR_ONLY=1``
    compiles the C accelerator and leaves the modules interpreted. For development and tests.
``RUNTIME_SANITIZE=address,undefined``
    builds what is compiled with these sanitizers; AddressSanitizer must then be preloaded. For
    tests.
``RUNTIME_UNKNOWN_PYTHON=1``
    installs it on a Python that is newer than any it was tested on.
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

# A module is compiled when it is on the way of every wake-up, timer or byte. It stays interpreted
# when it has a public `async def` (a compiled one is no coroutine to `inspect`, and does not warn
# when it is never awaited), when it defines a class that users subclass, subscript or refer to
# weakly (a compiled class can do none of these), or when nothing in it runs often.
COMPILED = (
    "src/runtime/kernel/arguments/seconds.py",
    "src/runtime/kernel/handles.py",
    "src/runtime/kernel/timers.py",
    "src/runtime/kernel/write_buffer.py",
    "src/runtime/kernel/poller.py",
    "src/runtime/kernel/scheduler.py",
    "src/runtime/kernel/future.py",
    "src/runtime/kernel/task.py",
    "src/runtime/kernel/sleep_future.py",
    "src/runtime/kernel/descriptors.py",
    "src/runtime/kernel/core.py",
    "src/runtime/net/connection/layers.py",
    "src/runtime/net/connection/receive_buffer.py",
    "src/runtime/net/connection/stream_socket.py",
    "src/runtime/net/connection/stream_adapter.py",
    "src/runtime/net/connection/protocol_adapter.py",
    "src/runtime/net/connection/tls.py",
    "src/runtime/net/connection/transport_lower.py",
    "src/runtime/net/datagrams/batch_size.py",
    "src/runtime/net/datagrams/datagram_socket.py",
    "src/runtime/net/datagrams/receive_queue.py",
    "src/runtime/net/sockets/calls.py",
    "src/runtime/sync/gather_core.py",
    "src/runtime/system/pipe_ends.py",
    "src/runtime/system/read_end.py",
    "src/runtime/system/write_end.py",
)

# Without debugging information, which would hold the paths of the building machine.
ACCELERATOR = Extension(
    "runtime.kernel.native._accelerator",
    [
        f"src/runtime/kernel/native/_accelerator{part}.c"
        for part in ("", "_epoll", "_internet", "_receive_target")
    ],
    depends=["src/runtime/kernel/native/_accelerator.h"],
    extra_compile_args=["-g0"],
)

MYPY = "mypy>=2.4,<2.5"

# The compiled modules share one library, which lies inside the package under this name.
GROUP = "runtime._compiled"

# How the text of a signature ends, as Python reads it from what documents a function in C.
SIGNATURE_END = r"\n--\n\n"


def wanted(variable: str) -> bool:
    """Return whether an environment variable is set to something other than nothing or 0."""
    return os.environ.get(variable, "0") not in {"", "0"}


def has_compiler() -> bool:
    """Return whether the C compiler that would be used can be found."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(shlex.split(command)[0]) is not None


def warn(what: str, why: object) -> None:
    """Say on stderr what was not compiled, and that the installation works all the same.

    Raises SystemExit when it must be compiled.
    """
    if wanted("RUNTIME_REQUIRE_COMPILED"):
        sys.exit(f"runtime: {what} not compiled, and RUNTIME_REQUIRE_COMPILED is set: {why}")
    lines = (
        f"{what} not compiled: {why}",
        "What was not compiled is installed in pure Python: everything works, but slower.",
        "RUNTIME_PURE=1 asks for that, without this; RUNTIME_REQUIRE_COMPILED=1 makes it an error.",
    )
    for line in lines:
        print(f"WARNING (runtime): {line}", file=sys.stderr, flush=True)


OLDEST = (3, 11)
# The newest Python that the test suite ran on.
NEWEST = (3, 15)


def check_interpreter(version: tuple[int, ...] = sys.version_info[:2]) -> None:
    """End the installation with a message when this Python is too old, or not known yet."""
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


# Without their sources as yet: those are written when, and only when, the build comes to them.
NATIVE = [Extension(name, sources=[]) for name in (f"{GROUP}__mypyc", *map(module_name, COMPILED))]


SANITIZERS = os.environ.get("RUNTIME_SANITIZE", "")


def sanitize(extension: Extension) -> None:
    """Have ``extension`` built with the compiler's sanitizers that were asked for, if any."""
    if not SANITIZERS:
        return
    flags = [f"-fsanitize={SANITIZERS}", "-fno-omit-frame-pointer"]
    if "undefined" in SANITIZERS:
        flags += ["-fsanitize=float-cast-overflow", "-fno-sanitize-recover=all"]
    extension.extra_compile_args = [*extension.extra_compile_args, *flags, "-O1", "-g"]
    extension.extra_link_args = [*extension.extra_link_args, *flags]


sanitize(ACCELERATOR)


def translate() -> None:
    """Translate the modules of COMPILED to C, and complete NATIVE with what comes out."""
    from mypyc.build import mypycify  # only there when something is to be compiled

    translated = mypycify(
        [
            # What matters here is that the types of these modules are right, on this Python. Those
            # of the others, and whether an ignore is superfluous, are the linter's business.
            "--follow-imports=silent",
            "--no-warn-unused-ignores",
            "--no-warn-unreachable",
            *COMPILED,
        ],
        opt_level="3",
        debug_level="0",  # as for ACCELERATOR
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
        # mypyc makes warnings errors; a compiler that warns of more must not cost the build.
        extension.extra_compile_args.append("-Wno-error")
        sanitize(extension)


def mend(source: Path) -> None:
    """Mend what mypyc has written in seven respects; the functions below say which.

    Raises RuntimeError when one of them is not what it was: this mypyc is another one.
    """
    repairs = (
        with_loaders,
        with_files,
        with_lasting_globals,
        with_stores_that_exchange,
        with_paths_of_sources,
        with_weak_references,
        with_docstrings,
    )
    _repair(source, repairs)


def mend_header(source: Path) -> None:
    """As ``mend``, for the header that declares the structures of the objects."""
    _repair(source, (with_weak_reference_lists,))


def _repair(source: Path, repairs: tuple[Callable[[str], str], ...]) -> None:
    text = source.read_text()
    for repair in repairs:
        try:
            text = repair(text)
        except ValueError as error:
            raise RuntimeError(f"{source} is not what mypyc {MYPY} writes: {error}") from None
    source.write_text(text)


def with_loaders(text: str) -> str:
    """Leave the loaders of the modules to the import system.

    mypyc gives each module a ``__loader__`` of its own making. Since the library lies inside the
    package, its path is wrong, and it is not ``__spec__.loader``, of which Python 3.15 warns for
    every frame of a traceback. Without one, the import system puts its own there.
    """
    pattern = r"(rv = CPyImport_SetDunderAttrs\((\w+),[^;]*\);)\n"
    without = r'\1\n    if (rv == 0) rv = PyObject_SetAttrString(\2, "__loader__", Py_None);\n'
    text, count = re.subn(pattern, without, text)
    if count != len(COMPILED):
        raise ValueError(f"it sets the attributes of {count} modules, not {len(COMPILED)}")
    return text


FILE_BESIDE_PACKAGE = r"""
/* Return the path of the library as if it lay beside the package that it lies in. */
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
    """Have the modules that others import directly, in C, know their files.

    mypyc appends the whole name of the module to the folder of the library, which it takes to lie
    beside the package, and not in it.
    """
    if "CPyImport_ImportNative(" not in text:
        raise ValueError("it imports its modules in another way")
    return after_includes(text, FILE_BESIDE_PACKAGE)


def after_includes(text: str, addition: str) -> str:
    """Return the C with something more behind its includes."""
    includes = list(re.finditer(r"^#include .*\n", text, re.MULTILINE))
    if not includes:
        raise ValueError("it includes nothing")
    place = includes[-1].end()
    return text[:place] + addition + text[place:]


def with_lasting_globals(text: str) -> str:
    """Have the compiled functions of a module own its globals.

    Functions of Python do. Those of mypyc use the dictionary of a module that may be gone: when the
    interpreter ends, modules go before the finalizers of what was still alive call into them, and
    an exception there, which adds to its traceback, reads freed memory.
    """
    pattern = r"\n( *)(CPyStatic_\w+___globals) = PyModule_GetDict\(\w+\);(?=\n)"
    text, count = re.subn(pattern, r"\g<0>\n\1Py_XINCREF(\2);", text)
    if count != len(COMPILED):
        raise ValueError(f"it takes the globals of {count} modules, not {len(COMPILED)}")
    return text


def with_stores_that_exchange(text: str) -> str:
    """Have a store into an attribute release the old object after the new one is in place.

    mypyc releases it first. A finalizer that runs then, and comes back to the attribute, finds an
    object that is gone, and may release it once more. Integers need no such care: to release one
    runs nothing.
    """
    slot = r"(?:\(\(\w+ \*\)\w+\)|self)->\w+"
    pattern = (
        rf"( *)(?:if \({slot} != NULL\) \{{\n *)?CPy_DECREF\(({slot})\);\n"
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

    text, count = re.subn(pattern, exchange, text)
    left = re.findall(r"\bCPy_\w*DECREF\([^;\n]*->[^;\n]*\);", text, re.IGNORECASE)
    if left or not count:
        raise ValueError(f"after {count} stores into attributes, this is left: {left[:3]}")
    print(f"mended {count} stores into attributes", flush=True)
    return text


PATHS_OF_SOURCES = r"""
/* What was found for each module, by its globals, which last: see with_lasting_globals(). */
#define MOST_MODULES 256
static struct {
    PyObject *globals;
    const char *path;
} known_sources[MOST_MODULES];

/* Return the path of the source of a module: it lies beside the module. Else return `path`. */
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
        /* Never released, so that the text lasts. */
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
    """Have the frames of compiled functions name their source where it is installed.

    mypyc names it as it is called in the build, "src/runtime/...". Where the package is used there
    is no such file, and tracebacks have no lines of code. The right path is all that they need.
    """
    if 'CPy_AddTraceback("src/runtime/' not in text:
        raise ValueError("it adds no frames to tracebacks")
    return after_includes(text, PATHS_OF_SOURCES)


WEAKLY_REFERABLE = (
    ("handles", "Handle"),
    ("handles", "ThreadsafeHandle"),
    ("timers", "TimerHandle"),
)
"""Compiled classes whose objects programs refer to weakly, and all that inherit from them."""


def with_weak_reference_lists(text: str) -> str:
    """Give the objects of some classes a place for their weak references, as Python's have.

    It is at the same place in each: a class that inherits has the layout of its base.
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
    """Have the objects of some classes take weak references, of which mypyc's classes have none."""
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


Edits = dict[int, tuple[int, str]]
"""What replaces parts of a text: by where a part begins, where it ends, and the replacement."""


def with_docstrings(text: str) -> str:
    """Have the classes, functions and properties their docstrings; mypyc writes signatures only."""
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


def _document(text: str, edits: Edits, marker: str, node: ast.ClassDef | ast.FunctionDef) -> None:
    """Add the docstring of what comes after ``marker`` in the C."""
    docstring = ast.get_docstring(node)
    if docstring is None:
        return
    escaped = docstring.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    begin = text.find(marker)
    end = text.find("}", begin)
    signature = text.rfind(SIGNATURE_END, begin, end)
    if signature >= 0:
        place = signature + len(SIGNATURE_END)
        edit = place, escaped
    else:
        # A property has a NULL for its documentation, and another for a closure. A class without
        # a signature has PyDoc_STR(NULL), where another macro of the same name does no harm.
        last = text.rfind("NULL", begin, end)
        place = text.rfind("NULL", begin, last) if marker.startswith("(getter)") else last
        edit = place + len("NULL"), f'PyDoc_STR("{escaped}")'
    if begin >= 0 and place >= 0:
        edits[place] = edit
    elif not node.name.startswith("_"):
        raise ValueError(f"there is no place for the docstring of {marker}")


class BuildPackage(build_py):
    """Copies the Python files into a folder that holds nothing of an earlier build.

    A compiled module that was left there would be installed, and would hide the source that it was
    made of in an older state.
    """

    def run(self) -> None:
        """Empty the folder, and copy."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "runtime"), ignore_errors=True)
        super().run()


class BuildExtensions(build_ext):
    """Builds what can be built. What cannot be is left out completely, and so stays Python."""

    def run(self) -> None:
        """Build, after removing from the source tree what an earlier build left there."""
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
            except (Exception, SystemExit) as error:  # mypyc exits when it finds a type error
                warn("the kernel's modules were", f"mypyc failed, see above ({error!r})")
            else:
                self.extensions += self._build_all(NATIVE, "the kernel's modules were")
        self.extensions += self._build_all([ACCELERATOR], "the C accelerator was")

    def _build_all(self, extensions: list[Extension], what: str) -> list[Extension]:
        """Build ``extensions``; return them, or nothing when any of them failed.

        One that was built is then removed again: without the library that they share, it would hide
        its own source and fail on import.
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
    """Builds a wheel for any platform where nothing was compiled, though it was to be."""

    def run(self) -> None:
        """Build the package, see what came of it, and make the wheel."""
        self.run_command("build")
        self.skip_build = True  # Or all of it would be compiled once more.
        if not self.get_finalized_command("build_ext").extensions:
            self.distribution.ext_modules = []
            self.root_is_pure = True
        super().run()


if PURE and wanted("RUNTIME_REQUIRE_COMPILED"):
    sys.exit(
        "runtime: RUNTIME_REQUIRE_COMPILED is set, and so is RUNTIME_PURE, or this platform is one "
        "for which nothing is compiled."
    )

if not PURE and not has_compiler():
    warn("the kernel's modules and the C accelerator were", "no C compiler was found")
    PURE = True

EXTENSIONS = [] if PURE else [ACCELERATOR] if ACCELERATOR_ONLY else [*NATIVE, ACCELERATOR]

setup(
    # The front end takes it for a requirement of this build; see [build-system] in pyproject.toml.
    setup_requires=[MYPY] if NATIVE[0] in EXTENSIONS else [],
    ext_modules=EXTENSIONS,
    cmdclass={
        "bdist_wheel": BuildWheel,
        "build_ext": BuildExtensions,
        "build_py": BuildPackage,
    },
)
