"""A future of a loop and a concurrent future, which belongs to threads: one follows the other.

A concurrent future keeps its callbacks when it is done, and these know the other one. So the other
one lets go of it in the end, as a task does that lets go of its callbacks: the two are no circle
then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from typing import Any

from runtime.kernel.daemons import ExternalWork
from runtime.kernel.failure import Failure
from runtime.kernel.future import FutureCore
from runtime.kernel.public_types import Future
from runtime.kernel.scheduler import Scheduler


def follow_concurrent(
    future: concurrent.futures.Future[Any], loop: Scheduler, work: ExternalWork | None = None
) -> Future[Any]:
    """Return a future of ``loop`` that follows ``future``; cancelling either cancels the other.

    ``work`` goes on outside the loop until the loop was told of the end of ``future``.
    """
    ours = FollowingFuture(future, loop, work)
    future.add_done_callback(ours.notify)
    return ours


def follow_task(task: Future[Any], future: TaskFuture) -> None:
    """Have the concurrent ``future`` follow ``task``; cancelling either cancels the other."""
    future.add_done_callback(functools.partial(_cancel_task, task))
    task.add_done_callback(functools.partial(_finish_concurrent, future))


class TaskFuture(concurrent.futures.Future[Any]):
    """The concurrent future that follows a task.

    An exception that nobody retrieves from it is reported to the loop, as the task's would be.
    """

    _failure: Failure | None = None

    def fail(self, error: BaseException, failure: Failure) -> None:
        """Finish with the exception of the task, which reports itself unless it is retrieved."""
        self._failure = failure
        self.set_exception(error)

    def result(self, timeout: float | None = None) -> Any:
        """Return the result of the task, or raise its exception; wait for ``timeout`` seconds."""
        try:
            return super().result(timeout)
        finally:
            self._retrieve()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception of the task, or None; wait for ``timeout`` seconds."""
        try:
            return super().exception(timeout)
        finally:
            self._retrieve()

    def _retrieve(self) -> None:
        failure = self._failure
        if failure is not None and self.done():
            failure.retrieved = True
            self._failure = None


class FollowingFuture(Future[Any]):
    """The future of a loop that follows a concurrent one."""

    __slots__ = ("_theirs", "_work")

    def __init__(
        self,
        theirs: concurrent.futures.Future[Any],
        loop: Scheduler,
        work: ExternalWork | None,
    ) -> None:
        super().__init__(loop=loop)
        # None once the loop was told of its end.
        self._theirs: concurrent.futures.Future[Any] | None = theirs
        self._work = work
        if work is not None:
            loop._external_work.add(work)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future, and what it follows.

        Done already, it does nothing: an exception is reported unless somebody retrieves it.
        """
        if self.done():
            return False
        loop = self.get_loop()
        if loop.is_closed():
            self._cancel_theirs()
        else:
            # As a callback of the future, the first: whatever it raises is reported.
            loop.call_soon(self._cancel_theirs)
        return super().cancel(msg)

    def is_finished_through(self) -> object:
        """Return what a thread has to hold to finish this; None when it has ended."""
        return None if self.done() else self._theirs

    def _cancel_theirs(self) -> None:
        if self._theirs is not None:
            self._theirs.cancel()

    def notify(self, theirs: concurrent.futures.Future[Any]) -> None:
        """Tell the loop, from whatever thread finished what it follows."""
        loop = self.get_loop()
        # A loop that was closed has nobody left to tell.
        try:
            loop.call_soon_threadsafe(self._finish, theirs)
        except RuntimeError:
            if not loop.is_closed():
                raise

    def _finish(self, theirs: concurrent.futures.Future[Any]) -> None:
        self._theirs = None
        if self._work is not None:
            self.get_loop()._external_work.discard(self._work)
        if self.done():
            return
        # Each question takes a lock: whether it was cancelled is told by the first.
        try:
            error = theirs.exception()
        except concurrent.futures.CancelledError:
            self.cancel()
            return
        if error is None:
            self.set_result(theirs.result())
        else:
            self.set_exception(_as_loop_exception(error))


def _finish_concurrent(theirs: TaskFuture, task: Any) -> None:
    """Tell whoever waits in a thread. For the loop's thread, once the task is done."""
    if task.cancelled():
        theirs.cancel()
    if not theirs.set_running_or_notify_cancel():
        return  # What a task raises that was cancelled by theirs is reported as the task's own.
    error: BaseException | None = task.exception()
    if error is None:
        theirs.set_result(task.result())
    elif isinstance(error, (SystemExit, KeyboardInterrupt)) or not isinstance(task, FutureCore):
        theirs.set_exception(error)  # The first two end the run as well.
    else:
        theirs.fail(error, task._make_failure(error))


def _cancel_task(task: Future[Any], theirs: concurrent.futures.Future[Any]) -> None:
    """Cancel the task when what follows it was cancelled, in whatever thread."""
    loop = task.get_loop()
    if theirs.cancelled() and not task.done() and not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)


def _as_loop_exception(error: BaseException) -> BaseException:
    """Return asyncio's equivalent of an exception of ``concurrent.futures`` itself."""
    if type(error) is concurrent.futures.CancelledError:
        return asyncio.CancelledError(*error.args)
    if type(error) is concurrent.futures.InvalidStateError:
        return asyncio.InvalidStateError(*error.args)
    return error
