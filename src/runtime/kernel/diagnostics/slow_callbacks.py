"""Slow-callback watch: a thread that reports the line at which a callback blocks the loop."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Protocol

from runtime.kernel.diagnostics.blocking_calls import BlockingCall, blocking_call_of
from runtime.kernel.diagnostics.collector import watch_collector

_logger: Final = logging.getLogger("asyncio")

_MOST_PLACES: Final = 1000
"""Number of places after which further ones are counted as one."""

_NEAR: Final = 8
"""The fraction of the threshold at which the watch looks whether a stall is over."""


class Watched(Protocol):
    """The attributes of a loop that the slow-callback watch uses."""

    _current: Any
    _recorder: Any
    _turns: int
    _waiting: bool
    _thread_id: int


@dataclass(frozen=True, slots=True)
class BlockedPlace:
    """A place of the program that has blocked the loop, and how often and how long it did so.

    Durations are in seconds. They are measured by a thread, and too short by up to the threshold of
    the watch.
    """

    call: BlockingCall
    task: str
    """The name of the task that ran at the first time; empty for a callback."""

    coroutine: str
    """The name of the coroutine of that task; empty for a callback."""

    count: int
    total: float
    longest: float

    def __str__(self) -> str:
        action = f" calls {self.call.call}" if self.call.call else " is executed"
        where = f"In task {self.task!r}, " if self.task else "In a callback, "
        return f"{where}{self.call.place}{action}. Use {self.call.instead} instead."

    def after(self, seconds: float, so_far: float | None) -> BlockedPlace:
        """Return the place after it has blocked once more, for ``seconds``.

        ``so_far`` is the duration with which this stall is counted already, or None.
        """
        return BlockedPlace(
            self.call,
            self.task,
            self.coroutine,
            self.count + (so_far is None),
            self.total + seconds - (so_far or 0.0),
            max(self.longest, seconds),
        )


class SlowCallbackWatch:
    """A thread that detects that a loop is stuck in one turn, and logs the running line.

    The loop only counts its turns for it, so that the watch can be left on. The thread reads the
    stack while the callback is running. It logs a warning for each place that blocks the loop for
    longer than ``threshold`` seconds, and again when it has done so 10, 100, 1000 times.
    """

    def __init__(self, loop: Watched, threshold: float) -> None:
        if not threshold > 0:
            raise ValueError(
                f"the threshold must be a positive number of seconds, got {threshold!r}"
            )
        self._loop = loop
        self._threshold = threshold
        self._places: dict[tuple[str, str], BlockedPlace] = {}
        self._ended = threading.Event()
        watch_collector()  # So that a pause of the garbage collector is recognised.
        self.thread = threading.Thread(target=self._watch, name="slow callbacks", daemon=True)
        self.thread.start()

    def places(self) -> list[BlockedPlace]:
        """Return the places that have blocked the loop, the one that took most time first."""
        return sorted(self._places.copy().values(), key=lambda each: -each.total)

    def _watch(self) -> None:
        loop = self._loop
        turns = -1
        since = 0.0
        so_far = 0.0
        stuck: BlockedPlace | None = None
        while not self._ended.wait(self._interval(stuck is not None)):
            thread_id = loop._thread_id
            now = monotonic()
            if loop._waiting or not thread_id or loop._turns != turns:
                if stuck is not None:
                    self._count(stuck, now - since, so_far)
                    stuck = None
                turns = loop._turns
                since = now
            elif stuck is None:
                so_far = now - since
                stuck = self._report(thread_id, so_far)
        if stuck is not None:
            self._count(stuck, monotonic() - since, so_far)

    def _interval(self, is_stuck: bool) -> float:
        interval = self._threshold / _NEAR if is_stuck else self._threshold
        return min(interval, threading.TIMEOUT_MAX)

    def _report(self, thread_id: int, seconds: float) -> BlockedPlace | None:
        """Count the place at which the thread is, and return it; log a warning if it is new."""
        frame = sys._current_frames().get(thread_id)
        if frame is None:
            return None
        task = self._loop._current
        coro = None if task is None else task.get_coro()
        place = BlockedPlace(
            blocking_call_of(frame),
            "" if task is None else str(task.get_name()),
            "" if coro is None else str(getattr(coro, "__qualname__", type(coro).__name__)),
            0,
            0.0,
            0.0,
        )
        is_new = self._key_of(place) not in self._places
        self._count(place, seconds, None)
        if is_new:
            _logger.warning(
                "The event loop has been stuck for more than %.3f seconds in one turn, at:\n%s\n%s",
                self._threshold,
                "".join(traceback.format_stack(frame)).rstrip(),
                place,
            )
        recorder = self._loop._recorder
        if recorder is not None:
            recorder.dump("stall")
        return place

    def _key_of(self, place: BlockedPlace) -> tuple[str, str]:
        key = place.call.place, place.call.call
        if key not in self._places and len(self._places) >= _MOST_PLACES:
            return "other places", ""
        return key

    def _count(self, place: BlockedPlace, seconds: float, so_far: float | None) -> None:
        """Count a stall of ``seconds`` at a place, or its end if ``so_far`` is counted already."""
        key = self._key_of(place)
        place = self._places[key] = self._places.get(key, place).after(seconds, so_far)
        if so_far is not None and place.count >= 10 and str(place.count).strip("0") == "1":
            _logger.warning(
                "The event loop was stuck %d times, for %.3f seconds in all and %.3f at most. %s",
                place.count,
                place.total,
                place.longest,
                place,
            )

    def stop(self) -> None:
        """End the watch, and wait for its thread."""
        self._ended.set()
        if not sys.is_finalizing():  # Else the thread is stopped already, and will not end.
            self.thread.join()
