"""Two reports compared: what became slower or larger by more than the runs vary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.record import Measured, Record
from bench.report import amount
from bench.statistics import Spread

LEAST = 0.05
"""A change smaller than this part is none: it differs from one process to the next."""

OWN = "runtime"
"""How the contenders of this project begin. The others change too, but that is not ours to mend."""


@dataclass(frozen=True)
class Change:
    """What became of a case."""

    case: str
    contender: str
    unit: str
    before: float
    after: float
    """The medians of the costs."""

    factor: float
    """How many times as much it costs, against the baseline where there is one in both reports."""

    beyond: bool
    """Whether the quartiles of one report lie outside those of the other."""

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
        # What a machine does to all of them alike is not in the ratios. They are better the larger.
        before, after = _upside_down(old.ratio), _upside_down(new.ratio)
    beyond = after.low > before.high or after.high < before.low
    factor = after.median / before.median
    return Change(case, name, unit, old.cost.median, new.cost.median, factor, beyond)


def _upside_down(ratio: Spread) -> Spread:
    return Spread(1 / ratio.high, 1 / ratio.median, 1 / ratio.low)


def changes(old: Record, new: Record) -> Iterator[Change]:
    """Compare every case that both reports have, for this project's contenders."""
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
    """Name the cases that were measured before, and cannot be done any more."""
    for name, before in old.cases.items():
        after = new.cases.get(name)
        for contender in before.contenders:
            if after is not None and contender.startswith(OWN) and contender in after.left_out:
                yield f"{name}: {contender}: {after.left_out[contender]}"


def comparison(found: Iterable[Change], gone: Iterable[str] = ()) -> str:
    """Return a line for each case that changed, the worst first, and how many did not."""
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
