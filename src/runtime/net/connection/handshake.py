"""Waiting until a connection is ready: at once for plain TCP, after the handshake for TLS."""

from __future__ import annotations

from collections.abc import Callable

from runtime.kernel.core import LoopCore
from runtime.kernel.public_types import Future
from runtime.net.connection.layers import Top, copy_exception


async def wait_connected(
    loop: LoopCore,
    top: Top,
    start: Callable[[], object],
    on_connected: Callable[[], object] | None = None,
) -> None:
    """Call ``start()`` in the next turn, and wait until ``connected`` of ``top`` is called.

    ``on_connected()`` is called at that moment, before the waiting task runs. Raises the exception
    of ``start``, or of the failed TLS handshake. Not cancellation safe: a cancellation aborts the
    connection.
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
            finish(ConnectionAbortedError("the connection was aborted"))
        else:
            # Raising the connection's own exception would form a reference cycle: exception,
            # traceback, frame, connection, exception. Raise a copy.
            finish(copy_exception(error) or error)
        if on_lost_before is not None:
            on_lost_before(top)

    on_lost_before = top.call_when_lost(on_lost)
    top.call_when_connected(connected)
    starting = loop.call_soon(begin)
    try:
        error = await waiter
    except BaseException:
        starting.cancel()
        # ``waiter`` must not be finished from here on. This may be the finalizer of a coroutine
        # whose loop is closed already, and a closed loop cannot wake a task.
        top.call_when_lost(on_lost_before)
        top.abort()
        raise
    top.call_when_lost(on_lost_before)
    if error is not None:
        top.abort()
        # Break the reference cycle of the exception, its traceback, this frame and the waiter.
        del waiter
        try:
            raise error
        finally:
            del error
