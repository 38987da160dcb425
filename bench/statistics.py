"""Medians and quartiles, and the test for a noisy machine."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NOISY = 0.15
"""Relative spread of the baseline above which a warning is printed."""


@dataclass(frozen=True)
class Spread:
    """The median of several values, and their quartiles."""

    low: float
    median: float
    high: float

    @property
    def relative(self) -> float:
        """The distance between the quartiles, as a fraction of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Return the median and quartiles of at least one value."""
    if not values:
        raise ValueError("There is no median of no values.")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return how many times better we were in each round, where less is better."""
    if len(ours) != len(theirs):
        raise ValueError(f"Rounds do not match: {len(ours)} and {len(theirs)}.")
    if any(value <= 0 for value in ours):
        raise ValueError("A cost that is not positive has no ratio.")
    return [their / our for our, their in zip(ours, theirs, strict=True)]


def is_noisy(baseline: Sequence[float]) -> bool:
    """Return whether the baseline varies too much for small differences to be meaningful."""
    return len(baseline) > 1 and spread(baseline).relative > NOISY
