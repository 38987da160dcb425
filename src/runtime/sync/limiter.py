"""``CapacityLimiter``: limits how many tasks do something at the same time.

Source: "CapacityLimiter" in trio's documentation.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from threading import get_ident
from types import TracebackType
from typing import NamedTuple

from runtime.kernel.api.running import current_task, get_running_loop
from runtime.kernel.arguments.refusals import OnlyAsynchronous
from runtime.kernel.arguments.sizes import Size, float_or_infinity
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import format_repr, safe_repr
from runtime.kernel.public_types import Future
from runtime.kernel.threads.limiters import Limiter
from runtime.sync.binding import bind


class LimiterStatistics(NamedTuple):
    """The state of a limiter, as ``CapacityLimiter.statistics()`` returns it."""

    borrowed: int
    """Number of tokens that are borrowed."""

    total: float
    """Number of tokens."""

    borrowers: tuple[object, ...]
    """The borrowers, usually tasks, in the order in which they got their tokens."""

    waiting: int
    """Number of tasks that wait for a token."""


class CapacityLimiter(Limiter, OnlyAsynchronous):
    """A number of tokens, each of which can be borrowed by one task at a time.

    ``total`` is the number of tokens, a whole number or infinity. Unlike a semaphore, a limiter
    knows its borrowers: a token is given back by the task that has borrowed it, and no task borrows
    two. ``async with limiter:`` borrows a token for a block; ``to_thread(..., limiter=limiter)``
    borrows one for a call. Raises TypeError for a total that is not a number, and ValueError if it
    is negative or not whole.

    >>> import runtime
    >>> async def main():
    ...     limiter = runtime.CapacityLimiter(2)
    ...     async with limiter:
    ...         return limiter.borrowed, limiter.available
    >>> runtime.run(main())
    (1, 1)
    """

    __slots__ = ("__weakref__", "_borrowers", "_loop", "_total", "_waiting")

    def __init__(self, total: Size) -> None:
        self._total = _checked_total(total)
        self._loop: LoopCore | None = None
        # A dictionary keeps the order, and finds an entry quickly.
        self._borrowers: dict[object, None] = {}
        # The tasks that wait, by borrower. The first entry of a plain dictionary is found slowly if
        # many before it were removed.
        self._waiting: OrderedDict[object, Future[None]] = OrderedDict()

    @property
    def total(self) -> float:
        """The number of tokens. It can be set: tasks that wait get the new tokens.

        If more are borrowed already, no task gets one until enough of them were given back.
        """
        return self._total

    @total.setter
    def total(self, value: Size) -> None:
        self._total = _checked_total(value)
        self._pass_on()

    @property
    def borrowed(self) -> int:
        """The number of tokens that are borrowed."""
        return len(self._borrowers)

    @property
    def available(self) -> float:
        """The number of tokens that are not borrowed."""
        return max(0, self._total - len(self._borrowers))

    def statistics(self) -> LimiterStatistics:
        """Return the numbers of tokens and waiting tasks, and the borrowers."""
        borrowers = tuple(self._borrowers)
        return LimiterStatistics(len(borrowers), self._total, borrowers, len(self._waiting))

    async def acquire(self, borrower: object = None) -> None:
        """Borrow a token, waiting until one is available; tasks get them in the order of the calls.

        ``borrower`` is any object with a hash, by default the running task. Raises RuntimeError if
        it has a token already. Cancellation safe: a cancelled call has borrowed no token.
        """
        borrower = _borrower_or_task(borrower)
        if borrower in self._borrowers or borrower in self._waiting:
            raise RuntimeError(f"{borrower!r} borrows a second token of {self!r}, or waits for it")
        if not self._waiting and len(self._borrowers) < self._total:
            self._borrowers[borrower] = None
            return
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        future: Future[None] = loop.create_future()
        self._waiting[borrower] = future
        # A finalizer may have given a token back before this task was among those that wait.
        self._pass_on()
        try:
            await future
        except BaseException:
            if self._waiting.get(borrower) is future:
                del self._waiting[borrower]
            elif not future.cancelled() and borrower in self._borrowers:
                # The task got the token when it was cancelled.
                del self._borrowers[borrower]
                if not loop.is_closed():
                    self._pass_on()
            raise

    def release(self, borrower: object = None) -> None:
        """Give a token back. ``borrower`` is the one for which it was borrowed.

        Raises RuntimeError if it has none.
        """
        borrower = _borrower_or_task(borrower)
        if borrower not in self._borrowers:
            raise RuntimeError(f"{borrower!r} has not borrowed a token of {self!r}")
        self._give_back(borrower)

    def _give_back(self, borrower: object) -> None:
        del self._borrowers[borrower]
        self._pass_on()

    def _pass_on(self) -> None:
        """Give tokens to the tasks that wait, as far as there are tokens."""
        while self._waiting and len(self._borrowers) < self._total:
            borrower, future = self._waiting.popitem(last=False)
            if not future.done():
                self._borrowers[borrower] = None
                future.set_result(None)

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return format_repr(type(self).__name__, self._describe, self._describe)

    def _describe(self) -> list[str]:
        words = [f"borrowed={self.borrowed} total={self._total}"]
        if self._waiting:
            words.append(f"waiting={len(self._waiting)}")
        return words


def current_default_thread_limiter() -> CapacityLimiter:
    """Return the limiter that ``to_thread`` uses in the running loop if it is given none.

    Its total is infinity until the program sets it; so long, the number of threads of the default
    executor is the limit. Raises RuntimeError if no loop is running.

    >>> import runtime
    >>> async def main():
    ...     runtime.current_default_thread_limiter().total = 2
    ...     return await runtime.to_thread(sum, [1, 2, 3])
    >>> runtime.run(main())
    6
    """
    loop = get_running_loop()
    limiter = loop._thread_limiter
    if not isinstance(limiter, CapacityLimiter):
        limiter = loop._thread_limiter = CapacityLimiter(math.inf)
    return limiter


def _checked_total(value: Size) -> float:
    """Return a number of tokens as an int, or infinity."""
    if isinstance(value, int):
        number: float = int(value)
    elif isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"total must be a number of tokens, got {value!r}")
    else:
        number = float_or_infinity(value)
        if not math.isinf(number):
            if number != number or number != int(number):
                raise ValueError(f"total must be a whole number of tokens, got {value!r}")
            number = int(number)
    if number < 0:
        raise ValueError(f"total must not be negative, got {safe_repr(value)}")
    return number


def _borrower_or_task(borrower: object) -> object:
    return current_task() if borrower is None else borrower
