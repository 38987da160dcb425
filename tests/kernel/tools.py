"""What the tests of the kernel share."""

from __future__ import annotations

import runtime


def turn(loop: runtime.Loop, times: int = 1) -> None:
    """Have a loop run so many turns."""
    for _ in range(times):
        loop.call_soon(loop.stop)
        loop.run_forever()
