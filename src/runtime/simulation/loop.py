"""The loop of a simulated run: the production loop with a schedule, and without threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import re
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from selectors import BaseSelector
from typing import Any

from runtime.kernel.api.eager_tasks import eager_task_factory
from runtime.kernel.compat.registry import running_loops
from runtime.kernel.compat.task_factory import call_factory, take_options
from runtime.kernel.core import LoopCore, TurnRunner
from runtime.kernel.daemons import daemon_context
from runtime.kernel.public_types import Future, Task
from runtime.kernel.task import init_task
from runtime.loop import Loop
from runtime.simulation.checks import check_setup
from runtime.simulation.current import CurrentRun
from runtime.simulation.network.lookups import look_up
from runtime.simulation.network.machine import current_machine
from runtime.simulation.schedule import OwnSource


class SimulatedTask(Task[Any]):
    """A task that is numbered within its run.

    The number is its hash, so that a set of tasks has the same order in every process.
    """

    __slots__ = ("_identifier",)

    _identifier: int

    def __hash__(self) -> int:
        return self._identifier


class SimulationLoop(Loop):
    """A loop whose schedule belongs to ``run``.

    Calls in executors run in the thread of the loop, when the schedule chooses their entry in the
    ready queue. All executors are treated alike.
    """

    def __init__(self, run: CurrentRun, selector: BaseSelector) -> None:
        super().__init__(selector, run.clock)
        self._simulated_run = run
        self._created = 0
        self._turn_runner = run.schedule if run.settings.setup is None else SetUp(run)
        self._poller.writers.hold_nothing()
        self.set_deadlock_reports(False)  # The selector reports them.

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any] | Generator[Any, Any, Any], **options: Any
    ) -> Task[Any]:
        """Run a coroutine concurrently; return its task: see ``Loop.create_task``."""
        if self._refusal is not None or self._debug:
            self._check_new_task(coro)
        factory = self._task_factory
        self._created += 1
        number = self._created
        if factory is eager_task_factory:
            options.setdefault("eager_start", True)
        elif factory is not None:
            is_named = options.get("name") is not None
            factory_task: Task[Any] = call_factory(factory, self, coro, options)
            if not is_named:
                _renumber(factory_task, number)
            return factory_task
        task: SimulatedTask = SimulatedTask.__new__(SimulatedTask)
        task._identifier = number
        name, context, eager_start = take_options(options) if options else (None, None, False)
        if name is None:
            name = f"Task-{task._identifier}"
        init_task(task, coro, self, name, context, eager_start)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: concurrent.futures.Executor | None, func: Callable[..., Any], *args: Any
    ) -> Future[Any]:
        """Call ``func(*args)`` at a moment that the schedule chooses; return a future."""
        self._check_open()
        call = ExecutorCall(self, func, args)
        self._ready_append(call)
        return call.future

    def _look_up(self, func: Callable[..., Any], *args: Any) -> Future[Any]:
        """Resolve a host name as the world does, in its time."""
        self._check_open()
        return look_up(self, self._simulated_run.world.names, func, args)

    def _own_threads(self) -> list[threading.Thread]:
        """Return all threads: none of them can wake the loop of a simulation."""
        return threading.enumerate()


def _renumber(task: Any, number: int) -> None:
    """Replace a number that a task got in its process, as its name, by that in its run."""
    name = task.get_name() if hasattr(task, "set_name") else ""
    if isinstance(name, str) and re.fullmatch(r"Task-\d+", name):
        task.set_name(f"Task-{number}")


class SetUp(TurnRunner):
    """The beginning of a run: calls the set-up function of the program, before the first turn.

    It stands in the place of the schedule until the loop runs, because the function may start
    hosts. Everything that it makes belongs to a daemon, so that the end of the program finds the
    tasks of these hosts without counting them as leftovers.
    """

    def __init__(self, run: CurrentRun) -> None:
        self._run = run

    def run_turns(self, loop: LoopCore) -> None:
        """Call the function, and let the schedule run the turns from now on."""
        run = self._run
        loop._turn_runner = run.schedule
        setup = run.settings.setup
        if setup is not None:
            result = daemon_context(None, daemon=True).run(setup, run.world)
            if inspect.iscoroutine(result):
                check_setup(result)
        run.schedule.run_turns(loop)


class ExecutorCall(OwnSource):
    """A call that the program made in an executor, as an entry of the ready queue.

    It runs without a running loop and in a context that knows only the host of the caller, as in a
    thread. The seconds that it sleeps pass on the clock of the run before its future is done.
    """

    def __init__(
        self, loop: SimulationLoop, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.function = function
        self.future: Future[Any] = loop.create_future()
        self._loop = loop
        self._args = args
        self._context = Context()
        self._context.run(current_machine.set, current_machine.get())

    def get_context(self) -> Context:
        """Return the context of the call, by which a host that crashes finds it."""
        return self._context

    def cancelled(self) -> bool:
        """Return whether the call will not be made, because its future was cancelled."""
        return self.future.cancelled()

    def _on_behalf_of(self) -> Any:
        return self.future

    def _run(self) -> None:
        """Make the call."""
        if self.future.done():
            return
        loop = self._loop
        run = loop._simulated_run
        run.slept = 0.0
        asyncio._set_running_loop(None)
        running = running_loops.pop(loop._thread_id)
        error: BaseException | None = None
        result: Any = None
        try:
            result = self._context.run(self.function, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as raised:
            error = raised
        finally:
            asyncio._set_running_loop(loop)
            running_loops[loop._thread_id] = running
            slept, run.slept = run.slept, None
        if slept:
            loop.call_later(slept, _finish, self.future, result, error)
        else:
            _finish(self.future, result, error)


def _finish(future: Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, concurrent.futures.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
