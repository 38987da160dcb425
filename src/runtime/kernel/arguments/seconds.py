"""Durations and times in seconds as arguments: any real number.

The alias ``_float`` is for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

import math
from typing import Any, Final, SupportsFloat, TypeAlias

from runtime.kernel.arguments.advice import advice_on_seconds

Seconds: TypeAlias = SupportsFloat
"""A real number: an ``int``, a ``float``, a ``Decimal``, a ``Fraction``, a scalar of numpy."""

NEVER: Final = math.inf
"""The time that never comes. A timer with this deadline is not put into the heap."""

_float: Final = float


def seconds(value: Any, caller: str) -> float:
    """Return ``value``, a number of seconds, as a float; ``caller`` is named in the error message.

    Raises TypeError for any object but a real number, also for a string, which ``float()`` would
    accept. Raises ValueError for NaN, which cannot be ordered among other times.
    """
    number: float
    if type(value) is float:
        number = value
    elif type(value) is int:
        number = float(value)
    elif hasattr(value, "__float__") or hasattr(value, "__index__"):
        number = _float(value)
    else:
        advice = advice_on_seconds(value)
        raise TypeError(f"{caller} expected a number of seconds, got {value!r}{advice}")
    if number != number:
        raise ValueError(f"{caller} expected a number of seconds, got NaN")
    return number
