"""asyncio's registry of tasks: how ``asyncio`` itself sees the tasks and the loops of this package.

``asyncio.current_task()`` and ``asyncio.all_tasks()`` must tell the truth about our tasks, to every
caller, at next to no cost for each step of a task. How depends on where asyncio keeps its notes.

The current task
    Each loop holds it in an attribute, ``_current``.

    Up to Python 3.13, asyncio looks the loop up in a dictionary. A step of a task writes there as
    well, and nothing is cleared between two steps in a row.

    From 3.14, asyncio keeps a pointer in the state of the thread. Tools that look at the process
    from outside (``python -m asyncio ps``, sampling profilers) follow that pointer, and take what
    they find for the C structure of an ``asyncio.Task``. Ours has another layout, so its address
    must not stand there. Instead ``asyncio.current_task`` is replaced, wherever a module holds it,
    by a function that asks asyncio first and our running loops next. If the original is held by
    something other than a module, such as a default argument, that caller can only be told through
    the thread's state: then, and only then, each step writes there (``writes_thread_state``).

All tasks
    asyncio iterates over a ``WeakSet`` that each task would have to be put into, at the price of a
    weak reference and two calls into Python for each. Instead that set is taught, once, to show the
    tasks that each of our loops holds in a plain set anyway.

Source: "Extending" in the standard library's documentation of asyncio; ``Modules/_asynciomodule.c``
and ``Modules/_remote_debugging`` of CPython 3.14.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any, Protocol

from runtime.kernel.native.installation import unknown_asyncio


class HasTasks(Protocol):
    """A loop, as far as this module is concerned."""

    _tasks: set[Any]
    _current: Any

    def _forked(self) -> None:
        """Note that this is a child of the process that the loop was made in."""


running_loops: dict[int, Any] = {}
"""Our loop that runs in each thread, by the thread's identifier.

Looking here is cheaper than asking asyncio, which up to 3.11 asks the system for the process.
"""

_loops: set[weakref.ref[Any]] = set()

current_tasks: dict[Any, Any] | None = None
"""asyncio's dictionary of the current task of each loop, up to Python 3.13."""

swap_current_task: Callable[[Any, Any], Any]
"""Makes a task, or None, the current one of a loop for asyncio; returns the one before."""

writes_thread_state = False
"""Whether each step of a task tells asyncio through the state of the thread: see above."""


def _internal(name: str) -> Any:
    """Return an object of ``asyncio.tasks`` that this module needs, documented or not."""
    try:
        return vars(asyncio.tasks)[name]
    except KeyError:
        raise unknown_asyncio(f"asyncio.tasks.{name}") from None


# -- The current task ------------------------------------------------------------------------------

_asyncio_current_task = asyncio.current_task


class TaskCopy(asyncio.Task[Any]):
    """Copy of a task of ours for external tools: see ``runtime.kernel.compat.external_tools``."""

    copied: Any
    """The task."""


def _current_task(loop: Any = None) -> Any:
    """Return the running task of ``loop``, by default of the running loop; None in a callback."""
    # asyncio's own tasks first: one that was started eagerly by a task of ours is the inner one.
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
"""The name in ``asyncio.tasks`` that means the original, for asyncio's own tests."""


def _replace_current_task() -> bool:
    """Replace ``asyncio.current_task`` in all modules; return whether anything else holds it."""
    # The holders that are left: the alias, this module, and the argument of getrefcount().
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


def _every_loop() -> list[Any]:
    """Return the loops that live: others may come and go meanwhile, in any thread."""
    return [loop for reference in _loops.copy() if (loop := reference()) is not None]


class _EveryTask(weakref.WeakSet[Any]):
    """asyncio's set of tasks, which also shows those that our loops hold."""

    def __iter__(self) -> Iterator[Any]:
        # Each list is made in one step: another thread may be adding tasks.
        ours = [list(loop._tasks) for loop in _every_loop()]
        return itertools.chain(super().__iter__(), *ours)

    def __len__(self) -> int:
        return super().__len__() + sum(len(loop._tasks) for loop in _every_loop())

    def __contains__(self, item: object) -> bool:
        return super().__contains__(item) or any(item in loop._tasks for loop in _every_loop())


def _registered_tasks() -> list[weakref.WeakSet[Any]]:
    """Return the sets in which asyncio, in Python and in C, looks for tasks that are not its own.

    From 3.14 the C module keeps its set to itself; the collector knows it as what the module holds.
    """
    held = [getattr(asyncio.tasks, name, None) for name in ("_scheduled_tasks", "_all_tasks")]
    if accelerator := sys.modules.get("_asyncio"):
        held += gc.get_referents(accelerator)
    return [each for each in held if type(each) is weakref.WeakSet]


def show_tasks_of(loop: HasTasks) -> None:
    """Let ``asyncio.all_tasks()`` see the tasks of ``loop`` for as long as the loop lives."""
    # Not a WeakSet, which removes in Python: the handler of a signal that raised in there would
    # have it keep what is dead for ever.
    _loops.add(weakref.ref(loop, _loops.discard))


def _show_our_tasks() -> None:
    registered = _registered_tasks()
    if not registered:
        raise unknown_asyncio("set of tasks")
    for each in registered:
        each.__class__ = _EveryTask


_show_our_tasks()


# -- Forks -----------------------------------------------------------------------------------------


def _note_fork() -> None:
    running_loops.clear()
    for loop in _every_loop():
        loop._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
