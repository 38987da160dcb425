"""Schedule: runs the turns of a simulated loop, and chooses the entry of the queue to run next.

The production loop runs the entries of its ready queue in the order in which they were queued. A
schedule may let an entry overtake others, or hold one back. Each step is a choice between ``n + 1``
possibilities, where ``n`` is the number of entries::

    0            run the first entry, as the production loop does
    1 .. n - 1   let the entry at this index overtake the entries before it, and run it
    n            hold the first entry back until no other entry is left, or for 100 steps at
                 most, and choose again; for a call in an executor, with ``order="events"``,
                 this is ``n + 1``, and ``n`` is to hold it back for up to a second as well

A choice is limited by one of two rules.

``order="events"``, the default, allows the orders of the production loop, and no others. The loop
is a queue, so that the order of its entries is determined, except for the moments at which other
causes put entries in:

- a timer may be late, and a call in an executor may take longer: other entries overtake theirs,
  but these do not overtake the entries that were in the queue before them;
- hosts are different processes: the entries of one overtake those of another;
- events of the network come later, or in another order: their selector chooses that.

So all entries of tasks and callbacks of one host have the same *source*, and keep their order. If
neither a timer nor a call nor another host has an entry in the queue, there is no choice.

``order="tasks"`` allows all orders that asyncio's documentation does not rule out, because another
loop, another version of a library, or a wait of a turn more would produce them. Here the source of
an entry is the task or callback that queued it, or the event, the timer or the call in an executor
that did. An entry can overtake another one if their sources differ.

With either rule these orders are kept:

- the steps of a task: a task is in the queue at most once;
- the entries with the same source: ``create_task`` twice in one task starts the tasks in order, and
  ``Event.set`` wakes the waiters in order;
- all callbacks among one another: asyncio promises that ``call_soon`` calls callbacks in the order
  in which they were registered, and timers run in the order of their deadlines;
- two timers, also of ``sleep``, that were set at the same time of the clock: the first one that was
  set runs first, unless its deadline is later. Timers that were set at different times may be due
  in another order in production, because steps take time there.

If a choice names an entry that another of these has to precede, the preceding one runs instead, and
the record contains that one. So the record of a run holds no choice without effect.

The idioms for mypyc: see ``kernel/native/mypyc.py``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from runtime.kernel.core import LoopCore, TurnRunner, collect, run_unusual
from runtime.kernel.handles import ContextRunnable, Handle, Runnable
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.observed_turns import end_turn
from runtime.kernel.poller import FEW_ENTRIES
from runtime.kernel.sleep_future import SleepFuture
from runtime.kernel.task import TaskCore, leave_task, step
from runtime.kernel.timers import TimerHandle
from runtime.simulation.choices import Choices
from runtime.simulation.errors import LivelockError, StarvationError

_Handle: Final = Handle

_LATE_TIMERS: Final = 3
"""Number of further deadlines by which the timers of one turn may be late."""

_LONGEST_HOLD: Final = 100
"""Number of steps after which an entry that is held back can run: others may wait for it."""

_STILL: Final = 20
"""Share of the budget of steps, as its divisor, within which the clock must have moved.

Otherwise the tasks run on and on, and none of them waits.
"""

_FEWEST_STILL: Final = 10_000
"""Number of steps that a program may take without a moment of time, if its budget is that large."""

_LONGEST_CALL: Final = 1.0
"""Seconds for which a call in an executor may be held back."""

_ONE_MORE: Final = 100_000
"""Steps that the end of a run may take after its budget of steps is exhausted."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Monitor:
    """Sees each step of a run: to record a trace, to check invariants, to cancel a task."""

    __slots__ = ()

    def before(self, runnable: Runnable, index: int, skipped: list[Any]) -> None:
        """Note that ``runnable`` is about to run, and overtakes the entries in ``skipped``."""

    def held(self, runnable: Runnable, chosen: bool) -> None:
        """Note that ``runnable`` is held back: by choice, or because it follows such an entry."""

    def after(self, runnable: Runnable) -> None:
        """Note that ``runnable`` has run."""


@mypyc_attr(allow_interpreted_subclasses=True)
class OwnSource(Runnable):
    """An entry of the ready queue that has a moment of its own: a call in an executor."""

    __slots__ = ()


@mypyc_attr(allow_interpreted_subclasses=True)
class Moments:
    """The clock of a run, as the schedule uses it."""

    __slots__ = ("now",)

    def __init__(self, start: float) -> None:
        self.now = start

    def advance(self, moment: float) -> None:
        """Move the clock forward to ``moment``, in seconds."""
        if moment > self.now:
            self.now = moment


class Schedule(TurnRunner):
    """The turns of one loop, in the order that ``choices`` determine.

    ``only_events`` restricts them to the moments of events. ``budget`` is the number of steps after
    which LivelockError is raised. Timers may be up to ``lateness`` seconds late. With
    ``starvation``, an entry may wait in the queue for so many steps of others, and after half of
    them it is no longer overtaken or held back, so that the schedule alone starves no entry.
    """

    __slots__ = (
        "_blocked",
        "_choices",
        "_first",
        "_held_since",
        "_held_until",
        "_host_of",
        "_is_long",
        "_lateness",
        "_loose",
        "_moments",
        "_only_events",
        "_queued_at",
        "_set_at",
        "_sources",
        "_starvation",
        "_still_until",
        "_timers_set",
        "budget",
        "first_end",
        "held",
        "is_main_run",
        "monitor",
        "next_event",
        "steps",
        "wait_until",
    )

    def __init__(
        self,
        choices: Choices,
        moments: Moments,
        only_events: bool,
        budget: int,
        lateness: float,
        starvation: int = 0,
    ) -> None:
        self._choices = choices
        self._moments = moments
        self._only_events = only_events
        self._lateness = lateness
        # The budget, or 0; and with one, the number of steps when each entry was queued, by ``id``.
        self._starvation = starvation
        self._queued_at: dict[int, int] = {}
        # The sources of the entries of the ready queue; the entries before ``_first`` are unused.
        self._sources: list[Any] = []
        self._first = 0
        # The entries that are held back, in order, and their sources. They are as good as queued.
        self.held: list[Any] = []
        # The number of steps at which they are released, and the time since which they are held.
        self._held_until = 0
        self._held_since = 0.0
        # Whether a call in an executor is held back for up to a second.
        self._is_long = False
        # With ``only_events``: the number of entries with a source of their own, queued or held.
        self._loose = 0
        # The variable of a context that has the host of an entry; None as long as there is one.
        self._host_of: ContextVar[Any] | None = None
        # Returns the time of the next event of the network.
        self.next_event: Callable[[], float] | None = None
        # The time at which a wait ends at the latest, because a call is held back only until then.
        self.wait_until = math.inf
        # The number of steps at which the clock must have moved.
        self._still_until = _still_steps(budget)
        self._blocked: list[Any] = []
        # The time at which each timer was set, and its number, by ``id``: an address that is used
        # again gets a new entry.
        self._set_at: dict[int, tuple[float, int]] = {}
        self._timers_set = 0
        self.monitor: Monitor | None = None
        self.budget = budget
        self.steps = 0
        # The number of steps when the loop was stopped or left for the first time; 0 before.
        self.first_end = 0
        # Whether that is the end of the program, and not that of one of its parts.
        self.is_main_run = False

    def use_hosts(self, host_of: ContextVar[Any]) -> None:
        """Note that there is more than one host. ``host_of`` has the host of a task or callback."""
        self._host_of = host_of

    def may_run(self, ready: deque[Any], index: int) -> bool:
        """Return whether the entry at ``index`` may overtake all that are before it."""
        if _first_of_source(self, ready, index) != index:
            return False
        source = self._sources[self._first + index]
        return not self.held or not _is_behind_held(self, ready[index], source)

    def run_turns(self, loop: LoopCore) -> None:
        """Run turns until the loop is stopped."""
        self._sources.clear()
        self._first = 0
        self._loose = 0
        self._queued_at.clear()
        try:
            _run_turns(self, loop)
        finally:
            _release(self, loop._ready)
            self._sources.clear()
            if self.first_end == 0:
                self.first_end = self.steps
                if self.is_main_run and not (loop._tasks or loop._ready or loop._timers.size()):
                    self._choices.relevant = len(self._choices.values)

    def _fail(self) -> None:
        """Raise LivelockError; the tasks then have some steps left to end."""
        if self.steps > self.budget:
            text = (
                f"the run has taken {self.budget} steps, and its tasks have not ended: if it needs "
                "more steps, give it a larger budget, steps=..."
            )
        else:
            text = (
                f"the run has taken {_still_steps(self.budget)} steps, a share of its budget, "
                "without a moment of time: tasks wait for one another in a loop, as with sleep(0); "
                "if they make progress, give the run a larger budget: steps=..."
            )
        self.budget = max(self.budget, self.steps + _ONE_MORE)
        self._still_until = self.budget
        raise LivelockError(text)


def _still_steps(budget: int) -> int:
    """Return the number of steps that a run may take without a moment of time."""
    return max(budget // _STILL, min(budget, _FEWEST_STILL))


def _run_turns(schedule: Schedule, loop: LoopCore) -> None:
    ready = loop._ready
    popleft: Callable[[], Any] = ready.popleft
    poller = loop._poller
    writers = poller.writers
    timers = loop._timers
    sources = schedule._sources
    only_events = schedule._only_events
    runnable: Any
    while True:
        if schedule.held and not ready and not _calls_last(schedule, loop):
            _release(schedule, ready)
        _add_sources(schedule, ready)
        count = len(ready)
        if (
            count
            and poller.skips
            and count <= FEW_ENTRIES
            and timers.lone is None
            and not (timers.fresh or timers.heap or timers.ordered)
            and not (loop._has_inbound or loop._until_idle)
        ):
            poller.skips -= 1
            loop._turns += 1
        else:
            before = schedule._moments.now
            schedule.wait_until = math.inf
            if schedule._is_long:
                schedule.wait_until = schedule._held_since + _LONGEST_CALL
            if timers.lone is not None or timers.fresh:
                for timer in timers.new():
                    schedule._timers_set += 1
                    schedule._set_at[id(timer)] = (before, schedule._timers_set)
                timers.merge()
            collect(loop)
            if writers.any:
                writers.end_step()
            if schedule._moments.now != before:
                schedule._still_until = schedule.steps + _still_steps(schedule.budget)
                if schedule._lateness > 0.0:
                    _be_late(schedule, loop)
            _add_sources(schedule, ready)
            count = len(ready)
        for _entry in range(count):
            waiting = len(ready)
            if waiting == 0:
                break
            index = 0
            if waiting > 1 or schedule.held or schedule._loose:
                index = _choose(schedule, ready, loop)
                waiting = len(ready)
                if waiting == 0:
                    break
            if index == 0:
                runnable = popleft()
                first = schedule._first
                source = sources[first]
                sources[first] = None
                schedule._first = first + 1
            else:
                runnable = ready[index]
                del ready[index]
                source = sources.pop(schedule._first + index)
            waiting -= 1
            if only_events and isinstance(source, Runnable):
                schedule._loose -= 1
            if schedule._starvation:
                _note_wait(schedule, ready, runnable)
            schedule.steps += 1
            if schedule.steps > schedule._still_until or schedule.steps > schedule.budget:
                ready.appendleft(runnable)
                schedule._fail()
            if not only_events:
                source = runnable
            monitor = schedule.monitor
            if monitor is not None:
                monitor.before(runnable, index, _skipped(ready, index))
            kind = type(runnable)
            if kind is _Handle:
                if loop._current is not None:
                    leave_task(loop)
                Handle._run(runnable)
            elif isinstance(runnable, TaskCore):
                step(runnable)
            else:
                if waiting == 0 and schedule.held and not isinstance(runnable, OwnSource):
                    # It may look whether anything else is ready.
                    _release(schedule, ready)
                    _add_sources(schedule, ready)
                    waiting = len(ready)
                run_unusual(loop, runnable)
            if writers.any:
                writers.end_step()
            # The step may have asked for a monitor.
            monitor = schedule.monitor
            if monitor is not None:
                if loop._current is not None:
                    leave_task(loop)
                monitor.after(runnable)
            if only_events:
                for new in range(waiting, len(ready)):
                    sources.append(_source_of(schedule, ready[new]))
            else:
                for _new in range(len(ready) - waiting):
                    sources.append(source)
            if schedule._starvation:
                _note_queued(schedule, ready)
        runnable = None
        source = None
        end_turn(loop)
        if loop._stopping:
            return


def _add_sources(schedule: Schedule, ready: deque[Any]) -> None:
    """Note the sources of the entries that were queued since the last step, and not by a step."""
    sources = schedule._sources
    first = schedule._first
    if first > 512:
        del sources[:first]
        schedule._first = first = 0
    known = len(sources) - first
    for index in range(known, len(ready)):
        entry = ready[index]
        sources.append(_source_of(schedule, entry) if schedule._only_events else entry)
    if schedule._starvation:
        _note_queued(schedule, ready)


def _note_queued(schedule: Schedule, ready: deque[Any]) -> None:
    """Note the number of steps for the entries that were queued since the last step."""
    queued_at = schedule._queued_at
    for index in range(len(ready) - 1, -1, -1):
        if id(ready[index]) in queued_at:
            break
        queued_at[id(ready[index])] = schedule.steps


def _note_wait(schedule: Schedule, ready: deque[Any], runnable: Runnable) -> None:
    """Raise StarvationError if an entry, which is about to run, was ready for too long."""
    waited = schedule.steps - schedule._queued_at.pop(id(runnable), schedule.steps)
    if waited > schedule._starvation:
        ready.appendleft(runnable)
        budget = schedule._starvation
        schedule._starvation = 0  # The tasks then have the steps that they need to end.
        raise StarvationError(
            f"{runnable!r} was ready for {waited} steps of other tasks and callbacks before it "
            f"ran, more than its budget of starvation={budget}: let the others do less in one "
            "turn, limit their number, or give the run a larger budget"
        )


def _is_starving(schedule: Schedule, entry: Runnable) -> bool:
    """Return whether an entry has waited for half of its budget, so that it may not wait longer."""
    queued = schedule._queued_at.get(id(entry), schedule.steps)
    return schedule.steps - queued >= schedule._starvation // 2


def _source_of(schedule: Schedule, entry: Runnable) -> object:
    """Return the source of an entry with ``order="events"``: itself, its host, or the loop's."""
    if isinstance(entry, TaskCore):
        if schedule._host_of is None:
            return schedule
        return entry.get_context().get(schedule._host_of, None) or schedule
    if isinstance(entry, SleepFuture) or isinstance(entry, (TimerHandle, OwnSource)):  # noqa: SIM101
        schedule._loose += 1
        return entry
    if schedule._host_of is not None and isinstance(entry, ContextRunnable):
        context: Any = entry.get_context()
        return schedule if context is None else context.get(schedule._host_of, None) or schedule
    return schedule


def _calls_last(schedule: Schedule, loop: LoopCore) -> bool:
    """Return whether only calls are held back, and something else is due while they last."""
    if not schedule._is_long or loop._until_idle or loop._stopping:
        return False
    for entry in schedule.held:
        if not isinstance(entry, OwnSource):
            return False
    return _is_due_within(schedule, loop, schedule._held_since + _LONGEST_CALL)


def _is_due_within(schedule: Schedule, loop: LoopCore, limit: float) -> bool:
    """Return whether a timer or an event of the network is due at the time ``limit`` or before."""
    timers = loop._timers
    for timer in timers.new():
        if timer._due() <= limit:
            return True
    if (timers.heap or timers.ordered) and timers.next_due() <= limit:
        return True
    return schedule.next_event is not None and schedule.next_event() <= limit


def _choose(schedule: Schedule, ready: deque[Any], loop: LoopCore) -> int:
    """Return the index of the entry to run next; entries that are to be held back are removed."""
    sources = schedule._sources
    if schedule.held and (
        schedule.steps >= schedule._held_until
        or (schedule._starvation and _is_starving(schedule, schedule.held[0]))
    ):
        _release(schedule, ready)
    if schedule._starvation and ready and not schedule.held and _is_starving(schedule, ready[0]):
        return 0
    while True:
        count = len(ready)
        if count == 0:
            return 0
        value = possible = 0
        if count > 1 and (
            not schedule._only_events or schedule._loose or schedule._host_of is not None
        ):
            if schedule._only_events and isinstance(ready[0], OwnSource):
                possible = count + 2
            else:
                possible = count + 1
            value = schedule._choices.pick(ready, possible)
            if 0 < value < count:
                value = _first_of_source(schedule, ready, value)
            elif (
                value == count
                and schedule._only_events
                and schedule._host_of is None
                and sources[schedule._first] is schedule
            ):
                # Nothing overtakes an entry of a task, so that holding it back has no effect.
                value = 0
            schedule._choices.record(possible, value, "step")
        elif (
            schedule._loose
            and isinstance(ready[0], OwnSource)
            and _is_due_within(schedule, loop, schedule._moments.now + _LONGEST_CALL)
        ):
            # Nothing else is ready, but will be while the call lasts.
            possible = 2
            value = schedule._choices.pick(ready, 2)
            schedule._choices.record(2, value, "step")
        is_chosen = value >= count
        if is_chosen:
            if count == 1 or (value == count and possible == count + 2):
                schedule._is_long = True
            value = 0
        elif not schedule.held or not _is_behind_held(
            schedule, ready[value], sources[schedule._first + value]
        ):
            return value
        runnable = ready[value]
        del ready[value]
        if not schedule.held:
            schedule._held_until = schedule.steps + _LONGEST_HOLD
            schedule._held_since = schedule._moments.now
        schedule.held.append(runnable)
        schedule._blocked.append(sources.pop(schedule._first + value))
        if schedule.monitor is not None:
            schedule.monitor.held(runnable, is_chosen)


def _keeps_order(schedule: Schedule, earlier: object, source: object, later: object) -> bool:
    """Return whether a queued entry always runs before a later one, of another source.

    ``source`` is that of the earlier entry.
    """
    if schedule._only_events and not isinstance(source, Runnable):
        # The entries of another host overtake it; no moment of a timer or of a call does.
        return isinstance(later, SleepFuture) or isinstance(later, (TimerHandle, OwnSource))  # noqa: SIM101
    if isinstance(later, ContextRunnable):
        if isinstance(earlier, ContextRunnable):
            return True
        if not isinstance(later, TimerHandle):
            return False
    elif not isinstance(later, SleepFuture):
        return False
    if not (isinstance(earlier, SleepFuture) or isinstance(earlier, TimerHandle)):  # noqa: SIM101
        return False
    first = schedule._set_at.get(id(earlier))
    second = schedule._set_at.get(id(later))
    if first is None or second is None:
        return False
    return first[0] == second[0] and first[1] < second[1]


def _first_of_source(schedule: Schedule, ready: deque[Any], index: int) -> int:
    """Return the index of the entry that has to run before the one at ``index``, or ``index``."""
    sources = schedule._sources
    first = schedule._first
    while index > 0:
        source = sources[first + index]
        entry = ready[index]
        earlier = 0
        while earlier < index:
            if sources[first + earlier] is source:
                break
            if _keeps_order(schedule, ready[earlier], sources[first + earlier], entry):
                break
            earlier += 1
        if earlier == index:
            return index
        index = earlier
    return 0


def _is_behind_held(schedule: Schedule, runnable: object, source: object) -> bool:
    """Return whether one of the entries that are held back has to run before this one."""
    for index in range(len(schedule.held)):
        if schedule._blocked[index] is source:
            return True
        if _keeps_order(schedule, schedule.held[index], schedule._blocked[index], runnable):
            return True
    return False


def _release(schedule: Schedule, ready: deque[Any]) -> None:
    """Put the entries that were held back at the end of the ready queue."""
    held = schedule.held
    if held:
        for index in range(len(held)):
            ready.append(held[index])
            schedule._sources.append(schedule._blocked[index])
        schedule.held = []
        schedule._blocked = []
        schedule._is_long = False


def _skipped(ready: deque[Any], index: int) -> list[Any]:
    return [ready[place] for place in range(index)]


def _be_late(schedule: Schedule, loop: LoopCore) -> None:
    """Let the timers that are due run late, so that the next ones are due in the same turn."""
    timers = loop._timers
    moments = schedule._moments
    latest = moments.now + schedule._lateness
    for _ in range(_LATE_TIMERS):
        if not (timers.heap or timers.ordered):
            return
        if timers.wait_time(moments.now) < 0.0:
            return
        due = timers.next_due()
        if due > latest or not schedule._choices.chance(0.1, "late timer"):
            return
        moments.advance(due)
        timers.pop_due(due, loop._ready_append)
