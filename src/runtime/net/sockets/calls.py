"""System calls of ``sock_recv`` and ``sock_sendall``: attempts that raise nothing if not ready.

This module is compiled in the compiled build. A plain ``socket.socket`` is read and written through
its descriptor; a subclass through its methods, which it may have overridden.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.descriptors import DescriptorWatcher, Readiness, readable
from runtime.kernel.native import accelerator

_recv_some: Final[Callable[[int, int], bytes | None]] = accelerator.recv_some
_send: Final[Callable[[int, Any], int]] = accelerator.send
_Socket: Final = socket.socket
# Functions, which compiled code calls without looking the method up in the class of each socket.
_fileno: Final[Callable[[Any], int]] = socket.socket.fileno
_gettimeout: Final[Callable[[Any], float | None]] = socket.socket.gettimeout
_MOST: Final = accelerator.LARGE_RECEIVE_SIZE


def check_socket(sock: Any, operation: str) -> None:
    """Raise ValueError unless ``sock`` is non-blocking, TypeError for a TLS socket."""
    if sock.gettimeout() != 0:
        raise ValueError(
            f"{operation}() needs a non-blocking socket: call setblocking(False) first"
        )
    if type(sock) is not _Socket and hasattr(sock, "do_handshake"):
        raise TypeError(f"{operation}() expected a plain socket, got the TLS socket {sock!r}")


def _descriptor(sock: Any) -> int:
    """Return the descriptor of a plain, open, non-blocking socket; -1 for any other socket."""
    if type(sock) is not _Socket:
        return -1
    timeout = _gettimeout(sock)
    return _fileno(sock) if timeout is not None and timeout == 0.0 else -1


def is_blocking(loop: LoopCore, sock: Any, operation: str) -> bool:
    """Return whether calls of ``sock`` would block the loop: it is blocking, or has a timeout.

    In debug mode it raises ValueError for such a socket, as asyncio does, and TypeError for a TLS
    socket.
    """
    if sock.gettimeout() == 0 or loop._debug:
        check_socket(sock, operation)
        return False
    return True


def _is_ready(sock: Any, event: int) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), event)
    return bool(poll.poll(0))


@contextlib.contextmanager
def temporarily_non_blocking(loop: LoopCore, sock: socket.socket, operation: str) -> Iterator[None]:
    """Make a socket non-blocking inside a ``with`` block. Raises like ``is_blocking``."""
    if not is_blocking(loop, sock, operation):
        yield
        return
    timeout = sock.gettimeout()
    sock.setblocking(False)
    try:
        yield
    finally:
        if sock.fileno() >= 0:
            sock.settimeout(timeout)


def receive(loop: LoopCore, sock: Any, size: Any) -> bytes | Readiness:
    """Return up to ``size`` received bytes, ``b""`` at the end; or an awaitable for readiness.

    After awaiting it, call again. Raises OSError, and the exceptions of ``is_blocking``.
    """
    fd = _descriptor(sock)
    if fd < 0 or type(size) is not int or not 0 < size <= _MOST:
        return _receive_by_method(loop, sock, size)
    watcher = loop._poller.watcher(fd)
    if not isinstance(watcher, DescriptorWatcher):
        data = _recv_some(fd, size)
        return data if data is not None else readable(loop, fd, sock)
    if watcher.emptied_in == loop._turns:
        return readable(loop, fd, sock)
    data = _recv_some(fd, size)
    if data is None:
        return readable(loop, fd, sock)
    if len(data) < size:
        # The socket is empty now, and another attempt in this turn can be left out: if more bytes
        # come in the meantime, the poll between this turn and the next reports them.
        watcher.emptied_in = loop._turns
    return data


def readable_again(loop: LoopCore, sock: Any) -> Readiness:
    """Return an awaitable for the readiness of a socket, after an attempt has found nothing.

    After awaiting it, try again: the registration of a non-blocking socket is kept between its
    waits, and an event may be of an earlier one.
    """
    return readable(loop, sock.fileno(), sock if _descriptor(sock) >= 0 else None)


def _receive_by_method(loop: LoopCore, sock: Any, size: Any) -> bytes | Readiness:
    if is_blocking(loop, sock, "sock_recv") and not _is_ready(sock, select.POLLIN):
        return readable(loop, sock.fileno())
    try:
        data: bytes = sock.recv(size)
    except (BlockingIOError, InterruptedError):
        return readable(loop, sock.fileno())
    return data


def send(loop: LoopCore, sock: Any, data: Any) -> memoryview | None:
    """Send as much of ``data`` as the socket accepts; return the rest, or None if all was sent.

    Raises OSError, and the exceptions of ``is_blocking``.
    """
    size = len(data) if type(data) is bytes else memoryview(data).nbytes
    fd = _descriptor(sock)
    if fd >= 0 and size:
        sent = _send(fd, data)
    else:
        sent = _send_by_method(loop, sock, data)
    if sent == size:
        return None
    return memoryview(data).cast("B")[sent:]


def _send_by_method(loop: LoopCore, sock: Any, data: Any) -> int:
    waits = is_blocking(loop, sock, "sock_sendall")
    try:
        if waits:
            sent: int = (
                sock.send(data, socket.MSG_DONTWAIT) if _is_ready(sock, select.POLLOUT) else 0
            )
        else:
            sent = sock.send(data)
    except (BlockingIOError, InterruptedError):
        return 0
    return sent
