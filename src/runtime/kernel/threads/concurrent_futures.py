"""Links between a future of a loop and a concurrent future of threads: one follows the other.

A concurrent future keeps its callbacks after its end, and these callbacks reference the linked
future. So the linked future drops its reference to the concurrent one in the end, as a task drops
its callbacks. Otherwise the two would be a reference cycle.
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
    """Return a future of ``loop`` that ends as ``future`` does. Cancelling one cancels the other.

    ``work`` counts as external work of the loop until the loop knows that ``future`` is done.
    """
    follower = FollowingFuture(future, loop, work)
    future.add_done_callback(follower.notify)
    return follower


def follow_task(task: Future[Any], future: TaskFuture) -> None:
    """Make a concurrent future end as ``task`` does; cancelling either cancels the other."""
    future.add_done_callback(functools.partial(_cancel_task, task))
    task.add_done_callback(functools.partial(_finish_concurrent, future))


class TaskFuture(concurrent.futures.Future[Any]):
    """A concurrent future that follows a task.

    If its exception is never retrieved, it is reported to the loop's exception handler, as the
    task's exception would be.
    """

    _failure: Failure | None = None

    def fail(self, error: BaseException, failure: Failure) -> None:
        """Finish with the exception of the task; ``failure`` reports it unless it is retrieved."""
        self._failure = failure
        self.set_exception(error)

    def result(self, timeout: float | None = None) -> Any:
        """Wait up to ``timeout`` seconds; return the task's result, or raise its exception."""
        try:
            return super().result(timeout)
        finally:
            self._retrieve()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait up to ``timeout`` seconds; return the exception of the task, or None."""
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
    """A future of a loop that follows a concurrent future."""

    __slots__ = ("_concurrent", "_work")

    def __init__(
        self,
        concurrent_future: concurrent.futures.Future[Any],
        loop: Scheduler,
        work: ExternalWork | None,
    ) -> None:
        super().__init__(loop=loop)
        # The concurrent future; None once the loop knows that it is done.
        self._concurrent: concurrent.futures.Future[Any] | None = concurrent_future
        self._work = work
        if work is not None:
            loop._external_work.add(work)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future, and the concurrent future that it follows.

        Returns False, and does nothing, if the future is done; an exception that is never retrieved
        is still reported then.
        """
        if self.done():
            return False
        loop = self.get_loop()
        if loop.is_closed():
            self._cancel_concurrent()
        else:
            # In a callback, so that any exception is reported; it runs before those of this future.
            loop.call_soon(self._cancel_concurrent)
        return super().cancel(msg)

    def finishing_object(self) -> object:
        """Return the object through which a thread finishes this future; None if it is done."""
        return None if self.done() else self._concurrent

    def _cancel_concurrent(self) -> None:
        if self._concurrent is not None:
            self._concurrent.cancel()

    def notify(self, concurrent_future: concurrent.futures.Future[Any]) -> None:
        """Tell the loop that the concurrent future is done. For any thread."""
        loop = self.get_loop()
        # If the loop is closed, its futures stay pending.
        try:
            loop.call_soon_threadsafe(self._finish, concurrent_future)
        except RuntimeError:
            if not loop.is_closed():
                raise

    def _finish(self, concurrent_future: concurrent.futures.Future[Any]) -> None:
        self._concurrent = None
        if self._work is not None:
            self.get_loop()._external_work.discard(self._work)
        if self.done():
            return
        # Each method of a concurrent future takes a lock, so use one call for both questions.
        try:
            error = concurrent_future.exception()
        except concurrent.futures.CancelledError:
            self.cancel()
            return
        if error is None:
            self.set_result(concurrent_future.result())
        else:
            self.set_exception(_as_loop_exception(error))


def _finish_concurrent(future: TaskFuture, task: Any) -> None:
    """Finish the concurrent future of a task that is done. Runs in the loop's thread."""
    if task.cancelled():
        future.cancel()
    if not future.set_running_or_notify_cancel():
        return  # The future was cancelled: an exception of the task is reported as the task's own.
    error: BaseException | None = task.exception()
    if error is None:
        future.set_result(task.result())
    elif isinstance(error, (SystemExit, KeyboardInterrupt)) or not isinstance(task, FutureCore):
        future.set_exception(error)  # SystemExit and KeyboardInterrupt end the run as well.
    else:
        future.fail(error, task._make_failure(error))


def _cancel_task(task: Future[Any], future: concurrent.futures.Future[Any]) -> None:
    """Cancel the task if its concurrent future was cancelled. For any thread."""
    loop = task.get_loop()
    if future.cancelled() and not task.done() and not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)


def _as_loop_exception(error: BaseException) -> BaseException:
    """Return asyncio's equivalent of an exception of ``concurrent.futures`` itself."""
    if type(error) is concurrent.futures.CancelledError:
        return asyncio.CancelledError(*error.args)
    if type(error) is concurrent.futures.InvalidStateError:
        return asyncio.InvalidStateError(*error.args)
    return error
