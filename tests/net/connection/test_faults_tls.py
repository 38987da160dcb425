"""Streams on a network that delays, splits, stalls, cuts off and garbles: TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from tests.net.connection.apis import ASYNCIO, RUNTIME, Api
from tests.net.connection.fault_checks import (
    DIRECTIONS,
    check_complete,
    check_cut_tls,
    check_garbage_tls,
    check_reset_tls,
)
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
from tests.support.certificates import Certificates, client_context, server_context
from tests.support.faults import Fault, HalfClose, Plan, Reset, Stall, Truncate

FAULTS: dict[str, tuple[Callable[[int], Fault], Callable[[Talk, str, Result], None]]] = {
    "reset": (Reset, check_reset_tls),
    "half-closed": (HalfClose, check_cut_tls),
    "truncated": (Truncate, check_cut_tls),
    "flipped": (flipped, check_garbage_tls),
    "inserted": (inserted, check_garbage_tls),
    "stalled": (Stall, lambda talk, _, result: check_complete(talk, result)),
}
LONG = [name for name, script in SCRIPTS.items() if len(script.message("to server")) > 1]
"""Without the script of a single byte, whose middle is in the handshake."""

VERSIONS = ["TLSv1_3", pytest.param("TLSv1_2", marks=pytest.mark.variation)]

# The tests run on asyncio too, to know that the scenarios are right.
pytestmark = [
    pytest.mark.parametrize("ends", ENDS),
    pytest.mark.parametrize("version", VERSIONS),
    pytest.mark.parametrize("api", [RUNTIME, ASYNCIO], ids=lambda api: api.name),
]


def make_contexts(certificates: Certificates, version: str) -> Contexts:
    bound = ssl.TLSVersion[version]
    return Contexts(
        server_context(certificates, minimum=bound, maximum=bound), client_context(certificates)
    )


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("faults", LOSSLESS)
def test_everything_arrives(
    certificates: Certificates, api: Api, version: str, script: str, ends: str, faults: str
) -> None:
    contexts = make_contexts(certificates, version)
    plan = Plan(LOSSLESS[faults], LOSSLESS[faults])
    talk = Talk(api, SCRIPTS[script], ENDS[ends], plan, contexts)
    check_complete(talk, talk.hold())


@pytest.mark.parametrize("script", LONG)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_middle(
    certificates: Certificates,
    api: Api,
    version: str,
    script: str,
    ends: str,
    fault: str,
    direction: str,
) -> None:
    make, check = FAULTS[fault]
    contexts = make_contexts(certificates, version)
    plan = plan_for(direction, make(middle(SCRIPTS[script].message(direction))))
    talk = Talk(api, SCRIPTS[script], ENDS[ends], plan, contexts)
    check(talk, direction, talk.hold())
