"""Descriptor passing through Unix sockets: ``send_fds`` and ``recv_fds``.

Source: unix(7); ``socket.send_fds`` and ``socket.recv_fds`` in the standard library's
documentation.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.arguments.file_descriptors import HasFileno, descriptor
from runtime.net.sockets.calls import check_socket
from runtime.net.sockets.readiness import wait_readable, wait_writable

# With this flag the system marks received descriptors close-on-exec; 0 if it lacks the flag.
_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def _check_passing(sock: socket.socket, operation: str) -> None:
    check_socket(sock, operation)
    if sock.family != getattr(socket, "AF_UNIX", None):
        raise ValueError(
            f"{operation}() expected a Unix socket, got {sock!r}: only these can pass descriptors"
        )


async def send_fds(
    sock: socket.socket, buffers: Iterable[Buffer], fds: Sequence[int | HasFileno]
) -> int:
    """Send descriptors through a Unix socket, along with the bytes of ``buffers``.

    The receiver gets duplicates: your descriptors may be closed once this function has returned,
    and not before. ``fds`` are descriptors, or objects with ``fileno()``. Returns the number of
    bytes sent, which may be fewer than given. The descriptors were sent with the first byte, so
    send the remaining bytes without them. Raises ValueError for a blocking socket, for a socket
    other than a Unix socket, and for a stream socket if there are no bytes, because the descriptors
    would be lost. Cancellation safe: a cancelled call has sent nothing.

    Source: the standard library's documentation of ``socket.send_fds``.
    """
    _check_passing(sock, "send_fds")
    parts = list(buffers)
    if (
        fds
        and sock.type == socket.SOCK_STREAM
        and not any(memoryview(part).nbytes for part in parts)
    ):
        raise ValueError(
            "send_fds() needs at least one byte to send descriptors with through a stream socket"
        )
    while True:
        # Determined for each attempt: if an object was closed during the wait, its descriptor
        # may belong to another file.
        numbers = array.array("i", [descriptor(fd) for fd in fds])
        try:
            return sock.sendmsg(parts, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        except (BlockingIOError, InterruptedError):
            await wait_writable(sock)


async def recv_fds(
    sock: socket.socket, bufsize: int, maxfds: int
) -> tuple[bytes, list[int], int, Any]:
    """Receive up to ``bufsize`` bytes and ``maxfds`` descriptors from a Unix socket.

    Returns the bytes, the descriptors, the message's flags, and the sender's address. The caller
    owns the descriptors, which are close-on-exec. If more than ``maxfds`` were sent, the others are
    closed, and the flags contain ``socket.MSG_CTRUNC``. Raises ValueError for a blocking socket,
    and for a socket other than a Unix socket. Cancellation safe: a cancelled call has received
    nothing.

    Source: the standard library's documentation of ``socket.recv_fds``.

    >>> import os, socket, runtime
    >>> async def pass_the_end_of_a_pipe():
    ...     one, two = socket.socketpair()
    ...     read_end, write_end = os.pipe()
    ...     with one, two, open(read_end, "rb") as reader:
    ...         one.setblocking(False)
    ...         two.setblocking(False)
    ...         await runtime.send_fds(one, [b"here you are"], [write_end])
    ...         os.close(write_end)
    ...         data, fds, flags, address = await runtime.recv_fds(two, 100, maxfds=1)
    ...         with open(fds[0], "wb") as writer:
    ...             writer.write(b"through the pipe")
    ...         return data, reader.read()
    >>> runtime.run(pass_the_end_of_a_pipe())
    (b'here you are', b'through the pipe')
    """
    _check_passing(sock, "recv_fds")
    if maxfds < 0:
        raise ValueError(f"maxfds must not be negative, got {maxfds}")
    # CMSG_LEN and not CMSG_SPACE, whose size is aligned and may have space for one descriptor more.
    space = socket.CMSG_LEN(maxfds * array.array("i").itemsize)
    while True:
        try:
            data, ancillary, flags, address = sock.recvmsg(bufsize, space, _CLOSE_ON_EXEC)
        except (BlockingIOError, InterruptedError):
            await wait_readable(sock)
            continue
        # There is no ``await`` from here on, so that a cancellation cannot lose a descriptor.
        return data, _received(ancillary, maxfds), flags, address


def _received(ancillary: list[tuple[int, int, bytes]], maxfds: int) -> list[int]:
    """Return the descriptors that came with a message, close-on-exec."""
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            # The content of a truncated message may end in the middle of a number.
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    for fd in fds[maxfds:]:
        os.close(fd)
    if not _CLOSE_ON_EXEC:
        for fd in fds[:maxfds]:
            os.set_inheritable(fd, False)
    return list(fds[:maxfds])
