"""For tests: time that passes when nothing else does, and runs that cannot hang unnoticed."""

from __future__ import annotations

from runtime.testing.clock import RealIOError, VirtualClock
from runtime.testing.running import new_event_loop, run

__all__ = ["RealIOError", "VirtualClock", "new_event_loop", "run"]
