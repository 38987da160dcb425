"""Socket operations of the loop: ``sock_recv``, ``sock_sendall`` and the other ``sock_*`` methods.

Each tries its system call at once, and waits only if the call would block. The socket should be
non-blocking. In debug mode another socket is refused, as in asyncio. Without debug mode, a blocking
socket is used only when the system reports that it is ready, so that its calls do not block the
loop.

Source: "Working with socket objects directly" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.core import LoopCore
from runtime.kernel.descriptors import Readiness, readable, writable
from runtime.net.resolver import may_name_host, needs_lookup, resolve, with_flow_and_scope
from runtime.net.sockets.calls import (
    is_blocking,
    readable_again,
    receive,
    send,
    temporarily_non_blocking,
)

# Seconds between attempts to connect to a Unix socket whose listen queue is full.
_FIRST_DELAY: Final = 0.001
_LONGEST_DELAY: Final = 0.05


async def sock_recv(loop: LoopCore, sock: socket.socket, nbytes: int) -> bytes:
    """Return up to ``nbytes`` received bytes; ``b""`` at the end. Cancellation safe."""
    outcome = receive(loop, sock, nbytes)
    while isinstance(outcome, Readiness):
        await outcome
        outcome = receive(loop, sock, nbytes)
    return outcome


async def sock_recv_into(loop: LoopCore, sock: socket.socket, buf: Any) -> int:
    """Receive into a writable buffer; return the number of bytes. Cancellation safe."""
    if is_blocking(loop, sock, "sock_recv_into"):
        await readable(loop, sock.fileno())
    while True:
        try:
            return sock.recv_into(buf)
        except (BlockingIOError, InterruptedError):
            await readable_again(loop, sock)


async def sock_recvfrom(loop: LoopCore, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
    """Return one datagram of up to ``bufsize`` bytes, and its sender. Cancellation safe."""
    if is_blocking(loop, sock, "sock_recvfrom"):
        await readable(loop, sock.fileno())
    while True:
        try:
            return sock.recvfrom(bufsize)
        except (BlockingIOError, InterruptedError):
            await readable_again(loop, sock)


async def sock_recvfrom_into(
    loop: LoopCore, sock: socket.socket, buf: Any, nbytes: int = 0
) -> tuple[int, Any]:
    """Receive one datagram into a buffer; return its size and its sender. Cancellation safe."""
    if is_blocking(loop, sock, "sock_recvfrom_into"):
        await readable(loop, sock.fileno())
    if not nbytes:
        nbytes = memoryview(buf).nbytes
    while True:
        try:
            return sock.recvfrom_into(buf, nbytes)
        except (BlockingIOError, InterruptedError):
            await readable_again(loop, sock)


async def sock_sendall(loop: LoopCore, sock: socket.socket, data: Buffer) -> None:
    """Send all of ``data``.

    Not cancellation safe: after a cancellation an unknown part may have been sent.
    """
    rest = send(loop, sock, data)
    while rest is not None:
        await writable(loop, sock.fileno())
        rest = send(loop, sock, rest)


async def sock_sendto(loop: LoopCore, sock: socket.socket, data: Buffer, address: Any) -> int:
    """Send one datagram to ``address``; return the number of bytes sent. Cancellation safe.

    A host name in the address is resolved in a thread.
    """
    if is_blocking(loop, sock, "sock_sendto"):
        await writable(loop, sock.fileno())
    if may_name_host(address) and needs_lookup(sock.family, address):
        found = await resolve(
            loop, address[0], address[1], family=sock.family, kind=sock.type, proto=sock.proto
        )
        address = with_flow_and_scope(found[0][4], address[2:])
    while True:
        try:
            return sock.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            await writable(loop, sock.fileno())


async def sock_connect(loop: LoopCore, sock: socket.socket, address: Any) -> None:
    """Connect to ``address``; a host name in it is resolved in a thread.

    Not cancellation safe: after a cancellation the system still tries to connect; close the socket.
    """
    with temporarily_non_blocking(loop, sock, "sock_connect"):
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            host, port = address[:2]
            found = await resolve(
                loop, host, port, family=sock.family, kind=sock.type, proto=sock.proto
            )
            address = with_flow_and_scope(found[0][4], address[2:])
        if sock.family == getattr(socket, "AF_UNIX", None):
            await _connect_unix(loop, sock, address)
        else:
            await _connect(loop, sock, address)


async def _connect(loop: LoopCore, sock: socket.socket, address: Any) -> None:
    try:
        sock.connect(address)
        return
    except (BlockingIOError, InterruptedError):
        pass
    await _connected(loop, sock, address)


async def _connect_unix(loop: LoopCore, sock: socket.socket, address: Any) -> None:
    """Connect; try again, at growing intervals, while the server's listen queue is full.

    Linux reports a full queue by EAGAIN, and then has no event for the moment when the queue has
    space again: epoll reports the unconnected socket as writable all the time.
    """
    delay = _FIRST_DELAY
    while True:
        try:
            sock.connect(address)
            return
        except (BlockingIOError, InterruptedError) as error:
            if error.errno != errno.EAGAIN:
                break
        await loop._sleep_future(delay)
        delay = min(2 * delay, _LONGEST_DELAY)
    await _connected(loop, sock, address)


async def _connected(loop: LoopCore, sock: socket.socket, address: Any) -> None:
    """Wait until the connection attempt in progress succeeds. Raises OSError if it fails."""
    await writable(loop, sock.fileno())
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, f"Connect call failed {address}: {os.strerror(code)}")


async def sock_accept(loop: LoopCore, sock: socket.socket) -> tuple[socket.socket, Any]:
    """Accept a connection; return its non-blocking socket and the peer's address.

    Cancellation safe.
    """
    if is_blocking(loop, sock, "sock_accept"):
        await readable(loop, sock.fileno())
    while True:
        try:
            connection, address = sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            await readable_again(loop, sock)
            continue
        connection.setblocking(False)
        return connection, address
