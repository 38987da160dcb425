"""What keeps an eye on a running loop: debug mode's reports, and the interpreter's signals."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import Final

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


class SignalWakeup:
    """Has each signal write to the loop's wake-up socket while the loop runs in the main thread.

    Without it a signal that arrives while another thread holds the interpreter, or just before the
    loop falls asleep, would be handled when the loop next wakes by itself.
    """

    def __init__(self, fd: int) -> None:
        self._previous: int | None = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)

    def restore(self) -> None:
        """Put back the descriptor from before."""
        if self._previous is not None:
            signal.set_wakeup_fd(self._previous)
            self._previous = None
