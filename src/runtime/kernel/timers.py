"""Timers: callbacks and sleeping tasks with a deadline, soonest first.

A timer waits in one of four places::

    push --> lone, fresh ---- few, one by one ----> heap
                 |                                    |
                 |                                    +-- many are due at once --+
                 |                                                               v
                 +----------- many at once ----------------------------------> ordered

New timers go to ``fresh``, a list, except the first one: a timer that is set while no other is new
is in ``lone``, since a list that is filled and emptied for a single timer allocates its memory each
time. New timers are moved on when the loop is about to wait for events, or one of them is due. Most
timeouts are cancelled soon, and a timer that is cancelled while it is new never reaches the heap. A
lone timer that is due, while there is no other timer at all, goes directly to the ready queue.

An entry of the heap is ``(when, sequence, handle)``. The sequence number is unique, so that a
comparison of two entries never compares the handles, and timers with equal deadlines keep the order
in which they were set.

If a large part of all timers is set in one turn, or due in one turn, all are sorted into
``ordered``, a list with the soonest timer last. Sorting costs a fraction of as many pushes or pops,
and the list needs no entry for each timer, which the garbage collector would have to traverse.

Invariants: all timers in ``ordered`` were set before those in the heap, these before the lone
timer, and this one before those in ``fresh``. Cancelled timers stay in place until they are the
majority, and are then all removed at once, so that setting and cancelling a timer costs O(log n) at
most, in any order.

A timer with an infinite deadline waits in none of these places: see ``seconds.NEVER``.

The garbage collector may run at any allocation, and the finalizers that it calls may set and cancel
timers. So while ``_moving`` is set, because timers are moving from one place to another, new timers
are only appended to ``fresh``, and cancelled timers are only counted.

**Interrupts.** In the interpreted build, a signal handler may raise between any two bytecodes. So a
timer that moves is added to its new place before it is removed from the old one, and a list is
replaced or filtered in one step. After an interrupt a timer may be in two places, but never in
none. ``_moving`` is still set then, and ``recover`` removes the second one. A timer that is due
twice nevertheless runs once: ``_leave_heap`` says whether it was still waiting.

The idioms for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

import bisect
import heapq
import math
import operator
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from runtime.kernel.handles import Handle, Reporter, Runnable
from runtime.kernel.native.mypyc import mypyc_attr

_Entry = tuple[Any, ...]
"""``(when, sequence, timer)``: typed loosely, so that compiled code does not unpack the tuple."""

LONGEST_WAIT: Final = 86400.0
"""Maximum of one wait, in seconds, since the system's calls have limits; the loop waits again."""

SWEEP_MINIMUM: Final = 64
"""Minimum number of cancelled timers for which a sweep, which visits all timers, is worth it."""

_SORT_MINIMUM: Final = 64
"""Minimum number of timers for which sorting beats pushing or popping one by one."""

_SORT_SHARE: Final = 4
"""These must also be at least one fourth of all timers."""

_NONE_DUE: Final[float] = math.inf

_due: Final = operator.methodcaller("_due")
_heappush: Final = heapq.heappush
_heappop: Final = heapq.heappop


@mypyc_attr(free_list_len=1)
class TimerHandle(Handle):
    """A callback with a deadline, as ``call_later`` and ``call_at`` return it.

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
        # The heap that holds the handle; None if it is due, cancelled, or never due.
        self._heap = heap

    def when(self) -> float:
        """Return the deadline, in seconds on the clock of ``loop.time()``."""
        return self._when

    def cancel(self) -> None:
        """Keep the callback from running, if it has not run yet, and drop the references to it."""
        self._args = () if self._source_traceback is None else self._description_when_cancelled()
        self._callback = None
        heap = self._heap
        if heap is not None:
            self._heap = None
            heap.forget(self)

    def _due(self) -> float:
        """Return the deadline in seconds: every kind of timer has this method for the heap."""
        return self._when

    def _leave_heap(self) -> bool:
        """Note that the timer left the timer heap; return whether it was there until now."""
        if self._heap is None:
            return False
        self._heap = None
        return True

    def _describe_state(self) -> list[str]:
        """Return the words of the ``repr``, in order."""
        return [*Handle._describe_state(self), f"when={self._when}"]

    def _describe_briefly(self) -> list[str]:
        """Return the words of the ``repr`` inside that of another object."""
        return [*Handle._describe_briefly(self), f"when={self._when}"]


def _is_cancelled(timed: Runnable) -> bool:
    """Return whether a timer is cancelled: for entries, in which the timer has no exact type."""
    return timed.cancelled()


def _before(timed: Runnable) -> float:
    """Return the negative deadline, which increases along ``ordered``, for ``bisect``."""
    return -timed._due()


def _is_new(timed: Runnable, seen: set[int]) -> bool:
    """Return whether a timer is not in ``seen``, a set of identities, and add it."""
    identity = id(timed)
    if identity in seen:
        return False
    seen.add(identity)
    return True


class TimerHeap:
    """The timers of one loop."""

    __slots__ = (
        "_cancelled",
        "_due_now",
        "_fresh_due",
        "_lone_is_due",
        "_moving",
        "_sequence",
        "fresh",
        "heap",
        "lone",
        "on_cancelled",
        "on_due",
        "ordered",
    )

    def __init__(self) -> None:
        self.lone: Runnable | None = None
        self.fresh: list[Runnable] = []
        # The soonest deadline of the new timers, or a sooner one of which the timer is cancelled.
        self._fresh_due = _NONE_DUE
        self.heap: list[_Entry] = []
        self.ordered: list[Runnable] = []
        # The timers that are moving to the ready queue.
        self._due_now: list[Runnable] = []
        # Whether the lone timer is moving there.
        self._lone_is_due = False
        self._sequence = 0
        # The number of cancelled timers held; a little too high if finalizers cancelled some.
        self._cancelled = 0
        # Whether timers are moving, or an exception has ended a move.
        self._moving = False
        # For the flight recorder: called with each timer that is cancelled; and in the place of the
        # argument of ``pop_due``.
        self.on_cancelled: Callable[[Runnable], object] | None = None
        self.on_due: Callable[[Runnable], object] | None = None

    def push(self, timed: Runnable, when: float) -> None:
        """Add a timer with the deadline ``when``: a handle or a sleep future."""
        if self.lone is None and not self.fresh and not self._moving:
            self.lone = timed
        else:
            self.fresh.append(timed)
        if when < self._fresh_due:
            self._fresh_due = when

    def size(self) -> int:
        """Return the number of timers held, including cancelled ones."""
        count = len(self.fresh) + len(self.heap) + len(self.ordered)
        return count if self.lone is None else count + 1

    def count(self) -> int:
        """Return the number of timers that are set, approximately if finalizers cancelled some."""
        return max(0, self.size() - self._cancelled)

    def pending(self) -> list[Runnable]:
        """Return the timers that are not cancelled, in no particular order."""
        held = [*self.ordered, *(entry[2] for entry in list(self.heap)), *self.new()]
        return [timed for timed in held if not timed.cancelled()]

    def new(self) -> list[Runnable]:
        """Return the timers that were set since the last ``merge``, including cancelled ones."""
        lone = self.lone  # Read once: another thread may ask.
        return [*self.fresh] if lone is None else [lone, *self.fresh]

    def merge(self) -> None:
        """Move the new timers to their place. Call this before ``wait_time``."""
        self._moving = True
        fresh = self.fresh
        lone = self.lone
        if lone is not None:
            fresh.insert(0, lone)
            self.lone = None
        if len(fresh) >= _SORT_MINIMUM and self._is_large_share(len(fresh)):
            self._order(len(fresh))
        else:
            heap = self.heap
            for timed in fresh:
                if timed.cancelled():
                    self._cancelled -= 1
                else:
                    self._sequence += 1
                    _heappush(heap, (timed._due(), self._sequence, timed))
            # In this order, because the finalizers of cancelled timers may set others.
            self._fresh_due = _NONE_DUE
            fresh.clear()
        self._moving = False

    def _is_large_share(self, count: int) -> bool:
        return count * _SORT_SHARE >= len(self.heap) + len(self.ordered)

    def _order(self, count: int) -> None:
        """Move the timers of the heap, and the first ``count`` fresh ones, to ``ordered``; sort it.

        The sort is stable, so that equal deadlines keep their order, and it is fast where parts of
        the list are sorted already.
        """
        ordered = self.ordered[::-1]
        self.heap.sort()
        for entry in self.heap:
            ordered.append(entry[2])
        fresh = [timed for timed in self.fresh[:count] if not timed.cancelled()]
        self._cancelled -= count - len(fresh)
        ordered += fresh
        ordered.sort(key=_due)
        ordered.reverse()
        self.ordered = ordered
        self.heap.clear()
        if len(self.fresh) == count:  # Otherwise a finalizer has set a timer meanwhile.
            self._fresh_due = _NONE_DUE
        del self.fresh[:count]

    def only_lone_is_due(self, now: float) -> bool:
        """Return whether the lone timer is due at ``now``, and is the only timer."""
        lone = self.lone
        return (
            lone is not None
            and self._fresh_due <= now
            and lone._due() <= now
            and not (self.fresh or self.heap or self.ordered)
        )

    def wait_time(self, now: float) -> float:
        """Return the seconds from ``now`` to the first timer; 0 if it is due, -1 if there is none.

        The result is at most ``LONGEST_WAIT``.
        """
        heap = self.heap
        ordered = self.ordered
        # Counted first: when the handle goes, so do the objects that its callback refers to, and
        # their finalizers may set and cancel timers.
        while heap and _is_cancelled(heap[0][2]):
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
        """Return the deadline of the first timer; ``wait_time`` must have found one before."""
        if not self.ordered:
            when: float = self.heap[0][0]
            return when
        first = self.ordered[-1]._due()
        return min(first, self.heap[0][0]) if self.heap else first

    def pop_due(self, now: float, ready: Callable[[Runnable], object]) -> None:
        """Call ``ready`` with each timer that is due at ``now``, in the order of the deadlines."""
        if self._fresh_due <= now:
            if self.only_lone_is_due(now):
                self._take_lone(ready if self.on_due is None else self.on_due)
                return
            self.merge()
        self._moving = True
        due = self._due_now
        heap = self.heap
        ordered = self.ordered
        count = 0
        while heap and heap[0][0] <= now:
            if ordered and ordered[-1]._due() <= heap[0][0]:
                due.append(ordered[-1])
                ordered.pop()
                continue
            count += 1
            if count >= _SORT_MINIMUM and self._is_large_share(count):
                self._order(0)
                ordered = self.ordered
            else:
                due.append(heap[0][2])
                _heappop(heap)
        if ordered and ordered[-1]._due() <= now:
            self._take_ordered(now)
        if due:
            if self.on_due is not None:
                ready = self.on_due
            for timed in due:
                if timed._leave_heap():
                    ready(timed)
                else:
                    self._cancelled -= 1
            due.clear()
        self._moving = False

    def _take_lone(self, ready: Callable[[Runnable], object]) -> None:
        """Call ``ready`` with the lone timer, which is the only one."""
        lone = self.lone
        assert lone is not None
        self._moving = True
        self._lone_is_due = True
        self._fresh_due = _NONE_DUE
        if lone._leave_heap():
            ready(lone)
        else:
            self._cancelled -= 1
        self.lone = None
        self._lone_is_due = False
        self._moving = False

    def _take_ordered(self, now: float) -> None:
        """Move the timers that are due from ``ordered`` to ``_due_now``."""
        ordered = self.ordered
        first = bisect.bisect_left(ordered, -now, key=_before)
        latest_first = ordered[first:]
        latest_first.reverse()
        self._due_now.extend(latest_first)
        del ordered[first:]

    def recover(self, ready: deque[Runnable]) -> None:
        """Finish a move of timers that an exception has ended; otherwise this does nothing.

        Each timer is left in one place only. Those that were moving to the ready queue are appended
        to ``ready``, unless they are there. To be called before the entries of ``ready`` run. If
        this is interrupted as well, call it again.
        """
        if not self._moving:
            return
        if self._lone_is_due and self.lone is not None:
            self._due_now.append(self.lone)
        seen = set(map(id, ready))
        for timed in self._due_now:
            if not timed.cancelled() and _is_new(timed, seen):
                timed._leave_heap()
                ready.append(timed)
        seen.update(map(id, self._due_now))
        self.ordered[:] = [timed for timed in self.ordered if _is_new(timed, seen)]
        # A sorted list is a heap. Of the entries of one timer the first has its place in the order.
        self.heap[:] = [entry for entry in sorted(self.heap) if _is_new(entry[2], seen)]
        if self.lone is not None and not _is_new(self.lone, seen):
            self.lone = None
        self._lone_is_due = False
        count = len(self.fresh)
        self.fresh[:count] = [timed for timed in self.fresh[:count] if _is_new(timed, seen)]
        self._due_now.clear()
        self._cancelled = self.size() - len(self.pending())
        self._moving = False

    def forget(self, timed: Runnable) -> None:
        """Note that a timer that is held was just cancelled; remove it if that is cheap."""
        if self.on_cancelled is not None:
            self.on_cancelled(timed)
        if self._moving:
            self._cancelled += 1
        elif self.lone is timed:
            self.lone = None
            if not self.fresh:
                self._fresh_due = _NONE_DUE
        else:
            self._forget_placed(timed)

    def _forget_placed(self, timed: Runnable) -> None:
        """Continue ``forget`` for a timer that is not the lone one."""
        fresh = self.fresh
        heap = self.heap
        ordered = self.ordered
        if fresh and fresh[-1] is timed:
            fresh.pop()
            if not fresh and self.lone is None:
                self._fresh_due = _NONE_DUE
        elif heap and heap[-1][2] is timed:
            # The last entry of the heap has no children, so that it can simply be removed. The
            # newest deadline is often the latest, so that this is the usual end of a timeout.
            heap.pop()
        elif ordered and ordered[-1] is timed:
            ordered.pop()
        else:
            self._cancelled += 1
            if self._cancelled > SWEEP_MINIMUM and self._cancelled * 2 > self.size():
                self._sweep()

    def _sweep(self) -> None:
        """Remove the cancelled timers."""
        self._moving = True
        try:
            cancelled = self._cancelled
            self.ordered[:] = [timed for timed in self.ordered if not timed.cancelled()]
            heap = [entry for entry in self.heap if not _is_cancelled(entry[2])]
            heapq.heapify(heap)
            self.heap[:] = heap
            if self.lone is not None and self.lone.cancelled():
                self.lone = None
            count = len(self.fresh)
            self.fresh[:count] = [each for each in self.fresh[:count] if not each.cancelled()]
            # Finalizers may have cancelled timers meanwhile: these count, whether removed or not.
            self._cancelled -= cancelled
        finally:
            self._moving = False

    def clear(self) -> None:
        """Remove all timers, because the loop is closed."""
        self.merge()
        for timed in [*self.pending(), *self._due_now]:
            timed._leave_heap()
        self.heap.clear()
        self.ordered.clear()
        self._due_now.clear()
        self._cancelled = 0
