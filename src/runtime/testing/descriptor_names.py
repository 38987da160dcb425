"""Descriptions of file descriptors for messages: the socket with its addresses, or the pipe."""

from __future__ import annotations

import os
import socket
import stat


def describe_descriptor(fd: int) -> str:
    """Return a description of descriptor ``fd`` and of its file, as far as the system tells."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            return f"file descriptor {fd}, {_describe_socket(fd)},"
        if stat.S_ISFIFO(mode):
            return f"file descriptor {fd}, a pipe,"
        return f"file descriptor {fd}, {os.readlink(f'/proc/self/fd/{fd}')},"
    except OSError:
        return f"file descriptor {fd}"


def _describe_socket(fd: int) -> str:
    sock = socket.socket(fileno=fd)
    try:
        words = f"a socket ({_name(sock.family)}, {_name(sock.type)})"
        local = sock.getsockname()
        try:
            return f"{words} from {local!r} to {sock.getpeername()!r}"
        except OSError:
            pass  # It is not connected.
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"{words} that listens at {local!r}"
        return f"{words} at {local!r}"
    finally:
        sock.detach()


def _name(number: object) -> str:
    return getattr(number, "name", None) or str(number)
