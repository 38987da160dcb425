"""Warnings about writes to closed connections: a few lines, however many such writes there are."""

from __future__ import annotations

import logging
from typing import Final

_FIRST: Final = 5
"""Number of lost writes at the first warning: a program may not have noticed the loss before."""

_logger: Final = logging.getLogger("asyncio")


def warn_of_lost_write(count: int, action: str, target: object) -> None:
    """Log a warning that ``action`` on ``target`` has no effect, at the 5th, 10th, 20th, 40th time.

    ``count`` is the number of times so far.
    """
    times, rest = divmod(count, _FIRST)
    if times and not rest and not times & (times - 1):
        _logger.warning("%s: %r (%d times so far)", action, target, count)
