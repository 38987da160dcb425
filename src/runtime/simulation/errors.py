"""Exceptions of simulated runs."""

from __future__ import annotations


class OutsideError(RuntimeError):
    """The program has used something that a simulated run cannot control, such as a thread."""


class DivergenceError(RuntimeError):
    """A run did not follow the choices of its token: the program or its environment differ."""


class InvariantError(AssertionError):
    """A condition that was to hold after every step does not hold."""


class LivelockError(RuntimeError):
    """The budget of steps of a run is exhausted: its tasks run on and on without an end."""


class LeftoverError(RuntimeError):
    """The program has ended and left tasks, locks or sockets behind."""


class UnretrievedError(RuntimeError):
    """Exceptions were reported to the exception handler of the loop, and to no other code."""
