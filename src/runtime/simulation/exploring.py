"""Exploration: many runs, the first failure among them, shrunk, with its token and its report."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from runtime.simulation.checks import check_flag, check_number
from runtime.simulation.choices import Choices, Strategy
from runtime.simulation.choosers import Plan
from runtime.simulation.conditions import Conditions
from runtime.simulation.current import Environment, Order, Outside, Settings
from runtime.simulation.errors import DivergenceError
from runtime.simulation.executing import Main, Outcome, execute, failure_key, function_of
from runtime.simulation.failures import FailureFolder
from runtime.simulation.reports import Report
from runtime.simulation.shrinking import Shrinker, deviations
from runtime.simulation.strategies import Search, StrategyName, strategy_named, usual
from runtime.simulation.tokens import Token, checksum, current_hash_seed, read_token, token_of
from runtime.simulation.world import World

T = TypeVar("T")

SHRINK_RUNS = 500
"""Number of runs that shrinking may make by default."""

Runner = Callable[[Strategy, int, bool], Outcome]
"""Makes one run with a strategy and the seed of its environment; the flag asks for a trace."""

RunnerWithSettings = Callable[[Settings, Strategy, int, bool], Outcome]
"""Makes one run like a ``Runner``, with the settings that are its first argument."""


@dataclass
class Failure:
    """A failed run: its exception, its token, and its report.

    ``run`` is the number of the run in which it was found, 0 for a kept failure; ``shrink_runs`` is
    the number of runs that shrinking took; ``deviations`` is the number of choices that are not the
    usual ones.
    """

    error: BaseException
    token: str
    deviations: int
    run: int
    shrink_runs: int
    report: Report


@dataclass
class Exploration:
    """The result of ``explore``.

    ``runs`` and ``steps`` count what was made; ``complete`` says whether an exhaustive strategy has
    tried everything within its limit. ``never_reached`` are the labels of ``sometimes`` whose
    condition was never true, ``outside`` are the uses of what a simulation does not control.
    """

    runs: int = 0
    steps: int = 0
    complete: bool = False
    failure: Failure | None = None
    never_reached: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.runs} runs with {self.steps} steps"]
        if self.complete:
            lines[0] += ", which are all within the limit of the strategy"
        lines[0] += ", a failure" if self.failure else ", no failure"
        lines += [f"never reached: {label}" for label in self.never_reached]
        lines += [f"outside of the simulation: {line}" for line in self.outside]
        if self.failure is not None:
            lines.append(str(self.failure.report))
        return "\n".join(lines)


def run(
    main: Callable[[], Awaitable[T]],
    *,
    seed: int | None = None,
    strategy: StrategyName | str = "random",
    order: Order = "events",
    lateness: float = 0.01,
    steps: int = 1_000_000,
    environment: Environment = "control",
    outside: Outside = "refuse",
    leftovers: bool = False,
    starvation: int | None = None,
    network: Conditions | None = None,
    setup: Callable[[World], object] | None = None,
) -> T:
    """Run ``main()`` once in a simulation; return its value.

    Without a ``seed`` the order is that of the production loop, and nothing fails by chance. With
    one, ``strategy`` makes the choices from that seed.

    ``order`` limits the schedules. With ``"events"`` they are those that the loop, threads and the
    network can produce: the moments of timers, of calls in executors, and of events vary, and hosts
    run side by side. With ``"tasks"``, tasks that were woken by different sources run in any order,
    also in one that this loop alone would not produce. A timer is up to ``lateness`` seconds late.
    After ``steps`` steps LivelockError is raised.
    ``environment`` says whether time, chance and the like are controlled, or their use reported, or
    left alone. ``outside`` says whether threads and processes are refused, with OutsideError, or
    allowed, and listed in the report. With ``leftovers``, LeftoverError is raised if tasks have not
    ended with ``main``, or locks are held. With ``starvation``, StarvationError is raised if a task
    or callback is ready for more than so many steps of others before it runs. ``network`` are the
    conditions of the network at the beginning, between hosts and within each: see ``Conditions``.
    ``setup`` is a function that makes hosts, starts programs on them, and plans faults: it is
    called as ``setup(world)`` at the beginning of the run, before ``main()``. Tasks, locks and
    sockets of the hosts that it makes do not count as leftovers.

    Raises the exception of ``main``, with the token and the schedule in a note; DeadlockError if no
    task can ever run again; UnretrievedError for exceptions that only the loop's exception handler
    got; ValueError and TypeError for invalid arguments.

    >>> import runtime
    >>> from runtime import simulation
    >>> async def main():
    ...     await runtime.sleep(3600)
    ...     return runtime.get_running_loop().time()
    >>> simulation.run(main)
    3600.0
    """
    _check_main(main, "run")
    if seed is not None:
        check_number("seed", seed, 0)
    settings = Settings(
        order, lateness, steps, environment, outside, leftovers, starvation, network, setup
    )
    named = strategy_named(strategy)
    if seed is None:
        named = usual()
    chosen = named.search(seed or 0).strategy(seed or 0)
    runner = functools.partial(_execute, main, settings)
    outcome = runner(chosen, seed or 0, False)
    if outcome.error is not None:
        failure = failure_of(runner, outcome, settings, shrink=0)
        _raise(failure)
    value: T = outcome.value
    return value


def explore(
    main: Callable[[], Awaitable[Any]],
    *,
    runs: int = 100,
    seed: int = 0,
    strategy: StrategyName | str = "portfolio",
    shrink: int = SHRINK_RUNS,
    keep: str | os.PathLike[str] | None = None,
    check: bool = True,
    order: Order = "events",
    lateness: float = 0.01,
    steps: int = 1_000_000,
    environment: Environment = "control",
    outside: Outside = "refuse",
    leftovers: bool = False,
    starvation: int | None = None,
    network: Conditions | None = None,
    setup: Callable[[World], object] | None = None,
) -> Exploration:
    """Run ``main()`` up to ``runs`` times, each with other choices, until a run fails.

    The choices are those of ``strategy``, and depend on ``seed``. The failure is shrunk, in at most
    ``shrink`` further runs, and raised, with its token and its schedule in a note; without
    ``check`` it is returned. ``keep`` is a folder in which the token is kept: a later exploration
    of the same function tries it first. The other arguments are those of ``run``.

    >>> import runtime
    >>> from runtime import simulation
    >>> async def main():
    ...     balance = 0
    ...     async def deposit():
    ...         nonlocal balance
    ...         before = balance
    ...         await runtime.to_thread(print, end="")
    ...         balance = before + 1
    ...     await deposit()
    ...     await runtime.gather(deposit(), deposit())
    ...     assert balance == 3
    >>> simulation.explore(main, check=False).failure.deviations
    0
    """
    _check_main(main, "explore")
    settings = Settings(
        order, lateness, steps, environment, outside, leftovers, starvation, network, setup
    )
    _check_search(runs=runs, seed=seed, shrink=shrink, keep=keep, check=check)
    search = strategy_named(strategy).search(seed)
    folder = None if keep is None else FailureFolder(Path(keep), name_of(main))
    make_run = functools.partial(_execute, main)
    found = explore_with(make_run, settings, search, runs, shrink=shrink, folder=folder)
    if check and found.failure is not None:
        _raise(found.failure)
    return found


def replay(
    main: Callable[[], Awaitable[T]],
    token: str,
    *,
    steps: int = 1_000_000,
    environment: Environment = "control",
    outside: Outside = "refuse",
    leftovers: bool = False,
    starvation: int | None = None,
    network: Conditions | None = None,
    setup: Callable[[World], object] | None = None,
) -> T:
    """Run ``main()`` with the choices of ``token``; return its value, or raise its exception.

    The note of the exception has the schedule. Raises DivergenceError, which says where, if the run
    does not have the same choices as that of the token, and ValueError if ``token`` is not a token.
    The other arguments are those of ``run``, and have to be the same as when the token was made:
    ``setup`` too is a part of the program.
    """
    _check_main(main, "replay")
    runner, outcome, settings = replayed(
        main,
        token,
        Settings("tasks", 0.0, steps, environment, outside, leftovers, starvation, network, setup),
    )
    if outcome.error is not None:
        _raise(failure_of(runner, outcome, settings, shrink=0))
    value: T = outcome.value
    return value


def replayed(
    main: Main, text: str, settings: Settings, *, traced: bool = False
) -> tuple[Runner, Outcome, Settings]:
    """Repeat the run of a token; return a function for further runs, the outcome, the settings."""
    return repeated(functools.partial(_execute, main), text, settings, traced=traced)


def repeated(
    make_run: RunnerWithSettings,
    text: str,
    settings: Settings,
    *,
    traced: bool = False,
) -> tuple[Runner, Outcome, Settings]:
    """Repeat the run of a token with ``make_run``: see ``replayed``."""
    token = read_token(text)
    settings = _settings_of(token, settings)
    runner = functools.partial(make_run, settings)
    plan = Plan(token.values, token.counts, token.labels)
    outcome = runner(plan, token.seed, traced)
    if isinstance(outcome.error, DivergenceError):
        raise outcome.error
    total = len(outcome.choices.values)
    if total != token.total or checksum(outcome.choices) != token.checksum:
        last = max(token.values, default=-1)
        text = (
            f"the run diverges from its token: it had {total} choices in the end, and that of the "
            f"token {token.total}; they agree up to choice {last}, the last one in the token"
        )
        if token.hash_seed != current_hash_seed():
            text += (
                f"; the token was made with PYTHONHASHSEED={_hash_seed(token.hash_seed)}, and this "
                f"is {_hash_seed(current_hash_seed())}: the order of sets may differ"
            )
        raise DivergenceError(text) from outcome.error
    return runner, outcome, settings


def _settings_of(token: Token, settings: Settings) -> Settings:
    """Return settings with those that are part of a token as they were in its run."""
    order: Order = "events" if token.order == "events" else "tasks"
    return dataclasses.replace(settings, order=order, lateness=token.lateness)


def _hash_seed(number: int) -> str:
    return "random" if number < 0 else str(number)


def explore_with(
    make_run: RunnerWithSettings,
    settings: Settings,
    search: Search,
    runs: int,
    *,
    shrink: int = SHRINK_RUNS,
    folder: FailureFolder | None = None,
) -> Exploration:
    """Make runs with ``make_run`` until one fails: see ``explore``. ``folder`` keeps failures."""
    runner: Runner
    found = Exploration()
    reached: dict[str, bool] = {}
    for text in folder.tokens() if folder is not None else ():
        assert folder is not None
        try:
            token = read_token(text)
        except ValueError:
            folder.forget(text)
            continue
        kept = _settings_of(token, settings)
        runner = functools.partial(make_run, kept)
        outcome = runner(Plan(token.values), token.seed, False)
        _add(found, reached, outcome)
        if outcome.error is not None:
            found.failure = failure_of(runner, outcome, kept, shrink=shrink, run=0)
            break
        folder.forget(text)
    runner = functools.partial(make_run, settings)
    while found.failure is None and search.runs < runs:
        strategy = search.next()
        if strategy is None:
            break
        outcome = runner(strategy, search.seed * 1_000_003 + search.runs, False)
        search.learn(outcome.choices)
        _add(found, reached, outcome)
        if outcome.error is not None:
            number = search.runs
            found.failure = failure_of(runner, outcome, settings, shrink=shrink, run=number)
    found.complete = search.complete
    found.never_reached = sorted(label for label, was in reached.items() if not was)
    if folder is not None and found.failure is not None:
        try:
            folder.keep(found.failure.token, found.failure.error)
        except OSError as error:
            # The failure that was found is worth more than its place in the folder.
            found.failure.report.remarks.append(f"the token cannot be kept: {error}")
    return found


def _add(found: Exploration, reached: dict[str, bool], outcome: Outcome) -> None:
    found.runs += 1
    found.steps += outcome.steps
    for label, was in outcome.reached.items():
        reached[label] = reached.get(label, False) or was
    found.outside += [line for line in outcome.outside if line not in found.outside]


def failure_of(
    runner: Runner, outcome: Outcome, settings: Settings, *, shrink: int, run: int = 1
) -> Failure:
    """Return the failure of a run, shrunk in at most ``shrink`` runs, with a traced report."""
    assert outcome.error is not None
    key = failure_key(outcome.error)
    seed = outcome.seed

    def attempt(strategy: Strategy) -> tuple[bool, Choices]:
        again = runner(strategy, seed, False)
        return again.error is not None and failure_key(again.error) == key, again.choices

    shrinker = Shrinker(attempt, shrink)
    values = deviations(outcome.choices)
    if shrink > 0:
        values = shrinker.shrink(values)
    traced = runner(Plan(values), seed, True)
    error = traced.error
    if error is None or failure_key(error) != key:
        # The program does not repeat itself: report the run as it was.
        traced.choices, error = outcome.choices, outcome.error
    token = str(token_of(traced.choices, seed, settings.order, settings.lateness))
    number = len(deviations(traced.choices))
    report = Report(error, token, traced.trace, traced.outside)
    return Failure(error, token, number, run, shrinker.runs, report)


def _execute(
    main: Main, settings: Settings, strategy: Strategy, seed: int, traced: bool = False
) -> Outcome:
    return execute(main, settings, strategy, seed, traced=traced)


def _raise(failure: Failure) -> None:
    error = failure.error
    error.add_note(str(failure.report))
    try:
        raise error
    finally:
        del error, failure


def name_of(function: Callable[..., Any]) -> str:
    """Return the name under which the failures of a function are kept."""
    function = function_of(function)
    module = getattr(function, "__module__", "")
    return f"{module}.{getattr(function, '__qualname__', type(function).__name__)}"


def _check_main(main: object, function: str) -> None:
    if inspect.iscoroutine(main):
        main.close()
        raise TypeError(
            f"simulation.{function}() calls the function for each run: pass the coroutine function "
            "itself, without calling it"
        )
    if not callable(main):
        raise TypeError(
            f"simulation.{function}() expected a function that returns a coroutine, got {main!r}"
        )


def _check_search(
    *,
    runs: object = 1,
    seed: object = 0,
    shrink: object = 0,
    keep: object = None,
    check: object = True,
) -> None:
    """Raise TypeError or ValueError for wrong arguments of ``explore`` that no single run has."""
    check_number("runs", runs, 1)
    check_number("seed", seed, 0)
    check_number("shrink", shrink, 0)
    check_flag("check", check)
    if keep is not None and not isinstance(keep, str | os.PathLike):
        raise TypeError(f"keep must be the path of a folder, a text or a Path, got {keep!r}")


def _check_options(options: dict[str, Any]) -> None:
    """Raise TypeError or ValueError for arguments that ``explore`` does not take."""
    possible = inspect.signature(explore).parameters
    for name in options:
        if name not in possible or name == "main":
            raise TypeError(
                f"simulated() got an unexpected argument {name!r}: the arguments are those of "
                "simulation.explore()"
            )
    names = {field.name for field in dataclasses.fields(Settings)}
    Settings(**{name: value for name, value in options.items() if name in names})
    search = ("runs", "seed", "shrink", "keep", "check")
    _check_search(**{name: value for name, value in options.items() if name in search})
    strategy_named(options.get("strategy", "portfolio"))


def simulated(
    *, runs: int = 100, **options: Any
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Exploration]]:
    """Make a coroutine function an ordinary one that explores it. The options are ``explore``'s.

    They are checked when the function is decorated: raises TypeError or ValueError.

    >>> import runtime
    >>> from runtime import simulation
    >>> @simulation.simulated(runs=10)
    ... async def check():
    ...     await runtime.sleep(1)
    >>> check().runs
    10
    """
    _check_options({"runs": runs, **options})

    def decorate(function: Callable[..., Awaitable[Any]]) -> Callable[..., Exploration]:
        @functools.wraps(function)
        def explored(*args: Any, **kwargs: Any) -> Exploration:
            main = functools.wraps(function)(functools.partial(function, *args, **kwargs))
            return explore(main, runs=runs, **options)

        del explored.__wrapped__  # inspect would find the coroutine.
        return explored

    return decorate
