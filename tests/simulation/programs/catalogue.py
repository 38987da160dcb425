"""The list of the programs, with the limits within which their faults must be found."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass

Main = Callable[[], Awaitable[None]]

_requests: ContextVar[bool] = ContextVar("requests", default=False)
"""Whether pauses are calls in an executor."""


@dataclass(frozen=True)
class Program:
    """A program with a fault. ``runs`` is the number of runs within which it has to be found."""

    name: str
    function: Callable[[bool], Awaitable[None]]
    runs: int

    def main(self, *, correct: bool, requests: bool = True) -> Main:
        """Return the function to simulate: see ``pause`` for the meaning of ``requests``."""

        @functools.wraps(self.function)
        async def main() -> None:
            _requests.set(requests)
            await self.function(correct)

        return main


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
    """Stand in for requests to another system, one after the other.

    In the usual order each takes a turn or two of the loop. With ``requests`` each is a call in an
    executor, which may take any time. Without, it is a ``sleep(0)``, which takes a turn in this
    loop, and any time only if tasks run in any order.
    """
    if not _requests.get():
        for _ in range(turns):
            await asyncio.sleep(0)
        return
    loop = asyncio.get_running_loop()
    for _ in range(turns):
        await loop.run_in_executor(None, int)
