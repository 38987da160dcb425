"""Loops that can be put under asyncio's tests, and the way they are put there.

Wherever the tests create a loop by a public name of asyncio, or through the policy, they get the
loop under test. The tests of futures and tasks exist in several versions: for the classes in C, for
the classes in Python, and for mixtures. ``runtime``'s classes replace the classes in C, so that
they are tested alone and together with asyncio's classes in Python.

``test_asyncio.utils.TestLoop`` is a loop of the tests themselves, with a clock that the test
advances. It is replaced in the tests of futures and tasks. Elsewhere it serves to test asyncio's
transports with fake sockets, in which no other loop has a part: these tests pass, but they are not
counted.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TESTS = "test.test_asyncio"
"""Package of the standard library's tests."""

VIRTUAL_TIME = frozenset({"test_futures", "test_tasks"})
"""Test modules in which the loop with a clock of its own is replaced too."""

_POLICIES = ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy")


@dataclass(frozen=True)
class Subject:
    """Classes under test: the loop, and the future and task classes if it has its own."""

    loop: type[Any]
    future: type[Any] | None = None
    task: type[Any] | None = None
    virtual: Callable[..., Any] | None = None


def _runtime() -> Subject:
    import runtime  # here and below: a package that is not tested need not be installed
    from tests.conformance.virtual_loop import VirtualLoop

    return Subject(runtime.Loop, runtime.Future, runtime.Task, VirtualLoop)


def _uvloop() -> Subject:
    uvloop = importlib.import_module("uvloop")

    def new(cls: type[Any], selector: object = None) -> Any:
        return uvloop.Loop.__new__(cls)  # uvloop takes no selector, whatever the test passes

    body = {"__new__": new, "__init__": lambda self, selector=None: uvloop.Loop.__init__(self)}
    return Subject(type("Loop", (uvloop.Loop,), body))


def _asyncio() -> Subject:
    return Subject(asyncio.base_events.BaseEventLoop)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "runtime": _runtime,
    "uvloop": _uvloop,
    "asyncio": _asyncio,
}


class Involvement:
    """Counter of the loops of the class under test."""

    def __init__(self, loop: type[Any]) -> None:
        self.loops = 0
        initialise = loop.__init__

        def counted(instance: Any, *args: Any, **options: Any) -> None:
            self.loops += 1
            initialise(instance, *args, **options)

        loop.__init__ = counted


def put_under_test(name: str, module: str) -> Involvement:
    """Run the tests of ``module``, which must not be imported yet, on the loop called ``name``."""
    # this module must keep asyncio's loop as its base class
    importlib.import_module("asyncio.proactor_events")
    subject = SUBJECTS[name]()
    utils = importlib.import_module(f"{TESTS}.utils")
    if name != "asyncio":
        _replace_loops(subject.loop)
        _close_by_public_means(utils, subject.loop)
    if subject.future is not None and subject.task is not None:
        vars(sys.modules["asyncio.futures"])["_CFuture"] = subject.future
        tasks = vars(sys.modules["asyncio.tasks"])
        tasks["_CTask"] = subject.task
        # From Python 3.14 on, the tests use this name in place of current_task() for the C classes.
        tasks["_c_current_task"] = asyncio.current_task
    if subject.virtual is not None and module in VIRTUAL_TIME:
        vars(utils)["TestLoop"] = subject.virtual
    return Involvement(subject.loop)


def _replace_loops(loop: type[Any]) -> None:
    names = ("BaseEventLoop", "SelectorEventLoop", "EventLoop")
    for module in (asyncio, asyncio.base_events, sys.modules.get("asyncio.unix_events")):
        for name in names:
            if hasattr(module, name):
                setattr(module, name, loop)
    unix = sys.modules.get("asyncio.unix_events")
    for name in _POLICIES:
        if hasattr(unix, name):
            getattr(unix, name)._loop_factory = loop


def _close_by_public_means(utils: Any, loop: type[Any]) -> None:
    """Replace the tests' function that closes a loop, which reads a private attribute."""
    original = utils.TestCase.close_loop

    def close_loop(closing: Any) -> None:
        if isinstance(closing, loop):
            closing.close()
        else:
            original(closing)

    utils.TestCase.close_loop = staticmethod(close_loop)
