"""The places that have blocked a loop, as its watch for slow callbacks has found them."""

from __future__ import annotations

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.slow_callbacks import BlockedPlace


def blocked(loop: LoopCore | None = None) -> list[BlockedPlace]:
    """Return the places that have blocked ``loop``, the one that took most time first.

    The loop is by default the running one. The list is empty unless ``loop.watch_slow_callbacks()``
    was called. Raises RuntimeError if no loop is given and none is running.
    """
    if loop is None:
        loop = get_running_loop()
    watch = loop._slow_watch
    return [] if watch is None else watch.places()
