"""``as_completed``: futures in the order in which they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from runtime.kernel.describe import describe_several, described
from runtime.kernel.handles import Handle
from runtime.kernel.interop import ensure_future
from runtime.kernel.running import get_running_loop
from runtime.kernel.seconds import Seconds
from runtime.kernel.types import Future

T = TypeVar("T")


class AsCompleted(Generic[T]):
    """Both kinds of iterator over the futures of one ``as_completed``.

    Invariant: ``_done`` holds what has ended and was not handed out; None in it stands for the
    time-out. ``_left`` is how many are still to be handed out.
    """

    def __init__(self, aws: Iterable[Awaitable[T]], timeout: Seconds | None) -> None:
        loop = get_running_loop()
        self._loop = loop
        self._pending: set[Future[T]] = {ensure_future(aw, loop=loop) for aw in set(aws)}
        self._left = len(self._pending)
        self._done: deque[Future[T] | None] = deque()
        self._getters: deque[Future[None]] = deque()
        self._expiry: Handle | None = None
        for future in self._pending:
            future.add_done_callback(self._on_done)
        if self._pending and timeout is not None:
            self._expiry = loop.call_later(timeout, self._on_timeout)

    def __repr__(self) -> str:
        return described("AsCompleted", self._describe, self._describe_briefly)

    def _describe(self) -> list[str]:
        return [f"of {describe_several(self._pending)}"]

    def _describe_briefly(self) -> list[str]:
        return [f"of {len(self._pending)}"]

    def on_behalf_of(self) -> Any:
        """Return the first of the tasks that wait for the next end; None when none does."""
        for getter in list(self._getters):
            for task in getter._asyncio_awaited_by or ():
                return task
        return None

    def _on_done(self, future: Future[T]) -> None:
        if future not in self._pending:
            return
        self._pending.remove(future)
        self._done.append(future)
        self._wake_one()
        if not self._pending and self._expiry is not None:
            self._expiry.cancel()

    def _on_timeout(self) -> None:
        for future in self._pending:
            future.remove_done_callback(self._on_done)
            self._done.append(None)
            self._wake_one()
        self._pending.clear()

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    async def _next_done(self) -> Future[T]:
        while not self._done:
            getter: Future[None] = self._loop.create_future()
            self._getters.append(getter)
            try:
                await getter
            except BaseException:
                self._left += 1  # This step has taken nothing: another one may.
                getter.cancel()
                if not getter.cancelled() and self._done:
                    self._wake_one()  # It was meant for us: pass it on.
                raise
        future = self._done.popleft()
        if future is None:
            raise TimeoutError
        return future

    async def _next_result(self) -> T:
        return (await self._next_done()).result()

    def __iter__(self) -> AsCompleted[T]:
        return self

    def __next__(self) -> Coroutine[Any, Any, T]:
        if not self._left:
            raise StopIteration
        self._left -= 1
        return self._next_result()

    def __aiter__(self) -> AsCompleted[T]:
        return self

    async def __anext__(self) -> Future[T]:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return await self._next_done()


def as_completed(fs: Iterable[Awaitable[T]], *, timeout: Seconds | None = None) -> AsCompleted[T]:
    """Iterate over awaitables as they end; they all run at once.

    ``async for`` yields the very tasks and futures that were given (coroutines become tasks);
    ``for`` yields coroutines, each of which gives the next result, or raises the next exception.
    After ``timeout`` seconds TimeoutError is raised for what has not ended; nothing is cancelled.
    Raises TypeError for a single future.

    Cancellation safe: the next step yields what the cancelled one would have. The futures go on.

    Source: the standard library's documentation of ``asyncio.as_completed``.

    >>> import runtime
    >>> async def main():
    ...     slow, fast = (runtime.create_task(runtime.sleep(s, s)) for s in (0.02, 0.01))
    ...     return [task is fast async for task in runtime.as_completed([slow, fast])]
    >>> runtime.run(main())
    [True, False]
    """
    if isinstance(fs, Awaitable):
        raise TypeError(f"as_completed() takes an iterable of futures, not {fs!r}.")
    return AsCompleted(fs, timeout)
