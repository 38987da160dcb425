"""Watching the steps of a run: invariants, injected cancellations, and the trace.

A run that needs none of these has no monitor, and is several times as fast.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from runtime.kernel.diagnostics.describe import (
    await_frames,
    describe_callback_briefly,
    is_library_frame,
)
from runtime.kernel.handles import Handle, Runnable
from runtime.kernel.sleep_future import SleepFuture
from runtime.kernel.task import TaskCore
from runtime.simulation.current import CurrentRun
from runtime.simulation.errors import InvariantError
from runtime.simulation.loop import ExecutorCall
from runtime.simulation.network.machine import current_machine
from runtime.simulation.schedule import Monitor

CANCEL_RATE = 0.05
"""Probability with which a random run cancels a task at one of its awaits."""


@dataclass
class Step:
    """One step of a run, as the report shows it.

    ``number`` counts the steps from 1; ``time`` is that of the clock, in seconds; ``lane`` is the
    task, or another source of steps; ``host`` is the simulated host of the task. ``place`` is the
    line at which the task continued, ``waits`` a description of what it then waits for. ``kind`` is
    "task", "callback", "timer" or "executor"; "held" is an entry that is held back, and "follows"
    one that stays behind it. ``overtaken`` are the lanes that the step overtook.
    """

    number: int
    time: float
    lane: str
    kind: str
    host: str = ""
    place: str = ""
    function: str = ""
    waits: str = ""
    overtaken: list[str] = field(default_factory=list)
    rule: str = ""
    held: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the step as a line of the trace, which is the same in every process."""
        parts = (self.time, self.host, self.lane, self.kind, self.place, self.waits)
        return "\t".join([str(self.number), *map(str, parts), *self.overtaken, *self.notes])


FOLLOWS = "it keeps its place behind an entry that is held back"

RULES = {
    "executor": "a call in an executor ends whenever its thread does",
    "timer": "a timer fires at its deadline or later, so other entries may come first or last",
    "event": "an event of the network may come earlier or later",
    "host": "hosts are different processes: no order of their steps is promised",
    "task": "the tasks were queued by different sources: asyncio promises no order between them",
}
"""Why an order is possible that is not the usual one, by the kind of the entries."""


class Watch(Monitor):
    """The monitor of one run. With ``traced``, it records the steps."""

    def __init__(self, run: CurrentRun, *, traced: bool = False) -> None:
        self._run = run
        self._traced = traced
        self.steps: list[Step] = []
        self._failed = False
        # The number of choices that are in the trace.
        self._seen = 0

    def before(self, runnable: Runnable, index: int, skipped: list[Any]) -> None:
        """Record the beginning of a step; cancel the task if the run chooses to."""
        run = self._run
        if run.victims:
            self._cancel_victims(runnable)
        if self._traced:
            step = Step(run.schedule.steps, run.clock.now, lane_of(runnable), kind_of(runnable))
            if isinstance(runnable, TaskCore):
                step.host = _host_of(runnable)
                step.function, step.place = _place_of(runnable)
            step.notes = self._new_notes()
            if skipped:
                step.overtaken = [lane_of(each) for each in skipped]
                step.rule = self._rule([runnable, *skipped])
            self.steps.append(step)

    def held(self, runnable: Runnable, chosen: bool) -> None:
        """Record that an entry is held back."""
        if self._traced:
            run = self._run
            kind = "held" if chosen else "follows"
            step = Step(run.schedule.steps, run.clock.now, lane_of(runnable), kind)
            step.rule = self._rule([runnable]) if chosen else FOLLOWS
            if isinstance(runnable, TaskCore):
                step.host = _host_of(runnable)
                step.function, step.place = _place_of(runnable)
            self.steps.append(step)

    def after(self, runnable: Runnable) -> None:
        """Record the end of a step; check the invariants; cancel the task if the run chooses to."""
        run = self._run
        if self._traced and isinstance(runnable, TaskCore) and self.steps:
            self.steps[-1].waits = _wait_of(runnable)
        if run.victims:
            self._cancel_victims(runnable)
        if self._traced and self.steps:
            self.steps[-1].notes += self._new_notes()
        if run.invariants and not self._failed:
            for check, name in run.invariants:
                try:
                    holds = check()
                except BaseException:
                    self._failed = True
                    raise
                if holds is True or holds is None:
                    continue
                if inspect.iscoroutine(holds):
                    holds.close()
                    self._failed = True
                    raise TypeError(
                        f"the invariant {name!r} must return a value, got {holds!r}: its check is "
                        "called outside of all tasks, and cannot wait"
                    )
                # Not only False: comparisons of arrays return values of other types.
                if not holds:
                    self._failed = True
                    raise InvariantError(name)

    def _rule(self, entries: list[Any]) -> str:
        """Return why entries may run in another order than that in which they were queued."""
        kinds = [kind_of(each) for each in entries]
        for kind in ("executor", "timer"):
            if kind in kinds:
                return RULES[kind]
        return RULES["host" if self._run.settings.order == "events" else "task"]

    def _new_notes(self) -> list[str]:
        """Return the unusual choices since the last call, except those of the order of steps."""
        choices = self._run.choices
        first, self._seen = self._seen, len(choices.values)
        notes = []
        for place in range(first, self._seen):
            value, label = choices.values[place], choices.labels[place]
            if value and label != "step":
                count = choices.counts[place]
                notes.append(label if count == 2 else f"{label}: {value} of 0 to {count - 1}")
        return notes

    def _cancel_victims(self, runnable: Runnable) -> None:
        run = self._run
        for victim in list(run.victims):
            if victim.task is not runnable:
                continue
            target: Any = victim.task
            if target.done() or not victim.left:
                run.victims.remove(victim)
            elif run.choices.chance(CANCEL_RATE, victim.label):
                victim.left -= 1
                victim.cancel()


def watch(run: CurrentRun) -> None:
    """Give a run a monitor, if it has none."""
    if run.schedule.monitor is None:
        run.schedule.monitor = Watch(run)


def lane_of(runnable: Any) -> str:
    """Return the name of the lane in which the steps of an entry are shown."""
    if isinstance(runnable, TaskCore):
        return runnable.get_name()
    if isinstance(runnable, ExecutorCall):
        function = runnable.function
        return f"executor: {getattr(function, '__qualname__', type(function).__name__)}"
    if isinstance(runnable, SleepFuture):
        subscribers = runnable._list_subscribers()
        names = [each.get_name() for each in subscribers if isinstance(each, TaskCore)]
        return f"timer of {names[0]}" if names else "timer"
    if isinstance(runnable, Handle):
        callback = runnable._callback
        if callback is None:
            return "cancelled callback"
        return describe_callback_briefly(callback).partition(" at ")[0]
    return type(runnable).__name__


def kind_of(runnable: object) -> str:
    """Return the kind of an entry: "task", "timer", "executor" or "callback"."""
    if isinstance(runnable, TaskCore):
        return "task"
    if isinstance(runnable, ExecutorCall):
        return "executor"
    if isinstance(runnable, SleepFuture) or type(runnable).__name__ == "TimerHandle":
        return "timer"
    return "callback"


def _host_of(task: Any) -> str:
    machine = task.get_context().get(current_machine)
    return "" if machine is None else machine.name


def _place_of(task: Any) -> tuple[str, str]:
    """Return the function of the program in which a task is suspended, and the file and line."""
    frames = await_frames(task.get_coro())
    own = [frame for frame in frames if not is_library_frame(frame)]
    if not own:
        return "", ""
    frame = own[-1]
    name = frame.f_code.co_filename.rpartition("/")[2]
    return frame.f_code.co_qualname, f"{name}:{frame.f_lineno}"


def _wait_of(task: Any) -> str:
    """Return a short description of what a task waits for, without addresses of objects."""
    if task.done():
        if task.cancelled():
            return "cancelled"
        failure = task._failure()
        if failure is not None:
            return f"failed: {type(failure.exception).__name__}"
        return "done"
    awaited = task._waits_for()
    if awaited is None:
        return "its turn"
    if isinstance(awaited, SleepFuture):
        return f"time {awaited._due():g}"
    if isinstance(awaited, TaskCore):
        return awaited.get_name()
    frames = [frame for frame in await_frames(task.get_coro()) if is_library_frame(frame)]
    if frames:
        return f"{frames[-1].f_code.co_qualname}()"
    return type(awaited).__name__
