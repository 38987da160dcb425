"""The clock of a simulated run, and a selector that moves it instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any, cast

from runtime.kernel.diagnostics.deadlock import deadlock_of
from runtime.loop import Loop
from runtime.simulation.errors import OutsideError
from runtime.simulation.schedule import Moments
from runtime.testing.descriptor_names import describe_descriptor


class SimulatedClock(Moments):
    """A clock that moves only when it is told to. ``clock()`` returns the time, in seconds."""

    __slots__ = ()

    def __call__(self) -> float:
        """Return the time of the clock, in seconds."""
        return self.now


class ClockSelector(selectors.BaseSelector):
    """A selector without events, for a run without a network.

    When the loop is about to wait, the clock moves to the next timer. If there is none, no task can
    ever run again, and DeadlockError is raised. Descriptors cannot be watched, except for the
    socket that wakes the loop, which a loop registers first.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Accept the first descriptor; raise OutsideError for any other."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if self._keys:
            raise OutsideError(
                f"{describe_descriptor(fd)} cannot be watched: it is not part of the simulation."
            )
        key = selectors.SelectorKey(fileobj, fd, events, data)
        self._keys[fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Forget a descriptor."""
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return the registered descriptors."""
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Move the clock to the next timer, unless ``timeout`` is 0; return no events."""
        if timeout == 0:
            return []
        loop = cast(Loop, asyncio.get_running_loop())
        timers = loop._timers
        if timers.heap or timers.ordered:
            self._clock.advance(timers.next_due())
            return []
        tasks: set[Any] = asyncio.all_tasks(loop)
        raise deadlock_of(tasks)
