"""Objects of which there cannot be two: a copy would share half of its state with the original."""

from __future__ import annotations

from typing import NoReturn


class Uncopyable:
    """Has ``copy``, ``deepcopy`` and ``pickle`` refused, in the words in which asyncio does."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        refuse_copy(self)


def refuse_copy(thing: object) -> NoReturn:
    """Raise TypeError, for the ``__reduce__`` of a class that cannot inherit it."""
    raise TypeError(f"cannot pickle {type(thing).__name__!r} object")
