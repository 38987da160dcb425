"""Waiting for a connection to come about: at once with plain TCP, after the handshake with TLS."""

from __future__ import annotations

import copy
from collections.abc import Callable

from runtime.kernel.core import LoopCore
from runtime.kernel.types import Future
from runtime.net.layers import Top


async def established(loop: LoopCore, top: Top, start: Callable[[], object]) -> None:
    """Call ``start()`` in the next turn, and wait until ``top`` is told that it is connected.

    Raises what the TLS handshake failed with. Cancelled, it aborts the connection.
    """
    waiter: Future[None] | None = loop.create_future()

    def on_connected() -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def on_lost(top: Top) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_exception(_failure(top.error))
        if on_lost_before is not None:
            on_lost_before(top)

    on_lost_before = top.call_when_lost(on_lost)
    top.call_when_connected(on_connected)
    starting = loop.call_soon(start)
    try:
        assert waiter is not None
        await waiter
        top.call_when_lost(on_lost_before)
    except BaseException:
        # What it failed with holds this frame, and is held by the future: a circle.
        waiter = None
        starting.cancel()
        top.abort()
        raise


def _failure(error: BaseException | None) -> BaseException:
    """Return what to raise: not what the connection itself keeps, which would be a circle."""
    if error is None:
        return ConnectionAbortedError("The connection was aborted.")
    return copy.copy(error) if isinstance(error, OSError) else error
