"""The same value as another type would have it: odd, but lawful arguments."""

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
    """An integer of another class."""


class SubFloat(float):
    """A float of another class."""


class SubStr(str):
    """A string of another class."""

    __slots__ = ()


class SubBytes(bytes):
    """Bytes of another class."""


class SubDict(dict[Any, Any]):
    """A dictionary of another class."""


class SubList(list[Any]):
    """A list of another class."""


class SubTuple(tuple[Any, ...]):
    """A tuple of another class."""

    __slots__ = ()


class Index:
    """No number, but one for those who ask for an index."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Int64(Index):
    """A number that computes, and is no ``int``: as those of numpy are."""

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
    """What has a descriptor, and nothing else."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.fd


class OwnPath:
    """A path, as ``os.fspath`` knows them."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return self.path


class Callback:
    """A callable that is no function, and refuses to be compared."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)

    def call(self, *args: Any, **options: Any) -> Any:
        """Be called by the name of a method."""
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
    """Give the name and the value of everything that may stand for ``value``."""
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
