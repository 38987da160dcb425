"""File descriptors as callers give them: a number, or an object with ``fileno()``."""

from __future__ import annotations

from typing import Protocol


class HasFileno(Protocol):
    """A socket, a file, or anything else that has a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


def descriptor(fd: int | HasFileno) -> int:
    """Return the number of a descriptor given as such or as an object with ``fileno()``.

    Raises ValueError when it is neither, or closed.
    """
    if isinstance(fd, int):
        number = fd
    else:
        try:
            number = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(
                f"Invalid file object: {fd!r} is no file descriptor, nor an open object with "
                "fileno()."
            ) from None
    if number < 0:
        raise ValueError(f"{fd!r} is closed, or its file descriptor is not valid: {number}.")
    return number
