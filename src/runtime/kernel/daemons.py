"""Daemon tasks, and the work that belongs to them, which does not keep a loop from being idle.

As with threads, the tasks, timers and callbacks that a daemon starts belong to the daemon too. Each
of them has a context, which is a copy of the daemon's. So a context variable marks them, which
costs nothing for programs without daemons. Objects without a context, such as the watcher of a
connection, read the variable when they are made.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import Any

from runtime.kernel.native.mypyc import mypyc_attr

in_daemon: ContextVar[bool] = ContextVar("in_daemon", default=False)
"""Whether code in this context runs on behalf of a daemon task."""


def daemon_context(context: Context | None, daemon: bool) -> Context:
    """Return a copy of ``context``, or of the current one, that is a daemon's if ``daemon``."""
    copy = context.copy() if context is not None else copy_context()
    copy.run(in_daemon.set, daemon)
    return copy


def is_daemon(context: Any) -> bool:
    """Return whether ``context`` belongs to a daemon task, or to work that one has started."""
    if not isinstance(context, Context):
        return False
    found: bool = context.get(in_daemon, False)
    return found


@mypyc_attr(allow_interpreted_subclasses=True)
class ExternalWork:
    """Work outside the loop, in a thread or a process, whose end will wake the loop.

    It is in ``Scheduler._external_work`` from its start until the loop knows that it has ended.
    """

    __slots__ = ("daemon",)

    def __init__(self) -> None:
        self.daemon = in_daemon.get()
