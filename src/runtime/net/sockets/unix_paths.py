"""Paths of Unix sockets: file names, and abstract names that have no file.

Source: unix(7).
"""

from __future__ import annotations

import logging
import os
import stat
from typing import Final

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_logger: Final = logging.getLogger("asyncio")


def is_abstract(path: str | bytes) -> bool:
    """Return whether a Unix address is an abstract name of Linux, which is not a file."""
    return path[:1] in ("\0", b"\0")


def unix_path(path: Path) -> str | bytes:
    """Return the path of a Unix socket as text or bytes. Raises ValueError if it is empty."""
    found: str | bytes = os.fspath(path)
    if not found:
        raise ValueError("the path of a Unix socket must not be empty")
    return found


def remove_stale_socket(path: str | bytes) -> None:
    """Remove the socket that an earlier process left at ``path``, unless it is an abstract name."""
    if is_abstract(path):
        return
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # The permissions of the folder may allow making a socket but not removing one. Binding
        # reports the final error.
        _logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)
