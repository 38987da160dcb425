"""A plugin of pytest: ``async def`` tests and fixtures on a loop of ``runtime``.

pytest finds it by its entry point, and it does nothing unless it is asked to: by the option
``--runtime``, for every asynchronous test that is not marked as another plugin's, or by the marker
``runtime`` for one. This module is the only one that imports pytest, and nothing imports it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any

import pytest

from runtime.testing.loop_of_test import AsyncFixture, LoopOfTest

_LOOP = pytest.StashKey[LoopOfTest]()
_LEAKS = ("fail", "ignore")
_ARGUMENTS = ("clock", "real_io", "patience", "debug", "leaks")
_OTHERS = ("asyncio", "anyio", "trio")
"""Markers by which other plugins know their tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("runtime", "asynchronous tests on runtime's event loop")
    group.addoption(
        "--runtime",
        action="store_true",
        help="run `async def` tests and fixtures on runtime's event loop",
    )
    group.addoption(
        "--runtime-clock",
        choices=["real", "virtual"],
        default="real",
        help="the clock of tests that do not choose one with the marker",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell of the marker; refuse to share all asynchronous tests with another plugin."""
    config.addinivalue_line(
        "markers",
        "runtime(clock='real' or 'virtual', real_io='refuse' or 'wait', patience=seconds, "
        "debug=bool, leaks='fail' or 'ignore'): run an async test on runtime's event loop",
    )
    if not config.getoption("runtime"):
        return
    for plugin in ("asyncio", "anyio"):
        if _mode_of(config, plugin) == "auto":
            raise pytest.UsageError(
                f"--runtime and {plugin}_mode=auto both claim every asynchronous test: "
                "leave one of them out, or mark the tests."
            )


def _mode_of(config: pytest.Config, plugin: str) -> str:
    """Return the mode of another plugin; empty where it is not there, or has none."""
    if not config.pluginmanager.hasplugin(plugin):
        return ""
    try:
        mode = config.getoption(f"{plugin}_mode", None) or config.getini(f"{plugin}_mode")
    except ValueError:
        return ""
    return str(getattr(mode, "value", mode))


def _is_ours(item: pytest.Item) -> bool:
    if item.get_closest_marker("runtime") is not None:
        return True
    if not item.config.getoption("runtime"):
        return False
    fixtures = getattr(item, "fixturenames", ())
    return "anyio_backend" not in fixtures and not any(map(item.get_closest_marker, _OTHERS))


def _loop_of(item: pytest.Item) -> LoopOfTest:
    """Return the loop of a test, made when it is first needed."""
    if _LOOP not in item.stash:
        options = _options_of(item)
        options.pop("leaks", None)
        item.stash[_LOOP] = LoopOfTest(**options)
    return item.stash[_LOOP]


def _options_of(item: pytest.Item) -> dict[str, Any]:
    """Return the arguments of the marker; those that are closer to the test win."""
    options: dict[str, Any] = {"clock": item.config.getoption("runtime_clock")}
    for marker in reversed(list(item.iter_markers("runtime"))):
        wrong = [name for name in marker.kwargs if name not in _ARGUMENTS]
        if marker.args or wrong:
            raise pytest.UsageError(
                f"{item.nodeid}: the marker runtime takes {', '.join(_ARGUMENTS)} by name, not "
                f"{', '.join([*map(repr, marker.args), *wrong])}."
            )
        options |= marker.kwargs
    if options.get("leaks", "fail") not in _LEAKS:
        raise pytest.UsageError(
            f'{item.nodeid}: leaks is "fail" or "ignore", not {options["leaks"]!r}.'
        )
    return options


def _fail_for(item: pytest.Item, left: list[str]) -> None:
    __tracebackhide__ = True
    if left and _options_of(item).get("leaks") != "ignore":
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)


# -- Tests -----------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run an asynchronous test of ours; leave any other to whoever comes next."""
    __tracebackhide__ = True
    test = pyfuncitem.obj
    # What hypothesis makes of a test is an ordinary function, which calls this one.
    made = getattr(test, "hypothesis", None)
    inner = test if made is None else made.inner_test
    if not inspect.iscoroutinefunction(inner) or not _is_ours(pyfuncitem):
        return None
    if others := [name for name in _OTHERS if pyfuncitem.get_closest_marker(name)]:
        pytest.fail(f"marked both runtime and {', '.join(others)}: choose one", pytrace=False)
    arguments = {name: pyfuncitem.funcargs[name] for name in _argument_names(pyfuncitem)}
    loop = _loop_of(pyfuncitem)
    left: list[str] = []

    @functools.wraps(inner)
    def run(*args: Any, **kwargs: Any) -> None:
        left.extend(loop.run_test(inner(*args, **kwargs)))

    if made is None:
        run(**arguments)
    else:
        made.inner_test = run
        try:
            test(**arguments)
        finally:
            made.inner_test = inner
    _fail_for(pyfuncitem, left)
    return True


def _argument_names(item: pytest.Function) -> tuple[str, ...]:
    names: tuple[str, ...] = item._fixtureinfo.argnames
    return names


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Close the loop of a test when its fixtures are torn down."""
    __tracebackhide__ = True
    left: list[str] = []
    try:
        result = yield
    finally:
        if (loop := item.stash.get(_LOOP, None)) is not None:
            del item.stash[_LOOP]
            left = loop.close()
    _fail_for(item, left)
    return result


# -- Fixtures --------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Give pytest an ordinary function in place of an asynchronous fixture of ours."""
    function = fixturedef.func
    is_generator = inspect.isasyncgenfunction(function)
    if not is_generator and not inspect.iscoroutinefunction(function):
        return (yield)
    item = getattr(request, "_pyfuncitem", request.node)
    if hasattr(function, "_force_asyncio_fixture") or not _is_ours(item):
        return (yield)
    if fixturedef.scope != "function":
        pytest.fail(
            f"The asynchronous fixture {fixturedef.argname!r} has the scope {fixturedef.scope!r}: "
            "a loop belongs to one test, so make it one of the scope 'function'.",
            pytrace=False,
        )
    bound = _bound(function, request.instance)

    @functools.wraps(function)
    def set_up(**arguments: Any) -> Any:
        loop = _loop_of(item)
        if not is_generator:
            return loop.run(bound(**arguments))
        fixture = AsyncFixture(loop, bound(**arguments), fixturedef.argname)
        value = fixture.set_up()
        request.addfinalizer(fixture.tear_down)
        return value

    # Or pytest would look through it, and find that the fixture is asynchronous.
    del set_up.__wrapped__
    _replace(fixturedef, set_up)
    try:
        return (yield)
    finally:
        _replace(fixturedef, function)


def _bound(function: Callable[..., Any], instance: object) -> Callable[..., Any]:
    """Return a method bound to the instance of the test, as pytest does with ordinary ones."""
    owner = getattr(function, "__self__", None)
    if instance is None or owner is None or not isinstance(instance, type(owner)):
        return function
    method: Callable[..., Any] = function.__func__.__get__(instance)  # type: ignore[attr-defined]
    return method


def _replace(fixturedef: pytest.FixtureDef[Any], function: Callable[..., Any]) -> None:
    vars(fixturedef)["func"] = function
