"""The warning about writes to what is closed: a few lines, however many such writes there are."""

from __future__ import annotations

import logging
from typing import Final

_FIRST: Final = 5
"""Writes in vain before the first warning: a program may not have noticed the loss yet."""

_logger: Final = logging.getLogger("asyncio")


def warn_of_lost_write(count: int, action: str, target: object) -> None:
    """Log that ``action`` on ``target`` is in vain, at the 5th time, the 10th, the 20th, the 40th.

    ``count`` is how often it was so far.
    """
    times, rest = divmod(count, _FIRST)
    if times and not rest and not times & (times - 1):
        _logger.warning("%s: %r (%d times so far)", action, target, count)
