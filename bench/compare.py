"""Comparison of two reports: the cases that became slower or larger by more than the runs vary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.ranking import OWN
from bench.record import Measured, Record
from bench.report import amount
from bench.statistics import Spread

LEAST = 0.05
"""Smallest relative change that is reported: below it, processes differ by chance."""


@dataclass(frozen=True)
class Change:
    """The change of one contender in one case."""

    case: str
    contender: str
    unit: str
    before: float
    after: float
    """The medians of the costs."""

    factor: float
    """Cost after, divided by cost before; taken from the ratios if both have the same baseline."""

    beyond: bool
    """Whether the quartile ranges of the two reports are disjoint."""

    @property
    def is_regression(self) -> bool:
        """Whether it is worse than chance explains."""
        return self.beyond and self.factor > 1 + LEAST

    @property
    def is_gain(self) -> bool:
        """Whether it is better than chance explains."""
        return self.beyond and self.factor < 1 / (1 + LEAST)


def _change(
    case: str, name: str, unit: str, old: Measured, new: Measured, relative: bool
) -> Change:
    before, after = old.cost, new.cost
    if relative and old.ratio is not None and new.ratio is not None:
        # The ratios do not contain influences of the machine that affect all contenders alike.
        # Larger ratios are better, so that they are inverted to compare as costs.
        before, after = _inverted(old.ratio), _inverted(new.ratio)
    beyond = after.low > before.high or after.high < before.low
    factor = after.median / before.median
    return Change(case, name, unit, old.cost.median, new.cost.median, factor, beyond)


def _inverted(ratio: Spread) -> Spread:
    return Spread(1 / ratio.high, 1 / ratio.median, 1 / ratio.low)


def changes(old: Record, new: Record) -> Iterator[Change]:
    """Compare this project's contenders in every case that both reports have.

    Changes of the other contenders are not judged.
    """
    relative = old.baseline == new.baseline and not old.baseline.startswith(OWN)
    for name, before in old.cases.items():
        after = new.cases.get(name)
        if after is None:
            continue
        for contender, measured in before.contenders.items():
            if contender.startswith(OWN) and contender in after.contenders:
                yield _change(
                    *(name, contender, before.unit),
                    *(measured, after.contenders[contender], relative),
                )


def lost(old: Record, new: Record) -> Iterator[str]:
    """Yield the names of the cases that were measured before and cannot be run any more."""
    for name, before in old.cases.items():
        after = new.cases.get(name)
        for contender in before.contenders:
            if after is not None and contender.startswith(OWN) and contender in after.left_out:
                yield f"{name}: {contender}: {after.left_out[contender]}"


def comparison(found: Iterable[Change], gone: Iterable[str] = ()) -> str:
    """Return a line for each changed case, the worst first, and the number of unchanged cases."""
    found = sorted(found, key=lambda change: -change.factor)
    lines = []
    for change in found:
        if change.is_regression or change.is_gain:
            word = "REGRESSION" if change.is_regression else "gain"
            before, after = amount(change.before, change.unit), amount(change.after, change.unit)
            lines.append(
                f"{word:<11}{change.case:<28}{change.contender:<22}"
                f"{change.factor:5.2f} times the cost  ({before} -> {after})"
            )
    lines += (f"{'LOST':<11}{one}" for one in gone)
    unchanged = sum(not (change.is_regression or change.is_gain) for change in found)
    return "\n".join([*lines, f"{unchanged} of {len(found)} within the spread"])
