"""Made-up report in the format that a run writes."""

from __future__ import annotations

from typing import Any

from bench.catalogue import EVERY
from bench.contenders import Contender, Entry
from bench.measure import MeasurementPlan, Result, Series
from bench.probes import Sample
from bench.report import as_json
from bench.targets import judge

QUANTILES = {
    "p50": 1e-5,
    "p75": 2e-5,
    "p90": 3e-5,
    "p99": 4e-5,
    "p99.9": 5e-5,
    "max": 6e-5,
    "unwatched": 1e-5,
}


def series(name: str, *costs: float) -> Series:
    return Series(name, [Sample(cost, more=QUANTILES) for cost in costs])


def report(
    costs: dict[str, dict[str, tuple[float, ...]]],
    *,
    baseline: str = "uvloop",
    left_out: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return the report of a run with the given costs, by case and contender."""
    results = [
        Result(
            case,
            EVERY[case].operation,
            EVERY[case].unit,
            {name: series(name, *values) for name, values in by_name.items()},
            left_out={} if left_out is None else left_out,
        )
        for case, by_name in costs.items()
    ]
    names = dict.fromkeys(name for by_name in costs.values() for name in by_name)
    entries = [Entry(Contender(name, "made up", name), "1.0", {}) for name in names]
    return as_json(results, entries, baseline, MeasurementPlan(2, 0.1), judge(results))
