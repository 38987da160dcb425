"""The tasks of a loop at one moment: their state, age and stack, and which task waits for which.

All of it is read from the tasks, which keep nothing for it: so a task that is not looked at costs
nothing. The functions may be called in any thread. In another thread than the loop's, the tasks
may run meanwhile, and two facts about a task may be of different moments.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType, MethodType
from typing import Any, Final

from runtime.kernel.arguments.kinds import check_callable
from runtime.kernel.compat.registry import asyncio_tasks_of
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.awaited_by import waiters_of
from runtime.kernel.diagnostics.deadlock import Wait, wait_of
from runtime.kernel.diagnostics.describe import await_chain
from runtime.observe.loop_argument import loop_of


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the program at which a task is suspended, or which it runs."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.function}() at {self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task at one moment. Other tasks are named by their ``id``.

    ``state`` is ``"running"``, ``"ready"`` (it waits for its turn) or ``"waiting"``. ``age`` is in
    seconds, with an error of some hundredths, and None for a task of asyncio. ``stack`` begins with
    the outermost coroutine, and leaves the functions of this package and of asyncio out.
    """

    id: int
    name: str
    coroutine: str
    state: str
    cancelling: int
    age: float | None
    stack: tuple[Place, ...]
    waits_for: str
    """The object that the task waits for, in words; empty unless the state is waiting."""

    awaits: tuple[int, ...]
    """The tasks that this one waits for, directly or through futures and groups."""

    held_by: tuple[int, ...]
    """The tasks that hold the lock or the semaphore that this one waits for, as far as known.

    They are known if they are inside an ``async with`` statement.
    """


def tasks(
    loop: LoopCore | None = None, *, pause: Callable[[], object] | None = None
) -> list[TaskInfo]:
    """Return the tasks of ``loop`` that have not ended, in the order of their creation.

    The loop is by default the running one. ``pause()`` is called between two tasks: in another
    thread than the loop's, it can give the loop its turn. Raises RuntimeError if no loop is given
    and none is running, and TypeError for an argument of another type.

    >>> import runtime
    >>> async def main() -> None:
    ...     runtime.create_task(runtime.sleep(60), name="sleeper")
    ...     await runtime.sleep(0)
    ...     for task in runtime.observe.tasks():
    ...         print(task.name, task.state, task.coroutine)
    >>> runtime.run(main())
    Task-... running main
    sleeper waiting sleep
    """
    check_callable(pause, "tasks")
    return list(each_task(loop_of(loop, "tasks"), pause))


def each_task(loop: LoopCore, pause: Callable[[], object] | None = None) -> Iterator[TaskInfo]:
    """Iterate over the descriptions that ``tasks`` returns.

    Little is kept from one task to the next. If the caller keeps nothing either, very many tasks do
    not cause a full garbage collection, which would stop the program.
    """
    if pause is None:
        pause = no_pause
    # asyncio.all_tasks() takes milliseconds for very many tasks, in one piece. A set is copied in a
    # small part of that time.
    found = _in_order(list(loop._tasks), asyncio_tasks_of(loop), pause)
    awaits: dict[int, list[int]] = {}
    locks = _Locks()
    for task in found:
        locks.look_at(task)
        for waiter in _waiting_tasks(task):
            awaits.setdefault(id(waiter), []).append(id(task))
        pause()
    held = locks.held_by(pause)
    now = loop._poller.now if loop.is_running() else None
    for task in found:
        wait = wait_of(task)
        awaited = tuple(awaits.get(id(task), ()))
        yield _info(loop, task, wait, now, awaited, held.get(id(wait.subject), ()))
        pause()


_NUMBERED_AT_ONCE: Final = 64
"""Tasks to put in order between two calls of ``pause()``: this takes less time than the rest."""


def no_pause() -> None:
    """Do nothing: the loop's own thread need not pause."""


def _in_order(ours: list[Any], others: set[Any], pause: Callable[[], object]) -> list[Any]:
    """Return tasks in the order of their creation; those of asyncio come last, by their names."""
    by_number: dict[int, Any] = {}
    for task in ours:
        by_number[task._number] = task
        if len(by_number) % _NUMBERED_AT_ONCE == 0:
            pause()
    last = sorted(others, key=lambda task: str(task.get_name()))
    return [by_number[number] for number in sorted(by_number)] + last


def _info(
    loop: LoopCore,
    task: Any,
    wait: Wait,
    now: float | None,
    awaits: tuple[int, ...],
    held_by: tuple[int, ...],
) -> TaskInfo:
    created: float | None = getattr(task, "_created", None)
    coro = task.get_coro()
    state = "ready" if wait.subject is None else "waiting"
    if loop._current is task:
        state = "running"
    return TaskInfo(
        id=id(task),
        name=str(task.get_name()),
        coroutine=str(getattr(coro, "__qualname__", type(coro).__name__)),
        state=state,
        cancelling=task.cancelling(),
        age=None if created is None or now is None else max(0.0, now - created),
        stack=tuple(map(_place, wait.frames)),
        waits_for=wait.describe_subject() if state == "waiting" else "",
        awaits=awaits,
        held_by=held_by,
    )


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)


def _waiting_tasks(task: Any) -> list[Any]:
    """Return the tasks that wait for a task, directly or through other futures."""
    found: list[Any] = []
    seen = {id(task)}
    to_do = [task]
    for future in to_do:
        for waiter in waiters_of(future):
            if id(waiter) in seen:
                continue
            seen.add(id(waiter))
            if hasattr(waiter, "get_coro"):
                found.append(waiter)
            else:
                to_do.append(waiter)
    return found


class _Locks:
    """The objects of ``async with`` statements, such as locks, and the tasks that are inside."""

    def __init__(self) -> None:
        # The objects that tasks wait for, by their ids, and the ids of those objects by task.
        self._wanted: dict[int, object] = {}
        self._wanted_by: dict[int, int] = {}
        # The ids of the objects that each task has entered.
        self._entered_by: dict[int, tuple[int, ...]] = {}

    def look_at(self, task: Any) -> None:
        """Note which object a task waits for, and which ones it has entered."""
        subject = wait_of(task).subject
        if hasattr(subject, "__aexit__"):
            self._wanted[id(subject)] = subject
            self._wanted_by[id(task)] = id(subject)
        entered = [id(each) for coro in await_chain(task.get_coro()) for each in _entered(coro)]
        if entered:
            self._entered_by[id(task)] = tuple(entered)

    def held_by(self, pause: Callable[[], object]) -> dict[int, tuple[int, ...]]:
        """Return the tasks that hold an object which another task waits for, by its id."""
        held: dict[int, tuple[int, ...]] = {}
        for count, (task, entered) in enumerate(self._entered_by.items(), 1):
            if count % _NUMBERED_AT_ONCE == 0:
                pause()
            for subject in set(entered) & self._wanted.keys():
                # The statement of a task that still waits has the object on its stack as well.
                if entered.count(subject) > (self._wanted_by.get(task) == subject):
                    held[subject] = (*held.get(subject, ()), task)
        return held


def _entered(coro: object) -> list[object]:
    """Return the objects of the ``async with`` statements that a suspended coroutine is in.

    The interpreter keeps what it needs to leave the statement on the stack of the coroutine: up to
    Python 3.13 the bound method ``__aexit__``, from 3.14 on the function and then the object. The
    garbage collector shows the values of the stack.
    """
    found: list[object] = []
    before: object = None
    for value in gc.get_referents(coro):
        if isinstance(value, MethodType) and value.__name__ == "__aexit__":
            found.append(value.__self__)
        elif before is not None and getattr(type(value), "__aexit__", None) is before:
            found.append(value)
        before = value
    return found
