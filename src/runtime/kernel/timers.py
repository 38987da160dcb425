"""Timers: what is due later, soonest first.

A timer waits in one of three places::

    push --> fresh --- next turn, one by one --> heap
               |                                   |
               |                                   +-- many are due at once --+
               |                                                              v
               +--- next turn, many at once ------------------------------> ordered

Most timeouts are cancelled soon, and those that are cancelled while they are fresh never see the
heap. An entry of the heap is ``(when, sequence, handle)``; the sequence number is unique, so that
entries compare without looking at the handle, and equal deadlines keep the order in which they
were set. Where a good part of all is set, or due, in one turn, all are sorted into ``ordered``, a
list with the soonest last: that costs a fraction of as many pushes or pops, and spares an entry for
each, which the garbage collector would have to look through.

Invariants: what is ordered was set before what is in the heap, and that before what is fresh.
Cancelled handles stay where they are until they are the majority, and are then swept out in one
go: setting and cancelling a timer costs O(log n) at most, whatever the order.

What is set for an infinite moment waits nowhere, since it never comes: see ``seconds.NEVER``.

The garbage collector may run wherever something is allocated, and whatever finalizers it calls may
set timers and cancel them. So while timers are ``moving`` from one place to another, what is set
waits in a new ``fresh``, and what is cancelled is only counted.
"""

from __future__ import annotations

import bisect
import heapq
import operator
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from runtime.kernel.handles import Handle, Reporter, Runnable

_Entry = tuple[Any, ...]
"""``(when, sequence, timer)``: typed loosely, so that compiled code keeps it boxed."""

LONGEST_WAIT: Final = 86400.0
"""Seconds that the loop sleeps at most; with a timer further away it looks around and sleeps on."""

SWEEP_MINIMUM: Final = 64
"""Below so many cancelled timers a sweep is not worth its walk through all of them."""

_MANY: Final = 64
"""From so many on, timers that are a good part of all are set, or come due, all at once."""

_GOOD_PART: Final = 4
"""A quarter of all."""

_due: Final = operator.methodcaller("_due")
_heappush: Final = heapq.heappush
_heappop: Final = heapq.heappop


class TimerHandle(Handle):
    """A callback scheduled for a moment, as ``call_later`` and ``call_at`` return it.

    Source: the standard library's documentation of ``asyncio.TimerHandle``.
    """

    __slots__ = ("_heap", "_when")

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: Reporter,
        context: Context,
        heap: TimerHeap | None,
    ) -> None:
        Handle.__init__(self, callback, args, loop, context)
        self._when = when
        # Where the handle waits; None once it is due or cancelled, and when it is never due.
        self._heap = heap

    def when(self) -> float:
        """Return when the callback is due, on the clock of ``loop.time()``, in seconds."""
        return self._when

    def cancel(self) -> None:
        """Keep the callback from running, if it has not run yet, and let go of it."""
        self._args = () if self._source_traceback is None else self._last_words()
        self._callback = None
        heap = self._heap
        if heap is not None:
            self._heap = None
            heap.forget(self)

    def _due(self) -> float:
        """Return when the callback is due, in seconds: ``when()``, for the heap."""
        return self._when

    def _left_heap(self) -> None:
        """Note that it is no longer in the timer heap: it is due."""
        self._heap = None

    def _describe_state(self) -> list[str]:
        """Return the words of the ``repr``, in order."""
        return [*Handle._describe_state(self), f"when={self._when}"]

    def _describe_briefly(self) -> list[str]:
        """Return the words of the ``repr`` within that of another object."""
        return [*Handle._describe_briefly(self), f"when={self._when}"]


def _before(timed: Runnable) -> float:
    """Return what grows along ``ordered``."""
    return -timed._due()


class TimerHeap:
    """The timers of one loop."""

    __slots__ = ("_cancelled", "_moving", "_sequence", "fresh", "heap", "ordered")

    def __init__(self) -> None:
        self.fresh: list[Runnable] = []
        self.heap: list[_Entry] = []
        self.ordered: list[Runnable] = []
        self._sequence = 0
        # How many of them are cancelled; or a few more, where finalizers cancelled some.
        self._cancelled = 0
        self._moving = False

    def push(self, timed: Runnable) -> None:
        """Add a handle, or a sleep future, to be queued when its moment comes."""
        self.fresh.append(timed)

    def size(self) -> int:
        """Return how many handles are held, cancelled ones included."""
        return len(self.fresh) + len(self.heap) + len(self.ordered)

    def pending(self) -> list[Runnable]:
        """Return those that are not cancelled, in no particular order."""
        held = [*self.ordered, *(entry[2] for entry in list(self.heap)), *self.fresh]
        return [timed for timed in held if not timed.cancelled()]

    def merge(self) -> None:
        """Move what is fresh to its place. To be called before ``wait_time`` and ``pop_due``."""
        self._moving = True
        try:
            fresh = self.fresh
            self.fresh = []
            if len(fresh) >= _MANY and self._are_a_good_part(len(fresh)):
                self._order(fresh)
                return
            heap = self.heap
            for timed in fresh:
                if timed.cancelled():
                    self._cancelled -= 1
                else:
                    self._sequence += 1
                    _heappush(heap, (timed._due(), self._sequence, timed))
        finally:
            self._moving = False

    def _are_a_good_part(self, count: int) -> bool:
        return count * _GOOD_PART >= len(self.heap) + len(self.ordered)

    def _order(self, fresh: list[Runnable]) -> None:
        """Sort into ``ordered`` what is in the heap, and what is given.

        Sorting is stable, and gains by what is in order already.
        """
        ordered = self.ordered
        ordered.reverse()
        self.heap.sort()
        for entry in self.heap:
            ordered.append(entry[2])
        self.heap.clear()
        for timed in fresh:
            if timed.cancelled():
                self._cancelled -= 1
            else:
                ordered.append(timed)
        ordered.sort(key=_due)
        ordered.reverse()

    def wait_time(self, now: float) -> float:
        """Return the seconds from ``now`` to the first timer; 0 when due, -1 when there is none.

        A day at most: the system's waits take no more than so many seconds.
        """
        heap = self.heap
        ordered = self.ordered
        # Counted first: what the callback knew goes with the handle, and finalizers run.
        while heap and heap[0][2].cancelled():
            self._cancelled -= 1
            _heappop(heap)
        while ordered and ordered[-1].cancelled():
            self._cancelled -= 1
            ordered.pop()
        if not heap and not ordered:
            return -1.0
        when: float = self.next_due() if ordered else heap[0][0]
        return min(max(0.0, when - now), LONGEST_WAIT)

    def next_due(self) -> float:
        """Return when the first timer is due; ``wait_time`` was asked before, and there is one."""
        if not self.ordered:
            when: float = self.heap[0][0]
            return when
        first = self.ordered[-1]._due()
        return min(first, self.heap[0][0]) if self.heap else first

    def pop_due(self, now: float, ready: Callable[[Runnable], object]) -> None:
        """Hand every timer that is due at ``now`` to ``ready``, in the order of their deadlines."""
        self._moving = True
        try:
            for timed in self._take_due(now):
                if timed.cancelled():
                    self._cancelled -= 1
                else:
                    timed._left_heap()
                    ready(timed)
        finally:
            self._moving = False

    def _take_due(self, now: float) -> list[Runnable]:
        """Remove what is due, and return it in the order of the deadlines."""
        heap = self.heap
        ordered = self.ordered
        due: list[Runnable] = []
        count = 0
        while heap and heap[0][0] <= now:
            if ordered and ordered[-1]._due() <= heap[0][0]:
                due.append(ordered.pop())
                continue
            count += 1
            if count >= _MANY and self._are_a_good_part(count):
                self._order([])
            else:
                due.append(_heappop(heap)[2])
        if ordered and ordered[-1]._due() <= now:
            first = bisect.bisect_left(ordered, -now, key=_before)
            soonest_last = ordered[first:]
            del ordered[first:]
            soonest_last.reverse()
            due += soonest_last
        return due

    def forget(self, timed: Runnable) -> None:
        """Note that something of what waits here was just cancelled."""
        fresh = self.fresh
        heap = self.heap
        ordered = self.ordered
        if self._moving:
            self._cancelled += 1
        elif fresh and fresh[-1] is timed:
            fresh.pop()
        elif heap and heap[-1][2] is timed:
            # The last entry of a heap is a leaf of the tree. Timeouts that do not expire mostly end
            # here: the newest deadline is often the latest one.
            heap.pop()
        elif ordered and ordered[-1] is timed:
            ordered.pop()
        else:
            self._cancelled += 1
            if self._cancelled > SWEEP_MINIMUM and self._cancelled * 2 > self.size():
                self._sweep()

    def _sweep(self) -> None:
        """Drop what is cancelled."""
        self._moving = True
        try:
            # What finalizers cancel meanwhile counts from here on, if it is dropped or not.
            self._cancelled = 0
            self.ordered[:] = [timed for timed in self.ordered if not timed.cancelled()]
            self.heap[:] = [entry for entry in self.heap if not entry[2].cancelled()]
            heapq.heapify(self.heap)
            fresh = self.fresh
            self.fresh = []
            self.fresh[:0] = [timed for timed in fresh if not timed.cancelled()]
        finally:
            self._moving = False

    def clear(self) -> None:
        """Drop every timer: the loop is closed."""
        self.merge()
        for timed in self.pending():
            timed._left_heap()
        self.heap.clear()
        self.ordered.clear()
        self._cancelled = 0
