"""Cancellation of a task at every point at which it can be cancelled, each in a run of its own.

A scenario is a coroutine function that receives a ``CancelPoint``. It starts the task in question
with ``point.start(...)``, does other work beside it, and asserts at the end the conditions that
hold whether or not the task was cancelled: that no lock is held, no item is lost, and so on. It
must end in both cases::

    async def scenario(point: CancelPoint) -> None:
        lock = Lock()
        async def hold() -> None:
            async with lock:
                await runtime.sleep(0)
        await settled(point.start(hold()), runtime.create_task(hold()))
        assert not lock.locked()

    assert cancel_everywhere(scenario) >= 1

The first run cancels at the task's first suspension, the next run at its second, until a run
completes with fewer suspensions. Each suspension is cancelled at two moments: while the task waits,
and when the awaited future is done but the task has not resumed. After each run no task may be left
over, and nothing may have been reported to the exception handler.

The task is cancelled by ``task.cancel()``, by a scope around its coroutine, or by both.
"""

from __future__ import annotations

import enum
import itertools
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import runtime

T = TypeVar("T")

MOST_SUSPENSIONS = 500
"""Suspensions after which a scenario is assumed never to end."""

PATIENCE = 60.0
"""Seconds after which a run that does not end is given up, and fails."""


class Moment(enum.Enum):
    """Moment of the cancellation at a given suspension."""

    WAITING = "while it waits"
    WOKEN = "when it was woken and has not run yet"


class Way(enum.Enum):
    """Way in which the task is cancelled."""

    REQUEST = "by a request"
    SCOPE = "by a scope"
    BOTH = "by a scope and a request"


class CancelPoint:
    """Cancels the task that the scenario starts, at its ``suspension``-th suspension."""

    def __init__(self, suspension: int, moment: Moment, way: Way = Way.REQUEST) -> None:
        self.suspension = suspension
        self.moment = moment
        self.way = way
        self.scope = runtime.CancelScope()
        """The scope around the coroutine, unless the task is only cancelled by a request."""
        self.reached = False
        self.cancelled = False
        """Whether the task was cancelled before it ended."""
        self._suspensions = 0
        self._task: runtime.Task[Any] | None = None

    def start(self, coro: Coroutine[Any, Any, T]) -> runtime.Task[T]:
        """Run ``coro`` in the task to be cancelled; return the task."""
        assert self._task is None, "a scenario has one task that is cancelled"
        task = runtime.create_task(self._run(coro), name="the task that is cancelled")
        self._task = task
        return task

    async def _run(self, coro: Coroutine[Any, Any, T]) -> T:
        if self.way is not Way.REQUEST:
            with self.scope:
                return await self._steps(coro)
            raise CaughtByScopeError
        result: T = await self._steps(coro)
        return result

    @types.coroutine
    def _steps(self, coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Run ``coro`` step by step, as a task does, and count its suspensions."""
        error: BaseException | None = None
        while True:
            try:
                awaited = coro.send(None) if error is None else coro.throw(error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            self._note_suspension(awaited)
            error = None
            try:
                yield awaited
            except BaseException as thrown:
                error = thrown

    def _note_suspension(self, awaited: Any) -> None:
        self._suspensions += 1
        if self._suspensions != self.suspension:
            return
        self.reached = True
        if awaited is None or self.moment is Moment.WAITING:
            runtime.get_running_loop().call_soon(self._cancel)
        else:
            # This callback is added before the task's own, and therefore called before the task
            # resumes.
            awaited.add_done_callback(self._cancel)

    def _cancel(self, _future: object = None) -> None:
        assert self._task is not None
        self.cancelled = not self._task.done()
        if self.way is not Way.REQUEST:
            self.scope.cancel()
        if self.way is not Way.SCOPE:
            self._task.cancel()

    def __str__(self) -> str:
        words = "" if self.way is Way.REQUEST else f", {self.way.value}"
        return f"cancelled at suspension {self.suspension}, {self.moment.value}{words}"


Scenario = Callable[[CancelPoint], Coroutine[Any, Any, None]]


class CaughtByScopeError(Exception):
    """Raised by the task in place of a result, if the scope around it has ended its coroutine."""


def cancel_everywhere(scenario: Scenario, way: Way = Way.REQUEST) -> int:
    """Run ``scenario`` once for every point at which its task can be cancelled, in one way.

    Returns the largest number of suspensions of the task. Raises the exceptions of the scenario,
    with a note that says where the task was cancelled.
    """
    for suspension in itertools.count(1):
        assert suspension <= MOST_SUSPENSIONS, "the scenario suspends again and again"
        points = [CancelPoint(suspension, moment, way) for moment in Moment]
        for point in points:
            try:
                runtime.run(_supervise(scenario, point))
            except BaseException as error:
                error.add_note(f"with the task {point}")
                raise
        if not any(point.reached for point in points):
            return suspension - 1
    raise AssertionError("unreachable")


async def _supervise(scenario: Scenario, point: CancelPoint) -> None:
    loop = runtime.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    watched = runtime.create_task(scenario(point))
    done, _ = await runtime.wait([watched], timeout=PATIENCE)
    assert done, f"it hangs: {[task.get_coro() for task in runtime.all_tasks()]}"
    watched.result()
    left = runtime.all_tasks() - {runtime.current_task()}
    assert not left, f"tasks left over: {left}"
    assert not reports


async def settled(*tasks: runtime.Future[Any]) -> None:
    """Wait for the end of the tasks; raise their exceptions except cancellations."""
    await runtime.wait(tasks)
    for task in tasks:
        if not task.cancelled() and not isinstance(task.exception(), CaughtByScopeError):
            task.result()
