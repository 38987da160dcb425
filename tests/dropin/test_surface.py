"""Public names of asyncio's loops, all of which a ``runtime.Loop`` has."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

import runtime


def public(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


@pytest.mark.parametrize("kind", [asyncio.AbstractEventLoop, asyncio.BaseEventLoop])
def test_no_method_is_left_to_asyncio_s_abstract_class(kind: type) -> None:
    abstract = {
        name
        for name in public(kind)
        if str(getattr(getattr(runtime.Loop, name), "__module__", "")).startswith("asyncio")
    }
    assert abstract == set()


def test_no_method_is_a_coroutine_function_here_and_none_there_or_the_reverse() -> None:
    # If a method is not a coroutine function here, a caller may not be able to await its result.
    for name in public(asyncio.SelectorEventLoop):
        theirs = inspect.iscoroutinefunction(getattr(asyncio.SelectorEventLoop, name))
        ours = inspect.iscoroutinefunction(getattr(runtime.Loop, name))
        if theirs and not ours:
            # These methods may return a future, which can also be awaited.
            assert name.startswith("sock_"), name
        else:
            assert theirs == ours, name


NOT_HERE = {"feed_data", "feed_eof", "set_exception", "set_transport", "transport"}
"""Names that ``docs/differences.md`` lists for streams, which have no transport underneath."""


@pytest.mark.parametrize(
    "name",
    [
        "Barrier",
        "BoundedSemaphore",
        "Condition",
        "Event",
        "Future",
        "Handle",
        "LifoQueue",
        "Lock",
        "PriorityQueue",
        "Queue",
        "Runner",
        "Semaphore",
        "Server",
        "StreamReader",
        "StreamWriter",
        "Task",
        "TaskGroup",
        "Timeout",
        "TimerHandle",
    ],
)
def test_a_class_of_the_same_name_has_the_same_methods(name: str) -> None:
    theirs, ours = getattr(asyncio, name), getattr(runtime, name)
    missing = {each for each in public(theirs) if not hasattr(ours, each)}
    assert missing <= (NOT_HERE if name.startswith("Stream") else set())


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "kwargs", "args"}


@pytest.mark.parametrize("name", public(asyncio.AbstractEventLoop))
def test_a_method_of_the_loop_takes_the_same_arguments_by_name(name: str) -> None:
    ours = getattr(runtime.Loop, name)
    if name == "time":
        # The clock is an assignable attribute, so that timers follow a clock that a test assigns.
        assert inspect.isdatadescriptor(ours)
        return
    try:
        inspect.signature(ours)
    except ValueError:
        pytest.skip("a compiled method without a signature")
    kinds = {each.kind for each in inspect.signature(ours).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    # Names that only one of asyncio's two classes has are accidental.
    theirs = [
        getattr(kind, name) for kind in (asyncio.AbstractEventLoop, asyncio.SelectorEventLoop)
    ]
    common = set.intersection(*(parameters(each) for each in theirs))
    assert common <= parameters(ours)


ADDED: dict[str, set[str]] = {
    "Loop": {
        "collect_when_idle",
        "get_external_inspection",
        "join_all_writes",
        "measure_coroutines",
        "metrics",
        "record",
        "run_until_idle",
        "set_deadlock_reports",
        "set_external_inspection",
        "set_step_sampling",
        "slow_callback_duration",  # an attribute of the object in asyncio
        "watch_slow_callbacks",
    },
    "Task": {
        "get_context",  # asyncio's from Python 3.12 on
        "waits_for",
    },
    "Future": set(),
    "Server": {
        "abort_clients",  # asyncio's from Python 3.13 on
        "close_clients",
        "shutdown",
        "shutdown_timeout",
    },
    "Handle": {"get_context"},
    "TimerHandle": {"get_context"},
}
"""The documented public names that asyncio's classes lack, or do not have in every version."""


@pytest.mark.parametrize("name", ADDED)
def test_no_name_is_public_that_is_not_asyncio_s_or_documented(name: str) -> None:
    """An editor completes every name without an underscore: each is a promise."""
    theirs = asyncio.SelectorEventLoop if name == "Loop" else getattr(asyncio, name)
    ours = set(public(getattr(runtime, name)))
    assert ours - set(public(theirs)) <= ADDED[name]
    assert ours >= ADDED[name]
