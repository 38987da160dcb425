"""Sizes and limits in bytes, as callers give them.

Compiled functions take an ``int`` and refuse all else; what they are called with goes through here
first, so that each build takes the same.
"""

from __future__ import annotations

import math
import operator
import sys
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

Size: TypeAlias = SupportsFloat | SupportsIndex
"""A real number, as a limit: an ``int``, a ``float`` such as ``1e6`` or infinity, a ``Decimal``."""


def limit_of(value: Any, name: str) -> int:
    """Return the greatest whole number that is not above ``value``, which is called ``name``.

    For an infinite one that is the greatest size there is. Raises TypeError for anything but a real
    number, and ValueError for NaN.
    """
    if isinstance(value, int):
        return int(value)
    if hasattr(value, "__index__"):
        return operator.index(value)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, not {value!r}.")
    number = float(value)
    if number != number:
        raise ValueError(f"{name} must be a number, not NaN.")
    if math.isinf(number):
        return sys.maxsize if number > 0 else -sys.maxsize
    return math.floor(number)


def count_of(value: Any, caller: str) -> int:
    """Return how many bytes ``caller`` is asked for. Raises TypeError unless it is a whole number.

    A float is none, whatever its value.
    """
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{caller} takes a whole number of bytes, not {value!r}.") from None
