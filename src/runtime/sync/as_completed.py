"""``as_completed``: iterates over futures in the order in which they end."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from runtime.kernel.api.awaitables import ensure_future
from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import describe_several, format_repr
from runtime.kernel.handles import Handle
from runtime.kernel.public_types import Future
from runtime.sync.waiters import Waiters, without

T = TypeVar("T")


class _Ends(Generic[T]):
    """The futures of one ``as_completed``: those that are pending, and those that have ended.

    The callbacks of the futures refer to this object, and not to the iterator, so that futures do
    not keep alive an iterator that was abandoned. Invariant: ``done`` holds the futures that have
    ended and were not handed out yet; None in it stands for a future that missed the timeout.
    """

    def __init__(self, loop: LoopCore, aws: Iterable[Awaitable[T]]) -> None:
        self.loop = loop
        # In the order of the arguments, without repetitions.
        self.pending: dict[Future[T], None] = {
            ensure_future(aw, loop=loop): None for aw in dict.fromkeys(aws)
        }
        self.done: deque[Future[T] | None] = deque()
        self.getters: Waiters = deque()
        self.expiry: Handle | None = None
        for future in list(self.pending):
            future.add_done_callback(self._on_done)

    def _on_behalf_of(self) -> Any:
        """Return the first task that waits for the next future; None if no task waits."""
        for getter in list(self.getters):
            for task in getter._asyncio_awaited_by or ():
                return task
        return None

    def _on_done(self, future: Future[T]) -> None:
        if future not in self.pending:
            return
        del self.pending[future]
        self.done.append(future)
        self.wake_one()
        if not self.pending and self.expiry is not None:
            self.expiry.cancel()

    def on_timeout(self) -> None:
        """Have TimeoutError raised for each future that has not ended."""
        for _ in range(self.leave()):
            self.done.append(None)
            self.wake_one()

    def leave(self) -> int:
        """Remove the callbacks from the pending futures; return the number of these futures."""
        pending, self.pending = self.pending, {}
        for future in pending:
            future.remove_done_callback(self._on_done)
        if self.expiry is not None:
            self.expiry.cancel()
        return len(pending)

    def wake_one(self) -> None:
        """Wake the first task that waits for the next future, if there is one."""
        while self.getters:
            getter = self.getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return


class AsCompleted(Generic[T]):
    """Both kinds of iterator over the futures of one ``as_completed``.

    Invariant: ``_left`` is the number of futures that are still to be handed out.
    """

    def __init__(self, aws: Iterable[Awaitable[T]], timeout: Seconds | None) -> None:
        limit = None if timeout is None else seconds(timeout, "as_completed()")
        loop = get_running_loop()
        self._ends: _Ends[T] = _Ends(loop, aws)
        self._left = len(self._ends.pending)
        if self._left and limit is not None:
            self._ends.expiry = loop.call_later(limit, self._ends.on_timeout)

    def __del__(self) -> None:
        ends: _Ends[T] | None = getattr(self, "_ends", None)
        if ends is None or not ends.pending:
            return
        loop = ends.loop
        if loop._thread_id == threading.get_ident():
            # Not at once: the garbage collector may call this in the middle of a future's method.
            loop.call_soon(ends.leave)
        elif loop._thread_id:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                loop.call_soon_threadsafe(ends.leave)
        else:
            ends.leave()

    def __repr__(self) -> str:
        return format_repr("AsCompleted", self._describe, self._describe_briefly)

    def _describe(self) -> list[str]:
        return [f"of {describe_several(list(self._ends.pending))}"]

    def _describe_briefly(self) -> list[str]:
        return [f"of {len(self._ends.pending)}"]

    async def _next_done(self) -> Future[T]:
        ends = self._ends
        while not ends.done:
            getter: Future[None] = ends.loop.create_future()
            ends.getters.append(getter)
            try:
                await getter
            except BaseException:
                ends.getters = without(ends.getters, getter)
                self._left += 1  # This step took no future: a later step takes it.
                was_woken = getter.done() and not getter.cancelled()
                if was_woken and ends.done and not ends.loop.is_closed():
                    ends.wake_one()  # Pass the wake-up on.
                raise
        future = ends.done.popleft()
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
    """Iterate over awaitables in the order in which they end; all of them run concurrently.

    ``async for`` yields the tasks and futures that were given, and the tasks that are made of
    coroutines. ``for`` yields coroutines; awaiting one returns the next result, or raises the next
    exception. After ``timeout`` seconds the iteration raises TimeoutError for each future that has
    not ended; none is cancelled. Raises TypeError for a single future.

    Cancellation safe: the next step yields the future that the cancelled step would have yielded.
    When an iteration is abandoned, the futures continue, and hold no reference to it.

    Source: the standard library's documentation of ``asyncio.as_completed``.

    >>> import runtime
    >>> async def main():
    ...     slow, fast = (runtime.create_task(runtime.sleep(s, s)) for s in (0.02, 0.01))
    ...     return [task is fast async for task in runtime.as_completed([slow, fast])]
    >>> runtime.run(main())
    [True, False]
    """
    if isinstance(fs, Awaitable):
        raise TypeError(f"as_completed() expected an iterable of futures, got {fs!r}")
    return AsCompleted(fs, timeout)
