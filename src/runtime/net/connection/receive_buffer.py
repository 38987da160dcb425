"""Receive buffer: received bytes that are not read yet.

The bytes are kept in the chunks in which they were received, so that a read of a whole chunk
returns it without a copy. Small chunks are joined in a bytearray: a peer that sends one byte at a
time then costs memory for its bytes, and not for as many objects.

A search for separators continues where the last one stopped. The total cost of finding the end of a
line is therefore linear in the line's length, however small the pieces are in which it comes.

Invariants: no chunk is empty; ``size`` is the number of unread bytes; ``_start`` is the number of
bytes of the first chunk that were read; ``_rest`` holds the chunks after the first, and is None if
there are none, because an empty deque is larger than all other objects of an idle connection
together; none of the separators ``_sought`` ends within the first ``_searched`` unread bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Final

_SMALL: Final = 2048
"""Chunks below this size are joined: copying them is cheaper than keeping them apart."""

_WINDOW: Final = 512
"""Size of the first window in which several separators are searched; each next one is doubled."""


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
        """Append ``data``, which is not empty."""
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
        """Remove and return the first ``most`` bytes, or all if there are fewer."""
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
        """Remove and return the first chunk of ``_rest``, which must not be None."""
        rest = self._rest
        assert rest is not None
        chunk = rest.popleft()
        if not rest:
            self._rest = None
        return chunk

    def take_all(self) -> bytes:
        """Remove and return all bytes."""
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
        """Return the start and the end of the separator that ends first; -1 and 0 if none is there.

        All separators are searched together: if one is found early, the search for the others goes
        no further than that.
        """
        first = self._first
        if first is None:
            return -1, 0
        rest = self._rest
        searched = self._searched
        if searched == 0 and len(separators) == 1:
            # The usual case: one separator, in the first chunk, which was not searched before.
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
        """Return the chunks from the one with the unread byte ``begin`` on, and its position.

        They are collected from the end: the bytes at the beginning were searched, and may be very
        many chunks.
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
        """Search ``chunks`` as ``find`` does; the first of them starts at unread byte ``position``.

        The chunks are not joined. A separator that spans chunks is found in the seam: the last
        bytes of the chunks before, and the first of the next chunk.
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
        """Note that none of ``separators`` is in the unread bytes."""
        self._sought = separators
        self._searched = self.size


def find_first(
    data: bytes | bytearray, separators: tuple[bytes, ...], start: int, longest: int
) -> tuple[int, int]:
    """Return the start and the end of the separator that ends first in ``data[start:]``.

    Both are positions in ``data``; -1 and 0 if there is none. ``longest`` is the length of the
    longest separator.
    """
    if len(separators) == 1:
        found = data.find(separators[0], start)
        return found, found + longest if found >= 0 else 0
    # Search in windows. If one separator is found early and another is nowhere, a search of all
    # ``data`` for the second would be repeated for each line.
    low = start
    size = max(_WINDOW, longest)
    while low < len(data):
        high = low + size
        found = -1
        stop = high + 1
        for separator in separators:
            # Search only where the separator would end before the best one so far.
            other = data.find(separator, max(low + 1 - len(separator), start), stop - 1)
            if other >= 0:
                found = other
                stop = other + len(separator)
        if found >= 0:
            return found, stop
        low = high
        size *= 2
    return -1, 0
