"""Debug mode: whether it is on by default, and the reports that it makes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

_ORIGIN_DEPTH: Final = 10
_logger: Final = logging.getLogger("asyncio")


def debug_by_default() -> bool:
    """Return whether new loops are in debug mode, as asyncio's are.

    That is so under ``python -X dev``, and when the environment variable ``PYTHONASYNCIODEBUG`` is
    not empty, unless the interpreter ignores the environment.
    """
    return sys.flags.dev_mode or (
        not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG"))
    )


def report_slow(runnable: object, seconds: float) -> None:
    """Warn about a callback, or a step of a task, that kept the loop from everything else."""
    _logger.warning("Executing %r took %.3f seconds", runnable, seconds)


class Timed(Protocol):
    """A loop, as far as the durations of its events are concerned."""

    slow_callback_duration: float

    def time(self) -> float:
        """Return the time, in seconds from an arbitrary start."""


class EventWatcher(Protocol):
    """The watcher of a descriptor, as far as a report about it is concerned."""

    def get_protocol(self) -> object:
        """Return the protocol that is told of the events; None when there is none."""


class EventTimer:
    """Measures each event of a descriptor in debug mode, and reports a slow one.

    Events call protocols directly, and not through a handle that the loop could measure.
    """

    def __init__(self, loop: Timed) -> None:
        self._loop = loop

    def measure(self, watcher: EventWatcher, handle: Callable[[], object]) -> None:
        """Call ``handle()``, which handles an event of ``watcher``; warn if it was slow."""
        protocol = watcher.get_protocol()  # The event may end the connection.
        started = self._loop.time()
        handle()
        elapsed = self._loop.time() - started
        if elapsed >= self._loop.slow_callback_duration:
            told = "" if protocol is None else f" for protocol {type(protocol).__qualname__}"
            _logger.warning("Executing <event of %r%s> took %.3f seconds", watcher, told, elapsed)


def with_origins_noted(run: Callable[[T], None], loop: T) -> None:
    """Call ``run(loop)``, and have noted where coroutines are made.

    The interpreter says so of one that is never awaited.
    """
    depth = sys.get_coroutine_origin_tracking_depth()
    try:
        sys.set_coroutine_origin_tracking_depth(_ORIGIN_DEPTH)
        run(loop)
    finally:
        sys.set_coroutine_origin_tracking_depth(depth)
