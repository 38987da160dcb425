"""The methods of the loop that are about the network: asyncio's, for transports and sockets.

They are thin: each hands over to the module that has the subject, which is imported when it is
first asked for: connections, TLS and datagrams are half of the package, and a program that has no
use for them starts without. Waiting for sockets of the user's is small, and at hand.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from runtime import net
from runtime.kernel.arguments.seconds import Seconds
from runtime.kernel.core import LoopCore
from runtime.net import resolver
from runtime.net.sockets import operations

P = TypeVar("P", bound=asyncio.BaseProtocol)


class NetworkLoop(LoopCore):
    """A loop with the network."""

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
    ) -> tuple[net.Transport, P]:
        """Connect to ``host`` and ``port``; return the transport and ``protocol_factory()``.

        The arguments are those of ``open_connection``. The protocol's ``connection_made`` was
        called, and with ``ssl`` the handshake is over. Raises OSError when there is no connection
        to be had, ValueError for arguments that do not go together. Cancellation safe: a connection
        that was being made is given up.

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
        backlog: int = 100,
        ssl: ssl.SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
        start_serving: bool = True,
    ) -> net.Server:
        """Listen on ``host`` and ``port``; every client gets a ``protocol_factory()``.

        The arguments are those of ``start_server``. Raises OSError when an address cannot be bound,
        ValueError for arguments that do not go together.

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
    ) -> tuple[net.Transport, P]:
        """Connect to the Unix socket at ``path``; as ``create_connection`` otherwise.

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
        backlog: int = 100,
        ssl: ssl.SSLContext | None = None,
        ssl_handshake_timeout: Seconds | None = None,
        ssl_shutdown_timeout: Seconds | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = True,
    ) -> net.Server:
        """Listen on the Unix socket at ``path``; as ``create_server`` otherwise.

        The file is removed when the server is closed, unless ``cleanup_socket`` is False. That of
        a socket given as ``sock`` is left to whoever made it.

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
    ) -> tuple[net.Transport, P]:
        """Make a server's side of a connection of a socket that was accepted elsewhere.

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
    ) -> net.Transport:
        """Go on with TLS on the connection of ``transport``; return the transport that encrypts.

        The old one must not be used any more. What an ``asyncio.StreamReader`` has received and
        nobody has read is the beginning of the handshake; any other protocol must see to it that
        it was not given what belongs to TLS: pause reading. Raises OSError when the handshake
        fails. Not cancellation safe: cancelled, it aborts the connection.

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
        host: resolver.Host,
        port: resolver.Port,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Return the addresses of a host, as ``socket.getaddrinfo`` does; raise what it raises.

        Names are resolved in a thread of the pool for that; a host that is an IP address needs
        none. Cancellation safe, but the thread goes on.
        """
        return await resolver.getaddrinfo(self, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Return the host and the service of an address, as ``socket.getnameinfo`` does.

        It asks in a thread of the default executor, unless ``flags`` want the numbers of both.
        Cancellation safe, but the thread goes on.
        """
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
        """Send ``file``, open in binary mode, through ``transport``: of a stream, or a protocol's.

        From ``offset``, at most ``count`` bytes, after what was written before. Where the system
        cannot send the file itself (with TLS, or when it is not a plain file, as ``open()`` makes
        it) it is read in threads; or, without ``fallback``, SendfileNotAvailableError is raised.
        Returns how many bytes were sent; the file's position is behind them. Raises RuntimeError
        for a transport that is closing, or that files cannot be sent through. Not cancellation
        safe: a part may have been sent; ``file.tell()`` says how much.

        Source: the standard library's documentation of ``loop.sendfile``.
        """
        from runtime.net.setup import protocol_api

        return await protocol_api.sendfile(self, transport, file, offset, count, fallback)

    # -- Sockets -----------------------------------------------------------------------------------

    def sock_recv(self, sock: socket.socket, nbytes: int) -> Coroutine[Any, Any, bytes]:
        """Receive up to ``nbytes`` bytes; ``b""`` at the end. Cancellation safe."""
        return operations.sock_recv(self, sock, nbytes)

    def sock_recv_into(self, sock: socket.socket, buf: Any) -> Coroutine[Any, Any, int]:
        """Receive into a writable buffer; return the number of bytes. Cancellation safe."""
        return operations.sock_recv_into(self, sock, buf)

    def sock_recvfrom(
        self, sock: socket.socket, bufsize: int
    ) -> Coroutine[Any, Any, tuple[bytes, Any]]:
        """Receive one datagram of up to ``bufsize`` bytes, and its sender. Cancellation safe."""
        return operations.sock_recvfrom(self, sock, bufsize)

    def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> Coroutine[Any, Any, tuple[int, Any]]:
        """Receive one datagram into a buffer; return its size and sender. Cancellation safe."""
        return operations.sock_recvfrom_into(self, sock, buf, nbytes)

    def sock_sendall(self, sock: socket.socket, data: Any) -> Coroutine[Any, Any, None]:
        """Send all of ``data``. Not cancellation safe: nobody knows how much was sent."""
        return operations.sock_sendall(self, sock, data)

    def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> Coroutine[Any, Any, int]:
        """Send one datagram; return the number of bytes sent. Cancellation safe.

        A host name in the address is resolved in a thread.
        """
        return operations.sock_sendto(self, sock, data, address)

    def sock_connect(self, sock: socket.socket, address: Any) -> Coroutine[Any, Any, None]:
        """Connect to ``address``. Not cancellation safe: the attempt goes on; close the socket."""
        return operations.sock_connect(self, sock, address)

    def sock_accept(self, sock: socket.socket) -> Coroutine[Any, Any, tuple[socket.socket, Any]]:
        """Accept a connection: its socket, non-blocking, and the peer's address.

        Cancellation safe.
        """
        return operations.sock_accept(self, sock)

    def sock_sendfile(
        self,
        sock: socket.socket,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> Coroutine[Any, Any, int]:
        """Send ``file``, at most ``count`` bytes from ``offset``; return how many were sent.

        The file, in binary mode, is then positioned behind what was sent, also after an error or
        a cancellation. Where ``os.sendfile`` cannot send it, it is read in threads and sent, or,
        without ``fallback``, SendfileNotAvailableError is raised.
        """
        from runtime.net.sockets import sendfile

        return sendfile.sock_sendfile(self, sock, file, offset, count, fallback=bool(fallback))

    # -- Datagrams ---------------------------------------------------------------------------------

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], P],
        local_addr: net.Address | None = None,
        remote_addr: net.Address | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[net.DatagramTransport, P]:
        """Return the transport and the protocol of a datagram endpoint.

        It is bound to ``local_addr``, connected to ``remote_addr``, or both: pairs of host and
        port, or, with ``family=socket.AF_UNIX``, paths. ``sock`` is a datagram socket to use
        instead. With ``allow_broadcast`` it is not connected, and ``remote_addr`` only where
        datagrams go by default. The protocol is called in a copy of the current context, by
        ``sendto`` in its caller's.

        Raises OSError when there is no such socket to be had, ValueError and TypeError for
        arguments that do not go together. Cancellation safe.
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
