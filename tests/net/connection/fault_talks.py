"""Parameters and talks that the tests of faults on plain TCP share with those on TLS."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.net.connection.apis import ASYNCIO, RUNTIME, Api
from tests.net.connection.fault_checks import DIRECTIONS, check_complete
from tests.net.connection.fault_scenarios import (
    ENDS,
    LOSSLESS,
    SCRIPTS,
    Contexts,
    Result,
    Talk,
    flipped,
    inserted,
    middle,
    plan_for,
)
from tests.support.faults import Fault, HalfClose, Plan, Reset, Stall, Truncate

Check = Callable[[Talk, str, Result], None]
"""Check of the result of a talk with a fault in one direction."""

FAULTS: dict[str, Callable[[int], Fault]] = {
    "reset": Reset,
    "half-closed": HalfClose,
    "truncated": Truncate,
    "flipped": flipped,
    "inserted": inserted,
    "stalled": Stall,
}
VARIATIONS = {"streams to streams", "1 MiB"}
"""Ends and scripts that are combinations of others, or parts of them."""


def _each(name: str, values: list[str]) -> pytest.MarkDecorator:
    variation = pytest.mark.variation
    return pytest.mark.parametrize(
        name,
        [pytest.param(each, marks=variation) if each in VARIATIONS else each for each in values],
    )


def each_script(*names: str) -> pytest.MarkDecorator:
    """Run a test with each of the named scripts."""
    return _each("script", [*names])


each_pair_of_ends = _each("ends", [*ENDS])
each_direction = pytest.mark.parametrize("direction", DIRECTIONS)
lossless = pytest.mark.parametrize("faults", LOSSLESS)
each_api = pytest.mark.parametrize("api", [RUNTIME, ASYNCIO], ids=lambda api: api.name)
"""The tests run on asyncio too, to know that the scenarios are right."""


def check_arrival(
    api: Api, script: str, ends: str, faults: str, contexts: Contexts | None = None
) -> None:
    """Check that everything arrives, in spite of faults that lose no bytes."""
    plan = Plan(LOSSLESS[faults], LOSSLESS[faults])
    talk = Talk(api, SCRIPTS[script], ENDS[ends], plan, contexts)
    check_complete(talk, talk.hold())


def check_fault(
    check: Check,
    api: Api,
    script: str,
    ends: str,
    fault: str,
    direction: str,
    contexts: Contexts | None = None,
) -> None:
    """Check the result of a talk with a fault in the middle of the message of a direction."""
    plan = plan_for(direction, FAULTS[fault](middle(SCRIPTS[script].message(direction))))
    talk = Talk(api, SCRIPTS[script], ENDS[ends], plan, contexts)
    check(talk, direction, talk.hold())
