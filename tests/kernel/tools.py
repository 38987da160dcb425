"""Helpers for the tests of the kernel."""

from __future__ import annotations

import runtime


def turn(loop: runtime.Loop, times: int = 1) -> None:
    """Run the loop for a number of turns."""
    for _ in range(times):
        loop.call_soon(loop.stop)
        loop.run_forever()


class Clock:
    """A clock that only moves when it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
