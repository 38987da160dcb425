"""A future of a loop and a concurrent future, which belongs to threads: one follows the other."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

from runtime.kernel.daemons import OutsideWork
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.types import Future


def follow_concurrent(
    future: concurrent.futures.Future[Any], loop: Scheduler, work: OutsideWork | None = None
) -> Future[Any]:
    """Return a future of ``loop`` that follows ``future``; cancelling either cancels the other.

    ``work`` goes on outside the loop until the loop was told of the end of ``future``.
    """
    ours: Future[Any] = Future(loop=loop)
    _Chain(future, ours, loop, work).connect_from_concurrent()
    return ours


def follow_task(task: Future[Any], future: concurrent.futures.Future[Any]) -> None:
    """Have the concurrent ``future`` follow ``task``; cancelling either cancels the other."""
    _Chain(future, task, task.get_loop()).connect_from_task()


class _Chain:
    def __init__(
        self,
        theirs: concurrent.futures.Future[Any],
        ours: Future[Any],
        loop: Scheduler,
        work: OutsideWork | None = None,
    ) -> None:
        self._work = work
        self._theirs = theirs
        self._ours = ours
        self._loop = loop

    def connect_from_concurrent(self) -> None:
        if self._work is not None:
            self._loop.outside.add(self._work)
        self._ours.add_done_callback(self._cancel_theirs)
        self._theirs.add_done_callback(self._notify_loop)

    def _notify_loop(self, theirs: concurrent.futures.Future[Any]) -> None:
        # In whatever thread finished it. A loop that was closed has nobody left to tell.
        try:
            self._loop.call_soon_threadsafe(self._copy_to_ours)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _copy_to_ours(self) -> None:
        theirs, ours = self._theirs, self._ours
        if self._work is not None:
            self._loop.outside.discard(self._work)
        if ours.done():
            return
        # Each question takes a lock: whether it was cancelled is told by the first.
        try:
            error = theirs.exception()
        except concurrent.futures.CancelledError:
            ours.cancel()
            return
        if error is None:
            ours.set_result(theirs.result())
        else:
            ours.set_exception(_as_loop_exception(error))

    def _cancel_theirs(self, ours: Future[Any]) -> None:
        if ours.cancelled():
            self._theirs.cancel()

    def connect_from_task(self) -> None:
        self._theirs.add_done_callback(self._cancel_ours)
        self._ours.add_done_callback(self._copy_to_theirs)

    def _copy_to_theirs(self, ours: Future[Any]) -> None:
        theirs = self._theirs
        if ours.cancelled():
            theirs.cancel()
        if not theirs.set_running_or_notify_cancel():
            if not ours.cancelled():
                ours.exception()  # Whoever cancelled theirs does not want to know.
            return
        error = ours.exception()
        if error is None:
            theirs.set_result(ours.result())
        else:
            theirs.set_exception(error)

    def _cancel_ours(self, theirs: concurrent.futures.Future[Any]) -> None:
        if theirs.cancelled() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ours.cancel)


def _as_loop_exception(error: BaseException) -> BaseException:
    """Return asyncio's equivalent of an exception of ``concurrent.futures`` itself."""
    if type(error) is concurrent.futures.CancelledError:
        return asyncio.CancelledError(*error.args)
    if type(error) is concurrent.futures.InvalidStateError:
        return asyncio.InvalidStateError(*error.args)
    return error
