"""Footprints: the objects that a step may read or change, to know which steps are independent.

Python has no record of the objects that a step touches. So a footprint is an upper bound: all
mutable objects that the code of the step can *reach*, from the local variables, the closures and
the global names of the coroutines that it resumed. Two steps whose footprints have no object in
common cannot notice their order.

A task is suspended in a chain of coroutines, of which a step resumes the innermost first. An outer
one runs only if the inner one ends, and then awaits another object than before. So a coroutine that
still awaits the same object has not run, and what only it can reach is not part of the footprint.

The bound is ``None``, which means everything, where this reasoning ends: for code that names a
module with state of its own (all but a list), or a function or class of one, reads or writes files,
sockets and the like, makes a choice of the run, or has an invariant that sees the state after each
step. Programs that reach objects in other ways, with ``gc``, ``inspect`` or the frames of other
tasks, are beyond it too.
"""

from __future__ import annotations

import asyncio
import dis
import functools
import gc
import io
import sys
import threading
import weakref
from collections.abc import Iterable
from contextvars import Context, ContextVar
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

from runtime.kernel.diagnostics.describe import await_chain, coroutine_frame
from runtime.kernel.future import FutureCore
from runtime.kernel.handles import ContextRunnable, Handle
from runtime.kernel.sleep_future import SleepFuture
from runtime.kernel.task import TaskCore
from runtime.simulation.loop import ExecutorCall
from runtime.sync.group_core import TaskEnd

Footprint = frozenset[object] | None
"""Identities of objects, and names of shared orders; None means everything."""

_MOST: Final = 5000
"""Number of objects after which a footprint is taken to be everything."""

_MOST_OF_A_MODULE: Final = 50_000
"""Number of objects of a module in which its functions are searched; more are everything."""

_STATELESS: Final = frozenset(
    (
        "__future__",
        "abc",
        "asyncio",
        "bisect",
        "builtins",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "runtime",
        "statistics",
        "string",
        "textwrap",
        "time",
        "types",
        "typing",
        "typing_extensions",
    )
)
"""Modules whose functions keep no state that two steps could share, or that are the loop's."""

_SELF_CONTAINED: Final = _STATELESS | frozenset(
    (
        "_abc",
        "_asyncio",
        "_collections",
        "_collections_abc",
        "_contextvars",
        "_functools",
        "_random",
        "_weakref",
        "_weakrefset",
        "array",
        "contextvars",
        "graphlib",
        "numbers",
        "queue",
        "random",
        "struct",
        "weakref",
    )
)
"""Modules of the standard library whose classes keep their state in their instances only."""

_REACHING: Final = frozenset(
    ("eval", "exec", "globals", "vars", "open", "__import__", "input", "breakpoint")
)
"""Builtin functions with which code reaches what it does not name."""

_REACHING_OF_LOOP: Final = frozenset(("all_tasks", "current_world"))
"""Functions of asyncio and of this package with which code reaches what it does not name."""

_OUTPUT: Final = "printed lines"
"""The name for what ``print`` writes to, in a footprint."""

_PLAIN: Final = frozenset(
    (
        int,
        bool,
        float,
        complex,
        str,
        bytes,
        type(None),
        type(...),
        type(NotImplemented),
        CodeType,
        MethodDescriptorType,
        WrapperDescriptorType,
    )
)
"""Types of objects that cannot change. Objects of their subclasses have attributes."""

_OUTSIDE: Final = (io.IOBase, type(threading.Lock()), threading.Thread)
_OUTSIDE_MODULES: Final = (
    "runtime.net.",
    "runtime.simulation.",
    "asyncio.streams",
    "socket",
    "ssl",
)


class _EverythingError(Exception):
    """Raised if a footprint has no bound."""


def independent(first: Footprint, second: Footprint) -> bool:
    """Return whether two steps cannot notice in which order they run."""
    return first is not None and second is not None and first.isdisjoint(second)


def chain_of(task: TaskCore) -> list[tuple[object, object]]:
    """Return the coroutines in which a task is suspended, outermost first, and what each awaits."""
    chain = await_chain(task.get_coro())
    return [(each, _awaited_by(each)) for each in chain]


def before_step(runnable: object) -> list[tuple[object, Footprint]]:
    """Return what each coroutine of an entry can reach, outermost first, before its step."""
    context: Context | None
    if not isinstance(runnable, TaskCore):
        context = (
            runnable.get_context()
            if isinstance(runnable, (ContextRunnable, ExecutorCall))
            else None
        )
        return [(None, _reach(_roots(runnable), context))]
    task: Any = runnable
    context = task.get_context()
    shared: list[object] = [_Leaf(task)]
    awaited = task._waits_for()
    if awaited is not None:
        shared.append(awaited)
    links = chain_of(runnable)
    found: list[tuple[object, Footprint]] = [(None, _reach(shared, context))]
    for coroutine, inner in links:
        found.append(((coroutine, inner), _reach([_Frame(coroutine)], context)))
    return found


def after_step(runnable: object, found: list[tuple[object, Footprint]]) -> Footprint:
    """Return the footprint of the step: what the coroutines that have run could reach before it."""
    chosen = [found[0][1]]
    for place, (link, footprint) in enumerate(reversed(found[1:])):
        assert isinstance(link, tuple)
        coroutine, inner = link
        # The innermost one has run in any case, or what it awaits has, which it reaches: an object
        # without a frame may resume coroutines too.
        if place > 0 and inner is not None and _awaited_by(coroutine) is inner:
            break
        chosen.append(footprint)
    if isinstance(runnable, TaskCore):
        # A new future that the task waits for, and the state of the task itself.
        chosen.append(_reach([_Leaf(runnable)]))
    return union(chosen)


def union(footprints: Iterable[Footprint]) -> Footprint:
    """Return what is in any of the footprints: everything, if one of them is."""
    total: set[object] = set()
    for footprint in footprints:
        if footprint is None:
            return None
        total |= footprint
    return frozenset(total)


def reachable_now(runnable: object) -> list[tuple[object, Footprint]] | None:
    """Return ``before_step(runnable)``; None for an entry whose code is not known."""
    try:
        return before_step(runnable)
    except (TypeError, AttributeError):
        return None


def _awaited_by(coroutine: object) -> object:
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        found = getattr(coroutine, name, None)
        if found is not None:
            return found
    return None


class _Leaf:
    """A future or task in a search: its identity counts, and the result; not what it runs."""

    __slots__ = ("target",)

    def __init__(self, target: object) -> None:
        self.target = target


class _Frame:
    """A coroutine in a search: its local variables, and its function."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: object) -> None:
        self.coroutine = coroutine

    def coroutine_globals(self) -> dict[str, object] | None:
        """Return the global names of the coroutine's function, if it has not ended."""
        frame = coroutine_frame(self.coroutine)
        return None if frame is None else frame.f_globals


def _roots(runnable: object) -> list[object]:
    if isinstance(runnable, ExecutorCall):
        return [_Leaf(runnable.future), runnable.function, *runnable._args]
    if isinstance(runnable, SleepFuture):
        return [_Leaf(runnable)]
    if isinstance(runnable, Handle):
        return [runnable, runnable._callback, *(runnable._args or ())]
    if isinstance(runnable, TaskEnd):
        return [runnable, runnable.group, _Leaf(runnable.task)]
    raise TypeError(type(runnable).__name__)


def _reach(roots: list[object], context: Context | None = None) -> Footprint:
    """Return the identities of all mutable objects that can be reached from ``roots``.

    ``context`` has the values of context variables that are reached.
    """
    found: set[object] = set()
    seen: set[int] = set()
    kept: list[object] = []  # So that no address is used twice.
    todo = list(roots)
    try:
        while todo:
            entry = todo.pop()
            if type(entry) in _PLAIN or id(entry) in seen:
                continue
            if isinstance(entry, ContextVar) and context is not None:
                # Two tasks may have the same context.
                found.add((id(context), id(entry)))
                todo.append(context.get(entry))
            seen.add(id(entry))
            kept.append(entry)
            if len(seen) > _MOST:
                return None
            todo += _next(entry, found)
    except _EverythingError:
        return None
    return frozenset(found)


def _next(entry: Any, found: set[object]) -> list[object]:
    """Add the identity of an object to ``found`` if it can change; return what it refers to."""
    # The type is asked, and not the object: its attributes may be computed by the program.
    kind = type(entry)
    if isinstance(entry, _Leaf):
        return _next_of_future(entry.target, found)
    if hasattr(kind, "_asyncio_future_blocking"):
        return [_Leaf(entry)]
    if issubclass(kind, asyncio.AbstractEventLoop):
        return []
    if isinstance(entry, ContextVar):
        return gc.get_referents(entry)
    if isinstance(entry, _Frame):
        # The frame object and the global names are left out: the function has the latter.
        space = entry.coroutine_globals()
        return [
            each
            for each in gc.get_referents(entry.coroutine)
            if not isinstance(each, FrameType) and each is not space
        ]
    if isinstance(entry, FrameType):
        # Not f_locals: the frame would keep that dictionary, and the objects in it.
        return [
            each
            for each in gc.get_referents(entry)
            if not isinstance(each, FrameType) and each is not entry.f_globals
        ]
    if isinstance(entry, MethodType):
        return [entry.__self__, entry.__func__]
    if isinstance(entry, ModuleType):
        if not _is_stateless(entry.__name__):
            raise _EverythingError
        return []
    if isinstance(entry, FunctionType):
        return _next_of_function(entry, found)
    if isinstance(entry, type):
        if _is_of_library(entry.__module__):
            return []
        found.add(id(entry))
        return [*vars(entry).values(), *entry.__bases__, kind]
    if isinstance(entry, BuiltinFunctionType):
        owner = entry.__self__
        if isinstance(owner, ModuleType) and owner.__name__ == "builtins":
            if entry.__name__ in _REACHING:
                raise _EverythingError
            if entry is print:
                found.add(_OUTPUT)
            return []
        return [owner]
    if isinstance(entry, weakref.ref):
        return [entry()]
    if isinstance(entry, _OUTSIDE) or kind.__module__.startswith(_OUTSIDE_MODULES):
        raise _EverythingError
    if hasattr(kind, "cr_frame") or hasattr(kind, "gi_frame") or hasattr(kind, "ag_frame"):
        frame = _Frame(entry)
        if not _is_stateless(str((frame.coroutine_globals() or {}).get("__name__"))):
            found.add(id(entry))
        return [frame]
    if not isinstance(entry, (tuple, frozenset)):
        found.add(id(entry))
    if isinstance(entry, Context):
        return list(entry.values())
    return [*gc.get_referents(entry), kind]


def _next_of_future(future: Any, found: set[object]) -> list[object]:
    found.add(id(future))
    if future.done():
        # Not exception(): the future would count it as retrieved, and report it no more.
        if isinstance(future, FutureCore):
            failed = future._failure() is not None
        else:
            failed = getattr(future, "_exception", None) is not None
        if failed or future.cancelled():
            return []
        return [future.result()]
    # Cancelling a task cancels what it awaits, and cancelling a gathering future its children.
    more: list[object] = [_Leaf(each) for each in getattr(future, "_children", None) or ()]
    awaited = future._waits_for() if isinstance(future, TaskCore) else None
    if awaited is not None:
        more.append(_Leaf(awaited))
    return more


def _next_of_function(function: FunctionType, found: set[object]) -> list[object]:
    more: list[object] = [*(function.__closure__ or ()), *(function.__defaults__ or ())]
    more += (function.__kwdefaults__ or {}).values()
    space = function.__globals__
    # Not the function's __module__, which functools.wraps() takes from another function.
    module = space.get("__name__")
    if isinstance(module, str) and _is_of_library(module):
        return more
    more += vars(function).values()
    names, imports = _names_of(function.__code__)
    if not all(map(_is_stateless, imports)) or not names.isdisjoint(_REACHING_OF_LOOP):
        raise _EverythingError
    stored = _stored_names(space)
    for name in names:
        if name in space:
            if name in stored:
                found.add((id(space), name))
            more.append(space[name])
        elif name in _REACHING:
            raise _EverythingError
        elif name == "print":
            found.add(_OUTPUT)
    return more


def _is_of_library(module: str) -> bool:
    """Return whether a module is of the standard library, or this one, and reaches nothing else."""
    if module.partition(".")[0] in _SELF_CONTAINED:
        return True
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise _EverythingError
    return False


def _is_stateless(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] in _STATELESS


@functools.lru_cache(maxsize=1000)
def _names_of(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the global names that code and the functions inside it may use, and its imports."""
    names = set(code.co_names)
    imports = {
        str(each.argval) for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME"
    }
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            inner_names, inner_imports = _names_of(inner)
            names |= inner_names
            imports |= inner_imports
    return frozenset(names), frozenset(imports)


_HOLDS_FUNCTIONS: Final = (
    *(dict, list, tuple, set, frozenset, CellType, MethodType),
    *(functools.partial, classmethod, staticmethod, property),
)
"""Types of objects through which the functions of a module are looked for."""

_STORES: Final = frozenset(dis.opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL"))

_stored: Final[dict[int, tuple[dict[str, object], tuple[int, ...], frozenset[str] | None]]] = {}
"""The global names of a module, by their ``id``; the addresses of the objects that they mean; and
the names that a function assigns to, or None if there is too much to look through."""

_examined: Final[set[int]] = set()
"""The modules, by the ``id`` of their global names, whose entry is right for this search."""

_codes: Final[dict[int, list[CodeType]]] = {}
"""The code of all functions that the collector knows, by the ``id`` of their global names.

To look through the heap takes long in a large process, so that it is done once in a search.
"""


def forget_stored_names() -> None:
    """Examine the modules again: the program may have got other functions since the last search."""
    _examined.clear()
    _codes.clear()


def _known_codes(space: dict[str, object]) -> list[CodeType]:
    """Return the code of the functions with some global names that the collector knows."""
    if not _codes:
        for each in gc.get_objects():
            if type(each) is FunctionType:
                _codes.setdefault(id(each.__globals__), []).append(each.__code__)
    return _codes.get(id(space), [])


def _stored_names(space: dict[str, object]) -> frozenset[str]:
    """Return the global names that a function of a module assigns to."""
    known = _stored.get(id(space))
    if known is None or id(space) not in _examined:
        # To find all functions takes long in a large process. Numbers and texts are left out.
        meant = tuple(id(each) for each in space.values() if type(each) not in _PLAIN)
        if known is None or known[1] != meant:
            known = _stored[id(space)] = space, meant, _find_stored_names(space)
        _examined.add(id(space))
    if known[2] is None:
        raise _EverythingError
    return known[2]


def _find_stored_names(space: dict[str, object]) -> frozenset[str] | None:
    codes = list(_known_codes(space))
    if gc.get_freeze_count():
        try:
            codes += _codes_in(space)
        except _EverythingError:
            return None
    stored: set[str] = set()
    seen: set[int] = set()
    while codes:
        code = codes.pop()
        if id(code) in seen:
            continue
        seen.add(id(code))
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        if _STORES.isdisjoint(code.co_code[::2]):
            continue
        for each in dis.get_instructions(code):
            if each.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                stored.add(str(each.argval))
    return frozenset(stored)


def _codes_in(space: dict[str, object]) -> list[CodeType]:
    """Return the code of the functions that the global names lead to.

    The collector does not know those that ``gc.freeze`` has put aside.
    """
    codes: list[CodeType] = []
    seen: set[int] = {id(space)}
    todo: list[object] = list(space.values())
    while todo:
        entry = todo.pop()
        kind = type(entry)
        if kind in _PLAIN or id(entry) in seen or isinstance(entry, ModuleType):
            continue
        seen.add(id(entry))
        if len(seen) > _MOST_OF_A_MODULE:
            raise _EverythingError
        if isinstance(entry, FunctionType):
            if entry.__globals__ is space:
                codes.append(entry.__code__)
            todo += [each for each in gc.get_referents(entry) if each is not entry.__globals__]
        elif isinstance(entry, type):
            if entry.__module__ == space.get("__name__"):
                todo += vars(entry).values()
        elif callable(entry) or isinstance(entry, _HOLDS_FUNCTIONS):
            todo += gc.get_referents(entry)
    return codes
