"""Exceptions that the runtime raises: the classes of asyncio and of Python.

They are the same objects, so that an ``except`` clause written for asyncio works here.
"""

from __future__ import annotations

import asyncio
from asyncio import (
    BrokenBarrierError,
    CancelledError,
    IncompleteReadError,
    InvalidStateError,
    LimitOverrunError,
    QueueEmpty,
    QueueFull,
    SendfileNotAvailableError,
)
from builtins import TimeoutError
from typing import TYPE_CHECKING

if TYPE_CHECKING:

    class QueueShutDown(Exception):
        """A put to, or a get from, a queue that was shut down."""

elif hasattr(asyncio, "QueueShutDown"):  # Python 3.13 and later
    QueueShutDown = asyncio.QueueShutDown
else:

    class QueueShutDown(Exception):
        """A put to, or a get from, a queue that was shut down."""


__all__ = [
    "BrokenBarrierError",
    "CancelledError",
    "IncompleteReadError",
    "InvalidStateError",
    "LimitOverrunError",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "SendfileNotAvailableError",
    "TimeoutError",
    "is_cancellation",
]


def is_cancellation(exception: object) -> bool:
    """Return whether ``exception`` is a CancelledError, or a group that holds no other kind."""
    found = [exception]
    for each in found:
        if isinstance(each, BaseExceptionGroup):
            found += each.exceptions
        elif not isinstance(each, CancelledError):
            return False
    return True
