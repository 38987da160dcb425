"""What keeps an eye on a running loop: debug mode's reports, and the interpreter's signals."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
import traceback
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


class Watched(Protocol):
    """A loop, as far as the slow-callback watch is concerned."""

    turns: int
    waiting: bool
    thread_id: int


class SlowCallbackWatch:
    """A thread that looks whether a loop is stuck in one turn, and says where.

    It costs the loop nothing but the count of its turns, so that it can be left on. It sees the
    very line that is being run, while it runs: a warning names it, once for each stuck turn.
    ``threshold`` is in seconds.
    """

    def __init__(self, loop: Watched, threshold: float) -> None:
        if not threshold > 0:
            raise ValueError(f"The threshold must be a positive number of seconds: {threshold!r}.")
        self._loop = loop
        self._threshold = threshold
        self._ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="slow callbacks", daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        loop = self._loop
        turns = -1
        reported = False
        while not self._ended.wait(min(self._threshold, threading.TIMEOUT_MAX)):
            thread_id = loop.thread_id
            if loop.waiting or not thread_id or loop.turns != turns:
                turns = loop.turns
                reported = False
            elif not reported:
                reported = True
                self._report(thread_id)

    def _report(self, thread_id: int) -> None:
        frame = sys._current_frames().get(thread_id)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        _logger.warning(
            "The event loop has been stuck for more than %.3f seconds in one turn, at:\n%s",
            self._threshold,
            stack.rstrip(),
        )

    def stop(self) -> None:
        """End the watch, and wait for its thread."""
        self._ended.set()
        if not sys.is_finalizing():  # Threads have been stopped by then, wherever they were.
            self.thread.join()


def run_signal_handlers() -> None:
    """Have the interpreter run the handlers of signals that have arrived.

    It does so between two instructions of Python; a loop that is compiled and idle executes none.
    That this function is interpreted, and called, is all that is needed.
    """


set_wakeup_fd: Final[Callable[[int], int]] = functools.partial(
    signal.set_wakeup_fd, warn_on_full_buffer=False
)
"""Has each signal write a byte to a socket, by which a loop is woken; returns the one before.

Without it a signal that arrives while another thread holds the interpreter, or just before the loop
falls asleep, would be handled when the loop next wakes by itself. Raises ValueError where there are
no signals: outside the main thread of the main interpreter.
"""
