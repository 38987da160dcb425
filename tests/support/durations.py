"""Durations of tests: read from pytest's output, and summed up over several runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

OPTIONS = ("--durations=20", "--durations-min=1")
"""Options that make pytest list the durations of its slowest phases, from one second on."""

_LINE = re.compile(r"(\d+\.\d+)s (?:setup|call|teardown) +(\S.*)")


@dataclass(frozen=True)
class Duration:
    """Seconds that a test took in one run, with its fixtures."""

    seconds: float
    test: str


def durations_of(lines: Iterable[str]) -> list[Duration]:
    """Return the duration of each test that pytest lists; the phases of a test are added up.

    ``lines`` are the output of pytest, run with ``OPTIONS``.
    """
    seconds: dict[str, float] = {}
    for line in lines:
        if found := _LINE.fullmatch(line.strip()):
            seconds[found[2]] = seconds.get(found[2], 0.0) + float(found[1])
    return [Duration(total, test) for test, total in seconds.items()]


def longest(durations: Iterable[tuple[str, Duration]], count: int = 10) -> list[str]:
    """Return a line for each of the ``count`` longest durations, the longest first.

    Each duration comes with the name of its run.
    """
    ordered = sorted(durations, key=lambda each: each[1].seconds, reverse=True)
    return [f"{one.seconds:6.1f} s  {one.test}  ({run})" for run, one in ordered[:count]]
