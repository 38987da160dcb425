"""The running loop and the running task of the current thread."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from threading import get_ident
from typing import Any

from runtime.kernel.compat import registry
from runtime.kernel.compat.registry import loop_of_thread
from runtime.kernel.core import LoopCore
from runtime.kernel.public_types import Task
from runtime.kernel.task import TaskCore


def get_running_loop() -> LoopCore:
    """Return the loop that runs in this thread.

    Raises RuntimeError if no loop is running, or if the loop is not one of runtime's.
    """
    running = loop_of_thread(get_ident())
    if running is not None:
        loop: LoopCore = running
        return loop
    raise RuntimeError(
        f"the running event loop must be one of runtime's, got {asyncio.get_running_loop()!r}"
    )


def current_task(loop: LoopCore | None = None) -> Task[Any] | None:
    """Return the task that runs in ``loop``, by default the running loop; None in a callback."""
    task: Any = registry.current_task(loop if loop is not None else get_running_loop())  # type: ignore[arg-type]
    return task  # type: ignore[no-any-return]


class _TaskSet(set[Any]):
    """A set of tasks, over which an iteration goes in the order of their creation.

    So it has asyncio's type, and what is made of it, such as a list, is in order. Other sets that
    are made of it, as by ``-``, are plain sets.
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(set.__iter__(self), key=_creation))

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}" if self else "set()"


def _creation(task: Any) -> float:
    # A class of the program may have an attribute of the same name for something else.
    return task._number if isinstance(task, TaskCore) else math.inf


def all_tasks(loop: LoopCore | None = None) -> set[Task[Any]]:
    """Return the tasks of ``loop``, by default the running loop, that have not ended.

    An iteration over the set goes in the order of their creation; tasks of asyncio, which do not
    tell it, come last.

    >>> import runtime
    >>> async def main() -> None:
    ...     for name in ("first", "second"):
    ...         runtime.create_task(runtime.sleep(0), name=name)
    ...     print([task.get_name() for task in runtime.all_tasks()][1:])
    >>> runtime.run(main())
    ['first', 'second']
    """
    tasks: Any = asyncio.all_tasks(loop if loop is not None else get_running_loop())  # type: ignore[arg-type]
    return _TaskSet(tasks)
