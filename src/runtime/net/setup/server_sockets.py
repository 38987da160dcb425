"""Listening sockets for servers: a given socket, or new sockets bound to addresses.

Source: ``loop.create_server`` in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from runtime.kernel.core import LoopCore
from runtime.net.resolver import AddressInfo, bind_error_message, check_host, resolve
from runtime.net.setup.server import Server
from runtime.net.setup.unix_sockets import bind_unix, socket_file
from runtime.net.sockets.checks import check_stream_socket, check_unix_socket, mark_in_use


async def tcp_server(
    loop: LoopCore,
    host: str | bytes | Sequence[str | bytes] | None,
    port: int | str | None,
    sock: socket.socket | None,
    backlog: int,
    *,
    family: int,
    flags: int,
    reuse_address: bool | None,
    reuse_port: bool | None,
    keep_alive: bool | None,
) -> Server:
    """Return a server on ``sock``, or on new sockets for every address of ``host``.

    Raises ValueError or TypeError for a wrong ``sock``, and for arguments that do not go together.
    """
    if sock is not None:
        if host is not None or port is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        check_stream_socket(sock)
        sock.setblocking(False)
        mark_in_use(loop, sock)
        return Server(loop, [sock], backlog)
    if host is None and port is None:
        raise ValueError("Neither host/port nor sock were specified")
    sockets = await _bind_tcp(
        loop,
        host,
        port,
        family=family,
        flags=flags,
        reuse_address=reuse_address,
        reuse_port=reuse_port,
        keep_alive=keep_alive,
    )
    return Server(loop, sockets, backlog)


def unix_server(
    loop: LoopCore, path: Any, sock: socket.socket | None, backlog: int, cleanup_socket: bool
) -> Server:
    """Return a server on ``sock``, or on a new socket at ``path``.

    With ``cleanup_socket`` the server removes the file of the new socket. It does not remove the
    file of a given socket, which belongs to the code that made it, such as a service manager that
    passes the same socket to the next process.
    """
    file = None
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        sock = bind_unix(path)
        if cleanup_socket:
            file = socket_file(sock)
    elif sock is None:
        raise ValueError("path was not specified, and no sock specified")
    else:
        check_unix_socket(sock)
        sock.setblocking(False)
    mark_in_use(loop, sock)
    return Server(loop, [sock], backlog, file)


async def _bind_tcp(
    loop: LoopCore,
    host: str | bytes | Sequence[str | bytes] | None,
    port: int | str | None,
    *,
    family: int,
    flags: int,
    reuse_address: bool | None,
    reuse_port: bool | None,
    keep_alive: bool | None,
) -> list[socket.socket]:
    """Return bound, non-blocking sockets for every address of ``host``; all interfaces for None."""
    _check_hosts(host)
    hosts: Iterable[str | bytes | None]
    if host is None or host == "":
        hosts = [None]
    elif isinstance(host, (str, bytes)):
        hosts = [host]
    else:
        hosts = host
    infos: list[AddressInfo] = []
    for name in hosts:
        for info in await resolve(loop, name, port, family=family, flags=flags):
            if info not in infos:
                infos.append(info)
    if reuse_address is None:
        reuse_address = os.name == "posix" and sys.platform != "cygwin"
    sockets: list[socket.socket] = []
    try:
        for info in infos:
            bound = _bind(info, reuse_address, bool(reuse_port), bool(keep_alive))
            if bound is not None:
                sockets.append(bound)
        if not sockets:
            raise OSError(f"could not bind on any address out of {[info[4] for info in infos]!r}")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _check_hosts(host: object) -> None:
    if not isinstance(host, Iterable):
        check_host(host)


def _bind(
    info: AddressInfo, reuse_address: bool, reuse_port: bool, keep_alive: bool
) -> socket.socket | None:
    family, kind, proto, _, address = info
    try:
        sock = socket.socket(family, kind, proto)
    except OSError:
        return None  # The resolver returns addresses of this family, but the system lacks it.
    try:
        sock.setblocking(False)
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port and family in (socket.AF_INET, socket.AF_INET6):  # The families with ports.
            if not hasattr(socket, "SO_REUSEPORT"):
                raise ValueError("reuse_port is not supported by this system")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if keep_alive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if family == socket.AF_INET6 and hasattr(socket, "IPPROTO_IPV6"):
            # Otherwise the IPv6 socket would also claim the port on IPv4, and binding there fail.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET6:
                sock.close()
                return None  # The kernel has IPv6, but it is disabled on this host.
            raise OSError(
                error.errno,
                bind_error_message(address, error),
            ) from None
    except BaseException:
        sock.close()
        raise
    return sock
