"""The places that have blocked a loop, as its watch for slow callbacks has found them."""

from __future__ import annotations

from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.slow_callbacks import BlockedPlace
from runtime.observe.loop_argument import loop_of


def blocked(loop: LoopCore | None = None) -> list[BlockedPlace]:
    """Return the places that have blocked ``loop``, the one that took most time first.

    The loop is by default the running one. The list is empty unless ``loop.watch_slow_callbacks()``
    was called. Raises RuntimeError if no loop is given and none is running, and TypeError for an
    object that is not a loop of this package.
    """
    watch = loop_of(loop, "blocked")._slow_watch
    return [] if watch is None else watch.places()
