"""Happy Eyeballs: connection attempts that start with a delay, until the first of them succeeds.

::

    attempt 1  ----------------------------X cancelled
    attempt 2  <delay>----- failed
    attempt 3              ------ connected: wins
    attempt 4              <delay> never started

The next attempt starts when the latest one has failed, or ``delay`` seconds after its start. When
``race`` returns or raises, no attempt is left running: the losers are cancelled and awaited, and
the socket of an attempt that succeeds too late is closed.

Source: RFC 8305, sections 4 and 5.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from runtime.kernel.core import LoopCore
from runtime.kernel.errors import CancelledError
from runtime.kernel.public_types import Future
from runtime.net.resolver import AddressInfo

Attempt = Callable[[], Coroutine[Any, Any, socket.socket | None]]
"""Function that starts an attempt; its coroutine returns a connected socket, or None on failure."""


def interleave_families(found: Iterable[AddressInfo], first_family_count: int) -> list[AddressInfo]:
    """Return the addresses with alternating families, as in section 4 of RFC 8305.

    The order within each family is kept. The first family has ``first_family_count`` addresses
    before the first address of another family.
    """
    families: dict[int, list[AddressInfo]] = {}
    for info in found:
        families.setdefault(info[0], []).append(info)
    lists = list(families.values())
    head: list[AddressInfo] = []
    if first_family_count > 1:
        head = lists[0][: first_family_count - 1]
        del lists[0][: first_family_count - 1]
    rounds = itertools.zip_longest(*lists)
    return head + [info for info in itertools.chain.from_iterable(rounds) if info is not None]


async def race(loop: LoopCore, attempts: Sequence[Attempt], delay: float) -> socket.socket | None:
    """Return the socket of the first attempt that succeeds, or None when all have failed.

    ``delay`` is in seconds. If an attempt raises, the race ends and raises the same exception.
    Cancellation safe: no socket is left open.
    """
    contest = _Contest(loop)
    try:
        await contest.run(attempts, delay)
        contest.raise_failure()
    except GeneratorExit:
        # The coroutine is being closed: it must not await.
        contest.abandon()
        raise
    except BaseException:
        contest.close_winner()
        await contest.end()
        raise
    await contest.end()
    return contest.take_winner()


class _Contest:
    """State of one race: the running attempts, and the outcome."""

    def __init__(self, loop: LoopCore) -> None:
        self._loop = loop
        self._running: set[Future[socket.socket | None]] = set()
        self._winner: socket.socket | None = None
        self._failure: BaseException | None = None
        self._ending = False
        # The future that the race waits for: it finishes at the end of an attempt or of the delay.
        self._changed: Future[None] | None = None
        self._delay_is_over = False

    async def run(self, attempts: Sequence[Attempt], delay: float) -> None:
        """Start the attempts in order; return when one has succeeded, or all have failed."""
        for attempt in attempts:
            latest = self._loop.create_task(attempt())
            self._running.add(latest)
            latest.add_done_callback(self._on_done)
            self._delay_is_over = False
            timer = self._loop.call_later(delay, self._on_delay)
            try:
                while latest in self._running and not self._delay_is_over and not self._decided():
                    await self._change()
            finally:
                timer.cancel()
            if self._decided():
                break
        while self._running and not self._decided():
            await self._change()

    async def end(self) -> None:
        """Cancel the running attempts, and wait until they have ended.

        A cancellation of this wait does not cut it short: it closes the winner's socket, and is
        raised afterwards.
        """
        self._cancel_running()
        cancelled: BaseException | None = None
        while self._running:
            try:
                await self._change()
            except CancelledError as error:
                cancelled = error
            except GeneratorExit:
                self.close_winner()
                raise
        if cancelled is not None:
            self.close_winner()
            try:
                raise cancelled
            finally:
                del cancelled  # Break the reference cycle of exception, traceback and frame.

    def _cancel_running(self) -> None:
        self._ending = True
        for task in list(self._running):
            task.cancel()

    def abandon(self) -> None:
        """Cancel the running attempts without waiting for them, and close the winner's socket."""
        self.close_winner()
        if not self._loop.is_closed():  # A closed loop cannot run a task.
            self._cancel_running()

    def take_winner(self) -> socket.socket | None:
        """Return the winner's socket, which the caller owns from now on; None if there is none."""
        winner = self._winner
        self._winner = None
        return winner

    def close_winner(self) -> None:
        """Close the winner's socket, if there is one."""
        winner = self.take_winner()
        if winner is not None:
            winner.close()

    def _decided(self) -> bool:
        return self._winner is not None or self._failure is not None

    def raise_failure(self) -> None:
        """Raise the exception that an attempt raised, if one did."""
        # Not in run(): its frame refers to the task, and the task to the exception, so that the
        # exception's traceback would close a reference cycle.
        failure = self._failure
        if failure is not None:
            self._failure = None
            try:
                raise failure
            finally:
                del failure  # Break the reference cycle of exception, traceback and frame.

    async def _change(self) -> None:
        changed = self._changed = self._loop.create_future()
        try:
            await changed
        finally:
            self._changed = None

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _on_delay(self) -> None:
        self._delay_is_over = True
        self._wake()

    def _on_done(self, task: Future[socket.socket | None]) -> None:
        self._running.discard(task)
        self._wake()
        over = self._ending or self._decided()
        if task.cancelled():
            if not over:
                self._failure = CancelledError("an attempt to connect was cancelled")
            return
        error = task.exception()
        if error is not None:
            if over:
                self._report(task, error)
            else:
                self._failure = error
            return
        sock = task.result()
        if sock is not None and over:
            sock.close()
        elif sock is not None:
            self._winner = sock

    def _report(self, task: Future[socket.socket | None], error: BaseException) -> None:
        self._loop.call_exception_handler(
            {
                "message": "An attempt to connect failed after the race was decided",
                "exception": error,
                "task": task,
            }
        )
