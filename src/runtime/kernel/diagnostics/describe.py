"""Descriptions of callbacks, coroutines, futures and tasks for ``repr()`` and error messages.

Futures, tasks, handles and queues refer to one another, and to objects of the program that refer to
them in turn: the argument of a callback may be the set of the tasks that have this callback. If the
``repr`` of each object showed all objects that it refers to, the text would grow exponentially, or
without end. So only the outermost object is shown in full. Inside its ``repr`` the others have a
brief description, which shows no further objects. Objects of the program are shown by their own
``repr``, cut to a maximum length; if that raises, the exception is shown instead.
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

from runtime.kernel.diagnostics.debug_mode import run_with_origin_tracking
from runtime.kernel.errors import CancelledError

_TRACEBACK_DEPTH: Final = 10
"""Number of frames that debug mode keeps of the stack at which an object was created."""

_CHAIN_LIMIT: Final = 100
"""Maximum number of coroutines that await one another in a report."""

_MOST_NAMES: Final = 10
"""Maximum number of awaited futures that a report names."""

_KERNEL_PREFIX: Final = "runtime.kernel"

_loop_runner: Final = run_with_origin_tracking.__code__
"""The code of the function whose frame calls the loop in debug mode."""

_LIBRARIES: Final = ("runtime.", "asyncio.")
"""Prefixes of the names of modules that are not part of the program."""

_WRAPPERS: Final = frozenset(
    {
        "anext_awaitable",
        "async_generator_asend",
        "async_generator_athrow",
        "coroutine_wrapper",
    }
)
"""The interpreter's types of awaitables that wrap a coroutine or an asynchronous generator.

They have no attribute for the wrapped object; the garbage collector finds it, as the first object
that they refer to.
"""
_LONGEST: Final = 1000
"""Maximum number of characters of this package's reprs. The middle of a longer one is left out."""

_LONGEST_PART: Final = 300
"""Maximum number of characters for each object of the program inside a ``repr``."""


class _Showing(threading.local):
    """Whether this thread is inside the ``repr`` of an object of this package."""

    active = False


_showing: Final = _Showing()

_values: Final = reprlib.Repr()
_values.maxlevel = 3
_values.maxstring = 200
_values.maxother = 80


def format_repr(
    name: str, in_full: Callable[[], list[str]], in_brief: Callable[[], list[str]]
) -> str:
    """Return ``<name word word>``, the ``repr`` of an object, with a maximum length.

    ``in_full`` returns the words. Inside the ``repr`` of another object ``in_brief`` is called
    instead: its words must not show any object of the program, which could refer back to this one.
    """
    if _showing.active:
        words = in_brief()
    else:
        _showing.active = True
        try:
            words = in_full()
        finally:
            _showing.active = False
    return shortened(f"<{' '.join([name, *words])}>", _LONGEST)


def safe_repr(value: object, limit: int | None = _LONGEST_PART) -> str:
    """Return the ``repr`` of an object of the program, cut to ``limit`` characters; never raise."""
    try:
        text = repr(value)
    except Exception as error:
        return _unshown(value, error)
    return text if limit is None else shortened(text, limit)


def safe_text(error: BaseException) -> str:
    """Return the message of an exception of the program; never raise.

    Unlike ``safe_str``, it shows no address, so that the text is the same in every simulated run.
    """
    try:
        return str(error)
    except Exception as raised:
        return f"<{type(error).__name__}, whose str() raised {type(raised).__name__}>"


def short_repr(value: object) -> str:
    """Return a ``repr`` as ``safe_repr`` does, but only some elements of a large container."""
    try:
        return shortened(_values.repr(value), _LONGEST_PART)
    except Exception as error:
        return _unshown(value, error)


def short_error_repr(error: BaseException) -> str:
    """Return the ``repr`` of an exception, with its arguments as ``short_repr`` gives them."""
    if type(error).__repr__ is not BaseException.__repr__:
        return safe_repr(error)
    return shortened(
        f"{type(error).__name__}({', '.join(map(short_repr, error.args))})", _LONGEST_PART
    )


def describe_cancellation(error: CancelledError) -> str:
    """Return the message of a CancelledError, or else its reason, or else an empty text."""
    message: object = error.args[0] if error.args else getattr(error, "cancel_reason", None)
    return "" if message is None else safe_str(message)


def safe_str(value: object) -> str:
    """Return the ``str`` of an object of the program; never raise."""
    try:
        return str(value)
    except Exception as error:
        return _unshown(value, error, "str()")


def _unshown(value: object, error: Exception, call: str = "repr()") -> str:
    return f"{object.__repr__(value)[:-1]}, whose {call} raised {type(error).__name__}>"


def shortened(text: str, limit: int) -> str:
    """Return ``text`` in ``limit`` characters at most: without its middle if it is longer."""
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def describe_callback(callback: Callable[..., object], args: tuple[Any, ...] = ()) -> str:
    """Return the description of a callback: ``name(args) at file:line``."""
    arguments = ", ".join(map(short_repr, args))
    inner: Any = callback
    while isinstance(inner, functools.partial):
        bound = [short_repr(argument) for argument in inner.args]
        bound += [f"{key}={short_repr(value)}" for key, value in inner.keywords.items()]
        arguments = f"{', '.join(bound)})({arguments}"
        inner = inner.func
    return _name_and_place(inner, f"({arguments})")


def describe_callback_briefly(callback: Callable[..., object]) -> str:
    """Return a description without the arguments of the callback: ``name at file:line``."""
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
            # A callable object: take the code of its __call__ method.
            code = getattr(type(function).__call__, "__code__", None)
    except Exception:
        name = code = None
    if not isinstance(name, str):
        name = safe_repr(function) if arguments else f"<{type(function).__name__} object>"
    where = f" at {code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else ""
    return f"{name}{arguments}{where}"


def unwrap_awaitable(awaitable: object) -> object:
    """Return the coroutine or asynchronous generator behind ``anext()``, ``aclose()`` and the like.

    These, and ``__await__()`` of a coroutine, return a wrapper without an attribute for it. Any
    other object is returned unchanged.
    """
    while type(awaitable).__name__ in _WRAPPERS and (held := gc.get_referents(awaitable)):
        awaitable = held[0]
    return awaitable


def coroutine_frame(coro: object) -> FrameType | None:
    """Return the frame of a suspended coroutine or generator, or None."""
    coro = unwrap_awaitable(coro)
    for attribute in ("cr_frame", "gi_frame", "ag_frame"):
        frame = getattr(coro, attribute, None)
        if isinstance(frame, FrameType):
            return frame
    return None


def describe_coroutine(coro: object) -> str:
    """Return the description of a coroutine: ``name() running at file:line``."""
    coro = unwrap_awaitable(coro)
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
    """Return the names of tasks and the ``repr`` of other futures, limited to the first few."""
    names = sorted(
        str(future.get_name()) if hasattr(future, "get_name") else safe_repr(future)
        for future in futures
    )
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def await_frames(coro: object) -> list[FrameType]:
    """Return the frames of a suspended coroutine and of the coroutines that it awaits in turn.

    The outermost frame is the first. The frames of the kernel are left out.
    """
    frames = [coroutine_frame(each) for each in await_chain(coro)]
    return [frame for frame in frames if frame is not None and not _is_kernel_frame(frame)]


def await_chain(coro: object) -> list[object]:
    """Return a suspended coroutine and the coroutines that it awaits in turn, outermost first."""
    chain: list[object] = []
    while len(chain) < _CHAIN_LIMIT:
        coro = unwrap_awaitable(coro)
        if coroutine_frame(coro) is None:
            break
        chain.append(coro)
        coro = _attribute(coro, "cr_await", "gi_yieldfrom", "ag_await")
    return chain


def _attribute(coro: object, *names: str) -> object:
    """Return the first of the attributes ``names`` that the coroutine or generator has, or None."""
    return next((found for name in names if (found := getattr(coro, name, None)) is not None), None)


def creation_stack() -> traceback.StackSummary:
    """Return the last frames of the caller's stack, for debug mode; the innermost frame is last.

    The innermost frame is one of the program: the library frames that it called are left out. If
    the loop, and not the program, called the library, its frames are kept. Frames of the kernel are
    left out in any case.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_kernel_frame(frame):
        frame = frame.f_back
    caller = frame
    while caller is not None and is_library_frame(caller):
        caller = None if caller.f_code is _loop_runner else caller.f_back
    frames = _walk(frame if caller is None else caller)
    return traceback.StackSummary.extract(frames, limit=_TRACEBACK_DEPTH, lookup_lines=False)


def is_library_frame(frame: FrameType) -> bool:
    """Return whether a frame belongs to this package or to asyncio, and not to the program."""
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
