"""Idleness: the test whether a loop that is about to wait will ever have work again.

Work can come from the ready queue, a timer, an event of a watched descriptor, a call in a thread
that the loop waits for, any other thread, or a signal that the program handles. A source of work
that belongs to daemon tasks alone does not keep the loop from being idle.

None of this is on the hot path: a loop calls it when it is about to wait, and only in debug mode,
in tests, and in a run with ``until="idle"``.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Collection, Iterable
from typing import Any

from runtime.kernel.daemons import is_daemon
from runtime.kernel.descriptors import DescriptorWatcher
from runtime.kernel.future import FutureCore
from runtime.kernel.handles import Runnable
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.signals import get_handler
from runtime.kernel.threads.unknown_threads import can_be_woken_by_unknown_thread, unknown_threads
from runtime.kernel.watcher import Watcher

_RUNNERS = (
    "asyncio.runners",
    "runtime.interrupts",
    "runtime.observe.printing",
    "runtime.observe.traces",
    "unittest.signals",
    "pytest_timeout",
)
"""Modules whose signal handlers end a task, a test or a test run, or print, and start no work."""


RECHECK_INTERVAL = 0.05
"""Seconds between two tests while only threads could wake the loop: their end does not wake it."""


def checked_wait(
    loop: Scheduler, own_threads: Iterable[threading.Thread], timeout: float, deadlocks: bool
) -> float:
    """Return the number of seconds, up to ``timeout``, that a loop with an empty queue may wait.

    A negative number means no limit. With ``deadlocks``, the function raises DeadlockError if there
    is no limit, there are tasks, and nothing can wake any of them. Any thread could wake them,
    except ``own_threads``, and except the threads of C libraries if no reference to the loop was
    given to such a library.
    """
    others = bool(set(threading.enumerate()) - {threading.current_thread(), *own_threads})
    if timeout < 0 and deadlocks:
        if (
            loop._external_work
            or not loop._poller.idle()
            or loop._signal_handlers
            or _handles_signals()
        ):
            return timeout
        if not others and ordinary_tasks(loop):
            if can_be_woken_by_unknown_thread(loop):
                others = True
            elif loop._ready or loop._has_inbound:
                return 0.0  # A thread has ended since the loop found its queue empty.
            else:
                from runtime.kernel.diagnostics.deadlock import deadlock_error

                raise deadlock_error(_tasks_of(loop))
    if not deadlocks and not others:
        # A thread that ``threading`` does not know may be the reason that the loop is not idle.
        others = bool(unknown_threads())
    return RECHECK_INTERVAL if others and not 0 <= timeout <= RECHECK_INTERVAL else timeout


def is_idle(
    loop: Scheduler,
    own_threads: Iterable[threading.Thread],
    before: Iterable[threading.Thread],
    unknown_before: Collection[int],
) -> bool:
    """Return whether a loop has no more work, except that of its daemons.

    Live threads count as work unless they are daemon threads, are among ``own_threads``, or existed
    ``before``. Threads that ``threading`` does not know count if they can wake a task that is not a
    daemon, unless their native identifiers are in ``unknown_before``.
    """
    # The threads come first: one that ends later may have put a call into the queue before that.
    others = set(threading.enumerate()) - {threading.current_thread(), *own_threads, *before}
    if not all(thread.daemon for thread in others) or not _only_daemons_have_work(loop):
        return False
    # All work that is left is the daemons'. It could still wake a task that is not a daemon.
    return not ordinary_tasks(loop) or not _daemons_may_wake_others(loop, unknown_before)


def _only_daemons_have_work(loop: Scheduler) -> bool:
    """Return whether the entries of the ready queue and all sources of events are the daemons'."""
    if loop._has_inbound:
        return False
    ready = loop._ready
    if ready and not (_is_daemons(ready[0]) and all(map(_is_daemons, list(ready)))):
        return False
    handlers = [installed.handle for installed in list(loop._signal_handlers.values())]
    return (
        all(map(_is_daemons, loop._timers.pending()))
        and all(map(_watches_for_daemons, loop._poller.watchers()))
        and all(map(_is_daemons, handlers))
        and all(work.daemon for work in list(loop._external_work))
    )


def _daemons_may_wake_others(loop: Scheduler, unknown_before: Collection[int]) -> bool:
    """Return whether daemons have any work, or an unknown thread may wake the loop."""
    return (
        bool(loop._ready or loop._signal_handlers or loop._external_work)
        or bool(loop._timers.pending())
        or not loop._poller.idle()
        or can_be_woken_by_unknown_thread(loop, unknown_before)
        # An unknown thread that has ended in the meantime may have left a call.
        or bool(loop._ready or loop._has_inbound)
    )


def ordinary_tasks(loop: Scheduler) -> list[Any]:
    """Return the tasks that are not daemons."""
    return [task for task in _tasks_of(loop) if not _is_daemons(task)]


def _tasks_of(loop: Scheduler) -> set[Any]:
    """Return the tasks that have not ended, including those of other classes, from a factory."""
    tasks: set[Any] = asyncio.all_tasks(loop)  # type: ignore[arg-type]
    return tasks


def _is_daemons(runnable: Any) -> bool:
    """Return whether ``runnable`` was started by a daemon, or only daemons wait for it."""
    if hasattr(runnable, "get_context"):
        return is_daemon(runnable.get_context())
    if isinstance(runnable, FutureCore):
        return not runnable.done() and _only_daemons_wait(runnable)
    behalf: object = runnable._on_behalf_of() if isinstance(runnable, Runnable) else None
    return isinstance(behalf, FutureCore) and _only_daemons_wait(behalf)


def _watches_for_daemons(watcher: Watcher) -> bool:
    if not isinstance(watcher, DescriptorWatcher):
        return watcher.daemon
    handles = [each for each in (watcher.reader, watcher.writer) if each is not None]
    waits = [each for each in (watcher.reading, watcher.writing) if each is not None]
    return all(map(_is_daemons, handles)) and all(map(_only_daemons_wait, waits))


def _only_daemons_wait(future: FutureCore) -> bool:
    """Return whether all subscribers of ``future`` belong to daemons."""
    # A subscriber may work for another future, as gather()'s do, so follow the whole chain.
    waited_for = [future]
    known = {future}
    for each in waited_for:
        for subscriber in each._list_subscribers():
            if isinstance(subscriber, tuple):
                if not is_daemon(subscriber[1]):
                    return False
            elif hasattr(subscriber, "get_context"):
                if not is_daemon(subscriber.get_context()):
                    return False
            else:
                behalf: object = subscriber._on_behalf_of()
                if not isinstance(behalf, FutureCore):
                    return False
                if behalf not in known:
                    known.add(behalf)
                    waited_for.append(behalf)
    return True


def _handles_signals() -> bool:
    """Return whether the program has signal handlers of its own, from ``signal.signal``.

    The default handler of Ctrl-C, and those of runners, do not count: they only end the run.
    """
    for number in signal.valid_signals():
        handler: Any = get_handler(number)
        if callable(handler) and handler is not signal.default_int_handler:
            if isinstance(handler, functools.partial):
                handler = handler.func
            if getattr(handler, "__module__", None) not in _RUNNERS:
                return True
    return False
