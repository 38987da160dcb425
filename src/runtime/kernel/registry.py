"""asyncio's registry of tasks, kept so that its questions are answered truly, and cheaply.

``asyncio.current_task()`` looks a loop up in a dictionary (until 3.13) or in the thread's state
(from 3.14). A task's step writes there directly; nothing is cleared between two steps in a row.

``asyncio.all_tasks()`` iterates over a ``WeakSet`` that each task would have to be put into, at the
price of a weak reference and two calls into Python a task. Instead that set is taught, once, to
show the tasks of our loops, which each loop keeps in a plain set anyway.

Source: "Extending" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class HasTasks(Protocol):
    """A loop, as far as this module is concerned."""

    tasks: set[Any]

    def forked(self) -> None:
        """Take note that this is a child of the process that the loop was made in."""


running_loops: dict[int, Any] = {}
"""Our loop that runs in each thread, by the thread's identifier.

Looking here is cheaper than asking asyncio, which asks the system for the process each time.
"""

_loops: weakref.WeakSet[Any] = weakref.WeakSet()

current_tasks: dict[Any, Any] | None = None
"""The dictionary of asyncio in which the current task of each loop stands, up to Python 3.13."""

if sys.version_info < (3, 14):
    current_tasks = getattr(asyncio.tasks, "_current_tasks", None)


def _swap(loop: Any, task: Any) -> Any:
    """Make ``task`` the current one of ``loop``; return the one before."""
    assert current_tasks is not None
    previous = current_tasks.pop(loop, None)
    if task is not None:
        current_tasks[loop] = task
    return previous


swap_current_task: Callable[[Any, Any], Any] = _swap
"""Makes a task, or None, the current one of a loop, and returns the one before."""

if current_tasks is None:
    swap_current_task = vars(asyncio.tasks)["_swap_current_task"]


class _EveryTask(weakref.WeakSet[Any]):
    """asyncio's set of tasks, which also shows those that our loops hold."""

    def __iter__(self) -> Iterator[Any]:
        # The lists are made in one step each: another thread may be adding tasks.
        ours = [list(loop.tasks) for loop in list(_loops)]
        return itertools.chain(super().__iter__(), *ours)

    def __len__(self) -> int:
        return super().__len__() + sum(len(loop.tasks) for loop in list(_loops))

    def __contains__(self, item: object) -> bool:
        return super().__contains__(item) or any(item in loop.tasks for loop in list(_loops))


def show_tasks_of(loop: HasTasks) -> None:
    """Let ``asyncio.all_tasks()`` see the tasks of ``loop`` for as long as the loop lives."""
    _loops.add(loop)
    for name in ("_scheduled_tasks", "_all_tasks"):
        registered = getattr(asyncio.tasks, name, None)
        if type(registered) is weakref.WeakSet:
            registered.__class__ = _EveryTask


def _note_fork() -> None:
    running_loops.clear()
    for loop in list(_loops):
        loop.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
