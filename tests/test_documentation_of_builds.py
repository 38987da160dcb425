"""Documentation by ``help()``, ``inspect`` and ``typing``, which is the same in both builds."""

from __future__ import annotations

import functools
import inspect
import json
import os
import pickle
import pydoc
import typing
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import pytest

import runtime
from tests.support import build
from tests.support.programs import ROOT, run_program

MODULE = __name__.rpartition(".")[2]

WITHOUT_HINTS = {"Handle", "TimerHandle"}
"""The classes whose compiled methods have no annotations; setup.py says why."""


class Documentation(NamedTuple):
    """Documentation of a function, method or attribute. A class has only a docstring."""

    docstring: str | None
    parameters: str | None
    """The parameters without their annotations."""

    signature: str | None
    hints: str | None


def documentation_of(value: Any) -> Documentation:
    """Return the documentation of ``value``."""
    docstring = inspect.getdoc(value)
    if not callable(value) or isinstance(value, type):
        return Documentation(docstring, None, None, None)
    signature = inspect.signature(value)
    parameters = list(signature.parameters.values())
    # Of a method in C without annotations, this parameter is by position only.
    if parameters and parameters[0].name == "self":
        del parameters[0]
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    return Documentation(
        docstring,
        ", ".join(map(str, plain)),
        str(signature.replace(parameters=parameters)),
        str(typing.get_type_hints(value)),
    )


def own_attributes(cls: type) -> list[str]:
    """Return the public attributes that a class defines itself."""
    own = [each for each in cls.__mro__ if each.__module__.partition(".")[0] == "runtime"]
    names = {name for each in own for name in vars(each) if not name.startswith("_")}
    return sorted(names)


def public_documentation() -> dict[str, Documentation]:
    """Return the documentation of all public objects, by name."""
    found = {}
    for name in sorted(runtime.__all__):
        value = getattr(runtime, name)
        found[name] = documentation_of(value)
        for attribute in own_attributes(value) if isinstance(value, type) else ():
            found[f"{name}.{attribute}"] = documentation_of(getattr(value, attribute))
    return found


@functools.cache
def interpreted_documentation() -> dict[str, Documentation]:
    """Return the documentation of the interpreted build, without the accelerator."""
    code = (
        f"import json; from tests import {MODULE} as this; "
        "print(json.dumps(this.public_documentation()))"
    )
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "RUNTIME_NO_ACCELERATOR": "1"}
    result = run_program("-c", code, environment=environment)
    assert result.returncode == 0, result.stderr
    return {name: Documentation(*each) for name, each in json.loads(result.stdout).items()}


needs_both_builds = pytest.mark.skipif(
    not build.is_compiled(), reason="the build that is tested is the other one"
)


@needs_both_builds
def test_the_builds_have_the_same_documentation() -> None:
    compiled, interpreted = public_documentation(), interpreted_documentation()
    assert compiled.keys() == interpreted.keys()
    differing = {
        name: (each, interpreted[name])
        for name, each in compiled.items()
        if each[:2] != interpreted[name][:2]
    }
    assert differing == {}


@needs_both_builds
def test_the_builds_have_the_same_types_except_of_handles() -> None:
    compiled, interpreted = public_documentation(), interpreted_documentation()
    differing = {
        name: (each, interpreted[name])
        for name, each in compiled.items()
        if each != interpreted[name]
    }
    assert {name.partition(".")[0] for name in differing} == WITHOUT_HINTS
    assert {each.hints for each, _ in differing.values()} == {"{}"}


def test_every_function_class_and_method_is_documented() -> None:
    bare = [
        name
        for name, each in public_documentation().items()
        if not each.docstring and each.parameters is not None
    ]
    assert bare == []
    classes = [one for one in map(vars(runtime).get, runtime.__all__) if isinstance(one, type)]
    assert [each for each in classes if not each.__doc__] == []


def test_every_function_and_method_has_hints_except_of_handles() -> None:
    bare = [name for name, each in public_documentation().items() if each.hints == "{}"]
    assert [name for name in bare if name.partition(".")[0] not in WITHOUT_HINTS] == []


# -- Methods with annotations are methods like others ----------------------------------------------

METHODS: list[Callable[..., Any]] = [
    runtime.Loop.call_later,
    runtime.Loop.create_future,
    runtime.Future.add_done_callback,
    runtime.Task.cancel,
]


def test_annotations_are_evaluated_in_the_module_of_the_method() -> None:
    signature = inspect.signature(runtime.Loop.call_later, eval_str=True)
    assert signature.return_annotation is runtime.TimerHandle
    assert signature.parameters["context"].default is None
    assert inspect.get_annotations(runtime.Loop.is_running, eval_str=True) == {"return": bool}
    assert typing.get_type_hints(runtime.Loop.create_future)["return"] == runtime.Future[Any]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_a_routine_with_a_name_and_a_module(method: Callable[..., Any]) -> None:
    assert inspect.isroutine(method)
    assert not inspect.iscoroutinefunction(method)
    assert method.__qualname__.endswith(f".{method.__name__}")
    assert method.__module__.startswith("runtime.kernel.")
    assert method.__annotations__ is method.__annotations__
    assert method.__name__ in repr(method)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_can_be_pickled(method: Callable[..., Any]) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(method, protocol)) is method


def test_help_shows_signature_and_docstring() -> None:
    text = pydoc.render_doc(runtime.Loop.call_later, renderer=pydoc.TextDoc())
    assert "callback: " in text
    assert "-> " in text
    assert "after ``delay`` seconds" in text


def test_a_wrapper_takes_over_the_annotations() -> None:
    @functools.wraps(runtime.Loop.call_later)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return runtime.Loop.call_later(*args, **kwargs)

    assert inspect.signature(wrapper) == inspect.signature(runtime.Loop.call_later)
    assert typing.get_type_hints(wrapper) == typing.get_type_hints(runtime.Loop.call_later)
    assert wrapper.__doc__ == runtime.Loop.call_later.__doc__


def test_an_automatic_mock_can_be_made() -> None:
    loop = mock.create_autospec(runtime.Loop)()
    loop.call_later(1, print, "x", context=None)
    loop.call_later.assert_called_once_with(1, print, "x", context=None)
    with pytest.raises(AttributeError):
        loop.call_sooner(print)


def test_methods_are_called_bound_unbound_and_through_super() -> None:
    class Counting(runtime.Loop):
        calls = 0

        def get_debug(self) -> bool:
            self.calls += 1
            return super().get_debug()

    loop = Counting()
    loop.set_debug(False)
    try:
        called: list[int] = []
        loop.call_soon(called.append, 1)
        runtime.Loop.call_soon(loop, called.append, 2)
        bound: Any = loop.call_soon
        assert bound.__self__ is loop
        assert bound == loop.call_soon
        bound(called.append, 3, context=None)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert called == [1, 2, 3]
        assert loop.get_debug() is False
        assert loop.calls == 1
    finally:
        loop.close()


def test_a_method_refuses_an_object_of_another_class() -> None:
    method: Any = runtime.Loop.call_exception_handler
    wrong: list[tuple[Any, ...]] = [(), ({},), (object(), {})]
    for arguments in wrong:
        with pytest.raises((TypeError, AttributeError)):
            method(*arguments)


def test_a_method_can_be_replaced() -> None:
    original = runtime.Loop.is_closed
    loop = runtime.Loop()
    try:
        with mock.patch.object(runtime.Loop, "is_closed") as patched:
            loop.is_closed()
        patched.assert_called_once_with()
        assert loop.is_closed() is False
    finally:
        loop.close()
    assert runtime.Loop.is_closed is original


def test_constructors_and_bound_methods_have_their_parameters() -> None:
    assert list(inspect.signature(runtime.Future).parameters) == ["loop"]
    parameters = ["coro", "loop", "name", "context", "eager_start"]
    assert list(inspect.signature(runtime.Task).parameters) == parameters
    loop = runtime.Loop()
    try:
        parameters = ["delay", "callback", "args", "context"]
        assert list(inspect.signature(loop.call_later).parameters) == parameters
        assert inspect.getdoc(loop.call_later) == inspect.getdoc(runtime.Loop.call_later)
    finally:
        loop.close()


def test_a_method_can_be_deleted() -> None:
    program = """
import gc, inspect, runtime
from runtime.kernel.future import FutureCore

inspect.signature(FutureCore.get_loop)
del FutureCore.get_loop, FutureCore.remove_done_callback
gc.collect()
print(hasattr(runtime.Future, "get_loop"), hasattr(runtime.Future, "remove_done_callback"))
"""
    result = run_program("-X", "dev", "-c", program)
    assert (result.returncode, result.stdout, result.stderr) == (0, "False False\n", "")
