"""``shield``: wait for something without taking it along when the wait is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from runtime.kernel.api.awaitables import ensure_future
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import described
from runtime.kernel.public_types import Future

T = TypeVar("T")


class _Outer(Future[Any]):
    """The future that is awaited.

    To cancel it when it is done changes nothing: its exception, which was the inner one's, is
    reported unless somebody retrieves it.
    """

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future, unless it is done."""
        return not self.done() and super().cancel(msg)

    def __repr__(self) -> str:
        return described("Future", self._describe_state, self._describe_briefly)


class _Shield:
    """Ends ``outer``, which is awaited, as ``inner`` ends, which does not notice a cancellation."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, inner: Future[Any], outer: Future[Any]) -> None:
        self._inner = inner
        self._outer = outer
        inner.add_done_callback(self._on_inner_done)
        outer.add_done_callback(self._on_outer_done)

    def _on_behalf_of(self) -> Future[Any]:
        """Return the future that stands between the inner one and the task that waits."""
        return self._outer

    def _on_inner_done(self, inner: Future[Any]) -> None:
        outer = self._outer
        if outer.done():
            # It was cancelled in the same turn. An exception stays with the inner future, to be
            # reported unless somebody else retrieves it.
            return
        if inner.cancelled():
            outer.cancel()
        else:
            error = inner.exception()
            if error is not None:
                outer.set_exception(error)
            else:
                outer.set_result(inner.result())

    def _on_outer_done(self, outer: Future[Any]) -> None:
        # From here on the inner future is on its own, and so is its exception.
        self._inner.remove_done_callback(self._on_inner_done)


def shield(aw: Awaitable[T]) -> Future[T]:
    """Return a future that ends as ``aw`` does, but whose cancellation ``aw`` never notices.

    A coroutine becomes a task at once, which the loop holds until it ends. When the wait was
    cancelled, and ``aw`` raises, the exception is reported unless somebody else retrieves it. When
    ``aw`` itself is cancelled, so is the future. Raises TypeError for what cannot be awaited.

    Cancellation safe: ``aw`` goes on, and can be awaited again if it was a future.

    Source: the standard library's documentation of ``asyncio.shield``.
    """
    inner: Future[T] = ensure_future(aw)
    if inner.done():
        return inner
    loop: LoopCore = inner.get_loop()
    outer: Future[T] = _Outer(loop=loop)
    _Shield(inner, outer)
    return outer
