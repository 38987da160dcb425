"""Measuring: interleaved rounds, each contender once a round, in an order that rotates."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.catalogue import Case
from bench.contenders import Entry
from bench.machine import BackgroundLoad
from bench.probes import Sample
from bench.process import ProcessError, UnsupportedError


@dataclass(frozen=True)
class Series:
    """What one contender did in one case: a sample for each round."""

    contender: str
    samples: list[Sample] = field(default_factory=list)

    def costs(self) -> list[float]:
        """Return the cost of an operation, round by round."""
        return [sample.cost for sample in self.samples]


@dataclass(frozen=True)
class Result:
    """A case as it was measured."""

    case: str
    operation: str
    unit: str
    series: dict[str, Series]
    background_load: float = 0.0
    """The part of a core that other processes used meanwhile, on average."""

    left_out: dict[str, str] = field(default_factory=dict)
    """The contenders that could not do it, and why."""


@dataclass(frozen=True)
class MeasurementPlan:
    """How long to measure."""

    rounds: int
    seconds: float
    """Of one run."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.seconds <= 0:
            raise ValueError("There must be at least one round, and it must take some time.")


Progress = Callable[[str], None]


def rotated(items: Sequence[Entry], by: int) -> list[Entry]:
    """Return the items, beginning ``by`` places later."""
    start = by % len(items) if items else 0
    return [*items[start:], *items[:start]]


def measure(
    case: Case, entries: Sequence[Entry], plan: MeasurementPlan, progress: Progress
) -> Result:
    """Measure a case with those of the contenders that can do it."""
    taking_part = [entry for entry in entries if case.admits(entry.contender)]
    rounds = min(plan.rounds, case.most_rounds or plan.rounds)
    series = {entry.name: Series(entry.name) for entry in taking_part}
    left_out: dict[str, str] = {}
    background_load = BackgroundLoad()
    with contextlib.ExitStack() as stack:
        probes = {}
        for entry in taking_part:
            progress(f"{case.name}: starting {entry.name}")
            try:
                probe = stack.enter_context(case.open_probe(entry))
                probe.warm_up(plan.seconds)
            except UnsupportedError as error:
                left_out[entry.name] = str(error)
            except ProcessError as error:
                if entry.contender.is_own:
                    raise
                left_out[entry.name] = f"it failed: {error}"
            else:
                probes[entry.name] = probe
        for number in range(rounds):
            for entry in rotated([one for one in taking_part if one.name in probes], number):
                progress(f"{case.name}: round {number + 1} of {rounds}, {entry.name}")
                try:
                    sample = probes[entry.name].measure(plan.seconds)
                except ProcessError as error:
                    # What fails in a peer is its own; it must not keep the others from the case.
                    if entry.contender.is_own:
                        raise
                    left_out[entry.name] = f"it failed: {error}"
                    del probes[entry.name]
                else:
                    series[entry.name].samples.append(sample)
    for name in left_out:
        del series[name]
    return Result(case.name, case.operation, case.unit, series, background_load.share(), left_out)
