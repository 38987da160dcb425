"""Loops that a scenario runs on: asyncio's own, and runtime's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import runtime

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which a scenario that hangs fails."""


@dataclass
class LoopRunner:
    """Runs coroutines on one kind of loop; reports to its exception handler fail the test."""

    name: str
    reports: list[dict[str, Any]] = field(default_factory=list)
    """Contexts passed to the exception handler; a scenario that expects some clears the list."""

    def __call__(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``main()`` as a program would, with ``asyncio.run`` or ``runtime.run``."""
        if self.name == "asyncio":
            result = asyncio.run(self.watched(main))
        else:
            result = runtime.run(self.watched(main))
        assert self.reports == []
        return result

    async def watched(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await ``main()`` with a timeout, and collect the reports meanwhile."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, runtime.Loop) is (self.name == "runtime")
        loop.set_exception_handler(lambda _, context: self.reports.append(context))
        async with asyncio.timeout(PATIENCE):
            return await main()

    @property
    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """The loop's factory."""
        return asyncio.new_event_loop if self.name == "asyncio" else runtime.new_event_loop

    @property
    def loop_name(self) -> str:
        """The loop's factory as text for a command line such as uvicorn's."""
        return "asyncio:new_event_loop" if self.name == "asyncio" else "runtime:new_event_loop"
