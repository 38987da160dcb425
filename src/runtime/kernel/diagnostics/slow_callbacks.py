"""Slow-callback watch: a thread that reports the line at which a callback blocks the loop."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Final, Protocol

_logger: Final = logging.getLogger("asyncio")


class Watched(Protocol):
    """The attributes of a loop that the slow-callback watch uses."""

    _turns: int
    _waiting: bool
    _thread_id: int


class SlowCallbackWatch:
    """A thread that detects that a loop is stuck in one turn, and logs the running line.

    The loop only counts its turns for it, so that the watch can be left on. The thread reads the
    stack while the callback is running, and logs one warning for each turn that takes longer than
    ``threshold`` seconds.
    """

    def __init__(self, loop: Watched, threshold: float) -> None:
        if not threshold > 0:
            raise ValueError(
                f"the threshold must be a positive number of seconds, got {threshold!r}"
            )
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
            thread_id = loop._thread_id
            if loop._waiting or not thread_id or loop._turns != turns:
                turns = loop._turns
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
        if not sys.is_finalizing():  # Else the thread is stopped already, and will not end.
            self.thread.join()
