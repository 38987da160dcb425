"""Odd but lawful arguments: the same value as an object of another type."""

from __future__ import annotations

import array
import collections
import decimal
import enum
import fractions
import functools
import math
import os
import socket
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class SubInt(int):
    """An integer of a subclass."""


class SubFloat(float):
    """A float of a subclass."""


class SubStr(str):
    """A string of a subclass."""

    __slots__ = ()


class SubBytes(bytes):
    """Bytes of a subclass."""


class SubDict(dict[Any, Any]):
    """A dictionary of a subclass."""


class SubList(list[Any]):
    """A list of a subclass."""


class SubTuple(tuple[Any, ...]):
    """A tuple of a subclass."""

    __slots__ = ()


class Index:
    """An object that is not a number but supports ``__index__``."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Int64(Index):
    """A number that supports arithmetic and is not an ``int``, like the numbers of numpy."""

    __hash__ = None  # type: ignore[assignment]

    def __int__(self) -> int:
        return self.value

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"Int64({self.value})"

    def __eq__(self, other: object) -> bool:
        return self.value == other

    def __lt__(self, other: Any) -> bool:
        return self.value < int(other)

    def __le__(self, other: Any) -> bool:
        return self.value <= int(other)

    def __gt__(self, other: Any) -> bool:
        return self.value > int(other)

    def __ge__(self, other: Any) -> bool:
        return self.value >= int(other)


class WithFileno:
    """An object that has a ``fileno`` method and nothing else."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.fd


class OwnPath:
    """A path by the protocol of ``os.fspath``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return self.path


class Callback:
    """A callable that is not a function, and that refuses to be compared."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)

    def call(self, *args: Any, **options: Any) -> Any:
        """Act as the callable, called as a method."""
        return self.function(*args, **options)


Odd = Iterator[tuple[str, Any]]


def _enumerated(kind: Any, value: object) -> Any:
    """Return a value as the only member of an enumeration."""
    return kind("Kind", {"ONE": value}).ONE


def _numbers(value: int | float) -> Odd:
    whole = int(value)
    yield "bool", True
    yield "false", False
    yield "int subclass", SubInt(whole)
    yield "IntEnum", _enumerated(enum.IntEnum, whole)
    yield "float", float(whole)
    yield "float subclass", SubFloat(whole)
    yield "fractional", whole + 0.5
    yield "Decimal", decimal.Decimal(whole)
    yield "Fraction", fractions.Fraction(whole)
    yield "index", Index(whole)
    yield "Int64", Int64(whole)
    yield "infinite", math.inf
    yield "million", 1e6
    yield "huge", 10**30
    yield "negative", -1
    yield "text", str(whole)


def _texts(value: str) -> Odd:
    yield "str subclass", SubStr(value)
    yield "StrEnum", _enumerated(enum.StrEnum, value)
    yield "bytes", value.encode()
    yield "bytearray", bytearray(value.encode())
    if os.sep in value:
        yield "Path", Path(value)
        yield "own path", OwnPath(value)


def _bytes(value: bytes) -> Odd:
    yield "bytes subclass", SubBytes(value)
    yield "bytearray", bytearray(value)
    yield "memoryview", memoryview(value)
    yield "array", array.array("B", value)
    if len(value) % 4 == 0:
        yield "words", memoryview(value).cast("I")
    yield "text", value.decode()


def _callables(value: Callable[..., Any]) -> Odd:
    yield "partial", functools.partial(value)
    yield "object", Callback(value)
    yield "method", Callback(value).call


def _mappings(value: dict[Any, Any]) -> Odd:
    yield "dict subclass", SubDict(value)
    yield "OrderedDict", collections.OrderedDict(value)
    yield "UserDict", collections.UserDict(value)
    yield "proxy", types.MappingProxyType(value)


def _sequences(value: list[Any] | tuple[Any, ...]) -> Odd:
    yield "list", list(value)
    yield "tuple", tuple(value)
    yield "list subclass", SubList(value)
    yield "tuple subclass", SubTuple(value)
    yield "iterator", iter(value)
    yield "deque", collections.deque(value)


def _sockets(value: socket.socket) -> Odd:
    yield "number", value.fileno()
    yield "int subclass", SubInt(value.fileno())
    yield "float", 0.0
    yield "with fileno", WithFileno(value.fileno())


def odd(value: Any) -> Odd:
    """Yield the name and the value of every substitute for ``value``."""
    yield "None", None
    if isinstance(value, bool):
        yield from (("one", 1), ("zero", 0), ("text", "yes"), ("list", []), ("float", 1.0))
    elif isinstance(value, (int, float)):
        yield from _numbers(value)
    elif isinstance(value, str):
        yield from _texts(value)
    elif isinstance(value, bytes):
        yield from _bytes(value)
    elif isinstance(value, dict):
        yield from _mappings(value)
    elif isinstance(value, (list, tuple)):
        yield from _sequences(value)
    elif isinstance(value, socket.socket):
        yield from _sockets(value)
    elif callable(value):
        yield from _callables(value)
