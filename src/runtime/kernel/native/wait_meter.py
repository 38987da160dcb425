"""Wait meters: how long a loop waits, and how long it is busy from one poll to the next.

The function of the accelerator that waits for events measures itself. ``PythonWaitMeter`` does the
same around any other function that waits: that of its fallback, and that of a selector.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from array import array

Wait = Callable[[float], list[tuple[int, int]]]
"""Waits up to the given seconds (negative: no limit); returns pairs (descriptor, epoll mask)."""

TICK: Final = 0.01
"""Least number of seconds between two calls of the ``tick`` of a ``WaitMeter``."""


if TYPE_CHECKING:

    class WaitMeter(Protocol):
        """Measures how long a loop waits, and how long it is busy from one poll to the next.

        The time from the end of a poll to the beginning of the next one is a *lag*: an event that
        arrives meanwhile has to wait for the loop. So each poll reads the clock once if it does not
        wait, and twice if it does.
        """

        def begin_run(self) -> None:
            """Note that the loop begins to run."""

        def end_run(self) -> None:
            """Note that the loop has ended to run. Without a run this does nothing."""

        def set_tick(self, tick: Callable[[float], object] | None) -> None:
            """Set the function that a poll calls at its end with the time of ``time.monotonic``.

            It is called if ``TICK`` seconds have passed since the last call. If it raises an
            exception, the poll raises it, and the events of the poll are lost.
            """

        def figures(self) -> tuple[float, float, int, float, float, bytes]:
            """Return the figures: durations in seconds, and numbers of lags. For any thread.

            They are the duration of the runs of the loop, including the current one; the part of it
            that the loop waited; the number of lags, their sum, and the longest; and the number of
            lags in each bucket of ``buckets.BOUNDS``, as an ``array("Q")`` in bytes.
            """

        def close(self) -> None:
            """Release the function and the descriptor that the meter holds."""


_monotonic: Final[Callable[[], float]] = time.monotonic

_LAGS_KEPT: Final = 1024
"""Number of lags that ``PythonWaitMeter`` collects before it counts them into buckets."""


class PythonWaitMeter:
    """A ``WaitMeter`` around ``wait``, a function with the arguments and results of ``Wait``.

    ``release`` is called when the meter is closed.
    """

    __slots__ = (
        "_began",
        "_counts",
        "_lag_count",
        "_lag_most",
        "_lag_sum",
        "_lags",
        "_next_tick",
        "_ran",
        "_release",
        "_stamp",
        "_tick",
        "_wait",
        "_waited",
        "_waiting_since",
    )

    def __init__(self, wait: Wait, release: Callable[[], object] | None = None) -> None:
        self._wait: Wait = wait
        self._release = release
        self._tick: Callable[[float], object] | None = None
        self._next_tick = 0.0
        # The time at which the current run began, and the wait, if there is one; otherwise 0.
        self._began = 0.0
        self._waiting_since = 0.0
        self._ran = 0.0
        self._waited = 0.0
        # The end of the last poll, or the beginning of the run; 0 while the loop does not run.
        self._stamp = 0.0
        # The newest lags, which are not in the figures after them yet.
        self._lags: list[float] = []
        # None as long as no lag has been counted.
        self._counts: array[int] | None = None
        self._lag_count = 0
        self._lag_sum = 0.0
        self._lag_most = 0.0

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Call the function, and measure it unless it is not to wait."""
        if timeout:
            started = _monotonic()
            if self._stamp:
                self._lags.append(started - self._stamp)
            self._waiting_since = started
            try:
                events = self._wait(timeout)
            finally:
                now = _monotonic()
                self._waiting_since = 0.0
                self._waited += now - started
                self._stamp = now
        else:
            events = self._wait(timeout)
            now = _monotonic()
            if self._stamp:
                self._lags.append(now - self._stamp)
            self._stamp = now
        if now >= self._next_tick:
            self._next_tick = now + TICK
            if len(self._lags) >= _LAGS_KEPT:
                try:
                    self._count_lags()
                except (ImportError, OSError):
                    # The module for that cannot be imported: see ``DurationRecorder.fold``.
                    self._lags = []
            if self._tick is not None:
                self._tick(now)
        return events

    def begin_run(self) -> None:
        """Note that the loop begins to run."""
        self.end_run()
        self._began = self._stamp = _monotonic()

    def end_run(self) -> None:
        """Note that the loop has ended to run."""
        if self._began:
            now = _monotonic()
            self._ran += now - self._began
            self._lags.append(now - self._stamp)
            self._began = self._stamp = 0.0

    def set_tick(self, tick: Callable[[float], object] | None) -> None:
        """Set the function that a poll calls now and then."""
        self._tick = tick

    def _count_lags(self) -> array[int]:
        """Count the collected lags into the buckets; return the counts."""
        from runtime.kernel.native.buckets import count_into, no_counts

        lags = self._lags
        self._lags = []
        # A copy: if this is another thread than the loop's, the loop may still add to the list.
        lags = lags.copy()
        counts = self._counts
        if counts is None:
            counts = self._counts = no_counts()
        count_into(counts, lags)
        if lags:
            self._lag_count += len(lags)
            self._lag_sum += sum(lags)
            self._lag_most = max(self._lag_most, lags[-1])
        return counts

    def figures(self) -> tuple[float, float, int, float, float, bytes]:
        """Return the figures, as ``WaitMeter`` describes them."""
        now = _monotonic()
        counts = self._count_lags().tobytes()
        ran = self._ran + (now - self._began if self._began else 0.0)
        since = self._waiting_since
        waited = self._waited + (now - since if since else 0.0)
        return ran, waited, self._lag_count, self._lag_sum, self._lag_most, counts

    def replace(self, wait: Wait, release: Callable[[], object]) -> None:
        """Use another function from now on; release the previous one."""
        previous = self._release
        self._wait = wait
        self._release = release
        if previous is not None:
            previous()

    def close(self) -> None:
        """Release both functions; ``wait`` raises ValueError from now on."""
        self._tick = None
        self._wait = _refuse_to_wait
        release = self._release
        self._release = None
        if release is not None:
            release()


def _refuse_to_wait(timeout: float) -> list[tuple[int, int]]:
    raise ValueError("the function that waits for events was released")


def meter_of(wait: Wait) -> WaitMeter:
    """Return the meter of a function from ``epoll_wait``, or of a ``PythonWaitMeter``."""
    meter: WaitMeter = wait.__self__  # type: ignore[attr-defined]
    return meter
