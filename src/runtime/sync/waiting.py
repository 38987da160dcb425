"""``wait`` and ``wait_for``: wait for some or all of several tasks; wait with a timeout.

Source: "Waiting primitives" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from runtime.kernel.api.awaitables import ensure_future
from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.advice import advice_on_awaitable
from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import describe_several, format_repr
from runtime.kernel.errors import CancelledError
from runtime.kernel.future import has_failed
from runtime.kernel.public_types import Future
from runtime.sync.sleep import yield_to_others
from runtime.sync.timeout_core import note_place
from runtime.sync.timeouts import timeout as timeout_after

T = TypeVar("T")
F = TypeVar("F", bound=Future[Any])

FIRST_COMPLETED: Final = concurrent.futures.FIRST_COMPLETED
FIRST_EXCEPTION: Final = concurrent.futures.FIRST_EXCEPTION
ALL_COMPLETED: Final = concurrent.futures.ALL_COMPLETED


class _Countdown:
    """Finishes ``waiter`` when enough of the futures are done."""

    __slots__ = ("_left", "_return_when", "futures", "waiter")

    def __init__(self, loop: LoopCore, futures: list[Any], return_when: str) -> None:
        self.waiter: Future[None] = loop.create_future()
        self.futures = futures
        self._left = len(futures)
        self._return_when = return_when

    def __repr__(self) -> str:
        return format_repr(self._return_when, self._describe, self._describe_briefly)

    def _describe(self) -> list[str]:
        return [f"of {describe_several(self.futures)}"]

    def _describe_briefly(self) -> list[str]:
        return [f"of {len(self.futures)}"]

    def _on_behalf_of(self) -> Any:
        """Return the task that waits; None if it does not wait any more."""
        return next(iter(self.waiter._asyncio_awaited_by or ()), None)

    def on_done(self, future: Future[Any]) -> None:
        self._left -= 1
        if (
            self._left <= 0
            or self._return_when == FIRST_COMPLETED
            or (self._return_when == FIRST_EXCEPTION and has_failed(future))
        ):
            self.finish()

    def finish(self) -> None:
        if not self.waiter.done():
            self.waiter.set_result(None)


async def wait(
    fs: Iterable[F], *, timeout: Seconds | None = None, return_when: str = ALL_COMPLETED
) -> tuple[set[F], set[F]]:
    """Wait for futures or tasks; return the set of those that are done and the set of the others.

    The wait ends when all are done (``ALL_COMPLETED``), when the first is done
    (``FIRST_COMPLETED``), or when the first has failed or all are done (``FIRST_EXCEPTION``), as
    ``return_when`` says; and in any case after ``timeout`` seconds. If that is so from the start,
    other tasks run once. None of the tasks is cancelled, and none of their exceptions is raised.

    Raises TypeError for coroutines, since the caller could not find their tasks in the result, and
    for a single future; ValueError for an empty ``fs`` and for another ``return_when``.

    Cancellation safe: the tasks continue.
    """
    if asyncio.isfuture(fs) or isinstance(fs, Coroutine):
        raise TypeError(f"wait() expected a collection of futures, got one {type(fs).__name__}")
    futures: set[Any] = set(fs)
    if not futures:
        raise ValueError("wait() needs at least one future: the collection is empty")
    if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
        raise ValueError(f"Invalid return_when value: {return_when!r}")
    if any(asyncio.iscoroutine(future) for future in futures):
        raise TypeError(
            "wait() expected futures, got a coroutine: make it a task with create_task()"
        )
    limit = None if timeout is None else seconds(timeout, "wait()")
    loop = get_running_loop()
    futures = {ensure_future(future, loop=loop) for future in futures}
    pending = [future for future in futures if not future.done()]
    if _is_enough(futures, len(pending), return_when):
        # As in asyncio, other tasks run meanwhile: the program may repeat this until they are done.
        await yield_to_others()
    else:
        countdown = _Countdown(loop, pending, return_when)
        await _wait_for_any(loop, countdown, limit)
    done = {future for future in futures if future.done()}
    return done, futures - done


def _is_enough(futures: set[Any], pending: int, return_when: str) -> bool:
    if not pending:
        return True
    if return_when == FIRST_COMPLETED:
        return pending < len(futures)
    if return_when == FIRST_EXCEPTION:
        return any(map(has_failed, futures))
    return False


async def _wait_for_any(loop: LoopCore, countdown: _Countdown, timeout: float | None) -> None:
    on_done = countdown.on_done
    expiry = loop.call_later(timeout, countdown.finish) if timeout is not None else None
    for future in countdown.futures:
        future.add_done_callback(on_done)
    try:
        await countdown.waiter
    finally:
        if expiry is not None:
            expiry.cancel()
        for future in countdown.futures:
            future.remove_done_callback(on_done)


async def wait_for(aw: Awaitable[T], timeout: Seconds | None) -> T:
    """Await ``aw`` for at most ``timeout`` seconds; None waits without limit.

    After that time ``aw`` is cancelled, its clean-up is waited for, and TimeoutError is raised.
    With a timeout of zero or less, ``aw`` must be done already. A cancellation of the caller is
    never lost: CancelledError is raised, or, when ``aw`` finished at the same time, the request is
    still counted in ``cancelling()``. Raises TypeError when ``aw`` cannot be awaited.

    Not cancellation safe: ``aw`` is cancelled too, and its result is lost; ``shield()`` keeps it.
    """
    _check_awaitable(aw)
    if timeout is not None and seconds(timeout, "wait_for()") <= 0:
        future = ensure_future(aw)
        if future.done():
            return future.result()
        countdown = _Countdown(get_running_loop(), [future], ALL_COMPLETED)
        await _cancel_and_wait(future, countdown)
        try:
            return future.result()
        except CancelledError as error:
            raise TimeoutError from error
    limit = timeout_after(timeout)
    caller = sys._getframe().f_back
    if caller is not None:
        note_place(limit, caller)
        del caller
    async with limit:
        return await aw


def _check_awaitable(aw: object) -> None:
    if not hasattr(aw, "__await__") and not asyncio.iscoroutine(aw):
        raise TypeError(f"wait_for() expected an awaitable, got {aw!r}{advice_on_awaitable(aw)}")


async def _cancel_and_wait(future: Future[Any], countdown: _Countdown) -> None:
    future.add_done_callback(countdown.on_done)
    try:
        future.cancel()
        await countdown.waiter
    finally:
        future.remove_done_callback(countdown.on_done)
