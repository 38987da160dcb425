"""Unix sockets: binding to a path, connecting to one, and passing descriptors.

Source: unix(7); "Unix Sockets" and ``create_unix_server`` in the standard library's documentation
of asyncio; ``socket.send_fds`` and ``socket.recv_fds``.
"""

from __future__ import annotations

import array
import errno
import logging
import os
import socket
import stat
from collections.abc import Iterable, Sequence
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.reports import HasFileno, descriptor
from runtime.net.readiness import wait_readable, wait_writable
from runtime.net.socket_calls import check_socket
from runtime.net.sockets import Buffer, sock_connect

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# The system marks received descriptors close-on-exec where it knows this flag.
_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_logger: Final = logging.getLogger("asyncio")


def is_abstract(path: str | bytes) -> bool:
    """Return whether a Unix address is a name of Linux's own, which is not in the file system."""
    return path[:1] in ("\0", b"\0")


def unix_path(path: Path) -> str | bytes:
    """Return the path of a Unix socket as text or bytes. Raises ValueError when it is empty."""
    found: str | bytes = os.fspath(path)
    if not found:
        raise ValueError("The path of a Unix socket must not be empty.")
    return found


def bind_unix(path: Path, *, mode: int | None = None) -> socket.socket:
    """Return a non-blocking Unix stream socket bound to ``path``, for the caller to listen on.

    ``path`` is a file name, or an abstract name that begins with a NUL. A socket that is there
    already, in use or not, is removed and replaced, as asyncio does. ``mode`` holds the permissions
    of the new file, by default what the umask leaves. Raises OSError with EADDRINUSE when a file
    that is no socket has the name, or another process the abstract name.
    """
    address = unix_path(path)
    abstract = is_abstract(address)
    if abstract and mode is not None:
        raise ValueError(f"The abstract name {address!r} is no file: it has no mode.")
    if not abstract:
        _remove_stale(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(address)
        if mode is not None:
            # Nobody can connect before the caller listens.
            os.chmod(address, mode)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, f"Address {address!r} is already in use") from None
        raise _about(address, error) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str | bytes) -> None:
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # The folder may let sockets be made, but not removed: binding will tell.
        _logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)


def _about(path: str | bytes, error: OSError) -> OSError:
    """Return ``error`` with the path in it, which the system leaves out."""
    if error.errno is None:
        # The socket module refuses what does not fit into an address.
        return OSError(errno.ENAMETOOLONG, str(error), path)
    if error.filename is not None:
        return error
    return OSError(error.errno, error.strerror, path)


class SocketFile:
    """The file that a bound Unix socket made, to be removed when its server closes.

    ``remove()`` leaves a file alone that another server has put in its place meanwhile. It is to be
    called while the socket is open: until then, no other file can have its number.
    """

    __slots__ = ("_identity", "path")

    def __init__(self, path: str | bytes, identity: tuple[int, int]) -> None:
        # Whoever closes the server may be in another folder by then.
        self.path = os.path.abspath(path)
        self._identity = identity

    def remove(self) -> None:
        """Remove the file, if it is still the one that the socket made.

        An error is logged: the server closes all the same.
        """
        try:
            if _identity_of(self.path) == self._identity:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            _logger.error("Unable to clean up listening UNIX socket %r: %r", self.path, error)


def socket_file(sock: socket.socket) -> SocketFile | None:
    """Return the file of a bound Unix socket; None where there is none, as for abstract names.

    None also for a file that cannot be looked at: it could not be told from another one later.
    """
    path: str | bytes = sock.getsockname()
    if not path or is_abstract(path):
        return None
    try:
        return SocketFile(path, _identity_of(path))
    except OSError:
        return None


def _identity_of(path: str | bytes) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


async def connect_unix(loop: LoopCore, path: Path) -> socket.socket:
    """Return a non-blocking Unix stream socket that is connected to ``path``.

    While the server's backlog is full it tries again, at growing intervals. Raises OSError, with
    the path, when there is nothing to connect to. Cancellation safe: the socket is then closed.
    """
    address = unix_path(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await sock_connect(loop, sock, address)
    except OSError as error:
        sock.close()
        raise _about(address, error) from None
    except BaseException:
        sock.close()
        raise
    return sock


# -- Passing descriptors ---------------------------------------------------------------------------


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
