"""The system calls of ``sock_recv`` and ``sock_sendall``, made at once, without an exception.

Compiled where a compiler was found. A plain ``socket.socket`` is read and written through its
descriptor; a subclass, whose methods may do something else, through its methods.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel import leaf

_recv_some: Final[Callable[[int, int], bytes | None]] = leaf.recv_some
_send: Final[Callable[[int, Any], int]] = leaf.send
_Socket: Final = socket.socket


def check_socket(sock: Any, operation: str) -> None:
    """Raise ValueError unless ``sock`` is non-blocking, TypeError for a TLS socket."""
    if sock.gettimeout() != 0:
        raise ValueError(
            f"{operation}() needs a non-blocking socket: call setblocking(False) first."
        )
    if type(sock) is not _Socket and hasattr(sock, "do_handshake"):
        raise TypeError(f"{operation}() takes a plain socket, not the TLS socket {sock!r}.")


def receive_now(sock: Any, size: Any) -> bytes | None:
    """Receive up to ``size`` bytes; ``b""`` at the end, None when there is nothing yet."""
    if type(sock) is _Socket and type(size) is int and 0 < size <= leaf.RECEIVE_SIZE:
        fd: int = sock.fileno()
        if fd >= 0:
            return _recv_some(fd, size)
    try:
        data: bytes = sock.recv(size)
    except (BlockingIOError, InterruptedError):
        return None
    return data


def send_now(sock: Any, data: Any) -> memoryview | None:
    """Send what the socket takes of ``data``; return the rest, None when there is none."""
    size = len(data) if type(data) is bytes else memoryview(data).nbytes
    fd: int = sock.fileno()
    if type(sock) is _Socket and size and fd >= 0:
        sent = _send(fd, data)
    else:
        try:
            sent = sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
    if sent == size:
        return None
    return memoryview(data).cast("B")[sent:]
