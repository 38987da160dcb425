"""asyncio itself as the reference of a scenario, where its own loop does not have the fault.

CPython 3.14.10 and 3.15.2 mended a number of faults of asyncio. A test that holds such a scenario
against asyncio's own loop, or its own functions, takes its parameters from here: they are skipped
on a Python whose asyncio still has the fault.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime

FIXED = sys.version_info >= (3, 15, 2) or (3, 14, 10) <= sys.version_info[:3] < (3, 15)
"""Whether asyncio has the fixes of 2026."""

MakeLoop = Callable[[], Any]


def unless_faulty(*values: object, name: str, works: bool = FIXED) -> Any:
    """Return the values of a case that is skipped unless it ``works`` with asyncio itself."""
    skip = pytest.mark.skipif(not works, reason="asyncio has this fault itself on this Python")
    return pytest.param(*values, id=name, marks=skip)


def on_both_loops(*, works: bool = FIXED) -> pytest.MarkDecorator:
    """Run a test with ``make_loop``: on asyncio's own loop, where that ``works``, and on ours."""
    return pytest.mark.parametrize(
        "make_loop",
        [
            unless_faulty(asyncio.SelectorEventLoop, name="asyncio", works=works),
            pytest.param(runtime.new_event_loop, id="runtime"),
        ],
    )


def run(make_loop: MakeLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` to its end on a loop that ``make_loop`` makes."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main)
