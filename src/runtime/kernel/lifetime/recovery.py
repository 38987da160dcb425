"""Tasks that an interrupt has dropped between two places, found and put into one of them.

A task that is not done is in the ready queue, or subscribed to a future: see ``kernel/task.py``.
The handler of a signal that raises can interrupt the loop, where it is interpreted, after it has
taken a task from one of these places and before it has put it into the other. The exception leaves
the loop, as it should; but such a task would never run again, and whoever waits for it would wait
for ever. Nothing is looked at while all goes well: only when an exception leaves the loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runtime.kernel.future import FutureCore, cancel_future
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.task import TaskCore


def recover_tasks(loop: Scheduler, waited_for: Iterable[Any] = ()) -> None:
    """Queue, or end, the tasks of ``loop`` that nothing would ever run again.

    One that has lost what it was about to wait for is cancelled, so that it cleans up. Those that
    are ``waited_for`` are looked at as well: the loop may have forgotten one already, without it
    being told that it has ended. To be called while no task is being run.
    """
    queued = set(map(id, loop._ready))
    for task in {*loop._tasks, *waited_for}:
        if not isinstance(task, TaskCore) or task.done() or id(task) in queued:
            continue
        awaited = task._waits_for()
        if awaited is None:
            if getattr(task.get_coro(), "cr_frame", task) is None:
                loop._tasks.discard(task)
                cancel_future(task, None)  # Its coroutine has ended, and with what, is lost.
            else:
                task.cancel()
                loop._ready_append(task)
        elif not isinstance(awaited, FutureCore):
            continue
        elif awaited.done():
            if not _subscribed(task, awaited):
                loop._ready_append(task)
            awaited._wake_subscribers()
        elif not _subscribed(task, awaited):
            task.cancel()
            loop._ready_append(task)
        elif isinstance(awaited, TaskCore) and awaited not in loop._tasks:
            cancel_future(awaited, None)  # As above.


def _subscribed(task: TaskCore, future: FutureCore) -> bool:
    return future._waiter is task or any(each is task for each in future._subscribers or ())
