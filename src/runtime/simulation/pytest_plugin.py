"""The pytest plugin for simulated tests: each is run under many schedules, fixtures included.

A test is explored if it has the marker ``simulation``, or with ``--runtime-explore``. It then runs
on simulated loops, from the set-up of its fixtures to their tear-down, once for each schedule,
until one fails. Fixtures that are wider than a test and not asynchronous are set up once.

Tests whose asynchronous fixtures are wider than the test are not explored with
``--runtime-explore``: they share a loop. Neither are tests that leave the simulation, for example
with a process: these run once, as usual, and are listed at the end.

As in ``testing.pytest_plugin``, pytest is imported by this module and no other one of the package.
"""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

if TYPE_CHECKING:
    from runtime.loop import Loop
    from runtime.simulation.choices import Strategy
    from runtime.simulation.conditions import Conditions
    from runtime.simulation.current import Settings
    from runtime.simulation.executing import Outcome
    from runtime.simulation.exploring import Exploration
    from runtime.simulation.world import World

_ERRORS = pytest.StashKey[list[BaseException]]()
"""In the stash of a test during one of its simulated runs: the exceptions of the run.

They refer to its frames, and so to its loop and its sockets: pytest keeps the stash to its end.
"""

_EXPLORED = pytest.StashKey["_Explored"]()
"""In the stash of the configuration: what was explored."""

_SETTINGS = (
    "order",
    "lateness",
    "steps",
    "environment",
    "outside",
    "starvation",
    "network",
    "setup",
)
_ARGUMENTS = ("runs", "strategy", "seed", *_SETTINGS)


@dataclass
class _Explored:
    tests: int = 0
    runs: int = 0
    steps: int = 0
    outside: list[str] = field(default_factory=list)
    never_reached: list[str] = field(default_factory=list)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command line options."""
    group = parser.getgroup("runtime")
    group.addoption(
        "--runtime-explore",
        type=int,
        metavar="RUNS",
        help="run each asynchronous test under up to RUNS schedules, in a simulation",
    )
    group.addoption(
        "--runtime-seed",
        type=int,
        default=0,
        metavar="SEED",
        help="the seed of the schedules of explored tests",
    )
    group.addoption(
        "--runtime-order",
        choices=["events", "tasks"],
        default="events",
        help="what may vary in explored tests without the marker: see runtime.simulation.run()",
    )
    group.addoption(
        "--runtime-network",
        metavar="CONDITIONS",
        help="the conditions of the network in explored tests, as latency=0:0.01,splitting=0.1: "
        "see runtime.simulation.Conditions",
    )
    group.addoption(
        "--runtime-setup",
        metavar="FUNCTION",
        help="a function that is called with the world before each run of an explored test, to "
        "make hosts and plan faults: FILE::FUNCTION or MODULE:FUNCTION",
    )
    group.addoption(
        "--runtime-replay",
        metavar="TOKEN",
        help="run the selected asynchronous test once, with the schedule of a token",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "simulation(runs=100, strategy='portfolio', seed=0, order='events', lateness=0.01, "
        "steps=1000000, environment='control', outside='refuse', starvation=None, network=None, "
        "setup=None): run an async test under many schedules, in a simulation",
    )
    config.stash[_EXPLORED] = _Explored()


def _options_of(item: pytest.Item) -> dict[str, Any] | None:
    """Return the options with which a test is explored; None if it is not."""
    from runtime.testing.pytest_plugin import runs_on_plugin
    from runtime.testing.pytest_scopes import owner_of

    function = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(function):
        _check_own_marker(item, function)
        return None
    if not runs_on_plugin(item):
        return None
    marker = item.get_closest_marker("simulation")
    if marker is None:
        runs = item.config.getoption("runtime_explore")
        if item.config.getoption("runtime_replay") is None and (
            not runs or owner_of(item) is not item
        ):
            return None
        return {
            "runs": runs,
            "seed": item.config.getoption("runtime_seed"),
            "order": item.config.getoption("runtime_order"),
            "network": _network_of(item),
            "setup": _setup_of(item),
        }
    wrong = [name for name in marker.kwargs if name not in _ARGUMENTS]
    if marker.args or wrong:
        raise pytest.UsageError(
            f"{item.nodeid}: the marker simulation expected {', '.join(_ARGUMENTS)} by name, got "
            f"{', '.join([*map(repr, marker.args), *wrong])}"
        )
    if owner_of(item) is not item:
        raise pytest.UsageError(
            f"{item.nodeid}: a test with the marker simulation runs on many loops, and can only "
            "have asynchronous fixtures with the scope 'function'"
        )
    options = {
        "runs": 100,
        "seed": item.config.getoption("runtime_seed"),
        "network": _network_of(item),
        "setup": _setup_of(item),
        **marker.kwargs,
    }
    runs = item.config.getoption("runtime_explore")
    return {**options, "runs": runs} if runs and "runs" not in marker.kwargs else options


def _check_own_marker(item: pytest.Item, function: object) -> None:
    """Raise UsageError for a test with the marker itself that would run without a simulation.

    The marker of a class or a module may also be for other tests.
    """
    if any(marker.name == "simulation" for marker in item.own_markers):
        advice = "call simulation.explore() in it instead"
        if hasattr(function, "hypothesis"):
            advice = f"hypothesis makes it an ordinary one: {advice}, in a test that is not async"
        raise pytest.UsageError(
            f"{item.nodeid}: the marker simulation is for `async def` tests: {advice}"
        )


def _network_of(item: pytest.Item) -> Conditions | None:
    """Return the conditions of the network that the command line asks for."""
    from runtime.simulation.conditions import conditions_of

    text = item.config.getoption("runtime_network")
    try:
        return None if text is None else conditions_of(text)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"--runtime-network: {error}") from error


def _setup_of(item: pytest.Item) -> Callable[[World], object] | None:
    """Return the set-up function that the command line names."""
    from runtime.simulation.loading import load_setup

    text = item.config.getoption("runtime_setup")
    try:
        return None if text is None else load_setup(text)
    except (OSError, AttributeError, ImportError, ValueError) as error:
        raise pytest.UsageError(f"--runtime-setup: {error}") from error


def _would_be_explored(item: pytest.Item) -> bool:
    """Return whether a test would be explored if hypothesis did not run it, in runs of its own."""
    from runtime.testing.pytest_plugin import runs_on_plugin

    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    if not inspect.iscoroutinefunction(getattr(handle, "inner_test", None)):
        return False
    is_asked_for = item.get_closest_marker("simulation") or item.config.getoption("runtime_explore")
    return bool(is_asked_for) and runs_on_plugin(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> object:
    """Explore a test, if it is to be explored."""
    options = _options_of(item)
    if options is None:
        if _would_be_explored(item):
            item.config.stash[_EXPLORED].outside.append(item.nodeid)
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    explorer = _Explorer(item, options)
    reports = explorer.reports()
    if reports is None:
        item.config.stash[_EXPLORED].outside.append(item.nodeid)
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    else:
        call = pytest.CallInfo.from_call(
            lambda: item.session._setupstate.teardown_exact(nextitem), "teardown"
        )
        if call.excinfo is not None:
            reports.append(item.ihook.pytest_runtest_makereport(item=item, call=call))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Note the exceptions of a simulated run."""
    report = yield
    errors = item.stash.get(_ERRORS, None)
    if errors is None:
        return report
    error = None if call.excinfo is None else call.excinfo.value
    # A test with the marker xfail has failed too, and needs no further runs.
    is_failure = report.failed or (hasattr(report, "wasxfail") and not _is_outcome(error))
    if error is not None and is_failure:
        errors.append(error)
    return report


def _is_outcome(error: BaseException | None) -> bool:
    """Return whether an exception is that of ``pytest.xfail()`` or ``pytest.skip()``."""
    return isinstance(error, pytest.xfail.Exception | pytest.skip.Exception)


class _Explorer:
    """The exploration of one test."""

    def __init__(self, item: pytest.Item, options: dict[str, Any]) -> None:
        self._item = item
        self._options = options
        self._last: list[pytest.TestReport] = []

    def reports(self) -> list[pytest.TestReport] | None:
        """Explore the test; return the reports of the last run. None if it has to run as usual."""
        from runtime.simulation.checks import check_number
        from runtime.simulation.current import Settings
        from runtime.simulation.errors import take_refusals
        from runtime.simulation.exploring import explore_with
        from runtime.simulation.failures import FAILURES, FailureFolder
        from runtime.simulation.strategies import strategy_named

        item = self._item
        config = item.config
        options = self._options
        token = config.getoption("runtime_replay")
        try:
            settings = Settings(**{name: options[name] for name in _SETTINGS if name in options})
            if token is not None:
                return self._replay(token, settings)
            check_number("runs", options["runs"], 1)
            check_number("seed", options["seed"], 0)
            search = strategy_named(options.get("strategy", "portfolio")).search(options["seed"])
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from error
        folder = FailureFolder(config.rootpath / FAILURES, item.nodeid)
        marked = item.get_closest_marker("simulation") is not None
        if not marked and self._leaves_simulation(functools.partial(self._run, settings)):
            return None
        take_refusals()
        found = explore_with(self._run, settings, search, options["runs"], folder=folder)
        if not marked and found.failure is not None and take_refusals():
            # In another order it leaves the simulation, as with a peer in a thread that blocks.
            folder.forget(found.failure.token)
            return None
        self._count(found)
        return self._with_report(found)

    def _leaves_simulation(self, runner: Callable[[Strategy, int, bool], Outcome]) -> bool:
        """Return whether the usual run fails because it uses something outside."""
        from runtime.simulation.choices import Strategy
        from runtime.simulation.errors import take_refusals

        take_refusals()
        error = runner(Strategy(), 0, False).error
        # The error may be another one: a task that waits for the one which was refused.
        return take_refusals() > 0 and error is not None

    def _replay(self, text: str, settings: Settings) -> list[pytest.TestReport]:
        from runtime.simulation.errors import DivergenceError
        from runtime.simulation.exploring import Exploration, failure_of, repeated

        try:
            runner, outcome, settings = repeated(self._run, text, settings)
        except DivergenceError as error:
            raise pytest.UsageError(f"{self._item.nodeid}: {error}") from error
        found = Exploration()
        if outcome.error is not None:
            found.failure = failure_of(runner, outcome, settings, shrink=0)
        return self._with_report(found)

    def _run(self, settings: Settings, strategy: Strategy, seed: int, traced: bool) -> Outcome:
        """Run the test once, with its fixtures."""
        from runtime.simulation.executing import SimulatedRun, new_loop
        from runtime.testing.pytest_plugin import BACKGROUND_DESCRIPTORS, LOOP_FACTORY

        item = self._item
        module = getattr(getattr(item, "obj", None), "__module__", None)
        simulated = SimulatedRun(settings, strategy, seed, module=module, traced=traced)
        factory: Callable[[], Loop] = functools.partial(new_loop, simulated.run)
        item.stash[LOOP_FACTORY] = factory
        item.stash[BACKGROUND_DESCRIPTORS] = simulated.run.world.background_descriptors
        errors = item.stash[_ERRORS] = []
        try:
            with simulated:
                # The parent in the place of the next test: only wider fixtures are kept.
                parent: Any = item.parent
                self._last = runtestprotocol(item, log=False, nextitem=parent)
        finally:
            del item.stash[LOOP_FACTORY], item.stash[BACKGROUND_DESCRIPTORS], item.stash[_ERRORS]
        outcome: Outcome = simulated.outcome
        outcome.error = errors[0] if errors else None
        return outcome

    def _count(self, found: Exploration) -> None:
        explored = self._item.config.stash[_EXPLORED]
        explored.tests += 1
        explored.runs += found.runs
        explored.steps += found.steps
        explored.never_reached += [f"{self._item.nodeid}: {label}" for label in found.never_reached]

    def _with_report(self, found: Exploration) -> list[pytest.TestReport]:
        failure = found.failure
        if failure is not None:
            text = f"{failure.report}\nrepeat it with --runtime-replay={failure.token}"
            for name in ("network", "setup"):
                value = self._item.config.getoption(f"runtime_{name}")
                if value is not None:
                    text += f" --runtime-{name}={shlex.quote(value)}"
            for report in self._last:
                if report.failed:
                    report.sections.append(("simulated run", text))
                    break
        return self._last


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how much was explored, and which tests were not."""
    explored = config.stash[_EXPLORED]
    if not explored.tests and not explored.outside:
        return
    terminalreporter.section("simulation")
    tests = "1 test" if explored.tests == 1 else f"{explored.tests} tests"
    terminalreporter.line(f"explored {tests} in {explored.runs} runs with {explored.steps} steps")
    for line in explored.never_reached:
        terminalreporter.line(f"never reached: {line}")
    for line in explored.outside:
        terminalreporter.line(f"outside of the simulation, ran once as usual: {line}")
