"""Partial-order reduction: one run for all orders that differ only in independent steps.

Two neighbouring steps that touch nothing in common (see ``footprints.py``) can be swapped, and the
program cannot tell. All orders that come from one another by such swaps are one *class*. This
search makes at least one run of each class, and is then complete: it has tried every order of the
steps that the rules of ``schedule.py`` allow, not only those with few deviations.

It works backwards from the runs that were made. If a step of a run depends on an earlier one, the
other order of the two is another class; so at the choice of the earlier step, the search notes that
the later one, or a step that leads to it, must be tried too. A choice for which nothing is noted
is left alone. In addition, an entry that was tried at a choice *sleeps* in the runs that try the
others there, until a step that depends on it has run: to run it before would repeat a class.

Most faults need few such changes. So the search first tries those of its first run, in random
order, then those of the runs that this made, and so on: *level* by level. It may begin a branch
before the ones beside it are finished: an entry that sleeps relies on runs of another branch, which
are made in any case, sooner or later.

These steps have an order that is never swapped: the steps of a task; a step, and those of the
entries that it queued; steps before and after a move of the clock. Two steps that both queue
callbacks, or both set timers, depend on each other, since these keep the order in which they were
queued; with ``order="events"`` so do two steps that queue anything. Choices of other kinds are
tried in all ways.

Source: C. Flanagan, P. Godefroid, "Dynamic partial-order reduction for model checking software",
2005; P. Godefroid, "Partial-order methods for the verification of concurrent systems", 1996.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from runtime.kernel.handles import ContextRunnable, Handle, Runnable
from runtime.kernel.sleep_future import SleepFuture
from runtime.simulation.choices import Choices, Strategy
from runtime.simulation.current import CurrentRun
from runtime.simulation.footprints import (
    Footprint,
    after_step,
    forget_stored_names,
    independent,
    reachable_now,
    union,
)
from runtime.simulation.loop import SimulatedTask
from runtime.simulation.random_numbers import RandomNumbers
from runtime.simulation.schedule import OwnSource
from runtime.simulation.watching import Watch

_MOST_VALUES = 64
"""Number of possibilities up to which all are tried of a choice that is not of the next step."""

_MOST_BROAD = 5_000
"""Number of runs after which the search goes to the end of each branch before it begins another.

Until then it keeps the choices of all runs at which something is to be tried, and after that no
more than a few for each branch.
"""

_CALLBACKS = "queued callbacks"
_TIMERS = "set timers"
_ENTRIES = "queued entries"


@dataclass
class _Step:
    """A step of a run: its entry, what it touched, and the steps that it follows in any case."""

    key: int
    node: _Node | None
    epoch: float
    creator: int
    footprint: Footprint = None


@dataclass(eq=False, slots=True)
class _Node:
    """A choice of a run, and the values that were tried and are to be tried at it.

    ``origin`` is the choice before it, with the value that led here; None for the first choice.
    ``level`` is the number of choices before it at which the search came back. For the choice of a
    step, ``entries`` has the value with which each entry runs that can run. ``asleep`` are the
    entries that need not be tried, with the footprints of their steps.
    """

    origin: tuple[_Node, int] | None
    level: int
    entries: dict[int, int] = field(default_factory=dict)
    to_do: set[int] = field(default_factory=set)
    done: dict[int, Footprint] = field(default_factory=dict)
    asleep: dict[int, Footprint] = field(default_factory=dict)
    is_pending: bool = False

    def open_keys(self) -> list[int]:
        """Return the keys that are to be tried: of entries, or values of another choice."""
        return [
            key for key in sorted(self.to_do) if key not in self.done and key not in self.asleep
        ]

    def path(self) -> list[tuple[_Node, int]]:
        """Return the choices before this one, with the values that lead here."""
        found = []
        origin = self.origin
        while origin is not None:
            found.append(origin)
            origin = origin[0].origin
        return found[::-1]


class ReducedRun(Strategy):
    """The choices of one run: those of ``prefix``, and then the first entry that is not asleep."""

    def __init__(self, prefix: list[tuple[_Node, int]], *, reduce: bool) -> None:
        self._prefix = prefix
        self._level = prefix[-1][0].level + 1 if prefix else 0
        self._reduce = reduce
        self._run: CurrentRun | None = None
        self.choices: list[tuple[_Node, int]] = []
        self.steps: list[_Step] = []
        self._asleep: dict[int, Footprint] = {}
        self._node: _Node | None = None
        self._keys: dict[int, int] = {}
        self._others = 0
        self._creators: dict[int, int] = {}

    def watch(self, run: CurrentRun, *, traced: bool) -> Watch:
        """Return the monitor that notes the steps of the run."""
        self._run = run
        return _FootprintWatch(run, self, traced=traced)

    # -- Choices -----------------------------------------------------------------------------------

    def decide(self, count: int, label: str) -> int:
        """Return the value of a choice that is not that of a step; all values are tried in turn."""
        place = len(self.choices)
        value = 0
        if place < len(self._prefix):
            node, value = self._prefix[place]
            # A choice of another kind here means that the program does not repeat itself.
            if value >= count:
                value = 0
        else:
            values = range(count) if count <= _MOST_VALUES else (0, count // 2, count - 1)
            node = _Node(self._last(), self._level, to_do=set(values))
        self._asleep = {}
        self.choices.append((node, value))
        return value

    def happens(self, probability: float, label: str) -> bool:
        """Return the value of a choice between two possibilities."""
        return self.decide(2, label) == 1

    def pick(self, ready: deque[Any], count: int) -> int:
        """Return the index of the entry to run, or a value that holds a call back."""
        assert self._run is not None
        place = len(self.choices)
        if place < len(self._prefix):
            node, value = self._prefix[place]
            if place == len(self._prefix) - 1:
                done = {key: each for key, each in node.done.items() if key >= 0}
                self._asleep = self._found_again(ready, {**node.asleep, **done})
        else:
            schedule = self._run.schedule
            entries = {
                self.key_of(ready[index]): index
                for index in range(len(ready))
                if schedule.may_run(ready, index)
            }
            node = _Node(self._last(), self._level, entries, asleep=dict(self._asleep))
            awake = [key for key in entries if key not in self._asleep]
            if not awake:
                # This run repeats a class. It has to end somehow.
                awake = list(entries)
            value = entries[awake[0]]
            node.to_do.add(awake[0])
            if isinstance(ready[0], OwnSource) and count != len(ready) + 1:
                node.entries[-1] = len(ready)
                node.to_do.add(-1)
            elif len(ready) == 1:
                node.entries[-1] = 1
                node.to_do.add(-1)
        self._node = node
        if value >= len(ready):
            # The call is held back: no step runs because of this choice.
            self._node = None
            self._asleep = {}
        self.choices.append((node, value))
        return value

    def _found_again(self, ready: deque[Any], asleep: dict[int, Footprint]) -> dict[int, Footprint]:
        """Return the entries of ``asleep``, with footprints of the objects of this run.

        Those of earlier runs name objects that are gone: an object of this run may have the address
        of another one, or another address than its counterpart had.
        """
        found = {}
        for entry in ready:
            key = self.key_of(entry)
            if key in asleep:
                found[key] = _upper_bound(entry, asleep[key])
        return found

    def _last(self) -> tuple[_Node, int] | None:
        return self.choices[-1] if self.choices else None

    # -- Steps -------------------------------------------------------------------------------------

    def key_of(self, entry: object) -> int:
        """Return the number of an entry of the ready queue, which is the same in all runs."""
        # An entry is not kept here: a failed task reports its exception when it is collected.
        if isinstance(entry, SimulatedTask):
            return 2 * hash(entry)
        key = self._keys.get(id(entry))
        if key is None:
            self._others += 1
            key = self._keys[id(entry)] = 2 * self._others + 1
        return key

    def last_step(self) -> int:
        """Return the number of steps when the loop was left for the first time."""
        return len(self.steps) if self._run is None else self._run.schedule.first_end

    def queued(self, entry: object, creator: int) -> None:
        """Note the step that has queued an entry; -1 for none."""
        self._creators[self.key_of(entry)] = creator

    def begin(self, runnable: object) -> None:
        """Note that a step begins."""
        assert self._run is not None
        key = self.key_of(runnable)
        self._keys.pop(id(runnable), None)
        node, self._node = self._node, None
        step = _Step(key, node, self._run.clock.now, self._creators.get(key, -1))
        self.steps.append(step)

    def end(self, footprint: Footprint) -> None:
        """Note what the step has touched."""
        step = self.steps[-1]
        if not self._reduce:
            footprint = None
        step.footprint = footprint
        self._asleep = {
            key: each
            for key, each in self._asleep.items()
            if key != step.key and independent(each, footprint)
        }


def _upper_bound(entry: object, earlier: Footprint) -> Footprint:
    """Return what the next step of an entry can touch, which touched ``earlier`` in another run."""
    links = None if earlier is None else reachable_now(entry)
    if earlier is None or links is None:
        return None
    # The names in a footprint, such as that of the queue of timers, are the same in all runs.
    names = frozenset(each for each in earlier if isinstance(each, str))
    return union([names, *(footprint for _, footprint in links)])


class _FootprintWatch(Watch):
    """The monitor of a run that also measures the footprints of its steps."""

    def __init__(self, run: CurrentRun, strategy: ReducedRun, *, traced: bool) -> None:
        super().__init__(run, traced=traced)
        self._strategy = strategy
        self._current = run
        # Whether the run also depends on the order of steps that have nothing in common: a limit
        # on starvation counts them, leftovers are looked for when all of them have run, and a
        # planned fault happens between two of them.
        settings = run.settings
        self._sees_order = bool(settings.starvation or settings.leftovers or settings.setup)
        self._found: list[tuple[object, Footprint]] | None = None
        self._choices = 0
        self._time = 0.0
        self._known = 0

    def before(self, runnable: Runnable, index: int, skipped: list[Any]) -> None:
        """Search what the step can reach."""
        super().before(runnable, index, skipped)
        run = self._current
        self._choices = len(run.choices.values)
        self._time = run.clock.now
        ready = run.loop._ready
        for entry in ready:
            self._strategy.key_of(entry)
        self._known = len(ready)
        self._found = None
        if not (self._sees_order or run.invariants or run.victims or len(run.world.hosts()) > 1):
            self._found = reachable_now(runnable)
        self._strategy.begin(runnable)

    def after(self, runnable: Runnable) -> None:
        """Take the footprint of the step, and note the entries that it has queued."""
        run = self._current
        loop = run.loop
        new = list(loop._ready)[self._known :]
        footprint: Footprint = None
        changed = len(run.choices.values) != self._choices or run.clock.now != self._time
        if self._found is not None and not changed and not (run.invariants or run.victims):
            footprint = after_step(runnable, self._found)
        if footprint is not None and run.world.has_sockets():
            footprint = None
        if footprint is not None:
            orders = set()
            if new and run.settings.order == "events":
                orders.add(_ENTRIES)
            if any(isinstance(entry, ContextRunnable) for entry in new):
                orders.add(_CALLBACKS)
            if any(isinstance(each, (SleepFuture, Handle)) for each in loop._timers.new()):
                orders.add(_TIMERS)
            footprint |= orders
        number = len(self._strategy.steps) - 1
        for entry in new:
            self._strategy.queued(entry, number)
        self._strategy.end(footprint)
        self._found = None
        super().after(runnable)


class ReducedSearch:
    """The search of one exploration. ``next_run`` and ``learn`` are called in turn."""

    def __init__(self, seed: int = 0, *, reduce: bool = True) -> None:
        forget_stored_names()
        self._reduce = reduce
        self._numbers = RandomNumbers(seed)
        # The choices at which something may be left to try, by their level.
        self._pending: dict[int, list[_Node]] = {}
        self._running: ReducedRun | None = None
        # The choice at which the last run differs from those before it, and the key there.
        self._tried: tuple[_Node, int] | None = None
        self._runs = 0
        self.complete = False

    def next_run(self) -> Strategy | None:
        """Return the strategy of the next run; None if every class of orders was tried."""
        prefix: list[tuple[_Node, int]] = []
        if self._running is not None:
            node = self._next_node()
            if node is None:
                self.complete = True
                return None
            key = node.open_keys()[0]
            prefix = [*node.path(), (node, node.entries[key] if node.entries else key)]
            self._tried = (node, key)
        self._runs += 1
        self._running = ReducedRun(prefix, reduce=self._reduce)
        return self._running

    def _next_node(self) -> _Node | None:
        """Take a choice at which something is to be tried from the others."""
        pending = self._pending
        while pending:
            is_broad = self._runs <= _MOST_BROAD
            level = min(pending) if is_broad else max(pending)
            nodes = pending[level]
            place = self._numbers.below(len(nodes)) if is_broad else -1
            nodes[place], nodes[-1] = nodes[-1], nodes[place]
            node = nodes.pop()
            if not nodes:
                del pending[level]
            node.is_pending = False
            if node.open_keys():
                return node
        return None

    def learn(self, choices: Choices) -> None:
        """Note the orders of dependent steps that are to be tried because of the last run."""
        run = self._running
        assert run is not None
        steps_of = {id(step.node): step for step in run.steps if step.node is not None}
        for node, value in run.choices:
            if node.entries:
                step = steps_of.get(id(node))
                key = -1 if step is None else step.key
                node.done[key] = None if step is None else step.footprint
            else:
                node.done[value] = None
        if self._tried is not None:
            # Also if the program does not repeat itself, so that the run had another choice.
            self._tried[0].done.setdefault(self._tried[1], None)
        nodes = [node for node, _ in run.choices]
        steps = run.steps
        if choices.relevant >= 0:
            # Nothing of the program is left: the order of the last steps makes no difference.
            nodes = nodes[: choices.relevant]
            steps = steps[: run.last_step()]
        _add_races(steps)
        for node in nodes:
            if not node.is_pending and node.open_keys():
                node.is_pending = True
                self._pending.setdefault(node.level, []).append(node)


def _add_races(steps: list[_Step]) -> None:
    """For each pair of dependent steps that could have another order, note it where they meet."""
    # For each step, a number whose bits are the steps that happen before it, and itself.
    before: list[int] = []
    last_of: dict[int, int] = {}
    for number, step in enumerate(steps):
        happened = 0
        if step.creator >= 0:
            happened |= before[step.creator]
        if step.key in last_of:
            happened |= before[last_of[step.key]]
        for earlier in range(number - 1, -1, -1):
            other = steps[earlier]
            if other.epoch != step.epoch:
                # The clock has moved: everything before it happened before.
                happened |= (1 << (earlier + 1)) - 1
                break
            if happened >> earlier & 1 or independent(other.footprint, step.footprint):
                continue
            if other.node is not None:
                _note(other.node, steps, before, earlier, number, happened)
            happened |= before[earlier]
        before.append(happened | 1 << number)
        last_of[step.key] = number


def _note(
    node: _Node, steps: list[_Step], before: list[int], earlier: int, number: int, happened: int
) -> None:
    """Note at ``node``, where the step ``earlier`` was chosen, that ``number`` is to come first."""
    leading = {steps[number].key}
    for between in range(earlier + 1, number):
        if happened >> between & 1:
            leading.add(steps[between].key)
    candidates = [key for key in node.entries if key in leading and key >= 0]
    if candidates:
        if not any(key in node.to_do or key in node.done for key in candidates):
            node.to_do.add(candidates[0])
    else:
        node.to_do |= {key for key in node.entries if key >= 0}
