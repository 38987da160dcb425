"""Sizes and limits in bytes as arguments.

Compiled functions accept an ``int`` and no other type. So the public functions convert their
arguments here first, and the compiled and the interpreted build accept the same types.
"""

from __future__ import annotations

import math
import operator
import sys
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

Size: TypeAlias = SupportsFloat | SupportsIndex
"""A limit, any real number: an ``int``, a ``float`` such as ``1e6`` or infinity, a ``Decimal``."""


def float_or_infinity(value: Any) -> float:
    """Return a real number as a float: as infinity, with its sign, if no float can hold it."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def limit_of(value: Any, name: str) -> int:
    """Return the limit ``value`` as an int, rounded down; ``name`` is named in the error message.

    Infinity becomes ``sys.maxsize``, and so does a fraction that no float can hold. Raises
    TypeError for any object but a real number, and ValueError for NaN.
    """
    if isinstance(value, int):
        return int(value)
    if hasattr(value, "__index__"):
        return operator.index(value)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float_or_infinity(value)
    if number != number:
        raise ValueError(f"{name} must be a number, got NaN")
    if math.isinf(number):
        return sys.maxsize if number > 0 else -sys.maxsize
    return math.floor(number)


def count_of(value: Any, caller: str) -> int:
    """Return the number of bytes ``value`` as an int; ``caller`` is named in the error message.

    Raises TypeError unless it is an integer; a float such as ``1.0`` is not.
    """
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{caller} expected a whole number of bytes, got {value!r}") from None
