"""Streams: the two ends of a connection, one to read from and one to write to.

They are thin on purpose: the state is in ``StreamAdapter``, and what can be done at once is done
there in one call. A read waits only when nothing is there.

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
from runtime.net.connection.layers import lost
from runtime.net.connection.send_file import send_file_through
from runtime.net.connection.stream_adapter import StreamAdapter
from runtime.net.connection.stream_socket import StreamSocket
from runtime.net.connection.stream_transport import StreamTransport
from runtime.net.connection.tls_options import TLSOptions, upgrade_tls
from runtime.net.sockets.checks import set_no_delay

DEFAULT_LIMIT: Final = 64 * 1024
"""Bytes: how long a line may be, and half of what may wait unread before the peer is held up."""

_LINE_END: Final = (b"\n",)


@coroutine
def _let_others_run() -> Generator[None, None, None]:
    """Let everything that is ready run once."""
    yield


def stream_limit(limit: Size) -> int:
    """Return the limit of a stream, in bytes. Raises ValueError unless it is positive."""
    most = limit_of(limit, "limit")
    if most <= 0:
        raise ValueError(f"limit must be a positive number of bytes, not {limit!r}.")
    return most


class _Guard:
    """Closes a connection whose streams were both dropped without closing it."""

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
        # When the loop is closed, there is nobody left to be told.
        with contextlib.suppress(RuntimeError):
            adapter.abort()


class _ClosedAtTheEnd(OnlyAsynchronous):
    """What closes its connection at the end of an ``async with`` block, and waits for that.

    When an exception leaves the block, the connection is aborted: a peer that takes nothing is not
    to keep the exception from the program.
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
        return  # A coroutine that is being closed may not wait.
    if not adapter.is_lost:
        await adapter.closed_future()
    if exc_type is None and adapter.error is not None:
        raise lost(adapter.error)


class StreamReader(_ClosedAtTheEnd):
    """The end of a connection that is read from: an asynchronous iterator over its lines.

    Made by ``open_connection`` and ``start_server``. One task reads at a time. As an asynchronous
    context manager it closes the connection, as the writer does.
    """

    __slots__ = ("__weakref__", "_adapter", "_guard", "_limit")

    def __init__(self, adapter: StreamAdapter, guard: object, limit: int) -> None:
        self._adapter = adapter
        self._guard = guard
        self._limit = limit

    async def read(self, n: int = -1) -> bytes:
        """Return what is there, up to ``n`` bytes, waiting for at least one.

        ``b""`` means the end, or that ``n`` is 0. With a negative ``n`` it reads until the end.
        Raises OSError when the connection failed; with TLS also when the peer ended it without a
        close_notify, so that bytes may be missing: the error is then an ``ssl.SSLEOFError`` and a
        ConnectionError. What arrived before is read first, or stays to be read. Cancellation safe.
        """
        adapter = self._adapter
        if n < 0:
            while not adapter.eof:
                await adapter.readable("read", sys.maxsize)
            return adapter.take_rest()
        data = adapter.take_some(n)
        while data is None:
            if adapter.has_had_its_share():
                await _let_others_run()
            else:
                await adapter.readable("read")
            data = adapter.take_some(n)
        return data

    async def readline(self) -> bytes:
        r"""Return a line with its ``\n``; at the end what is left, which may be ``b""``.

        Raises ValueError when the line is longer than the limit: it is then removed. Cancellation
        safe.
        """
        adapter = self._adapter
        try:
            line = adapter.take_until(_LINE_END, self._limit)
            while line is None:
                if adapter.has_had_its_share():
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
        r"""Return what comes up to and with ``separator``, or the first of several to end.

        Raises IncompleteReadError with what was left at the end, and LimitOverrunError when there
        is more than the limit before the separator: it stays to be read. ValueError for an empty
        separator. Cancellation safe.
        """
        separators = _separators_of(separator)
        adapter = self._adapter
        data = adapter.take_until(separators, self._limit)
        while data is None:
            if adapter.has_had_its_share():
                await _let_others_run()
            elif adapter.eof:
                raise IncompleteReadError(adapter.take_rest(), None)
            else:
                await adapter.readable("readuntil")
            data = adapter.take_until(separators, self._limit)
        return data

    async def readexactly(self, n: int) -> bytes:
        """Return exactly ``n`` bytes.

        Raises IncompleteReadError, with what there was, when the end comes before, and ValueError
        for a negative ``n``. Cancellation safe: what has arrived stays to be read.
        """
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        adapter = self._adapter
        data = adapter.take_exactly(n)
        while data is None:
            if adapter.has_had_its_share():
                await _let_others_run()
            elif adapter.eof:
                raise IncompleteReadError(adapter.take_rest(), n)
            else:
                await adapter.readable("readexactly", count_of(n, "readexactly()"))
            data = adapter.take_exactly(n)
        return data

    def at_eof(self) -> bool:
        """Return whether the end has come and everything before it was read."""
        return self._adapter.eof and not self._adapter.unread.size

    def feed_eof(self) -> None:
        """Receive no more: what is there can be read, and then comes the end."""
        self._adapter.stop_reading()

    def exception(self) -> BaseException | None:
        """Return what the connection failed with, or None."""
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
            # What can change is copied: the search goes on later, where it stopped.
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
            + (f": write {separator.encode()!r}." if isinstance(separator, str) else ".")
        ) from None


class StreamWriter(_ClosedAtTheEnd):
    """The end of a connection that is written to. Made by ``open_connection``, ``start_server``.

    ``async with writer:`` closes the connection at its end, once everything written was sent, and
    waits for that; when an exception leaves the block, it aborts the connection.
    """

    # The transport is made when it is asked for.
    __slots__ = ("__weakref__", "_adapter", "_guard", "_loop", "_transport")

    _transport: StreamTransport

    def __init__(self, loop: LoopCore, adapter: StreamAdapter, guard: object) -> None:
        self._loop = loop
        self._adapter = adapter
        self._guard = guard

    @property
    def transport(self) -> StreamTransport:
        """The connection, with the methods of an asyncio transport, for code that asks for it.

        ``loop.sendfile`` takes it. It has no protocol: what is received is the reader's.
        """
        try:
            return self._transport
        except AttributeError:
            self._transport = StreamTransport(self._adapter, self._guard)
            return self._transport

    def write(self, data: Buffer) -> None:
        """Send ``data``, at once as far as the socket takes it, and the rest later.

        What cannot be sent is kept: await ``drain()`` so that it does not pile up. ``data`` may be
        changed afterwards. Raises TypeError unless it is bytes-like, and RuntimeError after
        ``write_eof()``.
        """
        self._adapter.write(data)

    def writelines(self, data: Iterable[Buffer]) -> None:
        """Send several bytes-like objects, in order, in as few system calls as it takes."""
        parts = list(data)
        if parts:
            self._adapter.write_many(parts)

    async def drain(self) -> None:
        """Wait until the write buffer is small: back-pressure.

        When it is, it returns at once, and nobody else runs meanwhile; only after 128 writes in one
        turn of the loop, or more, it lets the others run first. Raises OSError when the connection
        is lost: ConnectionError, ``ssl.SSLError``, or what the system says. Cancellation safe.
        """
        adapter = self._adapter
        if not adapter.must_wait:
            return
        if adapter.is_lost:
            error = adapter.error
            raise lost(error) if error else ConnectionResetError("Connection lost")
        if adapter.writing_paused:
            await adapter.drained(self._loop)
        else:
            await _let_others_run()
            adapter.others_have_run()

    async def sendfile(
        self, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int:
        """Send ``file``, open in binary mode, from ``offset``, at most ``count`` bytes.

        After what was written before, and without copying it through the process where the system
        can (``os.sendfile``, which TLS cannot use); else, unless ``fallback`` is False, it is read
        in threads. Returns how many bytes were sent; the file's position is behind them, also after
        an error. Raises RuntimeError when the connection is closing, SendfileNotAvailableError
        without the fallback. Not cancellation safe: a part may have been sent; ``file.tell()`` says
        how much.

        Source: ``loop.sendfile`` in the standard library's documentation of asyncio.
        """
        adapter = self._adapter
        return await send_file_through(
            self._loop, adapter, adapter.lower, file, offset, count, fallback
        )

    def write_eof(self) -> None:
        """Announce the end to the peer, once everything written was sent; reading goes on.

        Raises NotImplementedError where ``can_write_eof()`` is False.
        """
        self._adapter.lower.write_eof()

    def can_write_eof(self) -> bool:
        """Return whether one direction can be ended alone: with TCP it can, with TLS it cannot."""
        return self._adapter.lower.can_write_eof()

    def close(self) -> None:
        """Close the connection once everything written was sent. ``wait_closed()`` tells when.

        With TLS it also waits for the peer's answer, until the peer has neither read nor answered
        for ``ssl_shutdown_timeout`` seconds. A peer that has what was written, and goes on sending,
        is not waited for.

        A peer that never takes what was written keeps the connection open: ``abort()`` ends it, for
        instance when a ``timeout()`` around ``wait_closed()`` has passed.
        """
        self._adapter.close()

    def abort(self) -> None:
        """Close the connection now, and drop what was not sent."""
        self._adapter.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closed or being closed."""
        return self._adapter.closing

    async def wait_closed(self) -> None:
        """Wait until the connection is closed.

        Raises OSError when it failed, so that bytes which never left are known. Cancellation safe.
        """
        adapter = self._adapter
        if not adapter.is_lost:
            await adapter.closed_future()
        if adapter.error is not None:
            raise lost(adapter.error)

    async def start_tls(
        self,
        sslcontext: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
        server_side: bool | None = None,
    ) -> None:
        """Go on with TLS on this connection, for the reader and the writer, after the handshake.

        ``server_side`` is what the streams are by themselves: True for those of ``start_server``.
        What was received and not read yet is the beginning of the handshake. Times are in seconds.
        Raises OSError (``ssl.SSLError`` and ConnectionError are) when the handshake fails, and the
        connection is closed then. Not cancellation safe: cancelled, it closes the connection.

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
        if adapter.closing:
            raise ConnectionResetError("The connection is closed; it cannot go on with TLS.")
        if adapter.writing_paused:
            await adapter.drained(self._loop)
        lower = adapter.lower
        layer = tls.layer(self._loop, lower, adapter)
        adapter.give_up_target()
        early = adapter.take(adapter.unread.size)
        # Nothing of what arrives from here on is for the reader, before the handshake is over.
        lower.pause_reading()
        lower.set_upper(layer)
        adapter.set_lower(layer)
        await wait_connected(self._loop, adapter, lambda: layer.take_over(early))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known under ``name``, or ``default``.

        ``socket``, ``sockname`` and ``peername``: the addresses are the socket's own answers; when
        the connection has ended, ``sockname`` is known if it was asked for before. With
        TLS also ``sslcontext``, ``ssl_object``, ``peercert``, ``cipher``, ``compression`` and
        ``truncated``: whether the peer's end came without the announcement that TLS asks for, so
        that bytes may be missing.
        """
        found = self._adapter.lower.info(name)
        return default if found is None else found

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the unsent bytes above which ``drain()`` waits, and those at which it goes on.

        Defaults: 64 KiB and a quarter. Raises ValueError unless ``high >= low >= 0``.
        """
        self._adapter.lower.set_water_marks(high, low)

    def __repr__(self) -> str:
        unsent = self._adapter.lower.unsent_size()
        return f"<{type(self).__name__} {unsent} bytes unsent {self._adapter!r}>"


class Streams(OnlyAsynchronous, tuple[StreamReader, StreamWriter]):
    """A reader and a writer: a pair, and an asynchronous context manager that gives the pair.

    ::

        async with await runtime.open_connection(host, port) as (reader, writer):
            ...

    At its end the connection is closed, as by the writer's own block.
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

    Nothing is received before their end's ``lower`` is started.
    """
    if not server_side:  # A server's sockets have it from the one that listens.
        set_no_delay(sock)
    adapter = StreamAdapter(loop, limit, server_side)
    bottom = StreamSocket(loop, sock, adapter, peername)
    if shared:
        bottom.mark_shared()
    adapter.set_lower(bottom if tls is None else tls.layer(loop, bottom, adapter))
    guard = _Guard(adapter)
    return StreamReader(adapter, guard, limit), StreamWriter(loop, adapter, guard), adapter
