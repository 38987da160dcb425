"""``sleep`` and ``sleep_forever``."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine
from typing import Any, Final, NoReturn, TypeVar, overload

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.seconds import NEVER, Seconds
from runtime.kernel.sleep_future import begin_sleep

T = TypeVar("T")

_ZERO: Final = 0
"""The usual delay of zero: CPython has one object for it."""


@coroutine
def yield_to_others() -> Generator[None, None, None]:
    """Suspend for one turn of the loop: everything that is ready runs once meanwhile."""
    yield


@overload
async def sleep(delay: Seconds) -> None: ...
@overload
async def sleep(delay: Seconds, result: T) -> T: ...
async def sleep(delay: Any, result: Any = None) -> Any:
    """Suspend for ``delay`` seconds and return ``result``.

    With a delay of zero or less, everything else that is ready runs once, and the task continues.
    An infinite sleep ends only when it is cancelled. Raises TypeError for a delay that is not a
    real number, ValueError for NaN, and OverflowError for a delay that no float can hold.
    Cancellation safe.
    """
    # Every sleeping task holds this frame, so it has no more variables than it needs.
    await (yield_to_others() if delay is _ZERO else begin_sleep(delay) or yield_to_others())
    return result


async def sleep_forever() -> NoReturn:
    """Suspend until cancelled. Cancellation safe.

    Where deadlocks are reported, in debug mode and in tests, it is a deadlock when all tasks sleep
    for ever, unless a signal, a timer or a thread can still cancel one of them.

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
    raise AssertionError("an infinite sleep has ended")
