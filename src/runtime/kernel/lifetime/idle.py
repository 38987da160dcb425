"""Whether anything can ever happen again, in a loop that has nothing to do.

What can: something in the ready queue, a timer, the event of a watched descriptor, work in a thread
that the loop waits for, any other thread, a signal that the program handles. Each is somebody's:
what only daemon tasks have to do with keeps no loop from being idle.

Nothing here is on a hot path: a loop asks when it is about to wait, and only in debug mode, in
tests, and in ``run_until_idle``.
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
from runtime.kernel.diagnostics.deadlock import deadlock_of
from runtime.kernel.future import FutureCore
from runtime.kernel.handles import Runnable
from runtime.kernel.poller import Watcher
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.signals import get_handler
from runtime.kernel.threads.unknown_threads import may_be_woken, unknown_threads

_RUNNERS = ("asyncio.runners", "runtime.interrupts", "unittest.signals", "pytest_timeout")
"""Modules whose signal handlers only ever end what runs: a task, a test, a test run."""


LOOK_AGAIN = 0.05
"""Seconds after which a loop looks again that only threads could wake: none tells when it ends."""


def checked_wait(
    loop: Scheduler, own_threads: Iterable[threading.Thread], timeout: float, deadlocks: bool
) -> float:
    """Return the seconds, up to ``timeout``, for which a loop that has nothing ready may wait.

    A negative number is without limit. With ``deadlocks``, DeadlockError is raised when there is no
    limit, there are tasks, and nothing can wake any of them: any thread could, but for
    ``_own_threads``, and those of C libraries as long as the loop was not handed out to them.
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
            if not may_be_woken(loop):
                raise deadlock_of(_tasks_of(loop))
            others = True
    if not deadlocks and not others:
        # They may be what is_idle() took for a reason to go on.
        others = bool(unknown_threads())
    return LOOK_AGAIN if others and not 0 <= timeout <= LOOK_AGAIN else timeout


def is_idle(
    loop: Scheduler,
    own_threads: Iterable[threading.Thread],
    before: Iterable[threading.Thread],
    unknown_before: Collection[int],
) -> bool:
    """Return whether a loop has nothing to do any more, but for what its daemons would.

    Threads that are alive count unless they are daemons, or were there ``before``. So do threads
    that ``threading`` does not know, if they can wake a task that is no daemon, unless they are
    among ``_unknown_before``, by their native identifiers.
    """
    ready = loop._ready
    if ready and not (_is_daemons(ready[0]) and all(map(_is_daemons, list(ready)))):
        return False
    timers = loop._timers.pending()
    watchers = loop._poller.watchers()
    handlers = [installed.handle for installed in list(loop._signal_handlers.values())]
    if not (
        all(map(_is_daemons, timers))
        and all(map(_watches_for_daemons, watchers))
        and all(map(_is_daemons, handlers))
        and all(work.daemon for work in list(loop._external_work))
    ):
        return False
    others = set(threading.enumerate()) - {threading.current_thread(), *own_threads, *before}
    if not all(thread.daemon for thread in others):
        return False
    # What is left is the daemons'. They could still wake a task that is none, if there is one.
    return not ordinary_tasks(loop) or not (
        ready
        or timers
        or len(watchers) > 1
        or handlers
        or loop._external_work
        or may_be_woken(loop, unknown_before)
    )


def ordinary_tasks(loop: Scheduler) -> list[Any]:
    """Return the tasks that are no daemons."""
    return [task for task in _tasks_of(loop) if not _is_daemons(task)]


def _tasks_of(loop: Scheduler) -> set[Any]:
    """Return the tasks that have not ended, also those of other classes that a factory made."""
    tasks: set[Any] = asyncio.all_tasks(loop)  # type: ignore[arg-type]
    return tasks


def _is_daemons(runnable: Any) -> bool:
    """Return whether a daemon began it, or whether daemons only wait for it."""
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
    """Return whether all that is to run when ``future`` is done is the daemons'."""
    # A future may wait for another one, as gather()'s does, for as many as there are in a row.
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
    """Return whether the program has handlers of its own, installed with ``signal.signal``.

    Only what Ctrl-C does by default, or does in a runner, is known to come to an end by itself.
    """
    for number in signal.valid_signals():
        handler: Any = get_handler(number)
        if callable(handler) and handler is not signal.default_int_handler:
            if isinstance(handler, functools.partial):
                handler = handler.func
            if getattr(handler, "__module__", None) not in _RUNNERS:
                return True
    return False
