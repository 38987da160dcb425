"""Recovery of tasks, timers and calls that an interrupt has dropped.

A task that is not done is in the ready queue, or subscribed to a future: see ``kernel/task.py``. In
the interpreted build, a signal handler that raises can interrupt the loop after a task was taken
from one of these places, and before it was put into the other. The exception leaves the loop, as it
should. But the task would never run again, and a task or a thread that waits for it would wait for
ever. So the loop calls ``recover_tasks`` when an exception leaves it; otherwise this costs nothing.

The same holds for a sleep, or the deadline of a scope, that was taken from the ready queue and has
not run yet, and for the timers and the calls of other threads that were moving to the ready queue.
Each of these is afterwards in one place. A callback that was taken from the ready queue is not
called again: it may have been interrupted itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runtime.kernel.future import FutureCore, cancel_future, wake_subscribers
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.task import TaskCore


def recover_tasks(loop: Scheduler, waited_for: Iterable[Any] = ()) -> None:
    """Queue or end the tasks of ``loop`` that are in neither place, and what else was dropped.

    A task that has lost the future that it was about to wait for is cancelled, so that it cleans
    up. The tasks in ``waited_for`` are examined as well: if the interrupt came at the end of such a
    task, the loop may have removed it already, although it is not marked as done. To be called
    while no task is running.
    """
    loop._recover_queue()
    queued = set(map(id, loop._ready))
    for task in dict.fromkeys((*loop._tasks, *waited_for)):
        if not isinstance(task, TaskCore) or task.done():
            continue
        _queue_deadlines(loop, task, queued)
        if id(task) in queued:
            continue
        awaited = task._waits_for()
        if awaited is None:
            if getattr(task.get_coro(), "cr_frame", task) is None:
                loop._tasks.pop(task, None)
                cancel_future(task, None)  # The coroutine has ended, and its result is lost.
            else:
                task.cancel()
                loop._ready_append(task)
        elif not isinstance(awaited, FutureCore):
            continue
        elif awaited.done():
            if not _subscribed(task, awaited):
                loop._ready_append(task)
            wake_subscribers(awaited)
        elif not _subscribed(task, awaited):
            task.cancel()
            loop._ready_append(task)
        elif awaited._is_due():
            if id(awaited) not in queued:
                queued.add(id(awaited))
                loop._ready_append(awaited)  # A sleep that was about to end.
        elif isinstance(awaited, TaskCore) and awaited not in loop._tasks:
            cancel_future(awaited, None)  # The awaited task has ended in the same way.


def _queue_deadlines(loop: Scheduler, task: TaskCore, queued: set[int]) -> None:
    """Queue the deadlines of the scopes around ``task`` that were about to run."""
    scope = task._scope
    while scope is not None:
        timer: Any = getattr(scope, "_timer", None)
        if timer is not None and timer._is_due() and id(timer) not in queued:
            queued.add(id(timer))
            loop._ready_append(timer)
        scope = scope._parent


def _subscribed(task: TaskCore, future: FutureCore) -> bool:
    return future._waiter is task or any(each is task for each in future._subscribers or ())
