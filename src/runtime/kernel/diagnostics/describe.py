"""How callbacks, coroutines, futures and tasks are shown in ``repr()`` and in error messages.

Futures, tasks, handles and queues refer to one another, and to objects of the program that refer to
them: a callback's argument may be the set of the tasks that have that callback. If each were shown
with all that it refers to, the text would grow exponentially, or without end. So only the outermost
one is shown in full; within it, the others are shown briefly, and refer to nothing. What belongs to
the program is cut to a bounded length, and a ``__repr__`` that raises harms nothing.
"""

from __future__ import annotations

import functools
import gc
import reprlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any, Final

from runtime.kernel.diagnostics.debug_mode import with_origins_noted

_TRACEBACK_DEPTH: Final = 10
"""Frames that debug mode keeps of the place where something was created."""

_CHAIN_LIMIT: Final = 100
"""Coroutines that await one another, of which a report shows no more than this."""

_MOST_NAMES: Final = 10
"""Futures that are waited for at once, of which a report names no more than this."""

_KERNEL_PREFIX: Final = "runtime.kernel"

_loop_runner: Final = with_origins_noted.__code__
"""In debug mode, its frame calls the loop."""

_LIBRARIES: Final = ("runtime.", "asyncio.")
"""What the names of modules begin with that are no part of the program."""

_WRAPPERS: Final = frozenset(
    {
        "anext_awaitable",
        "async_generator_asend",
        "async_generator_athrow",
        "coroutine_wrapper",
    }
)
"""The interpreter's types of what drives a coroutine or an asynchronous generator for an ``await``.

They have no attribute for it; the garbage collector knows it, as the first object that they hold.
"""
_LONGEST: Final = 1000
"""Characters of a ``repr`` of ours at most. A longer one loses its middle."""

_LONGEST_PART: Final = 300
"""Characters at most of the part of a ``repr`` that is an object of the program."""


class _Showing(threading.local):
    """Whether the ``repr`` of an object of ours is being made in this thread."""

    active = False


_showing: Final = _Showing()

_values: Final = reprlib.Repr()
_values.maxlevel = 3
_values.maxstring = 200
_values.maxother = 80


def described(
    name: str, in_full: Callable[[], list[str]], in_brief: Callable[[], list[str]]
) -> str:
    """Return ``<name word word>``, the ``repr`` of an object of ours, of a bounded length.

    ``in_full`` gives the words. Within the ``repr`` of another object ``in_brief`` does; these must
    not refer to any object of the program, which could refer back to this one.
    """
    if _showing.active:
        words = in_brief()
    else:
        _showing.active = True
        try:
            words = in_full()
        finally:
            _showing.active = False
    return _shortened(f"<{' '.join([name, *words])}>", _LONGEST)


def safe_repr(value: object, limit: int | None = _LONGEST_PART) -> str:
    """Return the ``repr`` of an object of the program, at most so many characters of it."""
    try:
        text = repr(value)
    except Exception as error:
        return _unshown(value, error)
    return text if limit is None else _shortened(text, limit)


def shown(value: object) -> str:
    """As ``safe_repr``; of a large container only some elements, at little cost."""
    try:
        return _shortened(_values.repr(value), _LONGEST_PART)
    except Exception as error:
        return _unshown(value, error)


def shown_error(error: BaseException) -> str:
    """As ``shown``, for an exception: the ``repr`` that most have shows all of their arguments."""
    if type(error).__repr__ is not BaseException.__repr__:
        return safe_repr(error)
    return _shortened(f"{type(error).__name__}({', '.join(map(shown, error.args))})", _LONGEST_PART)


def _unshown(value: object, error: Exception) -> str:
    return f"{object.__repr__(value)[:-1]}, whose repr() raised {type(error).__name__}>"


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def describe_callback(callback: Callable[..., object], args: tuple[Any, ...] = ()) -> str:
    """Return a callback as ``name(args) at file:line``."""
    arguments = ", ".join(map(shown, args))
    inner: Any = callback
    while isinstance(inner, functools.partial):
        bound = [shown(argument) for argument in inner.args]
        bound += [f"{key}={shown(value)}" for key, value in inner.keywords.items()]
        arguments = f"{', '.join(bound)})({arguments}"
        inner = inner.func
    return _name_and_place(inner, f"({arguments})")


def describe_callback_briefly(callback: Callable[..., object]) -> str:
    """Return a callback as ``name at file:line``, without anything that it refers to."""
    inner: Any = callback
    while isinstance(inner, functools.partial):
        inner = inner.func
    return _name_and_place(inner, "")


def _name_and_place(function: Any, arguments: str) -> str:
    try:
        function = getattr(function, "__wrapped__", function)
        name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
        code = getattr(function, "__code__", None)
        if code is None and not isinstance(function, type):
            # An object that can be called: its class has the method.
            code = getattr(type(function).__call__, "__code__", None)
    except Exception:
        name = code = None
    if not isinstance(name, str):
        name = safe_repr(function) if arguments else f"<{type(function).__name__} object>"
    where = f" at {code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else ""
    return f"{name}{arguments}{where}"


def unwrapped(awaitable: object) -> object:
    """Return the coroutine or asynchronous generator behind ``anext()``, ``aclose()`` and the like.

    These, and ``__await__()`` of a coroutine, make objects that do not tell. Anything else is
    returned as it is.
    """
    while type(awaitable).__name__ in _WRAPPERS and (held := gc.get_referents(awaitable)):
        awaitable = held[0]
    return awaitable


def coroutine_frame(coro: object) -> FrameType | None:
    """Return the frame of a suspended coroutine or generator; None when there is none."""
    coro = unwrapped(coro)
    for attribute in ("cr_frame", "gi_frame", "ag_frame"):
        frame = getattr(coro, attribute, None)
        if isinstance(frame, FrameType):
            return frame
    return None


def describe_coroutine(coro: object) -> str:
    """Return a coroutine as ``name() running at file:line``."""
    coro = unwrapped(coro)
    name = getattr(coro, "__qualname__", None) or getattr(coro, "__name__", None)
    if not name:
        name = f"<{type(coro).__name__} without a name>"
    code = _attribute(coro, "cr_code", "gi_code", "ag_code")
    running = _attribute(coro, "cr_running", "gi_running", "ag_running")
    frame = coroutine_frame(coro)
    if not isinstance(code, CodeType):
        return f"{name}()" + (" running" if running else "")
    if frame is None:
        return f"{name}() done, defined at {code.co_filename}:{code.co_firstlineno}"
    return f"{name}() running at {code.co_filename}:{frame.f_lineno}"


def describe_several(futures: Iterable[object]) -> str:
    """Return the names of tasks, and other futures as they are; of many only the first."""
    names = sorted(
        str(future.get_name()) if hasattr(future, "get_name") else safe_repr(future)
        for future in futures
    )
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def await_frames(coro: object) -> list[FrameType]:
    """Follow a suspended coroutine down to what it awaits.

    Returns the frame of each coroutine of the chain, the outermost first, without the kernel's own.
    """
    frames: list[FrameType] = []
    for _ in range(_CHAIN_LIMIT):
        coro = unwrapped(coro)
        frame = coroutine_frame(coro)
        if frame is None:
            break
        if not _is_kernel_frame(frame):
            frames.append(frame)
        coro = _attribute(coro, "cr_await", "gi_yieldfrom", "ag_await")
    return frames


def _attribute(coro: object, *names: str) -> object:
    """Return the attribute that a coroutine, or a generator of either kind, has of ``names``."""
    return next((found for name in names if (found := getattr(coro, name, None)) is not None), None)


def creation_stack() -> traceback.StackSummary:
    """Return the last frames of the caller's stack, for debug mode; the innermost comes last.

    That is where the program called: frames of libraries below it are left out. What the loop
    called, and not the program, keeps those; of the kernel there are none in any case.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_kernel_frame(frame):
        frame = frame.f_back
    caller = frame
    while caller is not None and is_of_a_library(caller):
        caller = None if caller.f_code is _loop_runner else caller.f_back
    frames = _walk(frame if caller is None else caller)
    return traceback.StackSummary.extract(frames, limit=_TRACEBACK_DEPTH, lookup_lines=False)


def is_of_a_library(frame: FrameType) -> bool:
    """Return whether a frame is this package's, or asyncio's, and not the program's."""
    return str(frame.f_globals.get("__name__", "")).startswith(_LIBRARIES)


def _is_kernel_frame(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_KERNEL_PREFIX)


def _walk(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and len(frames) < _TRACEBACK_DEPTH:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    frames.reverse()
    return frames
