"""Sleeping."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine
from typing import Any, TypeVar, overload

from runtime.kernel.running import get_running_loop

T = TypeVar("T")


@coroutine
def yield_to_others() -> Generator[None, None, None]:
    """Let everything that is ready run once, and go on."""
    yield


@overload
async def sleep(delay: float) -> None: ...
@overload
async def sleep(delay: float, result: T) -> T: ...
async def sleep(delay: float, result: Any = None) -> Any:
    """Suspend for ``delay`` seconds and return ``result``; zero or less lets others run once.

    Raises ValueError when ``delay`` is not a number. Cancellation safe.
    """
    if delay <= 0:
        await yield_to_others()
        return result
    if delay != delay:
        raise ValueError(f"sleep() takes a number of seconds, not {delay!r}.")
    await get_running_loop().alarm(delay)
    return result
