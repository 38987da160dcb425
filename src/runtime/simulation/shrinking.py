"""Shrinking: fewer choices with the same failure, so that a person can read the schedule.

The choices of a failed run that are not the usual ones are left out in ever smaller groups, as long
as the failure stays (delta debugging). Random runs often depart from the usual order far more often
than the failure needs. If many departures are left, all runs with one or two are tried as well.

Source: A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.
"""

from __future__ import annotations

from collections.abc import Callable

from runtime.simulation.choices import Choices, Strategy
from runtime.simulation.choosers import Plan
from runtime.simulation.strategies import Search, exhaustive

FEW = 3
"""Number of deviations up to which a schedule is readable, so that no further search is made."""

_SECOND_LOOK = 100
"""Number of runs in which a schedule with even fewer deviations is looked for."""

Attempt = Callable[[Strategy], tuple[bool, Choices]]
"""Makes a run; returns whether it failed as the first one did, and its choices."""


def deviations(choices: Choices) -> dict[int, int]:
    """Return the choices that are not the usual ones, by position."""
    return {place: value for place, value in enumerate(choices.values) if value}


class Shrinker:
    """Shrinks one failure. ``attempt`` makes a run, and is called at most ``budget`` times."""

    def __init__(self, attempt: Attempt, budget: int) -> None:
        self._attempt = attempt
        self.left = budget
        self.runs = 0

    def shrink(self, values: dict[int, int]) -> dict[int, int]:
        """Return choices with which a run fails in the same way: as few as were found."""
        best = self._try(Plan({}))
        if best is not None:
            return best
        best = self._without_groups(values)
        if len(best) > FEW:
            best = self._without_groups(self._search(best, 2, self.left))
        if len(best) > 1:
            best = self._search(best, len(best) - 1, _SECOND_LOOK)
        return self._with_smaller_values(best)

    def _try(self, strategy: Strategy) -> dict[int, int] | None:
        """Make a run; return its deviations if it fails in the same way, else None."""
        if self.left <= 0:
            return None
        self.left -= 1
        self.runs += 1
        failed, choices = self._attempt(strategy)
        return deviations(choices) if failed else None

    def _without_groups(self, values: dict[int, int]) -> dict[int, int]:
        size = max(1, len(values) // 2)
        while self.left > 0 and values:
            places = sorted(values, reverse=True)
            for start in range(0, len(places), size):
                group = set(places[start : start + size])
                kept = {place: value for place, value in values.items() if place not in group}
                found = self._try(Plan(kept))
                if found is not None and len(found) < len(values):
                    values = found
                    break
            else:
                if size == 1:
                    break
                size = max(1, size // 2)
                continue
            size = max(1, min(size, len(values) // 2))
        return values

    def _search(self, best: dict[int, int], most: int, runs: int) -> dict[int, int]:
        """Try all runs with up to ``most`` deviations, in up to ``runs`` runs."""
        search: Search = exhaustive(min(most, 2)).search(0)
        last = max(0, self.left - runs)
        while self.left > last and (strategy := search.next()) is not None:
            self.left -= 1
            self.runs += 1
            failed, choices = self._attempt(strategy)
            if failed:
                found = deviations(choices)
                if len(found) < len(best):
                    return found
            search.learn(choices)
        return best

    def _with_smaller_values(self, values: dict[int, int]) -> dict[int, int]:
        """Try smaller values of choices between many possibilities, such as lengths of time."""
        for place in sorted(values):
            value = values.get(place, 0)
            while value > 64:
                value //= 4
                found = self._try(Plan({**values, place: value}))
                if found is None or len(found) > len(values):
                    break
                values = found
        return values
