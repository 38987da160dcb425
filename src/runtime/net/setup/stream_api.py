"""Connections and servers with streams: ``open_connection``, ``start_server`` and their kind.

Source: "Streams" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import functools
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import copy_context
from types import CoroutineType
from typing import Any

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.advice import name_of
from runtime.kernel.arguments.seconds import Seconds
from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.public_types import await_it
from runtime.net.backlog import BACKLOG
from runtime.net.connection.handshake import wait_connected
from runtime.net.connection.stream_adapter import StreamAdapter
from runtime.net.connection.streams import (
    DEFAULT_LIMIT,
    StreamReader,
    Streams,
    StreamWriter,
    make_streams,
    stream_limit,
)
from runtime.net.connection.tls_options import TLSOptions, client_tls, server_tls
from runtime.net.setup.client_sockets import connected_socket, connected_unix_socket
from runtime.net.setup.server import Server
from runtime.net.setup.server_sockets import tcp_server, unix_server
from runtime.net.sockets.checks import peername

ClientConnected = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]


async def open_connection(
    host: str | bytes | None = None,
    port: int | str | None = None,
    *,
    limit: Size = DEFAULT_LIMIT,
    ssl: ssl_module.SSLContext | bool | None = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
    ssl_session: ssl_module.SSLSession | None = None,
    happy_eyeballs_delay: Seconds | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
) -> Streams:
    """Connect to ``host`` and ``port``; return the reader and the writer of the connection.

    The pair is an asynchronous context manager, which closes the connection.

    ``limit`` is the maximum length of a line, in bytes. ``sock`` is a connected stream socket of
    any address family, to use instead of ``host`` and ``port``.

    ``ssl`` is a context, or True for the system's defaults. ``server_hostname`` is the name that
    the certificate is checked against, ``host`` by default. ``ssl_session`` is a session to resume:
    the ``session`` of an earlier connection's ``ssl_object``. ``ssl_handshake_timeout`` (60 by
    default) and ``ssl_shutdown_timeout`` (30), for the peer's answer to ``close()``, are in
    seconds.

    With ``happy_eyeballs_delay``, in seconds, the next address of the host is tried in parallel
    after that time (RFC 8305); without, once the attempt before has failed. ``interleave`` is the
    number of addresses of the first family before the families alternate. With ``all_errors`` a
    failure is an ExceptionGroup of the errors of all addresses.

    Raises OSError if no connection can be made, and ValueError for arguments that do not go
    together. Cancellation safe: an unfinished connection is closed.
    """
    most = stream_limit(limit)
    tls = client_tls(
        ssl, server_hostname, host, ssl_handshake_timeout, ssl_shutdown_timeout, ssl_session
    )
    loop = get_running_loop()
    given = sock is not None
    sock = await connected_socket(
        loop,
        host,
        port,
        sock,
        family=family,
        proto=proto,
        flags=flags,
        local_addr=local_addr,
        happy_eyeballs_delay=happy_eyeballs_delay,
        interleave=interleave,
        all_errors=all_errors,
    )
    return await _open(loop, sock, most, tls, shared=given)


async def open_unix_connection(
    path: Any = None,
    *,
    limit: Size = DEFAULT_LIMIT,
    sock: socket.socket | None = None,
    ssl: ssl_module.SSLContext | bool | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
    ssl_session: ssl_module.SSLSession | None = None,
) -> Streams:
    """Connect to the Unix socket at ``path``; return the reader and the writer of the connection.

    ``path`` is a path, or on Linux an abstract name, which begins with a NUL. All else is as for
    ``open_connection``. Cancellation safe: an unfinished connection is closed.
    """
    most = stream_limit(limit)
    if ssl and server_hostname is None:
        raise ValueError("you have to pass server_hostname when using ssl")
    tls = client_tls(
        ssl, server_hostname, None, ssl_handshake_timeout, ssl_shutdown_timeout, ssl_session
    )
    loop = get_running_loop()
    given = sock is not None
    sock = await connected_unix_socket(loop, path, sock)
    return await _open(loop, sock, most, tls, shared=given)


async def _open(
    loop: LoopCore,
    sock: socket.socket,
    limit: int,
    tls: TLSOptions | None,
    *,
    shared: bool = False,
) -> Streams:
    """Make the streams of a connected socket; close the socket on a failure."""
    try:
        # A given socket that is not connected raises here. A new socket is known to be connected;
        # if its peer has left already, the first read will tell.
        peer = sock.getpeername() if shared else peername(sock)
        reader, writer, adapter = make_streams(loop, sock, limit, peer, tls, shared=shared)
    except BaseException:
        sock.close()
        raise
    if tls is None:
        adapter.lower.start()
    else:
        await wait_connected(loop, adapter, adapter.lower.start)
    return Streams((reader, writer))


async def start_server(
    client_connected_cb: ClientConnected,
    host: str | bytes | Sequence[str | bytes] | None = None,
    port: int | str | None = None,
    *,
    limit: Size = DEFAULT_LIMIT,
    family: int = 0,
    flags: int = socket.AI_PASSIVE,
    sock: socket.socket | None = None,
    backlog: int = BACKLOG,
    ssl: ssl_module.SSLContext | None = None,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
    start_serving: bool = True,
) -> Server:
    """Listen on ``host`` and ``port``; call ``client_connected_cb(reader, writer)`` for clients.

    If the callback returns a coroutine, it is run as a task, and the connection is closed at its
    end, after all written data was sent. To keep a connection open for longer, use a plain function
    as the callback. An exception of the callback or of its task is reported to the loop's exception
    handler, and the connection is closed.

    ``limit`` is the maximum length of a line, in bytes. ``backlog`` is the length of the listen
    queue: the number of connections that may wait to be accepted. The system may have a lower
    limit, on Linux ``net.core.somaxconn``. ``sock`` is a bound stream socket of any address family,
    to use instead of ``host`` and ``port``. With ``ssl``, a context that has a certificate, the
    callback is called after the handshake; a connection whose handshake fails is closed, and logged
    in debug mode only.

    Raises OSError if the address cannot be bound, and ValueError for arguments that do not go
    together.
    """
    most, tls = _check_server(
        client_connected_cb, limit, ssl, ssl_handshake_timeout, ssl_shutdown_timeout
    )
    loop = get_running_loop()
    server = await tcp_server(
        loop,
        host,
        port,
        sock,
        backlog,
        family=family,
        flags=flags,
        reuse_address=reuse_address,
        reuse_port=reuse_port,
        keep_alive=keep_alive,
    )
    server._serve_with(
        _StreamAcceptor(loop, server, client_connected_cb, most, tls).accept, start_serving
    )
    return server


async def start_unix_server(
    client_connected_cb: ClientConnected,
    path: Any = None,
    *,
    limit: Size = DEFAULT_LIMIT,
    sock: socket.socket | None = None,
    backlog: int = BACKLOG,
    ssl: ssl_module.SSLContext | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
    start_serving: bool = True,
    cleanup_socket: bool = True,
) -> Server:
    """Listen on the Unix socket at ``path``, as ``start_server`` does on TCP.

    ``path`` is a path, or on Linux an abstract name, which begins with a NUL. An existing socket
    at ``path`` is replaced without a warning, even if another server still listens on it: that
    server gets no new clients any more. The file is removed when the server is closed, unless
    ``cleanup_socket`` is False, or the file was replaced by another. The file of a socket given as
    ``sock`` is not removed.
    """
    most, tls = _check_server(
        client_connected_cb, limit, ssl, ssl_handshake_timeout, ssl_shutdown_timeout
    )
    loop = get_running_loop()
    server = unix_server(loop, path, sock, backlog, cleanup_socket)
    server._serve_with(
        _StreamAcceptor(loop, server, client_connected_cb, most, tls).accept, start_serving
    )
    return server


def _check_server(
    callback: object,
    limit: Size,
    context: ssl_module.SSLContext | None,
    handshake_timeout: Seconds | None,
    shutdown_timeout: Seconds | None,
) -> tuple[int, TLSOptions | None]:
    """Check the arguments of a server; return the limit of its streams, and the TLS options."""
    if not callable(callback):
        raise TypeError(f"client_connected_cb must be callable, got {callback!r}")
    return stream_limit(limit), server_tls(context, handshake_timeout, shutdown_timeout)


class _StreamAcceptor:
    """Makes the streams of accepted sockets, and calls the user's callback with them."""

    def __init__(
        self,
        loop: LoopCore,
        server: Server,
        callback: ClientConnected,
        limit: int,
        tls: TLSOptions | None,
    ) -> None:
        self._loop = loop
        self._server = server
        self._callback = callback
        self._limit = limit
        self._tls = tls
        # Each callback runs in a copy of this context, the one in which the server was made.
        self._context = copy_context()
        # One bound method for all connections, instead of one for each.
        self._detach = server._detach

    def accept(self, sock: socket.socket, address: Any) -> None:
        try:
            reader, writer, adapter = make_streams(
                self._loop, sock, self._limit, address, self._tls, server_side=True
            )
        except BaseException:
            sock.close()
            raise
        self._server._attach(adapter)
        adapter.call_when_lost(self._detach)
        if self._tls is None:
            adapter.lower.start()
            try:
                self._call(reader, writer, adapter)
            except BaseException:
                adapter.abort()
                raise
        else:
            adapter.call_when_connected(functools.partial(self._call, reader, writer, adapter))
            adapter.lower.start()

    def _call(self, reader: StreamReader, writer: StreamWriter, adapter: StreamAdapter) -> None:
        context = self._context.copy()
        try:
            outcome = context.run(self._callback, reader, writer)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(adapter, error, None)
            return
        if outcome is None:
            return
        if type(outcome) is not CoroutineType and not isinstance(outcome, Coroutine):
            outcome = await_it(outcome)
        task = self._loop.create_task(outcome, context=context)
        self._server._attach_handler(task)
        # The reference to the writer keeps the streams' finalizer from running before ``_on_done``
        # closes the connection.
        task.add_done_callback(functools.partial(self._on_done, writer, adapter))

    def _on_done(self, _writer: StreamWriter, adapter: StreamAdapter, task: Any) -> None:
        self._server._detach_handler(task)
        if task.cancelled() or task.exception() is None:
            adapter.close()
        else:
            self._report(adapter, task.exception(), task)

    def _report(self, adapter: StreamAdapter, error: BaseException, task: Any) -> None:
        context: dict[str, Any] = {
            "message": f"Unhandled exception in client_connected_cb {name_of(self._callback)}(), "
            f"for the client {adapter.peername()!r}",
            "exception": error,
            "transport": adapter,
        }
        if task is not None:
            context["task"] = task
        self._loop.call_exception_handler(context)
        adapter.close()
