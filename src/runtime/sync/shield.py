"""``shield``: waits for an awaitable, and does not cancel it when the wait is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from runtime.kernel.api.awaitables import ensure_future
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import format_repr
from runtime.kernel.future import FutureCore, failure_of
from runtime.kernel.public_types import Future

T = TypeVar("T")


class _Outer(Future[Any]):
    """The future that ``shield`` returns, and that the caller awaits.

    ``cancel()`` does nothing when the future is done. In particular its exception, which is that of
    the inner future, does not count as retrieved, and is reported if it never is.
    """

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future, unless it is done."""
        return not self.done() and super().cancel(msg)

    def __repr__(self) -> str:
        return format_repr("Future", self._describe_state, self._describe_briefly)


class _Shield:
    """Link that ends the awaited future, ``outer``, when the shielded one, ``inner``, ends.

    There is no link in the other direction: cancelling ``outer`` does not cancel ``inner``.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, inner: Future[Any], outer: Future[Any]) -> None:
        self._inner = inner
        self._outer = outer
        inner.add_done_callback(self._on_inner_done)
        outer.add_done_callback(self._on_outer_done)

    def _on_behalf_of(self) -> Future[Any]:
        """Return the outer future, which links the inner one to the task that waits."""
        return self._outer

    def _on_inner_done(self, inner: Future[Any]) -> None:
        outer = self._outer
        if outer.done():
            # The outer future was cancelled in the same turn. An exception of the inner one is not
            # marked as retrieved, so that it is reported if no other code retrieves it.
            return
        if inner.cancelled():
            outer.cancel()
        else:
            # With the traceback that it failed with, as if it was awaited here: other tasks that
            # await it have added their own frames.
            error = failure_of(inner) if isinstance(inner, FutureCore) else inner.exception()
            if error is not None:
                outer.set_exception(error)
            else:
                outer.set_result(inner.result())

    def _on_outer_done(self, outer: Future[Any]) -> None:
        # The two futures are independent from now on: an exception of the inner one is reported if
        # no other code retrieves it.
        self._inner.remove_done_callback(self._on_inner_done)


def shield(aw: Awaitable[T]) -> Future[T]:
    """Return a future that ends as ``aw`` does, but whose cancellation does not cancel ``aw``.

    A coroutine becomes a task at once, to which the loop holds a reference until it ends. When the
    wait was cancelled, and ``aw`` then raises an exception, this is reported to the loop's
    exception handler, unless other code retrieves it. When ``aw`` itself is cancelled, the future
    is cancelled too. Raises TypeError for an object that cannot be awaited.

    Cancellation safe: ``aw`` continues, and can be awaited again if it is a future or a task.

    Source: the standard library's documentation of ``asyncio.shield``.
    """
    inner: Future[T] = ensure_future(aw)
    if inner.done():
        return inner
    loop: LoopCore = inner.get_loop()
    outer: Future[T] = _Outer(loop=loop)
    _Shield(inner, outer)
    return outer
