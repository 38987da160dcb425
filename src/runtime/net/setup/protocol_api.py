"""Connections and servers for asyncio protocols: ``loop.create_connection`` and similar methods.

Source: "Event Loop" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, TypeVar

from runtime.kernel.arguments.callables import check_factory, make_protocol
from runtime.kernel.arguments.seconds import Seconds
from runtime.kernel.core import LoopCore
from runtime.net.backlog import BACKLOG
from runtime.net.connection.handshake import wait_connected
from runtime.net.connection.layers import Top
from runtime.net.connection.protocol_adapter import ProtocolAdapter
from runtime.net.connection.protocol_transport import ProtocolConnection, SSLTransport, Transport
from runtime.net.connection.send_file import send_file_through
from runtime.net.connection.stream_transport import StreamTransport
from runtime.net.connection.tls_options import (
    TLSOptions,
    check_context,
    client_tls,
    server_tls,
    upgrade_tls,
)
from runtime.net.setup.client_sockets import connected_socket, connected_unix_socket
from runtime.net.setup.server import Server
from runtime.net.setup.server_sockets import tcp_server, unix_server
from runtime.net.sockets.checks import check_stream_socket, peername, set_no_delay

P = TypeVar("P", bound=asyncio.BaseProtocol)
ProtocolFactory = Callable[[], P]


async def create_connection(
    loop: LoopCore,
    protocol_factory: ProtocolFactory[P],
    host: str | bytes | None = None,
    port: int | str | None = None,
    *,
    ssl: ssl_module.SSLContext | bool | None = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
    happy_eyeballs_delay: Seconds | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
) -> tuple[Transport, P]:
    """Connect; return the transport, and the protocol that ``protocol_factory()`` returned.

    See ``Loop.create_connection``.
    """
    check_factory(protocol_factory)
    tls = client_tls(ssl, server_hostname, host, ssl_handshake_timeout, ssl_shutdown_timeout)
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
    return await _connection_on(loop, sock, protocol_factory, tls, shared=given)


async def create_unix_connection(
    loop: LoopCore,
    protocol_factory: ProtocolFactory[P],
    path: Any = None,
    *,
    ssl: ssl_module.SSLContext | bool | None = None,
    sock: socket.socket | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
) -> tuple[Transport, P]:
    """Connect to a Unix socket. See ``Loop.create_unix_connection``."""
    check_factory(protocol_factory)
    if ssl and server_hostname is None:
        raise ValueError("you have to pass server_hostname when using ssl")
    tls = client_tls(ssl, server_hostname, None, ssl_handshake_timeout, ssl_shutdown_timeout)
    given = sock is not None
    sock = await connected_unix_socket(loop, path, sock)
    return await _connection_on(loop, sock, protocol_factory, tls, shared=given)


async def _connection_on(
    loop: LoopCore,
    sock: socket.socket,
    protocol_factory: ProtocolFactory[P],
    tls: TLSOptions | None,
    *,
    shared: bool = False,
) -> tuple[Transport, P]:
    """Make the transport and the protocol of a connected socket; close the socket on a failure."""
    try:
        set_no_delay(sock)
        protocol = make_protocol(protocol_factory)
        connection = ProtocolConnection(
            loop, sock, peername(sock), protocol, copy_context(), tls, shared=shared
        )
    except BaseException:
        sock.close()
        raise
    await _wait_connected(loop, connection.adapter, connection.lower.start)
    return connection.transport, protocol


async def _wait_connected(
    loop: LoopCore, adapter: ProtocolAdapter, start: Callable[[], object]
) -> None:
    """Wait until the connection is ready; receive nothing before the caller continues.

    Many clients finish setting up their protocol after the ``await`` of ``create_connection``. The
    peer's first data must not reach the protocol before that, even if the data comes in one packet
    with the end of the TLS handshake.
    """
    await wait_connected(loop, adapter, start, adapter.hold_reading)
    adapter.release_reading()


async def connect_accepted_socket(
    loop: LoopCore,
    protocol_factory: ProtocolFactory[P],
    sock: socket.socket,
    *,
    ssl: ssl_module.SSLContext | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
) -> tuple[Transport, P]:
    """Make a connection from an accepted socket. See ``Loop.connect_accepted_socket``."""
    check_factory(protocol_factory)
    check_stream_socket(sock)
    tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout, listening=False)
    sock.setblocking(False)
    return await _connection_on(loop, sock, protocol_factory, tls, shared=True)


async def start_tls(
    loop: LoopCore,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl_module.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
) -> Transport:
    """Switch the connection of ``transport`` to TLS. See ``Loop.start_tls``."""
    check_context(sslcontext)
    if isinstance(transport, StreamTransport):
        raise TypeError(f"{transport!r} has a reader and a writer: use the writer's start_tls()")
    if not isinstance(transport, Transport):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    if not hasattr(protocol, "connection_lost"):
        raise TypeError(f"start_tls() expected a protocol, got {protocol!r}")
    tls = upgrade_tls(
        sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
    )
    tls.require_name()
    adapter, lower = transport.adapter, transport.lower
    lower.send_joined()  # This may fail, and close the connection.
    if lower.is_closing():
        raise ConnectionResetError(f"{transport!r} is closed; it cannot continue with TLS")
    layer = tls.layer(loop, lower, adapter)
    adapter.set_protocol(protocol)
    upgraded = SSLTransport(adapter, layer)
    adapter.transport = upgraded
    adapter.lower = layer
    adapter.was_made()
    adapter.allow_half_open = False
    # From here on, received bytes belong to the handshake and not to the protocol.
    layer.insert(adapter.writing_paused)
    early = _unread_of(protocol)
    await _wait_connected(loop, adapter, lambda: layer.take_over(early))
    return upgraded


async def sendfile(
    loop: LoopCore, transport: Any, file: Any, offset: int, count: int | None, fallback: bool
) -> int:
    """Send ``file`` through ``transport``. See ``Loop.sendfile``."""
    adapter: Top
    if isinstance(transport, Transport):
        adapter, lower = transport.adapter, transport.lower
    elif isinstance(transport, StreamTransport):
        adapter, lower = transport.adapter, transport.adapter.lower
    else:
        raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
    return await send_file_through(loop, adapter, lower, file, offset, count, fallback)


def _unread_of(protocol: asyncio.BaseProtocol) -> bytes:
    """Remove and return the unread bytes of an asyncio stream: they belong to the handshake."""
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return b""
    reader = getattr(protocol, "_stream_reader", None)
    buffer = getattr(reader, "_buffer", None)
    if not buffer:
        return b""
    early = bytes(buffer)
    buffer.clear()
    return early


async def create_server(
    loop: LoopCore,
    protocol_factory: ProtocolFactory[asyncio.BaseProtocol],
    host: str | bytes | Sequence[str | bytes] | None = None,
    port: int | str | None = None,
    *,
    family: int = socket.AF_UNSPEC,
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
    """Listen, and make a protocol for each client. See ``Loop.create_server``."""
    check_factory(protocol_factory)
    tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
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
    server._serve_with(_ProtocolAcceptor(loop, server, protocol_factory, tls).accept, start_serving)
    return server


async def create_unix_server(
    loop: LoopCore,
    protocol_factory: ProtocolFactory[asyncio.BaseProtocol],
    path: Any = None,
    *,
    sock: socket.socket | None = None,
    backlog: int = BACKLOG,
    ssl: ssl_module.SSLContext | None = None,
    ssl_handshake_timeout: Seconds | None = None,
    ssl_shutdown_timeout: Seconds | None = None,
    start_serving: bool = True,
    cleanup_socket: bool = True,
) -> Server:
    """Listen on a Unix socket. See ``Loop.create_unix_server``."""
    check_factory(protocol_factory)
    tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    server = unix_server(loop, path, sock, backlog, cleanup_socket)
    server._serve_with(_ProtocolAcceptor(loop, server, protocol_factory, tls).accept, start_serving)
    return server


class _ProtocolAcceptor:
    """Makes a protocol and a transport for each accepted socket, in the server's context."""

    def __init__(
        self,
        loop: LoopCore,
        server: Server,
        factory: ProtocolFactory[asyncio.BaseProtocol],
        tls: TLSOptions | None,
    ) -> None:
        self._loop = loop
        self._server = server
        self._factory = factory
        self._tls = tls
        self._context = copy_context()
        # One bound method for all connections, instead of one for each.
        self._detach = server._detach

    def accept(self, sock: socket.socket, address: Any) -> None:
        context = self._context.copy()
        try:
            protocol = context.run(make_protocol, self._factory)
            connection = ProtocolConnection(self._loop, sock, address, protocol, context, self._tls)
        except BaseException:
            sock.close()
            raise
        self._server._attach(connection.adapter)
        connection.adapter.call_when_lost(self._detach)
        connection.lower.start()
