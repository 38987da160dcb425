"""asyncio's registry of tasks: how ``asyncio`` finds the tasks and the loops of this package.

``asyncio.current_task()`` and ``asyncio.all_tasks()`` must be right about our tasks, for every
caller, at next to no cost for each step of a task. The way depends on asyncio's own registry.

The current task
    Each loop holds it in an attribute, ``_current``.

    Up to Python 3.13, asyncio looks the loop up in a dictionary. A step of a task writes there as
    well, and the entry is not removed between two steps in a row.

    From 3.14, asyncio keeps a pointer in the state of the thread. Tools that inspect the process
    from outside (``python -m asyncio ps``, sampling profilers) follow that pointer, and read the
    memory there as the C structure of an ``asyncio.Task``. Our tasks have another layout, so their
    addresses must not be there. Instead ``asyncio.current_task`` is replaced in every module that
    holds it, by a function that asks asyncio first and our running loops next. If the original is
    also held by another kind of object, such as a default argument, its calls can only be answered
    through the thread's state: then, and only then, each step writes there
    (``writes_thread_state``).

All tasks
    asyncio iterates over a ``WeakSet``. To add each task to it would cost a weak reference and two
    calls into Python for each. Instead the class of that set is replaced, once, so that an
    iteration also gives the tasks that each of our loops holds in a dictionary anyway.

Source: "Extending" in the standard library's documentation of asyncio; ``Modules/_asynciomodule.c``
and ``Modules/_remote_debugging`` of CPython 3.14.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:

    class HasTasks(Protocol):
        """The attributes of a loop that this module uses."""

        _tasks: dict[Any, None]
        _current: Any

        def _forked(self) -> None:
            """Note that this process is a child of the one that the loop belongs to."""


running_loops: dict[int, Any] = {}
"""The running ``runtime.Loop`` of each thread, by the thread's identifier.

A lookup here is cheaper than in asyncio, which up to 3.11 calls ``os.getpid()`` for it.
"""

loop_of_thread: Callable[[int], Any] = running_loops.get
"""Returns the loop of this package that runs in a thread, or None. Saves looking up ``get``."""

_loops: set[weakref.ref[Any]] = set()

current_tasks: dict[Any, Any] | None = None
"""asyncio's dictionary of the current task of each loop, up to Python 3.13."""

swap_current_task: Callable[[Any, Any], Any]
"""Sets the current task of a loop (or None) in asyncio's registry; returns the previous one."""

writes_thread_state = False
"""Whether each step of a task writes to the state of the thread: see above."""


def _internal(name: str) -> Any:
    """Return an object of ``asyncio.tasks`` that this module needs, documented or not."""
    try:
        return vars(asyncio.tasks)[name]
    except KeyError:
        from runtime.kernel.native.installation import unsupported_asyncio_error

        raise unsupported_asyncio_error(f"asyncio.tasks.{name}") from None


# -- The current task ------------------------------------------------------------------------------

_asyncio_current_task = asyncio.current_task


def runs_asyncio_task(loop: Any) -> bool:
    """Return whether a task of asyncio runs, which the current task of ``loop`` has started."""
    task = _asyncio_current_task(loop)
    return task is not None and task is not loop._current and type(task) is not TaskCopy


class TaskCopy(asyncio.Task[Any]):
    """Copy of a task for external tools: see ``runtime.kernel.compat.external_tools``."""

    copied: Any
    """The original task, a ``runtime.Task``."""


def _current_task(loop: Any = None) -> Any:
    """Return the running task of ``loop``, by default of the running loop; None in a callback."""
    # Tasks of asyncio first: if a ``runtime.Task`` has started one eagerly, that one is running.
    task = _asyncio_current_task(loop)
    if task is not None:
        return task.copied if type(task) is TaskCopy else task
    if loop is None:
        running = running_loops.get(get_ident())
        return None if running is None else running._current
    for running in tuple(running_loops.values()):
        if running is loop:
            return running._current
    return None


def _swap_in_dictionary(loop: Any, task: Any) -> Any:
    assert current_tasks is not None
    previous = current_tasks.pop(loop, None)
    if task is not None:
        current_tasks[loop] = task
    return previous


_ALIAS = "_c_current_task"
"""The second name of the original in ``asyncio.tasks``, which asyncio's own tests use."""


def _replace_current_task() -> bool:
    """Replace ``asyncio.current_task`` in all modules; return whether other objects hold it."""
    # References that remain: the alias, this module, and the argument of getrefcount().
    expected = 3 if hasattr(asyncio.tasks, _ALIAS) else 2
    for module in (asyncio, asyncio.tasks, sys.modules.get("_asyncio")):
        if getattr(module, "current_task", None) is _asyncio_current_task:
            vars(module)["current_task"] = _current_task
    if sys.getrefcount(_asyncio_current_task) > expected:
        _replace_in_modules(_asyncio_current_task, _current_task)
    return sys.getrefcount(_asyncio_current_task) > expected


def _replace_in_modules(original: object, replacement: object) -> None:
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict) or names is globals():
            continue
        for name, value in list(names.items()):
            if value is original and name != _ALIAS:
                names[name] = replacement


if sys.version_info < (3, 14):
    current_tasks = _internal("_current_tasks")
    current_task = asyncio.current_task
    swap_current_task = _swap_in_dictionary
else:
    current_task = _current_task
    swap_current_task = _internal("_swap_current_task")
    writes_thread_state = _replace_current_task()


# -- All tasks -------------------------------------------------------------------------------------


def every_loop() -> list[Any]:
    """Return the loops that exist, as a list: others may come and go meanwhile, in any thread."""
    return [loop for reference in _loops.copy() if (loop := reference()) is not None]


class _Iteration(threading.local):
    """How this thread iterates over asyncio's set of tasks."""

    leaves_ours_out = False


_iteration = _Iteration()


class _EveryTask(weakref.WeakSet[Any]):
    """asyncio's set of tasks, extended by the tasks that our loops hold."""

    def __iter__(self) -> Iterator[Any]:
        if _iteration.leaves_ours_out:
            return super().__iter__()
        # Each list is made in one step: another thread may be adding tasks.
        ours = [list(loop._tasks) for loop in every_loop()]
        return itertools.chain(super().__iter__(), *ours)

    def __len__(self) -> int:
        return super().__len__() + sum(len(loop._tasks) for loop in every_loop())

    def __contains__(self, item: object) -> bool:
        return super().__contains__(item) or any(item in loop._tasks for loop in every_loop())


def _registered_tasks() -> list[weakref.WeakSet[Any]]:
    """Return the sets in which asyncio, in Python and in C, looks for tasks that are not its own.

    From 3.14 the C module has no attribute for its set; the garbage collector finds the set among
    the objects that the module refers to.
    """
    held = [getattr(asyncio.tasks, name, None) for name in ("_scheduled_tasks", "_all_tasks")]
    if accelerator := sys.modules.get("_asyncio"):
        held += gc.get_referents(accelerator)
    return [each for each in held if type(each) is weakref.WeakSet]


def show_tasks_of(loop: HasTasks) -> None:
    """Make ``asyncio.all_tasks()`` include the tasks of ``loop`` for as long as the loop exists."""
    # Not a WeakSet, which removes dead references in Python code: if a signal handler raised there,
    # a dead reference would stay for ever.
    _loops.add(weakref.ref(loop, _loops.discard))


def _show_our_tasks() -> None:
    registered = _registered_tasks()
    if not registered:
        from runtime.kernel.native.installation import unsupported_asyncio_error

        raise unsupported_asyncio_error("set of tasks")
    for each in registered:
        each.__class__ = _EveryTask


_show_our_tasks()


def asyncio_tasks_of(loop: Any) -> set[Any]:
    """Return the tasks of ``loop`` that are not of this package, and have not ended."""
    _iteration.leaves_ours_out = True
    try:
        return asyncio.all_tasks(loop)
    finally:
        _iteration.leaves_ours_out = False


# -- Forks -----------------------------------------------------------------------------------------


def _prepare_fork() -> None:
    if running_loops:
        # The child needs this module, and may have no descriptor left to read it.
        importlib.import_module("runtime.kernel.lifetime.forks")
    loop = running_loops.get(get_ident())
    if loop is not None:
        loop._before_fork()


def _note_fork() -> None:
    running_loops.clear()
    for loop in every_loop():
        loop._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_fork, after_in_child=_note_fork)
