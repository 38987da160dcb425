"""Tools for the tests of users: a virtual clock, ``run``, and a pytest plugin.

The plugin also checks that a test leaves no tasks, processes or descriptors behind. Helpers of this
project's own tests belong in ``tests/support``.
"""

from __future__ import annotations

from runtime.testing.blocked import wait_all_tasks_blocked
from runtime.testing.clock import RealIOError, VirtualClock
from runtime.testing.running import new_event_loop, run

__all__ = ["RealIOError", "VirtualClock", "new_event_loop", "run", "wait_all_tasks_blocked"]
