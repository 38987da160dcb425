"""Report read from a file: the source of pages, pictures and comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import FORMAT
from bench.statistics import Spread, spread


@dataclass(frozen=True)
class Measured:
    """Measurements of one contender in one case."""

    cost: Spread
    ratio: Spread | None
    """How many times better than the baseline, round by round."""

    costs: tuple[float, ...]
    """Cost in each round."""

    more: Mapping[str, float]
    """Medians of further measurements, by name."""


@dataclass(frozen=True)
class Recorded:
    """Measurements of all contenders in one case."""

    name: str
    operation: str
    unit: str
    warnings: tuple[str, ...]
    left_out: Mapping[str, str]
    contenders: Mapping[str, Measured]


@dataclass(frozen=True)
class Growing:
    """Growth of a contender's cost of an operation."""

    name: str
    what: str
    contender: str
    exponent: float
    costs: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Record:
    """A run of the suite."""

    date: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    baseline: str
    rounds: int
    seconds: float
    cases: Mapping[str, Recorded]
    growth: tuple[Growing, ...]

    @property
    def day(self) -> str:
        """Date of the run without the time."""
        return self.date.partition("T")[0]

    @property
    def python(self) -> str:
        """Name and version of the Python of the run."""
        return str(self.machine["python"])

    @property
    def version(self) -> str:
        """Version of the Python of the run without its last part, such as 3.14."""
        return ".".join(self.python.rpartition(" ")[2].split(".")[:2])


def _spread(data: Mapping[str, float] | None) -> Spread | None:
    return None if data is None else Spread(data["low"], data["median"], data["high"])


def _measured(data: Mapping[str, Any]) -> Measured:
    samples = data["samples"]
    costs = tuple(sample["cost"] for sample in samples)
    more = {
        name: spread([sample["more"][name] for sample in samples]).median
        for name in samples[0]["more"]
    }
    return Measured(spread(costs), _spread(data["ratio"]), costs, more)


def _recorded(data: Mapping[str, Any]) -> Recorded:
    contenders = {name: _measured(series) for name, series in data["series"].items()}
    return Recorded(
        data["case"],
        data["operation"],
        data["unit"],
        tuple(data["warnings"]),
        data["left_out"],
        contenders,
    )


def record_of(data: Mapping[str, Any]) -> Record:
    """Return the record of a report. Raises ValueError if the report has another format."""
    if data.get("format") != FORMAT:
        raise ValueError(
            f"It has format {data.get('format')}, but this version reads format {FORMAT}."
        )
    return Record(
        data["date"],
        data["machine"],
        {name: one["version"] for name, one in data["contenders"].items()},
        data["baseline"],
        data["plan"]["rounds"],
        data["plan"]["seconds"],
        {one["case"]: _recorded(one) for one in data["results"]},
        tuple(
            Growing(
                fit["growth"]["name"],
                fit["growth"]["what"],
                fit["contender"],
                fit["exponent"],
                tuple((size, cost) for size, cost in fit["costs"]),
            )
            for fit in data["growth"]
        ),
    )


def read(path: Path) -> Record:
    """Return the record in a file. Raises ValueError with the file's name if there is none."""
    try:
        return record_of(json.loads(path.read_text()))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a report of this suite: {error}") from None
