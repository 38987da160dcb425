"""How callbacks, coroutines, futures and tasks are shown in ``repr()`` and in error messages."""

from __future__ import annotations

import functools
import gc
import reprlib
import sys
import traceback
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any, Final

_TRACEBACK_DEPTH: Final = 10
"""Frames that debug mode keeps of the place where something was created."""

_CHAIN_LIMIT: Final = 100
"""Coroutines that await one another, of which a report shows no more than this."""

_MOST_NAMES: Final = 10
"""Futures that are waited for at once, of which a report names no more than this."""

_KERNEL_PREFIX: Final = "runtime.kernel"

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


def describe_callback(callback: Callable[..., object], args: tuple[Any, ...] = ()) -> str:
    """Return a callback as ``name(args) at file:line``."""
    arguments = ", ".join([reprlib.repr(argument) for argument in args])
    inner: Any = callback
    while isinstance(inner, functools.partial):
        bound = [reprlib.repr(argument) for argument in inner.args]
        bound += [f"{key}={reprlib.repr(value)}" for key, value in inner.keywords.items()]
        arguments = f"{', '.join(bound)})({arguments}"
        inner = inner.func
    inner = getattr(inner, "__wrapped__", inner)
    name = getattr(inner, "__qualname__", None) or getattr(inner, "__name__", None) or repr(inner)
    code = getattr(inner, "__code__", None)
    where = f" at {code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else ""
    return f"{name}({arguments}){where}"


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
    name = getattr(coro, "__qualname__", None) or getattr(coro, "__name__", None) or repr(coro)
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
        str(future.get_name()) if hasattr(future, "get_name") else repr(future)
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
    """Return the last frames of the caller's stack, without the kernel's own, for debug mode."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_kernel_frame(frame):
        frame = frame.f_back
    return traceback.StackSummary.extract(_walk(frame), limit=_TRACEBACK_DEPTH, lookup_lines=False)


def _is_kernel_frame(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_KERNEL_PREFIX)


def _walk(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and len(frames) < _TRACEBACK_DEPTH:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    frames.reverse()
    return frames
