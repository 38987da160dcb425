"""Growth of the cost of an operation: the same case at rising sizes, and the fitted exponent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

LEAST_SIZES = 3
"""Least number of sizes for a fit: two points lie on a line of any slope."""


@dataclass(frozen=True)
class Growth:
    """Cases that differ in one size only."""

    name: str
    what: str
    """Name of the quantity that grows."""

    cases: tuple[tuple[int, str], ...]
    """Sizes and the cases measured at them, in ascending order."""


@dataclass(frozen=True)
class Fit:
    """Cost of an operation of a contender as a function of size: size to the power ``exponent``.

    An exponent of 0 means that an operation costs the same at every size; an exponent of 1 means
    that its cost doubles when the size doubles. A heap of timers, whose cost grows with the
    logarithm, comes to about 0.1.
    """

    growth: Growth
    contender: str
    exponent: float
    costs: tuple[tuple[int, float], ...]
    """Cost of one operation, by size."""


GROWTHS = (
    Growth(
        "tasks",
        "tasks that take turns",
        ((2, "switch"), (1000, "switch_1k"), (100_000, "switch_100k")),
    ),
    Growth(
        "timers",
        "timers that are pending",
        ((1000, "timers_1k"), (100_000, "timers_100k"), (1_000_000, "timers_1m")),
    ),
    Growth(
        "stream connections",
        "connections, served by streams",
        tuple((size, f"echo_1k_x{size}") for size in (1, 10, 100, 1000, 10_000)),
    ),
    Growth(
        "protocol connections",
        "connections, served by protocols",
        tuple((size, f"protocol_1k_x{size}") for size in (1, 10, 100, 1000, 10_000)),
    ),
    Growth(
        "message",
        "bytes in a message",
        ((100, "echo_100_x10"), (1024, "echo_1k_x10"), (65536, "echo_64k_x10")),
    ),
)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the best-fitting straight line on logarithmic scales.

    Raises ValueError if all sizes are the same, or if a size or a cost is not positive.
    """
    logs = [(math.log(size), math.log(cost)) for size, cost in points]
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    if not spread:
        raise ValueError("Sizes that are all the same show no growth.")
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread


def fits(medians: Mapping[str, Mapping[str, float]]) -> Iterator[Fit]:
    """Fit the cases measured at three sizes or more.

    ``medians`` holds the median costs by case and contender.
    """
    for growth in GROWTHS:
        measured = [(size, medians[case]) for size, case in growth.cases if case in medians]
        for contender in dict.fromkeys(name for _, costs in measured for name in costs):
            points = tuple(
                (size, costs[contender]) for size, costs in measured if contender in costs
            )
            if len(points) >= LEAST_SIZES:
                yield Fit(growth, contender, exponent(points), points)


def growth_table(found: Iterable[Fit]) -> str:
    """Return a line for each growth, with every contender's exponent."""
    lines: dict[str, list[str]] = {}
    for fit in found:
        heading = f"{fit.growth.name}: the cost of an operation grows with {fit.growth.what} as n^"
        lines.setdefault(heading, []).append(f"  {fit.contender:<22}{fit.exponent:6.2f}")
    return "\n".join(line for heading, rows in lines.items() for line in (heading, *rows))
