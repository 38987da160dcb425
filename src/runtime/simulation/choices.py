"""Choices of one run: everything that the program and the loop do not determine themselves.

Which entry of the ready queue runs next, when a call in an executor ends, how long a packet travels
and whether it is lost: each of these is a choice between ``count`` possibilities, numbered from
zero. Zero is always what the production loop would do. A *strategy* makes the choices; they are
recorded in order, so that a run is a function of its choices, and can be repeated from them.

The idioms for mypyc: see ``kernel/native/mypyc.py``.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from runtime.kernel.native.mypyc import mypyc_attr

REAL_STEPS: Final = 1 << 20
"""Number of equal steps into which the range of a choice of a real number is divided."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Strategy:
    """The base class of strategies. It makes the choices of the production loop: always zero."""

    __slots__ = ()

    def decide(self, count: int, label: str) -> int:
        """Return a number from 0 to ``count - 1``, for a choice of the kind ``label``."""
        return 0

    def happens(self, probability: float, label: str) -> bool:
        """Return whether an event of the kind ``label`` happens. Usually it does not."""
        return False

    def pick(self, ready: deque[Any], count: int) -> int:
        """Choose the entry of the ready queue to run next: see ``schedule.py`` for the values."""
        return self.decide(count, "step")


class Choices:
    """The source and the record of the choices of one run.

    ``values``, ``counts`` and ``labels`` are the record: for each choice the value, the number of
    possibilities, and the kind of choice. ``relevant`` is the number of choices before nothing of
    the program was left, or -1 if that is not known.
    """

    __slots__ = ("_strategy", "counts", "labels", "relevant", "values")

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.values: list[int] = []
        self.counts: list[int] = []
        self.labels: list[str] = []
        self.relevant = -1

    def integer(self, count: int, label: str) -> int:
        """Return a number from 0 to ``count - 1``; 0 is what the production loop would do.

        ``label`` names the kind of choice. A choice between less than two possibilities is not
        recorded. Raises ValueError if ``count`` is not positive.
        """
        if count < 2:
            if count < 1:
                raise ValueError(f"a choice must have at least one possibility, got {count}")
            return 0
        value = self._strategy.decide(count, label)
        self.record(count, value, label)
        return value

    def chance(self, probability: float, label: str) -> bool:
        """Return True with the given probability, from 0 to 1; False is the usual."""
        if probability <= 0.0:
            return False
        if probability >= 1.0:
            return True
        happens = self._strategy.happens(probability, label)
        self.record(2, 1 if happens else 0, label)
        return happens

    def real(self, low: float, high: float, label: str) -> float:
        """Return a number from ``low`` to ``high``; ``low`` is the usual."""
        if high <= low:
            return low
        value = self._strategy.decide(REAL_STEPS + 1, label)
        self.record(REAL_STEPS + 1, value, label)
        return low + (high - low) * value / REAL_STEPS

    def pick(self, ready: deque[Any], count: int) -> int:
        """Return the strategy's choice of the entry to run next, for ``schedule.py`` to record."""
        return self._strategy.pick(ready, count)

    def record(self, count: int, value: int, label: str) -> None:
        """Add a choice to the record."""
        self.values.append(value)
        self.counts.append(count)
        self.labels.append(label)
