"""The metrics of loops under the names, units and attributes of OpenTelemetry.

Where the semantic conventions have a name, such as ``cpython.gc.collections``, it is used. The
others are formed like those for the event loop of Node.js, with ``runtime`` in the first place.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runtime.kernel.api.metrics import metrics_of
from runtime.kernel.api.running import get_running_loop
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.collector import watch_collector
from runtime.kernel.diagnostics.histogram import Histogram
from runtime.kernel.diagnostics.metrics import LoopMetrics

LOOP: Final = "runtime.eventloop.name"
"""The attribute that tells the loops of a process apart."""

_GENERATION: Final = "cpython.gc.generation"

_FUNCTION: Final = "code.function.name"

Value = tuple[dict[str, str | int], float]
"""The attributes of a value, without that of the loop, and the value."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A metric: ``kind`` is "counter", "updown" (for values that can be added up) or "gauge"."""

    name: str
    kind: str
    unit: str
    description: str
    values: Callable[[Any], list[Value]]
    """Returns the values of a snapshot."""


def _one(attribute: str) -> Callable[[LoopMetrics], list[Value]]:
    return lambda metrics: [({}, getattr(metrics, attribute))]


def _several(name: str, **attributes: str) -> Callable[[LoopMetrics], list[Value]]:
    """Return a function that gives several fields, each with its own value of an attribute."""
    return lambda metrics: [
        ({name: value}, getattr(metrics, field)) for value, field in attributes.items()
    ]


def _outcomes(metrics: LoopMetrics) -> list[Value]:
    name = "runtime.task.outcome"
    completed = metrics.tasks_ended - metrics.tasks_cancelled - metrics.tasks_failed
    return [
        ({name: "completed"}, max(0, completed)),
        ({name: "cancelled"}, metrics.tasks_cancelled),
        ({name: "failed"}, metrics.tasks_failed),
    ]


def _of_coroutines(attribute: str) -> Callable[[LoopMetrics], list[Value]]:
    return lambda metrics: [
        ({_FUNCTION: each.name}, getattr(each, attribute)) for each in metrics.coroutines
    ]


OF_COROUTINES: Final = (
    Instrument(
        "runtime.coroutine.steps",
        "counter",
        "{step}",
        "Steps of the tasks of a coroutine function.",
        _of_coroutines("steps"),
    ),
    Instrument(
        "runtime.coroutine.cpu.time",
        "counter",
        "s",
        "CPU time of these steps.",
        _of_coroutines("cpu"),
    ),
    Instrument(
        "runtime.coroutine.running.time",
        "counter",
        "s",
        "Elapsed time of these steps.",
        _of_coroutines("running"),
    ),
    Instrument(
        "runtime.coroutine.waiting.time",
        "counter",
        "s",
        "Elapsed time between these steps.",
        _of_coroutines("waiting"),
    ),
)
"""Totals of each coroutine function of each loop, if ``Loop.measure_coroutines`` was called."""

OF_LOOPS: Final = (
    Instrument(
        "runtime.eventloop.time",
        "counter",
        "s",
        "Time that the event loop was active, and that it waited.",
        _several("runtime.eventloop.state", active="busy", idle="waiting"),
    ),
    Instrument(
        "runtime.eventloop.iterations",
        "counter",
        "{iteration}",
        "Iterations of the event loop.",
        _one("turns"),
    ),
    Instrument(
        "runtime.eventloop.errors",
        "counter",
        "{error}",
        "Errors that were reported to the exception handler.",
        _one("errors_reported"),
    ),
    Instrument(
        "runtime.eventloop.ready",
        "updown",
        "{entry}",
        "Entries of the ready queue.",
        _one("ready"),
    ),
    Instrument(
        "runtime.eventloop.timers",
        "updown",
        "{timer}",
        "Timers that are set.",
        _one("timers"),
    ),
    Instrument(
        "runtime.task.created",
        "counter",
        "{task}",
        "Tasks that were created.",
        _one("tasks_created"),
    ),
    Instrument(
        "runtime.task.ended",
        "counter",
        "{task}",
        "Tasks that have ended.",
        _outcomes,
    ),
    Instrument(
        "runtime.task.active",
        "updown",
        "{task}",
        "Tasks that have not ended.",
        _one("tasks_alive"),
    ),
    Instrument(
        "runtime.connection.opened",
        "counter",
        "{connection}",
        "Connections that were opened by either side.",
        _one("connections_opened"),
    ),
    Instrument(
        "runtime.connection.accepted",
        "counter",
        "{connection}",
        "Connections that servers have accepted.",
        _one("connections_accepted"),
    ),
    Instrument(
        "runtime.connection.active",
        "updown",
        "{connection}",
        "Connections that are open.",
        _one("connections"),
    ),
    Instrument(
        "runtime.connection.io",
        "counter",
        "By",
        "Bytes that connections have received and sent.",
        _several("network.io.direction", receive="bytes_received", transmit="bytes_sent"),
    ),
    Instrument(
        "runtime.connection.unsent",
        "updown",
        "By",
        "Bytes in write buffers.",
        _one("bytes_unsent"),
    ),
    Instrument(
        "runtime.executor.threads",
        "updown",
        "{thread}",
        "Threads of the default executor.",
        _one("executor_threads"),
    ),
    Instrument(
        "runtime.executor.limit",
        "updown",
        "{thread}",
        "The largest number of threads of the default executor.",
        _one("executor_limit"),
    ),
    Instrument(
        "runtime.executor.queued",
        "updown",
        "{call}",
        "Calls that wait for a thread of the default executor.",
        _one("executor_queued"),
    ),
)
"""Totals and current values of each loop."""


def _delay(share: float) -> Callable[[LoopMetrics], list[Value]]:
    return lambda change: [({}, change.lag.quantile(share))]


OF_INTERVALS: Final = (
    Instrument(
        "runtime.eventloop.utilization",
        "gauge",
        "1",
        "The share of the time that the event loop was active.",
        _one("utilization"),
    ),
    *(
        Instrument(
            f"runtime.eventloop.delay.{name}",
            "gauge",
            "s",
            f"Time for which no event was handled: {words}.",
            _delay(share),
        )
        for name, words, share in (
            ("p50", "the median", 0.5),
            ("p90", "the 90th percentile", 0.9),
            ("p99", "the 99th percentile", 0.99),
            ("max", "the maximum", 1.0),
        )
    ),
)
"""Values of the interval between two readings, for systems that cannot read a histogram."""


def _of_generations(key: str) -> Callable[[None], list[Value]]:
    return lambda _: [
        ({_GENERATION: generation}, stats[key]) for generation, stats in enumerate(_stats())
    ]


def _stats() -> list[dict[str, int]]:
    return gc.get_stats()


def _pause_time(_: None) -> list[Value]:
    pauses = watch_collector().pauses
    return [({_GENERATION: number}, each.total) for number, each in enumerate(pauses)]


OF_PROCESS: Final = (
    Instrument(
        "cpython.gc.collections",
        "counter",
        "{collection}",
        "The number of times a generation was collected since interpreter start.",
        _of_generations("collections"),
    ),
    Instrument(
        "cpython.gc.collected_objects",
        "counter",
        "{object}",
        "The total number of objects collected inside a generation since interpreter start.",
        _of_generations("collected"),
    ),
    Instrument(
        "runtime.gc.time",
        "counter",
        "s",
        "Time that the program was stopped by the garbage collector.",
        _pause_time,
    ),
)
"""Values of the process, which all loops share."""

HISTOGRAMS: Final = (
    ("runtime.eventloop.delay", "Time for which no event was handled.", "lag"),
    ("runtime.eventloop.ready_wait", "Time in the ready queue; of samples.", "ready_wait"),
    ("runtime.task.step.duration", "Duration of steps of tasks; of samples.", "steps"),
    ("runtime.callback.duration", "Duration of callbacks; of samples.", "callbacks"),
)
"""Names, descriptions and fields of the histograms of each loop. The unit is the second."""


class Readings:
    """Snapshots of some loops, by their names, for all instruments of one reading.

    ``loops`` are by default the running one, under the name "main". Raises RuntimeError if none is
    given and none is running, and TypeError if they are not a mapping of names to loops.
    """

    def __init__(self, loops: Mapping[str, LoopCore] | None) -> None:
        if loops is not None and not isinstance(loops, Mapping):
            raise TypeError(f"loops must map names to loops of runtime, got {loops!r}")
        self._loops = dict({"main": get_running_loop()} if loops is None else loops)
        for name, loop in self._loops.items():
            if not isinstance(name, str) or not isinstance(loop, LoopCore):
                raise TypeError(f"loops must map names to loops of runtime, got {name!r}: {loop!r}")
        self._last: dict[str, LoopMetrics] = {}
        self._changes: dict[str, LoopMetrics] = {}

    def current(self, *, shared: bool = False) -> Iterator[tuple[str, LoopMetrics, LoopMetrics]]:
        """Give name, snapshot and change since the last reading of each loop that is not closed.

        With ``shared``, calls within a short time are one reading: they give the same snapshot.
        """
        for name, loop in list(self._loops.items()):
            if loop.is_closed():
                del self._loops[name]
                continue
            last = self._last.get(name)
            if last is None or not shared or time.monotonic() - last.time > _SAME_READING:
                now = metrics_of(loop)
                self._changes[name] = now if last is None else now.since(last)
                self._last[name] = last = now
            yield name, last, self._changes[name]


_SAME_READING: Final = 0.05
"""Seconds. The values of the instruments of one reading are asked for one after the other."""


def cumulative(found: Histogram, bounds: tuple[float, ...]) -> list[tuple[float, int]]:
    """Return each bound of a coarser histogram, and the number of durations that are below it."""
    buckets = list(found.buckets())
    return [(bound, sum(count for upper, count in buckets if upper <= bound)) for bound in bounds]
