"""What was received and not read yet: whole chunks, so that one that answers a read is not copied.

Invariants: no chunk is empty; ``size`` is the number of unread bytes; ``_start`` is how much of the
first chunk has been read. Small chunks are gathered in a bytearray, so that a peer that sends one
byte at a time costs bytes, not objects.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SMALL: Final = 2048
"""Chunks below this size are gathered: copying them is cheaper than keeping them apart."""


class ReceiveBuffer:
    """A queue of bytes."""

    __slots__ = ("_chunks", "_start", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes | bytearray] = deque()
        self._start = 0
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add what was received, which is not empty."""
        self.size += len(data)
        chunks = self._chunks
        if chunks and len(data) < _SMALL:
            last = chunks[-1]
            if isinstance(last, bytearray):
                if len(last) < 16 * _SMALL:
                    last += data
                    return
            elif len(last) < _SMALL:
                gathered = bytearray(last)
                gathered += data
                chunks[-1] = gathered
                return
        chunks.append(data)

    def take(self, most: int) -> bytes:
        """Remove and return up to ``most`` bytes; everything when there are fewer."""
        if most >= self.size:
            return self.take_all()
        chunks = self._chunks
        start = self._start
        first = chunks[0]
        end = start + most
        self.size -= most
        if end < len(first):
            self._start = end
            return bytes(first[start:end])
        parts = [first[start:]]
        chunks.popleft()
        missing = most - len(parts[0])
        while missing:
            first = chunks[0]
            if missing < len(first):
                parts.append(first[:missing])
                break
            parts.append(first)
            chunks.popleft()
            missing -= len(first)
        self._start = missing
        return b"".join(parts)

    def take_all(self) -> bytes:
        """Remove and return everything."""
        chunks = self._chunks
        if not chunks:
            return b""
        self.size = 0
        start = self._start
        self._start = 0
        if start:
            chunks[0] = chunks[0][start:]
        if len(chunks) == 1:
            return bytes(chunks.popleft())
        data = b"".join(chunks)
        chunks.clear()
        return data

    def find(self, separator: bytes, scanned: int) -> int:
        """Return where ``separator`` begins, or -1; the first ``scanned`` bytes hold none.

        Nothing is joined: a separator that lies across chunks is looked for in the seam.
        """
        overlap = len(separator) - 1
        skip = scanned - overlap
        start = self._start
        position = 0
        tail = b""
        for chunk in self._chunks:
            length = len(chunk) - start
            if position + length > skip:
                if tail:
                    seam = tail + chunk[start : start + overlap]
                    found = seam.find(separator)
                    if found >= 0:
                        return position - len(tail) + found
                found = chunk.find(separator, start)
                if found >= 0:
                    return position + found - start
            if overlap:
                tail = (tail + bytes(chunk[max(start, len(chunk) - overlap) :]))[-overlap:]
            position += length
            start = 0
        return -1
