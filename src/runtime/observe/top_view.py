"""The contents of the console ``top``, made from two answers of the observed process.

Nothing here draws: the console shows these texts and rows with the library of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runtime.kernel.diagnostics.histogram import Histogram
from runtime.kernel.native.buckets import BOUNDS, BUCKETS
from runtime.observe.answers import entries_from, task_from
from runtime.observe.task_info import TaskInfo

MOST_ROWS: Final = 500
"""Rows of a table. A terminal shows some dozens; a filter finds the others."""

SORTS: Final = ("age", "newest", "name", "state")
"""The orders of the table of tasks. ``age`` is the order of creation."""

_BUCKET_OF_BOUND: Final = {bound: bucket for bucket, bound in enumerate(BOUNDS[1:])}
_STATES: Final = ("running", "ready", "waiting")
_GENERATIONS: Final = 3
_BARS: Final = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its key, the same from one moment to the next, and its cells."""

    key: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopView:
    """One loop of the observed process at one moment, and its changes since the last moment."""

    id: int
    title: str
    metrics: dict[str, Any]
    changes: dict[str, Any]
    """Differences of the metrics; those since the creation of the loop at the first moment."""

    tasks: tuple[TaskInfo, ...]
    connections: tuple[dict[str, Any], ...]
    timers: tuple[dict[str, Any], ...]
    by_id: dict[int, TaskInfo] = field(default_factory=dict)

    # -- Texts above the tables --------------------------------------------------------------------

    @property
    def utilization(self) -> float:
        """The share of the time since the last moment that the loop was busy, from 0 to 1."""
        running: float = self.changes["running"]
        return min(1.0, max(0.0, self.changes["busy"] / running)) if running > 0 else 0.0

    def summary(self) -> list[str]:
        """Return the lines above the tables."""
        now, change = self.metrics, self.changes
        lag: Histogram = change["lag"]
        seconds = max(change["running"], 1e-9)
        pauses: list[Histogram] = [
            change[f"collector_pauses_{generation}"] for generation in range(_GENERATIONS)
        ]
        loop = (
            f"utilization {self.utilization:4.0%}",
            _quantiles("lag", lag),
            f"turns {change['turns'] / seconds:,.0f}/s",
        )
        tasks = (
            f"tasks {now['tasks_alive']:,}: {change['tasks_created'] / seconds:,.0f}/s created",
            f"{change['tasks_ended'] / seconds:,.0f}/s ended",
            f"{change['tasks_cancelled']:,} cancelled",
            f"{change['tasks_failed']:,} failed",
            f"ready {now['ready']:,}",
            f"timers {now['timers']:,}",
            f"errors reported {now['errors_reported']:,}",
        )
        connections = (
            f"connections {now['connections']:,}: {_size(now['bytes_unsent'])} unsent",
            f"{_size(change['bytes_received'] / seconds)}/s received",
            f"{_size(change['bytes_sent'] / seconds)}/s sent",
        )
        longest = max(each.longest for each in pauses)
        process = (
            f"executor {now['executor_threads']} of {now['executor_limit']} threads",
            f"{now['executor_queued']:,} calls queued",
            f"garbage collector {sum(each.count for each in pauses)} pauses",
            f"longest {_duration(longest)}",
        )
        return ["   ".join(each) for each in (loop, tasks, connections, process)]

    # -- Tables ------------------------------------------------------------------------------------

    def task_rows(self, *, sort: str = "age", wanted: str = "", tree: bool = False) -> list[Row]:
        """Return rows for the tasks that contain ``wanted`` in one of their texts.

        ``sort`` is one of ``SORTS``. With ``tree``, a task that another one waits for is below it.
        """
        if tree:
            found = [
                (task, "  " * depth) for task, depth in self._tree() if self._contains(task, wanted)
            ]
        else:
            ordered = _sorted(self.tasks, sort)
            found = [(task, "") for task in ordered if self._contains(task, wanted)]
        return [self._task_row(task, indent) for task, indent in found[:MOST_ROWS]]

    def connection_rows(self) -> list[Row]:
        """Return rows for the connections."""
        columns = ("fd", "state", "unsent", "peer", "local", "protocol")
        return [
            Row(str(each["fd"]), tuple(f"{each[column]}" for column in columns))
            for each in self.connections[:MOST_ROWS]
        ]

    def timer_rows(self) -> list[Row]:
        """Return rows for the timers."""
        return [
            Row(str(number), (f"{each['due_in']:.2f} s", each["callback"]))
            for number, each in enumerate(self.timers[:MOST_ROWS])
        ]

    def _task_row(self, task: TaskInfo, indent: str) -> Row:
        place = task.stack[-1] if task.stack else None
        return Row(
            f"{task.id:x}",
            (
                "cancelling" if task.cancelling else task.state,
                "-" if task.age is None else f"{task.age:.1f}",
                indent + task.name,
                task.coroutine,
                "" if place is None else f"{Path(place.file).name}:{place.line}",
                self.waits_for(task),
            ),
        )

    def waits_for(self, task: TaskInfo) -> str:
        """Return the tasks that hold the object that a task waits for, and the object, in words."""
        holders = [self.by_id[each].name for each in task.held_by if each in self.by_id]
        if holders:
            return f"held by {', '.join(holders)}: {task.waits_for}"
        return task.waits_for

    def _contains(self, task: TaskInfo, wanted: str) -> bool:
        if not wanted:
            return True
        texts = (task.name, task.coroutine, task.state, task.waits_for, *map(str, task.stack))
        return any(wanted.casefold() in text.casefold() for text in texts)

    def _tree(self) -> Iterable[tuple[TaskInfo, int]]:
        """Give each task once, with its depth below the tasks that wait for it."""
        awaited = {each for task in self.tasks for each in task.awaits}
        roots = [task for task in self.tasks if task.id not in awaited]
        shown: set[int] = set()
        # Tasks that wait for one another in a cycle are below no root: they come last.
        for root in (*roots, *self.tasks):
            to_do = [(root, 0)]
            while to_do:
                task, depth = to_do.pop()
                if task.id in shown:
                    continue
                shown.add(task.id)
                yield task, depth
                below = [self.by_id[each] for each in task.awaits if each in self.by_id]
                to_do += [(each, depth + 1) for each in reversed(below)]


def views(answer: dict[str, Any], before: Sequence[LoopView] = ()) -> list[LoopView]:
    """Return the loops of an answer to the command ``top``; ``before`` are those of the last one.

    Loops that run come first.
    """
    earlier = {view.id: view for view in before}
    loops = sorted(answer["loops"], key=lambda loop: loop["thread"] is None)
    return [_view(loop, earlier.get(loop["id"])) for loop in loops]


def _view(loop: dict[str, Any], before: LoopView | None) -> LoopView:
    metrics = {
        name: _value(value) for name, value in loop["metrics"].items() if name != "coroutines"
    }
    changes: dict[str, Any] = metrics
    if before is not None:
        changes = {
            name: value.since(before.metrics[name])
            if isinstance(value, Histogram)
            else value - before.metrics[name]
            for name, value in metrics.items()
        }
    tasks = tuple(map(task_from, loop["tasks"]))
    where = "does not run" if loop["thread"] is None else f"in thread {loop['thread']!r}"
    return LoopView(
        id=loop["id"],
        title=f"{loop['name']} {where}",
        metrics=metrics,
        changes=changes,
        tasks=tasks,
        connections=tuple(entries_from(loop["connections"])),
        timers=tuple(entries_from(loop["timers"])),
        by_id={task.id: task for task in tasks},
    )


def _value(value: Any) -> Any:
    """Return a metric of an answer; a histogram is made of the description of one."""
    if not isinstance(value, dict):
        return value
    counts = [0] * BUCKETS
    for bound, count in value["buckets"]:
        counts[BUCKETS - 1 if bound is None else _BUCKET_OF_BOUND[bound]] = count
    return Histogram(value["count"], value["total"], value["longest"], tuple(counts))


def _sorted(tasks: Sequence[TaskInfo], sort: str) -> Sequence[TaskInfo]:
    if sort == "newest":
        return tasks[::-1]
    if sort == "name":
        return sorted(tasks, key=lambda task: task.name)
    if sort == "state":
        return sorted(tasks, key=lambda task: _STATES.index(task.state))
    return tasks


def bars(shares: Sequence[float]) -> str:
    """Return a line with a bar for each share, from 0 to 1."""
    return "".join(_BARS[min(len(_BARS) - 1, int(share * len(_BARS)))] for share in shares)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _quantiles(name: str, found: Histogram) -> str:
    p50, p99 = found.quantile(0.5), found.quantile(0.99)
    return f"{name} p50 {_duration(p50)}, p99 {_duration(p99)}, longest {_duration(found.longest)}"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
