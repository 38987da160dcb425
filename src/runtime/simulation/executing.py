"""One simulated run: from its choices to its outcome."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import inspect
import itertools
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.kernel.daemons import in_daemon, is_daemon
from runtime.kernel.diagnostics.deadlock import DeadlockError, describe_wait
from runtime.kernel.diagnostics.describe import is_library_frame, safe_repr
from runtime.runner import run as run_for_real
from runtime.simulation.choices import Choices, Strategy
from runtime.simulation.clock import SimulatedClock
from runtime.simulation.current import CurrentRun, Settings, enter, leave
from runtime.simulation.environment import ControlledEnvironment
from runtime.simulation.errors import InvariantError, LeftoverError, UnretrievedError
from runtime.simulation.loop import SimulationLoop
from runtime.simulation.reducing import ReducedRun
from runtime.simulation.schedule import Schedule
from runtime.simulation.watching import Step, Watch
from runtime.simulation.world import World
from runtime.sync.locks import Lock
from runtime.sync.sleep import sleep

# Imported here because many programs use them: otherwise the first run would import them, and would
# allocate more than the next ones.
_PRELOADED: Final = (
    "runtime.kernel.api.awaitables",
    "runtime.kernel.suspensions",
    "runtime.net.resolver",
    "runtime.net.sockets.operations",
    "runtime.system.threads",
)
for _name in _PRELOADED:
    importlib.import_module(_name)

Main = Callable[[], Awaitable[Any]]

_LOCKS: Final[tuple[type[Any], ...]] = (Lock, asyncio.Lock)
"""The classes of locks that are leftovers if they are held at the end of a run."""

_init_locks: Final = [kind.__init__ for kind in _LOCKS]

_COLLECT_EVERY = 50
"""Number of runs after which the collector runs, which has no occasion to begin by itself."""

_TURNS = 10
"""Turns for which leftovers are waited for: a connection is closed some turns after ``close()``."""

_ended = itertools.count(1)
_numbers = itertools.count(1)

_occupied = threading.Lock()
"""Held by the run that takes place: there is one at a time."""


@dataclass
class Outcome:
    """The end of one run: its value, or the exception with which it failed."""

    choices: Choices
    seed: int
    value: Any = None
    error: BaseException | None = None
    steps: int = 0
    time: float = 0.0
    reached: dict[str, bool] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    trace: list[Step] = field(default_factory=list)


def execute(
    main: Main, settings: Settings, strategy: Strategy, seed: int, *, traced: bool = False
) -> Outcome:
    """Run ``main()`` once, with the choices of ``strategy``; return the outcome.

    ``seed`` is that of the environment. With ``traced`` the outcome has a trace. Raises
    KeyboardInterrupt and SystemExit; other exceptions are part of the outcome.
    """
    module = getattr(function_of(main), "__module__", None)
    with SimulatedRun(settings, strategy, seed, module=module, traced=traced) as simulated:
        _run_main(main, simulated.run, simulated.outcome)
    outcome = simulated.outcome
    if traced and not isinstance(outcome.error, UnretrievedError):
        # Leave out the end of the run, which cancels the other tasks.
        last = simulated.run.schedule.first_end
        outcome.trace = [step for step in outcome.trace if step.number <= last]
    return outcome


def function_of(main: Any) -> Any:
    """Return the function that ``main`` calls, if it is a ``functools.partial``, or ``main``."""
    while isinstance(main, functools.partial):
        main = main.func
    return main


class SimulatedRun:
    """A context manager in which a run takes place: its environment is under control.

    ``run`` and ``outcome`` are those of the run. The loop is made by ``new_loop``.
    """

    def __init__(
        self,
        settings: Settings,
        strategy: Strategy,
        seed: int,
        *,
        module: str | None = None,
        traced: bool = False,
    ) -> None:
        choices = Choices(strategy)
        clock = SimulatedClock(0.0)
        only_events = settings.order == "events"
        schedule = Schedule(
            choices,
            clock,
            only_events,
            settings.steps,
            settings.lateness,
            settings.starvation or 0,
        )
        self._world = World(
            choices,
            clock,
            schedule,
            outside=settings.outside == "allow",
            late_events=only_events,
        )
        if settings.network is not None:
            self._world.network.set(settings.network, within=settings.network)
        self.run = run = CurrentRun(settings, choices, clock, schedule, seed, world=self._world)
        self.outcome = Outcome(choices, seed, reached=run.reached, outside=run.outside)
        if traced or isinstance(strategy, ReducedRun):
            if isinstance(strategy, ReducedRun):
                watch = strategy.watch(run, traced=traced)
            else:
                watch = Watch(run, traced=True)
            schedule.monitor = watch
            self.outcome.trace = watch.steps
        self._environment = ControlledEnvironment(run, module)
        self._collects = False

    def __enter__(self) -> SimulatedRun:
        if not _occupied.acquire(blocking=False):
            raise RuntimeError(
                "another simulated run has not ended: simulate one at a time in a process, because "
                "the clock and the network of a run are those of the whole process"
            )
        try:
            return self._enter()
        except BaseException:
            _occupied.release()
            raise

    def _enter(self) -> SimulatedRun:
        self._collects = gc.isenabled()
        # The collector would run finalizers at moments that depend on earlier allocations.
        gc.disable()
        enter(self.run)
        try:
            self._world.install()
            self._environment.__enter__()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._environment.__exit__(None, None, None)
        finally:
            self._leave()
            if self._collects and next(_ended) % _COLLECT_EVERY == 0:
                gc.collect(1)
            self.outcome.steps = self.run.schedule.steps
            self.outcome.time = self.run.clock.now
            self.run.schedule.monitor = None
            self.run.loop = None
            _occupied.release()

    def _leave(self) -> None:
        try:
            self._world.remove()
        finally:
            leave()
            if self._collects:
                gc.enable()


def new_loop(run: CurrentRun) -> SimulationLoop:
    """Return the loop of a run."""
    loop = run.loop = SimulationLoop(run, run.world.selector())
    return loop


def _run_main(main: Main, run: CurrentRun, outcome: Outcome) -> None:
    def factory() -> SimulationLoop:
        loop = new_loop(run)
        loop.set_exception_handler(functools.partial(_note_report, run))
        return loop

    if run.settings.leftovers:
        run.locks = weakref.WeakValueDictionary()
        for kind, init in zip(_LOCKS, _init_locks, strict=True):
            kind.__init__ = _noting_locks(run, init)
    run.schedule.is_main_run = True
    try:
        outcome.value = run_for_real(_supervise(main, run), loop_factory=factory)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        outcome.error = error
        return
    finally:
        for kind, init in zip(_LOCKS, _init_locks, strict=True):
            kind.__init__ = init
    # Futures that failed, and are part of a reference cycle, report that when they are collected.
    gc.collect(0)
    if run.reports:
        outcome.error = _error_of_reports(run.reports)


def _note_report(run: CurrentRun, _loop: object, context: dict[str, Any]) -> None:
    # A cancellation is not a failure. In Python 3.11 asyncio's server reports that of a handler.
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        run.reports.append(context)


async def _supervise(main: Main, run: CurrentRun) -> Any:
    awaitable: object = main()
    if not inspect.isawaitable(awaitable):
        raise TypeError(
            f"a simulation expected a function that returns a coroutine, got {main!r}, which "
            f"returned {awaitable!r}"
        )
    value = await awaitable
    if run.settings.leftovers:
        for _ in range(_TURNS):
            if not _leftovers(run):
                break
            await sleep(0)
        left = _leftovers(run)
        if left:
            raise LeftoverError("the program has ended, and left behind:\n" + "\n".join(left))
    return value


def _noting_locks(run: CurrentRun, init: Callable[[Any], None]) -> Callable[[Any], None]:
    def init_and_note(lock: Any) -> None:
        init(lock)
        if not in_daemon.get():
            # By number, so that the locks keep the order of their creation.
            run.locks[next(_numbers)] = lock

    return init_and_note


def _leftovers(run: CurrentRun) -> list[str]:
    """Return descriptions of the tasks, the locks that are held, and the sockets that are left."""
    current = asyncio.current_task()
    every: set[Any] = asyncio.all_tasks()
    tasks = [task for task in every if task is not current and not is_daemon(task.get_context())]
    lines = []
    for task in sorted(tasks, key=lambda task: task.get_name()):
        first, *rest = describe_wait(task)
        lines.append("\n".join([f"task {first}", *rest]))
    lines += [f"lock {lock!r}" for lock in run.locks.values() if lock.locked()]
    lines += [f"open socket {description}" for description in run.world.open_sockets()]
    return lines


def _error_of_reports(reports: list[dict[str, Any]]) -> UnretrievedError:
    lines = []
    cause: BaseException | None = None
    for report in reports:
        line = str(report.get("message"))
        if "exception" in report:
            cause = cause or report["exception"]
            line += f": {safe_repr(report['exception'])}"
        lines.append(line)
    error = UnretrievedError("\n".join(lines))
    error.__cause__ = cause
    return error


def failure_key(error: BaseException) -> tuple[str, ...]:
    """Return what makes two failures the same: the exception's type and place in the program."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, InvariantError):
        return kind, str(error)
    if isinstance(error, DeadlockError):
        return (kind,)
    if isinstance(error, UnretrievedError) and error.__cause__ is not None:
        return kind, *failure_key(error.__cause__)
    place = ""
    entry = error.__traceback__
    while entry is not None:
        if not is_library_frame(entry.tb_frame):
            place = f"{entry.tb_frame.f_code.co_filename}:{entry.tb_lineno}"
        entry = entry.tb_next
    if isinstance(error, BaseExceptionGroup):
        return kind, *sorted(key for each in error.exceptions for key in failure_key(each))
    return kind, place
