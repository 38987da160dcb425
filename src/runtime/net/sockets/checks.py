"""Checks and options of sockets that are to carry a connection."""

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
"""The option of macOS that tells how much is in the send buffer; Python has no name for it."""

_InUse = weakref.WeakKeyDictionary[socket.socket, weakref.ref[Any]]
_in_use: Final[_InUse] = weakref.WeakKeyDictionary()
"""The loop of each socket object that users know and that a connection or a server has.

Both close theirs at their end, so that nothing need be taken out: a socket object serves once.
"""

if hasattr(os, "register_at_fork"):
    # The parent's connections are none of the child's, which may give what it has inherited.
    os.register_at_fork(after_in_child=_in_use.clear)


def note_use(loop: LoopCore, sock: socket.socket) -> None:
    """Take note that a connection or a server has a socket object that users know."""
    _in_use[sock] = weakref.ref(loop)


def check_unused(sock: socket.socket) -> None:
    """Raise RuntimeError when a connection or a server has this very socket object."""
    found = _in_use.get(sock)
    loop = None if found is None else found()
    if loop is not None and not loop.is_closed() and sock.fileno() >= 0:
        raise RuntimeError(
            f"{sock!r} is in use: a connection or a server has it. A socket can be given to one "
            "only, which closes it at its end."
        )


def check_stream_socket(sock: socket.socket) -> None:
    """Raise an exception unless ``sock`` is a plain stream socket that is not in use."""
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket: give the plain socket, and ssl=.")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")
    check_unused(sock)


def check_unix_socket(sock: socket.socket) -> None:
    """Raise an exception unless ``sock`` is a Unix stream socket that is not in use."""
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    check_unused(sock)


def peername(sock: socket.socket) -> object:
    """Return the peer's address; None when there is no peer, or it has gone already."""
    try:
        return sock.getpeername()
    except OSError:
        return None


def set_no_delay(sock: socket.socket) -> None:
    """Have small writes on a TCP socket sent at once."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        # It fails when the peer is gone already; the first read will tell.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def undelivered_size(sock: socket.socket) -> int:
    """Return how many sent bytes the peer's system has not acknowledged; 0 where nobody can tell.

    On a Unix socket what was sent is with the peer at once.
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
    except OSError:
        return 0  # The connection is broken: nothing will be delivered any more.
    size: int = struct.unpack("i", answer)[0]
    return size


def failure_behind(sock: socket.socket, error: OSError) -> OSError:
    """Return what a connection was lost by, where the system knows more than ``error`` says.

    To end one direction of a connection that the peer has reset fails with "not connected".
    """
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(number, os.strerror(number)) if number else error
