"""What was received and not read yet: whole chunks, so that one that answers a read is not copied.

Invariants: no chunk is empty; ``size`` is the number of unread bytes; ``_start`` is how much of the
first chunk has been read; ``_rest``, the chunks after the first, is there only while there are any,
because an empty deque costs more than everything else that an idle connection needs. Small chunks
are gathered in a bytearray, so that a peer that sends one byte at a time costs bytes, not objects.
In the first ``_searched`` unread bytes none of the separators ``_sought`` ends: a search goes on
where the one before it stopped, so that a line costs its length, in whatever pieces it comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Final

_SMALL: Final = 2048
"""Chunks below this size are gathered: copying them is cheaper than keeping them apart."""

_WINDOW: Final = 512
"""Bytes in which several separators are looked for first; each further window is twice as large."""


class ReceiveBuffer:
    """A queue of bytes."""

    __slots__ = ("_first", "_rest", "_searched", "_sought", "_start", "size")

    def __init__(self) -> None:
        self._first: bytes | bytearray | None = None
        self._rest: deque[bytes | bytearray] | None = None
        self._start = 0
        self.size = 0
        self._searched = 0
        self._sought: tuple[bytes, ...] = ()

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
        self._searched = 0
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
        self._searched = 0
        if start:
            first = first[start:]
        return bytes(first) if rest is None else b"".join([first, *rest])

    def find(self, separators: tuple[bytes, ...]) -> tuple[int, int]:
        """Return where the separator begins that ends first, and where it ends; -1 and 0 for none.

        All are looked for together, so that one that comes soon spares the search for the others.
        """
        first = self._first
        if first is None:
            return -1, 0
        rest = self._rest
        searched = self._searched
        if searched == 0 and len(separators) == 1:
            # Usually it is in the first chunk, which nobody has searched.
            separator = separators[0]
            start = self._start
            found = first.find(separator, start)
            if found >= 0:
                return found - start, found - start + len(separator)
            if rest is None:
                self._note_searched(separators)
                return -1, 0
        if self._sought != separators:
            searched = 0
        longest = max([len(separator) for separator in separators])
        begin = max(searched + 1 - longest, 0)
        if rest is None:
            found, stop = find_first(first, separators, self._start + begin, longest)
            if found >= 0:
                return found - self._start, stop - self._start
            self._note_searched(separators)
            return -1, 0
        if begin:
            chunks, position = self._chunks_from(begin)
        else:
            chunks, position = chain((first,), rest), -self._start
        return self._find_in_chunks(separators, longest, chunks, position, begin)

    def _chunks_from(self, begin: int) -> tuple[Iterable[bytes | bytearray], int]:
        """Return the last chunks, from that with the unread byte ``begin`` on, and where it starts.

        It goes back from the end: what was searched lies at the beginning, and may be many chunks.
        """
        first = self._first
        rest = self._rest
        assert first is not None
        assert rest is not None
        chunks: list[bytes | bytearray] = []
        position = self.size
        for chunk in reversed(rest):
            position -= len(chunk)
            chunks.append(chunk)
            if position <= begin:
                break
        else:
            chunks.append(first)
            position = -self._start
        chunks.reverse()
        return chunks, position

    def _find_in_chunks(
        self,
        separators: tuple[bytes, ...],
        longest: int,
        chunks: Iterable[bytes | bytearray],
        position: int,
        begin: int,
    ) -> tuple[int, int]:
        """As ``find``, in ``chunks``, the first of which starts at the unread byte ``position``.

        Nothing is joined: a separator that lies across chunks is looked for in the seam.
        """
        overlap = longest - 1
        tail = b""
        for chunk in chunks:
            start = max(begin - position, 0)
            if tail:
                seam = tail + chunk[:overlap]
                found, stop = find_first(seam, separators, 0, longest)
                if found >= 0:
                    return position - len(tail) + found, position - len(tail) + stop
            found, stop = find_first(chunk, separators, start, longest)
            if found >= 0:
                return position + found, position + stop
            if overlap:
                tail = (tail + bytes(chunk[max(start, len(chunk) - overlap) :]))[-overlap:]
            position += len(chunk)
        self._note_searched(separators)
        return -1, 0

    def _note_searched(self, separators: tuple[bytes, ...]) -> None:
        self._sought = separators
        self._searched = self.size


def find_first(
    data: bytes | bytearray, separators: tuple[bytes, ...], start: int, longest: int
) -> tuple[int, int]:
    """Return where the separator begins that ends first in ``data[start:]``, and where it ends.

    Both are positions in ``data``; -1 and 0 for none. ``longest`` is the size of the longest.
    """
    if len(separators) == 1:
        found = data.find(separators[0], start)
        return found, found + longest if found >= 0 else 0
    # In windows: a separator that is nowhere is not to be looked for everywhere each time.
    low = start
    size = max(_WINDOW, longest)
    while low < len(data):
        high = low + size
        found = -1
        stop = high + 1
        for separator in separators:
            # Only one that ends before the best so far is better.
            other = data.find(separator, max(low + 1 - len(separator), start), stop - 1)
            if other >= 0:
                found = other
                stop = other + len(separator)
        if found >= 0:
            return found, stop
        low = high
        size *= 2
    return -1, 0
