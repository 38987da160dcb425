"""What was written and not taken by the descriptor yet: a deque of bytes-like chunks, none empty.

Small chunks are gathered in a bytearray, so that a writer of many bytes one by one, whose reader is
slow, costs bytes and not objects. A chunk that was sent in part is replaced by a view of its rest,
and is not grown any more.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from runtime.kernel.arguments.sizes import Size, limit_of

HIGH_WATER: Final = 64 * 1024
"""Bytes not sent yet above which writers are to wait, unless they say otherwise."""

LOW_WATER: Final = HIGH_WATER // 4
"""Bytes not sent yet at which they go on."""

_SMALL: Final = 2048
_GATHER_MOST: Final = 16 * _SMALL
_CHUNKS_MOST: Final = 64
_BYTES_MOST: Final = 1 << 20
"""More than any socket or pipe takes at once."""


def water_marks_of(high: Size | None, low: Size | None) -> tuple[int, int]:
    """Return the high and the low mark, in bytes, for what a caller gave of them.

    Raises ValueError unless ``high >= low >= 0``, and TypeError for what is no number.
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


def keep(buffer: deque[Any], data: Any) -> None:
    """Add what is not empty, and what nobody changes any more."""
    if buffer and len(data) < _SMALL:
        last = buffer[-1]
        if isinstance(last, bytearray) and len(last) < _GATHER_MOST:
            last += data
        else:
            buffer.append(bytearray(data))
    else:
        buffer.append(data)


def next_chunks(buffer: deque[Any]) -> list[Any]:
    """Return as many of the first chunks as are worth one system call."""
    chunks = []
    size = 0
    for chunk in buffer:
        chunks.append(chunk)
        size += len(chunk)
        if size >= _BYTES_MOST or len(chunks) == _CHUNKS_MOST:
            break
    return chunks


def drop_sent(buffer: deque[Any], sent: int) -> None:
    """Remove the first ``sent`` bytes."""
    while sent:
        first = buffer[0]
        if sent < len(first):
            buffer[0] = memoryview(first)[sent:]
            return
        sent -= len(first)
        buffer.popleft()
