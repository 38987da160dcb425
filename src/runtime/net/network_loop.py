"""Network methods of the loop: asyncio's methods for transports and sockets.

They are thin: each calls a function of the module for its subject, which is imported at the first
use. Connections, TLS and datagrams are half of the package, and a program that does not use them
starts faster without. The ``sock_*`` methods may be called very often, and so contain no import:
see ``lazy.py``.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from runtime.kernel.arguments.seconds import Seconds
from runtime.kernel.core import LoopCore
from runtime.net import lazy
from runtime.net.backlog import BACKLOG

P = TypeVar("P", bound=asyncio.BaseProtocol)


class NetworkLoop(LoopCore):
    """Loop with asyncio's network methods."""

    # -- Connections -------------------------------------------------------------------------------

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str | bytes | None = None,
        port: int | str | None = None,
        *,
        ssl: ssl.SSLContext | bool | None = None,
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
    ) -> tuple[lazy.Transport, P]:
        """Connect to ``host`` and ``port``; return the transport and ``protocol_factory()``.

        The arguments are those of ``open_connection``. It returns after the protocol's
        ``connection_made`` was called; with ``ssl`` that is after the handshake. Raises OSError if
        no connection can be made, and ValueError for arguments that do not go together.
        Cancellation safe: an unfinished connection is closed.

        Source: the standard library's documentation of ``loop.create_connection``.
        """
        from runtime.net.setup import protocol_api

        return await protocol_api.create_connection(
            self,
            protocol_factory,
            host,
            port,
            ssl=ssl,
            family=family,
            proto=proto,
            flags=flags,
            sock=sock,
            local_addr=local_addr,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            happy_eyeballs_delay=happy_eyeballs_delay,
            interleave=interleave,
            all_errors=all_errors,
        )

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | bytes | Sequence[str | bytes] | None = None,
        port: int | str | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = BACKLOG,
        ssl: ssl.SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
        start_serving: bool = True,
    ) -> lazy.Server:
        """Listen on ``host`` and ``port``; call ``protocol_factory()`` for each client.

        The arguments are those of ``start_server``. Raises OSError if an address cannot be bound,
        and ValueError for arguments that do not go together.

        Source: the standard library's documentation of ``loop.create_server``.
        """
        from runtime.net.setup import protocol_api

        return await protocol_api.create_server(
            self,
            protocol_factory,
            host,
            port,
            family=family,
            flags=flags,
            sock=sock,
            backlog=backlog,
            ssl=ssl,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
            keep_alive=keep_alive,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            start_serving=start_serving,
        )

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], P],
        path: Any = None,
        *,
        ssl: ssl.SSLContext | bool | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
    ) -> tuple[lazy.Transport, P]:
        """Connect to the Unix socket at ``path``; all else is as for ``create_connection``.

        Source: the standard library's documentation of ``loop.create_unix_connection``.
        """
        from runtime.net.setup import protocol_api

        return await protocol_api.create_unix_connection(
            self,
            protocol_factory,
            path,
            ssl=ssl,
            sock=sock,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def create_unix_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: Any = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = BACKLOG,
        ssl: ssl.SSLContext | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = True,
    ) -> lazy.Server:
        """Listen on the Unix socket at ``path``; all else is as for ``create_server``.

        The file is removed when the server is closed, unless ``cleanup_socket`` is False. The file
        of a socket given as ``sock`` is not removed.

        Source: the standard library's documentation of ``loop.create_unix_server``.
        """
        from runtime.net.setup import protocol_api

        return await protocol_api.create_unix_server(
            self,
            protocol_factory,
            path,
            sock=sock,
            backlog=backlog,
            ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            start_serving=start_serving,
            cleanup_socket=cleanup_socket,
        )

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], P],
        sock: socket.socket,
        *,
        ssl: ssl.SSLContext | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
    ) -> tuple[lazy.Transport, P]:
        """Make the server's side of a connection from a socket that other code has accepted.

        Source: the standard library's documentation of ``loop.connect_accepted_socket``.
        """
        from runtime.net.setup import protocol_api

        return await protocol_api.connect_accepted_socket(
            self,
            protocol_factory,
            sock,
            ssl=ssl,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
    ) -> lazy.Transport:
        """Switch the connection of ``transport`` to TLS; return the transport that encrypts.

        The old transport must not be used any more. The unread bytes of an ``asyncio.StreamReader``
        are used as the beginning of the handshake. Any other protocol must pause reading before the
        peer begins the handshake, so that it does not receive bytes of TLS itself. Raises OSError
        if the handshake fails. Not cancellation safe: a cancellation aborts the connection.

        Source: the standard library's documentation of ``loop.start_tls``.
        """
        from runtime.net.setup import protocol_api

        return await protocol_api.start_tls(
            self,
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    # -- Names -------------------------------------------------------------------------------------

    async def getaddrinfo(
        self,
        host: lazy.Host,
        port: lazy.Port,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Return the addresses of a host, and raise exceptions, as ``socket.getaddrinfo`` does.

        Names are resolved in a thread of a pool of their own. An IP address is converted at once,
        without a thread. Cancellation safe, but the thread continues.
        """
        from runtime.net import resolver

        return await resolver.getaddrinfo(self, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Return the host and the service of an address, as ``socket.getnameinfo`` does.

        The names are looked up in a thread, unless ``flags`` ask for numbers only. Cancellation
        safe, but the thread continues.
        """
        from runtime.net import resolver

        return await resolver.getnameinfo(self, sockaddr, flags)

    async def sendfile(
        self,
        transport: Any,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send ``file``, open in binary mode, through the transport of a protocol or a stream.

        It sends at most ``count`` bytes from ``offset``, after the data that was written before. If
        the system cannot send the file itself (with TLS, or if ``file`` is not a plain file as from
        ``open()``), the file is read in threads; without ``fallback``, SendfileNotAvailableError is
        raised instead. Returns the number of bytes sent; the file's position is then behind them.
        Raises RuntimeError if the transport is closing, or does not support ``sendfile``. Not
        cancellation safe: a part may have been sent, up to ``file.tell()``.

        Source: the standard library's documentation of ``loop.sendfile``.
        """
        from runtime.net.setup import protocol_api

        return await protocol_api.sendfile(self, transport, file, offset, count, fallback)

    # -- Sockets -----------------------------------------------------------------------------------

    def sock_recv(self, sock: socket.socket, nbytes: int) -> Coroutine[Any, Any, bytes]:
        """Return up to ``nbytes`` received bytes; ``b""`` at the end. Cancellation safe."""
        return lazy.operations.sock_recv(self, sock, nbytes)

    def sock_recv_into(self, sock: socket.socket, buf: Any) -> Coroutine[Any, Any, int]:
        """Receive into a writable buffer; return the number of bytes. Cancellation safe."""
        return lazy.operations.sock_recv_into(self, sock, buf)

    def sock_recvfrom(
        self, sock: socket.socket, bufsize: int
    ) -> Coroutine[Any, Any, tuple[bytes, Any]]:
        """Return one datagram of up to ``bufsize`` bytes, and its sender. Cancellation safe."""
        return lazy.operations.sock_recvfrom(self, sock, bufsize)

    def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> Coroutine[Any, Any, tuple[int, Any]]:
        """Receive one datagram into a buffer; return its size and sender. Cancellation safe."""
        return lazy.operations.sock_recvfrom_into(self, sock, buf, nbytes)

    def sock_sendall(self, sock: socket.socket, data: Any) -> Coroutine[Any, Any, None]:
        """Send all of ``data``. Not cancellation safe: an unknown part may have been sent."""
        return lazy.operations.sock_sendall(self, sock, data)

    def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> Coroutine[Any, Any, int]:
        """Send one datagram; return the number of bytes sent. Cancellation safe.

        A host name in the address is resolved in a thread.
        """
        return lazy.operations.sock_sendto(self, sock, data, address)

    def sock_connect(self, sock: socket.socket, address: Any) -> Coroutine[Any, Any, None]:
        """Connect to ``address``. Not cancellation safe: close the socket after a cancellation."""
        return lazy.operations.sock_connect(self, sock, address)

    def sock_accept(self, sock: socket.socket) -> Coroutine[Any, Any, tuple[socket.socket, Any]]:
        """Accept a connection; return its non-blocking socket and the peer's address.

        Cancellation safe.
        """
        return lazy.operations.sock_accept(self, sock)

    def sock_sendfile(
        self,
        sock: socket.socket,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> Coroutine[Any, Any, int]:
        """Send at most ``count`` bytes of ``file`` from ``offset``; return the number sent.

        The position of the file, which must be open in binary mode, is then behind the bytes that
        were sent, after an error or a cancellation too. If ``os.sendfile`` cannot send the file, it
        is read in threads; without ``fallback``, SendfileNotAvailableError is raised instead. Not
        cancellation safe: a part may have been sent, up to ``file.tell()``.
        """
        from runtime.net.sockets import sendfile

        return sendfile.sock_sendfile(self, sock, file, offset, count, fallback=bool(fallback))

    # -- Datagrams ---------------------------------------------------------------------------------

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], P],
        local_addr: lazy.Address | None = None,
        remote_addr: lazy.Address | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[lazy.DatagramTransport, P]:
        """Return the transport and the protocol of a new datagram endpoint.

        The endpoint is bound to ``local_addr``, connected to ``remote_addr``, or both. Addresses
        are pairs of host and port; with ``family=socket.AF_UNIX`` they are paths. ``sock`` is a
        datagram socket to use instead. With ``allow_broadcast`` the socket is not connected, and
        ``remote_addr`` is only the default destination. The protocol's methods run in a copy of the
        current context, except when ``sendto`` calls them: then in that of its caller.

        Raises OSError if the socket cannot be made, and ValueError or TypeError for arguments that
        do not go together. Cancellation safe.
        """
        from runtime.net.datagrams import transport

        return await transport.create_datagram_endpoint(
            self,
            protocol_factory,
            local_addr,
            remote_addr,
            family=family,
            proto=proto,
            flags=flags,
            reuse_port=reuse_port,
            allow_broadcast=allow_broadcast,
            sock=sock,
        )
