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
    accept. Raises ValueError for NaN, which cannot be ordered among other times, and OverflowError
    for a number that no float can hold, as asyncio does.
    """
    number: float
    if type(value) is float:
        number = value
    elif type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            raise _beyond_range(caller) from None
    elif hasattr(value, "__float__") or hasattr(value, "__index__"):
        try:
            number = _float(value)
        except OverflowError:
            raise _beyond_range(caller) from None
    else:
        advice = advice_on_seconds(value)
        raise TypeError(f"{caller} expected a number of seconds, got {value!r}{advice}")
    if number != number:
        raise ValueError(f"{caller} expected a number of seconds, got NaN")
    return number


def _beyond_range(caller: str) -> OverflowError:
    return OverflowError(
        f"{caller} expected a number of seconds that a float can hold, got one beyond its range: "
        "use math.inf for a time without end"
    )
