"""Tokens: a run as a short text, from which it is repeated.

A token holds the settings that decide what is a choice, the seed of the environment, and every
choice that is not the usual one: its distance from the one before, its value, the number of
possibilities, and its kind. A checksum of the kinds and numbers of all choices tells whether a
replay had the same choices in the end.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from runtime.simulation.choices import Choices

_PREFIX = "sim1"
_ORDERS = ("tasks", "events")


@dataclass
class Token:
    """The contents of a token.

    ``values``, ``counts`` and ``labels`` have an entry for each choice that is not the usual one,
    by its position. ``total`` is the number of all choices, ``checksum`` is that of their kinds.
    ``hash_seed`` is the value of PYTHONHASHSEED, or -1 if it was not set to a number.
    """

    seed: int
    order: str
    lateness: float
    values: dict[int, int] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    total: int = 0
    checksum: int = 0
    hash_seed: int = -1

    def __str__(self) -> str:
        data = bytearray([_ORDERS.index(self.order)])
        kinds = list(dict.fromkeys(self.labels.values()))
        numbers = [
            self.seed,
            self.hash_seed + 1,
            _number_of(self.lateness),
            self.total,
            self.checksum,
            len(kinds),
            len(self.values),
        ]
        last = -1
        for place in sorted(self.values):
            kind = kinds.index(self.labels[place])
            numbers += [place - last - 1, self.values[place], self.counts[place], kind]
            last = place
        for number in numbers:
            _write(data, number)
        data += "\0".join(kinds).encode()
        packed = zlib.compress(bytes(data), 9)
        marked = b"z" + packed if len(packed) < len(data) else b"p" + bytes(data)
        return f"{_PREFIX}-{base64.urlsafe_b64encode(marked).decode().rstrip('=')}"


def token_of(choices: Choices, seed: int, order: str, lateness: float) -> Token:
    """Return the token of a run that has recorded ``choices``."""
    token = Token(seed, order, lateness, hash_seed=current_hash_seed())
    for place, value in enumerate(choices.values):
        if value:
            token.values[place] = value
            token.counts[place] = choices.counts[place]
            token.labels[place] = choices.labels[place]
    token.total = len(choices.values)
    token.checksum = checksum(choices)
    return token


def checksum(choices: Choices) -> int:
    """Return a checksum of the kinds and the numbers of possibilities of choices."""
    counts = ",".join(map(str, choices.counts))
    return zlib.crc32("\0".join(choices.labels).encode(), zlib.crc32(counts.encode()))


def current_hash_seed() -> int:
    """Return the number in PYTHONHASHSEED, on which the order of sets of text depends, or -1."""
    text = os.environ.get("PYTHONHASHSEED", "")
    return int(text) if text.isdigit() else -1


def read_token(text: str) -> Token:
    """Return the contents of a token. Raises TypeError or ValueError if ``text`` is not one."""
    if not isinstance(text, str):
        raise TypeError(f"a token must be a text, got {text!r}")
    try:
        prefix, _, encoded = text.strip().partition("-")
        if prefix != _PREFIX:
            raise ValueError(f"it begins with {prefix[:8]!r} and not with {_PREFIX!r}")
        marked = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        data = zlib.decompress(marked[1:]) if marked[:1] == b"z" else marked[1:]
        numbers = _Numbers(data)
        token = Token(0, _ORDERS[numbers.byte()], 0.0)
        token.seed, hash_seed, lateness, token.total, token.checksum, kinds, count = (
            numbers.next() for _ in range(7)
        )
        token.hash_seed = hash_seed - 1
        token.lateness = _seconds_of(lateness)
        entries = [[numbers.next() for _ in range(4)] for _ in range(count)]
        names = numbers.rest().decode().split("\0")
        if kinds and len(names) != kinds:
            raise ValueError("it is incomplete")
        place = -1
        for gap, value, possibilities, kind in entries:
            place += gap + 1
            token.values[place] = value
            token.counts[place] = possibilities
            token.labels[place] = names[kind]
    except (ValueError, IndexError, binascii.Error, zlib.error, struct.error) as error:
        raise ValueError(f"{text!r} is not a token of a simulated run: {error}") from None
    return token


_EXACT = 1 << 64
"""Added to the bits of a number of seconds that is not a whole number of microseconds."""


def _number_of(seconds: float) -> int:
    """Return a number for seconds: microseconds if these are exact, as for most settings."""
    microseconds = seconds * 1e6
    if microseconds < _EXACT and round(microseconds) / 1e6 == seconds:
        return round(microseconds)
    bits: int = struct.unpack("<Q", struct.pack("<d", seconds))[0]
    return _EXACT + bits


def _seconds_of(number: int) -> float:
    if number < _EXACT:
        return number / 1e6
    seconds: float = struct.unpack("<d", struct.pack("<Q", number - _EXACT))[0]
    return seconds


def _write(data: bytearray, number: int) -> None:
    """Append a number, seven bits in each byte; the highest bit is set in all but the last."""
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)


class _Numbers:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._bytes: Iterator[int] = iter(data)
        self._read = 0

    def byte(self) -> int:
        self._read += 1
        if self._read > len(self._data):
            raise ValueError("it is incomplete")
        return next(self._bytes)

    def next(self) -> int:
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    def rest(self) -> bytes:
        return self._data[self._read :]
