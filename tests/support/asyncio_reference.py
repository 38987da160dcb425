"""Asyncio itself as the reference of a scenario, unless its own loop has the fault in question.

CPython 3.14.10 and 3.15.2 fixed a number of faults of asyncio. Tests that compare such a scenario
with asyncio's own loop, or with asyncio's own functions, take their parameters from here: they are
skipped on a Python whose asyncio still has the fault.
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
    """Run a test with ``make_loop``: on asyncio's own loop, if that ``works``, and on runtime's."""
    return pytest.mark.parametrize(
        "make_loop",
        [
            unless_faulty(asyncio.SelectorEventLoop, name="asyncio", works=works),
            pytest.param(runtime.new_event_loop, id="runtime"),
        ],
    )


def run(make_loop: MakeLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` to its end on a loop made by ``make_loop``."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main)
