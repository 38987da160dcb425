"""Mixins that refuse an operation with a clear error: copying, and a plain ``with``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn


class Uncopyable:
    """Mixin that makes ``copy``, ``deepcopy`` and ``pickle`` raise asyncio's error message."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        refuse_copy(self)


def refuse_copy(original: object) -> NoReturn:
    """Raise TypeError, for the ``__reduce__`` of a class that cannot inherit it."""
    raise TypeError(f"cannot pickle {type(original).__name__!r} object")


class OnlyAsynchronous:
    """Mixin for objects that are entered with ``async with``: a plain ``with`` raises TypeError."""

    __slots__ = ()

    if not TYPE_CHECKING:  # so that type checkers report the plain 'with'

        def __enter__(self) -> None:
            raise TypeError(
                f"'{type(self).__name__}' object does not support the context manager protocol: "
                "write 'async with'"
            )

        def __exit__(self, *_: object) -> None:
            raise AssertionError("it cannot have been entered")
