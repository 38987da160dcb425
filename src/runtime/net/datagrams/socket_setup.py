"""Socket setup for datagram endpoints: sockets, bound and connected as the arguments say."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from runtime.kernel.core import LoopCore
from runtime.net.datagrams.datagram_socket import DatagramSocket
from runtime.net.resolver import resolve
from runtime.net.sockets.operations import sock_connect
from runtime.net.sockets.unix_paths import remove_stale_socket

Address = tuple[str, int] | str
"""Host and port; for a Unix socket a path."""

_Candidate = tuple[int, int, Any, Any]
"""Family, protocol number, local address, remote address."""


async def datagram_socket(
    loop: LoopCore,
    local_addr: Address | None,
    remote_addr: Address | None,
    *,
    family: int,
    proto: int,
    flags: int,
    reuse_port: bool | None,
    allow_broadcast: bool | None,
    sock: socket.socket | None,
) -> tuple[socket.socket, Any]:
    """Return a non-blocking socket that is bound and connected as asked, and its remote address.

    With ``allow_broadcast`` the socket is not connected: the answers to a broadcast come from other
    addresses. Raises ValueError or TypeError for arguments that do not go together, and OSError if
    the socket cannot be made. Cancellation safe: no socket is left open.
    """
    if sock is not None:
        _check_given(
            loop,
            sock,
            {
                "local_addr": local_addr,
                "remote_addr": remote_addr,
                "family": family,
                "proto": proto,
                "flags": flags,
                "reuse_port": reuse_port,
                "allow_broadcast": allow_broadcast,
            },
        )
        sock.setblocking(False)
        return sock, None
    if not (local_addr or remote_addr):
        if family == 0:
            raise ValueError("unexpected address family")
        candidates: list[_Candidate] = [(family, proto, None, None)]
    elif hasattr(socket, "AF_UNIX") and family == socket.AF_UNIX:
        _prepare_unix_paths(local_addr, remote_addr)
        candidates = [(family, proto, local_addr, remote_addr)]
    else:
        candidates = await _candidates(loop, local_addr, remote_addr, family, proto, flags)
    return await _open_first(loop, candidates, bool(reuse_port), bool(allow_broadcast))


def _check_given(loop: LoopCore, sock: socket.socket, options: dict[str, Any]) -> None:
    """Raise an exception unless ``sock`` is an unused datagram socket and all options are unset."""
    if sock.type == socket.SOCK_STREAM:
        raise ValueError(f"A datagram socket was expected, got {sock!r}")
    given = ", ".join(f"{name}={value}" for name, value in options.items() if value)
    if given:
        raise ValueError(
            f"socket modifier keyword arguments can not be used when sock is specified. ({given})"
        )
    owner = loop._poller.watcher(sock.fileno())
    if isinstance(owner, DatagramSocket) and owner.sock is sock:
        raise RuntimeError(f"{sock!r} is used by another endpoint: {owner!r}")


def _prepare_unix_paths(local_addr: Any, remote_addr: Any) -> None:
    """Check the types of the paths; remove the socket that an earlier process left at the local."""
    for address in (local_addr, remote_addr):
        if address is not None and not isinstance(address, str):
            raise TypeError("string is expected")
    if local_addr:
        remove_stale_socket(local_addr)


async def _candidates(
    loop: LoopCore,
    local_addr: Address | None,
    remote_addr: Address | None,
    family: int,
    proto: int,
    flags: int,
) -> list[_Candidate]:
    """Return the addresses of each family that both names resolve to, in the resolver's order."""
    found: list[dict[tuple[int, int], Any]] = []
    order: dict[tuple[int, int], None] = {}
    for address in (local_addr, remote_addr):
        resolved: dict[tuple[int, int], Any] = {}
        if address is not None:
            if not (isinstance(address, tuple) and len(address) == 2):
                raise TypeError("2-tuple is expected")
            host, port = address
            for info in await resolve(
                loop, host, port, family=family, kind=socket.SOCK_DGRAM, proto=proto, flags=flags
            ):
                resolved[info[0], info[2]] = info[4]
            order.update(dict.fromkeys(resolved))
        found.append(resolved)
    local, remote = found
    candidates: list[_Candidate] = [
        (*key, local.get(key), remote.get(key))
        for key in order
        if (not local_addr or key in local) and (not remote_addr or key in remote)
    ]
    if not candidates:
        raise ValueError("can not get address information")
    return candidates


async def _open_first(
    loop: LoopCore, candidates: list[_Candidate], reuse_port: bool, allow_broadcast: bool
) -> tuple[socket.socket, Any]:
    """Open the first candidate that can be opened; raise the error of the first if none can."""
    errors: list[OSError] = []
    for candidate in candidates:
        try:
            return await _open(loop, candidate, reuse_port, allow_broadcast)
        except OSError as error:
            errors.append(error)
    try:
        raise errors[0]
    finally:
        errors.clear()  # Break the reference cycle of the exceptions, their tracebacks and frames.


async def _open(
    loop: LoopCore, candidate: _Candidate, reuse_port: bool, allow_broadcast: bool
) -> tuple[socket.socket, Any]:
    family, proto, local, remote = candidate
    sock = socket.socket(family, socket.SOCK_DGRAM, proto)
    try:
        sock.setblocking(False)
        if reuse_port:
            _set_reuse_port(sock)
        if allow_broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if local:
            sock.bind(local)
        if remote and not allow_broadcast:
            await sock_connect(loop, sock, remote)
    except BaseException:
        sock.close()
        raise
    return sock, remote or None


def _set_reuse_port(sock: socket.socket) -> None:
    if hasattr(socket, "SO_REUSEPORT"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            return
    raise ValueError("reuse_port is not supported by this system")
