"""``wait_all_tasks_blocked``: wait until no other task of the loop can run by itself.

The check is an entry of the ready queue that puts itself at the end of the queue again each time
that it runs. It therefore sees, once in every turn, everything else that is ready::

    +--> anything else in the ready queue, a call from another thread, a timer that is due? --yes-+
    |      | no                                                                                   |
    |    poll without waiting: was there an event? --yes------------------------------------------+
    |      | no                                                                                   |
    |    has it been so for ``cushion`` seconds? --yes--> wake the tasks that wait for this       |
    |      | no                                                                                   |
    |    poll for the rest of the cushion, or a part of it: was there an event? --yes-------------+
    |      | no                                                                                   |
    +------+<--- run in the next turn again <------------------ the cushion starts again <--------+

While the check is in the ready queue the loop does not wait, so that a virtual clock does not jump.
Without a call of ``wait_all_tasks_blocked`` there is no check, and the loop does no work for it.
"""

from __future__ import annotations

import math
import time

from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.core import LoopCore
from runtime.kernel.handles import Runnable
from runtime.kernel.public_types import Future
from runtime.kernel.task import leave_task
from runtime.loop import get_running_loop
from runtime.testing.clock import poll_without_jumping

_SHORTEST_POLL = 0.001
"""Seconds for which a poll waits at least, however soon debug mode calls a callback slow."""


async def wait_all_tasks_blocked(cushion: Seconds = 0.0) -> None:
    """Wait until every other task of the running loop is blocked.

    All are blocked when nothing in the loop is ready to run, no timer is due, and no watched
    descriptor has an event: without an event, a timer or a thread, nothing will happen any more.
    It is a way for a test to let tasks go as far as they can, without counting the turns of the
    loop that they need for it.

    ``cushion`` is the number of seconds, of real time on every clock, for which this must have held
    without interruption. It is for events from outside, such as the output of a process. A
    virtual clock does not move meanwhile: a task that sleeps is blocked. So is a task that waits
    for a thread.

    Tasks that wait here themselves count as blocked. If there are several, those with the shortest
    cushion resume, all at once; the wait of the others starts again. A task that never blocks, such
    as one that awaits ``sleep(0)`` in a loop, makes this wait for ever. Cancellation safe.

    Raises ValueError for a cushion that is negative or not finite, TypeError for one that is not a
    number, and RuntimeError when no loop of runtime is running.

    >>> import runtime
    >>> async def main():
    ...     lock = runtime.Lock()
    ...     async with lock:
    ...         waiting = runtime.create_task(lock.acquire())
    ...         await runtime.testing.wait_all_tasks_blocked()
    ...         print(waiting.done())
    ...     await runtime.testing.wait_all_tasks_blocked()
    ...     print(waiting.done())
    >>> runtime.testing.run(main())
    False
    True
    """
    number = seconds(cushion, "wait_all_tasks_blocked()")
    if not 0 <= number < math.inf:
        raise ValueError(
            "the cushion of wait_all_tasks_blocked() must be a finite number of seconds, zero or "
            f"more, got {cushion!r}"
        )
    loop = get_running_loop()
    check = _check_of(loop)
    blocked: Future[None] = loop.create_future()
    check.waiters[blocked] = number
    try:
        await blocked
    finally:
        check.waiters.pop(blocked, None)


def _check_of(loop: LoopCore) -> _BlockedCheck:
    """Return the check that is in the ready queue of ``loop``, or put a new one there."""
    for runnable in list(loop._ready):
        if isinstance(runnable, _BlockedCheck):
            return runnable
    check = _BlockedCheck(loop)
    loop._ready_append(check)
    return check


class _BlockedCheck(Runnable):
    """Looks once in every turn whether all tasks of a loop are blocked, as long as tasks wait.

    Invariant: while there are waiters, it is in the ready queue, also while it runs.
    """

    def __init__(self, loop: LoopCore) -> None:
        self.waiters: dict[Future[None], float] = {}
        """The futures of the tasks that wait, and the cushion of each, in seconds."""
        self._loop = loop
        # When it was seen that everything is blocked, in real time; None while it is not.
        self._blocked_since: float | None = None
        # The number of batches of events that the poller had handed over when it was last asked.
        self._batches = loop._poller.batches()

    def _run(self) -> None:
        """Wake waiters if everything has been blocked for long enough."""
        if not self.waiters:
            return
        loop = self._loop
        # Before anything else, for the invariant: the handler of a signal may raise later on.
        loop._ready_append(self)
        # Always: asyncio may still name a task as the current one that ended just now.
        leave_task(loop)
        # Earlier in this turn a connection may have written, which makes an event at its peer.
        if loop._poller.writers.any:
            loop._poller.writers.send()
        if not self._is_blocked():
            self._blocked_since = None
            return
        now = time.monotonic()
        if self._blocked_since is None:
            self._blocked_since = now
        cushion = min(self.waiters.values())
        rest = self._blocked_since + cushion - now
        if rest <= 0:
            self._blocked_since = None
            self._wake(cushion)
        elif not self._poll(min(rest, max(loop.slow_callback_duration / 2, _SHORTEST_POLL))):
            self._blocked_since = None

    def _is_blocked(self) -> bool:
        """Return whether there is nothing that the loop would do without waiting."""
        return not self._has_more_to_run() and self._next_timer() != 0.0 and self._poll(0.0)

    def _has_more_to_run(self) -> bool:
        """Return whether anything besides this check is ready."""
        return len(self._loop._ready) > 1 or self._loop._has_inbound

    def _next_timer(self) -> float:
        """Return the seconds until the next timer; 0 if it is due, -1 if there is none."""
        timers = self._loop._timers
        timers.merge()
        return timers.wait_time(self._loop.time())

    def _poll(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds of real time; return whether nothing came.

        It returns early, and True, when a timer on the real clock becomes due: the timer is found
        in the next turn.
        """
        loop = self._loop
        loop._waiting = True
        try:
            poll_without_jumping(loop, timeout, self._next_timer())
        finally:
            loop._waiting = False
        batches = loop._poller.batches()
        is_new = batches != self._batches
        self._batches = batches
        return not is_new and not self._has_more_to_run()

    def _wake(self, cushion: float) -> None:
        for waiter, required in list(self.waiters.items()):
            if required == cushion:
                del self.waiters[waiter]
                if not waiter.done():
                    waiter.set_result(None)

    def cancelled(self) -> bool:
        """Return False: the check runs until it finds no waiters."""
        return False

    def _short_name(self) -> str:
        return "<wait_all_tasks_blocked()>"

    def _on_behalf_of(self) -> Future[None] | None:
        """Return the future of a waiting task, by which the loop recognises a daemon's wait."""
        return next(iter(self.waiters), None)

    def __repr__(self) -> str:
        return self._short_name()
