"""The clock of a simulated run."""

from __future__ import annotations

from runtime.simulation.schedule import Moments


class SimulatedClock(Moments):
    """A clock that moves only when it is told to. ``clock()`` returns the time, in seconds."""

    __slots__ = ()

    def __call__(self) -> float:
        """Return the time of the clock, in seconds."""
        return self.now
