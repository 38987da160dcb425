"""Watch for callbacks that block the loop: a thread that reports the line that is running."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Final, Protocol

_logger: Final = logging.getLogger("asyncio")


class Watched(Protocol):
    """A loop, as far as the slow-callback watch is concerned."""

    _turns: int
    _waiting: bool
    _thread_id: int


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
        if not sys.is_finalizing():  # Threads have been stopped by then, wherever they were.
            self.thread.join()
