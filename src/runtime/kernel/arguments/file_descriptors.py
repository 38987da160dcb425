"""File descriptors as arguments: a number, or an object with ``fileno()``."""

from __future__ import annotations

from typing import Protocol


class HasFileno(Protocol):
    """A socket, a file, or another object with a file descriptor."""

    def fileno(self) -> int:
        """Return the file descriptor."""


def descriptor(fd: int | HasFileno) -> int:
    """Return the number of a file descriptor, given as a number or an object with ``fileno()``.

    Raises ValueError if ``fd`` is neither of these, or is closed.
    """
    if isinstance(fd, int):
        number = fd
    else:
        try:
            number = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(
                f"Invalid file object: {fd!r} is neither a file descriptor nor an open object with "
                "fileno()"
            ) from None
    if number < 0:
        raise ValueError(f"{fd!r} is closed, or its file descriptor is not valid: {number}")
    return number
