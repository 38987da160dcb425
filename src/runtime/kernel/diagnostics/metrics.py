"""``LoopMetrics``: a snapshot of the counters and histograms of a loop."""

from __future__ import annotations

from typing import Any

from runtime.kernel.arguments.kinds import instance_of
from runtime.kernel.diagnostics.collector import CollectorMetrics
from runtime.kernel.diagnostics.coroutine_meter import CoroutineMetrics, coroutines_since
from runtime.kernel.diagnostics.histogram import Histogram
from runtime.kernel.diagnostics.snapshots import Snapshot

_CURRENT = frozenset(
    {
        "time",
        "tasks_alive",
        "ready",
        "timers",
        "connections",
        "bytes_unsent",
        "executor_threads",
        "executor_limit",
        "executor_queued",
    }
)
"""The fields that hold a current value. All others are totals since the loop was made."""


class LoopMetrics(Snapshot):
    """The metrics of one loop at one moment, as ``Loop.metrics`` returns them.

    Times and durations are in seconds, of ``time.monotonic``, also for a loop with another clock.
    Except for the fields that are named as current, the fields count from the creation of the loop
    on, so that ``now.since(earlier)`` gives the metrics of an interval.
    """

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "bytes_unsent",
        "callbacks",
        "collector",
        "connections",
        "connections_accepted",
        "connections_opened",
        "coroutines",
        "errors_reported",
        "executor_limit",
        "executor_queued",
        "executor_threads",
        "lag",
        "ready",
        "ready_wait",
        "running",
        "steps",
        "tasks_alive",
        "tasks_cancelled",
        "tasks_created",
        "tasks_ended",
        "tasks_failed",
        "time",
        "timers",
        "turns",
        "waiting",
    )

    time: float
    """The time of the snapshot. Current."""

    running: float
    """How long the loop has run, from the beginnings of its runs to their ends."""

    waiting: float
    """The part of that during which it waited for events, timers or other threads."""

    turns: int
    """Iterations of the loop."""

    lag: Histogram
    """How long the loop was busy from one poll to the next: events had to wait that long."""

    ready_wait: Histogram
    """How long entries waited in the ready queue until they ran. Of samples."""

    steps: Histogram
    """Durations of steps of tasks, from one suspension to the next. Of samples."""

    callbacks: Histogram
    """Durations of callbacks, and of other entries of the ready queue. Of samples."""

    tasks_created: int
    """Tasks that were created."""

    tasks_ended: int
    """Tasks that have ended, in whichever way."""

    tasks_cancelled: int
    """Tasks that ended by a cancellation."""

    tasks_failed: int
    """Tasks that ended by another exception."""

    tasks_alive: int
    """Tasks that have not ended. Current."""

    ready: int
    """Entries of the ready queue. Current."""

    timers: int
    """Timers that are set. Current."""

    connections: int
    """Stream connections that are open. Current."""

    connections_opened: int
    """Stream connections that were opened, by either side."""

    connections_accepted: int
    """Connections that servers have accepted."""

    bytes_received: int
    """Bytes that stream connections have received; with TLS, the encrypted ones."""

    bytes_sent: int
    """Bytes that the system has accepted from stream connections, except those of ``sendfile``."""

    bytes_unsent: int
    """Bytes in the write buffers of connections and pipes. Current."""

    executor_threads: int
    """Threads of the default executor. Current."""

    executor_limit: int
    """The largest number of threads of the default executor; 0 before its first use. Current."""

    executor_queued: int
    """Calls that wait for a thread of the default executor. Current."""

    errors_reported: int
    """Calls of the exception handler."""

    collector: CollectorMetrics
    """Pauses of the garbage collector in the process, from the first snapshot of any loop on."""

    coroutines: tuple[CoroutineMetrics, ...]
    """The steps and times of tasks by the names of their coroutines, in the order of the names.

    Empty unless ``Loop.measure_coroutines`` was called.
    """

    @property
    def busy(self) -> float:
        """How long the loop was busy: the time that it ran and did not wait."""
        return max(0.0, self.running - self.waiting)

    @property
    def utilization(self) -> float:
        """The share of the running time that the loop was busy, from 0 to 1."""
        return self.busy / self.running if self.running else 0.0

    def since(self, earlier: LoopMetrics) -> LoopMetrics:
        """Return the metrics of the interval from an ``earlier`` snapshot of the loop to this one.

        Totals and histograms are those of the interval; current values are those of its end.
        Raises TypeError for an object of another type.
        """
        instance_of(LoopMetrics, earlier, "since", "a LoopMetrics object, as metrics() returns it")
        changes: dict[str, Any] = {}
        for name in self.fields():
            if name == "coroutines":
                changes[name] = coroutines_since(self.coroutines, earlier.coroutines)
            elif name not in _CURRENT:
                now, then = getattr(self, name), getattr(earlier, name)
                changes[name] = now.since(then) if hasattr(now, "since") else now - then
        return self.replace(**changes)
