"""Streams on a network that delays, splits, stalls, cuts off and garbles: TLS."""

from __future__ import annotations

import ssl

import pytest

from tests.net.connection.apis import Api
from tests.net.connection.fault_checks import (
    check_complete,
    check_cut_tls,
    check_garbage_tls,
    check_reset_tls,
)
from tests.net.connection.fault_scenarios import SCRIPTS, Contexts
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
from tests.support.certificates import Certificates, client_context, server_context

CHECKS: dict[str, Check] = {
    "reset": check_reset_tls,
    "half-closed": check_cut_tls,
    "truncated": check_cut_tls,
    "flipped": check_garbage_tls,
    "inserted": check_garbage_tls,
    "stalled": lambda talk, _, result: check_complete(talk, result),
}
LONG = [name for name, script in SCRIPTS.items() if len(script.message("to server")) > 1]
"""Without the script of a single byte, whose middle is in the handshake."""

pytestmark = [each_pair_of_ends, each_api]


@pytest.fixture(params=["TLSv1_3", pytest.param("TLSv1_2", marks=pytest.mark.variation)])
def encrypted(request: pytest.FixtureRequest, certificates: Certificates) -> Contexts:
    """Return contexts for a version of TLS."""
    bound = ssl.TLSVersion[request.param]
    return Contexts(
        server_context(certificates, minimum=bound, maximum=bound), client_context(certificates)
    )


@each_script(*SCRIPTS)
@lossless
def test_everything_arrives(
    encrypted: Contexts, api: Api, script: str, ends: str, faults: str
) -> None:
    check_arrival(api, script, ends, faults, encrypted)


@each_script(*LONG)
@each_direction
@pytest.mark.parametrize("fault", CHECKS)
def test_a_fault_in_the_middle(
    encrypted: Contexts, api: Api, script: str, ends: str, fault: str, direction: str
) -> None:
    check_fault(CHECKS[fault], api, script, ends, fault, direction, encrypted)
