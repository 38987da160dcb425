"""Turns of the loop that are observed: slower versions of those in ``core.py``.

``LoopCore.run_forever`` chooses among them, so that the usual turns do not have to test whether an
observer is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel.diagnostics.record_kinds import CONNECTIONS, POLL, STEP, TURN
from runtime.kernel.handles import Runnable
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.task import TaskCore, leave_task, step

_monotonic: Final[Callable[[], float]] = time.monotonic

_STEP: Final = STEP
_POLL: Final = POLL
_TURN: Final = TURN
_CONNECTIONS: Final = CONNECTIONS


def run_sampled_turns(loop: Scheduler, collect: Callable[[Any], object]) -> None:
    """Run some turns as ``core`` does, and measure durations for ``Loop.metrics``.

    ``collect(loop)`` begins a turn: it waits for events and delivers them. The first turn notes
    when each entry is queued for the second one, where the wait of each entry is known.
    """
    sampler = loop._sampler
    steps = sampler.steps.fresh
    callbacks = sampler.callbacks.fresh
    waits = sampler.waits.fresh
    ready = loop._ready
    writers = loop._poller.writers
    # When the first entries of the turn were queued; those after them were queued by the events.
    queued: list[float] = []
    next_queued: list[float] = []
    runnable: Runnable | None
    try:
        while loop._sampled_turns:
            loop._sampled_turns -= 1
            is_last = loop._sampled_turns == 0
            collect(loop)
            if writers.any:
                writers.end_step()
            count = len(ready)
            known = len(queued)
            started = polled = _monotonic()
            for entry in range(count):
                runnable = ready.popleft()
                if is_last:
                    waits.append(started - (queued[entry] if entry < known else polled))
                if loop._current is not None:
                    leave_task(loop)
                if isinstance(runnable, TaskCore):
                    step(runnable)  # Not _run(), whose frame would hold the task: see step().
                    durations = steps
                else:
                    runnable._run()
                    durations = callbacks
                if writers.any:
                    writers.end_step()
                ended = _monotonic()
                durations.append(ended - started)
                started = ended
                if not is_last:
                    left = count - entry - 1
                    while len(next_queued) < len(ready) - left:
                        next_queued.append(ended)
            runnable = None
            queued = next_queued
            if loop._current is not None:
                leave_task(loop)
            if loop._stopping:
                break
        sampler.fold()
    finally:
        loop._sampled_turns = 0
        loop._watched = loop._watched_always


def run_recorded_turns(loop: Scheduler, collect: Callable[[Any], object]) -> None:
    """Run turns as ``core`` does, and note their events in the recording of the loop."""
    recorder = loop._recorder
    assert recorder is not None
    note = recorder.note
    ready = loop._ready
    writers = loop._poller.writers
    connections = -1
    runnable: Runnable | None
    while loop._recorder is recorder and not loop._debug:
        note(_POLL, None, 0)
        collect(loop)
        if writers.any:
            writers.end_step()
        count = len(ready)
        note(_TURN, None, count)
        if loop._connections_opened - loop._connections_closed != connections:
            connections = loop._connections_opened - loop._connections_closed
            note(_CONNECTIONS, None, connections)
        for _ in range(count):
            runnable = ready.popleft()
            if isinstance(runnable, TaskCore):
                note(_STEP, runnable, runnable._number)
                step(runnable)  # Not _run(), whose frame would hold the task: see step().
                if not runnable._pending:
                    recorder.note_end(runnable)
            else:
                if loop._current is not None:
                    leave_task(loop)
                recorder.note_call(runnable)
                runnable._run()
            if writers.any:
                writers.end_step()
        runnable = None
        if loop._current is not None:
            leave_task(loop)
        if loop._stopping:
            return
