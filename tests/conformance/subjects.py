"""The loops that can be put under asyncio's tests, and how that is done.

Wherever the tests make a loop by a public name of asyncio, they get the one under test; so does
whoever goes through the policy. The tests of futures and tasks come in several versions: for the
classes in C, for those in Python, and mixed. For ``runtime``, its own classes take the part of
those in C, so that they are tested alone and together with asyncio's in Python.

A loop of the tests' own, ``test_asyncio.utils.TestLoop``, has a clock that the test moves. It is
replaced where futures and tasks are the subject. Elsewhere it serves to test asyncio's transports
with false sockets, in which no other loop has a part: these tests pass, but they are not counted.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TESTS = "test.test_asyncio"
"""The package of the standard library's tests."""

VIRTUAL_TIME = frozenset({"test_futures", "test_tasks"})
"""The modules of tests in which the loop with a clock of its own is replaced too."""

_POLICIES = ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy")


@dataclass(frozen=True)
class Subject:
    """What is tested: the class of its loops, and of its futures and tasks if it has its own."""

    loop: type[Any]
    future: type[Any] | None = None
    task: type[Any] | None = None
    virtual: Callable[..., Any] | None = None


def _runtime() -> Subject:
    import runtime  # here and below: what is not tested need not be installed
    from tests.conformance.virtual_loop import VirtualLoop

    return Subject(runtime.Loop, runtime.Future, runtime.Task, VirtualLoop)


def _uvloop() -> Subject:
    uvloop = importlib.import_module("uvloop")

    def new(cls: type[Any], selector: object = None) -> Any:
        return uvloop.Loop.__new__(cls)  # it takes no selector, whichever the test wants

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
    """How many loops of the class under test were made so far."""

    def __init__(self, loop: type[Any]) -> None:
        self.loops = 0
        initialise = loop.__init__

        def counted(instance: Any, *args: Any, **options: Any) -> None:
            self.loops += 1
            initialise(instance, *args, **options)

        loop.__init__ = counted


def put_under_test(name: str, module: str) -> Involvement:
    """Have the tests of ``module``, which is not imported yet, run on the loop called ``name``."""
    importlib.import_module("asyncio.proactor_events")  # it is to keep asyncio's loop as its base
    subject = SUBJECTS[name]()
    utils = importlib.import_module(f"{TESTS}.utils")
    if name != "asyncio":
        _replace_loops(subject.loop)
        _close_by_public_means(utils, subject.loop)
    if subject.future is not None and subject.task is not None:
        vars(sys.modules["asyncio.futures"])["_CFuture"] = subject.future
        tasks = vars(sys.modules["asyncio.tasks"])
        tasks["_CTask"] = subject.task
        # From 3.14 the tests put it in the place of current_task() for the classes in C.
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
    """Replace the tests' way to close a loop, which asks it for an attribute of asyncio's."""
    original = utils.TestCase.close_loop

    def close_loop(closing: Any) -> None:
        if isinstance(closing, loop):
            closing.close()
        else:
            original(closing)

    utils.TestCase.close_loop = staticmethod(close_loop)
