"""Virtual clock: it stands still while anything can run, and then jumps to the next timer.

::

                                      +--------------------------------------------+
                                      v                                            |
    the loop is about to wait --> has anything happened? --yes--> the loop continues |
                                      | no                                         |
                                  does a thread work for the loop? --yes--> wait for it, in real
                                      | no                                  time; the clock stands
                                  is a descriptor watched? --yes--> wait up to ``patience``
                                      | no, or nothing came
                                  jump to the next timer

It consists of the two arguments of ``Loop(selector, clock)``: a clock, and a selector that does not
wait. Every timer runs exactly at its deadline, so that the events of a test and their order depend
on the deadlines alone, and not on the speed of the machine.

Real I/O takes real time, which a virtual clock cannot know. It is therefore refused, unless a test
asks for the clock to wait for it.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.core import LoopCore
from runtime.kernel.timers import LONGEST_WAIT
from runtime.loop import Loop
from runtime.testing.descriptor_names import describe_descriptor

RealIO = Literal["refuse", "wait"]

PATIENCE = 0.05
"""Default number of real seconds for which watched descriptors keep the clock from jumping."""


class RealIOError(RuntimeError):
    """Raised when a descriptor is to be watched on a virtual clock that refuses real I/O."""


class VirtualClock:
    """A clock that jumps to the next deadline as soon as nothing else can run.

    ``start`` is the initial time of the clock, in seconds. Like ``time.monotonic``, the clock is
    called to get the time. ``Loop(clock.selector(), clock)`` is a loop on this clock;
    ``runtime.testing.run`` runs a coroutine on such a loop.

    ``real_io`` chooses how sockets, pipes and other descriptors are treated. With ``"refuse"``,
    RealIOError is raised when a descriptor is to be watched. With ``"wait"``, the clock jumps only
    when no watched descriptor has had an event for ``patience`` seconds of real time, or, if
    ``patience`` is None, only when no descriptor is watched. Data that tasks of one loop send to
    one another arrives at once, and needs no patience; data from other processes and machines does.
    With more patience the order of events is more certain, and each jump takes more real time.

    While a thread works for the loop (for ``to_thread``, ``run_in_executor``, the resolution of a
    host name), or waits for a process, the clock stands still, however long that takes. The clock
    knows nothing of threads that the program starts itself: their calls of
    ``call_soon_threadsafe`` may come after a jump.

    An infinite sleep or timeout never ends: the clock does not jump to infinity.

    Raises ValueError for another ``real_io``, for a ``patience`` that is negative or NaN, and for a
    ``start`` that is not finite, and TypeError for a ``patience`` that is not a number.
    """

    def __init__(
        self,
        start: float = 0.0,
        *,
        real_io: RealIO = "refuse",
        patience: Seconds | None = PATIENCE,
    ) -> None:
        if real_io not in ("refuse", "wait"):
            raise ValueError(f'real_io must be "refuse" or "wait", got {real_io!r}')
        if patience is not None:
            patience = _checked_patience(patience)
        if not math.isfinite(start):
            raise ValueError(f"start must be a finite number of seconds, got {start!r}")
        self._now = float(start)
        self._real_io = real_io
        self._patience = patience

    def __call__(self) -> float:
        """Return the time of the clock, in seconds."""
        return self._now

    def selector(self) -> selectors.BaseSelector:
        """Return a new selector, for one loop, that makes the clock jump instead of waiting."""
        return _JumpingSelector(self._jump, self._real_io, self._patience)

    def new_event_loop(self) -> Loop:
        """Return a new loop on this clock, which the caller closes: ``Loop(selector(), self)``."""
        return Loop(self.selector(), self)

    def _jump(self, moment: float) -> None:
        self._now = max(self._now, moment)

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now} real_io={self._real_io!r}>"


def _checked_patience(patience: Seconds) -> float | None:
    """Return ``patience`` as a float; None if it is longer than a selector can wait."""
    number = seconds(patience, "patience of VirtualClock()")
    if number < 0:
        raise ValueError(f"patience must be a number of seconds or None, got {patience!r}")
    return number if number <= LONGEST_WAIT else None


class _JumpingSelector(selectors.BaseSelector):
    """A selector that makes the clock jump to the next timer, instead of waiting for it."""

    def __init__(
        self, jump: Callable[[float], None], real_io: RealIO, patience: float | None
    ) -> None:
        self._jump = jump
        self._real_io = real_io
        self._patience = patience
        self._selector = selectors.DefaultSelector()
        # A loop first registers the pipe by which other threads wake it.
        self._wakeup: Any = None
        # Whether select() waits in real time, as other selectors do, without a jump of the clock.
        self.clock_stands_still = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self._wakeup is None:
            self._wakeup = fileobj
        elif self._real_io == "refuse":
            fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
            raise RealIOError(
                f"{describe_descriptor(fd)} cannot be watched: the virtual clock refuses real I/O, "
                "which takes real time; keep it out of the test, or let the clock wait for it with "
                'real_io="wait"'
            )
        return self._selector.register(fileobj, events, data)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()

    def close(self) -> None:
        self._selector.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._selector.select(0)
        if events or timeout == 0:
            return events
        if self.clock_stands_still:
            return self._selector.select(timeout)
        loop = cast(Loop, asyncio.get_running_loop())
        if loop._external_work:
            return self._selector.select(None)
        if not (loop._timers.heap or loop._timers.ordered):
            return self._selector.select(timeout)
        if len(self._selector.get_map()) > 1:
            events = self._selector.select(self._patience)
        if not events:
            self._jump(loop._timers.next_due())
        return events


def poll_without_jumping(loop: LoopCore, timeout: float, next_timer: float) -> None:
    """Poll the descriptors of ``loop`` for up to ``timeout`` seconds of real time.

    A virtual clock, and that of a simulated run, stand still meanwhile. On another clock the wait
    ends when the next timer is due, in ``next_timer`` seconds, which are negative if there is no
    timer.
    """
    selector: Any = loop._poller.selector
    if hasattr(selector, "clock_stands_still"):
        selector.clock_stands_still = True
        try:
            loop._poller.poll(timeout)
        finally:
            selector.clock_stands_still = False
    else:
        loop._poller.poll(min(timeout, next_timer) if next_timer >= 0 else timeout)
