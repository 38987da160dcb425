"""Report of a run: text for the terminal, and JSON."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from bench import machine
from bench.catalogue import BYTES, SECONDS
from bench.contenders import Entry
from bench.growth import Fit, fits
from bench.lines import Usage
from bench.measure import MeasurementPlan, Result, Series
from bench.statistics import NOISY, Spread, is_noisy, ratios, spread
from bench.targets import Lack, Verdict

FORMAT = 3
"""Version of the JSON format; it grows with every change that would mislead existing readers."""

MUCH_BACKGROUND_LOAD = 0.1
"""Share of a core used by other processes above which a warning is printed."""

MANY_FAULTS = 1
"""Number of page faults per operation from which they are shown."""


def amount(value: float, unit: str) -> str:
    """Return a value in a suitable unit."""
    if unit == BYTES:
        return f"{value:,.0f} B"
    if abs(value) < 1e-5:
        return f"{value * 1e9:,.0f} ns"
    if abs(value) < 1e-2:
        return f"{value * 1e6:,.1f} us"
    return f"{value * 1e3:,.1f} ms"


def ratio(ours: Series, theirs: Series) -> Spread:
    """Return how many times better we are, round by round."""
    return spread(ratios(ours.costs(), theirs.costs()))


def cpu_ratio(ours: Series, theirs: Series) -> Spread | None:
    """Return how many times less CPU time we use, round by round, or None if it is unknown.

    Unlike elapsed time, CPU time hardly changes when other processes take the core for a moment.
    """
    spent = [
        [sample.used.user + sample.used.kernel if sample.used else 0.0 for sample in series.samples]
        for series in (ours, theirs)
    ]
    return spread(ratios(*spent)) if all(map(all, spent)) else None


def _used(series: Series) -> Usage | None:
    """Return the medians of the usage per operation, or None if it is unknown."""
    known = [sample.used for sample in series.samples if sample.used is not None]
    if not known:
        return None
    return Usage(
        spread([one.user for one in known]).median,
        spread([one.kernel for one in known]).median,
        spread([one.faults for one in known]).median,
    )


def _more(series: Series) -> dict[str, float]:
    """Return the medians of the further measurements."""
    names = series.samples[0].more
    return {name: spread([one.more[name] for one in series.samples]).median for name in names}


def table(result: Result, baseline: str) -> str:
    """Return the lines of one case: cost of an operation, ratio to the baseline, CPU."""
    base = result.series.get(baseline)
    width = max(map(len, result.series), default=0) + 2
    lines = [f"{result.case}: {result.operation}"]
    for contender, series in result.series.items():
        words = [f"  {contender:<{width}}{amount(spread(series.costs()).median, result.unit):>10}"]
        if base is not None:
            against = ratio(series, base)
            words.append(f"{against.median:6.2f}x ({against.low:.2f} to {against.high:.2f})")
        if (used := _used(series)) is not None:
            user, kernel = amount(used.user, SECONDS), amount(used.kernel, SECONDS)
            words.append(f"user {user:>8}  kernel {kernel:>8}")
            if base is not None and (cpu := cpu_ratio(series, base)) is not None:
                words.append(f"CPU{cpu.median:6.2f}x")
        words += (f"{name} {amount(value, result.unit)}" for name, value in _more(series).items())
        if used is not None and used.faults >= MANY_FAULTS:
            words.append(f"page faults {used.faults:,.0f}")
        lines.append("  ".join(words))
    return "\n".join([*lines, *(f"  ! {warning}" for warning in warnings(result, baseline))])


def warnings(result: Result, baseline: str) -> list[str]:
    """Return the reasons to doubt the figures of a case, and the contenders missing from it."""
    found = []
    for reason in dict.fromkeys(result.left_out.values()):
        names = [name for name, why in result.left_out.items() if why == reason]
        found.append(f"without {', '.join(names)}: {reason}")
    base = result.series.get(baseline)
    if base is not None and is_noisy(base.costs()):
        part = spread(base.costs()).relative
        found.append(f"noisy: the quartiles of {baseline} are {part:.0%} apart, over {NOISY:.0%}")
    if result.background_load > MUCH_BACKGROUND_LOAD:
        found.append(f"other processes used {result.background_load:.0%} of a core meanwhile")
    return found


def heading(entries: Sequence[Entry], baseline: str) -> str:
    """Return the lines that describe the machine and the contenders."""
    about = machine.describe()
    lines = [f"{about['processor']}, {about['cores']} cores, {about['system']}, {about['python']}"]
    if machine.cores() is None:
        lines.append("! there is one core only: servers and their load disturb each other")
    width = max(len(entry.name) for entry in entries) + 2
    for entry in entries:
        lines.append(f"{entry.name:<{width}}{entry.version}")
        lines += (f"{'':{width}}! {note}" for note in entry.notes)
    lines.append(
        f"Medians of one operation; how many times better than {baseline} (and the quartiles); the "
        "CPU time of one operation, and how many times less that is."
    )
    return "\n".join(lines)


def verdict_lines(verdicts: Iterable[Verdict], lacks: Iterable[Lack] = ()) -> str:
    """Return a line for each verdict and each lack, and the number of targets reached."""
    lines = []
    reached = 0
    for verdict in verdicts:
        target = verdict.target
        reached += verdict.reached
        lines.append(
            f"{'reached' if verdict.reached else 'MISSED':<8} {target.case:<22}"
            f"{target.contender:<18}{verdict.ratio.median:6.2f}x {target.peer}, "
            f"wanted {target.factor:g}x{'' if verdict.is_certain else ', within the spread'}"
        )
    lines += (
        f"{'CANNOT':<8} {lack.target.case:<22}{lack.target.contender:<18}{lack.reason}, "
        f"wanted {lack.target.factor:g}x {lack.target.peer}"
        for lack in lacks
    )
    if not lines:
        return "None of the targets was measured: they need runtime and its peers."
    return "\n".join([*lines, f"{reached} of {len(lines)} targets reached"])


def fit_growth(results: Iterable[Result]) -> list[Fit]:
    """Return the growth of each case that was measured at several sizes."""
    return list(
        fits(
            {
                result.case: {
                    name: spread(series.costs()).median for name, series in result.series.items()
                }
                for result in results
            }
        )
    )


def as_json(
    results: Sequence[Result],
    entries: Sequence[Entry],
    baseline: str,
    plan: MeasurementPlan,
    verdicts: Iterable[Verdict],
) -> dict[str, Any]:
    """Return all measurements as plain data, with a summary of each series."""
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "contenders": {
            entry.name: {"version": entry.version, "notes": list(entry.notes)} for entry in entries
        },
        "baseline": baseline,
        "plan": dataclasses.asdict(plan),
        "growth": [dataclasses.asdict(fit) for fit in fit_growth(results)],
        "results": [_result_as_json(result, baseline) for result in results],
        "targets": [
            {**dataclasses.asdict(verdict), "reached": verdict.reached} for verdict in verdicts
        ],
    }


def _result_as_json(result: Result, baseline: str) -> dict[str, Any]:
    return {
        "case": result.case,
        "operation": result.operation,
        "unit": result.unit,
        "warnings": warnings(result, baseline),
        "left_out": result.left_out,
        "series": {
            name: _series_as_json(series, result.series.get(baseline))
            for name, series in result.series.items()
        },
    }


def _series_as_json(series: Series, base: Series | None) -> dict[str, Any]:
    cpu = None if base is None else cpu_ratio(series, base)
    return {
        "cost": dataclasses.asdict(spread(series.costs())),
        "ratio": None if base is None else dataclasses.asdict(ratio(series, base)),
        "cpu_ratio": None if cpu is None else dataclasses.asdict(cpu),
        "samples": [dataclasses.asdict(sample) for sample in series.samples],
    }
