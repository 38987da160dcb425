"""Sleep future: the timer, the future and the awaiter of a sleeping task in one object.

A future, a timer handle, its arguments, its context and the iterator of ``await`` would be five
objects; this is one. The idioms for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import get_ident
from typing import Any, Final

from runtime.kernel.arguments.seconds import NEVER, seconds
from runtime.kernel.compat.registry import loop_of_thread
from runtime.kernel.diagnostics.describe import format_repr
from runtime.kernel.future import (
    FutureCore,
    cancel_future,
    finish_future,
    init_future,
    not_done_message,
    plain_futures,
)
from runtime.kernel.scheduler import Scheduler, running_scheduler
from runtime.kernel.timers import TimerHeap

_NEVER: Final[float] = NEVER
_loop_of_thread: Final[Callable[[int], Any]] = loop_of_thread
_get_ident: Final[Callable[[], int]] = get_ident


class SleepFuture(FutureCore):
    """A future of ``loop`` that ends with None at the time ``when`` of the loop's clock.

    If ``when`` is infinite, the future never ends by itself.
    """

    __slots__ = ("_heap", "_when")

    def __init__(self, loop: Scheduler, when: float) -> None:
        # Its own attributes come first: mypyc then knows that they are always set, and needs no
        # field that says so.
        self._when = when
        # The heap that holds this future; None if it is due, cancelled, or never due.
        self._heap: TimerHeap | None = None
        init_future(self, loop)
        if when != _NEVER:
            self._heap = loop._timers
            loop._timers.push(self, when)

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the future itself, as the iterator of the ``await`` of the sleeping task."""
        awaiter: Any = self
        if _is_awaited(self):
            awaiter = FutureCore.__await__(self)  # Another task waits too: it needs its own state.
        return awaiter  # type: ignore[no-any-return]

    def __next__(self) -> Any:
        """Continue the ``await``; compiled, ``with_cheap_ends`` in setup.py replaces this."""
        yielded = self._resume()
        if yielded is None:
            raise StopIteration
        return yielded

    def _resume(self: SleepFuture | None) -> Any:
        """Return the future, to be yielded to the task, or None if it has ended.

        Raises CancelledError if it was cancelled, and RuntimeError if it is not done.
        """
        assert self is not None
        if self._pending:
            if _is_awaited(self):
                raise RuntimeError(not_done_message(self))
            self._asyncio_future_blocking = True
            return self
        self._resumed = True
        if not self._failed:
            return None
        error = self._result_exception()
        self = None  # noqa: PLW0642 - Break the cycle of the exception, this frame and the future.
        try:
            raise error
        finally:
            del error

    def _due(self) -> float:
        """Return when the sleep ends, on the loop's clock, in seconds."""
        return self._when

    def _leave_heap(self) -> bool:
        """Note that the timer left the timer heap; return whether it was there until now."""
        if self._heap is None:
            return False
        self._heap = None
        return True

    def _is_due(self) -> bool:
        """Return whether the timer was due, and is queued or about to run."""
        return self._heap is None and self._when != _NEVER

    def _run(self) -> None:
        """Finish the future. The loop calls this in the turn in which it is due."""
        if not self.done():
            finish_future(self, None)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future and the timer."""
        done = cancel_future(self, msg)
        heap = self._heap
        if heap is not None:
            self._heap = None
            heap.forget(self)
        return done

    def __repr__(self) -> str:
        return format_repr("SleepFuture", self._describe_state, self._describe_briefly)


def begin_sleep(delay: Any) -> SleepFuture | None:
    """Return a future of the running loop that ends after ``delay`` seconds.

    Returns None if the delay is zero or less. Raises RuntimeError if no loop of ``runtime`` runs in
    this thread, TypeError for a delay that is not a real number, ValueError for NaN, and
    OverflowError for a delay that no float can hold.
    """
    try:
        at_once: bool = delay <= 0
    except (TypeError, ArithmeticError):
        at_once = seconds(delay, "sleep()") <= 0
    if at_once:
        return None
    loop: Any = _loop_of_thread(_get_ident())
    if loop is None:
        loop = running_scheduler("sleep()")
    now: float = loop.time()
    return SleepFuture(loop, now + seconds(delay, "sleep()"))


def _is_awaited(future: SleepFuture) -> bool:
    """Return whether an ``await`` has begun: the task may not have subscribed to the future yet."""
    return (
        future._asyncio_future_blocking
        or future._waiter is not None
        or future._subscribers is not None
    )


plain_futures.add(SleepFuture)
