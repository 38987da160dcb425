"""What was received and not read yet: whole chunks, so that one that answers a read is not copied.

Invariants: no chunk is empty; ``size`` is the number of unread bytes; ``_start`` is how much of the
first chunk has been read; ``_rest``, the chunks after the first, is there only while there are any,
because an empty deque costs more than everything else that an idle connection needs. Small chunks
are gathered in a bytearray, so that a peer that sends one byte at a time costs bytes, not objects.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SMALL: Final = 2048
"""Chunks below this size are gathered: copying them is cheaper than keeping them apart."""


class ReceiveBuffer:
    """A queue of bytes."""

    __slots__ = ("_first", "_rest", "_start", "size")

    def __init__(self) -> None:
        self._first: bytes | bytearray | None = None
        self._rest: deque[bytes | bytearray] | None = None
        self._start = 0
        self.size = 0

    def append(self, data: bytes) -> None:
        """Add what was received, which is not empty."""
        self.size += len(data)
        rest = self._rest
        last = self._first if rest is None else rest[-1]
        if last is None:
            self._first = data
            return
        if len(data) < _SMALL:
            if isinstance(last, bytearray):
                if len(last) < 16 * _SMALL:
                    last += data
                    return
            elif len(last) < _SMALL:
                gathered = bytearray(last)
                gathered += data
                if rest is None:
                    self._first = gathered
                else:
                    rest[-1] = gathered
                return
        if rest is None:
            self._rest = deque((data,))
        else:
            rest.append(data)

    def take(self, most: int) -> bytes:
        """Remove and return up to ``most`` bytes; everything when there are fewer."""
        if most >= self.size:
            return self.take_all()
        if most <= 0:
            return b""
        first = self._first
        assert first is not None
        start = self._start
        end = start + most
        self.size -= most
        if end < len(first):
            self._start = end
            return bytes(first[start:end])
        parts = [first[start:]]
        missing = end - len(first)
        first = self._next_chunk()
        while missing >= len(first):
            parts.append(first)
            missing -= len(first)
            first = self._next_chunk()
        if missing:
            parts.append(first[:missing])
        self._first = first
        self._start = missing
        return b"".join(parts)

    def _next_chunk(self) -> bytes | bytearray:
        """Remove and return the first chunk of the rest, of which there is one."""
        rest = self._rest
        assert rest is not None
        chunk = rest.popleft()
        if not rest:
            self._rest = None
        return chunk

    def take_all(self) -> bytes:
        """Remove and return everything."""
        first = self._first
        if first is None:
            return b""
        rest = self._rest
        start = self._start
        self._first = None
        self._rest = None
        self._start = 0
        self.size = 0
        if start:
            first = first[start:]
        return bytes(first) if rest is None else b"".join([first, *rest])

    def find(self, separator: bytes, scanned: int) -> int:
        """Return where ``separator`` begins, or -1; the first ``scanned`` bytes hold none.

        Nothing is joined: a separator that lies across chunks is looked for in the seam.
        """
        first = self._first
        if first is None:
            return -1
        overlap = len(separator) - 1
        start = self._start
        rest = self._rest
        if rest is None:
            found = first.find(separator, start + max(scanned - overlap, 0))
            return found - start if found >= 0 else -1
        skip = scanned - overlap
        position = 0
        tail = b""
        for chunk in (first, *rest):
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
