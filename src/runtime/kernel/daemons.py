"""What belongs to a daemon task, and so does not keep a loop from being idle.

As with threads, what a daemon begins is a daemon's too: tasks, timers, callbacks. They all have a
context, which is a copy of the one in which they were begun; so a variable in there tells, and
costs nothing where nobody asks. What has no context, such as the watcher of a connection, takes
note of it when it is made.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import Any

in_daemon: ContextVar[bool] = ContextVar("in_daemon", default=False)
"""Whether what runs in this context was begun by a daemon task."""


def daemon_context(context: Context | None, daemon: bool) -> Context:
    """Return a copy of ``context``, by default of the current one, for a daemon task, or not."""
    copy = context.copy() if context is not None else copy_context()
    copy.run(in_daemon.set, daemon)
    return copy


def is_daemon(context: Any) -> bool:
    """Return whether ``context`` is that of a daemon task, or of something that one began."""
    if not isinstance(context, Context):
        return False
    found: bool = context.get(in_daemon, False)
    return found


class ExternalWork:
    """Something that goes on outside the loop, in a thread or a process, and will wake it.

    It stands in ``Scheduler._external_work`` from its beginning until the loop was told of its end.
    """

    __slots__ = ("daemon",)

    def __init__(self) -> None:
        self.daemon = in_daemon.get()
