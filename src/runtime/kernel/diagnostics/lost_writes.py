"""Warnings about writes to closed connections, logged at growing intervals."""

from __future__ import annotations

import logging
from typing import Final

_FIRST_WARNING: Final = 5
"""Number of lost writes at the first warning: a program may not have noticed the loss before."""

_logger: Final = logging.getLogger("asyncio")


def warn_of_lost_write(count: int, action: str, target: object) -> None:
    """Log a warning that ``action`` on ``target`` has no effect, if one is due.

    ``count`` is the number of such actions so far. A warning is due at the 5th, the 10th, the 20th,
    the 40th, and so on.
    """
    quotient, remainder = divmod(count, _FIRST_WARNING)
    is_power_of_two = quotient > 0 and quotient & (quotient - 1) == 0
    if is_power_of_two and remainder == 0:
        _logger.warning("%s: %r (%d times so far)", action, target, count)
