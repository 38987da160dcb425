"""Calls whose frames are not linked with the frames of their callers.

On CPython 3.12 and later, a frame that outlives its call, because the traceback of an exception
holds it, also holds the frames of its callers. A suspended generator has no caller; so the chain of
frames ends at a generator that never ends, and that runs the call.

This module is interpreted in every build: a compiled generator has no frame.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")


class UnlinkedCalls(Generic[T]):
    """Calls ``function(argument)`` apart from the callers; such calls may be nested."""

    __slots__ = ("_free", "_function", "_placeholder")

    def __init__(self, function: Callable[[T], object], placeholder: T) -> None:
        self._function = function
        # The frame of a generator holds this object in place of the last argument.
        self._placeholder = placeholder
        # The generators that run nothing now: as many as calls were ever nested.
        self._free: list[Generator[None, T, None]] = []

    def call(self, argument: T) -> None:
        """Call the function. Raises the exceptions that it raises."""
        try:
            generator = self._free.pop()
        except IndexError:
            generator = self._calls()
            next(generator)
        generator.send(argument)
        self._free.append(generator)

    def _calls(self) -> Generator[None, T, None]:
        while True:
            argument = yield
            try:
                self._function(argument)
            finally:
                argument = self._placeholder
