"""Progress bar: one line on a terminal, overwritten by each update."""

from __future__ import annotations

import sys
import time

WIDTH = 24


def bar(done: int, whole: int, elapsed: float) -> str:
    """Return a bar, the finished share, and the estimated rest, after ``elapsed`` seconds."""
    filled = WIDTH * done // whole
    drawn = f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{whole}"
    if not done:
        return drawn
    minutes, seconds = divmod(round(elapsed / done * (whole - done)), 60)
    return f"{drawn}, {minutes}:{seconds:02} left"


class Bar:
    """Bar for the measurement of a case; ``number`` counts from 1. Silent without a terminal."""

    def __init__(self, number: int, whole: int, started: float) -> None:
        self._number = number
        self._whole = whole
        self._started = started

    def show(self, text: str) -> None:
        """Show the bar and a text."""
        if sys.stderr.isatty():
            elapsed = time.monotonic() - self._started
            drawn = bar(self._number - 1, self._whole, elapsed)
            print(f"\r\x1b[K{drawn}  {text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave the line empty."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
