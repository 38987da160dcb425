"""Pauses of the garbage collector: their number and duration by generation.

A collection stops every thread, whichever thread it runs in. So the figures are those of the
process. They are measured from the first call of ``watch_collector`` on: until then nothing is
installed in ``gc.callbacks``.
"""

from __future__ import annotations

import gc
from time import monotonic
from typing import Any

from runtime.kernel.arguments.kinds import instance_of
from runtime.kernel.diagnostics.durations import DurationRecorder
from runtime.kernel.diagnostics.histogram import Histogram, histogram_of
from runtime.kernel.diagnostics.snapshots import Snapshot

_GENERATIONS = 3


class CollectorMetrics(Snapshot):
    """The pauses of the garbage collector in the process, since they are measured.

    ``pauses`` are the histograms of the pauses, by generation: the youngest is 0.
    """

    __slots__ = ("pauses",)

    pauses: tuple[Histogram, ...]

    @property
    def collections(self) -> tuple[int, ...]:
        """The number of collections of each generation."""
        return tuple(each.count for each in self.pauses)

    @property
    def seconds(self) -> float:
        """The duration of all pauses, in seconds."""
        return sum(each.total for each in self.pauses)

    def since(self, earlier: CollectorMetrics) -> CollectorMetrics:
        """Return the pauses after an ``earlier`` snapshot. Raises TypeError for other objects."""
        instance_of(CollectorMetrics, earlier, "since", "a CollectorMetrics object")
        pairs = zip(self.pauses, earlier.pauses, strict=True)
        return CollectorMetrics(tuple(now.since(then) for now, then in pairs))


class _CollectorWatch:
    """The function in ``gc.callbacks``, with the durations that it has measured."""

    def __init__(self) -> None:
        self._pauses = [DurationRecorder() for _ in range(_GENERATIONS)]
        self._started = 0.0
        # The generation that is being collected now, or None.
        self.generation: int | None = None

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        self.generation = info["generation"] if phase == "start" else None
        if phase == "start":
            self._started = monotonic()
        elif self._started:
            recorder = self._pauses[min(info["generation"], _GENERATIONS - 1)]
            recorder.fresh.append(monotonic() - self._started)
            recorder.fold()
            self._started = 0.0

    def metrics(self) -> CollectorMetrics:
        return CollectorMetrics(tuple(map(histogram_of, self._pauses)))


_watch = _CollectorWatch()


def collecting() -> int | None:
    """Return the generation that the garbage collector collects now, if it is measured, or None."""
    return _watch.generation


def watch_collector() -> CollectorMetrics:
    """Measure the pauses of the garbage collector from now on; return those measured so far."""
    if _watch not in gc.callbacks:
        gc.callbacks.append(_watch)
    return _watch.metrics()
