"""The system calls of ``sock_recv`` and ``sock_sendall``, made at once, without an exception.

Compiled where a compiler was found. A plain ``socket.socket`` is read and written through its
descriptor; a subclass, whose methods may do something else, through its methods.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel import leaf
from runtime.kernel.core import LoopCore
from runtime.kernel.descriptors import DescriptorWatcher, Readiness, readable

_recv_some: Final[Callable[[int, int], bytes | None]] = leaf.recv_some
_send: Final[Callable[[int, Any], int]] = leaf.send
_Socket: Final = socket.socket
_MOST: Final = leaf.LARGE_RECEIVE_SIZE


def check_socket(sock: Any, operation: str) -> None:
    """Raise ValueError unless ``sock`` is non-blocking, TypeError for a TLS socket."""
    if sock.gettimeout() != 0:
        raise ValueError(
            f"{operation}() needs a non-blocking socket: call setblocking(False) first."
        )
    if type(sock) is not _Socket and hasattr(sock, "do_handshake"):
        raise TypeError(f"{operation}() takes a plain socket, not the TLS socket {sock!r}.")


def receive(loop: LoopCore, sock: Any, size: Any) -> bytes | Readiness:
    """Receive up to ``size`` bytes, ``b""`` at the end; or return what to await before another try.

    Raises what ``check_socket`` raises, and OSError.
    """
    if type(sock) is not _Socket or type(size) is not int or not 0 < size <= _MOST:
        return _receive_by_method(loop, sock, size)
    if sock.gettimeout() != 0:
        check_socket(sock, "sock_recv")
    fd: int = sock.fileno()
    if fd < 0:
        return _receive_by_method(loop, sock, size)
    watcher = loop.poller.watcher(fd)
    if not isinstance(watcher, DescriptorWatcher):
        data = _recv_some(fd, size)
        return data if data is not None else readable(loop, fd)
    if watcher.emptied_in == loop.turns:
        return readable(loop, fd)
    data = _recv_some(fd, size)
    if data is None:
        return readable(loop, fd)
    if len(data) < size:
        # It is empty now. A task that comes back in this turn need not try; if more has come
        # meanwhile, the poll between this turn and the next reports it.
        watcher.emptied_in = loop.turns
    return data


def _receive_by_method(loop: LoopCore, sock: Any, size: Any) -> bytes | Readiness:
    check_socket(sock, "sock_recv")
    try:
        data: bytes = sock.recv(size)
    except (BlockingIOError, InterruptedError):
        return readable(loop, sock.fileno())
    return data


def send(sock: Any, data: Any) -> memoryview | None:
    """Send what the socket takes of ``data``; return the rest, None when there is none.

    Raises what ``check_socket`` raises, and OSError.
    """
    size = len(data) if type(data) is bytes else memoryview(data).nbytes
    if sock.gettimeout() != 0:
        check_socket(sock, "sock_sendall")
    fd: int = sock.fileno()
    if type(sock) is _Socket and size and fd >= 0:
        sent = _send(fd, data)
    else:
        check_socket(sock, "sock_sendall")
        try:
            sent = sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
    if sent == size:
        return None
    return memoryview(data).cast("B")[sent:]
