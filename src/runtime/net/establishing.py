"""Waiting for a connection to come about: at once with plain TCP, after the handshake with TLS."""

from __future__ import annotations

from collections.abc import Callable

from runtime.kernel.core import LoopCore
from runtime.kernel.types import Future
from runtime.net.layers import Top


async def established(loop: LoopCore, top: Top, start: Callable[[], object]) -> None:
    """Call ``start()`` in the next turn, and wait until ``top`` is told that it is connected.

    Raises what the TLS handshake failed with. Cancelled, it aborts the connection.
    """
    waiter: Future[None] = loop.create_future()

    def on_connected() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def on_lost(top: Top) -> None:
        if not waiter.done():
            waiter.set_exception(top.error or ConnectionAbortedError("The connection was aborted."))
        if on_lost_before is not None:
            on_lost_before(top)

    on_lost_before = top.call_when_lost(on_lost)
    top.call_when_connected(on_connected)
    starting = loop.call_soon(start)
    try:
        await waiter
        top.call_when_lost(on_lost_before)
    except BaseException:
        starting.cancel()
        top.abort()
        raise
