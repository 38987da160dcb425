"""For tests: time that passes when nothing else does, and runs that cannot hang unnoticed.

The virtual clock, ``run`` and the plugin of pytest, with its checks of what a test leaves open.
Helpers of this project's own tests belong to ``tests/support``.
"""

from __future__ import annotations

from runtime.testing.blocked import wait_all_tasks_blocked
from runtime.testing.clock import RealIOError, VirtualClock
from runtime.testing.running import new_event_loop, run

__all__ = ["RealIOError", "VirtualClock", "new_event_loop", "run", "wait_all_tasks_blocked"]
