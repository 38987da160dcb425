"""Unix sockets: binding to a path, and connecting to one.

Source: unix(7); "Unix Sockets" and ``create_unix_server`` in the standard library's documentation
of asyncio.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import Final

from runtime.kernel.core import LoopCore
from runtime.net.sockets.operations import sock_connect
from runtime.net.sockets.unix_paths import Path, is_abstract, remove_stale_socket, unix_path

_logger: Final = logging.getLogger("asyncio")


def bind_unix(path: Path, *, mode: int | None = None) -> socket.socket:
    """Return a non-blocking Unix stream socket bound to ``path``, for the caller to listen on.

    ``path`` is a file name, or an abstract name that begins with a NUL. An existing socket at
    ``path``, in use or not, is removed, as asyncio does. ``mode`` is the permissions of the new
    file; by default the umask determines them. Raises OSError with EADDRINUSE if ``path`` is a file
    other than a socket, or an abstract name that another process uses.
    """
    address = unix_path(path)
    abstract = is_abstract(address)
    if abstract and mode is not None:
        raise ValueError(f"mode must be None for the abstract name {address!r}: it is not a file")
    remove_stale_socket(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(address)
        if mode is not None:
            # Not too late: clients cannot connect before the caller listens.
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


def _about(path: str | bytes, error: OSError) -> OSError:
    """Return an error like ``error`` that names the path, which the system's error does not."""
    if error.errno is None:
        # Raised by the socket module itself, for a path that is too long for an address.
        return OSError(errno.ENAMETOOLONG, str(error), path)
    if error.filename is not None:
        return error
    return OSError(error.errno, error.strerror, path)


class SocketFile:
    """The file of a bound Unix socket, which its server removes when it is closed.

    ``remove()`` does not remove a file that another server has put in its place. It compares device
    and inode, and must be called while the socket is open: the system may reuse the inode's number
    after that.
    """

    __slots__ = ("_identity", "path")

    def __init__(self, path: str | bytes, identity: tuple[int, int]) -> None:
        # The process may have another working directory when the server is closed.
        self.path = os.path.abspath(path)
        self._identity = identity

    def remove(self) -> None:
        """Remove the file, unless it was replaced by another.

        An error is logged and not raised, so that the server can continue closing.
        """
        try:
            if _identity_of(self.path) == self._identity:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            _logger.error("Unable to clean up listening UNIX socket %r: %r", self.path, error)


def socket_file(sock: socket.socket) -> SocketFile | None:
    """Return the file of a bound Unix socket; None if it has no file, as with an abstract name.

    Also returns None if the file's status cannot be read: without it, another file with that path
    could not be told from this one later.
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

    While the server's listen queue is full, it tries again at growing intervals. Raises OSError,
    with the path, if no server listens there. Cancellation safe: the socket is then closed.
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
