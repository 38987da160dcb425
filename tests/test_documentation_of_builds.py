"""Documentation by ``help()`` and ``inspect``, which is the same in both builds."""

from __future__ import annotations

import inspect
import json
import os
from typing import Any

import pytest

import runtime
from tests.support import build
from tests.support.programs import ROOT, run_program

MODULE = __name__.rpartition(".")[2]
Documentation = dict[str, tuple[str | None, str | None]]
"""The docstring and the parameters, by name."""


def parameters_of(thing: Any) -> str | None:
    """Return the parameters without their types, which compiled functions do not have."""
    if not callable(thing) or isinstance(thing, type):
        return None
    found = inspect.signature(thing).parameters.values()
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in found]
    # A method in C takes its object by position only.
    if plain and plain[0].name == "self":
        del plain[0]
    return ", ".join(map(str, plain))


def own_attributes(cls: type) -> list[str]:
    """Return the public attributes that a class defines itself."""
    own = [each for each in cls.__mro__ if each.__module__.partition(".")[0] == "runtime"]
    names = {name for each in own for name in vars(each) if not name.startswith("_")}
    return sorted(names)


def documentation() -> Documentation:
    """Return the documentation of everything public."""
    found: Documentation = {}
    for name in sorted(runtime.__all__):
        thing = getattr(runtime, name)
        found[name] = inspect.getdoc(thing), parameters_of(thing)
        for attribute in own_attributes(thing) if isinstance(thing, type) else ():
            member = getattr(thing, attribute)
            found[f"{name}.{attribute}"] = inspect.getdoc(member), parameters_of(member)
    return found


@pytest.mark.skipif(not build.is_compiled(), reason="needs the compiled build")
def test_the_builds_tell_the_same() -> None:
    code = (
        f"import json; from tests import {MODULE} as this; print(json.dumps(this.documentation()))"
    )
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "RUNTIME_NO_ACCELERATOR": "1"}
    result = run_program("-c", code, environment=environment)
    assert result.returncode == 0, result.stderr
    interpreted = {name: tuple(both) for name, both in json.loads(result.stdout).items()}
    compiled = documentation()
    assert compiled.keys() == interpreted.keys()
    differing = {
        name: (both, interpreted[name])
        for name, both in compiled.items()
        if both != interpreted[name]
    }
    assert differing == {}


def test_every_function_class_and_method_is_documented() -> None:
    bare = [
        name
        for name, (text, parameters) in documentation().items()
        if not text and parameters is not None
    ]
    assert bare == []
    classes = [one for one in map(vars(runtime).get, runtime.__all__) if isinstance(one, type)]
    assert [each for each in classes if not each.__doc__] == []
