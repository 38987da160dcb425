"""``CoroutineMeter``: measures the steps of all tasks by the names of their coroutines.

A step costs two readings of two clocks then, so that a program has to ask for it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, thread_time
from typing import Any, Final

from runtime.kernel.arguments.kinds import instance_of
from runtime.kernel.diagnostics.snapshots import Snapshot

_MOST_NAMES: Final = 1000
"""Names that are told apart. A program that makes names from data must not fill the memory."""

OTHERS: Final = "other coroutines"
"""The name for all further coroutines."""


class CoroutineMetrics(Snapshot):
    """The activity of the tasks of one coroutine function. Times are in seconds.

    Everything counts while ``Loop.measure_coroutines`` is on.
    """

    __slots__ = ("name", "tasks", "steps", "cpu", "running", "waiting")  # noqa: RUF023 - the order

    name: str
    """The qualified name of the coroutine function."""

    tasks: int
    """Tasks that ran. If the measurement is turned off and on again, a task counts again."""

    steps: int
    """Steps: how often the tasks ran, from one suspension to the next."""

    cpu: float
    """CPU time of the steps."""

    running: float
    """Elapsed time of the steps. If it is much more than ``cpu``, a call blocks the loop."""

    waiting: float
    """Elapsed time from the end of each step to the next step of the task, ended or not."""

    def since(self, earlier: CoroutineMetrics) -> CoroutineMetrics:
        """Return the metrics of the interval from an ``earlier`` snapshot to this one.

        Raises TypeError for an object of another type.
        """
        instance_of(CoroutineMetrics, earlier, "since", "a CoroutineMetrics object")
        return CoroutineMetrics(
            self.name,
            *(getattr(self, name) - getattr(earlier, name) for name in self.fields()[1:]),
        )


class _Figures:
    """The figures of the coroutines with one name."""

    __slots__ = ("cpu", "ended_waits", "running", "starts", "steps", "tasks", "waits")

    def __init__(self) -> None:
        self.tasks = 0
        self.steps = 0
        self.cpu = 0.0
        self.running = 0.0
        # The waits that have ended; and of those that have not, the number and the sum of the times
        # at which they began: these two give their sum at any time, without a look at each task.
        self.ended_waits = 0.0
        self.waits = 0
        self.starts = 0.0

    def metrics(self, name: str, now: float) -> CoroutineMetrics:
        """Return a snapshot at the time ``now``."""
        waiting = max(0.0, self.ended_waits + self.waits * now - self.starts)
        return CoroutineMetrics(name, self.tasks, self.steps, self.cpu, self.running, waiting)


class CoroutineMeter:
    """Runs steps of tasks, by ``step``, and measures them."""

    def __init__(self, step: Callable[[Any], object]) -> None:
        self._step = step
        self._figures: dict[str, _Figures] = {}
        # By the number of each task that waits: the figures of its coroutine, and since when.
        self._waiting: dict[int, tuple[_Figures, float]] = {}
        # Set by the last step of a measurement, if it is the one that turns the measurement off.
        self._is_paused = False

    def run(self, task: Any) -> None:
        """Run a step of a task of this package, and measure it."""
        number: int = task._number
        found = self._waiting.pop(number, None)
        if found is None:
            figures = self._figures_of(task.get_coro())
            figures.tasks += 1
            started = monotonic()
        else:
            figures, since = found
            started = monotonic()
            figures.waits -= 1
            figures.starts -= since
            figures.ended_waits += started - since
        cpu = thread_time()
        try:
            self._step(task)
        finally:
            figures.steps += 1
            figures.cpu += thread_time() - cpu
            now = monotonic()
            figures.running += now - started
            if not (self._is_paused or task.done()):
                self._waiting[number] = figures, now
                figures.waits += 1
                figures.starts += now
            # If the task has failed, the traceback of its exception may hold this frame.
            del task

    def resume(self) -> None:
        """Measure steps from now on."""
        self._is_paused = False

    def pause(self) -> None:
        """End the waits: no steps are measured from now on, perhaps only for a while."""
        self._is_paused = True
        now = monotonic()
        for figures, since in self._waiting.values():
            figures.ended_waits += now - since
        self._waiting.clear()
        for figures in self._figures.values():
            figures.waits = 0
            figures.starts = 0.0

    def _figures_of(self, coro: object) -> _Figures:
        name = str(getattr(coro, "__qualname__", type(coro).__name__))
        figures = self._figures.get(name)
        if figures is None:
            if len(self._figures) >= _MOST_NAMES:
                name = OTHERS
            figures = self._figures.setdefault(name, _Figures())
        return figures

    def metrics(self) -> tuple[CoroutineMetrics, ...]:
        """Return the metrics of each coroutine, by name. For any thread."""
        now = monotonic()
        found = sorted(self._figures.copy().items())
        return tuple(figures.metrics(name, now) for name, figures in found)


def coroutines_since(
    now: tuple[CoroutineMetrics, ...], earlier: tuple[CoroutineMetrics, ...]
) -> tuple[CoroutineMetrics, ...]:
    """Return the metrics of the interval between two snapshots."""
    before = {each.name: each for each in earlier}
    return tuple(each.since(before[each.name]) if each.name in before else each for each in now)
