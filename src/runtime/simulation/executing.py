"""One simulated run: from its choices to its outcome."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from runtime.kernel.daemons import is_daemon
from runtime.kernel.diagnostics.deadlock import DeadlockError, describe_wait
from runtime.kernel.diagnostics.describe import is_of_a_library, safe_repr
from runtime.runner import run as run_for_real
from runtime.simulation.choices import Choices, Strategy
from runtime.simulation.clock import ClockSelector, SimulatedClock
from runtime.simulation.current import CurrentRun, Settings, enter, leave
from runtime.simulation.environment import ControlledEnvironment
from runtime.simulation.errors import InvariantError, LeftoverError, UnretrievedError
from runtime.simulation.loop import SimulationLoop
from runtime.simulation.schedule import Schedule
from runtime.simulation.watching import Step, Watch
from runtime.sync.locks import Lock

Main = Callable[[], Awaitable[Any]]

_init_lock = Lock.__init__


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
    choices = Choices(strategy)
    clock = SimulatedClock(0.0)
    only_events = settings.order == "events"
    schedule = Schedule(choices, clock, only_events, settings.steps, settings.lateness)
    run = CurrentRun(settings, choices, clock, schedule, seed)
    outcome = Outcome(choices, seed, reached=run.reached, outside=run.outside)
    watch = None
    if traced:
        schedule.monitor = watch = Watch(run, traced=True)
        outcome.trace = watch.steps
    collects = gc.isenabled()
    # The collector would run finalizers at moments that depend on what was allocated before.
    gc.disable()
    enter(run)
    try:
        with ControlledEnvironment(run, getattr(main, "__module__", None)):
            _run_main(main, run, outcome)
    finally:
        leave()
        run.loop = None
        schedule.monitor = None
        if collects:
            gc.enable()
    outcome.steps = schedule.steps
    if watch is not None and not isinstance(outcome.error, UnretrievedError):
        # Leave out the end of the run, which cancels the other tasks.
        outcome.trace = [step for step in watch.steps if step.number <= schedule.first_end]
    outcome.time = clock.now
    return outcome


def _run_main(main: Main, run: CurrentRun, outcome: Outcome) -> None:
    def factory() -> SimulationLoop:
        loop = run.loop = SimulationLoop(run, ClockSelector(run.clock))
        loop.set_exception_handler(lambda _, context: run.reports.append(context))
        return loop

    if run.settings.leftovers:
        run.locks = weakref.WeakSet()
        Lock.__init__ = _noting_locks(run)  # type: ignore[assignment,method-assign]
    try:
        outcome.value = run_for_real(_supervise(main, run), loop_factory=factory)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        outcome.error = error
        return
    finally:
        Lock.__init__ = _init_lock  # type: ignore[method-assign]
    # Futures that failed, and are part of a reference cycle, report that when they are collected.
    gc.collect(0)
    if run.reports:
        outcome.error = _error_of_reports(run.reports)


async def _supervise(main: Main, run: CurrentRun) -> Any:
    value = await main()
    if run.settings.leftovers:
        left = _leftovers(run)
        if left:
            raise LeftoverError("The program has ended, and left behind:\n" + "\n".join(left))
    return value


def _noting_locks(run: CurrentRun) -> Callable[[Lock], None]:
    def init(lock: Lock) -> None:
        _init_lock(lock)
        run.locks.add(lock)

    return init


def _leftovers(run: CurrentRun) -> list[str]:
    """Return descriptions of the tasks that have not ended, and of the locks that are held."""
    current = asyncio.current_task()
    every: set[Any] = asyncio.all_tasks()
    tasks = [task for task in every if task is not current and not is_daemon(task.get_context())]
    lines = []
    for task in sorted(tasks, key=lambda task: task.get_name()):
        first, *rest = describe_wait(task)
        lines.append("\n".join([f"task {first}", *rest]))
    lines += [f"lock {lock!r}" for lock in run.locks if lock.locked()]
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
        if not is_of_a_library(entry.tb_frame):
            place = f"{entry.tb_frame.f_code.co_filename}:{entry.tb_lineno}"
        entry = entry.tb_next
    if isinstance(error, BaseExceptionGroup):
        return kind, *sorted(key for each in error.exceptions for key in failure_key(each))
    return kind, place
