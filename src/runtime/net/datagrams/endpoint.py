"""Datagram endpoints for tasks: ``open_datagram``, to receive and send without a protocol.

They are thin: the state is in ``DatagramSocket`` and ``DatagramQueue``, and an operation that need
not wait is one call of a method there, which is compiled in the compiled build.
"""

from __future__ import annotations

import socket
import warnings
from asyncio.trsock import TransportSocket
from types import TracebackType
from typing import Any

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.arguments.refusals import OnlyAsynchronous, Uncopyable
from runtime.kernel.arguments.sizes import Size, limit_of
from runtime.kernel.core import LoopCore
from runtime.net.datagrams.datagram_socket import DatagramSocket
from runtime.net.datagrams.receive_queue import DatagramQueue
from runtime.net.datagrams.socket_setup import Address, datagram_socket


class DatagramEndpoint(OnlyAsynchronous, Uncopyable):
    """Datagram endpoint, and an asynchronous iterator over ``(data, address)``.

    Made by ``open_datagram``. As an asynchronous context manager, it is closed at the end of the
    block, which waits until it is closed. Any number of tasks may receive and send. An ``async
    for`` over the endpoint ends after ``close()``, once all received datagrams were taken.

    An error of the socket is raised once: by ``receive()``, by the iteration or by ``drain()``,
    whichever comes first. If several errors occur before that, the first is raised.
    """

    __slots__ = ("__weakref__", "_core", "_queue")

    def __init__(self, core: DatagramSocket, queue: DatagramQueue) -> None:
        self._core = core
        self._queue = queue

    async def receive(self) -> tuple[bytes, Any]:
        """Return the next datagram and the address of its sender, waiting for it.

        Raises OSError for an error of the socket, for instance ConnectionRefusedError if the system
        learns that no socket is bound to the remote address. The endpoint can still be used after
        that. Raises ConnectionAbortedError if the endpoint is closed. Cancellation safe: received
        datagrams stay in the queue.
        """
        datagram = self._queue.take()
        if datagram is None:
            datagram = await self._next()
            if datagram is None:
                raise self._queue.over()
        return datagram

    def __aiter__(self) -> DatagramEndpoint:
        return self

    async def __anext__(self) -> tuple[bytes, Any]:
        datagram = self._queue.take()
        if datagram is None:
            datagram = await self._next()
            if datagram is None:
                if self._queue.failure is not None:
                    raise self._queue.over()
                raise StopAsyncIteration
        return datagram

    async def _next(self) -> tuple[bytes, Any] | None:
        """Return the next datagram, waiting for it; None once the endpoint is closed."""
        queue = self._queue
        while not queue.finished:
            waiter = queue.arrival()
            try:
                await waiter
            except BaseException:
                queue.leave(waiter)
                raise
            datagram = queue.take()
            if datagram is not None:
                return datagram
        return queue.take()

    def send(self, data: Buffer, address: Any = None) -> None:
        """Send one datagram: at once, or as soon as the socket accepts it. ``data`` may be empty.

        ``address`` is the destination, in the form that ``receive()`` returns; it may be left out
        if the endpoint was made with ``remote_addr``. A datagram that the socket does not accept
        waits in the write buffer: await ``drain()`` to keep the buffer from growing. A datagram to
        a host name waits there too, until the name was looked up in a thread; an error of the
        lookup is raised by ``receive()`` or ``drain()``.

        Raises OSError if the system refuses the datagram, which is then not sent;
        ConnectionAbortedError if the endpoint is closed; TypeError unless ``data`` is bytes-like;
        ValueError if there is no address, or if ``address`` is not that of ``remote_addr``.
        """
        core = self._core
        if not core.closing:
            core.transmit(data, address)
            if not core.ended:
                return
        raise self._queue.over()

    async def drain(self) -> None:
        """Wait until the write buffer is small: back-pressure.

        Returns at once if it is small already. Raises OSError for an error of the socket, and
        ConnectionAbortedError if the endpoint is closed. Cancellation safe.
        """
        queue = self._queue
        while queue.paused and not queue.closed:
            waiter = queue.drained()
            try:
                await waiter
            finally:
                queue.leave_drain(waiter)
        queue.raise_error()
        if queue.closed:
            raise queue.over()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the sizes of the write buffer above which ``drain()`` waits, and at which it returns.

        Both are in bytes; 8 are added to the size of each datagram. ``high`` is 64 KiB by default,
        and ``low`` a quarter of ``high``. Raises ValueError unless ``high >= low >= 0``.
        """
        self._core.set_water_marks(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``socket``, ``sockname`` or ``peername``; ``default`` for any other name.

        The addresses are as the socket reports them.
        """
        core = self._core
        if name == "sockname":
            return core.sockname()
        if name == "peername":
            return core.peername if core.peername is not None else default
        if name == "socket" and core.sock is not None:
            return TransportSocket(core.sock)
        return default

    def is_closing(self) -> bool:
        """Return whether the endpoint is closed or being closed."""
        return self._core.closing

    def close(self) -> None:
        """Stop receiving, and close once the write buffer was sent: await ``wait_closed()``."""
        self._core.close()
        self._queue.finish()

    def abort(self) -> None:
        """Close now, and drop unsent datagrams."""
        self._core.abort()
        self._queue.finish()

    async def wait_closed(self) -> None:
        """Wait until the endpoint is closed.

        Raises OSError if it was not closed by ``close()`` or ``abort()``, but by a failure.
        Cancellation safe.
        """
        queue = self._queue
        if not queue.closed:
            waiter = queue.closing()
            try:
                await waiter
            finally:
                queue.leave_closing(waiter)
        if queue.failure is not None:
            raise queue.over()

    async def __aenter__(self) -> DatagramEndpoint:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.close()
        else:
            # Not close(): a peer that reads nothing could delay the exception without end.
            self.abort()
        if exc_type is not GeneratorExit:  # A coroutine must not await while it is being closed.
            await self.wait_closed()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._queue)} waiting {self._core.state()}>"

    def __del__(self) -> None:
        core = self._core
        if core.closing:
            return
        message = f"unclosed endpoint {self!r}"
        core.abort()
        warnings.warn(message, ResourceWarning, stacklevel=2, source=self)


async def open_datagram(
    local_addr: Address | None = None,
    remote_addr: Address | None = None,
    *,
    family: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
    queue_size: Size = 256,
) -> DatagramEndpoint:
    """Open a datagram endpoint: bound to ``local_addr``, connected to ``remote_addr``, or both.

    Addresses are pairs of host and port; with ``family=socket.AF_UNIX`` they are paths. With
    ``family`` alone the system chooses the local address at the first ``send``. ``sock`` is a
    datagram socket to use instead, which the endpoint owns from then on. With ``allow_broadcast``
    the endpoint is not connected, because the answers to a broadcast come from other addresses;
    ``remote_addr`` is then only the default destination.

    ``queue_size`` is the maximum number of received datagrams in the queue. Once the queue is full,
    receiving stops until half of it is taken. The system keeps the datagrams that arrive in the
    meantime, as many as fit into the socket's receive buffer (``SO_RCVBUF``). It drops the rest; on
    a Unix socket it makes the sender wait.

    Raises OSError if the socket cannot be made, and ValueError or TypeError for arguments that do
    not go together. Cancellation safe: an unfinished socket is closed.

    >>> import runtime
    >>> async def main():
    ...     async with await runtime.open_datagram(("127.0.0.1", 0)) as server:
    ...         address = server.get_extra_info("sockname")
    ...         async with await runtime.open_datagram(remote_addr=address) as client:
    ...             client.send(b"ping")
    ...             data, sender = await server.receive()
    ...             server.send(data.upper(), sender)
    ...             print((await client.receive())[0])
    >>> runtime.run(main())
    b'PING'
    """
    most = limit_of(queue_size, "queue_size")
    if most < 1:
        raise ValueError(f"queue_size must be a positive number of datagrams, got {queue_size!r}")
    loop = get_running_loop()
    bound, target = await datagram_socket(
        loop,
        local_addr,
        remote_addr,
        family=family,
        proto=0,
        flags=0,
        reuse_port=reuse_port,
        allow_broadcast=allow_broadcast,
        sock=sock,
    )
    try:
        return _endpoint(loop, bound, target, most)
    except BaseException:
        if sock is None:
            bound.close()
        raise


def _endpoint(
    loop: LoopCore, sock: socket.socket, target: Any, queue_size: int
) -> DatagramEndpoint:
    queue = DatagramQueue(loop, queue_size)
    core = DatagramSocket(loop, sock, queue, target, None)
    queue.connection_made(core)
    core.start()
    return DatagramEndpoint(core, queue)
