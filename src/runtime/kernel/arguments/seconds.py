"""Durations and moments, in seconds, as callers give them: any real number."""

from __future__ import annotations

import math
from typing import Any, Final, SupportsFloat, TypeAlias

from runtime.kernel.arguments.advice import instead_of_seconds

Seconds: TypeAlias = SupportsFloat
"""A real number: an ``int``, a ``float``, a ``Decimal``, a ``Fraction``, a scalar of numpy."""

NEVER: Final = math.inf
"""The moment that never comes: a timer that is set for it is not kept."""

_float: Final = float


def seconds(value: Any, caller: str) -> float:
    """Return a number of seconds as a float.

    ``caller`` is named in the error. Raises TypeError for anything but a real number, which a
    string is not although ``float()`` takes it, and ValueError for NaN, which is before and after
    nothing.
    """
    number: float
    if type(value) is float:
        number = value
    elif hasattr(value, "__float__") or hasattr(value, "__index__"):
        number = _float(value)
    else:
        advice = instead_of_seconds(value)
        raise TypeError(f"{caller} takes a number of seconds, not {value!r}{advice}")
    if number != number:
        raise ValueError(f"{caller} takes a number of seconds, not NaN.")
    return number
