"""Threads that ``threading`` does not know, and whether one of them could wake a loop.

Such threads are those of C libraries that call back into Python (audio, graphics, databases), and
those that ``_thread`` starts. They are found if the system lists the threads of a process. Their
purpose cannot be found out. But a callback that wakes a loop must have a reference to the loop, or
to its ``call_soon_threadsafe``. So the functions here search for such references, other than those
of the frames of the program, of this package, and of asyncio. If there are any, the loop was
"handed out", and an unknown thread may wake it.

The search is slow, which does no harm: it runs only when a loop has nothing else to wait for.
"""

from __future__ import annotations

import _thread
import gc
import os
import threading
import time
from collections import deque
from collections.abc import Collection
from functools import partial
from types import (
    AsyncGeneratorType,
    BuiltinMethodType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any

from runtime.kernel.compat.registry import current_tasks, running_loops

_THREADS = "/proc/self/task"

_START_TIME = 19
"""Index of the start time among the fields after the name, in clock ticks since the boot."""

_YOUNG = 0.2
"""Age in seconds from which on a thread has certainly run for a moment."""

_OURS = ("runtime.", "asyncio.", "_asyncio.")
_SUSPENDED = (FrameType, CoroutineType, GeneratorType, AsyncGeneratorType)
_METHODS = (MethodType, BuiltinMethodType, MethodWrapperType)
_DEPTH = 4
"""Maximum depth of nested containers that are searched: a cell is in a tuple of a function."""

_CONTAINERS = (dict, list, tuple, set, deque, CellType, partial)


def unknown_threads() -> set[int] | None:
    """Return the native identifiers of the threads that ``threading`` does not know.

    Returns None if the system does not list threads.
    """
    try:
        listed = {int(name) for name in os.listdir(_THREADS)}
    except (OSError, ValueError):
        return None
    known = {thread.native_id for thread in threading.enumerate()}
    return listed - known - {threading.get_native_id()}


def can_be_woken_by_unknown_thread(loop: Any, before: Collection[int] = ()) -> bool:
    """Return whether a thread that ``threading`` does not know could wake ``loop``.

    Threads whose native identifiers are in ``before`` do not count, if the system lists threads.
    """
    unknown = unknown_threads()
    if unknown is not None:
        unknown.difference_update(before)
        if not unknown:
            return False
        if any(map(_has_just_begun, unknown)):
            return True
    if _raw_threads() > 0:
        return True
    # The result is kept, so that the next call does not search the whole heap again.
    loop._handed_out = loop._handed_out or is_referenced_by_program(loop)
    return bool(loop._handed_out)


def _has_just_begun(thread: int) -> bool:
    """Return whether a thread is so young that Python may not have counted it yet."""
    try:
        with open(f"{_THREADS}/{thread}/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[_START_TIME])
    except (OSError, ValueError, IndexError):
        return False  # The thread has ended.
    began = ticks / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began < _YOUNG


def _raw_threads() -> int:
    """Return the number of threads that were started with ``_thread``, not with ``threading``."""
    started = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not isinstance(thread, threading._DummyThread)
    ]
    return _thread._count() - len(started)


def is_referenced_by_program(loop: Any) -> bool:
    """Return whether a function or another object of the program refers to ``loop``."""
    return _is_held_for_others(loop, loop, {id(running_loops), id(current_tasks)}, _DEPTH)


def _is_held_for_others(loop: Any, held: Any, passed: set[int], depth: int) -> bool:
    """Return whether an object of the program refers to ``held``: the loop, or a container of it.

    ``passed`` are the identifiers of objects to skip, such as the lists that are made here.
    """
    holders = gc.get_referrers(held)
    passed.add(id(holders))
    for holder in holders:
        if id(holder) in passed:
            continue
        passed.add(id(holder))
        if _holds_for_others(loop, holder, passed, depth):
            return True
    return False


def _holds_for_others(loop: Any, holder: Any, passed: set[int], depth: int) -> bool:
    kind = type(holder)
    if kind in _SUSPENDED:
        return False
    if kind in _METHODS:
        return bool(holder.__name__ == "call_soon_threadsafe")
    if kind is FunctionType:
        return not _is_in_package(holder.__module__)
    if kind is ModuleType:
        return not _is_in_package(holder.__name__)
    if kind in _CONTAINERS:
        if kind is dict and "_set_called" in holder:
            return False  # The dictionary in which an event loop policy keeps a thread's loop.
        return depth == 0 or _is_held_for_others(loop, holder, passed, depth - 1)
    if not any(_is_in_package(base.__module__) for base in kind.__mro__):
        return True
    # A class of this package, or of asyncio, may refer to the loop for its own use.
    finishing_object = getattr(holder, "finishing_object", None)
    if finishing_object is not None:
        handle: object = finishing_object()
        return handle is not None and _is_held_for_others(loop, handle, passed, _DEPTH)
    return not _is_in_package(kind.__module__) and any(
        value is loop and name != "_loop"
        for name, value in list(getattr(holder, "__dict__", {}).items())
    )


def _is_in_package(module: object) -> bool:
    return f"{module}.".startswith(_OURS)
