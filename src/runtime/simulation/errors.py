"""Exceptions of simulated runs."""

from __future__ import annotations


class OutsideError(RuntimeError):
    """The program has used something that a simulated run cannot control, such as a thread."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        _counts["refusals"] += 1


_counts = {"refusals": 0}
"""The number of these exceptions, with those that the program has caught or that no task awaits."""


def take_refusals() -> int:
    """Return how often the program has used something outside, and begin to count anew."""
    count, _counts["refusals"] = _counts["refusals"], 0
    return count


class DivergenceError(RuntimeError):
    """A run did not follow the choices of its token: the program or its environment differ."""


class InvariantError(AssertionError):
    """A condition that was to hold after every step does not hold."""


class LivelockError(RuntimeError):
    """The budget of steps of a run is exhausted: its tasks run on and on without an end."""


class StarvationError(RuntimeError):
    """A task or callback was ready for more steps than the budget ``starvation=`` allows."""


class LeftoverError(RuntimeError):
    """The program has ended and left tasks, locks or sockets behind."""


class UnretrievedError(RuntimeError):
    """Exceptions were reported to the exception handler of the loop, and to no other code."""
