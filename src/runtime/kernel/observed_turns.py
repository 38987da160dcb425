"""Turns of the loop that are observed: slower versions of those in ``core.py``.

``LoopCore.run_forever`` chooses among them, so that the usual turns do not have to test whether an
observer is there. Recorded turns are in ``recorded_turns.py``; what they share with those of debug
mode is here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel.diagnostics import debug_mode
from runtime.kernel.diagnostics.age import note_wait
from runtime.kernel.handles import Handle, Runnable
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.task import TaskCore, leave_task, step

_monotonic: Final[Callable[[], float]] = time.monotonic


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
            end_turn(loop)
            if loop._stopping:
                break
        sampler.fold()
    finally:
        loop._sampled_turns = 0
        loop._watched = loop._watched_always


def run_timed_turns(loop: Scheduler, collect: Callable[[Any], object]) -> None:
    """Run turns as ``core`` does, with timed steps (debug mode), task copies, or a meter.

    ``collect(loop)`` begins a turn.
    """
    loop._poller.set_timer(debug_mode.EventTimer(loop) if loop._debug else None)
    try:
        _run_turns_timed(loop, collect)
    finally:
        loop._poller.set_timer(None)  # The timer refers to the loop: break the reference cycle.


def _run_turns_timed(loop: Scheduler, collect: Callable[[Any], object]) -> None:
    runnable: Runnable | None
    debug = loop._debug
    writers = loop._poller.writers
    while loop._watched and loop._debug is debug and (debug or loop._recorder is None):
        recorder = loop._recorder
        copies = loop._copies if recorder is None else None
        meter = loop._coroutine_meter
        if copies is not None:
            copies.refresh()
        if recorder is not None:
            recorder.ring.poll(None)
        collect(loop)
        if writers.any:
            writers.end_step()
        if recorder is not None:
            recorder.begin_turn(loop._connections_opened - loop._connections_closed)
        for _ in range(len(loop._ready)):
            runnable = loop._ready.popleft()
            if loop._current is not None:
                leave_task(loop)
            if recorder is not None:
                note_begin(recorder, runnable)
            started = loop.time()
            if not isinstance(runnable, TaskCore):
                runnable._run()
            elif recorder is not None:
                run_recorded_step(recorder, runnable)
            elif copies is not None:
                copies.run(runnable, step if meter is None else meter.run)
            elif meter is not None:
                meter.run(runnable)
            else:
                step(runnable)  # Not _run(), whose frame would hold the task: see step().
            if writers.any:
                writers.end_step()
            elapsed = loop.time() - started
            if debug:
                if elapsed >= loop._slow_callback_duration:
                    debug_mode.report_slow(runnable, elapsed)
                if isinstance(runnable, TaskCore):
                    note_wait(runnable)
        runnable = None
        end_turn(loop)
        if loop._stopping:
            return


def end_turn(loop: Scheduler) -> None:
    """End a turn: leave the last task, and send the data that was written in the turn.

    The caller has dropped its reference to the last entry of the queue: the finalizer of an object
    that has gone may write. A connection that fails to send is not part of the last task.
    """
    if loop._current is not None:
        leave_task(loop)
    if loop._poller.writers.any:
        loop._poller.writers.send()


def run_recorded_step(recorder: Any, task: TaskCore) -> None:
    """Run a step of ``task``, and note its end if that was the last one."""
    meter = task._loop._coroutine_meter
    try:
        if meter is None:
            step(task)  # Not _run(), whose frame would hold the task: see step().
        else:
            meter.run(task)
    finally:
        if not task._pending:
            recorder.note_end(task)


def note_begin(recorder: Any, runnable: Runnable) -> None:
    """Note that an entry of the ready queue is about to run."""
    if isinstance(runnable, TaskCore):
        recorder.ring.step(runnable)
    else:
        note_call(recorder, runnable)


def note_call(recorder: Any, runnable: Runnable) -> None:
    """Note that an entry of the ready queue that is not a task is about to run."""
    called: object = runnable._callback if isinstance(runnable, Handle) else type(runnable)
    # A handle that was cancelled has no callback, and runs nothing.
    if called is not None and not recorder.ring.call(runnable, called):
        recorder.note_call(runnable, called)
