"""The tasks of live loops as text: ``format_tasks``, ``print_tasks``, and printing on a signal."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, TextIO

from runtime.kernel.arguments.kinds import instance_of
from runtime.kernel.compat.registry import every_loop
from runtime.kernel.core import LoopCore
from runtime.observe.loop_argument import loop_of
from runtime.observe.task_info import TaskInfo, tasks


def format_tasks(loop: LoopCore | None = None) -> str:
    """Return the text of ``print_tasks``."""
    return as_text(tasks(loop_of(loop, "format_tasks")))


def print_tasks(loop: LoopCore | None = None, *, file: TextIO | None = None) -> None:
    """Print the tasks of ``loop``, by default of the running loop, and which waits for which.

    A task that another one waits for is indented below it. Each is shown with its state and age,
    the lines of the program where it is suspended, the object that it waits for, and the tasks that
    hold this object. ``file`` is by default stderr. Raises RuntimeError if no loop is given and
    none is running, and TypeError for an argument of another type.

    >>> import runtime, sys
    >>> async def main() -> None:
    ...     runtime.create_task(runtime.sleep(60), name="sleeper")
    ...     await runtime.sleep(0)
    ...     runtime.print_tasks(file=sys.stdout)
    >>> runtime.run(main())
    2 tasks
    Task-... main(), running, ... s old...
    sleeper: sleep(), waiting, ... s old
      waits for <SleepFuture pending cb=[wake-up of <Task 'sleeper'>]...
    """
    _check_file(file, "print_tasks")
    text = as_text(tasks(loop_of(loop, "print_tasks")))
    print(text, file=file if file is not None else sys.stderr)


def _check_file(file: object, caller: str) -> None:
    if file is not None and not callable(getattr(file, "write", None)):
        raise TypeError(f"{caller}() expected a text file or None, got {file!r}")


def check_signal(number: object, caller: str) -> None:
    """Raise TypeError, which names the function ``caller``, unless ``number`` is an integer."""
    instance_of(int, number, caller, "the number of a signal, such as signal.SIGUSR1")


def as_text(found: Iterable[TaskInfo]) -> str:
    """Return the text of ``print_tasks`` for some tasks."""
    by_id = {task.id: task for task in found}
    awaited = {each for task in by_id.values() for each in task.awaits}
    lines = [f"{len(by_id)} {'task' if len(by_id) == 1 else 'tasks'}"]
    shown: set[int] = set()
    # Tasks that wait for one another in a cycle are below no other task: they come last.
    roots = [task for task in by_id.values() if task.id not in awaited]
    for root in (*roots, *by_id.values()):
        if root.id not in shown:
            lines += _lines_below(root, by_id, shown)
    return "\n".join(lines)


def _lines_below(root: TaskInfo, by_id: dict[int, TaskInfo], shown: set[int]) -> list[str]:
    """Return the lines of a task and of those that it waits for; a chain may be very long."""
    lines: list[str] = []
    to_do = [(root, 0)]
    while to_do:
        task, depth = to_do.pop()
        # Deeper levels are not indented further: the lines would become too long.
        indent = "  " * min(depth, _MOST_INDENTED)
        if task.id in shown:
            lines.append(f"{indent}{task.name}: see above or below")
            continue
        shown.add(task.id)
        lines += [indent + line for line in describe_task(task, by_id)]
        below = [by_id[each] for each in task.awaits if each in by_id]
        to_do += [(each, depth + 1) for each in reversed(below)]
    return lines


_MOST_INDENTED = 20


def describe_task(task: TaskInfo, by_id: dict[int, TaskInfo]) -> list[str]:
    """Return lines that describe a task, among the tasks in ``by_id``."""
    words = [f"{task.name}: {task.coroutine}()", task.state]
    if task.cancelling:
        words.append("being cancelled")
    if task.age is not None:
        words.append(f"{task.age:.2f} s old")
    lines = [", ".join(words), *(f"  in {place}" for place in task.stack)]
    if task.waits_for:
        lines.append(f"  waits for {task.waits_for}")
    if task.held_by:
        names = ", ".join(by_id[each].name for each in task.held_by if each in by_id)
        lines.append(f"  which is held by {names}")
    return lines


def print_tasks_on(
    number: int, *, file: TextIO | None = None
) -> Callable[[int, FrameType | None], Any] | int | None:
    """Print the tasks of all loops of the process whenever the process gets a signal.

    ``number`` is the number of the signal, such as ``signal.SIGUSR1``. It is handled between two
    instructions of the main thread, also while a callback blocks its loop there, and so shows such
    a callback as well. ``file`` is by default stderr. Returns the previous handler, for
    ``signal.signal``. Raises ValueError in another thread than the main thread, and for a signal
    that cannot be handled, and TypeError for an argument of another type.
    """
    check_signal(number, "print_tasks_on")
    _check_file(file, "print_tasks_on")

    def print_all(number: int, frame: FrameType | None) -> None:
        print(all_loops_as_text(), file=file if file is not None else sys.stderr, flush=True)

    return signal.signal(number, print_all)


def all_loops_as_text() -> str:
    """Return the text of ``print_tasks`` for each loop that is not closed, with a heading."""
    threads = {thread.ident: thread.name for thread in threading.enumerate()}
    parts: list[str] = []
    for loop in every_loop():
        if not loop.is_closed():
            thread = threads.get(loop._thread_id)
            where = "not running" if thread is None else f"running in thread {thread!r}"
            parts.append(f"{type(loop).__name__} {where}: {as_text(tasks(loop))}")
    return "\n\n".join(parts) if parts else "There is no event loop."
