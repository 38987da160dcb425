"""Datagram endpoints for tasks: ``open_datagram``, to receive and send without a protocol.

They are thin: the state is in ``DatagramSocket`` and ``DatagramQueue``, and what can be done at
once is done there in one call.
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
    """A datagram socket: an asynchronous iterator over ``(data, address)``.

    Made by ``open_datagram``. As an asynchronous context manager it is closed, and waited for, at
    the end. Any number of tasks may receive and send. A loop over it ends when it is closed, after
    what was received before.

    An error is told once: by ``receive()``, the loop over the endpoint, or ``drain()``, whichever
    comes first. Where several come before that, the first is told.
    """

    __slots__ = ("__weakref__", "_core", "_queue")

    def __init__(self, core: DatagramSocket, queue: DatagramQueue) -> None:
        self._core = core
        self._queue = queue

    async def receive(self) -> tuple[bytes, Any]:
        """Return the next datagram and the address of its sender, waiting for it.

        Raises OSError when there was an error: ConnectionRefusedError when nobody listens at the
        remote address, as far as the system learns of it. The endpoint can be used after that.
        Raises ConnectionAbortedError when it is closed. Cancellation safe: what has arrived stays
        to be received.
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
        """Return the next datagram, waiting for it; None when there will be none."""
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
        """Send one datagram, at once or as soon as the socket takes it; ``b""`` is one too.

        ``address`` is where to, of the form that ``receive()`` gives; it may be left out when the
        endpoint was made with ``remote_addr``. What the socket does not take is kept: await
        ``drain()`` so that it does not pile up. So is a datagram to a host name, until a thread has
        looked that up; what the look-up raises, ``receive()`` or ``drain()`` raises. Raises OSError
        when the system refuses the datagram: it is not sent then. Raises ConnectionAbortedError
        when the endpoint is closed, TypeError unless ``data`` is bytes-like, ValueError when there
        is no address, or another than the remote one.
        """
        core = self._core
        if not core.closing:
            core.transmit(data, address)
            if not core.ended:
                return
        raise self._queue.over()

    async def drain(self) -> None:
        """Wait until little is unsent: back-pressure.

        Returns at once when it is. Raises OSError when there was an error, ConnectionAbortedError
        when the endpoint is closed before everything was sent. Cancellation safe.
        """
        queue = self._queue
        while queue.paused and not queue.closed:
            await queue.drained()
        queue.raise_error()
        if queue.closed:
            raise queue.over()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the unsent bytes above which ``drain()`` waits, and those at which it goes on.

        A datagram counts for 8 bytes more than it has. Defaults: 64 KiB and a quarter. Raises
        ValueError unless ``high >= low >= 0``.
        """
        self._core.set_water_marks(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``socket``, ``sockname`` or ``peername``; ``default`` for anything else.

        The addresses are the socket's own answers.
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
        """Stop receiving, and close once everything kept was sent. ``wait_closed()`` tells when."""
        self._core.close()
        self._queue.finish()

    def abort(self) -> None:
        """Close now, and drop what was not sent."""
        self._core.abort()
        self._queue.finish()

    async def wait_closed(self) -> None:
        """Wait until the endpoint is closed.

        Raises OSError when that was not by ``close()`` or ``abort()``. Cancellation safe.
        """
        queue = self._queue
        if not queue.closed:
            waiter = get_running_loop().create_future()
            queue.closed_waiters.append(waiter)
            await waiter
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
            # A peer that takes nothing is not to keep the exception from the program.
            self.abort()
        if exc_type is not GeneratorExit:  # A coroutine that is being closed may not wait.
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
    the endpoint is not connected, since answers come from others; ``remote_addr`` is only where
    datagrams go by default.

    ``queue_size`` is how many received datagrams wait at most. With so many, receiving stops until
    half of them are taken: the system keeps what comes meanwhile, as much as fits into the socket's
    receive buffer (``SO_RCVBUF``), and drops the rest, or, on a Unix socket, holds the sender up.

    Raises OSError when there is no such socket to be had, ValueError and TypeError for arguments
    that do not go together. Cancellation safe: a socket that was being made is closed.

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
        raise ValueError(f"queue_size must be a positive number of datagrams, not {queue_size!r}.")
    loop = get_running_loop()
    made, target = await datagram_socket(
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
        return _endpoint(loop, made, target, most)
    except BaseException:
        if sock is None:
            made.close()
        raise


def _endpoint(
    loop: LoopCore, sock: socket.socket, target: Any, queue_size: int
) -> DatagramEndpoint:
    queue = DatagramQueue(loop, queue_size)
    core = DatagramSocket(loop, sock, queue, target, None)
    queue.connection_made(core)
    core.start()
    return DatagramEndpoint(core, queue)
