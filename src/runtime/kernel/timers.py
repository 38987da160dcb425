"""Timers: a heap of deadlines, each with the handle that is then due.

Invariants: an entry is ``(when, sequence, handle)``; the sequence number is unique, so that entries
compare without looking at the handle, and equal deadlines keep the order in which they were set.
Cancelled handles stay in the heap until they are the majority, and are then swept out in one go:
setting and cancelling a timer costs O(log n) at most, whatever the order. Where a good part of the
heap is set, or due, in one turn, the list is sorted instead, which is a heap too, and costs a
fraction of as many pushes or pops. ``_is_sorted``: the list is known to be sorted still, so that
what was set at once and comes due at once is sorted once, and never sifted.

What was set since the last turn waits in ``fresh``, in the order of setting, and gets its entry at
the next one: most time-outs are cancelled soon, and those that are never see the heap.
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
"""``(when, sequence, handle or alarm)``: typed loosely, so that compiled code keeps it boxed."""

LONGEST_WAIT: Final = 86400.0
"""Seconds that the loop sleeps at most; with a timer further away it looks around and sleeps on."""

SWEEP_MINIMUM: Final = 64
"""Below so many cancelled entries a sweep is not worth its walk through the heap."""

_MANY: Final = 64
"""From so many on, timers that are a good part of the heap are set, or come due, all at once."""

_GOOD_PART: Final = 16
"""A sixteenth of the heap."""

_AFTER_ALL: Final = float("inf")
"""Greater than any sequence number."""

_when: Final = operator.itemgetter(0)
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
        heap: TimerHeap,
    ) -> None:
        Handle.__init__(self, callback, args, loop, context)
        self._when = when
        # The heap that the handle waits in; None once it is due or cancelled.
        self._heap: TimerHeap | None = heap

    def when(self) -> float:
        """Return when the callback is due, on the clock of ``loop.time()``, in seconds."""
        return self._when

    def cancel(self) -> None:
        """Keep the callback from running, if it has not run yet, and let go of it."""
        self._callback = None
        self._args = ()
        heap = self._heap
        if heap is not None:
            self._heap = None
            heap.forget(self)

    def due(self) -> float:
        """Return when the callback is due, in seconds: ``when()``, for the heap."""
        return self._when

    def left_heap(self) -> None:
        """Note that it is no longer in the timer heap: it is due."""
        self._heap = None

    def __repr__(self) -> str:
        return f"{Handle.__repr__(self)[:-1]} when={self._when}>"


class TimerHeap:
    """The timers of one loop, soonest first."""

    __slots__ = ("_cancelled", "_is_sorted", "_sequence", "entries", "fresh")

    def __init__(self) -> None:
        self.fresh: list[Runnable] = []
        self.entries: list[_Entry] = []
        self._sequence = 0
        self._cancelled = 0
        self._is_sorted = False

    def push(self, timed: Runnable) -> None:
        """Add a handle, or an alarm, to be queued when its moment comes."""
        self.fresh.append(timed)

    def merge(self) -> None:
        """Move what is fresh into the heap. To be called before ``wait_time`` and ``pop_due``."""
        entries = self.entries
        count = len(self.fresh)
        if count == 0:
            return
        at_once = count >= _MANY and count * _GOOD_PART >= len(entries)
        none_before = not entries
        for timed in self.fresh:
            if timed.cancelled():
                self._cancelled -= 1
                continue
            self._sequence += 1
            entry = (timed.due(), self._sequence, timed)
            if at_once:
                entries.append(entry)
            else:
                _heappush(entries, entry)
        self.fresh.clear()
        if at_once:
            # Those of one turn stand in the order of their numbers, and sorting is stable: if there
            # are no others, the times are enough, and compare faster.
            entries.sort(key=_when if none_before else None)
        self._is_sorted = at_once

    def wait_time(self, now: float) -> float:
        """Return the seconds from ``now`` to the first timer; 0 when due, -1 when there is none.

        A day at most: the system's waits take no more than so many seconds.
        """
        entries = self.entries
        while entries and entries[0][2].cancelled():
            _heappop(entries)
            self._is_sorted = False
            self._cancelled -= 1
        if not entries:
            return -1.0
        seconds: float = entries[0][0] - now
        return min(max(0.0, seconds), LONGEST_WAIT)

    def next_due(self) -> float:
        """Return when the first timer is due; ``wait_time`` was asked before, and there is one."""
        when: float = self.entries[0][0]
        return when

    def pop_due(self, now: float, ready: Callable[[Runnable], object]) -> None:
        """Hand every timer that is due at ``now`` to ``ready``, in the order of their deadlines."""
        entries = self.entries
        count = 0
        if self._is_sorted:
            count = bisect.bisect_right(entries, (now, _AFTER_ALL))
        while entries and entries[0][0] <= now:
            if count >= _MANY and count * _GOOD_PART >= len(entries):
                if not self._is_sorted:
                    entries.sort()
                    self._is_sorted = True
                end = bisect.bisect_right(entries, (now, _AFTER_ALL))
                due = entries[:end]
                del entries[:end]
            else:
                count += 1
                due = [_heappop(entries)]
                self._is_sorted = False
            for entry in due:
                timed: Runnable = entry[2]
                if timed.cancelled():
                    self._cancelled -= 1
                else:
                    timed.left_heap()
                    ready(timed)

    def forget(self, timed: Runnable) -> None:
        """Note that something of what waits here was just cancelled."""
        fresh = self.fresh
        if fresh and fresh[-1] is timed:
            fresh.pop()
            return
        entries = self.entries
        if entries and entries[-1][2] is timed:
            # The last entry of a heap is a leaf of the tree. Timeouts that do not expire mostly end
            # here: the newest deadline is often the latest one.
            entries.pop()
            return
        self._cancelled += 1
        if self._cancelled > SWEEP_MINIMUM and self._cancelled * 2 > len(entries) + len(fresh):
            fresh[:] = [timed for timed in fresh if not timed.cancelled()]
            entries[:] = [entry for entry in entries if not entry[2].cancelled()]
            heapq.heapify(entries)
            self._cancelled = 0

    def clear(self) -> None:
        """Drop every timer: the loop is closed."""
        self.merge()
        for entry in self.entries:
            entry[2].left_heap()
        self.entries.clear()
        self._cancelled = 0
