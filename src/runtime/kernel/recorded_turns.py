"""Turns of the loop while the flight recorder is on: slower versions of those in ``core.py``.

They are a module above ``core.py``, so that compiled code calls its functions directly. The
recording holds the function ``run_recorded_turns``, and ``LoopCore.run_forever`` calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from runtime.kernel.core import LoopCore, collect
from runtime.kernel.diagnostics.record_kinds import CONNECTIONS
from runtime.kernel.observed_turns import note_call, run_recorded_step
from runtime.kernel.public_types import Task
from runtime.kernel.task import TaskCore, leave_task

_Task: Final[type[Task[Any]]] = Task
_CONNECTIONS: Final = CONNECTIONS


def run_recorded_turns(loop: LoopCore) -> None:
    """Run turns as ``core`` does, and note their events in the recording of the loop."""
    recorder = loop._recorder
    assert recorder is not None
    ring = recorder.ring
    note_poll, note_turn, note_step = ring.poll, ring.turn, ring.step
    ready = loop._ready
    popleft: Callable[[], Any] = ready.popleft
    writers = loop._poller.writers
    connections = -1
    runnable: Any
    while loop._recorder is recorder and not loop._debug:
        note_poll(None)
        collect(loop)
        if writers.any:
            writers.end_step()
        if loop._connections_opened - loop._connections_closed != connections:
            connections = loop._connections_opened - loop._connections_closed
            recorder.note(_CONNECTIONS, None, connections)
        note_turn(None)
        for _entry in range(len(ready)):
            runnable = popleft()
            if type(runnable) is _Task or isinstance(runnable, TaskCore):
                note_step(runnable)
                run_recorded_step(recorder, runnable)
            else:
                if loop._current is not None:
                    leave_task(loop)
                note_call(recorder, runnable)
                runnable._run()
            if writers.any:
                writers.end_step()
        runnable = None
        # As end_turn() does, whose call would cost a quarter of a percent of an echo.
        if loop._current is not None:
            leave_task(loop)
        if writers.any:
            writers.send()
        if loop._stopping:
            return
