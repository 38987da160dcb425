"""Streams: the reader and the writer of a connection.

They are thin on purpose. The state is in ``StreamAdapter``, and an operation that need not wait is
one call of a method there, which is compiled in the compiled build. A read waits only if the
buffer does not hold the bytes already.

Source: "Streams" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import warnings
from collections.abc import Generator, Iterable
from types import TracebackType, coroutine
from typing import Any, Final, Self

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.arguments.refusals import OnlyAsynchronous
from runtime.kernel.arguments.seconds import Seconds
from runtime.kernel.arguments.sizes import Size, count_of, limit_of
from runtime.kernel.core import LoopCore
from runtime.kernel.errors import IncompleteReadError, LimitOverrunError
from runtime.net.connection.handshake import wait_connected
from runtime.net.connection.layers import new_connection_error
from runtime.net.connection.send_file import send_file_through
from runtime.net.connection.stream_adapter import StreamAdapter
from runtime.net.connection.stream_socket import StreamSocket
from runtime.net.connection.stream_transport import StreamTransport
from runtime.net.connection.tls_options import TLSOptions, upgrade_tls
from runtime.net.sockets.checks import set_no_delay

DEFAULT_LIMIT: Final = 64 * 1024
"""Default limit in bytes: the maximum length of a line, and half the size of a full buffer.

Receiving pauses while the buffer is full.
"""

_LINE_END: Final = (b"\n",)


@coroutine
def _let_others_run() -> Generator[None, None, None]:
    """Let all other ready tasks and callbacks run once."""
    yield


def stream_limit(limit: Size) -> int:
    """Return the limit of a stream, in bytes. Raises ValueError unless it is positive."""
    most = limit_of(limit, "limit")
    if most <= 0:
        raise ValueError(f"limit must be a positive number of bytes, got {limit!r}")
    return most


class _Guard:
    """Finalizer of a connection whose reader and writer were both dropped without closing it.

    The streams and their transport share one guard, so that its finalizer runs when the last of
    them is gone.
    """

    __slots__ = ("adapter",)

    def __init__(self, adapter: StreamAdapter) -> None:
        self.adapter = adapter

    def __del__(self) -> None:
        adapter = self.adapter
        if adapter.closing or adapter.lower.is_closed():
            return
        unsent = adapter.lower.unsent_size()
        warnings.warn(
            f"unclosed stream {adapter!r}: close its writer"
            + (f" ({unsent} bytes were not sent)" if unsent else ""),
            ResourceWarning,
            stacklevel=2,
        )
        # Raised if the loop is closed already: no task is left that waits for the connection.
        with contextlib.suppress(RuntimeError):
            adapter.abort()


class _ClosedAtTheEnd(OnlyAsynchronous):
    """Base class: an ``async with`` block that closes the connection and waits until it is closed.

    If an exception leaves the block, the connection is aborted. Otherwise a peer that reads nothing
    could delay the exception without end.
    """

    __slots__ = ()

    _adapter: StreamAdapter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _leave(self._adapter, exc_type)


async def _leave(adapter: StreamAdapter, exc_type: type[BaseException] | None) -> None:
    if exc_type is None:
        adapter.close()
    else:
        adapter.abort()
    if exc_type is GeneratorExit:
        return  # A coroutine must not await while it is being closed.
    if not adapter.is_lost:
        await adapter.closed_future()
    if exc_type is None and adapter.error is not None:
        raise new_connection_error(adapter.error)


class StreamReader(_ClosedAtTheEnd):
    """Reader of a connection, and an asynchronous iterator over its lines.

    Made by ``open_connection`` and ``start_server``. Only one task may read at a time. As an
    asynchronous context manager it closes the connection, as the writer does.
    """

    __slots__ = ("__weakref__", "_adapter", "_guard", "_limit")

    def __init__(self, adapter: StreamAdapter, guard: object, limit: int) -> None:
        self._adapter = adapter
        self._guard = guard
        self._limit = limit

    async def read(self, n: int = -1) -> bytes:
        """Return up to ``n`` received bytes, waiting for at least one.

        Returns ``b""`` at the end of the stream, or if ``n`` is 0. With a negative ``n`` it reads
        until the end. Raises OSError if the connection failed. With TLS it also raises if the peer
        ended the connection without a close_notify, so that bytes may be missing: the exception is
        then an ``ssl.SSLEOFError`` and a ConnectionError. Bytes that arrived before the failure are
        returned first; with a negative ``n`` they stay in the buffer. Cancellation safe.
        """
        adapter = self._adapter
        if n < 0:
            while not adapter.eof:
                await adapter.readable("read", sys.maxsize)
            return adapter.take_rest()
        data = adapter.take_some(n)
        while data is None:
            if adapter.has_used_its_share():
                await _let_others_run()
            else:
                await adapter.readable("read")
            data = adapter.take_some(n)
        return data

    async def readline(self) -> bytes:
        r"""Return a line including its ``\n``; at the end of the stream, the rest or ``b""``.

        Raises ValueError if the line is longer than the limit; the line is then removed from the
        buffer. Raises OSError as ``read`` does. Cancellation safe.
        """
        adapter = self._adapter
        try:
            line = adapter.take_until(_LINE_END, self._limit)
            while line is None:
                if adapter.has_used_its_share():
                    await _let_others_run()
                elif adapter.eof:
                    return adapter.take_rest()
                else:
                    await adapter.readable("readline")
                line = adapter.take_until(_LINE_END, self._limit)
        except LimitOverrunError as error:
            _, stop = adapter.unread.find(_LINE_END)
            adapter.take(stop or adapter.unread.size)
            raise ValueError(error.args[0]) from None
        return line

    async def readuntil(self, separator: bytes | tuple[bytes, ...] = b"\n") -> bytes:
        r"""Return the bytes through the next ``separator``, including it.

        Given a tuple of separators, the one that ends first counts. Raises IncompleteReadError,
        with the remaining bytes, if the stream ends before a separator; LimitOverrunError if more
        bytes than the limit precede it (they stay in the buffer); ValueError for an empty
        separator; OSError as ``read`` does. Cancellation safe.
        """
        separators = _separators_of(separator)
        adapter = self._adapter
        data = adapter.take_until(separators, self._limit)
        while data is None:
            if adapter.has_used_its_share():
                await _let_others_run()
            elif adapter.eof:
                raise IncompleteReadError(adapter.take_rest(), None)
            else:
                await adapter.readable("readuntil")
            data = adapter.take_until(separators, self._limit)
        return data

    async def readexactly(self, n: int) -> bytes:
        """Return exactly ``n`` bytes.

        Raises IncompleteReadError, with the bytes received, if the stream ends before; ValueError
        for a negative ``n``; OSError as ``read`` does. Cancellation safe: received bytes stay in
        the buffer.
        """
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        adapter = self._adapter
        data = adapter.take_exactly(n)
        while data is None:
            if adapter.has_used_its_share():
                await _let_others_run()
            elif adapter.eof:
                raise IncompleteReadError(adapter.take_rest(), n)
            else:
                await adapter.readable("readexactly", count_of(n, "readexactly()"))
            data = adapter.take_exactly(n)
        return data

    def at_eof(self) -> bool:
        """Return whether the stream has ended and all received bytes were read."""
        return self._adapter.eof and not self._adapter.unread.size

    def feed_eof(self) -> None:
        """Receive no more: the stream ends after the bytes that were received already."""
        self._adapter.stop_reading()

    def exception(self) -> BaseException | None:
        """Return the exception that the connection failed with, or None."""
        return self._adapter.error

    def __aiter__(self) -> StreamReader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def __repr__(self) -> str:
        adapter = self._adapter
        words = [f"{adapter.unread.size} bytes"]
        if adapter.eof:
            words.append("eof")
        if self._limit != DEFAULT_LIMIT:
            words.append(f"limit={self._limit}")
        return f"<{type(self).__name__} {' '.join(words)} {adapter!r}>"


def _separators_of(separator: Any) -> tuple[bytes, ...]:
    separators: tuple[Any, ...] = separator if isinstance(separator, tuple) else (separator,)
    if not separators:
        raise ValueError("Separator should contain at least one element")
    for each in separators:
        if not isinstance(each, bytes):
            # A separator that can change, such as a bytearray, is copied: the search for it may
            # continue after a wait.
            return _separators_of(tuple([_copied_separator(each) for each in separators]))
        if not each:
            raise ValueError("Separator should be at least one-byte string")
    return separators


def _copied_separator(separator: Any) -> bytes:
    try:
        return memoryview(separator).tobytes()
    except TypeError:
        raise TypeError(
            f"separator must be a bytes-like object or a tuple of them, got {separator!r}"
            + (f": write {separator.encode()!r}" if isinstance(separator, str) else "")
        ) from None


class StreamWriter(_ClosedAtTheEnd):
    """Writer of a connection. Made by ``open_connection`` and ``start_server``.

    ``async with writer:`` closes the connection at the end of the block, once all written data was
    sent, and waits until it is closed. If an exception leaves the block, the connection is aborted.
    """

    # ``_transport`` is set at the first use of the property ``transport``.
    __slots__ = ("__weakref__", "_adapter", "_guard", "_loop", "_transport")

    _transport: StreamTransport

    def __init__(self, loop: LoopCore, adapter: StreamAdapter, guard: object) -> None:
        self._loop = loop
        self._adapter = adapter
        self._guard = guard

    @property
    def transport(self) -> StreamTransport:
        """The connection as an asyncio transport, for code that expects one.

        ``loop.sendfile`` accepts it. It has no protocol: received data goes to the reader.
        """
        try:
            return self._transport
        except AttributeError:
            self._transport = StreamTransport(self._adapter, self._guard)
            return self._transport

    def write(self, data: Buffer) -> None:
        """Send ``data``: as much as the socket accepts at once, and the rest in the background.

        Unsent data waits in the write buffer: await ``drain()`` to keep the buffer from growing.
        The caller may change ``data`` afterwards. Raises TypeError unless ``data`` is bytes-like,
        and RuntimeError after ``write_eof()``.
        """
        self._adapter.write(data)

    def writelines(self, data: Iterable[Buffer]) -> None:
        """Send several bytes-like objects, in order, in as few system calls as possible."""
        parts = list(data)
        if parts:
            self._adapter.write_many(parts)

    async def drain(self) -> None:
        """Wait until the write buffer is small: back-pressure.

        If the buffer is small already, ``drain()`` returns at once, and no other task runs in
        between; only after 128 or more writes in one turn of the loop it lets the other tasks run
        first. Raises OSError if the connection is lost: a ConnectionError, an ``ssl.SSLError``, or
        the error that the system reports. Cancellation safe.
        """
        adapter = self._adapter
        if not adapter.must_wait:
            return
        if not adapter.send_joined():
            return
        if adapter.is_lost:
            error = adapter.error
            raise new_connection_error(error) if error else ConnectionResetError("Connection lost")
        if adapter.writing_paused:
            await adapter.drained(self._loop)
        else:
            await _let_others_run()
            adapter.reset_share()

    async def sendfile(
        self, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int:
        """Send ``file``, open in binary mode, from ``offset``, at most ``count`` bytes.

        The file follows the data that was written before. It is sent without copying it through
        the process if the system can (``os.sendfile``, which TLS cannot use). Otherwise it is read
        in threads, unless ``fallback`` is False. Returns the number of bytes sent; the file's
        position is then behind them, after an error too. Raises RuntimeError if the connection is
        closing, and SendfileNotAvailableError if ``os.sendfile`` cannot be used and ``fallback`` is
        False. Not cancellation safe: a part may have been sent, up to ``file.tell()``.

        Source: ``loop.sendfile`` in the standard library's documentation of asyncio.
        """
        adapter = self._adapter
        return await send_file_through(
            self._loop, adapter, adapter.lower, file, offset, count, fallback
        )

    def write_eof(self) -> None:
        """Send the end of the stream once all written data was sent; reading continues.

        Raises NotImplementedError where ``can_write_eof()`` is False.
        """
        self._adapter.lower.write_eof()

    def can_write_eof(self) -> bool:
        """Return whether ``write_eof`` is supported: with TCP it is, with TLS it is not."""
        return self._adapter.lower.can_write_eof()

    def close(self) -> None:
        """Close the connection once all written data was sent. ``wait_closed()`` waits for it.

        With TLS the connection also waits for the peer's close_notify, until the peer has neither
        read nor answered for ``ssl_shutdown_timeout`` seconds. It does not wait for a peer that has
        received all data and continues sending.

        A peer that never reads the written data keeps the connection open. ``abort()`` ends it, for
        instance after a ``timeout()`` around ``wait_closed()`` has expired.
        """
        self._adapter.close()

    def abort(self) -> None:
        """Close the connection now, and drop unsent data."""
        self._adapter.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closed or being closed."""
        return self._adapter.closing

    async def wait_closed(self) -> None:
        """Wait until the connection is closed.

        Raises OSError if the connection failed: written data may then be lost. Cancellation safe.
        """
        adapter = self._adapter
        if not adapter.is_lost:
            await adapter.closed_future()
        if adapter.error is not None:
            raise new_connection_error(adapter.error)

    async def start_tls(
        self,
        sslcontext: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
        server_side: bool | None = None,
    ) -> None:
        """Switch this connection to TLS, for the reader and the writer; return after the handshake.

        ``server_side`` is by default True for the streams of ``start_server``, and False for those
        of ``open_connection``. Bytes that were received and not read yet are used as the beginning
        of the handshake. Timeouts are in seconds. Raises OSError (``ssl.SSLError`` and
        ConnectionError are subclasses) if the handshake fails; the connection is then closed. Not
        cancellation safe: a cancellation closes the connection.

        Source: ``asyncio.StreamWriter.start_tls`` in the standard library's documentation.
        """
        adapter = self._adapter
        tls = upgrade_tls(
            sslcontext,
            adapter.server_side if server_side is None else server_side,
            server_hostname,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        ).require_name()
        adapter.lower.send_joined()  # This may fail, and close the connection.
        if adapter.writing_paused and not adapter.closing:
            await adapter.drained(self._loop)
        if adapter.closing:
            raise ConnectionResetError("the connection is closed; it cannot continue with TLS")
        lower = adapter.lower
        layer = tls.layer(self._loop, lower, adapter)
        adapter.give_up_target()
        early = adapter.take(adapter.unread.size)
        # From here on, received bytes belong to the handshake and not to the reader.
        layer.insert(adapter.writing_paused)
        adapter.set_lower(layer)
        await wait_connected(self._loop, adapter, lambda: layer.take_over(early))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the value of ``name``, or ``default`` if it is not known.

        The names are ``socket``, ``sockname`` and ``peername``; the addresses are as the socket
        reports them, and ``sockname`` is known after the connection's end if it was asked for
        before. With TLS there are also ``sslcontext``, ``ssl_object``, ``peercert``, ``cipher``,
        ``compression`` and ``truncated``, which is True if the peer ended the connection without a
        close_notify, so that bytes may be missing.
        """
        found = self._adapter.lower.info(name)
        return default if found is None else found

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the sizes of the write buffer above which ``drain()`` waits, and at which it returns.

        Both are in bytes. ``high`` is 64 KiB by default, and ``low`` a quarter of ``high``. Raises
        ValueError unless ``high >= low >= 0``.
        """
        self._adapter.lower.set_water_marks(high, low)

    def __repr__(self) -> str:
        unsent = self._adapter.lower.unsent_size()
        return f"<{type(self).__name__} {unsent} bytes unsent {self._adapter!r}>"


class Streams(OnlyAsynchronous, tuple[StreamReader, StreamWriter]):
    """Pair of a reader and a writer, and an asynchronous context manager that returns the pair.

    ::

        async with await runtime.open_connection(host, port) as (reader, writer):
            ...

    The block closes the connection at its end, as ``async with writer`` does.
    """

    __slots__ = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self[1].__aexit__(exc_type, exc, traceback)


def make_streams(
    loop: LoopCore,
    sock: socket.socket,
    limit: int,
    peername: object,
    tls: TLSOptions | None = None,
    *,
    shared: bool = False,
    server_side: bool = False,
) -> tuple[StreamReader, StreamWriter, StreamAdapter]:
    """Return the streams of a connected, non-blocking socket, which they own from now on.

    Nothing is received before ``start()`` of the adapter's ``lower`` is called.
    """
    if not server_side:  # The sockets of a server inherit the option from its listening socket.
        set_no_delay(sock)
    adapter = StreamAdapter(loop, limit, server_side)
    bottom = StreamSocket(loop, sock, adapter, peername)
    if shared:
        bottom.mark_shared()
    try:
        adapter.set_lower(bottom if tls is None else tls.layer(loop, bottom, adapter))
    except BaseException:
        bottom.fail(None)
        raise
    guard = _Guard(adapter)
    return StreamReader(adapter, guard, limit), StreamWriter(loop, adapter, guard), adapter
