"""Checks and options of sockets for connections and servers."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import sys
import weakref
from typing import Any, Final

from runtime.kernel.core import LoopCore

if sys.platform != "win32":
    import fcntl
    import termios

_SO_NWRITE: Final = 0x1024
"""The socket option of macOS for the size of the unacknowledged data; Python has no name for it."""

_InUse = weakref.WeakKeyDictionary[socket.socket, weakref.ref[Any]]
_in_use: Final[_InUse] = weakref.WeakKeyDictionary()
"""The loop of each socket object that a connection or a server uses and that user code has too.

Entries need not be removed: a connection or server closes its socket at its end, and a closed
socket object cannot be used again.
"""

if hasattr(os, "register_at_fork"):
    # The connections of the parent process do not exist in the child, which may use the sockets
    # that it has inherited.
    os.register_at_fork(after_in_child=_in_use.clear)


def mark_in_use(loop: LoopCore, sock: socket.socket) -> None:
    """Note that a connection or a server of ``loop`` uses ``sock``, which user code has too."""
    _in_use[sock] = weakref.ref(loop)


def check_unused(sock: socket.socket) -> None:
    """Raise RuntimeError if a connection or a server uses this socket object."""
    found = _in_use.get(sock)
    loop = None if found is None else found()
    if loop is not None and not loop.is_closed() and sock.fileno() >= 0:
        raise RuntimeError(
            f"{sock!r} is in use by a connection or a server: only one of these can use a socket "
            "object, and closes it in the end"
        )


def check_stream_socket(sock: socket.socket) -> None:
    """Raise an exception unless ``sock`` is a plain stream socket that is not in use."""
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket: give the plain socket, and ssl=")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")
    check_unused(sock)


def check_unix_socket(sock: socket.socket) -> None:
    """Raise an exception unless ``sock`` is a Unix stream socket that is not in use."""
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    check_unused(sock)


def peername(sock: socket.socket) -> object:
    """Return the peer's address; None if there is no peer, or if it has disconnected already."""
    try:
        return sock.getpeername()
    except OSError:
        return None


def set_no_delay(sock: socket.socket) -> None:
    """Set TCP_NODELAY on a TCP socket, so that small writes are sent at once."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        # It fails if the peer has disconnected already; the first read will report that.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def undelivered_size(sock: socket.socket) -> int:
    """Return the number of sent bytes that the peer's system has not acknowledged.

    Returns 0 if the system does not report it, and for a Unix socket, where sent bytes are
    delivered at once.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return 0
    try:
        if sys.platform == "linux":
            answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        elif sys.platform == "darwin":
            answer = sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE, 4)
        else:
            return 0
    except (OSError, ValueError):
        # The connection is broken, or other code has closed the socket, whose descriptor is then
        # -1: no more bytes will be delivered.
        return 0
    size: int = struct.unpack("i", answer)[0]
    return size


def pending_socket_error(sock: socket.socket, error: OSError) -> OSError:
    """Return the error that the connection failed with, or ``error`` if the system has none.

    It is for ``shutdown()`` on a connection that the peer has reset: that call fails with ENOTCONN,
    while ECONNRESET is the reason.
    """
    try:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError:
        return error  # Other code has closed the descriptor.
    return OSError(number, os.strerror(number)) if number else error
