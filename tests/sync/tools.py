"""Helpers for the tests of the primitives."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

import runtime

T = TypeVar("T")


async def turns(number: int = 5) -> None:
    """Let all ready callbacks run ``number`` times."""
    for _ in range(number):
        await runtime.sleep(0)


async def give(value: T, suspensions: int = 1) -> T:
    """Return ``value`` after some suspensions, a delay that does not depend on machine load."""
    await turns(suspensions)
    return value


async def fail(error: BaseException, suspensions: int = 1) -> Any:
    """Raise ``error`` after a number of suspensions."""
    await turns(suspensions)
    raise error


async def never() -> Any:
    """Wait for longer than any test takes."""
    await runtime.sleep(3600)


def collect_reports() -> list[dict[str, Any]]:
    """Return a list that collects the running loop's exception reports from now on."""
    reports: list[dict[str, Any]] = []
    runtime.get_running_loop().set_exception_handler(lambda _loop, report: reports.append(report))
    return reports


async def assert_cancelled(task: runtime.Future[Any]) -> None:
    """Wait for ``task``, which must end by a cancellation."""
    with pytest.raises(runtime.CancelledError):
        await task


class Log(list[str]):
    """Events in the order in which they happened."""

    def add(self, *words: object) -> None:
        self.append(" ".join(map(str, words)))
