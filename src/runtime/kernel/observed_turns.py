"""Turns of the loop that are observed: slower versions of those in ``core.py``.

``LoopCore.run_forever`` chooses among them, so that the usual turns do not have to test whether an
observer is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel.handles import Runnable
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.task import TaskCore, leave_task, step

_monotonic: Final[Callable[[], float]] = time.monotonic


def run_sampled_turns(loop: Scheduler, collect: Callable[[Any], object]) -> None:
    """Run some turns as ``core`` does, and measure durations for ``Loop.metrics``.

    ``collect(loop)`` begins a turn: it waits for events and delivers them. The first turn notes
    when each entry is queued for the second one, where the wait of each entry is known.
    """
    sampler = loop._sampler
    ready = loop._ready
    writers = loop._poller.writers
    queued: list[float] = []
    runnable: Runnable | None
    try:
        while loop._sampled_turns:
            loop._sampled_turns -= 1
            is_last = loop._sampled_turns == 0
            collect(loop)
            if writers.any:
                writers.end_step()
            left = len(ready)
            started = _monotonic()
            before = iter([*queued, *[started] * (left - len(queued))]) if is_last else None
            queued = []
            while left:
                left -= 1
                runnable = ready.popleft()
                if before is not None:
                    sampler.waits.fresh.append(started - next(before))
                if loop._current is not None:
                    leave_task(loop)
                durations = sampler.callbacks.fresh
                if isinstance(runnable, TaskCore):
                    durations = sampler.steps.fresh
                    step(runnable)  # Not _run(), whose frame would hold the task: see step().
                else:
                    runnable._run()
                if writers.any:
                    writers.end_step()
                ended = _monotonic()
                durations.append(ended - started)
                started = ended
                if not is_last:
                    queued.extend([ended] * (len(ready) - left - len(queued)))
            runnable = None
            if loop._current is not None:
                leave_task(loop)
            if loop._stopping:
                break
        sampler.fold()
    finally:
        loop._sampled_turns = 0
        loop._watched = loop._watched_always
