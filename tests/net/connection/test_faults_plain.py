"""Streams on a network that delays, splits, stalls, cuts off and garbles: plain TCP."""

from __future__ import annotations

import pytest

from tests.net.connection.apis import Api
from tests.net.connection.fault_checks import (
    check_complete,
    check_flipped,
    check_half_closed,
    check_inserted,
    check_reset,
    check_truncated,
)
from tests.net.connection.fault_scenarios import SCRIPTS
from tests.net.connection.fault_talks import (
    Check,
    check_arrival,
    check_fault,
    each_api,
    each_direction,
    each_pair_of_ends,
    each_script,
    lossless,
)

CHECKS: dict[str, Check] = {
    "reset": check_reset,
    "half-closed": check_half_closed,
    "truncated": check_truncated,
    "flipped": check_flipped,
    "inserted": check_inserted,
    "stalled": lambda talk, _, result: check_complete(talk, result),
}

pytestmark = [each_pair_of_ends, each_script(*SCRIPTS), each_api]


@lossless
def test_everything_arrives(api: Api, script: str, ends: str, faults: str) -> None:
    check_arrival(api, script, ends, faults)


@each_direction
@pytest.mark.parametrize("fault", CHECKS)
def test_a_fault_in_the_middle(
    api: Api, script: str, ends: str, fault: str, direction: str
) -> None:
    check_fault(CHECKS[fault], api, script, ends, fault, direction)
