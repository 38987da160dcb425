"""Debug mode: its default, and its reports of slow callbacks and events."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

T = TypeVar("T")
P = TypeVar("P")

_ORIGIN_DEPTH: Final = 10
_logger: Final = logging.getLogger("asyncio")


def debug_by_default() -> bool:
    """Return whether new loops are in debug mode, by the same rule as asyncio's.

    They are under ``python -X dev``, and if the environment variable ``PYTHONASYNCIODEBUG`` is not
    empty, unless the interpreter ignores the environment.
    """
    return sys.flags.dev_mode or (
        not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG"))
    )


def report_slow(runnable: object, seconds: float) -> None:
    """Log a warning about a callback, or a step of a task, that blocked the loop."""
    _logger.warning("Executing %r took %.3f seconds", runnable, seconds)


if TYPE_CHECKING:

    class Timed(Protocol):
        """The attributes of a loop that an ``EventTimer`` uses."""

        slow_callback_duration: float

        def time(self) -> float:
            """Return the time, in seconds from an arbitrary start."""

    class EventWatcher(Protocol):
        """The method of a descriptor's watcher that an ``EventTimer`` uses."""

        def get_protocol(self) -> object:
            """Return the protocol that the events are for, or None."""


class EventTimer:
    """Measures the handling of each event of a descriptor in debug mode, and reports slow ones.

    The handling of an event calls a protocol directly, without a handle that the loop could time.
    """

    def __init__(self, loop: Timed) -> None:
        self._loop = loop

    def measure(self, watcher: EventWatcher, handle: Callable[[], object]) -> None:
        """Call ``handle()``, which handles an event of ``watcher``; log a warning if it is slow."""
        protocol = watcher.get_protocol()  # Before the event, which may end the connection.
        started = self._loop.time()
        handle()
        elapsed = self._loop.time() - started
        if elapsed >= self._loop.slow_callback_duration:
            suffix = "" if protocol is None else f" for protocol {type(protocol).__qualname__}"
            _logger.warning("Executing <event of %r%s> took %.3f seconds", watcher, suffix, elapsed)


def run_with_origin_tracking(run: Callable[[T, P], None], loop: T, collect: P) -> None:
    """Call ``run(loop, collect)`` while the interpreter records where coroutines are created.

    Its warning about a coroutine that was never awaited then shows the place.
    """
    depth = sys.get_coroutine_origin_tracking_depth()
    try:
        sys.set_coroutine_origin_tracking_depth(_ORIGIN_DEPTH)
        run(loop, collect)
    finally:
        sys.set_coroutine_origin_tracking_depth(depth)
