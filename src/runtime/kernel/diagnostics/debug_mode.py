"""Debug mode: whether it is on by default, and the reports that it makes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_ORIGIN_DEPTH: Final = 10
_logger: Final = logging.getLogger("asyncio")


def debug_by_default() -> bool:
    """Return whether new loops are in debug mode, as asyncio's are.

    That is so under ``python -X dev``, and when the environment variable ``PYTHONASYNCIODEBUG`` is
    not empty, unless the interpreter ignores the environment.
    """
    return sys.flags.dev_mode or (
        not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG"))
    )


def report_slow(runnable: object, seconds: float) -> None:
    """Warn about a callback, or a step of a task, that kept the loop from everything else."""
    _logger.warning("Executing %r took %.3f seconds", runnable, seconds)


def with_origins_noted(run: Callable[[T], None], loop: T) -> None:
    """Call ``run(loop)``, and have noted where coroutines are made.

    The interpreter says so of one that is never awaited.
    """
    depth = sys.get_coroutine_origin_tracking_depth()
    try:
        sys.set_coroutine_origin_tracking_depth(_ORIGIN_DEPTH)
        run(loop)
    finally:
        sys.set_coroutine_origin_tracking_depth(depth)
