"""Choosers: strategies that make the choices of a single run.

- ``RandomWalk`` chooses at random each time, or in a share of the choices.
- ``Delays`` departs from the usual order at a few random places. Most concurrency faults need only
  one or two departures, and they are few to read.
- ``Priorities`` is PCT: each task has a random priority, the ready task with the highest one runs,
  and at a few random steps the running task gets the lowest. A fault that needs ``depth`` ordered
  steps is found with a probability of at least ``1 / (n * k ** (depth - 1))``, for ``n`` tasks and
  ``k`` steps.
- ``Plan`` makes given choices, and the usual ones otherwise: for replays, for shrinking, and for
  the exhaustive search.

The idioms for mypyc: see ``kernel/native/mypyc.py``.

Source: S. Burckhardt and others, "A randomized scheduler with probabilistic guarantees of finding
bugs", 2010; M. Emmi and others, "Delay-bounded scheduling", 2011.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from runtime.simulation.choices import Strategy
from runtime.simulation.errors import DivergenceError
from runtime.simulation.random_numbers import RandomNumbers

_FAIR: Final = 256
"""The number of steps after which ``Priorities`` runs the first entry, whatever its priority.

Otherwise a task that waits for another one by ``sleep(0)`` in a loop could run for ever.
"""

_LOW: Final = 1 << 40
"""Priorities of tasks are above this number; those that tasks get at change points are below."""


class RandomWalk(Strategy):
    """Chooses at random, in the share ``rate`` of the choices; the usual otherwise."""

    __slots__ = ("_numbers", "_rate")

    def __init__(self, seed: int, rate: float) -> None:
        self._numbers = RandomNumbers(seed)
        self._rate = rate

    def decide(self, count: int, label: str) -> int:
        """Return a random number, or 0."""
        if self._rate < 1.0 and not self._numbers.happens(self._rate):
            return 0
        return self._numbers.below(count)

    def happens(self, probability: float, label: str) -> bool:
        """Return True with the given probability."""
        return self._numbers.happens(probability)

    def pick(self, ready: deque[Any], count: int) -> int:
        """Choose an entry at random, or the first one."""
        if self._rate < 1.0 and not self._numbers.happens(self._rate):
            return 0
        return self._numbers.below(count)


class Delays(Strategy):
    """Departs from the usual at ``depth`` random places among the first ``length`` choices."""

    __slots__ = ("_next", "_numbers", "_places", "_position")

    def __init__(self, seed: int, depth: int, length: int) -> None:
        self._numbers = RandomNumbers(seed)
        places = {self._numbers.below(max(1, length)) for _ in range(depth)}
        self._places = sorted(places, reverse=True)
        self._next = self._places.pop() if self._places else -1
        self._position = 0

    def _is_place(self) -> bool:
        position = self._position
        self._position = position + 1
        if position != self._next:
            return False
        self._next = self._places.pop() if self._places else -1
        return True

    def decide(self, count: int, label: str) -> int:
        """Return a random number other than 0 at one of the places."""
        return 1 + self._numbers.below(count - 1) if self._is_place() else 0

    def happens(self, probability: float, label: str) -> bool:
        """Return True at one of the places."""
        return self._is_place()

    def pick(self, ready: deque[Any], count: int) -> int:
        """Let a random entry overtake at one of the places, or hold the first one back."""
        if not self._is_place():
            return 0
        # To hold the first entry back is as likely as all other choices together.
        entries = len(ready)
        if entries == 1 or self._numbers.below(2):
            return entries + self._numbers.below(count - entries)
        return 1 + self._numbers.below(count - 1)


class Priorities(Strategy):
    """PCT: see the module. ``length`` is the expected number of choices of the run."""

    __slots__ = ("_changes", "_numbers", "_priorities", "_steps")

    def __init__(self, seed: int, depth: int, length: int) -> None:
        self._numbers = RandomNumbers(seed)
        self._steps = 0
        self._priorities: dict[Any, int] = {}
        self._changes: dict[int, int] = {}
        for change in range(depth - 1):
            self._changes[self._numbers.below(max(1, length))] = depth - change

    def decide(self, count: int, label: str) -> int:
        """Return a random number in one of sixteen choices."""
        return self._numbers.below(count) if self._numbers.below(16) == 0 else 0

    def happens(self, probability: float, label: str) -> bool:
        """Return True with the given probability."""
        return self._numbers.happens(probability)

    def pick(self, ready: deque[Any], count: int) -> int:
        """Choose the entry with the highest priority."""
        self._steps += 1
        if self._steps % _FAIR == 0:
            return 0
        best = -1
        found = 0
        for index in range(len(ready)):
            entry = ready[index]
            priority = self._priorities.get(entry, -1)
            if priority < 0:
                priority = _LOW + self._numbers.number()
                self._priorities[entry] = priority
            if priority > best:
                best = priority
                found = index
        change = self._changes.get(self._steps, 0)
        if change:
            self._priorities[ready[found]] = change
        return found


class Plan(Strategy):
    """Makes the choices in ``values``, by position, and the usual ones at all other positions.

    With ``counts`` and ``labels``, by position too, DivergenceError is raised if one of these
    choices is between another number of possibilities, or of another kind. Otherwise a value that
    is not possible is replaced by the usual one.
    """

    __slots__ = ("_counts", "_labels", "_position", "_values")

    def __init__(
        self,
        values: dict[int, int],
        counts: dict[int, int] | None = None,
        labels: dict[int, str] | None = None,
    ) -> None:
        self._values = values
        self._counts = counts
        self._labels = labels
        self._position = 0

    def decide(self, count: int, label: str) -> int:
        """Return the planned value."""
        position = self._position
        self._position = position + 1
        value = self._values.get(position, 0)
        if value:
            if self._counts is not None:
                self._check(position, count, label)
            if value >= count:
                return 0
        return value

    def happens(self, probability: float, label: str) -> bool:
        """Return the planned value."""
        return self.decide(2, label) == 1

    def pick(self, ready: deque[Any], count: int) -> int:
        """Return the planned value."""
        position = self._position
        self._position = position + 1
        value = self._values.get(position, 0)
        if value:
            if self._counts is not None:
                self._check(position, count, "step")
            if value >= count:
                return 0
        return value

    def _check(self, position: int, count: int, label: str) -> None:
        if self._counts is None or self._labels is None:
            return
        expected = self._labels[position]
        if (count, label) != (self._counts[position], expected):
            raise DivergenceError(
                f"the run diverges from its token at choice {position}: the token was made where "
                f"this was a choice {expected!r} between {self._counts[position]} possibilities; "
                f"now it is a choice {label!r} between {count}"
            )
