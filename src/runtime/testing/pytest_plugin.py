"""The pytest plugin: runs ``async def`` tests and fixtures on a ``runtime.Loop``.

pytest finds it by its entry point. It does nothing without the option ``--runtime``, which chooses
every asynchronous test that is not marked for another plugin, or the marker ``runtime``, which
chooses single tests. Only this module and ``pytest_scopes`` import pytest, and no other module
imports them.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any

import pytest

from runtime.loop import Loop
from runtime.testing.async_fixture import AsyncFixture
from runtime.testing.pytest_scopes import (
    Node,
    is_asynchronous,
    owner_of,
    share_loops,
    width_of,
)
from runtime.testing.scoped_loop import Scope, ScopedLoop

_LOOP = pytest.StashKey[tuple[ScopedLoop, dict[str, Any], str]]()
"""The loop that closes with a node, its options, and the id of the first test that needed it."""

LOOP_FACTORY = pytest.StashKey[Callable[[], Loop]]()
"""A function that makes the loop of a test, in the stash of the test, instead of its options."""

BACKGROUND_DESCRIPTORS = pytest.StashKey[Callable[[], set[int]]]()
"""A function that returns descriptors which the test does not leave behind, in its stash too."""

_SCOPE = pytest.StashKey[Scope]()
_LEAKS = ("fail", "defer", "ignore")
_ARGUMENTS = ("clock", "real_io", "patience", "debug", "leaks")
_OTHERS = ("asyncio", "anyio", "trio")
"""Markers of other plugins for their own tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command line options."""
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
    group.addoption(
        "--runtime-forbid-blocking",
        action="store_true",
        help="fail a test that blocks an event loop, at the call: see observe.forbid_blocking()",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; raise UsageError if another plugin claims all asynchronous tests too."""
    config.addinivalue_line(
        "markers",
        "runtime(clock='real' or 'virtual', real_io='refuse' or 'wait', patience=seconds, "
        "debug=bool, leaks='fail', 'defer' or 'ignore'): run an async test on runtime's event loop",
    )
    if not config.getoption("runtime"):
        return
    for plugin in ("asyncio", "anyio"):
        if _mode_of(config, plugin) == "auto":
            raise pytest.UsageError(
                f"--runtime and {plugin}_mode=auto both claim every asynchronous test: "
                "leave one of them out, or mark the tests"
            )


def _mode_of(config: pytest.Config, plugin: str) -> str:
    """Return the mode of another plugin; empty if it is not loaded, or has none."""
    if not config.pluginmanager.hasplugin(plugin):
        return ""
    try:
        mode = config.getoption(f"{plugin}_mode", None) or config.getini(f"{plugin}_mode")
    except ValueError:
        return ""
    return str(getattr(mode, "value", mode))


def runs_on_plugin(item: pytest.Item) -> bool:
    """Return whether an asynchronous test is run by this plugin, and not by another one."""
    if any(item.get_closest_marker(name) is not None for name in ("runtime", "simulation")):
        return True
    if not item.config.getoption("runtime"):
        return False
    fixtures = getattr(item, "fixturenames", ())
    return "anyio_backend" not in fixtures and not any(map(item.get_closest_marker, _OTHERS))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Find out which tests share a loop, now that the tests to run are known."""
    share_loops(filter(runs_on_plugin, session.items))


def _options_of(node: Node) -> dict[str, Any]:
    """Return the arguments of the marker; a marker closer to the test overrides the others."""
    options: dict[str, Any] = {"clock": node.config.getoption("runtime_clock")}
    for marker in reversed(list(node.iter_markers("runtime"))):
        wrong = [name for name in marker.kwargs if name not in _ARGUMENTS]
        if marker.args or wrong:
            raise pytest.UsageError(
                f"{node.nodeid}: the marker runtime expected {', '.join(_ARGUMENTS)} by name, got "
                f"{', '.join([*map(repr, marker.args), *wrong])}"
            )
        options |= marker.kwargs
    if options.get("leaks", "fail") not in _LEAKS:
        raise pytest.UsageError(
            f'{node.nodeid}: leaks must be "fail", "defer" or "ignore", got {options["leaks"]!r}'
        )
    return options


# -- Loops and scopes ------------------------------------------------------------------------------


def _loop_of(item: pytest.Item) -> ScopedLoop:
    """Return the loop of a test; make it if this is its first use."""
    options = _options_of(item)
    options.pop("leaks", None)
    owner = owner_of(item)
    if _LOOP not in owner.stash:
        loop = ScopedLoop(
            factory=item.stash.get(LOOP_FACTORY, None),
            background=item.stash.get(BACKGROUND_DESCRIPTORS, None),
            **options,
        )
        owner.stash[_LOOP] = loop, options, item.nodeid
    loop, loop_options, first = owner.stash[_LOOP]
    if options != loop_options:
        pytest.fail(
            f"{item.nodeid} asks for a loop with {_shown(options)}, and shares one with {first}, "
            f"which has {_shown(loop_options)}: they have asynchronous fixtures in common that are "
            f"wider than a test. Mark all of {_name_of(owner)} alike, or give these fixtures the "
            "scope 'function'.",
            pytrace=False,
        )
    return loop


def _scope_of(node: Node, item: pytest.Item) -> Scope:
    """Return the scope of a node on the loop of a test; begin it if this is its first use."""
    loop = _loop_of(item)
    owner = owner_of(item)
    for each in (owner, node):
        if _SCOPE not in each.stash:
            each.stash[_SCOPE] = loop.begin(width=width_of(each), for_test=each is item)
            # Finalizers run in reverse order: this one runs after those of the fixtures, which are
            # added later.
            each.addfinalizer(functools.partial(_end, each))
    return node.stash[_SCOPE]


def _end(node: Node) -> None:
    """End the scope of a node, after its fixtures were torn down."""
    scope = node.stash[_SCOPE]
    del node.stash[_SCOPE]
    if _LOOP in node.stash:
        del node.stash[_LOOP]
    _fail_for(node, scope.end(defer=_options_of(node).get("leaks") == "defer"))


def _fail_for(node: Node, left: list[str]) -> None:
    if not left or _options_of(node).get("leaks") == "ignore":
        return
    where = "" if isinstance(node, pytest.Item) else f" at the end of {_name_of(node)}"
    # Exceptions are failures in any case; only open resources can be deferred.
    is_open = any(line.startswith(("task ", "process ", "descriptor ")) for line in left)
    if is_open and isinstance(node, pytest.Item) and owner_of(node) is not node:
        left.append(
            f"(The loop runs until the end of {_name_of(owner_of(node))}. If something is to stay "
            'open until then, mark the test with leaks="defer".)'
        )
    pytest.fail(f"left behind{where}:\n" + "\n".join(left), pytrace=False)


def _name_of(node: Node) -> str:
    return f"the {type(node).__name__.lower()} {node.nodeid}".rstrip()


def _shown(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Forbid blocking calls while a test runs, if that is asked for."""
    if not item.config.getoption("runtime_forbid_blocking"):
        return (yield)
    # Imported here: most test runs do not need it.
    from runtime.observe.forbidding import forbid_blocking

    with forbid_blocking():
        return (yield)


# -- Tests -----------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run an asynchronous test of this plugin; leave other tests to other plugins."""
    __tracebackhide__ = True
    test = pyfuncitem.obj
    # hypothesis wraps a test in an ordinary function, and keeps the test in an attribute of that.
    handle = getattr(test, "hypothesis", None)
    inner = test if handle is None else handle.inner_test
    if not inspect.iscoroutinefunction(inner) or not runs_on_plugin(pyfuncitem):
        return None
    if others := [name for name in _OTHERS if pyfuncitem.get_closest_marker(name)]:
        pytest.fail(f"marked both runtime and {', '.join(others)}: choose one", pytrace=False)
    arguments = {name: pyfuncitem.funcargs[name] for name in _argument_names(pyfuncitem)}
    scope = _scope_of(pyfuncitem, pyfuncitem)
    defer = _options_of(pyfuncitem).get("leaks") == "defer"
    left: list[str] = []

    @functools.wraps(inner)
    def run(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        left.extend(scope.run_test(inner(*args, **kwargs), defer=defer))

    if handle is None:
        run(**arguments)
    else:
        handle.inner_test = run
        try:
            test(**arguments)
        finally:
            handle.inner_test = inner
    _fail_for(pyfuncitem, left)
    return True


def _argument_names(item: pytest.Function) -> tuple[str, ...]:
    names: tuple[str, ...] = item._fixtureinfo.argnames
    return names


# -- Fixtures --------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Give pytest an ordinary function in place of an asynchronous fixture of this plugin."""
    item = getattr(request, "_pyfuncitem", request.node)
    if not is_asynchronous(fixturedef) or not runs_on_plugin(item):
        return (yield)
    __tracebackhide__ = True
    function = fixturedef.func
    bound = _bound(function, request.instance)

    @functools.wraps(function)
    def set_up(**arguments: Any) -> Any:
        __tracebackhide__ = True
        _check_is_named(fixturedef.argname, request.node, item)
        scope = _scope_of(request.node, item)
        if not inspect.isasyncgenfunction(function):
            return scope.set_up(bound(**arguments))
        fixture = AsyncFixture(scope, bound(**arguments), fixturedef.argname)
        value = fixture.set_up()
        request.addfinalizer(fixture.tear_down)
        return value

    # Otherwise pytest would follow __wrapped__, and find an asynchronous function.
    del set_up.__wrapped__
    _replace(fixturedef, set_up)
    try:
        return (yield)
    finally:
        _replace(fixturedef, function)


def _check_is_named(name: str, node: Node, item: pytest.Item) -> None:
    """Fail for a fixture that was not known yet when the loop of the test was chosen."""
    if asyncio._get_running_loop() is not None or width_of(node) < width_of(owner_of(item)):
        pytest.fail(
            f"The asynchronous fixture {name!r} was requested with getfixturevalue(). The fixtures "
            "that a test names determine its loop: make this one an argument of the test or of a "
            "fixture, or name it in pytest.mark.usefixtures().",
            pytrace=False,
        )


def _bound(function: Callable[..., Any], instance: object) -> Callable[..., Any]:
    """Return a method bound to the instance of the test, as pytest binds ordinary fixtures."""
    owner = getattr(function, "__self__", None)
    if instance is None or owner is None or not isinstance(instance, type(owner)):
        return function
    method: Callable[..., Any] = function.__func__.__get__(instance)  # type: ignore[attr-defined]
    return method


def _replace(fixturedef: pytest.FixtureDef[Any], function: Callable[..., Any]) -> None:
    vars(fixturedef)["func"] = function
