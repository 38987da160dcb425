"""Copies of tasks for the tools of Python 3.14 and later that read the memory of a process.

``python -m asyncio ps``, ``pstree`` and the sampling profiler's async-aware mode walk a list of C
structures that belong to ``asyncio.Task``. Our tasks are not in that list. While ``TaskCopies`` is
in use, each of our tasks has a copy there: an ``asyncio.Task`` with the same coroutine and name,
which no loop ever runs. The copies belong to a separate loop object, so that
``asyncio.all_tasks()`` leaves them out.

::

    our task  --- copies[task] --->  asyncio.Task  --- is in --->  asyncio's list of the thread
        |                                 |
        +------- the coroutine -----------+   (its stack is read live)

Invariants: a task that runs has a copy, and the thread's state names this copy as the running task.
Whenever the loop is about to wait, every task that has not ended has a copy, no other task has one,
and the copies await one another as the tasks do.

This costs nothing unless it is turned on: the loop then runs its turns with another function.

Source: ``Modules/_asynciomodule.c`` and ``Modules/_remote_debugging`` of CPython.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextvars import Context
from time import monotonic
from typing import Any, Final

from runtime.kernel.compat.registry import TaskCopy, swap_current_task
from runtime.kernel.diagnostics.awaited_by import waiters_of
from runtime.kernel.scheduler import Scheduler

AVAILABLE: Final = sys.version_info >= (3, 14)
"""Whether this Python has such tools."""

_LONGEST_STALE: Final = 0.05
"""Seconds after which a loop that never waits updates the copies."""


class _Nowhere:
    """The loop of the copies, with the methods that ``asyncio.Task`` calls. It runs nothing."""

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return False

    def call_soon(self, callback: object, *args: object, context: object = None) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        pass


_NOWHERE: Final[Any] = _Nowhere()
_NO_VARIABLES: Final = Context()


class TaskCopies:
    """Copies of the tasks of ``loop`` for external tools. To be used in the loop's thread only."""

    def __init__(self, loop: Scheduler) -> None:
        self._loop = loop
        self._copies: dict[Any, TaskCopy] = {}
        self._edges: set[tuple[Any, Any]] = set()
        self._fresh_until = 0.0

    def run(self, task: Any, step: Callable[[Any], None]) -> None:
        """Run a step of ``task``, with its copy as the thread's running task."""
        loop = self._loop
        copy = self._copies.get(task) or self._add(task)
        swap_current_task(loop, copy)
        try:
            step(task)
        finally:
            swap_current_task(loop, None)
            if task.done():
                self._copies.pop(task, None)

    def refresh(self) -> None:
        """Update the copies if the loop is about to wait, or has been busy for long."""
        now = monotonic()
        if self._loop._ready and now < self._fresh_until:
            return
        self._fresh_until = now + _LONGEST_STALE
        tasks = self._loop._tasks
        for ended in [task for task in list(self._copies) if task not in tasks]:
            del self._copies[ended]
        for task in list(tasks):
            copy = self._copies.get(task) or self._add(task)
            if copy is not None and copy.get_name() != task.get_name():
                copy.set_name(task.get_name())
        edges = set(self._edges_now())
        for awaited, waiter in self._edges - edges:
            _discard_edge(awaited, waiter)
        for awaited, waiter in edges - self._edges:
            _add_edge(awaited, waiter)
        self._edges = edges

    def clear(self) -> None:
        """Drop all copies."""
        edges, self._edges = self._edges, set()
        for awaited, waiter in edges:
            _discard_edge(awaited, waiter)
        self._copies.clear()

    def _add(self, task: Any) -> TaskCopy | None:
        coro = task.get_coro()
        try:
            copy = TaskCopy(coro, loop=_NOWHERE, name=task.get_name(), context=_NO_VARIABLES)
        except TypeError:
            return None  # asyncio's tasks do not accept this kind of coroutine.
        copy._log_destroy_pending = False  # type: ignore[attr-defined]
        copy.copied = task
        self._copies[task] = copy
        return copy

    def _edges_now(self) -> Iterator[tuple[Any, Any]]:
        """Yield pairs of a task and a waiter of it, both as they are in asyncio's list."""
        for task, copy in list(self._copies.items()):
            for waiter in _waiting_tasks(task):
                yield copy, self._copies.get(waiter, waiter)
            awaited = task._waits_for()
            if isinstance(awaited, asyncio.Task) and awaited not in self._copies:
                yield awaited, copy


def _waiting_tasks(future: Any) -> Iterator[Any]:
    """Yield the tasks that wait for a future, directly or through other futures."""
    seen = [future]
    for each in seen:
        for waiter in waiters_of(each):
            if isinstance(waiter, asyncio.Task):
                yield waiter
            elif all(waiter is not before for before in seen):
                seen.append(waiter)


def _add_edge(awaited: Any, waiter: Any) -> None:
    vars(asyncio)["future_add_to_awaited_by"](awaited, waiter)


def _discard_edge(awaited: Any, waiter: Any) -> None:
    vars(asyncio)["future_discard_from_awaited_by"](awaited, waiter)
