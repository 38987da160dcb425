"""The report: a table for the terminal, and the targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.measure import BASELINE, Result
from bench.statistics import is_noisy, ratios, spread


@dataclass(frozen=True)
class Target:
    """How much better ``contender`` must be than ``peer`` in a case."""

    case: str
    contender: str
    peer: str
    factor: float


SCHEDULER = {
    "switch": 2.0,
    "spawn": 2.5,
    "futures": 1.7,
    "call_soon": 1.2,
    "call_soon_100": 1.2,
    "gather_100": 2.0,
    "queue": 2.0,
    "lock": 2.0,
    "timer_cancel": 2.0,
    "echo_1k": 1.3,
    "echo_1m": 2.5,
}
TARGETS = (
    *(Target(case, "runtime", "uvloop", factor) for case, factor in SCHEDULER.items()),
    *(Target(case, "runtime-pure", "asyncio", 1.0) for case in SCHEDULER),
    *(Target(case, "runtime", "asyncio", 2.0) for case in ("memory_task", "memory_stream")),
)


def amount(value: float, unit: str) -> str:
    """Return a value with a unit that suits it."""
    if unit == "bytes":
        return f"{value:,.0f} B"
    for factor, name in ((1e9, "ns"), (1e6, "us")):
        if value * factor < 10_000:
            return f"{value * factor:,.0f} {name}" if factor == 1e9 else f"{value * factor:,.1f} us"
    return f"{value * 1e3:,.2f} ms"


def table(result: Result) -> str:
    """Return the lines of one case."""
    baseline = result.series.get(BASELINE)
    lines = [f"{result.case}: {result.operation}"]
    for contender, series in result.series.items():
        middle = spread(series.values)
        words = [f"  {contender:<14}{amount(middle.median, result.unit):>12}"]
        if result.unit == "s":
            words.append(f"user {amount(spread(series.user).median, 's'):>9}")
            words.append(f"kernel {amount(spread(series.kernel).median, 's'):>9}")
        if baseline is not None and len(baseline.values) == len(series.values):
            ratio = spread(ratios(series.values, baseline.values))
            words.append(f"{ratio.median:5.2f}x  ({ratio.low:.2f} to {ratio.high:.2f})")
        lines.append("  ".join(words))
    if baseline is not None and is_noisy(baseline.values):
        lines.append("  the machine is noisy: the quartiles of the baseline are over 15% apart")
    return "\n".join(lines)


def judged(results: Iterable[Result]) -> list[str]:
    """Return a line for each target that was measured: reached, or missed."""
    by_case = {result.case: result for result in results}
    lines = []
    for target in TARGETS:
        result = by_case.get(target.case)
        if result is None or not {target.contender, target.peer} <= result.series.keys():
            continue
        ours, theirs = result.series[target.contender], result.series[target.peer]
        ratio = spread(ratios(ours.values, theirs.values)).median
        verdict = "reached" if ratio >= target.factor else "missed"
        lines.append(
            f"{verdict:8} {target.case:<14} {target.contender} is {ratio:.2f}x {target.peer}, "
            f"wanted {target.factor:g}x"
        )
    return lines
