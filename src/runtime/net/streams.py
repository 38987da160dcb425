"""Streams: the two ends of a connection, one to read from and one to write to.

They are thin on purpose: the state is in ``Connection``, and what can be done at once is done there
in one call. A read waits only when nothing is there.

Source: "Streams" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import functools
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.errors import IncompleteReadError, LimitOverrunError
from runtime.kernel.running import get_running_loop
from runtime.kernel.types import await_it
from runtime.net.connect import connect_tcp
from runtime.net.connection import Connection, lost, set_no_delay
from runtime.net.server import Server, bind_tcp

DEFAULT_LIMIT: Final = 64 * 1024
"""Bytes: how long a line may be, and half of what may wait unread before the peer is held up."""

Buffer = bytes | bytearray | memoryview
ClientConnected = Callable[["StreamReader", "StreamWriter"], Awaitable[None] | None]


class _Guard:
    """Closes a connection whose streams were both dropped without closing it."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        connection = self.connection
        if connection.closing:
            return
        unsent = connection.unsent
        warnings.warn(
            f"unclosed stream {connection!r}: close its writer"
            + (f" ({unsent} bytes were not sent)" if unsent else ""),
            ResourceWarning,
            stacklevel=2,
        )
        connection.abort()


class StreamReader:
    """The end of a connection that is read from: an asynchronous iterator over its lines.

    Made by ``open_connection`` and ``start_server``. One task reads at a time.
    """

    __slots__ = ("__weakref__", "_connection", "_guard", "_limit")

    def __init__(self, connection: Connection, guard: object, limit: int) -> None:
        self._connection = connection
        self._guard = guard
        self._limit = limit

    async def read(self, n: int = -1) -> bytes:
        """Return what is there, up to ``n`` bytes, waiting for at least one.

        ``b""`` means the end, or that ``n`` is 0. With a negative ``n`` it reads until the end.
        Raises OSError when the connection failed. Cancellation safe: what has arrived stays to be
        read.
        """
        connection = self._connection
        if n < 0:
            while not connection.eof:
                await connection.readable("read", sys.maxsize)
            return connection.take_rest()
        data = connection.take_some(n)
        while data is None:
            await connection.readable("read")
            data = connection.take_some(n)
        return data

    async def readline(self) -> bytes:
        r"""Return a line with its ``\n``; at the end what is left, which may be ``b""``.

        Raises ValueError when the line is longer than the limit: it is then removed. Cancellation
        safe.
        """
        try:
            return await self.readuntil(b"\n")
        except IncompleteReadError as error:
            return error.partial
        except LimitOverrunError as error:
            connection = self._connection
            if connection.received.find(b"\n", error.consumed) == error.consumed:
                connection.take(error.consumed + 1)
            else:
                connection.take(connection.received.size)
            raise ValueError(error.args[0]) from None

    async def readuntil(self, separator: bytes | tuple[bytes, ...] = b"\n") -> bytes:
        r"""Return what comes up to and with ``separator``, or the first of several to end.

        Raises IncompleteReadError with what was left at the end, and LimitOverrunError when there
        is more than the limit before the separator: it stays to be read. ValueError for an empty
        separator. Cancellation safe.
        """
        separators = separator if isinstance(separator, tuple) else (separator,)
        if not separators:
            raise ValueError("Separator should contain at least one element")
        if not all(separators):
            raise ValueError("Separator should be at least one-byte string")
        connection = self._connection
        received = connection.received
        longest = max(len(mark) for mark in separators)
        scanned = 0
        while True:
            size = received.size
            if size > scanned:
                start, end = _first_match(received.find, separators, scanned)
                if end:
                    if start > self._limit:
                        raise LimitOverrunError(
                            "Separator is found, but chunk is longer than limit", start
                        )
                    return connection.take(end)
                scanned = max(size + 1 - longest, 0)
                if scanned > self._limit:
                    raise LimitOverrunError(
                        "Separator is not found, and chunk exceed the limit", scanned
                    )
                scanned = size
            if connection.eof:
                raise IncompleteReadError(connection.take_rest(), None)
            await connection.readable("readuntil")

    async def readexactly(self, n: int) -> bytes:
        """Return exactly ``n`` bytes.

        Raises IncompleteReadError, with what there was, when the end comes before, and ValueError
        for a negative ``n``. Cancellation safe: what has arrived stays to be read.
        """
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        connection = self._connection
        received = connection.received
        while received.size < n:
            if connection.eof:
                raise IncompleteReadError(connection.take_rest(), n)
            await connection.readable("readexactly", n)
        return connection.take(n)

    def at_eof(self) -> bool:
        """Return whether the end has come and everything before it was read."""
        return self._connection.eof and not self._connection.received.size

    def exception(self) -> BaseException | None:
        """Return what the connection failed with, or None."""
        return self._connection.error

    def __aiter__(self) -> StreamReader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def __repr__(self) -> str:
        connection = self._connection
        words = [f"{connection.received.size} bytes"]
        if connection.eof:
            words.append("eof")
        if self._limit != DEFAULT_LIMIT:
            words.append(f"limit={self._limit}")
        return f"<{type(self).__name__} {' '.join(words)} {connection!r}>"


class StreamWriter:
    """The end of a connection that is written to. Made by ``open_connection``, ``start_server``."""

    __slots__ = ("__weakref__", "_connection", "_guard")

    def __init__(self, connection: Connection, guard: object) -> None:
        self._connection = connection
        self._guard = guard

    def write(self, data: Buffer) -> None:
        """Send ``data``, at once as far as the socket takes it, and the rest later.

        What cannot be sent is kept: await ``drain()`` so that it does not pile up. ``data`` may be
        changed afterwards. Raises TypeError unless it is bytes-like, and RuntimeError after
        ``write_eof()``.
        """
        self._connection.write(data)

    def writelines(self, data: Iterable[Buffer]) -> None:
        """Send several bytes-like objects, in order."""
        self._connection.write_many(list(data))

    async def drain(self) -> None:
        """Wait until the backlog is small: back-pressure.

        Returns at once when it is. Raises ConnectionError when the connection is lost.
        Cancellation safe.
        """
        connection = self._connection
        if connection.closed:
            error = connection.error
            raise lost(error) if error else ConnectionResetError("Connection lost")
        if connection.must_drain():
            await connection.drained()

    def write_eof(self) -> None:
        """Announce the end to the peer, once everything written was sent; reading goes on."""
        self._connection.write_eof()

    def can_write_eof(self) -> bool:
        """Return True: the connection can be closed in one direction."""
        return True

    def close(self) -> None:
        """Close the connection once everything written was sent. ``wait_closed()`` tells when."""
        self._connection.close()

    def abort(self) -> None:
        """Close the connection now, and drop what was not sent."""
        self._connection.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closed or being closed."""
        return self._connection.closing

    async def wait_closed(self) -> None:
        """Wait until the connection is closed.

        Raises OSError when it failed, so that bytes which never left are known. Cancellation safe.
        """
        connection = self._connection
        if not connection.closed:
            await connection.closed_future()
        if connection.error is not None:
            raise lost(connection.error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``socket``, ``sockname`` or ``peername``; ``default`` for anything else.

        The addresses are the socket's own answers.
        """
        connection = self._connection
        if name == "peername":
            return connection.peername if connection.peername is not None else default
        sock = connection.sock
        if sock is None:
            return default
        if name == "socket":
            return sock
        if name == "sockname":
            return sock.getsockname()
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the unsent bytes above which ``drain()`` waits, and those at which it goes on.

        Defaults: 64 KiB and a quarter. Raises ValueError unless ``high >= low >= 0``.
        """
        self._connection.set_water_marks(high, low)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self._connection.unsent} bytes unsent {self._connection!r}>"
        )


def _first_match(
    find: Callable[[bytes, int], int], separators: Sequence[bytes], scanned: int
) -> tuple[int, int]:
    """Return where the separator that ends first begins and ends; the end is 0 without any."""
    best_start = best_end = 0
    for mark in separators:
        start = find(mark, scanned)
        if start >= 0 and (best_end == 0 or start + len(mark) < best_end):
            best_start, best_end = start, start + len(mark)
    return best_start, best_end


def make_streams(
    loop: LoopCore,
    sock: socket.socket,
    limit: int,
    peername: object,
    on_closed: Callable[[Connection], object] | None = None,
    *,
    guarded: bool = False,
) -> tuple[StreamReader, StreamWriter]:
    """Return the streams of a connected, non-blocking socket, which they own from now on."""
    set_no_delay(sock)
    connection = Connection(loop, sock, limit, peername, on_closed)
    if guarded:
        connection.guard()
    connection.start()
    guard = _Guard(connection)
    return StreamReader(connection, guard, limit), StreamWriter(connection, guard)


def _check_limit(limit: int) -> None:
    if limit <= 0:
        raise ValueError(f"limit must be a positive number of bytes, not {limit!r}.")


async def open_connection(
    host: str | bytes | None = None,
    port: int | str | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
) -> tuple[StreamReader, StreamWriter]:
    """Connect to ``host`` and ``port`` and return the streams of the connection.

    ``limit`` is in bytes: how long a line may be. ``sock`` is a connected socket to use instead.
    Raises OSError when there is no connection to be had, ValueError for arguments that do not go
    together. Cancellation safe: a connection that was being made is given up.
    """
    _check_limit(limit)
    loop = get_running_loop()
    if sock is not None:
        if host is not None or port is not None or local_addr is not None:
            raise ValueError("host, port and local_addr cannot be given together with sock")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A stream socket was expected, got {sock!r}")
        sock.setblocking(False)
        return make_streams(loop, sock, limit, sock.getpeername(), guarded=True)
    if host is None and port is None:
        raise ValueError("host and port, or sock, must be given")
    sock = await connect_tcp(
        loop, host, port, family=family, proto=proto, flags=flags, local_addr=local_addr
    )
    try:
        return make_streams(loop, sock, limit, sock.getpeername())
    except OSError:
        sock.close()
        raise


async def start_server(
    client_connected_cb: ClientConnected,
    host: str | bytes | Sequence[str | bytes] | None = None,
    port: int | str | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    family: int = 0,
    flags: int = socket.AI_PASSIVE,
    sock: socket.socket | None = None,
    backlog: int = 100,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    start_serving: bool = True,
) -> Server:
    """Listen on ``host`` and ``port``; call ``client_connected_cb(reader, writer)`` for clients.

    A coroutine that the callback returns is run as a task. What it raises is reported to the loop's
    exception handler, and the connection is closed. ``limit`` is in bytes, ``backlog`` in
    connections. ``sock`` is a bound socket to use instead. Raises OSError when the address cannot
    be bound, ValueError for arguments that do not go together.
    """
    if not callable(client_connected_cb):
        raise TypeError(f"client_connected_cb must be callable, not {client_connected_cb!r}.")
    _check_limit(limit)
    loop = get_running_loop()
    if sock is not None:
        if host is not None or port is not None:
            raise ValueError("host and port cannot be given together with sock")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A stream socket was expected, got {sock!r}")
        sock.setblocking(False)
        sockets = [sock]
    else:
        if host is None and port is None:
            raise ValueError("Neither host and port nor sock were given")
        sockets = await bind_tcp(
            loop,
            host,
            port,
            family=family,
            flags=flags,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
            keep_alive=keep_alive,
        )
    server = Server(loop, sockets, backlog)
    server.set_accept(_StreamAcceptor(loop, server, client_connected_cb, limit).accept)
    if start_serving:
        try:
            server.begin()
        except BaseException:
            server.close()
            raise
    return server


class _StreamAcceptor:
    """Makes streams of accepted sockets, and runs the user's callback on them."""

    def __init__(
        self, loop: LoopCore, server: Server, callback: ClientConnected, limit: int
    ) -> None:
        self._loop = loop
        self._server = server
        self._callback = callback
        self._limit = limit

    def accept(self, sock: socket.socket, address: Any) -> None:
        try:
            reader, writer = make_streams(
                self._loop, sock, self._limit, address, self._server.detach
            )
        except OSError:
            sock.close()
            raise
        connection = reader._connection
        self._server.attach(connection)
        try:
            outcome = self._callback(reader, writer)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(connection, error)
            return
        if outcome is None:
            return
        task = self._loop.create_task(
            outcome if isinstance(outcome, Coroutine) else await_it(outcome)
        )
        task.add_done_callback(functools.partial(self._on_done, connection))

    def _on_done(self, connection: Connection, task: Any) -> None:
        if task.cancelled():
            connection.close()
        elif task.exception() is not None:
            self._report(connection, task.exception())

    def _report(self, connection: Connection, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {
                "message": "Unhandled exception in client_connected_cb",
                "exception": error,
                "transport": connection,
            }
        )
        connection.close()
