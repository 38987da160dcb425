"""grpc.aio: its server and its client, with calls of all four kinds.

grpcio drives its own sockets in C and connects to the loop through a descriptor that it polls. The
descriptor and grpcio's threads stay for the life of the process, so that these tests run in a
process of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import python_program

SCENARIOS = {
    "unary": "['HELLO 0', 'HELLO 1', 'HELLO 2'] 200",
    "streams": "[0, 1, 2, 3, 4] 4950 ['0!', '1!', '2!']",
    "deadline": "DEADLINE_EXCEEDED cancelled HELLO",
    "cancellation": "CancelledError cancelled CancelledError cancelled HELLO",
    "errors": "NOT_FOUND no such thing UNIMPLEMENTED UNAVAILABLE",
    "shutdown": "HELLO UNAVAILABLE",
    "abrupt-shutdown": "UNAVAILABLE cancelled",
    "tls": "HELLO UNAVAILABLE",
    "metadata": "['value', 'trailing']",
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario(runner: LoopRunner, tmp_path: Path, scenario: str) -> None:
    program = ("-m", "tests.ecosystem.programs.grpc_scenarios", runner.name, scenario)
    quiet = {"GRPC_VERBOSITY": "NONE"}
    with python_program(*program, log=tmp_path / "log", environment=quiet) as running:
        status = running.wait()
        assert (status, running.output().strip()) == (0, SCENARIOS[scenario])
