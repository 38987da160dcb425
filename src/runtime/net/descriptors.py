"""Telling whether a descriptor still means the file that it was given out for."""

from __future__ import annotations

import os


def file_number(fd: int) -> int:
    """Return what tells the file behind a descriptor from any other; 0 where that is not known."""
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return 0


def closed_by_others(fd: int) -> OSError:
    """Return the exception for a connection whose socket was closed under it."""
    return ConnectionAbortedError(
        f"The socket with file descriptor {fd} was closed while its connection was open: "
        "close the connection instead."
    )
