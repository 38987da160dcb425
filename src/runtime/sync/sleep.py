"""Sleeping."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine
from typing import Any, NoReturn, TypeVar, overload

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.seconds import NEVER, Seconds, seconds

T = TypeVar("T")


@coroutine
def yield_to_others() -> Generator[None, None, None]:
    """Let everything that is ready run once, and go on."""
    yield


@overload
async def sleep(delay: Seconds) -> None: ...
@overload
async def sleep(delay: Seconds, result: T) -> T: ...
async def sleep(delay: Any, result: Any = None) -> Any:
    """Suspend for ``delay`` seconds and return ``result``; zero or less lets others run once.

    The delay is any real number: TypeError for anything else, ValueError for NaN. An infinite sleep
    ends only by being cancelled. Cancellation safe.
    """
    try:
        at_once = delay <= 0
    except (TypeError, ArithmeticError):
        at_once = seconds(delay, "sleep()") <= 0
    if at_once:
        await yield_to_others()
    else:
        await get_running_loop()._sleep_future(seconds(delay, "sleep()"))
    return result


async def sleep_forever() -> NoReturn:
    """Suspend until cancelled. Cancellation safe.

    Where deadlocks are reported, in debug mode and in tests, that this is all that is left to do is
    one, unless a signal, a timer or a thread can still have it cancelled.

    >>> import runtime
    >>> async def main():
    ...     async with runtime.timeout(0.01):
    ...         await sleep_forever()
    >>> runtime.run(main())
    Traceback (most recent call last):
    ...
    TimeoutError
    """
    await get_running_loop()._sleep_future(NEVER)
    raise AssertionError("A sleep without an end has ended.")
