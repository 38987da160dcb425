"""Write buffer shared by sockets and pipes: the bytes that the descriptor has not accepted yet.

The buffer is a deque of bytes-like chunks, none of them empty. Small chunks are appended to a
bytearray, so that many small writes to a slow reader cost memory for the bytes, and not for as many
objects. A chunk that was sent in part is replaced by a view of the rest, and nothing more is
appended to it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from runtime.kernel.arguments.sizes import Size, limit_of

HIGH_WATER: Final = 64 * 1024
"""Default size of the buffer, in bytes, above which writers are paused."""

LOW_WATER: Final = HIGH_WATER // 4
"""Default size of the buffer, in bytes, at or below which paused writers are resumed."""

_SMALL: Final = 2048
"""Chunks of fewer bytes than this are appended to a bytearray."""

_GATHER_MOST: Final = 16 * _SMALL
"""Bytes in a bytearray from which on nothing more is appended to it."""

_CHUNKS_MOST: Final = 64
"""Maximum number of chunks for one system call."""

_BYTES_MOST: Final = 1 << 20
"""Number of bytes that is enough for one system call: no socket or pipe accepts more at once."""


def water_marks_of(high: Size | None, low: Size | None) -> tuple[int, int]:
    """Return the high and the low water mark, in bytes; None stands for a default value.

    Raises ValueError unless ``high >= low >= 0``, and TypeError for an argument that is not a
    number.
    """
    if high is not None:
        most = limit_of(high, "high")
        least = most // 4 if low is None else limit_of(low, "low")
    elif low is not None:
        least = limit_of(low, "low")
        most = 4 * least
    else:
        most = HIGH_WATER
        least = LOW_WATER
    if not most >= least >= 0:
        raise ValueError(f"high ({most!r}) must be >= low ({least!r}) must be >= 0")
    return most, least


def append_data(buffer: deque[Any], data: Any) -> None:
    """Append ``data``, which must not be empty and must not be changed by its owner later."""
    if buffer and len(data) < _SMALL:
        last = buffer[-1]
        if isinstance(last, bytearray) and len(last) < _GATHER_MOST:
            last += data
        else:
            buffer.append(bytearray(data))
    else:
        buffer.append(data)


def next_chunks(buffer: deque[Any]) -> list[Any]:
    """Return as many of the first chunks as one system call is likely to accept."""
    chunks = []
    size = 0
    for chunk in buffer:
        chunks.append(chunk)
        size += len(chunk)
        if size >= _BYTES_MOST or len(chunks) == _CHUNKS_MOST:
            break
    return chunks


def drop_sent(buffer: deque[Any], sent: int) -> None:
    """Remove the first ``sent`` bytes from the buffer."""
    while sent:
        first = buffer[0]
        if sent < len(first):
            buffer[0] = memoryview(first)[sent:]
            return
        sent -= len(first)
        buffer.popleft()
