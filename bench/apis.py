"""The two APIs that the cases are written for, under one set of names."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Api(Protocol):
    """What the cases use; ``asyncio`` and ``runtime`` both have it."""

    sleep: Any
    create_task: Any
    gather: Any
    get_running_loop: Any
    Queue: Any
    Lock: Any
    start_server: Any


Run = Callable[[Coroutine[Any, Any, Any]], Any]


def load(contender: str) -> tuple[Api, Run]:
    """Return the API of a contender, and the function that runs a coroutine on its loop."""
    if contender.startswith("runtime"):
        runtime: Any = importlib.import_module("runtime")
        return runtime, runtime.run
    api: Any = asyncio
    if contender == "asyncio":
        return api, asyncio.run
    if contender == "uvloop":
        uvloop: Any = importlib.import_module("uvloop")

        def run(main: Coroutine[Any, Any, Any]) -> Any:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(main)

        return api, run
    raise ValueError(f"There is no contender {contender!r}.")


def build_of(contender: str) -> str:
    """Return which build of its package a contender is, to be checked and to be reported."""
    if contender.startswith("runtime"):
        runtime: Any = importlib.import_module("runtime")
        leaf: Any = importlib.import_module("runtime.kernel.leaf")
        kind = "compiled" if runtime.compiled else "interpreted"
        return f"{runtime.__version__} {kind}, {'C leaf' if leaf.has_leaf else 'no leaf'}"
    if contender == "uvloop":
        uvloop: Any = importlib.import_module("uvloop")
        return str(uvloop.__version__)
    return "standard library"
