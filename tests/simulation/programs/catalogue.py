"""The list of the programs, with the limits within which their faults must be found."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Main = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Program:
    """A program with a fault. ``runs`` is the number of runs within which it has to be found."""

    name: str
    function: Callable[[bool], Awaitable[None]]
    runs: int

    def main(self, *, correct: bool) -> Main:
        """Return the function to simulate."""
        return functools.wraps(self.function)(functools.partial(self.function, correct))


PROGRAMS: list[Program] = []


def fault(
    *, runs: int = 100
) -> Callable[[Callable[[bool], Awaitable[None]]], Callable[[bool], Awaitable[None]]]:
    """Add a program to the list."""

    def add(function: Callable[[bool], Awaitable[None]]) -> Callable[[bool], Awaitable[None]]:
        PROGRAMS.append(Program(getattr(function, "__name__", "program"), function, runs))
        return function

    return add


async def pause(turns: int = 1) -> None:
    """Stand in for a request to another system that takes some turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
