"""The report of a deadlock: tasks that wait, and nothing left that could wake any of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runtime.kernel.describe import await_chain, describe_coroutine


class DeadlockError(RuntimeError):
    """No task can ever run again. ``tasks`` are those that wait; the message says for what."""

    def __init__(self, message: str, tasks: Iterable[Any]) -> None:
        super().__init__(message)
        self.tasks = tuple(tasks)


def deadlock_of(tasks: Iterable[Any]) -> DeadlockError:
    """Return the exception that lists ``tasks``, where each waits, and on what."""
    waiting = sorted(tasks, key=lambda task: str(task.get_name()))
    lines = [
        "Deadlock: no task can ever run again.",
        "Nothing is ready, no timer, descriptor or signal is watched, no other thread is alive.",
    ]
    for task in waiting:
        lines.append(f"  {task.get_name()}: {describe_coroutine(task.get_coro())}")
        places = await_chain(task.get_coro())
        lines += [f"    in {name}() at {file}:{line}" for file, line, name in places]
        lines.append(f"    waits for {task.waits_for()!r}")
    return DeadlockError("\n".join(lines), waiting)
