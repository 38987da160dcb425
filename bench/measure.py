"""Measurement in interleaved rounds: each contender runs once per round, in rotating order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.catalogue import Case
from bench.contenders import Entry
from bench.machine import BackgroundLoad
from bench.probes import Probe, Sample
from bench.process import ProcessError, UnsupportedError


@dataclass(frozen=True)
class Series:
    """Measurements of one contender in one case: a sample for each round."""

    contender: str
    samples: list[Sample] = field(default_factory=list)

    def costs(self) -> list[float]:
        """Return the cost of an operation in each round."""
        return [sample.cost for sample in self.samples]


@dataclass(frozen=True)
class Result:
    """Measurements of all contenders in one case."""

    case: str
    operation: str
    unit: str
    series: dict[str, Series]
    background_load: float = 0.0
    """Average share of a core that other processes used during the measurement."""

    left_out: dict[str, str] = field(default_factory=dict)
    """Contenders that could not run the case, and the reason for each."""


@dataclass(frozen=True)
class MeasurementPlan:
    """Number of rounds, and the length of a run."""

    rounds: int
    seconds: float
    """Length of one run."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.seconds <= 0:
            raise ValueError("There must be at least one round, and it must take some time.")


Progress = Callable[[str], None]


def rotated(items: Sequence[Entry], by: int) -> list[Entry]:
    """Return the items in order, starting with the item at index ``by``."""
    start = by % len(items) if items else 0
    return [*items[start:], *items[:start]]


def measure(
    case: Case, entries: Sequence[Entry], plan: MeasurementPlan, progress: Progress
) -> Result:
    """Measure a case with every contender that supports it.

    A peer that crashes or fails is left out of the case with the reason; a failure of this
    project's contenders is raised.
    """
    taking_part = [entry for entry in entries if case.admits(entry.contender)]
    rounds = min(plan.rounds, case.most_rounds or plan.rounds)
    series = {entry.name: Series(entry.name) for entry in taking_part}
    left_out: dict[str, str] = {}
    background_load = BackgroundLoad()
    with contextlib.ExitStack() as stack:
        probes: dict[str, Probe] = {}
        for entry in taking_part:
            progress(f"{case.name}: starting {entry.name}")
            try:
                probe = stack.enter_context(case.open_probe(entry))
                probes[entry.name] = probe
                probe.warm_up(plan.seconds)
            except Exception as error:
                left_out[entry.name] = _reason(entry, error)
                _leave_out(entry, probes)
        for number in range(rounds):
            for entry in rotated([one for one in taking_part if one.name in probes], number):
                progress(f"{case.name}: round {number + 1} of {rounds}, {entry.name}")
                try:
                    sample = probes[entry.name].measure(plan.seconds)
                except Exception as error:
                    left_out[entry.name] = _reason(entry, error)
                    _leave_out(entry, probes)
                else:
                    series[entry.name].samples.append(sample)
    for name in left_out:
        del series[name]
    return Result(case.name, case.operation, case.unit, series, background_load.share(), left_out)


def _reason(entry: Entry, error: Exception) -> str:
    """Return the reason to leave a contender out; raise ``error`` again if it ends the run.

    Any exception of a peer is a reason: a server that crashes can make every step of the
    measurement fail, from connecting to the division by the number of answers.
    """
    if isinstance(error, UnsupportedError):
        return str(error)
    if entry.contender.is_own:
        raise error
    if isinstance(error, ProcessError):
        return f"it failed: {error}"
    return f"it failed: {type(error).__name__}: {error}"


def _leave_out(entry: Entry, probes: dict[str, Probe]) -> None:
    """End the processes of a contender, which could disturb those that are still measured."""
    if (probe := probes.pop(entry.name, None)) is not None:
        probe.close()
