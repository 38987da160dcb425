"""Waiting for a connection to come about: at once with plain TCP, after the handshake with TLS."""

from __future__ import annotations

from collections.abc import Callable

from runtime.kernel.core import LoopCore
from runtime.kernel.public_types import Future
from runtime.net.connection.layers import Top, copied


async def wait_connected(
    loop: LoopCore,
    top: Top,
    start: Callable[[], object],
    on_connected: Callable[[], object] | None = None,
) -> None:
    """Call ``start()`` in the next turn, and wait until ``top`` is told that it is connected.

    ``on_connected()`` is called at that moment; the task that waits runs later. Raises what
    ``start`` raised, or the TLS handshake failed with. Cancelled, it aborts the connection.
    """
    waiter: Future[BaseException | None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if not waiter.done():
            waiter.set_result(error)

    def connected() -> None:
        finish(None)
        if on_connected is not None:
            on_connected()

    def begin() -> None:
        try:
            start()
        except Exception as error:
            finish(error)

    def on_lost(top: Top) -> None:
        error = top.error
        if error is None:
            finish(ConnectionAbortedError("The connection was aborted."))
        else:
            # The original stays with the connection, which is known to the frames that raise it.
            finish(copied(error) or error)
        if on_lost_before is not None:
            on_lost_before(top)

    on_lost_before = top.call_when_lost(on_lost)
    top.call_when_connected(connected)
    starting = loop.call_soon(begin)
    try:
        error = await waiter
    except BaseException:
        starting.cancel()
        # Nobody waits any more, and a closed loop could wake nobody: this may be a finalizer.
        top.call_when_lost(on_lost_before)
        top.abort()
        raise
    top.call_when_lost(on_lost_before)
    if error is not None:
        top.abort()
        # Nothing here shall hold what holds this frame.
        del waiter
        try:
            raise error
        finally:
            del error
