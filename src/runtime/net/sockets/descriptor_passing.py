"""Passing descriptors through a Unix socket.

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

# The system marks received descriptors close-on-exec where it knows this flag.
_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def _check_passing(sock: socket.socket, operation: str) -> None:
    check_socket(sock, operation)
    if sock.family != getattr(socket, "AF_UNIX", None):
        raise ValueError(
            f"{operation}() needs a Unix socket, not {sock!r}: descriptors do not leave the host."
        )


async def send_fds(
    sock: socket.socket, buffers: Iterable[Buffer], fds: Sequence[int | HasFileno]
) -> int:
    """Send descriptors through a Unix socket, along with the bytes of ``buffers``.

    The receiver gets duplicates: close yours when this has returned, if you need them no more, and
    not before. ``fds`` are descriptors, or objects with ``fileno()``. Returns how many bytes were
    sent, which may be fewer than there are; the descriptors went with the first of them, so send
    the rest without. Raises ValueError for a blocking socket, one that is no Unix socket, or a
    stream socket without any bytes, which would lose the descriptors. Cancellation safe: either
    everything that it returns was sent, or nothing.

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
            "send_fds() needs at least one byte to send descriptors with through a stream socket."
        )
    while True:
        # Anew each time: an object that was closed meanwhile must not send somebody else's.
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
    owns the descriptors, which are close-on-exec. What does not fit into ``maxfds`` is closed, and
    the flags then have ``socket.MSG_CTRUNC``. Raises ValueError for a blocking socket, and for one
    that is no Unix socket. Cancellation safe: what was not returned is still in the socket.

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
        raise ValueError(f"maxfds must not be negative: {maxfds}.")
    # Not the aligned size of CMSG_SPACE, in which there may be room for one more.
    space = socket.CMSG_LEN(maxfds * array.array("i").itemsize)
    while True:
        try:
            data, ancillary, flags, address = sock.recvmsg(bufsize, space, _CLOSE_ON_EXEC)
        except (BlockingIOError, InterruptedError):
            await wait_readable(sock)
            continue
        # Nothing is awaited from here on: no cancellation can lose a descriptor.
        return data, _received(ancillary, maxfds), flags, address


def _received(ancillary: list[tuple[int, int, bytes]], maxfds: int) -> list[int]:
    """Return the descriptors that came with a message, close-on-exec."""
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            # A message that was cut off may end in the middle of a number.
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    for fd in fds[maxfds:]:
        os.close(fd)
    if not _CLOSE_ON_EXEC:
        for fd in fds[:maxfds]:
            os.set_inheritable(fd, False)
    return list(fds[:maxfds])
