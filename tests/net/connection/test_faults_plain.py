"""Streams on a network that delays, splits, stalls, cuts off and garbles: plain TCP."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.net.connection.apis import ASYNCIO, RUNTIME, Api
from tests.net.connection.fault_checks import (
    DIRECTIONS,
    check_complete,
    check_flipped,
    check_half_closed,
    check_inserted,
    check_reset,
    check_truncated,
)
from tests.net.connection.fault_scenarios import (
    ENDS,
    LOSSLESS,
    SCRIPTS,
    Result,
    Talk,
    flipped,
    inserted,
    middle,
    plan_for,
)
from tests.support.faults import Fault, HalfClose, Plan, Reset, Stall, Truncate

FAULTS: dict[str, tuple[Callable[[int], Fault], Callable[[Talk, str, Result], None]]] = {
    "reset": (Reset, check_reset),
    "half-closed": (HalfClose, check_half_closed),
    "truncated": (Truncate, check_truncated),
    "flipped": (flipped, check_flipped),
    "inserted": (inserted, check_inserted),
    "stalled": (Stall, lambda talk, _, result: check_complete(talk, result)),
}

# The tests run on asyncio too, to know that the scenarios are right.
pytestmark = [
    pytest.mark.parametrize("ends", ENDS),
    pytest.mark.parametrize("script", SCRIPTS),
    pytest.mark.parametrize("api", [RUNTIME, ASYNCIO], ids=lambda api: api.name),
]


@pytest.mark.parametrize("faults", LOSSLESS)
def test_everything_arrives(api: Api, script: str, ends: str, faults: str) -> None:
    plan = Plan(LOSSLESS[faults], LOSSLESS[faults])
    talk = Talk(api, SCRIPTS[script], ENDS[ends], plan)
    check_complete(talk, talk.hold())


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_middle(
    api: Api, script: str, ends: str, fault: str, direction: str
) -> None:
    make, check = FAULTS[fault]
    plan = plan_for(direction, make(middle(SCRIPTS[script].message(direction))))
    talk = Talk(api, SCRIPTS[script], ENDS[ends], plan)
    check(talk, direction, talk.hold())
