"""Sleep future: the timer and the future of a sleeping task in one object.

A future, a timer handle, its arguments and its context would be four objects; this is one. The
idioms for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

from typing import Any, Final

from runtime.kernel.arguments.seconds import NEVER
from runtime.kernel.diagnostics.describe import format_repr
from runtime.kernel.future import (
    FutureCore,
    cancel_future,
    finish_future,
    init_future,
    plain_futures,
)
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.timers import TimerHeap

_NEVER: Final[float] = NEVER


class SleepFuture(FutureCore):
    """A future of ``loop`` that ends with None at the time ``when`` of the loop's clock.

    If ``when`` is infinite, the future never ends by itself.
    """

    __slots__ = ("_heap", "_when")

    def __init__(self, loop: Scheduler, when: float) -> None:
        init_future(self, loop)
        # The heap that holds this future; None if it is due, cancelled, or never due.
        self._heap: TimerHeap | None = None
        self._when = when
        if when != _NEVER:
            self._heap = loop._timers
            loop._timers.push(self)

    def _due(self) -> float:
        """Return when the sleep ends, on the loop's clock, in seconds."""
        return self._when

    def _left_heap(self) -> None:
        """Note that the future is due, and no longer in the timer heap."""
        self._heap = None

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


plain_futures.add(SleepFuture)
