"""Random numbers for choices: a small generator that gives the same numbers in every build.

It is L'Ecuyer's combination of two multiplicative congruential generators, with a period of about
2.3e18. All intermediate values are below 2**47, so that compiled code computes them without
creating objects, and interpreted code gets the same results without masks.

Source: P. L'Ecuyer, "Efficient and portable combined random number generators", 1988.
"""

from __future__ import annotations

import hashlib
from typing import Final

_FIRST: Final = 2147483563
_SECOND: Final = 2147483399

RANGE: Final = _FIRST - 1
"""Number of different values that ``RandomNumbers.number`` returns."""


class RandomNumbers:
    """A generator whose numbers depend on ``seed`` alone, which is any integer."""

    __slots__ = ("_one", "_two")

    def __init__(self, seed: int) -> None:
        # A digest, so that consecutive seeds do not begin with similar numbers.
        digest = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
        self._one = 1 + int.from_bytes(digest[:8], "big") % (_FIRST - 1)
        self._two = 1 + int.from_bytes(digest[8:], "big") % (_SECOND - 1)

    def number(self) -> int:
        """Return a number from 0 to ``RANGE - 1``."""
        self._one = one = self._one * 40014 % _FIRST
        self._two = two = self._two * 40692 % _SECOND
        return (one - two) % RANGE

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count - 1``; ``count`` is at most ``RANGE``."""
        return self.number() * count // RANGE

    def happens(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.number() < probability * RANGE
