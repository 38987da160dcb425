"""Sockets as such: what they must be to carry a connection, and what is asked of them."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl


def check_stream_socket(sock: socket.socket) -> None:
    """Raise ValueError or TypeError unless ``sock`` is a plain stream socket."""
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket: give the plain socket, and ssl=.")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


def check_unix_socket(sock: socket.socket) -> None:
    """Raise ValueError unless ``sock`` is a Unix stream socket."""
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")


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


def failure_behind(sock: socket.socket, error: OSError) -> OSError:
    """Return what a connection was lost by, where the system knows more than ``error`` says.

    To end one direction of a connection that the peer has reset fails with "not connected".
    """
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(number, os.strerror(number)) if number else error
