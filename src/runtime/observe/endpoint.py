"""The socket by which a process is observed: its folder, its path, and the user at the other end.

The folder belongs to the user, and only the user may enter it. Both ends check this, so that no
other user can put a socket there, or a symbolic link.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

MOST_OF_A_REQUEST: Final = 4096
"""Bytes of a request. A request is a JSON object on one line."""

MOST_OF_AN_ANSWER: Final = 256 * 1024 * 1024
"""Bytes of an answer that a client reads. An answer is a JSON object, up to the end of the stream.
"""

_UCRED: Final = struct.Struct("3i")


class ObserveError(OSError):
    """A process cannot be observed: the message says why, and what can be done."""


def folder() -> Path:
    """Return the folder of the sockets: ``$XDG_RUNTIME_DIR/runtime``, or ``/tmp/runtime-UID``."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base):
        return Path(base, "runtime")
    return Path("/tmp", f"runtime-{os.geteuid()}")


def checked_folder(path: Path | None = None, *, make: bool) -> Path:
    """Return ``path``, by default ``folder()``.

    Raises ObserveError unless it is the user's own and closed to others. With ``make`` it is made
    if it is not there.
    """
    if path is None:
        path = folder()
    if make:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise ObserveError(f"the folder {path} cannot be made: {error.strerror}") from error
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise ObserveError(f"no process of this user can be observed: there is no {path}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ObserveError(f"{path} is not a folder, perhaps a link: remove it")
    if found.st_uid != os.geteuid():
        raise ObserveError(f"{path} belongs to another user: set XDG_RUNTIME_DIR to another folder")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ObserveError(f"{path} is open to other users: chmod 700 {path}")
    return path


def socket_path(pid: int, where: Path | None = None, *, make: bool = False) -> Path:
    """Return the path of the socket of a process; raise ObserveError as ``checked_folder`` does."""
    return checked_folder(where, make=make) / f"{pid}.sock"


def is_allowed(connection: socket.socket) -> bool:
    """Return whether the process at the other end belongs to this user, or to root."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # The folder and the mode of the socket keep others out.
    credentials = connection.getsockopt(socket.SOL_SOCKET, option, _UCRED.size)
    _, uid, _ = _UCRED.unpack(credentials)
    return uid in (os.geteuid(), 0)
